/*
 * info.c - who is connected to whom: ConnectServerInfo, ConnectFlags, ConnectClientInfo and its extended form.
 */
#include "roles.h"

static void server(int chid)
{
    struct _msg_info info;
    struct {
        struct _client_info client;
        gid_t more[64];
    } room;
    struct _client_info *all;
    char text[64];
    rcvid_t rcvid = MUST(MsgReceive(chid, text, sizeof text, &info));
    printf("client: %d", ConnectClientInfo(info.scoid, &room.client, 64));
    printf(" pid %d node %d\n", room.client.pid == info.pid, room.client.nd == (uint32_t)info.nd);
    printf("one user: %d %d\n", room.client.cred.ruid == room.client.cred.euid, room.client.cred.rgid == room.client.cred.egid);
    printf("extended: %d", ConnectClientInfoExt(info.scoid, &all, _NTO_CLIENTINFO_GETGROUPS));
    printf(" the same %d %d\n", all->pid == room.client.pid, all->cred.ngroups == room.client.cred.ngroups);
    printf("freed: %d", ClientInfoExtFree(&all));
    printf(" %d\n", all == NULL);
    printf("no such client: %s\n", error_name(-ConnectClientInfo_r(77777, &room.client, 0)));
    printf("this process: %d\n", ConnectClientInfo(-1, &room.client, 0) == 0 && room.client.pid == getpid());
    printf("NULL: %s\n", error_name(-ConnectClientInfo_r(info.scoid, NULL, 0)));
    MUST(MsgReply(rcvid, 0, NULL, 0));
}

static void client(int side)
{
    struct _server_info info, other;
    printf("a side channel: %d\n", side >= _NTO_SIDE_CHANNEL);
    printf("server: %d", ConnectServerInfo(0, side, &info) == side);
    printf(" pid %d chid %d coid %d\n", info.pid > 0, info.chid > 0, info.coid == side);
    int low = (int)MUST(ConnectAttach((uint32_t)info.nd, info.pid, info.chid, 0, _NTO_COF_CLOEXEC));
    printf("a small number: %d\n", low >= 3 && low < 1000);
    printf("the same server: %d", ConnectServerInfo(0, low, &other) == low);
    printf(" %d\n", other.nd == info.nd && other.pid == info.pid && other.chid == info.chid);
    printf("the next one: %d\n", ConnectServerInfo(0, low + 1, &info) == side);
    printf("above all: %s\n", error_name(-ConnectServerInfo_r(0, side + 1, &info)));
    printf("close on exec: %d", ConnectFlags(0, low, _NTO_COF_CLOEXEC, 0) & _NTO_COF_CLOEXEC);
    printf(" %d\n", ConnectFlags(0, low, 0, 0) & _NTO_COF_CLOEXEC);
    MUST(MsgSend(side, "x", 2, NULL, 0));
    MUST(ConnectDetach(low));
    MUST(ConnectDetach(side));
    printf("detached: %s\n", error_name(-ConnectDetach_r(side)));
    printf("no such channel: %s\n", error_name(-ChannelDestroy_r(4711)));
}

int main(int argc, char **argv)
{
    return play(&(struct roles){0, server, client}, argc, argv);
}
