/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "tracer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <utlist.h>

#include "netlink.h"
#include "uplinks.h"

/* For the next question; then what it holds in the kernel is given back. */
#define KEEP_MS 3000
#define WAITING_MAX 16u
#define SPORT_DEFAULT 40000
#define TCP_SYN 0x02

struct waiting {
	struct tracer_job job;
	tracer_fn done;
	void *arg;
	struct waiting *prev, *next;
};

struct tracer {
	struct agent *a;
	struct trace *trace; /* the second load; NULL: none now */
	uv_timer_t keep;
	uv_work_t work;
	struct waiting *queue; /* the first is the worker's while `working` */
	unsigned int n_queue;
	char why[256];
	int res;
	bool working;
	bool closing;
	bool closed;
};

static void release(struct tracer *t)
{
	if (t->closing && t->closed && !t->working)
		free(t);
}

/* ---- the worker ------------------------------------------------------------------------------- */

static void look_policies(struct tracer *t, struct tracer_job *job)
{
	const struct trace_result *r = &job->result;
	const struct trace_end *end[2] = { &r->from, &r->to };
	uint8_t proto = r->opener.proto;
	uint32_t key = (uint32_t)proto << 16;

	if (proto != IPPROTO_ICMP && proto != IPPROTO_ICMPV6)
		key |= ntohs(r->opener.dport);
	/* The node itself is not asked for a policy, and needs none. */
	if (!r->parsed || r->from.identity == TW_ID_HOST || r->to.identity == TW_ID_HOST)
		return;
	for (int i = 0; i < 2; i++) {
		enum tw_direction dir = i ? TW_INGRESS : TW_EGRESS;

		if (!end[i]->slot || !end[!i]->identity)
			continue;
		job->asked[dir] = !datapath_decision_find(
			t->a->dp, end[i]->version, dir, end[!i]->identity, key, &job->policy[dir]);
		/* The receiver's is not asked when the sender's denies. */
		if (job->asked[dir] && !job->policy[dir].allow)
			return;
	}
}

static void ask_work(uv_work_t *work)
{
	struct tracer *t = work->data;
	struct tracer_job *job = &t->queue->job;

	t->why[0] = '\0';
	t->res = t->trace ? 0 : trace_open(&t->trace, t->a->dp, t->why, sizeof(t->why));
	if (!t->res)
		t->res = trace_run(t->trace, &job->packet, &job->result);
	if (!t->res)
		look_policies(t, job);
}

static void ask_start(struct tracer *t);

static void tell(struct tracer *t, json_t *json, int res, const struct agent_error *err)
{
	struct waiting *w = t->queue;

	DL_DELETE(t->queue, w);
	t->n_queue--;
	w->done(w->arg, json, res, err);
	free(w);
}

static void keep_over(uv_timer_t *timer)
{
	struct tracer *t = timer->data;

	if (t->working)
		return;
	trace_close(t->trace);
	t->trace = NULL;
	memory_release();
}

static void ask_done(uv_work_t *work, int status)
{
	struct tracer *t = work->data;
	struct agent_error err = {};
	json_t *json = NULL;
	int res = t->res;

	t->working = false;
	if (t->closing) {
		trace_close(t->trace);
		free(t->queue);
		release(t);
		return;
	}
	if (!res)
		json = tracer_reply(t->a, &t->queue->job);
	if (res)
		res = agent_refuse(&err, AGENT_INTERNAL, "%s",
				   *t->why ? t->why : "the kernel did not run the packet");
	else if (!json)
		res = agent_refuse(&err, AGENT_INTERNAL, "out of memory");
	tell(t, json, res, &err);
	uv_timer_start(&t->keep, keep_over, KEEP_MS, 0);
	ask_start(t);
}

static void ask_start(struct tracer *t)
{
	if (t->working || !t->queue)
		return;
	t->working = !uv_queue_work(&t->a->loop, &t->work, ask_work, ask_done);
}

/* ---- the question ----------------------------------------------------------------------------- */

/* "S", "SA", "syn,ack": TCP flags. */
static int flags_parse(const char *text, uint8_t *out, struct agent_error *err)
{
	static const char *const names[] = {
		"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"
	};
	uint8_t flags = 0;

	for (const char *at = text; *at;) {
		size_t len = strcspn(at, ",");
		bool word = false;

		for (unsigned int i = 0; i < 8 && len == 3; i++) {
			if (strncasecmp(at, names[i], 3))
				continue;
			flags |= (uint8_t)(1u << i);
			word = true;
		}
		for (size_t c = 0; c < len && !word; c++) {
			const char *letter = strchr("FSRPAUEC", at[c]);

			if (!letter)
				return agent_refuse(err, AGENT_INVALID,
						    "flags takes letters of FSRPAUEC (\"SA\") or "
						    "names (\"syn,ack\"), not '%.32s'",
						    text);
			flags |= (uint8_t)(1u << (letter - "FSRPAUEC"));
		}
		at += len + (at[len] == ',');
	}
	*out = flags;
	return 0;
}

static int number(const json_t *body, const char *key, json_int_t low, json_int_t high,
		  json_int_t *out, struct agent_error *err)
{
	const json_t *json = json_object_get(body, key);

	if (!json)
		return 0;
	if (!json_is_integer(json) || json_integer_value(json) < low ||
	    json_integer_value(json) > high)
		return agent_refuse(err, AGENT_INVALID, "%s must be a number from %lld to %lld",
				    key, (long long)low, (long long)high);
	*out = json_integer_value(json);
	return 0;
}

/* Some host out there: an address that is nobody's (RFC 5737, RFC 3849). */
static void end_outside(struct end *end)
{
	*end = (struct end){ .what = "world" };
	addr_parse("192.0.2.1", &end->addr4);
	addr_parse("2001:db8::1", &end->addr6);
}

static int ends_read(struct agent *a, const json_t *body, struct tracer_job *job,
		     struct agent_error *err)
{
	static const char *const keys[] = { "from", "to" };
	json_int_t family = 0;
	int res = number(body, "family", 4, 6, &family, err);

	for (int i = 0; i < 2 && !res; i++) {
		const char *text = json_string_value(json_object_get(body, keys[i]));

		if (text && !strcmp(text, "outside"))
			end_outside(&job->end[i]);
		else
			res = end_parse(a, text, &job->end[i], err);
	}
	for (int i = 0; i < 2 && !res && family; i++)
		*(family == 6 ? &job->end[i].addr4 : &job->end[i].addr6) = (union tw_addr){};
	if (!res)
		res = ends_pair(&job->end[0], &job->end[1], err);
	if (res)
		return res;
	/* From outside to the node itself: an uplink sees it, which may be an answer to a pod. */
	if (!job->end[0].ep && !job->end[1].ep &&
	    (job->end[0].policy.is_host || !job->end[1].policy.is_host))
		return agent_refuse(err, AGENT_INVALID,
				    "neither end is a pod of this node: nothing of Towpath is in "
				    "their way");
	return 0;
}

static int transport_read(const json_t *body, struct tracer_job *job, struct agent_error *err)
{
	json_int_t dport = 0, sport = SPORT_DEFAULT, payload = 0, ttl = 64;
	const char *flags = json_string_value(json_object_get(body, "flags"));
	struct tw_tuple *t = &job->spec.tuple;
	uint16_t port = 0;
	char text[24];
	int res = number(body, "dport", 0, 65535, &dport, err);

	if (!res)
		res = number(body, "sport", 1, 65535, &sport, err);
	if (!res)
		res = number(body, "payload", 0, TRACE_FRAME_MAX - 100, &payload, err);
	if (!res)
		res = number(body, "ttl", 1, 255, &ttl, err);
	snprintf(text, sizeof(text), "%lld", (long long)dport);
	if (!res)
		res = transport_parse(json_string_value(json_object_get(body, "proto")), text,
				      &job->transport, &port, err);
	job->spec.tcp = TCP_SYN;
	if (!res && flags)
		res = flags_parse(flags, &job->spec.tcp, err);
	if (res)
		return res;
	t->proto = job->transport->number;
	t->sport = htons((uint16_t)sport);
	t->dport = htons(port);
	if (!job->transport->ports)
		t->dport = t->sport; /* the identifier of an echo request */
	job->spec.payload = (size_t)payload;
	job->spec.ttl = (uint8_t)ttl;
	return 0;
}

/* The node's own address, where an end is the node. */
static int host_address(struct agent *a, struct end *end, uint8_t family, struct agent_error *err)
{
	if (!end->policy.is_host || !uplinks_address(a->uplinks, family, &end->policy.addr))
		return 0;
	return agent_refuse(err, AGENT_INVALID, "no uplink of this node has an IPv%u address",
			    family);
}

/* Where a packet of an outside sender comes in: where the route to it goes, or the first uplink. */
static uint32_t uplink_of(const struct agent *a, const union tw_addr *addr)
{
	struct nl_route route = {};
	uint32_t found = 0;
	struct nl nl;

	if (!nl_open(&nl)) {
		if (!nl_route_to(&nl, addr, &route) && uplinks_has(a->uplinks, route.oif))
			found = route.oif;
		nl_close(&nl);
	}
	return found ? found : uplinks_first(a->uplinks);
}

/* Which hook sees it first, and with which MACs. */
static int place_packet(struct agent *a, struct tracer_job *job, struct agent_error *err)
{
	const struct endpoint *from = job->end[0].ep, *to = job->end[1].ep;
	struct trace_packet *p = &job->packet;
	struct nl_link link = {};
	struct nl nl;

	p->slot[0] = from ? (uint16_t)from->slot : 0;
	p->slot[1] = to ? (uint16_t)to->slot : 0;
	memcpy(job->spec.dmac, endpoint_gateway_mac, 6);
	if (from) {
		p->hook = TW_HOOK_FROM_CONTAINER;
		p->ifindex = p->in = from->port_ifindex;
		memcpy(job->spec.smac, from->mac, 6);
		return 0;
	}
	if (job->end[0].policy.is_host) {
		p->hook = TW_HOOK_TO_CONTAINER;
		p->ifindex = to->port_ifindex;
		p->in = 0;
		memcpy(job->spec.smac, endpoint_gateway_mac, 6);
		memcpy(job->spec.dmac, to->mac, 6);
		return 0;
	}
	p->hook = TW_HOOK_FROM_UPLINK;
	p->ifindex = p->in = uplink_of(a, &job->end[0].policy.addr);
	if (!p->ifindex)
		return agent_refuse(err, AGENT_INVALID, "this node has no uplink to come in by");
	int res = nl_open(&nl);
	if (!res) {
		res = nl_link_get(&nl, p->ifindex, NULL, &link);
		nl_close(&nl);
	}
	memcpy(job->spec.dmac, link.mac, 6);
	job->spec.smac[0] = 0x02;
	return res ? agent_refuse_errno(err, res, "") : 0;
}

static int job_fill(struct agent *a, const json_t *body, struct tracer_job *job,
		    struct agent_error *err)
{
	struct tw_tuple *t = &job->spec.tuple;
	int res = json_is_object(body)
			  ? ends_read(a, body, job, err)
			  : agent_refuse(err, AGENT_INVALID, "the request must be an object");

	if (!res)
		res = transport_read(body, job, err);
	if (res)
		return res;
	for (int i = 0; i < 2; i++)
		if (!job->end[i].policy.is_host)
			t->family = addr_is4(&job->end[i].policy.addr) ? 4 : 6;
	for (int i = 0; i < 2 && !res; i++)
		res = host_address(a, &job->end[i], t->family, err);
	if ((t->proto == IPPROTO_ICMP && t->family == 6) ||
	    (t->proto == IPPROTO_ICMPV6 && t->family == 4))
		return agent_refuse(err, AGENT_INVALID, "%s is not of the ends' family, IPv%u",
				    job->transport->name, t->family);
	if (res)
		return res;
	t->saddr = job->end[0].policy.addr;
	t->daddr = job->end[1].policy.addr;
	res = place_packet(a, job, err);
	if (!res && trace_frame(&job->spec, &job->packet))
		res = agent_refuse(err, AGENT_INVALID, "the packet would be too large");
	return res;
}

int tracer_ask(struct tracer *t, const json_t *body, tracer_fn done, void *arg,
	       struct agent_error *err)
{
	if (t->n_queue >= WAITING_MAX)
		return agent_refuse(err, AGENT_NOT_READY,
				    "%u traces are waiting already; try again", WAITING_MAX);
	struct waiting *w = calloc(1, sizeof(*w));
	if (!w)
		return agent_refuse(err, AGENT_INTERNAL, "out of memory");
	int res = job_fill(t->a, body, &w->job, err);
	if (res) {
		free(w);
		return res;
	}
	w->done = done;
	w->arg = arg;
	DL_APPEND(t->queue, w);
	t->n_queue++;
	ask_start(t);
	return 0;
}

/* ---- life ------------------------------------------------------------------------------------- */

int tracer_new(struct tracer **out, struct agent *a)
{
	struct tracer *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->a = a;
	t->work.data = t;
	t->keep.data = t;
	uv_timer_init(&a->loop, &t->keep);
	*out = t;
	return 0;
}

static void keep_closed(uv_handle_t *handle)
{
	struct tracer *t = handle->data;

	t->closed = true;
	release(t);
}

void tracer_free(struct tracer *t)
{
	struct waiting *w, *next;

	if (!t)
		return;
	struct agent_error err = {};
	int res = agent_refuse(&err, AGENT_NOT_READY,
			       "the agent is stopping; try again once it runs");
	t->closing = true;
	if (!t->working)
		trace_close(t->trace);
	/* The first one's memory is the worker's as long as that runs. */
	DL_FOREACH_SAFE(t->queue, w, next) {
		w->done(w->arg, NULL, res, &err);
		if (t->working && w == t->queue)
			continue;
		DL_DELETE(t->queue, w);
		free(w);
	}
	uv_close((uv_handle_t *)&t->keep, keep_closed);
}
