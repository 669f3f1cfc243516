/* zmqbulk pull ADDRESS | push ADDRESS SIZE MILLIS
 * ZeroMQ bulk, one way. pull prints "ready", then "BYTES NANOS" after each stream, once nothing came for 300 ms. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int push(void *context, const char *address, size_t size, long long millis)
{
    void *socket = zmq_socket(context, ZMQ_PUSH);
    int queue = 64, linger = 1000;
    char *message = calloc(1, size);
    if (!socket || !message)
        return 1;
    zmq_setsockopt(socket, ZMQ_SNDHWM, &queue, sizeof queue);
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    if (zmq_connect(socket, address))
        return 1;
    for (long long end = now() + millis * 1000000; now() < end;)
        if (zmq_send(socket, message, size, 0) < 0)
            return 1;
    free(message);
    return zmq_close(socket);
}

static int pull(void *context, const char *address)
{
    void *socket = zmq_socket(context, ZMQ_PULL);
    int queue = 64, timeout = 300;
    long long bytes = 0, first = 0, last = 0;
    zmq_msg_t message;
    if (!socket)
        return 1;
    zmq_setsockopt(socket, ZMQ_RCVHWM, &queue, sizeof queue);
    zmq_setsockopt(socket, ZMQ_RCVTIMEO, &timeout, sizeof timeout);
    if (zmq_bind(socket, address))
        return 1;
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        zmq_msg_init(&message);
        int got = zmq_msg_recv(&message, socket, 0);
        if (got >= 0) {
            last = now();
            if (!first)
                first = last;
            bytes += got;
        } else if (first) {
            printf("%lld %lld\n", bytes, last - first);
            fflush(stdout);
            bytes = first = 0;
        }
        zmq_msg_close(&message);
    }
}

int main(int count, char **words)
{
    void *context = zmq_ctx_new();
    if (count == 3 && !strcmp(words[1], "pull"))
        return pull(context, words[2]);
    if (count != 5 || push(context, words[2], strtoul(words[3], 0, 10), strtoll(words[4], 0, 10)))
        return 1;
    return zmq_ctx_destroy(context);
}
