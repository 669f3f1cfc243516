/*
 * sys/iomsg.h - the messages of open(), read(), write() and their kin, for servers that answer them by hand.
 *
 * The same bytes as in lsm-qnet/iomsg, which a test compares with these structures.
 */
#ifndef QNET_SYS_IOMSG_H
#define QNET_SYS_IOMSG_H

#include <stdint.h>
#include <sys/platform.h>
#include <sys/types.h>

QNET_BEGIN_DECLS

/* The first 16 bits of a message. A server that does not know one answers it with MsgError(rcvid, ENOSYS). */
#define _IO_BASE 0x100
#define _IO_CONNECT 0x100
#define _IO_READ 0x101
#define _IO_WRITE 0x102
#define _IO_STAT 0x104
#define _IO_NOTIFY 0x105
#define _IO_DEVCTL 0x106
#define _IO_PATHCONF 0x108
#define _IO_LSEEK 0x109
#define _IO_CHMOD 0x10a
#define _IO_CHOWN 0x10b
#define _IO_UTIME 0x10c
#define _IO_OPENFD 0x10d
#define _IO_FDINFO 0x10e
#define _IO_LOCK 0x10f
#define _IO_SPACE 0x110
#define _IO_SHUTDOWN 0x111
#define _IO_MMAP 0x112
#define _IO_MSG 0x113
#define _IO_DUP 0x115
#define _IO_CLOSE 0x116
#define _IO_SYNC 0x119
#define _IO_MAX 0x1ff

#define _IO_COMBINE_FLAG 0x8000 /* in combine_len: another message follows */

struct _io_combine {
    uint16_t type;
    uint16_t combine_len;
};

/* ---- _IO_CONNECT ---- */

#define _IO_CONNECT_COMBINE 0
#define _IO_CONNECT_COMBINE_CLOSE 1
#define _IO_CONNECT_OPEN 2
#define _IO_CONNECT_UNLINK 3
#define _IO_CONNECT_RENAME 4
#define _IO_CONNECT_MKNOD 5
#define _IO_CONNECT_READLINK 6
#define _IO_CONNECT_LINK 7
#define _IO_CONNECT_RSVD_UNBLOCK 8
#define _IO_CONNECT_MOUNT 9

#define _IO_CONNECT_EXTRA_NONE 0
#define _IO_CONNECT_EXTRA_LINK 1
#define _IO_CONNECT_EXTRA_SYMLINK 2
#define _IO_CONNECT_EXTRA_RENAME 9

#define _IO_CONNECT_EFLAG_DIR 0x01    /* the path ended in a slash */
#define _IO_CONNECT_EFLAG_DOT 0x02    /* its last part is . or .. */
#define _IO_CONNECT_EFLAG_DOTDOT 0x04 /* its last part is .. */

/* Bits of ioflag. */
#define _IO_FLAG_RD 0x00000001
#define _IO_FLAG_WR 0x00000002
#define _IO_FLAG_MASK 0x00000003

#define _FTYPE_ANY 0
#define _FTYPE_FILE 1
#define _FTYPE_NAME 8

struct _io_connect {
    uint16_t type;
    uint16_t subtype; /* _IO_CONNECT_* */
    uint32_t file_type;
    uint16_t reply_max;
    uint16_t entry_max;
    uint32_t key;
    uint32_t handle;
    uint32_t ioflag;
    uint32_t mode;
    uint16_t sflag;
    uint16_t access;
    uint16_t zero;
    uint16_t path_len; /* with the NUL */
    uint8_t eflag;
    uint8_t extra_type;
    uint16_t extra_len;
    char path[1];
};

struct _io_connect_link_reply {
    uint32_t reserved1;
    uint32_t file_type;
    uint8_t eflag;
    uint8_t reserved2[1];
    uint16_t chroot_len;
    uint32_t umask;
    uint16_t nentries;
    uint16_t path_len;
};

typedef union {
    struct _io_connect connect;
    struct _io_connect_link_reply link_reply;
} io_open_t;

/* ---- messages on an open connection ---- */

#define _IO_XTYPE_NONE 0
#define _IO_XTYPE_READCOND 1
#define _IO_XTYPE_OFFSET 5
#define _IO_XTYPE_MASK 0x000000ff
#define _IO_XFLAG_DIR_EXTRA_HINT 0x00000100
#define _IO_XFLAG_NONBLOCK 0x00004000

struct _io_read {
    uint16_t type;
    uint16_t combine_len;
    int32_t nbytes;
    uint32_t xtype;
    uint32_t zero;
};
typedef union {
    struct _io_read i;
} io_read_t;

struct _io_write {
    uint16_t type;
    uint16_t combine_len;
    int32_t nbytes;
    uint32_t xtype;
    uint32_t zero;
    /* the data follow */
};
typedef union {
    struct _io_write i;
} io_write_t;

struct _io_stat {
    uint16_t type;
    uint16_t combine_len;
    uint32_t zero;
};

struct _io_lseek {
    uint16_t type;
    uint16_t combine_len;
    int16_t whence;
    uint16_t zero;
    uint64_t offset;
};

struct _io_close {
    uint16_t type;
    uint16_t combine_len;
};

struct _io_devctl {
    uint16_t type;
    uint16_t combine_len;
    int32_t dcmd;
    int32_t nbytes;
    int32_t zero;
    /* the data follow */
};
struct _io_devctl_reply {
    uint32_t zero;
    int32_t ret_val;
    int32_t nbytes;
    int32_t zero2;
    /* the data follow */
};
typedef union {
    struct _io_devctl i;
    struct _io_devctl_reply o;
} io_devctl_t;
#define _DEVCTL_DATA(message) ((void *)(sizeof(message) + (char *)&(message)))

struct _io_msg {
    uint16_t type;
    uint16_t combine_len;
    uint16_t mgrid; /* _IOMGR_* */
    uint16_t subtype;
    /* the data follow */
};
typedef union {
    struct _io_msg i;
} io_msg_t;

/* Managers of _IO_MSG; programs may use the private range. */
#define _IOMGR_NETMGR 0x0e
#define _IOMGR_PRIVATE_BASE 0xf000
#define _IOMGR_PRIVATE_MAX 0xffff

QNET_END_DECLS

#endif
