/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * NetworkPolicy in plain C, written from the API reference and from nothing else: the measure
 * of the compiler and of policy_explain(). It is slow and has no state of its own.
 */
#ifndef TESTS_UNIT_POLICY_MODEL_H
#define TESTS_UNIT_POLICY_MODEL_H

#include "policy/policy.h"

struct model_ep {
	bool live;
	char ns[64];
	char pod[64];
	union tw_addr addr4; /* zero: none */
	union tw_addr addr6;
	const struct labels *labels; /* while there is no Pod object; NULL: none */
};

/* Objects are borrowed; names are unique. Endpoints by slot. */
struct model {
	const struct object **objects;
	size_t n_objects;
	const struct model_ep *eps;
	uint32_t n_eps;
	const struct prefix *reserved; /* only endpoints are pods in there */
	size_t n_reserved;
};

/*
 * May the endpoint `slot` of `self` exchange packets with `peer` in this direction? What the
 * peer is, is looked up in `others`; rules and the endpoint itself in `self`.
 */
bool model_allows(const struct model *self, const struct model *others, uint32_t slot,
		  enum tw_direction dir, const union tw_addr *peer, uint8_t proto, uint16_t port);

/* The Pod object of who has the address; NULL: none. */
const struct object *model_pod_at(const struct model *m, const union tw_addr *addr);

#endif
