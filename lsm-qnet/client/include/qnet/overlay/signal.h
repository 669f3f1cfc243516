/*
 * signal.h - the C library's, with QNX's struct sigevent and the macros that fill one.
 */
#pragma GCC system_header
#include_next <signal.h>

#ifndef QNET_OVERLAY_SIGNAL_H
#define QNET_OVERLAY_SIGNAL_H

#include <sys/platform.h>
#include <bits/types/sigevent_t.h>
#include <bits/sigevent-consts.h>

/* Bits of sigev_notify beside the kind of event. */
#define SIGEV_FLAG_CRITICAL 0x1000
#define SIGEV_FLAG_UPDATEABLE 0x2000
#define SIGEV_FLAG_MASK 0xf000
#define SIGEV_MAKE_CRITICAL(event) ((event)->sigev_notify |= SIGEV_FLAG_CRITICAL)
#define SIGEV_CLEAR_CRITICAL(event) ((event)->sigev_notify &= ~SIGEV_FLAG_CRITICAL)
#define SIGEV_IS_CRITICAL(event) (((event)->sigev_notify & SIGEV_FLAG_CRITICAL) != 0)
#define SIGEV_MAKE_UPDATEABLE(event) ((event)->sigev_notify |= SIGEV_FLAG_UPDATEABLE)
#define SIGEV_GET_TYPE(event) ((event)->sigev_notify & ~SIGEV_FLAG_MASK)

/* Priority of a pulse: that of the thread that delivers it. */
#define SIGEV_PULSE_PRIO_INHERIT (-1)

/* A value may be given as a number or as a pointer. */
#define QNET_SIGVAL(value) ((void *)(_Uintptrt)(value))

#define SIGEV_NONE_INIT(event) ((event)->sigev_notify = SIGEV_NONE)
#define SIGEV_UNBLOCK_INIT(event) ((event)->sigev_notify = SIGEV_UNBLOCK)
#define SIGEV_INTR_INIT(event) ((event)->sigev_notify = SIGEV_INTR)

#define SIGEV_SIGNAL_INIT(event, signo)                                                                                \
    ((event)->sigev_notify = SIGEV_SIGNAL, (event)->sigev_signo = (signo), (event)->sigev_value.sival_ptr = 0)

#define SIGEV_SIGNAL_VALUE_INIT(event, signo, value)                                                                   \
    ((event)->sigev_notify = SIGEV_SIGNAL, (event)->sigev_signo = (signo),                                             \
     (event)->sigev_value.sival_ptr = QNET_SIGVAL(value))
#define SIGEV_SIGNAL_VALUE_PTR_INIT SIGEV_SIGNAL_VALUE_INIT
#define SIGEV_SIGNAL_VALUE_INT_INIT SIGEV_SIGNAL_VALUE_INIT

#define SIGEV_SIGNAL_CODE_INIT(event, signo, value, code)                                                              \
    ((event)->sigev_notify = SIGEV_SIGNAL_CODE, (event)->sigev_signo = (signo),                                        \
     (event)->sigev_value.sival_ptr = QNET_SIGVAL(value), (event)->sigev_code = (short)(code))
#define SIGEV_SIGNAL_CODE_PTR_INIT SIGEV_SIGNAL_CODE_INIT
#define SIGEV_SIGNAL_CODE_INT_INIT SIGEV_SIGNAL_CODE_INIT

#define SIGEV_SIGNAL_THREAD_INIT(event, signo, value, code)                                                            \
    ((event)->sigev_notify = SIGEV_SIGNAL_THREAD, (event)->sigev_signo = (signo),                                      \
     (event)->sigev_value.sival_ptr = QNET_SIGVAL(value), (event)->sigev_code = (short)(code))
#define SIGEV_SIGNAL_THREAD_PTR_INIT SIGEV_SIGNAL_THREAD_INIT
#define SIGEV_SIGNAL_THREAD_INT_INIT SIGEV_SIGNAL_THREAD_INIT

#define SIGEV_PULSE_INIT(event, coid, priority, code, value)                                                           \
    ((event)->sigev_notify = SIGEV_PULSE, (event)->sigev_coid = (coid),                                                \
     (event)->sigev_priority = (short)(priority), (event)->sigev_code = (short)(code),                                 \
     (event)->sigev_value.sival_ptr = QNET_SIGVAL(value))
#define SIGEV_PULSE_PTR_INIT SIGEV_PULSE_INIT
#define SIGEV_PULSE_INT_INIT SIGEV_PULSE_INIT

#define SIGEV_THREAD_INIT(event, function, value, attributes)                                                          \
    ((event)->sigev_notify = SIGEV_THREAD, (event)->sigev_notify_function = (function),                                \
     (event)->sigev_value.sival_ptr = QNET_SIGVAL(value), (event)->sigev_notify_attributes = (attributes))

#endif
