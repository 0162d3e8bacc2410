/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <malloc.h>
#include <stdlib.h>

#include "agent.h"

int main(int argc, char **argv)
{
	struct agent_options opts;
	int status = options_parse(&opts, argc, argv);

	if (status >= 0)
		return status;
	/*
	 * Memory: one heap, which gives back what a large request leaves, and one worker, which
	 * collects flows and waits for grace periods.
	 */
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_TRIM_THRESHOLD, 64 << 10);
	mallopt(M_MMAP_THRESHOLD, 128 << 10);
	setenv("UV_THREADPOOL_SIZE", "1", 1);
	return opts.uninstall ? agent_uninstall(&opts) : agent_run(&opts);
}
