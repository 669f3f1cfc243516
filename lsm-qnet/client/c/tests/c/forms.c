/*
 * forms.c - the forms of the calls that courses rarely show: every mixture of one buffer and vectors, not cancellation points,
 * with the error in the result (_r), pulses into vectors and with a pointer, and what the overlay headers give.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/neutrino.h>
#include <time.h>

#include "check.h"

enum { MESSAGES = 12 };

static int chid;

/* Answers each message with its own text in two parts; the last with an error. */
static void *server(void *arg)
{
    union {
        char text[8];
        struct _pulse pulse;
    } msg;
    char head[4], rest[4];
    iov_t room[1], iov[2], answer[2];
    struct _msg_info info;
    /* The first part has room for a pulse, always. */
    SETIOV(&room[0], &msg, sizeof msg);
    SETIOV(&iov[0], head, sizeof head);
    SETIOV(&iov[1], rest, sizeof rest);
    for (int i = 0; i < MESSAGES; i++) {
        rcvid_t rcvid = i % 2 ? MsgReceivev(chid, room, 1, NULL) : MsgReceivev_r(chid, room, 1, NULL);
        CHECK(rcvid > 0 && memcmp(msg.text, "headbody", 8) == 0);
        CHECK(MsgInfo_r(rcvid, &info) == EOK && info.msglen == 8);
        CHECK(MsgReadv_r(rcvid, iov, 2, 0) == 8 && MsgRead_r(rcvid, rest, sizeof rest, 4) == 4);
        CHECK(MsgWrite_r(rcvid, "....----", 8, 0) == 8);
        SETIOV(&answer[0], rest, 4);
        SETIOV(&answer[1], head, 4);
        CHECK(MsgWritev_r(rcvid, answer, 1, 0) == 4);
        if (i == MESSAGES - 1)
            CHECK(MsgError_r(rcvid, EPERM) == EOK && MsgError_r(rcvid, EPERM) == -ESRCH);
        else if (i % 2)
            CHECK(MsgReplyv_r(rcvid, 100 + i, answer, 2) == EOK && MsgReplyv_r(rcvid, 0, answer, 2) == -ESRCH);
        else
            CHECK(MsgReplyv(rcvid, 100 + i, answer, 2) == EOK);
    }
    return arg;
}

static void told(const char *form, long status, char *reply)
{
    printf("%s: %ld %.8s\n", form, status, reply);
    memset(reply, 0, 8);
}

static void messages(int coid)
{
    char reply[8] = "", text[] = "headbody";
    iov_t out[2], in[2];
    SETIOV(&out[0], text, 4);
    SETIOV(&out[1], text + 4, 4);
    SETIOV(&in[0], reply, 2);
    SETIOV(&in[1], reply + 2, 6);
    told("MsgSend_r", MsgSend_r(coid, text, 8, reply, 8), reply);
    told("MsgSendnc_r", MsgSendnc_r(coid, text, 8, reply, 8), reply);
    told("MsgSendsv", MsgSendsv(coid, text, 8, in, 2), reply);
    told("MsgSendsv_r", MsgSendsv_r(coid, text, 8, in, 2), reply);
    told("MsgSendsvnc", MsgSendsvnc(coid, text, 8, in, 2), reply);
    told("MsgSendvs_r", MsgSendvs_r(coid, out, 2, reply, 8), reply);
    told("MsgSendvsnc", MsgSendvsnc(coid, out, 2, reply, 8), reply);
    told("MsgSendvsnc_r", MsgSendvsnc_r(coid, out, 2, reply, 8), reply);
    told("MsgSendv_r", MsgSendv_r(coid, out, 2, in, 2), reply);
    told("MsgSendvnc", MsgSendvnc(coid, out, 2, in, 2), reply);
    told("MsgSendvnc_r", MsgSendvnc_r(coid, out, 2, in, 2), reply);
    printf("refused: %s\n", error_name((int)-MsgSendsvnc_r(coid, text, 8, in, 2)));
    printf("nobody: %s\n", error_name((int)-MsgSendsvnc_r(4711, text, 8, in, 2)));
}

static void pulses(int coid)
{
    struct _pulse pulse;
    iov_t iov[1];
    SETIOV(&iov[0], &pulse, sizeof pulse);
    MUST(MsgSendPulsePtr(coid, 10, 1, &pulse));
    CHECK(MsgReceivePulsev(chid, iov, 1, NULL) == 0 && pulse.value.sival_ptr == &pulse);
    CHECK(MsgSendPulsePtr_r(coid, 10, 2, &coid) == EOK);
    CHECK(MsgReceivePulsev_r(chid, iov, 1, NULL) == 0 && pulse.code == 2 && pulse.value.sival_ptr == &coid);
    CHECK(MsgSendPulse_r(coid, 10, 3, 7) == EOK);
    CHECK(MsgReceivePulse_r(chid, &pulse, sizeof pulse, NULL) == 0 && pulse.value.sival_int == 7);
    printf("a code of the system's: %s\n", error_name(-MsgSendPulsePtr_r(coid, 10, -1, NULL)));
}

static void timers(int coid)
{
    struct sigevent event;
    struct _itimer time = {.nsec = 1000000}, before;
    struct _pulse pulse;
    uint64_t wait = 1000000;
    SIGEV_PULSE_INIT(&event, coid, 10, 4, 5);
    int timer = TimerCreate_r(CLOCK_MONOTONIC, &event);
    CHECK(timer >= 0 && TimerSettime_r(timer, 0, &time, &before) == EOK);
    CHECK(MsgReceivePulse(chid, &pulse, sizeof pulse, NULL) == 0 && pulse.code == 4);
    printf("overruns: %d\n", timer_getoverrun(timer));
    MUST(timer_delete(timer));
    printf("no timer: %s\n", error_name(-TimerSettime_r(timer, 0, &time, NULL)));
    SIGEV_UNBLOCK_INIT(&event);
    CHECK(TimerTimeout_r(CLOCK_MONOTONIC, _NTO_TIMEOUT_RECEIVE, &event, &wait, NULL) == EOK);
    printf("TimerTimeout_r: %s\n", error_name((int)-MsgReceive_r(chid, &pulse, sizeof pulse, NULL)));
    CHECK(timer_timeout_r(CLOCK_MONOTONIC, _NTO_TIMEOUT_RECEIVE, &event, &(struct timespec){0, 1000000}, NULL) == EOK);
    printf("timer_timeout_r: %s\n", error_name((int)-MsgReceive_r(chid, &pulse, sizeof pulse, NULL)));
}

static void scheduling(void)
{
    struct sched_param param = {.sched_priority = 10};
    char name[16];
    int policy;
    printf("SchedSet_r %d\n", SchedSet_r(0, 0, SCHED_RR, &param));
    printf("SchedGet_r %d\n", SchedGet_r(0, 0, &param) == SCHED_RR);
    printf("sched_setscheduler %d\n", sched_setscheduler(0, SCHED_FIFO, &param) != -1);
    printf("sched_setparam %d, sched_getparam %d\n", sched_setparam(0, &param), sched_getparam(0, &param));
    printf("limits %d\n", sched_get_priority_min(SCHED_RR) < sched_get_priority_max(SCHED_RR));
    printf("pthread_setschedparam %d\n", pthread_setschedparam(pthread_self(), SCHED_RR, &param));
    printf("pthread_setschedprio %d\n", pthread_setschedprio(pthread_self(), 12));
    printf("priority %d\n", pthread_getschedparam(pthread_self(), &policy, &param) == EOK ? param.sched_priority : -1);
    printf("pthread_setname_np %d\n", pthread_setname_np(pthread_self(), "forms"));
    printf("name %s\n", pthread_getname_np(pthread_self(), name, sizeof name) == EOK ? name : "?");
    printf("ThreadCtl_r %s\n", error_name(-ThreadCtl_r(65, NULL)));
}

static void *alone(void *arg)
{
    MUST(MsgSendPulse(*(int *)arg, 10, 5, 0));
    return arg;
}

int main(void)
{
    pthread_t thread;
    struct _pulse pulse;
    CHECK((chid = ChannelCreate_r(0)) > 0);
    int coid = ConnectAttach_r(ND_LOCAL_NODE, 0, chid, _NTO_SIDE_CHANNEL, 0);
    CHECK(coid >= _NTO_SIDE_CHANNEL);
    CHECK(pthread_create(&thread, NULL, server, NULL) == EOK);
    messages(coid);
    pthread_join(thread, NULL);
    pulses(coid);
    timers(coid);
    /* Nobody wants its number. */
    CHECK(pthread_create(NULL, NULL, alone, &coid) == EOK);
    CHECK(MsgReceivePulse(chid, &pulse, sizeof pulse, NULL) == 0 && pulse.code == 5);
    scheduling();
    CHECK(ConnectDetach_r(coid) == EOK && ChannelDestroy_r(chid) == EOK);
    return 0;
}
