/*
 * sched.h - the C library's, with QNX's words for priorities.
 *
 * Priorities are QNX's: 1 to 255, 10 is that of a program that asks for nothing. They order the messages of a channel. As
 * far as the program has the right to it (and up to 99) a priority above 10 is one of Linux's realtime priorities, too.
 */
#pragma GCC system_header
#ifndef QNET_OVERLAY_SCHED_H
#define QNET_OVERLAY_SCHED_H

#define sched_setscheduler qnet_not_this_sched_setscheduler
#define sched_setparam qnet_not_this_sched_setparam
#define sched_getparam qnet_not_this_sched_getparam
#define sched_get_priority_min qnet_not_this_sched_get_priority_min
#define sched_get_priority_max qnet_not_this_sched_get_priority_max
#include_next <sched.h>
#undef sched_setscheduler
#undef sched_setparam
#undef sched_getparam
#undef sched_get_priority_min
#undef sched_get_priority_max

#include <sys/platform.h>
#include <sys/types.h>

/* A policy for SchedSet() and friends: leave it as it is. */
#define SCHED_NOCHANGE (-1)
/* The priority that a thread has now; what it inherits from its clients is not shown. */
#define sched_curpriority sched_priority

QNET_BEGIN_DECLS

extern int sched_setscheduler(pid_t pid, int policy, const struct sched_param *parameters)
    QNET_NAMED(qnet_sched_setscheduler);
extern int sched_setparam(pid_t pid, const struct sched_param *parameters) QNET_NAMED(qnet_sched_setparam);
extern int sched_getparam(pid_t pid, struct sched_param *parameters) QNET_NAMED(qnet_sched_getparam);
extern int sched_get_priority_min(int policy) QNET_NAMED(qnet_sched_get_priority_min);
extern int sched_get_priority_max(int policy) QNET_NAMED(qnet_sched_get_priority_max);

extern int getprio(pid_t pid);
extern int setprio(pid_t pid, int priority);

QNET_END_DECLS

#else
#include_next <sched.h>
#endif
