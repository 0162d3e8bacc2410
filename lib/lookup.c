/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the programs would find: the look-ups of bpf/lib/identity.h and policy.h, in the maps
 * themselves and not in what the agent remembers of them.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>

#include "datapath_internal.h"
#include "towpath.skel.h"

static bool is_page(uint32_t word)
{
	return (word & TW_WORD_KIND) == TW_WORD_PAGE;
}

static int word_find4(struct datapath *dp, uint32_t addr, uint32_t *out)
{
	/* The table's one element is mapped in pieces, each a run of its words. */
	const uint32_t *at = window_at(&dp->prefixes.top, addr >> 16);
	uint32_t word;

	if (!at)
		return -EIO;
	word = *(const volatile uint32_t *)at;
	for (unsigned int shift = 8; is_page(word); shift -= 8) {
		const struct tw_ipcache_page *page =
			window_at(&dp->prefixes.pages, word & TW_WORD_PAYLOAD);

		if (!page)
			return -EIO;
		word = *(const volatile uint32_t *)&page->word[addr >> shift & 0xff];
		if (!shift)
			break;
	}
	*out = word;
	return 0;
}

int datapath_word_find(struct datapath *dp, const union tw_addr *addr, uint32_t *word)
{
	struct tw_ipcache6_key key = { .prefixlen = 128 };
	uint32_t found = 0;

	if (!addr->quad[0] && addr->word[2] == htonl(0xffff))
		return word_find4(dp, ntohl(addr->word[3]), word);
	memcpy(key.addr, addr, sizeof(key.addr));
	if (bpf_map_lookup_elem(bpf_map__fd(dp->skel->maps.tw_ipcache6), &key, &found) &&
	    errno != ENOENT)
		return -errno;
	*word = found;
	return 0;
}

/* The class that decides about the key, by the same search as the programs'. */
static int class_find(struct datapath *dp, const struct tw_policy_dir *d, uint32_t key,
		      struct datapath_decision *out)
{
	int fd = bpf_map__fd(dp->skel->maps.tw_classes);
	uint32_t at = d->first, n = d->count, after;
	struct tw_class c;

	while (n > 1) {
		uint32_t step = n >> 1, mid = at + step;

		if (bpf_map_lookup_elem(fd, &mid, &c))
			return -errno;
		if (c.start <= key) {
			at = mid;
			n -= step;
		} else {
			n = step;
		}
	}
	if (bpf_map_lookup_elem(fd, &at, &c))
		return -errno;
	out->has_class = true;
	out->class = at;
	out->first = c.start;
	out->set = c.set;
	after = at + 1;
	if (after < d->first + d->count && !bpf_map_lookup_elem(fd, &after, &c))
		out->last = c.start - 1;
	return 0;
}

int datapath_decision_find(struct datapath *dp, uint32_t version, enum tw_direction dir,
			   uint32_t identity, uint32_t key, struct datapath_decision *out)
{
	struct datapath_decision found = { .last = UINT32_MAX, .set = TW_SET_ANY };
	struct tw_peer_key peer = { .identity = identity };
	struct tw_policy policy;
	union tw_peer present;
	int res;

	if (version &&
	    bpf_map_lookup_elem(bpf_map__fd(dp->skel->maps.tw_policy), &version, &policy))
		return -errno;
	if (version && policy.dir[dir].isolated) {
		found.isolated = true;
		found.set = TW_SET_NONE;
		res = policy.dir[dir].count ? class_find(dp, &policy.dir[dir], key, &found) : 0;
		if (res)
			return res;
	}
	found.allow = found.set == TW_SET_ANY;
	if (found.set != TW_SET_ANY && found.set != TW_SET_NONE) {
		peer.set = found.set;
		if (!bpf_map_lookup_elem(bpf_map__fd(dp->skel->maps.tw_peers), &peer, &present))
			found.allow = peer_holds(present, policy.dir[dir].generation);
		else if (errno != ENOENT)
			return -errno;
	}
	*out = found;
	return 0;
}
