/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "top_walk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TALLY_MIN 1024u
#define TALLY_MAX (1u << 20) /* flows; of more only these are looked at */

struct tallied {
	uint64_t hash; /* 0: free */
	uint64_t bytes[2];
	uint32_t packets[2]; /* the low half: differences come out right */
	uint32_t wanted;
	uint32_t pad;
};

/* Open addressing; at most three quarters full. */
struct tally {
	uint32_t size; /* a power of two */
	uint32_t n;
	struct tallied v[];
};

void tally_free(struct tally *t)
{
	free(t);
}

static struct tally *tally_new(uint32_t flows)
{
	uint32_t size = TALLY_MIN;

	while (size < TALLY_MAX && size / 2 < flows)
		size *= 2;
	struct tally *t = calloc(1, sizeof(*t) + size * sizeof(t->v[0]));
	if (t)
		t->size = size;
	return t;
}

/* A mix of the whole tuple; two flows that share one of 2^64 values are shown as one. */
static uint64_t tuple_hash(const struct tw_tuple *t)
{
	uint64_t words[5] = { t->saddr.quad[0], t->saddr.quad[1], t->daddr.quad[0],
			      t->daddr.quad[1],
			      (uint64_t)t->sport << 32 | (uint64_t)t->dport << 16 | t->proto };
	uint64_t h = 0x9e3779b97f4a7c15;

	for (unsigned int i = 0; i < 5; i++) {
		h = (h ^ words[i]) * 0xff51afd7ed558ccd;
		h ^= h >> 32;
	}
	return h ?: 1;
}

/* The place of a hash, or a free one. */
static uint32_t tally_place(const struct tally *t, uint64_t hash)
{
	uint32_t i = (uint32_t)hash & (t->size - 1);

	while (t->v[i].hash && t->v[i].hash != hash)
		i = (i + 1) & (t->size - 1);
	return i;
}

static const struct tallied *tally_find(const struct tally *t, uint64_t hash)
{
	const struct tallied *e = t ? &t->v[tally_place(t, hash)] : NULL;

	return e && e->hash ? e : NULL;
}

/* NULL: no room. */
static struct tallied *tally_take(struct tally *t, uint64_t hash)
{
	struct tallied *e = &t->v[tally_place(t, hash)];

	if (!e->hash) {
		if (t->n >= t->size / 4 * 3)
			return NULL;
		t->n++;
		e->hash = hash;
	}
	return e;
}

/* What is new since then; one whose counters went back is another flow of that tuple. */
static void new_since(const struct tallied *now, const struct tallied *then, unsigned int dir,
		      uint64_t *packets, uint64_t *bytes)
{
	bool same = then && now->bytes[dir] >= then->bytes[dir];

	*packets = now->packets[dir] - (same ? then->packets[dir] : 0);
	*bytes = now->bytes[dir] - (same ? then->bytes[dir] : 0);
	*packets = (uint32_t)*packets;
}

static void counts_add(struct walk_counts *c, unsigned int dir, const struct datapath_flow *f,
		       unsigned int flow_dir, uint64_t packets, uint64_t bytes)
{
	c->packets[dir] += f->packets[flow_dir];
	c->bytes[dir] += f->bytes[flow_dir];
	c->new_packets += packets;
	c->new_bytes += bytes;
}

static bool is_wanted(const struct walk *w, const struct datapath_flow *f)
{
	return !w->only || w->only[f->slot_from / 8] >> f->slot_from % 8 & 1 ||
	       w->only[f->slot_to / 8] >> f->slot_to % 8 & 1;
}

static int flow_tally(void *arg, const struct datapath_flow *f)
{
	struct walk *w = arg;
	uint64_t hash = tuple_hash(&f->tuple);
	const struct tallied *then = tally_find(w->before, hash);
	struct tallied *e = tally_take(w->now, hash);

	if (!e)
		return 0;
	/* Of the two entries of a translated flow this is the one that every flow has. */
	if (f->counts[0]) {
		w->total++;
		w->slots[f->slot_from % TW_MAX_ENDPOINTS].flows++;
		if (f->slot_to != f->slot_from)
			w->slots[f->slot_to % TW_MAX_ENDPOINTS].flows++;
	}
	e->wanted |= is_wanted(w, f);
	for (unsigned int dir = 0; dir < 2; dir++) {
		uint16_t sender = (dir ? f->slot_to : f->slot_from) % TW_MAX_ENDPOINTS;
		uint16_t receiver = (dir ? f->slot_from : f->slot_to) % TW_MAX_ENDPOINTS;
		uint64_t packets = 0, bytes = 0;

		if (!f->counts[dir])
			continue;
		e->packets[dir] = (uint32_t)f->packets[dir];
		e->bytes[dir] = f->bytes[dir];
		if (w->before)
			new_since(e, then, dir, &packets, &bytes);
		counts_add(&w->all, dir, f, dir, packets, bytes);
		counts_add(&w->slots[sender].counts, 0, f, dir, packets, bytes);
		counts_add(&w->slots[receiver].counts, 1, f, dir, packets, bytes);
	}
	return 0;
}

/* ---- the busiest --------------------------------------------------------------------------------- */

struct ranked {
	uint64_t hash, value;
};

static uint64_t rank_value(const struct walk *w, const struct tallied *e)
{
	uint64_t all[2] = { (uint64_t)e->packets[0] + e->packets[1], e->bytes[0] + e->bytes[1] };
	const struct tallied *then = tally_find(w->before, e->hash);
	uint64_t p[2], b[2];

	if (!w->before)
		return all[w->by_bytes];
	new_since(e, then, 0, &p[0], &b[0]);
	new_since(e, then, 1, &p[1], &b[1]);
	return w->by_bytes ? b[0] + b[1] : p[0] + p[1];
}

/* Of a heap whose least is on top. */
static void heap_sink(struct ranked *heap, size_t n)
{
	for (size_t i = 0, child; (child = 2 * i + 1) < n; i = child) {
		if (child + 1 < n && heap[child + 1].value < heap[child].value)
			child++;
		if (heap[i].value <= heap[child].value)
			return;
		struct ranked swap = heap[i];

		heap[i] = heap[child];
		heap[child] = swap;
	}
}

static int by_value(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;

	return (x->value < y->value) - (x->value > y->value);
}

static int by_hash(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;

	return (x->hash > y->hash) - (x->hash < y->hash);
}

/* The hashes of the busiest, busiest first; how many. */
static size_t rank(const struct walk *w, struct ranked *out)
{
	size_t n = 0;

	/* A slot of value 0 at first, so that the heap is always full. */
	memset(out, 0, w->n * sizeof(*out));
	for (uint32_t i = 0; i < w->now->size; i++) {
		const struct tallied *e = &w->now->v[i];
		uint64_t value = e->hash && e->wanted ? rank_value(w, e) + 1 : 0;

		if (value <= out[0].value)
			continue;
		out[0] = (struct ranked){ e->hash, value };
		heap_sink(out, w->n);
	}
	qsort(out, w->n, sizeof(*out), by_value);
	while (n < w->n && out[n].hash)
		n++;
	return n;
}

struct pick {
	struct walk *w;
	struct ranked *by_hash; /* value: the index of the flow */
};

static int flow_pick(void *arg, const struct datapath_flow *f)
{
	const struct pick *p = arg;
	struct ranked key = { .hash = tuple_hash(&f->tuple) };
	const struct ranked *found = bsearch(&key, p->by_hash, p->w->n_flows, sizeof(key), by_hash);

	if (!found)
		return 0;
	struct walk_flow *to = &p->w->flows[found->value];
	const struct tallied *then = tally_find(p->w->before, key.hash);
	const struct tallied *now = tally_find(p->w->now, key.hash);

	for (unsigned int dir = 0; dir < 2; dir++) {
		uint64_t packets = 0, bytes = 0;

		if (!f->counts[dir])
			continue;
		/* As of the first pass: the ranks are made of that. */
		if (p->w->before)
			new_since(now, then, dir, &packets, &bytes);
		counts_add(&to->counts, dir, f, dir, packets, bytes);
		to->flow.tcp[dir] = f->tcp[dir];
		to->flow.counts[dir] = true;
	}
	to->flow.tuple = f->tuple;
	to->flow.denied |= f->denied;
	to->flow.slot_from = f->slot_from;
	to->flow.slot_to = f->slot_to;
	return 0;
}

static int flows_pick(struct walk *w)
{
	struct ranked *ranked = calloc(w->n + 1, sizeof(*ranked));
	int res = ranked ? 0 : -ENOMEM;

	if (!res) {
		w->n_flows = w->n ? rank(w, ranked) : 0;
		w->flows = calloc(w->n_flows + 1, sizeof(*w->flows));
		res = w->flows ? 0 : -ENOMEM;
	}
	if (!res && w->n_flows) {
		for (size_t i = 0; i < w->n_flows; i++)
			ranked[i].value = i;
		qsort(ranked, w->n_flows, sizeof(*ranked), by_hash);
		res = datapath_flow_each(w->dp, flow_pick, &(struct pick){ w, ranked });
	}
	free(ranked);
	return res;
}

int walk_run(struct walk *w)
{
	w->now = tally_new(w->expected);
	w->slots = calloc(TW_MAX_ENDPOINTS, sizeof(*w->slots));
	if (!w->now || !w->slots)
		return -ENOMEM;
	int res = datapath_flow_each(w->dp, flow_tally, w);
	return res ? res : flows_pick(w);
}

void walk_clear(struct walk *w)
{
	tally_free(w->now);
	free(w->slots);
	free(w->flows);
	*w = (struct walk){};
}
