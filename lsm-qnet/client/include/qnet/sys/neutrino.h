/*
 * sys/neutrino.h - message passing: channels, connections, messages, pulses, events, timeouts.
 *
 * Names, types and return types are those of QNX Neutrino 7.1. Every call fails with -1 and errno; its form that ends in
 * _r returns the negative errno value instead and leaves errno alone. What differs from QNX is in qnet(3) and, call by
 * call, in docs/messages.md.
 */
#ifndef QNET_SYS_NEUTRINO_H
#define QNET_SYS_NEUTRINO_H

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/platform.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

QNET_BEGIN_DECLS

/* ---- nodes ---- */

#ifndef ND_LOCAL_NODE
#define ND_LOCAL_NODE 0
#endif

/* ---- vectors ---- */

typedef struct iovec iov_t;

#define SETIOV(iov, address, length) ((iov)->iov_base = (void *)(address), (iov)->iov_len = (size_t)(length))
#define SETIOV_CONST(iov, address, length)                                                                             \
    ((iov)->iov_base = (void *)(_Uintptrt)(address), (iov)->iov_len = (size_t)(length))
#define GETIOVBASE(iov) ((iov)->iov_base)
#define GETIOVLEN(iov) ((iov)->iov_len)

/* ---- channels ---- */

#define _NTO_CHF_FIXED_PRIORITY 0x0001  /* the receiver keeps its own priority */
#define _NTO_CHF_UNBLOCK 0x0002         /* a pulse when a client that waits for the reply wants to leave */
#define _NTO_CHF_THREAD_DEATH 0x0004    /* a pulse when a thread of this process ends */
#define _NTO_CHF_DISCONNECT 0x0008      /* a pulse when the last connection of a client is gone */
#define _NTO_CHF_NET_MSG 0x0010         /* reserved by QNX for network managers */
#define _NTO_CHF_SENDER_LEN 0x0020      /* _msg_info.srcmsglen is wanted (it always comes) */
#define _NTO_CHF_COID_DISCONNECT 0x0040 /* a pulse when a server that this process is connected to is gone */
#define _NTO_CHF_REPLY_LEN 0x0080       /* _msg_info.dstmsglen is wanted (it always comes) */
#define _NTO_CHF_PRIVATE 0x1000         /* other processes cannot connect */

extern int ChannelCreate(unsigned flags);
extern int ChannelCreate_r(unsigned flags);
extern int ChannelDestroy(int chid);
extern int ChannelDestroy_r(int chid);

/* ---- connections ---- */

#define _NTO_SIDE_CHANNEL 0x40000000
#define _NTO_GLOBAL_CHANNEL 0x40000000

#define _NTO_COF_CLOEXEC 0x0001 /* closed by exec (every connection is, on Linux) */
#define _NTO_COF_DEAD 0x0002    /* the server is gone */
#define _NTO_COF_NETCON 0x0080  /* the server is on another node */

/* About a message and its sender (MsgReceive, MsgInfo), or about a connection (ConnectServerInfo). */
struct _msg_info {
    uint32_t nd;       /* the sender's node | the server's node, as this node numbers it */
    uint32_t srcnd;    /* this node, as the sender's node numbers it */
    pid_t pid;         /* the sender | the server */
    int32_t tid;       /* the sender's thread */
    int32_t chid;      /* the channel */
    int32_t scoid;     /* the client on this channel */
    int32_t coid;      /* the sender's connection | the connection asked for */
    int16_t priority;  /* the sender's priority */
    int16_t flags;     /* _NTO_MI_* | _NTO_COF_* */
    size_t msglen;     /* bytes received */
    size_t srcmsglen;  /* length of the sender's message */
    size_t dstmsglen;  /* room in the sender's reply buffers */
    uint32_t type_id;  /* security types are not known here: 0 */
    uint32_t reserved;
};
#define _server_info _msg_info

#define _NTO_MI_ENDIAN_BIG 0x0001
#define _NTO_MI_ENDIAN_DIFF 0x0002
#define _NTO_MI_UNBLOCK_REQ 0x0100 /* the sender wants to leave */
#define _NTO_MI_NET_CRED_DIRTY 0x0200

struct _cred_info {
    uid_t ruid;
    uid_t euid;
    uid_t suid;
    gid_t rgid;
    gid_t egid;
    gid_t sgid;
    uint32_t ngroups;
    gid_t grouplist[8]; /* ConnectClientInfo() fills as many as the caller says it has room for */
};

struct _client_info {
    uint32_t nd;
    pid_t pid;
    pid_t sid;
    uint32_t flags; /* _NTO_CI_* */
    struct _cred_info cred;
};

#define _NTO_CI_ENDIAN_BIG 0x0001
#define _NTO_CI_BKGND_PGRP 0x0004
#define _NTO_CI_ORPHAN_PGRP 0x0008
#define _NTO_CI_STOPPED 0x0080

#define _NTO_CLIENTINFO_GETGROUPS 0x0001

extern int ConnectAttach(uint32_t nd, pid_t pid, int chid, unsigned index, int flags);
extern int ConnectAttach_r(uint32_t nd, pid_t pid, int chid, unsigned index, int flags);
extern int ConnectDetach(int coid);
extern int ConnectDetach_r(int coid);
extern int ConnectFlags(pid_t pid, int coid, unsigned mask, unsigned bits);
extern int ConnectFlags_r(pid_t pid, int coid, unsigned mask, unsigned bits);
extern int ConnectServerInfo(pid_t pid, int coid, struct _server_info *info);
extern int ConnectServerInfo_r(pid_t pid, int coid, struct _server_info *info);
extern int ConnectClientInfo(int scoid, struct _client_info *info, int ngroups);
extern int ConnectClientInfo_r(int scoid, struct _client_info *info, int ngroups);
extern int ConnectClientInfoExt(int scoid, struct _client_info **info, int flags);
extern int ClientInfoExtFree(struct _client_info **info);

/* ---- messages ---- */

typedef int rcvid_t;

extern long MsgSend(int coid, const void *smsg, size_t sbytes, void *rmsg, size_t rbytes);
extern long MsgSend_r(int coid, const void *smsg, size_t sbytes, void *rmsg, size_t rbytes);
extern long MsgSendnc(int coid, const void *smsg, size_t sbytes, void *rmsg, size_t rbytes);
extern long MsgSendnc_r(int coid, const void *smsg, size_t sbytes, void *rmsg, size_t rbytes);
extern long MsgSendsv(int coid, const void *smsg, size_t sbytes, const iov_t *riov, size_t rparts);
extern long MsgSendsv_r(int coid, const void *smsg, size_t sbytes, const iov_t *riov, size_t rparts);
extern long MsgSendsvnc(int coid, const void *smsg, size_t sbytes, const iov_t *riov, size_t rparts);
extern long MsgSendsvnc_r(int coid, const void *smsg, size_t sbytes, const iov_t *riov, size_t rparts);
extern long MsgSendvs(int coid, const iov_t *siov, size_t sparts, void *rmsg, size_t rbytes);
extern long MsgSendvs_r(int coid, const iov_t *siov, size_t sparts, void *rmsg, size_t rbytes);
extern long MsgSendvsnc(int coid, const iov_t *siov, size_t sparts, void *rmsg, size_t rbytes);
extern long MsgSendvsnc_r(int coid, const iov_t *siov, size_t sparts, void *rmsg, size_t rbytes);
extern long MsgSendv(int coid, const iov_t *siov, size_t sparts, const iov_t *riov, size_t rparts);
extern long MsgSendv_r(int coid, const iov_t *siov, size_t sparts, const iov_t *riov, size_t rparts);
extern long MsgSendvnc(int coid, const iov_t *siov, size_t sparts, const iov_t *riov, size_t rparts);
extern long MsgSendvnc_r(int coid, const iov_t *siov, size_t sparts, const iov_t *riov, size_t rparts);

extern rcvid_t MsgReceive(int chid, void *msg, size_t bytes, struct _msg_info *info);
extern rcvid_t MsgReceive_r(int chid, void *msg, size_t bytes, struct _msg_info *info);
extern rcvid_t MsgReceivev(int chid, const iov_t *iov, size_t parts, struct _msg_info *info);
extern rcvid_t MsgReceivev_r(int chid, const iov_t *iov, size_t parts, struct _msg_info *info);
extern int MsgReceivePulse(int chid, void *pulse, size_t bytes, struct _msg_info *info);
extern int MsgReceivePulse_r(int chid, void *pulse, size_t bytes, struct _msg_info *info);
extern int MsgReceivePulsev(int chid, const iov_t *iov, size_t parts, struct _msg_info *info);
extern int MsgReceivePulsev_r(int chid, const iov_t *iov, size_t parts, struct _msg_info *info);

extern int MsgReply(rcvid_t rcvid, long status, const void *msg, size_t bytes);
extern int MsgReply_r(rcvid_t rcvid, long status, const void *msg, size_t bytes);
extern int MsgReplyv(rcvid_t rcvid, long status, const iov_t *iov, size_t parts);
extern int MsgReplyv_r(rcvid_t rcvid, long status, const iov_t *iov, size_t parts);
extern int MsgError(rcvid_t rcvid, int error);
extern int MsgError_r(rcvid_t rcvid, int error);
extern ssize_t MsgRead(rcvid_t rcvid, void *msg, size_t bytes, size_t offset);
extern ssize_t MsgRead_r(rcvid_t rcvid, void *msg, size_t bytes, size_t offset);
extern ssize_t MsgReadv(rcvid_t rcvid, const iov_t *iov, size_t parts, size_t offset);
extern ssize_t MsgReadv_r(rcvid_t rcvid, const iov_t *iov, size_t parts, size_t offset);
extern ssize_t MsgWrite(rcvid_t rcvid, const void *msg, size_t bytes, size_t offset);
extern ssize_t MsgWrite_r(rcvid_t rcvid, const void *msg, size_t bytes, size_t offset);
extern ssize_t MsgWritev(rcvid_t rcvid, const iov_t *iov, size_t parts, size_t offset);
extern ssize_t MsgWritev_r(rcvid_t rcvid, const iov_t *iov, size_t parts, size_t offset);
extern int MsgInfo(rcvid_t rcvid, struct _msg_info *info);
extern int MsgInfo_r(rcvid_t rcvid, struct _msg_info *info);
extern int MsgCurrent(rcvid_t rcvid);
extern int MsgCurrent_r(rcvid_t rcvid);

#define _NTO_KEYDATA_CALCULATE 0
#define _NTO_KEYDATA_VERIFY 1

extern int MsgKeyData(rcvid_t rcvid, int op, uint32_t key, uint32_t *newkey, const iov_t *iov, int parts);
extern int MsgKeyData_r(rcvid_t rcvid, int op, uint32_t key, uint32_t *newkey, const iov_t *iov, int parts);

/* ---- pulses ---- */

struct _pulse {
    uint16_t type;
    uint16_t subtype;
    int8_t code; /* 0 to 127 from programs, negative from the system */
    uint8_t zero[3];
    __sigval_t value;
    int32_t scoid;
};

#define _PULSE_TYPE 0
#define _PULSE_SUBTYPE 0

#define _PULSE_CODE_UNBLOCK (-32)     /* a client wants to leave; value: its rcvid */
#define _PULSE_CODE_DISCONNECT (-33)  /* a client is gone; answer with ConnectDetach(scoid) */
#define _PULSE_CODE_THREADDEATH (-34) /* a thread of this process ended; value: its id */
#define _PULSE_CODE_COIDDEATH (-35)   /* a server is gone; value: the connection */
#define _PULSE_CODE_NET_ACK (-36)
#define _PULSE_CODE_NET_UNBLOCK (-37)
#define _PULSE_CODE_NET_DETACH (-38)
#define _PULSE_CODE_MINAVAIL 0
#define _PULSE_CODE_MAXAVAIL 127

extern int MsgSendPulse(int coid, int priority, int code, int value);
extern int MsgSendPulse_r(int coid, int priority, int code, int value);
extern int MsgSendPulsePtr(int coid, int priority, int code, void *value);
extern int MsgSendPulsePtr_r(int coid, int priority, int code, void *value);

/* ---- events ---- */

extern int MsgDeliverEvent(rcvid_t rcvid, const struct sigevent *event);
extern int MsgDeliverEvent_r(rcvid_t rcvid, const struct sigevent *event);
extern int MsgVerifyEvent(rcvid_t rcvid, const struct sigevent *event);
extern int MsgVerifyEvent_r(rcvid_t rcvid, const struct sigevent *event);
extern int MsgRegisterEvent(struct sigevent *event, int coid);
extern int MsgRegisterEvent_r(struct sigevent *event, int coid);
extern int MsgUnregisterEvent(const struct sigevent *event);
extern int MsgUnregisterEvent_r(const struct sigevent *event);

/* ---- timeouts and timers ---- */

enum {
    STATE_DEAD,
    STATE_RUNNING,
    STATE_READY,
    STATE_STOPPED,
    STATE_SEND,
    STATE_RECEIVE,
    STATE_REPLY,
    STATE_STACK,
    STATE_WAITTHREAD,
    STATE_WAITPAGE,
    STATE_SIGSUSPEND,
    STATE_SIGWAITINFO,
    STATE_NANOSLEEP,
    STATE_MUTEX,
    STATE_CONDVAR,
    STATE_JOIN,
    STATE_INTR,
    STATE_SEM,
    STATE_WAITCTX,
    STATE_NET_SEND,
    STATE_NET_REPLY,
    STATE_MAX = 24
};

/* Waits that TimerTimeout() can bound: those of messages, and NANOSLEEP by itself. */
#define _NTO_TIMEOUT_SEND (1 << STATE_SEND)
#define _NTO_TIMEOUT_RECEIVE (1 << STATE_RECEIVE)
#define _NTO_TIMEOUT_REPLY (1 << STATE_REPLY)
#define _NTO_TIMEOUT_NANOSLEEP (1 << STATE_NANOSLEEP)

/* These belong to the C library's own calls, which have forms with a time: the compiler names them. */
QNET_REFUSED("the wait of a signal is bounded by sigtimedwait()") extern int qnet_timeout_of_signals(void);
QNET_REFUSED("the wait for a mutex is bounded by pthread_mutex_timedlock()") extern int qnet_timeout_of_mutexes(void);
QNET_REFUSED("the wait for a condition is bounded by pthread_cond_timedwait()") extern int qnet_timeout_of_conds(void);
QNET_REFUSED("the wait for a thread is bounded by pthread_timedjoin_np()") extern int qnet_timeout_of_joins(void);
QNET_REFUSED("the wait for a semaphore is bounded by sem_timedwait()") extern int qnet_timeout_of_semaphores(void);
#define _NTO_TIMEOUT_SIGSUSPEND qnet_timeout_of_signals()
#define _NTO_TIMEOUT_SIGWAITINFO qnet_timeout_of_signals()
#define _NTO_TIMEOUT_MUTEX qnet_timeout_of_mutexes()
#define _NTO_TIMEOUT_CONDVAR qnet_timeout_of_conds()
#define _NTO_TIMEOUT_JOIN qnet_timeout_of_joins()
#define _NTO_TIMEOUT_SEM qnet_timeout_of_semaphores()

#ifndef TIMER_ABSTIME
#define TIMER_ABSTIME 1
#endif

struct _itimer {
    uint64_t nsec;
    uint64_t interval_nsec;
};

extern int TimerTimeout(clockid_t id, int flags, const struct sigevent *event, const uint64_t *ntime, uint64_t *otime);
extern int TimerTimeout_r(clockid_t id, int flags, const struct sigevent *event, const uint64_t *ntime,
                          uint64_t *otime);
extern int TimerCreate(clockid_t id, const struct sigevent *event);
extern int TimerCreate_r(clockid_t id, const struct sigevent *event);
extern int TimerDestroy(timer_t id);
extern int TimerDestroy_r(timer_t id);
extern int TimerSettime(timer_t id, int flags, const struct _itimer *itime, struct _itimer *oitime);
extern int TimerSettime_r(timer_t id, int flags, const struct _itimer *itime, struct _itimer *oitime);

/* ---- clocks ---- */

struct _clockperiod {
    uint32_t nsec;
    int32_t fract;
};

extern int ClockTime(clockid_t id, const uint64_t *newtime, uint64_t *oldtime);
extern int ClockTime_r(clockid_t id, const uint64_t *newtime, uint64_t *oldtime);
extern int ClockPeriod(clockid_t id, const struct _clockperiod *newperiod, struct _clockperiod *oldperiod, int reserved);
extern int ClockPeriod_r(clockid_t id, const struct _clockperiod *newperiod, struct _clockperiod *oldperiod,
                         int reserved);
/* Counts at the rate of SYSPAGE_ENTRY(qtime)->cycles_per_sec of <sys/syspage.h>. */
extern uint64_t ClockCycles(void);

/* ---- threads ---- */

#define _NTO_TCTL_RUNMASK 4                     /* data: the mask itself, a bit for each CPU */
#define _NTO_TCTL_RUNMASK_GET_AND_SET 6         /* data: int *, the new mask (0: none) and the old one back */
#define _NTO_TCTL_RUNMASK_GET_AND_SET_INHERIT 10 /* data: struct with a size and two masks, see RMSK_SIZE */
#define _NTO_TCTL_NAME 11                       /* data: struct _thread_name * */
/* These end the build: see the declarations behind them. */
#define _NTO_TCTL_IO qnet_no_io_privilege()
#define _NTO_TCTL_IO_PRIV qnet_no_io_privilege()
#define _NTO_TCTL_IO_LEVEL qnet_no_io_privilege()

#define _NTO_THREAD_NAME_MAX 100

struct _thread_name {
    int new_name_len; /* -1: leave the name, 0: none, else the bytes of it in name_buf */
    int name_buf_len; /* room for the old name, with its NUL */
    char name_buf[1];
};

#define RMSK_SIZE(cpus) (((unsigned)(cpus) + 31u) / 32u)
#define RMSK_SET(cpu, mask) ((mask)[(unsigned)(cpu) / 32u] |= 1u << ((unsigned)(cpu) % 32u))
#define RMSK_CLR(cpu, mask) ((mask)[(unsigned)(cpu) / 32u] &= ~(1u << ((unsigned)(cpu) % 32u)))
#define RMSK_ISSET(cpu, mask) (((mask)[(unsigned)(cpu) / 32u] & (1u << ((unsigned)(cpu) % 32u))) != 0)

extern int ThreadCtl(int cmd, void *data);
extern int ThreadCtl_r(int cmd, void *data);
extern int SchedGet(pid_t pid, int tid, struct sched_param *param);
extern int SchedGet_r(pid_t pid, int tid, struct sched_param *param);
extern int SchedSet(pid_t pid, int tid, int policy, const struct sched_param *param);
extern int SchedSet_r(pid_t pid, int tid, int policy, const struct sched_param *param);
extern int SchedYield(void);
extern int SchedYield_r(void);

/* ---- what needs a driver on Linux ---- */

extern int qnet_no_io_privilege(void)
    QNET_REFUSED("Linux gives I/O ports with ioperm() or iopl() of <sys/io.h>, and devices through their drivers");

#define QNET_NO_INTERRUPTS                                                                                             \
    QNET_REFUSED("interrupts belong to the kernel on Linux: wait for one with read() of /dev/uioN, or use the driver's "   \
                 "own file")

extern int InterruptAttach(int intr, const struct sigevent *(*handler)(void *, int), const void *area, int size,
                           unsigned flags) QNET_NO_INTERRUPTS;
extern int InterruptAttach_r(int intr, const struct sigevent *(*handler)(void *, int), const void *area, int size,
                             unsigned flags) QNET_NO_INTERRUPTS;
extern int InterruptAttachEvent(int intr, const struct sigevent *event, unsigned flags) QNET_NO_INTERRUPTS;
extern int InterruptAttachEvent_r(int intr, const struct sigevent *event, unsigned flags) QNET_NO_INTERRUPTS;
extern int InterruptDetach(int id) QNET_NO_INTERRUPTS;
extern int InterruptDetach_r(int id) QNET_NO_INTERRUPTS;
extern int InterruptWait(int flags, const uint64_t *timeout) QNET_NO_INTERRUPTS;
extern int InterruptWait_r(int flags, const uint64_t *timeout) QNET_NO_INTERRUPTS;
extern int InterruptMask(int intr, int id) QNET_NO_INTERRUPTS;
extern int InterruptUnmask(int intr, int id) QNET_NO_INTERRUPTS;
extern void InterruptEnable(void) QNET_NO_INTERRUPTS;
extern void InterruptDisable(void) QNET_NO_INTERRUPTS;
extern int InterruptHookTrace(const struct sigevent *(*handler)(int), unsigned flags) QNET_NO_INTERRUPTS;

QNET_END_DECLS

#endif
