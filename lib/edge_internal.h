/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The inside of struct edge. edge.c: load, pin, counts; edge_attach.c: devices; edge_table.c: the
 * address table.
 */
#ifndef TOWPATH_EDGE_INTERNAL_H
#define TOWPATH_EDGE_INTERNAL_H

#include <limits.h>

#include "edge.h"

struct edge_bpf;

struct edge {
	struct edge_bpf *skel;
	char pin_dir[PATH_MAX]; /* with /edge; "": nothing is pinned */
	struct tw_edge_settings settings;
	uint32_t max_lines; /* of tw_edge_lines */
	/* Links of this process where nothing is pinned. */
	struct edge_link {
		uint32_t ifindex;
		int fd;
	} *links;
	size_t n_links;
};

/* Lines of an empty table, both halves. */
#define EDGE_LINES_MIN 4096u

/* Puts prog_fd on each device. */
int edge_links_update(struct edge *edge, int prog_fd);

/*
 * Loads the program with these settings over the maps in use, but for those of the address table,
 * which are new ones of this size; max_lines 0: those, too. Any thread.
 */
int edge_load_next(const struct edge *edge, const struct tw_edge_settings *settings,
		   uint32_t max_lines, struct edge_bpf **out, char *err, size_t err_len);
/* Switches all devices to it, and takes it over, also on failure. */
int edge_use_next(struct edge *edge, struct edge_bpf *skel, const struct tw_edge_settings *settings,
		  uint32_t max_lines, char *err, size_t err_len);
int edge_skel_map(const struct edge_bpf *skel, const char *name);
void edge_skel_close(struct edge_bpf *skel);

#endif
