/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "netlink.h"

#include <assert.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define NEIGH_WAIT_S 5 /* then packets that wait are dropped */

/* A dump comes in datagrams of up to 32 KB. */
#define RECV_BYTES 32768u

/* libmnl's own loops do not pass -Wconversion. */
#define attr_each(attr, from, end)                                                                 \
	for ((attr) = (from); mnl_attr_ok((attr), (int)((char *)(end) - (char *)(attr)));          \
	     (attr) = mnl_attr_next(attr))
#define attr_each_msg(attr, nlh, skip)                                                             \
	attr_each(attr, (const struct nlattr *)mnl_nlmsg_get_payload_offset(nlh, skip),            \
		  mnl_nlmsg_get_payload_tail(nlh))

int nl_open(struct nl *nl)
{
	const int on = 1;
	struct mnl_socket *sock = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);

	if (!sock)
		return -errno;
	if (mnl_socket_bind(sock, 0, MNL_SOCKET_AUTOPID)) {
		int rc = -errno;

		mnl_socket_close(sock);
		return rc;
	}
	/* All three are younger than the socket: without them errors only say less. */
	mnl_socket_setsockopt(sock, NETLINK_CAP_ACK, (void *)&on, sizeof(on));
	mnl_socket_setsockopt(sock, NETLINK_EXT_ACK, (void *)&on, sizeof(on));
	mnl_socket_setsockopt(sock, NETLINK_GET_STRICT_CHK, (void *)&on, sizeof(on));
	nl->sock = sock;
	return 0;
}

void nl_close(struct nl *nl)
{
	if (nl->sock)
		mnl_socket_close(nl->sock);
	nl->sock = NULL;
}

/* ---- batches ------------------------------------------------------------------------------ */

void nl_batch_begin(struct nl_batch *b)
{
	b->last = NULL;
	b->n = 0;
}

static size_t batch_len(const struct nl_batch *b)
{
	if (!b->last)
		return 0;
	return (size_t)((char *)b->last - b->buf) + MNL_ALIGN(b->last->nlmsg_len);
}

struct nlmsghdr *nl_batch_put(struct nl_batch *b, uint16_t type, uint16_t flags, const char *what)
{
	size_t at = batch_len(b);

	/* The largest message is below 300 bytes, so 16 of them always fit. */
	assert(b->n < NL_BATCH_MAX && at + 512 <= sizeof(b->buf));
	b->last = mnl_nlmsg_put_header(b->buf + at);
	b->last->nlmsg_type = type;
	b->last->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	b->last->nlmsg_seq = ++b->n; /* counts from 1 in each batch */
	b->what[b->n - 1] = what;
	b->error[b->n - 1] = 0;
	return b->last;
}

/* The kernel's own sentence in an error message, if it has one. */
static const char *ack_text(const struct nlmsghdr *nlh)
{
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *attr;
	size_t skip = sizeof(*e);

	if (!(nlh->nlmsg_flags & NLM_F_ACK_TLVS))
		return NULL;
	if (!(nlh->nlmsg_flags & NLM_F_CAPPED))
		skip += mnl_nlmsg_get_payload_len(&e->msg);
	attr_each_msg(attr, nlh, skip) {
		if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_MSG)
			return mnl_attr_get_str(attr);
	}
	return NULL;
}

static void batch_error(struct nl_batch *b, const struct nlmsghdr *nlh, int *first, char *err,
			size_t err_len)
{
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);
	const char *text;

	if (!e->error)
		return;
	b->error[nlh->nlmsg_seq - 1] = e->error;
	if (*first)
		return;
	*first = e->error;
	if (!err)
		return;
	text = ack_text(nlh);
	snprintf(err, err_len, "could not %s: %s%s%s%s", b->what[nlh->nlmsg_seq - 1],
		 strerror(-e->error), text ? " (" : "", text ? text : "", text ? ")" : "");
}

static int no_answer(int rc, char *err, size_t err_len)
{
	if (err)
		snprintf(err, err_len, "no answer from the kernel on a netlink socket: %s",
			 strerror(-rc));
	return rc;
}

int nl_batch_send(struct nl *nl, struct nl_batch *b, mnl_cb_t cb, void *arg, char *err,
		  size_t err_len)
{
	char buf[RECV_BYTES] __attribute__((aligned(8)));
	int first = 0;

	if (!b->n)
		return 0;
	/* Errors always come; only the last one has to tell that it went well. */
	b->last->nlmsg_flags |= NLM_F_ACK;
	if (mnl_socket_sendto(nl->sock, b->buf, batch_len(b)) < 0)
		return no_answer(-errno, err, err_len);
	for (;;) {
		ssize_t got = mnl_socket_recvfrom(nl->sock, buf, sizeof(buf));
		struct nlmsghdr *nlh = (struct nlmsghdr *)buf;
		int len = (int)got;

		if (got < 0)
			return no_answer(-errno, err, err_len);
		for (; mnl_nlmsg_ok(nlh, len); nlh = mnl_nlmsg_next(nlh, &len)) {
			if (!nlh->nlmsg_seq || nlh->nlmsg_seq > b->n)
				continue;
			if (nlh->nlmsg_type != NLMSG_ERROR) {
				if (cb)
					cb(nlh, arg);
				continue;
			}
			batch_error(b, nlh, &first, err, err_len);
			if (nlh->nlmsg_seq == b->n)
				return first;
		}
	}
}

int nl_dump(struct nl *nl, struct nl_batch *b, mnl_cb_t cb, void *arg)
{
	char buf[RECV_BYTES] __attribute__((aligned(8)));
	int rc;

	if (mnl_socket_sendto(nl->sock, b->buf, batch_len(b)) < 0)
		return -errno;
	do {
		ssize_t got = mnl_socket_recvfrom(nl->sock, buf, sizeof(buf));

		if (got < 0)
			return -errno;
		/* Port 0: whatever the socket's own is. */
		rc = mnl_cb_run(buf, (size_t)got, b->n, 0, cb, arg);
	} while (rc > MNL_CB_STOP);
	return rc < 0 ? -errno : 0;
}

/* ---- addresses on the wire ------------------------------------------------------------------ */

static bool addr_mapped(const union tw_addr *addr)
{
	return !addr->quad[0] && addr->word[2] == htobe32(0xffff);
}

static uint8_t addr_family(const union tw_addr *addr)
{
	return addr_mapped(addr) ? AF_INET : AF_INET6;
}

static void attr_put_addr(struct nlmsghdr *nlh, uint16_t type, const union tw_addr *addr)
{
	if (addr_mapped(addr))
		mnl_attr_put(nlh, type, 4, &addr->word[3]);
	else
		mnl_attr_put(nlh, type, 16, addr);
}

static union tw_addr attr_get_addr(const struct nlattr *attr)
{
	union tw_addr addr = { .word = { [2] = htobe32(0xffff) } };

	if (mnl_attr_get_payload_len(attr) == 4)
		memcpy(&addr.word[3], mnl_attr_get_payload(attr), 4);
	else
		memcpy(&addr, mnl_attr_get_payload(attr), sizeof(addr));
	return addr;
}

static uint8_t prefix_len(uint8_t family, uint8_t len)
{
	return (uint8_t)(family == AF_INET ? 96 + len : len);
}

static uint8_t wire_len(const union tw_addr *addr, uint8_t len)
{
	return (uint8_t)(addr_mapped(addr) ? len - 96 : len);
}

/* ---- messages --------------------------------------------------------------------------------- */

struct nlmsghdr *nl_put_link(struct nl_batch *b, uint16_t type, uint16_t flags, uint32_t ifindex,
			     unsigned int up, unsigned int change, const char *what)
{
	struct nlmsghdr *nlh = nl_batch_put(b, type, flags, what);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));

	ifi->ifi_index = (int)ifindex;
	ifi->ifi_flags = up;
	ifi->ifi_change = change;
	return nlh;
}

void nl_put_addr(struct nl_batch *b, uint32_t ifindex, const union tw_addr *addr, const char *what)
{
	struct nlmsghdr *nlh = nl_batch_put(b, RTM_NEWADDR, NL_NEW, what);
	struct ifaddrmsg *ifa = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifa));

	ifa->ifa_family = addr_family(addr);
	ifa->ifa_prefixlen = wire_len(addr, 128);
	ifa->ifa_scope = RT_SCOPE_UNIVERSE;
	ifa->ifa_flags = addr_mapped(addr) ? 0 : IFA_F_NODAD;
	ifa->ifa_index = ifindex;
	attr_put_addr(nlh, IFA_LOCAL, addr);
	attr_put_addr(nlh, IFA_ADDRESS, addr);
}

void nl_put_neigh_wait(struct nl_batch *b, int family, uint32_t ifindex, const char *what)
{
	struct nlmsghdr *nlh = nl_batch_put(b, RTM_SETNEIGHTBL, 0, what);
	struct ndtmsg *ndt = mnl_nlmsg_put_extra_header(nlh, sizeof(*ndt));
	struct nlattr *parms;

	ndt->ndtm_family = (uint8_t)family;
	mnl_attr_put_strz(nlh, NDTA_NAME, family == AF_INET ? "arp_cache" : "ndisc_cache");
	parms = mnl_attr_nest_start(nlh, NDTA_PARMS);
	mnl_attr_put_u32(nlh, NDTPA_IFINDEX, ifindex);
	/* One a second, told to programs instead of sent. */
	mnl_attr_put_u32(nlh, NDTPA_APP_PROBES, NEIGH_WAIT_S);
	mnl_attr_put_u32(nlh, NDTPA_MCAST_PROBES, 0);
	mnl_attr_nest_end(nlh, parms);
}

void nl_put_neigh(struct nl_batch *b, uint32_t ifindex, const union tw_addr *addr,
		  const uint8_t mac[6], const char *what)
{
	struct nlmsghdr *nlh = nl_batch_put(b, RTM_NEWNEIGH, NL_SET, what);
	struct ndmsg *ndm = mnl_nlmsg_put_extra_header(nlh, sizeof(*ndm));

	ndm->ndm_family = addr_family(addr);
	ndm->ndm_ifindex = (int)ifindex;
	ndm->ndm_state = NUD_PERMANENT;
	attr_put_addr(nlh, NDA_DST, addr);
	mnl_attr_put(nlh, NDA_LLADDR, 6, mac);
}

void nl_put_route(struct nl_batch *b, uint16_t flags, const struct nl_route *route,
		  const char *what)
{
	struct nlmsghdr *nlh = nl_batch_put(b, RTM_NEWROUTE, flags, what);
	struct rtmsg *rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));

	rtm->rtm_family = addr_family(&route->dst);
	rtm->rtm_dst_len = wire_len(&route->dst, route->len);
	rtm->rtm_protocol = RTPROT_STATIC;
	rtm->rtm_scope = route->has_gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
	rtm->rtm_type = RTN_UNICAST;
	rtm->rtm_table = RT_TABLE_UNSPEC;
	if (rtm->rtm_dst_len)
		attr_put_addr(nlh, RTA_DST, &route->dst);
	if (route->has_gateway)
		attr_put_addr(nlh, RTA_GATEWAY, &route->gateway);
	mnl_attr_put_u32(nlh, RTA_OIF, route->oif);
	mnl_attr_put_u32(nlh, RTA_TABLE, route->table ? route->table : RT_TABLE_MAIN);
}

void nl_put_rule(struct nl_batch *b, const union tw_addr *from, uint32_t table, const char *what)
{
	struct nlmsghdr *nlh = nl_batch_put(b, RTM_NEWRULE, NL_NEW, what);
	struct fib_rule_hdr *frh = mnl_nlmsg_put_extra_header(nlh, sizeof(*frh));

	frh->family = addr_family(from);
	frh->src_len = wire_len(from, 128);
	frh->action = FR_ACT_TO_TBL;
	attr_put_addr(nlh, FRA_SRC, from);
	mnl_attr_put_u32(nlh, FRA_TABLE, table);
}

/* ---- answers ------------------------------------------------------------------------------------ */

static void link_info_parse(const struct nlattr *info, struct nl_link *out)
{
	const struct nlattr *attr;

	attr_each(attr, (const struct nlattr *)mnl_attr_get_payload(info),
		  (const char *)info + mnl_attr_get_len(info)) {
		if (mnl_attr_get_type(attr) == IFLA_INFO_KIND)
			snprintf(out->kind, sizeof(out->kind), "%s", mnl_attr_get_str(attr));
	}
}

void nl_link_parse(const struct nlmsghdr *nlh, struct nl_link *out)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);
	struct nl_link link = { .ifindex = (uint32_t)ifi->ifi_index, .flags = ifi->ifi_flags };
	const struct nlattr *attr;

	attr_each_msg(attr, nlh, sizeof(*ifi)) {
		switch (mnl_attr_get_type(attr)) {
		case IFLA_IFNAME:
			snprintf(link.name, sizeof(link.name), "%s", mnl_attr_get_str(attr));
			break;
		case IFLA_IFALIAS:
			snprintf(link.alias, sizeof(link.alias), "%s", mnl_attr_get_str(attr));
			break;
		case IFLA_MTU:
			link.mtu = mnl_attr_get_u32(attr);
			break;
		case IFLA_LINK:
			link.peer = mnl_attr_get_u32(attr);
			break;
		case IFLA_ADDRESS:
			if (mnl_attr_get_payload_len(attr) == sizeof(link.mac))
				memcpy(link.mac, mnl_attr_get_payload(attr), sizeof(link.mac));
			break;
		case IFLA_LINKINFO:
			link_info_parse(attr, &link);
			break;
		default:
			break;
		}
	}
	*out = link;
}

static int link_cb(const struct nlmsghdr *nlh, void *arg)
{
	if (nlh->nlmsg_type == RTM_NEWLINK)
		nl_link_parse(nlh, arg);
	return MNL_CB_OK;
}

int nl_link_get(struct nl *nl, uint32_t ifindex, const char *name, struct nl_link *out)
{
	struct nl_batch b;
	struct nl_link link = { 0 };
	struct nlmsghdr *nlh;
	int rc;

	nl_batch_begin(&b);
	nlh = nl_put_link(&b, RTM_GETLINK, 0, ifindex, 0, 0, "find the interface");
	if (!ifindex)
		mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	rc = nl_batch_send(nl, &b, link_cb, &link, NULL, 0);
	if (rc)
		return rc;
	if (!link.ifindex)
		return -ENODEV;
	*out = link;
	return 0;
}

int nl_link_delete(struct nl *nl, uint32_t ifindex, const char *name)
{
	struct nl_batch b;
	struct nlmsghdr *nlh;

	nl_batch_begin(&b);
	nlh = nl_put_link(&b, RTM_DELLINK, 0, ifindex, 0, 0, "delete the interface");
	if (!ifindex)
		mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	return nl_batch_send(nl, &b, NULL, NULL, NULL, 0);
}

struct each {
	uint32_t ifindex;
	int (*link)(void *arg, const struct nl_link *link);
	int (*addr)(void *arg, const struct nl_addr *addr);
	int (*route)(void *arg, const struct nl_route *route);
	void *arg;
	int rc;
};

static int link_each_cb(const struct nlmsghdr *nlh, void *arg)
{
	struct each *each = arg;
	struct nl_link link;

	if (nlh->nlmsg_type == RTM_NEWLINK && !each->rc) {
		nl_link_parse(nlh, &link);
		each->rc = each->link(each->arg, &link);
	}
	return MNL_CB_OK; /* to the end, or the rest would meet the next request */
}

int nl_link_each(struct nl *nl, int (*fn)(void *arg, const struct nl_link *link), void *arg)
{
	struct each each = { .link = fn, .arg = arg };
	struct nl_batch b;
	int rc;

	nl_batch_begin(&b);
	nl_put_link(&b, RTM_GETLINK, NLM_F_DUMP, 0, 0, 0, "list the interfaces");
	rc = nl_dump(nl, &b, link_each_cb, &each);
	return rc ? rc : each.rc;
}

int nl_addr_parse(const struct nlmsghdr *nlh, struct nl_addr *out)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(nlh);
	struct nl_addr addr = {
		.ifindex = ifa->ifa_index,
		.len = prefix_len(ifa->ifa_family, ifa->ifa_prefixlen),
		.scope = ifa->ifa_scope,
		.flags = ifa->ifa_flags,
	};
	bool local = false, found = false;
	const struct nlattr *attr;

	attr_each_msg(attr, nlh, sizeof(*ifa)) {
		uint16_t type = mnl_attr_get_type(attr);

		if (type == IFA_FLAGS)
			addr.flags = mnl_attr_get_u32(attr);
		/* On a point-to-point link ADDRESS is the other end and LOCAL is this one. */
		if (type == IFA_LOCAL || (type == IFA_ADDRESS && !local)) {
			addr.addr = attr_get_addr(attr);
			local = type == IFA_LOCAL;
			found = true;
		}
	}
	if (!found)
		return -EBADMSG;
	*out = addr;
	return 0;
}

static int addr_cb(const struct nlmsghdr *nlh, void *arg)
{
	struct each *each = arg;
	struct nl_addr addr;

	if (nlh->nlmsg_type != RTM_NEWADDR || nl_addr_parse(nlh, &addr))
		return MNL_CB_OK;
	if (!each->rc && (!each->ifindex || each->ifindex == addr.ifindex))
		each->rc = each->addr(each->arg, &addr);
	return MNL_CB_OK;
}

int nl_addr_each(struct nl *nl, uint32_t ifindex, int (*fn)(void *arg, const struct nl_addr *addr),
		 void *arg)
{
	struct each each = { .ifindex = ifindex, .addr = fn, .arg = arg };
	struct nl_batch b;
	struct nlmsghdr *nlh;
	struct ifaddrmsg *ifa;
	int rc;

	nl_batch_begin(&b);
	nlh = nl_batch_put(&b, RTM_GETADDR, NLM_F_DUMP, "list the addresses");
	ifa = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifa));
	ifa->ifa_index = ifindex;
	rc = nl_dump(nl, &b, addr_cb, &each);
	return rc ? rc : each.rc;
}

int nl_route_parse(const struct nlmsghdr *nlh, struct nl_route *out)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
	struct nl_route route = {
		.len = prefix_len(rtm->rtm_family, rtm->rtm_dst_len),
		.table = rtm->rtm_table,
		.type = rtm->rtm_type,
	};
	const struct nlattr *attr;

	if (rtm->rtm_family != AF_INET && rtm->rtm_family != AF_INET6)
		return -EBADMSG;
	if (rtm->rtm_family == AF_INET)
		route.dst.word[2] = htobe32(0xffff);
	attr_each_msg(attr, nlh, sizeof(*rtm)) {
		switch (mnl_attr_get_type(attr)) {
		case RTA_DST:
			route.dst = attr_get_addr(attr);
			break;
		case RTA_GATEWAY:
			route.has_gateway = true;
			route.gateway = attr_get_addr(attr);
			break;
		case RTA_PREFSRC:
			route.has_source = true;
			route.source = attr_get_addr(attr);
			break;
		case RTA_OIF:
			route.oif = mnl_attr_get_u32(attr);
			break;
		case RTA_TABLE:
			route.table = mnl_attr_get_u32(attr);
			break;
		default:
			break;
		}
	}
	*out = route;
	return 0;
}

/* The list of next hops in a RTM_NEWROUTE, or NULL. */
static const struct nlattr *route_multipath(const struct nlmsghdr *nlh)
{
	const struct nlattr *attr;

	attr_each_msg(attr, nlh, sizeof(struct rtmsg)) {
		if (mnl_attr_get_type(attr) == RTA_MULTIPATH)
			return attr;
	}
	return NULL;
}

static void route_each_hop(struct each *each, struct nl_route *route, const struct nlattr *hops)
{
	const char *at = mnl_attr_get_payload(hops);
	const char *end = (const char *)hops + mnl_attr_get_len(hops);

	while (!each->rc && end - at >= (ptrdiff_t)sizeof(struct rtnexthop)) {
		const struct rtnexthop *hop = (const struct rtnexthop *)at;
		const struct nlattr *attr;

		if (hop->rtnh_len < sizeof(*hop) || hop->rtnh_len > end - at)
			return;
		route->oif = (uint32_t)hop->rtnh_ifindex;
		route->has_gateway = false;
		attr_each(attr, (const struct nlattr *)(hop + 1), at + hop->rtnh_len) {
			if (mnl_attr_get_type(attr) != RTA_GATEWAY)
				continue;
			route->has_gateway = true;
			route->gateway = attr_get_addr(attr);
		}
		each->rc = each->route(each->arg, route);
		at += MNL_ALIGN(hop->rtnh_len);
	}
}

static int route_cb(const struct nlmsghdr *nlh, void *arg)
{
	const struct nlattr *hops;
	struct each *each = arg;
	struct nl_route route;

	if (nlh->nlmsg_type != RTM_NEWROUTE || nl_route_parse(nlh, &route) ||
	    route.type != RTN_UNICAST || each->rc)
		return MNL_CB_OK;
	hops = route_multipath(nlh);
	if (hops)
		route_each_hop(each, &route, hops);
	else
		each->rc = each->route(each->arg, &route);
	return MNL_CB_OK;
}

int nl_route_each(struct nl *nl, int (*fn)(void *arg, const struct nl_route *route), void *arg)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	struct each each = { .route = fn, .arg = arg };

	for (size_t i = 0; i < 2 && !each.rc; i++) {
		struct nl_batch b;
		struct nlmsghdr *nlh;
		struct rtmsg *rtm;
		int rc;

		nl_batch_begin(&b);
		nlh = nl_batch_put(&b, RTM_GETROUTE, NLM_F_DUMP, "list the routes");
		rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));
		rtm->rtm_family = families[i];
		rc = nl_dump(nl, &b, route_cb, &each);
		/* A kernel without IPv6 has no routes of it. */
		if (rc && !(families[i] == AF_INET6 && (rc == -EOPNOTSUPP || rc == -EAFNOSUPPORT)))
			return rc;
	}
	return each.rc;
}

static int route_to_cb(const struct nlmsghdr *nlh, void *arg)
{
	if (nlh->nlmsg_type == RTM_NEWROUTE)
		nl_route_parse(nlh, arg);
	return MNL_CB_OK;
}

int nl_route_to(struct nl *nl, const union tw_addr *addr, struct nl_route *out)
{
	struct nl_route route = { 0 };
	struct nl_batch b;
	struct nlmsghdr *nlh;
	struct rtmsg *rtm;
	int rc;

	nl_batch_begin(&b);
	nlh = nl_batch_put(&b, RTM_GETROUTE, 0, "look up the route");
	rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));
	rtm->rtm_family = addr_family(addr);
	rtm->rtm_dst_len = wire_len(addr, 128);
	attr_put_addr(nlh, RTA_DST, addr);
	rc = nl_batch_send(nl, &b, route_to_cb, &route, NULL, 0);
	if (rc)
		return rc;
	if (!route.oif)
		return -ENETUNREACH;
	*out = route;
	return 0;
}

struct neigh {
	uint16_t state; /* NUD_*; 0: no answer */
	bool has_mac;
	uint8_t mac[6];
};

static int neigh_cb(const struct nlmsghdr *nlh, void *arg)
{
	const struct ndmsg *ndm = mnl_nlmsg_get_payload(nlh);
	struct neigh *neigh = arg;
	const struct nlattr *attr;

	if (nlh->nlmsg_type != RTM_NEWNEIGH)
		return MNL_CB_OK;
	neigh->state = ndm->ndm_state;
	attr_each_msg(attr, nlh, sizeof(*ndm)) {
		if (mnl_attr_get_type(attr) != NDA_LLADDR || mnl_attr_get_payload_len(attr) != 6)
			continue;
		memcpy(neigh->mac, mnl_attr_get_payload(attr), 6);
		neigh->has_mac = true;
	}
	return MNL_CB_OK;
}

static struct nlmsghdr *neigh_put(struct nl_batch *b, uint16_t type, uint16_t flags,
				  uint32_t ifindex, const union tw_addr *addr, const char *what)
{
	struct nlmsghdr *nlh;
	struct ndmsg *ndm;

	nl_batch_begin(b);
	nlh = nl_batch_put(b, type, flags, what);
	ndm = mnl_nlmsg_put_extra_header(nlh, sizeof(*ndm));
	ndm->ndm_family = addr_family(addr);
	ndm->ndm_ifindex = (int)ifindex;
	attr_put_addr(nlh, NDA_DST, addr);
	return nlh;
}

static int neigh_find(struct nl *nl, uint32_t ifindex, const union tw_addr *addr, struct neigh *out)
{
	struct nl_batch b;

	neigh_put(&b, RTM_GETNEIGH, 0, ifindex, addr, "look up the neighbour");
	return nl_batch_send(nl, &b, neigh_cb, out, NULL, 0);
}

int nl_neigh_check(struct nl *nl, uint32_t ifindex, const union tw_addr *addr, const uint8_t mac[6])
{
	struct neigh neigh = {};
	int rc = neigh_find(nl, ifindex, addr, &neigh);

	if (rc)
		return rc;
	return neigh.state & NUD_PERMANENT && neigh.has_mac && !memcmp(neigh.mac, mac, 6) ? 0
											  : -ENOENT;
}

int nl_neigh_get(struct nl *nl, uint32_t ifindex, const union tw_addr *addr, uint8_t mac[6])
{
	struct neigh neigh = {};
	int rc = neigh_find(nl, ifindex, addr, &neigh);

	if (rc)
		return rc;
	if (neigh.state & (NUD_FAILED | NUD_INCOMPLETE) || !neigh.has_mac)
		return -ENOENT;
	memcpy(mac, neigh.mac, 6);
	return 0;
}

int nl_neigh_ask(struct nl *nl, uint32_t ifindex, const union tw_addr *addr)
{
	struct nl_batch b;
	struct nlmsghdr *nlh =
		neigh_put(&b, RTM_NEWNEIGH, NLM_F_CREATE, ifindex, addr, "resolve the neighbour");
	struct ndmsg *ndm = mnl_nlmsg_get_payload(nlh);

	ndm->ndm_flags = NTF_USE;
	return nl_batch_send(nl, &b, NULL, NULL, NULL, 0);
}
