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
		.flags = TW_EP_LIVE,
		.addr4 = ep->addr4.word[3], /* mapped, or all zero */
		.mtu = (__u16)ep->mtu,
		.rate = ENDPOINT_RATE,
		.cap = a->flow_cap,
		.addr6 = ep->addr6,
	};
	memcpy(out->mac, ep->mac, sizeof(out->mac));
}

static uint64_t wall_seconds(void)
{
	return (uint64_t)time(NULL);
}

/* ---- ADD ------------------------------------------------------------------------------------ */

/* An ADD under way: what is undone unless it is done. */
struct attempt {
	struct agent *a;
	struct endpoint_request req;
	struct endpoint *ep; /* the table's when `filed` */
	int netns_fd;
	bool addressed, filed, linked, attached, done;
};

static void attempt_end(struct attempt *t)
{
	struct agent *a = t->a;
	char why[256];

	if (!t->done) {
		if (t->attached)
			datapath_detach(a->dp, t->ep->port_ifindex);
		if (t->linked && endpoint_link_delete(t->ep->port, why, sizeof(why)))
			log_warn("%s; the next start removes it", why);
		if (t->addressed) {
			ipam_cancel(a->ipam, &t->ep->addr4);
			ipam_cancel(a->ipam, &t->ep->addr6);
		}
		if (t->filed)
			slots_release(a->slots, t->ep->slot, uv_now(&a->loop));
		else if (t->ep)
			endpoint_clear(t->ep);
	}
	if (!t->filed)
		free(t->ep);
	if (t->netns_fd >= 0)
		close(t->netns_fd);
	endpoint_request_clear(&t->req);
}

/*
 * A DEL that the CNI plugin recorded is about an attachment before the one that is made now; found
 * by a later sweep, it would end this one.
 */
static int attempt_take_pending(struct attempt *t, struct agent_error *err)
{
	const struct endpoint *ep = &t->req.ep;
	char path[4096];
	int len = snprintf(path, sizeof(path), "%s/pending-del/%s@%s", t->a->opts->state_dir,
			   ep->container_id, ep->ifname);

	if (len >= (int)sizeof(path) || access(path, F_OK))
		return 0;
	int res = agent_endpoint_del(t->a, ep->container_id, ep->ifname, err);
	if (!res && unlink(path))
		log_warn("cannot remove %.200s: %s", path, strerror(errno));
	return res;
}

/* Who it is, and what is free for it. */
static int attempt_plan(struct attempt *t, struct agent_error *err)
{
	struct agent *a = t->a;
	char why[256] = "";
	int res = attempt_take_pending(t, err);

	if (res)
		return res;
	const struct endpoint *old = slots_find(a->slots, t->req.ep.container_id, t->req.ep.ifname);

	/* A runtime that lost its state may ADD again after the container is gone. */
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
	res = endpoint_netns_open(t->req.netns, &t->netns_fd, why, sizeof(why));
	if (res)
		return agent_refuse_errno(err, res, why);
	t->ep = malloc(sizeof(*t->ep));
	if (!t->ep)
		return agent_refuse(err, AGENT_INTERNAL, "out of memory");
	*t->ep = t->req.ep;
	t->req.ep = (struct endpoint){};
	if (slots_choose(a->slots, uv_now(&a->loop), &t->ep->slot))
		return agent_refuse(err, AGENT_EXHAUSTED,
				    "this node has as many endpoints as it may; try again in some "
				    "seconds, or remove one");
	const struct ipam_request wish = {
		.network = t->ep->network,
		.subnets = t->ep->subnets,
		.n_subnets = t->ep->n_subnets,
		.wish4 = t->req.wish4,
		.wish6 = t->req.wish6,
	};
	res = ipam_allocate(a->ipam, &wish, wall_seconds(), &t->ep->addr4, &t->ep->addr6, why,
			    sizeof(why));
	if (res)
		return agent_refuse_errno(err, res, why);
	t->addressed = true;
	if (t->ep->n_subnets)
		uplinks_pools_changed(a->uplinks);
	if (!t->ep->mtu)
		t->ep->mtu = uplinks_mtu(a->uplinks);
	return 0;
}

static int attempt_link(struct attempt *t, struct agent_error *err)
{
	struct agent *a = t->a;
	char why[256] = "";
	int res = endpoint_link_create(t->ep, t->netns_fd, why, sizeof(why));

	if (res)
		return agent_refuse_errno(err, res, why);
	t->linked = true;
	res = datapath_attach_port(a->dp, t->ep->port_ifindex, t->ep->port);
	if (res)
		return agent_refuse(err, AGENT_INTERNAL, "cannot attach the programs to %s: %s",
				    t->ep->port, strerror(-res));
	t->attached = true;
	/* The programs drop whatever comes until the maps know the endpoint. */
	res = endpoint_link_up(t->ep, t->netns_fd, why, sizeof(why));
	return res ? agent_refuse_errno(err, res, why) : 0;
}

static int attempt_commit(struct attempt *t, struct agent_error *err)
{
	struct agent *a = t->a;
	struct endpoint *ep = t->ep;
	struct policy_endpoint policy;
	struct maps_endpoint added = { .slot = ep->slot };
	const struct store_release taken[] = { { .addr = ep->addr4 }, { .addr = ep->addr6 } };
	struct agent_cost cost;

	agent_endpoint_policy(ep, &policy);
	agent_endpoint_value(a, ep, &added.value);
	ep->state = ENDPOINT_READY;
	json_t *record = endpoint_to_json(ep);
	char *json = record ? json_dumps(record, JSON_COMPACT) : NULL;
	json_decref(record);
	if (!json)
		return agent_refuse(err, AGENT_INTERNAL, "out of memory");
	const struct store_endpoint stored = {
		.container_id = ep->container_id,
		.ifname = ep->ifname,
		.json = json,
	};
	const struct agent_change change = {
		.ep_put = &policy,
		.n_ep_put = 1,
		.added = &added,
		.n_added = 1,
		.records = &stored,
		.n_records = 1,
		.releases = taken,
		.n_releases = 2,
	};
	slots_put(a->slots, ep);
	t->filed = true;
	int res = agent_change(a, &change, &cost, err);
	free(json);
	return res;
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
	log_info("endpoint %s/%s (%.12s %s) is on %s, slot %u, made in %.1f ms", t.ep->ns,
		 t.ep->pod, t.ep->container_id, t.ep->ifname, t.ep->port, t.ep->slot,
		 (double)(uv_hrtime() - begin) / 1e6);
	*reply = endpoint_to_json(t.ep);
	return *reply ? 0 : agent_refuse(err, AGENT_INTERNAL, "out of memory");
}

/* ---- DEL ------------------------------------------------------------------------------------ */

static int endpoint_del(struct agent *a, struct endpoint *ep, struct agent_error *err)
{
	const struct store_endpoint gone = { .container_id = ep->container_id,
					     .ifname = ep->ifname };
	const uint64_t now = wall_seconds();
	struct store_release released[2];
	size_t n = 0;
	struct agent_cost cost;
	char why[256] = "";
	/* First the interface: when that fails the endpoint goes on, whole, and DEL is tried
	 * again; after a crash the start finds a record without interface. */
	int res = endpoint_link_delete(ep->port, why, sizeof(why));

	if (res)
		return agent_refuse_errno(err, res, why);
	if (ep->addr4.quad[0] | ep->addr4.quad[1])
		released[n++] = (struct store_release){ .addr = ep->addr4, .time = (int64_t)now };
	if (ep->addr6.quad[0] | ep->addr6.quad[1])
		released[n++] = (struct store_release){ .addr = ep->addr6, .time = (int64_t)now };
	const struct agent_change change = {
		.removed = &ep->slot,
		.n_removed = 1,
		.records = &gone,
		.n_records = 1,
		.releases = released,
		.n_releases = n,
	};
	res = agent_change(a, &change, &cost, err);
	if (res)
		return res;
	res = datapath_detach(a->dp, ep->port_ifindex);
	if (res)
		log_warn("cannot take the programs of %s out: %s", ep->port, strerror(-res));
	ipam_release(a->ipam, &ep->addr4, now);
	ipam_release(a->ipam, &ep->addr6, now);
	if (ep->n_subnets)
		uplinks_pools_changed(a->uplinks);
	log_info("endpoint %s/%s (%.12s %s) is gone", ep->ns, ep->pod, ep->container_id,
		 ep->ifname);
	slots_release(a->slots, ep->slot, uv_now(&a->loop));
	return 0;
}

int agent_endpoint_del(struct agent *a, const char *container_id, const char *ifname,
		       struct agent_error *err)
{
	struct endpoint *ep = slots_find(a->slots, container_id, ifname);

	return ep ? endpoint_del(a, ep, err) : 0;
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
		if (strcmp(ep->network, network) || gc_keeps(keep, ep))
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

static int endpoint_check(struct agent *a, const struct endpoint *ep, struct agent_error *err)
{
	struct tw_endpoint has, should;
	char why[256] = "";
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
	*reply = endpoint_to_json(ep);
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
		if (!endpoint_link_exists(ep) && endpoint_del(a, ep, &err))
			log_warn("cannot drop an endpoint whose interface is gone: %s",
				 err.at.text);
	}
}
