/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What becomes of connections while a service's backends change. */
#include <bpf/bpf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <string.h>

#include <cmocka.h>

#include "edge_balance_lab.h"

#define TCP_OF(port_, flags_) EDGE_P(TCP, OUTSIDE, NODE, port_, 80, flags_)
#define FIRST_PORT 10000u
#define FLOWS 400u

static void backends_make(struct balance_lab *lab, size_t n)
{
	balance_front(lab, TCP, 80, 0);
	balance_front(lab, UDP, 53, 0);
	while (n--)
		balance_backend(lab, &(struct backend_spec){ TW_EDGE_WAY_IPIP, 4 });
	balance_turn(lab, 0);
}

static uint16_t syn(struct balance_lab *lab, uint16_t flow)
{
	return balance_to(lab, 4, &TCP_OF((uint16_t)(FIRST_PORT + flow), SYN));
}

static uint16_t data(struct balance_lab *lab, uint16_t flow)
{
	return balance_to(lab, 4, &TCP_OF((uint16_t)(FIRST_PORT + flow), ACK));
}

static uint32_t open_entries(struct balance_lab *lab)
{
	uint32_t open;

	assert_int_equal(edge_service_open(lab->eb, lab->service, &open), 0);
	return open;
}

static void in_quiet_times_nothing_is_remembered(void **state)
{
	struct balance_lab *lab = *state;
	uint16_t backend;

	backends_make(lab, 20);
	for (uint16_t i = 0; i < FLOWS; i++) {
		backend = syn(lab, i);
		assert_int_equal(data(lab, i), backend);
	}
	assert_int_equal(balance_counter(lab, TW_EDGE_COUNT_REMEMBERED), 0);
	assert_int_equal(open_entries(lab), 0);
}

/* A drained one keeps its connections and gets no new ones; the others notice nothing. */
static void draining_keeps_connections(void **state)
{
	struct balance_lab *lab = *state;
	uint16_t before[FLOWS], drained, moved = 0, own = 0;

	backends_make(lab, 20);
	for (uint16_t i = 0; i < FLOWS; i++)
		before[i] = syn(lab, i);
	lab->backends[5].weight = 0;
	drained = lab->backends[5].id;
	balance_turn(lab, 0);
	for (uint16_t i = 0; i < FLOWS; i++) {
		assert_int_equal(data(lab, i), before[i]);
		if (before[i] == drained)
			own++;
	}
	assert_true(own > 0);
	for (uint16_t i = FLOWS; i < 2 * FLOWS; i++) {
		uint16_t backend = syn(lab, i);

		assert_int_not_equal(backend, drained);
		assert_int_equal(data(lab, i), backend);
	}
	/* Time is up. */
	assert_int_equal(edge_service_forget(lab->eb, lab->service, drained), 0);
	assert_int_equal(edge_backend_clear(lab->eb, drained), 0);
	balance_walk(lab);
	for (uint16_t i = 0; i < FLOWS; i++) {
		uint16_t backend = data(lab, i);

		assert_int_not_equal(backend, drained);
		if (before[i] != drained && backend != before[i])
			moved++;
	}
	assert_int_equal(moved, 0);
}

/*
 * Any sequence of backends that come, go, drain and return, with new connections in between: while
 * its backend is there, a connection that says something now and then stays with it.
 */
static void connections_outlive_any_changes(void **state)
{
	enum { BACKENDS = 24, ROUNDS = 40 };
	struct balance_lab *lab = *state;
	static uint16_t of[FLOWS];

	srandom(1);
	backends_make(lab, BACKENDS);
	memset(of, 0, sizeof(of));
	for (unsigned int round = 0; round < ROUNDS; round++) {
		for (uint16_t i = 0; i < FLOWS; i++) {
			if (!of[i] || random() % 16 == 0) {
				/* The old connection on these ports ends properly. */
				if (of[i])
					balance_to(lab, 4,
						   &TCP_OF((uint16_t)(FIRST_PORT + i), FIN | ACK));
				of[i] = syn(lab, i);
			}
			if (data(lab, i) != of[i])
				fail_msg("round %u: flow %u is with another backend", round, i);
		}
		for (unsigned int n = 1 + (unsigned int)random() % 4; n; n--) {
			struct maglev_backend *b = &lab->backends[random() % BACKENDS];

			b->weight = b->weight && random() % 2 ? 0 : 1 + (uint32_t)random() % 3;
		}
		lab->backends[0].weight = 1;
		balance_turn(lab, 0);
		if (random() % 4 == 0)
			balance_walk(lab);
	}
	assert_true(open_entries(lab) > 0);
}

/* When it is long enough ago, entries are closed, and nothing is remembered any more. */
static void entries_are_closed_when_nobody_needs_them(void **state)
{
	struct balance_lab *lab = *state;
	uint16_t before[FLOWS], drained;
	struct edge_walk *walk;
	uint32_t open, held = 0;

	backends_make(lab, 20);
	for (uint16_t i = 0; i < FLOWS; i++)
		before[i] = syn(lab, i);
	drained = lab->backends[5].id;
	lab->backends[5].weight = 0;
	balance_turn(lab, 0);
	open = open_entries(lab);
	assert_true(open > 0);
	for (uint16_t i = 0; i < FLOWS; i++)
		data(lab, i);
	/* Not yet: an old connection may say nothing for an hour. */
	assert_int_equal(balance_walk(lab), open);
	assert_int_equal(edge_walk_new(lab->eb, &walk), 0);
	assert_int_equal(edge_walk_run(walk), 0);
	for (uint16_t i = 0; i < FLOWS; i++)
		if (before[i] == drained)
			held++;
	assert_int_equal(walk->flows[drained], held);
	edge_walk_free(walk);
	/* Now they may say nothing for no time at all, so all are over. */
	assert_int_equal(edge_service_idle(lab->eb, lab->service, 0), 0);
	while (balance_walk(lab))
		;
	assert_int_equal(open_entries(lab), 0);
	assert_int_equal(edge_walk_new(lab->eb, &walk), 0);
	assert_int_equal(edge_walk_run(walk), 0);
	assert_int_equal(walk->conns, 0);
	edge_walk_free(walk);
	for (uint16_t i = 0; i < FLOWS; i++)
		assert_int_not_equal(data(lab, i), drained);
}

/* One that was away for a moment gets its entries back, without losing who came meanwhile. */
static void a_backend_that_returns_gets_new_connections_only(void **state)
{
	struct balance_lab *lab = *state;
	uint16_t of[FLOWS], back = 0;

	backends_make(lab, 4);
	lab->backends[2].weight = 0;
	balance_turn(lab, 0);
	for (uint16_t i = 0; i < FLOWS; i++)
		of[i] = syn(lab, i);
	lab->backends[2].weight = 1;
	balance_turn(lab, 0);
	for (uint16_t i = 0; i < FLOWS; i++) {
		assert_int_equal(data(lab, i), of[i]);
		assert_int_not_equal(of[i], lab->backends[2].id);
	}
	for (uint16_t i = FLOWS; i < 2 * FLOWS; i++)
		if (syn(lab, i) == lab->backends[2].id)
			back++;
	assert_true(back > FLOWS / 8);
}

static uint16_t remembered_none(struct balance_lab *lab, uint16_t drained)
{
	uint16_t kept = 0;

	for (uint16_t i = 0; i < FLOWS; i++) {
		uint16_t backend = syn(lab, i);

		/* It goes on wherever it began. */
		assert_int_equal(data(lab, i), backend);
		if (backend == drained)
			kept++;
	}
	return kept;
}

/*
 * Over the budget new connections go where old ones go, as nothing remembers them: right as long
 * as that backend takes any. A flood of SYNs writes no more than the budget.
 */
static void over_the_budget_connections_stay_whole(void **state)
{
	const struct edge_balance_limits few = { .insert_rate = 10, .nat_last = 1 };
	struct balance_lab *lab = *state;
	uint64_t written;

	backends_make(lab, 4);
	assert_int_equal(edge_balance_limits_set(lab->eb, &few), 0);
	/* A new one came: the old ones of its entries take connections. */
	balance_backend(lab, &(struct backend_spec){ TW_EDGE_WAY_IPIP, 4 });
	balance_turn(lab, 0);
	remembered_none(lab, 0);
	written = balance_counter(lab, TW_EDGE_COUNT_REMEMBERED);
	/* By the second: a slow machine may begin some of them. */
	assert_true(written < FLOWS / 5);
	assert_true(balance_counter(lab, TW_EDGE_COUNT_REMEMBER_RATE) > 0);
}

static void a_full_table_is_over_the_budget(void **state)
{
	enum { BATCH = 4096 };
	struct tw_edge_conn_key *keys = calloc(BATCH, sizeof(*keys));
	struct tw_edge_conn *values = calloc(BATCH, sizeof(*values));
	struct balance_lab *lab = *state;
	int fd = edge_map_fd(lab->edge, "tw_edge_conns");

	backends_make(lab, 4);
	for (uint32_t n = 0; n < TW_EDGE_CONNS; n += BATCH) {
		uint32_t count = BATCH;

		for (uint32_t i = 0; i < BATCH; i++)
			keys[i].saddr.word[0] = n + i + 1;
		assert_int_equal(bpf_map_update_batch(fd, keys, values, &count, NULL), 0);
	}
	free(keys);
	free(values);
	balance_backend(lab, &(struct backend_spec){ TW_EDGE_WAY_IPIP, 4 });
	balance_turn(lab, 0);
	remembered_none(lab, 0);
	assert_int_equal(balance_counter(lab, TW_EDGE_COUNT_REMEMBERED), 0);
	assert_true(balance_counter(lab, TW_EDGE_COUNT_REMEMBER_FULL) > 0);
	/* A walk makes room: those belong to no service. */
	balance_walk(lab);
	remembered_none(lab, 0);
	assert_true(balance_counter(lab, TW_EDGE_COUNT_REMEMBERED) > 0);
}

/* UDP does not say what is new: old for a while, then new. */
static void udp_is_old_first_and_new_later(void **state)
{
	struct balance_lab *lab = *state;
	uint16_t before[FLOWS], drained;

	backends_make(lab, 10);
#define UDP_OF(i) EDGE_P(UDP, OUTSIDE, NODE, (uint16_t)(FIRST_PORT + (i)), 53)
	for (uint16_t i = 0; i < FLOWS; i++)
		before[i] = balance_to(lab, 4, &UDP_OF(i));
	drained = lab->backends[0].id;
	lab->backends[0].weight = 0;
	balance_turn(lab, 3600);
	for (uint16_t i = 0; i < FLOWS / 2; i++)
		assert_int_equal(balance_to(lab, 4, &UDP_OF(i)), before[i]);
	/* The same table again, and the time to learn is over. */
	lab->backends[0].weight = 1;
	balance_turn(lab, 0);
	lab->backends[0].weight = 0;
	balance_turn(lab, 0);
	while (balance_to(lab, 4, &UDP_OF(2 * FLOWS)) == 0)
		;
	usleep(20000); /* a tick, which the comparison needs to see */
	for (uint16_t i = 0; i < FLOWS; i++) {
		uint16_t backend = balance_to(lab, 4, &UDP_OF(i));

		if (i < FLOWS / 2)
			assert_int_equal(backend, before[i]);
		else
			assert_int_not_equal(backend, drained);
	}
}

/* Whoever opens the maps later goes on; names are found again. */
static void another_process_goes_on(void **state)
{
	struct balance_lab *lab = *state;
	uint16_t of[FLOWS], service;

	backends_make(lab, 10);
	for (uint16_t i = 0; i < FLOWS; i++)
		of[i] = syn(lab, i);
	lab->backends[1].weight = 0;
	balance_turn(lab, 0);
	edge_balance_close(lab->eb);
	assert_int_equal(edge_balance_open(&lab->eb, lab->edge), 0);
	assert_int_equal(edge_service_get(lab->eb, 1, &service), 0);
	assert_int_equal(service, lab->service);
	assert_true(open_entries(lab) > 0);
	balance_turn(lab, 0);
	lab->backends[2].weight = 0;
	balance_turn(lab, 0);
	for (uint16_t i = 0; i < FLOWS; i++)
		assert_int_equal(data(lab, i), of[i]);
}

static void a_service_that_goes_leaves_nothing(void **state)
{
	struct balance_lab *lab = *state;
	struct tw_edge_backend b;
	struct edge_walk *walk;
	uint16_t service;

	backends_make(lab, 10);
	lab->backends[1].weight = 0;
	balance_turn(lab, 0);
	for (uint16_t i = 0; i < FLOWS; i++)
		syn(lab, i);
	assert_int_equal(edge_fronts_set(lab->eb, NULL, 0), 0);
	assert_int_equal(edge_service_clear(lab->eb, lab->service), 0);
	for (size_t i = 0; i < lab->n_backends; i++)
		assert_int_equal(edge_backend_get(lab->eb, lab->backends[i].id, &b), -ENOENT);
	assert_int_equal(edge_walk_new(lab->eb, &walk), 0);
	assert_int_equal(edge_walk_run(walk), 0);
	assert_int_equal(walk->conns, 0);
	edge_walk_free(walk);
	assert_int_equal(edge_service_get(lab->eb, 2, &service), 0);
	assert_int_equal(service, lab->service);
	/* As many as there are, and no more. */
	for (uint16_t i = 3; i < TW_EDGE_SERVICES + 1; i++)
		assert_int_equal(edge_service_get(lab->eb, i, &service), 0);
	assert_int_equal(edge_service_get(lab->eb, 1000, &service), -ENOSPC);
}

int main(void)
{
#define BALANCE(fn) cmocka_unit_test_setup(fn, balance_setup)
	const struct CMUnitTest tests[] = {
		BALANCE(in_quiet_times_nothing_is_remembered),
		BALANCE(draining_keeps_connections),
		BALANCE(connections_outlive_any_changes),
		BALANCE(entries_are_closed_when_nobody_needs_them),
		BALANCE(a_backend_that_returns_gets_new_connections_only),
		BALANCE(over_the_budget_connections_stay_whole),
		BALANCE(a_full_table_is_over_the_budget),
		BALANCE(udp_is_old_first_and_new_later),
		BALANCE(another_process_goes_on),
		BALANCE(a_service_that_goes_leaves_nothing),
	};

	return cmocka_run_group_tests_name("edge_change", tests, balance_group_setup,
					   balance_group_teardown);
}
