/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The flow log: events become records with names and decisions; equal drops are counted. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "flow_lab.h"

static void test_new_flow_names_ends_and_rules(void **state)
{
	struct fixture *f = *state;

	take(f, event(f, WEB, DB, 5432, TW_EVENT_NEW, TW_REASON_OK));

	json_t *j = read_last(f);

	assert_string_equal(at(j, "type"), "new");
	assert_string_equal(at(j, "verdict"), "allow");
	assert_string_equal(at(j, "from.what"), "pod");
	assert_string_equal(at(j, "from.namespace"), "shop");
	assert_string_equal(at(j, "from.pod"), "web");
	assert_string_equal(at(j, "from.labels.tier"), "front");
	assert_string_equal(at(j, "from.ip"), "10.88.0.1");
	assert_int_equal(num(json_object_get(j, "from"), "port"), 40000);
	assert_string_equal(at(j, "to.pod"), "db");
	assert_int_equal(num(json_object_get(j, "to"), "port"), 5432);
	assert_string_equal(at(j, "tcp_flags"), "SYN");
	assert_string_equal(at(j, "policy.egress.policy"), "shop/web-out");
	assert_string_equal(at(j, "policy.ingress.policy"), "shop/only-web");
	assert_int_equal(num(json_object_get(json_object_get(j, "policy"), "ingress"), "rule"), 1);
	assert_string_equal(at(j, "policy.ingress.allow"), "true");
	/* Within a second of now, by the wall clock. */
	assert_in_range((uint64_t)num(j, "time"), now_ns(CLOCK_REALTIME) - SECOND,
			now_ns(CLOCK_REALTIME));
	json_decref(j);
}

static void test_ingress_denial_names_the_selecting_policy(void **state)
{
	struct fixture *f = *state;

	take(f, event(f, SPY, DB, 5432, TW_EVENT_DROP, TW_REASON_POLICY_INGRESS));

	json_t *j = read_last(f);

	assert_string_equal(at(j, "reason"), "policy_ingress");
	assert_string_equal(at(j, "policy.ingress.isolated"), "true");
	assert_string_equal(at(j, "policy.ingress.allow"), "false");
	assert_string_equal(at(j, "policy.ingress.policy"), "");
	assert_string_equal(at(j, "policy.ingress.selected_by"), "shop/only-web");
	assert_string_equal(at(j, "policy.egress.isolated"), "false");
	json_decref(j);
}

static void test_egress_denial_does_not_ask_the_receiver(void **state)
{
	struct fixture *f = *state;

	take(f, event(f, WEB, DB, 80, TW_EVENT_DROP, TW_REASON_POLICY_EGRESS));

	json_t *j = read_last(f);

	assert_string_equal(at(j, "policy.egress.selected_by"), "shop/web-out");
	assert_null(json_object_get(json_object_get(j, "policy"), "ingress"));
	json_decref(j);
}

static void test_answer_that_contradicts_the_kernel_is_left_out(void **state)
{
	struct fixture *f = *state;

	/* The policy denies it, but it passed: it was decided under other rules. */
	take(f, event(f, SPY, DB, 5432, TW_EVENT_NEW, TW_REASON_OK));

	json_t *j = read_last(f);

	assert_null(json_object_get(json_object_get(j, "policy"), "ingress"));
	json_decref(j);
	/* And the other way round. */
	take(f, event(f, WEB, DB, 5432, TW_EVENT_DROP, TW_REASON_POLICY_INGRESS));
	j = read_last(f);
	assert_null(json_object_get(json_object_get(j, "policy"), "ingress"));
	assert_string_equal(at(j, "policy.egress.policy"), "shop/web-out");
	json_decref(j);
}

static void test_answers_follow_a_change_of_policy(void **state)
{
	struct fixture *f = *state;
	const struct object *gone = NULL;
	json_t *j;

	for (size_t i = 0; i < f->objects.n; i++)
		if (!strcmp(f->objects.v[i]->name, "only-web"))
			gone = f->objects.v[i];
	take(f, event(f, WEB, DB, 5432, TW_EVENT_NEW, TW_REASON_OK));
	change(f, &(struct policy_change){ .remove = &gone, .n_remove = 1 });
	flow_log_policy_changed(f->log);
	take(f, event(f, WEB, DB, 5432, TW_EVENT_NEW, TW_REASON_OK));
	j = read_last(f);
	assert_string_equal(at(j, "policy.ingress.isolated"), "false");
	assert_string_equal(at(j, "policy.ingress.policy"), "");
	json_decref(j);
}

static void test_names_follow_a_change(void **state)
{
	struct fixture *f = *state;
	json_t *j;

	take(f, event(f, WEB, DB, 5432, TW_EVENT_NEW, TW_REASON_OK));
	f->strange_names = true; /* as if another pod had got the slot */
	flow_log_policy_changed(f->log);
	take(f, event(f, WEB, DB, 5432, TW_EVENT_NEW, TW_REASON_OK));
	j = read_last(f);
	assert_string_not_equal(at(j, "from.pod"), "web");
	assert_null(json_object_get(json_object_get(json_object_get(j, "from"), "labels"), "app"));
	json_decref(j);
}

static void test_what_is_no_pod(void **state)
{
	static const struct {
		uint32_t identity;
		const char *what;
	} cases[] = { { TW_ID_HOST, "host" },	     { TW_ID_WORLD, "world" },
		      { TW_ID_REMOTE_NODE, "node" }, { TW_ID_UNASSIGNED, "unassigned" },
		      { TW_ID_FIRST + 7, "world" },  { TW_ID_UNKNOWN, "unknown" } };
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct tw_event ev = event(f, SPY, DB, 443, TW_EVENT_NEW, TW_REASON_OK);

		ev.slot_to = 0;
		ev.identity_to = cases[i].identity;
		assert_int_equal(addr_parse("192.0.2.9", &ev.tuple.daddr), 0);
		take(f, ev);

		json_t *j = read_last(f);

		assert_string_equal(at(j, "to.what"), cases[i].what);
		assert_string_equal(at(j, "to.ip"), "192.0.2.9");
		assert_null(json_object_get(json_object_get(j, "to"), "pod"));
		json_decref(j);
	}
}

static void test_spoofer_is_named_by_its_port(void **state)
{
	struct fixture *f = *state;
	struct tw_event ev = event(f, SPY, DB, 443, TW_EVENT_DROP, TW_REASON_SPOOFED);

	assert_int_equal(addr_parse("10.88.0.1", &ev.tuple.saddr), 0);
	take(f, ev);

	json_t *j = read_last(f);

	assert_string_equal(at(j, "from.pod"), "spy");
	assert_string_equal(at(j, "from.ip"), "10.88.0.1");
	assert_null(json_object_get(j, "policy"));
	assert_null(json_object_get(j, "duration_ms"));
	json_decref(j);
}

static void test_end_tells_of_the_beginning(void **state)
{
	struct fixture *f = *state;
	struct tw_event ev = event(f, WEB, DB, 5432, TW_EVENT_NEW, TW_REASON_OK);

	ev.time -= 12 * SECOND;
	take(f, ev);
	ev = event(f, WEB, DB, 5432, TW_EVENT_CLOSE, TW_REASON_OK);
	ev.slot_from = ev.slot_to = 0; /* the endpoints are gone */
	ev.identity_from = ev.identity_to = TW_ID_UNKNOWN;
	ev.idle = 5000; /* so long ago was its last packet */
	take(f, ev);

	json_t *j = read_last(f);

	assert_in_range(num(j, "duration_ms"), 6996, 7012);
	assert_string_equal(at(j, "from.pod"), "web");
	assert_string_equal(at(j, "to.pod"), "db");
	assert_string_equal(at(j, "policy.ingress.policy"), "shop/only-web");
	json_decref(j);
	take(f, ev); /* there was one flow */
	j = read_last(f);
	assert_null(json_object_get(j, "duration_ms"));
	json_decref(j);
}

/* More flows at once than a table of a fixed size would do; each has a time of its own. */
static void test_many_live_flows_have_their_durations(void **state)
{
	enum { FLOWS = 20000 };
	struct fixture *f = *state;
	struct tw_event ev = event(f, WEB, DB, 5432, TW_EVENT_NEW, TW_REASON_OK);
	uint64_t now = ev.time;
	unsigned int known = 0;

	for (uint32_t i = 0; i < FLOWS; i++) {
		ev.tuple.sport = htons((uint16_t)i);
		ev.time = now - (i % 1000) * 40 * 1000000ull;
		take(f, ev);
	}
	ev.type = TW_EVENT_CLOSE;
	ev.time = now;
	for (uint32_t i = 0; i < FLOWS; i++) {
		ev.tuple.sport = htons((uint16_t)i);
		take(f, ev);

		json_t *j = read_last(f);
		json_int_t ms = num(j, "duration_ms");

		if (json_object_get(j, "duration_ms")) {
			assert_in_range(ms, (i % 1000) * 40 < 4 ? 0 : (i % 1000) * 40 - 4,
					(i % 1000) * 40 + 4);
			known++;
		}
		json_decref(j);
	}
	assert_in_range(known, FLOWS * 99 / 100, FLOWS);
}

static void test_address_of_a_known_pod_has_its_name(void **state)
{
	struct fixture *f = *state;
	struct tw_event ev = event(f, SPY, DB, 443, TW_EVENT_CLOSE, TW_REASON_OK);

	ev.slot_to = 0; /* as in a close after the endpoint lost its slot */
	take(f, ev);

	json_t *j = read_last(f);

	assert_string_equal(at(j, "to.pod"), "db");
	assert_string_equal(at(j, "to.labels.app"), "db");
	json_decref(j);
}

/* As the fast path drops: it knows the port and the packet, and looks nobody up for it. */
static struct tw_event early_drop(const struct fixture *f, enum tw_reason reason)
{
	struct tw_event ev = event(f, SPY, DB, 5432, TW_EVENT_DROP, reason);

	ev.slot_from = ev.slot_to = 0;
	ev.identity_from = ev.identity_to = TW_ID_UNKNOWN;
	ev.hook = TW_HOOK_FROM_CONTAINER;
	ev.ifindex = PORT_OF(SPY);
	return ev;
}

static void test_early_drop_is_named_by_port_and_address(void **state)
{
	struct fixture *f = *state;
	struct tw_event ev = early_drop(f, TW_REASON_MULTICAST);
	json_t *j;

	memset(&ev.tuple.saddr, 0, sizeof(ev.tuple.saddr)); /* as duplicate address detection */
	take(f, ev);
	j = read_last(f);
	assert_string_equal(at(j, "from.pod"), "spy");
	assert_string_equal(at(j, "to.pod"), "db");
	assert_null(json_object_get(j, "policy"));
	json_decref(j);

	ev.hook = TW_HOOK_TO_CONTAINER;
	ev.ifindex = PORT_OF(WEB);
	take(f, ev);
	j = read_last(f);
	assert_string_equal(at(j, "from.what"), "unknown");
	assert_string_equal(at(j, "to.pod"), "web");
	json_decref(j);
}

static void test_drop_of_a_revoked_flow_names_who_denies(void **state)
{
	struct fixture *f = *state;
	struct tw_event ev = early_drop(f, TW_REASON_REVOKED);
	json_t *j;

	take(f, ev);
	j = read_last(f);
	assert_string_equal(at(j, "policy.ingress.selected_by"), "shop/only-web");
	assert_null(json_object_get(json_object_get(j, "policy"), "egress"));
	json_decref(j);

	/* Another sender, as unknown to the kernel: the answer for the first is not its answer. */
	assert_int_equal(addr_parse("10.88.0.1", &ev.tuple.saddr), 0);
	ev.ifindex = PORT_OF(WEB);
	take(f, ev);
	j = read_last(f);
	assert_string_equal(at(j, "from.pod"), "web");
	assert_null(json_object_get(j, "policy"));
	json_decref(j);
}

static void test_icmp_nat_and_counters(void **state)
{
	struct fixture *f = *state;
	struct tw_event ev = event(f, WEB, DB, 0, TW_EVENT_NEW, TW_REASON_OK);
	json_t *j;

	ev.tuple.proto = IPPROTO_ICMPV6;
	ev.tuple.family = 6;
	ev.tuple.sport = ev.tuple.dport = htons(77); /* the echo's identifier is no port */
	ev.icmp_type = 128;
	ev.nat_port = htons(61000);
	assert_int_equal(addr_parse("2001:db8::1", &ev.nat_addr), 0);
	take(f, ev);
	j = read_last(f);
	assert_string_equal(at(j, "proto"), "icmpv6");
	assert_int_equal(num(j, "icmp_type"), 128);
	assert_null(json_object_get(json_object_get(j, "to"), "port"));
	assert_string_equal(at(j, "nat"), "[2001:db8::1]:61000");
	json_decref(j);

	ev = event(f, WEB, DB, 5432, TW_EVENT_CLOSE, TW_REASON_OK);
	ev.tuple.sport = htons(4711); /* nobody saw it opened */
	ev.tcp = 0x1b;
	ev.tcp_reply = 0x14;
	ev.packets[0] = 5000000000;
	ev.bytes[1] = 7;
	ev.nat_port = htons(61001);
	assert_int_equal(addr_parse("192.0.2.1", &ev.nat_addr), 0);
	take(f, ev);
	j = read_last(f);
	assert_string_equal(at(j, "tcp_flags"), "FIN,SYN,PSH,ACK");
	assert_string_equal(at(j, "tcp_flags_reply"), "RST,ACK");
	assert_int_equal(json_integer_value(json_array_get(json_object_get(j, "packets"), 0)),
			 5000000000);
	assert_int_equal(json_integer_value(json_array_get(json_object_get(j, "bytes"), 1)), 7);
	assert_string_equal(at(j, "nat"), "192.0.2.1:61001");
	assert_null(json_object_get(j, "policy"));
	json_decref(j);
}

static void test_what_is_no_ip(void **state)
{
	struct fixture *f = *state;
	struct tw_event ev = event(f, SPY, DB, 0, TW_EVENT_DROP, TW_REASON_NOT_IP);

	memset(&ev.tuple, 0, sizeof(ev.tuple));
	ev.slot_to = 0;
	ev.identity_to = TW_ID_UNKNOWN;
	take(f, ev);

	json_t *j = read_last(f);

	assert_string_equal(at(j, "from.pod"), "spy");
	assert_string_equal(at(j, "to.what"), "unknown");
	assert_null(json_object_get(j, "proto"));
	assert_null(json_object_get(json_object_get(j, "to"), "ip"));
	json_decref(j);
}

static void test_lines_are_json_whatever_the_names(void **state)
{
	struct fixture *f = *state;

	f->strange_names = true;
	take(f, event(f, WEB, DB, 5432, TW_EVENT_NEW, TW_REASON_OK));

	json_t *j = read_last(f);

	/* The newline separates inside the log, so it became a question mark. */
	assert_int_equal(strncmp(at(j, "from.pod"), "a\"b\\c?d", 7), 0);
	json_decref(j);
}

static void test_equal_drops_are_counted(void **state)
{
	struct fixture *f = *state;
	struct tw_event ev = event(f, SPY, DB, 5432, TW_EVENT_DROP, TW_REASON_POLICY_INGRESS);
	struct tw_event other = ev;
	json_t *lines;

	ev.time -= 3 * SECOND;
	other.time = ev.time;
	other.tuple.dport = htons(5433);
	for (uint16_t i = 0; i < 100; i++) {
		ev.tuple.sport = htons((uint16_t)(40000 + i)); /* a client that tries again */
		take(f, ev);
		ev.time += 1000;
	}
	take(f, other);
	flow_log_tick(f->log);
	lines = read_lines(f, NULL, UINT32_MAX, 4096);
	assert_int_equal(json_array_size(lines), 3);
	assert_int_equal(num(json_array_get(lines, 0), "count"), 1);
	assert_int_equal(num(json_array_get(lines, 1), "count"), 1);
	assert_int_equal(num(json_object_get(json_array_get(lines, 1), "to"), "port"), 5433);
	assert_int_equal(num(json_array_get(lines, 2), "count"), 99);
	assert_string_equal(at(json_array_get(lines, 2), "policy.ingress.selected_by"),
			    "shop/only-web");
	assert_int_equal(json_integer_value(json_array_get(
				 json_object_get(json_array_get(lines, 2), "bytes"), 0)),
			 99 * 60);
	json_decref(lines);
}

static void test_drops_of_another_second_are_their_own(void **state)
{
	struct fixture *f = *state;
	struct tw_event ev = event(f, SPY, DB, 5432, TW_EVENT_DROP, TW_REASON_POLICY_INGRESS);
	json_t *lines;

	take(f, ev);
	ev.time += SECOND;
	take(f, ev);
	lines = read_lines(f, NULL, UINT32_MAX, 4096);
	assert_int_equal(json_array_size(lines), 2);
	json_decref(lines);
}

static void test_counted_drops_are_not_mixed_over_a_change(void **state)
{
	struct fixture *f = *state;
	struct tw_event ev = event(f, SPY, DB, 5432, TW_EVENT_DROP, TW_REASON_POLICY_INGRESS);
	json_t *lines;

	take(f, ev);
	take(f, ev);
	flow_log_policy_changed(f->log);
	take(f, ev);
	lines = read_lines(f, NULL, UINT32_MAX, 4096);
	assert_int_equal(json_array_size(lines), 3);
	json_decref(lines);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FLOW_TEST(test_new_flow_names_ends_and_rules),
		FLOW_TEST(test_ingress_denial_names_the_selecting_policy),
		FLOW_TEST(test_egress_denial_does_not_ask_the_receiver),
		FLOW_TEST(test_answer_that_contradicts_the_kernel_is_left_out),
		FLOW_TEST(test_answers_follow_a_change_of_policy),
		FLOW_TEST(test_names_follow_a_change),
		FLOW_TEST(test_what_is_no_pod),
		FLOW_TEST(test_spoofer_is_named_by_its_port),
		FLOW_TEST(test_address_of_a_known_pod_has_its_name),
		FLOW_TEST(test_early_drop_is_named_by_port_and_address),
		FLOW_TEST(test_drop_of_a_revoked_flow_names_who_denies),
		FLOW_TEST(test_icmp_nat_and_counters),
		FLOW_TEST(test_end_tells_of_the_beginning),
		FLOW_TEST(test_many_live_flows_have_their_durations),
		FLOW_TEST(test_what_is_no_ip),
		FLOW_TEST(test_lines_are_json_whatever_the_names),
		FLOW_TEST(test_equal_drops_are_counted),
		FLOW_TEST(test_drops_of_another_second_are_their_own),
		FLOW_TEST(test_counted_drops_are_not_mixed_over_a_change),
	};

	return cmocka_run_group_tests_name("flow", tests, NULL, NULL);
}
