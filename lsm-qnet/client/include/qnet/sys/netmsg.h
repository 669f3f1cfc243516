/*
 * sys/netmsg.h - the messages of the network manager, for programs that send them by hand to nd 0, pid 0, chid 0.
 */
#ifndef QNET_SYS_NETMSG_H
#define QNET_SYS_NETMSG_H

#include <stdint.h>
#include <sys/iomsg.h>
#include <sys/netmgr.h>
#include <sys/platform.h>

/* Subtypes of _IO_MSG with mgrid _IOMGR_NETMGR. */
#define _NETMGR_CTL 0
#define _NETMGR_REMOTE_ND 1
#define _NETMGR_STRTOND 2
#define _NETMGR_NDTOSTR 3
#define _NETMGR_QOS_FLUSH 0x100

struct _io_netmgr_remote_nd {
    struct _io_msg hdr;
    uint32_t remote_nd;
    uint32_t local_nd;
};

struct _io_netmgr_strtond {
    struct _io_msg hdr;
    char name[1]; /* with its NUL; the reply's status is the descriptor */
};

struct _io_netmgr_ndtostr {
    struct _io_msg hdr;
    uint32_t flags;
    uint32_t nd; /* the reply's data is the text, without a NUL */
};

struct _io_netmgr_qos_flush {
    struct _io_msg hdr;
    uint32_t nd;
};

#endif
