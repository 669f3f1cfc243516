/*
 * bits/sigevent-consts.h - what sigev_notify can be, with QNX's values; in front of the C library's file of that name.
 */
#ifndef _BITS_SIGEVENT_CONSTS_H
#define _BITS_SIGEVENT_CONSTS_H 1

#define SIGEV_NONE 0          /* nothing happens */
#define SIGEV_SIGNAL 1        /* a signal to the process */
#define SIGEV_SIGNAL_CODE 2   /* a signal with a code and a value to the process */
#define SIGEV_SIGNAL_THREAD 3 /* a signal with a code and a value to the thread that made the event */
#define SIGEV_PULSE 4         /* a pulse over a connection */
#define SIGEV_UNBLOCK 5       /* end the wait (kernel timeouts) */
#define SIGEV_INTR 6          /* end an InterruptWait(): there are none on Linux */
#define SIGEV_THREAD 7        /* call a function in a new thread */
#define SIGEV_HANDLE 8        /* an event that MsgRegisterEvent() keeps */

#endif
