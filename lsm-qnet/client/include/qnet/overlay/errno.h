/*
 * errno.h - the C library's, with the names that QNX has and Linux does not.
 *
 * A program sees Linux's numbers. QNX's own errors are 0x800 plus QNX's number, which no error of Linux has; they can come
 * from a server that replies with one, and from another node.
 */
#pragma GCC system_header
#include_next <errno.h>

#ifndef QNET_OVERLAY_ERRNO_H
#define QNET_OVERLAY_ERRNO_H

#include <sys/platform.h>

#define EOK 0

#define EFPOS (0x800 + 110)         /* file positioning error */
#define EBADRPC (0x800 + 272)       /* malformed remote procedure call */
#define ERPCMISMATCH (0x800 + 273)  /* wrong version of remote procedure calls */
#define EPROGUNAVAIL (0x800 + 274)  /* remote program not available */
#define EPROGMISMATCH (0x800 + 275) /* wrong version of the remote program */
#define EPROCUNAVAIL (0x800 + 276)  /* bad procedure for the program */
#define ENOREMOTE (0x800 + 300)     /* must be done on the local machine */
#define ENONDP (0x800 + 301)        /* needs node discovery */
#define EBADFSYS (0x800 + 302)      /* damaged file system */
#define EMORE (0x800 + 309)         /* more to do, send the message again */
#define ECTRLTERM (0x800 + 310)     /* remap to the controlling terminal */
#define ENOLIC (0x800 + 311)        /* no licence */
#define ESRVRFAULT (0x800 + 312)    /* fault in the server's buffers */
#define EENDIAN (0x800 + 313)       /* byte order not supported */
#define ESECTYPEINVAL (0x800 + 314) /* unknown security type */

#endif
