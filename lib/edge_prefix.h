/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Sorted arrays of prefixes, each with the caller's rule number: what an address table
 * (edge_table.h) is built from. An IPv4 prefix is 64 bits, so a million of them sort in some
 * 12 ms. Knows nothing of maps. Host byte order throughout.
 */
#ifndef TOWPATH_EDGE_PREFIX_H
#define TOWPATH_EDGE_PREFIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <towpath/abi.h>

#define EDGE_RULE_BITS 26u

/* Address, length, rule, from the highest bit down: as numbers they are in the table's order. */
typedef uint64_t edge_prefix4;

struct edge_prefix6 {
	uint64_t high, low;
	uint32_t len; /* 0 to 128 */
	uint32_t rule;
};

/* By address, then by length: whatever covers a prefix stands before it. */
struct edge_prefixes {
	edge_prefix4 *v4;
	struct edge_prefix6 *v6;
	size_t n4, n6;
	size_t room4, room6;
};

static inline uint32_t edge_prefix4_addr(edge_prefix4 p)
{
	return (uint32_t)(p >> 32);
}

static inline uint32_t edge_prefix4_len(edge_prefix4 p)
{
	return (uint32_t)(p >> EDGE_RULE_BITS) & 63;
}

static inline uint32_t edge_prefix4_rule(edge_prefix4 p)
{
	return (uint32_t)p & ((1u << EDGE_RULE_BITS) - 1);
}

/* addr: bits behind len must be 0. */
static inline edge_prefix4 edge_prefix4_make(uint32_t addr, uint32_t len, uint32_t rule)
{
	return (uint64_t)addr << 32 | (uint64_t)len << EDGE_RULE_BITS | rule;
}

static inline uint64_t edge_mask64(uint32_t len)
{
	return len >= 64 ? ~0ull : ~(~0ull >> len);
}

void edge_prefixes_free(struct edge_prefixes *p);
/* Room for so many IPv4 prefixes more. -ENOMEM. */
int edge_prefixes_reserve4(struct edge_prefixes *p, size_t n);
/*
 * Adds at the end, unsorted; bits of addr behind len are cleared. len: 0 to 128, IPv4 is mapped
 * (96 and more). -ENOMEM.
 */
int edge_prefixes_add(struct edge_prefixes *p, const union tw_addr *addr, uint32_t len,
		      uint32_t rule);
int edge_prefixes_add4(struct edge_prefixes *p, uint32_t addr, uint32_t len, uint32_t rule);
/* Adds all of another. -ENOMEM: nothing was added. */
int edge_prefixes_append(struct edge_prefixes *p, const struct edge_prefixes *from);
/* Stable for equal prefixes. -ENOMEM: unsorted as before. */
int edge_prefixes_sort(struct edge_prefixes *p);
/* Two sorted ones into a third, which is empty; those of a first where both are equal. -ENOMEM. */
int edge_prefixes_merge(const struct edge_prefixes *a, const struct edge_prefixes *b,
			struct edge_prefixes *out);
/* Into a sorted one, at its place, behind equal ones. -ENOMEM. */
int edge_prefixes_insert(struct edge_prefixes *p, const union tw_addr *addr, uint32_t len,
			 uint32_t rule);
/* Takes one away. -ENOENT. */
int edge_prefixes_remove(struct edge_prefixes *p, const union tw_addr *addr, uint32_t len,
			 uint32_t rule);
/* Takes all of a rule away. */
void edge_prefixes_drop_rule(struct edge_prefixes *p, uint32_t rule);
/* Gives memory back that it grew by and does not need. */
void edge_prefixes_trim(struct edge_prefixes *p);

/*
 * Of a sorted one, what lies inside of a prefix: [first, last). A prefix itself counts as inside.
 * IPv4 prefixes by their 32-bit length.
 */
struct edge_slice {
	size_t first, last;
};
struct edge_slice edge_prefixes_inside4(const struct edge_prefixes *p, uint32_t addr, uint32_t len);
struct edge_slice edge_prefixes_inside6(const struct edge_prefixes *p, uint64_t high, uint64_t low,
					uint32_t len);

/* Of a sorted one: calls fn with the rule of each prefix that covers the address. */
void edge_prefixes_cover(const struct edge_prefixes *p, const union tw_addr *addr,
			 void (*fn)(void *arg, uint32_t rule), void *arg);

#endif
