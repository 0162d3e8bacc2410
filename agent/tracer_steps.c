/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What a traced packet met, one step a line; the order is that of bpf/lib/. */
#include "tracer.h"

#include <arpa/inet.h>
#include <linux/pkt_cls.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ETHER_LEN 14u

struct telling {
	struct agent *a;
	const struct tracer_job *job;
	json_t *steps;
};

/* map and key "": no look-up. */
__attribute__((format(printf, 5, 6))) static void
step(struct telling *t, const char *name, const char *map, const char *key, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	json_t *json = json_pack("{s:s, s:s}", "step", name, "result", text);
	if (*map) {
		json_object_set_new(json, "map", json_string(map));
		json_object_set_new(json, "key", json_string(key));
	}
	json_array_append_new(t->steps, json);
}

/* ---- names ------------------------------------------------------------------------------------ */

static const char *addr_name(const union tw_addr *addr, char buf[64])
{
	if (addr_format(addr, buf, 64) < 0)
		snprintf(buf, 64, "?");
	return buf;
}

static const char *end_name(const union tw_addr *addr, __be16 port, char buf[96])
{
	char ip[64];

	addr_name(addr, ip);
	snprintf(buf, 96, addr_is4(addr) ? "%s:%u" : "[%s]:%u", ip, ntohs(port));
	return buf;
}

static const char *tuple_name(const struct telling *t, const struct tw_tuple *tuple, char buf[256])
{
	char from[96], to[96];

	snprintf(buf, 256, "%s -> %s %s", end_name(&tuple->saddr, tuple->sport, from),
		 end_name(&tuple->daddr, tuple->dport, to), t->job->transport->name);
	return buf;
}

static const char *interface_name(uint32_t ifindex, char buf[64])
{
	char name[IF_NAMESIZE];

	if (if_indextoname(ifindex, name))
		snprintf(buf, 64, "%s", name);
	else
		snprintf(buf, 64, "interface %u, which is gone", ifindex);
	return buf;
}

static const char *in_name(uint32_t in, char buf[96])
{
	char name[64];

	if (in == TW_IN_HOST)
		snprintf(buf, 96, "made by the node itself");
	else if (in == TW_IN_NOWHERE)
		snprintf(buf, 96, "nowhere");
	else
		snprintf(buf, 96, "%s%s", interface_name(in & TW_IN_IFINDEX, name),
			 in & TW_IN_STACK ? ", through the host's stack" : "");
	return buf;
}

static const char *slot_name(const struct telling *t, uint32_t slot, char buf[352])
{
	const struct endpoint *ep = slots_get(t->a->slots, slot);

	if (ep)
		snprintf(buf, 352, "%.63s/%.253s", ep->ns, ep->pod);
	else
		snprintf(buf, 352, "endpoint %u, which is gone", slot);
	return buf;
}

static const char *flags_name(uint8_t flags, char buf[16])
{
	static const char letters[] = "FSRPAUEC";
	size_t n = 0;

	for (size_t i = 0; i < 8; i++)
		if (flags & 1u << i)
			buf[n++] = letters[i];
	buf[n] = '\0';
	return buf;
}

static const char *kind_name(uint8_t kind)
{
	static const char *const names[] = {
		[TW_KIND_NONE] = "idle, to be judged again",
		[TW_KIND_LOCAL] = "into a container of this node",
		[TW_KIND_OUT] = "to the outside",
		[TW_KIND_STACK] = "to the host's stack",
		[TW_KIND_PASS] = "from the host's stack into the container",
		[TW_KIND_DENY] = "revoked: denied until it ends",
		[TW_KIND_UP] = "by the port's own ingress qdisc and the host's stack",
		[TW_KIND_QUEUE] = "into a container of this node, by its port's own qdisc",
	};

	return kind < sizeof(names) / sizeof(*names) ? names[kind] : "?";
}

/* ---- steps ------------------------------------------------------------------------------------ */

static void tell_packet(struct telling *t)
{
	static const char *const programs[TW_HOOK_COUNT] = {
		[TW_HOOK_FROM_CONTAINER] = "tw_from_container, on what the container sends",
		[TW_HOOK_TO_CONTAINER] = "tw_to_container, on what the node's stack sends to it",
		[TW_HOOK_FROM_UPLINK] = "tw_from_uplink, on what the network sends",
	};
	const struct tracer_job *job = t->job;
	char tuple[256], flags[16] = "", name[64];

	if (job->spec.tuple.proto == IPPROTO_TCP)
		flags_name(job->spec.tcp, flags);
	step(t, "packet", "", "", "%s%s%s, %zu bytes of IP, TTL %u",
	     tuple_name(t, &job->spec.tuple, tuple), *flags ? " " : "", flags,
	     job->packet.len - ETHER_LEN, job->spec.ttl);
	step(t, "program", "", "", "%s: %s", interface_name(job->packet.ifindex, name),
	     programs[job->packet.hook]);
}

/* The entry that was there, and why it did or did not do. */
static void tell_flow(struct telling *t)
{
	const struct trace_result *r = &t->job->result;
	const struct tw_half *h = &r->before.half[r->dir];
	const char *map = t->job->spec.tuple.family == 4 ? "tw_flow4" : "tw_flow6";
	char key[256], in[96];

	tuple_name(t, &t->job->spec.tuple, key);
	if (!r->met) {
		step(t, "flow", map, key, "no entry%s",
		     r->full ? "; the table is full" : ": the slow path decides");
		return;
	}
	step(t, "flow", map, key, "%s; %s, %llu packets so far, entered by %s", kind_name(h->kind),
	     h->flags & TW_HALF_OPENER ? "opener's direction" : "answers",
	     (unsigned long long)h->packets_hi << 32 | h->packets, in_name(h->in, in));
	if (!r->parsed)
		step(t, "epoch", "tw_epochs", "0 and both ends",
		     "sum %u as in the entry: the decision holds, nothing else is looked up",
		     h->stamp);
	else
		step(t, "epoch", "tw_epochs", "0 and both ends",
		     "the entry (%u) is not enough for this packet: the slow path decides",
		     h->stamp);
}

static void tell_end(struct telling *t, const char *name, const struct trace_end *end,
		     const union tw_addr *addr, bool by_origin)
{
	const char *map = addr_is4(addr) ? "tw_ipcache" : "tw_ipcache6";
	char ip[64], pod[352];

	if (!end->identity)
		return;
	addr_name(addr, ip);
	if (by_origin)
		step(t, name, "", "",
		     "the node itself: known by where the packet comes from, not by %s", ip);
	else if (end->slot)
		step(t, name, map, ip, "endpoint %u: %s, identity %u, policy version %u", end->slot,
		     slot_name(t, end->slot, pod), end->identity, end->version);
	else
		step(t, name, map, ip, "identity %u: %s", end->identity,
		     end->identity == TW_ID_HOST	  ? "the node itself"
		     : end->identity == TW_ID_REMOTE_NODE ? "another node"
		     : end->identity == TW_ID_UNASSIGNED  ? "of a pod subnet, but nobody's"
		     : end->identity == TW_ID_WORLD	  ? "an address that no rule names"
							  : "addresses that some rule names");
}

static const char *classes_name(const struct telling *t, const struct datapath_decision *p,
				char buf[64])
{
	uint32_t low = p->first & 0xffff, high = p->last & 0xffff;

	if (p->first >> 16 != p->last >> 16)
		snprintf(buf, 64, "all from %s %u on", t->job->transport->name, low);
	else if (low == high)
		snprintf(buf, 64, "%s %u", t->job->transport->name, low);
	else
		snprintf(buf, 64, "%s %u to %u", t->job->transport->name, low, high);
	return buf;
}

/* Which rule it was, by the objects in force. */
static void rule_name(const struct telling *t, enum tw_direction dir, char buf[640])
{
	const struct trace_result *r = &t->job->result;
	bool out = dir == TW_EGRESS;
	const struct policy_end peer = {
		.slot = out ? r->to.slot : r->from.slot,
		.is_host = (out ? r->to.identity : r->from.identity) == TW_ID_HOST,
		.addr = out ? r->opener.daddr : r->opener.saddr,
	};
	struct policy_answer said;

	buf[0] = '\0';
	if (policy_explain(t->a->policy, out ? r->from.slot : r->to.slot, dir, &peer,
			   r->opener.proto, t->job->transport->ports ? ntohs(r->opener.dport) : 0,
			   &said) ||
	    said.allow != t->job->policy[dir].allow)
		return; /* changed in between */
	if (said.policy)
		snprintf(buf, 640, ": %s/%s, spec.%s[%d]", said.policy_ns, said.policy,
			 out ? "egress" : "ingress", said.rule);
	else if (!said.allow)
		snprintf(buf, 640, ": no rule of %s", said.selected_by);
}

static void tell_policy(struct telling *t, enum tw_direction dir)
{
	const struct datapath_decision *p = &t->job->policy[dir];
	const struct trace_result *r = &t->job->result;
	const struct trace_end *own = dir == TW_EGRESS ? &r->from : &r->to;
	const struct trace_end *peer = dir == TW_EGRESS ? &r->to : &r->from;
	const char *name = dir == TW_EGRESS ? "egress" : "ingress";
	char key[64], classes[64], rule[640];

	if (!t->job->asked[dir])
		return;
	snprintf(key, sizeof(key), "%u", own->version);
	if (!p->isolated) {
		step(t, name, "tw_policy", key, "no policy selects the endpoint: allowed");
		return;
	}
	if (!p->has_class) {
		rule_name(t, dir, rule);
		step(t, name, "tw_policy", key, "no classes, nobody passes: denied%s", rule);
		return;
	}
	step(t, name, "tw_policy", key, "tw_classes[%u] is %s: %s", p->class,
	     classes_name(t, p, classes),
	     p->set == TW_SET_NONE  ? "nobody passes"
	     : p->set == TW_SET_ANY ? "everybody passes"
				    : "a set of identities");
	rule_name(t, dir, rule);
	if (p->set == TW_SET_NONE || p->set == TW_SET_ANY) {
		step(t, name, "", "", "%s%s", p->allow ? "allowed" : "denied", rule);
		return;
	}
	snprintf(key, sizeof(key), "set %u, identity %u", p->set, peer->identity);
	step(t, name, "tw_peers", key, "%s: %s%s", p->allow ? "there" : "not there",
	     p->allow ? "allowed" : "denied", rule);
}

static void tell_way(struct telling *t)
{
	const struct trace_result *r = &t->job->result;
	const union tw_addr *outside = r->from.slot ? &r->opener.daddr : &r->opener.saddr;
	char key[64], name[64], hop[64], nat[96];

	if (r->parsed && r->from.identity && r->to.identity &&
	    (r->from.identity == TW_ID_HOST || r->to.identity == TW_ID_HOST))
		step(t, "policy", "", "",
		     "not asked: a node and its own pods always reach each other");
	if (r->parsed && r->oif)
		step(t, "route", "fib", addr_name(outside, key), "by %s%s%s, MTU %u",
		     interface_name(r->oif, name), r->has_hop ? " via " : "",
		     r->has_hop ? addr_name(&r->hop, hop) : "", r->mtu);
	if (r->parsed && r->nat_port)
		step(t, "translate", "", "", "source becomes %s",
		     end_name(&r->nat_addr, r->nat_port, nat));
	if (r->made)
		step(t, "entry", "", "", "%u of the flow table would be made: %s", r->made,
		     kind_name(r->after.half[r->dir].kind));
}

/* What is different in the packet that came out. */
static void tell_rewrite(struct telling *t)
{
	const struct trace_result *r = &t->job->result;
	const uint8_t *in = t->job->packet.frame, *out = r->frame;
	bool v4 = t->job->spec.tuple.family == 4;
	size_t l3 = ETHER_LEN, l4 = l3 + (v4 ? 20 : 40), ttl = l3 + (v4 ? 8 : 7);
	bool icmp = t->job->spec.tuple.proto == IPPROTO_ICMP ||
		    t->job->spec.tuple.proto == IPPROTO_ICMPV6;
	struct {
		union tw_addr addr;
		__be16 port;
	} end[2];
	char text[96];

	if (r->len != t->job->packet.len || r->verdict == TC_ACT_SHOT)
		return;
	for (size_t i = 0; i < 2; i++) {
		const union tw_addr *was =
			i ? &t->job->spec.tuple.daddr : &t->job->spec.tuple.saddr;
		size_t at = l3 + (v4 ? 12 + 4 * i : 8 + 16 * i), port = icmp ? l4 + 4 : l4 + 2 * i;

		end[i].addr = *was;
		memcpy(v4 ? (void *)&end[i].addr.word[3] : (void *)&end[i].addr, out + at,
		       v4 ? 4 : 16);
		memcpy(&end[i].port, out + port, 2);
		if (memcmp(in + at, out + at, v4 ? 4 : 16) || memcmp(in + port, out + port, 2))
			step(t, "rewrite", "", "", "%s is now %s", i ? "destination" : "source",
			     end_name(&end[i].addr, end[i].port, text));
	}
	if (in[ttl] != out[ttl])
		step(t, "rewrite", "", "", "TTL %u, was %u", out[ttl], in[ttl]);
	if (memcmp(in, out, 6))
		step(t, "rewrite", "", "", "to MAC %02x:%02x:%02x:%02x:%02x:%02x", out[0], out[1],
		     out[2], out[3], out[4], out[5]);
}

static const struct tw_event *event_of(const struct trace_result *r, uint8_t type)
{
	for (size_t i = 0; i < r->n_events; i++)
		if (r->events[i].type == type)
			return &r->events[i];
	return NULL;
}

static const char *tell_drop(struct telling *t, json_t *reply, uint8_t reason)
{
	bool answered = t->job->result.verdict == TC_ACT_REDIRECT;

	json_object_set_new(reply, "reason", json_string(tw_reason_name(reason)));
	step(t, "verdict", "", "", "dropped: %s, %s%s", tw_reason_name(reason),
	     tw_reason_text(reason), answered ? "; its sender gets an ICMP error" : "");
	return "deny";
}

static void tell_redirect(struct telling *t, json_t *reply)
{
	const struct trace_result *r = &t->job->result;
	const struct tw_half *h = &r->after.half[r->dir], *other = &r->after.half[!r->dir];
	char name[64], pod[352] = "", hop[64];
	const struct endpoint *ep;

	interface_name(h->out, name);
	json_object_set_new(reply, "interface", json_string(name));
	if (h->kind == TW_KIND_OUT) {
		const union tw_addr *next = h->flags & TW_HALF_REWRITE ? &other->addr : &h->addr;

		addr_name(next, hop);
		if (h->flags & TW_HALF_NEXTHOP)
			json_object_set_new(reply, "next_hop", json_string(hop));
		step(t, "verdict", "", "", "allowed: leaves by %s%s%s", name,
		     h->flags & TW_HALF_NEXTHOP ? " to " : "",
		     h->flags & TW_HALF_NEXTHOP ? hop : "");
		return;
	}
	for (uint32_t slot = 1; (ep = slots_next(t->a->slots, slot)); slot = ep->slot + 1)
		if (ep->port_ifindex == h->out && !ep->part)
			slot_name(t, ep->slot, pod);
	json_object_set_new(reply, "pod", json_string(pod));
	step(t, "verdict", "", "", "allowed: into %s behind %s%s", pod, name,
	     h->kind == TW_KIND_QUEUE ? ", by its qdisc" : "");
}

/* Where it would go. Returns the reply's verdict. */
static const char *tell_verdict(struct telling *t, json_t *reply)
{
	const struct trace_result *r = &t->job->result;
	const struct tw_event *drop = event_of(r, TW_EVENT_DROP);
	const struct tw_event *revoke = event_of(r, TW_EVENT_REVOKE);
	uint8_t kind = r->kept ? r->after.half[r->dir].kind : TW_KIND_NONE;

	if (revoke)
		step(t, "revoke", "", "", "the open connection would be revoked: %s",
		     tw_reason_text(revoke->reason));
	if (drop)
		return tell_drop(t, reply, drop->reason);
	if (r->verdict == TC_ACT_SHOT) {
		step(t, "verdict", "", "", "dropped, and only counted");
		return "deny";
	}
	if (r->verdict == TC_ACT_REDIRECT) {
		tell_redirect(t, reply);
		return "allow";
	}
	if (t->job->packet.hook == TW_HOOK_FROM_UPLINK && kind == TW_KIND_NONE)
		step(t, "verdict", "", "", "for no container: the node's own stack takes it");
	else if (t->job->packet.hook == TW_HOOK_TO_CONTAINER)
		step(t, "verdict", "", "", "allowed: goes on into the container");
	else
		step(t, "verdict", "", "", "allowed: goes on to the node's own stack%s",
		     kind == TW_KIND_UP ? ", behind the port's ingress qdisc" : "");
	return "allow";
}

json_t *tracer_reply(struct agent *a, const struct tracer_job *job)
{
	struct telling t = { .a = a, .job = job, .steps = json_array() };
	const struct trace_result *r = &job->result;
	json_t *reply = json_pack("{s:o, s:o, s:s}", "from", end_json(&job->end[0]), "to",
				  end_json(&job->end[1]), "proto", job->transport->name);
	bool by_origin = r->from.identity == TW_ID_HOST && job->packet.hook == TW_HOOK_TO_CONTAINER;

	if (!t.steps || !reply)
		return NULL;
	if (job->transport->ports) {
		json_object_set_new(reply, "sport", json_integer(ntohs(job->spec.tuple.sport)));
		json_object_set_new(reply, "dport", json_integer(ntohs(job->spec.tuple.dport)));
	}
	tell_packet(&t);
	tell_flow(&t);
	if (r->parsed) {
		tell_end(&t, "from", &r->from, &r->opener.saddr, by_origin);
		tell_end(&t, "to", &r->to, &r->opener.daddr, false);
	}
	tell_policy(&t, TW_EGRESS);
	tell_policy(&t, TW_INGRESS);
	tell_way(&t);
	tell_rewrite(&t);
	json_object_set_new(reply, "verdict", json_string(tell_verdict(&t, reply)));
	json_object_set_new(reply, "steps", t.steps);
	return reply;
}
