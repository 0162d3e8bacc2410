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

static void put_back(struct agent *a)
{
	const struct endpoint *ep;

	for (uint32_t slot = 1; (ep = slots_next(a->slots, slot)); slot = ep->slot + 1) {
		if (datapath_attached(a->dp, ep->port_ifindex) || !endpoint_link_exists(ep))
			continue;
		int res = datapath_attach_port(a->dp, ep->port_ifindex, ep->port);

		log_warn("somebody has deleted the filters of %s; they are %s", ep->port,
			 res ? strerror(-res) : "put back");
	}
	uplinks_put_back(a->uplinks);
}

/* 1: a filter or a qdisc was deleted, or messages were lost; 0: nothing of the kind. */
static int deletion_seen(struct filters *f)
{
	char buf[16384] __attribute__((aligned(8)));
	int fd = mnl_socket_get_fd(f->nl.sock), seen = 0;
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		const struct nlmsghdr *nlh = (const struct nlmsghdr *)buf;

		for (int left = (int)n; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left))
			seen |= nlh->nlmsg_type == RTM_DELTFILTER ||
				nlh->nlmsg_type == RTM_DELQDISC;
	}
	return seen || (n < 0 && errno == ENOBUFS);
}

static void watch_ready(uv_poll_t *poll, int status, int events)
{
	struct filters *f = poll->data;

	if (deletion_seen(f))
		put_back(f->a);
}

int filters_new(struct filters **out, struct agent *a)
{
	const int group = RTNLGRP_TC;

	*out = NULL;
	if (strcmp(datapath_attach_mode(a->dp), "clsact"))
		return 0;
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
	/* What was deleted before the watch began. */
	put_back(a);
	*out = f;
	return 0;
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
