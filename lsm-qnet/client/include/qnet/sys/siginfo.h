/*
 * sys/siginfo.h - struct sigevent, its kinds and its macros, which the overlay's <signal.h> gives.
 */
#ifndef QNET_SYS_SIGINFO_H
#define QNET_SYS_SIGINFO_H

#include <signal.h>

#endif
