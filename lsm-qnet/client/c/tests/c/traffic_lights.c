/*
 * traffic_lights.c - the course's project: intersections with a timer each, and a controller that asks them for their state
 * and may hold one of them for a train. An intersection has a name; the controller finds it on this node or another.
 *
 *   traffic_lights intersection NAME
 *   traffic_lights controller NAME...      each NAME local, or /net/NODE/dev/name/local/NAME
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/dispatch.h>
#include <sys/iomsg.h>
#include <sys/netmgr.h>
#include <sys/neutrino.h>
#include <time.h>
#include <unistd.h>

#define MSG_STATE (_IO_MAX + 1)
#define MSG_HOLD (_IO_MAX + 2)
#define MSG_GO (_IO_MAX + 3)
#define MSG_STOP (_IO_MAX + 4)
#define PULSE_TICK _PULSE_CODE_MINAVAIL

enum state { RED_RED, GREEN_RED, YELLOW_RED, RED_GREEN, RED_YELLOW, STATES };

static const char *const names[STATES] = {"all red", "north-south green", "north-south yellow", "east-west green", "east-west yellow"};

typedef struct {
    struct _pulse header; /* the usual way to make room for a pulse */
    int state;
    int held;
    unsigned changes;
} report_t;

typedef union {
    _Uint16t type;
    struct _pulse pulse;
    struct {
        _Uint16t type;
        _Uint16t subtype;
        unsigned until;
    } ask;
} message_t;

/* A client that asked for a number of changes waits until there were so many. */
static int waiting;
static unsigned wanted;

static void fill(report_t *report, enum state state, int held, unsigned changes)
{
    memset(report, 0, sizeof *report);
    report->state = state;
    report->held = held;
    report->changes = changes;
}

static int intersection(const char *name)
{
    name_attach_t *attach = name_attach(NULL, name, 0);
    struct sigevent event;
    struct itimerspec period = {{0, 5000000}, {0, 5000000}};
    timer_t timer;
    enum state state = RED_RED;
    unsigned changes = 0;
    int held = 0;
    report_t report;

    if (attach == NULL) {
        perror(name);
        return EXIT_FAILURE;
    }
    int self = ConnectAttach(ND_LOCAL_NODE, 0, attach->chid, _NTO_SIDE_CHANNEL, 0);
    SIGEV_PULSE_INIT(&event, self, 20, PULSE_TICK, 0);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) == -1)
        return EXIT_FAILURE;
    timer_settime(timer, 0, &period, NULL);
    printf("ready\n");
    for (;;) {
        message_t msg;
        int rcvid = MsgReceive(attach->chid, &msg, sizeof msg, NULL);
        if (rcvid == -1)
            return EXIT_FAILURE;
        if (rcvid == 0) {
            if (msg.pulse.code == PULSE_TICK && !held) {
                state = (enum state)((state + 1) % STATES);
                changes++;
            } else if (msg.pulse.code == _PULSE_CODE_UNBLOCK) {
                MsgError(msg.pulse.value.sival_int, EINTR);
            } else if (msg.pulse.code == _PULSE_CODE_DISCONNECT) {
                ConnectDetach(msg.pulse.scoid);
            }
            if (waiting && changes >= wanted) {
                fill(&report, state, held, changes);
                MsgReply(waiting, EOK, &report, sizeof report);
                waiting = 0;
            }
            continue;
        }
        switch (msg.type) {
        case _IO_CONNECT: MsgReply(rcvid, EOK, NULL, 0); break;
        case MSG_STATE:
            waiting = rcvid;
            wanted = changes + msg.ask.until;
            break;
        case MSG_HOLD:
        case MSG_GO:
            held = msg.type == MSG_HOLD;
            if (held)
                state = RED_RED;
            fill(&report, state, held, changes);
            MsgReply(rcvid, EOK, &report, sizeof report);
            break;
        case MSG_STOP:
            MsgReply(rcvid, EOK, NULL, 0);
            timer_delete(timer);
            name_detach(attach, 0);
            return EXIT_SUCCESS;
        default: MsgError(rcvid, ENOSYS);
        }
    }
}

static long ask(int coid, _Uint16t type, unsigned until, report_t *report)
{
    message_t msg;
    memset(&msg, 0, sizeof msg);
    msg.ask.type = type;
    msg.ask.until = until;
    return MsgSend(coid, &msg, sizeof msg, report, report ? sizeof *report : 0);
}

static int controller(int count, char **where)
{
    int coids[8];
    for (int i = 0; i < count; i++)
        if ((coids[i] = name_open(where[i], 0)) == -1) {
            perror(where[i]);
            return EXIT_FAILURE;
        }
    for (int i = 0; i < count; i++) {
        report_t first, second;
        if (ask(coids[i], MSG_STATE, 1, &first) == -1 || ask(coids[i], MSG_STATE, STATES, &second) == -1)
            return EXIT_FAILURE;
        printf("intersection %d: runs %d, every state in turn %d\n", i + 1, second.changes > first.changes,
               (second.state - first.state + (int)(STATES * 1000)) % STATES == (int)((second.changes - first.changes) % STATES));
        ask(coids[i], MSG_HOLD, 0, &first);
        printf("intersection %d: a train comes: %s\n", i + 1, names[first.state]);
        /* While it is held its timer changes nothing. */
        delay(30);
        ask(coids[i], MSG_HOLD, 0, &second);
        printf("intersection %d: still %s, held %d, changes meanwhile %u\n", i + 1, names[second.state], second.held,
               second.changes - first.changes);
        ask(coids[i], MSG_GO, 0, &first);
        ask(coids[i], MSG_STATE, 1, &second);
        printf("intersection %d: the train is gone: %s\n", i + 1, second.changes > first.changes ? "it goes on" : "it stands");
        printf("intersection %d: unknown order: %s\n", i + 1, ask(coids[i], _IO_MAX + 9, 0, &first) == -1 && errno == ENOSYS ? "ENOSYS" : "taken");
    }
    for (int i = 0; i < count; i++) {
        ask(coids[i], MSG_STOP, 0, NULL);
        name_close(coids[i]);
    }
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 3 && strcmp(argv[1], "intersection") == 0)
        return intersection(argv[2]);
    if (argc >= 3 && argc <= 10 && strcmp(argv[1], "controller") == 0)
        return controller(argc - 2, argv + 2);
    fprintf(stderr, "usage: traffic_lights intersection NAME | controller NAME...\n");
    return EXIT_FAILURE;
}
