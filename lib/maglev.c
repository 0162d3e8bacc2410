/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "maglev.h"

/* The finaliser of MurmurHash3: each bit of the result depends on each bit of x. */
static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdull;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ull;
	return x ^ x >> 33;
}

uint64_t maglev_key(const union tw_addr *addr, __be16 port)
{
	const uint8_t *p = (const uint8_t *)&port;
	uint64_t high = 0, low = 0;

	/* By value and not as stored: the same on machines of either byte order. */
	for (int i = 0; i < 8; i++) {
		high = high << 8 | addr->byte[i];
		low = low << 8 | addr->byte[8 + i];
	}
	return mix(mix(mix(high) ^ low) ^ ((uint64_t)p[0] << 8 | p[1]));
}

/* A backend's preference list: the permutation offset, offset + skip, ... of all entries. */
struct turn {
	const struct maglev_backend *b;
	uint64_t credit; /* turns owed, in units of the largest weight */
	uint32_t at;
	uint32_t skip;
};

static int by_key(const void *a, const void *b)
{
	const struct turn *x = a, *y = b;

	return (x->b->key > y->b->key) - (x->b->key < y->b->key);
}

/* The next entry of its list that is free becomes the backend's. */
static void turn_take(struct turn *t, uint16_t table[TW_MAGLEV_SIZE], uint8_t *taken)
{
	while (taken[t->at]) {
		t->at += t->skip;
		if (t->at >= TW_MAGLEV_SIZE)
			t->at -= TW_MAGLEV_SIZE;
	}
	taken[t->at] = 1;
	table[t->at] = t->b->id;
}

int maglev_fill(uint16_t table[TW_MAGLEV_SIZE], const struct maglev_backend *backends, size_t n)
{
	uint8_t taken[TW_MAGLEV_SIZE] = {};
	struct turn *turns = calloc(n ?: 1, sizeof(*turns));
	uint32_t filled = 0, heaviest = 0;
	size_t n_turns = 0;

	if (!turns)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const struct maglev_backend *b = &backends[i];

		if (!b->weight)
			continue;
		if (b->weight > heaviest)
			heaviest = b->weight;
		/* The size is prime: any step from 1 to size - 1 visits every entry. */
		turns[n_turns++] = (struct turn){
			.b = b,
			.at = (uint32_t)(mix(b->key) % TW_MAGLEV_SIZE),
			.skip = (uint32_t)(mix(b->key ^ 0x9e3779b97f4a7c15ull) %
					   (TW_MAGLEV_SIZE - 1)) +
				1,
		};
	}
	if (!n_turns)
		memset(table, 0, TW_MAGLEV_SIZE * sizeof(*table));
	qsort(turns, n_turns, sizeof(*turns), by_key);
	/* The heaviest takes an entry each round, the others as often as their weight says. */
	while (n_turns && filled < TW_MAGLEV_SIZE) {
		for (size_t i = 0; i < n_turns && filled < TW_MAGLEV_SIZE; i++) {
			turns[i].credit += turns[i].b->weight;
			if (turns[i].credit < heaviest)
				continue;
			turns[i].credit -= heaviest;
			turn_take(&turns[i], table, taken);
			filled++;
		}
	}
	free(turns);
	return 0;
}
