/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The inside of struct edge. edge.c: load, pin, counts; edge_attach.c: devices; edge_table.c: the
 * address table; edge_limit.c: limits and SYN cookies; edge_accept.c: cookies on the listeners'
 * side.
 */
#ifndef TOWPATH_EDGE_INTERNAL_H
#define TOWPATH_EDGE_INTERNAL_H

#include <limits.h>

#include "edge.h"

struct edge_bpf;
struct edge_accept_bpf;

/* What of a device a link holds. */
enum edge_link_place {
	EDGE_LINK_XDP,
	EDGE_LINK_ACCEPT, /* tc ingress: see edge_accept.c */
};

struct edge {
	struct edge_bpf *skel;
	struct edge_accept_bpf *accept; /* NULL: never wanted */
	char pin_dir[PATH_MAX];		/* with /edge; "": nothing is pinned */
	struct tw_edge_settings settings;
	uint32_t max_lines; /* of tw_edge_lines */
	/* Links of this process where nothing is pinned. */
	struct edge_link {
		enum edge_link_place place;
		uint32_t ifindex;
		int fd;
	} *links;
	size_t n_links;
};

/* Jiffies since about boot, as the programs have them. */
int edge_jiffies(const struct edge *edge, uint64_t *out);
/* The same by the program that says it. */
int edge_clock_read(int prog_fd, uint64_t *out);
int edge_clock_fd(const struct edge *edge);

/* Lines of an empty table, both halves. */
#define EDGE_LINES_MIN 4096u

/* Puts prog_fd on each device. */
int edge_links_update(struct edge *edge, int prog_fd);

/* A descriptor of a device's link, the caller's; -ENOENT. */
int edge_link_get(const struct edge *edge, enum edge_link_place place, uint32_t ifindex);
/* Takes the descriptor. */
int edge_link_keep(struct edge *edge, enum edge_link_place place, uint32_t ifindex, int fd);
/* Takes the program off the device; -ENOENT. */
int edge_link_remove(struct edge *edge, enum edge_link_place place, uint32_t ifindex);
/* Calls fn for each link until it returns not 0, which is returned; fn may remove it. */
int edge_links_each(struct edge *edge, enum edge_link_place place,
		    int (*fn)(void *arg, uint32_t ifindex), void *arg);

void edge_accept_close(struct edge *edge);

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
