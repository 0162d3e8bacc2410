/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Preloaded into a program, sets its clocks by what stands in the file TOWPATH_TEST_CLOCK: two
 * 64-bit numbers of seconds, for CLOCK_REALTIME and CLOCK_MONOTONIC. The test changes them while
 * the program runs; the machine's own clocks stay as they are.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shift;

__attribute__((constructor)) static void shift_map(void)
{
	const char *path = getenv("TOWPATH_TEST_CLOCK");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *at = mmap(NULL, 2 * sizeof(*shift), PROT_READ, MAP_SHARED, fd, 0);

	if (at == MAP_FAILED)
		abort();
	close(fd);
	shift = at;
}

/* The names of the C library's own arguments are not for others. */
/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */
int clock_gettime(clockid_t id, struct timespec *ts)
{
	int res = (int)syscall(SYS_clock_gettime, id, ts);

	if (!res && shift)
		switch (id) {
		case CLOCK_REALTIME:
		case CLOCK_REALTIME_COARSE:
			ts->tv_sec += shift[0];
			break;
		case CLOCK_MONOTONIC:
		case CLOCK_MONOTONIC_COARSE:
		case CLOCK_BOOTTIME:
			ts->tv_sec += shift[1];
			break;
		default:
			break;
		}
	return res;
}

int gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *out)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (out)
		*out = ts.tv_sec;
	return ts.tv_sec;
}
/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */
