/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Questions about the state in force. policy_explain() evaluates the objects themselves, rule
 * by rule, and shares nothing with what was compiled from them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/words.h"

static bool is_zero(const union tw_addr *addr)
{
	return !addr->quad[0] && !addr->quad[1];
}

static const struct subject *ep_subject(const struct policy *p, uint32_t slot)
{
	return slot < p->n_eps && p->eps[slot] ? p->eps[slot]->subject[CUR] : NULL;
}

static const struct subject *addr_subject(const struct policy *p, const union tw_addr *addr)
{
	const struct node *n = tree_lookup(p, addr);
	const struct unit *u = n && n->prefix.len == 128 ? node_winner(n, CUR) : NULL;

	/* Inside of reserved prefixes only endpoints are known. */
	return u && (u->subject->ep || !is_reserved(p, &n->prefix)) ? u->subject : NULL;
}

static struct rule_peer peer_of(const struct policy *p, const struct policy_end *end)
{
	struct rule_peer peer = { .addr = &end->addr };

	peer.subject = end->slot ? ep_subject(p, end->slot) : addr_subject(p, &end->addr);
	if (is_zero(&end->addr) && peer.subject && peer.subject->ep &&
	    peer.subject->ep->own[CUR]->n_addrs)
		peer.addr = &peer.subject->ep->own[CUR]->addr[0];
	return peer;
}

static bool peer_in_block(const struct policy_peer *rule, const struct rule_peer *peer)
{
	if (!prefix_contains(&rule->cidr, peer->addr))
		return false;
	for (size_t i = 0; i < rule->n_except; i++)
		if (prefix_contains(&rule->except[i], peer->addr))
			return false;
	return true;
}

static bool peer_matches(const struct pol *pol, const struct policy_peer *rule,
			 const struct rule_peer *peer)
{
	const struct subject *s = peer->subject;

	if (rule->has_block)
		return peer_in_block(rule, peer);
	if (!s)
		return false;
	if (rule->has_namespace ? !selector_match(&rule->ns, space_labels(s->space, CUR))
				: s->space != pol->space)
		return false;
	return !rule->has_pod || selector_match(&rule->pod, s->view[CUR].labels);
}

static bool port_matches(const struct policy_port *rule, const struct subject *receiver,
			 uint8_t proto, uint16_t port)
{
	if (rule->proto != proto)
		return false;
	if (rule->name)
		return receiver && port &&
		       port_resolve(&receiver->view[CUR], proto, rule->name) == port;
	return rule->any || (port >= rule->first && port <= rule->last);
}

static bool rule_matches(const struct pol *pol, const struct policy_rule *rule,
			 const struct rule_peer *peer, const struct subject *receiver,
			 uint8_t proto, uint16_t port)
{
	bool peers = !rule->n_peers, ports = !rule->n_ports;

	for (size_t i = 0; i < rule->n_peers && !peers; i++)
		peers = peer_matches(pol, &rule->peers[i], peer);
	for (size_t i = 0; i < rule->n_ports && !ports; i++)
		ports = port_matches(&rule->ports[i], receiver, proto, port);
	return peers && ports;
}

static int pol_order(const void *a, const void *b)
{
	const struct pol *const *x = a, *const *y = b;

	return strcmp((*x)->obj[CUR]->name, (*y)->obj[CUR]->name);
}

/* The policies that select the endpoint for the direction, by name. */
static int selecting(const struct subject *self, enum tw_direction dir, struct vec *out)
{
	int err = 0;

	for (uint32_t i = 0; i < self->space->policies.n && !err; i++) {
		struct pol *pol = self->space->policies.v[i];
		const struct object *obj = pol->obj[CUR];

		if (obj && (dir == TW_INGRESS ? obj->policy.ingress : obj->policy.egress) &&
		    selector_match(&obj->policy.pods, self->view[CUR].labels))
			err = vec_push(out, pol);
	}
	if (!err && out->n)
		qsort(out->v, out->n, sizeof(*out->v), pol_order);
	return err;
}

static void list_policies(const struct vec *pols, char *buf, size_t len)
{
	size_t n = 0;

	buf[0] = 0;
	for (uint32_t i = 0; i < pols->n && n < len; i++) {
		const struct pol *pol = pols->v[i];

		n += (size_t)snprintf(buf + n, len - n, "%s%s/%s", i ? ", " : "", pol->obj[CUR]->ns,
				      pol->obj[CUR]->name);
	}
	if (n >= len) /* the last bytes say that there are more */
		memcpy(buf + len - 4, "...", 4);
}

int policy_explain(const struct policy *p, uint32_t slot, enum tw_direction dir,
		   const struct policy_end *peer, uint8_t proto, uint16_t port,
		   struct policy_answer *out)
{
	const struct subject *self = ep_subject(p, slot);
	const struct rule_peer other = peer_of(p, peer);
	const struct subject *receiver = dir == TW_INGRESS ? self : other.subject;
	struct vec pols = {};
	int err = self ? selecting(self, dir, &pols) : -ENOENT;

	if (!err) {
		*out = (struct policy_answer){ .isolated = pols.n, .rule = -1 };
		/* A node reaches its own pods and is reached by them, whatever rules say. */
		out->allow = !pols.n || peer->is_host;
		list_policies(&pols, out->selected_by, sizeof(out->selected_by));
	}
	for (uint32_t i = 0; !err && i < pols.n && !out->allow; i++) {
		const struct pol *pol = pols.v[i];
		const struct network_policy *np = &pol->obj[CUR]->policy;
		const struct policy_rule *rules = dir == TW_INGRESS ? np->in : np->out;
		size_t n = dir == TW_INGRESS ? np->n_in : np->n_out;

		for (size_t j = 0; j < n && !out->allow; j++) {
			if (!rule_matches(pol, &rules[j], &other, receiver, proto, port))
				continue;
			out->allow = true;
			out->policy_ns = pol->obj[CUR]->ns;
			out->policy = pol->obj[CUR]->name;
			out->rule = (int)j;
		}
	}
	vec_clear(&pols);
	return err;
}

/* ---- rule by rule ------------------------------------------------------------------------------ */

static uint32_t selector_gap(const struct selector *sel, const struct labels *labels)
{
	uint32_t gap = 0;

	for (size_t i = 0; i < sel->n; i++)
		gap += !selector_match(&(const struct selector){ &sel->v[i], 1 }, labels);
	return gap;
}

/* How much must be changed for the peer to match: labels count one, other kinds of peers more. */
static uint32_t peer_gap(const struct pol *pol, const struct policy_peer *rule,
			 const struct rule_peer *peer)
{
	const struct subject *s = peer->subject;
	uint32_t gap = 0;

	if (peer_matches(pol, rule, peer))
		return 0;
	if (rule->has_block)
		return prefix_contains(&rule->cidr, peer->addr) ? 5 : 8;
	if (!s)
		return 12;
	if (rule->has_namespace)
		gap += selector_gap(&rule->ns, space_labels(s->space, CUR));
	else if (s->space != pol->space)
		gap += 4;
	if (rule->has_pod)
		gap += selector_gap(&rule->pod, s->view[CUR].labels);
	return gap;
}

static uint32_t port_gap(const struct policy_port *rule, const struct subject *receiver,
			 uint8_t proto, uint16_t port)
{
	if (port_matches(rule, receiver, proto, port))
		return 0;
	return rule->proto != proto ? 4 : rule->name ? 3 : 2;
}

static void rule_judge(const struct pol *pol, const struct policy_rule *rule,
		       const struct rule_peer *peer, const struct subject *receiver, uint8_t proto,
		       uint16_t port, struct policy_rule_answer *out)
{
	uint32_t peers = rule->n_peers ? UINT32_MAX : 0, ports = rule->n_ports ? UINT32_MAX : 0;

	for (size_t i = 0; i < rule->n_peers && peers; i++) {
		uint32_t gap = peer_gap(pol, &rule->peers[i], peer);

		if (gap < peers) {
			peers = gap;
			out->nearest_peer = i;
		}
	}
	for (size_t i = 0; i < rule->n_ports && ports; i++) {
		uint32_t gap = port_gap(&rule->ports[i], receiver, proto, port);

		ports = gap < ports ? gap : ports;
	}
	out->peer = !peers;
	out->port = !ports;
	out->gap = peers + ports;
}

static int pol_judge(const struct pol *pol, enum tw_direction dir, const struct rule_peer *peer,
		     const struct subject *receiver, uint8_t proto, uint16_t port,
		     int (*fn)(void *arg, const struct policy_rule_answer *rule), void *arg)
{
	const struct network_policy *np = &pol->obj[CUR]->policy;
	size_t n = dir == TW_INGRESS ? np->n_in : np->n_out;
	struct policy_rule_answer none = {
		.policy = pol->obj[CUR], .dir = dir, .rule = -1, .gap = UINT32_MAX
	};
	int res = n ? 0 : fn(arg, &none);

	for (size_t i = 0; i < n && !res; i++) {
		struct policy_rule_answer r = {
			.policy = pol->obj[CUR],
			.dir = dir,
			.rule = (int)i,
			.proto = proto,
			.port_number = port,
			.seen = peer,
			.receiver = receiver,
		};

		rule_judge(pol, policy_rule_at(pol->obj[CUR], dir, i), peer, receiver, proto, port,
			   &r);
		res = fn(arg, &r);
	}
	return res;
}

int policy_rules_each(const struct policy *p, uint32_t slot, enum tw_direction dir,
		      const struct policy_end *peer, uint8_t proto, uint16_t port,
		      int (*fn)(void *arg, const struct policy_rule_answer *rule), void *arg)
{
	const struct subject *self = ep_subject(p, slot);
	const struct rule_peer other = peer_of(p, peer);
	const struct subject *receiver = dir == TW_INGRESS ? self : other.subject;
	struct vec pols = {};
	int res = self ? selecting(self, dir, &pols) : -ENOENT;

	for (uint32_t i = 0; !res && i < pols.n; i++)
		res = pol_judge(pols.v[i], dir, &other, receiver, proto, port, fn, arg);
	vec_clear(&pols);
	return res;
}

uint32_t policy_selected(const struct policy *p, const char *ns, const char *name)
{
	struct hkey key = name_key(p, OBJECT_NETWORKPOLICY, ns, name);
	const struct pol *pol = table_get(&p->pols, &key);

	return pol && pol->select[CUR] ? pol->select[CUR]->subjects.n : 0;
}

const char *policy_addr_name(const struct policy *p, const union tw_addr *addr)
{
	const struct subject *s = addr_subject(p, addr);

	return s ? s->pod->name : "";
}
