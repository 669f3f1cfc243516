/*
 * unblock.c - a client that wants to leave, by a signal and by a timeout, and a server that hears of it and decides.
 *
 *   unblock at_once ...   the channel asks for no unblock pulses: the client leaves at once
 *   unblock ...           it does, and answers them
 */
#include <signal.h>

#include "roles.h"

static void on_alarm(int signo)
{
    (void)signo;
}

static void server(int chid)
{
    union {
        char text[64];
        struct _pulse pulse;
    } msg;
    struct _msg_info info;
    int held = 0, times = 0;
    for (;;) {
        int rcvid = MsgReceive(chid, &msg, sizeof msg, &info);
        if (rcvid == -1)
            return;
        if (rcvid == 0) {
            if (msg.pulse.code != _PULSE_CODE_UNBLOCK)
                return;
            int same = msg.pulse.value.sival_int == held;
            int asked = MsgInfo(held, &info) == 0 && (info.flags & _NTO_MI_UNBLOCK_REQ) != 0;
            printf("server: unblock pulse for the message it holds: %d, request flag %d\n", same, asked);
            MsgError(held, EINTR);
        } else if (strcmp(msg.text, "hold") == 0) {
            held = rcvid;
            times++;
        } else if (strcmp(msg.text, "held?") == 0) {
            MsgReply(rcvid, times, NULL, 0);
        } else {
            MsgReply(rcvid, 5, NULL, 0);
        }
    }
}

struct alarm {
    int coid;
    timer_t timer;
};

/* Rings when the server has the first message, again and again: one that comes while the thread does not wait yet ends nothing. */
static void *ring(void *arg)
{
    const struct alarm *alarm = arg;
    struct itimerspec soon = {{0, 10000000}, {0, 10000000}};
    while (MUST(MsgSend(alarm->coid, "held?", 6, NULL, 0)) == 0)
        delay(1);
    timer_settime(alarm->timer, 0, &soon, NULL);
    return NULL;
}

static void hold_until_signalled(int coid)
{
    struct alarm alarm = {coid, 0};
    struct sigevent event;
    pthread_t thread;
    SIGEV_SIGNAL_THREAD_INIT(&event, SIGALRM, 0, -1);
    timer_create(CLOCK_MONOTONIC, &event, &alarm.timer);
    pthread_create(&thread, NULL, ring, &alarm);
    long status = MsgSend(coid, "hold", 5, NULL, 0);
    int error = errno;
    pthread_join(thread, NULL);
    timer_delete(alarm.timer);
    printf("a signal: %ld %s\n", status, error_name(error));
    printf("a signal, the next message: %ld\n", MsgSend(coid, "go on", 6, NULL, 0));
}

static void hold_until_timeout(int coid)
{
    uint64_t time = 1000000000;
    struct sigevent event;
    long status;
    int error;
    SIGEV_UNBLOCK_INIT(&event);
    /* The server decides about a message that it has. One that did not get there in time is none. */
    do {
        TimerTimeout(CLOCK_MONOTONIC, _NTO_TIMEOUT_SEND | _NTO_TIMEOUT_REPLY, &event, &time, NULL);
        status = MsgSend(coid, "hold", 5, NULL, 0);
        error = errno;
    } while (MUST(MsgSend(coid, "held?", 6, NULL, 0)) == 1);
    printf("a timeout: %ld %s\n", status, error_name(error));
    printf("a timeout, the next message: %ld\n", MsgSend(coid, "go on", 6, NULL, 0));
}

static void client(int coid)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    sigaction(SIGALRM, &action, NULL);
    hold_until_signalled(coid);
    hold_until_timeout(coid);
    /* The server ends by this one. It may take it from memory that both share and be gone before its bell is rung: EBADF. */
    if (MsgSendPulse(coid, 10, 0, 0) == -1 && errno != EBADF)
        MUST(-1);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "at_once") == 0)
        return play(&(struct roles){0, server, client}, argc - 1, argv + 1);
    return play(&(struct roles){_NTO_CHF_UNBLOCK, server, client}, argc, argv);
}
