/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Drops of the kernel itself, of packets from or to endpoints, for the flow log. */
#ifndef AGENT_KERNEL_DROPS_H
#define AGENT_KERNEL_DROPS_H

#include "agent.h"

struct kernel_drops;

/* Begins to load; what is dropped before that is done is not told. -ENOMEM. */
int kernel_drops_new(struct kernel_drops **out, struct agent *a);
/* Before the loop's last run and datapath_close(). NULL is fine. */
void kernel_drops_free(struct kernel_drops *k);
/* Endpoints may have come or gone. Cheap when none has. */
void kernel_drops_sync(struct kernel_drops *k);
/* Whether this kernel tells, and the program is in place. */
bool kernel_drops_told(const struct kernel_drops *k);
/* Appends a row for each reason that was seen, in the form of the status's `drops`. */
void kernel_drops_json(struct kernel_drops *k, json_t *list);

#endif
