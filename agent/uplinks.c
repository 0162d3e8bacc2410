/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "uplinks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "log.h"
#include "edge/edges.h"
#include "programs.h"

/* Changes come in bursts (link, then addresses, then routes): one look for all of them. */
#define SETTLE_MS 50
/* What failed is tried again: nothing may change for days. */
#define RETRY_MS 5000

struct uplinks {
	struct agent *a;
	struct node_watch *watch;
	uv_poll_t poll;
	uv_timer_t settle;
	int open_handles;
	bool started;
	bool failed; /* the last look, or what followed from it */
	struct uplink *v;
	size_t n;
	struct node_addr *addrs;
	size_t n_addrs;
};

/*
 * The node's addresses are the host, and the pod subnets are nobody where no endpoint is.
 * Loopback addresses stay out: no packet on a wire may have them.
 */
static int words_write(struct uplinks *u)
{
	struct agent *a = u->a;
	struct prefix *pools = NULL;
	size_t n_pools = 0, n = 0;
	struct agent_error refused;
	struct agent_cost cost;
	int err = ipam_pools(a->ipam, &pools, &n_pools);

	if (err)
		return err;
	struct plan_prefix *words = calloc(u->n_addrs + n_pools + 1, sizeof(*words));
	struct prefix *reserved = calloc(u->n_addrs + n_pools + 1, sizeof(*reserved));
	if (!words || !reserved)
		err = -ENOMEM;
	for (size_t i = 0; !err && i < u->n_addrs; i++)
		if (!addr_is_loopback(&u->addrs[i].addr))
			words[n++] = (struct plan_prefix){
				.prefix = { .addr = u->addrs[i].addr, .len = 128 },
				.word = TW_ID_HOST,
			};
	for (size_t i = 0; !err && i < n_pools; i++)
		words[n++] = (struct plan_prefix){ .prefix = pools[i], .word = TW_ID_UNASSIGNED };
	for (size_t i = 0; !err && i < n; i++)
		reserved[i] = words[i].prefix;
	if (!err)
		err = policy_reserve(a->policy, reserved, n);
	if (!err)
		err = maps_node_words(a->maps, words, n);
	/* Prefixes that the compiler has to leave now, or may have again. */
	if (!err && u->started)
		err = agent_change(a, &(struct agent_change){}, &cost, &refused);
	free(reserved);
	free(words);
	free(pools);
	return err;
}

static bool has_addr(const struct node_addr *addrs, size_t n, const union tw_addr *addr)
{
	for (size_t i = 0; i < n; i++)
		if (!memcmp(&addrs[i].addr, addr, sizeof(*addr)))
			return true;
	return false;
}

/* The node's own addresses are never handed out to pods. */
static int addrs_take(struct uplinks *u, struct node_addr *addrs, size_t n)
{
	int err = 0;

	for (size_t i = 0; !err && i < n; i++)
		if (!has_addr(u->addrs, u->n_addrs, &addrs[i].addr))
			err = ipam_reserve(u->a->ipam, &addrs[i].addr);
	for (size_t i = 0; !err && i < u->n_addrs; i++)
		if (!has_addr(addrs, n, &u->addrs[i].addr))
			ipam_unreserve(u->a->ipam, &u->addrs[i].addr);
	free(u->addrs);
	u->addrs = addrs;
	u->n_addrs = n;
	return err;
}

static const struct uplink *find(const struct uplink *v, size_t n, uint32_t ifindex)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].ifindex == ifindex)
			return &v[i];
	return NULL;
}

int uplinks_has(const struct uplinks *u, uint32_t ifindex)
{
	return find(u->v, u->n, ifindex) != NULL;
}

uint32_t uplinks_first(const struct uplinks *u)
{
	return u->n ? u->v[0].ifindex : 0;
}

int uplinks_address(const struct uplinks *u, uint8_t family, union tw_addr *out)
{
	for (size_t i = 0; i < u->n; i++) {
		const union tw_addr *addr = family == 4 ? &u->v[i].addr4 : &u->v[i].addr6;

		if (!(addr->quad[0] | addr->quad[1]))
			continue;
		*out = *addr;
		return 0;
	}
	return -ENOENT;
}

static int save_sysctl(void *arg, const char *path, const char *old)
{
	const struct agent *a = arg;

	return store_sysctl_put(a->store, path, old);
}

static int uplink_attach(struct agent *a, const struct uplink *uplink, char *err, size_t err_len)
{
	const struct tw_uplink value = {
		.masq4 = uplink->addr4.word[3], /* mapped, or all zero */
		.mtu = uplink->mtu,
		.masq6 = uplink->addr6,
	};
	int res = uplink_prepare(uplink, save_sysctl, a, err, err_len);

	if (res)
		return res;
	res = datapath_uplink_set(a->dp, uplink->ifindex, &value);
	if (!res)
		res = datapath_attach_uplink(a->dp, uplink->ifindex, uplink->name);
	if (res == -E2BIG)
		snprintf(
			err, err_len,
			"the table of uplinks is full with %u, and the uplink %s is left out; name "
			"those that are in use with --uplink",
			TW_MAX_UPLINKS, uplink->name);
	else if (res)
		snprintf(err, err_len, "cannot attach the programs to the uplink %s: %s",
			 uplink->name, strerror(-res));
	return res;
}

static void uplink_drop(struct agent *a, uint32_t ifindex)
{
	datapath_detach(a->dp, ifindex);
	datapath_uplink_del(a->dp, ifindex);
}

static int drop_unknown(void *arg, uint32_t ifindex)
{
	const struct uplinks *u = arg;

	if (!uplinks_has(u, ifindex))
		uplink_drop(u->a, ifindex);
	return 0;
}

/* *changed: something that cached decisions may rest on is different. */
static int look(struct uplinks *u, bool *changed, char *err, size_t err_len)
{
	const struct agent_options *opts = u->a->opts;
	struct node_addr *addrs = NULL;
	struct uplink *v = NULL;
	size_t n = 0, n_addrs = 0;
	/* At start a missing one is a mistake in the options; later it may come back. */
	int res = uplink_find(opts->uplinks, opts->n_uplinks, !u->started, &v, &n, err, err_len);

	if (res)
		return res;
	res = node_addrs(&addrs, &n_addrs);
	if (res) {
		free(v);
		snprintf(err, err_len, "cannot list the addresses of this node: %s",
			 strerror(-res));
		return res;
	}
	*changed = n != u->n || memcmp(v, u->v, n * sizeof(*v)) || n_addrs != u->n_addrs ||
		   memcmp(addrs, u->addrs, n_addrs * sizeof(*addrs));
	for (size_t i = 0; i < u->n && u->started; i++)
		if (!find(v, n, u->v[i].ifindex))
			uplink_drop(u->a, u->v[i].ifindex);
	free(u->v);
	u->v = v;
	u->n = n;
	res = addrs_take(u, addrs, n_addrs);
	if (!res)
		res = words_write(u);
	if (res)
		snprintf(err, err_len, "cannot write the addresses of this node: %s",
			 strerror(-res));
	return res;
}

static int attach_all(struct uplinks *u, char *err, size_t err_len)
{
	int first = 0;

	for (size_t i = 0; i < u->n; i++) {
		int res = uplink_attach(u->a, &u->v[i], err, err_len);

		first = first ? first : res;
	}
	return first;
}

static void settled(uv_timer_t *timer)
{
	struct uplinks *u = timer->data;
	bool changed = false;
	char why[256];

	bool failed = look(u, &changed, why, sizeof(why)) ||
		      ((changed || u->failed) && attach_all(u, why, sizeof(why)));
	if (failed && (changed || !u->failed))
		log_warn("%s", why);
	u->failed = failed;
	if (failed)
		uv_timer_start(timer, settled, RETRY_MS, 0);
	if (changed)
		log_info("the node's addresses or uplinks have changed: %zu uplinks", u->n);
	/* Routes are not kept here, so any change may have been one of them. */
	log_debug("the node changed: %d", changed);
	/* A device may have come back. */
	programs_look(u->a->programs);
	edges_look(u->a->edges);
	datapath_epoch_bump(u->a->dp, 0);
}

static void watch_ready(uv_poll_t *poll, int status, int events)
{
	struct uplinks *u = poll->data;
	unsigned int changes = 0;

	if (node_watch_read(u->watch, &changes) || !changes)
		return;
	if (!uv_is_active((uv_handle_t *)&u->settle) || uv_timer_get_due_in(&u->settle) > SETTLE_MS)
		uv_timer_start(&u->settle, settled, SETTLE_MS, 0);
}

/* Whether one contains the other: they are the same as far as the shorter one goes. */
static bool prefixes_overlap(const struct prefix *a, const struct prefix *b)
{
	unsigned int bits = a->len < b->len ? a->len : b->len;

	if (memcmp(&a->addr, &b->addr, bits / 8))
		return false;
	return bits % 8 == 0 ||
	       !((a->addr.byte[bits / 8] ^ b->addr.byte[bits / 8]) >> (8 - bits % 8));
}

/*
 * Hosts on a network of the node's own cannot be pods too: their addresses would be handed out
 * twice, and be dropped as nobody's.
 */
static int pools_check(const struct uplinks *u, char *err, size_t err_len)
{
	const struct agent_options *opts = u->a->opts;

	for (size_t i = 0; i < u->n_addrs; i++) {
		struct prefix link = { .addr = u->addrs[i].addr, .len = u->addrs[i].len };
		char ours[64], theirs[64], name[IF_NAMESIZE] = "?";

		if (link.len == 128 || addr_is_loopback(&link.addr))
			continue;
		for (size_t j = 0; j < opts->n_pod_cidrs; j++) {
			if (!prefixes_overlap(&opts->pod_cidrs[j], &link))
				continue;
			prefix_format(&opts->pod_cidrs[j], ours, sizeof(ours));
			prefix_format(&link, theirs, sizeof(theirs));
			if_indextoname(u->addrs[i].ifindex, name);
			snprintf(err, err_len,
				 "the pod subnet %s overlaps with %s of the interface %s; choose "
				 "another with --pod-cidr",
				 ours, theirs, name);
			return -EADDRINUSE;
		}
	}
	return 0;
}

int uplinks_new(struct uplinks **out, struct agent *a, char *err, size_t err_len)
{
	struct uplinks *u = calloc(1, sizeof(*u));
	bool changed;

	if (!u) {
		snprintf(err, err_len, "out of memory");
		return -ENOMEM;
	}
	u->a = a;
	/* Before the first look, so that no change falls between the two. */
	int res = node_watch_open(&u->watch);
	if (res)
		snprintf(err, err_len, "cannot watch this node's interfaces: %s", strerror(-res));
	else
		res = look(u, &changed, err, err_len);
	if (!res)
		res = pools_check(u, err, err_len);
	if (res) {
		uplinks_free(u);
		return res;
	}
	*out = u;
	return 0;
}

int uplinks_start(struct uplinks *u, char *err, size_t err_len)
{
	struct agent *a = u->a;
	int res = node_reserve_ports(save_sysctl, a, err, err_len);

	if (res)
		return res;
	res = datapath_uplink_each(a->dp, drop_unknown, u);
	if (res) {
		snprintf(err, err_len, "cannot read the uplinks in the maps: %s", strerror(-res));
		return res;
	}
	res = attach_all(u, err, err_len);
	if (res)
		return res;
	uv_poll_init(&a->loop, &u->poll, node_watch_fd(u->watch));
	uv_timer_init(&a->loop, &u->settle);
	u->open_handles = 2;
	u->poll.data = u->settle.data = u;
	uv_poll_start(&u->poll, UV_READABLE, watch_ready);
	u->started = true;
	for (size_t i = 0; i < u->n; i++)
		log_info("uplink %s, MTU %u", u->v[i].name, u->v[i].mtu);
	if (!u->n)
		log_info("no uplink: there is no default route, and no --uplink");
	return 0;
}

static void release(struct uplinks *u)
{
	if (u->watch)
		node_watch_close(u->watch);
	free(u->v);
	free(u->addrs);
	free(u);
}

static void handle_closed(uv_handle_t *handle)
{
	struct uplinks *u = handle->data;

	if (!--u->open_handles)
		release(u);
}

void uplinks_free(struct uplinks *u)
{
	if (!u)
		return;
	if (!u->open_handles) {
		release(u);
		return;
	}
	uv_close((uv_handle_t *)&u->poll, handle_closed);
	uv_close((uv_handle_t *)&u->settle, handle_closed);
}

uint32_t uplinks_mtu(const struct uplinks *u)
{
	return uplink_mtu(u->v, u->n);
}

void uplinks_put_back(struct uplinks *u)
{
	for (size_t i = 0; i < u->n; i++) {
		if (datapath_attached(u->a->dp, u->v[i].ifindex))
			continue;
		int res = datapath_attach_uplink(u->a->dp, u->v[i].ifindex, u->v[i].name);

		log_warn("somebody has taken the programs off %s; they are %s", u->v[i].name,
			 res ? strerror(-res) : "put back");
	}
}

void uplinks_pools_changed(struct uplinks *u)
{
	int err = words_write(u);

	if (err)
		log_error("cannot write the pod subnets to the maps: %s", strerror(-err));
}

static json_t *addr_json(const union tw_addr *addr)
{
	char text[64];

	if (!(addr->quad[0] | addr->quad[1]) || addr_format(addr, text, sizeof(text)) < 0)
		return json_null();
	return json_string(text);
}

json_t *uplinks_to_json(const struct uplinks *u)
{
	json_t *list = json_array();

	for (size_t i = 0; i < u->n; i++) {
		const struct uplink *v = &u->v[i];

		json_array_append_new(
			list, json_pack("{s:s, s:i, s:i, s:b, s:o, s:o}", "name", v->name,
					"ifindex", (int)v->ifindex, "mtu", (int)v->mtu, "up", v->up,
					"ip4", addr_json(&v->addr4), "ip6", addr_json(&v->addr6)));
	}
	return list;
}
