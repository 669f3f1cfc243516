/* zmq echo ADDRESS | zmq ping ADDRESS
 * ZeroMQ REQ and REP. */
#include <string.h>
#include <zmq.h>
#include "trips.h"

static int echo(void *context, const char *address)
{
    void *socket = zmq_socket(context, ZMQ_REP);
    if (!socket || zmq_bind(socket, address))
        return 1;
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        zmq_msg_t message;
        zmq_msg_init(&message);
        if (zmq_msg_recv(&message, socket, 0) < 0 || zmq_msg_send(&message, socket, 0) < 0)
            return 1;
    }
}

struct client {
    void *socket;
    char *bytes;
    size_t room;
};

static int trip(void *self, size_t size, int all_back)
{
    struct client *client = self;
    (void)all_back; /* its server always echoes */
    if (client->room < size) {
        client->bytes = realloc(client->bytes, size);
        if (!client->bytes)
            return 1;
        memset(client->bytes, 0xa5, size);
        client->room = size;
    }
    return zmq_send(client->socket, client->bytes, size, 0) < 0 ||
           zmq_recv(client->socket, client->bytes, size, 0) != (int)size;
}

int main(int count, char **words)
{
    void *context = zmq_ctx_new();
    if (count != 3)
        return 2;
    if (!strcmp(words[1], "echo"))
        return echo(context, words[2]);
    struct client client = {zmq_socket(context, ZMQ_REQ), NULL, 0};
    if (!client.socket || zmq_connect(client.socket, words[2]))
        return 1;
    return trips_answer(trip, &client);
}
