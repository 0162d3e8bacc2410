/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The second program of new ports. To link a program the kernel waits for a grace period, some 8 ms,
 * under the lock of all interfaces. The program for what the container sends is linked before
 * anything is up; the one for what the node's stack sends to the container is linked here, by a
 * worker, when the ADD has its answer. Until then the endpoint is `closed`: the kernel does not
 * know it as a neighbour, so what the stack sends to it waits (endpoint_link_open()), and nothing
 * gets to it that was not judged. The container itself notices nothing: what it sends, and what
 * other containers and uplinks send to it, does not take that way.
 *
 * An agent that dies in between leaves a closed endpoint; its next start links both programs and
 * opens it, as for every port (restore.c).
 */
#ifndef AGENT_OPENER_H
#define AGENT_OPENER_H

#include "agent.h"

struct opener;

int opener_new(struct opener **out, struct agent *a);
/* Before the loop's last run; opens what is closed. */
void opener_free(struct opener *o);
/* One that was just made; if it is closed, it is opened soon. */
void opener_add(struct opener *o, struct endpoint *ep);
/* Opens it now. */
void opener_finish(struct opener *o, const struct endpoint *ep);

#endif
