/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The ipcache. IPv4: a binary trie here holds the prefixes as they were set; the 16-8-8 table in
 * the kernel is what it says, word by word. A reader walks the table while it is written: a
 * page is filled before it is linked, and an unlinked page rests for a grace period before it
 * is used again. IPv6: the kernel's trie, and a hash of what is in it.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <linux/membarrier.h>
#include <unistd.h>
#include <uthash.h>

#include "datapath_internal.h"

struct trie {
	struct trie *child[2];
	uint32_t word;
	bool set;
};

struct prefix6 {
	struct tw_ipcache6_key key;
	uint32_t word;
	bool there; /* in a trie that is being exchanged */
	UT_hash_handle hh;
};

static void trie_free(struct trie *t)
{
	if (!t)
		return;
	trie_free(t->child[0]);
	trie_free(t->child[1]);
	free(t);
}

static bool addr_bit(uint32_t addr, unsigned int depth)
{
	return addr >> (31 - depth) & 1;
}

/* The node of addr/len, made when `make`; NULL: not there, or no memory. */
static struct trie *trie_node(struct trie *t, uint32_t addr, unsigned int len, bool make)
{
	for (unsigned int d = 0; d < len && t; d++) {
		struct trie **next = &t->child[addr_bit(addr, d)];

		if (!*next && make)
			*next = calloc(1, sizeof(**next));
		t = *next;
	}
	return t;
}

/* The word that covers addr above depth len, and the node there (NULL when none is). */
static uint32_t trie_covering(const struct trie *t, uint32_t addr, unsigned int len)
{
	uint32_t word = 0;

	for (unsigned int d = 0; t; t = t->child[addr_bit(addr, d++)]) {
		if (t->set)
			word = t->word;
		if (d == len)
			break;
	}
	return word;
}

static bool trie_is_leaf(const struct trie *t)
{
	return !t || (!t->child[0] && !t->child[1]);
}

/* Drops nodes that say nothing, so that pages can go with them. True: t itself says nothing. */
static bool trie_prune(struct trie *t, uint32_t addr, unsigned int depth, unsigned int len)
{
	if (depth < len) {
		struct trie **next = &t->child[addr_bit(addr, depth)];

		if (*next && trie_prune(*next, addr, depth + 1, len)) {
			free(*next);
			*next = NULL;
		}
	}
	return !t->set && trie_is_leaf(t);
}

static uint32_t *page_word(struct prefixes *p, uint32_t page, uint32_t i)
{
	struct tw_ipcache_page *at = window_at(&p->pages, page);

	return at ? &at->word[i] : NULL;
}

static void pages_rest(struct prefixes *p)
{
	/* Whoever still reads an unlinked page is done after this. */
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
		usleep(100000);
	while (p->n_resting)
		p->free_pages[p->n_free++] = p->resting[--p->n_resting];
}

static int page_alloc(struct prefixes *p, uint32_t *out)
{
	if (!p->n_free && p->fresh == p->max_pages && p->n_resting)
		pages_rest(p);
	if (p->n_free) {
		*out = p->free_pages[--p->n_free];
		return 0;
	}
	if (p->fresh == p->max_pages)
		return -ENOSPC;
	*out = p->fresh++;
	return 0;
}

/* Of a page that is not linked any more, and of the pages below it. */
static void page_free(struct prefixes *p, uint32_t page)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t *word = page_word(p, page, i);

		if (word && (*word & TW_WORD_KIND) == TW_WORD_PAGE)
			page_free(p, *word & TW_WORD_PAYLOAD);
	}
	p->resting[p->n_resting++] = page;
}

/* Fills the subtree `t` (at `depth`, 16 or 24) into a page; inherited: what covers it. */
static int page_fill(struct prefixes *p, uint32_t page, const struct trie *t, unsigned int depth,
		     uint32_t inherited);

/*
 * Makes one word say what the subtree below it says. On failure the word is as it was, but words
 * of pages below may have changed already: callers write the old trie back.
 */
static int word_write(struct prefixes *p, uint32_t *word, const struct trie *t, unsigned int depth,
		      uint32_t inherited)
{
	uint32_t old = *word;
	bool was_page = (old & TW_WORD_KIND) == TW_WORD_PAGE;
	uint32_t page;
	int res;

	if (t && t->set)
		inherited = t->word;
	if (depth == 32 || trie_is_leaf(t)) {
		if (old != inherited)
			__atomic_store_n(word, inherited, __ATOMIC_RELEASE);
		if (was_page && old != inherited)
			page_free(p, old & TW_WORD_PAYLOAD);
		return 0;
	}
	if (was_page)
		return page_fill(p, old & TW_WORD_PAYLOAD, t, depth, inherited);
	if (p->shrinking)
		return 0;
	res = page_alloc(p, &page);
	if (res)
		return res;
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t *at = page_word(p, page, i);

		if (!at)
			return -ENOMEM;
		*at = 0;
	}
	res = page_fill(p, page, t, depth, inherited);
	if (res) {
		page_free(p, page);
		return res;
	}
	__atomic_store_n(word, TW_WORD_PAGE | page, __ATOMIC_RELEASE);
	return 0;
}

/* Walks the words that `t` at `depth` covers, `bits` further down, in order. */
static int words_write(struct prefixes *p, struct window *w, uint32_t base, bool top,
		       const struct trie *t, unsigned int depth, unsigned int bits,
		       uint32_t inherited)
{
	int res;

	if (!bits) {
		uint32_t *word = top ? window_at(w, base) : page_word(p, base >> 8, base & 0xff);

		return word ? word_write(p, word, t, depth, inherited) : -ENOMEM;
	}
	if (t && t->set)
		inherited = t->word;
	res = words_write(p, w, base, top, t ? t->child[0] : NULL, depth + 1, bits - 1, inherited);
	if (res)
		return res;
	return words_write(p, w, base + (1u << (bits - 1)), top, t ? t->child[1] : NULL, depth + 1,
			   bits - 1, inherited);
}

static int page_fill(struct prefixes *p, uint32_t page, const struct trie *t, unsigned int depth,
		     uint32_t inherited)
{
	return words_write(p, &p->pages, page << 8, false, t, depth, 8, inherited);
}

/*
 * Brings the words of a page of level `level` (the bits that it stands below: 16 or 24) in line with
 * the trie below addr/len. Only what addr/len covers is looked at: a full table of single
 * addresses takes as long to write as it has addresses.
 */
static int page_sync(struct prefixes *p, uint32_t page, unsigned int level, uint32_t addr,
		     unsigned int len)
{
	unsigned int below = level + 8, at = len < below ? len : below;
	const struct trie *t = trie_node(p->trie, addr, at, false);
	uint32_t inherited = trie_covering(p->trie, addr, at);
	uint32_t index = addr >> (32 - below) & 0xff;
	uint32_t *word;

	if (len <= below)
		return words_write(p, &p->pages, page << 8 | (index & ~((1u << (below - at)) - 1)),
				   false, t, at, below - at, inherited);
	word = page_word(p, page, index);
	if (!word)
		return -ENOMEM;
	if ((*word & TW_WORD_KIND) == TW_WORD_PAGE && !trie_is_leaf(t))
		return page_sync(p, *word & TW_WORD_PAYLOAD, below, addr, len);
	return word_write(p, word, t, below, inherited);
}

/* Brings the table in line with the trie below addr/len. */
static int table_sync(struct prefixes *p, uint32_t addr, unsigned int len)
{
	/* The table's words are of 16, 24 and 32 bits; go to the top word, or above all of it. */
	unsigned int at = len < 16 ? len : 16;
	const struct trie *t = trie_node(p->trie, addr, at, false);
	uint32_t inherited = trie_covering(p->trie, addr, at);
	uint32_t first = at ? addr >> 16 & ~((1u << (16 - at)) - 1) : 0;
	uint32_t *word;

	if (len <= 16)
		return words_write(p, &p->top, first, true, t, at, 16 - at, inherited);
	word = window_at(&p->top, addr >> 16);
	if (!word)
		return -ENOMEM;
	if ((*word & TW_WORD_KIND) == TW_WORD_PAGE && !trie_is_leaf(t))
		return page_sync(p, *word & TW_WORD_PAYLOAD, 16, addr, len);
	return word_write(p, word, t, 16, inherited);
}

static bool key_is4(const union tw_addr *addr, uint8_t len)
{
	return len >= 96 && !addr->quad[0] && addr->word[2] == __builtin_bswap32(0xffff);
}

static uint32_t addr4(const union tw_addr *addr)
{
	return __builtin_bswap32(addr->word[3]);
}

static struct tw_ipcache6_key key6(const union tw_addr *addr, uint8_t len)
{
	struct tw_ipcache6_key key = { .prefixlen = len };

	memcpy(key.addr, addr, sizeof(key.addr));
	return key;
}

static int set6_put(struct prefix6 **set, const struct tw_ipcache6_key *key, uint32_t word)
{
	struct prefix6 *e;

	HASH_FIND(hh, *set, key, sizeof(*key), e);
	if (!e) {
		e = calloc(1, sizeof(*e));
		if (!e)
			return -ENOMEM;
		e->key = *key;
		HASH_ADD(hh, *set, key, sizeof(e->key), e);
	}
	e->word = word;
	return 0;
}

static void set6_clear(struct prefix6 **set)
{
	struct prefix6 *e, *next;

	HASH_ITER(hh, *set, e, next) {
		HASH_DEL(*set, e);
		free(e);
	}
}

uint32_t prefixes_max6(const struct prefixes *p)
{
	return p->max6 > PREFIXES6_SPARE ? p->max6 - PREFIXES6_SPARE : 0;
}

static int lpm_put(int fd, const struct tw_ipcache6_key *key, uint32_t word)
{
	if (!bpf_map_update_elem(fd, key, &word, BPF_ANY))
		return 0;
	return errno == ENOSPC || errno == E2BIG ? -ENOSPC : -errno;
}

static int prefix_set6(struct prefixes *p, const union tw_addr *addr, uint8_t len, uint32_t word)
{
	struct tw_ipcache6_key key = key6(addr, len);
	struct prefix6 *e;
	int res;

	if (p->collecting)
		return set6_put(&p->staged6, &key, word);
	HASH_FIND(hh, p->set6, &key, sizeof(key), e);
	if (!e && HASH_COUNT(p->set6) >= prefixes_max6(p))
		return -ENOSPC;
	res = lpm_put(p->fd6, &key, word);
	return res ?: set6_put(&p->set6, &key, word);
}

int datapath_prefix_set(struct datapath *dp, const union tw_addr *addr, uint8_t len, uint32_t word)
{
	struct prefixes *p = &dp->prefixes;
	struct trie *t, old;
	uint32_t a = addr4(addr);
	int res;

	if (!key_is4(addr, len))
		return prefix_set6(p, addr, len, word);
	len = (uint8_t)(len - 96);
	t = trie_node(p->collecting ? p->staged : p->trie, a, len, true);
	if (!t)
		return -ENOMEM;
	old = *t;
	t->word = word;
	t->set = true;
	if (p->collecting)
		return 0;
	res = table_sync(p, a, len);
	if (res) {
		t->word = old.word;
		t->set = old.set;
		trie_prune(p->trie, a, 0, len);
		table_sync(p, a, len);
	}
	return res;
}

int datapath_prefix_del(struct datapath *dp, const union tw_addr *addr, uint8_t len)
{
	struct prefixes *p = &dp->prefixes;
	uint32_t a = addr4(addr);
	struct trie *t;

	if (!key_is4(addr, len)) {
		struct tw_ipcache6_key key = key6(addr, len);
		struct prefix6 *e;

		HASH_FIND(hh, p->set6, &key, sizeof(key), e);
		if (!e)
			return 0;
		HASH_DEL(p->set6, e);
		free(e);
		return bpf_map_delete_elem(p->fd6, &key) && errno != ENOENT ? -errno : 0;
	}
	len = (uint8_t)(len - 96);
	t = trie_node(p->trie, a, len, false);
	if (!t || !t->set)
		return 0;
	t->set = false;
	trie_prune(p->trie, a, 0, len);
	return table_sync(p, a, len);
}

int datapath_prefix_get(struct datapath *dp, const union tw_addr *addr, uint8_t len, uint32_t *word,
			bool *exact)
{
	struct prefixes *p = &dp->prefixes;
	const struct trie *t;

	if (!key_is4(addr, len)) {
		struct tw_ipcache6_key key = key6(addr, len);
		struct prefix6 *e;

		HASH_FIND(hh, p->set6, &key, sizeof(key), e);
		*exact = e != NULL;
		if (e) {
			*word = e->word;
		} else if (bpf_map_lookup_elem(p->fd6, &key, word)) {
			if (errno != ENOENT)
				return -errno;
			*word = 0;
		}
		return 0;
	}
	len = (uint8_t)(len - 96);
	t = trie_node(p->trie, addr4(addr), len, false);
	*exact = t && t->set;
	*word = trie_covering(p->trie, addr4(addr), len);
	return 0;
}

int datapath_nomasq_set(struct datapath *dp, const union tw_addr *addr, uint8_t len)
{
	struct tw_ipcache6_key key = key6(addr, len);

	if (dp->prefixes.collecting)
		return set6_put(&dp->nomasq_staged, &key, 1);
	return lpm_put(dp->nomasq_fd, &key, 1);
}

int datapath_prefix_begin(struct datapath *dp)
{
	struct prefixes *p = &dp->prefixes;

	trie_free(p->staged);
	set6_clear(&p->staged6);
	set6_clear(&dp->nomasq_staged);
	p->staged = calloc(1, sizeof(*p->staged));
	p->collecting = p->staged != NULL;
	return p->staged ? 0 : -ENOMEM;
}

/* A trie that is about to hold `want` instead of what it holds. */
struct exchange {
	int fd;
	struct prefix6 *want;
	uint32_t n_stale; /* keys that are not wanted */
};

/* Calls fn for each key that is not wanted; fn may delete it. Marks what is wanted and there. */
static int lpm_stale(struct exchange *x,
		     int (*fn)(struct exchange *x, const struct tw_ipcache6_key *key))
{
	struct tw_ipcache6_key key, next;
	bool more = !bpf_map_get_next_key(x->fd, NULL, &next);
	int res = 0;

	while (more && !res) {
		struct prefix6 *e;

		key = next;
		more = !bpf_map_get_next_key(x->fd, &key, &next);
		HASH_FIND(hh, x->want, &key, sizeof(key), e);
		if (e)
			e->there = true;
		else
			res = fn(x, &key);
	}
	return res;
}

static int stale_count(struct exchange *x, const struct tw_ipcache6_key *key)
{
	x->n_stale++;
	return 0;
}

static int stale_delete(struct exchange *x, const struct tw_ipcache6_key *key)
{
	return bpf_map_delete_elem(x->fd, key) && errno != ENOENT ? -errno : 0;
}

/* ... but the blanket that lies over all of them. */
static int stale_delete_below(struct exchange *x, const struct tw_ipcache6_key *key)
{
	return key->prefixlen ? stale_delete(x, key) : 0;
}

/* What would be found instead of this key, once it is gone, says "nobody". */
static int stale_hide(struct exchange *x, const struct tw_ipcache6_key *key)
{
	struct tw_ipcache6_key at = *key;
	int res = 0;

	while (!res && at.prefixlen) {
		struct prefix6 *e;

		at.prefixlen--;
		at.addr[at.prefixlen / 8] &= (uint8_t)(0xff00 >> at.prefixlen % 8);
		HASH_FIND(hh, x->want, &at, sizeof(at), e);
		if (e && e->there)
			res = lpm_put(x->fd, &at, TW_ID_UNASSIGNED);
	}
	return res;
}

static int wanted_write(const struct exchange *x)
{
	struct prefix6 *e, *next;
	int res = 0;

	/* Most specific last would be no safer: each entry is right by itself. */
	HASH_ITER(hh, x->want, e, next) {
		res = lpm_put(x->fd, &e->key, e->word);
		if (res)
			break;
	}
	return res;
}

/*
 * New prefixes first, then away with the old ones: an address has its old meaning or its new one
 * at any moment. If there is not the room for that, old ones must go first, and what is under
 * them would mean for a moment what the less specific prefix does, or the world: so that says
 * "nobody" meanwhile, and new connections there are dropped rather than let through.
 */
static int lpm_exchange(int fd, uint32_t room, struct prefix6 *want)
{
	const struct tw_ipcache6_key all = {};
	struct exchange x = { .fd = fd, .want = want };
	struct prefix6 *blanket;
	int res = lpm_stale(&x, stale_count);

	if (!res && HASH_COUNT(want) + x.n_stale <= room) {
		res = wanted_write(&x);
		return res ?: lpm_stale(&x, stale_delete);
	}
	HASH_FIND(hh, want, &all, sizeof(all), blanket);
	if (!res)
		res = lpm_put(fd, &all, TW_ID_UNASSIGNED);
	if (!res)
		res = lpm_stale(&x, stale_hide);
	if (!res)
		res = lpm_stale(&x, stale_delete_below);
	if (!res)
		res = wanted_write(&x);
	if (!res && !blanket)
		res = stale_delete(&x, &all);
	return res;
}

int datapath_prefix_end(struct datapath *dp)
{
	struct prefixes *p = &dp->prefixes;
	int res;

	if (!p->collecting)
		return -EINVAL;
	p->collecting = false;
	trie_free(p->trie);
	p->trie = p->staged;
	p->staged = NULL;
	/* First the words that need no page any more: their pages may be what others need. */
	p->shrinking = true;
	res = table_sync(p, 0, 0);
	p->shrinking = false;
	if (!res)
		res = table_sync(p, 0, 0);
	if (res)
		return res;
	res = HASH_COUNT(p->staged6) > prefixes_max6(p)
		      ? -ENOSPC
		      : lpm_exchange(p->fd6, prefixes_max6(p), p->staged6);
	if (res)
		return res;
	set6_clear(&p->set6);
	p->set6 = p->staged6;
	p->staged6 = NULL;
	/* Never full: options name a few of these, and the trie has a thousand. */
	res = lpm_exchange(dp->nomasq_fd, UINT32_MAX, dp->nomasq_staged);
	set6_clear(&dp->nomasq_staged);
	return res;
}

/* Marks the pages that an earlier agent linked; the others are free. */
static int pages_adopt(struct prefixes *p)
{
	uint8_t *used = calloc(p->max_pages + 1, 1);
	uint32_t last = 0;
	int res = 0;

	if (!used)
		return -ENOMEM;
	for (uint32_t i = 0; i < 65536 && !res; i++) {
		const uint32_t *word = window_at(&p->top, i);
		uint32_t page = word ? *word & TW_WORD_PAYLOAD : 0;

		if (!word)
			res = -ENOMEM;
		else if ((*word & TW_WORD_KIND) != TW_WORD_PAGE)
			continue;
		else if (page >= p->max_pages)
			res = -EBADMSG;
		else
			used[page] = 1;
		for (uint32_t j = 0; j < 256 && !res; j++) {
			const uint32_t *below = page_word(p, page, j);

			if (below && (*below & TW_WORD_KIND) == TW_WORD_PAGE &&
			    (*below & TW_WORD_PAYLOAD) < p->max_pages)
				used[*below & TW_WORD_PAYLOAD] = 1;
		}
	}
	for (uint32_t i = 0; i < p->max_pages; i++)
		if (used[i])
			last = i + 1;
	p->fresh = last;
	for (uint32_t i = 0; i < last; i++)
		if (!used[i])
			p->free_pages[p->n_free++] = i;
	free(used);
	return res;
}

int prefixes_open(struct prefixes *p, int top_fd, int pages_fd, uint32_t max_pages, int fd6)
{
	struct bpf_map_info info = {};
	uint32_t info_len = sizeof(info);
	int res;

	if (bpf_map_get_info_by_fd(fd6, &info, &info_len))
		return -errno;
	p->max6 = info.max_entries;

	p->fd6 = fd6;
	p->max_pages = max_pages;
	p->trie = calloc(1, sizeof(*p->trie));
	p->free_pages = calloc(max_pages, sizeof(*p->free_pages));
	p->resting = calloc(max_pages, sizeof(*p->resting));
	if (!p->trie || !p->free_pages || !p->resting)
		return -ENOMEM;
	/* Elements of the windows are words at the top, and pages. */
	res = window_open(&p->top, top_fd, sizeof(uint32_t), 65536);
	if (!res)
		res = window_open(&p->pages, pages_fd, sizeof(struct tw_ipcache_page), max_pages);
	return res ?: pages_adopt(p);
}

void prefixes_close(struct prefixes *p)
{
	window_close(&p->top);
	window_close(&p->pages);
	trie_free(p->trie);
	trie_free(p->staged);
	set6_clear(&p->set6);
	set6_clear(&p->staged6);
	free(p->free_pages);
	free(p->resting);
}

uint32_t prefixes_pages_used(const struct prefixes *p)
{
	return p->fresh - p->n_free - p->n_resting;
}

uint32_t prefixes_count6(const struct prefixes *p)
{
	return HASH_COUNT(p->set6);
}
