/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Tables: how even they are, what a change moves, and that they depend on nothing but the backends. */
#include "unit.h"

#include <arpa/inet.h>
#include <string.h>

#include <maglev.h>

#define MAX 1000u

static uint16_t table[TW_MAGLEV_SIZE], after[TW_MAGLEV_SIZE];

static void backends_make(struct maglev_backend *b, uint32_t n, uint32_t net)
{
	for (uint32_t i = 0; i < n; i++) {
		union tw_addr addr = {};

		addr.word[2] = htonl(0xffff);
		addr.word[3] = htonl(0x0a000000u + net * 65536 + i + 1);
		b[i] = (struct maglev_backend){ .key = maglev_key(&addr, htons(80)),
						.weight = 1,
						.id = (uint16_t)(i + 1) };
	}
}

static void shares(const uint16_t *from, uint32_t *count, uint32_t n)
{
	memset(count, 0, (n + 1) * sizeof(*count));
	for (uint32_t i = 0; i < TW_MAGLEV_SIZE; i++) {
		assert_in_range(from[i], 1, n);
		count[from[i]]++;
	}
}

/* NSDI 2016, 3.4: with a table a hundred times as large as the backends, 2 % over or under. */
static void shares_are_even(void **state)
{
	static const uint32_t sizes[] = { 1, 2, 7, 100, 300 };
	struct maglev_backend b[MAX];
	uint32_t count[MAX + 1];

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		double mean = (double)TW_MAGLEV_SIZE / sizes[s];

		backends_make(b, sizes[s], (uint32_t)s);
		assert_int_equal(maglev_fill(table, b, sizes[s]), 0);
		shares(table, count, sizes[s]);
		for (uint32_t i = 1; i <= sizes[s]; i++) {
			assert_true(count[i] >= mean * 0.98 - 1);
			assert_true(count[i] <= mean * 1.02 + 1);
		}
	}
}

/* Of the entries of the backends that stay, those that changed, in percent. */
static double moved(uint16_t gone)
{
	uint32_t others = 0, changed = 0;

	for (uint32_t i = 0; i < TW_MAGLEV_SIZE; i++) {
		if (table[i] == gone)
			continue;
		others++;
		changed += table[i] != after[i];
	}
	return 100.0 * changed / others;
}

static void one_of_a_hundred_moves_two_percent_of_the_others(void **state)
{
	struct maglev_backend b[100];
	double worst = 0;

	for (uint32_t net = 0; net < 10; net++) {
		backends_make(b, 100, net);
		assert_int_equal(maglev_fill(table, b, 100), 0);
		for (uint32_t i = 0; i < 100; i += 3) {
			b[i].weight = 0;
			assert_int_equal(maglev_fill(after, b, 100), 0);
			b[i].weight = 1;
			if (moved(b[i].id) > worst)
				worst = moved(b[i].id);
		}
	}
	print_message("at most %.2f %% of the others' entries moved\n", worst);
	assert_true(worst <= 2.0);
}

static void weights_are_shares(void **state)
{
	struct maglev_backend b[10];
	uint32_t count[11], sum = 0;

	backends_make(b, 10, 1);
	for (uint32_t i = 0; i < 10; i++)
		sum += b[i].weight = i * i * 10;
	assert_int_equal(maglev_fill(table, b, 10), 0);
	memset(count, 0, sizeof(count));
	for (uint32_t i = 0; i < TW_MAGLEV_SIZE; i++)
		count[table[i]]++;
	assert_int_equal(count[0], 0);
	for (uint32_t i = 0; i < 10; i++) {
		double share = (double)TW_MAGLEV_SIZE * b[i].weight / sum;

		assert_true(count[i + 1] >= share * 0.99 - 1);
		assert_true(count[i + 1] <= share * 1.01 + 1);
	}
}

static void the_order_of_backends_does_not_matter(void **state)
{
	struct maglev_backend b[50], turned[50];

	backends_make(b, 50, 2);
	for (uint32_t i = 0; i < 50; i++) {
		b[i].weight = 1 + i % 5;
		turned[49 - i] = b[i];
	}
	assert_int_equal(maglev_fill(table, b, 50), 0);
	assert_int_equal(maglev_fill(after, turned, 50), 0);
	assert_memory_equal(table, after, sizeof(table));
}

static void nobody_is_nobody(void **state)
{
	struct maglev_backend b = { .key = 1, .weight = 0, .id = 7 };

	memset(table, 1, sizeof(table));
	assert_int_equal(maglev_fill(table, NULL, 0), 0);
	for (uint32_t i = 0; i < TW_MAGLEV_SIZE; i++)
		assert_int_equal(table[i], 0);
	memset(table, 1, sizeof(table));
	assert_int_equal(maglev_fill(table, &b, 1), 0);
	assert_int_equal(table[0], 0);
}

/* Another balancer of the same service must agree, so these may never change. */
static void tables_are_the_same_everywhere(void **state)
{
	struct maglev_backend b[3];
	uint64_t sum = 0;

	backends_make(b, 3, 0);
	assert_int_equal(maglev_fill(table, b, 3), 0);
	for (uint32_t i = 0; i < TW_MAGLEV_SIZE; i++)
		sum = sum * 31 + table[i];
	assert_true(sum == 0x40fad0f5e4f9201full);
}

/* Flows of one client, of one port, of neighbouring addresses: all spread. */
static void flows_are_spread(void **state)
{
	uint32_t count[64];
	union tw_addr addr = {};

	for (int kind = 0; kind < 4; kind++) {
		memset(count, 0, sizeof(count));
		for (uint32_t i = 0; i < 64000; i++) {
			uint32_t ports = kind == 0   ? i << 16 | 80
					 : kind == 1 ? i % 7 << 16
						     : 0x12345678;

			addr.word[0] = kind == 3 ? htonl(0x20010db8) : 0;
			addr.word[1] = kind == 3 ? htonl(i) : 0;
			addr.word[2] = kind == 3 ? 0 : htonl(0xffff);
			addr.word[3] = kind == 0 ? htonl(0x0a000001) : htonl(0x0a000000 + i);
			count[tw_maglev_entry(tw_edge_flow_hash(&addr, ports, 1)) * 64ull /
			      TW_MAGLEV_SIZE]++;
		}
		/* 1000 each; 6 standard deviations. */
		for (uint32_t i = 0; i < 64; i++)
			assert_in_range(count[i], 810, 1190);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shares_are_even),
		cmocka_unit_test(one_of_a_hundred_moves_two_percent_of_the_others),
		cmocka_unit_test(weights_are_shares),
		cmocka_unit_test(the_order_of_backends_does_not_matter),
		cmocka_unit_test(nobody_is_nobody),
		cmocka_unit_test(tables_are_the_same_everywhere),
		cmocka_unit_test(flows_are_spread),
	};

	return cmocka_run_group_tests_name("maglev", tests, NULL, NULL);
}
