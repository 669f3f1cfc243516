/*
 * priorities.c - messages wait in the order of their senders' priorities, equal ones in the order of their arrival; a pulse
 * has its own priority. It makes no difference whether Linux grants realtime scheduling.
 */
#include <sched.h>

#include "roles.h"

static int to_server;

static void server(int chid)
{
    union {
        int number;
        struct _pulse pulse;
    } msg;
    struct _msg_info info;
    rcvid_t rcvid = MUST(MsgReceive(chid, &msg, sizeof msg, &info));
    MUST(MsgReply(rcvid, 0, NULL, 0));
    /* Nothing is received for so long, and meanwhile all are sent. */
    delay(1000);
    for (int i = 0; i < 6; i++) {
        rcvid = MUST(MsgReceive(chid, &msg, sizeof msg, &info));
        if (rcvid == 0)
            printf("pulse %d\n", msg.pulse.value.sival_int);
        else
            printf("message %d priority %d\n", msg.number, info.priority);
        if (rcvid > 0)
            MUST(MsgReply(rcvid, 0, NULL, 0));
    }
}

static void *sender(void *arg)
{
    MsgSend(to_server, arg, sizeof(int), NULL, 0);
    return NULL;
}

static void start(pthread_t *thread, int *number)
{
    struct sched_param param;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
    param.sched_priority = *number;
    /* Either order of these two works on QNX. */
    if (*number % 8 == 0) {
        pthread_attr_setschedpolicy(&attr, SCHED_RR);
        pthread_attr_setschedparam(&attr, &param);
    } else {
        pthread_attr_setschedparam(&attr, &param);
        pthread_attr_setschedpolicy(&attr, SCHED_RR);
    }
    pthread_create(thread, &attr, sender, number);
}

static void client(int coid)
{
    int numbers[] = {8, 20, 12, 20, 30}, first = 0;
    pthread_t threads[5];
    struct sched_param param;
    to_server = coid;
    printf("this thread: %d\n", getprio(0));
    MUST(MsgSend(coid, &first, sizeof first, NULL, 0));
    for (int i = 0; i < 5; i++)
        start(&threads[i], &numbers[i]);
    MUST(MsgSendPulse(coid, 25, 1, 25));
    for (int i = 0; i < 5; i++)
        pthread_join(threads[i], NULL);
    printf("was %d\n", setprio(0, 15));
    printf("now %d\n", getprio(0));
    pthread_getschedparam(pthread_self(), &(int){0}, &param);
    printf("the same %d %d\n", param.sched_priority, param.sched_curpriority);
    param.sched_priority = 11;
    printf("SchedSet %d\n", SchedSet(0, 0, SCHED_RR, &param));
    printf("policy %d ", SchedGet(0, 0, &param) == SCHED_RR);
    printf("priority %d\n", param.sched_priority);
    printf("out of range %d\n", setprio(0, 300));
}

int main(int argc, char **argv)
{
    return play(&(struct roles){_NTO_CHF_FIXED_PRIORITY, server, client}, argc, argv);
}
