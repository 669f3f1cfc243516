/*
 * echo.c - a complete driver in C: every frame that is sent comes back, its two addresses exchanged.
 *
 * The tests build it with `cc -shared -fPIC -I modules/include`; docs/abi.md walks through it. Nothing is behind it, so it
 * only handles descriptors: the bytes stay where they are in the packet pool.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io_pkt_module.h"

IO_PKT_MODULE_NOTE("devn-echo");

/* Tells builds apart in the lists of pidin; a release would put its version here. */
#ifndef BUILD
#define BUILD "1"
#endif

/* Frames that wait for the next poll. Whole frames only, so that the host can be told to keep the rest. */
#define ROOM 64

struct echo {
    const struct io_pkt_host_table *host;
    void *ctx;
    const struct io_pkt_pool_info *pool;
    uint8_t mac[6];
    int keep_addresses;
    uint32_t count;
    struct io_pkt_frame_desc waiting[ROOM];
    struct io_pkt_driver_stats stats;
};

static int is(struct io_pkt_bytes text, const char *word)
{
    return text.len == strlen(word) && memcmp(text.ptr, word, text.len) == 0;
}

/* Says what went wrong, and returns the error for `return`. */
static int32_t refuse(struct io_pkt_text_buf *error, const char *why, int32_t code)
{
    uint64_t len = strlen(why);
    if (error) {
        if (len > error->cap)
            len = error->cap;
        memcpy(error->ptr, why, len);
        error->len = len;
    }
    return code;
}

static int32_t echo_create(const struct io_pkt_create_args *args, void **use)
{
    struct echo *echo;

    if (args->size < sizeof *args || args->host->header.size < sizeof *args->host)
        return -EINVAL;
    echo = calloc(1, sizeof *echo);
    if (!echo)
        return refuse(args->error, "no memory for the driver", -ENOMEM);
    echo->host = args->host;
    echo->ctx = args->ctx;
    echo->pool = args->host->pool(args->ctx);
    memcpy(echo->mac, (const uint8_t[]){0x02, 0x65, 0x63, 0x68, 0x6f, 0x01}, 6);
    for (uint64_t i = 0; i < args->n_options; i++) {
        struct io_pkt_bytes name = args->options[i].name, value = args->options[i].value;
        if (is(name, "keep-addresses"))
            echo->keep_addresses = is(value, "1");
        if (is(name, "mac")) { /* 12 hexadecimal digits: the host has checked them */
            char digits[13] = {0};
            memcpy(digits, value.ptr, 12);
            sscanf(digits, "%2hhx%2hhx%2hhx%2hhx%2hhx%2hhx", &echo->mac[0], &echo->mac[1], &echo->mac[2],
                   &echo->mac[3], &echo->mac[4], &echo->mac[5]);
        }
    }
    memset(&echo->stats, 0xff, sizeof echo->stats); /* every counter unknown ... */
    echo->stats.tx_packets = echo->stats.tx_bytes = echo->stats.rx_packets = echo->stats.rx_bytes = 0; /* ... but these */
    *use = echo;
    return 0;
}

static int32_t echo_start(void *use, struct io_pkt_text_buf *error)
{
    struct echo *echo = use;
    struct io_pkt_interface_info info = {
        .size = sizeof info,
        .flags = IO_PKT_IF_LINK_UP | IO_PKT_IF_MULTICAST | IO_PKT_IF_FULL_DUPLEX,
        .mtu = 1500,
        .system_name = IO_PKT_TEXT("echo"),
        .description = IO_PKT_TEXT("echo driver in C"),
        .media = IO_PKT_TEXT("virtual"),
    };
    int32_t code;

    memcpy(info.mac, echo->mac, 6);
    memcpy(info.permanent_mac, echo->mac, 6);
    code = echo->host->interface(echo->ctx, &info);
    return code ? refuse(error, "the host refuses the interface", code) : 0;
}

static int32_t echo_poll(void *use, struct io_pkt_poll_work *work)
{
    struct echo *echo = use;

    work->more = 0;
    work->done = echo->count;
    for (uint32_t i = 0; i < echo->count; i++) {
        echo->stats.rx_bytes += echo->waiting[i].len;
        echo->stats.rx_packets += !(echo->waiting[i].flags & IO_PKT_FRAME_CONTINUES);
    }
    if (echo->count)
        echo->host->deliver(echo->ctx, echo->waiting, echo->count); /* the host owns them now */
    echo->count = 0;
    return 0;
}

/* Exchanges the addresses of a frame, unless others look at it too. */
static void turn_round(struct echo *echo, const struct io_pkt_frame_desc *first)
{
    uint8_t *bytes = echo->pool->base + first->offset, source[6];

    if (echo->keep_addresses || first->len < 14 || (first->flags & IO_PKT_FRAME_SHARED))
        return;
    memcpy(source, bytes + 6, 6);
    memcpy(bytes + 6, bytes, 6);
    memcpy(bytes, source, 6);
}

static int32_t echo_transmit(void *use, const struct io_pkt_frame_desc *frames, uint32_t n, uint32_t *taken)
{
    struct echo *echo = use;
    uint32_t begin = 0;

    *taken = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (frames[i].flags & IO_PKT_FRAME_CONTINUES)
            continue;
        /* frames[begin] to frames[i] are one whole frame */
        if (echo->count + (i + 1 - begin) > ROOM)
            break;
        turn_round(echo, &frames[begin]);
        for (; begin <= i; begin++) {
            echo->stats.tx_bytes += frames[begin].len;
            echo->waiting[echo->count++] = frames[begin];
        }
        echo->stats.tx_packets++;
        *taken = begin;
    }
    echo->host->wake(echo->ctx);
    return 0;
}

static int32_t echo_stats(void *use, struct io_pkt_driver_stats *stats)
{
    struct echo *echo = use;
    uint32_t size = stats->size;

    memcpy(stats, &echo->stats, size < sizeof *stats ? size : sizeof *stats);
    stats->size = size;
    stats->reserved = 0;
    return 0;
}

static int32_t echo_stop(void *use)
{
    struct echo *echo = use;

    if (echo->count)
        echo->host->free(echo->ctx, echo->waiting, echo->count);
    echo->count = 0;
    return 0;
}

static void echo_destroy(void *use)
{
    free(use);
}

static const struct io_pkt_option_spec options[] = {
    {
        .name = IO_PKT_TEXT("keep-addresses"),
        .help = IO_PKT_TEXT("return frames as they are, addresses not exchanged"),
        .kind = IO_PKT_OPTION_FLAG,
    },
};

static const struct io_pkt_driver_table table = {
    .header = {sizeof table, IO_PKT_ABI_MAJOR, IO_PKT_ABI_MINOR},
    .capabilities = IO_PKT_CAP_UNMOUNTABLE,
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .create = echo_create,
    .start = echo_start,
    .poll = echo_poll,
    .transmit = echo_transmit,
    .stats = echo_stats,
    .stop = echo_stop,
    .destroy = echo_destroy,
};

static const struct io_pkt_header *get_table(uint32_t kind)
{
    return kind == IO_PKT_KIND_DRIVER ? &table.header : NULL;
}

const struct io_pkt_handshake *io_pkt_module_entry(void)
{
    static const struct io_pkt_handshake handshake = {
        .magic = IO_PKT_HANDSHAKE_MAGIC,
        .abi_major = IO_PKT_ABI_MAJOR,
        .abi_minor = IO_PKT_ABI_MINOR,
        .name = IO_PKT_TEXT("devn-echo"),
        .build = IO_PKT_TEXT(BUILD),
        .get_table = get_table,
    };
    return &handshake;
}
