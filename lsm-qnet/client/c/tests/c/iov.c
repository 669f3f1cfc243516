/*
 * iov.c - the course's exercise on vectors: a header and its data go out of two places, the server reads the header first
 * and the data into the blocks of its cache, and answers out of both.
 */
#include "roles.h"

#define BLOCK 16

typedef struct {
    _Uint16t type;
    _Uint16t zero;
    int nbytes;
    int pad[4];
} header_t;

static void server(int chid)
{
    header_t header;
    struct _msg_info info;
    char cache[4][BLOCK];
    iov_t iov[4];
    int rcvid = MsgReceive(chid, &header, sizeof header, &info);
    printf("header says %d, message has %d more than the header\n", header.nbytes, (int)(info.srcmsglen - sizeof header));
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
}

static void client(int coid)
{
    header_t header = {.type = 0x200, .nbytes = 40}, answer;
    char data[41] = "0123456789abcdefghijklmnopqrstuvwxyzABCD", text[20];
    iov_t siov[2], riov[3];
    SETIOV(&siov[0], &header, sizeof header);
    SETIOV(&siov[1], data, 40);
    SETIOV(&riov[0], &answer, sizeof answer);
    SETIOV(&riov[1], text, 4);
    SETIOV(&riov[2], text + 10, 10);
    memset(text, '-', sizeof text);
    printf("status %ld\n", MsgSendv(coid, siov, 2, riov, 3));
    printf("type %x, text %.20s\n", answer.type, text);
    printf("the lengths again: %d %d\n", (int)GETIOVLEN(&riov[2]), GETIOVBASE(&riov[1]) == (void *)text);
}

int main(int argc, char **argv)
{
    return play(&(struct roles){_NTO_CHF_SENDER_LEN | _NTO_CHF_REPLY_LEN, server, client}, argc, argv);
}
