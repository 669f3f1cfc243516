/*
 * threadctl.c - names and CPUs of threads, clocks, the small calls.
 */
#include <process.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/neutrino.h>
#include <sys/syspage.h>
#include <unistd.h>

int main(void)
{
    struct {
        struct _thread_name name;
        char room[_NTO_THREAD_NAME_MAX];
    } thread;
    struct _clockperiod period;
    uint64_t time, again;
    unsigned mask;
    pid_t tid = gettid();

    memset(&thread, 0, sizeof thread);
    strcpy(thread.name.name_buf, "worker");
    thread.name.new_name_len = 6;
    thread.name.name_buf_len = 50;
    printf("named %d, before: %s\n", ThreadCtl(_NTO_TCTL_NAME, &thread), thread.name.name_buf);
    thread.name.new_name_len = -1;
    printf("read %d: %s\n", ThreadCtl(_NTO_TCTL_NAME, &thread), thread.name.name_buf);
    thread.name.name_buf_len = 4;
    printf("cut %d: %s\n", ThreadCtl(_NTO_TCTL_NAME, &thread), thread.name.name_buf);
    mask = 0;
    printf("mask %d", ThreadCtl(_NTO_TCTL_RUNMASK_GET_AND_SET, &mask));
    printf(", some CPU %d\n", mask != 0);
    unsigned first = mask & -mask;
    printf("one CPU %d\n", ThreadCtl(_NTO_TCTL_RUNMASK, (void *)(_Uintptrt)first));
    unsigned now = mask;
    printf("changed back %d", ThreadCtl(_NTO_TCTL_RUNMASK_GET_AND_SET, &now));
    printf(", it was %d\n", now == first);
    printf("unknown command: %d\n", ThreadCtl(1000, NULL) == -1 && errno == EINVAL);
    printf("the thread's number stays: %d\n", tid > 0 && gettid() == tid);

    ClockTime(CLOCK_REALTIME, NULL, &time);
    printf("after 2020: %d\n", time > 1577836800u * (uint64_t)1000000000);
    ClockTime(CLOCK_MONOTONIC, NULL, &time);
    delay(20);
    ClockTime(CLOCK_MONOTONIC, NULL, &again);
    printf("delay waits: %d\n", again - time >= 20000000);
    printf("period %d", ClockPeriod(CLOCK_REALTIME, NULL, &period, 0));
    printf(", not 0: %d\n", period.nsec > 0);
    printf("changed: %d\n", ClockPeriod(CLOCK_REALTIME, &period, NULL, 0) == -1 && errno == EPERM);
    printf("cycles: %d\n", ClockCycles() != 0 && SYSPAGE_ENTRY(qtime)->cycles_per_sec > 1000);
    printf("CPUs: %d\n", _syspage_ptr->num_cpu > 0);
    printf("own name: %d\n", strstr(_cmdname(NULL), "threadctl") != NULL);
    printf("yield: %d\n", SchedYield());
    return EXIT_SUCCESS;
}
