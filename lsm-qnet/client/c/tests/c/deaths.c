/*
 * deaths.c - who hears of whose end: DISCONNECT, COIDDEATH and THREADDEATH pulses, and the errors of those who waited.
 *
 * The server kills itself while a client waits, so the two are always processes of their own: see roles.h.
 */
#include <signal.h>
#include <sys/wait.h>

#include "roles.h"

/* A child of the client sends a pulse and is gone; a client that asks is told whether that was noticed. */
static void server(int chid)
{
    union {
        char text[64];
        struct _pulse pulse;
    } msg;
    int child = -1, gone = 0;
    for (;;) {
        rcvid_t rcvid = MUST(MsgReceive(chid, &msg, sizeof msg, NULL));
        if (rcvid > 0 && strcmp(msg.text, "die") == 0)
            raise(SIGKILL);
        if (rcvid > 0) {
            MUST(MsgReply(rcvid, gone, NULL, 0));
        } else if (msg.pulse.code == 3) {
            printf("pulse of a child: %d\n", msg.pulse.value.sival_int);
            child = msg.pulse.scoid;
        } else if (msg.pulse.code == _PULSE_CODE_DISCONNECT) {
            printf("disconnect of the same client: %d\n", msg.pulse.scoid == child);
            printf("its number is given back: %d\n", ConnectDetach(msg.pulse.scoid));
            gone++;
        }
    }
}

static struct _pulse wait_for(int chid, int code)
{
    struct _pulse pulse;
    uint64_t patience = 50000000000u;
    struct sigevent unblock;
    SIGEV_UNBLOCK_INIT(&unblock);
    do {
        TimerTimeout(CLOCK_MONOTONIC, _NTO_TIMEOUT_RECEIVE, &unblock, &patience, NULL);
        if (MsgReceivePulse(chid, &pulse, sizeof pulse, NULL) == -1) {
            printf("no pulse %d\n", code);
            memset(&pulse, 0, sizeof pulse);
            break;
        }
    } while (pulse.code != code);
    return pulse;
}

static void child_comes_and_goes(int coid)
{
    struct _server_info info;
    int status;
    MUST(ConnectServerInfo(0, coid, &info));
    pid_t pid = fork();
    if (pid == 0) {
        int own = ConnectAttach((uint32_t)info.nd, info.pid, info.chid, _NTO_SIDE_CHANNEL, 0);
        _exit(own == -1 || MsgSendPulse(own, 10, 3, 33) == -1);
    }
    waitpid(pid, &status, 0);
    while (MUST(MsgSend(coid, "gone?", 6, NULL, 0)) == 0)
        delay(1);
}

static void *nothing(void *arg)
{
    return arg;
}

static void client(int coid)
{
    int own = (int)MUST(ChannelCreate(_NTO_CHF_COID_DISCONNECT | _NTO_CHF_THREAD_DEATH));
    struct _server_info info;
    struct _pulse pulse;
    pthread_t thread;

    printf("served: %ld\n", MUST(MsgSend(coid, "first", 6, NULL, 0)));
    child_comes_and_goes(coid);
    printf("died meanwhile: %s\n", error_name((int)-MsgSend_r(coid, "die", 4, NULL, 0)));
    pulse = wait_for(own, _PULSE_CODE_COIDDEATH);
    printf("coid death names the connection: %d\n", pulse.value.sival_int == coid);
    printf("afterwards: %s\n", error_name((int)-MsgSend_r(coid, "three", 6, NULL, 0)));
    printf("it is marked: %d\n", ConnectServerInfo(0, coid, &info) == coid && (info.flags & _NTO_COF_DEAD) != 0);
    printf("detached: %d\n", ConnectDetach(coid));

    pthread_create(&thread, NULL, nothing, NULL);
    pthread_join(thread, NULL);
    pulse = wait_for(own, _PULSE_CODE_THREADDEATH);
    printf("thread death: %d\n", pulse.value.sival_int > 0);
}

int main(int argc, char **argv)
{
    return play(&(struct roles){_NTO_CHF_DISCONNECT, server, client}, argc, argv);
}
