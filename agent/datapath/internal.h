/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Private to agent/datapath. */
#ifndef AGENT_DATAPATH_INTERNAL_H
#define AGENT_DATAPATH_INTERNAL_H

#include "datapath/maps.h"

/* Deletions that wait for an RCU grace period, off the event loop (defer.c). */
struct defer;

struct defer *defer_new(struct datapath *dp, uv_loop_t *loop);
void defer_free(struct defer *d);
/* Takes over what the plan deletes. -ENOMEM: it stays in the maps until the next start. */
int defer_delete(struct defer *d, const struct policy_plan *plan);
/*
 * Numbers that the plan uses again must not be deleted under it: when one of them is still
 * waiting, everything that waits is deleted now (which blocks for a grace period).
 */
void defer_make_way(struct defer *d, const struct policy_plan *plan);

struct maps {
	struct datapath *dp;
	struct defer *defer;
	/* Of the staged plan: how many of its peers, versions and prefixes are in the maps. */
	size_t n_peers;
	size_t n_join, n_leave;
	union tw_peer *turned; /* what these were before, joining ones first */
	size_t n_versions;
	size_t n_fresh;
	bool *fresh;		   /* for each prefix: staging made its entry */
	struct plan_prefix *words; /* the node's */
	size_t n_words;
	bool reconciled;
};

/* Writes a live endpoint with what the plan says of it; no word in the plan is an error. */
int maps_endpoint_write(struct datapath *dp, const struct maps_endpoint *ep,
			const struct plan_endpoint *policy);

int peer_order(const void *a, const void *b);	/* struct tw_peer_key */
int number_order(const void *a, const void *b); /* uint32_t */

#endif
