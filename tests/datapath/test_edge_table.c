/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The edge's address table against a list of prefixes, through loads and single changes at random:
 * what the maps say, and what the program makes of a frame. Needs root.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <edge_table.h>
#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "edge_lab.h"

#define PREFIXES 600u
#define STEPS 1500

/* Even rules deny, every eighth allows. */
static uint32_t class_of(uint32_t rule)
{
	return (rule % 8 ? TW_EDGE_CLASS_DENY : TW_EDGE_CLASS_ALLOW) | (TW_EDGE_FIRST_RULE + rule);
}

static uint32_t classify(void *arg, uint32_t outer, uint32_t rule)
{
	uint32_t class = class_of(rule);

	if ((outer & TW_EDGE_CLASS_KIND) == TW_EDGE_CLASS_ALLOW)
		return outer;
	return class;
}

struct entry {
	union tw_addr addr;
	uint32_t len;
	uint32_t rule;
};

struct lab {
	struct edge *edge;
	struct edge_table *table;
	struct tw_edge_settings settings;
	struct entry v[PREFIXES];
	size_t n;
	unsigned int seed;
};

static int lab_setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	edge_settings_default(&lab->settings);
	lab->settings.filter = 1;
	lab->edge = edge_lab_open(&lab->settings);
	lab->seed = 11;
	assert_int_equal(edge_table_open(&lab->table, lab->edge, classify, lab), 0);
	*state = lab;
	return 0;
}

static int lab_teardown(void **state)
{
	struct lab *lab = *state;

	edge_table_close(lab->table);
	edge_close(lab->edge);
	free(lab);
	return 0;
}

/* No frame is on its way here, so nobody waits for one. */
static void settle(struct edge_table *table)
{
	edge_table_settle_begin(table);
	edge_table_settle(table);
}

static uint32_t chance(struct lab *lab, uint32_t n)
{
	return (uint32_t)rand_r(&lab->seed) % n;
}

/* Few distinct bytes, so that prefixes nest, meet and share nodes. */
static void addr_any(struct lab *lab, union tw_addr *out)
{
	static const uint8_t bytes[] = { 0, 1, 2, 127, 128, 254, 255 };

	*out = (union tw_addr){};
	if (chance(lab, 2)) {
		out->word[2] = htonl(0xffff);
		for (int i = 12; i < 16; i++)
			out->byte[i] = bytes[chance(lab, i < 14 ? 2 : sizeof(bytes))];
		return;
	}
	out->byte[0] = 0x20;
	out->byte[1] = (uint8_t)chance(lab, 2);
	for (int i = 2; i < 16; i++)
		out->byte[i] = bytes[chance(lab, i % 5 ? 1 : 3)];
}

static bool is_four(const union tw_addr *addr)
{
	return !addr->quad[0] && addr->word[2] == htonl(0xffff);
}

static bool covers(const struct entry *e, const union tw_addr *addr)
{
	/* ::/0 does not cover IPv4. */
	if (is_four(addr) != (e->len >= 96 && is_four(&e->addr)))
		return false;
	for (uint32_t bit = 0; bit < e->len; bit += 8) {
		uint32_t left = e->len - bit;
		uint8_t mask = left >= 8 ? 0xff : (uint8_t)(0xff << (8 - left));

		if ((e->addr.byte[bit / 8] ^ addr->byte[bit / 8]) & mask)
			return false;
	}
	return true;
}

/* The kind, and which rules may be the one that says so: those of the longest prefix. */
static void model_class(const struct lab *lab, const union tw_addr *addr, uint32_t *kind,
			uint32_t *len)
{
	*kind = 0;
	*len = 0;
	for (size_t i = 0; i < lab->n; i++) {
		uint32_t its = class_of(lab->v[i].rule) & TW_EDGE_CLASS_KIND;

		if (!covers(&lab->v[i], addr))
			continue;
		if (its == TW_EDGE_CLASS_ALLOW)
			*kind = its;
		else if (*kind != TW_EDGE_CLASS_ALLOW)
			*kind = its;
		if (lab->v[i].len > *len)
			*len = lab->v[i].len;
	}
}

static bool model_knows(const struct lab *lab, const union tw_addr *addr, uint32_t class,
			uint32_t len)
{
	for (size_t i = 0; i < lab->n; i++)
		if (covers(&lab->v[i], addr) && class_of(lab->v[i].rule) == class &&
		    ((class & TW_EDGE_CLASS_KIND) == TW_EDGE_CLASS_ALLOW || lab->v[i].len == len))
			return true;
	return false;
}

static void frame_from(struct frame *frame, const union tw_addr *addr)
{
	bool six = !is_four(addr);

	frame_build(frame, six ? 6 : 4, &EDGE_P(UDP, OUTSIDE, NODE, 4000, 53));
	if (six)
		memcpy(frame->data + 22, addr, 16);
	else
		memcpy(frame->data + 26, &addr->word[3], 4);
}

static uint32_t counter_of(uint32_t class)
{
	return class ? class & TW_EDGE_CLASS_NUMBER : TW_EDGE_PASS;
}

/* The program's own answer: the action, and the counter that grew. */
static void program_agrees(struct lab *lab, const union tw_addr *addr, uint32_t class)
{
	struct tw_metric before, after;
	struct frame frame;

	frame_from(&frame, addr);
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame.data,
		    .data_size_in = (uint32_t)frame.len, .repeat = 1);
	edge_count_read(lab->edge, counter_of(class), &before);
	assert_int_equal(bpf_prog_test_run_opts(edge_prog_fd(lab->edge), &opts), 0);
	edge_count_read(lab->edge, counter_of(class), &after);
	if (after.packets != before.packets + 1 ||
	    opts.retval !=
		    ((class & TW_EDGE_CLASS_KIND) == TW_EDGE_CLASS_DENY ? XDP_DROP : XDP_PASS))
		fail_msg("class %x: action %u, counted %lu", class, opts.retval,
			 (unsigned long)(after.packets - before.packets));
}

static void table_agrees(struct lab *lab, const char *when, int step)
{
	for (int k = 0; k < 8; k++) {
		uint32_t class, kind, len;
		union tw_addr addr;

		addr_any(lab, &addr);
		/* Half of them within a prefix. */
		if (k % 2 && lab->n)
			addr = lab->v[chance(lab, (uint32_t)lab->n)].addr;
		model_class(lab, &addr, &kind, &len);
		assert_int_equal(edge_table_find(lab->table, &addr, &class), 0);
		if ((class & TW_EDGE_CLASS_KIND) != kind ||
		    (kind && !model_knows(lab, &addr, class, len)))
			fail_msg("%s, step %d: %08x %08x %08x %08x is %x, should be of kind %x",
				 when, step, ntohl(addr.word[0]), ntohl(addr.word[1]),
				 ntohl(addr.word[2]), ntohl(addr.word[3]), class, kind);
		if (!(k % 4))
			program_agrees(lab, &addr, class);
	}
}

static void entry_any(struct lab *lab, struct entry *out, bool single)
{
	static const uint8_t lens4[] = { 8, 9, 15, 16, 17, 20, 23, 24, 25, 29, 31, 32, 32, 32, 0 };
	static const uint8_t lens6[] = { 8,  15, 16, 17, 24,  29,  32,	40,  48,
					 49, 56, 64, 65, 120, 121, 128, 128, 0 };
	struct edge_prefixes cut = {};
	bool mapped;

	addr_any(lab, &out->addr);
	mapped = is_four(&out->addr);
	/* The last lengths are too short for a change by itself. */
	out->len = mapped ? 96u + lens4[chance(lab, sizeof(lens4) - single)]
			  : lens6[chance(lab, sizeof(lens6) - single)];
	/* Denials mostly, so that they show. */
	out->rule = chance(lab, 20) ? 1 + chance(lab, 7) : 8;
	/* Bits behind the length are cleared as the table does. */
	assert_int_equal(edge_prefixes_add(&cut, &out->addr, out->len, 0), 0);
	out->addr = (union tw_addr){};
	if (mapped) {
		out->addr.word[2] = htonl(0xffff);
		out->addr.word[3] = htonl(edge_prefix4_addr(cut.v4[0]));
	} else {
		out->addr.quad[0] = htobe64(cut.v6[0].high);
		out->addr.quad[1] = htobe64(cut.v6[0].low);
	}
	edge_prefixes_free(&cut);
}

/* All that the model has, a part of it as singles. */
static void load(struct lab *lab)
{
	struct edge_prefixes lists = {}, singles = {};
	char err[256] = "";

	for (size_t i = 0; i < lab->n; i++)
		assert_int_equal(edge_prefixes_add(i % 3 ? &lists : &singles, &lab->v[i].addr,
						   lab->v[i].len, lab->v[i].rule),
				 0);
	assert_int_equal(edge_prefixes_sort(&lists), 0);
	assert_int_equal(edge_prefixes_sort(&singles), 0);
	/* No frame is on its way here; now and then the wait for those is taken, too. */
	if (chance(lab, 30))
		settle(lab->table);
	if (edge_table_load(lab->table, &lists, &singles, &lab->settings, err, sizeof(err)))
		fail_msg("load: %s", err);
	assert_true(!lists.n4 && !lists.v4 && !singles.v6);
}

static void whole_lists_agree_with_a_model(void **state)
{
	struct lab *lab = *state;

	for (int step = 0; step < 150; step++) {
		lab->n = step % 10 ? chance(lab, PREFIXES) : 0;
		for (size_t i = 0; i < lab->n; i++)
			entry_any(lab, &lab->v[i], false);
		load(lab);
		table_agrees(lab, "load", step);
	}
}

static void step_single(struct lab *lab, int step)
{
	struct entry e;
	int res;

	if (chance(lab, 100) < 45 && lab->n) {
		size_t at = chance(lab, (uint32_t)lab->n);

		e = lab->v[at];
		res = edge_table_del(lab->table, &e.addr, e.len, e.rule);
		lab->v[at] = lab->v[--lab->n];
	} else {
		if (lab->n == PREFIXES)
			return;
		entry_any(lab, &e, true);
		lab->v[lab->n++] = e;
		res = edge_table_set(lab->table, &e.addr, e.len, e.rule);
	}
	if (res == -ENOSPC || res == -ENOENT)
		load(lab); /* full, or it came with a list */
	else
		assert_int_equal(res, 0);
	table_agrees(lab, "single", step);
}

static void single_changes_agree_with_a_model(void **state)
{
	struct lab *lab = *state;

	for (int step = 0; step < STEPS; step++) {
		step_single(lab, step);
		if (!chance(lab, 40))
			load(lab);
		if (!chance(lab, 3))
			settle(lab->table);
	}
	assert_true(lab->n > 20);
}

/* What is given back is used again: after thousands of changes no more lines than for the rest. */
static void lines_come_back(void **state)
{
	struct lab *lab = *state;
	struct edge_table_use before, after;
	struct entry e[64];

	for (size_t i = 0; i < 64; i++)
		entry_any(lab, &e[i], true);
	edge_table_use(lab->table, &before);
	for (int round = 0; round < 200; round++) {
		for (size_t i = 0; i < 64; i++)
			assert_int_equal(
				edge_table_set(lab->table, &e[i].addr, e[i].len, e[i].rule), 0);
		for (size_t i = 0; i < 64; i++)
			assert_int_equal(
				edge_table_del(lab->table, &e[i].addr, e[i].len, e[i].rule), 0);
		settle(lab->table);
	}
	edge_table_use(lab->table, &after);
	assert_int_equal(after.lines, before.lines);
	assert_int_equal(after.prefixes4 + after.prefixes6, 0);
}

/* A long list: the maps grow, and every one of its addresses is found. */
static void a_table_grows(void **state)
{
	struct lab *lab = *state;
	struct edge_prefixes lists = {}, none = {};
	struct edge_table_use use;
	char err[256] = "";
	uint32_t class;

	for (uint32_t i = 0; i < 200000; i++)
		assert_int_equal(edge_prefixes_add4(&lists, i * 2654435761u, 32, 1), 0);
	assert_int_equal(edge_prefixes_sort(&lists), 0);
	assert_int_equal(
		edge_table_load(lab->table, &lists, &none, &lab->settings, err, sizeof(err)), 0);
	edge_table_use(lab->table, &use);
	assert_int_equal(use.prefixes4, 200000);
	assert_true(use.max_lines > EDGE_LAB_RULES && use.lines < use.max_lines);
	for (uint32_t i = 0; i < 200000; i += 97) {
		union tw_addr addr = { .word = { 0, 0, htonl(0xffff), htonl(i * 2654435761u) } };

		assert_int_equal(edge_table_find(lab->table, &addr, &class), 0);
		assert_int_equal(class, class_of(1));
		program_agrees(lab, &addr, class);
	}
}

/* Everything denied, and one network let through. */
static void the_whole_world_can_be_denied(void **state)
{
	struct lab *lab = *state;

	lab->v[0] = (struct entry){ { .word = { 0, 0, htonl(0xffff), 0 } }, 96, 1 };
	lab->v[1] = (struct entry){ {}, 0, 1 };
	lab->v[2] =
		(struct entry){ { .word = { 0, 0, htonl(0xffff), htonl(0x00010200) } }, 120, 8 };
	lab->n = 3;
	load(lab);
	for (int step = 0; step < 50; step++)
		table_agrees(lab, "world", step);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, lab_setup, lab_teardown)
	const struct CMUnitTest tests[] = {
		TEST(whole_lists_agree_with_a_model),
		TEST(single_changes_agree_with_a_model),
		TEST(lines_come_back),
		TEST(a_table_grows),
		TEST(the_whole_world_can_be_denied),
	};

	return cmocka_run_group_tests_name("edge_table", tests, NULL, NULL);
}
