/*
 * info.c - who is connected to whom: ConnectServerInfo, ConnectFlags, ConnectClientInfo and its extended form.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/neutrino.h>
#include <unistd.h>

#include "check.h"

static int chid;

static void *server(void *arg)
{
    struct _msg_info info;
    struct {
        struct _client_info client;
        gid_t more[64];
    } room;
    struct _client_info *all;
    char text[64];
    rcvid_t rcvid = MsgReceive(chid, text, sizeof text, &info);
    printf("client: %d", ConnectClientInfo(info.scoid, &room.client, 64));
    printf(" pid %d node %u\n", room.client.pid == getpid(), room.client.nd);
    printf("user %d %d %d\n", room.client.cred.ruid == getuid(), room.client.cred.euid == geteuid(), room.client.cred.egid == getegid());
    printf("extended: %d", ConnectClientInfoExt(info.scoid, &all, _NTO_CLIENTINFO_GETGROUPS));
    printf(" the same %d %d\n", all->pid == room.client.pid, all->cred.ngroups == room.client.cred.ngroups);
    printf("freed: %d", ClientInfoExtFree(&all));
    printf(" %d\n", all == NULL);
    printf("no such client: %s\n", error_name(-ConnectClientInfo_r(77777, &room.client, 0)));
    printf("this process: %d\n", ConnectClientInfo(-1, &room.client, 0) == 0 && room.client.pid == getpid());
    printf("NULL: %s\n", error_name(-ConnectClientInfo_r(info.scoid, NULL, 0)));
    MsgReply(rcvid, 0, NULL, 0);
    return arg;
}

int main(void)
{
    struct _server_info info;
    pthread_t thread;
    chid = (int)MUST(ChannelCreate(0));
    int low = (int)MUST(ConnectAttach(0, getpid(), chid, 0, _NTO_COF_CLOEXEC));
    int side = (int)MUST(ConnectAttach(0, 0, chid, _NTO_SIDE_CHANNEL, 0));
    printf("a small number %d, a side channel %d\n", low >= 3 && low < 1000, side >= _NTO_SIDE_CHANNEL);
    printf("server: %d", ConnectServerInfo(0, side, &info) == side);
    printf(" nd %u pid %d chid %d coid %d\n", info.nd, info.pid == getpid(), info.chid == chid, info.coid == side);
    printf("the next one: %d\n", ConnectServerInfo(0, low + 1, &info) == side);
    printf("above all: %s\n", error_name(-ConnectServerInfo_r(0, side + 1, &info)));
    printf("flags: %d", ConnectFlags(0, low, ~0u, 0));
    printf(" %d\n", ConnectFlags(0, low, 0, 0));
    pthread_create(&thread, NULL, server, NULL);
    MUST(MsgSend(side, "x", 2, NULL, 0));
    pthread_join(thread, NULL);
    MUST(ConnectDetach(low));
    MUST(ConnectDetach(side));
    printf("detached: %s\n", error_name(-ConnectDetach_r(side)));
    MUST(ChannelDestroy(chid));
    printf("destroyed: %s\n", error_name(-ChannelDestroy_r(chid)));
    return 0;
}
