/*
 * name_server.c - the first exercise of every course: a server with a name, a client that finds it, messages and a pulse.
 *
 *   name_server server NAME
 *   name_server client NAME       NAME, or /net/NODE/dev/name/local/NAME
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/dispatch.h>
#include <sys/iomsg.h>
#include <sys/neutrino.h>

#define STOP_PULSE (_PULSE_CODE_MINAVAIL + 5)

typedef struct {
    _Uint16t type;
    _Uint16t subtype;
    int number;
} my_data_t;

typedef union {
    _Uint16t type;
    struct _pulse pulse;
    my_data_t data;
} my_message_t;

static int server(const char *name)
{
    name_attach_t *attach;
    my_message_t msg;
    int rcvid, running = 1;

    if ((attach = name_attach(NULL, name, 0)) == NULL) {
        perror("name_attach");
        return EXIT_FAILURE;
    }
    while (running) {
        rcvid = MsgReceive(attach->chid, &msg, sizeof(msg), NULL);
        if (rcvid == -1) {
            perror("MsgReceive");
            break;
        }
        if (rcvid == 0) {
            switch (msg.pulse.code) {
            case _PULSE_CODE_DISCONNECT:
                ConnectDetach(msg.pulse.scoid);
                printf("server: a client is gone\n");
                break;
            case STOP_PULSE:
                printf("server: stop pulse with value %d\n", msg.pulse.value.sival_int);
                running = 0;
                break;
            default:
                break;
            }
            continue;
        }
        if (msg.type == _IO_CONNECT) {
            MsgReply(rcvid, EOK, NULL, 0);
            continue;
        }
        if (msg.type > _IO_BASE && msg.type <= _IO_MAX) {
            MsgError(rcvid, ENOSYS);
            continue;
        }
        printf("server: number %d\n", msg.data.number);
        msg.data.number *= 2;
        MsgReply(rcvid, msg.data.number, &msg, sizeof(msg));
    }
    name_detach(attach, 0);
    return EXIT_SUCCESS;
}

static int client(const char *name)
{
    my_data_t msg = {.type = 0, .subtype = 0};
    my_message_t reply;
    int server_coid;

    if ((server_coid = name_open(name, 0)) == -1) {
        perror("name_open");
        return EXIT_FAILURE;
    }
    msg.type = _IO_MAX + 1;
    for (msg.number = 0; msg.number < 5; msg.number++) {
        long status = MsgSend(server_coid, &msg, sizeof(msg), &reply, sizeof(reply));
        if (status == -1) {
            perror("MsgSend");
            return EXIT_FAILURE;
        }
        printf("client: sent %d, status %ld, reply %d\n", msg.number, status, reply.data.number);
    }
    msg.type = _IO_STAT;
    if (MsgSend(server_coid, &msg, sizeof(msg), NULL, 0) == -1)
        printf("client: a message of the system: %s\n", errno == ENOSYS ? "ENOSYS" : strerror(errno));
    if (MsgSendPulse(server_coid, SIGEV_PULSE_PRIO_INHERIT, STOP_PULSE, 17) == -1)
        perror("MsgSendPulse");
    name_close(server_coid);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 3 && strcmp(argv[1], "server") == 0)
        return server(argv[2]);
    if (argc == 3 && strcmp(argv[1], "client") == 0)
        return client(argv[2]);
    fprintf(stderr, "usage: name_server server|client NAME\n");
    return EXIT_FAILURE;
}
