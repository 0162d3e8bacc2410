/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "edge_prefix.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void edge_prefixes_free(struct edge_prefixes *p)
{
	free(p->v4);
	free(p->v6);
	*p = (struct edge_prefixes){};
}

/* Room for `more` of them: by half as much again, so that adding one by one is cheap. */
static int room_make(void **array, size_t *room, size_t n, size_t more, size_t size)
{
	size_t want = *room;
	void *grown;

	if (n + more <= *room)
		return 0;
	while (want < n + more)
		want += want / 2 + 64;
	/* The first time exactly what is asked for. */
	if (!n && more > 64)
		want = more;
	grown = realloc(*array, want * size);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*room = want;
	return 0;
}

static int room_make4(struct edge_prefixes *p, size_t more)
{
	return room_make((void **)&p->v4, &p->room4, p->n4, more, sizeof(*p->v4));
}

static int room_make6(struct edge_prefixes *p, size_t more)
{
	return room_make((void **)&p->v6, &p->room6, p->n6, more, sizeof(*p->v6));
}

int edge_prefixes_reserve4(struct edge_prefixes *p, size_t n)
{
	return room_make4(p, n);
}

static bool is_mapped(const union tw_addr *addr, uint32_t len)
{
	return len >= 96 && !addr->quad[0] && addr->word[2] == htonl(0xffff);
}

static edge_prefix4 make4(const union tw_addr *addr, uint32_t len, uint32_t rule)
{
	uint32_t host = ntohl(addr->word[3]), short_len = len - 96;

	return edge_prefix4_make(host & (uint32_t)(edge_mask64(short_len) >> 32), short_len, rule);
}

static struct edge_prefix6 make6(const union tw_addr *addr, uint32_t len, uint32_t rule)
{
	return (struct edge_prefix6){
		.high = be64toh(addr->quad[0]) & edge_mask64(len),
		.low = len > 64 ? be64toh(addr->quad[1]) & edge_mask64(len - 64) : 0,
		.len = len,
		.rule = rule,
	};
}

int edge_prefixes_add4(struct edge_prefixes *p, uint32_t addr, uint32_t len, uint32_t rule)
{
	int res = room_make4(p, 1);

	if (res)
		return res;
	p->v4[p->n4++] = edge_prefix4_make(addr & (uint32_t)(edge_mask64(len) >> 32), len, rule);
	return 0;
}

int edge_prefixes_add(struct edge_prefixes *p, const union tw_addr *addr, uint32_t len,
		      uint32_t rule)
{
	int res;

	if (is_mapped(addr, len))
		return edge_prefixes_add4(p, ntohl(addr->word[3]), len - 96, rule);
	res = room_make6(p, 1);
	if (res)
		return res;
	p->v6[p->n6++] = make6(addr, len, rule);
	return 0;
}

int edge_prefixes_append(struct edge_prefixes *p, const struct edge_prefixes *from)
{
	int res = room_make4(p, from->n4) ?: room_make6(p, from->n6);

	if (res)
		return res;
	if (from->n4)
		memcpy(p->v4 + p->n4, from->v4, from->n4 * sizeof(*p->v4));
	if (from->n6)
		memcpy(p->v6 + p->n6, from->v6, from->n6 * sizeof(*p->v6));
	p->n4 += from->n4;
	p->n6 += from->n6;
	return 0;
}

/* ---- sorting --------------------------------------------------------------------------------- */

#define DIGIT_BITS 11u
#define DIGITS (1u << DIGIT_BITS)

static uint64_t key4(const void *at)
{
	return *(const edge_prefix4 *)at >> EDGE_RULE_BITS;
}

static uint64_t key6(const void *at)
{
	return ((const struct edge_prefix6 *)at)->high;
}

/* One pass by one digit, of `bits`, from a to b. false: all have the same digit, nothing was moved. */
static inline __attribute__((always_inline)) bool radix_pass(const char *a, char *b, size_t n,
							     size_t size,
							     uint64_t (*key)(const void *),
							     uint32_t shift, uint32_t bits)
{
	size_t at[DIGITS] = {}, sum = 0;
	uint64_t mask = (1u << bits) - 1;

	for (size_t i = 0; i < n; i++)
		at[key(a + i * size) >> shift & mask]++;
	if (at[key(a) >> shift & mask] == n)
		return false;
	for (size_t d = 0; d < DIGITS; d++) {
		size_t count = at[d];

		at[d] = sum;
		sum += count;
	}
	for (size_t i = 0; i < n; i++)
		memcpy(b + at[key(a + i * size) >> shift & mask]++ * size, a + i * size, size);
	return true;
}

/*
 * Inlined for each element type, so that size and key are constants. `first`: bits of the first
 * digit, which all may have in common.
 */
static inline __attribute__((always_inline)) int radix_sort(void **array, size_t *room, size_t n,
							    size_t size,
							    uint64_t (*key)(const void *),
							    uint32_t first, uint32_t bits)
{
	char *a = *array, *b;

	if (n < 2)
		return 0;
	b = malloc(n * size);
	if (!b)
		return -ENOMEM;
	for (uint32_t shift = 0, width = first; shift < bits; shift += width, width = DIGIT_BITS) {
		if (!radix_pass(a, b, n, size, key, shift, width))
			continue;
		char *t = a;

		a = b;
		b = t;
	}
	if (a != *array)
		*room = n;
	*array = a;
	free(b);
	return 0;
}

static int order6(const void *a, const void *b)
{
	const struct edge_prefix6 *x = a, *y = b;

	if (x->low != y->low)
		return x->low < y->low ? -1 : 1;
	if (x->len != y->len)
		return x->len < y->len ? -1 : 1;
	return (x->rule > y->rule) - (x->rule < y->rule);
}

int edge_prefixes_sort(struct edge_prefixes *p)
{
	int res = radix_sort((void **)&p->v4, &p->room4, p->n4, sizeof(*p->v4), key4, 6, 38);

	if (!res)
		res = radix_sort((void **)&p->v6, &p->room6, p->n6, sizeof(*p->v6), key6,
				 DIGIT_BITS, 64);
	/* The runs of one upper half are short, but where a list is of hosts in few networks. */
	for (size_t i = 0, j; !res && i < p->n6; i = j) {
		for (j = i + 1; j < p->n6 && p->v6[j].high == p->v6[i].high; j++)
			;
		qsort(p->v6 + i, j - i, sizeof(*p->v6), order6);
	}
	return res;
}

static bool before6(const struct edge_prefix6 *a, uint64_t high, uint64_t low, uint32_t len)
{
	if (a->high != high)
		return a->high < high;
	return a->low != low ? a->low < low : a->len < len;
}

int edge_prefixes_merge(const struct edge_prefixes *a, const struct edge_prefixes *b,
			struct edge_prefixes *out)
{
	struct edge_prefixes all = {};
	size_t i = 0, j = 0;
	int res = room_make4(&all, a->n4 + b->n4) ?: room_make6(&all, a->n6 + b->n6);

	if (res) {
		edge_prefixes_free(&all);
		return res;
	}
	while (i < a->n4 && j < b->n4)
		all.v4[all.n4++] = key4(&b->v4[j]) < key4(&a->v4[i]) ? b->v4[j++] : a->v4[i++];
	while (i < a->n4)
		all.v4[all.n4++] = a->v4[i++];
	while (j < b->n4)
		all.v4[all.n4++] = b->v4[j++];
	i = j = 0;
	while (i < a->n6 && j < b->n6)
		all.v6[all.n6++] = before6(&b->v6[j], a->v6[i].high, a->v6[i].low, a->v6[i].len)
					   ? b->v6[j++]
					   : a->v6[i++];
	while (i < a->n6)
		all.v6[all.n6++] = a->v6[i++];
	while (j < b->n6)
		all.v6[all.n6++] = b->v6[j++];
	*out = all;
	return 0;
}

/* ---- one at a time ------------------------------------------------------------------------- */

/* The first that is not before the key. */
static size_t bound4(const struct edge_prefixes *p, uint64_t key)
{
	size_t lo = 0, hi = p->n4;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (p->v4[mid] < key)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static size_t bound6(const struct edge_prefixes *p, uint64_t high, uint64_t low, uint32_t len)
{
	size_t lo = 0, hi = p->n6;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (before6(&p->v6[mid], high, low, len))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct edge_slice edge_prefixes_inside4(const struct edge_prefixes *p, uint32_t addr, uint32_t len)
{
	/* All with this address and at least this length, up to the prefix's last address. */
	uint64_t last = (uint64_t)addr + ((1ull << (32 - len)) - 1);

	return (struct edge_slice){ bound4(p, edge_prefix4_make(addr, len, 0)),
				    bound4(p, last << 32 | 33ull << EDGE_RULE_BITS) };
}

struct edge_slice edge_prefixes_inside6(const struct edge_prefixes *p, uint64_t high, uint64_t low,
					uint32_t len)
{
	uint64_t last_high = high | ~edge_mask64(len);
	uint64_t last_low = len > 64 ? low | ~edge_mask64(len - 64) : ~0ull;

	return (struct edge_slice){ bound6(p, high, low, len),
				    bound6(p, last_high, last_low, 129) };
}

static void *gap_open(void *array, size_t n, size_t at, size_t size)
{
	char *gap = (char *)array + at * size;

	memmove(gap + size, gap, (n - at) * size);
	return gap;
}

static void gap_close(void *array, size_t n, size_t at, size_t size)
{
	char *gap = (char *)array + at * size;

	memmove(gap, gap + size, (n - at - 1) * size);
}

int edge_prefixes_insert(struct edge_prefixes *p, const union tw_addr *addr, uint32_t len,
			 uint32_t rule)
{
	size_t at;
	int res;

	if (is_mapped(addr, len)) {
		edge_prefix4 new = make4(addr, len, rule);

		res = room_make4(p, 1);
		if (res)
			return res;
		at = bound4(p, ((new >> EDGE_RULE_BITS) + 1) << EDGE_RULE_BITS);
		*(edge_prefix4 *)gap_open(p->v4, p->n4++, at, sizeof(*p->v4)) = new;
		return 0;
	}
	struct edge_prefix6 new = make6(addr, len, rule);

	res = room_make6(p, 1);
	if (res)
		return res;
	at = bound6(p, new.high, new.low, new.len + 1);
	*(struct edge_prefix6 *)gap_open(p->v6, p->n6++, at, sizeof(*p->v6)) = new;
	return 0;
}

int edge_prefixes_remove(struct edge_prefixes *p, const union tw_addr *addr, uint32_t len,
			 uint32_t rule)
{
	if (is_mapped(addr, len)) {
		edge_prefix4 old = make4(addr, len, rule);
		size_t at = bound4(p, old >> EDGE_RULE_BITS << EDGE_RULE_BITS);

		while (at < p->n4 && p->v4[at] >> EDGE_RULE_BITS == old >> EDGE_RULE_BITS &&
		       p->v4[at] != old)
			at++;
		if (at == p->n4 || p->v4[at] != old)
			return -ENOENT;
		gap_close(p->v4, p->n4--, at, sizeof(*p->v4));
		return 0;
	}
	struct edge_prefix6 old = make6(addr, len, rule);
	size_t at = bound6(p, old.high, old.low, old.len);

	while (at < p->n6 && p->v6[at].high == old.high && p->v6[at].low == old.low &&
	       p->v6[at].len == old.len) {
		if (p->v6[at].rule == rule) {
			gap_close(p->v6, p->n6--, at, sizeof(*p->v6));
			return 0;
		}
		at++;
	}
	return -ENOENT;
}

void edge_prefixes_drop_rule(struct edge_prefixes *p, uint32_t rule)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n4; i++)
		if (edge_prefix4_rule(p->v4[i]) != rule)
			p->v4[n++] = p->v4[i];
	p->n4 = n;
	n = 0;
	for (size_t i = 0; i < p->n6; i++)
		if (p->v6[i].rule != rule)
			p->v6[n++] = p->v6[i];
	p->n6 = n;
}

static void trim(void **array, size_t *room, size_t n, size_t size)
{
	void *less;

	if (*room == n)
		return;
	less = n ? realloc(*array, n * size) : NULL;
	if (!n)
		free(*array);
	if (n && !less)
		return;
	*array = less;
	*room = n;
}

void edge_prefixes_trim(struct edge_prefixes *p)
{
	trim((void **)&p->v4, &p->room4, p->n4, sizeof(*p->v4));
	trim((void **)&p->v6, &p->room6, p->n6, sizeof(*p->v6));
}

static void cover4(const struct edge_prefixes *p, uint32_t addr,
		   void (*fn)(void *arg, uint32_t rule), void *arg)
{
	for (uint32_t len = 0; len <= 32; len++) {
		uint32_t net = addr & (uint32_t)(edge_mask64(len) >> 32);
		edge_prefix4 key = edge_prefix4_make(net, len, 0);

		for (size_t i = bound4(p, key);
		     i < p->n4 && p->v4[i] >> EDGE_RULE_BITS == key >> EDGE_RULE_BITS; i++)
			fn(arg, edge_prefix4_rule(p->v4[i]));
	}
}

void edge_prefixes_cover(const struct edge_prefixes *p, const union tw_addr *addr,
			 void (*fn)(void *arg, uint32_t rule), void *arg)
{
	if (is_mapped(addr, 128)) {
		cover4(p, ntohl(addr->word[3]), fn, arg);
		return;
	}
	for (uint32_t len = 0; len <= 128; len++) {
		struct edge_prefix6 key = make6(addr, len, 0);

		for (size_t i = bound6(p, key.high, key.low, len);
		     i < p->n6 && p->v6[i].high == key.high && p->v6[i].low == key.low &&
		     p->v6[i].len == len;
		     i++)
			fn(arg, p->v6[i].rule);
	}
}
