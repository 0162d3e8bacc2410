/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Endpoints come and go: address → veth → programs → policy, record and maps in one change. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "log.h"
#include "opener.h"
#include "programs.h"
#include "uplinks.h"

/*
 * New flows a second of one endpoint. A busy proxy opens some thousands; a flood would fill
 * the table at millions. What the limit lets through within the life of an unanswered flow
 * must fit an endpoint's share of the table, or the cap is what stops it.
 */
#define ENDPOINT_RATE 20000u

void agent_endpoint_policy(const struct endpoint *ep, struct policy_endpoint *out)
{
	*out = (struct policy_endpoint){
		.slot = ep->slot,
		.ns = ep->ns,
		.pod = ep->pod,
		.addr4 = ep->addr4,
		.addr6 = ep->addr6,
		.labels = &ep->labels,
	};
}

void agent_endpoint_value(const struct agent *a, const struct endpoint *ep, struct tw_endpoint *out)
{
	*out = (struct tw_endpoint){
		.ifindex = ep->port_ifindex,
		.flags = TW_EP_LIVE | ep->queues | (ep->no_masq ? TW_EP_NO_MASQ : 0u),
		.addr4 = ep->addr4.word[3], /* mapped, or all zero */
		.mtu = (__u16)ep->mtu,
		.rate = ENDPOINT_RATE,
		.cap = a->flow_cap,
		.addr6 = ep->addr6,
	};
	memcpy(out->mac, ep->mac, sizeof(out->mac));
}

/* ---- ADD ------------------------------------------------------------------------------------ */

/* An ADD under way: what is undone unless it is done. */
struct attempt {
	struct agent *a;
	struct endpoint_request req;
	struct endpoint *part[ENDPOINT_PARTS_MAX]; /* the table's when `filed` */
	size_t n_parts;
	int netns_fd;
	bool filed, linked, attached, done;
};

static void attempt_end(struct attempt *t)
{
	const struct endpoint *ep = t->part[0];
	struct agent *a = t->a;
	char why[256];

	if (!t->done) {
		if (t->attached)
			datapath_detach(a->dp, ep->port_ifindex);
		if (t->linked && endpoint_link_delete(ep->port, why, sizeof(why)))
			log_warn("%s; the next start removes it", why);
		for (size_t i = 0; i < t->n_parts; i++) {
			ipam_cancel(a->ipam, &t->part[i]->addr4);
			ipam_cancel(a->ipam, &t->part[i]->addr6);
			if (t->filed)
				slots_release(a->slots, t->part[i]->slot, uv_now(&a->loop));
			else
				endpoint_clear(t->part[i]);
		}
	}
	for (size_t i = 0; i < t->n_parts && !t->filed; i++)
		free(t->part[i]);
	if (t->netns_fd >= 0)
		close(t->netns_fd);
	endpoint_request_clear(&t->req);
}

/*
 * A DEL that the CNI plugin recorded is about an attachment before the one that is made now; found
 * by a later sweep, it would end this one.
 */
static int attempt_take_pending(struct agent *a, const struct endpoint *ep, struct agent_error *err)
{
	char path[4096];
	int len = snprintf(path, sizeof(path), "%s/pending-del/%s@%s", a->opts->state_dir,
			   ep->container_id, ep->ifname);

	if (len >= (int)sizeof(path) || access(path, F_OK))
		return 0;
	int res = agent_endpoint_del(a, ep->container_id, ep->ifname, err);
	if (!res && unlink(path))
		log_warn("cannot remove %.200s: %s", path, strerror(errno));
	return res;
}

/*
 * Nobody else's: a runtime that lost its state may ADD again after the container is gone, and
 * two attachments may, once in 2^40, have one name for their ports.
 */
static int attempt_unique(struct agent *a, const struct endpoint *wanted, struct agent_error *err)
{
	const struct endpoint *old;
	int res = attempt_take_pending(a, wanted, err);

	if (res)
		return res;
	old = slots_find(a->slots, wanted->container_id, wanted->ifname);

	if (old && old->ending)
		return agent_refuse(err, AGENT_NOT_READY,
				    "container %.64s still has an interface %s that is being "
				    "removed; try again",
				    old->container_id, old->ifname);
	if (old && !endpoint_link_exists(old)) {
		res = agent_endpoint_del(a, old->container_id, old->ifname, err);
		if (res)
			return res;
		old = NULL;
	}
	if (old)
		return agent_refuse(err, AGENT_EXISTS,
				    "container %.64s has an interface %s already; delete it first",
				    old->container_id, old->ifname);
	old = slots_find_port(a->slots, wanted->port);
	if (old)
		return agent_refuse(
			err, AGENT_EXISTS,
			"the port %s that this attachment would get is that of "
			"container %.64s %s; use another interface name or container id",
			old->port, old->container_id, old->ifname);
	return 0;
}

/* A slot and addresses for one more part; the first one is the endpoint itself. */
static int attempt_part(struct attempt *t, struct endpoint *ep, struct agent_error *err)
{
	struct agent *a = t->a;
	char why[256] = "";
	const struct ipam_request wish = {
		.network = ep->network,
		.subnets = ep->subnets,
		.n_subnets = ep->n_subnets,
		.wish4 = t->req.wish4[ep->part],
		.wish6 = t->req.wish6[ep->part],
		.only_wishes = t->req.given,
	};
	int res = ipam_allocate(a->ipam, &wish, agent_wall_seconds(a), &ep->addr4, &ep->addr6, why,
				sizeof(why));

	if (res)
		return agent_refuse_errno(err, res, why);
	t->part[t->n_parts++] = ep;
	if (slots_choose(a->slots, uv_now(&a->loop), &ep->slot))
		return agent_refuse(err, AGENT_EXHAUSTED,
				    "this node has as many endpoints as it may; try again in some "
				    "seconds, or remove one");
	return 0;
}

/* Who it is, and what is free for it. */
static int attempt_plan(struct attempt *t, struct agent_error *err)
{
	struct agent *a = t->a;
	char why[256] = "";
	int res = attempt_unique(a, &t->req.ep, err);

	if (res)
		return res;
	if (t->req.masq && !(a->opts->masquerade4 && a->opts->masquerade6))
		return agent_refuse(
			err, AGENT_INVALID,
			"ipMasq: this node does not masquerade (--no-masquerade); leave "
			"it away, or start towpathd without");
	res = endpoint_netns_open(t->req.netns, &t->netns_fd, why, sizeof(why));
	if (res)
		return agent_refuse_errno(err, res, why);
	if (!t->req.ep.mtu)
		t->req.ep.mtu = uplinks_mtu(a->uplinks);
	for (uint32_t i = 0; i < t->req.n_parts; i++) {
		struct endpoint *ep = malloc(sizeof(*ep));

		if (!ep || endpoint_copy(ep, &t->req.ep)) {
			free(ep);
			return agent_refuse(err, AGENT_INTERNAL, "out of memory");
		}
		ep->part = i;
		res = attempt_part(t, ep, err);
		if (res) {
			if (t->n_parts <= i) {
				endpoint_clear(ep);
				free(ep);
			}
			return res;
		}
	}
	if (t->part[0]->n_subnets)
		uplinks_pools_changed(a->uplinks);
	return 0;
}

static int attempt_link(struct attempt *t, struct agent_error *err)
{
	struct endpoint *ep = t->part[0];
	struct agent *a = t->a;
	char why[256] = "";
	int res = endpoint_link_create(ep, t->netns_fd, why, sizeof(why));

	if (res)
		return agent_refuse_errno(err, res, why);
	t->linked = true;
	res = datapath_attach_port_begin(a->dp, ep->port_ifindex);
	if (res < 0)
		return agent_refuse(err, AGENT_INTERNAL, "cannot attach the programs to %s: %s",
				    ep->port, strerror(-res));
	t->attached = true;
	ep->closed = res;
	res = programs_endpoint_up(a->programs, ep, t->netns_fd, why, sizeof(why));
	if (res)
		return agent_refuse(err, res == -EAGAIN ? AGENT_NOT_READY : AGENT_INVALID, "%s",
				    why);
	/* The programs drop whatever comes until the maps know the endpoint. */
	res = endpoint_link_up(ep, t->netns_fd, why, sizeof(why));
	for (size_t i = 1; i < t->n_parts && !res; i++) {
		struct endpoint *part = t->part[i];

		part->port_ifindex = ep->port_ifindex;
		part->queues = ep->queues;
		part->table = ep->table;
		part->closed = ep->closed;
		memcpy(part->mac, ep->mac, sizeof(part->mac));
		res = endpoint_link_up_part(part, t->netns_fd, why, sizeof(why));
	}
	return res ? agent_refuse_errno(err, res, why) : 0;
}

/* What a change says of each part. */
struct commit {
	struct policy_endpoint policy[ENDPOINT_PARTS_MAX];
	struct maps_endpoint added[ENDPOINT_PARTS_MAX];
	struct store_endpoint records[ENDPOINT_PARTS_MAX];
	struct store_release taken[2 * ENDPOINT_PARTS_MAX];
	char keys[ENDPOINT_PARTS_MAX][ENDPOINT_KEY_LEN];
	char *json[ENDPOINT_PARTS_MAX];
};

static void commit_clear(struct commit *c)
{
	for (size_t i = 0; i < ENDPOINT_PARTS_MAX; i++)
		free(c->json[i]);
}

static int commit_part(struct commit *c, const struct agent *a, struct endpoint *ep)
{
	uint32_t i = ep->part;

	agent_endpoint_policy(ep, &c->policy[i]);
	c->added[i].slot = ep->slot;
	agent_endpoint_value(a, ep, &c->added[i].value);
	ep->state = ENDPOINT_READY;
	json_t *record = endpoint_to_json(ep);
	c->json[i] = record ? json_dumps(record, JSON_COMPACT) : NULL;
	json_decref(record);
	c->records[i] = (struct store_endpoint){
		.container_id = ep->container_id,
		.ifname = endpoint_key(ep, c->keys[i]),
		.json = c->json[i],
	};
	c->taken[2 * i] = (struct store_release){ .addr = ep->addr4 };
	c->taken[2 * i + 1] = (struct store_release){ .addr = ep->addr6 };
	return c->json[i] ? 0 : -ENOMEM;
}

static int attempt_commit(struct attempt *t, struct agent_error *err)
{
	__attribute__((cleanup(commit_clear))) struct commit c = {};
	struct agent *a = t->a;
	struct agent_cost cost;

	for (size_t i = 0; i < t->n_parts; i++) {
		if (commit_part(&c, a, t->part[i]))
			return agent_refuse(err, AGENT_INTERNAL, "out of memory");
	}
	const struct agent_change change = {
		.ep_put = c.policy,
		.n_ep_put = t->n_parts,
		.added = c.added,
		.n_added = t->n_parts,
		.records = c.records,
		.n_records = t->n_parts,
		.releases = c.taken,
		.n_releases = 2 * t->n_parts,
	};
	for (size_t i = 0; i < t->n_parts; i++)
		slots_put(a->slots, t->part[i]);
	t->filed = true;
	return agent_change(a, &change, &cost, err);
}

/* The endpoint with the addresses of all its parts. NULL: no memory. */
static json_t *endpoint_whole_json(const struct slots *slots, const struct endpoint *ep)
{
	const struct endpoint *part = NULL;
	json_t *json = endpoint_to_json(ep);

	while (json && (part = slots_part(slots, ep, part)))
		endpoint_json_add_part(json, part);
	return json;
}

json_t *agent_endpoint_list(const struct agent *a)
{
	const struct endpoint *ep;
	json_t *list = json_array();

	for (uint32_t slot = 1; (ep = slots_next(a->slots, slot)); slot = ep->slot + 1) {
		const struct endpoint *part = NULL;
		uint32_t flows = 0, sum = 0;
		json_t *json;

		if (ep->part)
			continue;
		json = endpoint_whole_json(a->slots, ep);
		for (const struct endpoint *of = ep; of; of = part = slots_part(a->slots, ep, part))
			sum += datapath_endpoint_flows(a->dp, of->slot, &flows) ? 0 : flows;
		json_object_set_new(json, "flows", json_integer(sum));
		json_array_append_new(list, json);
	}
	return list;
}

int agent_endpoint_add(struct agent *a, const json_t *body, json_t **reply, struct agent_error *err)
{
	__attribute__((cleanup(attempt_end))) struct attempt t = { .a = a, .netns_fd = -1 };
	char why[256] = "";
	uint64_t begin = uv_hrtime();
	int res = endpoint_request_parse(body, &t.req, why, sizeof(why));

	if (res)
		return agent_refuse_errno(err, res, why);
	res = attempt_plan(&t, err);
	if (!res)
		res = attempt_link(&t, err);
	if (!res)
		res = attempt_commit(&t, err);
	if (res)
		return res;
	t.done = true;
	struct endpoint *ep = t.part[0];
	opener_add(a->opener, ep);
	log_info("endpoint %s/%s (%.12s %s) is on %s, slot %u, made in %.1f ms", ep->ns, ep->pod,
		 ep->container_id, ep->ifname, ep->port, ep->slot,
		 (double)(uv_hrtime() - begin) / 1e6);
	*reply = endpoint_whole_json(a->slots, ep);
	return *reply ? 0 : agent_refuse(err, AGENT_INTERNAL, "out of memory");
}

/* ---- DEL ------------------------------------------------------------------------------------ */

/* What is taken back with an endpoint: all its parts. */
struct removal {
	struct endpoint *part[ENDPOINT_PARTS_MAX];
	uint32_t slots[ENDPOINT_PARTS_MAX];
	struct store_endpoint records[ENDPOINT_PARTS_MAX];
	struct store_release releases[2 * ENDPOINT_PARTS_MAX];
	char keys[ENDPOINT_PARTS_MAX][ENDPOINT_KEY_LEN];
	size_t n, n_releases;
};

static void removal_add(struct removal *r, struct endpoint *ep, uint64_t now)
{
	const union tw_addr *const addrs[] = { &ep->addr4, &ep->addr6 };

	r->part[r->n] = ep;
	r->slots[r->n] = ep->slot;
	r->records[r->n] = (struct store_endpoint){
		.container_id = ep->container_id,
		.ifname = endpoint_key(ep, r->keys[r->n]),
	};
	r->n++;
	for (int i = 0; i < 2; i++) {
		if (addrs[i]->quad[0] | addrs[i]->quad[1])
			r->releases[r->n_releases++] = (struct store_release){
				.addr = *addrs[i],
				.time = (int64_t)now,
			};
	}
}

int agent_endpoint_forget(struct agent *a, struct endpoint *ep, struct agent_error *err)
{
	const uint64_t now = agent_wall_seconds(a);
	struct endpoint *part = NULL;
	struct removal r = {};
	struct agent_cost cost;

	removal_add(&r, ep, now);
	while (r.n < ENDPOINT_PARTS_MAX && (part = slots_part(a->slots, ep, part)))
		removal_add(&r, part, now);
	const struct agent_change change = {
		.removed = r.slots,
		.n_removed = r.n,
		.records = r.records,
		.n_records = r.n,
		.releases = r.releases,
		.n_releases = r.n_releases,
		/* Addresses of IPv6 never come again, so nothing else would end their rest. */
		.releases_before = (int64_t)now - IPAM_QUARANTINE,
	};
	int res = agent_change(a, &change, &cost, err);
	if (res)
		return res;
	res = datapath_detach(a->dp, ep->port_ifindex);
	if (res)
		log_warn("cannot take the programs of %s out: %s", ep->port, strerror(-res));
	for (size_t i = 0; i < r.n_releases; i++)
		ipam_release(a->ipam, &r.releases[i].addr, now);
	if (ep->n_subnets)
		uplinks_pools_changed(a->uplinks);
	log_info("endpoint %s/%s (%.12s %s) is gone", ep->ns, ep->pod, ep->container_id,
		 ep->ifname);
	while (r.n--)
		slots_release(a->slots, r.part[r.n]->slot, uv_now(&a->loop));
	return 0;
}

/*
 * First the interface: when that fails the endpoint goes on, whole, and DEL is tried again;
 * after a crash the start finds a record without interface.
 */
static int endpoint_del(struct agent *a, struct endpoint *ep, struct agent_error *err)
{
	char why[256] = "";
	int res = endpoint_link_delete(ep->port, why, sizeof(why));

	return res ? agent_refuse_errno(err, res, why) : agent_endpoint_forget(a, ep, err);
}

int agent_endpoint_del(struct agent *a, const char *container_id, const char *ifname,
		       struct agent_error *err)
{
	struct endpoint *ep = slots_find(a->slots, container_id, ifname);

	/* One that is ending already has those who wait for it. */
	return ep && !ep->ending ? endpoint_del(a, ep, err) : 0;
}

/* ---- GC ------------------------------------------------------------------------------------- */

static bool gc_keeps(const json_t *keep, const struct endpoint *ep)
{
	const json_t *item;
	size_t i;

	json_array_foreach(keep, i, item) {
		const char *id = json_string_value(json_object_get(item, "container_id"));
		const char *ifname = json_string_value(json_object_get(item, "ifname"));

		if (id && ifname && !strcmp(id, ep->container_id) && !strcmp(ifname, ep->ifname))
			return true;
	}
	return false;
}

int agent_endpoint_gc(struct agent *a, const json_t *body, json_t **reply, struct agent_error *err)
{
	const char *network = json_string_value(json_object_get(body, "network"));
	const json_t *keep = json_object_get(body, "keep");
	int removed = 0;
	struct endpoint *ep;
	uint32_t slot;

	/* Without a list, everything would go. */
	if (!network || !json_is_array(keep))
		return agent_refuse(err, AGENT_INVALID,
				    "the request needs network (a string) and keep (a list)");
	json_t *errors = json_array();
	for (slot = 1; (ep = slots_next(a->slots, slot)); slot++) {
		struct agent_error e;

		slot = ep->slot;
		if (ep->part || ep->ending || strcmp(ep->network, network) || gc_keeps(keep, ep))
			continue;
		if (endpoint_del(a, ep, &e))
			json_array_append_new(errors, json_string(e.at.text));
		else
			removed++;
	}
	*reply = json_pack("{s:i, s:o}", "removed", removed, "errors", errors);
	return *reply ? 0 : agent_refuse(err, AGENT_INTERNAL, "out of memory");
}

/* ---- GET and CHECK --------------------------------------------------------------------------- */

/* One part of an endpoint, the first or a further one. */
static int endpoint_check_part(struct agent *a, const struct endpoint *ep, struct agent_error *err)
{
	struct tw_endpoint has, should;
	char why[256] = "";
	opener_finish(a->opener, ep);
	int res = endpoint_link_check(ep, why, sizeof(why));

	if (res)
		return agent_refuse(err, AGENT_INTERNAL, "%s", why);
	if (!datapath_attached(a->dp, ep->port_ifindex))
		return agent_refuse(err, AGENT_INTERNAL,
				    "the programs of %s are gone; restart towpathd", ep->port);
	res = datapath_endpoint_get(a->dp, ep->slot, &has);
	agent_endpoint_value(a, ep, &should);
	should.identity = ep->identity;
	should.identity6 = has.identity6;
	should.version = ep->version;
	if (res || memcmp(&has, &should, sizeof(has)))
		return agent_refuse(err, AGENT_INTERNAL,
				    "the kernel's entry of slot %u is not right; restart towpathd",
				    ep->slot);
	return 0;
}

static int endpoint_check(struct agent *a, const struct endpoint *ep, struct agent_error *err)
{
	const struct endpoint *part = NULL;
	int res = endpoint_check_part(a, ep, err);

	while (!res && (part = slots_part(a->slots, ep, part)))
		res = endpoint_check_part(a, part, err);
	return res;
}

int agent_endpoint_get(struct agent *a, const char *container_id, const char *ifname, bool check,
		       json_t **reply, struct agent_error *err)
{
	const struct endpoint *ep = slots_find(a->slots, container_id, ifname);
	int res = 0;

	if (!ep)
		return agent_refuse(err, AGENT_NOT_FOUND, "there is no endpoint %.128s %.16s",
				    container_id, ifname);
	if (check)
		res = endpoint_check(a, ep, err);
	if (res)
		return res;
	*reply = endpoint_whole_json(a->slots, ep);
	return *reply ? 0 : agent_refuse(err, AGENT_INTERNAL, "out of memory");
}

/* ---- what ended without us --------------------------------------------------------------------- */

/* DELs that the CNI plugin recorded while no agent answered. */
static void pending_finish(struct agent *a)
{
	char path[4096];
	struct dirent *entry;

	snprintf(path, sizeof(path), "%s/pending-del", a->opts->state_dir);
	DIR *dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		struct agent_error err;
		char name[256];

		snprintf(name, sizeof(name), "%s", entry->d_name);
		char *at = strchr(name, '@'); /* no container id has one */
		if (!at)
			continue;
		*at = '\0';
		if (agent_endpoint_del(a, name, at + 1, &err))
			log_warn("cannot finish the DEL of %s %s: %s", name, at + 1, err.at.text);
		else if (unlinkat(dirfd(dir), entry->d_name, 0))
			log_warn("cannot remove %.200s/%s: %s", path, entry->d_name,
				 strerror(errno));
	}
	if (dir)
		closedir(dir);
}

void agent_endpoint_sweep(struct agent *a)
{
	struct endpoint *ep;

	pending_finish(a);
	for (uint32_t slot = 1; (ep = slots_next(a->slots, slot)); slot++) {
		struct agent_error err;

		slot = ep->slot;
		if (!ep->part && !ep->ending && !endpoint_link_exists(ep) &&
		    endpoint_del(a, ep, &err))
			log_warn("cannot drop an endpoint whose interface is gone: %s",
				 err.at.text);
	}
}
