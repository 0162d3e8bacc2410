/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "endpoint/ipam.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#include "endpoint/internal.h"

/* Addresses are counted as 128-bit numbers in host order; IPv4 as ::ffff:a.b.c.d. */
typedef unsigned __int128 u128;

struct pool {
	struct prefix prefix;
	u128 first; /* the addresses that may be handed out, inclusive */
	u128 last;
	u128 next; /* where the search goes on */
};

struct network {
	char *name; /* "" for the agent's pools */
	struct pool *pools;
	size_t n_pools;
	size_t taken; /* addresses in use; a network with none is forgotten when in the way */
	struct network *next;
};

enum entry_state { ENTRY_TAKEN, ENTRY_RELEASED, ENTRY_RESERVED };

struct entry {
	union tw_addr addr;
	enum entry_state state;
	struct network *net;	   /* TAKEN */
	uint64_t released;	   /* RELEASED: when */
	struct entry *prev, *next; /* RELEASED: oldest first */
	UT_hash_handle hh;
};

struct ipam {
	struct network *networks; /* the first one is the agent's own */
	struct entry *entries;
	struct entry *released;
};

static u128 addr_to_number(const union tw_addr *addr)
{
	return (u128)be64toh(addr->quad[0]) << 64 | be64toh(addr->quad[1]);
}

static union tw_addr addr_from_number(u128 n)
{
	return (union tw_addr){ .quad = { htobe64((uint64_t)(n >> 64)), htobe64((uint64_t)n) } };
}

static bool prefix_is4(const struct prefix *p)
{
	return p->len >= 96 && addr_is4(&p->addr);
}

static u128 prefix_host_mask(const struct prefix *p)
{
	return p->len ? ((u128)1 << (128 - p->len)) - 1 : ~(u128)0;
}

static bool prefix_overlaps(const struct prefix *a, const struct prefix *b)
{
	return a->len <= b->len ? prefix_contains(a, &b->addr) : prefix_contains(b, &a->addr);
}

static bool prefix_equal(const struct prefix *a, const struct prefix *b)
{
	return a->len == b->len && addr_equal(&a->addr, &b->addr);
}

static void pool_init(struct pool *pool, const struct prefix *prefix)
{
	u128 base = addr_to_number(&prefix->addr);

	pool->prefix = *prefix;
	pool->first = base;
	pool->last = base | prefix_host_mask(prefix);
	/* /31 and /32, /127 and /128 have no network address (RFC 3021, RFC 6164). */
	if (prefix->len < 127) {
		pool->first++; /* network, or subnet-router anycast (RFC 4291 2.6.1) */
		if (prefix_is4(prefix))
			pool->last--; /* broadcast */
	}
	pool->next = pool->first;
}

static bool pool_has(const struct pool *pool, const union tw_addr *addr)
{
	u128 n = addr_to_number(addr);

	return n >= pool->first && n <= pool->last;
}

/* ---- entries ---------------------------------------------------------------------------- */

static struct entry *entry_find(const struct ipam *ipam, const union tw_addr *addr)
{
	struct entry *e;

	HASH_FIND(hh, ipam->entries, addr, sizeof(*addr), e);
	return e;
}

static struct entry *entry_new(struct ipam *ipam, const union tw_addr *addr)
{
	struct entry *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->addr = *addr;
	HASH_ADD(hh, ipam->entries, addr, sizeof(e->addr), e);
	return e;
}

/* Leaves whatever state it is in; the caller gives it a new one or frees it. */
static void entry_detach(struct ipam *ipam, struct entry *e)
{
	if (e->state == ENTRY_RELEASED)
		DL_DELETE(ipam->released, e);
	else if (e->state == ENTRY_TAKEN)
		e->net->taken--;
}

static void entry_free(struct ipam *ipam, struct entry *e)
{
	entry_detach(ipam, e);
	HASH_DEL(ipam->entries, e);
	free(e);
}

static void entry_take(struct entry *e, struct network *net)
{
	e->state = ENTRY_TAKEN;
	e->net = net;
	net->taken++;
}

/* In the order of time, so that the head is always the one to expire or to be used first. */
static void entry_set_released(struct ipam *ipam, struct entry *e, uint64_t time)
{
	struct entry *at = ipam->released ? ipam->released->prev : NULL;

	e->state = ENTRY_RELEASED;
	e->released = time;
	while (at && at->released > time)
		at = at == ipam->released ? NULL : at->prev;
	if (at)
		DL_APPEND_ELEM(ipam->released, at, e);
	else
		DL_PREPEND(ipam->released, e);
}

static void quarantine_expire(struct ipam *ipam, uint64_t now)
{
	struct entry *e;

	while ((e = ipam->released) != NULL) {
		/* A clock that was put back must not lock addresses up: a release in the
		 * future counts as one of long ago. */
		if (e->released <= now && now - e->released < IPAM_QUARANTINE)
			return;
		entry_free(ipam, e);
	}
}

/* ---- networks ----------------------------------------------------------------------------- */

static void network_free(struct network *net)
{
	if (!net)
		return;
	free(net->name);
	free(net->pools);
	free(net);
}

static struct network *network_new(const char *name)
{
	struct network *net = calloc(1, sizeof(*net));

	if (net)
		net->name = strdup(name);
	if (net && !net->name) {
		free(net);
		net = NULL;
	}
	return net;
}

static struct network *network_find(const struct ipam *ipam, const char *name)
{
	struct network *net;

	LL_FOREACH(ipam->networks->next, net) {
		if (!strcmp(net->name, name))
			return net;
	}
	return NULL;
}

/* Pools whose prefix did not change keep their place in the search. */
static int network_set_pools(struct network *net, const struct prefix *subnets, size_t n)
{
	struct pool *pools = calloc(n ? n : 1, sizeof(*pools));

	if (!pools)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		pool_init(&pools[i], &subnets[i]);
		for (size_t j = 0; j < net->n_pools; j++) {
			if (prefix_equal(&net->pools[j].prefix, &subnets[i]))
				pools[i].next = net->pools[j].next;
		}
	}
	free(net->pools);
	net->pools = pools;
	net->n_pools = n;
	return 0;
}

static bool network_has_pools(const struct network *net, const struct prefix *subnets, size_t n)
{
	bool same = net->n_pools == n;

	for (size_t i = 0; same && i < n; i++)
		same = prefix_equal(&net->pools[i].prefix, &subnets[i]);
	return same;
}

static int overlap_fail(const struct prefix *a, const struct prefix *b, const char *whose,
			char *err, size_t err_len)
{
	char at[ADDR_TEXT_LEN], bt[ADDR_TEXT_LEN];

	prefix_format(a, at, sizeof(at));
	prefix_format(b, bt, sizeof(bt));
	return endpoint_fail(-EINVAL, err, err_len,
			     "subnet %s overlaps %s of %s; choose one that nobody else uses", at,
			     bt, whose);
}

static int subnets_check_self(const struct prefix *subnets, size_t n, char *err, size_t err_len)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; j < i; j++) {
			if (prefix_overlaps(&subnets[i], &subnets[j]))
				return overlap_fail(&subnets[i], &subnets[j], "the same list", err,
						    err_len);
		}
	}
	return 0;
}

static int subnets_check_other(const struct network *other, const struct prefix *subnets, size_t n,
			       char *err, size_t err_len)
{
	char whose[300];

	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; j < other->n_pools; j++) {
			const struct prefix *theirs = &other->pools[j].prefix;

			if (!prefix_overlaps(&subnets[i], theirs))
				continue;
			/* A configuration may spell out the agent's pool. */
			if (!*other->name && prefix_equal(&subnets[i], theirs))
				continue;
			if (*other->name)
				snprintf(whose, sizeof(whose), "network %.200s", other->name);
			else
				snprintf(whose, sizeof(whose), "the agent's --pod-cidr");
			return overlap_fail(&subnets[i], theirs, whose, err, err_len);
		}
	}
	return 0;
}

/* Finds or makes the network that a request allocates from; the agent's when it has no subnets. */
static int network_resolve(struct ipam *ipam, const char *name, const struct prefix *subnets,
			   size_t n, struct network **out, char *err, size_t err_len)
{
	struct network **at = &ipam->networks->next;
	struct network *net, *other;
	int rc;

	if (!n) {
		*out = ipam->networks;
		return 0;
	}
	net = network_find(ipam, name);
	if (net && network_has_pools(net, subnets, n)) {
		*out = net;
		return 0;
	}
	rc = subnets_check_self(subnets, n, err, err_len);
	if (!rc)
		rc = subnets_check_other(ipam->networks, subnets, n, err, err_len);
	while (!rc && (other = *at) != NULL) {
		if (other != net && !other->taken) {
			*at = other->next;
			network_free(other);
			continue;
		}
		if (other != net)
			rc = subnets_check_other(other, subnets, n, err, err_len);
		at = &other->next;
	}
	if (rc)
		return rc;
	if (!net) {
		net = network_new(name);
		if (!net)
			return -ENOMEM;
		*at = net;
	}
	rc = network_set_pools(net, subnets, n);
	if (rc)
		return rc;
	*out = net;
	return 0;
}

int ipam_new(struct ipam **out, const struct prefix *pools, size_t n_pools, char *err,
	     size_t err_len)
{
	struct ipam *ipam;
	int rc = subnets_check_self(pools, n_pools, err, err_len);

	if (rc)
		return rc;
	ipam = calloc(1, sizeof(*ipam));
	if (!ipam)
		return -ENOMEM;
	ipam->networks = network_new("");
	rc = ipam->networks ? network_set_pools(ipam->networks, pools, n_pools) : -ENOMEM;
	if (rc) {
		ipam_free(ipam);
		return rc;
	}
	*out = ipam;
	return 0;
}

void ipam_free(struct ipam *ipam)
{
	struct network *net, *next_net;
	struct entry *e, *next_entry;

	if (!ipam)
		return;
	HASH_ITER(hh, ipam->entries, e, next_entry) {
		HASH_DEL(ipam->entries, e);
		free(e);
	}
	LL_FOREACH_SAFE(ipam->networks, net, next_net) {
		network_free(net);
	}
	free(ipam);
}

/* ---- allocation ------------------------------------------------------------------------------ */

/*
 * The search starts where the last one ended, so it passes each taken address at most once a
 * round: short in a pool with room, and never longer than the addresses known.
 */
static bool pool_find_free(struct ipam *ipam, struct pool *pool, union tw_addr *out)
{
	size_t tries = HASH_COUNT(ipam->entries) + 1;
	u128 n = pool->next;

	for (; tries; tries--) {
		union tw_addr addr = addr_from_number(n);

		n = n == pool->last ? pool->first : n + 1;
		if (!entry_find(ipam, &addr)) {
			pool->next = n;
			*out = addr;
			return true;
		}
		if (n == pool->next)
			return false;
	}
	return false;
}

static int take_any(struct ipam *ipam, struct network *net, bool is4, union tw_addr *out)
{
	struct entry *e;

	for (size_t i = 0; i < net->n_pools; i++) {
		if (prefix_is4(&net->pools[i].prefix) != is4)
			continue;
		if (!pool_find_free(ipam, &net->pools[i], out))
			continue;
		e = entry_new(ipam, out);
		if (!e)
			return -ENOMEM;
		entry_take(e, net);
		return 0;
	}
	/* Nothing is free but what was released a moment ago: the oldest of that. */
	DL_FOREACH(ipam->released, e) {
		for (size_t i = 0; i < net->n_pools; i++) {
			if (prefix_is4(&net->pools[i].prefix) != is4 ||
			    !pool_has(&net->pools[i], &e->addr))
				continue;
			entry_detach(ipam, e);
			entry_take(e, net);
			*out = e->addr;
			return 0;
		}
	}
	return -ENOSPC;
}

static int take_wish(struct ipam *ipam, struct network *net, const union tw_addr *wish, char *err,
		     size_t err_len)
{
	char text[ADDR_TEXT_LEN];
	bool inside = false;
	struct entry *e;

	addr_format(wish, text, sizeof(text));
	for (size_t i = 0; i < net->n_pools; i++)
		inside |= pool_has(&net->pools[i], wish);
	if (!inside)
		return endpoint_fail(
			-EINVAL, err, err_len,
			"address %s was asked for, but no subnet of this network has it", text);
	e = entry_find(ipam, wish);
	if (e && e->state == ENTRY_TAKEN)
		return endpoint_fail(-EADDRINUSE, err, err_len,
				     "address %s was asked for, but another container has it",
				     text);
	if (e && e->state == ENTRY_RESERVED)
		return endpoint_fail(-EADDRINUSE, err, err_len,
				     "address %s was asked for, but the node itself has it", text);
	if (e)
		entry_detach(ipam, e);
	else
		e = entry_new(ipam, wish);
	if (!e)
		return -ENOMEM;
	entry_take(e, net);
	return 0;
}

/* One family: *out stays zero when the network has none of it and none was asked for. */
static int take_family(struct ipam *ipam, struct network *net, bool is4, const union tw_addr *wish,
		       union tw_addr *out, char *err, size_t err_len)
{
	bool has = false;
	int rc;

	if (!addr_is_zero(wish)) {
		rc = take_wish(ipam, net, wish, err, err_len);
		if (!rc)
			*out = *wish;
		return rc;
	}
	for (size_t i = 0; i < net->n_pools; i++)
		has |= prefix_is4(&net->pools[i].prefix) == is4;
	if (!has)
		return 0;
	rc = take_any(ipam, net, is4, out);
	if (rc == -ENOSPC)
		return endpoint_fail(
			rc, err, err_len,
			"no free IPv%c address is left; remove containers or add a subnet",
			is4 ? '4' : '6');
	return rc;
}

int ipam_allocate(struct ipam *ipam, const struct ipam_request *req, uint64_t now,
		  union tw_addr *addr4, union tw_addr *addr6, char *err, size_t err_len)
{
	union tw_addr a4 = { 0 }, a6 = { 0 };
	struct network *net;
	int rc;

	rc = network_resolve(ipam, req->network, req->subnets, req->n_subnets, &net, err, err_len);
	if (rc)
		return rc;
	if (!net->n_pools)
		return endpoint_fail(-ENOSPC, err, err_len,
				     "the agent has no --pod-cidr and the network no subnets");
	quarantine_expire(ipam, now);
	if (!req->only_wishes || !addr_is_zero(&req->wish4))
		rc = take_family(ipam, net, true, &req->wish4, &a4, err, err_len);
	if (!rc && (!req->only_wishes || !addr_is_zero(&req->wish6)))
		rc = take_family(ipam, net, false, &req->wish6, &a6, err, err_len);
	if (rc) {
		ipam_cancel(ipam, &a4);
		return rc;
	}
	*addr4 = a4;
	*addr6 = a6;
	return 0;
}

void ipam_release(struct ipam *ipam, const union tw_addr *addr, uint64_t now)
{
	struct entry *e = entry_find(ipam, addr);

	if (!e || e->state != ENTRY_TAKEN)
		return;
	entry_detach(ipam, e);
	entry_set_released(ipam, e, now);
}

void ipam_cancel(struct ipam *ipam, const union tw_addr *addr)
{
	struct entry *e = entry_find(ipam, addr);

	if (e && e->state == ENTRY_TAKEN)
		entry_free(ipam, e);
}

int ipam_restore(struct ipam *ipam, const char *network, const struct prefix *subnets,
		 size_t n_subnets, const union tw_addr *addr)
{
	struct entry *e = entry_find(ipam, addr);
	struct network *net;

	if (e && e->state == ENTRY_TAKEN)
		return -EADDRINUSE;
	/*
	 * A container that runs keeps its address, also when the pools were changed in a way
	 * that would be refused now: then it counts for the agent's own network.
	 */
	if (network_resolve(ipam, network, subnets, n_subnets, &net, NULL, 0))
		net = ipam->networks;
	if (e)
		entry_detach(ipam, e);
	else
		e = entry_new(ipam, addr);
	if (!e)
		return -ENOMEM;
	entry_take(e, net);
	return 0;
}

int ipam_restore_release(struct ipam *ipam, const union tw_addr *addr, uint64_t time)
{
	struct entry *e = entry_find(ipam, addr);

	if (e)
		return 0;
	e = entry_new(ipam, addr);
	if (!e)
		return -ENOMEM;
	entry_set_released(ipam, e, time);
	return 0;
}

int ipam_reserve(struct ipam *ipam, const union tw_addr *addr)
{
	struct entry *e = entry_find(ipam, addr);

	if (e && e->state == ENTRY_TAKEN)
		return 0;
	if (e)
		entry_detach(ipam, e);
	else
		e = entry_new(ipam, addr);
	if (!e)
		return -ENOMEM;
	e->state = ENTRY_RESERVED;
	return 0;
}

void ipam_unreserve(struct ipam *ipam, const union tw_addr *addr)
{
	struct entry *e = entry_find(ipam, addr);

	if (e && e->state == ENTRY_RESERVED)
		entry_free(ipam, e);
}

/* ---- what there is ------------------------------------------------------------------------------ */

int ipam_pools(const struct ipam *ipam, struct prefix **out, size_t *n)
{
	const struct network *net;
	struct prefix *v;
	size_t count = 0;

	LL_FOREACH(ipam->networks, net) {
		count += net->n_pools;
	}
	v = calloc(count ? count : 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	count = 0;
	LL_FOREACH(ipam->networks, net) {
		if (*net->name && !net->taken)
			continue;
		for (size_t i = 0; i < net->n_pools; i++)
			v[count++] = net->pools[i].prefix;
	}
	*out = v;
	*n = count;
	return 0;
}

static json_t *pool_to_json(const struct ipam *ipam, const struct network *net,
			    const struct pool *pool)
{
	u128 size = pool->last - pool->first + 1;
	json_int_t used = 0, quarantined = 0;
	char text[ADDR_TEXT_LEN];
	struct entry *e, *tmp;

	/* The largest number that every reader of JSON keeps exactly. */
	if (!size || size > (u128)1 << 53)
		size = (u128)1 << 53;
	HASH_ITER(hh, ipam->entries, e, tmp) {
		if (!pool_has(pool, &e->addr))
			continue;
		if (e->state == ENTRY_RELEASED)
			quarantined++;
		else
			used++;
	}
	prefix_format(&pool->prefix, text, sizeof(text));
	return json_pack("{s:s,s:s,s:I,s:I,s:I}", "network", net->name, "subnet", text, "used",
			 used, "quarantined", quarantined, "size", (json_int_t)size);
}

json_t *ipam_to_json(const struct ipam *ipam)
{
	json_t *list = json_array();
	const struct network *net;

	if (!list)
		return NULL;
	LL_FOREACH(ipam->networks, net) {
		for (size_t i = 0; i < net->n_pools; i++) {
			if (json_array_append_new(list, pool_to_json(ipam, net, &net->pools[i]))) {
				json_decref(list);
				return NULL;
			}
		}
	}
	return list;
}
