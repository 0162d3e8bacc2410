/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Inside of the address table: lines, and the nodes and leaves made of them from sorted prefixes
 * (layout: towpath/edge_abi.h), in plain memory or in a map's.
 */
#ifndef TOWPATH_EDGE_BUILD_H
#define TOWPATH_EDGE_BUILD_H

#include <towpath/edge_abi.h>

#include "datapath_internal.h"
#include "edge_prefix.h"

/* The class of an address that a rule is for, where `outer` holds around it: allow wins. */
typedef uint32_t edge_classify(void *arg, uint32_t outer, uint32_t rule);

/* Lines in a row. */
struct line_run {
	uint32_t first, n;
};

struct line_runs {
	struct line_run *v;
	size_t n, room;
};

/* false: no memory. */
bool runs_append(struct line_runs *runs, struct line_run run);

/*
 * Where lines come from: fresh ones, and by length those that were given back. What is taken and
 * dropped since lines_begin() is in the two journals.
 */
struct lines {
	struct tw_edge_line
		*at; /* line 0; NULL: they are in the window, a piece of which is mapped */
	struct window *window; /* when it is needed */
	uint32_t first, next, end;
	bool grows;   /* `at` is malloc's */
	bool journal; /* lines_begin() was called: a whole load keeps none */
	struct line_runs free[TW_EDGE_NODE_LINES + 1];
	struct line_runs taken, dropped;
	size_t used;
};

#define EDGE_NO_WORD UINT32_MAX /* no room, or no memory */

/* A run never crosses a piece of the window. */
#define LINES_PIECE (WINDOW_BYTES / (uint32_t)sizeof(struct tw_edge_line))

/* NULL: the kernel refused the mapping. */
struct tw_edge_line *line_at(const struct lines *l, uint32_t word);
void lines_close(struct lines *l);
void lines_begin(struct lines *l);
/* Gives back what was taken since lines_begin(), which nobody has seen. */
void lines_undo(struct lines *l);
/* Gives back what was dropped, when no reader can be in it. */
void lines_reuse(struct lines *l, struct line_runs *dropped);

struct edge_builder {
	struct lines *lines;
	edge_classify *classify;
	void *arg;
	const struct edge_prefixes *p; /* sorted */
	bool six;
};

/*
 * The word for what lies below the first `depth` bytes of an address: of the prefixes [lo, hi),
 * all longer than 8 * depth bits. `outer` is the class around them, `rest` the default of the node
 * that the word goes to. EDGE_NO_WORD.
 */
uint32_t edge_build_word(const struct edge_builder *b, size_t lo, size_t hi, uint32_t depth,
			 uint32_t outer, uint32_t rest);
/* The whole of a root. false: no room. */
bool edge_build_root(const struct edge_builder *b, struct tw_edge_root *root);
/* Everything below a word goes to the journal of the dropped. */
void edge_word_drop(struct lines *l, uint32_t word, bool six);

/* A node, unpacked. */
struct edge_node {
	__u64 bits[4];
	uint32_t rest;
	uint32_t word[256]; /* where the bit is set */
};

static inline bool edge_node_has(const struct edge_node *node, uint32_t byte)
{
	return node->bits[byte >> 6] >> (byte & 63) & 1;
}

void edge_node_set(struct edge_node *node, uint32_t byte, uint32_t word);
/* false: as line_at(). */
bool edge_node_read(const struct lines *l, uint32_t word, struct edge_node *out);
/* A new node like this one, or a class where it has no words. EDGE_NO_WORD. */
uint32_t edge_node_write(struct lines *l, const struct edge_node *node);
/* The node alone, not what is below it, to the journal of the dropped. */
void edge_node_drop(struct lines *l, uint32_t word);

#endif
