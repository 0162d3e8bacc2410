/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "edge_table.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "datapath_internal.h"
#include "edge_internal.h"

/* Of IPv4 prefixes shorter than this, all of a load; of IPv6, shorter than a root's words. */
#define SINGLE_MIN 8u

/*
 * The maps of the table as a whole, for the length of a load. The kernel maps every page at once,
 * so it takes milliseconds for large ones, and counts as resident memory.
 */
struct mapping {
	struct tw_edge_line *lines;
	struct tw_edge_root *roots; /* 4 */
	size_t lines_bytes;
};

struct edge_table {
	struct edge *edge;
	edge_classify *classify;
	void *arg;
	struct edge_prefixes lists, singles;
	struct lines lines; /* of the generation in force; mapped only during a change */
	uint32_t generation;
	/* What readers may still be in; `ripe` is what the wait that is under way is for. */
	struct line_runs resting, ripe;
	bool half_rests; /* the other generation was in force a moment ago */
	bool half_ripe;
};

#define ROOTS_BYTES (4 * sizeof(struct tw_edge_root))

static int map_one(int fd, size_t bytes, void **out)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (at == MAP_FAILED)
		return -errno;
	*out = at;
	return 0;
}

static void mapping_close(struct mapping *w)
{
	if (w->lines)
		munmap(w->lines, w->lines_bytes);
	if (w->roots)
		munmap(w->roots, ROOTS_BYTES);
	*w = (struct mapping){};
}

static int mapping_open(struct mapping *w, const struct edge_bpf *skel, uint32_t max_lines)
{
	int res;

	*w = (struct mapping){ .lines_bytes = (size_t)max_lines * sizeof(*w->lines) };
	res = map_one(edge_skel_map(skel, "tw_edge_lines"), w->lines_bytes, (void **)&w->lines)
		      ?: map_one(edge_skel_map(skel, "tw_edge_roots"), ROOTS_BYTES,
				 (void **)&w->roots);
	if (res)
		mapping_close(w);
	return res;
}

/* The same for a single change: only the pieces that it meets are mapped. */
struct pieces {
	struct window lines;
	struct window roots; /* by words: all four roots */
};

static void pieces_close(struct pieces *p)
{
	window_close(&p->lines);
	window_close(&p->roots);
}

static int pieces_open(struct pieces *p, const struct edge *edge)
{
	*p = (struct pieces){};
	int res = window_open(&p->lines, edge_skel_map(edge->skel, "tw_edge_lines"),
			      sizeof(struct tw_edge_line), edge->max_lines)
			  ?: window_open(&p->roots, edge_skel_map(edge->skel, "tw_edge_roots"),
					 sizeof(uint32_t), 4 * 65536);

	if (res)
		pieces_close(p);
	return res;
}

static uint32_t *root_word(struct pieces *p, uint32_t generation, bool six, uint32_t top)
{
	return window_at(&p->roots, (2 * generation + six) * 65536 + top);
}

int edge_table_open(struct edge_table **out, struct edge *edge, edge_classify *classify, void *arg)
{
	struct edge_table *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->edge = edge;
	t->classify = classify;
	t->arg = arg;
	t->lines.end = edge->max_lines / 2;
	*out = t;
	return 0;
}

void edge_table_close(struct edge_table *t)
{
	if (!t)
		return;
	edge_prefixes_free(&t->lists);
	edge_prefixes_free(&t->singles);
	lines_close(&t->lines);
	free(t->resting.v);
	free(t->ripe.v);
	free(t);
}

const struct edge_prefixes *edge_table_lists(const struct edge_table *t)
{
	return &t->lists;
}

const struct edge_prefixes *edge_table_singles(const struct edge_table *t)
{
	return &t->singles;
}

bool edge_table_resting(const struct edge_table *t)
{
	return t->half_rests || t->resting.n || t->ripe.n;
}

void edge_table_settle_begin(struct edge_table *t)
{
	size_t n = 0;

	while (n < t->resting.n && runs_append(&t->ripe, t->resting.v[n]))
		n++;
	/* Without memory they stay out of use until the next load. */
	t->resting.n = 0;
	t->half_ripe = t->half_rests;
}

void edge_grace(void)
{
	datapath_grace(NULL);
}

void edge_table_settle(struct edge_table *t)
{
	if (t->half_ripe)
		t->half_rests = t->half_ripe = false;
	lines_reuse(&t->lines, &t->ripe);
}

/* ---- all at once ------------------------------------------------------------------------------ */

static bool roots_build(const struct edge_table *t, struct lines *lines,
			const struct edge_prefixes *all, struct tw_edge_root roots[2])
{
	struct edge_builder b = { lines, t->classify, t->arg, all, false };

	if (!edge_build_root(&b, &roots[0]))
		return false;
	b.six = true;
	return edge_build_root(&b, &roots[1]);
}

struct edge_load {
	struct edge_prefixes lists, singles;
	struct tw_edge_settings settings;
	struct lines lines;
	uint32_t generation;
	struct edge_bpf *skel; /* NULL: in the maps that are there */
	uint32_t max_lines;    /* of skel's maps */
};

void edge_load_free(struct edge_load *load)
{
	if (!load)
		return;
	edge_prefixes_free(&load->lists);
	edge_prefixes_free(&load->singles);
	lines_close(&load->lines);
	if (load->skel)
		edge_skel_close(load->skel);
	free(load);
}

/* The generation that is not in force, where the arrays have room for it. */
static int prepare_in_place(const struct edge_table *t, const struct edge_prefixes *all,
			    struct edge_load *load)
{
	uint32_t half = t->edge->max_lines / 2;
	struct mapping m;
	int res = mapping_open(&m, t->edge->skel, t->edge->max_lines);

	if (res)
		return res;
	load->generation = !t->generation;
	load->lines = (struct lines){ .at = m.lines,
				      .first = load->generation * half,
				      .next = load->generation * half,
				      .end = (load->generation + 1) * half };
	if (!roots_build(t, &load->lines, all, &m.roots[2 * load->generation]))
		res = -ENOSPC;
	load->lines.at = NULL;
	if (res)
		lines_close(&load->lines);
	mapping_close(&m);
	return res;
}

/* New maps, a quarter larger than what is there, and a program that uses them. */
static int prepare_anew(const struct edge_table *t, const struct edge_prefixes *all,
			struct edge_load *load, char *err, size_t err_len)
{
	struct tw_edge_root *roots = malloc(2 * sizeof(*roots));
	struct lines lines = { .grows = true };
	struct mapping m = {};
	uint32_t half;
	int res = -ENOMEM;

	if (roots && roots_build(t, &lines, all, roots)) {
		half = lines.next + lines.next / 4 + EDGE_LINES_MIN / 2;
		load->max_lines = 2 * half;
		res = edge_load_next(t->edge, &load->settings, load->max_lines, &load->skel, err,
				     err_len);
	}
	if (!res)
		res = mapping_open(&m, load->skel, load->max_lines);
	if (!res) {
		if (lines.next)
			memcpy(m.lines, lines.at, lines.next * sizeof(*lines.at));
		memcpy(m.roots, roots, 2 * sizeof(*roots));
		mapping_close(&m);
		load->generation = 0;
		free(lines.at);
		load->lines = lines;
		load->lines.at = NULL;
		load->lines.grows = false;
		load->lines.end = half;
		lines = (struct lines){};
	}
	lines_close(&lines);
	free(roots);
	return res;
}

static int prepare(const struct edge_table *t, struct edge_load *load, char *err, size_t err_len)
{
	const struct edge_prefixes *all = &load->lists;
	struct edge_prefixes both = {};
	int res = 0;

	if (load->singles.n4 || load->singles.n6) {
		res = edge_prefixes_merge(&load->lists, &load->singles, &both);
		all = &both;
	}
	/* The other generation may have readers still. */
	if (!res && t->half_rests)
		edge_grace();
	if (!res && edge_settings_equal(t->edge, &load->settings))
		res = prepare_in_place(t, all, load);
	else if (!res)
		res = -ENOSPC;
	if (res == -ENOSPC)
		res = prepare_anew(t, all, load, err, err_len);
	edge_prefixes_free(&both);
	return res;
}

int edge_table_prepare(const struct edge_table *t, struct edge_prefixes *lists,
		       struct edge_prefixes *singles, const struct tw_edge_settings *settings,
		       struct edge_load **out, char *err, size_t err_len)
{
	struct edge_load *load = calloc(1, sizeof(*load));
	int res;

	if (!load) {
		edge_prefixes_free(lists);
		edge_prefixes_free(singles);
		return -ENOMEM;
	}
	load->lists = *lists;
	load->singles = *singles;
	load->settings = *settings;
	*lists = *singles = (struct edge_prefixes){};
	res = prepare(t, load, err, err_len);
	if (res) {
		edge_load_free(load);
		return res;
	}
	*out = load;
	return 0;
}

static int generation_store(const struct edge_table *t, uint32_t generation)
{
	void *at = NULL;
	int res = map_one(edge_skel_map(t->edge->skel, "tw_edge_table"), 4096, &at);

	if (res)
		return res;
	__atomic_store_n((uint32_t *)at, generation, __ATOMIC_SEQ_CST);
	munmap(at, 4096);
	return 0;
}

int edge_table_commit(struct edge_table *t, struct edge_load *load, char *err, size_t err_len)
{
	struct edge_bpf *skel = load->skel;
	int res;

	load->skel = NULL;
	res = skel ? edge_use_next(t->edge, skel, &load->settings, load->max_lines, err, err_len)
		   : generation_store(t, load->generation);
	if (!res) {
		edge_prefixes_free(&t->lists);
		edge_prefixes_free(&t->singles);
		lines_close(&t->lines);
		t->lists = load->lists;
		t->singles = load->singles;
		t->lines = load->lines;
		t->generation = load->generation;
		t->half_rests = true;
		t->half_ripe = false;
		t->resting.n = t->ripe.n = 0; /* they are of what now rests as a whole */
		load->lists = load->singles = (struct edge_prefixes){};
		load->lines = (struct lines){};
	}
	edge_load_free(load);
	return res;
}

int edge_table_load(struct edge_table *t, struct edge_prefixes *lists,
		    struct edge_prefixes *singles, const struct tw_edge_settings *settings,
		    char *err, size_t err_len)
{
	struct edge_load *load;
	int res = edge_table_prepare(t, lists, singles, settings, &load, err, err_len);

	return res ?: edge_table_commit(t, load, err, err_len);
}

/* ---- one prefix --------------------------------------------------------------------------------- */

/* The prefix that changes, in host order; IPv4 stands in the upper bits of `high`. */
struct change {
	struct edge_table *t;
	uint64_t high, low;
	uint32_t len;
	bool six;
	struct lines *lines;
};

static uint32_t change_byte(const struct change *c, uint32_t depth)
{
	return (uint32_t)((depth < 8 ? c->high : c->low) >> (56 - 8 * (depth & 7))) & 0xff;
}

static struct edge_slice inside(const struct change *c, const struct edge_prefixes *p, uint32_t len)
{
	uint64_t high = c->high & edge_mask64(len);

	if (!c->six)
		return edge_prefixes_inside4(p, (uint32_t)(high >> 32), len);
	return edge_prefixes_inside6(p, high, len > 64 ? c->low & edge_mask64(len - 64) : 0, len);
}

static uint32_t fold(const struct change *c, const struct edge_prefixes *p, uint32_t len,
		     uint32_t class)
{
	const struct edge_table *t = c->t;
	struct edge_slice s = inside(c, p, len);

	/* Those of exactly this length come first, as they have the lowest address. */
	for (size_t i = s.first; i < s.last; i++) {
		uint32_t there = c->six ? p->v6[i].len : edge_prefix4_len(p->v4[i]);

		if (there != len)
			break;
		class = t->classify(t->arg, class,
				    c->six ? p->v6[i].rule : edge_prefix4_rule(p->v4[i]));
	}
	return class;
}

/* The class that the prefixes of these lengths around the change make of `class`. */
static uint32_t class_around(const struct change *c, uint32_t from, uint32_t to, uint32_t class)
{
	for (uint32_t len = from; len <= to; len++) {
		class = fold(c, &c->t->lists, len, class);
		class = fold(c, &c->t->singles, len, class);
	}
	return class;
}

static int slice_add(const struct change *c, const struct edge_prefixes *p, uint32_t depth,
		     struct edge_prefixes *out)
{
	struct edge_slice s = inside(c, p, 8 * depth);
	struct edge_prefixes part = {};

	/* Behind those that are the whole of it. */
	if (c->six) {
		while (s.first < s.last && p->v6[s.first].len <= 8 * depth)
			s.first++;
		part.v6 = p->v6 + s.first;
		part.n6 = s.last - s.first;
	} else {
		while (s.first < s.last && edge_prefix4_len(p->v4[s.first]) <= 8 * depth)
			s.first++;
		part.v4 = p->v4 + s.first;
		part.n4 = s.last - s.first;
	}
	return edge_prefixes_append(out, &part);
}

/* The word below the first `depth` bytes, from the prefixes themselves. */
static uint32_t word_rebuild(const struct change *c, uint32_t depth, uint32_t outer, uint32_t rest)
{
	struct edge_prefixes slice = {};
	uint32_t word = EDGE_NO_WORD;

	if (!slice_add(c, &c->t->lists, depth, &slice) &&
	    !slice_add(c, &c->t->singles, depth, &slice) && !edge_prefixes_sort(&slice)) {
		const struct edge_builder b = { c->lines, c->t->classify, c->t->arg, &slice,
						c->six };

		word = edge_build_word(&b, 0, c->six ? slice.n6 : slice.n4, depth, outer, rest);
	}
	edge_prefixes_free(&slice);
	return word;
}

/* Another word in place of this one: nodes on the way to the change are copied. */
static uint32_t word_change(const struct change *c, uint32_t word, uint32_t depth, uint32_t outer,
			    uint32_t rest)
{
	bool node = (word & TW_EDGE_WORD_KIND) == TW_EDGE_WORD_NODE;
	uint32_t byte = change_byte(c, depth), below, new;
	struct edge_node n;

	if (!node || c->len <= 8 * (depth + 1) || (!c->six && depth == 3)) {
		new = word_rebuild(c, depth, outer, rest);
		if (new != EDGE_NO_WORD)
			edge_word_drop(c->lines, word, c->six);
		return new;
	}
	if (!edge_node_read(c->lines, word, &n))
		return EDGE_NO_WORD;
	below = edge_node_has(&n, byte) ? n.word[byte] : TW_EDGE_WORD_CLASS | n.rest;
	outer = class_around(c, 8 * depth + 1, 8 * (depth + 1), outer);
	below = word_change(c, below, depth + 1, outer, n.rest);
	if (below == EDGE_NO_WORD)
		return EDGE_NO_WORD;
	edge_node_set(&n, byte, below);
	new = edge_node_write(c->lines, &n);
	if (new != EDGE_NO_WORD)
		edge_node_drop(c->lines, word);
	return new;
}

static bool root_change(struct change *c, struct pieces *p, uint32_t top)
{
	uint32_t *at = root_word(p, c->t->generation, c->six, top), word, outer;

	if (!at)
		return false;
	c->high = (c->high & ~0ull >> 16) | (uint64_t)top << 48;
	outer = class_around(c, 0, 16, 0);
	word = word_change(c, *at, 2, outer, outer);
	if (word == EDGE_NO_WORD)
		return false;
	__atomic_store_n(at, word, __ATOMIC_RELEASE);
	return true;
}

/*
 * Each word of the root by itself: of a prefix that is shorter than 16 bits, addresses change one
 * range after the other.
 */
static int change_apply(struct change *c, struct pieces *p)
{
	uint32_t first = (uint32_t)(c->high >> 48), n = c->len < 16 ? 1u << (16 - c->len) : 1;
	struct edge_table *t = c->t;

	for (uint32_t i = 0; i < n; i++) {
		lines_begin(c->lines);
		if (!root_change(c, p, first + i)) {
			lines_undo(c->lines);
			return -ENOSPC;
		}
		for (size_t k = 0; k < c->lines->dropped.n; k++)
			runs_append(&t->resting, c->lines->dropped.v[k]);
	}
	return 0;
}

static int change_run(struct edge_table *t, const union tw_addr *addr, uint32_t len)
{
	bool six = len < 96 || addr->quad[0] || addr->word[2] != htonl(0xffff);
	struct change c = {
		.t = t,
		.len = six ? len : len - 96,
		.six = six,
		.high = six ? be64toh(addr->quad[0]) & edge_mask64(len)
			    : ((uint64_t)ntohl(addr->word[3]) << 32 & edge_mask64(len - 96)),
		.low = len > 64 ? be64toh(addr->quad[1]) & edge_mask64(len - 64) : 0,
		.lines = &t->lines,
	};
	struct pieces p;
	int res;

	if (c.len < SINGLE_MIN)
		return -ENOSPC;
	res = pieces_open(&p, t->edge);
	if (res)
		return res;
	t->lines.window = &p.lines;
	res = change_apply(&c, &p);
	t->lines.window = NULL;
	pieces_close(&p);
	return res;
}

int edge_table_set(struct edge_table *t, const union tw_addr *addr, uint32_t len, uint32_t rule)
{
	int res = edge_prefixes_insert(&t->singles, addr, len, rule);

	if (res)
		return res;
	res = change_run(t, addr, len);
	if (res)
		edge_prefixes_remove(&t->singles, addr, len, rule);
	return res;
}

int edge_table_del(struct edge_table *t, const union tw_addr *addr, uint32_t len, uint32_t rule)
{
	int res = edge_prefixes_remove(&t->singles, addr, len, rule);

	if (res)
		return res;
	res = change_run(t, addr, len);
	if (res)
		edge_prefixes_insert(&t->singles, addr, len, rule);
	return res;
}

/* ---- looking --------------------------------------------------------------------------------------- */

static bool find_below(const struct lines *l, const struct change *c, uint32_t depth,
		       uint32_t *word, uint32_t *rest)
{
	uint32_t byte = change_byte(c, depth);
	struct edge_node node;

	if (!edge_node_read(l, *word, &node))
		return false;
	*rest = node.rest;
	*word = edge_node_has(&node, byte) ? node.word[byte] : node.rest;
	return true;
}

static uint32_t leaf_class(const struct tw_edge_line *leaf, bool inside)
{
	return inside ? leaf->word[TW_EDGE_LEAF_IN] : leaf->word[TW_EDGE_LEAF_OUT];
}

static int find_class(const struct lines *l, const struct change *c, const union tw_addr *addr,
		      uint32_t word, uint32_t *class)
{
	uint32_t rest = 0, last = change_byte(c, 3), kind = word & TW_EDGE_WORD_KIND;
	const struct tw_edge_line *leaf;

	for (uint32_t d = 2; kind == TW_EDGE_WORD_NODE; d++) {
		if (!find_below(l, c, d, &word, &rest))
			return -EIO;
		kind = word & TW_EDGE_WORD_KIND;
	}
	if (kind == TW_EDGE_WORD_CLASS) {
		*class = word;
		return 0;
	}
	if (kind == TW_EDGE_WORD_SINGLE && !c->six) {
		bool match = !(((last ^ word >> TW_EDGE_SINGLE_BYTE) & 0xff) >>
			       (word >> TW_EDGE_SINGLE_SHIFT & 7));

		*class = match ? word & 0xffff : rest;
		return 0;
	}
	leaf = line_at(l, word);
	if (!leaf)
		return -EIO;
	if (kind == TW_EDGE_WORD_BITS)
		*class = leaf_class(leaf, leaf->quad[last >> 6] >> (last & 63) & 1);
	else
		*class = leaf_class(leaf, !(((addr->quad[0] ^ leaf->quad[0]) & leaf->quad[2]) |
					    ((addr->quad[1] ^ leaf->quad[1]) & leaf->quad[3])));
	return 0;
}

int edge_table_find(struct edge_table *t, const union tw_addr *addr, uint32_t *class)
{
	bool six = addr->quad[0] || addr->word[2] != htonl(0xffff);
	const struct change c = {
		.six = six,
		.high = six ? be64toh(addr->quad[0]) : (uint64_t)ntohl(addr->word[3]) << 32,
		.low = be64toh(addr->quad[1]),
	};
	struct pieces p;
	const struct lines lines = { .window = &p.lines };
	const uint32_t *top;
	int res = pieces_open(&p, t->edge);

	if (res)
		return res;
	top = root_word(&p, t->generation, six, (uint32_t)(c.high >> 48));
	res = top ? find_class(&lines, &c, addr, *top, class) : -EIO;
	pieces_close(&p);
	return res;
}

void edge_table_use(const struct edge_table *t, struct edge_table_use *out)
{
	*out = (struct edge_table_use){
		.prefixes4 = t->lists.n4 + t->singles.n4,
		.prefixes6 = t->lists.n6 + t->singles.n6,
		.lines = t->lines.used,
		.max_lines = t->edge->max_lines / 2,
		.kernel_bytes = t->edge->max_lines * sizeof(struct tw_edge_line) + ROOTS_BYTES,
		.agent_bytes = (t->lists.room4 + t->singles.room4) * sizeof(edge_prefix4) +
			       (t->lists.room6 + t->singles.room6) * sizeof(struct edge_prefix6),
	};
}
