/*
 * sys/platform.h - QNX's names for integers of a fixed width, and the words that these headers use among themselves.
 *
 * Needs no other header, so that every header of the overlay can give these names, as QNX's do.
 */
#ifndef QNET_SYS_PLATFORM_H
#define QNET_SYS_PLATFORM_H

#ifndef __linux__
#error "these headers are for Linux: on QNX Neutrino use its own"
#endif

typedef __INT8_TYPE__ _Int8t;
typedef __UINT8_TYPE__ _Uint8t;
typedef __INT16_TYPE__ _Int16t;
typedef __UINT16_TYPE__ _Uint16t;
typedef __INT32_TYPE__ _Int32t;
typedef __UINT32_TYPE__ _Uint32t;
typedef __INT64_TYPE__ _Int64t;
typedef __UINT64_TYPE__ _Uint64t;
typedef __INTPTR_TYPE__ _Intptrt;
typedef __UINTPTR_TYPE__ _Uintptrt;
typedef __SIZE_TYPE__ _Sizet;
typedef __PTRDIFF_TYPE__ _Ssizet;

#ifdef __cplusplus
#define QNET_BEGIN_DECLS extern "C" {
#define QNET_END_DECLS }
#else
#define QNET_BEGIN_DECLS
#define QNET_END_DECLS
#endif

/* A declaration under QNX's (and POSIX's) name whose code in libqnet has another: the C library has that name, too. */
#define QNET_NAMED(symbol) __asm__(#symbol)

/* A call that these headers know and Linux cannot give: whoever uses it is told so by the compiler. */
#if defined __has_attribute
#if __has_attribute(unavailable)
#define QNET_REFUSED(sentence) __attribute__((__unavailable__(sentence)))
#endif
#endif
#ifndef QNET_REFUSED
#define QNET_REFUSED(sentence) __attribute__((__error__(sentence)))
#endif

#endif
