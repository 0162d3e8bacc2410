/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the agent keeps resident. Starting up runs through far more code of libraries than
 * serving does (TLS and loaders set themselves up, programs are linked), and a large request
 * leaves a large heap; both are given back, and what is used again comes back from the page
 * cache.
 */
#include <malloc.h>
#include <stdio.h>
#include <sys/mman.h>

#include "agent.h"

struct mapping {
	unsigned long begin, end;
	char mode[8];
	char path[8];
};

/* Only pages that are as the file has them: nothing of them is lost. */
static void mapping_release(const struct mapping *m, unsigned long own_kb)
{
	if (m->mode[1] != 'w' && *m->path == '/' && !own_kb)
		madvise((void *)m->begin, m->end - m->begin, MADV_DONTNEED);
}

void memory_release(void)
{
	FILE *in = fopen("/proc/self/smaps", "re");
	struct mapping m = {}, next;
	unsigned long own_kb;
	char line[512];

	while (in && fgets(line, sizeof(line), in)) {
		next = (struct mapping){};
		if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %7s", &next.begin, &next.end, next.mode,
			   next.path) >= 3)
			m = next;
		else if (sscanf(line, "Anonymous: %lu kB", &own_kb) == 1)
			mapping_release(&m, own_kb);
	}
	if (in)
		fclose(in);
	malloc_trim(0);
}
