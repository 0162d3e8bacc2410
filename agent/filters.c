/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "filters.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent.h"
#include "log.h"
#include "netlink.h"
#include "uplinks.h"

struct filters {
	struct agent *a;
	struct nl nl;
	uv_poll_t poll;
};

static bool clsact_mode(const struct agent *a)
{
	return !strcmp(datapath_attach_mode(a->dp), "clsact");
}

/* One that could not be opened (opener.c) has no neighbours either. */
static void repair(struct agent *a, const struct endpoint *ep)
{
	const struct endpoint *of = ep, *part = NULL;
	char why[256];

	for (; of; of = part = slots_part(a->slots, ep, part))
		if (endpoint_link_repair(of, why, sizeof(why)))
			log_warn("%s", why);
}

void filters_put_back(struct agent *a, uint32_t ifindex)
{
	const struct endpoint *ep;

	for (uint32_t slot = 1; (ep = slots_next(a->slots, slot)); slot = ep->slot + 1) {
		if (ifindex && ep->port_ifindex != ifindex)
			continue;
		if (ep->closed || datapath_attached(a->dp, ep->port_ifindex) ||
		    !endpoint_link_exists(ep))
			continue;
		int res = datapath_attach_port(a->dp, ep->port_ifindex, ep->port);

		log_warn("somebody has taken the programs off %s; they are %s", ep->port,
			 res ? strerror(-res) : "put back");
		if (!res)
			repair(a, ep);
	}
	uplinks_put_back(a->uplinks);
}

/* ---- queues ----------------------------------------------------------------------------------- */

/* What a scan found, by slot. */
struct scan {
	const struct agent *a;
	uint8_t queues[TW_MAX_ENDPOINTS];
};

static void scan_found(void *arg, uint32_t ifindex, uint32_t queue)
{
	struct scan *scan = arg;
	const struct endpoint *ep;

	for (uint32_t slot = 1; (ep = slots_next(scan->a->slots, slot)); slot = ep->slot + 1) {
		if (ep->port_ifindex == ifindex)
			scan->queues[ep->slot] |= (uint8_t)queue;
	}
}

static int queues_scan(struct agent *a, void (*changed)(struct agent *a, struct endpoint *ep))
{
	struct scan *scan = calloc(1, sizeof(*scan));
	struct endpoint *ep;
	int res = scan ? 0 : -ENOMEM;

	if (!res) {
		scan->a = a;
		res = endpoint_link_queues(scan_found, scan);
	}
	for (uint32_t slot = 1; !res && (ep = slots_next(a->slots, slot)); slot = ep->slot + 1) {
		uint32_t queues = scan->queues[ep->slot];

		/* Attached as filters, our own qdisc is an ingress one. */
		if (clsact_mode(a))
			queues &= ~(uint32_t)TW_EP_QUEUE_FROM;
		if (queues == ep->queues)
			continue;
		ep->queues = queues;
		if (changed)
			changed(a, ep);
	}
	free(scan);
	return res;
}

/* What the container sends to the outside passes the stack under the node's address then. */
static void queues_changed(struct agent *a, struct endpoint *ep)
{
	struct tw_endpoint value;
	int res = ep->part ? 0 : endpoint_link_use_stack(ep, ep->queues & TW_EP_QUEUE_FROM);

	if (res == -EOPNOTSUPP)
		log_warn("port %s has an ingress qdisc: its IPv6 packets to others need "
			 "net.ipv6.conf.all.forwarding = 1 on this kernel",
			 ep->port);
	else if (res && endpoint_link_exists(ep))
		log_warn("cannot have the stack forward for %s: %s", ep->port, strerror(-res));
	agent_endpoint_value(a, ep, &value);
	if (!datapath_endpoint_flags(a->dp, ep->slot, value.flags))
		datapath_epoch_bump(a->dp, ep->slot);
	log_info("port %s: packets to the container %s, packets from it %s", ep->port,
		 ep->queues & TW_EP_QUEUE_TO ? "take its queue" : "go straight",
		 ep->queues & TW_EP_QUEUE_FROM ? "take its ingress qdisc" : "go straight");
}

int filters_read_queues(struct agent *a)
{
	return queues_scan(a, NULL);
}

/* ---- the watch -------------------------------------------------------------------------------- */

/* What happened; messages that were lost may have been anything. */
enum seen { SEEN_DELETED = 1, SEEN_QDISC = 2 };

static unsigned int event_kind(uint16_t type)
{
	switch (type) {
	case RTM_DELTFILTER:
		return SEEN_DELETED;
	case RTM_NEWQDISC:
		return SEEN_QDISC;
	case RTM_DELQDISC:
		return SEEN_DELETED | SEEN_QDISC;
	default:
		return 0;
	}
}

static unsigned int events_read(struct filters *f)
{
	char buf[16384] __attribute__((aligned(8)));
	int fd = mnl_socket_get_fd(f->nl.sock);
	unsigned int seen = 0;
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		const struct nlmsghdr *nlh = (const struct nlmsghdr *)buf;

		for (int left = (int)n; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left))
			seen |= event_kind(nlh->nlmsg_type);
	}
	return n < 0 && errno == ENOBUFS ? SEEN_DELETED | SEEN_QDISC : seen;
}

static void watch_ready(uv_poll_t *poll, int status, int events)
{
	struct filters *f = poll->data;

	unsigned int seen = events_read(f);

	if (seen & SEEN_DELETED && clsact_mode(f->a))
		filters_put_back(f->a, 0);
	int res = seen & SEEN_QDISC ? queues_scan(f->a, queues_changed) : 0;
	if (res)
		log_warn("cannot see which ports have queues: %s", strerror(-res));
}

int filters_new(struct filters **out, struct agent *a)
{
	const int group = RTNLGRP_TC;

	*out = NULL;
	struct filters *f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->a = a;
	int res = nl_open(&f->nl);
	if (!res && mnl_socket_setsockopt(f->nl.sock, NETLINK_ADD_MEMBERSHIP, (void *)&group,
					  sizeof(group)))
		res = -errno;
	if (res) {
		nl_close(&f->nl);
		free(f);
		return res;
	}
	uv_poll_init(&a->loop, &f->poll, mnl_socket_get_fd(f->nl.sock));
	f->poll.data = f;
	uv_poll_start(&f->poll, UV_READABLE, watch_ready);
	/* What happened before the watch began. */
	if (clsact_mode(a))
		filters_put_back(a, 0);
	*out = f;
	return queues_scan(a, queues_changed);
}

static void handle_closed(uv_handle_t *handle)
{
	struct filters *f = handle->data;

	nl_close(&f->nl);
	free(f);
}

void filters_free(struct filters *f)
{
	if (f)
		uv_close((uv_handle_t *)&f->poll, handle_closed);
}
