/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "slots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * Longer than any packet is under way between the look-up of a slot and its use, and than the
 * agent leaves an event in the ring.
 */
#define SLOT_REST_MS 5000

struct slots {
	struct endpoint *used[TW_MAX_ENDPOINTS];
	uint64_t released[TW_MAX_ENDPOINTS]; /* when, 0: never */
	uint32_t last;			     /* handed out last */
	uint32_t end;			     /* behind the highest slot in use */
	uint32_t count;
	uint64_t changes;
};

struct slots *slots_new(void)
{
	return calloc(1, sizeof(struct slots));
}

static void endpoint_free(struct endpoint *ep)
{
	endpoint_clear(ep);
	free(ep);
}

void slots_free(struct slots *s)
{
	if (!s)
		return;
	for (uint32_t slot = 1; slot < s->end; slot++)
		if (s->used[slot])
			endpoint_free(s->used[slot]);
	free(s);
}

int slots_choose(struct slots *s, uint64_t now, uint32_t *slot)
{
	for (uint32_t i = 0; i < TW_MAX_ENDPOINTS - 1; i++) {
		uint32_t at = (s->last + i) % (TW_MAX_ENDPOINTS - 1) + 1;

		if (s->used[at] || (s->released[at] && now - s->released[at] < SLOT_REST_MS))
			continue;
		s->last = at;
		*slot = at;
		return 0;
	}
	return -ENOSPC;
}

void slots_put(struct slots *s, struct endpoint *ep)
{
	s->used[ep->slot] = ep;
	s->count++;
	s->changes++;
	if (ep->slot >= s->end)
		s->end = ep->slot + 1;
	/* After a restart the turn goes on behind the slots in use. */
	if (ep->slot > s->last)
		s->last = ep->slot;
}

void slots_release(struct slots *s, uint32_t slot, uint64_t now)
{
	endpoint_free(s->used[slot]);
	s->used[slot] = NULL;
	s->released[slot] = now;
	s->count--;
	s->changes++;
}

struct endpoint *slots_get(const struct slots *s, uint32_t slot)
{
	return slot < TW_MAX_ENDPOINTS ? s->used[slot] : NULL;
}

struct endpoint *slots_next(const struct slots *s, uint32_t slot)
{
	for (; slot < s->end; slot++)
		if (s->used[slot])
			return s->used[slot];
	return NULL;
}

struct endpoint *slots_find(const struct slots *s, const char *container_id, const char *ifname)
{
	struct endpoint *ep;

	for (uint32_t slot = 1; (ep = slots_next(s, slot)); slot = ep->slot + 1)
		if (!ep->part && !strcmp(ep->container_id, container_id) &&
		    !strcmp(ep->ifname, ifname))
			return ep;
	return NULL;
}

struct endpoint *slots_find_port(const struct slots *s, const char *port)
{
	struct endpoint *ep;

	for (uint32_t slot = 1; (ep = slots_next(s, slot)); slot = ep->slot + 1)
		if (!ep->part && !strcmp(ep->port, port))
			return ep;
	return NULL;
}

struct endpoint *slots_part(const struct slots *s, const struct endpoint *ep,
			    const struct endpoint *after)
{
	struct endpoint *part;

	/* Slots wrap round, so a further part's may be the lower one. */
	for (uint32_t slot = after ? after->slot + 1 : 1; (part = slots_next(s, slot));
	     slot = part->slot + 1)
		if (part->part && !strcmp(part->port, ep->port))
			return part;
	return NULL;
}

uint32_t slots_count(const struct slots *s)
{
	return s->count;
}

uint64_t slots_changes(const struct slots *s)
{
	return s->changes;
}
