/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "policy_model.h"

#include <string.h>

/* A pod in the eyes of a policy: its namespace, labels, named ports. */
struct who {
	bool is_pod;
	const char *ns;
	const struct labels *labels;
	const struct object *object; /* NULL: none */
};

static const struct labels nothing;

static const struct object *find(const struct model *m, enum object_kind kind, const char *ns,
				 const char *name)
{
	for (size_t i = 0; i < m->n_objects; i++) {
		const struct object *o = m->objects[i];

		if (o->kind == kind && !strcmp(o->ns, ns) && !strcmp(o->name, name))
			return o;
	}
	return NULL;
}

static struct who who_is_endpoint(const struct model *m, const struct model_ep *ep)
{
	struct who who = { .is_pod = true, .ns = ep->ns };

	who.object = find(m, OBJECT_POD, ep->ns, ep->pod);
	who.labels = who.object ? &who.object->labels : ep->labels ? ep->labels : &nothing;
	return who;
}

static bool same(const union tw_addr *a, const union tw_addr *b)
{
	return !memcmp(a, b, sizeof(*a));
}

static bool reserved(const struct model *m, const union tw_addr *addr)
{
	for (size_t i = 0; i < m->n_reserved; i++)
		if (prefix_contains(&m->reserved[i], addr))
			return true;
	return false;
}

/* Endpoints first; of several pods that claim an address the first by "ns/name". */
static struct who who_has(const struct model *m, const union tw_addr *addr)
{
	const struct object *best = NULL;
	struct who who = {};

	for (uint32_t i = 0; i < m->n_eps; i++)
		if (m->eps[i].live &&
		    (same(&m->eps[i].addr4, addr) || same(&m->eps[i].addr6, addr)))
			return who_is_endpoint(m, &m->eps[i]);
	if (reserved(m, addr))
		return who;
	for (size_t i = 0; i < m->n_objects; i++) {
		const struct object *o = m->objects[i];
		char a[600], b[600];

		if (o->kind != OBJECT_POD || o->pod.host_network)
			continue;
		for (size_t j = 0; j < o->pod.n_addrs; j++) {
			if (!same(&o->pod.addrs[j], addr))
				continue;
			strcat(strcat(strcpy(a, o->ns), "/"), o->name);
			if (best)
				strcat(strcat(strcpy(b, best->ns), "/"), best->name);
			if (!best || strcmp(a, b) < 0)
				best = o;
		}
	}
	if (best)
		who = (struct who){ true, best->ns, &best->labels, best };
	return who;
}

static bool requirement(const struct selector_term *t, const struct labels *labels)
{
	const char *value = NULL;
	bool listed = false;

	for (size_t i = 0; i < labels->n; i++)
		if (!strcmp(labels->v[i].key, t->key))
			value = labels->v[i].value;
	for (size_t i = 0; value && i < t->n_values; i++)
		if (!strcmp(t->values[i], value))
			listed = true;
	switch (t->op) {
	case SELECTOR_IN:
		return listed;
	case SELECTOR_NOT_IN:
		return !listed;
	case SELECTOR_EXISTS:
		return value != NULL;
	default:
		return value == NULL;
	}
}

static bool selects(const struct selector *s, const struct labels *labels)
{
	size_t held = 0;

	for (size_t i = 0; i < s->n; i++)
		held += requirement(&s->v[i], labels);
	return held == s->n;
}

static bool namespace_selected(const struct model *m, const struct selector *s, const char *ns)
{
	const struct object *o = find(m, OBJECT_NAMESPACE, "", ns);
	char key[] = "kubernetes.io/metadata.name";
	struct label own = { key, (char *)(uintptr_t)ns };
	const struct labels implied = { &own, 1 };

	return selects(s, o ? &o->labels : &implied);
}

static bool in_block(const struct policy_peer *peer, const union tw_addr *addr)
{
	for (size_t i = 0; i < peer->n_except; i++)
		if (prefix_contains(&peer->except[i], addr))
			return false;
	return prefix_contains(&peer->cidr, addr);
}

static bool peer_selected(const struct model *m, const struct policy_peer *peer, const char *ns,
			  const struct who *who, const union tw_addr *addr)
{
	if (peer->has_block)
		return in_block(peer, addr);
	if (!who->is_pod)
		return false;
	if (peer->has_namespace) {
		if (!namespace_selected(m, &peer->ns, who->ns))
			return false;
	} else if (strcmp(who->ns, ns)) {
		return false;
	}
	return !peer->has_pod || selects(&peer->pod, who->labels);
}

/* `receiver` is whose container ports a name means. */
static bool port_selected(const struct policy_port *rule, const struct who *receiver, uint8_t proto,
			  uint16_t port)
{
	if (rule->proto != proto)
		return false;
	if (rule->any)
		return true;
	if (!rule->name)
		return rule->first <= port && port <= rule->last;
	if (!receiver->is_pod || !receiver->object)
		return false;
	for (size_t i = 0; i < receiver->object->pod.n_ports; i++) {
		const struct pod_port *p = &receiver->object->pod.ports[i];

		if (p->name && p->proto == proto && !strcmp(p->name, rule->name))
			return p->port == port;
	}
	return false;
}

bool model_allows(const struct model *self, const struct model *others, uint32_t slot,
		  enum tw_direction dir, const union tw_addr *peer, uint8_t proto, uint16_t port)
{
	const struct who me = who_is_endpoint(self, &self->eps[slot]);
	const struct who who = who_has(others, peer);
	bool isolated = false;

	for (size_t i = 0; i < self->n_objects; i++) {
		const struct object *o = self->objects[i];
		const struct network_policy *np = &o->policy;
		const struct policy_rule *rules;
		size_t n;

		if (o->kind != OBJECT_NETWORKPOLICY || strcmp(o->ns, me.ns) ||
		    !selects(&np->pods, me.labels))
			continue;
		if (dir == TW_INGRESS ? !np->ingress : !np->egress)
			continue;
		isolated = true;
		rules = dir == TW_INGRESS ? np->in : np->out;
		n = dir == TW_INGRESS ? np->n_in : np->n_out;
		for (size_t j = 0; j < n; j++) {
			bool from = rules[j].n_peers == 0, on = rules[j].n_ports == 0;

			for (size_t k = 0; k < rules[j].n_peers; k++)
				from |= peer_selected(others, &rules[j].peers[k], o->ns, &who,
						      peer);
			for (size_t k = 0; k < rules[j].n_ports; k++)
				on |= port_selected(&rules[j].ports[k],
						    dir == TW_INGRESS ? &me : &who, proto, port);
			if (from && on)
				return true;
		}
	}
	return !isolated;
}

const struct object *model_pod_at(const struct model *m, const union tw_addr *addr)
{
	return who_has(m, addr).object;
}
