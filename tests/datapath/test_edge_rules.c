/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Random rules, compiled as the agent does, against a plain model: whatever allows a packet wins,
 * then whatever denies it. What the program makes of a frame, and what `edge test` would say.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "edge/compile.h"
#include "edge_lab.h"
#include "edge_table.h"

#define RULES 14u
#define TRIALS 120
#define PACKETS 40

struct lab {
	struct edge *edge;
	struct edge_table *table;
	struct edge_compile compile;
	struct edge_rule rules[RULES];
	unsigned int seed;
};

static uint32_t chance(struct lab *lab, uint32_t n)
{
	return (uint32_t)rand_r(&lab->seed) % n;
}

/* Few addresses and ports, so that rules meet. */
static void addr_any(struct lab *lab, char *buf, size_t len)
{
	if (chance(lab, 2))
		snprintf(buf, len, "10.%u.%u.%u", chance(lab, 2), chance(lab, 2), chance(lab, 3));
	else
		snprintf(buf, len, "2001:db8:%u::%u:%u", chance(lab, 2), chance(lab, 2),
			 chance(lab, 3));
}

static void ports_any(struct lab *lab, char *buf, size_t len)
{
	static const char *const some[] = {
		"53/udp", "53/tcp", "50-60/udp", "udp", "tcp", "80/tcp"
	};

	snprintf(buf, len, "%s", some[chance(lab, sizeof(some) / sizeof(some[0]))]);
}

static void rule_any(struct lab *lab, uint32_t i)
{
	static const unsigned int len4[] = { 8, 15, 16, 24, 31, 32 },
				  len6[] = { 32, 47, 64, 127, 128 };
	char addr[64], ports[32], text[128], why[256];
	enum edge_action action = chance(lab, 4) ? EDGE_DENY : EDGE_ALLOW;

	addr_any(lab, addr, sizeof(addr));
	ports_any(lab, ports, sizeof(ports));
	switch (chance(lab, 5)) {
	case 0:
		snprintf(text, sizeof(text), "%s", ports);
		break;
	case 1:
	case 2:
		snprintf(text, sizeof(text), "%s/%u %s", addr,
			 strchr(addr, ':') ? len6[chance(lab, 5)] : len4[chance(lab, 6)], ports);
		break;
	default:
		snprintf(text, sizeof(text), "%s/%u", addr,
			 strchr(addr, ':') ? len6[chance(lab, 5)] : len4[chance(lab, 6)]);
	}
	if (edge_rule_parse(text, action, &lab->rules[i], why, sizeof(why)))
		fail_msg("%s: %s", text, why);
	lab->rules[i].number = TW_EDGE_FIRST_RULE + i;
	lab->compile.rule[TW_EDGE_FIRST_RULE + i] = &lab->rules[i];
}

static void load(struct lab *lab)
{
	struct edge_prefixes none = {}, singles = {};
	struct tw_edge_settings settings;
	struct tw_edge_ports *ports = malloc(sizeof(*ports));
	char err[256] = "";

	for (uint32_t i = 0; i < RULES; i++)
		if (lab->rules[i].kind == EDGE_RULE_PREFIX)
			assert_int_equal(edge_prefixes_add(&singles, &lab->rules[i].prefix.addr,
							   lab->rules[i].prefix.len,
							   lab->rules[i].number),
					 0);
	assert_int_equal(edge_prefixes_sort(&singles), 0);
	/* Always the same, so that the program is loaded once. */
	edge_settings_default(&settings);
	settings.filter = settings.ports = settings.parse = 1;
	edge_compile_begin(&lab->compile);
	edge_table_settle_begin(lab->table);
	edge_table_settle(lab->table);
	if (edge_table_load(lab->table, &none, &singles, &settings, err, sizeof(err)))
		fail_msg("load: %s", err);
	assert_int_equal(lab->compile.failed, 0);
	assert_non_null(ports);
	edge_compile_ports(&lab->compile, ports);
	assert_int_equal(edge_ports_store(lab->edge, ports), 0);
	free(ports);
}

static bool rule_covers(const struct edge_rule *rule, const union tw_addr *addr, uint8_t proto,
			uint16_t port)
{
	if (rule->kind == EDGE_RULE_PREFIX && !prefix_contains(&rule->prefix, addr))
		return false;
	return rule->ports.any || (rule->ports.proto == proto && rule->ports.first <= port &&
				   port <= rule->ports.last);
}

/* 0: no rule is for it. */
static uint32_t model(const struct lab *lab, const union tw_addr *addr, uint8_t proto,
		      uint16_t port)
{
	uint32_t kind = 0;

	for (uint32_t i = 0; i < RULES; i++) {
		if (!rule_covers(&lab->rules[i], addr, proto, port))
			continue;
		if (lab->rules[i].action == EDGE_ALLOW)
			return TW_EDGE_CLASS_ALLOW;
		kind = TW_EDGE_CLASS_DENY;
	}
	return kind;
}

static void packet_check(struct lab *lab, int trial)
{
	static const uint16_t ports[] = { 53, 80, 50, 61 };
	struct spec spec = { chance(lab, 2) ? UDP : TCP, OUTSIDE, NODE, 4000,
			     ports[chance(lab, 4)],	 SYN };
	struct edge_ports packet = { .proto = what_proto(spec.what, 4),
				     .first = spec.dport,
				     .last = spec.dport };
	uint32_t expected, class, number;
	struct edge_outcome got;
	union tw_addr addr;
	struct frame frame;
	char text[64];

	addr_any(lab, text, sizeof(text));
	assert_int_equal(addr_parse(text, &addr), 0);
	expected = model(lab, &addr, packet.proto, spec.dport);
	frame_build(&frame, addr_is4(&addr) ? 4 : 6, &spec);
	if (addr_is4(&addr))
		memcpy(frame.data + 26, &addr.word[3], 4);
	else
		memcpy(frame.data + 22, &addr, 16);
	edge_lab_run(lab->edge, &frame, &got);
	if (got.action != (expected == TW_EDGE_CLASS_DENY ? XDP_DROP : XDP_PASS))
		fail_msg("trial %d: %s to %u, protocol %u: action %u, counter %u, should be %x",
			 trial, text, spec.dport, packet.proto, got.action, got.counter, expected);
	/* The rule that the kernel has counted it for is one of those that say so. */
	assert_int_equal(edge_table_find(lab->table, &addr, &class), 0);
	number = edge_compile_decide(&lab->compile, class, &packet);
	assert_int_equal(number ? number : TW_EDGE_PASS, got.counter);
	if (!expected)
		return;
	assert_true(number >= TW_EDGE_FIRST_RULE && number < TW_EDGE_FIRST_RULE + RULES);
	assert_true(rule_covers(&lab->rules[number - TW_EDGE_FIRST_RULE], &addr, packet.proto,
				spec.dport));
}

static void random_rules_agree_with_a_model(void **state)
{
	struct tw_edge_settings settings;
	struct lab *lab = calloc(1, sizeof(*lab));

	assert_non_null(lab);
	lab->seed = 3;
	lab->compile.half = 1;
	edge_settings_default(&settings);
	settings.filter = settings.ports = settings.parse = 1;
	lab->edge = edge_lab_open(&settings);
	lab->compile.edge = lab->edge;
	assert_int_equal(edge_table_open(&lab->table, lab->edge, edge_compile_class, &lab->compile),
			 0);
	for (int trial = 0; trial < TRIALS; trial++) {
		for (uint32_t i = 0; i < RULES; i++)
			rule_any(lab, i);
		load(lab);
		for (int k = 0; k < PACKETS; k++)
			packet_check(lab, trial);
		for (uint32_t i = 0; i < RULES; i++)
			edge_rule_clear(&lab->rules[i]);
	}
	edge_table_close(lab->table);
	edge_compile_close(&lab->compile);
	edge_close(lab->edge);
	free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_rules_agree_with_a_model),
	};

	return cmocka_run_group_tests_name("edge_rules", tests, NULL, NULL);
}
