/*
 * train.c - trains and a single track: a train asks for the track and is answered when it is free, so it waits reply-blocked;
 * the controller tells each train by an event when it may leave the station again. Trains of other nodes do the same.
 *
 *   train controller NAME TRAINS
 *   train train NAME NUMBER       NAME, or /net/NODE/dev/name/local/NAME
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/dispatch.h>
#include <sys/iomsg.h>
#include <sys/neutrino.h>

#define MSG_ENTER (_IO_MAX + 1)
#define MSG_LEAVE (_IO_MAX + 2)
#define PULSE_GO (_PULSE_CODE_MINAVAIL + 1)

typedef struct {
    _Uint16t type;
    _Uint16t subtype;
    int number;
    struct sigevent go;
} train_msg_t;

typedef union {
    _Uint16t type;
    struct _pulse pulse;
    train_msg_t train;
} message_t;

static int controller(const char *name, int trains)
{
    name_attach_t *attach = name_attach(NULL, name, 0);
    int queue[16], queued = 0, on_track = 0, most = 0, left = 0, passages = 0;
    struct sigevent go[16];

    if (attach == NULL) {
        perror(name);
        return EXIT_FAILURE;
    }
    printf("ready\n");
    while (left < trains) {
        message_t msg;
        int rcvid = MsgReceive(attach->chid, &msg, sizeof msg, NULL);
        if (rcvid == -1)
            return EXIT_FAILURE;
        if (rcvid == 0) {
            if (msg.pulse.code == _PULSE_CODE_DISCONNECT)
                ConnectDetach(msg.pulse.scoid);
            continue;
        }
        switch (msg.type) {
        case _IO_CONNECT: MsgReply(rcvid, EOK, NULL, 0); break;
        case MSG_ENTER:
            go[queued] = msg.train.go;
            queue[queued++] = rcvid;
            break;
        case MSG_LEAVE:
            on_track--;
            left += msg.train.number < 0;
            MsgReply(rcvid, EOK, NULL, 0);
            break;
        default: MsgError(rcvid, ENOSYS);
        }
        if (on_track == 0 && queued > 0) {
            on_track++;
            passages++;
            if (on_track > most)
                most = on_track;
            /* The event comes before the reply, and stays good after it. */
            if (MsgDeliverEvent(queue[0], &go[0]) == -1)
                perror("MsgDeliverEvent");
            MsgReply(queue[0], passages, NULL, 0);
            queued--;
            memmove(queue, queue + 1, (size_t)queued * sizeof queue[0]);
            memmove(go, go + 1, (size_t)queued * sizeof go[0]);
        }
    }
    name_detach(attach, 0);
    printf("%d passages, at most %d train on the track\n", passages, most);
    return EXIT_SUCCESS;
}

static int train(const char *name, int number)
{
    int coid = name_open(name, 0);
    if (coid == -1) {
        perror(name);
        return EXIT_FAILURE;
    }
    int chid = ChannelCreate(0), self = ConnectAttach(ND_LOCAL_NODE, 0, chid, _NTO_SIDE_CHANNEL, 0);
    train_msg_t msg;
    memset(&msg, 0, sizeof msg);
    SIGEV_PULSE_INIT(&msg.go, self, 10, PULSE_GO, number);
    if (MsgRegisterEvent(&msg.go, coid) == -1)
        perror("MsgRegisterEvent");
    for (int lap = 0; lap < 3; lap++) {
        struct _pulse pulse;
        msg.type = MSG_ENTER;
        msg.number = number;
        if (MsgSend(coid, &msg, sizeof msg, NULL, 0) == -1) {
            perror("MsgSend");
            return EXIT_FAILURE;
        }
        if (MsgReceivePulse(chid, &pulse, sizeof pulse, NULL) == -1 || pulse.value.sival_int != number)
            return EXIT_FAILURE;
        msg.type = MSG_LEAVE;
        if (lap == 2)
            msg.number = -1;
        MsgSend(coid, &msg, sizeof msg, NULL, 0);
    }
    printf("train %d made its laps\n", number);
    name_close(coid);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 4 && strcmp(argv[1], "controller") == 0)
        return controller(argv[2], atoi(argv[3]));
    if (argc == 4 && strcmp(argv[1], "train") == 0)
        return train(argv[2], atoi(argv[3]));
    fprintf(stderr, "usage: train controller NAME TRAINS | train NAME NUMBER\n");
    return EXIT_FAILURE;
}
