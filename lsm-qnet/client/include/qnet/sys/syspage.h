/*
 * sys/syspage.h - the parts of QNX's system page that programs read: how fast ClockCycles() counts, and how many CPUs.
 */
#ifndef QNET_SYS_SYSPAGE_H
#define QNET_SYS_SYSPAGE_H

#include <stdint.h>
#include <sys/platform.h>

QNET_BEGIN_DECLS

struct qtime_entry {
    uint64_t cycles_per_sec; /* of ClockCycles() */
};

struct syspage_entry {
    uint16_t num_cpu; /* CPUs that are on */
    struct qtime_entry qtime;
};

/* The page of this process: filled at the first call, never changed after it. */
extern const struct syspage_entry *qnet_syspage(void);
#define _syspage_ptr (qnet_syspage())
#define SYSPAGE_ENTRY(section) (&qnet_syspage()->section)

QNET_END_DECLS

#endif
