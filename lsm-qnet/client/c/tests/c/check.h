/*
 * check.h - what the test programs share: a call that must not fail, and a line of the transcript.
 */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The call's value; ends the program with the call's text when it is -1. */
#define MUST(call)                                                                                                     \
    __extension__({                                                                                                    \
        long must_value = (long)(call);                                                                                \
        if (must_value == -1) {                                                                                        \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, strerror(errno));                            \
            exit(1);                                                                                                   \
        }                                                                                                              \
        must_value;                                                                                                    \
    })

/* Ends the program when something is not so. */
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);                  \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* The name of an error, the same wherever the program runs. */
static inline const char *error_name(int error)
{
    switch (error) {
    case EOK: return "EOK";
    case ENOENT: return "ENOENT";
    case ESRCH: return "ESRCH";
    case EINTR: return "EINTR";
    case EBADF: return "EBADF";
    case EFAULT: return "EFAULT";
    case EINVAL: return "EINVAL";
    case ENOSYS: return "ENOSYS";
    case EPERM: return "EPERM";
    case EACCES: return "EACCES";
    case EEXIST: return "EEXIST";
    case ETIMEDOUT: return "ETIMEDOUT";
    case ENAMETOOLONG: return "ENAMETOOLONG";
    case ELOOP: return "ELOOP";
    case EOVERFLOW: return "EOVERFLOW";
    case ESRVRFAULT: return "ESRVRFAULT";
    case EENDIAN: return "EENDIAN";
    case ENOREMOTE: return "ENOREMOTE";
    case EMORE: return "EMORE";
    case EHOSTDOWN: return "EHOSTDOWN";
    case EHOSTUNREACH: return "EHOSTUNREACH";
    default: return "another error";
    }
}

#endif
