/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Traffic control that others do on our interfaces.
 *
 * Where programs are attached as clsact filters, anybody with `tc` can delete them, and nothing
 * would be filtered then. So deletions are watched, and ours are put back at once. (A tcx link
 * is the agent's own; there is nothing to watch.)
 *
 * A port may get qdiscs: the reference plugin `bandwidth` shapes with them. Its endpoint's packets
 * then take the port's queues instead of the short way into the container.
 */
#ifndef AGENT_FILTERS_H
#define AGENT_FILTERS_H

#include <stdint.h>

struct agent;
struct filters;

/* Attaches to ports and uplinks what somebody has taken off; ifindex 0: to all of them. */
void filters_put_back(struct agent *a, uint32_t ifindex);

/* -errno. */
int filters_new(struct filters **out, struct agent *a);
/* Before the loop's last run; frees it there. */
void filters_free(struct filters *f);

/* At start, before the maps are written: which ports have queues. -errno. */
int filters_read_queues(struct agent *a);

#endif
