/*
 * io_pkt_module.h - the binary border between io-pkt and its modules, for modules in C.
 *
 * The same structures as in modules/abi (Rust); a test of modules/conformance compares every size and offset. The rules,
 * the life cycle and a walk through a complete module are in docs/abi.md; that module is modules/conformance/c/echo.c.
 *
 * A module in C is a shared object with two things in it:
 *
 *   1. the ELF note, made by IO_PKT_MODULE_NOTE("devn-mine"): it is read before any code of the module runs;
 *   2. the function io_pkt_module_entry, which returns the handshake, which gives out the table.
 *
 * Rules, in force for the life of a major version:
 *
 *   - Tables begin with a header; fields are only appended; nobody reads past header.size.
 *   - Integers have fixed widths, a pointer comes with a length, the side that allocates frees.
 *   - Functions return 0 or a negative Linux errno value. They must not unwind (longjmp, C++ exceptions) to the caller.
 *   - All functions of a use are called on one thread, never two at once. Only create, start and stop may take their
 *     time (up to a second); nothing else may block. Host functions never call back into the module.
 *   - The module's image is never unmapped.
 */
#ifndef IO_PKT_MODULE_H
#define IO_PKT_MODULE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IO_PKT_ABI_MAJOR 1
#define IO_PKT_ABI_MINOR 1

/* ---- the ELF note ------------------------------------------------------------------------------------------------ */

#define IO_PKT_NOTE_SECTION ".note.io-pkt"
#define IO_PKT_NOTE_TYPE 0x6b70
#define IO_PKT_NOTE_MAGIC 0x4b504f49u /* "IOPK" */
#define IO_PKT_NOTE_NAME_LEN 40

struct io_pkt_module_note {
    uint32_t namesz;  /* 7 */
    uint32_t descsz;  /* bytes from magic to the end */
    uint32_t kind;    /* IO_PKT_NOTE_TYPE */
    uint8_t owner[8]; /* "io-pkt", NUL padded */
    uint32_t magic;   /* IO_PKT_NOTE_MAGIC */
    uint16_t abi_major;
    uint16_t abi_minor;
    char name[IO_PKT_NOTE_NAME_LEN]; /* module name, NUL padded */
};

/* Puts the note into the module; once per module, at file scope. */
#define IO_PKT_MODULE_NOTE(module_name)                                                                                \
    __attribute__((used, section(IO_PKT_NOTE_SECTION), aligned(4))) static const struct io_pkt_module_note             \
        io_pkt_module_note_ = {7,                                                                                      \
                               sizeof(struct io_pkt_module_note) - 20,                                                 \
                               IO_PKT_NOTE_TYPE,                                                                       \
                               "io-pkt",                                                                               \
                               IO_PKT_NOTE_MAGIC,                                                                      \
                               IO_PKT_ABI_MAJOR,                                                                       \
                               IO_PKT_ABI_MINOR,                                                                       \
                               module_name}

/* ---- plain data -------------------------------------------------------------------------------------------------- */

/* Bytes owned by whoever filled in the structure, valid during the call unless its field says longer. Text is UTF-8
 * without a terminating NUL. len == 0 allows any ptr. */
struct io_pkt_bytes {
    const uint8_t *ptr;
    uint64_t len;
};

/* A static text as io_pkt_bytes, for initialisers. */
#define IO_PKT_TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

/* Room for text, owned by the host: write at most cap bytes of UTF-8 and set len. */
struct io_pkt_text_buf {
    uint8_t *ptr;
    uint64_t cap;
    uint64_t len;
};

#define IO_PKT_FRAME_CONTINUES 1u /* the frame goes on in the next descriptor */
#define IO_PKT_FRAME_SHARED 2u    /* others hold references: do not write */
#define IO_PKT_REGION_POOL 0

/* One piece of a frame: a part of one chunk of the packet pool. */
struct io_pkt_frame_desc {
    uint64_t offset; /* from the start of the pool */
    uint32_t len;
    uint16_t flags;  /* IO_PKT_FRAME_* */
    uint16_t region; /* IO_PKT_REGION_POOL */
};

/* Where the packet pool is mapped, from create until after destroy. */
struct io_pkt_pool_info {
    uint32_t size;
    uint32_t chunk_size; /* 2048 or 4096 */
    uint8_t *base;
    uint64_t len;
    uint32_t headroom; /* bytes that a fresh chunk leaves free before its frame */
    int32_t fd;        /* memfd behind the pool, owned by the host */
};

#define IO_PKT_UNKNOWN UINT64_MAX

#define IO_PKT_OPTION_FLAG 0u   /* a bare word, or 0 or 1; arrives as "1" or "0" */
#define IO_PKT_OPTION_NUMBER 1u /* decimal or 0x, from min to max */
#define IO_PKT_OPTION_TEXT 2u   /* any text but an empty one */
#define IO_PKT_OPTION_MAC 3u    /* arrives as 12 lower-case hexadecimal digits */
#define IO_PKT_OPTION_CHOICE 4u /* one of the words in choices, separated by | */

/* One option that the module understands; static. */
struct io_pkt_option_spec {
    struct io_pkt_bytes name;
    struct io_pkt_bytes help;
    uint32_t kind;    /* IO_PKT_OPTION_* */
    uint32_t repeats; /* 1: may be given more than once */
    uint64_t min;
    uint64_t max;
    struct io_pkt_bytes choices;
};

/* One option as given, checked by the host. */
struct io_pkt_option_value {
    struct io_pkt_bytes name;
    struct io_pkt_bytes value;
};

#define IO_PKT_IF_LINK_UP 1u
#define IO_PKT_IF_PROMISCUOUS 2u
#define IO_PKT_IF_MULTICAST 4u
#define IO_PKT_IF_FULL_DUPLEX 8u

/* What a driver tells of its interface; the host copies it. */
struct io_pkt_interface_info {
    uint32_t size;
    uint32_t flags; /* IO_PKT_IF_* */
    uint8_t mac[6];
    uint8_t permanent_mac[6];
    uint32_t mtu; /* largest payload, Ethernet header not counted */
    uint32_t speed_mbps;
    uint32_t reserved;
    struct io_pkt_bytes system_name;
    struct io_pkt_bytes description;
    struct io_pkt_bytes media;
};

#define IO_PKT_EVENT_ARRIVED 1u
#define IO_PKT_EVENT_CHANGED 2u
#define IO_PKT_EVENT_GONE 3u

struct io_pkt_interface_event {
    uint32_t size;
    uint32_t kind; /* IO_PKT_EVENT_* */
    uint32_t interface;
    uint32_t reserved;
    struct io_pkt_bytes name;
    const struct io_pkt_interface_info *info; /* never null */
};

#define IO_PKT_READY_READ 1u
#define IO_PKT_READY_WRITE 2u
#define IO_PKT_READY_ERROR 4u
#define IO_PKT_READY_HELPER_EXIT 8u
#define IO_PKT_READY_WAKE 16u
#define IO_PKT_READY_DEADLINE 32u

struct io_pkt_poll_event {
    uint64_t token; /* as given to poll_add or spawn; 0 for wake-ups and deadlines */
    uint32_t ready; /* IO_PKT_READY_* */
    int32_t value;  /* wait status of a helper */
};

struct io_pkt_poll_work {
    uint32_t size;
    uint32_t n_events; /* 0: called again because more was set */
    const struct io_pkt_poll_event *events;
    uint64_t now; /* nanoseconds */
    uint32_t budget_frames;
    uint32_t budget_bytes;
    uint32_t more; /* set to 1 when the budget ran out */
    uint32_t done; /* set to the units of work done */
};

#define IO_PKT_INTEREST_READ 1u
#define IO_PKT_INTEREST_WRITE 2u

struct io_pkt_spawn_spec {
    uint32_t size;
    uint32_t n_args;
    struct io_pkt_bytes program; /* file name beside the modules, no slash */
    const struct io_pkt_bytes *args;
    uint64_t token;
    const int32_t *fds; /* become 3, 4, ... in the child */
    uint32_t n_fds;
    uint32_t reserved;
};

/* Counters; IO_PKT_UNKNOWN where the device does not count. The host fills in size; write no further than that. */
struct io_pkt_driver_stats {
    uint32_t size;
    uint32_t reserved;
    uint64_t tx_packets;
    uint64_t tx_bytes;
    uint64_t tx_no_memory;
    uint64_t rx_packets;
    uint64_t rx_bytes;
    uint64_t rx_no_memory;
    uint64_t single_collisions;
    uint64_t deferred;
    uint64_t late_collisions;
    uint64_t tx_aborted;
    uint64_t tx_underruns;
    uint64_t tx_no_carrier;
    uint64_t rx_alignment;
    uint64_t rx_crc;
    uint64_t rx_dropped;
    uint64_t tx_dropped;
};

/* ---- tables ------------------------------------------------------------------------------------------------------ */

struct io_pkt_header {
    uint32_t size; /* bytes of the table that its maker knows, this header included */
    uint16_t major;
    uint16_t minor;
};

#define IO_PKT_CAP_UNMOUNTABLE 1u
#define IO_PKT_CAP_PARALLEL 2u /* different uses may run on different threads at the same time */
#define IO_PKT_CAP_SINGLE 4u

struct io_pkt_host_table;
struct io_pkt_resolver_table;

/* Told to a new use; all pointers but host and ctx are valid until create returns, those two until destroy returns. */
struct io_pkt_create_args {
    uint32_t size;
    uint32_t instance;
    const struct io_pkt_host_table *host;
    void *ctx; /* first argument of every host function */
    struct io_pkt_bytes name;
    struct io_pkt_bytes root;
    const struct io_pkt_option_value *options;
    uint64_t n_options;
    struct io_pkt_bytes state;
    struct io_pkt_text_buf *error; /* where to say what went wrong */
    struct io_pkt_bytes devices;
    struct io_pkt_bytes net;
};

/* What the host offers. To be called on the use's thread, from create to destroy; wake, log, log_level and now on any. */
struct io_pkt_host_table {
    struct io_pkt_header header;
    void (*log)(void *ctx, uint32_t level, struct io_pkt_bytes target, struct io_pkt_bytes text); /* 1 error … 5 trace */
    uint64_t (*now)(void *ctx);
    const struct io_pkt_pool_info *(*pool)(void *ctx);
    uint32_t (*alloc)(void *ctx, struct io_pkt_frame_desc *frames, uint32_t n);
    void (*free)(void *ctx, const struct io_pkt_frame_desc *frames, uint32_t n);
    void (*retain)(void *ctx, const struct io_pkt_frame_desc *frames, uint32_t n);
    void (*deliver)(void *ctx, const struct io_pkt_frame_desc *frames, uint32_t n);                      /* driver */
    uint32_t (*send)(void *ctx, uint32_t interface, const struct io_pkt_frame_desc *frames, uint32_t n); /* protocol */
    int32_t (*claim)(void *ctx, uint32_t ethertype);                                                     /* protocol */
    int32_t (*interface)(void *ctx, const struct io_pkt_interface_info *info);                           /* driver */
    int64_t (*poll_add)(void *ctx, int32_t fd, uint32_t interest, uint64_t token); /* edge-triggered */
    int32_t (*poll_modify)(void *ctx, int64_t handle, uint32_t interest);
    int32_t (*poll_remove)(void *ctx, int64_t handle);
    void (*set_deadline)(void *ctx, uint64_t at); /* 0 takes it back */
    void (*wake)(void *ctx);
    int64_t (*spawn)(void *ctx, const struct io_pkt_spawn_spec *spec);
    int32_t (*kill)(void *ctx, int64_t helper, int32_t signal);
    void (*fail)(void *ctx, struct io_pkt_bytes reason);
    uint32_t (*log_level)(void *ctx); /* the most detailed level that is kept */
    /* since 1.1, may be NULL; for protocols: the table of nr-NAME.so, at most table->header.size bytes of it */
    int32_t (*open_resolver)(void *ctx, struct io_pkt_bytes name, struct io_pkt_resolver_table *table,
                             struct io_pkt_text_buf *error);
};

/* What a driver offers. Every function must be there. */
struct io_pkt_driver_table {
    struct io_pkt_header header;
    uint64_t capabilities;
    const struct io_pkt_option_spec *options;
    uint64_t n_options;
    int32_t (*create)(const struct io_pkt_create_args *args, void **use);
    int32_t (*start)(void *use, struct io_pkt_text_buf *error);
    int32_t (*poll)(void *use, struct io_pkt_poll_work *work);
    /* Takes over the first *taken descriptors (whole frames) and frees them when they are sent, or at once. */
    int32_t (*transmit)(void *use, const struct io_pkt_frame_desc *frames, uint32_t n, uint32_t *taken);
    int32_t (*stats)(void *use, struct io_pkt_driver_stats *stats);
    int32_t (*stop)(void *use);
    void (*destroy)(void *use);
};

/* What a protocol offers. Every function must be there. */
struct io_pkt_protocol_table {
    struct io_pkt_header header;
    uint64_t capabilities;
    const struct io_pkt_option_spec *options;
    uint64_t n_options;
    struct io_pkt_bytes prefix; /* "bridge" gives bridge0; with CAP_SINGLE the name itself */
    int32_t (*create)(const struct io_pkt_create_args *args, void **use);
    int32_t (*start)(void *use, struct io_pkt_text_buf *error);
    int32_t (*poll)(void *use, struct io_pkt_poll_work *work);
    int32_t (*receive)(void *use, uint32_t interface, const struct io_pkt_frame_desc *frames, uint32_t n);
    int32_t (*interface_event)(void *use, const struct io_pkt_interface_event *event);
    int32_t (*report)(void *use, struct io_pkt_bytes topic, struct io_pkt_text_buf *text);
    int32_t (*stop)(void *use);
    void (*destroy)(void *use);
};

/* ---- node resolvers, since 1.1 ----------------------------------------------------------------------------------- */

#define IO_PKT_FAMILY_MAC 1u  /* 6 bytes */
#define IO_PKT_FAMILY_IPV4 2u /* 4 bytes */
#define IO_PKT_FAMILY_IPV6 3u /* 16 bytes */

/* Told to a resolver; pointers are valid until create returns, ctx until destroy returns. */
struct io_pkt_resolver_args {
    uint32_t size;
    uint32_t reserved;
    struct io_pkt_bytes parameter; /* of resolve=NAME:PARAMETER */
    struct io_pkt_bytes domain;    /* the node's own */
    void (*log)(void *ctx, uint32_t level, struct io_pkt_bytes text); /* any thread */
    void *ctx;
    struct io_pkt_text_buf *error;
};

/* A node that is looked for. */
struct io_pkt_resolver_query {
    uint32_t size;
    uint32_t reserved;
    struct io_pkt_bytes name;
    struct io_pkt_bytes domain;
};

struct io_pkt_resolver_address {
    uint32_t family; /* IO_PKT_FAMILY_* */
    uint32_t reserved;
    uint8_t bytes[16]; /* network order, the rest 0 */
};

/* Room for the answer, owned by the caller. */
struct io_pkt_resolver_answer {
    uint32_t size;
    uint32_t cap;
    struct io_pkt_resolver_address *addresses;
    uint32_t len; /* set by the resolver; 0 when the node is not known */
    uint32_t reserved;
};

/* What a resolver offers: nr-NAME.so. One call at a time, not always on the same thread; resolve may take seconds. */
struct io_pkt_resolver_table {
    struct io_pkt_header header;
    uint64_t capabilities; /* 0 */
    int32_t (*create)(const struct io_pkt_resolver_args *args, void **use);
    int32_t (*resolve)(void *use, const struct io_pkt_resolver_query *query, struct io_pkt_resolver_answer *answer);
    void (*destroy)(void *use);
};

/* ---- handshake --------------------------------------------------------------------------------------------------- */

#define IO_PKT_HANDSHAKE_MAGIC 0x646f6d746b706f69ull /* "iopktmod" */
#define IO_PKT_KIND_DRIVER 1u
#define IO_PKT_KIND_PROTOCOL 2u
#define IO_PKT_KIND_RESOLVER 3u

struct io_pkt_handshake {
    uint64_t magic;
    uint16_t abi_major;
    uint16_t abi_minor;
    uint32_t reserved;
    struct io_pkt_bytes name;  /* as in the note */
    struct io_pkt_bytes build; /* free text that tells builds apart */
    const struct io_pkt_header *(*get_table)(uint32_t kind); /* null when there is none of that kind */
};

/* Exported by the module; returns a static structure. */
const struct io_pkt_handshake *io_pkt_module_entry(void);

#ifdef __cplusplus
}
#endif

#endif
