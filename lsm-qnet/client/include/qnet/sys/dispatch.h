/*
 * sys/dispatch.h - names: name_attach(), name_open() and their ends.
 *
 * The dispatch and resource manager calls of this header on QNX are not part of libqnet.
 */
#ifndef QNET_SYS_DISPATCH_H
#define QNET_SYS_DISPATCH_H

#include <sys/iomsg.h>
#include <sys/neutrino.h>
#include <sys/platform.h>

QNET_BEGIN_DECLS

typedef struct _dispatch dispatch_t;

#define NAME_FLAG_DETACH_SAVEDPP 0x00000001
#define NAME_FLAG_ATTACH_GLOBAL 0x00000002

typedef struct _name_attach {
    dispatch_t *dpp; /* always NULL */
    int chid;        /* receive on this channel */
    int mntid;
    int zero[2];
} name_attach_t;

/* dpp must be NULL: a channel is made for the name. */
extern name_attach_t *name_attach(dispatch_t *dpp, const char *path, unsigned flags);
extern int name_detach(name_attach_t *attach, unsigned flags);
extern int name_open(const char *name, int flags);
extern int name_close(int coid);

QNET_END_DECLS

#endif
