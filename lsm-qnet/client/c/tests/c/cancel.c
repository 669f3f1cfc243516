/*
 * cancel.c - threads that wait for a message, a pulse or a reply are cancelled there; the forms without cancellation go on.
 */
#include <pthread.h>
#include <stdio.h>
#include <sys/neutrino.h>
#include <unistd.h>

static int chid, coid, silent, to_silent;
static volatile int cleaned;

static void cleanup(void *arg)
{
    (void)arg;
    cleaned++;
}

static void *receiver(void *arg)
{
    char text[64];
    pthread_cleanup_push(cleanup, NULL);
    MsgReceive(chid, text, sizeof text, NULL);
    pthread_cleanup_pop(0);
    return arg;
}

static void *sender(void *arg)
{
    pthread_cleanup_push(cleanup, NULL);
    MsgSend(to_silent, "x", 2, NULL, 0);
    pthread_cleanup_pop(0);
    return arg;
}

static void *stubborn(void *arg)
{
    long status;
    pthread_cleanup_push(cleanup, NULL);
    do
        status = MsgSendnc(to_silent, "x", 2, NULL, 0);
    while (status == -1 && errno == EINTR);
    *(long *)arg = status;
    pthread_testcancel();
    pthread_cleanup_pop(0);
    return arg;
}

static void cancel(const char *what, void *(*function)(void *), long *argument, int answer)
{
    pthread_t thread;
    void *result;
    char text[64];
    int rcvid = 0;
    pthread_create(&thread, NULL, function, argument);
    if (answer)
        rcvid = MsgReceive(silent, text, sizeof text, NULL);
    else
        delay(50);
    pthread_cancel(thread);
    if (answer) {
        delay(50);
        MsgReply(rcvid, 9, NULL, 0);
    }
    pthread_join(thread, &result);
    printf("%s: cancelled %d, cleaned up %d\n", what, result == PTHREAD_CANCELED, cleaned);
}

int main(void)
{
    long status = 0;
    chid = ChannelCreate(0);
    silent = ChannelCreate(0);
    coid = ConnectAttach(0, 0, chid, _NTO_SIDE_CHANNEL, 0);
    to_silent = ConnectAttach(0, 0, silent, _NTO_SIDE_CHANNEL, 0);
    cancel("MsgReceive", receiver, NULL, 0);
    cancel("MsgSend", sender, NULL, 0);
    /* The cancelled sender's message is gone, so the next one is the stubborn thread's. */
    cancel("MsgSendnc", stubborn, &status, 1);
    printf("its answer came: %ld\n", status);
    printf("the channel still works: %d\n", MsgSendPulse(coid, 10, 1, 1) == 0 && receiver(NULL) == NULL);
    return 0;
}
