/*
 * timeouts.c - kernel timeouts: on a receive, on a send that nobody receives, on one that nobody answers, for one call only,
 * and a timeout that sends a pulse instead of ending the wait.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/neutrino.h>
#include <time.h>
#include <unistd.h>

static const char *name(long result)
{
    return result >= 0 ? "no error" : errno == ETIMEDOUT ? "ETIMEDOUT" : strerror(errno);
}

static void arm(int flags)
{
    struct sigevent event;
    struct timespec time = {0, 50000000};
    SIGEV_UNBLOCK_INIT(&event);
    if (timer_timeout(CLOCK_REALTIME, flags, &event, &time, NULL) == -1)
        perror("timer_timeout");
}

static void *holder(void *arg)
{
    char text[64];
    int *chid = arg, rcvid;
    rcvid = MsgReceive(*chid, text, sizeof text, NULL);
    (void)rcvid;
    return NULL;
}

int main(void)
{
    struct _pulse pulse;
    pthread_t thread;
    uint64_t none = 0, time = 20000000;
    struct sigevent event;
    int chid = ChannelCreate(0), coid = ConnectAttach(0, 0, chid, _NTO_SIDE_CHANNEL, 0);

    arm(_NTO_TIMEOUT_RECEIVE);
    printf("receive: %s\n", name(MsgReceivePulse(chid, &pulse, sizeof pulse, NULL)));
    SIGEV_UNBLOCK_INIT(&event);
    TimerTimeout(CLOCK_MONOTONIC, _NTO_TIMEOUT_RECEIVE, &event, &none, NULL);
    printf("receive without waiting: %s\n", name(MsgReceivePulse(chid, &pulse, sizeof pulse, NULL)));
    TimerTimeout(CLOCK_MONOTONIC, _NTO_TIMEOUT_RECEIVE, NULL, NULL, NULL);
    printf("without a time: %s\n", name(MsgReceivePulse(chid, &pulse, sizeof pulse, NULL)));
    arm(_NTO_TIMEOUT_SEND | _NTO_TIMEOUT_REPLY);
    printf("send, nobody receives: %s\n", name(MsgSend(coid, "x", 2, NULL, 0)));
    pthread_create(&thread, NULL, holder, &chid);
    arm(_NTO_TIMEOUT_REPLY);
    printf("send, nobody answers: %s\n", name(MsgSend(coid, "x", 2, NULL, 0)));
    pthread_join(thread, NULL);
    MsgSendPulse(coid, 10, 1, 1);
    arm(_NTO_TIMEOUT_RECEIVE);
    printf("something was there: %s\n", name(MsgReceivePulse(chid, &pulse, sizeof pulse, NULL)));
    MsgSendPulse(coid, 10, 1, 2);
    SIGEV_UNBLOCK_INIT(&event);
    TimerTimeout(CLOCK_MONOTONIC, _NTO_TIMEOUT_RECEIVE, &event, &none, NULL);
    printf("without waiting, it was there: %s\n", name(MsgReceivePulse(chid, &pulse, sizeof pulse, NULL)));
    SIGEV_PULSE_INIT(&event, coid, 10, 7, 70);
    TimerTimeout(CLOCK_MONOTONIC, _NTO_TIMEOUT_RECEIVE, &event, &time, NULL);
    printf("a pulse instead: %s", name(MsgReceivePulse(chid, &pulse, sizeof pulse, NULL)));
    printf(" %d\n", pulse.value.sival_int);
    time = 30000000;
    uint64_t before = ClockCycles();
    printf("nanosleep: %d", TimerTimeout(CLOCK_MONOTONIC, _NTO_TIMEOUT_NANOSLEEP, NULL, &time, NULL));
    printf(" long enough: %d\n", ClockCycles() - before >= 30000000);
    return 0;
}
