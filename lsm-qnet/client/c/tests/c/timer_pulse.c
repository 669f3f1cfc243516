/*
 * timer_pulse.c - a server that gets a pulse from a timer: the event once filled by the macro, once by hand, once with
 * TimerCreate() and nanoseconds.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/neutrino.h>
#include <time.h>

#define TIMER_PULSE_CODE (_PULSE_CODE_MINAVAIL + 2)

typedef union {
    struct _pulse pulse;
    char text[64];
} message_t;

static int chid, coid;

static void wait_for(const char *what, int times)
{
    message_t msg;
    for (int i = 0; i < times; i++) {
        int rcvid = MsgReceive(chid, &msg, sizeof(msg), NULL);
        if (rcvid == 0)
            printf("%s: pulse %d code %d value %d\n", what, i + 1, msg.pulse.code, msg.pulse.value.sival_int);
        else
            printf("%s: rcvid %d\n", what, rcvid);
    }
}

int main(void)
{
    struct sigevent event;
    struct itimerspec itime, left;
    struct _itimer nanoseconds = {20000000, 0}, before;
    timer_t timer_id;

    chid = ChannelCreate(0);
    coid = ConnectAttach(ND_LOCAL_NODE, 0, chid, _NTO_SIDE_CHANNEL, 0);

    SIGEV_PULSE_INIT(&event, coid, getprio(0), TIMER_PULSE_CODE, 1);
    if (timer_create(CLOCK_REALTIME, &event, &timer_id) == -1) {
        perror("timer_create");
        return EXIT_FAILURE;
    }
    itime.it_value.tv_sec = 0;
    itime.it_value.tv_nsec = 30000000;
    itime.it_interval.tv_sec = 0;
    itime.it_interval.tv_nsec = 10000000;
    timer_settime(timer_id, 0, &itime, NULL);
    wait_for("repeating", 3);
    timer_gettime(timer_id, &left);
    printf("interval %ld ns\n", left.it_interval.tv_nsec);
    timer_delete(timer_id);
    printf("deleted twice: %s\n", timer_delete(timer_id) == -1 && errno == EINVAL ? "EINVAL" : "no error");

    /* What the repeating timer sent while it was taken down. */
    struct sigevent unblock;
    uint64_t none = 0;
    struct _pulse pulse;
    SIGEV_UNBLOCK_INIT(&unblock);
    do
        TimerTimeout(CLOCK_MONOTONIC, _NTO_TIMEOUT_RECEIVE, &unblock, &none, NULL);
    while (MsgReceivePulse(chid, &pulse, sizeof pulse, NULL) == 0);

    event.sigev_notify = SIGEV_PULSE;
    event.sigev_coid = coid;
    event.sigev_priority = SIGEV_PULSE_PRIO_INHERIT;
    event.sigev_code = TIMER_PULSE_CODE;
    event.sigev_value.sival_int = 2;
    timer_create(CLOCK_MONOTONIC, &event, &timer_id);
    clock_gettime(CLOCK_MONOTONIC, &itime.it_value);
    nsec2timespec(&itime.it_value, timespec2nsec(&itime.it_value) + 20000000);
    itime.it_interval.tv_nsec = 0;
    timer_settime(timer_id, TIMER_ABSTIME, &itime, NULL);
    wait_for("absolute", 1);
    timer_delete(timer_id);

    event.sigev_value.sival_int = 3;
    timer_id = TimerCreate(CLOCK_MONOTONIC, &event);
    TimerSettime(timer_id, 0, &nanoseconds, &before);
    printf("before: %d %d\n", (int)before.nsec, (int)before.interval_nsec);
    wait_for("nanoseconds", 1);
    TimerDestroy(timer_id);

    SIGEV_UNBLOCK_INIT(&event);
    printf("an unblock event in a timer: %s\n", timer_create(CLOCK_REALTIME, &event, &timer_id) == -1 && errno == EINVAL ? "EINVAL" : "taken");
    return EXIT_SUCCESS;
}
