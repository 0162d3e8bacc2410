/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "edge_build.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

/* ---- lines ----------------------------------------------------------------------------------- */

bool runs_append(struct line_runs *runs, struct line_run run)
{
	if (runs->n == runs->room) {
		size_t room = runs->room * 2 + 64;
		struct line_run *v = realloc(runs->v, room * sizeof(*v));

		if (!v)
			return false;
		runs->v = v;
		runs->room = room;
	}
	runs->v[runs->n++] = run;
	return true;
}

struct tw_edge_line *line_at(const struct lines *l, uint32_t word)
{
	uint32_t index = word & TW_EDGE_WORD_PAYLOAD;

	return l->at ? &l->at[index] : window_at(l->window, index);
}

void lines_close(struct lines *l)
{
	for (size_t i = 0; i <= TW_EDGE_NODE_LINES; i++)
		free(l->free[i].v);
	free(l->taken.v);
	free(l->dropped.v);
	if (l->grows)
		free(l->at);
	*l = (struct lines){};
}

void lines_begin(struct lines *l)
{
	l->journal = true;
	l->taken.n = l->dropped.n = 0;
}

/* Without memory for the list they are lost until the next load, which begins with none. */
static void lines_give(struct lines *l, struct line_run run)
{
	if (runs_append(&l->free[run.n], run))
		l->used -= run.n;
}

void lines_undo(struct lines *l)
{
	for (size_t i = 0; i < l->taken.n; i++)
		lines_give(l, l->taken.v[i]);
	lines_begin(l);
}

void lines_reuse(struct lines *l, struct line_runs *dropped)
{
	for (size_t i = 0; i < dropped->n; i++)
		lines_give(l, dropped->v[i]);
	dropped->n = 0;
}

static bool lines_grow(struct lines *l, uint32_t n)
{
	uint32_t end = l->end + l->end / 2 + n + 4096;
	struct tw_edge_line *at;

	if (!l->grows || end > TW_EDGE_WORD_PAYLOAD)
		return false;
	at = realloc(l->at, end * sizeof(*at));
	if (!at)
		return false;
	l->at = at;
	l->end = end;
	return true;
}

/* A free run of this length, or what is left of the shortest longer one. */
static bool lines_recycle(struct lines *l, uint32_t n, uint32_t *first)
{
	for (uint32_t i = n; i <= TW_EDGE_NODE_LINES; i++) {
		struct line_runs *runs = &l->free[i];
		struct line_run run;

		if (!runs->n)
			continue;
		run = runs->v[runs->n - 1];
		if (i > n &&
		    !runs_append(&l->free[i - n], (struct line_run){ run.first + n, i - n }))
			return false;
		runs->n--;
		*first = run.first;
		return true;
	}
	return false;
}

/* Lines that were never used. What is left before the end of a piece is there for shorter runs. */
static bool lines_fresh(struct lines *l, uint32_t n, uint32_t *first)
{
	uint32_t left = LINES_PIECE - l->next % LINES_PIECE;

	if (left < n) {
		if (!runs_append(&l->free[left], (struct line_run){ l->next, left }))
			return false;
		l->next += left;
	}
	if (l->next + n > l->end && !lines_grow(l, n))
		return false;
	*first = l->next;
	l->next += n;
	return true;
}

/* n lines in a row, zeroed; UINT32_MAX. */
static uint32_t lines_take(struct lines *l, uint32_t n)
{
	struct tw_edge_line *at;
	uint32_t first;

	if (!lines_recycle(l, n, &first) && !lines_fresh(l, n, &first))
		return UINT32_MAX;
	l->used += n;
	at = line_at(l, first);
	if (!at || (l->journal && !runs_append(&l->taken, (struct line_run){ first, n }))) {
		lines_give(l, (struct line_run){ first, n });
		return UINT32_MAX;
	}
	memset(at, 0, n * sizeof(*at));
	return first;
}

/* ---- nodes ------------------------------------------------------------------------------------- */

void edge_node_set(struct edge_node *node, uint32_t byte, uint32_t word)
{
	uint64_t bit = 1ull << (byte & 63);

	/* What the default says needs no word. */
	if (word == node->rest) {
		node->bits[byte >> 6] &= ~bit;
		return;
	}
	node->bits[byte >> 6] |= bit;
	node->word[byte] = word;
}

static uint32_t node_lines(uint32_t words)
{
	return (TW_EDGE_NODE_WORDS + words + TW_EDGE_LINE_WORDS - 1) / TW_EDGE_LINE_WORDS;
}

static uint32_t bits_count4(const __u64 bits[4])
{
	uint32_t n = 0;

	for (int i = 0; i < 4; i++)
		n += (uint32_t)__builtin_popcountll(bits[i]);
	return n;
}

/* Calls `body` with each byte that has a word, in order. */
#define NODE_EACH(bits_, byte, body)                                                               \
	for (uint32_t quad_ = 0; quad_ < 4; quad_++)                                               \
		for (uint64_t left_ = (bits_)[quad_]; left_; left_ &= left_ - 1) {                 \
			uint32_t byte = quad_ * 64 + (uint32_t)__builtin_ctzll(left_);             \
			body;                                                                      \
		}

bool edge_node_read(const struct lines *l, uint32_t word, struct edge_node *out)
{
	const struct tw_edge_line *line = line_at(l, word);
	const uint32_t *at;

	if (!line)
		return false;
	at = &line->word[TW_EDGE_NODE_WORDS];
	memcpy(out->bits, line->quad, sizeof(out->bits));
	out->rest = line->word[TW_EDGE_NODE_DEFAULT];
	NODE_EACH(out->bits, byte, out->word[byte] = *at++)
	return true;
}

uint32_t edge_node_write(struct lines *l, const struct edge_node *node)
{
	uint32_t words = bits_count4(node->bits), first, *at;
	uint16_t before = 0;
	struct tw_edge_line *line;

	if (!words)
		return TW_EDGE_WORD_CLASS | node->rest;
	first = lines_take(l, node_lines(words));
	if (first == UINT32_MAX)
		return EDGE_NO_WORD;
	line = line_at(l, first);
	memcpy(line->quad, node->bits, sizeof(node->bits));
	for (uint32_t i = 0; i < 4; i++) {
		line->half[TW_EDGE_NODE_COUNTS + i] = before;
		before = (uint16_t)(before + __builtin_popcountll(node->bits[i]));
	}
	line->word[TW_EDGE_NODE_DEFAULT] = node->rest;
	at = &line->word[TW_EDGE_NODE_WORDS];
	NODE_EACH(node->bits, byte, *at++ = node->word[byte])
	return TW_EDGE_WORD_NODE | first;
}

/* Without memory for the journal, the lines stay out of use until the next load. */
static void run_drop(struct lines *l, uint32_t word, uint32_t n)
{
	runs_append(&l->dropped, (struct line_run){ word & TW_EDGE_WORD_PAYLOAD, n });
}

void edge_node_drop(struct lines *l, uint32_t word)
{
	const struct tw_edge_line *line = line_at(l, word);

	if (line)
		run_drop(l, word, node_lines(bits_count4(line->quad)));
}

void edge_word_drop(struct lines *l, uint32_t word, bool six)
{
	struct edge_node node;

	switch (word & TW_EDGE_WORD_KIND) {
	case TW_EDGE_WORD_NODE:
		if (!edge_node_read(l, word, &node))
			break;
		NODE_EACH(node.bits, byte, edge_word_drop(l, node.word[byte], six))
		edge_node_drop(l, word);
		break;
	case TW_EDGE_WORD_SINGLE:
		if (six)
			run_drop(l, word, 1);
		break;
	case TW_EDGE_WORD_BITS:
		run_drop(l, word, 1);
		break;
	default:
		break;
	}
}

/* ---- building ---------------------------------------------------------------------------------- */

static uint32_t item_len(const struct edge_builder *b, size_t i)
{
	return b->six ? b->p->v6[i].len : edge_prefix4_len(b->p->v4[i]);
}

static uint32_t item_rule(const struct edge_builder *b, size_t i)
{
	return b->six ? b->p->v6[i].rule : edge_prefix4_rule(b->p->v4[i]);
}

static uint32_t item_byte(const struct edge_builder *b, size_t i, uint32_t depth)
{
	if (!b->six)
		return edge_prefix4_addr(b->p->v4[i]) >> (24 - 8 * depth) & 0xff;
	return (uint32_t)((depth < 8 ? b->p->v6[i].high : b->p->v6[i].low) >>
			  (56 - 8 * (depth & 7))) &
	       0xff;
}

static uint32_t item_top(const struct edge_builder *b, size_t i)
{
	return b->six ? (uint32_t)(b->p->v6[i].high >> 48) : edge_prefix4_addr(b->p->v4[i]) >> 16;
}

/* A rule for `n` neighbours, most of which have the same class so far. */
static void classes_paint(const struct edge_builder *b, uint16_t *class, uint32_t n, uint32_t rule)
{
	uint32_t outer = class[0], inner = b->classify(b->arg, outer, rule);

	for (uint32_t i = 0; i < n; i++) {
		if (class[i] != outer) {
			outer = class[i];
			inner = b->classify(b->arg, outer, rule);
		}
		class[i] = (uint16_t)inner;
	}
}

static void classes_fill(uint16_t *class, uint32_t n, uint32_t value)
{
	for (uint32_t i = 0; i < n; i++)
		class[i] = (uint16_t)value;
}

/* Two classes are a bitmap; more, a node with a word for each address. */
static uint32_t leaf4_write(const struct edge_builder *b, const uint16_t class[256], uint32_t outer)
{
	struct edge_node node = { .rest = outer };
	uint32_t other = UINT32_MAX, first;
	struct tw_edge_line *line;
	bool mixed = false;

	for (uint32_t i = 0; i < 256; i++) {
		edge_node_set(&node, i, class[i]);
		if (class[i] == outer)
			continue;
		mixed |= other != UINT32_MAX && other != class[i];
		other = class[i];
	}
	if (mixed)
		return edge_node_write(b->lines, &node);
	if (other == UINT32_MAX)
		return TW_EDGE_WORD_CLASS | outer;
	first = lines_take(b->lines, 1);
	if (first == UINT32_MAX)
		return EDGE_NO_WORD;
	line = line_at(b->lines, first);
	memcpy(line->quad, node.bits, sizeof(node.bits));
	line->word[TW_EDGE_LEAF_IN] = other;
	line->word[TW_EDGE_LEAF_OUT] = outer;
	return TW_EDGE_WORD_BITS | first;
}

static uint32_t leaf4_build(const struct edge_builder *b, size_t lo, size_t hi, uint32_t outer,
			    uint32_t rest)
{
	uint16_t class[256];

	if (hi - lo == 1 && outer == rest) {
		edge_prefix4 p = b->p->v4[lo];

		return TW_EDGE_WORD_SINGLE | (32 - edge_prefix4_len(p)) << TW_EDGE_SINGLE_SHIFT |
		       (edge_prefix4_addr(p) & 0xff) << TW_EDGE_SINGLE_BYTE |
		       b->classify(b->arg, outer, edge_prefix4_rule(p));
	}
	classes_fill(class, 256, outer);
	for (size_t i = lo; i < hi; i++)
		classes_paint(b, &class[edge_prefix4_addr(b->p->v4[i]) & 0xff],
			      1u << (32 - item_len(b, i)), item_rule(b, i));
	return leaf4_write(b, class, outer);
}

static uint32_t leaf6_build(const struct edge_builder *b, size_t i, uint32_t outer)
{
	const struct edge_prefix6 *p = &b->p->v6[i];
	uint32_t first = lines_take(b->lines, 1);
	struct tw_edge_line *line;

	if (first == UINT32_MAX)
		return EDGE_NO_WORD;
	line = line_at(b->lines, first);
	line->quad[0] = htobe64(p->high);
	line->quad[1] = htobe64(p->low);
	line->quad[2] = htobe64(edge_mask64(p->len));
	line->quad[3] = p->len > 64 ? htobe64(edge_mask64(p->len - 64)) : 0;
	line->word[TW_EDGE_LEAF_IN] = b->classify(b->arg, outer, p->rule);
	line->word[TW_EDGE_LEAF_OUT] = outer;
	return TW_EDGE_WORD_SINGLE | first;
}

/*
 * What covers a prefix stands before it. So when the first prefix inside of a byte comes, the
 * class around it is known.
 */
static uint32_t node_build(const struct edge_builder *b, size_t lo, size_t hi, uint32_t depth,
			   uint32_t outer)
{
	struct edge_node node = { .rest = outer };
	bool below[256] = {}, painted = false;
	uint16_t class[256];
	size_t next;

	classes_fill(class, 256, outer);
	for (size_t i = lo; i < hi; i = next) {
		uint32_t byte = item_byte(b, i, depth), len = item_len(b, i), word;

		next = i + 1;
		if (len <= 8 * (depth + 1)) {
			classes_paint(b, &class[byte], 1u << (8 * (depth + 1) - len),
				      item_rule(b, i));
			painted = true;
			continue;
		}
		while (next < hi && item_byte(b, next, depth) == byte)
			next++;
		word = edge_build_word(b, i, next, depth + 1, class[byte], outer);
		if (word == EDGE_NO_WORD)
			return EDGE_NO_WORD;
		edge_node_set(&node, byte, word);
		below[byte] = true;
	}
	for (uint32_t byte = 0; painted && byte < 256; byte++)
		if (!below[byte])
			edge_node_set(&node, byte, class[byte]);
	return edge_node_write(b->lines, &node);
}

uint32_t edge_build_word(const struct edge_builder *b, size_t lo, size_t hi, uint32_t depth,
			 uint32_t outer, uint32_t rest)
{
	if (lo == hi)
		return TW_EDGE_WORD_CLASS | outer;
	if (!b->six && depth == 3)
		return leaf4_build(b, lo, hi, outer, rest);
	if (b->six && hi - lo == 1)
		return leaf6_build(b, lo, outer);
	return node_build(b, lo, hi, depth, outer);
}

bool edge_build_root(const struct edge_builder *b, struct tw_edge_root *root)
{
	size_t n = b->six ? b->p->n6 : b->p->n4, next;
	uint16_t *class = calloc(65536, sizeof(*class));
	bool *below = calloc(65536, sizeof(*below)), done = false;

	if (!class || !below)
		goto out;
	for (size_t i = 0; i < n; i = next) {
		uint32_t top = item_top(b, i), len = item_len(b, i);

		next = i + 1;
		if (len <= 16) {
			classes_paint(b, &class[top], 1u << (16 - len), item_rule(b, i));
			continue;
		}
		while (next < n && item_top(b, next) == top)
			next++;
		root->word[top] = edge_build_word(b, i, next, 2, class[top], class[top]);
		if (root->word[top] == EDGE_NO_WORD)
			goto out;
		below[top] = true;
	}
	for (uint32_t top = 0; top < 65536; top++)
		if (!below[top])
			root->word[top] = TW_EDGE_WORD_CLASS | class[top];
	done = true;
out:
	free(class);
	free(below);
	return done;
}
