/*
 * priorities.c - messages wait in the order of their senders' priorities, equal ones in the order of their arrival; a pulse
 * has its own priority. It makes no difference whether Linux grants realtime scheduling.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/neutrino.h>
#include <unistd.h>

static int chid;
static volatile int ready;

static void *sender(void *arg)
{
    int number = *(int *)arg, coid = ConnectAttach(0, 0, chid, _NTO_SIDE_CHANNEL, 0);
    __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
    MsgSend(coid, &number, sizeof number, NULL, 0);
    ConnectDetach(coid);
    return NULL;
}

int main(void)
{
    int numbers[] = {8, 20, 12, 20, 30}, coid;
    pthread_t threads[5];
    union {
        int number;
        struct _pulse pulse;
    } msg;
    struct sched_param param;
    struct _msg_info info;

    printf("this thread: %d\n", getprio(0));
    chid = ChannelCreate(_NTO_CHF_FIXED_PRIORITY);
    coid = ConnectAttach(0, 0, chid, _NTO_SIDE_CHANNEL, 0);
    for (int i = 0; i < 5; i++) {
        pthread_attr_t attr;
        pthread_attr_init(&attr);
        pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
        param.sched_priority = numbers[i];
        /* Either order of these two works on QNX. */
        if (i % 2) {
            pthread_attr_setschedpolicy(&attr, SCHED_RR);
            pthread_attr_setschedparam(&attr, &param);
        } else {
            pthread_attr_setschedparam(&attr, &param);
            pthread_attr_setschedpolicy(&attr, SCHED_RR);
        }
        pthread_create(&threads[i], &attr, sender, &numbers[i]);
    }
    MsgSendPulse(coid, 25, 1, 25);
    /* Nothing is received before all have sent: they are about to, and then they get the time for it. */
    while (__atomic_load_n(&ready, __ATOMIC_SEQ_CST) < 5)
        sched_yield();
    delay(300);
    for (int i = 0; i < 6; i++) {
        int rcvid = MsgReceive(chid, &msg, sizeof msg, &info);
        if (rcvid == 0)
            printf("pulse %d\n", msg.pulse.value.sival_int);
        else
            printf("message %d priority %d\n", msg.number, info.priority);
        if (rcvid > 0)
            MsgReply(rcvid, 0, NULL, 0);
    }
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
    return 0;
}
