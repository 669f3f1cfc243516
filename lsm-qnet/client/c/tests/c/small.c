/*
 * small.c - MsgCurrent, MsgKeyData, MsgVerifyEvent, and device control over a connection.
 *
 *   small messages | devctl
 */
#include <devctl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/iomsg.h>
#include <sys/neutrino.h>
#include <unistd.h>

#include "check.h"

#define DCMD_DOUBLE __DIOTF(_DCMD_MISC, 1, int)
#define DCMD_SET __DIOT(_DCMD_MISC, 2, int)
#define DCMD_GET __DIOF(_DCMD_MISC, 3, int)

static int chid;

static void *keeper(void *arg)
{
    char text[64];
    iov_t iov[1];
    uint32_t key = 0, wrong;
    struct sigevent event;
    rcvid_t rcvid = MsgReceive(chid, text, sizeof text, NULL);
    printf("its priority: %d\n", getprio(0) != 0);
    printf("current: %d\n", MsgCurrent(rcvid));
    SETIOV(&iov[0], text, 6);
    printf("calculated: %d\n", MsgKeyData(rcvid, _NTO_KEYDATA_CALCULATE, 4711, &key, iov, 1));
    printf("verified: %d\n", MsgKeyData(rcvid, _NTO_KEYDATA_VERIFY, 4711, &key, iov, 1));
    text[0]++;
    printf("changed data: %s\n", error_name(-MsgKeyData_r(rcvid, _NTO_KEYDATA_VERIFY, 4711, &key, iov, 1)));
    text[0]--;
    wrong = key + 1;
    printf("wrong key: %s\n", error_name(-MsgKeyData_r(rcvid, _NTO_KEYDATA_VERIFY, 4711, &wrong, iov, 1)));
    SIGEV_PULSE_INIT(&event, 1, 10, 5, 6);
    printf("a pulse: %d\n", MsgVerifyEvent(rcvid, &event));
    event.sigev_notify = 77;
    printf("nonsense: %s\n", error_name(-MsgVerifyEvent_r(rcvid, &event)));
    printf("no event: %s\n", error_name(-MsgVerifyEvent_r(rcvid, NULL)));
    MsgReply(rcvid, 0, NULL, 0);
    printf("over: %s\n", error_name(-MsgCurrent_r(rcvid)));
    return arg;
}

static void *device(void *arg)
{
    union {
        io_devctl_t devctl;
        char room[256];
    } msg;
    static int value = 5;
    for (;;) {
        rcvid_t rcvid = MsgReceive(chid, &msg, sizeof msg, NULL);
        if (rcvid <= 0)
            return arg;
        if (msg.devctl.i.type != _IO_DEVCTL) {
            MsgError(rcvid, ENOSYS);
            continue;
        }
        int command = msg.devctl.i.dcmd, *data = _DEVCTL_DATA(msg.devctl.i);
        size_t back = 0;
        memset(&msg, 0, sizeof msg.devctl);
        switch (command) {
        case DCMD_DOUBLE: *data *= 2; back = sizeof *data; break;
        case DCMD_SET: value = *data; break;
        case DCMD_GET: *data = value; back = sizeof *data; break;
        default: MsgError(rcvid, ENOTTY); continue;
        }
        msg.devctl.o.ret_val = command == DCMD_SET ? 33 : 0;
        msg.devctl.o.nbytes = (int)back;
        MsgReply(rcvid, EOK, &msg, sizeof msg.devctl + back);
    }
}

int main(int argc, char **argv)
{
    pthread_t thread;
    int control = argc > 1 && strcmp(argv[1], "devctl") == 0;
    chid = (int)MUST(ChannelCreate(0));
    int coid = (int)MUST(ConnectAttach(0, 0, chid, _NTO_SIDE_CHANNEL, 0));
    pthread_create(&thread, NULL, control ? device : keeper, NULL);
    if (control) {
        int value = 21, info = 0, fd = dup(1);
        printf("double: %d", devctl(coid, DCMD_DOUBLE, &value, sizeof value, NULL));
        printf(" %d\n", value);
        printf("set: %d", devctl(coid, DCMD_SET, &value, sizeof value, &info));
        printf(" info %d\n", info);
        value = 0;
        printf("get: %d", devctl(coid, DCMD_GET, &value, sizeof value, NULL));
        printf(" %d\n", value);
        printf("unknown: %d\n", devctl(coid, 99, NULL, 0, NULL) == ENOTTY);
        printf("NULL: %d\n", devctl(coid, DCMD_SET, NULL, 4, NULL) == EFAULT);
        printf("a file descriptor: %d\n", devctl(fd, DCMD_SET, &value, sizeof value, NULL) == ENOTTY);
        MsgSendPulse(coid, 10, 0, 0);
    } else {
        MUST(MsgSend(coid, "letter", 7, NULL, 0));
    }
    pthread_join(thread, NULL);
    return 0;
}
