/*
 * pthread.h - the C library's, as QNX programs use it: pthread_create() takes NULL for the thread's id, and a realtime
 * priority that the program has no right to is reported once instead of being an error.
 */
#pragma GCC system_header
#ifndef QNET_OVERLAY_PTHREAD_H
#define QNET_OVERLAY_PTHREAD_H

#define pthread_create qnet_not_this_pthread_create
#define pthread_cancel qnet_not_this_pthread_cancel
#define pthread_attr_setschedparam qnet_not_this_pthread_attr_setschedparam
#define pthread_attr_setschedpolicy qnet_not_this_pthread_attr_setschedpolicy
#define pthread_setschedparam qnet_not_this_pthread_setschedparam
#define pthread_getschedparam qnet_not_this_pthread_getschedparam
#define pthread_setschedprio qnet_not_this_pthread_setschedprio
#include_next <pthread.h>
#undef pthread_create
#undef pthread_cancel
#undef pthread_attr_setschedparam
#undef pthread_attr_setschedpolicy
#undef pthread_setschedparam
#undef pthread_getschedparam
#undef pthread_setschedprio

#include <sys/platform.h>

QNET_BEGIN_DECLS

extern int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)
    QNET_NAMED(qnet_pthread_create);
/* Also ends the wait for a message, which is a cancellation point. */
extern int pthread_cancel(pthread_t thread) QNET_NAMED(qnet_pthread_cancel);
extern int pthread_attr_setschedparam(pthread_attr_t *attributes, const struct sched_param *parameters)
    QNET_NAMED(qnet_pthread_attr_setschedparam);
extern int pthread_attr_setschedpolicy(pthread_attr_t *attributes, int policy)
    QNET_NAMED(qnet_pthread_attr_setschedpolicy);
extern int pthread_setschedparam(pthread_t thread, int policy, const struct sched_param *parameters)
    QNET_NAMED(qnet_pthread_setschedparam);
extern int pthread_getschedparam(pthread_t thread, int *policy, struct sched_param *parameters)
    QNET_NAMED(qnet_pthread_getschedparam);
extern int pthread_setschedprio(pthread_t thread, int priority) QNET_NAMED(qnet_pthread_setschedprio);

/* The C library shows these to programs that define _GNU_SOURCE only; QNX shows them always. */
#ifndef __USE_GNU
extern int pthread_setname_np(pthread_t thread, const char *name);
extern int pthread_getname_np(pthread_t thread, char *name, __SIZE_TYPE__ size);
#endif

QNET_END_DECLS

#else
#include_next <pthread.h>
#endif
