/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The user side of the flow tables. */
#ifndef TOWPATH_FLOW_H
#define TOWPATH_FLOW_H

#include <stdbool.h>
#include <stdint.h>
#include <towpath/abi.h>

union flow_key {
	struct tw_flow4_key k4; /* of tw_flow4 */
	struct tw_flow6_key k6;
};

/* The canonical key of a tuple. Returns the direction: half[dir] is the tuple's. */
unsigned int flow_key_pack(const struct tw_tuple *t, union flow_key *key);

/*
 * A translated flow has two entries. From one, by the tuple of the half that carries packets
 * (TW_HALF_TWIN), to the tuple of the other.
 */
void flow_twin_tuple(const struct tw_tuple *t, const struct tw_half *h, struct tw_tuple *out);

#endif
