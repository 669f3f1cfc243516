/*
 * thread_pool.c - one channel, several server threads, several client threads: every message is answered once.
 */
#include "roles.h"

#define SERVERS 4
#define CLIENTS 8
#define MESSAGES 200

static int chid;
static long served[SERVERS];

static void *worker(void *arg)
{
    long *mine = arg;
    char small[4];
    /* A buffer that cannot hold a pulse is an error at once. */
    if (MsgReceive(chid, small, sizeof small, NULL) != -1 || errno != EFAULT)
        abort();
    for (;;) {
        union {
            int number;
            struct _pulse pulse;
        } msg;
        int rcvid = MsgReceive(chid, &msg, sizeof msg, NULL);
        if (rcvid == -1)
            return NULL;
        if (rcvid == 0) {
            /* One pulse ends one thread. */
            return NULL;
        }
        (*mine)++;
        MsgReply(rcvid, msg.number + 1, NULL, 0);
    }
}

static void server(int channel)
{
    pthread_t workers[SERVERS];
    long all = 0;
    chid = channel;
    for (int i = 0; i < SERVERS; i++)
        pthread_create(&workers[i], NULL, worker, &served[i]);
    for (int i = 0; i < SERVERS; i++) {
        pthread_join(workers[i], NULL);
        all += served[i];
    }
    printf("%ld messages served\n", all);
}

struct asking {
    int coid, first;
    long wrong;
};

static void *ask(void *arg)
{
    struct asking *asking = arg;
    for (int number = asking->first; number < asking->first + MESSAGES; number++) {
        if (MsgSend(asking->coid, &number, sizeof number, NULL, 0) != number + 1)
            asking->wrong++;
    }
    return NULL;
}

static void client(int coid)
{
    struct asking asking[CLIENTS];
    pthread_t threads[CLIENTS];
    long wrong = 0;
    for (int i = 0; i < CLIENTS; i++) {
        asking[i] = (struct asking){coid, i * MESSAGES, 0};
        pthread_create(&threads[i], NULL, ask, &asking[i]);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(threads[i], NULL);
        wrong += asking[i].wrong;
    }
    printf("%ld wrong answers\n", wrong);
    for (int i = 0; i < SERVERS; i++)
        MUST(MsgSendPulse(coid, 10, 1, 0));
}

int main(int argc, char **argv)
{
    return play(&(struct roles){0, server, client}, argc, argv);
}
