/*
 * unistd.h - the C library's, with delay() and gettid().
 */
#pragma GCC system_header
#ifndef QNET_OVERLAY_UNISTD_H
#define QNET_OVERLAY_UNISTD_H

#define gettid qnet_not_this_gettid
#include_next <unistd.h>
#undef gettid

#include <sys/platform.h>
#include <sys/types.h>

QNET_BEGIN_DECLS

/* Waits for so many milliseconds; returns those that a signal left over. */
extern unsigned delay(unsigned milliseconds);

/* QNX's number of this thread, from 1: the one that messages carry. The kernel's is syscall(SYS_gettid). */
extern pid_t gettid(void) QNET_NAMED(qnet_gettid);

QNET_END_DECLS

#else
#include_next <unistd.h>
#endif
