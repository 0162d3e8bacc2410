/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Frontends and backends as they are typed. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../cli/edge_spec.h"

struct typed {
	const char *text;
	const char *json; /* NULL: it is none */
};

static void all_are(const struct typed *v, json_t *(*parse)(const char *text))
{
	for (; v->text; v++) {
		json_t *got = parse(v->text);
		json_t *want = v->json ? json_loads(v->json, 0, NULL) : NULL;

		if (!got != !want || (got && !json_equal(got, want)))
			fail_msg("%s became %s", v->text, got ? json_dumps(got, 0) : "nothing");
		json_decref(got);
		json_decref(want);
	}
}

static void frontends(void **state)
{
	static const struct typed v[] = {
		{ "192.0.2.1", "{\"address\": \"192.0.2.1\"}" },
		{ "192.0.2.1:80", "{\"address\": \"192.0.2.1\", \"port\": 80}" },
		{ "192.0.2.1:80/udp",
		  "{\"address\": \"192.0.2.1\", \"port\": 80, \"protocol\": \"UDP\"}" },
		{ "192.0.2.0/24:80/TCP",
		  "{\"address\": \"192.0.2.0/24\", \"port\": 80, \"protocol\": \"TCP\"}" },
		{ "192.0.2.1/sctp", "{\"address\": \"192.0.2.1\", \"protocol\": \"SCTP\"}" },
		{ "2001:db8::1", "{\"address\": \"2001:db8::1\"}" },
		{ "2001:db8::/64", "{\"address\": \"2001:db8::/64\"}" },
		{ "[2001:db8::1]:443/udp",
		  "{\"address\": \"2001:db8::1\", \"port\": 443, \"protocol\": \"UDP\"}" },
		{ "[2001:db8::]/64:443", "{\"address\": \"2001:db8::/64\", \"port\": 443}" },
		{ "", NULL },
		{ ":80", NULL },
		{ "192.0.2.1:", NULL },
		{ "192.0.2.1:0", NULL },
		{ "192.0.2.1:65536", NULL },
		{ "192.0.2.1:-1", NULL },
		{ "192.0.2.1:80/icmp", NULL },
		{ "192.0.2.1:80 ", NULL },
		{ "[2001:db8::1", NULL },
		{ NULL, NULL },
	};
	all_are(v, edge_front_parse);
}

static void backends(void **state)
{
	static const struct typed v[] = {
		{ "10.0.0.1", "{\"address\": \"10.0.0.1\"}" },
		{ "10.0.0.1:8080,weight=3", "{\"address\": \"10.0.0.1\", \"port\": 8080, "
					    "\"weight\": 3}" },
		{ "10.0.0.1,id=0x10,weight=0",
		  "{\"address\": \"10.0.0.1\", \"serverID\": 16, \"weight\": 0}" },
		{ "fd00::1,weight=2", "{\"address\": \"fd00::1\", \"weight\": 2}" },
		{ "[fd00::1]:80", "{\"address\": \"fd00::1\", \"port\": 80}" },
		{ "10.0.0.1/24", NULL },
		{ "10.0.0.1,", NULL },
		{ "10.0.0.1,weight", NULL },
		{ "10.0.0.1,weight=x", NULL },
		{ "10.0.0.1,color=1", NULL },
		{ ",weight=1", NULL },
		{ NULL, NULL },
	};

	all_are(v, edge_backend_parse);
}

static void what_is_shown_can_be_typed(void **state)
{
	static const char *const texts[] = { "10.0.0.1", "10.0.0.1:80", "fd00::1", "[fd00::1]:80" };

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		json_t *b = edge_backend_parse(texts[i]);
		char *shown = edge_address_format(json_string_value(json_object_get(b, "address")),
						  json_integer_value(json_object_get(b, "port")));

		assert_string_equal(shown, texts[i]);
		free(shown);
		json_decref(b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frontends),
		cmocka_unit_test(backends),
		cmocka_unit_test(what_is_shown_can_be_typed),
	};

	return cmocka_run_group_tests_name("edge_spec", tests, NULL, NULL);
}
