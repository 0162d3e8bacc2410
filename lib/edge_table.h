/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The edge's address table in force: prefixes with rule numbers in, what the program finds out
 * (bpf/lib/edge_filter.h, layout in towpath/edge_abi.h). A whole list replaces another by one store;
 * a single prefix changes only what lies on its path. What a rule means, and what wins, the
 * caller's edge_classify says.
 *
 * One thread at a time. After each change the old lines rest until no program can be in them.
 */
#ifndef TOWPATH_EDGE_TABLE_H
#define TOWPATH_EDGE_TABLE_H

#include "edge.h"
#include "edge_build.h"

struct edge_table;

/*
 * An empty one, over the maps that edge has at the moment. `classify` must give the same answer
 * for the same rule until the next load; an answer is a class (TW_EDGE_CLASS_*) of 16 bits.
 */
int edge_table_open(struct edge_table **out, struct edge *edge, edge_classify *classify, void *arg);
void edge_table_close(struct edge_table *table);

/*
 * Replaces everything by `lists` and `singles`, both sorted, in two steps. The first builds the new
 * table beside the one in force; any thread may do it, while the table is read but not changed.
 * `settings` may be others than those in force: the program is then loaded anew, as it is when the
 * maps are too small. It takes the two over in any case, and empties them.
 */
struct edge_load;
int edge_table_prepare(const struct edge_table *table, struct edge_prefixes *lists,
		       struct edge_prefixes *singles, const struct tw_edge_settings *settings,
		       struct edge_load **out, char *err, size_t err_len);
/*
 * Puts it in force by one store, or by switching every attached device to the new program. Frees it
 * in any case; on failure all stays as it was.
 */
int edge_table_commit(struct edge_table *table, struct edge_load *load, char *err, size_t err_len);
void edge_load_free(struct edge_load *load);
/* Both. */
int edge_table_load(struct edge_table *table, struct edge_prefixes *lists,
		    struct edge_prefixes *singles, const struct tw_edge_settings *settings,
		    char *err, size_t err_len);

/*
 * One prefix of `singles` more or less, in force on return. -ENOSPC: the table is full, or the
 * prefix is so short (below 8 bits) that all would have to be written: load everything then; some
 * of its addresses may have changed already. Set: the same (prefix, rule) twice counts twice.
 * Del: -ENOENT.
 */
int edge_table_set(struct edge_table *table, const union tw_addr *addr, uint32_t len,
		   uint32_t rule);
int edge_table_del(struct edge_table *table, const union tw_addr *addr, uint32_t len,
		   uint32_t rule);

/* What there is, borrowed until the next change. */
const struct edge_prefixes *edge_table_lists(const struct edge_table *table);
const struct edge_prefixes *edge_table_singles(const struct edge_table *table);

/*
 * Whether lines rest. begin, then a wait for all programs that run (edge_grace(), on any thread),
 * then settle; changes may come in between, and what they leave rests until the next time.
 */
bool edge_table_resting(const struct edge_table *table);
void edge_table_settle_begin(struct edge_table *table);
void edge_grace(void);
void edge_table_settle(struct edge_table *table);

/* The class that the program finds for an address, by the maps themselves. -errno. */
int edge_table_find(struct edge_table *table, const union tw_addr *addr, uint32_t *class);

struct edge_table_use {
	size_t prefixes4, prefixes6;
	size_t lines, max_lines; /* in use, of the half in force */
	size_t kernel_bytes;	 /* of the maps */
	size_t agent_bytes;	 /* of the arrays of prefixes */
};
void edge_table_use(const struct edge_table *table, struct edge_table_use *out);

#endif
