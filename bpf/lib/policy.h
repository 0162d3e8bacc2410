/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* May `identity` pass on `port_key` in direction `dir` of a policy version? (design 3.3) */
#ifndef TW_POLICY_H
#define TW_POLICY_H

#include "maps.h"

#define PEER_TRIES 3

/*
 * Is the identity in the set, to versions of this generation? An element that is another pair's
 * by now is looked up again; should that never end, the answer is no.
 */
static __always_inline int peer_holds(__u32 set, __u32 identity, __u16 generation)
{
	const struct tw_peer_key key = { set, identity };
	const union tw_peer *at;
	union tw_peer peer;
	int i;

	for (i = 0; i < PEER_TRIES; i++) {
		at = bpf_map_lookup_elem(&tw_peers, &key);
		if (!at)
			return 0;
		peer.word = *(const volatile __u64 *)&at->word;
		if (peer.tag == TW_PEER_TAG(set, identity))
			return peer.since == peer.until ||
			       (__u16)(generation - peer.since) < (__u16)(peer.until - peer.since);
	}
	return 0;
}

/*
 * port_key: protocol << 16 | port in host order. 1 or 0; fails closed: what is not found denies.
 * Global, so that the verifier walks it once.
 */
__weak __noinline int policy_allows(__u32 version, __u32 dir, __u32 identity, __u32 port_key)
{
	const struct tw_policy_dir *d;
	const struct tw_policy *p;
	const struct tw_class *c;
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
	return peer_holds(c->set, identity, d->generation);
}

#endif
