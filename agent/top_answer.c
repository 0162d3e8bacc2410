/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What a look at the flow tables found, with names, sorted. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "top.h"
#include "top_walk.h"

struct answer {
	struct agent *a;
	const struct top_query *q;
	const struct walk *w;
	const json_t *drops; /* of what is asked for; may be NULL */
	double seconds;	     /* 0: there was no look before */
	json_t *items;
};

static double rate(const struct answer *an, uint64_t n)
{
	return an->seconds > 0 ? (double)n / an->seconds : 0;
}

/* ---- values, the same of each kind ---------------------------------------------------------------- */

static void set_values(const struct answer *an, json_t *item, const struct walk_counts *c,
		       json_int_t drops)
{
	const uint64_t packets = c->packets[0] + c->packets[1], bytes = c->bytes[0] + c->bytes[1];

	json_object_set_new(item, "packets", json_integer((json_int_t)packets));
	json_object_set_new(item, "bytes", json_integer((json_int_t)bytes));
	json_object_set_new(item, "drops", json_integer(drops));
	json_object_set_new(item, "packets_s", json_real(rate(an, c->new_packets)));
	json_object_set_new(item, "bytes_s", json_real(rate(an, c->new_bytes)));
	json_object_set_new(item, "drops_s", json_real(rate(an, (uint64_t)drops)));
}

static void set_directions(json_t *item, const struct walk_counts *c)
{
	static const char *const names[] = { "sent", "received" };

	for (unsigned int i = 0; i < 2; i++)
		json_object_set_new(item, names[i],
				    json_pack("{s:I, s:I}", "packets", (json_int_t)c->packets[i],
					      "bytes", (json_int_t)c->bytes[i]));
}

static json_int_t drops_of(const struct answer *an, const char *key)
{
	return json_integer_value(json_object_get(json_object_get(an->drops, key), "drops"));
}

/* ---- flows ------------------------------------------------------------------------------------------ */

static const char *proto_name(uint8_t proto, char buf[8])
{
	switch (proto) {
	case IPPROTO_TCP:
		return "tcp";
	case IPPROTO_UDP:
		return "udp";
	case IPPROTO_SCTP:
		return "sctp";
	case IPPROTO_ICMP:
		return "icmp";
	case IPPROTO_ICMPV6:
		return "icmpv6";
	default:
		snprintf(buf, 8, "%u", proto);
		return buf;
	}
}

static bool is_host(struct agent *a, const union tw_addr *addr)
{
	uint32_t word = 0;

	return !datapath_word_find(a->dp, addr, &word) && word == TW_ID_HOST;
}

static json_t *end_to_json(struct agent *a, uint16_t slot, const union tw_addr *addr, __be16 port,
			   uint8_t proto)
{
	const struct endpoint *ep = slot ? slots_get(a->slots, slot) : NULL;
	const char *name = ep ? "" : policy_addr_name(a->policy, addr);
	const char *slash = strchr(name, '/');
	json_t *end = json_object();
	char ip[INET6_ADDRSTRLEN] = "";

	addr_format(addr, ip, sizeof(ip));
	json_object_set_new(end, "what",
			    json_string(ep || slash	   ? "pod"
					: is_host(a, addr) ? "host"
							   : "world"));
	if (ep) {
		json_object_set_new(end, "namespace", json_string(ep->ns));
		json_object_set_new(end, "pod", json_string(ep->pod));
	} else if (slash) {
		json_object_set_new(end, "namespace", json_stringn(name, (size_t)(slash - name)));
		json_object_set_new(end, "pod", json_string(slash + 1));
	}
	json_object_set_new(end, "ip", json_string(ip));
	if (proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP)
		json_object_set_new(end, "port", json_integer(ntohs(port)));
	return end;
}

static const char *flow_state(const struct walk_flow *f)
{
	enum { FIN = 1, RST = 4 };
	unsigned int tcp[2] = { f->flow.tcp[0], f->flow.tcp[1] };

	if (f->flow.denied)
		return "denied";
	if (f->flow.tuple.proto == IPPROTO_TCP &&
	    ((tcp[0] | tcp[1]) & RST || tcp[0] & tcp[1] & FIN))
		return "closed";
	return f->counts.packets[1] ? "open" : "unanswered";
}

static void flow_item(struct answer *an, const struct walk_flow *f)
{
	const struct tw_tuple *t = &f->flow.tuple;
	char buf[8], key[TOP_KEY_LEN];
	const char *proto = proto_name(t->proto, buf);
	json_t *from = end_to_json(an->a, f->flow.slot_from, &t->saddr, t->sport, t->proto);
	json_t *to = end_to_json(an->a, f->flow.slot_to, &t->daddr, t->dport, t->proto);
	json_t *item;

	top_flow_key(key, json_string_value(json_object_get(from, "ip")),
		     json_string_value(json_object_get(to, "ip")), proto,
		     (unsigned int)json_integer_value(json_object_get(to, "port")));
	item = json_pack("{s:o, s:o, s:s, s:s}", "from", from, "to", to, "proto", proto, "state",
			 flow_state(f));
	set_directions(item, &f->counts);
	set_values(an, item, &f->counts, drops_of(an, key));
	json_array_append_new(an->items, item);
}

static bool in_namespace(const struct answer *an, const json_t *object)
{
	const char *ns = json_string_value(json_object_get(object, "namespace"));

	return !*an->q->ns || (ns && !strcmp(ns, an->q->ns));
}

/* By drops: most of what is dropped has no flow. */
static void dropped_items(struct answer *an)
{
	const char *key;
	json_t *entry;

	json_object_foreach((json_t *)an->drops, key, entry) {
		json_t *item;

		if (!in_namespace(an, json_object_get(entry, "from")) &&
		    !in_namespace(an, json_object_get(entry, "to")))
			continue;
		item = json_copy(entry);
		json_object_set_new(item, "state", json_string("dropped"));
		set_values(an, item, &(struct walk_counts){}, drops_of(an, key));
		json_array_append_new(an->items, item);
	}
}

/* ---- endpoints ---------------------------------------------------------------------------------------- */

static void counts_merge(struct walk_counts *to, const struct walk_counts *c)
{
	for (unsigned int i = 0; i < 2; i++) {
		to->packets[i] += c->packets[i];
		to->bytes[i] += c->bytes[i];
	}
	to->new_packets += c->new_packets;
	to->new_bytes += c->new_bytes;
}

static void endpoint_items(struct answer *an)
{
	const struct slots *slots = an->a->slots;
	const struct endpoint *ep, *part;

	for (uint32_t slot = 1; (ep = slots_next(slots, slot)); slot = ep->slot + 1) {
		struct walk_slot sum = an->w->slots[ep->slot];
		char name[512];

		/* The parts of an endpoint are its further addresses. */
		if (ep->part || (*an->q->ns && strcmp(ep->ns, an->q->ns)))
			continue;
		for (part = NULL; (part = slots_part(slots, ep, part));) {
			counts_merge(&sum.counts, &an->w->slots[part->slot].counts);
			sum.flows += an->w->slots[part->slot].flows;
		}
		snprintf(name, sizeof(name), "%s/%s", ep->ns, ep->pod);
		json_t *item =
			json_pack("{s:s, s:s, s:I, s:I}", "namespace", ep->ns, "pod", ep->pod,
				  "slot", (json_int_t)ep->slot, "flows", (json_int_t)sum.flows);

		set_directions(item, &sum.counts);
		set_values(an, item, &sum.counts, drops_of(an, name));
		json_array_append_new(an->items, item);
	}
}

/* ---- policies ------------------------------------------------------------------------------------------ */

struct by_policy {
	char name[320]; /* ns/name */
	struct walk_counts counts;
	uint32_t flows;
};

struct policies {
	struct by_policy *v;
	size_t n;
};

static struct by_policy *policy_take(struct policies *p, const char *name)
{
	for (size_t i = 0; i < p->n; i++)
		if (!strcmp(p->v[i].name, name))
			return &p->v[i];
	struct by_policy *v = reallocarray(p->v, p->n + 1, sizeof(*v));
	if (!v)
		return NULL;
	p->v = v;
	v[p->n] = (struct by_policy){};
	snprintf(v[p->n].name, sizeof(v->name), "%s", name);
	return &v[p->n++];
}

/* A flow counts for the policy that allows it, at each end that has one. */
static void policies_add(struct answer *an, struct policies *p, const struct walk_flow *f)
{
	const struct tw_tuple *t = &f->flow.tuple;
	const struct policy_end ends[2] = {
		{ f->flow.slot_from, !f->flow.slot_from && is_host(an->a, &t->saddr), t->saddr },
		{ f->flow.slot_to, !f->flow.slot_to && is_host(an->a, &t->daddr), t->daddr },
	};
	static const enum tw_direction dirs[2] = { TW_EGRESS, TW_INGRESS };
	bool icmp = t->proto == IPPROTO_ICMP || t->proto == IPPROTO_ICMPV6;

	for (unsigned int i = 0; i < 2; i++) {
		struct policy_answer said = {};
		char name[320];

		if (!slots_get(an->a->slots, ends[i].slot) ||
		    policy_explain(an->a->policy, ends[i].slot, dirs[i], &ends[!i], t->proto,
				   icmp ? 0 : ntohs(t->dport), &said) ||
		    !said.policy || (*an->q->ns && strcmp(said.policy_ns, an->q->ns)))
			continue;
		snprintf(name, sizeof(name), "%.63s/%.253s", said.policy_ns, said.policy);
		struct by_policy *by = policy_take(p, name);
		if (!by)
			continue;
		counts_merge(&by->counts, &f->counts);
		by->flows++;
	}
}

static void policy_items(struct answer *an, json_t *reply)
{
	struct policies p = {};
	uint64_t seen = 0, all;
	const char *key;
	json_t *entry;

	for (size_t i = 0; i < an->w->n_flows; i++) {
		const struct walk_counts *c = &an->w->flows[i].counts;

		policies_add(an, &p, &an->w->flows[i]);
		seen += an->seconds > 0 ? c->new_packets : c->packets[0] + c->packets[1];
	}
	json_object_foreach((json_t *)an->drops, key, entry)
		if (!*an->q->ns ||
		    (!strncmp(key, an->q->ns, strlen(an->q->ns)) && key[strlen(an->q->ns)] == '/'))
			policy_take(&p, key);
	for (size_t i = 0; i < p.n; i++) {
		const char *slash = strchr(p.v[i].name, '/');
		json_t *item = json_pack("{s:s%, s:s, s:I}", "namespace", p.v[i].name,
					 (size_t)(slash - p.v[i].name), "name", slash + 1, "flows",
					 (json_int_t)p.v[i].flows);

		set_values(an, item, &p.v[i].counts, drops_of(an, p.v[i].name));
		json_array_append_new(an->items, item);
	}
	free(p.v);
	all = an->seconds > 0 ? an->w->all.new_packets
			      : an->w->all.packets[0] + an->w->all.packets[1];
	json_object_set_new(reply, "share", json_real(all ? (double)seen / (double)all : 1));
}

/* ---- order ------------------------------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b, void *arg)
{
	static const char *const rates[] = { "packets_s", "bytes_s", "drops_s" };
	static const char *const totals[] = { "packets", "bytes", "drops" };
	const struct answer *an = arg;
	const char *const *keys[] = { rates, totals };

	/* Among those that rest, what they did before. */
	for (unsigned int i = 0; i < 2; i++) {
		const char *key = keys[i][an->q->sort];
		double x = json_number_value(json_object_get(*(json_t *const *)a, key));
		double y = json_number_value(json_object_get(*(json_t *const *)b, key));

		if (x < y || x > y)
			return x < y ? 1 : -1;
	}
	return 0;
}

static json_t *items_sorted(struct answer *an)
{
	size_t n = json_array_size(an->items), i;
	json_t **v = calloc(n + 1, sizeof(json_t *)), *item, *out = v ? json_array() : NULL;

	if (out) {
		json_array_foreach(an->items, i, item)
			v[i] = item;
		qsort_r(v, n, sizeof(json_t *), by_value, an);
		for (i = 0; i < n && i < an->q->n; i++)
			json_array_append(out, v[i]);
	}
	free(v);
	json_decref(an->items);
	return out;
}

json_t *top_answer(struct agent *a, const struct top_query *q, const struct walk *w,
		   const struct top_drops *drops, double seconds)
{
	struct answer an = {
		.a = a,
		.q = q,
		.w = w,
		.drops = drops ? top_drops_by(drops, q->what) : NULL,
		.seconds = w->before ? seconds : 0,
		.items = json_array(),
	};
	json_t *reply = json_object();

	if (q->what == TOP_ENDPOINTS)
		endpoint_items(&an);
	else if (q->what == TOP_POLICIES)
		policy_items(&an, reply);
	else if (q->sort == TOP_DROPS)
		dropped_items(&an);
	else
		for (size_t i = 0; i < w->n_flows; i++)
			flow_item(&an, &w->flows[i]);
	json_object_set_new(reply, "seconds", json_real(an.seconds));
	json_object_set_new(reply, "flows", json_integer((json_int_t)w->total));
	json_object_set_new(reply, "packets_s", json_real(rate(&an, w->all.new_packets)));
	json_object_set_new(reply, "bytes_s", json_real(rate(&an, w->all.new_bytes)));
	if (json_object_set_new(reply, "items", items_sorted(&an))) {
		json_decref(reply);
		return NULL;
	}
	return reply;
}
