/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The kernel's entries have no room for the moment they were made, so the log remembers it: 12
 * bytes a live flow, in sets of four. What does not fit any more only costs a closed flow its
 * duration.
 */
#include "flow/opened.h"

#include <stdlib.h>
#include <string.h>

#define WAYS 4u
#define SETS_MIN 256u
#define SETS_MAX 32768u /* 1.5 MB */

/* A jiffy has 1 to 10 ms. 32 bits of this are 198 days; a flow that lives longer looks younger. */
#define UNIT_MS 4u
#define MS 1000000u

struct entry {
	uint32_t tag;  /* hash of the tuple; 0: free */
	uint32_t time; /* in UNIT_MS */
	uint32_t seq;  /* low bits */
};

struct opened {
	struct entry *v;
	uint32_t sets;
};

struct opened *opened_new(void)
{
	struct opened *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->sets = SETS_MIN;
	t->v = calloc((size_t)t->sets * WAYS, sizeof(*t->v));
	if (t->v)
		return t;
	free(t);
	return NULL;
}

void opened_free(struct opened *t)
{
	if (t)
		free(t->v);
	free(t);
}

size_t opened_bytes(const struct opened *t)
{
	return (size_t)t->sets * WAYS * sizeof(*t->v);
}

static uint32_t tuple_tag(const struct tw_tuple *t)
{
	const uint64_t words[] = { t->saddr.quad[0], t->saddr.quad[1], t->daddr.quad[0],
				   t->daddr.quad[1],
				   (uint64_t)t->sport << 32 | (uint64_t)t->dport << 16 | t->proto };
	uint64_t h = 0;

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
		h = (h ^ words[i]) * 0x9e3779b97f4a7c15ull;
		h ^= h >> 32;
	}
	return (uint32_t)h ? (uint32_t)h : 1;
}

static struct entry *set_of(const struct opened *t, uint32_t tag)
{
	return &t->v[(size_t)(tag & (t->sets - 1)) * WAYS];
}

/* Twice as many sets; what is in one goes to itself or to the one that many further on. */
static bool table_grow(struct opened *t)
{
	struct opened more = { .sets = 2 * t->sets };

	if (t->sets == SETS_MAX)
		return false;
	more.v = calloc((size_t)more.sets * WAYS, sizeof(*more.v));
	if (!more.v)
		return false;
	for (size_t i = 0; i < (size_t)t->sets * WAYS; i++) {
		if (!t->v[i].tag)
			continue;
		struct entry *to = set_of(&more, t->v[i].tag);

		while (to->tag)
			to++;
		*to = t->v[i];
	}
	free(t->v);
	*t = more;
	return true;
}

/* The place for a flow: its own, a free one, or that of the oldest. */
static struct entry *place_find(const struct opened *t, uint32_t tag, uint32_t now, bool *full)
{
	struct entry *set = set_of(t, tag), *best = set;

	for (unsigned int i = 0; i < WAYS; i++) {
		if (set[i].tag == tag) {
			*full = false;
			return &set[i];
		}
		if (best->tag && (!set[i].tag || now - set[i].time > now - best->time))
			best = &set[i];
	}
	*full = best->tag != 0;
	return best;
}

void opened_put(struct opened *t, const struct tw_tuple *tuple, uint64_t time, uint64_t seq)
{
	uint32_t tag = tuple_tag(tuple), now = (uint32_t)(time / MS / UNIT_MS);
	bool full;
	struct entry *e = place_find(t, tag, now, &full);

	while (full && table_grow(t))
		e = place_find(t, tag, now, &full);
	*e = (struct entry){ tag, now, (uint32_t)seq };
}

bool opened_take(struct opened *t, const struct tw_tuple *tuple, uint64_t time, uint64_t head,
		 uint64_t *ms, uint64_t *seq)
{
	uint32_t tag = tuple_tag(tuple), now = (uint32_t)(time / MS / UNIT_MS);
	struct entry *set = set_of(t, tag);

	for (unsigned int i = 0; i < WAYS; i++) {
		if (set[i].tag != tag)
			continue;
		*ms = (uint64_t)(now - set[i].time) * UNIT_MS;
		*seq = head - (uint32_t)((uint32_t)head - set[i].seq);
		set[i].tag = 0;
		return true;
	}
	return false;
}
