/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The node's interfaces and addresses: what they are, and when they change. */
#include <errno.h>
#include <linux/if_addr.h>
#include <stdio.h>
#include <stdlib.h>
#include <towpath/attachment.h>

#include "endpoint/endpoint.h"
#include "endpoint/internal.h"
#include "endpoint/node.h"
#include "netlink.h"

#define MTU_DEFAULT 1500u /* of a node without uplinks */

/* ---- uplinks ---------------------------------------------------------------------------------- */

struct finder {
	struct uplink *v;
	size_t n, cap;
};

static struct uplink *finder_get(struct finder *f, uint32_t ifindex)
{
	for (size_t i = 0; i < f->n; i++) {
		if (f->v[i].ifindex == ifindex)
			return &f->v[i];
	}
	return NULL;
}

static int finder_add(struct finder *f, uint32_t ifindex)
{
	if (finder_get(f, ifindex))
		return 0;
	if (f->n == f->cap) {
		size_t cap = f->cap ? 2 * f->cap : 4;
		void *v = realloc(f->v, cap * sizeof(*f->v));

		if (!v)
			return -ENOMEM;
		f->v = v;
		f->cap = cap;
	}
	f->v[f->n++] = (struct uplink){ .ifindex = ifindex };
	return 0;
}

static int finder_route(void *arg, const struct nl_route *route)
{
	bool is_default = route->len == (addr_is4(&route->dst) ? 96 : 0);

	if (!is_default || route->table != RT_TABLE_MAIN || !route->oif)
		return 0;
	return finder_add(arg, route->oif);
}

static int finder_addr(void *arg, const struct nl_addr *addr)
{
	struct uplink *uplink = finder_get(arg, addr->ifindex);
	union tw_addr *to;

	if (!uplink || addr->scope != RT_SCOPE_UNIVERSE)
		return 0;
	/*
	 * No address to leave with: those that the kernel itself would not choose as a source,
	 * and temporary ones (RFC 8981), whose connections would end with them.
	 */
	if (addr->flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_DEPRECATED) ||
	    (!addr_is4(&addr->addr) && addr->flags & IFA_F_TEMPORARY))
		return 0;
	to = addr_is4(&addr->addr) ? &uplink->addr4 : &uplink->addr6;
	if (addr_is_zero(to))
		*to = addr->addr;
	return 0;
}

static int finder_names(struct finder *f, struct nl *nl, const char *const *names, size_t n,
			bool all, char *err, size_t err_len)
{
	for (size_t i = 0; i < n; i++) {
		struct nl_link link;
		int rc = nl_link_get(nl, 0, names[i], &link);

		if (rc == -ENODEV && !all)
			continue;
		if (rc)
			return endpoint_fail(rc, err, err_len,
					     "there is no interface %s (--uplink)", names[i]);
		rc = finder_add(f, link.ifindex);
		if (rc)
			return rc;
	}
	return 0;
}

static int finder_fill(struct finder *f, struct nl *nl)
{
	for (size_t i = 0; i < f->n;) {
		struct uplink *uplink = &f->v[i];
		struct nl_link link;

		if (nl_link_get(nl, uplink->ifindex, NULL, &link)) {
			*uplink = f->v[--f->n]; /* gone since its route was listed */
			continue;
		}
		memcpy(uplink->name, link.name, sizeof(uplink->name));
		uplink->mtu = link.mtu;
		uplink->up = link.flags & IFF_UP;
		i++;
	}
	return nl_addr_each(nl, 0, finder_addr, f);
}

int uplink_find(const char *const *names, size_t n_names, bool all, struct uplink **out, size_t *n,
		char *err, size_t err_len)
{
	_cleanup_nl_ struct nl nl = { 0 };
	struct finder f = { 0 };
	int rc = nl_open(&nl);

	if (!rc)
		rc = n_names ? finder_names(&f, &nl, names, n_names, all, err, err_len)
			     : nl_route_each(&nl, finder_route, &f);
	if (!rc)
		rc = finder_fill(&f, &nl);
	if (rc) {
		free(f.v);
		return rc;
	}
	*out = f.v;
	*n = f.n;
	return 0;
}

uint32_t uplink_mtu(const struct uplink *uplinks, size_t n)
{
	uint32_t mtu = n ? UINT32_MAX : MTU_DEFAULT;

	for (size_t i = 0; i < n; i++) {
		if (uplinks[i].mtu < mtu)
			mtu = uplinks[i].mtu;
	}
	return mtu < ENDPOINT_MTU_MIN ? ENDPOINT_MTU_MIN : mtu;
}

/* ---- local addresses ------------------------------------------------------------------------------ */

struct addr_list {
	struct node_addr *v;
	size_t n, cap;
};

static int addr_list_add(void *arg, const struct nl_addr *addr)
{
	struct addr_list *list = arg;

	if (list->n == list->cap) {
		size_t cap = list->cap ? 2 * list->cap : 16;
		void *v = realloc(list->v, cap * sizeof(*list->v));

		if (!v)
			return -ENOMEM;
		list->v = v;
		list->cap = cap;
	}
	list->v[list->n++] = (struct node_addr){ .addr = addr->addr,
						 .len = addr->len,
						 .ifindex = addr->ifindex };
	return 0;
}

int node_addrs(struct node_addr **out, size_t *n)
{
	struct addr_list list = { 0 };
	_cleanup_nl_ struct nl nl = { 0 };
	int rc = nl_open(&nl);

	if (!rc)
		rc = nl_addr_each(&nl, 0, addr_list_add, &list);
	if (rc) {
		free(list.v);
		return rc;
	}
	*out = list.v;
	*n = list.n;
	return 0;
}

/* ---- changes ---------------------------------------------------------------------------------------- */

/*
 * Ports are known by index, because address and route messages carry no name: a port's RTM_NEWLINK
 * always comes before anything else about it.
 */
struct node_watch {
	struct nl nl;
	uint64_t *ports; /* bitmap by ifindex */
	size_t words;
};

static int watch_port(struct node_watch *w, uint32_t ifindex, bool is_port)
{
	size_t word = ifindex / 64;

	if (word >= w->words) {
		size_t words = word + 16;
		uint64_t *ports;

		if (!is_port)
			return 0;
		ports = realloc(w->ports, words * sizeof(*ports));
		if (!ports)
			return -ENOMEM;
		memset(ports + w->words, 0, (words - w->words) * sizeof(*ports));
		w->ports = ports;
		w->words = words;
	}
	if (is_port)
		w->ports[word] |= 1ull << ifindex % 64;
	else
		w->ports[word] &= ~(1ull << ifindex % 64);
	return 0;
}

static bool watch_is_port(const struct node_watch *w, uint32_t ifindex)
{
	return ifindex / 64 < w->words && w->ports[ifindex / 64] >> ifindex % 64 & 1;
}

static bool link_is_port(const struct nl_link *link)
{
	return !strcmp(link->kind, "veth") && tw_port_name_valid(link->name);
}

static int watch_link(void *arg, const struct nl_link *link)
{
	return watch_port(arg, link->ifindex, link_is_port(link));
}

struct watch_read {
	struct node_watch *w;
	unsigned int changes;
};

static int watch_cb(const struct nlmsghdr *nlh, void *arg)
{
	struct watch_read *read = arg;
	struct node_watch *w = read->w;
	struct nl_link link;
	struct nl_addr addr;
	struct nl_route route;
	bool is_port;

	switch (nlh->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		nl_link_parse(nlh, &link);
		is_port = link_is_port(&link);
		if (!is_port)
			read->changes |= NODE_LINK;
		/* The number may come again for another interface. */
		watch_port(w, link.ifindex, is_port && nlh->nlmsg_type == RTM_NEWLINK);
		break;
	case RTM_NEWADDR:
	case RTM_DELADDR:
		if (!nl_addr_parse(nlh, &addr) && !watch_is_port(w, addr.ifindex))
			read->changes |= NODE_ADDR;
		break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		if (!nl_route_parse(nlh, &route) && !watch_is_port(w, route.oif))
			read->changes |= NODE_ROUTE;
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

int node_watch_open(struct node_watch **out)
{
	static const int groups[] = { RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR,
				      RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE };
	struct node_watch *w = calloc(1, sizeof(*w));
	_cleanup_nl_ struct nl list = { 0 };
	int rc;

	if (!w)
		return -ENOMEM;
	rc = nl_open(&w->nl);
	for (size_t i = 0; !rc && i < sizeof(groups) / sizeof(*groups); i++) {
		if (mnl_socket_setsockopt(w->nl.sock, NETLINK_ADD_MEMBERSHIP, (void *)&groups[i],
					  sizeof(groups[i])))
			rc = -errno;
	}
	/* After joining, so that no port falls between. On a socket of its own: the first one
	 * may have messages already. */
	if (!rc)
		rc = nl_open(&list);
	if (!rc)
		rc = nl_link_each(&list, watch_link, w);
	if (rc) {
		node_watch_close(w);
		return rc;
	}
	*out = w;
	return 0;
}

int node_watch_fd(const struct node_watch *w)
{
	return mnl_socket_get_fd(w->nl.sock);
}

int node_watch_read(struct node_watch *w, unsigned int *changes)
{
	char buf[32768] __attribute__((aligned(8)));
	struct watch_read read = { .w = w };

	for (;;) {
		ssize_t got = recv(node_watch_fd(w), buf, sizeof(buf), MSG_DONTWAIT);

		if (got < 0 && errno == ENOBUFS) {
			read.changes = NODE_LINK | NODE_ADDR | NODE_ROUTE;
			continue;
		}
		if (got < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (got <= 0)
			break;
		mnl_cb_run(buf, (size_t)got, 0, 0, watch_cb, &read);
	}
	*changes = read.changes;
	return 0;
}

void node_watch_close(struct node_watch *w)
{
	if (!w)
		return;
	nl_close(&w->nl);
	free(w->ports);
	free(w);
}
