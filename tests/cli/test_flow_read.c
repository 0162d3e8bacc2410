/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The flow log from the outside: the ring, readers and filters. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "flow_lab.h"

static void test_ring_is_bounded_and_forgets_the_oldest(void **state)
{
	struct fixture *f = *state;
	struct flow_log_stats stats;
	json_t *lines;

	for (uint16_t i = 0; i < 10 * RING; i++)
		take(f, event(f, WEB, DB, (uint16_t)(1000 + i), TW_EVENT_NEW, TW_REASON_OK));
	flow_log_stats_get(f->log, &stats);
	assert_int_equal(stats.events, 10 * RING);
	assert_int_equal(stats.kept, RING);
	/* Names are shared, so the ring costs its records and little more. */
	assert_in_range(stats.bytes, RING * 100, 120000);
	lines = read_lines(f, NULL, UINT32_MAX, 4096);
	assert_int_equal(json_array_size(lines), RING);
	assert_int_equal(num(json_object_get(json_array_get(lines, 0), "to"), "port"),
			 1000 + 9 * RING);
	json_decref(lines);
}

static void test_reader_that_is_overtaken_is_told(void **state)
{
	struct fixture *f = *state;
	struct flow_reader *r;
	char text[4096];

	take(f, event(f, WEB, DB, 1, TW_EVENT_NEW, TW_REASON_OK));
	assert_int_equal(flow_reader_new(&r, f->log, NULL, NULL,
					 &(struct flow_reading){ .last = 1, .follow = true }),
			 0);
	for (uint16_t i = 0; i < RING + 9; i++)
		take(f, event(f, WEB, DB, (uint16_t)(2 + i), TW_EVENT_NEW, TW_REASON_OK));

	int n = flow_reader_fill(r, text, sizeof(text) - 1);

	assert_true(n > 0);
	text[n] = '\0';
	assert_non_null(strstr(text, "{\"lost\":10}\n"));
	assert_non_null(strstr(text, "\"port\":11,"));
	flow_reader_free(r);
}

static void test_follow(void **state)
{
	struct fixture *f = *state;
	struct flow_reader *r;
	char text[4096];

	take(f, event(f, WEB, DB, 1, TW_EVENT_NEW, TW_REASON_OK));
	assert_int_equal(
		flow_reader_new(&r, f->log, NULL, NULL, &(struct flow_reading){ .follow = true }),
		0);
	assert_false(flow_reader_ready(r));
	assert_int_equal(flow_reader_fill(r, text, sizeof(text)), 0);
	take(f, event(f, WEB, DB, 2, TW_EVENT_NEW, TW_REASON_OK));
	assert_true(flow_reader_ready(r));
	assert_true(flow_reader_fill(r, text, sizeof(text)) > 0);
	assert_non_null(memmem(text, sizeof(text), "\"port\":2,", 9));
	assert_int_equal(flow_reader_fill(r, text, sizeof(text)), 0);
	flow_reader_free(r);
}

static void test_lines_may_be_taken_in_any_pieces(void **state)
{
	struct fixture *f = *state;

	for (uint16_t i = 0; i < 5; i++)
		take(f, event(f, WEB, DB, i, TW_EVENT_NEW, TW_REASON_OK));

	json_t *whole = read_lines(f, NULL, 3, 1 << 16);

	assert_int_equal(json_array_size(whole), 3);
	for (size_t step = 1; step < 2000; step = step * 3 + 1) {
		json_t *pieces = read_lines(f, NULL, 3, step);

		assert_true(json_equal(whole, pieces));
		json_decref(pieces);
	}
	json_decref(whole);
}

/* Five records that differ in everything that filters look at. */
static void take_variety(struct fixture *f)
{
	struct tw_event ev = event(f, WEB, DB, 5432, TW_EVENT_NEW, TW_REASON_OK);

	take(f, ev);								   /* 0 */
	take(f, event(f, SPY, DB, 5432, TW_EVENT_DROP, TW_REASON_POLICY_INGRESS)); /* 1 */
	ev = event(f, WEB, DB, 53, TW_EVENT_NEW, TW_REASON_OK);			   /* 2 */
	ev.tuple.proto = IPPROTO_UDP;
	ev.slot_to = 0;
	ev.identity_to = TW_ID_WORLD;
	assert_int_equal(addr_parse("192.0.2.9", &ev.tuple.daddr), 0);
	take(f, ev);
	ev = event(f, DB, WEB, 40000, TW_EVENT_DROP, TW_REASON_NO_FLOW); /* 3: an answer */
	ev.tuple.sport = htons(5432);
	take(f, ev);
	ev = event(f, WEB, DB, 5432, TW_EVENT_CLOSE, TW_REASON_OK); /* 4 */
	ev.tuple.family = 6;
	ev.slot_from = 0;
	ev.identity_from = TW_ID_HOST;
	assert_int_equal(addr_parse("2001:db8::5", &ev.tuple.saddr), 0);
	assert_int_equal(addr_parse("fd00::2", &ev.tuple.daddr), 0);
	take(f, ev);
}

static void test_filters(void **state)
{
	static const struct {
		const char *set[3]; /* key=value */
		unsigned int want;  /* bits: records that pass */
	} cases[] = {
		{ { NULL }, 0x1f },
		{ { "from=shop/web" }, 0x05 },
		{ { "from=web" }, 0x05 },
		{ { "to=shop/" }, 0x1b },
		{ { "from=bank/" }, 0x02 },
		{ { "from=bank/web" }, 0 },
		{ { "from=host" }, 0x10 },
		{ { "to=world" }, 0x04 },
		{ { "from=app=web" }, 0x05 },
		{ { "from=tier=front", "to=world" }, 0x04 },
		{ { "from=app=we" }, 0 },
		{ { "with=spy" }, 0x02 },
		{ { "with=shop/web" }, 0x0d },
		{ { "namespace=bank" }, 0x02 },
		{ { "namespace=shop" }, 0x1f },
		{ { "namespace=sho" }, 0 },
		{ { "label=tier" }, 0x0d },
		{ { "label=tie" }, 0 },
		{ { "label=app=db" }, 0x1b },
		{ { "from=10.88.0.1" }, 0x05 },
		{ { "from=10.88.0.0/30" }, 0x0f },
		{ { "to=192.0.2.0/24" }, 0x04 },
		{ { "from=2001:db8::/32" }, 0x10 },
		{ { "from=0.0.0.0/0" }, 0x0f },
		{ { "port=5432" }, 0x1b },
		{ { "port=5432/udp" }, 0 },
		{ { "port=53/udp" }, 0x04 },
		{ { "port=udp" }, 0x04 },
		{ { "port=TCP" }, 0x1b },
		{ { "port=40000" }, 0x0a },
		{ { "port=5432/tcp", "port=53" }, 0x04 },
		{ { "verdict=deny" }, 0x0a },
		{ { "verdict=allow,deny" }, 0x1f },
		{ { "type=new,close" }, 0x15 },
		{ { "reason=no_flow" }, 0x08 },
		{ { "reason=no_flow,policy_ingress" }, 0x0a },
		{ { "policy=shop/only-web" }, 0x03 },
		{ { "policy=only-web" }, 0x03 },
		{ { "policy=web-out" }, 0x05 },
		{ { "policy=bank/only-web" }, 0 },
		{ { "policy=only-we" }, 0 },
		{ { "since=0" }, 0x1f },
		{ { "since=18446744073709551615" }, 0 },
		{ { "until=1" }, 0 },
		{ { "until=18446744073709551615" }, 0x1f },
	};
	struct fixture *f = *state;
	char err[256];

	take_variety(f);

	json_t *all = read_lines(f, NULL, UINT32_MAX, 4096);

	assert_int_equal(json_array_size(all), 5);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct flow_filter *filter;
		unsigned int got = 0;

		assert_int_equal(flow_filter_new(&filter), 0);
		for (size_t n = 0; n < 3 && cases[i].set[n]; n++) {
			char key[16];
			size_t len = strcspn(cases[i].set[n], "=");

			snprintf(key, sizeof(key), "%.*s", (int)len, cases[i].set[n]);
			assert_int_equal(flow_filter_set(filter, key, cases[i].set[n] + len + 1,
							 err, sizeof(err)),
					 0);
		}
		json_t *lines = read_lines(f, filter, UINT32_MAX, 4096);

		for (size_t n = 0; n < json_array_size(lines); n++)
			for (unsigned int k = 0; k < 5; k++)
				if (json_equal(json_array_get(lines, n), json_array_get(all, k)))
					got |= 1u << k;
		if (got != cases[i].want)
			fail_msg("%s: got %#x, want %#x", cases[i].set[0], got, cases[i].want);
		json_decref(lines);
	}
	json_decref(all);
}

static void test_last_counts_only_what_passes(void **state)
{
	struct fixture *f = *state;
	struct flow_filter *filter;
	char err[256];

	take_variety(f);
	assert_int_equal(flow_filter_new(&filter), 0);
	assert_int_equal(flow_filter_set(filter, "from", "shop/web", err, sizeof(err)), 0);

	json_t *lines = read_lines(f, filter, 2, 4096);

	assert_int_equal(json_array_size(lines), 2);
	json_decref(lines);
}

static void test_bad_filters_are_refused_in_a_sentence(void **state)
{
	static const struct {
		const char *key, *value;
		int ret;
	} cases[] = {
		{ "from", "", -EINVAL },	   { "to", "/web", -EINVAL },
		{ "port", "65536", -EINVAL },	   { "port", "80/xyz", -EINVAL },
		{ "port", "80tcp", -EINVAL },	   { "port", "", -EINVAL },
		{ "port", "-1", -EINVAL },	   { "verdict", "maybe", -EINVAL },
		{ "verdict", "", -EINVAL },	   { "type", "new,old", -EINVAL },
		{ "reason", "bad_mood", -EINVAL }, { "policy", "", -EINVAL },
		{ "since", "yesterday", -EINVAL }, { "since", "-5", -EINVAL },
		{ "until", "", -EINVAL },	   { "namespace", "", -EINVAL },
		{ "label", "", -EINVAL },	   { "label", "=x", -EINVAL },
		{ "colour", "red", -ENOENT },
	};
	struct flow_filter *f;

	assert_int_equal(flow_filter_new(&f), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char err[256] = "";

		if (flow_filter_set(f, cases[i].key, cases[i].value, err, sizeof(err)) !=
		    cases[i].ret)
			fail_msg("%s=%s", cases[i].key, cases[i].value);
		assert_non_null(strstr(err, cases[i].ret == -ENOENT ? "use from" : "give "));
	}
	flow_filter_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FLOW_TEST(test_ring_is_bounded_and_forgets_the_oldest),
		FLOW_TEST(test_reader_that_is_overtaken_is_told),
		FLOW_TEST(test_follow),
		FLOW_TEST(test_lines_may_be_taken_in_any_pieces),
		FLOW_TEST(test_filters),
		FLOW_TEST(test_last_counts_only_what_passes),
		FLOW_TEST(test_bad_filters_are_refused_in_a_sentence),
	};

	return cmocka_run_group_tests_name("flow_read", tests, NULL, NULL);
}
