/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Readers: a place in the log, a filter, and the lines that are on their way out. What the ring
 * does not have any more comes from the history, by way of flow_reader_load() on another thread.
 */
#include "flow/history.h"
#include "flow/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOAD_BYTES 32768u  /* of lines that are loaded at a time */
#define LOAD_RECORDS 4096u /* that are looked at for them */

struct flow_reader {
	struct flow_log *log;
	struct flow_history *history; /* NULL: there is none */
	struct flow_filter *filter;
	bool follow;
	uint64_t next;	/* record to look at */
	uint64_t end;	/* no follow: the head when the reader began */
	uint64_t first; /* number of this agent's first record: gaps behind it are losses */
	uint32_t seek;	/* so many more are to be found in the history first */
	uint64_t below; /* what is to be loaded ends here */
	struct flow_text line;
	size_t sent; /* bytes of line that were handed out */
};

static uint64_t reader_end(const struct flow_reader *r)
{
	return r->follow ? flow_log_head(r->log) : r->end;
}

/* Where to begin: the last ones in the ring, and if there are too few, in the history. */
static void reader_begin(struct flow_reader *r, const struct flow_reading *how)
{
	uint64_t tail = flow_log_tail(r->log);
	uint32_t last = how->last;

	r->end = r->next = flow_log_head(r->log);
	if (how->after) {
		r->next = how->after < r->end ? how->after + 1 : r->end;
		if (r->next < r->first && !r->history)
			r->next = tail; /* of an earlier agent there is nothing */
		return;
	}
	for (uint64_t seq = r->end; last && seq > tail; seq--) {
		if (!flow_filter_match(r->filter, flow_log_at(r->log, seq - 1)))
			continue;
		r->next = seq - 1;
		if (last != UINT32_MAX)
			last--;
	}
	if (!last || !r->history)
		return;
	r->seek = last;
	r->next = tail;
}

int flow_reader_new(struct flow_reader **out, struct flow_log *log, struct flow_history *history,
		    struct flow_filter *filter, const struct flow_reading *how)
{
	struct flow_reader *r = calloc(1, sizeof(*r));

	if (!r) {
		flow_filter_free(filter);
		return -ENOMEM;
	}
	flow_log_tick(log);
	r->log = log;
	r->history = history;
	r->first = flow_log_first(log);
	r->filter = filter;
	r->follow = how->follow;
	reader_begin(r, how);
	*out = r;
	return 0;
}

void flow_reader_free(struct flow_reader *r)
{
	if (!r)
		return;
	flow_filter_free(r->filter);
	free(r->line.v);
	free(r);
}

/* Whether the history has what comes next, now or soon. */
static bool reader_behind(const struct flow_reader *r)
{
	return r->history &&
	       (r->seek || (r->next < flow_log_tail(r->log) && r->next < reader_end(r)));
}

bool flow_reader_ready(const struct flow_reader *r)
{
	if (r->sent < r->line.n)
		return true;
	if (reader_behind(r))
		return r->seek || r->next < flow_history_end(r->history);
	return !r->follow || r->next < reader_end(r);
}

static void lost_line(struct flow_reader *r, uint64_t n)
{
	flow_text_printf(&r->line, "{\"lost\":%llu}\n", (unsigned long long)n);
}

/* Makes the next line; false when there is none now. */
static bool reader_next(struct flow_reader *r)
{
	uint64_t tail = flow_log_tail(r->log);
	uint64_t end = reader_end(r);

	r->line.n = r->sent = 0;
	if (reader_behind(r))
		return false;
	if (r->next < tail && r->next < end) {
		uint64_t to = tail < end ? tail : end;

		lost_line(r, to - r->next);
		r->next = to;
		return true;
	}
	while (r->next < end) {
		uint64_t seq = r->next++;
		const struct flow_record *rec = flow_log_at(r->log, seq);

		if (!flow_filter_match(r->filter, rec))
			continue;
		flow_record_json(rec, seq, &r->line);
		return true;
	}
	return false;
}

int flow_reader_fill(struct flow_reader *r, char *buf, size_t max)
{
	size_t done = 0;

	if (max > INT32_MAX)
		max = INT32_MAX;
	while (done < max) {
		if (r->sent == r->line.n && !reader_next(r))
			break;
		if (r->line.failed)
			return -ENOMEM;
		size_t n = r->line.n - r->sent;

		if (n > max - done)
			n = max - done;
		memcpy(buf + done, r->line.v + r->sent, n);
		r->sent += n;
		done += n;
	}
	if (!done && !r->follow && !reader_behind(r))
		return -ENODATA;
	return (int)done;
}

bool flow_reader_wants(struct flow_reader *r)
{
	uint64_t tail = flow_log_tail(r->log), end = reader_end(r);

	if (r->sent < r->line.n || !reader_behind(r))
		return false;
	r->below = tail < end ? tail : end;
	return true;
}

static int load_record(void *arg, uint64_t seq, uint64_t lost, const struct flow_record *rec)
{
	struct flow_reader *r = arg;

	/* Of an earlier agent only the history knows what it did not get. */
	if (r->next >= r->first)
		lost = seq - r->next;
	if (lost)
		lost_line(r, lost);
	r->next = seq + 1;
	if (flow_filter_match(r->filter, rec))
		flow_record_json(rec, seq, &r->line);
	return r->line.failed || r->line.n >= LOAD_BYTES;
}

void flow_reader_load(struct flow_reader *r)
{
	uint64_t written = flow_history_end(r->history);
	uint64_t below = r->below < written ? r->below : written;
	size_t looked = 0, n = 1;

	if (r->seek)
		r->next = flow_history_seek(r->history, r->next, r->filter, r->seek);
	r->seek = 0;
	while (n && r->next < below && looked < LOAD_RECORDS && r->line.n < LOAD_BYTES) {
		n = flow_history_read(r->history, r->next, below, LOAD_RECORDS - looked,
				      load_record, r);
		looked += n;
	}
	/* The last ones may be missing as well. */
	if (!n && r->next < below) {
		uint64_t from = r->next > r->first ? r->next : r->first;

		if (from < below)
			lost_line(r, below - from);
		r->next = below;
	}
}
