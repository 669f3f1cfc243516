/* Round trips as planned on standard input (SIZE BACK IN_FLIGHT NANOS PAUSE START), with a line of results for each:
 * ALL COUNT NANOS P50 P99. The counterpart of bench-support's `trips`, for one message under way. */
#ifndef TRIPS_H
#define TRIPS_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef int (*trip_t)(void *self, size_t size, int echo); /* one trip; 0 when it went well */

static int64_t trips_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int trips_compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Makes the trips of one plan and prints what came of it. */
static int trips_take(trip_t trip, void *self, size_t size, int echo, int64_t span, int64_t pause)
{
    size_t all = 0, count = 0, room = 0;
    uint32_t *times = NULL;
    int64_t sum = 0, warm = trips_now() + span / 10;
    while (all < 4 || trips_now() < warm) {
        if (trip(self, size, echo))
            return 1;
        all++;
    }
    for (int64_t before = trips_now(), end = before + span; before < end;) {
        if (pause) {
            struct timespec silence = {pause / 1000000000, pause % 1000000000};
            nanosleep(&silence, NULL);
            before = trips_now();
        }
        if (trip(self, size, echo))
            return 1;
        int64_t after = trips_now();
        if (count == room) {
            room = room ? 2 * room : 4096;
            times = (uint32_t *)realloc(times, room * sizeof *times);
            if (!times)
                return 1;
        }
        times[count++] = (uint32_t)(after - before);
        sum += after - before;
        before = after;
    }
    qsort(times, count, sizeof *times, trips_compare);
    printf("%zu %zu %lld %u %u\n", all + count, count, (long long)sum, times[count / 2], times[count * 99 / 100]);
    fflush(stdout);
    free(times);
    return 0;
}

/* Says that it is ready and answers plans until standard input ends. */
static int trips_answer(trip_t trip, void *self)
{
    unsigned long long size, echo, in_flight, span, pause, start;
    printf("ready\n");
    fflush(stdout);
    while (scanf("%llu %llu %llu %llu %llu %llu", &size, &echo, &in_flight, &span, &pause, &start) == 6)
        if (in_flight != 1 || start || trips_take(trip, self, size, (int)echo, (int64_t)span, (int64_t)pause))
            return 1;
    return 0;
}
#endif
