/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "endpoint/port.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <towpath/attachment.h>

#include "endpoint/internal.h"
#include "endpoint/node.h"

void nl_put_no_ipv6_address(struct nlmsghdr *nlh)
{
	struct nlattr *spec = mnl_attr_nest_start(nlh, IFLA_AF_SPEC);
	struct nlattr *inet6 = mnl_attr_nest_start(nlh, AF_INET6);

	mnl_attr_put_u8(nlh, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	mnl_attr_nest_end(nlh, inet6);
	mnl_attr_nest_end(nlh, spec);
}

/* The IPv4 settings as attributes, which spares two files in /proc. */
static void port_put_inet(struct nlmsghdr *nlh)
{
	struct nlattr *spec = mnl_attr_nest_start(nlh, IFLA_AF_SPEC);
	struct nlattr *inet = mnl_attr_nest_start(nlh, AF_INET);
	struct nlattr *conf = mnl_attr_nest_start(nlh, IFLA_INET_CONF);

	mnl_attr_put_u32(nlh, IPV4_DEVCONF_FORWARDING, 1);
	mnl_attr_put_u32(nlh, IPV4_DEVCONF_RP_FILTER, 0);
	mnl_attr_nest_end(nlh, conf);
	mnl_attr_nest_end(nlh, inet);
	mnl_attr_nest_end(nlh, spec);
}

static void port_forwarding_path(const char *family, const char *port, char *buf, size_t len)
{
	snprintf(buf, len, "net/%s/conf/%s/forwarding", family, port);
}

int port_prepare(struct nl *nl, const char *port, uint32_t ifindex, char *err, size_t err_len)
{
	struct nlmsghdr *nlh;
	struct nl_batch b;
	char path[100];
	int rc;

	nl_batch_begin(&b);
	nlh = nl_put_link(&b, RTM_NEWLINK, 0, ifindex, 0, 0, "set the port's IPv4 settings");
	port_put_inet(nlh);
	if (ipv6_available()) {
		nlh = nl_put_link(&b, RTM_NEWLINK, 0, ifindex, 0, 0,
				  "set the port's IPv6 settings");
		nl_put_no_ipv6_address(nlh);
	}
	rc = nl_batch_send(nl, &b, NULL, NULL, err, err_len);
	if (rc || !ipv6_available())
		return rc;
	rc = ipv6_prepare(port, err, err_len);
	if (rc)
		return rc;
	/* The data path's route look-up wants it (BPF_FIB_LKUP_RET_FWD_DISABLED). */
	port_forwarding_path("ipv6", port, path, sizeof(path));
	rc = sysctl_write(path, "1");
	if (!rc) {
		/* Answers to what came through the stack: see uplink_prepare(). */
		snprintf(path, sizeof(path), IPV6_FORCE_FORWARDING, port);
		rc = sysctl_write(path, "1");
		rc = rc == -ENOENT ? 0 : rc;
	}
	if (rc)
		return endpoint_fail(rc, err, err_len, "could not set /proc/sys/%s: %s", path,
				     strerror(-rc));
	return 0;
}

static void port_put_neigh(struct nl_batch *b, uint32_t ifindex, const union tw_addr *addr,
			   const uint8_t mac[6])
{
	if (!addr_is_zero(addr))
		nl_put_neigh(b, ifindex, addr, mac, "add the container as a neighbour");
}

/* A route or neighbour that a crash left behind for this address is replaced. */
static void port_put_addr(struct nl_batch *b, const struct endpoint *ep, const union tw_addr *addr)
{
	struct nl_route route = { .dst = *addr, .len = 128, .oif = ep->port_ifindex };

	if (addr_is_zero(addr))
		return;
	if (ep->closed)
		nl_put_neigh_wait(b, addr_is4(addr) ? AF_INET : AF_INET6, ep->port_ifindex,
				  "have packets to the container wait");
	nl_put_route(b, NL_SET, &route, "add the route to the container");
	if (!ep->closed)
		port_put_neigh(b, ep->port_ifindex, addr, ep->mac);
}

int port_up(struct nl *nl, const struct endpoint *ep, char *err, size_t err_len)
{
	struct nl_batch b;

	nl_batch_begin(&b);
	nl_put_link(&b, RTM_NEWLINK, 0, ep->port_ifindex, IFF_UP, IFF_UP, "set the port up");
	port_put_addr(&b, ep, &ep->addr4);
	port_put_addr(&b, ep, &ep->addr6);
	return nl_batch_send(nl, &b, NULL, NULL, err, err_len);
}

int endpoint_link_open(const struct endpoint_address *v, size_t n, char *err, size_t err_len)
{
	_cleanup_nl_ struct nl nl = { 0 };
	int rc = nl_open(&nl);

	for (size_t i = 0; i < n && !rc; i++) {
		struct nl_batch b;

		nl_batch_begin(&b);
		port_put_neigh(&b, v[i].port_ifindex, &v[i].addr4, v[i].mac);
		port_put_neigh(&b, v[i].port_ifindex, &v[i].addr6, v[i].mac);
		rc = nl_batch_send(&nl, &b, NULL, NULL, err, err_len);
	}
	return rc;
}

int endpoint_link_repair(const struct endpoint *ep, char *err, size_t err_len)
{
	_cleanup_nl_ struct nl nl = { 0 };
	int rc = nl_open(&nl);

	if (rc)
		return endpoint_fail(rc, err, err_len, "could not open a netlink socket: %s",
				     strerror(-rc));
	rc = port_prepare(&nl, ep->port, ep->port_ifindex, err, err_len);
	return rc ? rc : port_up(&nl, ep, err, err_len);
}

int endpoint_link_delete(const char *port, char *err, size_t err_len)
{
	_cleanup_nl_ struct nl nl = { 0 };
	int rc = nl_open(&nl);

	if (!rc)
		rc = nl_link_delete(&nl, 0, port);
	if (!rc || rc == -ENODEV)
		return 0;
	return endpoint_fail(rc, err, err_len, "could not delete the port %s: %s", port,
			     strerror(-rc));
}

/* A group that nothing else is in; by chance, as nobody hands out such numbers. */
static int group_random(uint32_t *group)
{
	do {
		if (getrandom(group, sizeof(*group), 0) != sizeof(*group))
			return -EIO;
	} while (!*group); /* the group that everything is in */
	return 0;
}

/* A port that is gone already is no error here; what is left over, the caller finds. */
static int links_group(struct nl *nl, char (*ports)[IFNAMSIZ], size_t n, uint32_t group)
{
	for (size_t i = 0; i < n;) {
		struct nl_batch b;

		nl_batch_begin(&b);
		for (size_t in_batch = 0; i < n && in_batch < NL_BATCH_MAX; i++, in_batch++) {
			struct nlmsghdr *nlh = nl_put_link(&b, RTM_NEWLINK, 0, 0, 0, 0,
							   "put the port into a group");

			mnl_attr_put_strz(nlh, IFLA_IFNAME, ports[i]);
			mnl_attr_put_u32(nlh, IFLA_GROUP, group);
		}
		int rc = nl_batch_send(nl, &b, NULL, NULL, NULL, 0);

		if (rc && rc != -ENODEV)
			return rc;
	}
	return 0;
}

static int group_delete(struct nl *nl, uint32_t group)
{
	struct nlmsghdr *nlh;
	struct nl_batch b;

	nl_batch_begin(&b);
	nlh = nl_put_link(&b, RTM_DELLINK, 0, 0, 0, 0, "delete the ports");
	mnl_attr_put_u32(nlh, IFLA_GROUP, group);
	return nl_batch_send(nl, &b, NULL, NULL, NULL, 0);
}

int endpoint_links_delete(char (*ports)[IFNAMSIZ], size_t n, char *err, size_t err_len)
{
	_cleanup_nl_ struct nl nl = { 0 };
	uint32_t group;
	int rc;

	if (n == 1)
		return endpoint_link_delete(ports[0], err, err_len);
	rc = nl_open(&nl);
	if (!rc)
		rc = group_random(&group);
	if (!rc)
		rc = links_group(&nl, ports, n, group);
	if (!rc)
		rc = group_delete(&nl, group);
	if (!rc || rc == -ENODEV)
		return 0;
	return endpoint_fail(rc, err, err_len, "could not delete %zu ports: %s", n, strerror(-rc));
}

bool endpoint_link_listed(const char *port, uint32_t ifindex)
{
	char name[IFNAMSIZ];

	return if_indextoname(ifindex, name) && !strcmp(name, port);
}

bool endpoint_link_exists(const struct endpoint *ep)
{
	_cleanup_nl_ struct nl nl = { 0 };
	struct nl_link link;

	if (!ep->port_ifindex || nl_open(&nl) || nl_link_get(&nl, ep->port_ifindex, NULL, &link))
		return false;
	return !strcmp(link.name, ep->port);
}

/* ---- queues --------------------------------------------------------------------------------- */

struct queues {
	void (*fn)(void *arg, uint32_t ifindex, uint32_t queue);
	void *arg;
};

static int queue_cb(const struct nlmsghdr *nlh, void *arg)
{
	const struct tcmsg *tcm = mnl_nlmsg_get_payload(nlh);
	const struct queues *q = arg;

	/* The kernel's own qdiscs, like the noqueue of a veth, have no handle. */
	if (nlh->nlmsg_type != RTM_NEWQDISC || !tcm->tcm_handle)
		return MNL_CB_OK;
	if (tcm->tcm_parent == TC_H_ROOT)
		q->fn(q->arg, (uint32_t)tcm->tcm_ifindex, TW_EP_QUEUE_TO);
	if (tcm->tcm_parent == TC_H_INGRESS)
		q->fn(q->arg, (uint32_t)tcm->tcm_ifindex, TW_EP_QUEUE_FROM);
	return MNL_CB_OK;
}

int endpoint_link_queues(void (*fn)(void *arg, uint32_t ifindex, uint32_t queue), void *arg)
{
	struct queues q = { fn, arg };
	_cleanup_nl_ struct nl nl = { 0 };
	struct nl_batch b;
	int rc = nl_open(&nl);

	if (rc)
		return rc;
	nl_batch_begin(&b);
	mnl_nlmsg_put_extra_header(nl_batch_put(&b, RTM_GETQDISC, NLM_F_DUMP, "list the qdiscs"),
				   sizeof(struct tcmsg));
	return nl_dump(&nl, &b, queue_cb, &q);
}

int endpoint_link_use_stack(const struct endpoint *ep, bool on)
{
	const char *value = on ? "1" : "0";
	char path[100], all[16];
	int rc;

	snprintf(path, sizeof(path), "net/ipv4/conf/%s/accept_local", ep->port);
	rc = sysctl_write(path, value);
	if (rc || !ipv6_available())
		return rc;
	/* `forwarding` of an interface says that it is a router's; what is forwarded, `all` does. */
	snprintf(path, sizeof(path), "net/ipv6/conf/%s/force_forwarding", ep->port);
	rc = sysctl_write(path, value);
	if (rc != -ENOENT || !on)
		return rc == -ENOENT ? 0 : rc;
	if (!sysctl_read("net/ipv6/conf/all/forwarding", all, sizeof(all)) && !strcmp(all, "1"))
		return 0;
	return -EOPNOTSUPP;
}

/* ---- leaks ---------------------------------------------------------------------------------- */

struct leaks {
	bool (*owned)(void *arg, const char *port);
	void *arg;
	char (*names)[IFNAMSIZ];
	size_t n, cap;
};

static int leak_add(void *arg, const struct nl_link *link)
{
	struct leaks *leaks = arg;

	if (strcmp(link->kind, "veth") != 0 || !tw_port_name_valid(link->name) ||
	    leaks->owned(leaks->arg, link->name))
		return 0;
	if (leaks->n == leaks->cap) {
		size_t cap = leaks->cap ? 2 * leaks->cap : 16;
		void *names = realloc(leaks->names, cap * sizeof(*leaks->names));

		if (!names)
			return -ENOMEM;
		leaks->names = names;
		leaks->cap = cap;
	}
	memcpy(leaks->names[leaks->n++], link->name, sizeof(link->name));
	return 0;
}

int endpoint_link_leaks(bool (*owned)(void *arg, const char *port), void *arg,
			char (**out)[IFNAMSIZ], size_t *n)
{
	struct leaks leaks = { .owned = owned, .arg = arg };
	_cleanup_nl_ struct nl nl = { 0 };
	int rc = nl_open(&nl);

	if (!rc)
		rc = nl_link_each(&nl, leak_add, &leaks);
	if (rc) {
		free(leaks.names);
		return rc;
	}
	*out = leaks.names;
	*n = leaks.n;
	return 0;
}

/* ---- CHECK ------------------------------------------------------------------------------------ */

static int check_addr(struct nl *nl, const struct endpoint *ep, const union tw_addr *addr,
		      char *err, size_t err_len)
{
	char text[ADDR_TEXT_LEN];
	struct nl_route route;
	int rc;

	if (addr_is_zero(addr))
		return 0;
	addr_format(addr, text, sizeof(text));
	rc = nl_route_to(nl, addr, &route);
	if (rc || route.oif != ep->port_ifindex)
		return endpoint_fail(-ENOENT, err, err_len,
				     "the node's route to %s does not leave through %s", text,
				     ep->port);
	rc = nl_neigh_check(nl, ep->port_ifindex, addr, ep->mac);
	if (rc)
		return endpoint_fail(-ENOENT, err, err_len,
				     "the node's neighbour entry of %s on %s is gone or changed",
				     text, ep->port);
	return 0;
}

static int check_forwarding(const struct endpoint *ep, const char *family, char *err,
			    size_t err_len)
{
	char path[100], value[16];

	port_forwarding_path(family, ep->port, path, sizeof(path));
	if (sysctl_read(path, value, sizeof(value)) || strcmp(value, "1") != 0)
		return endpoint_fail(-ENOENT, err, err_len, "/proc/sys/%s is not 1", path);
	return 0;
}

int endpoint_link_check(const struct endpoint *ep, char *err, size_t err_len)
{
	_cleanup_nl_ struct nl nl = { 0 };
	struct nl_link link;
	int rc;

	rc = nl_open(&nl);
	if (!rc)
		rc = nl_link_get(&nl, ep->port_ifindex, NULL, &link);
	if (rc || strcmp(link.name, ep->port) != 0)
		return endpoint_fail(-ENODEV, err, err_len, "the port %s is gone", ep->port);
	if (!(link.flags & IFF_UP))
		return endpoint_fail(-ENETDOWN, err, err_len, "the port %s is down", ep->port);
	if (memcmp(link.mac, endpoint_gateway_mac, sizeof(link.mac)) != 0)
		return endpoint_fail(-ENOENT, err, err_len, "the MAC address of %s was changed",
				     ep->port);
	rc = check_forwarding(ep, "ipv4", err, err_len);
	if (!rc && ipv6_available())
		rc = check_forwarding(ep, "ipv6", err, err_len);
	if (!rc)
		rc = check_addr(&nl, ep, &ep->addr4, err, err_len);
	if (!rc)
		rc = check_addr(&nl, ep, &ep->addr6, err, err_len);
	return rc;
}
