/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "conntrack.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

struct forget {
	struct mnl_socket *deletes; /* another socket: this one is in the middle of a dump */
	uint16_t first, last;
};

static struct nlmsghdr *request_put(void *buf, uint16_t type, uint16_t flags, uint8_t family)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *nfg;

	nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type);
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	nfg->nfgen_family = family;
	nfg->version = NFNETLINK_V0;
	return nlh;
}

struct find {
	uint16_t type;
	const struct nlattr *found;
};

static int find_attr(const struct nlattr *attr, void *arg)
{
	struct find *find = arg;

	if (mnl_attr_get_type(attr) == find->type)
		find->found = attr;
	return MNL_CB_OK;
}

static const struct nlattr *attr_find(const struct nlattr *nest, uint16_t type)
{
	struct find find = { .type = type };

	mnl_attr_parse_nested(nest, find_attr, &find);
	return find.found;
}

/* Whether the tuple is UDP to one of the ports. */
static bool tuple_matches(const struct forget *f, const struct nlattr *tuple)
{
	const struct nlattr *proto = attr_find(tuple, CTA_TUPLE_PROTO);
	const struct nlattr *number = proto ? attr_find(proto, CTA_PROTO_NUM) : NULL;
	const struct nlattr *dst = proto ? attr_find(proto, CTA_PROTO_DST_PORT) : NULL;
	uint16_t port;

	if (!number || !dst || mnl_attr_get_u8(number) != IPPROTO_UDP)
		return false;
	port = ntohs(mnl_attr_get_u16(dst));
	return port >= f->first && port <= f->last;
}

static int entry_look(const struct nlmsghdr *nlh, void *arg)
{
	const struct forget *f = arg;
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);
	struct find find = { .type = CTA_TUPLE_ORIG };
	const struct nlattr *tuple;
	char buf[1024];
	struct nlmsghdr *del;

	mnl_attr_parse(nlh, sizeof(*nfg), find_attr, &find);
	tuple = find.found;
	if (!tuple || !tuple_matches(f, tuple) || mnl_attr_get_len(tuple) > sizeof(buf) / 2)
		return MNL_CB_OK;
	del = request_put(buf, IPCTNL_MSG_CT_DELETE, 0, nfg->nfgen_family);
	mnl_attr_put(del, CTA_TUPLE_ORIG | NLA_F_NESTED, mnl_attr_get_payload_len(tuple),
		     mnl_attr_get_payload(tuple));
	mnl_socket_sendto(f->deletes, del, del->nlmsg_len);
	return MNL_CB_OK;
}

void conntrack_forget_udp(uint16_t first, uint16_t last)
{
	struct mnl_socket *dump = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	struct forget f = { mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC), first, last };
	char buf[16384];
	struct nlmsghdr *nlh = request_put(buf, IPCTNL_MSG_CT_GET, NLM_F_DUMP, AF_UNSPEC);
	ssize_t n = -1;

	if (dump && f.deletes && !mnl_socket_bind(dump, 0, MNL_SOCKET_AUTOPID) &&
	    !mnl_socket_bind(f.deletes, 0, MNL_SOCKET_AUTOPID))
		n = mnl_socket_sendto(dump, nlh, nlh->nlmsg_len);
	while (n > 0) {
		n = mnl_socket_recvfrom(dump, buf, sizeof(buf));
		if (n > 0 && mnl_cb_run(buf, (size_t)n, 0, mnl_socket_get_portid(dump), entry_look,
					&f) <= MNL_CB_STOP)
			break;
	}
	if (dump)
		mnl_socket_close(dump);
	if (f.deletes)
		mnl_socket_close(f.deletes);
}
