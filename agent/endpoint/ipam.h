/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Which address an endpoint gets. In memory only: the taken addresses come back from the
 * endpoint records after a restart, the released ones from the store. Memory is in proportion
 * to the addresses in use, not to the pools. Knows nothing of interfaces.
 */
#ifndef AGENT_IPAM_H
#define AGENT_IPAM_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "object/object.h"

/* Seconds that a released address is left alone while another one is free. */
#define IPAM_QUARANTINE 60u

struct ipam;

/*
 * The agent's pools, used for networks without subnets of their own. -EINVAL when two of them
 * overlap, with a sentence in err (may be NULL). -ENOMEM.
 */
int ipam_new(struct ipam **out, const struct prefix *pools, size_t n_pools, char *err,
	     size_t err_len);
void ipam_free(struct ipam *ipam);

struct ipam_request {
	const char *network;
	const struct prefix *subnets; /* none: the agent's pools */
	size_t n_subnets;
	union tw_addr wish4; /* all zero: any */
	union tw_addr wish6;
	bool only_wishes; /* a family without wish gets none */
};

/*
 * One address of each family that the pools have; both or none. `now` is in seconds of the
 * wall clock. -ENOSPC: a family is exhausted. -EADDRINUSE: a wished address is taken.
 * -EINVAL: a wished address is outside the pools, or the subnets overlap another network's.
 */
int ipam_allocate(struct ipam *ipam, const struct ipam_request *req, uint64_t now,
		  union tw_addr *addr4, union tw_addr *addr6, char *err, size_t err_len);
/* Unknown or zero addresses are ignored. */
void ipam_release(struct ipam *ipam, const union tw_addr *addr, uint64_t now);
/* Gives an address back as if it had never been handed out (undo of an ADD that failed). */
void ipam_cancel(struct ipam *ipam, const union tw_addr *addr);

/*
 * At start: an address that a record holds. subnets as in the record. -EADDRINUSE: another
 * record has it. Addresses outside all pools are kept too (pools may have been changed).
 */
int ipam_restore(struct ipam *ipam, const char *network, const struct prefix *subnets,
		 size_t n_subnets, const union tw_addr *addr);
/* At start, after all ipam_restore(): an address released at `time`. */
int ipam_restore_release(struct ipam *ipam, const union tw_addr *addr, uint64_t time);

/* An address that is never handed out while reserved: one of the node's own. -ENOMEM. */
int ipam_reserve(struct ipam *ipam, const union tw_addr *addr);
void ipam_unreserve(struct ipam *ipam, const union tw_addr *addr);

/*
 * All pools: the agent's, then those of networks that have addresses in use. The array is
 * the caller's to free; its prefixes are values.
 */
int ipam_pools(const struct ipam *ipam, struct prefix **out, size_t *n);
/* For status: [{network, subnet, used, quarantined, size}], size capped at 2^53. */
json_t *ipam_to_json(const struct ipam *ipam);

#endif
