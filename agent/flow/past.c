/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The log's flows as questions: what was asked of policies, each once. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "flow/history.h"
#include "flow/record.h"

#define COMPACT 32768u /* of a history, most questions are asked again and again */

static int past_order(const void *a, const void *b)
{
	const struct flow_past *x = a, *y = b;
	int order = memcmp(x->addr, y->addr, sizeof(x->addr));

	if (!order)
		order = (int)x->proto - (int)y->proto;
	return order ? order : (int)x->port - (int)y->port;
}

/* Whether a policy had a say in it: flows that were opened, and what a policy refused. */
static bool record_asks(const struct flow_record *r)
{
	bool decided = r->type != TW_EVENT_DROP || r->reason == TW_REASON_POLICY_EGRESS ||
		       r->reason == TW_REASON_POLICY_INGRESS || r->reason == TW_REASON_REVOKED;

	return r->family && decided && r->hook < TW_HOOK_COUNT && r->what[0] != FLOW_WHAT_HOST &&
	       r->what[1] != FLOW_WHAT_HOST;
}

static struct flow_past past_of(const struct flow_record *r)
{
	bool ports = r->proto == IPPROTO_TCP || r->proto == IPPROTO_UDP || r->proto == IPPROTO_SCTP;

	return (struct flow_past){
		.addr = { r->addr[0], r->addr[1] },
		.time = r->time,
		/* A flow that ends was counted when it was opened, unless that is forgotten. */
		.count = r->type == TW_EVENT_DROP ? r->packets[0] : r->type == TW_EVENT_NEW,
		.port = ports ? r->port[1] : 0,
		.proto = r->proto,
	};
}

struct collect {
	struct flow_past *v;
	size_t n, room;
	size_t compact; /* so many are sorted and made fewer */
	uint64_t next;	/* number of the record behind the last one */
	int res;
};

/* Each question once, with the count of all. */
static void collect_merge(struct collect *c)
{
	size_t kept = 0;

	if (c->n)
		qsort(c->v, c->n, sizeof(*c->v), past_order);
	for (size_t i = 0; i < c->n; i++) {
		if (!kept || past_order(&c->v[kept - 1], &c->v[i])) {
			c->v[kept++] = c->v[i];
			continue;
		}
		c->v[kept - 1].count += c->v[i].count;
		if (c->v[i].time > c->v[kept - 1].time)
			c->v[kept - 1].time = c->v[i].time;
	}
	c->n = kept;
}

static int collect_add(struct collect *c, const struct flow_past *past)
{
	if (c->n == c->room) {
		size_t room = c->room ? 2 * c->room : 256;
		struct flow_past *v = reallocarray(c->v, room, sizeof(*v));

		if (!v)
			return -ENOMEM;
		c->v = v;
		c->room = room;
	}
	c->v[c->n++] = *past;
	if (c->n >= c->compact) {
		collect_merge(c);
		c->compact = 2 * c->n > COMPACT ? 2 * c->n : COMPACT;
	}
	return 0;
}

static int collect_end(struct collect *c, struct flow_past **out, size_t *n)
{
	if (c->res) {
		free(c->v);
		return c->res;
	}
	collect_merge(c);
	*out = c->v;
	*n = c->n;
	return 0;
}

int flow_log_past(const struct flow_log *log, const struct flow_past *older, size_t n_older,
		  struct flow_past **out, size_t *n)
{
	struct collect c = { .compact = COMPACT };

	for (size_t i = 0; i < n_older && !c.res; i++)
		c.res = collect_add(&c, &older[i]);
	for (uint64_t seq = flow_log_tail(log); seq < flow_log_head(log) && !c.res; seq++) {
		const struct flow_record *r = flow_log_at(log, seq);

		if (record_asks(r)) {
			struct flow_past past = past_of(r);

			c.res = collect_add(&c, &past);
		}
	}
	c.res = collect_end(&c, out, n);
	/* Of some only the end is known. */
	for (size_t i = 0; !c.res && i < *n; i++)
		(*out)[i].count += !(*out)[i].count;
	return c.res;
}

uint64_t flow_log_oldest(const struct flow_log *log)
{
	return flow_log_tail(log);
}

static int collect_row(void *arg, uint64_t seq, uint64_t lost, const struct flow_record *r)
{
	struct collect *c = arg;

	c->next = seq + 1;
	if (record_asks(r)) {
		struct flow_past past = past_of(r);

		c->res = collect_add(c, &past);
	}
	return c->res;
}

int flow_history_past(struct flow_history *h, uint64_t below, struct flow_past **out, size_t *n)
{
	struct collect c = { .compact = COMPACT };

	while (!c.res && c.next < below &&
	       flow_history_read(h, c.next, below, SIZE_MAX, collect_row, &c))
		;
	return collect_end(&c, out, n);
}
