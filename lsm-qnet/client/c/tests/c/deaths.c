/*
 * deaths.c - who hears of whose end: DISCONNECT, COIDDEATH and THREADDEATH pulses, and the errors of those who waited.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/neutrino.h>
#include <sys/wait.h>
#include <unistd.h>

static struct _pulse wait_for(int chid, int code)
{
    struct _pulse pulse;
    uint64_t patience = 20000000000u;
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

static void *nothing(void *arg)
{
    return arg;
}

/* A child that serves one message of the parent's and then dies of SIGKILL while the second one waits. */
static pid_t child(int to_parent)
{
    pid_t pid = fork();
    if (pid == 0) {
        char text[64];
        int chid = ChannelCreate(0);
        if (write(to_parent, &chid, sizeof chid) != sizeof chid)
            _exit(1);
        int rcvid = MsgReceive(chid, text, sizeof text, NULL);
        MsgReply(rcvid, 1, NULL, 0);
        MsgReceive(chid, text, sizeof text, NULL);
        raise(SIGKILL);
    }
    return pid;
}

int main(void)
{
    int own = ChannelCreate(_NTO_CHF_DISCONNECT | _NTO_CHF_COID_DISCONNECT | _NTO_CHF_THREAD_DEATH);
    int pipes[2], chid, status;
    struct _pulse pulse;
    pthread_t thread;

    if (pipe(pipes) == -1)
        return 1;
    pid_t pid = child(pipes[1]);
    if (read(pipes[0], &chid, sizeof chid) != sizeof chid)
        return 1;
    int coid = ConnectAttach(0, pid, chid, _NTO_SIDE_CHANNEL, 0);
    printf("served: %ld\n", MsgSend(coid, "one", 4, NULL, 0));
    printf("died meanwhile: %s\n", MsgSend(coid, "two", 4, NULL, 0) == -1 && errno == ESRCH ? "ESRCH" : strerror(errno));
    printf("afterwards: %s\n", MsgSend(coid, "three", 6, NULL, 0) == -1 && errno == EBADF ? "EBADF" : strerror(errno));
    waitpid(pid, &status, 0);
    pulse = wait_for(own, _PULSE_CODE_COIDDEATH);
    printf("coid death names the connection: %d\n", pulse.value.sival_int == coid);
    struct _server_info info;
    printf("it is marked: %d\n", ConnectServerInfo(0, coid, &info) == coid && (info.flags & _NTO_COF_DEAD) != 0);
    printf("detached: %d\n", ConnectDetach(coid));

    pid = fork();
    if (pid == 0) {
        int to_parent = ConnectAttach(0, getppid(), own, _NTO_SIDE_CHANNEL, 0);
        MsgSendPulse(to_parent, 10, 3, 33);
        _exit(to_parent == -1);
    }
    pulse = wait_for(own, 3);
    printf("pulse of a child: %d\n", pulse.value.sival_int);
    int client = pulse.scoid;
    waitpid(pid, &status, 0);
    pulse = wait_for(own, _PULSE_CODE_DISCONNECT);
    printf("disconnect of the same client: %d\n", pulse.scoid == client);
    printf("its number is given back: %d\n", ConnectDetach(pulse.scoid));

    pthread_create(&thread, NULL, nothing, NULL);
    pthread_join(thread, NULL);
    pulse = wait_for(own, _PULSE_CODE_THREADDEATH);
    printf("thread death: %d\n", pulse.value.sival_int > 0);
    return 0;
}
