/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The kernel's tables in plain memory, as abi.h describes them: plans are written into them
 * step by step, packets are judged by them.
 */
#ifndef TESTS_UNIT_POLICY_LAB_H
#define TESTS_UNIT_POLICY_LAB_H

#include "policy/policy.h"

#define LAB_EPS 64u

struct lab_prefix {
	struct prefix prefix;
	uint32_t word;
};

struct lab_peer { /* versions of these generations find it */
	struct tw_peer_key key;
	uint32_t since;
	uint32_t until;
};

struct lab_version {
	bool present;
	uint32_t generation;
	bool isolated[2];
	struct tw_class *classes[2];
	uint32_t n_classes[2];
};

struct lab {
	struct lab_peer *peers; /* sorted */
	size_t n_peers;
	uint32_t generation; /* of the last plan */
	uint64_t edits;	     /* pairs that joined or left a set */
	struct lab_version *versions;
	uint32_t n_versions;
	struct plan_endpoint eps[LAB_EPS]; /* by slot; slot 0: free */
	struct lab_prefix *prefixes;
	size_t n_prefixes;
	unsigned int bumps[LAB_EPS]; /* epochs; [0] is the node's */
};

/*
 * Writes a plan. fn (may be NULL) is called after each single write that packets can see. It
 * is an assertion failure to add what is there, to delete what is not, to use what is missing.
 */
void lab_apply(struct lab *lab, const struct policy_plan *plan, void (*fn)(void *arg), void *arg);
void lab_remove_endpoint(struct lab *lab, uint32_t slot);
void lab_clear(struct lab *lab);

/* The look-ups of the data path. */
uint32_t lab_word(const struct lab *lab, const union tw_addr *addr);
uint32_t lab_identity(const struct lab *lab, const union tw_addr *addr);
/* May the endpoint exchange packets with this address? */
bool lab_allows(const struct lab *lab, uint32_t slot, enum tw_direction dir,
		const union tw_addr *peer, uint8_t proto, uint16_t port);

/* Whether the tables hold what a full plan says, and nothing else; fails the test if not. */
void lab_compare(const struct lab *lab, const struct policy_plan *full);

#endif
