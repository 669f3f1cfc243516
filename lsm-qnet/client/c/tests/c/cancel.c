/*
 * cancel.c - threads that wait for a message or a reply are cancelled there; the forms without cancellation go on.
 */
#include "roles.h"

static volatile int cleaned;
static int to_server;

/* Holds what it is asked to hold; a pulse answers the last of it, and any other message asks how much it was. */
static void server(int chid)
{
    union {
        char text[64];
        struct _pulse pulse;
    } msg;
    int held = 0, count = 0;
    for (;;) {
        int rcvid = (int)MUST(MsgReceive(chid, &msg, sizeof msg, NULL));
        if (rcvid == 0) {
            MUST(MsgReply(held, 9, NULL, 0));
        } else if (strcmp(msg.text, "hold") == 0) {
            held = rcvid;
            count++;
        } else {
            MUST(MsgReply(rcvid, count, NULL, 0));
            if (strcmp(msg.text, "end") == 0)
                return;
        }
    }
}

static void cleanup(void *arg)
{
    (void)arg;
    cleaned++;
}

static void *receiver(void *arg)
{
    char text[64];
    pthread_cleanup_push(cleanup, NULL);
    MsgReceive(*(int *)arg, text, sizeof text, NULL);
    pthread_cleanup_pop(0);
    return arg;
}

static void *sender(void *arg)
{
    pthread_cleanup_push(cleanup, NULL);
    MsgSend(to_server, "hold", 5, NULL, 0);
    pthread_cleanup_pop(0);
    return arg;
}

static void *stubborn(void *arg)
{
    long status;
    pthread_cleanup_push(cleanup, NULL);
    do
        status = MsgSendnc(to_server, "hold", 5, NULL, 0);
    while (status == -1 && errno == EINTR);
    *(long *)arg = status;
    pthread_testcancel();
    pthread_cleanup_pop(0);
    return arg;
}

/* Starts a thread and cancels it when the server holds so many messages; then, if asked to, the last is answered. */
static void cancel(const char *what, void *(*function)(void *), void *argument, int held, int answer)
{
    pthread_t thread;
    void *result;
    pthread_create(&thread, NULL, function, argument);
    while (MUST(MsgSend(to_server, "held?", 6, NULL, 0)) < held)
        delay(1);
    pthread_cancel(thread);
    if (answer)
        MUST(MsgSendPulse(to_server, 10, 1, 0));
    pthread_join(thread, &result);
    printf("%s: cancelled %d, cleaned up %d\n", what, result == PTHREAD_CANCELED, cleaned);
}

static void client(int coid)
{
    long status = 0;
    int chid = (int)MUST(ChannelCreate(0));
    int self = (int)MUST(ConnectAttach(0, 0, chid, _NTO_SIDE_CHANNEL, 0));
    to_server = coid;
    cancel("MsgReceive", receiver, &chid, 0, 0);
    cancel("MsgSend", sender, NULL, 1, 0);
    cancel("MsgSendnc", stubborn, &status, 2, 1);
    printf("its answer came: %ld\n", status);
    printf("the channel still works: %d\n", MsgSendPulse(self, 10, 1, 1) == 0 && receiver(&chid) == &chid);
    MUST(MsgSend(coid, "end", 4, NULL, 0));
}

int main(int argc, char **argv)
{
    return play(&(struct roles){0, server, client}, argc, argv);
}
