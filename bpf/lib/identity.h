/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Address to ipcache word: the 16-8-8 table for IPv4, the trie for IPv6. */
#ifndef TW_IDENTITY_H
#define TW_IDENTITY_H

#include "maps.h"

static __always_inline __u32 ipcache_word4(__u32 addr) /* host order */
{
	__u32 zero = 0, page, word;
	struct tw_ipcache_page *p;
	struct tw_ipcache_top *top = bpf_map_lookup_elem(&tw_ipcache_top, &zero);

	if (!top)
		return 0;
	word = top->word[addr >> 16];
	if ((word & TW_WORD_KIND) != TW_WORD_PAGE)
		return word;
	page = word & TW_WORD_PAYLOAD;
	p = bpf_map_lookup_elem(&tw_ipcache_pages, &page);
	if (!p)
		return 0;
	word = p->word[(addr >> 8) & 0xff];
	if ((word & TW_WORD_KIND) != TW_WORD_PAGE)
		return word;
	page = word & TW_WORD_PAYLOAD;
	p = bpf_map_lookup_elem(&tw_ipcache_pages, &page);
	return p ? p->word[addr & 0xff] : 0;
}

/* `key` is memory for the look-up. */
static __always_inline __u32 ipcache_word6(struct tw_ipcache6_key *key, const union tw_addr *addr)
{
	__u32 *word;

	key->prefixlen = 128;
	__builtin_memcpy(key->addr, addr, 16);
	word = bpf_map_lookup_elem(&tw_ipcache6, key);
	return word ? *word : 0;
}

static __always_inline __u32 ipcache_word(struct scratch *s, const union tw_addr *addr, __u8 family)
{
	if (family == 4)
		return ipcache_word4(bpf_ntohl(addr->word[3]));
	return ipcache_word6(&s->prefix, addr);
}

static __always_inline bool word_is_endpoint(__u32 word)
{
	return (word & TW_WORD_KIND) == TW_WORD_ENDPOINT;
}

/* The identity a word without endpoint stands for. */
static __always_inline __u32 word_identity(__u32 word)
{
	return word & TW_WORD_PAYLOAD ?: TW_ID_WORLD;
}

#endif
