/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Where programs are attached as clsact filters, anybody with `tc` can delete them, and nothing
 * would be filtered then. So deletions are watched, and ours are put back at once. (A tcx link
 * is the agent's own; there is nothing to watch.)
 */
#ifndef AGENT_FILTERS_H
#define AGENT_FILTERS_H

struct agent;
struct filters;

/* Watches, when the data path is attached by clsact; *out is NULL otherwise. -errno. */
int filters_new(struct filters **out, struct agent *a);
/* Before the loop's last run; frees it there. */
void filters_free(struct filters *f);

#endif
