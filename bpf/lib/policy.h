/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* May `identity` pass on `port_key` in direction `dir` of a policy version? (design 3.3) */
#ifndef TW_POLICY_H
#define TW_POLICY_H

#include "maps.h"

/*
 * port_key: protocol << 16 | port in host order. 1 or 0; fails closed: what is not found denies.
 * Global, so that the verifier walks it once.
 */
__weak __noinline int policy_allows(__u32 version, __u32 dir, __u32 identity, __u32 port_key)
{
	const struct tw_policy_dir *d;
	const struct tw_policy *p;
	const struct tw_class *c;
	struct tw_peer_key peer;
	__u32 at, n, i;

	if (!version)
		return 1;
	p = bpf_map_lookup_elem(&tw_policy, &version);
	if (!p)
		return 0;
	d = &p->dir[dir & 1];
	if (!d->isolated)
		return 1;
	at = d->first;
	n = d->count;
	if (!n)
		return 0;
	/* Last class whose start is not above the key; the first one starts at 0. */
	for (i = 0; i < TW_CLASS_STEPS && n > 1; i++) {
		__u32 step = n >> 1, mid = at + step;

		c = bpf_map_lookup_elem(&tw_classes, &mid);
		if (!c)
			return 0;
		if (c->start <= port_key) {
			at = mid;
			n -= step;
		} else {
			n = step;
		}
	}
	c = bpf_map_lookup_elem(&tw_classes, &at);
	if (!c || c->set == TW_SET_NONE)
		return 0;
	if (c->set == TW_SET_ANY)
		return 1;
	peer.set = c->set;
	peer.identity = identity;
	return bpf_map_lookup_elem(&tw_peers, &peer) != NULL;
}

#endif
