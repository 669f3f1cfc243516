/*
 * sys/iofunc.h - the words that a hand-written answer to _IO_CONNECT needs. The iofunc_*() functions are not here.
 */
#ifndef QNET_SYS_IOFUNC_H
#define QNET_SYS_IOFUNC_H

#include <sys/iomsg.h>
#include <sys/platform.h>

/* File type of a name that only a message can be sent to, and its test. */
#define S_IFNAM 0050000
#define S_ISNAM(mode) (((mode) & 0170000) == S_IFNAM)

/* Sharing modes, in sflag. */
#define SH_COMPAT 0x00
#define SH_DENYRW 0x10
#define SH_DENYWR 0x20
#define SH_DENYRD 0x30
#define SH_DENYNO 0x40

#endif
