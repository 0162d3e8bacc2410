/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Drops that the kernel makes itself, of packets from or to endpoints: loads drops.bpf.c beside
 * the data path and tells it which network namespaces count. Its events come with those of
 * datapath_events(), with hook TW_HOOK_KERNEL. Nothing of it is pinned: it ends with the agent.
 */
#ifndef TOWPATH_DROPS_H
#define TOWPATH_DROPS_H

#include "datapath.h"

struct drops;

/*
 * Loads and attaches the program, which takes tens of milliseconds and may be done on a worker
 * thread while dp is in use. `node` is the inode number of the node's network namespace. Until
 * drops_start() its events stay in the kernel. -errno with a sentence in err: this kernel does
 * not offer what is needed.
 */
int drops_open(struct drops **out, struct datapath *dp, uint32_t node, char *err, size_t err_len);
/* From now on datapath_events() brings its events, too. On the thread that calls that. */
int drops_start(struct drops *d, struct datapath *dp);
/* Before datapath_close(). NULL is fine. */
void drops_close(struct drops *d);

/*
 * The running kernel's own names of its reasons, as its tracepoint prints them; each is malloc'ed, NULL where
 * there is none. Names that are there stay. 0 or -errno.
 */
int drops_names_read(char *names[TW_KERNEL_REASONS]);

/* Network namespaces of endpoints, by inode number; exactly these, beside the node's. */
int drops_netns_set(struct drops *d, const uint32_t *inum, size_t n);

/* Sum over CPUs since drops_open(). */
int drops_count(struct drops *d, unsigned int reason, struct tw_metric *out);

#endif
