/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Random policies from text to packet: parsed, compiled, written into the real maps, and judged
 * by the shipped programs, which must agree with the plain model of tests/unit. Several changes
 * a history; TW_SEED and TW_ROUNDS choose others than the usual.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "explain_answer.h"
#include "lab.h"

#include "../unit/policy_chance.h"
#include "../unit/policy_model.h"

#define N_OBJECTS 20
#define N_PODS 6
#define ROUNDS 60
#define PROBES 40 /* packets after each change */
#define SLOTS (C + 1)
#define QUESTIONS 1000 /* of each family */
#define QUESTIONS_ROUND 50

static const char *const pod_addrs[] = {
	"10.88.0.2",	 "10.88.0.3",	  "198.51.100.7",    "203.0.113.5",
	"fd00:10:88::2", "fd00:10:88::4", "2001:db8:100::7", "2001:db8:113::5",
};
static const char *const blocks[] = {
	"0.0.0.0/0",
	"10.0.0.0/8",
	"10.88.0.2/31",
	"10.88.0.4/32",
	"198.51.100.0/24",
	"198.51.100.8/32",
	"128.0.0.0/1",
	"203.0.113.0/24",
	"::/0",
	"fd00:10:88::/64",
	"fd00:10:88::2/127",
	"fd00:10:88::4/128",
	"2001:db8::/32",
	"::/1",
	"2001:db8:100::7/128",
	"2001:db8:113::/48",
};

struct history {
	struct lab *lab;
	struct policy *policy;
	struct object *objects[N_OBJECTS]; /* namespaces, pods, policies; NULL: absent */
	const struct object *list[N_OBJECTS];
	struct model_ep eps[SLOTS];
	struct prefix reserved[4];
	struct model model;
	uint16_t sport;
	unsigned int allowed, denied;
};

/* ---- plans into maps ------------------------------------------------------------------------ */

static void write_endpoints(struct lab *lab, const struct plan_endpoint *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		must(!datapath_endpoint_identity6(lab->dp, v[i].slot, v[i].identity6));
		must(!datapath_endpoint_policy(lab->dp, v[i].slot, v[i].identity, v[i].version));
	}
}

static void write_prefixes(struct lab *lab, const struct plan_prefix *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		must(!datapath_prefix_set(lab->dp, &v[i].prefix.addr, v[i].prefix.len, v[i].word));
}

/* Sets that change; then nothing of it is pending when the next plan comes. */
static void turn_peers(struct lab *lab, const struct policy_plan *plan)
{
	size_t max = plan->n_peers_join + plan->n_peers_leave + 1, done;
	union tw_peer *old = calloc(max, sizeof(*old));

	assert_non_null(old);
	if (max > 1)
		must(!datapath_generation_begin(lab->dp));
	must(!datapath_peers_turn(lab->dp, plan->peers_join, plan->n_peers_join, true, old, &done));
	must(!datapath_peers_turn(lab->dp, plan->peers_leave, plan->n_peers_leave, false, old,
				  &done));
	free(old);
}

static void write_plan(struct lab *lab, const struct policy_plan *plan)
{
	size_t done;

	must(!datapath_peers_set(lab->dp, plan->peers_add, plan->n_peers_add, &done));
	turn_peers(lab, plan);
	for (size_t i = 0; i < plan->n_versions_add; i++) {
		const struct plan_version *v = &plan->versions_add[i];
		const struct tw_class *const classes[2] = { v->classes[0], v->classes[1] };

		must(!datapath_version_set(lab->dp, v->version, v->isolated, classes,
					   v->n_classes));
	}
	write_endpoints(lab, plan->refine_endpoints, plan->n_refine_endpoints);
	write_prefixes(lab, plan->refine_prefixes, plan->n_refine_prefixes);
	write_endpoints(lab, plan->endpoints, plan->n_endpoints);
	write_prefixes(lab, plan->prefixes_set, plan->n_prefixes_set);
	for (size_t i = 0; i < plan->n_prefixes_del; i++)
		must(!datapath_prefix_del(lab->dp, &plan->prefixes_del[i].prefix.addr,
					  plan->prefixes_del[i].prefix.len));
	for (size_t i = 0; i < plan->n_endpoints; i++)
		if (plan->endpoints[i].bump)
			datapath_epoch_bump(lab->dp, plan->endpoints[i].slot);
	if (plan->bump_node)
		datapath_epoch_bump(lab->dp, 0);
	datapath_grace(lab->dp);
	datapath_generation_over(lab->dp, datapath_generation(lab->dp));
	for (size_t i = 0; i < plan->n_versions_del; i++)
		must(!datapath_version_del(lab->dp, plan->versions_del[i]));
	must(!datapath_peers_del(lab->dp, plan->peers_del, plan->n_peers_del));
	must(!datapath_peers_del(lab->dp, plan->set_peers_del, plan->n_set_peers_del));
	must(!datapath_peers_settle(lab->dp, plan->peers_join, plan->n_peers_join));
	must(!datapath_peers_settle(lab->dp, plan->peers_leave, plan->n_peers_leave));
}

static void history_apply(struct history *h, const struct policy_change *change)
{
	struct policy_plan plan;

	assert_int_equal(policy_prepare(h->policy, change, &plan), 0);
	write_plan(h->lab, &plan);
	policy_plan_clear(&plan);
	policy_commit(h->policy);
}

/* ---- changes -------------------------------------------------------------------------------- */

static void history_model(struct history *h)
{
	size_t n = 0;

	for (size_t i = 0; i < N_OBJECTS; i++)
		if (h->objects[i])
			h->list[n++] = h->objects[i];
	h->model = (struct model){ h->list, n, h->eps, SLOTS, h->reserved, 4 };
}

static struct object *random_object(uint32_t i)
{
	if (i < CHANCE_NS)
		return chance_namespace(i);
	return i < CHANCE_NS + N_PODS ? chance_pod(i - CHANCE_NS)
				      : chance_policy(i - CHANCE_NS - N_PODS);
}

static void history_change(struct history *h)
{
	const struct object *upsert[N_OBJECTS], *remove[N_OBJECTS];
	struct object *old[N_OBJECTS];
	struct policy_change change = { .upsert = upsert, .remove = remove };
	bool done[N_OBJECTS] = {};
	size_t n_old = 0;

	for (uint32_t n = 1 + rnd(6); n; n--) {
		uint32_t i = rnd(N_OBJECTS);

		if (done[i])
			continue;
		done[i] = true;
		old[n_old++] = h->objects[i];
		if (h->objects[i] && !rnd(4)) {
			remove[change.n_remove++] = h->objects[i];
			h->objects[i] = NULL;
		} else {
			h->objects[i] = random_object(i);
			upsert[change.n_upsert++] = h->objects[i];
		}
	}
	history_apply(h, &change);
	for (size_t i = 0; i < n_old; i++)
		object_free(old[i]);
	history_model(h);
}

/* The words that the lab has put there are of no use here. */
static void history_open(struct history *h, struct lab *lab, uint64_t seed)
{
	static const enum place outside[] = { OUTSIDE, OUTSIDE2, KEPT };
	struct policy_endpoint eps[C];

	*h = (struct history){ .lab = lab, .policy = policy_new() };
	assert_non_null(h->policy);
	chance_seed(seed);
	chance_addresses(pod_addrs, COUNT(pod_addrs), blocks, COUNT(blocks));
	prefix_parse("10.88.0.0/24", &h->reserved[0]);
	prefix_parse("fd00:10:88::/64", &h->reserved[1]);
	prefix_parse("192.0.2.1/32", &h->reserved[2]);
	prefix_parse("2001:db8:1::1/128", &h->reserved[3]);
	assert_int_equal(policy_reserve(h->policy, h->reserved, 4), 0);
	for (uint32_t slot = A; slot <= C; slot++) {
		struct model_ep *ep = &h->eps[slot];

		ep->live = true;
		strcpy(ep->ns, chance_ns[slot % 2]);
		snprintf(ep->pod, sizeof(ep->pod), "pod%u", slot % 2);
		place_addr(slot, 4, &ep->addr4);
		place_addr(slot, 6, &ep->addr6);
		eps[slot - A] = (struct policy_endpoint){ slot,	     ep->ns,	ep->pod,
							  ep->addr4, ep->addr6, NULL };
	}
	for (size_t i = 0; i < COUNT(outside); i++) {
		for (int family = 4; family <= 6; family += 2) {
			union tw_addr addr;

			place_addr(outside[i], family, &addr);
			must(!datapath_prefix_del(lab->dp, &addr, 128));
		}
	}
	history_apply(h, &(struct policy_change){ .ep_upsert = eps, .n_ep_upsert = C });
	history_model(h);
}

/* Takes the objects back, so that the maps are as before but for the words of endpoints. */
static void history_close(struct history *h)
{
	history_apply(h, &(struct policy_change){
				 .remove = h->list,
				 .n_remove = h->model.n_objects,
			 });
	for (size_t i = 0; i < N_OBJECTS; i++)
		object_free(h->objects[i]);
	h->model.n_objects = 0;
	policy_free(h->policy);
}

/* ---- packets -------------------------------------------------------------------------------- */

static bool model_says(const struct history *h, enum place self, enum place other, int family,
		       enum tw_direction dir, uint8_t proto, uint16_t port)
{
	union tw_addr addr;

	place_addr(other, family, &addr);
	return self > C || model_allows(&h->model, &h->model, self, dir, &addr, proto, port);
}

static void probe(struct history *h, int family, enum place from, enum place to)
{
	static const enum what whats[] = { TCP, TCP, UDP, SCTP, ECHO };
	static const enum via vias[] = { [A] = FROM_A, [B] = FROM_B, [C] = FROM_C };
	static const uint16_t ports[] = { 80, 81, 8080, 53, 65535, 1 };
	enum what what = pick(whats);
	struct spec in = {
		.what = what, .from = from, .to = to, .sport = ++h->sport, .flags = SYN
	};
	uint8_t proto = what_proto(what, family);
	uint16_t port = what == ECHO ? 0 : pick(ports);
	enum tw_reason want = TW_REASON_OK;
	struct outcome got;

	in.dport = port;
	if (what != TCP)
		in.flags = 0;
	if (!model_says(h, from, to, family, TW_EGRESS, proto, port))
		want = TW_REASON_POLICY_EGRESS;
	else if (!model_says(h, to, from, family, TW_INGRESS, proto, port))
		want = TW_REASON_POLICY_INGRESS;
	lab_send(h->lab, family, from <= C ? vias[from] : UP, &in, &got);
	if (got.reason != want || (got.verdict == REDIRECTED) != (want == TW_REASON_OK))
		fail_msg("place %d to %d, protocol %u port %u: %s (verdict %d), expected %s", from,
			 to, proto, port, tw_reason_name(got.reason), got.verdict,
			 tw_reason_name(want));
	h->allowed += want == TW_REASON_OK;
	h->denied += want != TW_REASON_OK;
}

static uint64_t chance_of(int family, uint64_t which)
{
	const char *seed_text = getenv("TW_SEED");
	uint64_t seed = seed_text ? strtoull(seed_text, NULL, 0) : 1;

	return (seed + which) * 2654435761u + (uint64_t)family;
}

/* The words of the lab's own, for whatever test comes next. */
static void words_restore(struct lab *lab)
{
	for (enum place p = OUTSIDE; p <= KEPT; p++) {
		union tw_addr addr;

		if (p == ROUTER)
			continue;
		place_addr(p, 4, &addr);
		must(!datapath_prefix_set(lab->dp, &addr, 128, LAB_IDENTITY + p));
		place_addr(p, 6, &addr);
		must(!datapath_prefix_set(lab->dp, &addr, 128, LAB_IDENTITY + p));
	}
}

static void random_policies_agree_with_the_model(struct lab *lab, int family)
{
	static const enum place places[] = { A, B, C, OUTSIDE, OUTSIDE2, KEPT };
	const char *rounds_text = getenv("TW_ROUNDS");
	unsigned int rounds = rounds_text ? (unsigned int)atoi(rounds_text) : ROUNDS;
	struct history h;

	history_open(&h, lab, chance_of(family, 0));
	for (unsigned int round = 0; round < rounds; round++) {
		history_change(&h);
		for (unsigned int i = 0; i < PROBES; i++) {
			enum place from = pick(places), to = pick(places);

			if (from != to && (from <= C || to <= C))
				probe(&h, family, from, to);
		}
		lab_flows_clear(lab, family);
	}
	print_message("%u packets passed, %u were dropped by policy, each as the model has it\n",
		      h.allowed, h.denied);
	assert_true(h.allowed + h.denied >= 500 || rounds < ROUNDS);
	history_close(&h);
	words_restore(lab);
}

/* ---- explain --------------------------------------------------------------------------------- */

/* Who asks whom, what about; and by which way that packet comes. */
struct question {
	enum place from, to;
	enum via via;
	struct spec in;
	uint8_t proto;
};

static bool question_random(struct history *h, int family, struct question *q)
{
	static const enum place froms[] = {
		A, B, C, A, B, C, OUTSIDE, OUTSIDE2, KEPT, EMPTY, NODE
	};
	static const enum place tos[] = { A,	    B,	  C,	    A,	  B,	 C,    OUTSIDE,
					  OUTSIDE2, KEPT, UNROUTED, NODE, EMPTY, GROUP };
	static const enum what whats[] = { TCP, TCP, UDP, SCTP, ECHO };
	static const enum via vias[] = { [A] = FROM_A, [B] = FROM_B, [C] = FROM_C };
	enum what what = pick(whats);

	q->from = pick(froms);
	q->to = pick(tos);
	/* What no hook sees, and what is lost for want of a route, is no question of policy. */
	if (q->from == q->to || (q->from > C && q->to > C) || q->to == UNROUTED)
		return false;
	if (q->from == NODE && q->to == C)
		return false; /* the lab's node speaks to A and B */
	q->via = q->from <= C ? vias[q->from] : q->from == NODE ? (q->to == A ? TO_A : TO_B) : UP;
	q->proto = what_proto(what, family);
	q->in = (struct spec){
		.what = what,
		.from = q->from,
		.to = q->to,
		.sport = ++h->sport,
		.dport = what == ECHO ? 0 : chance_probes[rnd(COUNT(chance_probes))].port,
		.flags = what == TCP ? SYN : 0,
	};
	/* A port of no rule, too. */
	if (what != ECHO && (!q->in.dport || !rnd(4)))
		q->in.dport = (uint16_t)(1 + rnd(65535));
	return true;
}

static void question_end(const struct question *q, enum place place, int family,
			 struct policy_end *out)
{
	*out = (struct policy_end){ .slot = place <= C ? place : 0,
				    .is_host = place == NODE && q->from == NODE };
	place_addr(place, family, &out->addr);
}

static const char *text_of(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text ? text : "";
}

/* What explain says of one direction: its own reasoning must come to the kernel's answer. */
static void direction_check(const json_t *answer, const char *name)
{
	const json_t *d = json_object_get(answer, name), *kernel = json_object_get(d, "kernel");
	const json_t *policies = json_object_get(d, "policies"), *policy, *rule;
	bool allow = json_is_true(json_object_get(d, "allow")), matches = false;
	size_t i, j;

	if (!d)
		return;
	if (json_is_true(json_object_get(kernel, "asked")))
		assert_int_equal(allow, json_is_true(json_object_get(kernel, "allow")));
	json_array_foreach(policies, i, policy) {
		json_array_foreach(json_object_get(policy, "rules"), j, rule)
			matches |= json_is_true(json_object_get(rule, "peer")) &&
				   json_is_true(json_object_get(rule, "port"));
	}
	if (json_integer_value(json_object_get(kernel, "identity")) == TW_ID_HOST)
		return;
	assert_int_equal(matches, allow && json_is_true(json_object_get(d, "isolated")));
	/* A refusal names what would have allowed it. */
	assert_int_equal(!!json_object_get(d, "nearest"), !allow);
}

static void questions_are_answered_as_the_kernel_decides(struct lab *lab, int family)
{
	unsigned int asked = 0, allowed = 0;
	struct history h;

	history_open(&h, lab, chance_of(family, 1000));
	while (asked < QUESTIONS) {
		struct policy_end ends[2];
		struct outcome got;
		struct question q;
		json_t *answer = NULL;

		if (asked % QUESTIONS_ROUND == 0) {
			history_change(&h);
			lab_flows_clear(lab, family);
		}
		if (!question_random(&h, family, &q))
			continue;
		asked++;
		question_end(&q, q.from, family, &ends[0]);
		question_end(&q, q.to, family, &ends[1]);
		assert_int_equal(explain_answer(h.policy, lab->dp, ends, q.proto,
						q.in.what == ECHO ? 0 : q.in.dport, &answer),
				 0);
		lab_send(lab, family, q.via, &q.in, &got);
		if (strcmp(text_of(answer, "reason"), tw_reason_name(got.reason)) ||
		    strcmp(text_of(answer, "verdict"), got.verdict == DROP ? "deny" : "allow") ||
		    json_object_get(answer, "warning"))
			fail_msg("place %d to %d, protocol %u port %u: the kernel says %s (%d), "
				 "the answer is %s",
				 q.from, q.to, q.proto, q.in.dport, tw_reason_name(got.reason),
				 got.verdict, json_dumps(answer, JSON_INDENT(1)));
		direction_check(answer, "egress");
		direction_check(answer, "ingress");
		allowed += got.verdict != DROP;
		json_decref(answer);
	}
	print_message("%u questions, %u of them allowed, each answered as the kernel decided\n",
		      asked, allowed);
	assert_true(allowed > asked / 10 && allowed < asked - asked / 10);
	history_close(&h);
	words_restore(lab);
}

/* Maps that were changed behind the agent's back: the kernel's answer counts, with a warning. */
static void answer_warns_of_other_maps(struct lab *lab, int family)
{
	struct policy_end ends[2] = { { .slot = A }, { .slot = B } };
	struct tw_endpoint ep;
	json_t *answer = NULL;
	struct history h;

	history_open(&h, lab, 1);
	place_addr(A, family, &ends[0].addr);
	place_addr(B, family, &ends[1].addr);
	must(!datapath_endpoint_get(lab->dp, B, &ep));
	must(!datapath_endpoint_policy(lab->dp, B, ep.identity,
				       lab_version(lab, ISOLATE_INGRESS, NULL, 0)));
	assert_int_equal(explain_answer(h.policy, lab->dp, ends, IPPROTO_TCP, 80, &answer), 0);
	assert_string_equal(text_of(answer, "verdict"), "deny");
	assert_string_equal(text_of(answer, "reason"), "policy_ingress");
	assert_non_null(strstr(text_of(answer, "warning"), "for ingress"));
	json_decref(answer);
	must(!datapath_endpoint_policy(lab->dp, B, ep.identity, ep.version));
	history_close(&h);
	words_restore(lab);
}

int main(void)
{
	static const struct lab_test tests[] = {
		LAB_TEST(random_policies_agree_with_the_model),
		LAB_TEST(questions_are_answered_as_the_kernel_decides),
		LAB_TEST(answer_warns_of_other_maps),
	};

	lab_netns();
	return lab_main("policy_kernel", &(struct lab_options){}, tests, COUNT(tests));
}
