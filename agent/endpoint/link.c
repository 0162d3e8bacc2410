/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The veth pair of an endpoint and its container end. The node's end is in port.c. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/nsfs.h>
#include <linux/veth.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "endpoint/endpoint.h"
#include "endpoint/internal.h"
#include "endpoint/port.h"
#include "netlink.h"

#define LOOPBACK_IFINDEX 1u /* in every network namespace */

/* A second interface's routes live in a table of its own: this and its ifindex. */
#define TABLE_FIRST 1000u

/* How often and how long: mostly once, at worst 100 ms. */
#define LOCAL_TRIES 500
#define LOCAL_PAUSE_NS 200000

const uint8_t endpoint_gateway_mac[6] = { 0x02, 0x54, 0x57, 0x00, 0x00, 0x01 };

static const union tw_addr gateway4 = { .byte = { [10] = 0xff, 0xff, 169, 254, 1, 1 } };
static const union tw_addr gateway6 = { .byte = { 0xfe, 0x80, [15] = 1 } };
static const union tw_addr any4 = { .byte = { [10] = 0xff, 0xff } };
static const union tw_addr any6;

/* ---- network namespaces ------------------------------------------------------------------- */

int endpoint_netns_open(const char *path, int *fd, char *err, size_t err_len)
{
	_cleanup_fd_ int ns = open(path, O_RDONLY | O_CLOEXEC);
	struct stat theirs, ours;

	if (ns < 0)
		return endpoint_fail(-errno, err, err_len,
				     "could not open the network namespace %s: %s", path,
				     strerror(errno));
	if (ioctl(ns, NS_GET_NSTYPE) != CLONE_NEWNET)
		return endpoint_fail(-EINVAL, err, err_len, "%s is not a network namespace", path);
	if (fstat(ns, &theirs) || stat("/proc/thread-self/ns/net", &ours))
		return endpoint_fail(-errno, err, err_len, "could not look at %s: %s", path,
				     strerror(errno));
	if (theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino)
		return endpoint_fail(-EINVAL, err, err_len,
				     "%s is the node's own network namespace, not a container's",
				     path);
	*fd = endpoint_take_fd(&ns);
	return 0;
}

int endpoint_netns_run(int netns_fd, int (*fn)(void *arg), void *arg, char *err, size_t err_len)
{
	_cleanup_fd_ int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int rc;

	if (home < 0 || setns(netns_fd, CLONE_NEWNET))
		return endpoint_fail(-errno, err, err_len,
				     "could not enter the container's network namespace: %s",
				     strerror(errno));
	rc = fn(arg);
	/* An agent that went on in a container's namespace would serve the wrong node. */
	if (setns(home, CLONE_NEWNET))
		abort();
	return rc;
}

/* ---- the pair ------------------------------------------------------------------------------- */

static int mac_random(uint8_t mac[6])
{
	if (getrandom(mac, 6, 0) != 6)
		return -EIO;
	mac[0] = (uint8_t)((mac[0] & 0xfc) | 0x02); /* local, unicast (IEEE 802 8.2) */
	return 0;
}

static void pair_put(struct nl_batch *b, const struct endpoint *ep, const uint8_t mac[6],
		     int netns_fd)
{
	struct nlmsghdr *nlh =
		nl_put_link(b, RTM_NEWLINK, NL_NEW, 0, 0, 0, "make the pair of interfaces");
	struct nlattr *info, *data, *peer;

	mnl_attr_put_strz(nlh, IFLA_IFNAME, ep->port);
	mnl_attr_put(nlh, IFLA_ADDRESS, sizeof(endpoint_gateway_mac), endpoint_gateway_mac);
	mnl_attr_put_u32(nlh, IFLA_MTU, ep->mtu);
	/* By default a veth has a queue for each CPU, and uses one. */
	mnl_attr_put_u32(nlh, IFLA_NUM_TX_QUEUES, 1);
	mnl_attr_put_u32(nlh, IFLA_NUM_RX_QUEUES, 1);
	info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
	mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(nlh, IFLA_INFO_DATA);
	peer = mnl_attr_nest_start(nlh, VETH_INFO_PEER);
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(nlh, IFLA_IFNAME, ep->ifname);
	mnl_attr_put(nlh, IFLA_ADDRESS, 6, mac);
	mnl_attr_put_u32(nlh, IFLA_MTU, ep->mtu);
	mnl_attr_put_u32(nlh, IFLA_NUM_TX_QUEUES, 1);
	mnl_attr_put_u32(nlh, IFLA_NUM_RX_QUEUES, 1);
	mnl_attr_put_u32(nlh, IFLA_NET_NS_FD, (uint32_t)netns_fd);
	mnl_attr_nest_end(nlh, peer);
	mnl_attr_nest_end(nlh, data);
	mnl_attr_nest_end(nlh, info);
}

static int pair_make(struct nl *nl, const struct endpoint *ep, const uint8_t mac[6], int netns_fd,
		     char *err, size_t err_len)
{
	struct nl_batch b;

	nl_batch_begin(&b);
	pair_put(&b, ep, mac, netns_fd);
	return nl_batch_send(nl, &b, NULL, NULL, err, err_len);
}

int endpoint_link_create(struct endpoint *ep, int netns_fd, char *err, size_t err_len)
{
	_cleanup_nl_ struct nl nl = { 0 };
	struct nl_link port;
	uint8_t mac[6];
	int rc;

	if (!addr_is_zero(&ep->addr6) && !ipv6_available())
		return endpoint_fail(-EAFNOSUPPORT, err, err_len,
				     "this kernel has no IPv6; give the agent IPv4 pools only "
				     "(--pod-cidr)");
	memcpy(mac, ep->mac, sizeof(mac));
	if (!memcmp(mac, (uint8_t[6]){ 0 }, sizeof(mac)) && mac_random(mac))
		return endpoint_fail(-EIO, err, err_len, "could not make a random MAC address");
	rc = nl_open(&nl);
	if (rc)
		return endpoint_fail(rc, err, err_len, "could not open a netlink socket: %s",
				     strerror(-rc));
	rc = pair_make(&nl, ep, mac, netns_fd, err, err_len);
	if (rc == -EEXIST && !nl_link_delete(&nl, 0, ep->port))
		rc = pair_make(&nl, ep, mac, netns_fd, err, err_len);
	if (rc == -EEXIST)
		return endpoint_fail(rc, err, err_len, "the container already has an interface %s",
				     ep->ifname);
	if (rc)
		return rc;
	rc = nl_link_get(&nl, 0, ep->port, &port);
	if (rc)
		endpoint_fail(rc, err, err_len, "the new port %s is gone again", ep->port);
	else
		rc = port_prepare(&nl, ep->port, port.ifindex, err, err_len);
	if (rc) {
		nl_link_delete(&nl, 0, ep->port);
		return rc;
	}
	ep->port_ifindex = port.ifindex;
	memcpy(ep->mac, mac, sizeof(mac));
	return 0;
}

/* ---- the container's end ----------------------------------------------------------------------- */

struct container {
	struct endpoint *ep;
	char *err;
	size_t err_len;
};

static void container_put_addrs(struct nl_batch *b, const struct endpoint *ep, uint32_t ifindex)
{
	if (!addr_is_zero(&ep->addr4))
		nl_put_addr(b, ifindex, &ep->addr4, "add the container's IPv4 address");
	if (!addr_is_zero(&ep->addr6))
		nl_put_addr(b, ifindex, &ep->addr6, "add the container's IPv6 address");
}

static void container_put_link(struct nl_batch *b, const struct endpoint *ep, uint32_t ifindex)
{
	struct nlmsghdr *nlh;

	nl_put_link(b, RTM_NEWLINK, 0, LOOPBACK_IFINDEX, IFF_UP, IFF_UP,
		    "set the container's loopback up");
	nlh = nl_put_link(b, RTM_NEWLINK, 0, ifindex, 0, 0, "set up the container's interface");
	/* Says whose it is, to a CNI DEL without an agent and to people. */
	mnl_attr_put_strz(nlh, IFLA_IFALIAS, ep->port);
	if (ipv6_available())
		nl_put_no_ipv6_address(nlh);
	nl_put_link(b, RTM_NEWLINK, 0, ifindex, IFF_UP, IFF_UP, "set the container's interface up");
	container_put_addrs(b, ep, ifindex);
	if (!addr_is_zero(&ep->addr4))
		nl_put_neigh(b, ifindex, &gateway4, endpoint_gateway_mac,
			     "add the container's IPv4 gateway");
	if (!addr_is_zero(&ep->addr6))
		nl_put_neigh(b, ifindex, &gateway6, endpoint_gateway_mac,
			     "add the container's IPv6 gateway");
}

static void container_put_route(struct nl_batch *b, const struct endpoint *ep, uint32_t ifindex,
				uint32_t table, const struct prefix *dst)
{
	bool is4 = dst->len >= 96 && addr_is4(&dst->addr);
	struct nl_route route = { .dst = dst->addr,
				  .len = dst->len,
				  .has_gateway = true,
				  .gateway = is4 ? gateway4 : gateway6,
				  .oif = ifindex,
				  .table = table };

	if (!addr_is_zero(is4 ? &ep->addr4 : &ep->addr6))
		nl_put_route(b, NL_NEW, &route,
			     is4 ? "add the container's IPv4 route"
				 : "add the container's IPv6 route");
}

static void container_put_routes(struct nl_batch *b, const struct endpoint *ep, uint32_t ifindex,
				 uint32_t table)
{
	struct nl_route to_gateway = {
		.dst = gateway4, .len = 128, .oif = ifindex, .table = table
	};

	if (!addr_is_zero(&ep->addr4))
		nl_put_route(b, NL_NEW, &to_gateway, "add the container's route to its gateway");
	for (size_t i = 0; i < ep->n_routes; i++)
		container_put_route(b, ep, ifindex, table, &ep->routes[i]);
}

/* Nothing said about routes: everything goes by the gateway. */
static int container_default_routes(struct endpoint *ep)
{
	if (ep->n_routes)
		return 0;
	free(ep->routes);
	ep->routes = calloc(2, sizeof(*ep->routes));
	if (!ep->routes)
		return -ENOMEM;
	if (!addr_is_zero(&ep->addr4))
		ep->routes[ep->n_routes++] = (struct prefix){ .addr = any4, .len = 96 };
	if (!addr_is_zero(&ep->addr6))
		ep->routes[ep->n_routes++] = (struct prefix){ .addr = any6, .len = 0 };
	return 0;
}

/* Packets from the endpoint's addresses ask its own table. */
static int container_put_rules(struct nl *nl, const struct container *c)
{
	const union tw_addr *const addrs[] = { &c->ep->addr4, &c->ep->addr6 };
	struct nl_batch b;

	for (size_t i = 0; i < 2; i++) {
		int rc;

		if (addr_is_zero(addrs[i]))
			continue;
		nl_batch_begin(&b);
		nl_put_rule(&b, addrs[i], c->ep->table, "add the container's routing rule");
		rc = nl_batch_send(nl, &b, NULL, NULL, c->err, c->err_len);
		if (rc && rc != -EEXIST) /* of an interface with this address that went away */
			return rc;
	}
	return 0;
}

/*
 * The first interface with a default route keeps it. Another one gets a table of its own that
 * is asked for packets from its address, so that connections to that address are answered
 * through the interface that they came in by.
 */
static int container_own_table(struct nl *nl, const struct container *c, uint32_t ifindex)
{
	struct nl_batch b;
	int rc;

	c->ep->table = TABLE_FIRST + ifindex;
	nl_batch_begin(&b);
	container_put_routes(&b, c->ep, ifindex, c->ep->table);
	rc = nl_batch_send(nl, &b, NULL, NULL, c->err, c->err_len);
	return rc ? rc : container_put_rules(nl, c);
}

/*
 * Even without duplicate address detection the kernel makes an IPv6 address local in a work
 * item of its own. Till then packets to it would be forwarded, which means dropped.
 */
static void container_wait_local(struct nl *nl, const union tw_addr *addr)
{
	const struct timespec pause = { .tv_nsec = LOCAL_PAUSE_NS };
	struct nl_route route;

	if (addr_is_zero(addr))
		return;
	for (int i = 0; i < LOCAL_TRIES; i++) {
		if (!nl_route_to(nl, addr, &route) && route.type == RTN_LOCAL)
			return;
		nanosleep(&pause, NULL);
	}
}

static int container_configure(void *arg)
{
	const struct container *c = arg;
	_cleanup_nl_ struct nl nl = { 0 };
	struct nl_link link;
	struct nl_batch b;
	int rc;

	rc = nl_open(&nl);
	if (!rc)
		rc = nl_link_get(&nl, 0, c->ep->ifname, &link);
	if (rc)
		return endpoint_fail(rc, c->err, c->err_len,
				     "could not find %s in the container: %s", c->ep->ifname,
				     strerror(-rc));
	rc = ipv6_prepare(c->ep->ifname, c->err, c->err_len);
	if (!rc)
		rc = container_default_routes(c->ep);
	if (rc)
		return rc;
	nl_batch_begin(&b);
	container_put_link(&b, c->ep, link.ifindex);
	rc = nl_batch_send(&nl, &b, NULL, NULL, c->err, c->err_len);
	if (rc)
		return rc;
	nl_batch_begin(&b);
	container_put_routes(&b, c->ep, link.ifindex, 0);
	c->ep->table = 0;
	rc = nl_batch_send(&nl, &b, NULL, NULL, c->err, c->err_len);
	if (rc == -EEXIST)
		rc = container_own_table(&nl, c, link.ifindex);
	if (!rc)
		container_wait_local(&nl, &c->ep->addr6);
	return rc;
}

int endpoint_link_up(struct endpoint *ep, int netns_fd, char *err, size_t err_len)
{
	struct container c = { ep, err, err_len };
	_cleanup_nl_ struct nl nl = { 0 };
	struct nl_link port;
	int rc;

	rc = nl_open(&nl);
	if (rc)
		return endpoint_fail(rc, err, err_len, "could not open a netlink socket: %s",
				     strerror(-rc));
	rc = port_up(&nl, ep, err, err_len);
	if (rc)
		return rc;
	rc = endpoint_netns_run(netns_fd, container_configure, &c, err, err_len);
	if (rc)
		return rc;
	/*
	 * The end that was up first can send only after the kernel's link watch has run; asking
	 * for the link makes it run now (Linux 6.8; before, it follows within milliseconds).
	 */
	nl_link_get(&nl, ep->port_ifindex, NULL, &port);
	return 0;
}

/* ---- further addresses ------------------------------------------------------------------------- */

static int container_configure_part(void *arg)
{
	const struct container *c = arg;
	_cleanup_nl_ struct nl nl = { 0 };
	struct nl_link link;
	struct nl_batch b;
	int rc = nl_open(&nl);

	if (!rc)
		rc = nl_link_get(&nl, 0, c->ep->ifname, &link);
	if (rc)
		return endpoint_fail(rc, c->err, c->err_len,
				     "could not find %s in the container: %s", c->ep->ifname,
				     strerror(-rc));
	nl_batch_begin(&b);
	container_put_addrs(&b, c->ep, link.ifindex);
	rc = nl_batch_send(&nl, &b, NULL, NULL, c->err, c->err_len);
	if (!rc && c->ep->table)
		rc = container_put_rules(&nl, c);
	if (!rc)
		container_wait_local(&nl, &c->ep->addr6);
	return rc;
}

int endpoint_link_up_part(const struct endpoint *part, int netns_fd, char *err, size_t err_len)
{
	struct endpoint copy = *part; /* a view: nothing of it is changed or freed */
	struct container c = { &copy, err, err_len };
	_cleanup_nl_ struct nl nl = { 0 };
	int rc = nl_open(&nl);

	if (rc)
		return endpoint_fail(rc, err, err_len, "could not open a netlink socket: %s",
				     strerror(-rc));
	rc = port_up(&nl, part, err, err_len);
	return rc ? rc : endpoint_netns_run(netns_fd, container_configure_part, &c, err, err_len);
}
