/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Inside the flow log only: when each live flow was opened, and which record says so. */
#ifndef AGENT_FLOW_OPENED_H
#define AGENT_FLOW_OPENED_H

#include <stdbool.h>
#include <stdint.h>
#include <towpath/abi.h>

struct opened;

struct opened *opened_new(void); /* NULL: no memory */
void opened_free(struct opened *t);
/* time: ns of CLOCK_MONOTONIC; seq: of the record. The oldest are forgotten when it is full. */
void opened_put(struct opened *t, const struct tw_tuple *tuple, uint64_t time, uint64_t seq);
/*
 * Takes a flow out. head is the log's next record, not 2^32 records after the flow's. *ms is how
 * long before `time` it was opened.
 */
bool opened_take(struct opened *t, const struct tw_tuple *tuple, uint64_t time, uint64_t head,
		 uint64_t *ms, uint64_t *seq);
size_t opened_bytes(const struct opened *t);

#endif
