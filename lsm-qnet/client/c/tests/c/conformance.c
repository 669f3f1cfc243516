/*
 * conformance.c - one transcript of what message passing promises, whether the server is on this node or another.
 *
 *   conformance serve [NAME]       prints "pid chid" and serves until a client tells it to end
 *   conformance run NODE PID CHID  talks to that server (NODE: a descriptor or a name); the transcript goes to standard output
 *   conformance run NAME           the same by name: local, or /net/NODE/dev/name/local/NAME
 *   conformance run                both in one process
 *
 * Nothing in the transcript depends on where the two run: no numbers of processes, channels or nodes.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/dispatch.h>
#include <sys/netmgr.h>
#include <sys/neutrino.h>
#include <unistd.h>

#include "check.h"

enum { MESSAGE = 0x2000 };

enum order {
    ECHO,     /* reply with what was sent */
    STATUS,   /* reply with a status and nothing else */
    FAIL,     /* MsgError */
    SUM,      /* read everything in pieces, reply with the sum */
    PIECES,   /* write into the reply at offsets, backwards */
    PULSES,   /* reply with the pulses that came, in order */
    HOLD,     /* keep it; the next RELEASE answers it */
    RELEASE,  /* answer what is held, then this */
    EVENT,    /* deliver the event in the message, then reply */
    ABOUT,    /* tell what MsgInfo says */
    TWICE,    /* reply twice, send back what the second one gave with the next ECHO */
    UNBLOCK,  /* wait for the unblock pulse of the sender, then answer it with an error */
    END       /* end */
};

struct request {
    uint16_t type;
    uint16_t order;
    int32_t value;
    int64_t wide;
    struct sigevent event;
    char data[64];
};

struct about {
    uint32_t msglen, srcmsglen, dstmsglen, has_pid, has_scoid, priority;
};

/* ---- the server ---- */

static struct {
    int code, value;
} pulses[64];
static unsigned npulses;
static rcvid_t held;
static int second_reply;

static uint32_t sum(const unsigned char *bytes, size_t len, uint32_t so_far)
{
    while (len-- > 0)
        so_far = so_far * 31 + *bytes++;
    return so_far;
}

static void reply_with_sum(rcvid_t rcvid, const struct _msg_info *info)
{
    static unsigned char piece[5000];
    uint32_t total = 0;
    size_t at = 0;
    ssize_t got;
    while ((got = MUST(MsgRead(rcvid, piece, sizeof piece, at))) > 0) {
        total = sum(piece, (size_t)got, total);
        at += (size_t)got;
    }
    CHECK(at == info->srcmsglen);
    MUST(MsgReply(rcvid, (long)at, &total, sizeof total));
}

static void reply_in_pieces(rcvid_t rcvid)
{
    iov_t iov[2];
    SETIOV_CONST(&iov[0], "4", 1);
    SETIOV_CONST(&iov[1], "5678", 4);
    CHECK(MUST(MsgWrite(rcvid, "9abc", 4, 8)) == 4);
    CHECK(MUST(MsgWritev(rcvid, iov, 2, 3)) == 5);
    MUST(MsgReply(rcvid, 12, "123", 3));
}

static void reply_about(rcvid_t rcvid)
{
    struct _msg_info info;
    struct _client_info client;
    struct about about;
    MUST(MsgInfo(rcvid, &info));
    MUST(ConnectClientInfo(info.scoid, &client, 0));
    CHECK(client.pid == info.pid);
    about.msglen = (uint32_t)info.msglen;
    about.srcmsglen = (uint32_t)info.srcmsglen;
    about.dstmsglen = (uint32_t)info.dstmsglen;
    about.has_pid = info.pid > 0;
    about.has_scoid = info.scoid > 0;
    about.priority = (uint32_t)info.priority;
    MUST(MsgReply(rcvid, EOK, &about, sizeof about));
}

static void on_pulse(const struct _pulse *pulse)
{
    if (pulse->code == _PULSE_CODE_UNBLOCK) {
        /* Only what is still waited for is in the pulse, so this cannot fail. */
        MUST(MsgError(pulse->value.sival_int, ETIMEDOUT));
    } else if (pulse->code == _PULSE_CODE_DISCONNECT) {
        MUST(ConnectDetach(pulse->scoid));
    } else if (pulse->code >= 0 && npulses < 64) {
        pulses[npulses].code = pulse->code;
        pulses[npulses++].value = pulse->value.sival_int;
    }
}

/* Answers one message; 0 when it was the last. */
static int on_request(rcvid_t rcvid, const struct request *request, const struct _msg_info *info)
{
    switch (request->order) {
    case ECHO:
        MUST(MsgReply(rcvid, second_reply ? -second_reply : (long)info->msglen, request,
                      info->msglen < sizeof *request ? info->msglen : sizeof *request));
        second_reply = 0;
        break;
    case STATUS: MUST(MsgReply(rcvid, (long)request->wide, NULL, 0)); break;
    case FAIL: MUST(MsgError(rcvid, request->value)); break;
    case SUM: reply_with_sum(rcvid, info); break;
    case PIECES: reply_in_pieces(rcvid); break;
    case PULSES:
        MUST(MsgReply(rcvid, (long)npulses, pulses, npulses * sizeof pulses[0]));
        npulses = 0;
        break;
    case HOLD: held = rcvid; break;
    case RELEASE:
        if (held == 0) {
            MUST(MsgError(rcvid, EAGAIN));
            break;
        }
        MUST(MsgReply(held, 1, "held", 4));
        MUST(MsgReply(rcvid, 2, "last", 4));
        held = 0;
        break;
    case EVENT:
        MUST(MsgDeliverEvent(rcvid, &request->event));
        MUST(MsgReply(rcvid, EOK, NULL, 0));
        break;
    case ABOUT: reply_about(rcvid); break;
    case TWICE:
        MUST(MsgReply(rcvid, EOK, NULL, 0));
        CHECK(MsgReply(rcvid, EOK, NULL, 0) == -1);
        second_reply = errno;
        break;
    case UNBLOCK: break; /* on_pulse answers */
    case END: MUST(MsgReply(rcvid, EOK, NULL, 0)); return 0;
    default: MUST(MsgError(rcvid, ENOSYS));
    }
    return 1;
}

static void serve(int chid)
{
    union {
        struct request request;
        struct _pulse pulse;
    } message;
    struct _msg_info info;
    int more = 1;
    while (more) {
        rcvid_t rcvid = MsgReceive(chid, &message, sizeof message, &info);
        if (rcvid == -1 && errno == EINTR)
            continue;
        if (MUST(rcvid) == 0)
            on_pulse(&message.pulse);
        else if (message.request.type == _IO_CONNECT)
            MUST(MsgReply(rcvid, EOK, NULL, 0));
        else
            more = on_request(rcvid, &message.request, &info);
    }
}

static void *serve_in_thread(void *chid)
{
    serve(*(int *)chid);
    return NULL;
}

/* ---- the client ---- */

static struct request new_request(enum order order)
{
    struct request request;
    memset(&request, 0, sizeof request);
    request.type = MESSAGE;
    request.order = (uint16_t)order;
    return request;
}

static void lengths(int coid)
{
    struct request request = new_request(ECHO), reply;
    char small[4] = {0};
    strcpy(request.data, "hello");
    memset(&reply, 0xee, sizeof reply);
    printf("echo: status is the length: %d, ", MUST(MsgSend(coid, &request, sizeof request, &reply, sizeof reply)) == sizeof request);
    printf("the same bytes: %d\n", memcmp(&request, &reply, sizeof request) == 0);
    memset(&reply, 0xee, sizeof reply);
    printf("half a request: %ld\n", MUST(MsgSend(coid, &request, 40, &reply, sizeof reply)) - 40);
    printf("behind the reply: %02x\n", ((unsigned char *)&reply)[40]);
    printf("short reply buffer: status whole %d\n", MUST(MsgSend(coid, &request, sizeof request, small, sizeof small)) == sizeof request);
    printf("what fits: %d\n", memcmp(small, &request, sizeof small) == 0);
    printf("no reply buffer: %d\n", MUST(MsgSend(coid, &request, sizeof request, NULL, 0)) == sizeof request);
}

/* Most programs use one buffer for both ways. */
static void in_place(int coid)
{
    static unsigned char both[100000];
    struct request request = new_request(SUM);
    uint32_t total;
    memset(both, 7, sizeof both);
    memcpy(both, &request, sizeof request);
    uint32_t expected = sum(both, sizeof both, 0);
    printf("reply over the message: %d", MUST(MsgSend(coid, both, sizeof both, both, sizeof both)) == sizeof both);
    memcpy(&total, both, sizeof total);
    printf(" %d\n", total == expected);
}

static void statuses(int coid)
{
    static const int64_t wide[] = {0, 1, -2, 255, 0x7fffffff, -0x7fffffff};
    struct request request = new_request(STATUS);
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++) {
        request.wide = wide[i];
        printf("status %ld\n", MsgSend(coid, &request, sizeof request, NULL, 0));
    }
}

static void errors(int coid)
{
    static const int all[] = {ENOENT, EPERM, EFAULT, ENOSYS, ENAMETOOLONG, ELOOP, EOVERFLOW, ETIMEDOUT, ESRVRFAULT, EENDIAN, EMORE};
    struct request request = new_request(FAIL);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        request.value = all[i];
        errno = 0;
        long status = MsgSend(coid, &request, sizeof request, NULL, 0);
        printf("error %s: %ld %s\n", error_name(all[i]), status, error_name(errno));
    }
    request.value = EOK;
    printf("error EOK: %ld\n", MsgSend(coid, &request, sizeof request, NULL, 0));
    request.value = ENOENT;
    printf("error by _r: %s\n", error_name((int)-MsgSend_r(coid, &request, sizeof request, NULL, 0)));
    request.order = 99;
    printf("unknown order: %s\n", error_name((int)-MsgSend_r(coid, &request, sizeof request, NULL, 0)));
}

static void vectors(int coid)
{
    struct request request = new_request(ECHO);
    char parts[3][64];
    iov_t out[3], in[3];
    strcpy(request.data, "vector");
    SETIOV(&out[0], &request, 1);
    SETIOV(&out[1], (char *)&request + 1, 0);
    SETIOV(&out[2], (char *)&request + 1, sizeof request - 1);
    memset(parts, 0, sizeof parts);
    SETIOV(&in[0], parts[0], 2);
    SETIOV(&in[1], parts[1], 0);
    SETIOV(&in[2], parts[2], 10);
    printf("sendv: %d\n", MUST(MsgSendv(coid, out, 3, in, 3)) == sizeof request);
    printf("scattered: %d %d\n", memcmp(parts[0], &request, 2), memcmp(parts[2], (char *)&request + 2, 10));
    printf("sendvs: %d\n", MUST(MsgSendvs(coid, out, 3, parts, sizeof parts)) == sizeof request);
    printf("sendsv: %d\n", MUST(MsgSendsvnc(coid, &request, sizeof request, in, 3)) == sizeof request);
}

static void large(int coid)
{
    static const size_t sizes[] = {sizeof(struct request), 8191, 8192, 8193, 70000, 300000};
    unsigned char *bytes = malloc(300000);
    CHECK(bytes);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct request request = new_request(SUM);
        uint32_t total = 0;
        for (size_t n = 0; n < sizes[i]; n++)
            bytes[n] = (unsigned char)(n * 7 + n / 251);
        memcpy(bytes, &request, sizeof request);
        long got = MUST(MsgSend(coid, bytes, sizes[i], &total, sizeof total));
        printf("message of %zu: read whole %d, sum right %d\n", sizes[i], (size_t)got == sizes[i], total == sum(bytes, sizes[i], 0));
    }
    free(bytes);
}

static void pieces(int coid)
{
    struct request request = new_request(PIECES);
    char reply[16];
    memset(reply, '.', sizeof reply);
    printf("pieces: %ld ", MUST(MsgSend(coid, &request, sizeof request, reply, sizeof reply)));
    printf("%.16s\n", reply);
}

static void some_pulses(int coid)
{
    struct request request = new_request(PULSES);
    struct {
        int code, value;
    } got[64];
    for (int i = 0; i < 5; i++)
        MUST(MsgSendPulse(coid, 10, i, i * 1000 - 1));
    printf("code out of range: %s\n", error_name(-MsgSendPulse_r(coid, 10, 300, 0)));
    long n = MUST(MsgSend(coid, &request, sizeof request, got, sizeof got));
    printf("%ld pulses:", n);
    for (long i = 0; i < n; i++)
        printf(" %d=%d", got[i].code, got[i].value);
    printf("\n");
}

struct holder {
    int coid;
    long status;
    char reply[4];
};

static void *hold(void *argument)
{
    struct holder *holder = argument;
    struct request request = new_request(HOLD);
    holder->status = MsgSend(holder->coid, &request, sizeof request, holder->reply, sizeof holder->reply);
    return NULL;
}

static void late_replies(int coid)
{
    struct request request = new_request(RELEASE);
    struct holder holder = {coid, 0, ""};
    pthread_t thread;
    char reply[4];
    MUST(pthread_create(&thread, NULL, hold, &holder) == 0 ? 0 : -1);
    /* The other thread's message may not be there yet. */
    long status;
    while ((status = MsgSend(coid, &request, sizeof request, reply, sizeof reply)) == -1 && errno == EAGAIN)
        sched_yield();
    pthread_join(thread, NULL);
    printf("released: %ld %.4s, held: %ld %.4s\n", status, reply, holder.status, holder.reply);
}

static void events(int coid)
{
    struct request request = new_request(EVENT);
    struct _pulse pulse;
    int chid = (int)MUST(ChannelCreate(_NTO_CHF_DISCONNECT));
    int self = (int)MUST(ConnectAttach(ND_LOCAL_NODE, 0, chid, _NTO_SIDE_CHANNEL, 0));
    uint64_t patience = 50000000000u;
    struct sigevent unblock;
    SIGEV_UNBLOCK_INIT(&unblock);
    SIGEV_PULSE_INIT(&request.event, self, 10, 42, 4711);
    MUST(MsgRegisterEvent(&request.event, coid));
    printf("event: %ld\n", MUST(MsgSend(coid, &request, sizeof request, NULL, 0)));
    MUST(TimerTimeout(CLOCK_MONOTONIC, _NTO_TIMEOUT_RECEIVE, &unblock, &patience, NULL));
    printf("its pulse: %ld", MUST(MsgReceivePulse(chid, &pulse, sizeof pulse, NULL)));
    printf(" code %d value %d\n", pulse.code, pulse.value.sival_int);
    MUST(MsgUnregisterEvent(&request.event));
    MUST(ConnectDetach(self));
    MUST(ChannelDestroy(chid));
}

static void about(int coid)
{
    struct request request = new_request(ABOUT);
    struct _server_info server;
    struct about about;
    MUST(MsgSend(coid, &request, sizeof request, &about, sizeof about));
    printf("about: msglen %d srcmsglen %d dstmsglen %u pid %u scoid %u priority %u\n",
           about.msglen == sizeof request, about.srcmsglen == sizeof request, about.dstmsglen, about.has_pid,
           about.has_scoid, about.priority);
    printf("server info: the connection itself: %d\n", MUST(ConnectServerInfo(0, coid, &server)) == coid);
    printf("its coid %d, alive %d\n", server.coid == coid, (server.flags & _NTO_COF_DEAD) == 0);
}

static void wrong_arguments(int coid)
{
    struct request request = new_request(ECHO);
    printf("no such connection: %s\n", error_name((int)-MsgSend_r(999, &request, sizeof request, NULL, 0)));
    printf("NULL with a length: %s\n", error_name((int)-MsgSend_r(coid, NULL, 10, NULL, 0)));
    printf("a reply buffer at NULL: %s\n", error_name((int)-MsgSend_r(coid, &request, sizeof request, NULL, 10)));
    printf("a stranger's rcvid: %s\n", error_name(-MsgReply_r(0x12345678, 0, NULL, 0)));
    printf("no such channel: %s\n", error_name(-MsgReceive_r(9999, &request, sizeof request, NULL)));
    request.order = TWICE;
    printf("replied twice: %ld\n", MsgSend(coid, &request, sizeof request, NULL, 0));
    request.order = ECHO;
    printf("the second time: %s\n", error_name((int)-MsgSend(coid, &request, sizeof request, NULL, 0)));
}

static void timeout(int coid)
{
    struct request request = new_request(UNBLOCK);
    struct sigevent unblock;
    uint64_t time = 200000000u;
    SIGEV_UNBLOCK_INIT(&unblock);
    MUST(TimerTimeout(CLOCK_MONOTONIC, _NTO_TIMEOUT_SEND | _NTO_TIMEOUT_REPLY, &unblock, &time, NULL));
    printf("a server that waits for the unblock pulse: %s\n", error_name((int)-MsgSend_r(coid, &request, sizeof request, NULL, 0)));
    request.order = STATUS;
    request.wide = 3;
    printf("the timeout was for one call: %ld\n", MsgSend(coid, &request, sizeof request, NULL, 0));
}

static void end(int coid)
{
    struct request request = new_request(END);
    printf("end: %ld\n", MUST(MsgSend(coid, &request, sizeof request, NULL, 0)));
}

static void run(int coid)
{
    lengths(coid);
    in_place(coid);
    statuses(coid);
    errors(coid);
    vectors(coid);
    large(coid);
    pieces(coid);
    some_pulses(coid);
    late_replies(coid);
    events(coid);
    about(coid);
    wrong_arguments(coid);
    timeout(coid);
    end(coid);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc >= 2 && strcmp(argv[1], "serve") == 0) {
        name_attach_t *name = argc > 2 ? name_attach(NULL, argv[2], 0) : NULL;
        CHECK(argc <= 2 || name != NULL);
        int chid = name ? name->chid : (int)MUST(ChannelCreate(_NTO_CHF_UNBLOCK | _NTO_CHF_DISCONNECT));
        printf("%d %d\n", getpid(), chid);
        serve(chid);
        return name ? (int)MUST(name_detach(name, 0)) : 0;
    }
    if (argc == 3) {
        run((int)MUST(name_open(argv[2], 0)));
    } else if (argc == 5) {
        char *rest;
        uint32_t nd = (uint32_t)strtoul(argv[2], &rest, 0);
        if (*rest != '\0')
            nd = (uint32_t)MUST(netmgr_strtond(argv[2], NULL));
        run((int)MUST(ConnectAttach(nd, atoi(argv[3]), atoi(argv[4]), _NTO_SIDE_CHANNEL, 0)));
    } else {
        int chid = (int)MUST(ChannelCreate(_NTO_CHF_UNBLOCK | _NTO_CHF_DISCONNECT));
        pthread_t thread;
        pthread_create(&thread, NULL, serve_in_thread, &chid);
        run((int)MUST(ConnectAttach(0, 0, chid, _NTO_SIDE_CHANNEL, 0)));
        pthread_join(thread, NULL);
    }
    return 0;
}
