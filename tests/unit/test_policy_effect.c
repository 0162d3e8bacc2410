/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What a prepared change is said to do to traffic, against the model of the state before and the
 * model of the state after, over random changes. TW_SEED and TW_ROUNDS choose others.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

#include "policy_chance.h"
#include "policy_model.h"

#define N_PODS (CHANCE_NS * CHANCE_PODS)
#define N_OBJECTS (CHANCE_NS + N_PODS + 8)
#define SLOTS 6
#define ROUNDS 200
#define EFFECTS_MAX 4000
#define A_LOT UINT64_MAX / 4 /* ns: time enough under any sanitizer */

struct state {
	struct object *objects[N_OBJECTS];
	const struct object *list[N_OBJECTS];
	struct model model;
};

/* An effect on two endpoints, flattened. */
struct seen {
	uint32_t from, to; /* slots */
	uint8_t family;
	bool allow;
	struct policy_span span;
};

struct fixture {
	struct policy *policy;
	struct model_ep eps[SLOTS];
	struct state old, new;
	struct seen *seen;
	size_t n_seen;
	uint64_t flows, changed, ports;
};

static void state_model(struct fixture *f, struct state *s)
{
	size_t n = 0;

	for (size_t i = 0; i < N_OBJECTS; i++)
		if (s->objects[i])
			s->list[n++] = s->objects[i];
	s->model = (struct model){ s->list, n, f->eps, SLOTS, NULL, 0 };
}

static struct object *random_object(uint32_t i)
{
	return i < CHANCE_NS		? chance_namespace(i)
	       : i < CHANCE_NS + N_PODS ? chance_pod(i - CHANCE_NS)
					: chance_policy(i - CHANCE_NS - N_PODS);
}

static void fixture_open(struct fixture *f, uint64_t seed)
{
	struct policy_endpoint eps[SLOTS];
	struct policy_plan plan;
	char text[64];

	*f = (struct fixture){ .policy = policy_new() };
	f->seen = calloc(EFFECTS_MAX, sizeof(*f->seen));
	assert_non_null(f->policy);
	assert_non_null(f->seen);
	chance_seed(seed);
	for (uint32_t slot = 1; slot < SLOTS; slot++) {
		struct model_ep *ep = &f->eps[slot];

		ep->live = true;
		strcpy(ep->ns, chance_ns[slot % CHANCE_NS]);
		snprintf(ep->pod, sizeof(ep->pod), "pod%u", slot / CHANCE_NS);
		snprintf(text, sizeof(text), "10.0.0.%u", slot);
		addr_parse(text, &ep->addr4);
		snprintf(text, sizeof(text), "fd00::1:%x", slot);
		addr_parse(text, &ep->addr6);
		eps[slot - 1] = (struct policy_endpoint){ slot,	     ep->ns,	ep->pod,
							  ep->addr4, ep->addr6, NULL };
	}
	assert_int_equal(policy_prepare(f->policy,
					&(struct policy_change){ .ep_upsert = eps,
								 .n_ep_upsert = SLOTS - 1 },
					&plan),
			 0);
	policy_plan_clear(&plan);
	policy_commit(f->policy);
}

/* ---- what is said --------------------------------------------------------------------------- */

static uint32_t slot_of(const struct fixture *f, const char *name)
{
	char text[160];

	for (uint32_t slot = 1; slot < SLOTS; slot++) {
		snprintf(text, sizeof(text), "%s/%s", f->eps[slot].ns, f->eps[slot].pod);
		if (!strcmp(text, name))
			return slot;
	}
	return 0;
}

static int see_effect(void *arg, const struct policy_effect *e)
{
	struct fixture *f = arg;
	uint32_t from = slot_of(f, e->from), to = slot_of(f, e->to);

	assert_true(e->n_spans);
	for (size_t i = 0; from && to && i < e->n_spans; i++) {
		assert_true(f->n_seen < EFFECTS_MAX);
		f->seen[f->n_seen++] = (struct seen){ from, to, e->family, e->allow, e->spans[i] };
	}
	return 0;
}

/* -1: unchanged, else the verdict after. */
static int said(const struct fixture *f, uint32_t from, uint32_t to, int family, uint32_t key)
{
	int res = -1;

	for (size_t i = 0; i < f->n_seen; i++) {
		const struct seen *s = &f->seen[i];

		if (s->from != from || s->to != to || (s->family && s->family != family) ||
		    key < s->span.first || key > s->span.last)
			continue;
		assert_int_equal(res, -1); /* each once */
		res = s->allow;
	}
	return res;
}

/* ---- what is so ----------------------------------------------------------------------------- */

static uint32_t slot_at(const struct fixture *f, const union tw_addr *addr)
{
	for (uint32_t slot = 1; slot < SLOTS; slot++)
		if (!memcmp(addr, &f->eps[slot].addr4, 16) ||
		    !memcmp(addr, &f->eps[slot].addr6, 16))
			return slot;
	return 0;
}

static bool model_passes(const struct fixture *f, const struct model *m, const union tw_addr *from,
			 const union tw_addr *to, const struct chance_probe *probe)
{
	uint32_t a = slot_at(f, from), b = slot_at(f, to);

	return (!a || model_allows(m, m, a, TW_EGRESS, to, probe->proto, probe->port)) &&
	       (!b || model_allows(m, m, b, TW_INGRESS, from, probe->proto, probe->port));
}

static void check_flow(struct fixture *f, const union tw_addr *from, const union tw_addr *to)
{
	uint32_t a = slot_at(f, from), b = slot_at(f, to);
	int family = addr_is4(from) ? 4 : 6;

	for (size_t i = 0; i < COUNT(chance_probes); i++) {
		const struct chance_probe *p = &chance_probes[i];
		bool was = model_passes(f, &f->old.model, from, to, p);
		bool is = model_passes(f, &f->new.model, from, to, p);
		bool before, after;

		assert_true(policy_effect_flow(f->policy, from, to, p->proto, p->port, &before,
					       &after));
		assert_int_equal(before, was);
		assert_int_equal(after, is);
		f->flows++;
		f->changed += was != is;
		if (!a || !b)
			continue;
		assert_int_equal(said(f, a, b, family, (uint32_t)p->proto << 16 | p->port),
				 was == is ? -1 : is);
		f->ports++;
	}
}

static void check_effects(struct fixture *f)
{
	union tw_addr others[COUNT(chance_pods) + COUNT(chance_world) + 2 * SLOTS];
	struct policy_effects total;
	size_t n = 0;

	f->n_seen = 0;
	assert_int_equal(policy_effects_each(f->policy, UINT32_MAX, A_LOT, see_effect, f, &total),
			 0);
	assert_true(total.complete);
	for (size_t i = 0; i < COUNT(chance_pods); i++)
		addr_parse(chance_pods[i], &others[n++]);
	for (size_t i = 0; i < COUNT(chance_world); i++)
		addr_parse(chance_world[i], &others[n++]);
	for (uint32_t slot = 1; slot < SLOTS; slot++) {
		others[n++] = f->eps[slot].addr4;
		others[n++] = f->eps[slot].addr6;
	}
	for (uint32_t slot = 1; slot < SLOTS; slot++) {
		for (size_t i = 0; i < n; i++) {
			const struct model_ep *ep = &f->eps[slot];
			const union tw_addr *self = addr_is4(&others[i]) ? &ep->addr4 : &ep->addr6;

			if (slot_at(f, &others[i]) == slot)
				continue;
			check_flow(f, self, &others[i]);
			check_flow(f, &others[i], self);
		}
	}
}

/* ---- the test ------------------------------------------------------------------------------- */

static void round_run(struct fixture *f)
{
	const struct object *upsert[N_OBJECTS], *remove[N_OBJECTS];
	struct policy_change change = { .upsert = upsert, .remove = remove };
	struct policy_plan plan;
	struct state *drop = rnd(3) ? &f->old : &f->new;

	f->new = f->old;
	for (uint32_t n = 1 + rnd(5); n; n--) {
		uint32_t i = rnd(N_OBJECTS);

		if (f->new.objects[i] != f->old.objects[i])
			continue;
		if (f->old.objects[i] && !rnd(4)) {
			remove[change.n_remove++] = f->old.objects[i];
			f->new.objects[i] = NULL;
		} else {
			f->new.objects[i] = random_object(i);
			upsert[change.n_upsert++] = f->new.objects[i];
		}
	}
	state_model(f, &f->old);
	state_model(f, &f->new);
	assert_int_equal(policy_prepare(f->policy, &change, &plan), 0);
	policy_plan_clear(&plan);
	check_effects(f);
	if (drop == &f->new)
		policy_abort(f->policy);
	else
		policy_commit(f->policy);
	for (size_t i = 0; i < N_OBJECTS; i++)
		if (f->old.objects[i] != f->new.objects[i])
			object_free(drop->objects[i]);
	if (drop == &f->old)
		f->old = f->new;
}

static void test_effects_are_those_of_the_model(void **state)
{
	const char *rounds_text = getenv("TW_ROUNDS"), *seed_text = getenv("TW_SEED");
	uint32_t rounds = rounds_text ? (uint32_t)atoi(rounds_text) : ROUNDS;
	static struct fixture f;

	fixture_open(&f, seed_text ? strtoull(seed_text, NULL, 0) : 1);
	for (uint32_t i = 0; i < rounds; i++)
		round_run(&f);
	print_message("%llu questions, %llu with another verdict, %llu of pairs of endpoints\n",
		      (unsigned long long)f.flows, (unsigned long long)f.changed,
		      (unsigned long long)f.ports);
	assert_true(f.changed > 1000 || rounds < ROUNDS);
	policy_free(f.policy);
	for (size_t i = 0; i < N_OBJECTS; i++)
		object_free(f.old.objects[i]);
	free(f.seen);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_effects_are_those_of_the_model),
	};

	return cmocka_run_group_tests_name("policy_effect", tests, NULL, NULL);
}
