/*
 * hw/inout.h - reading and writing I/O ports: not from a Linux program with this library.
 */
#error "hw/inout.h: in8(), out8() and friends are <sys/io.h> (inb(), outb() after ioperm()) on Linux, or the job of a kernel driver"
