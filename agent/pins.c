/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "pins.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "filters.h"
#include "log.h"
#include "programs.h"
#include "uplinks.h"

/* Ports looked at each second; a link that was detached by force leaves its pin behind. */
#define LOOK_AT 32

struct pins {
	struct agent *a;
	uv_poll_t poll;
	uint32_t slot; /* the next to be looked at */
	bool failed;   /* and that was said */
};

static void link_gone(void *arg, uint32_t ifindex)
{
	filters_put_back(arg, ifindex);
}

static void watch_ready(uv_poll_t *poll, int status, int events)
{
	struct pins *p = poll->data;
	int res = datapath_pins_read(p->a->dp, link_gone, p->a);

	if (res)
		log_error("pins that were deleted cannot be made anew: %s", strerror(-res));
}

int pins_new(struct pins **out, struct agent *a)
{
	struct pins *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	int fd = datapath_pins_hold(a->dp);
	if (fd < 0) {
		free(p);
		return fd;
	}
	p->a = a;
	uv_poll_init(&a->loop, &p->poll, fd);
	p->poll.data = p;
	uv_poll_start(&p->poll, UV_READABLE, watch_ready);
	*out = p;
	return 0;
}

/* Somebody unmounted the bpffs lazily, or mounted something over it. */
static void bring_back(struct pins *p)
{
	char why[512];
	int res = guard_bpffs(p->a->opts, why, sizeof(why));

	if (!res) {
		res = datapath_pins_bring(p->a->dp);
		programs_pins_bring(p->a->programs);
		snprintf(why, sizeof(why), "%s", strerror(-res));
	}
	if (!res)
		log_warn("the bpffs of the pins was taken away; they are pinned anew");
	else if (!p->failed)
		log_error("the bpffs of the pins was taken away: %s; the next start of towpathd "
			  "will not find what runs",
			  why);
	p->failed = res != 0;
}

static void look(struct pins *p)
{
	const struct endpoint *ep;

	for (int i = 0; i < LOOK_AT; i++) {
		ep = slots_next(p->a->slots, p->slot + 1);
		p->slot = ep ? ep->slot : 0;
		if (!ep)
			break;
		if (!ep->closed && !datapath_attached(p->a->dp, ep->port_ifindex))
			filters_put_back(p->a, ep->port_ifindex);
	}
	/* The uplinks are few. */
	if (!p->slot)
		uplinks_put_back(p->a->uplinks);
}

void pins_tick(struct pins *p)
{
	if (datapath_pins_hidden(p->a->dp))
		bring_back(p);
	look(p);
}

static void handle_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void pins_free(struct pins *p)
{
	if (p)
		uv_close((uv_handle_t *)&p->poll, handle_closed);
}
