/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The inside of struct edge. edge.c: load, pin, counts; edge_attach.c: devices. */
#ifndef TOWPATH_EDGE_INTERNAL_H
#define TOWPATH_EDGE_INTERNAL_H

#include <limits.h>

#include "edge.h"

struct edge_bpf;

struct edge {
	struct edge_bpf *skel;
	char pin_dir[PATH_MAX]; /* with /edge; "": nothing is pinned */
	struct tw_edge_settings settings;
	/* Links of this process where nothing is pinned. */
	struct edge_link {
		uint32_t ifindex;
		int fd;
	} *links;
	size_t n_links;
};

/* Jiffies since about boot, as the programs have them. */
int edge_jiffies(const struct edge *edge, uint64_t *out);

/* Puts prog_fd on each device. */
int edge_links_update(struct edge *edge, int prog_fd);

#endif
