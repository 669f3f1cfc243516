/*
 * time.h - the C library's, with timers that know QNX's events, and kernel timeouts.
 */
#pragma GCC system_header
#ifndef QNET_OVERLAY_TIME_H
#define QNET_OVERLAY_TIME_H

#define timer_create qnet_not_this_timer_create
#define timer_delete qnet_not_this_timer_delete
#define timer_settime qnet_not_this_timer_settime
#define timer_gettime qnet_not_this_timer_gettime
#define timer_getoverrun qnet_not_this_timer_getoverrun
#include_next <time.h>
#undef timer_create
#undef timer_delete
#undef timer_settime
#undef timer_gettime
#undef timer_getoverrun

#include <sys/platform.h>
#include <bits/types/clockid_t.h>
#include <bits/types/sigevent_t.h>
#include <bits/types/struct_itimerspec.h>
#include <bits/types/struct_timespec.h>
#include <bits/types/timer_t.h>

/* Linux's CLOCK_REALTIME runs on while the processor sleeps, and no timer of libqnet wakes it up. */
#define CLOCK_SOFTTIME 0

QNET_BEGIN_DECLS

extern int timer_create(clockid_t clock, struct sigevent *event, timer_t *timer) QNET_NAMED(qnet_timer_create);
extern int timer_delete(timer_t timer) QNET_NAMED(qnet_timer_delete);
extern int timer_settime(timer_t timer, int flags, const struct itimerspec *time, struct itimerspec *old)
    QNET_NAMED(qnet_timer_settime);
extern int timer_gettime(timer_t timer, struct itimerspec *left) QNET_NAMED(qnet_timer_gettime);
extern int timer_getoverrun(timer_t timer) QNET_NAMED(qnet_timer_getoverrun);

/* Bounds the next blocking call of this thread: flags are _NTO_TIMEOUT_* of <sys/neutrino.h>. */
extern int timer_timeout(clockid_t clock, int flags, const struct sigevent *event, const struct timespec *time,
                         struct timespec *left);
extern int timer_timeout_r(clockid_t clock, int flags, const struct sigevent *event, const struct timespec *time,
                           struct timespec *left);

/* Between struct timespec and nanoseconds. */
extern void nsec2timespec(struct timespec *timespec, _Uint64t nanoseconds);
extern _Uint64t timespec2nsec(const struct timespec *timespec);

QNET_END_DECLS

#else
#include_next <time.h>
#endif
