/*
 * roles.h - programs whose server and client are two threads, or two processes, of one node or of two:
 *
 *   PROGRAM                       both in one process
 *   PROGRAM server                prints "pid chid" and serves
 *   PROGRAM client NODE PID CHID  NODE: a name, or 0 for this node
 *
 * A program gives its channel's flags and two functions; each ends when it is done. What both print together is the same
 * wherever they run.
 */
#ifndef ROLES_H
#define ROLES_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/netmgr.h>
#include <sys/neutrino.h>
#include <unistd.h>

#include "check.h"

struct roles {
    unsigned flags;
    void (*server)(int chid);
    void (*client)(int coid);
};

struct serving {
    const struct roles *roles;
    int chid;
};

static void *serve(void *arg)
{
    struct serving *serving = arg;
    serving->roles->server(serving->chid);
    return NULL;
}

static inline int play(const struct roles *roles, int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 5 && strcmp(argv[1], "client") == 0) {
        uint32_t nd = strcmp(argv[2], "0") == 0 ? ND_LOCAL_NODE : (uint32_t)MUST(netmgr_strtond(argv[2], NULL));
        int coid = (int)MUST(ConnectAttach(nd, atoi(argv[3]), atoi(argv[4]), _NTO_SIDE_CHANNEL, 0));
        roles->client(coid);
        return 0;
    }
    int chid = (int)MUST(ChannelCreate(roles->flags));
    if (argc == 2 && strcmp(argv[1], "server") == 0) {
        printf("%d %d\n", getpid(), chid);
        roles->server(chid);
        return 0;
    }
    struct serving serving = {roles, chid};
    pthread_t thread;
    pthread_create(&thread, NULL, serve, &serving);
    roles->client((int)MUST(ConnectAttach(ND_LOCAL_NODE, 0, chid, _NTO_SIDE_CHANNEL, 0)));
    pthread_join(thread, NULL);
    return 0;
}

#endif
