/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The endpoints that live, each under the slot of tw_endpoints that it has. */
#ifndef AGENT_SLOTS_H
#define AGENT_SLOTS_H

#include "endpoint/endpoint.h"

struct slots;

struct slots *slots_new(void);	  /* NULL: out of memory */
void slots_free(struct slots *s); /* and the endpoints in it */

/*
 * A free slot, not yet taken. Slots are handed out in turn, and one that was released rests
 * for some seconds: packets and events under way still name it. `now` in ms of any clock.
 * -ENOSPC.
 */
int slots_choose(struct slots *s, uint64_t now, uint32_t *slot);
/* Takes ep->slot, which must be free; the endpoint (malloc'ed) becomes the table's. */
void slots_put(struct slots *s, struct endpoint *ep);
/* Out of the table and freed. */
void slots_release(struct slots *s, uint32_t slot, uint64_t now);

struct endpoint *slots_get(const struct slots *s, uint32_t slot); /* NULL: free */
struct endpoint *slots_find(const struct slots *s, const char *container_id, const char *ifname);
/* The endpoint whose port has that name, or NULL. */
struct endpoint *slots_find_port(const struct slots *s, const char *port);
/* The next further part of an endpoint behind `after` (NULL: the first one), or NULL. */
struct endpoint *slots_part(const struct slots *s, const struct endpoint *ep,
			    const struct endpoint *after);
/* The endpoint in the first used slot from `slot` on: for (slot = 1; (ep = ...); slot = ep->slot + 1) */
struct endpoint *slots_next(const struct slots *s, uint32_t slot);
uint32_t slots_count(const struct slots *s);
/* How often the table has changed: who has seen this number has seen all endpoints. */
uint64_t slots_changes(const struct slots *s);

#endif
