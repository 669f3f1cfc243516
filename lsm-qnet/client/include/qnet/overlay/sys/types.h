/*
 * sys/types.h - the C library's, with QNX's names for integers (_Uint16t and friends).
 */
#pragma GCC system_header
#include_next <sys/types.h>
#include <sys/platform.h>
