/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Block lists and rules of the edge, as people and publishers write them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "edge/rule.h"

struct seen {
	char text[4096];
	size_t n;
};

static int prefix_seen(void *arg, const union tw_addr *addr, uint32_t len, unsigned int line)
{
	struct prefix prefix = { *addr, (uint8_t)len };
	struct seen *seen = arg;
	char text[64];

	prefix_mask(&prefix);
	prefix_format(&prefix, text, sizeof(text));
	seen->n += (size_t)snprintf(seen->text + seen->n, sizeof(seen->text) - seen->n, "%u:%s ",
				    line, text);
	return 0;
}

static void reads_as(const char *text, const char *expected)
{
	struct edge_list_error err;
	struct seen seen = {};
	int res = edge_list_each(text, strlen(text), prefix_seen, &seen, &err);

	if (res)
		fail_msg("'%s': line %u, column %u: %s", text, err.line, err.column, err.text);
	assert_string_equal(seen.text, expected);
}

static void refused_at(const char *text, unsigned int line, unsigned int column)
{
	struct edge_list_error err;
	struct edge_prefixes out = {};

	assert_int_equal(edge_list_parse(text, strlen(text), 1, &out, &err), -EINVAL);
	if (err.line != line || err.column != column || !*err.text)
		fail_msg("'%s': refused at %u:%u (%s), not %u:%u", text, err.line, err.column,
			 err.text, line, column);
	assert_true(!out.v4 && !out.v6);
}

static void formats_of_public_lists(void **state)
{
	reads_as("", "");
	reads_as("\n\r\n  # remark\n; remark\n// remark\n", "");
	reads_as("192.0.2.1", "1:192.0.2.1/32 ");
	reads_as("192.0.2.0/24\r\n2001:db8::/32\r\n", "1:192.0.2.0/24 2:2001:db8::/32 ");
	reads_as("\xef\xbb\xbf"
		 "192.0.2.0/24\n",
		 "1:192.0.2.0/24 ");
	reads_as("1.10.16.0/20 ; SBL256894\n", "1:1.10.16.0/20 ");
	reads_as("192.0.2.7\t12\n192.0.2.8,bad\n192.0.2.9#bad\n",
		 "1:192.0.2.7/32 2:192.0.2.8/32 3:192.0.2.9/32 ");
	reads_as("Start\tEnd\tNetmask\n192.0.2.0\t192.0.2.255\t24\t1234\n", "2:192.0.2.0/24 ");
	reads_as("192.0.2.1-192.0.2.2\n", "1:192.0.2.1/32 1:192.0.2.2/32 ");
	reads_as("Some: net, Inc:192.0.2.0-192.0.2.127\n", "1:192.0.2.0/25 ");
	reads_as("0.0.0.0 - 255.255.255.255\n", "1:0.0.0.0/0 ");
	reads_as("10.0.0.255-10.0.1.3\n", "1:10.0.0.255/32 1:10.0.1.0/30 ");
	reads_as("2001:db8::1-2001:db8::4\n",
		 "1:2001:db8::1/128 1:2001:db8::2/127 1:2001:db8::4/128 ");
	reads_as("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff\n", "1:::/0 ");
	/* Bits behind the length do not count. */
	reads_as("192.0.2.77/24\n", "1:192.0.2.0/24 ");
}

static void what_a_line_cannot_mean(void **state)
{
	refused_at("192.0.2.1\nnonsense\n", 2, 1);
	refused_at("  256.0.0.1\n", 1, 3);
	refused_at("192.0.2.0/33\n", 1, 11);
	refused_at("192.0.2.0/\n", 1, 11);
	refused_at("192.0.2.0 /24\n", 1, 11);
	refused_at("192.0.2.0/24x\n", 1, 13);
	refused_at("192.0.2\n", 1, 1);
	refused_at("192.0.02.1\n", 1, 1);
	refused_at("192.0.2.9-192.0.2.1\n", 1, 20);
	refused_at("192.0.2.9-2001:db8::1\n", 1, 22);
	refused_at("192.0.2.9-\n", 1, 11);
	refused_at("2001:db8::/129\n", 1, 12);
	refused_at("::ffff:192.0.2.1\n", 1, 1);
	refused_at("\n\n192.0.2.1\n192.0.2.1.1", 4, 10);
}

static void the_line_of_an_address(void **state)
{
	static const char text[] = "10.0.0.0/8\n# x\n10.1.0.0/16\n10.1.0.0/24\n::/0\n";
	union tw_addr addr;
	uint32_t len = 0;

	assert_int_equal(addr_parse("10.1.0.9", &addr), 0);
	assert_int_equal(edge_list_find(text, strlen(text), &addr, &len), 4);
	assert_int_equal(len, 96 + 24);
	assert_int_equal(addr_parse("10.2.0.9", &addr), 0);
	assert_int_equal(edge_list_find(text, strlen(text), &addr, &len), 1);
	assert_int_equal(addr_parse("11.2.0.9", &addr), 0);
	assert_int_equal(edge_list_find(text, strlen(text), &addr, &len), 0);
	assert_int_equal(addr_parse("2001:db8::1", &addr), 0);
	assert_int_equal(edge_list_find(text, strlen(text), &addr, &len), 5);
}

static void rules_have_one_spelling(void **state)
{
	static const struct {
		const char *text, *canonical;
		enum edge_rule_kind kind;
	} good[] = {
		{ "192.0.2.77/24", "192.0.2.0/24", EDGE_RULE_PREFIX },
		{ "192.0.2.77/32", "192.0.2.77", EDGE_RULE_PREFIX },
		{ "2001:DB8:0:0::/32", "2001:db8::/32", EDGE_RULE_PREFIX },
		{ "192.0.2.0/24 22/tcp", "192.0.2.0/24 22/tcp", EDGE_RULE_PREFIX },
		{ "192.0.2.0/24 0-65535/udp", "192.0.2.0/24 udp", EDGE_RULE_PREFIX },
		{ "22/tcp", "22/tcp", EDGE_RULE_PORT },
		{ "1000-2000/udp", "1000-2000/udp", EDGE_RULE_PORT },
		{ "proto/47", "gre", EDGE_RULE_PORT },
		{ "proto/99", "proto/99", EDGE_RULE_PORT },
		{ "fragments", "fragments", EDGE_RULE_FORM },
	};
	static const char *const bad[] = {
		"",	     "22/xyz",		"2000-1000/udp", "22/icmp",
		"70000/tcp", "192.0.2.0/24 22", "192.0.2.0/33",	 "fragment",
		"22",	     "proto/256",	"proto/",	 "256"
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct edge_rule rule = {}, again = {};
		char why[256] = "";

		if (edge_rule_parse(good[i].text, EDGE_DENY, &rule, why, sizeof(why)))
			fail_msg("%s: %s", good[i].text, why);
		assert_string_equal(rule.text, good[i].canonical);
		assert_int_equal(rule.kind, good[i].kind);
		/* As it is kept, and back. */
		rule.number = TW_EDGE_FIRST_RULE + 5;
		rule.expires = 77;
		json_t *json = edge_rule_json(&rule);
		assert_int_equal(edge_rule_load(json, &again), 0);
		assert_string_equal(again.text, rule.text);
		assert_int_equal(again.number, rule.number);
		assert_int_equal(again.expires, 77);
		assert_memory_equal(&again.prefix.addr, &rule.prefix.addr,
				    sizeof(rule.prefix.addr));
		assert_int_equal(again.prefix.len, rule.prefix.len);
		json_decref(json);
		edge_rule_clear(&again);
		edge_rule_clear(&rule);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct edge_rule rule = {};
		char why[256] = "";

		if (!edge_rule_parse(bad[i], EDGE_DENY, &rule, why, sizeof(why)))
			fail_msg("'%s' was taken as '%s'", bad[i], rule.text);
		assert_true(*why);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(formats_of_public_lists),
		cmocka_unit_test(what_a_line_cannot_mean),
		cmocka_unit_test(the_line_of_an_address),
		cmocka_unit_test(rules_have_one_spelling),
	};

	return cmocka_run_group_tests_name("edge_list", tests, NULL, NULL);
}
