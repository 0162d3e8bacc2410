/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The flow history: records of the log in a database of its own, <state-dir>/flows.db, bounded by
 * records and bytes. Whatever is wrong with it costs history and nothing else: a file that is
 * damaged, newer or not ours is set aside, a full disk loses records, counted.
 *
 * It writes and reads a disk, so all but opening is for worker threads; each call is short. It
 * knows no event loop.
 */
#ifndef AGENT_FLOW_HISTORY_H
#define AGENT_FLOW_HISTORY_H

#include "flow/flow.h"

#define FLOW_HISTORY_DEFAULT 100000u /* records */
#define FLOW_HISTORY_MB_DEFAULT 64u

struct flow_history_options {
	const char *dir;
	uint32_t records;
	uint64_t bytes; /* of the file */
};

/* -ENOMEM; a file that cannot be opened is tried again with each batch. */
int flow_history_open(struct flow_history **out, const struct flow_history_options *options);
void flow_history_close(struct flow_history *h);
/* For flow_log_number_from(): above the number of every record there is. */
uint64_t flow_history_first(const struct flow_history *h);
/* Writes a batch in one transaction, and drops the oldest records that are too many. */
void flow_history_write(struct flow_history *h, const struct flow_batch *batch);
/* Records below this number were written or given up. */
uint64_t flow_history_end(const struct flow_history *h);

struct flow_record;
struct flow_filter;
/*
 * Calls fn for the records from..below-1, at most `max` of them, oldest first; `lost` records are
 * missing before this one. fn returns 0 to go on. Returns the number of records that were looked at.
 */
size_t flow_history_read(struct flow_history *h, uint64_t from, uint64_t below, size_t max,
			 int (*fn)(void *arg, uint64_t seq, uint64_t lost,
				   const struct flow_record *rec),
			 void *arg);
/*
 * The number of the record from which on there are `want` that pass the filter, below `before`;
 * `before` when there is none.
 */
uint64_t flow_history_seek(struct flow_history *h, uint64_t before,
			   const struct flow_filter *filter, uint32_t want);

/*
 * The records below a number as flow_log_past() has the log's. *out is malloc'ed, the caller's. 0 or
 * -ENOMEM.
 */
int flow_history_past(struct flow_history *h, uint64_t below, struct flow_past **out, size_t *n);

struct flow_history_stats {
	uint64_t records;
	uint64_t bytes; /* of the file */
	uint64_t lost;	/* records that could not be written, since the start */
	bool failing;	/* the last batch could not be written */
};
void flow_history_stats_get(struct flow_history *h, struct flow_history_stats *out);
/* What a person should hear about the file, once; false: nothing. */
bool flow_history_notice(struct flow_history *h, char *buf, size_t len);

#endif
