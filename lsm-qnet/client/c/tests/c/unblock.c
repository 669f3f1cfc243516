/*
 * unblock.c - a client that wants to leave: by a signal from a channel without unblock pulses (at once), by a signal and by a
 * timeout from one with them (when the server answers its pulse).
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/neutrino.h>
#include <unistd.h>

static int chid;

static void on_alarm(int signo)
{
    (void)signo;
}

static void *server(void *arg)
{
    union {
        char text[64];
        struct _pulse pulse;
    } msg;
    struct _msg_info info;
    int held = 0;
    (void)arg;
    for (;;) {
        int rcvid = MsgReceive(chid, &msg, sizeof msg, &info);
        if (rcvid == -1)
            return NULL;
        if (rcvid == 0) {
            if (msg.pulse.code == _PULSE_CODE_UNBLOCK) {
                int same = msg.pulse.value.sival_int == held;
                int asked = MsgInfo(held, &info) == 0 && (info.flags & _NTO_MI_UNBLOCK_REQ) != 0;
                printf("server: unblock pulse for the message it holds: %d, request flag %d\n", same, asked);
                MsgError(held, EINTR);
            } else {
                return NULL;
            }
        } else if (strcmp(msg.text, "hold") == 0) {
            held = rcvid;
        } else {
            MsgReply(rcvid, 5, NULL, 0);
        }
    }
}

static void try(const char *what, unsigned flags, int by_timeout)
{
    struct itimerspec soon = {{0, 0}, {0, 100000000}};
    uint64_t time = 100000000;
    struct sigevent event;
    timer_t timer;
    pthread_t thread;
    long status;

    chid = ChannelCreate(flags);
    int coid = ConnectAttach(0, 0, chid, _NTO_SIDE_CHANNEL, 0);
    pthread_create(&thread, NULL, server, NULL);
    if (by_timeout) {
        SIGEV_UNBLOCK_INIT(&event);
        TimerTimeout(CLOCK_MONOTONIC, _NTO_TIMEOUT_SEND | _NTO_TIMEOUT_REPLY, &event, &time, NULL);
    } else {
        SIGEV_SIGNAL_THREAD_INIT(&event, SIGALRM, 0, -1);
        timer_create(CLOCK_MONOTONIC, &event, &timer);
        timer_settime(timer, 0, &soon, NULL);
    }
    status = MsgSend(coid, "hold", 5, NULL, 0);
    printf("%s: %ld %s\n", what, status,
           errno == EINTR ? "EINTR" : errno == ETIMEDOUT ? "ETIMEDOUT" : strerror(errno));
    if (!by_timeout)
        timer_delete(timer);
    printf("%s, the next message: %ld\n", what, MsgSend(coid, "go on", 6, NULL, 0));
    MsgSendPulse(coid, 10, 0, 0);
    pthread_join(thread, NULL);
    ConnectDetach(coid);
    ChannelDestroy(chid);
}

int main(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    sigaction(SIGALRM, &action, NULL);
    try("signal, no unblock pulses", 0, 0);
    try("signal, unblock pulses", _NTO_CHF_UNBLOCK, 0);
    try("timeout, no unblock pulses", 0, 1);
    try("timeout, unblock pulses", _NTO_CHF_UNBLOCK, 1);
    return 0;
}
