/*
 * timeouts.c - kernel timeouts: on a receive, on a send that nobody receives, on one that nobody answers, for one call only,
 * and a timeout that sends a pulse instead of ending the wait.
 */
#include <time.h>

#include "roles.h"

static void server(int chid)
{
    union {
        char text[64];
        struct _pulse pulse;
    } msg;
    for (;;) {
        int rcvid = (int)MUST(MsgReceive(chid, &msg, sizeof msg, NULL));
        if (rcvid == 0)
            continue;
        if (strcmp(msg.text, "hold") == 0)
            continue; /* never answered */
        MsgReply(rcvid, EOK, NULL, 0);
        if (strcmp(msg.text, "end") == 0)
            return;
        /* Busy: messages wait until a pulse comes. */
        MUST(MsgReceivePulse(chid, &msg, sizeof msg, NULL));
    }
}

static const char *name(long result)
{
    return result >= 0 ? "no error" : error_name(errno);
}

static void arm(int flags)
{
    struct sigevent event;
    struct timespec time = {0, 200000000};
    SIGEV_UNBLOCK_INIT(&event);
    if (timer_timeout(CLOCK_REALTIME, flags, &event, &time, NULL) == -1)
        perror("timer_timeout");
}

static void sends(int coid)
{
    MUST(MsgSend(coid, "busy", 5, NULL, 0));
    arm(_NTO_TIMEOUT_SEND | _NTO_TIMEOUT_REPLY);
    printf("send, nobody receives: %s\n", name(MsgSend(coid, "x", 2, NULL, 0)));
    MUST(MsgSendPulse(coid, 10, 1, 0));
    arm(_NTO_TIMEOUT_REPLY);
    printf("send, nobody answers: %s\n", name(MsgSend(coid, "hold", 5, NULL, 0)));
    printf("the timeout was for one call: %s\n", name(MsgSend(coid, "end", 4, NULL, 0)));
}

static void client(int coid)
{
    struct _pulse pulse;
    uint64_t none = 0, time = 20000000;
    struct sigevent event;
    int chid = (int)MUST(ChannelCreate(0)), self = (int)MUST(ConnectAttach(0, 0, chid, _NTO_SIDE_CHANNEL, 0));

    arm(_NTO_TIMEOUT_RECEIVE);
    printf("receive: %s\n", name(MsgReceivePulse(chid, &pulse, sizeof pulse, NULL)));
    SIGEV_UNBLOCK_INIT(&event);
    TimerTimeout(CLOCK_MONOTONIC, _NTO_TIMEOUT_RECEIVE, &event, &none, NULL);
    printf("receive without waiting: %s\n", name(MsgReceivePulse(chid, &pulse, sizeof pulse, NULL)));
    TimerTimeout(CLOCK_MONOTONIC, _NTO_TIMEOUT_RECEIVE, NULL, NULL, NULL);
    printf("without a time: %s\n", name(MsgReceivePulse(chid, &pulse, sizeof pulse, NULL)));
    sends(coid);
    MsgSendPulse(self, 10, 1, 1);
    arm(_NTO_TIMEOUT_RECEIVE);
    printf("something was there: %s\n", name(MsgReceivePulse(chid, &pulse, sizeof pulse, NULL)));
    MsgSendPulse(self, 10, 1, 2);
    TimerTimeout(CLOCK_MONOTONIC, _NTO_TIMEOUT_RECEIVE, &event, &none, NULL);
    printf("without waiting, it was there: %s\n", name(MsgReceivePulse(chid, &pulse, sizeof pulse, NULL)));
    SIGEV_PULSE_INIT(&event, self, 10, 7, 70);
    TimerTimeout(CLOCK_MONOTONIC, _NTO_TIMEOUT_RECEIVE, &event, &time, NULL);
    printf("a pulse instead: %s", name(MsgReceivePulse(chid, &pulse, sizeof pulse, NULL)));
    printf(" %d\n", pulse.value.sival_int);
    time = 30000000;
    uint64_t before = ClockCycles();
    printf("nanosleep: %d", TimerTimeout(CLOCK_MONOTONIC, _NTO_TIMEOUT_NANOSLEEP, NULL, &time, NULL));
    printf(" long enough: %d\n", ClockCycles() - before >= 30000000);
}

int main(int argc, char **argv)
{
    return play(&(struct roles){0, server, client}, argc, argv);
}
