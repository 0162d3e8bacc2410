/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The node's own side: which interfaces lead outside, with which addresses; what the maps say
 * of the node's addresses and of its pod subnets; all of it kept right while it changes.
 */
#ifndef AGENT_UPLINKS_H
#define AGENT_UPLINKS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <towpath/abi.h>

struct agent;
struct uplinks;

/*
 * Looks at the node, reserves its addresses, and tells maps and compiler what its prefixes
 * mean. -errno with a sentence: an uplink that the options name is not there.
 */
int uplinks_new(struct uplinks **out, struct agent *a, char *err, size_t err_len);
/* With the maps right: sysctls, programs on the uplinks; then watches for changes. */
int uplinks_start(struct uplinks *u, char *err, size_t err_len);
/* Before the loop's last run; frees it there. */
void uplinks_free(struct uplinks *u);

/* What containers get when nobody asks for another. */
uint32_t uplinks_mtu(const struct uplinks *u);
/* Whether the interface is an uplink. */
int uplinks_has(const struct uplinks *u, uint32_t ifindex);
/* ifindex of the first one; 0: none. */
uint32_t uplinks_first(const struct uplinks *u);
/* The first address of the family (4 or 6). -ENOENT. */
int uplinks_address(const struct uplinks *u, uint8_t family, union tw_addr *out);
/* [{name, ifindex, mtu, up, ip4, ip6}] */
json_t *uplinks_to_json(const struct uplinks *u);
/* Attaches programs that somebody has taken off. */
void uplinks_put_back(struct uplinks *u);
/* The pools of pods have changed (a network with subnets of its own): say so to the maps. */
void uplinks_pools_changed(struct uplinks *u);

#endif
