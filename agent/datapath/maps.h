/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Plans of the policy compiler → maps, over libtowpath's datapath.h. The only part of the
 * agent that writes maps. A plan goes in two steps around the store's transaction: what no
 * packet sees yet is staged before it, where a lack of room refuses the change whole; what
 * packets see is flipped after it, when nothing can be refused any more.
 */
#ifndef AGENT_DATAPATH_MAPS_H
#define AGENT_DATAPATH_MAPS_H

#include <uv.h>

#include "datapath.h"
#include "policy/policy.h"

struct maps;

/* dp and loop stay the caller's. */
int maps_new(struct maps **out, struct datapath *dp, uv_loop_t *loop);
/* Before the loop's last run. What was to be deleted is left to the reconcile of the next start. */
void maps_free(struct maps *m);

/*
 * Numbers that the plan uses again may still be waiting to be deleted; then this waits for the
 * grace period and deletes them. Before maps_stage().
 */
void maps_make_way(struct maps *m, const struct policy_plan *plan);

/*
 * Writes new peers and versions, and makes room for new prefixes. -ENOSPC and others, with a
 * sentence in err and nothing left in the maps. One plan is staged at a time: maps_flip() or
 * maps_unstage() of the same plan follows.
 */
int maps_stage(struct maps *m, const struct policy_plan *plan, char *err, size_t err_len);
void maps_unstage(struct maps *m, const struct policy_plan *plan);

/* Writes to the kernel that a change took. */
struct maps_cost {
	uint32_t peers;
	uint32_t versions;
	uint32_t endpoints;
	uint32_t prefixes;
};

/* A live endpoint; its identity and version come from the plan. */
struct maps_endpoint {
	uint32_t slot;
	struct tw_endpoint value;
};

/* What comes and goes with a plan. */
struct maps_change {
	const struct policy_plan *plan;
	const struct maps_endpoint *added;
	size_t n_added;
	const uint32_t *removed; /* slots */
	size_t n_removed;
};

/*
 * Puts the staged plan in force, in the order of policy.h, epochs last; deletions follow when
 * an RCU grace period is over. An error is one of the kernel's that is not to be expected: the
 * maps then differ from the plan, and maps_reconcile() is what helps.
 */
int maps_flip(struct maps *m, const struct maps_change *change, struct maps_cost *cost);

/*
 * What the node itself says of addresses (its own, its pod subnets), in the place of what was
 * said before. The compiler keeps off these prefixes (policy_reserve(), called first; what
 * follows from it comes with the next plan). Before the first maps_reconcile() they are only
 * remembered. -errno: some are not in the maps.
 */
int maps_node_words(struct maps *m, const struct plan_prefix *words, size_t n);

/*
 * Makes the maps hold what the full plan, the endpoints, the node's words and the list of
 * destinations that are not masqueraded say, and nothing else, while packets pass. Raises the node's epoch once.
 */
int maps_reconcile(struct maps *m, const struct policy_plan *full,
		   const struct maps_endpoint *endpoints, size_t n_endpoints,
		   const struct prefix *nomasq, size_t n_nomasq, char *err, size_t err_len);

/* ---- questions (ask.c) ------------------------------------------------------------------------ */

struct maps_end {      /* as the ipcache has it */
	uint32_t slot; /* 0: no endpoint of this node */
	uint32_t identity;
	uint32_t version;
	bool gone; /* the slot's endpoint is not live */
};

struct maps_answer {
	enum tw_reason reason; /* TW_REASON_OK: a new flow would be opened, as far as policy goes */
	bool host;	       /* one end is the node, so no policy is asked */
	struct maps_end end[2]; /* from, to */
	uint32_t key;		/* protocol << 16 | port, as classes are searched */
	bool asked[2];		/* enum tw_direction */
	struct datapath_decision said[2];
};

/*
 * The programs' own decision about a new flow from ends[0] to ends[1], read from the maps. Ends
 * are addresses or the node; slots in them are not looked at. 0 or -errno.
 */
int maps_ask(struct datapath *dp, const struct policy_end ends[2], uint8_t proto, uint16_t port,
	     struct maps_answer *out);

#endif
