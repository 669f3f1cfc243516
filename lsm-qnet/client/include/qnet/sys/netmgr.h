/*
 * sys/netmgr.h - node descriptors: the numbers by which this node knows others.
 *
 * A descriptor is good while a connection to its node is open, and right after it was asked for; it is not to be kept.
 */
#ifndef QNET_SYS_NETMGR_H
#define QNET_SYS_NETMGR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/platform.h>
#include <sys/types.h>

QNET_BEGIN_DECLS

#ifndef ND_LOCAL_NODE
#define ND_LOCAL_NODE 0
#endif

#define ND_NODE_BITS 16
#define ND_NODE_MASK ((1 << ND_NODE_BITS) - 1)

/* 0: the same node; else negative or positive, an order to sort by. The quality of service is not compared. */
#define ND_NODE_CMP(a, b) (((int)(a) & ND_NODE_MASK) - ((int)(b) & ND_NODE_MASK))

/* What netmgr_ndtostr() writes; without a SHOW or HIDE a part is written where it is needed. */
#define ND2S_DIR_SHOW 0x0001
#define ND2S_DIR_HIDE 0x0002
#define ND2S_QOS_SHOW 0x0004
#define ND2S_QOS_HIDE 0x0008
#define ND2S_NAME_SHOW 0x0010
#define ND2S_NAME_HIDE 0x0020
#define ND2S_DOMAIN_SHOW 0x0040
#define ND2S_DOMAIN_HIDE 0x0080
#define ND2S_LOCAL_STR 0x1000
#define ND2S_SEP_FORCE 0x2000

extern int netmgr_strtond(const char *name, char **end);
extern int netmgr_ndtostr(unsigned flags, int nd, char *buffer, size_t size);
extern int netmgr_remote_nd(int remote, int local);
extern int netmgr_path(const char *network, const char *suffix, char *path, size_t size);

QNET_END_DECLS

#endif
