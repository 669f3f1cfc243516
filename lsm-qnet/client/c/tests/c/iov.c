/*
 * iov.c - the course's exercise on vectors: a header and its data go out of two places, the server reads the header first
 * and the data into the blocks of its cache, and answers out of both.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/neutrino.h>

#define BLOCK 16

typedef struct {
    _Uint16t type;
    _Uint16t zero;
    int nbytes;
    int pad[4];
} header_t;

static int chid;

static void *server(void *arg)
{
    header_t header;
    struct _msg_info info;
    char cache[4][BLOCK];
    iov_t iov[4];
    (void)arg;
    int rcvid = MsgReceive(chid, &header, sizeof header, &info);
    printf("header says %d, message has %d more than was received\n", header.nbytes, (int)(info.srcmsglen - info.msglen));
    for (int i = 0; i < 4; i++)
        SETIOV(&iov[i], cache[3 - i], BLOCK);
    memset(cache, '.', sizeof cache);
    printf("read %d\n", (int)MsgReadv(rcvid, iov, 4, sizeof header));
    for (int i = 0; i < 4; i++)
        printf("block %d: %.16s\n", i, cache[i]);
    printf("read at the end: %d\n", (int)MsgRead(rcvid, cache[0], BLOCK, sizeof header + 36));
    printf("read behind it: %d\n", (int)MsgRead(rcvid, cache[0], BLOCK, 1000));
    SETIOV(&iov[0], &header, sizeof header);
    SETIOV(&iov[1], cache[3], 10);
    MsgReplyv(rcvid, header.nbytes, iov, 2);
    return NULL;
}

int main(void)
{
    pthread_t thread;
    header_t header = {.type = 0x200, .nbytes = 40}, answer;
    char data[41] = "0123456789abcdefghijklmnopqrstuvwxyzABCD", text[20];
    iov_t siov[2], riov[3];
    chid = ChannelCreate(_NTO_CHF_SENDER_LEN | _NTO_CHF_REPLY_LEN);
    int coid = ConnectAttach(0, 0, chid, _NTO_SIDE_CHANNEL, 0);
    pthread_create(&thread, NULL, server, NULL);
    SETIOV(&siov[0], &header, sizeof header);
    SETIOV(&siov[1], data, 40);
    SETIOV(&riov[0], &answer, sizeof answer);
    SETIOV(&riov[1], text, 4);
    SETIOV(&riov[2], text + 10, 10);
    memset(text, '-', sizeof text);
    printf("status %ld\n", MsgSendv(coid, siov, 2, riov, 3));
    printf("type %x, text %.20s\n", answer.type, text);
    printf("the lengths again: %d %d\n", (int)GETIOVLEN(&riov[2]), GETIOVBASE(&riov[1]) == (void *)text);
    pthread_join(thread, NULL);
    return 0;
}
