/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Endpoints after a restart: records whose interface is there go on, the others end. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <net/if.h>
#include <string.h>
#include <towpath/attachment.h>

#include "agent.h"
#include "log.h"
#include "uplinks.h"

/* Records to be dropped, and what the reader of records reports. */
struct restore {
	struct agent *a;
	struct store_endpoint *gone; /* strings owned */
	struct store_release *releases;
	size_t n_gone, n_releases;
	char *err;
	size_t err_len;
};

static void restore_clear(struct restore *r)
{
	for (size_t i = 0; i < r->n_gone; i++) {
		free((char *)r->gone[i].container_id);
		free((char *)r->gone[i].ifname);
	}
	free(r->gone);
	free(r->releases);
}

static bool addr_is_none(const union tw_addr *addr)
{
	return !(addr->quad[0] | addr->quad[1]);
}

static int record_drop(struct restore *r, const struct endpoint *ep)
{
	char key[ENDPOINT_KEY_LEN];

	struct store_endpoint *gone = reallocarray(r->gone, r->n_gone + 1, sizeof(*gone));
	if (!gone)
		return -ENOMEM;
	r->gone = gone;
	struct store_release *releases =
		reallocarray(r->releases, r->n_releases + 2, sizeof(*releases));
	if (!releases)
		return -ENOMEM;
	r->releases = releases;
	gone[r->n_gone++] = (struct store_endpoint){ .container_id = strdup(ep->container_id),
						     .ifname = strdup(endpoint_key(ep, key)) };
	const union tw_addr *const addrs[] = { &ep->addr4, &ep->addr6 };
	for (int i = 0; i < 2; i++)
		if (!addr_is_none(addrs[i]))
			releases[r->n_releases++] = (struct store_release){
				.addr = *addrs[i],
				.time = (int64_t)agent_wall_seconds(r->a),
			};
	log_info("endpoint %s/%s (%.12s %s): its interface is gone, so it is dropped", ep->ns,
		 ep->pod, ep->container_id, ep->ifname);
	return 0;
}

static int record_keep(struct restore *r, struct endpoint *ep)
{
	struct agent *a = r->a;
	const union tw_addr *const addrs[] = { &ep->addr4, &ep->addr6 };
	struct endpoint *kept = malloc(sizeof(*kept));

	if (!kept)
		return -ENOMEM;
	for (int i = 0; i < 2; i++) {
		if (addr_is_none(addrs[i]))
			continue;
		int res = ipam_restore(a->ipam, ep->network, ep->subnets, ep->n_subnets, addrs[i]);

		if (res) {
			free(kept);
			return res;
		}
	}
	*kept = *ep;
	*ep = (struct endpoint){};
	slots_put(a->slots, kept);
	return 0;
}

static int record_read(void *arg, const struct store_endpoint *row)
{
	struct restore *r = arg;
	struct endpoint ep = {};
	char why[256] = "";
	json_t *json = json_loads(row->json, 0, NULL);
	int res = endpoint_from_json(json, &ep, why, sizeof(why));

	json_decref(json);
	if (!res && (!ep.slot || ep.slot >= TW_MAX_ENDPOINTS || slots_get(r->a->slots, ep.slot))) {
		res = -EINVAL;
		snprintf(why, sizeof(why), "slot %u is not possible or taken", ep.slot);
	}
	if (!res)
		res = endpoint_link_exists(&ep) ? record_keep(r, &ep) : record_drop(r, &ep);
	if (res)
		snprintf(r->err, r->err_len,
			 "the record of endpoint %.64s %.16s cannot be used: %s", row->container_id,
			 row->ifname, *why ? why : strerror(-res));
	endpoint_clear(&ep);
	return res;
}

static int release_read(void *arg, const struct store_release *rel)
{
	const struct agent *a = arg;
	uint64_t now = agent_wall_seconds(a), time = (uint64_t)rel->time;

	/* One in the future is of a clock that was set back since; it rests from now on. */
	return ipam_restore_release(a->ipam, &rel->addr, time < now ? time : now);
}

int agent_restore_records(struct agent *a, char *err, size_t err_len)
{
	__attribute__((cleanup(restore_clear))) struct restore r = { .a = a,
								     .err = err,
								     .err_len = err_len };
	int res = store_endpoint_each(a->store, record_read, &r);

	if (res) {
		if (!*err)
			snprintf(err, err_len, "%s", store_error(a->store));
		return res;
	}
	const struct store_change change = {
		.endpoints = r.gone,
		.n_endpoints = r.n_gone,
		.releases = r.releases,
		.n_releases = r.n_releases,
	};
	res = r.n_gone ? store_write(a->store, &change) : 0;
	if (!res)
		res = store_release_each(a->store, release_read, a);
	if (res)
		snprintf(err, err_len, "%s", store_error(a->store));
	return res;
}

static int port_running(void *arg, uint32_t slot, const struct tw_endpoint *ep)
{
	char name[IF_NAMESIZE];

	*(uint32_t *)arg += if_indextoname(ep->ifindex, name) && tw_port_name_valid(name);
	return 0;
}

/*
 * An endpoint is recorded before the kernel knows it. If some run and none is recorded, then the
 * database was lost, and starting without it would take the network from all of them and the
 * policies from the node.
 */
int agent_restore_check(struct agent *a, char *err, size_t err_len)
{
	uint32_t running = 0;
	int res = slots_count(a->slots) ? 0 : datapath_endpoint_each(a->dp, port_running, &running);

	if (!res && running) {
		snprintf(err, err_len,
			 "the database in %s knows nothing of the %u endpoints that run on this "
			 "node: put a backup in its place, or run 'towpath uninstall' to begin "
			 "anew without them",
			 a->opts->state_dir, running);
		return -ENODATA;
	}
	return res;
}

/* ---- ports ----------------------------------------------------------------------------------- */

static bool port_owned(void *arg, const char *port)
{
	const struct agent *a = arg;
	const struct endpoint *ep;

	for (uint32_t slot = 1; (ep = slots_next(a->slots, slot)); slot = ep->slot + 1)
		if (!strcmp(ep->port, port))
			return true;
	return false;
}

static int detach_unknown(void *arg, uint32_t ifindex)
{
	const struct agent *a = arg;
	const struct endpoint *ep;

	if (uplinks_has(a->uplinks, ifindex))
		return 0;
	for (uint32_t slot = 1; (ep = slots_next(a->slots, slot)); slot = ep->slot + 1)
		if (ep->port_ifindex == ifindex)
			return 0;
	return datapath_detach(a->dp, ifindex);
}

static int port_restore(struct agent *a, const struct endpoint *ep, char *err, size_t err_len)
{
	/* Further parts share the port of the first. */
	int res = ep->part ? 0 : datapath_attach_port(a->dp, ep->port_ifindex, ep->port);

	if (!res)
		return endpoint_link_repair(ep, err, err_len);
	snprintf(err, err_len, "cannot attach the programs to %s: %s", ep->port, strerror(-res));
	return res;
}

int agent_restore_ports(struct agent *a, char *err, size_t err_len)
{
	char(*leaks)[IFNAMSIZ] = NULL;
	size_t n_leaks = 0;
	const struct endpoint *ep;

	for (uint32_t slot = 1; (ep = slots_next(a->slots, slot)); slot = ep->slot + 1) {
		int res = port_restore(a, ep, err, err_len);

		/* A container may end at any moment; its endpoint is swept. */
		if (res && endpoint_link_exists(ep))
			return res;
	}
	if (!endpoint_link_leaks(port_owned, a, &leaks, &n_leaks)) {
		for (size_t i = 0; i < n_leaks; i++) {
			if (endpoint_link_delete(leaks[i], err, err_len))
				log_warn("%s", err);
			else
				log_info("port %s belongs to no endpoint: removed", leaks[i]);
		}
		free(leaks);
	}
	int res = datapath_attached_each(a->dp, detach_unknown, a);
	if (res)
		snprintf(err, err_len, "cannot take programs off interfaces that are not ours: %s",
			 strerror(-res));
	return res;
}
