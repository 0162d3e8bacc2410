/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "slots.h"

static void put(struct slots *s, uint32_t slot, const char *container_id)
{
	struct endpoint *ep = calloc(1, sizeof(*ep));

	assert_non_null(ep);
	ep->slot = slot;
	ep->container_id = strdup(container_id);
	snprintf(ep->ifname, sizeof(ep->ifname), "eth0");
	slots_put(s, ep);
}

static uint32_t choose(struct slots *s, uint64_t now)
{
	uint32_t slot = 0;

	assert_int_equal(slots_choose(s, now, &slot), 0);
	return slot;
}

static void test_slots_go_round(void **state)
{
	struct slots *s = slots_new();

	assert_int_equal(choose(s, 1000), 1);
	put(s, 1, "a");
	assert_int_equal(choose(s, 1000), 2);
	put(s, 2, "b");
	slots_release(s, 1, 1000);
	/* A slot that has just become free is not the next one. */
	assert_int_equal(choose(s, 1000), 3);
	assert_int_equal(slots_count(s), 1);
	slots_free(s);
}

static void test_released_slot_rests(void **state)
{
	struct slots *s = slots_new();
	uint32_t slot = 99;
	char name[16];

	for (uint32_t i = 1; i < TW_MAX_ENDPOINTS; i++) {
		snprintf(name, sizeof(name), "c%u", i);
		put(s, i, name);
	}
	assert_int_equal(slots_choose(s, 10000, &slot), -ENOSPC);
	slots_release(s, 77, 10000);
	assert_int_equal(slots_choose(s, 10000, &slot), -ENOSPC);
	assert_int_equal(slots_choose(s, 14999, &slot), -ENOSPC);
	assert_int_equal(slot, 99);
	assert_int_equal(slots_choose(s, 15000, &slot), 0);
	assert_int_equal(slot, 77);
	slots_free(s);
}

static void test_find_and_walk(void **state)
{
	struct slots *s = slots_new();
	const struct endpoint *ep;
	uint32_t seen = 0;

	put(s, 5, "a");
	put(s, 9, "b");
	put(s, 16383, "c");
	assert_int_equal(slots_find(s, "b", "eth0")->slot, 9);
	assert_null(slots_find(s, "b", "eth1"));
	assert_null(slots_find(s, "d", "eth0"));
	assert_null(slots_get(s, 6));
	assert_null(slots_get(s, TW_MAX_ENDPOINTS));
	for (uint32_t slot = 1; (ep = slots_next(s, slot)); slot = ep->slot + 1)
		seen += ep->slot;
	assert_int_equal(seen, 5 + 9 + 16383);
	/* After a restart the turn goes on behind the slots in use. */
	assert_int_equal(choose(s, 0), 1);
	slots_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slots_go_round),
		cmocka_unit_test(test_released_slot_rests),
		cmocka_unit_test(test_find_and_walk),
	};

	return cmocka_run_group_tests_name("slots", tests, NULL, NULL);
}
