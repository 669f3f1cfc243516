/*
 * sys/mman.h - the C library's; what QNX maps of a device is refused with the way that Linux has.
 */
#pragma GCC system_header
#include_next <sys/mman.h>

#ifndef QNET_OVERLAY_SYS_MMAN_H
#define QNET_OVERLAY_SYS_MMAN_H

#include <sys/platform.h>

QNET_BEGIN_DECLS

extern void *mmap_device_memory(void *address, __SIZE_TYPE__ length, int protection, int flags, _Uint64t physical)
    QNET_REFUSED("a Linux program maps a device through its driver: mmap() of /dev/uioN or of "
                 "/sys/bus/pci/devices/ADDRESS/resourceN");
extern _Uintptrt mmap_device_io(__SIZE_TYPE__ length, _Uint64t port)
    QNET_REFUSED("I/O ports on Linux: ioperm() and <sys/io.h>, or a driver of the kernel");
extern int munmap_device_memory(void *address, __SIZE_TYPE__ length)
    QNET_REFUSED("a Linux program maps a device through its driver: mmap() and munmap() of /dev/uioN");
extern int munmap_device_io(_Uintptrt io, __SIZE_TYPE__ length)
    QNET_REFUSED("I/O ports on Linux: ioperm() and <sys/io.h>, or a driver of the kernel");

QNET_END_DECLS

#endif
