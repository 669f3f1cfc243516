/*
 * unistd.h - the C library's, with delay() and gettid().
 */
#pragma GCC system_header
#include_next <unistd.h>

#ifndef QNET_OVERLAY_UNISTD_H
#define QNET_OVERLAY_UNISTD_H

#include <sys/platform.h>
#include <sys/types.h>

QNET_BEGIN_DECLS

/* Waits for so many milliseconds; returns those that a signal left over. */
extern unsigned delay(unsigned milliseconds);

/* Shown to programs that define _GNU_SOURCE by the C library, to all by QNX. */
#ifndef __USE_GNU
extern pid_t gettid(void);
#endif

QNET_END_DECLS

#endif
