/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <towpath/attachment.h>

#include "endpoint/endpoint.h"

static const char full[] =
	"{\"container_id\":\"c1\",\"ifname\":\"eth0\",\"netns\":\"/proc/1/fd/3\","
	"\"sandbox\":\"/run/netns/x\",\"network\":\"net\",\"namespace\":\"ns\",\"pod\":\"p\","
	"\"labels\":{\"b\":\"2\",\"a\":\"1\"},\"ips\":[\"10.1.2.3/24\",\"fd00::3\"],"
	"\"mac\":\"02:11:22:33:44:55\",\"mtu\":1400,\"subnets\":[\"10.1.0.0/16\",\"fd00::/64\"]}";

static json_t *json_of(const char *text)
{
	json_t *json = json_loads(text, 0, NULL);

	assert_non_null(json);
	return json;
}

static void test_request(void **state)
{
	struct endpoint_request req = { 0 };
	json_t *json = json_of(full);
	char text[64];

	assert_int_equal(endpoint_request_parse(json, &req, NULL, 0), 0);
	assert_string_equal(req.ep.container_id, "c1");
	assert_string_equal(req.ep.ifname, "eth0");
	assert_string_equal(req.netns, "/proc/1/fd/3");
	assert_string_equal(req.ep.sandbox, "/run/netns/x");
	assert_string_equal(req.ep.ns, "ns");
	assert_string_equal(req.ep.pod, "p");
	assert_int_equal(req.ep.mtu, 1400);
	assert_int_equal(req.ep.mac[5], 0x55);
	assert_int_equal(req.ep.n_subnets, 2);
	assert_int_equal(req.ep.labels.n, 2);
	assert_string_equal(req.ep.labels.v[0].key, "a"); /* sorted */
	addr_format(&req.wish4[0], text, sizeof(text));
	assert_string_equal(text, "10.1.2.3");
	addr_format(&req.wish6[0], text, sizeof(text));
	assert_string_equal(text, "fd00::3");
	assert_true(tw_port_name_valid(req.ep.port));
	endpoint_request_clear(&req);
	json_decref(json);
}

static void test_request_defaults(void **state)
{
	struct endpoint_request req = { 0 };
	json_t *json = json_of("{\"container_id\":\"c1\",\"ifname\":\"eth0\",\"netns\":\"/x\"}");

	assert_int_equal(endpoint_request_parse(json, &req, NULL, 0), 0);
	assert_string_equal(req.ep.ns, "default");
	assert_string_equal(req.ep.pod, "c1");
	assert_int_equal(req.ep.n_subnets, 0);
	endpoint_request_clear(&req);
	json_decref(json);
}

/* One wrong value put into a good request: refused, with the field named. */
static void refused(const char *field, const char *value)
{
	struct endpoint_request req = { .netns = "untouched" };
	json_t *json = json_of(full);
	char err[300] = "";
	json_t *bad = json_loads(value, JSON_DECODE_ANY, NULL);

	assert_non_null(bad);
	json_object_set_new(json, field, bad);
	if (!endpoint_request_parse(json, &req, err, sizeof(err)))
		fail_msg("%s: %s was accepted", field, value);
	assert_string_equal(req.netns, "untouched");
	if (!strstr(err, field))
		fail_msg("%s: %s: the sentence does not name the field: %s", field, value, err);
	json_decref(json);
}

static void test_request_refused(void **state)
{
	refused("container_id", "\"\"");
	refused("container_id", "\"../x\"");
	refused("container_id", "\"a b\"");
	refused("container_id", "7");
	refused("ifname", "\"\"");
	refused("ifname", "\".\"");
	refused("ifname", "\"..\"");
	refused("ifname", "\"a/b\"");
	refused("ifname", "\"a b\"");
	refused("ifname", "\"sixteencharacter\"");
	refused("ifname", "null");
	refused("netns", "1");
	refused("sandbox", "[]");
	refused("namespace", "\"\"");
	refused("pod", "\"\"");
	refused("labels", "[]");
	refused("labels", "{\"a\":1}");
	refused("ips", "\"10.1.2.3\"");
	refused("ips", "[\"10.1.2\"]");
	refused("ips", "[3]");
	refused("ips", "[\"10.1.2.3\",\"10.1.2.4\"]");
	refused("ips", "[\"::\"]");
	refused("mac", "\"02:11:22:33:44\"");
	refused("mac", "\"02:11:22:33:44:5g\"");
	refused("mac", "\"01:11:22:33:44:55\"");
	refused("mac", "\"00:00:00:00:00:00\"");
	refused("mtu", "\"1400\"");
	refused("mtu", "68");
	refused("mtu", "65536");
	refused("mtu", "-1");
	refused("subnets", "\"10.0.0.0/8\"");
	refused("subnets", "[\"10.0.0.0\"]");
	refused("subnets", "[\"10.0.0.0/33\"]");
	refused("subnets", "[null]");
}

static struct endpoint record_of(void)
{
	struct endpoint_request req = { 0 };
	json_t *json = json_of(full);
	struct endpoint ep;

	assert_int_equal(endpoint_request_parse(json, &req, NULL, 0), 0);
	json_decref(json);
	ep = req.ep;
	free(req.netns);
	ep.slot = 7;
	ep.identity = 300;
	ep.version = 12;
	ep.port_ifindex = 42;
	ep.table = 1004;
	ep.addr4 = req.wish4[0];
	ep.addr6 = req.wish6[0];
	ep.state = ENDPOINT_READY;
	return ep;
}

/* What is written is what is read, and is written the same again. */
static void test_round_trip(void **state)
{
	struct endpoint ep = record_of(), back = { 0 }, copy;
	json_t *json = endpoint_to_json(&ep), *again;
	const json_t *ips = json_object_get(json, "ips");

	assert_non_null(json);
	assert_string_equal(json_string_value(json_array_get(ips, 0)), "10.1.2.3/32");
	assert_string_equal(json_string_value(json_array_get(ips, 1)), "fd00::3/128");
	assert_string_equal(json_string_value(json_object_get(json, "mac")), "02:11:22:33:44:55");
	assert_int_equal(endpoint_from_json(json, &back, NULL, 0), 0);
	assert_int_equal(back.slot, 7);
	assert_int_equal(back.identity, 300);
	assert_int_equal(back.version, 12);
	assert_int_equal(back.port_ifindex, 42);
	assert_int_equal(back.table, 1004);
	assert_int_equal(back.state, ENDPOINT_READY);
	assert_memory_equal(&back.addr4, &ep.addr4, sizeof(ep.addr4));
	assert_memory_equal(&back.addr6, &ep.addr6, sizeof(ep.addr6));
	assert_int_equal(endpoint_copy(&copy, &back), 0);
	endpoint_clear(&back);
	again = endpoint_to_json(&copy);
	assert_true(json_equal(json, again));
	endpoint_clear(&copy);
	endpoint_clear(&ep);
	json_decref(json);
	json_decref(again);
}

static void test_record_refused(void **state)
{
	static const char *const fields[] = { "container_id", "ifname", "port", "state" };
	struct endpoint ep = record_of(), back = { .slot = 99 };
	char err[300];

	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		json_t *json = endpoint_to_json(&ep);

		json_object_del(json, fields[i]);
		assert_int_not_equal(endpoint_from_json(json, &back, err, sizeof(err)), 0);
		assert_non_null(strstr(err, fields[i]));
		assert_int_equal(back.slot, 99);
		json_decref(json);
	}
	endpoint_clear(&ep);
}

/* In records on disk and in kernels: this may never change. */
static void test_port_name_is_fixed(void **state)
{
	char a[TW_PORT_NAME_LEN + 1], b[TW_PORT_NAME_LEN + 1];

	tw_port_name("abc", "eth0", a);
	assert_string_equal(a, "tw676bdee908");
	assert_true(tw_port_name_valid(a));
	tw_port_name("abce", "th0", b); /* the border between the two counts */
	assert_string_not_equal(a, b);
	assert_false(tw_port_name_valid("tw676bdee90"));
	assert_false(tw_port_name_valid("tw676bdee90x"));
	assert_false(tw_port_name_valid("eth0"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request),		cmocka_unit_test(test_request_defaults),
		cmocka_unit_test(test_request_refused), cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_record_refused),	cmocka_unit_test(test_port_name_is_fixed),
	};

	return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
