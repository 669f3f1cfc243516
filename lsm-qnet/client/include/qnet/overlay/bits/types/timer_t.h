/*
 * bits/types/timer_t.h - timer_t is an int, as on QNX; in front of the C library's file of that name.
 *
 * The numbers are libqnet's: the calls that take one are redirected by the overlay's <time.h>.
 */
#ifndef __timer_t_defined
#define __timer_t_defined 1

typedef int timer_t;

#endif
