/*
 * Wakes User Mode Linux once a second, whatever its own clock does.
 *
 * That clock is one timer of the host, which is set anew each time it has rung. After hours of load a ring was lost (seen
 * with Debian's 6.1). Then nothing is due ever again: no tick ends a process's turn, and one that waits for another in a
 * loop, as Go's do, keeps the only processor for good. A ring that nobody waits for does no harm: the kernel does what is
 * due, and sets its timer anew.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <time.h>

typedef int timer_create_fn(clockid_t, struct sigevent *, timer_t *);

/* This function comes before the one of the C library: who makes a timer gets it, and another beside it. */
int timer_create(clockid_t clock, struct sigevent *event, timer_t *timer)
{
	const struct itimerspec each_second = { { 1, 0 }, { 1, 0 } };
	timer_create_fn *next = (timer_create_fn *)dlsym(RTLD_NEXT, "timer_create");
	timer_t second;

	if (next(clock, event, timer) != 0)
		return -1;
	if (next(clock, event, &second) == 0)
		timer_settime(second, 0, &each_second, NULL);
	return 0;
}
