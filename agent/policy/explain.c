/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Questions about the state in force. policy_explain() evaluates the objects themselves, rule
 * by rule, and shares nothing with what was compiled from them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/internal.h"

/* The other end, as rules see it. */
struct peer {
	const struct subject *subject; /* NULL: no pod */
	const union tw_addr *addr;
};

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

static struct peer peer_of(const struct policy *p, const struct policy_end *end)
{
	struct peer peer = { .addr = &end->addr };

	peer.subject = end->slot ? ep_subject(p, end->slot) : addr_subject(p, &end->addr);
	if (is_zero(&end->addr) && peer.subject && peer.subject->ep &&
	    peer.subject->ep->own[CUR]->n_addrs)
		peer.addr = &peer.subject->ep->own[CUR]->addr[0];
	return peer;
}

static bool peer_in_block(const struct policy_peer *rule, const struct peer *peer)
{
	if (!prefix_contains(&rule->cidr, peer->addr))
		return false;
	for (size_t i = 0; i < rule->n_except; i++)
		if (prefix_contains(&rule->except[i], peer->addr))
			return false;
	return true;
}

static bool peer_matches(const struct pol *pol, const struct policy_peer *rule,
			 const struct peer *peer)
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
			 const struct peer *peer, const struct subject *receiver, uint8_t proto,
			 uint16_t port)
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
	const struct peer other = peer_of(p, peer);
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

const char *policy_addr_name(const struct policy *p, const union tw_addr *addr)
{
	const struct subject *s = addr_subject(p, addr);

	return s ? s->pod->name : "";
}

/* ---- counts --------------------------------------------------------------------------------- */

static uint32_t count_words(const struct node *n)
{
	if (!n)
		return 0;
	return !!n->word + count_words(n->child[0]) + count_words(n->child[1]);
}

void policy_stats_get(const struct policy *p, struct policy_stats *out)
{
	const struct pod_entry *pod;
	const struct space *space;
	const struct set *set;
	struct policy_stats res = {
		.policies = p->pols.n,
		.identities = p->identities.n,
		.sets = p->sets.n,
		.versions = p->versions.n,
		.atoms = p->atoms.n,
		.prefixes = count_words(p->root[0]) + count_words(p->root[1]),
	};

	for (uint32_t i = 0; (pod = table_next(&p->pods, &i));)
		res.pods += !!pod->obj[CUR];
	for (uint32_t i = 0; (space = table_next(&p->spaces, &i));)
		res.namespaces += !!space->obj[CUR];
	for (uint32_t i = 0; (set = table_next(&p->sets, &i));)
		res.peers += set->members.cur;
	for (uint32_t i = 0; i < p->n_eps; i++)
		res.endpoints += p->eps[i] && p->eps[i]->subject[CUR];
	*out = res;
}

/* ---- identities ----------------------------------------------------------------------------- */

struct tally {
	struct hkey key; /* of the identity */
	uint32_t id;
	uint32_t addrs;
	uint32_t more; /* addresses that found no room in `what` */
	size_t len;
	char what[192];
};

struct census {
	struct table tallies;
	struct arena mem;
};

/* A pod with an address of each family comes twice; names have no comma in them. */
static bool tally_has(const struct tally *t, const char *name, size_t len)
{
	for (const char *p = t->what; *p; p += strspn(p, ", ")) {
		size_t n = strcspn(p, ",");

		if (n == len && !memcmp(p, name, len))
			return true;
		p += n;
	}
	return false;
}

static int census_add(struct census *c, const struct identity *id, const char *name)
{
	struct tally *t = table_get(&c->tallies, &id->key);
	size_t len = strlen(name);

	if (!t) {
		t = arena_alloc(&c->mem, sizeof(*t));
		if (!t)
			return -ENOMEM;
		t->key = id->key;
		t->id = id->id;
		if (table_put(&c->tallies, t))
			return -ENOMEM;
	}
	t->addrs++;
	if (tally_has(t, name, len))
		return 0;
	if (t->more || t->len + len + 2 > sizeof(t->what) - 24) {
		t->more++;
		return 0;
	}
	t->len += (size_t)snprintf(t->what + t->len, sizeof(t->what) - t->len, "%s%s",
				   t->len ? ", " : "", name);
	return 0;
}

static int census_node(struct census *c, const struct node *n)
{
	char text[64];
	int err = 0;

	if (!n)
		return 0;
	for (const struct unit *u = n->units; u && !err; u = u->next)
		if (u->holder.id[CUR])
			err = census_add(c, u->holder.id[CUR], u->subject->pod->name);
	if (!err && n->world.id[CUR] && n->world.id[CUR]->id != TW_ID_WORLD) {
		prefix_format(&n->prefix, text, sizeof(text));
		err = census_add(c, n->world.id[CUR], text);
	}
	for (unsigned int i = 0; i < 2 && !err; i++)
		err = census_node(c, n->child[i]);
	return err;
}

static int tally_order(const void *a, const void *b)
{
	const struct tally *const *x = a, *const *y = b;

	return (*x)->id<(*y)->id ? -1 : (*x)->id>(*y)->id;
}

static int census_report(const struct census *c,
			 int (*fn)(void *arg, uint32_t identity, const char *what, uint32_t addrs),
			 void *arg)
{
	struct vec sorted = {};
	struct tally *t;
	int err = 0;

	for (uint32_t i = 0; !err && (t = table_next(&c->tallies, &i));)
		err = vec_push(&sorted, t);
	if (!err && sorted.n)
		qsort(sorted.v, sorted.n, sizeof(*sorted.v), tally_order);
	for (uint32_t i = 0; i < sorted.n && !err; i++) {
		t = sorted.v[i];
		if (t->more)
			snprintf(t->what + t->len, sizeof(t->what) - t->len, " and %u more",
				 t->more);
		err = fn(arg, t->id, t->what, t->addrs);
	}
	vec_clear(&sorted);
	return err;
}

int policy_identity_each(const struct policy *p,
			 int (*fn)(void *arg, uint32_t identity, const char *what, uint32_t addrs),
			 void *arg)
{
	struct census c = {};
	int err = census_node(&c, p->root[0]);

	if (!err)
		err = census_node(&c, p->root[1]);
	if (!err)
		err = census_report(&c, fn, arg);
	table_clear(&c.tallies);
	arena_clear(&c.mem);
	return err;
}
