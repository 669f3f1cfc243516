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
    int held = 0;
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
        } else {
            MsgReply(rcvid, 5, NULL, 0);
        }
    }
}

static void hold(int coid, const char *what, int by_timeout)
{
    /* Again and again: one that comes while the thread does not wait yet ends nothing. */
    struct itimerspec soon = {{1, 0}, {1, 0}};
    uint64_t time = 1000000000;
    struct sigevent event;
    timer_t timer;
    if (by_timeout) {
        SIGEV_UNBLOCK_INIT(&event);
        TimerTimeout(CLOCK_MONOTONIC, _NTO_TIMEOUT_SEND | _NTO_TIMEOUT_REPLY, &event, &time, NULL);
    } else {
        SIGEV_SIGNAL_THREAD_INIT(&event, SIGALRM, 0, -1);
        timer_create(CLOCK_MONOTONIC, &event, &timer);
        timer_settime(timer, 0, &soon, NULL);
    }
    long status = MsgSend(coid, "hold", 5, NULL, 0);
    printf("%s: %ld %s\n", what, status, error_name(errno));
    if (!by_timeout)
        timer_delete(timer);
    printf("%s, the next message: %ld\n", what, MsgSend(coid, "go on", 6, NULL, 0));
}

static void client(int coid)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    sigaction(SIGALRM, &action, NULL);
    hold(coid, "a signal", 0);
    hold(coid, "a timeout", 1);
    MUST(MsgSendPulse(coid, 10, 0, 0));
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "at_once") == 0)
        return play(&(struct roles){0, server, client}, argc - 1, argv + 1);
    return play(&(struct roles){_NTO_CHF_UNBLOCK, server, client}, argc, argv);
}
