/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* EdgeService: what is understood, and where each mistake is found. */
#include "unit.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include <object/object.h>
#include <towpath/edge_balance_abi.h>

#define HEAD                                                                                       \
	"apiVersion: towpath.dev/v1\n"                                                             \
	"kind: EdgeService\n"                                                                      \
	"metadata: {name: web}\n"                                                                  \
	"spec:\n"

static void everything_is_understood(void **state)
{
	static const char text[] =
		HEAD "  frontends:\n"
		     "  - {address: 192.0.2.10, port: 443, protocol: UDP}\n"
		     "  - {address: '2001:db8::/64'}\n"
		     "  way: gue\n"
		     "  affinity: address\n"
		     "  seed: 7\n"
		     "  idleSeconds: 60\n"
		     "  drainSeconds: 0\n"
		     "  check: {type: http, port: 8080, path: /ok, host: a.b,\n"
		     "          intervalMs: 500, timeoutMs: 100, rise: 1, fall: 9}\n"
		     "  backends:\n"
		     "  - {address: 10.0.0.1, weight: 5, serverID: 0x1234}\n"
		     "  - {address: 'fd00::1', drain: true}\n";
	struct object_list list = {};
	struct object_error err;

	assert_int_equal(object_parse("f", text, strlen(text), &list, &err), 0);
	assert_int_equal(list.n, 1);
	const struct object *obj = list.v[0];
	const struct edge_service *s = &obj->service;

	assert_int_equal(obj->kind, OBJECT_EDGESERVICE);
	assert_string_equal(obj->ns, "default");
	assert_int_equal(s->way, TW_EDGE_WAY_GUE);
	assert_int_equal(s->flags, TW_EDGE_FRONT_ADDRESS);
	assert_int_equal(s->seed, 7);
	assert_int_equal(s->idle, 60);
	assert_int_equal(s->drain, 0);
	assert_int_equal(s->n_fronts, 2);
	assert_int_equal(s->fronts[0].prefix.len, 128);
	assert_int_equal(s->fronts[0].port, 443);
	assert_int_equal(s->fronts[0].proto, IPPROTO_UDP);
	assert_int_equal(s->fronts[1].prefix.len, 64);
	assert_int_equal(s->fronts[1].port, 0);
	assert_int_equal(s->fronts[1].proto, IPPROTO_TCP);
	assert_int_equal(s->check.type, CHECK_HTTP);
	assert_int_equal(s->check.port, 8080);
	assert_string_equal(s->check.path, "/ok");
	assert_string_equal(s->check.host, "a.b");
	assert_int_equal(s->check.interval_ms, 500);
	assert_int_equal(s->check.timeout_ms, 100);
	assert_int_equal(s->check.rise, 1);
	assert_int_equal(s->check.fall, 9);
	assert_int_equal(s->n_backends, 2);
	assert_int_equal(s->backends[0].weight, 5);
	assert_int_equal(s->backends[0].server_id, 0x1234);
	assert_true(s->backends[1].drain);
	object_list_clear(&list);
}

static void defaults_are_those_of_the_guide(void **state)
{
	static const char text[] = HEAD "  frontends: [{address: 192.0.2.10, port: 80}]\n";
	struct object_list list = {};
	struct object_error err;

	assert_int_equal(object_parse("f", text, strlen(text), &list, &err), 0);
	const struct edge_service *s = &list.v[0]->service;

	assert_int_equal(s->way, TW_EDGE_WAY_IPIP);
	assert_int_equal(s->flags, 0);
	assert_int_equal(s->idle, 900);
	assert_int_equal(s->drain, 300);
	assert_int_equal(s->check.type, CHECK_NONE);
	assert_int_equal(s->check.interval_ms, 2000);
	assert_int_equal(s->n_backends, 0);
	object_list_clear(&list);
}

#define FRONT "  frontends: [{address: 192.0.2.10, port: 80}]\n"
#define FRONT_UDP "  frontends: [{address: 192.0.2.10, port: 80, protocol: UDP}]\n"

static void mistakes_are_found_where_they_are(void **state)
{
	static const struct {
		const char *spec;
		unsigned int line;
		const char *field, *word;
	} cases[] = {
		{ "  backends: []\n", 5, "spec.frontends", "missing" },
		{ "  frontends: []\n", 5, "spec.frontends", "1 to 64" },
		{ "  frontends: [{port: 80}]\n", 5, "spec.frontends[0].address", "missing" },
		{ "  frontends: [{address: web, port: 80}]\n", 5, "spec.frontends[0].address",
		  "'web'" },
		{ "  frontends: [{address: 192.0.2.1, port: 0}]\n", 5, "spec.frontends[0].port",
		  "1 to 65535" },
		{ "  frontends: [{address: 192.0.2.1, port: 80, protocol: ICMP}]\n", 5,
		  "spec.frontends[0].protocol", "ICMP" },
		{ "  frontends: [{address: 192.0.2.1, ports: 80}]\n", 5, "spec.frontends[0].ports",
		  "no field ports" },
		{ "  frontends: [{address: 192.0.2.1}, {address: 192.0.2.1}]\n", 5, "spec",
		  "the same" },
		{ FRONT "  way: tunnel\n", 6, "spec.way", "ipip, gue, l2 or nat" },
		{ FRONT "  affinity: cookie\n", 6, "spec.affinity", "connection or address" },
		{ FRONT "  quic: true\n", 5, "spec", "UDP" },
		{ FRONT_UDP "  quic: true\n  way: nat\n", 5, "spec", "quic needs" },
		{ FRONT "  seed: -1\n", 6, "spec.seed", "0 to 4294967295" },
		{ FRONT "  idleSeconds: 0\n", 6, "spec.idleSeconds", "1 to 86400" },
		{ FRONT "  check: {type: ping}\n", 6, "spec.check.type", "tcp, http or none" },
		{ FRONT "  check: {path: 'a b'}\n", 6, "spec.check.path", "spaces" },
		{ FRONT "  check: {host: \"a\\r\\nX: y\"}\n", 6, "spec.check.host", "printable" },
		{ FRONT "  check: {rise: 0}\n", 6, "spec.check.rise", "1 to 100" },
		{ FRONT "  backends: [{weight: 1}]\n", 6, "spec.backends[0].address", "missing" },
		{ FRONT "  backends: [{address: 10.0.0.1, weight: 1001}]\n", 6,
		  "spec.backends[0].weight", "0 to 1000" },
		{ FRONT "  backends: [{address: 10.0.0.1, port: 81}]\n", 5, "spec", "way nat" },
		{ FRONT "  backends: [{address: 10.0.0.1}, {address: 10.0.0.1}]\n", 5, "spec",
		  "the same" },
		{ FRONT "  way: nat\n  backends: [{address: 'fd00::1'}]\n", 5, "spec", "family" },
		{ FRONT "  more: 1\n", 6, "spec.more", "no field more" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct object_list list = {};
		struct object_error err;
		char text[1024];

		snprintf(text, sizeof(text), "%s%s", HEAD, cases[i].spec);
		if (!object_parse("f", text, strlen(text), &list, &err))
			fail_msg("case %zu was taken", i);
		if (err.line != cases[i].line || strcmp(err.field, cases[i].field) ||
		    !strstr(err.text, cases[i].word))
			fail_msg("case %zu: %u:%u %s: %s", i, err.line, err.column, err.field,
				 err.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_is_understood),
		cmocka_unit_test(defaults_are_those_of_the_guide),
		cmocka_unit_test(mistakes_are_found_where_they_are),
	};

	return cmocka_run_group_tests_name("edge_service", tests, NULL, NULL);
}
