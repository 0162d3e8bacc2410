/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Remembered and translated connections: which are over, which still need their table entry to be
 * open. Read in batches from copies: what comes meanwhile is seen by the next walk.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "edge_balance_internal.h"

#define BATCH 1024u
/* Seconds. A connection that was closed may still have something to say again. */
#define CLOSED_SECONDS 60u
#define NAT_NEW_SECONDS 30u /* no answer yet */
#define NAT_UDP_SECONDS 120u

#define TCP_FIN 1
#define TCP_RST 4

static bool bit_get(const uint8_t *bits, uint32_t at)
{
	return bits && bits[at / 8] >> at % 8 & 1;
}

/* What one pass over a map needs. */
struct pass {
	struct edge_balance *eb;
	struct edge_walk *walk;
	uint32_t hz;
	/* Keys to delete, collected, as deleting what a batch is being read from repeats some. */
	void *gone;
	size_t gone_size, n_gone, cap_gone;
	int (*visit)(struct pass *pass, const void *key, const void *value);
};

static int gone_add(struct pass *pass, const void *key)
{
	if (pass->n_gone == pass->cap_gone) {
		size_t cap = pass->cap_gone ? pass->cap_gone * 2 : 1024;
		void *grown = reallocarray(pass->gone, cap, pass->gone_size);

		if (!grown)
			return -ENOMEM;
		pass->gone = grown;
		pass->cap_gone = cap;
	}
	memcpy((char *)pass->gone + pass->n_gone++ * pass->gone_size, key, pass->gone_size);
	return 0;
}

static int map_pass(struct pass *pass, int fd, uint32_t key_size, uint32_t value_size)
{
	char *keys = malloc((size_t)BATCH * key_size), *values = malloc((size_t)BATCH * value_size);
	uint32_t at = 0, next = 0;
	bool first = true, end = false;
	int res = keys && values ? 0 : -ENOMEM;

	pass->gone_size = key_size;
	while (!res && !end) {
		uint32_t count = BATCH;

		if (bpf_map_lookup_batch(fd, first ? NULL : &at, &next, keys, values, &count,
					 NULL)) {
			/* ENOENT is the end; what came with it counts. */
			if (errno != ENOENT)
				res = -errno;
			end = true;
		}
		for (uint32_t i = 0; !res && i < count; i++)
			res = pass->visit(pass, keys + (size_t)i * key_size,
					  values + (size_t)i * value_size);
		at = next;
		first = false;
	}
	for (size_t i = 0; !res && i < pass->n_gone; i++)
		pass->walk->deleted +=
			!bpf_map_delete_elem(fd, (char *)pass->gone + i * pass->gone_size);
	free(pass->gone);
	pass->gone = NULL;
	pass->n_gone = pass->cap_gone = 0;
	free(keys);
	free(values);
	return res;
}

/* ---- remembered ------------------------------------------------------------------------- */

static int held_set(struct edge_walk *walk, uint16_t service, uint32_t entry)
{
	uint8_t **held = &walk->held[service];

	if (!*held)
		*held = calloc(1, TW_MAGLEV_SIZE / 8 + 1);
	if (!*held)
		return -ENOMEM;
	(*held)[entry / 8] |= (uint8_t)(1 << entry % 8);
	return 0;
}

static int conn_visit(struct pass *pass, const void *key, const void *value)
{
	const struct tw_edge_conn_key *k = key;
	const struct tw_edge_conn *c = value;
	struct edge_balance *eb = pass->eb;
	const struct tw_maglev *table;
	uint32_t idle = pass->walk->now - c->seen, word, limit;

	if (k->service >= TW_EDGE_SERVICES || c->entry >= TW_MAGLEV_SIZE ||
	    c->backend >= TW_EDGE_BACKENDS || !eb->tables[k->service].table)
		return gone_add(pass, key);
	table = eb->tables[k->service].table;
	word = __atomic_load_n(&table->word[c->entry], __ATOMIC_ACQUIRE);
	limit = c->closed ? CLOSED_SECONDS * pass->hz : service_at(eb, k->service)->idle;
	/* idle may be negative: it was seen after the walk began. */
	if ((int32_t)idle > 0 && idle > limit)
		return gone_add(pass, key);
	/* Nobody asks for it, or its backend is no more. */
	if (!(word & TW_MAGLEV_OPEN) || backend_at(eb, c->backend)->way == TW_EDGE_WAY_NONE)
		return gone_add(pass, key);
	pass->walk->conns++;
	pass->walk->flows[c->backend]++;
	return TW_MAGLEV_NOW(word) == c->backend ? 0 : held_set(pass->walk, k->service, c->entry);
}

/* ---- translated -------------------------------------------------------------------------- */

static uint32_t nat_limit(const struct pass *pass, const struct tw_edge_nat_key *key, uint8_t tcp,
			  uint8_t tcp_back, uint16_t service, bool answered)
{
	if (!answered)
		return NAT_NEW_SECONDS * pass->hz;
	if (key->proto != IPPROTO_TCP)
		return NAT_UDP_SECONDS * pass->hz;
	if ((tcp | tcp_back) & TCP_RST || tcp & tcp_back & TCP_FIN)
		return CLOSED_SECONDS * pass->hz;
	return service_at(pass->eb, service)->idle;
}

static void nat_twin(const struct tw_edge_nat_key *key, const struct tw_edge_nat *n,
		     struct tw_edge_nat_key *twin)
{
	*twin = (struct tw_edge_nat_key){ .saddr = n->daddr,
					  .daddr = n->saddr,
					  .sport = n->dport,
					  .dport = n->sport,
					  .proto = key->proto };
}

/* Both entries live as long as either is in use; one without its twin is the rest of a race. */
static int nat_visit(struct pass *pass, const void *key, const void *value)
{
	const struct tw_edge_nat_key *k = key;
	const struct tw_edge_nat *n = value;
	const struct tw_edge_backend *b;
	struct tw_edge_nat_key twin;
	struct tw_edge_nat other;
	uint32_t seen = n->seen, idle, limit;
	bool answered;

	nat_twin(k, n, &twin);
	if (n->backend >= TW_EDGE_BACKENDS)
		return gone_add(pass, key);
	b = backend_at(pass->eb, n->backend);
	if (b->way != TW_EDGE_WAY_NAT || b->service >= TW_EDGE_SERVICES)
		return gone_add(pass, key);
	if (bpf_map_lookup_elem(pass->eb->nats_fd, &twin, &other)) {
		idle = pass->walk->now - seen;
		if ((int32_t)idle > 0 && idle > NAT_NEW_SECONDS * pass->hz)
			return gone_add(pass, key);
		pass->walk->nats++;
		return 0;
	}
	if ((int32_t)(other.seen - seen) > 0)
		seen = other.seen;
	answered = n->flags & TW_EDGE_NAT_REPLY ? n->tcp || n->seen != other.seen
						: other.tcp || n->seen != other.seen;
	limit = nat_limit(pass, k, n->tcp, other.tcp, b->service, answered);
	idle = pass->walk->now - seen;
	if ((int32_t)idle > 0 && idle > limit)
		return gone_add(pass, key);
	pass->walk->nats++;
	if (!(n->flags & TW_EDGE_NAT_REPLY))
		pass->walk->flows[n->backend]++;
	return 0;
}

/* ---- the walk ------------------------------------------------------------------------------ */

int edge_walk_new(struct edge_balance *eb, struct edge_walk **out)
{
	struct edge_walk *walk = calloc(1, sizeof(*walk));
	int res;

	if (!walk)
		return -ENOMEM;
	walk->eb = eb;
	res = eb_now(eb, &walk->now);
	if (res) {
		free(walk);
		return res;
	}
	for (uint16_t i = 0; i < TW_EDGE_SERVICES; i++)
		walk->generation[i] = eb->tables[i].generation;
	*out = walk;
	return 0;
}

int edge_walk_run(struct edge_walk *walk)
{
	struct pass pass = {
		.eb = walk->eb, .walk = walk, .hz = walk->eb->settings.hz, .visit = conn_visit
	};
	int res = map_pass(&pass, walk->eb->conns_fd, sizeof(struct tw_edge_conn_key),
			   sizeof(struct tw_edge_conn));

	pass.visit = nat_visit;
	if (!res)
		res = map_pass(&pass, walk->eb->nats_fd, sizeof(struct tw_edge_nat_key),
			       sizeof(struct tw_edge_nat));
	return res;
}

void edge_walk_free(struct edge_walk *walk)
{
	if (!walk)
		return;
	for (uint16_t i = 0; i < TW_EDGE_SERVICES; i++)
		free(walk->held[i]);
	free(walk);
}

/*
 * An open entry's word after a walk. `quiet`: flows that nothing is remembered of have been silent
 * for as long as any is kept, so there are none; then all of the entry's flows are remembered, and
 * when none of those is held elsewhere either, it needs no memory.
 */
static uint32_t word_settle(struct edge_balance *eb, uint32_t word, bool quiet, bool held)
{
	uint16_t now = TW_MAGLEV_NOW(word), before = TW_MAGLEV_BEFORE(word);

	if (quiet || backend_at(eb, before)->way == TW_EDGE_WAY_NONE)
		before = now;
	return TW_MAGLEV_WORD(now, before) | (before == now && !held ? 0 : TW_MAGLEV_OPEN);
}

static uint32_t table_settle(struct edge_balance *eb, uint16_t service, const uint8_t *held,
			     uint32_t now)
{
	const struct tw_edge_service *s = service_at(eb, service);
	struct tw_maglev *table = eb->tables[service].table;
	bool quiet = now - s->changed > s->idle;
	uint32_t open = 0;

	for (uint32_t i = 0; i < TW_MAGLEV_SIZE; i++) {
		uint32_t word = table->word[i], settled;

		if (!(word & TW_MAGLEV_OPEN))
			continue;
		settled = word_settle(eb, word, quiet, bit_get(held, i));
		if (settled != word)
			__atomic_store_n(&table->word[i], settled, __ATOMIC_RELEASE);
		open += settled >> 31;
	}
	return open;
}

int edge_walk_settle(const struct edge_walk *walk, uint32_t *open)
{
	struct edge_balance *eb = walk->eb;
	uint32_t n = 0, left;

	for (uint16_t i = 1; i < TW_EDGE_SERVICES; i++) {
		if (!eb->tables[i].table)
			continue;
		/* A change since the walk: what it saw as held or not was said of other words. */
		if (eb->tables[i].generation == walk->generation[i])
			left = table_settle(eb, i, walk->held[i], walk->now);
		else if (edge_service_open(eb, i, &left))
			continue;
		n += left;
	}
	if (open)
		*open = n;
	return 0;
}
