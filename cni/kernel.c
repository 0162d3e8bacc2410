/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the plugin does or looks at itself. It ends after it, so it need not come back. */
#include "cni.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <towpath/runtime.h>
#include <unistd.h>

#include "netlink.h"

/* ---- the container's namespace ------------------------------------------------------------------ */

static bool override(void)
{
	const char *value = getenv("CNI_NETNS_OVERRIDE");

	return value && (!strcmp(value, "1") || !strcasecmp(value, "true"));
}

int netns_open(const struct cni *c, bool missing_ok, int *fd)
{
	char why[256];
	int rc;

	if (missing_ok && (!c->netns || !*c->netns))
		return 0;
	rc = tw_netns_open(c->netns, override(), fd, why, sizeof(why));
	/* One that is gone, or whose path is left without its mount, is none that DEL needs. */
	if (!rc || (missing_ok && rc != -EBUSY))
		return 0;
	return cni_fail(c, CNI_BAD_NETNS, NULL, "CNI_NETNS %s: %s", c->netns, why);
}

/* ---- CHECK ------------------------------------------------------------------------------------------ */

/* An address or CIDR of a result; a missing length is the whole address. */
static int cidr_parse(const char *text, union tw_addr *addr, uint8_t *len)
{
	union tw_addr a = { .word = { [2] = htonl(0xffff) } };
	const char *slash = strchr(text, '/');
	char buf[INET6_ADDRSTRLEN];
	unsigned int bits = 128, base = 0;
	char end;

	snprintf(buf, sizeof(buf), "%.*s", (int)strcspn(text, "/"), text);
	if (inet_pton(AF_INET, buf, &a.word[3]) == 1)
		base = 96;
	else if (inet_pton(AF_INET6, buf, &a) != 1)
		return -EINVAL;
	if (slash && sscanf(slash + 1, "%u%c", &bits, &end) != 1)
		return -EINVAL;
	if (slash)
		bits += base;
	if (bits > 128)
		return -EINVAL;
	*addr = a;
	*len = (uint8_t)bits;
	return 0;
}

struct want {
	union tw_addr addr; /* of an interface, or the destination of a route */
	uint8_t len;
	bool has_gateway;
	union tw_addr gateway;
	uint32_t table; /* 0: any */
	bool found;
};

static int want_addr(void *arg, const struct nl_addr *addr)
{
	struct want *want = arg;

	if (addr->len == want->len && !memcmp(&addr->addr, &want->addr, sizeof(addr->addr)))
		want->found = true;
	return 0;
}

static int want_route(void *arg, const struct nl_route *route)
{
	struct want *want = arg;

	if (route->len != want->len || memcmp(&route->dst, &want->addr, sizeof(route->dst)) != 0 ||
	    (want->table && route->table != want->table))
		return 0;
	if (want->has_gateway && (!route->has_gateway || memcmp(&route->gateway, &want->gateway,
								sizeof(route->gateway)) != 0))
		return 0;
	want->found = true;
	return 0;
}

static const char *text_of(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text ? text : "";
}

/* The container's own interface in the list; json_array_size() when it is not there. */
static size_t interface_find(const struct cni *c, const json_t *interfaces)
{
	const json_t *itf;
	size_t i;

	json_array_foreach(interfaces, i, itf) {
		if (!strcmp(text_of(itf, "name"), c->ifname) && *text_of(itf, "sandbox"))
			return i;
	}
	return json_array_size(interfaces);
}

static int check_link(const struct cni *c, struct nl *nl, const json_t *itf, uint32_t *ifindex)
{
	struct nl_link link;
	char mac[18];

	if (nl_link_get(nl, 0, c->ifname, &link))
		return cni_fail(c, CNI_CHECK_FAILED, NULL, "the container has no interface %s",
				c->ifname);
	if (!(link.flags & IFF_UP))
		return cni_fail(c, CNI_CHECK_FAILED, NULL, "the container's interface %s is down",
				c->ifname);
	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", link.mac[0], link.mac[1],
		 link.mac[2], link.mac[3], link.mac[4], link.mac[5]);
	if (*text_of(itf, "mac") && strcasecmp(text_of(itf, "mac"), mac) != 0)
		return cni_fail(c, CNI_CHECK_FAILED, NULL,
				"the container's interface %s has the MAC address %s and not %s",
				c->ifname, mac, text_of(itf, "mac"));
	*ifindex = link.ifindex;
	return 0;
}

static int check_addrs(const struct cni *c, struct nl *nl, const json_t *ips, size_t interface,
		       uint32_t ifindex)
{
	const json_t *ip;
	size_t i;

	json_array_foreach(ips, i, ip) {
		const json_t *index = json_object_get(ip, "interface");
		const char *text = text_of(ip, "address");
		struct want want = { 0 };
		int rc;

		if (!index || json_integer_value(index) != (json_int_t)interface)
			continue;
		if (cidr_parse(text, &want.addr, &want.len))
			return cni_fail(c, CNI_BAD_CONFIG, NULL,
					"prevResult: \"%s\" is not an address", text);
		rc = nl_addr_each(nl, ifindex, want_addr, &want);
		if (rc || !want.found)
			return cni_fail(c, CNI_CHECK_FAILED, NULL,
					"the container's interface %s has not the address %s",
					c->ifname, text);
	}
	return 0;
}

static int check_routes(const struct cni *c, struct nl *nl, const json_t *routes)
{
	const json_t *route;
	size_t i;

	json_array_foreach(routes, i, route) {
		const char *dst = text_of(route, "dst"), *gw = text_of(route, "gw");
		struct want want = { .has_gateway = *gw };
		uint8_t whole;
		int rc;

		want.table = (uint32_t)json_integer_value(json_object_get(route, "table"));
		if (cidr_parse(dst, &want.addr, &want.len) ||
		    (*gw && cidr_parse(gw, &want.gateway, &whole)))
			return cni_fail(c, CNI_BAD_CONFIG, NULL,
					"prevResult: \"%s\" via \"%s\" is not a route", dst, gw);
		rc = nl_route_each(nl, want_route, &want);
		if (rc || !want.found)
			return cni_fail(c, CNI_CHECK_FAILED, NULL,
					"the container has no route to %s%s%s", dst,
					*gw ? " via " : "", gw);
	}
	return 0;
}

int container_check(const struct cni *c, int netns_fd, const json_t *prev)
{
	const json_t *interfaces = json_object_get(prev, "interfaces");
	size_t interface = interface_find(c, interfaces);
	_cleanup_nl_ struct nl nl = { 0 };
	uint32_t ifindex = 0;
	int rc;

	if (interface == json_array_size(interfaces))
		return cni_fail(c, CNI_BAD_CONFIG, NULL,
				"prevResult has no interface %s with a sandbox", c->ifname);
	if (setns(netns_fd, CLONE_NEWNET) || nl_open(&nl))
		return cni_fail(c, CNI_BAD_NETNS, NULL, "could not enter CNI_NETNS %s: %s",
				c->netns, strerror(errno));
	rc = check_link(c, &nl, json_array_get(interfaces, interface), &ifindex);
	if (!rc)
		rc = check_addrs(c, &nl, json_object_get(prev, "ips"), interface, ifindex);
	return rc ? rc : check_routes(c, &nl, json_object_get(prev, "routes"));
}
