/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What Towpath's own programs ask of a kernel, read from the programs themselves. */
#ifndef TOWPATH_USED_H
#define TOWPATH_USED_H

#include <stdbool.h>
#include <stdint.h>

#define USED_HELPERS 512u
#define USED_TYPES 64u

struct used {
	bool helper[USED_HELPERS]; /* by BPF_FUNC_* */
	bool prog[USED_TYPES];	   /* by BPF_PROG_TYPE_* */
	bool map[USED_TYPES];	   /* by BPF_MAP_TYPE_* */
};

/* Nothing is loaded. 0 or -errno. */
int used_read(struct used *out);

#endif
