/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "endpoint/ipam.h"

static struct prefix prefix_of(const char *text)
{
	struct prefix p;

	assert_int_equal(prefix_parse(text, &p), 0);
	return p;
}

static union tw_addr addr_of(const char *text)
{
	union tw_addr addr;

	assert_int_equal(addr_parse(text, &addr), 0);
	return addr;
}

static struct ipam *ipam_of(const char *a, const char *b)
{
	struct prefix pools[2];
	struct ipam *ipam;
	size_t n = 0;

	if (a)
		pools[n++] = prefix_of(a);
	if (b)
		pools[n++] = prefix_of(b);
	assert_int_equal(ipam_new(&ipam, pools, n, NULL, 0), 0);
	return ipam;
}

/* Allocates from the agent's pools; the addresses as text, "-" for none. */
static int take(struct ipam *ipam, uint64_t now, char out4[64], char out6[64])
{
	struct ipam_request req = { .network = "net" };
	union tw_addr a4, a6;
	int rc = ipam_allocate(ipam, &req, now, &a4, &a6, NULL, 0);

	if (rc)
		return rc;
	snprintf(out4, 64, "-");
	snprintf(out6, 64, "-");
	if (a4.quad[0] || a4.quad[1])
		addr_format(&a4, out4, 64);
	if (a6.quad[0] || a6.quad[1])
		addr_format(&a6, out6, 64);
	return 0;
}

static void expect_take(struct ipam *ipam, uint64_t now, const char *want4, const char *want6)
{
	char got4[64], got6[64];

	assert_int_equal(take(ipam, now, got4, got6), 0);
	assert_string_equal(got4, want4);
	assert_string_equal(got6, want6);
}

static void release(struct ipam *ipam, const char *text, uint64_t now)
{
	union tw_addr addr = addr_of(text);

	ipam_release(ipam, &addr, now);
}

static int wish(struct ipam *ipam, const char *text, char *err, size_t err_len)
{
	struct ipam_request req = { .network = "net" };
	union tw_addr addr = addr_of(text), a4, a6;

	*(addr_is4(&addr) ? &req.wish4 : &req.wish6) = addr;
	return ipam_allocate(ipam, &req, 1000, &a4, &a6, err, err_len);
}

static int take_from(struct ipam *ipam, const char *network, const char *a, const char *b,
		     union tw_addr *a4, char *err, size_t err_len)
{
	struct prefix subnets[2] = { prefix_of(a), prefix_of(b ? b : a) };
	struct ipam_request req = { .network = network,
				    .subnets = subnets,
				    .n_subnets = b ? 2 : 1 };
	union tw_addr a6;

	return ipam_allocate(ipam, &req, 1000, a4, &a6, err, err_len);
}

static void test_both_families(void **state)
{
	struct ipam *ipam = ipam_of("10.1.0.0/16", "fd00:1::/64");

	expect_take(ipam, 1, "10.1.0.1", "fd00:1::1");
	expect_take(ipam, 1, "10.1.0.2", "fd00:1::2");
	ipam_free(ipam);
}

static void test_one_family(void **state)
{
	struct ipam *v4 = ipam_of("10.1.0.0/16", NULL), *v6 = ipam_of("fd00:1::/64", NULL);

	expect_take(v4, 1, "10.1.0.1", "-");
	expect_take(v6, 1, "-", "fd00:1::1");
	ipam_free(v4);
	ipam_free(v6);
}

static void test_network_and_broadcast_stay(void **state)
{
	struct ipam *ipam = ipam_of("10.1.0.0/30", NULL);
	char a4[64], a6[64];

	expect_take(ipam, 1, "10.1.0.1", "-");
	expect_take(ipam, 1, "10.1.0.2", "-");
	assert_int_equal(take(ipam, 1, a4, a6), -ENOSPC);
	ipam_free(ipam);
}

static void test_anycast_stays_and_last_ipv6_does_not(void **state)
{
	struct ipam *ipam = ipam_of("fd00:1::/126", NULL);
	char a4[64], a6[64];

	for (int i = 1; i <= 3; i++) {
		char want[64];

		snprintf(want, sizeof(want), "fd00:1::%d", i);
		expect_take(ipam, 1, "-", want);
	}
	assert_int_equal(take(ipam, 1, a4, a6), -ENOSPC);
	ipam_free(ipam);
}

static void test_smallest_pools(void **state)
{
	struct ipam *ipam = ipam_of("10.1.0.4/31", "fd00:1::4/127");
	struct ipam *one = ipam_of("10.1.0.4/32", NULL);

	expect_take(ipam, 1, "10.1.0.4", "fd00:1::4");
	expect_take(ipam, 1, "10.1.0.5", "fd00:1::5");
	expect_take(one, 1, "10.1.0.4", "-");
	ipam_free(ipam);
	ipam_free(one);
}

/* A family that is exhausted must not cost an address of the other one. */
static void test_exhausted_takes_nothing(void **state)
{
	struct ipam *ipam = ipam_of("10.1.0.0/24", "fd00:1::4/128");
	struct ipam_request req = { .network = "net" };
	union tw_addr a4 = { .byte = { 7 } }, a6 = { .byte = { 8 } };
	char err[200] = "";

	expect_take(ipam, 1, "10.1.0.1", "fd00:1::4");
	assert_int_equal(ipam_allocate(ipam, &req, 1, &a4, &a6, err, sizeof(err)), -ENOSPC);
	assert_non_null(strstr(err, "IPv6"));
	assert_int_equal(a4.byte[0], 7); /* untouched */
	release(ipam, "fd00:1::4", 100);
	/* 10.1.0.2 was put back; the search has moved on all the same. */
	expect_take(ipam, 200, "10.1.0.3", "fd00:1::4");
	assert_int_equal(wish(ipam, "10.1.0.2", NULL, 0), -ENOSPC);
	release(ipam, "fd00:1::4", 200);
	assert_int_equal(wish(ipam, "10.1.0.2", NULL, 0), 0);
	ipam_free(ipam);
}

static void test_exhausted_then_freed(void **state)
{
	struct ipam *ipam = ipam_of("10.1.0.0/29", NULL);
	char a4[64], a6[64];

	for (int i = 0; i < 6; i++)
		assert_int_equal(take(ipam, 1, a4, a6), 0);
	assert_int_equal(take(ipam, 1, a4, a6), -ENOSPC);
	release(ipam, "10.1.0.3", 2);
	expect_take(ipam, 2, "10.1.0.3", "-"); /* not rested, but nothing else is free */
	ipam_free(ipam);
}

static void test_released_rests(void **state)
{
	struct ipam *ipam = ipam_of("10.1.0.0/29", NULL);

	expect_take(ipam, 100, "10.1.0.1", "-");
	expect_take(ipam, 100, "10.1.0.2", "-");
	release(ipam, "10.1.0.1", 100);
	release(ipam, "10.1.0.2", 101);
	for (int i = 3; i <= 6; i++) {
		char want[64];

		snprintf(want, sizeof(want), "10.1.0.%d", i);
		expect_take(ipam, 101, want, "-");
	}
	release(ipam, "10.1.0.6", 102);
	/* Only resting ones are left: the one that has rested longest. */
	expect_take(ipam, 103, "10.1.0.1", "-");
	release(ipam, "10.1.0.1", 104);
	/* A minute after its release .2 is as good as new, .6 and .1 are not yet. */
	expect_take(ipam, 161, "10.1.0.2", "-");
	ipam_free(ipam);
}

static void test_clock_put_back(void **state)
{
	struct ipam *ipam = ipam_of("10.1.0.0/30", NULL);

	expect_take(ipam, 1000000, "10.1.0.1", "-");
	release(ipam, "10.1.0.1", 1000000);
	expect_take(ipam, 5, "10.1.0.2", "-");
	expect_take(ipam, 5, "10.1.0.1", "-");
	ipam_free(ipam);
}

static void test_wish(void **state)
{
	struct ipam *ipam = ipam_of("10.1.0.0/24", "fd00:1::/64");
	char err[200] = "";

	assert_int_equal(wish(ipam, "10.1.0.77", NULL, 0), 0);
	assert_int_equal(wish(ipam, "10.1.0.77", err, sizeof(err)), -EADDRINUSE);
	assert_non_null(strstr(err, "10.1.0.77"));
	assert_int_equal(wish(ipam, "10.2.0.1", err, sizeof(err)), -EINVAL);
	assert_int_equal(wish(ipam, "10.1.0.0", NULL, 0), -EINVAL);   /* network */
	assert_int_equal(wish(ipam, "10.1.0.255", NULL, 0), -EINVAL); /* broadcast */
	assert_int_equal(wish(ipam, "fd00:1::", NULL, 0), -EINVAL);   /* anycast */
	assert_int_equal(wish(ipam, "fd00:1::9", NULL, 0), 0);
	release(ipam, "10.1.0.77", 1000);
	assert_int_equal(wish(ipam, "10.1.0.77", NULL, 0), 0); /* who asks by name need not wait */
	ipam_free(ipam);
}

static void test_wish_is_passed_over(void **state)
{
	struct ipam *ipam = ipam_of("10.1.0.0/24", NULL);

	assert_int_equal(wish(ipam, "10.1.0.1", NULL, 0), 0);
	expect_take(ipam, 1, "10.1.0.2", "-");
	ipam_free(ipam);
}

static void test_networks_have_their_subnets(void **state)
{
	struct ipam *ipam = ipam_of("10.1.0.0/24", NULL);
	union tw_addr addr, want = addr_of("10.9.0.1");

	assert_int_equal(take_from(ipam, "a", "10.9.0.0/24", NULL, &addr, NULL, 0), 0);
	assert_memory_equal(&addr, &want, sizeof(addr));
	expect_take(ipam, 1, "10.1.0.1", "-");
	ipam_free(ipam);
}

static void test_overlap_is_refused(void **state)
{
	struct ipam *ipam = ipam_of("10.1.0.0/24", NULL);
	struct prefix pools[2] = { prefix_of("10.0.0.0/8"), prefix_of("10.4.0.0/16") };
	struct ipam *other = NULL;
	union tw_addr addr;
	char err[300] = "";

	assert_int_equal(take_from(ipam, "a", "10.9.0.0/24", NULL, &addr, NULL, 0), 0);
	assert_int_equal(take_from(ipam, "b", "10.9.0.128/25", NULL, &addr, err, sizeof(err)),
			 -EINVAL);
	assert_non_null(strstr(err, "10.9.0.0/24"));
	assert_non_null(strstr(err, "network a"));
	assert_int_equal(take_from(ipam, "b", "10.0.0.0/8", NULL, &addr, err, sizeof(err)),
			 -EINVAL);
	assert_int_equal(take_from(ipam, "b", "10.8.0.0/24", "10.8.0.0/16", &addr, NULL, 0),
			 -EINVAL);
	/* The agent's own pool, spelled out. */
	assert_int_equal(take_from(ipam, "b", "10.1.0.0/24", NULL, &addr, NULL, 0), 0);
	assert_int_equal(ipam_new(&other, pools, 2, err, sizeof(err)), -EINVAL);
	assert_null(other);
	ipam_free(ipam);
}

/* A network whose last container has gone is not in anybody's way, and one may be re-cut. */
static void test_networks_are_forgotten(void **state)
{
	struct ipam *ipam = ipam_of("10.1.0.0/24", NULL);
	struct prefix *pools;
	union tw_addr addr;
	size_t n;

	assert_int_equal(take_from(ipam, "a", "10.9.0.0/24", NULL, &addr, NULL, 0), 0);
	assert_int_equal(ipam_pools(ipam, &pools, &n), 0);
	assert_int_equal(n, 2);
	free(pools);
	assert_int_equal(take_from(ipam, "a", "10.9.0.0/16", NULL, &addr, NULL, 0), 0);
	release(ipam, "10.9.0.1", 1);
	ipam_release(ipam, &addr, 1);
	assert_int_equal(ipam_pools(ipam, &pools, &n), 0);
	assert_int_equal(n, 1);
	free(pools);
	assert_int_equal(take_from(ipam, "b", "10.9.0.0/24", NULL, &addr, NULL, 0), 0);
	ipam_free(ipam);
}

static void test_restore(void **state)
{
	struct ipam *ipam = ipam_of("10.1.0.0/29", NULL);
	struct prefix net = prefix_of("10.9.0.0/24");
	union tw_addr a = addr_of("10.1.0.1"), b = addr_of("10.1.0.2"), c = addr_of("10.9.0.1");
	union tw_addr stranger = addr_of("172.16.0.1"), addr;

	assert_int_equal(ipam_restore(ipam, "net", NULL, 0, &a), 0);
	assert_int_equal(ipam_restore(ipam, "net", NULL, 0, &a), -EADDRINUSE);
	assert_int_equal(ipam_restore(ipam, "x", &net, 1, &c), 0);
	assert_int_equal(ipam_restore(ipam, "net", NULL, 0, &stranger), 0);
	assert_int_equal(ipam_restore_release(ipam, &b, 100), 0);
	assert_int_equal(ipam_restore_release(ipam, &a, 100), 0); /* held: that counts */
	expect_take(ipam, 101, "10.1.0.3", "-");
	assert_int_equal(take_from(ipam, "x", "10.9.0.0/24", NULL, &addr, NULL, 0), 0);
	assert_int_equal(addr.byte[15], 2);
	assert_int_equal(take_from(ipam, "y", "10.9.0.0/16", NULL, &addr, NULL, 0), -EINVAL);
	ipam_free(ipam);
}

static void test_reserved(void **state)
{
	struct ipam *ipam = ipam_of("10.1.0.0/30", NULL);
	union tw_addr a = addr_of("10.1.0.1");
	char a4[64], a6[64], err[200] = "";

	assert_int_equal(ipam_reserve(ipam, &a), 0);
	expect_take(ipam, 1, "10.1.0.2", "-");
	assert_int_equal(take(ipam, 1, a4, a6), -ENOSPC);
	assert_int_equal(wish(ipam, "10.1.0.1", err, sizeof(err)), -EADDRINUSE);
	ipam_release(ipam, &a, 1); /* is nobody's to release */
	assert_int_equal(take(ipam, 100, a4, a6), -ENOSPC);
	ipam_unreserve(ipam, &a);
	expect_take(ipam, 1, "10.1.0.1", "-");
	ipam_free(ipam);
}

static void test_status(void **state)
{
	struct ipam *ipam = ipam_of("10.1.0.0/29", "::/0");
	json_t *list, *pool;

	expect_take(ipam, 1, "10.1.0.1", "::1");
	expect_take(ipam, 1, "10.1.0.2", "::2");
	release(ipam, "10.1.0.1", 1);
	list = ipam_to_json(ipam);
	assert_int_equal(json_array_size(list), 2);
	pool = json_array_get(list, 0);
	assert_string_equal(json_string_value(json_object_get(pool, "subnet")), "10.1.0.0/29");
	assert_int_equal(json_integer_value(json_object_get(pool, "used")), 1);
	assert_int_equal(json_integer_value(json_object_get(pool, "quarantined")), 1);
	assert_int_equal(json_integer_value(json_object_get(pool, "size")), 6);
	pool = json_array_get(list, 1);
	assert_true(json_integer_value(json_object_get(pool, "size")) == (json_int_t)1 << 53);
	json_decref(list);
	ipam_free(ipam);
}

/* The pool's size costs nothing, and neither do the addresses already taken. */
static void test_large_pools_are_quick(void **state)
{
	struct ipam *ipam = ipam_of("10.0.0.0/8", "fd00::/8");
	char a4[64], a6[64];
	clock_t start = clock();

	for (int i = 0; i < 16383; i++)
		assert_int_equal(take(ipam, 1, a4, a6), 0);
	assert_string_equal(a4, "10.0.63.255");
	for (int i = 0; i < 16383; i++) {
		char text[64];

		snprintf(text, sizeof(text), "10.0.%d.%d", (i + 1) >> 8, (i + 1) & 255);
		release(ipam, text, 1);
	}
	/* Some 10 ms without a sanitizer; a scan of what is taken would need minutes. */
	assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 2.0);
	ipam_free(ipam);
}

/* Many rounds of random takes and releases against a plain table. */
static void test_random_against_model(void **state)
{
	struct ipam *ipam = ipam_of("10.1.0.0/27", NULL);
	uint64_t now = 1000, released[32] = { 0 };
	bool taken[32] = { false };
	unsigned int n_taken = 0;

	srand(20240611);
	for (int round = 0; round < 20000; round++) {
		char a4[64], a6[64], text[64];
		int i = 1 + rand() % 30, host;

		now += (uint64_t)(rand() % 4);
		if (rand() % 2 && taken[i]) {
			snprintf(text, sizeof(text), "10.1.0.%d", i);
			release(ipam, text, now);
			taken[i] = false;
			released[i] = now;
			n_taken--;
			continue;
		}
		if (n_taken == 30) {
			assert_int_equal(take(ipam, now, a4, a6), -ENOSPC);
			continue;
		}
		assert_int_equal(take(ipam, now, a4, a6), 0);
		assert_int_equal(sscanf(a4, "10.1.0.%d", &host), 1);
		assert_in_range(host, 1, 30);
		assert_false(taken[host]);
		if (released[host] && now - released[host] < IPAM_QUARANTINE) {
			for (int j = 1; j <= 30; j++) /* then all that is free rests, no longer */
				assert_true(taken[j] ||
					    (released[j] && released[j] >= released[host] &&
					     now - released[j] < IPAM_QUARANTINE));
		}
		taken[host] = true;
		n_taken++;
	}
	ipam_free(ipam);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_families),
		cmocka_unit_test(test_one_family),
		cmocka_unit_test(test_network_and_broadcast_stay),
		cmocka_unit_test(test_anycast_stays_and_last_ipv6_does_not),
		cmocka_unit_test(test_smallest_pools),
		cmocka_unit_test(test_exhausted_takes_nothing),
		cmocka_unit_test(test_exhausted_then_freed),
		cmocka_unit_test(test_released_rests),
		cmocka_unit_test(test_clock_put_back),
		cmocka_unit_test(test_wish),
		cmocka_unit_test(test_wish_is_passed_over),
		cmocka_unit_test(test_networks_have_their_subnets),
		cmocka_unit_test(test_overlap_is_refused),
		cmocka_unit_test(test_networks_are_forgotten),
		cmocka_unit_test(test_restore),
		cmocka_unit_test(test_reserved),
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_large_pools_are_quick),
		cmocka_unit_test(test_random_against_model),
	};

	return cmocka_run_group_tests_name("ipam", tests, NULL, NULL);
}
