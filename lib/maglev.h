/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer",
 * NSDI 2016, section 3.4), with weights. A table is a function of the backends' keys and weights
 * alone, so that several balancers that know the same backends send a flow to the same one.
 */
#ifndef TOWPATH_MAGLEV_H
#define TOWPATH_MAGLEV_H

#include <stddef.h>
#include <stdint.h>
#include <towpath/edge_balance_abi.h>

struct maglev_backend {
	uint64_t key;	 /* stable name of the backend, the same on every balancer; unique */
	uint32_t weight; /* share relative to the others; 0: gets nothing */
	uint16_t id;	 /* what stands in the table for it */
};

/* The key of a backend at an address and port (0: it has none of its own). */
uint64_t maglev_key(const union tw_addr *addr, __be16 port);

/*
 * Fills a whole table: each entry the id of a backend; all 0 when none has a weight. The order of
 * the backends does not matter. -ENOMEM, with the table untouched.
 */
int maglev_fill(uint16_t table[TW_MAGLEV_SIZE], const struct maglev_backend *backends, size_t n);

#endif
