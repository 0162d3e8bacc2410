/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Rules as sentences: selectors as kubectl writes them, and what a peer or a port lacks. */
#include "policy/words.h"

#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct words { /* text that is cut where its buffer ends */
	char *buf;
	size_t n, len;
};

__attribute__((format(printf, 2, 3))) static void say(struct words *w, const char *format, ...)
{
	va_list args;

	if (w->n >= w->len)
		return;
	va_start(args, format);
	int n = vsnprintf(w->buf + w->n, w->len - w->n, format, args);

	va_end(args);
	w->n += n > 0 ? (size_t)n : 0;
	if (w->n >= w->len && w->len > 3)
		memcpy(w->buf + w->len - 4, "...", 4);
}

static void say_values(struct words *w, const struct selector_term *t)
{
	for (size_t i = 0; i < t->n_values; i++)
		say(w, "%s%s", i ? "," : "", t->values[i]);
}

static void say_term(struct words *w, const struct selector_term *t)
{
	switch (t->op) {
	case SELECTOR_EXISTS:
		say(w, "%s", t->key);
		return;
	case SELECTOR_NOT_EXISTS:
		say(w, "!%s", t->key);
		return;
	case SELECTOR_IN:
	case SELECTOR_NOT_IN:
		break;
	}
	if (t->n_values == 1) {
		say(w, "%s%s%s", t->key, t->op == SELECTOR_IN ? "=" : "!=", t->values[0]);
		return;
	}
	say(w, "%s %s (", t->key, t->op == SELECTOR_IN ? "in" : "notin");
	say_values(w, t);
	say(w, ")");
}

static void say_selector(struct words *w, const struct selector *sel)
{
	for (size_t i = 0; i < sel->n; i++) {
		say(w, "%s", i ? "," : "");
		say_term(w, &sel->v[i]);
	}
}

static void say_block(struct words *w, const struct policy_peer *peer)
{
	char text[64];

	prefix_format(&peer->cidr, text, sizeof(text));
	say(w, "%s", text);
	for (size_t i = 0; i < peer->n_except; i++) {
		prefix_format(&peer->except[i], text, sizeof(text));
		say(w, "%s%s", i ? ", " : " except ", text);
	}
}

static void say_peer(struct words *w, const char *ns, const struct policy_peer *peer)
{
	if (peer->has_block) {
		say_block(w, peer);
		return;
	}
	if (peer->has_pod && peer->pod.n) {
		say(w, "pods ");
		say_selector(w, &peer->pod);
	} else {
		say(w, "all pods");
	}
	if (!peer->has_namespace) {
		say(w, " in namespace %s", ns);
	} else if (peer->ns.n) {
		say(w, " in namespaces ");
		say_selector(w, &peer->ns);
	} else {
		say(w, " in every namespace");
	}
}

static const char *proto_name(uint8_t proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return "TCP";
	case IPPROTO_UDP:
		return "UDP";
	case IPPROTO_SCTP:
		return "SCTP";
	default:
		return "ICMP";
	}
}

static void say_port(struct words *w, const struct policy_port *port)
{
	if (port->name)
		say(w, "%s/%s", port->name, proto_name(port->proto));
	else if (port->any)
		say(w, "every %s port", proto_name(port->proto));
	else if (port->first != port->last)
		say(w, "%u-%u/%s", port->first, port->last, proto_name(port->proto));
	else
		say(w, "%u/%s", port->first, proto_name(port->proto));
}

static void say_ports(struct words *w, const struct policy_rule *rule)
{
	for (size_t i = 0; i < rule->n_ports; i++) {
		say(w, "%s", i ? ", " : "");
		say_port(w, &rule->ports[i]);
	}
}

static const char *preposition(enum tw_direction dir)
{
	return dir == TW_INGRESS ? "from" : "to";
}

const struct policy_rule *policy_rule_at(const struct object *policy, enum tw_direction dir,
					 size_t index)
{
	return dir == TW_INGRESS ? &policy->policy.in[index] : &policy->policy.out[index];
}

void policy_rule_text(const struct object *policy, enum tw_direction dir, size_t index, char *buf,
		      size_t len)
{
	const struct policy_rule *rule = policy_rule_at(policy, dir, index);
	struct words w = { .buf = buf, .len = len };
	bool plural = rule->n_ports > 1;

	say(&w, "%s %s", preposition(dir), rule->n_peers ? "" : "everywhere");
	for (size_t i = 0; i < rule->n_peers; i++) {
		say(&w, "%s", i ? " or " : "");
		say_peer(&w, policy->ns, &rule->peers[i]);
	}
	if (!rule->n_ports) {
		say(&w, ", every port");
		return;
	}
	/* "every TCP port" needs no word before it. */
	say(&w, "%s",
	    rule->ports[0].any && !rule->ports[0].name ? ", "
	    : plural				       ? ", ports "
						       : ", port ");
	say_ports(&w, rule);
}

/* ---- what is missing -------------------------------------------------------------------------- */

static void say_unmet(struct words *w, const struct selector_term *t, const struct labels *labels)
{
	const char *has = labels_get(labels, t->key);

	switch (t->op) {
	case SELECTOR_IN:
		say(w, "lacks the label ");
		say_term(w, t);
		if (has)
			say(w, " (it has %s=%s)", t->key, has);
		return;
	case SELECTOR_EXISTS:
		say(w, "lacks the label %s", t->key);
		return;
	case SELECTOR_NOT_IN:
	case SELECTOR_NOT_EXISTS:
		say(w, "has the label %s=%s", t->key, has ? has : "");
		return;
	}
}

/* The terms that do not hold, after `who`. True: there was one. */
static bool say_lacks(struct words *w, const char *before, const char *who,
		      const struct selector *sel, const struct labels *labels)
{
	bool any = false;

	for (size_t i = 0; i < sel->n; i++) {
		if (selector_match(&(const struct selector){ &sel->v[i], 1 }, labels))
			continue;
		say(w, "%s", any ? " and " : before);
		if (!any)
			say(w, "%s", who);
		say_unmet(w, &sel->v[i], labels);
		any = true;
	}
	return any;
}

static void say_peer_gap(struct words *w, const char *ns, const struct policy_peer *rule,
			 const struct rule_peer *peer)
{
	const struct subject *s = peer->subject;
	const char *before = "; ", *who = "the peer ";
	char addr[64], text[64];

	if (rule->has_block) {
		addr_format(peer->addr, addr, sizeof(addr));
		prefix_format(&rule->cidr, text, sizeof(text));
		if (!prefix_contains(&rule->cidr, peer->addr)) {
			say(w, "; the peer's address %s is not in %s", addr, text);
			return;
		}
		for (size_t i = 0; i < rule->n_except; i++)
			if (prefix_contains(&rule->except[i], peer->addr))
				prefix_format(&rule->except[i], text, sizeof(text));
		say(w, "; the peer's address %s is in the exception %s", addr, text);
		return;
	}
	if (!s) {
		say(w, "; the peer is no pod that is known");
		return;
	}
	if (!rule->has_namespace && strcmp(s->space->name, ns)) {
		say(w, "; the peer is in namespace %s", s->space->name);
		before = " and ";
		who = "";
	}
	if (rule->has_namespace &&
	    say_lacks(w, before, "the peer's namespace ", &rule->ns, space_labels(s->space, CUR)))
		before = " and ";
	if (rule->has_pod)
		say_lacks(w, before, who, &rule->pod, s->view[CUR].labels);
}

static void say_asked(struct words *w, const struct policy_rule_answer *r)
{
	if (r->proto == IPPROTO_TCP || r->proto == IPPROTO_UDP || r->proto == IPPROTO_SCTP)
		say(w, "the port is %u/%s", r->port_number, proto_name(r->proto));
	else
		say(w, "the protocol is %s", proto_name(r->proto));
}

/* Named ports that are asked for by name only say little without their number. */
static void say_port_gap(struct words *w, const char *before, const struct policy_rule *rule,
			 const struct policy_rule_answer *r)
{
	say(w, "%s", before);
	say_asked(w, r);
	for (size_t i = 0; i < rule->n_ports; i++) {
		const struct policy_port *port = &rule->ports[i];
		uint16_t number = 0;

		if (!port->name)
			continue;
		if (r->receiver)
			number = port_resolve(&r->receiver->view[CUR], port->proto, port->name);
		if (number)
			say(w, ", and %s is %u there", port->name, number);
		else
			say(w, ", and the receiver has no %s port %s", proto_name(port->proto),
			    port->name);
	}
}

void policy_lack_text(const struct policy_rule_answer *r, char *buf, size_t len)
{
	struct words w = { .buf = buf, .len = len };
	const char *dir = r->dir == TW_INGRESS ? "ingress" : "egress";

	if (r->rule < 0) {
		say(&w, "%s/%s has no rule for %s", r->policy->ns, r->policy->name, dir);
		return;
	}
	const struct policy_rule *rule = policy_rule_at(r->policy, r->dir, (size_t)r->rule);

	say(&w, "rule %d of %s/%s allows ", r->rule, r->policy->ns, r->policy->name);
	if (r->peer) {
		say(&w, "this peer on ");
		say_ports(&w, rule);
		say_port_gap(&w, "; ", rule, r);
		return;
	}
	if (r->port)
		say(&w, "this port");
	else
		say_ports(&w, rule);
	say(&w, " %s ", preposition(r->dir));
	say_peer(&w, r->policy->ns, &rule->peers[r->nearest_peer]);
	say_peer_gap(&w, r->policy->ns, &rule->peers[r->nearest_peer], r->seen);
	if (!r->port)
		say_port_gap(&w, ", and ", rule, r);
}
