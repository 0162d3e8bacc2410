/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* agent/datapath on real maps, made small so that they can be full. Needs root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "datapath/maps.h"

#define MAX_PEERS 64
#define MAX_VERSIONS 16
#define MAX_CLASSES 64
#define MAX_PAGES 8
#define MAX_PREFIXES6 8

struct lab {
	struct datapath *dp;
	struct maps *maps;
	uv_loop_t loop;
};

static char why[512];

static int lab_setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));
	struct datapath_options opts = {
		.max_flows = 1024,
		.max_versions = MAX_VERSIONS,
		.max_classes = MAX_CLASSES,
		.max_peers = MAX_PEERS,
		.max_pages = MAX_PAGES,
		.max_prefixes6 = MAX_PREFIXES6,
	};
	struct policy_plan nothing = {};

	datapath_settings_default(&opts.settings);
	uv_loop_init(&lab->loop);
	if (datapath_open(&lab->dp, &opts, why, sizeof(why)))
		fail_msg("%s", why);
	assert_int_equal(maps_new(&lab->maps, lab->dp, &lab->loop), 0);
	assert_int_equal(maps_reconcile(lab->maps, &nothing, NULL, 0, NULL, 0, why, sizeof(why)),
			 0);
	*state = lab;
	return 0;
}

static int lab_teardown(void **state)
{
	struct lab *lab = *state;

	maps_free(lab->maps);
	uv_run(&lab->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&lab->loop), 0);
	datapath_close(lab->dp);
	free(lab);
	return 0;
}

/* ---- what is in the maps ------------------------------------------------------------------------ */

struct peers {
	struct tw_peer_key v[MAX_PEERS + 1];
	size_t n;
};

static int peer_collect(void *arg, uint32_t set, uint32_t identity)
{
	struct peers *p = arg;

	p->v[p->n++] = (struct tw_peer_key){ set, identity };
	return 0;
}

static bool has_peer(struct lab *lab, uint32_t set, uint32_t identity)
{
	struct peers peers = {};

	assert_int_equal(datapath_peer_each(lab->dp, peer_collect, &peers), 0);
	for (size_t i = 0; i < peers.n; i++)
		if (peers.v[i].set == set && peers.v[i].identity == identity)
			return true;
	return false;
}

static int version_collect(void *arg, uint32_t version)
{
	*(uint32_t *)arg |= 1u << version;
	return 0;
}

static bool has_version(struct lab *lab, uint32_t version)
{
	uint32_t bits = 0;

	assert_int_equal(datapath_version_each(lab->dp, version_collect, &bits), 0);
	return bits & 1u << version;
}

/* How full each map is, to be compared before and after. */
struct fill {
	uint64_t used[16];
	size_t n;
};

static void fill_get(struct lab *lab, struct fill *out)
{
	struct datapath_fill fill[16];

	*out = (struct fill){ .n = datapath_fill_get(lab->dp, fill, 16) };
	for (size_t i = 0; i < out->n; i++)
		out->used[i] = fill[i].used;
}

/* ---- plans ------------------------------------------------------------------------------------------ */

static struct tw_class one_class[] = { { .start = 0, .set = 7 } };

static struct plan_version version(uint32_t number)
{
	return (struct plan_version){
		.version = number,
		.isolated = { true, false },
		.classes = { one_class, NULL },
		.n_classes = { 1, 0 },
	};
}

static struct plan_prefix prefix(const char *text, uint32_t word)
{
	struct plan_prefix p = { .word = word };

	assert_int_equal(prefix_parse(text, &p.prefix), 0);
	return p;
}

static uint32_t word_of(struct lab *lab, const char *text)
{
	struct plan_prefix p = prefix(text, 0);
	uint32_t word;
	bool exact;

	assert_int_equal(datapath_prefix_get(lab->dp, &p.prefix.addr, p.prefix.len, &word, &exact),
			 0);
	return word;
}

/* As a packet's look-up finds it, in the kernel's own tables. */
static uint32_t kernel_word(struct lab *lab, const union tw_addr *addr)
{
	struct tw_ipcache6_key key = { .prefixlen = 128 };
	struct tw_ipcache_page page;
	static uint32_t top[65536]; /* one element */
	uint32_t word = 0, first = 0;

	memcpy(key.addr, addr, sizeof(key.addr));
	if (!addr_is4(addr)) {
		bpf_map_lookup_elem(datapath_map_fd(lab->dp, "tw_ipcache6"), &key, &word);
		return word;
	}
	bpf_map_lookup_elem(datapath_map_fd(lab->dp, "tw_ipcache_top"), &first, top);
	word = top[addr->byte[12] << 8 | addr->byte[13]];
	for (int i = 14; i < 16 && (word & TW_WORD_KIND) == TW_WORD_PAGE; i++) {
		uint32_t at = word & TW_WORD_PAYLOAD;

		bpf_map_lookup_elem(datapath_map_fd(lab->dp, "tw_ipcache_pages"), &at, &page);
		word = page.word[addr->byte[i]];
	}
	return word;
}

static void apply(struct lab *lab, const struct policy_plan *plan)
{
	const struct maps_change change = { .plan = plan };
	struct maps_cost cost;

	maps_make_way(lab->maps, plan);
	if (maps_stage(lab->maps, plan, why, sizeof(why)))
		fail_msg("%s", why);
	assert_int_equal(maps_flip(lab->maps, &change, &cost), 0);
}

static void tick(uv_timer_t *timer)
{
	uv_stop(timer->loop);
}

/* Lets deferred deletions happen, until this peer is gone; the machine may be busy. */
static void wait_gone(struct lab *lab, uint32_t set, uint32_t identity)
{
	uv_timer_t timer;

	for (int i = 0; i < 200 && has_peer(lab, set, identity); i++) {
		uv_timer_init(&lab->loop, &timer);
		uv_timer_start(&timer, tick, 50, 0);
		uv_run(&lab->loop, UV_RUN_DEFAULT);
		uv_close((uv_handle_t *)&timer, NULL);
		uv_run(&lab->loop, UV_RUN_NOWAIT);
	}
	assert_false(has_peer(lab, set, identity));
}

/* ---- full maps: whole or not at all ------------------------------------------------------------------ */

static void refused_whole(struct lab *lab, const struct policy_plan *plan)
{
	struct fill before, after;

	fill_get(lab, &before);
	assert_int_equal(maps_stage(lab->maps, plan, why, sizeof(why)), -ENOSPC);
	assert_non_null(strstr(why, "full"));
	fill_get(lab, &after);
	assert_memory_equal(&before, &after, sizeof(before));
}

static void test_full_peers_refuse_the_change(void **state)
{
	struct lab *lab = *state;
	struct tw_peer_key peers[MAX_PEERS + 1];
	struct plan_version versions[] = { version(3) };
	struct policy_plan plan = { .peers_add = peers,
				    .n_peers_add = MAX_PEERS + 1,
				    .versions_add = versions,
				    .n_versions_add = 1 };

	for (uint32_t i = 0; i <= MAX_PEERS; i++)
		peers[i] = (struct tw_peer_key){ 7, 300 + i };
	refused_whole(lab, &plan);
	assert_false(has_peer(lab, 7, 300));
	/* What fits goes. */
	plan.n_peers_add = MAX_PEERS;
	apply(lab, &plan);
	assert_true(has_peer(lab, 7, 300));
	assert_true(has_version(lab, 3));
}

static void test_full_classes_refuse_the_change(void **state)
{
	struct lab *lab = *state;
	struct tw_class classes[MAX_CLASSES + 1] = {};
	struct plan_version versions[] = { version(1), version(2) };
	struct tw_peer_key peers[] = { { 7, 300 } };
	struct policy_plan plan = {
		.peers_add = peers, .n_peers_add = 1, .versions_add = versions, .n_versions_add = 2
	};

	for (uint32_t i = 0; i <= MAX_CLASSES; i++)
		classes[i] = (struct tw_class){ .start = i, .set = 7 };
	versions[1].classes[0] = classes;
	versions[1].n_classes[0] = MAX_CLASSES;
	refused_whole(lab, &plan);
	assert_false(has_version(lab, 1));
	assert_false(has_peer(lab, 7, 300));
	versions[1].n_classes[0] = MAX_CLASSES - 1;
	apply(lab, &plan);
	assert_true(has_version(lab, 1) && has_version(lab, 2));
}

static void test_version_beyond_the_table_refuses_the_change(void **state)
{
	struct lab *lab = *state;
	struct plan_version versions[] = { version(1), version(MAX_VERSIONS) };
	struct policy_plan plan = { .versions_add = versions, .n_versions_add = 2 };

	refused_whole(lab, &plan);
	assert_false(has_version(lab, 1));
}

static void test_full_pages_refuse_the_change(void **state)
{
	struct lab *lab = *state;
	struct plan_prefix prefixes[MAX_PAGES];
	struct plan_prefix inner[] = { prefix("10.0.0.0/8", 400) };
	struct policy_plan first = { .prefixes_set = inner, .n_prefixes_set = 1 };
	struct policy_plan plan = { .prefixes_set = prefixes, .n_prefixes_set = MAX_PAGES };
	char text[32];

	apply(lab, &first);
	/* Each in a /16 of its own, so each needs two pages. */
	for (uint32_t i = 0; i < MAX_PAGES; i++) {
		snprintf(text, sizeof(text), "10.%u.1.1/32", i);
		prefixes[i] = prefix(text, 500 + i);
	}
	refused_whole(lab, &plan);
	assert_int_equal(word_of(lab, "10.0.1.1/32"), 400);
	plan.n_prefixes_set = 2;
	apply(lab, &plan);
	assert_int_equal(word_of(lab, "10.0.1.1/32"), 500);
	assert_int_equal(word_of(lab, "10.0.1.2/32"), 400);
}

static void test_full_trie_refuses_the_change(void **state)
{
	struct lab *lab = *state;
	struct plan_prefix prefixes[MAX_PREFIXES6 + 1];
	struct policy_plan plan = { .prefixes_set = prefixes, .n_prefixes_set = MAX_PREFIXES6 + 1 };
	char text[32];

	for (uint32_t i = 0; i <= MAX_PREFIXES6; i++) {
		snprintf(text, sizeof(text), "fd00:%x::/64", i + 1);
		prefixes[i] = prefix(text, 500 + i);
	}
	refused_whole(lab, &plan);
	assert_int_equal(word_of(lab, "fd00:1::/64"), 0);
	plan.n_prefixes_set = MAX_PREFIXES6;
	apply(lab, &plan);
	assert_int_equal(word_of(lab, "fd00:1::/64"), 500);
}

static void test_staging_is_not_seen(void **state)
{
	struct lab *lab = *state;
	struct plan_prefix outer[] = { prefix("10.0.0.0/8", 400) };
	struct plan_prefix prefixes[] = { prefix("10.1.0.0/16", 401), prefix("10.0.0.0/8", 402) };
	struct policy_plan first = { .prefixes_set = outer, .n_prefixes_set = 1 };
	struct policy_plan plan = { .prefixes_set = prefixes, .n_prefixes_set = 2 };

	apply(lab, &first);
	assert_int_equal(maps_stage(lab->maps, &plan, why, sizeof(why)), 0);
	assert_int_equal(word_of(lab, "10.1.2.3/32"), 400);
	assert_int_equal(word_of(lab, "10.2.2.3/32"), 400);
	maps_unstage(lab->maps, &plan);
	assert_int_equal(word_of(lab, "10.1.0.0/16"), 400);
	apply(lab, &plan);
	assert_int_equal(word_of(lab, "10.1.2.3/32"), 401);
	assert_int_equal(word_of(lab, "10.2.2.3/32"), 402);
}

/* ---- deletions ---------------------------------------------------------------------------------------- */

static void test_deletions_wait_for_a_grace_period(void **state)
{
	struct lab *lab = *state;
	struct tw_peer_key peers[] = { { 7, 300 } };
	struct plan_version versions[] = { version(3) };
	uint32_t gone[] = { 3 };
	struct policy_plan add = {
		.peers_add = peers, .n_peers_add = 1, .versions_add = versions, .n_versions_add = 1
	};
	struct policy_plan del = { .set_peers_del = peers,
				   .n_set_peers_del = 1,
				   .versions_del = gone,
				   .n_versions_del = 1 };

	apply(lab, &add);
	apply(lab, &del);
	assert_true(has_peer(lab, 7, 300) && has_version(lab, 3));
	wait_gone(lab, 7, 300);
	assert_false(has_version(lab, 3));
}

static void test_number_used_again_is_not_deleted(void **state)
{
	struct lab *lab = *state;
	struct tw_peer_key peers[] = { { 7, 300 } };
	struct plan_version versions[] = { version(3) };
	struct tw_peer_key later[] = { { 9, 999 } };
	uint32_t gone[] = { 3 };
	struct policy_plan add = {
		.peers_add = peers, .n_peers_add = 1, .versions_add = versions, .n_versions_add = 1
	};
	struct policy_plan del = { .set_peers_del = peers,
				   .n_set_peers_del = 1,
				   .versions_del = gone,
				   .n_versions_del = 1 };
	struct policy_plan later_add = { .peers_add = later, .n_peers_add = 1 };
	struct policy_plan later_del = { .peers_del = later, .n_peers_del = 1 };

	apply(lab, &add);
	apply(lab, &del);
	apply(lab, &add);
	/* What is deleted after it marks that its own deletion would have happened. */
	apply(lab, &later_add);
	apply(lab, &later_del);
	wait_gone(lab, 9, 999);
	assert_true(has_peer(lab, 7, 300));
	assert_true(has_version(lab, 3));
}

/* I5: an identity or a set with a new meaning must not meet the peers of its old one. */
static void test_I5_reused_numbers_have_no_old_peers(void **state)
{
	struct lab *lab = *state;
	struct tw_peer_key peers[] = { { 7, 300 }, { 8, 301 } };
	struct plan_prefix prefixes[] = { prefix("192.0.2.0/24", 300) };
	struct plan_version versions[] = { version(4) };
	struct tw_class set8[] = { { .start = 0, .set = 8 } };
	struct policy_plan add = { .peers_add = peers, .n_peers_add = 2 };
	struct policy_plan del = { .peers_del = peers,
				   .n_peers_del = 1,
				   .set_peers_del = peers + 1,
				   .n_set_peers_del = 1 };
	struct policy_plan identity = { .prefixes_set = prefixes, .n_prefixes_set = 1 };
	struct policy_plan set = { .versions_add = versions, .n_versions_add = 1 };

	apply(lab, &add);
	apply(lab, &del);
	assert_true(has_peer(lab, 7, 300));
	apply(lab, &identity);
	assert_false(has_peer(lab, 7, 300));
	apply(lab, &add);
	apply(lab, &del);
	versions[0].classes[0] = set8;
	apply(lab, &set);
	assert_false(has_peer(lab, 8, 301));
}

/* ---- sets that change ----------------------------------------------------------------------------------- */

/* As a packet's look-up finds it: is the identity in set 7 to the version? */
static bool finds(struct lab *lab, uint32_t version, uint32_t identity)
{
	struct datapath_decision said;

	assert_int_equal(datapath_decision_find(lab->dp, version, TW_INGRESS, identity, 0, &said),
			 0);
	return said.allow;
}

static struct tw_peer_key one[] = { { 7, 300 } }, other[] = { { 7, 301 } };

/* The one leaves and the other joins, or the other way round, to this version. */
static struct policy_plan turn(bool back, const struct plan_version *version)
{
	return (struct policy_plan){
		.peers_join = back ? one : other,
		.n_peers_join = 1,
		.peers_leave = back ? other : one,
		.n_peers_leave = 1,
		.versions_add = (struct plan_version *)(uintptr_t)version,
		.n_versions_add = 1,
	};
}

static void wait_settled(struct lab *lab, uint32_t gone)
{
	wait_gone(lab, 7, gone);
	assert_true(has_peer(lab, 7, 601 - gone));
}

static void test_I5_set_changes_for_new_versions_only(void **state)
{
	struct lab *lab = *state;
	const struct plan_version first = version(3);
	struct policy_plan add = { .peers_add = one,
				   .n_peers_add = 1,
				   .versions_add = (struct plan_version *)(uintptr_t)&first,
				   .n_versions_add = 1 };
	struct fill before, after;

	apply(lab, &add);
	fill_get(lab, &before);
	/* Staged and taken back, it has not happened. */
	for (uint32_t i = 0; i < 3; i++) {
		const struct plan_version next = version(4);
		const struct policy_plan plan = turn(false, &next);

		assert_int_equal(maps_stage(lab->maps, &plan, why, sizeof(why)), 0);
		assert_true(finds(lab, 3, 300) && !finds(lab, 3, 301));
		assert_true(!finds(lab, 4, 300) && finds(lab, 4, 301));
		maps_unstage(lab->maps, &plan);
		assert_true(finds(lab, 3, 300) && !has_peer(lab, 7, 301));
	}
	fill_get(lab, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	/* Faster than anything is settled: the third turn of a pair waits by itself. */
	for (uint32_t v = 4; v < 8; v++) {
		const struct plan_version next = version(v);
		const struct policy_plan plan = turn(v % 2, &next);

		apply(lab, &plan);
		for (uint32_t i = v - 1; i <= v; i++) {
			assert_int_equal(finds(lab, i, 300), i % 2);
			assert_int_equal(finds(lab, i, 301), i % 2 == 0);
		}
	}
	wait_settled(lab, 301);
	assert_true(finds(lab, 7, 300) && !finds(lab, 7, 301));
}

/* Generations have 16 bits. A version that lives through all of them, and a set that changes last. */
static void test_I5_generations_go_round(void **state)
{
	struct lab *lab = *state;
	const struct plan_version first = version(3), next = version(4);
	struct policy_plan add = { .peers_add = one,
				   .n_peers_add = 1,
				   .versions_add = (struct plan_version *)(uintptr_t)&first,
				   .n_versions_add = 1 };

	apply(lab, &add);
	for (uint32_t i = 0; i < 70000; i++)
		assert_int_equal(datapath_generation_begin(lab->dp), 0);
	const struct policy_plan plan = turn(false, &next);

	apply(lab, &plan);
	assert_true(finds(lab, 3, 300) && !finds(lab, 3, 301));
	assert_true(!finds(lab, 4, 300) && finds(lab, 4, 301));
	wait_settled(lab, 300);
	for (uint32_t i = 0; i < 70000; i++) {
		assert_int_equal(datapath_generation_begin(lab->dp), 0);
		if (i % 1000 == 0)
			assert_true(!finds(lab, 4, 300) && finds(lab, 4, 301));
	}
}

/* A restart finds a set in the middle of a change, and makes it what the plan says. */
static void test_I5_reconcile_settles_sets(void **state)
{
	struct lab *lab = *state;
	const struct plan_version first = version(3), next = version(4);
	struct policy_plan add = { .peers_add = one,
				   .n_peers_add = 1,
				   .versions_add = (struct plan_version *)(uintptr_t)&first,
				   .n_versions_add = 1 };
	const struct policy_plan plan = turn(false, &next);

	apply(lab, &add);
	assert_int_equal(maps_stage(lab->maps, &plan, why, sizeof(why)), 0);
	assert_int_equal(maps_reconcile(lab->maps, &add, NULL, 0, NULL, 0, why, sizeof(why)), 0);
	assert_true(finds(lab, 3, 300) && !finds(lab, 3, 301));
	assert_false(has_peer(lab, 7, 301) || has_version(lab, 4));
	add.peers_add = other;
	assert_int_equal(maps_reconcile(lab->maps, &add, NULL, 0, NULL, 0, why, sizeof(why)), 0);
	assert_true(!finds(lab, 3, 300) && finds(lab, 3, 301));
}

/* ---- reconcile ------------------------------------------------------------------------------------------ */

static int endpoint_collect(void *arg, uint32_t slot, const struct tw_endpoint *ep)
{
	*(uint64_t *)arg |= 1ull << slot;
	return 0;
}

static void test_reconcile_leaves_what_the_plan_has(void **state)
{
	struct lab *lab = *state;
	struct tw_peer_key peers[] = { { 7, 300 }, { 7, 301 } };
	struct plan_version versions[] = { version(3), version(4) };
	struct plan_endpoint policies[] = { { .slot = 5, .identity = 300, .version = 3 },
					    { .slot = 6, .identity = 301, .version = 4 } };
	struct plan_prefix prefixes[] = { prefix("10.88.0.5/32", TW_WORD_ENDPOINT | 5),
					  prefix("10.88.0.6/32", TW_WORD_ENDPOINT | 6) };
	struct plan_prefix words[] = { prefix("10.88.0.0/16", TW_ID_UNASSIGNED) };
	struct maps_endpoint eps[] = { { 5, { .ifindex = 1000, .flags = TW_EP_LIVE } },
				       { 6, { .ifindex = 1001, .flags = TW_EP_LIVE } } };
	struct policy_plan full = {
		.peers_add = peers,
		.n_peers_add = 2,
		.versions_add = versions,
		.n_versions_add = 2,
		.endpoints = policies,
		.n_endpoints = 2,
		.prefixes_set = prefixes,
		.n_prefixes_set = 2,
	};
	struct tw_endpoint value;
	uint64_t slots = 0;

	assert_int_equal(maps_node_words(lab->maps, words, 1), 0);
	assert_int_equal(maps_reconcile(lab->maps, &full, eps, 2, NULL, 0, why, sizeof(why)), 0);
	/* The second of each is gone now; the first one stays as it is. */
	full.n_peers_add = full.n_versions_add = full.n_endpoints = full.n_prefixes_set = 1;
	assert_int_equal(maps_reconcile(lab->maps, &full, eps, 1, NULL, 0, why, sizeof(why)), 0);
	assert_true(has_peer(lab, 7, 300) && has_version(lab, 3));
	assert_false(has_peer(lab, 7, 301) || has_version(lab, 4));
	assert_int_equal(datapath_endpoint_each(lab->dp, endpoint_collect, &slots), 0);
	assert_int_equal(slots, 1u << 5);
	assert_int_equal(datapath_endpoint_get(lab->dp, 5, &value), 0);
	assert_int_equal(value.identity, 300);
	assert_int_equal(value.version, 3);
	assert_int_equal(word_of(lab, "10.88.0.5/32"), TW_WORD_ENDPOINT | 5);
	assert_int_equal(word_of(lab, "10.88.0.6/32"), TW_ID_UNASSIGNED);
}

/*
 * Both tables of prefixes full, and then all of them others, as after a restart with another
 * state: what is not there any more makes room for what is new.
 */
static void test_reconcile_of_full_tables(void **state)
{
	struct lab *lab = *state;
	struct plan_prefix prefixes[MAX_PREFIXES6 + MAX_PAGES];
	struct policy_plan full = { .prefixes_set = prefixes };
	struct plan_prefix outside;
	char text[48];

	for (uint32_t round = 0; round < 3; round++) {
		uint32_t n = 0;

		/* Two of each a page: one page for 16 to 24 bits, one for 24 to 32. */
		for (uint32_t i = 0; i < MAX_PAGES / 2; i++) {
			snprintf(text, sizeof(text), "10.%u.0.1/32", 10 * (3 - round) + i);
			prefixes[n++] = prefix(text, 300 + round);
		}
		/* The first half of round 1 covers what stays and what goes. */
		for (uint32_t i = 0; i < MAX_PREFIXES6; i++) {
			snprintf(text, sizeof(text), i ? "fd00:%x:%x::/48" : "fd00::/16", round, i);
			prefixes[n++] = prefix(text, 400 + round);
		}
		full.n_prefixes_set = n;
		if (maps_reconcile(lab->maps, &full, NULL, 0, NULL, 0, why, sizeof(why)))
			fail_msg("round %u: %s", round, why);
		for (uint32_t i = 0; i < n; i++)
			assert_int_equal(kernel_word(lab, &prefixes[i].prefix.addr),
					 prefixes[i].word);
		outside = prefix("fd01::1/128", 0);
		assert_int_equal(kernel_word(lab, &outside.prefix.addr), 0);
	}
	/* And one more than there is room for is refused by name. */
	prefixes[0] = prefix("fd00:ffff::/48", 500);
	prefixes[1] = prefix("fd00:fffe::/48", 500);
	assert_int_equal(maps_reconcile(lab->maps, &full, NULL, 0, NULL, 0, why, sizeof(why)),
			 -ENOSPC);
	assert_non_null(strstr(why, "address prefixes"));
}

static void test_node_words_outlive_the_plan_that_leaves_them(void **state)
{
	struct lab *lab = *state;
	struct plan_prefix mine[] = { prefix("192.0.2.7/32", 300) };
	struct plan_prefix words[] = { prefix("192.0.2.7/32", TW_ID_HOST) };
	struct policy_plan add = { .prefixes_set = mine, .n_prefixes_set = 1 };
	struct policy_plan del = { .prefixes_del = mine, .n_prefixes_del = 1 };

	apply(lab, &add);
	/* The address becomes the node's: the compiler gives it up with its next plan. */
	assert_int_equal(maps_node_words(lab->maps, words, 1), 0);
	apply(lab, &del);
	assert_int_equal(word_of(lab, "192.0.2.7/32"), TW_ID_HOST);
	assert_int_equal(maps_node_words(lab->maps, NULL, 0), 0);
	assert_int_equal(word_of(lab, "192.0.2.7/32"), 0);
}

#define LAB_TEST(fn) cmocka_unit_test_setup_teardown(fn, lab_setup, lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LAB_TEST(test_full_peers_refuse_the_change),
		LAB_TEST(test_full_classes_refuse_the_change),
		LAB_TEST(test_version_beyond_the_table_refuses_the_change),
		LAB_TEST(test_full_pages_refuse_the_change),
		LAB_TEST(test_full_trie_refuses_the_change),
		LAB_TEST(test_staging_is_not_seen),
		LAB_TEST(test_deletions_wait_for_a_grace_period),
		LAB_TEST(test_number_used_again_is_not_deleted),
		LAB_TEST(test_I5_reused_numbers_have_no_old_peers),
		LAB_TEST(test_I5_set_changes_for_new_versions_only),
		LAB_TEST(test_I5_generations_go_round),
		LAB_TEST(test_I5_reconcile_settles_sets),
		LAB_TEST(test_reconcile_leaves_what_the_plan_has),
		LAB_TEST(test_reconcile_of_full_tables),
		LAB_TEST(test_node_words_outlive_the_plan_that_leaves_them),
	};

	return cmocka_run_group_tests_name("maps", tests, NULL, NULL);
}
