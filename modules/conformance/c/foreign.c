/* A shared object whose constructor leaves a trace. With -DNOTE=1 it has the io-pkt note but no entry. */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <unistd.h>

#include "io_pkt_module.h"

#ifdef NOTE
IO_PKT_MODULE_NOTE("devn-foreign");
#endif

__attribute__((constructor)) static void trace(void)
{
    int fd = open(TRACE, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
}
