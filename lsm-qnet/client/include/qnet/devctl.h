/*
 * devctl.h - device control over a connection to a server that answers _IO_DEVCTL.
 */
#ifndef QNET_DEVCTL_H
#define QNET_DEVCTL_H

#include <stddef.h>
#include <sys/platform.h>
#include <sys/types.h>

QNET_BEGIN_DECLS

/* Which way the data go, in the upper two bits of a command. */
#define _POSIX_DEVDIR_NONE 0
#define _POSIX_DEVDIR_TO ((int)0x80000000u)
#define _POSIX_DEVDIR_FROM 0x40000000
#define _POSIX_DEVDIR_TOFROM (_POSIX_DEVDIR_TO | _POSIX_DEVDIR_FROM)

#define __DIO(class, command, size) ((int)(((unsigned)(size) << 16) + ((unsigned)(class) << 8) + (unsigned)(command)))
#define __DIOF(class, command, data) (__DIO(class, command, sizeof(data)) + _POSIX_DEVDIR_FROM)
#define __DIOT(class, command, data) (__DIO(class, command, sizeof(data)) + _POSIX_DEVDIR_TO)
#define __DIOTF(class, command, data) (__DIO(class, command, sizeof(data)) + _POSIX_DEVDIR_TOFROM)
#define __DION(class, command) (__DIO(class, command, 0) + _POSIX_DEVDIR_NONE)
#define get_device_direction(command) ((unsigned)(command)&0xc0000000u)

/* Classes of commands; a program's own ones take _DCMD_MISC. */
#define _DCMD_ALL 0x01
#define _DCMD_FSYS 0x02
#define _DCMD_BLK 0x03
#define _DCMD_CHR 0x04
#define _DCMD_NET 0x05
#define _DCMD_MISC 0x06
#define _DCMD_PROC 0x08

/* Takes a connection (ConnectAttach, name_open), not a file descriptor: ENOTTY for one. Returns EOK or an errno value. */
extern int devctl(int connection, int command, void *data, size_t nbytes, int *info);

/* The same with two vectors: what is sent and what comes back. */
struct iovec;
extern int devctlv(int connection, int command, int sparts, int rparts, const struct iovec *sv, const struct iovec *rv,
                   int *info);

QNET_END_DECLS

#endif
