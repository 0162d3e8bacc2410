/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Random policies, pods, namespaces and endpoints, changed at random: the tables that the plans
 * make are held against the model after each change, and after each single write of a plan.
 * TW_SEED and TW_ROUNDS choose others than the usual.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>

#include "unit.h"

#include "policy_chance.h"
#include "policy_lab.h"
#include "policy_model.h"

#define N_PODS (CHANCE_NS * CHANCE_PODS)
#define N_POLICIES 10
#define N_SLOTS 6
#define MAX_OBJECTS (CHANCE_NS + N_PODS + N_POLICIES)
#define SHARDS 6 /* histories, each from an empty state */

#define MAX_PEERS (COUNT(chance_pods) + COUNT(chance_world) + 2 * N_SLOTS)

/* ---- a state and its model ------------------------------------------------------------------ */

struct state {
	struct object *objects[MAX_OBJECTS]; /* namespaces, pods, policies; NULL: absent */
	struct model_ep eps[N_SLOTS];
	struct labels ep_labels[N_SLOTS];
	struct label ep_label[N_SLOTS];
	struct prefix reserved[2];
	size_t n_reserved;
	/* the model of it */
	const struct object *list[MAX_OBJECTS];
	struct model model;
};

static void state_model(struct state *s)
{
	size_t n = 0;

	for (size_t i = 0; i < MAX_OBJECTS; i++)
		if (s->objects[i])
			s->list[n++] = s->objects[i];
	for (uint32_t i = 0; i < N_SLOTS; i++)
		s->eps[i].labels = s->ep_labels[i].n ? &s->ep_labels[i] : NULL;
	for (uint32_t i = 0; i < N_SLOTS; i++)
		s->ep_labels[i].v = &s->ep_label[i];
	s->model = (struct model){ s->list, n, s->eps, N_SLOTS, s->reserved, s->n_reserved };
}

static union tw_addr addr_of(const char *text)
{
	union tw_addr addr;

	assert_int_equal(addr_parse(text, &addr), 0);
	return addr;
}

static struct object *random_object(uint32_t i)
{
#ifdef POLICY_EDIT_MIN
	if (i >= CHANCE_NS + N_PODS && rnd(8))
		return chance_plain_policy(i - CHANCE_NS - N_PODS);
#endif
	return i < CHANCE_NS		? chance_namespace(i)
	       : i < CHANCE_NS + N_PODS ? chance_pod(i - CHANCE_NS)
					: chance_policy(i - CHANCE_NS - N_PODS);
}

static void random_ep(struct state *s, uint32_t slot)
{
	struct model_ep *ep = &s->eps[slot];
	char text[64];

	*ep = (struct model_ep){ .live = true };
	strcpy(ep->ns, pick(chance_ns));
	snprintf(ep->pod, sizeof(ep->pod), "pod%u", rnd(CHANCE_PODS));
	snprintf(text, sizeof(text), "10.0.%u.%u", rnd(2), slot);
	if (rnd(5))
		ep->addr4 = addr_of(text);
	snprintf(text, sizeof(text), "fd00::1:%x", slot);
	if (rnd(5))
		ep->addr6 = addr_of(text);
	s->ep_labels[slot] = (struct labels){ &s->ep_label[slot], rnd(2) };
	s->ep_label[slot] = (struct label){ (char *)(uintptr_t)pick(chance_keys),
					    (char *)(uintptr_t)pick(chance_values) };
}

/* ---- one change ----------------------------------------------------------------------------- */

struct change {
	const struct object *upsert[MAX_OBJECTS], *remove[MAX_OBJECTS];
	struct policy_endpoint ep_upsert[N_SLOTS];
	uint32_t ep_remove[N_SLOTS];
	struct policy_change change;
};

static void change_object(struct state *s, const struct state *old, struct change *c)
{
	uint32_t i = rnd(MAX_OBJECTS);

	if (s->objects[i] != old->objects[i])
		return; /* once a change */
	if (s->objects[i] && !rnd(3)) {
		c->remove[c->change.n_remove++] = s->objects[i];
		s->objects[i] = NULL;
	} else {
		s->objects[i] = random_object(i);
		c->upsert[c->change.n_upsert++] = s->objects[i];
	}
}

static void change_ep(struct state *s, struct change *c, bool *done)
{
	uint32_t slot = 1 + rnd(N_SLOTS - 1);
	struct model_ep *ep = &s->eps[slot];

	if (done[slot])
		return;
	done[slot] = true;
	if (ep->live) {
		*ep = (struct model_ep){};
		c->ep_remove[c->change.n_ep_remove++] = slot;
		return;
	}
	random_ep(s, slot);
	c->ep_upsert[c->change.n_ep_upsert++] = (struct policy_endpoint){
		.slot = slot,
		.ns = ep->ns,
		.pod = ep->pod,
		.addr4 = ep->addr4,
		.addr6 = ep->addr6,
		.labels = s->ep_labels[slot].n ? &s->ep_labels[slot] : NULL,
	};
}

static void random_change(struct state *s, const struct state *old, struct change *c)
{
	bool done[N_SLOTS] = {};
	uint32_t n = rnd(8) ? 1 + rnd(4) : 1 + rnd(25);

	*c = (struct change){};
	for (uint32_t i = 0; i < n; i++) {
		if (rnd(6))
			change_object(s, old, c);
		else
			change_ep(s, c, done);
	}
	c->change.upsert = c->upsert;
	c->change.remove = c->remove;
	c->change.ep_upsert = c->ep_upsert;
	c->change.ep_remove = c->ep_remove;
}

/* ---- judging -------------------------------------------------------------------------------- */

struct checker {
	struct lab lab;
	struct policy *policy;
	const struct state *old, *new;
	union tw_addr peers[MAX_PEERS];
	size_t n_peers;
	/* what a packet may meet while the plan is written: bit 0 deny, bit 1 allow */
	uint8_t may[N_SLOTS][2][MAX_PEERS][COUNT(chance_probes)];
	unsigned int bumps[LAB_EPS]; /* epochs before the plan */
	uint64_t judged, between, bumped;
};

static bool is_ep_addr(const struct state *s, const union tw_addr *addr)
{
	for (uint32_t i = 0; i < N_SLOTS; i++)
		if (s->eps[i].live && (!memcmp(&s->eps[i].addr4, addr, sizeof(*addr)) ||
				       !memcmp(&s->eps[i].addr6, addr, sizeof(*addr))))
			return true;
	return false;
}

/* Addresses of reserved prefixes belong to other layers, unless an endpoint has them. */
static bool is_foreign(const struct state *s, const union tw_addr *addr)
{
	if (is_ep_addr(s, addr))
		return false;
	for (size_t i = 0; i < s->n_reserved; i++)
		if (prefix_contains(&s->reserved[i], addr))
			return true;
	return false;
}

static bool is_pod_addr(const struct state *s, const union tw_addr *addr)
{
	for (size_t i = 0; i < MAX_OBJECTS; i++) {
		const struct object *o = s->objects[i];

		if (!o || o->kind != OBJECT_POD || o->pod.host_network)
			continue;
		for (size_t j = 0; j < o->pod.n_addrs; j++)
			if (!memcmp(&o->pod.addrs[j], addr, sizeof(*addr)))
				return true;
	}
	return is_ep_addr(s, addr);
}

static void collect_peers(struct checker *c)
{
	char text[32];

	c->n_peers = 0;
	for (size_t i = 0; i < COUNT(chance_pods); i++)
		c->peers[c->n_peers++] = addr_of(chance_pods[i]);
	for (size_t i = 0; i < COUNT(chance_world); i++)
		c->peers[c->n_peers++] = addr_of(chance_world[i]);
	for (uint32_t slot = 1; slot < N_SLOTS; slot++) {
		snprintf(text, sizeof(text), "10.0.0.%u", slot);
		c->peers[c->n_peers++] = addr_of(text);
		snprintf(text, sizeof(text), "fd00::1:%x", slot);
		c->peers[c->n_peers++] = addr_of(text);
	}
}

static void judge_after(struct checker *c)
{
	const struct model *m = &c->new->model;

	for (uint32_t slot = 1; slot < N_SLOTS; slot++) {
		for (size_t i = 0; c->new->eps[slot].live &&i < c->n_peers; i++) {
			const union tw_addr *peer = &c->peers[i];

			if (is_foreign(c->new, peer))
				continue;
			for (size_t j = 0; j < 2 * COUNT(chance_probes); j++) {
				enum tw_direction dir = j & 1;
				uint8_t proto = chance_probes[j / 2].proto;
				uint16_t port = chance_probes[j / 2].port;
				bool want = model_allows(m, m, slot, dir, peer, proto, port);
				struct policy_answer answer;
				const struct policy_end end = { .addr = *peer };
				char text[64];

				addr_format(peer, text, sizeof(text));
				if (lab_allows(&c->lab, slot, dir, peer, proto, port) != want)
					fail_msg("slot %u %s %s %u/%u: want %d", slot,
						 dir ? "to" : "from", text, proto, port, want);
				assert_int_equal(policy_explain(c->policy, slot, dir, &end, proto,
								port, &answer),
						 0);
				if (answer.allow != want)
					fail_msg("explain: slot %u %s %s %u/%u: want %d", slot,
						 dir ? "to" : "from", text, proto, port, want);
				c->judged++;
			}
		}
	}
}

/*
 * Another pod at the address, with other named ports: the old version knows only the numbers
 * that names had when it was compiled.
 */
static bool ports_changed(const struct checker *c, const union tw_addr *addr)
{
	const struct object *a = model_pod_at(&c->old->model, addr);
	const struct object *b = model_pod_at(&c->new->model, addr);

	if (!a || !b || a->pod.n_ports != b->pod.n_ports)
		return (a && a->pod.n_ports) || (b && b->pod.n_ports);
	for (size_t i = 0; i < a->pod.n_ports; i++) {
		const struct pod_port *x = &a->pod.ports[i], *y = &b->pod.ports[i];

		if (x->port != y->port || x->proto != y->proto || strcmp(x->name, y->name))
			return true;
	}
	return false;
}

/* Rules old or new, and the peer seen as before or after: nothing else may happen. */
static void expect_between(struct checker *c)
{
	const struct model *models[] = { &c->old->model, &c->new->model };

	for (uint32_t slot = 1; slot < N_SLOTS; slot++) {
		if (!c->old->eps[slot].live || !c->new->eps[slot].live)
			continue;
		for (size_t i = 0; i < c->n_peers; i++) {
			const union tw_addr *peer = &c->peers[i];
			bool skip = is_foreign(c->old, peer) || is_foreign(c->new, peer) ||
				    /* a pod that goes: see policy.c */
				    (is_pod_addr(c->old, peer) && !is_pod_addr(c->new, peer)) ||
				    is_ep_addr(c->old, peer) != is_ep_addr(c->new, peer) ||
				    ports_changed(c, peer);

			for (size_t j = 0; j < 2 * COUNT(chance_probes); j++) {
				uint8_t *may = &c->may[slot][j & 1][i][j / 2];

				*may = skip ? 3 : 0;
				for (size_t k = 0; k < 4 && *may != 3; k++)
					*may |= (uint8_t)(1u << model_allows(
								  models[k & 1], models[k >> 1],
								  slot, j & 1, peer,
								  chance_probes[j / 2].proto,
								  chance_probes[j / 2].port));
			}
		}
	}
}

static void judge_between(void *arg)
{
	struct checker *c = arg;

	for (uint32_t slot = 1; slot < N_SLOTS; slot++) {
		if (!c->old->eps[slot].live || !c->new->eps[slot].live)
			continue;
		for (size_t i = 0; i < c->n_peers; i++) {
			for (size_t j = 0; j < 2 * COUNT(chance_probes); j++) {
				uint8_t may = c->may[slot][j & 1][i][j / 2];
				bool got;

				if (may == 3)
					continue;
				got = lab_allows(&c->lab, slot, j & 1, &c->peers[i],
						 chance_probes[j / 2].proto,
						 chance_probes[j / 2].port);
				if (!(may >> got & 1)) {
					char text[64];

					addr_format(&c->peers[i], text, sizeof(text));
					fail_msg("between: slot %u %s %s %u/%u: got %d", slot,
						 j & 1 ? "to" : "from", text,
						 chance_probes[j / 2].proto,
						 chance_probes[j / 2].port, got);
				}
				c->between++;
			}
		}
	}
}

static bool was_bumped(const struct checker *c, uint32_t slot)
{
	return c->lab.bumps[slot] != c->bumps[slot];
}

/* The slot of an endpoint's address in both states; 0: none. */
static uint32_t slot_of(const struct checker *c, const union tw_addr *addr)
{
	uint32_t word = lab_word(&c->lab, addr);

	return (word & TW_WORD_KIND) == TW_WORD_ENDPOINT ? word & TW_WORD_PAYLOAD : 0;
}

/* Where the verdict on a live flow is another one, an epoch has gone up (I4). */
static void judge_epochs(struct checker *c)
{
	const struct model *old = &c->old->model, *new = &c->new->model;

	for (uint32_t slot = 1; slot < N_SLOTS; slot++) {
		if (!c->old->eps[slot].live || !c->new->eps[slot].live || was_bumped(c, slot) ||
		    was_bumped(c, 0))
			continue;
		for (size_t i = 0; i < c->n_peers; i++) {
			const union tw_addr *peer = &c->peers[i];

			if (is_foreign(c->old, peer) || is_foreign(c->new, peer) ||
			    is_ep_addr(c->old, peer) != is_ep_addr(c->new, peer) ||
			    (slot_of(c, peer) && was_bumped(c, slot_of(c, peer))))
				continue;
			for (size_t j = 0; j < 2 * COUNT(chance_probes); j++) {
				uint8_t proto = chance_probes[j / 2].proto;
				uint16_t port = chance_probes[j / 2].port;

				assert_int_equal(
					model_allows(old, old, slot, j & 1, peer, proto, port),
					model_allows(new, new, slot, j & 1, peer, proto, port));
				c->bumped++;
			}
		}
	}
}

/* ---- the test ------------------------------------------------------------------------------- */

static int id_order(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct policy_id));
}

static void ids_get(const struct policy *p, struct policy_id **out, size_t *n)
{
	assert_int_equal(policy_export_ids(p, out, n), 0);
	qsort(*out, *n, sizeof(**out), id_order);
}

static bool same_key(const struct policy_id *a, const struct policy_id *b)
{
	return a->kind == b->kind && !memcmp(a->key, b->key, sizeof(a->key));
}

/* The numbers before, with what is said to change, are the numbers of the prepared state. */
static void check_changed_ids(const struct policy *p, struct policy_id *before, size_t n)
{
	struct policy_id_change change;
	struct policy_id *after;
	size_t m, at = 0;

	assert_int_equal(policy_changed_ids(p, &change), 0);
	before = reallocarray(before, n + change.n_put + 1, sizeof(*before));
	assert_non_null(before);
	for (size_t i = 0; i < change.n_del; i++) {
		size_t j = 0;

		while (j < n && !same_key(&before[j], &change.del[i]))
			j++;
		assert_true(j < n);
		before[j] = before[--n];
	}
	for (size_t i = 0; i < change.n_put; i++, n++) {
		for (size_t j = 0; j < n; j++)
			assert_false(same_key(&before[j], &change.put[i]));
		before[n] = change.put[i];
	}
	ids_get(p, &after, &m);
	assert_int_equal(n, m);
	for (size_t i = 0; i < n; i++) {
		while (at < n && !same_key(&after[at], &before[i]))
			at++;
		assert_true(at < n && after[at].id == before[i].id);
		at = 0;
	}
	policy_id_change_clear(&change);
	free(before);
	free(after);
}

/* A change that is prepared and thrown away leaves nothing behind. */
static void try_abort(struct checker *c, const struct policy_change *change)
{
	struct policy_id *before, *after;
	struct policy_plan plan;
	struct policy_stats a, b;
	size_t n, m;

	ids_get(c->policy, &before, &n);
	policy_stats_get(c->policy, &a);
	assert_int_equal(policy_prepare(c->policy, change, &plan), 0);
	policy_plan_clear(&plan);
	policy_abort(c->policy);
	policy_stats_get(c->policy, &b);
	ids_get(c->policy, &after, &m);
	assert_int_equal(n, m);
	assert_memory_equal(before, after, n * sizeof(*before));
	assert_memory_equal(&a, &b, sizeof(a));
	free(before);
	free(after);
	assert_int_equal(policy_full_plan(c->policy, &plan), 0);
	lab_compare(&c->lab, &plan);
	policy_plan_clear(&plan);
}

static void free_replaced(struct state *from, const struct state *other)
{
	for (size_t i = 0; i < MAX_OBJECTS; i++)
		if (from->objects[i] != other->objects[i])
			object_free(from->objects[i]);
}

static void maybe_reserve(struct checker *c, struct state *s)
{
	if (rnd(15))
		return;
	s->n_reserved = rnd(3);
	prefix_parse("10.0.1.0/24", &s->reserved[0]);
	prefix_parse(rnd(2) ? "192.168.1.1/32" : "fd00::1:0/112", &s->reserved[1]);
	assert_int_equal(policy_reserve(c->policy, s->reserved, s->n_reserved), 0);
}

static void round_run(struct checker *c, struct state *old, struct state *new)
{
	struct policy_plan plan;
	struct change change;
	struct policy_id *ids;
	size_t n_ids;

	*new = *old;
	random_change(new, old, &change);
	if (!rnd(4)) {
		try_abort(c, &change.change);
		free_replaced(new, old);
		*new = *old;
		random_change(new, old, &change);
	}
	maybe_reserve(c, new);
	state_model(old);
	state_model(new);
	for (size_t i = 0; i < change.change.n_ep_upsert; i++)
		change.ep_upsert[i].labels = new->eps[change.ep_upsert[i].slot].labels;
	c->old = old;
	c->new = new;
	collect_peers(c);
	expect_between(c);
	ids_get(c->policy, &ids, &n_ids);
	assert_int_equal(policy_prepare(c->policy, &change.change, &plan), 0);
	check_changed_ids(c->policy, ids, n_ids);
	for (size_t i = 0; i < change.change.n_ep_remove; i++)
		lab_remove_endpoint(&c->lab, change.ep_remove[i]);
	memcpy(c->bumps, c->lab.bumps, sizeof(c->bumps));
	lab_apply(&c->lab, &plan, judge_between, c);
	policy_plan_clear(&plan);
	policy_commit(c->policy);
	judge_after(c);
	judge_epochs(c);
	assert_int_equal(policy_full_plan(c->policy, &plan), 0);
	lab_compare(&c->lab, &plan);
	policy_plan_clear(&plan);
	free_replaced(old, new);
	*old = *new;
}

/* Another process with the same objects and numbers comes to the same tables. */
static void check_restart(struct checker *c, struct state *s)
{
	struct policy *again = policy_new();
	struct policy_endpoint eps[N_SLOTS];
	struct policy_plan plan;
	struct policy_id *ids;
	size_t n, n_eps = 0;

	state_model(s);
	ids_get(c->policy, &ids, &n);
	assert_int_equal(policy_restore_ids(again, ids, n), 0);
	free(ids);
	assert_int_equal(policy_reserve(again, s->reserved, s->n_reserved), 0);
	for (uint32_t i = 0; i < N_SLOTS; i++)
		if (s->eps[i].live)
			eps[n_eps++] = (struct policy_endpoint){
				i,
				s->eps[i].ns,
				s->eps[i].pod,
				s->eps[i].addr4,
				s->eps[i].addr6,
				s->eps[i].labels,
			};
	assert_int_equal(policy_prepare(again,
					&(struct policy_change){
						.upsert = s->list,
						.n_upsert = s->model.n_objects,
						.ep_upsert = eps,
						.n_ep_upsert = n_eps,
					},
					&plan),
			 0);
	policy_plan_clear(&plan);
	policy_commit(again);
	assert_int_equal(policy_full_plan(again, &plan), 0);
	lab_compare(&c->lab, &plan);
	policy_plan_clear(&plan);
	policy_free(again);
}

static void test_random(void **state)
{
	const char *rounds_text = getenv("TW_ROUNDS"), *seed_text = getenv("TW_SEED");
	uint32_t rounds = rounds_text ? (uint32_t)atoi(rounds_text) : 150;
	uint64_t first = seed_text ? strtoull(seed_text, NULL, 0) : 1, judged = 0, between = 0,
		 quiet = 0, edits = 0;

	for (uint64_t shard = first; shard < first + SHARDS; shard++) {
		struct checker *c = calloc(1, sizeof(*c));
		struct state *old = calloc(1, sizeof(*old)), *new = calloc(1, sizeof(*new));

		chance_seed(shard * 0x9e3779b97f4a7c15ull + 1);
		c->policy = policy_new();
		assert_non_null(c->policy);
		for (uint32_t i = 0; i < rounds; i++) {
			round_run(c, old, new);
			if (!rnd(10))
				check_restart(c, old);
		}
		judged += c->judged;
		between += c->between;
		quiet += c->bumped;
		edits += c->lab.edits;
		policy_free(c->policy);
		lab_clear(&c->lab);
		for (size_t i = 0; i < MAX_OBJECTS; i++)
			object_free(old->objects[i]);
		free(c);
		free(old);
		free(new);
	}
	print_message("%llu verdicts after changes, %llu during changes, %llu without a new epoch; "
		      "%llu peers of edited sets\n",
		      (unsigned long long)judged, (unsigned long long)between,
		      (unsigned long long)quiet, (unsigned long long)edits);
	assert_true(judged > 10000);
#ifdef POLICY_EDIT_MIN
	assert_true(edits > 1000);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests_name("policy_random", tests, NULL, NULL);
}
