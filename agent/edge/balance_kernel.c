/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the kernel has of the services. Its maps are pinned, and the only memory of which backend
 * has which number, which table entries are open and what is remembered: an agent that starts
 * finds its services by a hash of their names and its backends by their addresses, and goes on.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <utlist.h>

#include "edge/balance_internal.h"
#include "log.h"

/* Disjoint from ephemeral ports, NodePorts, and those of the containers' translation. */
#define NAT_FIRST 25000u
#define NAT_LAST 29999u
#define HOPS_A_SECOND 256u
#define INSERT_RATE 50000u /* a second and CPU */
#define ICMP_RATE 100u

static void failed(struct balancer *b, int res, const char *what)
{
	char text[sizeof(b->failed)];

	snprintf(text, sizeof(text), "%s: %s", what, strerror(-res));
	if (strcmp(text, b->failed))
		log_error("edge: %s", text);
	memcpy(b->failed, text, sizeof(text));
}

/* ---- backends ------------------------------------------------------------------------------ */

static bool backend_ready(const struct backend *be)
{
	return be->listed && !be->spec.drain && be->spec.weight;
}

bool backend_takes(const struct backend *be)
{
	return backend_ready(be) && (be->up || be->service->panic);
}

/* Nobody is up: then the checks are wrong, or nothing is lost by trying. */
static void panic_look(struct service *s)
{
	struct backend *be;
	bool up = false, ready = false;

	DL_FOREACH(s->backends, be) {
		ready |= backend_ready(be);
		up |= backend_ready(be) && be->up;
	}
	s->panic = ready && !up;
}

/* What the object does not say: of its address, as every balancer has it. */
static uint16_t server_id(const struct backend *be)
{
	uint64_t key = maglev_key(&be->spec.addr, 0);

	if (!(be->service->spec.flags & TW_EDGE_FRONT_QUIC))
		return 0;
	return be->spec.server_id ?: (uint16_t)(key ^ key >> 16 ^ key >> 32) ?: 1;
}

static __be16 backend_port(const struct backend *be)
{
	if (be->way == TW_EDGE_WAY_GUE)
		return htons(TW_EDGE_GUE_PORT);
	return htons(be->spec.port);
}

static void backend_value(const struct backend *be, struct tw_edge_backend *out)
{
	*out = (struct tw_edge_backend){
		.addr = be->spec.addr,
		.source = be->hop.source,
		.mtu = be->hop.mtu,
		.way = be->way,
		.ifindex = be->hop.ifindex,
		.port = backend_port(be),
		.server_id = server_id(be),
		.service = be->service->number,
	};
	memcpy(out->dmac, be->hop.dmac, 6);
	memcpy(out->smac, be->hop.smac, 6);
	if (backend_takes(be))
		out->flags |= TW_EDGE_BACKEND_TAKES;
	/* Encapsulated and translated packets need an address of the node to come from. */
	if (be->hop.known &&
	    (be->way == TW_EDGE_WAY_L2 || be->hop.source.quad[0] || be->hop.source.quad[1]))
		out->flags |= TW_EDGE_BACKEND_HOP;
}

/* The number that an earlier agent gave it, or a new one. */
static int backend_number(struct backend *be)
{
	struct edge_balance *eb = be->service->b->eb;
	struct tw_edge_backend there;

	for (uint16_t i = 1; i < TW_EDGE_BACKENDS; i++) {
		if (edge_backend_get(eb, i, &there) || there.service != be->service->number ||
		    there.way != be->way || there.port != backend_port(be) ||
		    memcmp(&there.addr, &be->spec.addr, sizeof(there.addr)))
			continue;
		be->id = i;
		/* As it was left, until a check says otherwise. */
		if (be->check && !be->checked)
			be->up = there.flags & TW_EDGE_BACKEND_TAKES;
		return 0;
	}
	return edge_backend_new(eb, &be->id);
}

static int backend_write(struct backend *be)
{
	struct tw_edge_backend value;

	backend_value(be, &value);
	return edge_backend_set(be->service->b->eb, be->id, &value);
}

static void hop_look(struct backend *be)
{
	bool on_link = be->way == TW_EDGE_WAY_L2;

	if (hop_find(&be->service->b->nl, &be->spec.addr, on_link, &be->hop, be->no_hop,
		     sizeof(be->no_hop))) {
		be->hop.known = false;
		return;
	}
	snprintf(be->no_hop, sizeof(be->no_hop), "%s",
		 be->hop.known ? "" : "the next hop does not answer");
}

/* Of an earlier agent's backends those that no object has: they have the time to drain again. */
static int leftovers_take(struct service *s)
{
	struct edge_balance *eb = s->b->eb;
	struct tw_edge_backend there;

	for (uint16_t i = 1; i < TW_EDGE_BACKENDS; i++) {
		struct backend *be;
		bool known = false;

		if (edge_backend_get(eb, i, &there) || there.service != s->number)
			continue;
		DL_FOREACH(s->backends, be) {
			known |= be->id == i;
		}
		if (known)
			continue;
		be = calloc(1, sizeof(*be));
		if (!be)
			return -ENOMEM;
		be->service = s;
		be->way = there.way;
		be->id = i;
		be->spec.addr = there.addr;
		be->spec.port = there.way == TW_EDGE_WAY_NAT ? ntohs(there.port) : 0;
		be->deadline = uv_now(&s->b->a->loop) + s->spec.drain * 1000ull;
		DL_APPEND(s->backends, be);
	}
	return 0;
}

/* ---- services --------------------------------------------------------------------------------- */

static int table_turn(struct service *s)
{
	struct maglev_backend *v;
	struct backend *be;
	size_t n = 0;
	int res;

	DL_COUNT(s->backends, be, n);
	v = calloc(n ?: 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	n = 0;
	DL_FOREACH(s->backends, be) {
		v[n++] = (struct maglev_backend){
			.key = maglev_key(&be->spec.addr, htons(be->spec.port)),
			.weight = backend_takes(be) ? be->spec.weight : 0,
			.id = be->id,
		};
	}
	res = edge_service_turn(s->b->eb, s->number, v, n, LEARN_SECONDS, NULL);
	free(v);
	return res;
}

static int service_write(struct service *s)
{
	struct backend *be;
	bool fresh = !s->number;
	int res = 0;

	if (fresh)
		res = edge_service_get(s->b->eb, s->key, &s->number);
	if (!res)
		res = edge_service_idle(s->b->eb, s->number, s->spec.idle);
	DL_FOREACH(s->backends, be) {
		if (!res && !be->id) {
			hop_look(be);
			res = backend_number(be);
			/* Taken at once, so that the next one does not get the same number. */
			if (!res)
				res = backend_write(be);
		}
	}
	if (!res && fresh)
		res = leftovers_take(s);
	panic_look(s);
	DL_FOREACH(s->backends, be) {
		if (!res)
			res = backend_write(be);
	}
	return res ? res : table_turn(s);
}

void balance_service_sync(struct service *s)
{
	int res;

	if (!s->b->eb || !s->listed || !s->number)
		return;
	res = service_write(s);
	if (res)
		failed(s->b, res, "a service's backends could not be written");
}

static int fronts_write(struct balancer *b)
{
	struct edge_front *v;
	struct service *s;
	size_t n = 0;
	int res;

	DL_FOREACH(b->services, s) {
		n += s->listed ? s->n_fronts : 0;
	}
	v = calloc(n ?: 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	n = 0;
	DL_FOREACH(b->services, s) {
		for (size_t i = 0; s->listed && s->number && i < s->n_fronts; i++)
			v[n++] = (struct edge_front){ .addr = s->fronts[i].prefix.addr,
						      .len = s->fronts[i].prefix.len,
						      .proto = s->fronts[i].proto,
						      .port = htons(s->fronts[i].port),
						      .service = s->number,
						      .flags = s->spec.flags,
						      .seed = s->spec.seed };
	}
	res = edge_fronts_set(b->eb, v, n);
	free(v);
	return res;
}

struct strangers {
	struct balancer *b;
	int res;
};

/* A service of an earlier agent whose object is gone. */
static int stranger_clear(void *arg, uint16_t number, uint64_t key)
{
	struct strangers *st = arg;
	struct service *s;

	DL_FOREACH(st->b->services, s) {
		if (s->listed && s->number == number)
			return 0;
	}
	return edge_service_clear(st->b->eb, number);
}

/* Their frontends are gone, so nothing is left to drain. */
static void services_forget(struct balancer *b)
{
	struct service *s, *next;

	DL_FOREACH_SAFE(b->services, s, next) {
		if (!s->listed)
			service_free(s);
	}
}

bool balance_loaded(const struct balancer *b)
{
	const struct tw_edge_settings *has = edge_balance_settings(b->eb);
	struct tw_edge_settings wanted = {};

	balancer_settings(b, &wanted);
	return has->balance >= wanted.balance && has->nat >= wanted.nat &&
	       has->decap >= wanted.decap;
}

/* Backends first, then what leads to them; what nothing leads to any more, last. */
void balance_sync(struct balancer *b)
{
	const struct edge_balance_limits limits = { .insert_rate = INSERT_RATE,
						    .icmp_rate = ICMP_RATE,
						    .nat_first = NAT_FIRST,
						    .nat_last = NAT_LAST };
	struct strangers st = { .b = b };
	struct service *s;
	int res;

	if (!b->eb) {
		services_forget(b);
		return;
	}
	if (!balance_loaded(b))
		return;
	if (b->walk) {
		b->again = true;
		return;
	}
	res = edge_decap_set(b->eb, b->from, b->n_from);
	if (!res && edge_balance_settings(b->eb)->balance)
		res = edge_balance_limits_set(b->eb, &limits);
	DL_FOREACH(b->services, s) {
		if (!res && s->listed)
			res = service_write(s);
	}
	if (!res)
		res = fronts_write(b);
	if (!res)
		res = edge_service_each(b->eb, stranger_clear, &st);
	if (res) {
		failed(b, res, "the services could not be written");
		return;
	}
	services_forget(b);
	b->failed[0] = '\0';
}

/* ---- by the clock ---------------------------------------------------------------------------------- */

static bool hop_same(const struct hop *a, const struct hop *b)
{
	return a->ifindex == b->ifindex && a->mtu == b->mtu && a->known == b->known &&
	       !memcmp(a->dmac, b->dmac, 6) && !memcmp(a->smac, b->smac, 6) &&
	       !memcmp(&a->source, &b->source, sizeof(a->source));
}

static void backend_hop(struct backend *be)
{
	struct hop before = be->hop;

	hop_look(be);
	if (!hop_same(&before, &be->hop) && backend_write(be))
		failed(be->service->b, -EINVAL, "a backend's next hop could not be written");
}

/* Each costs some 50 us of the loop, so of many only some a second, in turn. */
void balance_hops(struct balancer *b)
{
	struct service *s;
	struct backend *be;
	size_t n = 0, end = b->hops_seen + HOPS_A_SECOND;

	DL_FOREACH(b->services, s) {
		DL_FOREACH(s->backends, be) {
			if (be->id && n >= b->hops_seen && n < end)
				backend_hop(be);
			n++;
		}
	}
	b->hops_seen = end < n ? end : 0;
}

/* Backends that no object has, and that nobody needs any more. */
static void drained_clear(struct service *s)
{
	struct balancer *b = s->b;
	struct backend *be, *next;

	DL_FOREACH_SAFE(s->backends, be, next) {
		bool over = uv_now(&b->a->loop) >= be->deadline;
		bool unused = !be->flows && (be->way == TW_EDGE_WAY_NAT || !s->open);

		if (be->listed || (!over && !unused))
			continue;
		if (be->id && (edge_service_forget(b->eb, s->number, be->id) ||
			       edge_backend_clear(b->eb, be->id)))
			continue;
		backend_free(be);
	}
}

static void walk_take(struct balancer *b, const struct edge_walk *walk)
{
	struct service *s;
	struct backend *be;
	uint32_t open;

	edge_walk_settle(walk, &open);
	DL_FOREACH(b->services, s) {
		if (edge_service_open(b->eb, s->number, &s->open))
			s->open = 0;
		DL_FOREACH(s->backends, be) {
			be->flows = walk->flows[be->id];
		}
		drained_clear(s);
	}
}

static void walk_work(uv_work_t *work)
{
	struct balancer *b = work->data;

	b->walk_res = edge_walk_run(b->walk);
}

static void walk_done(uv_work_t *work, int status)
{
	struct balancer *b = work->data;
	struct edge_walk *walk = b->walk;

	b->walk = NULL;
	if (b->walk_res && !b->closing)
		failed(b, b->walk_res, "connections could not be looked through");
	else if (b->eb && walk->eb == b->eb)
		walk_take(b, walk);
	edge_walk_free(walk);
	edge_balance_close(b->orphan);
	b->orphan = NULL;
	if (b->closing) {
		free(b);
		return;
	}
	if (b->again)
		balance_sync(b);
	b->again = false;
}

/* Is there anything that time may change? */
static bool walk_needed(const struct balancer *b)
{
	const struct service *s;
	const struct backend *be;

	DL_FOREACH(b->services, s) {
		uint32_t open;

		if (s->spec.way == TW_EDGE_WAY_NAT)
			return true;
		if (!edge_service_open(b->eb, s->number, &open) && open)
			return true;
		DL_FOREACH(s->backends, be) {
			if (!be->listed)
				return true;
		}
	}
	return false;
}

void balance_walk_start(struct balancer *b)
{
	int res;

	if (!b->eb || b->walk || !balance_loaded(b) || !walk_needed(b))
		return;
	res = edge_walk_new(b->eb, &b->walk);
	b->work.data = b;
	if (!res && uv_queue_work(&b->a->loop, &b->work, walk_work, walk_done)) {
		edge_walk_free(b->walk);
		b->walk = NULL;
	}
}

static void numbers_forget(struct balancer *b)
{
	struct service *s;
	struct backend *be;

	DL_FOREACH(b->services, s) {
		s->number = 0;
		DL_FOREACH(s->backends, be) {
			be->id = 0;
		}
	}
}

void balancer_edge(struct balancer *b, struct edge *edge)
{
	int res;

	if (!b)
		return;
	if (b->walk && b->walk->eb == b->eb)
		b->orphan = b->eb;
	else
		edge_balance_close(b->eb);
	b->eb = NULL;
	if (b->closing)
		return;
	numbers_forget(b);
	res = edge ? edge_balance_open(&b->eb, edge) : 0;
	if (res)
		failed(b, res, "the balancer's maps could not be opened");
	balance_sync(b);
}
