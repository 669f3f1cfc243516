/*
 * queue.c - a message queue that sends a pulse when it is no longer empty.
 */
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <sys/neutrino.h>
#include <unistd.h>

int main(void)
{
    struct mq_attr attr = {.mq_maxmsg = 4, .mq_msgsize = 16};
    char name[64], text[16];
    struct sigevent event;
    struct _pulse pulse;
    snprintf(name, sizeof name, "/qnet-test-%d", (int)getpid());
    mqd_t queue = mq_open(name, O_CREAT | O_RDWR, 0600, &attr);
    if (queue == (mqd_t)-1) {
        perror("mq_open");
        return 1;
    }
    mq_unlink(name);
    int chid = ChannelCreate(0), coid = ConnectAttach(0, 0, chid, _NTO_SIDE_CHANNEL, 0);
    SIGEV_PULSE_INIT(&event, coid, 10, 4, 44);
    for (int i = 0; i < 2; i++) {
        printf("asked %d\n", mq_notify(queue, &event));
        mq_send(queue, "hello", 6, 0);
        printf("pulse %d", MsgReceivePulse(chid, &pulse, sizeof pulse, NULL));
        printf(" value %d\n", pulse.value.sival_int);
        printf("message of %d\n", (int)mq_receive(queue, text, sizeof text, NULL));
    }
    printf("asked %d", mq_notify(queue, &event));
    printf(", taken back %d\n", mq_notify(queue, NULL));
    return 0;
}
