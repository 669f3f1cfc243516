/*
 * process.h - what QNX programs include for getpid(), gettid() and their own name.
 */
#ifndef QNET_PROCESS_H
#define QNET_PROCESS_H

#include <sched.h>
#include <stdlib.h>
#include <sys/platform.h>
#include <sys/types.h>
#include <unistd.h>

QNET_BEGIN_DECLS

/* Path of this program; into the buffer (of PATH_MAX bytes) when there is one. NULL and errno when it cannot be told. */
extern char *_cmdname(char *buffer);

QNET_END_DECLS

#endif
