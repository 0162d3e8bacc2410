/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Random objects out of few words and addresses, so that they meet often. Everything follows
 * from the seed.
 */
#ifndef TESTS_UNIT_POLICY_CHANCE_H
#define TESTS_UNIT_POLICY_CHANCE_H

#include "object/object.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define pick(array) ((array)[rnd((uint32_t)COUNT(array))])

#define CHANCE_NS 3
#define CHANCE_PODS 4 /* of a namespace: pod0 ... */

extern const char *const chance_ns[CHANCE_NS];
extern const char *const chance_keys[3];
extern const char *const chance_values[3];
extern const char *const chance_pods[12];  /* addresses that pods have */
extern const char *const chance_world[11]; /* and others */
extern const struct chance_probe {
	uint8_t proto;
	uint16_t port;
} chance_probes[10];

void chance_seed(uint64_t value);
/* Other addresses of pods and other blocks than those above; borrowed. */
void chance_addresses(const char *const *pods, uint32_t n_pods, const char *const *blocks,
		      uint32_t n_blocks);
uint32_t rnd(uint32_t n); /* 0 .. n - 1 */

/* One object each; names follow from the number, the rest is chance. */
struct object *chance_namespace(uint32_t i); /* below CHANCE_NS */
struct object *chance_pod(uint32_t i);	     /* below CHANCE_NS * CHANCE_PODS */
struct object *chance_policy(uint32_t i);
/* For all pods of its namespace, with few ports and some peers: mostly the union of others grows. */
struct object *chance_plain_policy(uint32_t i);

#endif
