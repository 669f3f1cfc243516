/*
 * thread_pool.c - one channel, several server threads, several client threads: every message is answered once.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/neutrino.h>

#define SERVERS 4
#define CLIENTS 8
#define MESSAGES 200

static int chid;
static long served[SERVERS];

static void *server(void *arg)
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

static void *client(void *arg)
{
    long wrong = 0;
    int coid = ConnectAttach(0, 0, chid, _NTO_SIDE_CHANNEL, 0);
    for (int i = 0; i < MESSAGES; i++) {
        int number = (int)(size_t)arg * MESSAGES + i;
        if (MsgSend(coid, &number, sizeof number, NULL, 0) != number + 1)
            wrong++;
    }
    ConnectDetach(coid);
    return (void *)wrong;
}

int main(void)
{
    pthread_t servers[SERVERS], clients[CLIENTS];
    long wrong = 0, all = 0;
    chid = ChannelCreate(0);
    for (int i = 0; i < SERVERS; i++)
        pthread_create(&servers[i], NULL, server, &served[i]);
    for (size_t i = 0; i < CLIENTS; i++)
        pthread_create(&clients[i], NULL, client, (void *)i);
    for (int i = 0; i < CLIENTS; i++) {
        void *result;
        pthread_join(clients[i], &result);
        wrong += (long)result;
    }
    int coid = ConnectAttach(0, 0, chid, _NTO_SIDE_CHANNEL, 0);
    for (int i = 0; i < SERVERS; i++)
        MsgSendPulse(coid, 10, 1, 0);
    for (int i = 0; i < SERVERS; i++) {
        pthread_join(servers[i], NULL);
        all += served[i];
    }
    printf("%ld messages served, %ld wrong answers\n", all, wrong);
    return 0;
}
