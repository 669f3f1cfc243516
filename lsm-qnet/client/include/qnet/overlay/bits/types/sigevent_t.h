/*
 * bits/types/sigevent_t.h - struct sigevent with QNX's members.
 *
 * Stands in front of the C library's file of the same name, so whichever header wants the structure first gets this one.
 * It keeps the size of the C library's (64 bytes): struct aiocb contains it.
 */
#ifndef __sigevent_t_defined
#define __sigevent_t_defined 1

#include <bits/types.h>
#include <bits/types/__sigval_t.h>

#ifndef __have_pthread_attr_t
typedef union pthread_attr_t pthread_attr_t;
#define __have_pthread_attr_t 1
#endif

typedef struct sigevent {
    int sigev_notify;
    union {
        int __sigev_signo;
        int __sigev_coid;
        int __sigev_id;
        unsigned __sigev_handle;
        void (*__sigev_notify_function)(__sigval_t);
        volatile unsigned *__sigev_addr;
    } __sigev_un1;
    __sigval_t sigev_value;
    union {
        struct {
            short __sigev_code;
            short __sigev_priority;
        } __st;
        pthread_attr_t *__sigev_notify_attributes;
        int __sigev_memop;
    } __sigev_un2;
    long __sigev_reserved[4];
} sigevent_t;

#define sigev_signo __sigev_un1.__sigev_signo
#define sigev_coid __sigev_un1.__sigev_coid
#define sigev_id __sigev_un1.__sigev_id
#define sigev_handle __sigev_un1.__sigev_handle
#define sigev_notify_function __sigev_un1.__sigev_notify_function
#define sigev_addr __sigev_un1.__sigev_addr
#define sigev_code __sigev_un2.__st.__sigev_code
#define sigev_priority __sigev_un2.__st.__sigev_priority
#define sigev_notify_attributes __sigev_un2.__sigev_notify_attributes
#define sigev_memop __sigev_un2.__sigev_memop

#endif
