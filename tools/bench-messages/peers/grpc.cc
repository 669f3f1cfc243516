// grpc echo ADDRESS | grpc ping ADDRESS
// gRPC, unary calls with the synchronous API, without encryption.
#include <grpcpp/grpcpp.h>
#include <memory>
#include <string>
#include "echo.grpc.pb.h"
#include "trips.h"

class Server final : public echo::Echo::Service {
    grpc::Status Call(grpc::ServerContext *, const echo::Bytes *in, echo::Bytes *out) override
    {
        *out = *in;
        return grpc::Status::OK;
    }
};

struct Client {
    std::unique_ptr<echo::Echo::Stub> stub;
    echo::Bytes message;
};

static int trip(void *self, size_t size, int)
{
    auto client = static_cast<Client *>(self);
    if (client->message.data().size() != size)
        client->message.set_data(std::string(size, '\xa5'));
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    echo::Bytes answer;
    auto status = client->stub->Call(&context, client->message, &answer);
    return !status.ok() || answer.data().size() != size;
}

int main(int count, char **words)
{
    if (count != 3)
        return 2;
    if (std::string(words[1]) == "echo") {
        Server service;
        grpc::ServerBuilder builder;
        builder.AddListeningPort(words[2], grpc::InsecureServerCredentials());
        builder.RegisterService(&service);
        auto server = builder.BuildAndStart();
        if (!server)
            return 1;
        printf("ready\n");
        fflush(stdout);
        server->Wait();
        return 0;
    }
    Client client{echo::Echo::NewStub(grpc::CreateChannel(words[2], grpc::InsecureChannelCredentials())), {}};
    return trips_answer(trip, &client);
}
