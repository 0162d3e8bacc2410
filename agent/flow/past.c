/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The log's flows as questions: what was asked of policies, each once. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "flow/record.h"

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

int flow_log_past(const struct flow_log *log, struct flow_past **out, size_t *n)
{
	uint64_t head = flow_log_head(log), tail = flow_log_tail(log);
	struct flow_past *v = calloc(head - tail + 1, sizeof(*v));
	size_t found = 0, kept = 0;

	if (!v)
		return -ENOMEM;
	for (uint64_t seq = tail; seq < head; seq++)
		if (record_asks(flow_log_at(log, seq)))
			v[found++] = past_of(flow_log_at(log, seq));
	if (found)
		qsort(v, found, sizeof(*v), past_order);
	for (size_t i = 0; i < found; i++) {
		if (!kept || past_order(&v[kept - 1], &v[i])) {
			v[kept++] = v[i];
			continue;
		}
		v[kept - 1].count += v[i].count;
		if (v[i].time > v[kept - 1].time)
			v[kept - 1].time = v[i].time;
	}
	*out = v;
	*n = kept;
	return 0;
}
