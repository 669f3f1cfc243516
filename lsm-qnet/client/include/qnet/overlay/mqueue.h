/*
 * mqueue.h - the C library's; mq_notify() takes QNX's events, pulses among them.
 */
#pragma GCC system_header
#ifndef QNET_OVERLAY_MQUEUE_H
#define QNET_OVERLAY_MQUEUE_H

#define mq_notify qnet_not_this_mq_notify
#include_next <mqueue.h>
#undef mq_notify

#include <sys/platform.h>

QNET_BEGIN_DECLS

extern int mq_notify(mqd_t queue, const struct sigevent *event) QNET_NAMED(qnet_mq_notify);

QNET_END_DECLS

#endif
