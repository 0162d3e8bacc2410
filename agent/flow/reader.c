/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Readers: a place in the log, a filter, and the line that is on its way out. */
#include "flow/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct flow_reader {
	struct flow_log *log;
	struct flow_filter *filter;
	bool follow;
	uint64_t next; /* record to look at */
	uint64_t end;  /* no follow: the head when the reader began */
	struct flow_text line;
	size_t sent; /* bytes of line that were handed out */
};

static uint64_t reader_end(const struct flow_reader *r)
{
	return r->follow ? flow_log_head(r->log) : r->end;
}

int flow_reader_new(struct flow_reader **out, struct flow_log *log, struct flow_filter *filter,
		    const struct flow_reading *how)
{
	struct flow_reader *r = calloc(1, sizeof(*r));
	uint32_t last = how->after ? UINT32_MAX : how->last;

	if (!r) {
		flow_filter_free(filter);
		return -ENOMEM;
	}
	flow_log_tick(log);
	r->log = log;
	r->filter = filter;
	r->follow = how->follow;
	r->end = r->next = flow_log_head(log);
	for (uint64_t seq = r->end; last && seq > flow_log_tail(log); seq--) {
		if (!flow_filter_match(filter, flow_log_at(log, seq - 1)))
			continue;
		r->next = seq - 1;
		last--;
	}
	if (how->after && r->next <= how->after)
		r->next = how->after < r->end ? how->after + 1 : r->end;
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

bool flow_reader_ready(const struct flow_reader *r)
{
	return r->sent < r->line.n || r->next < reader_end(r) || !r->follow;
}

/* Makes the next line; false when there is none now. */
static bool reader_next(struct flow_reader *r)
{
	uint64_t tail = flow_log_tail(r->log);
	uint64_t end = reader_end(r);

	r->line.n = r->sent = 0;
	if (r->next < tail && r->next < end) {
		uint64_t to = tail < end ? tail : end;

		flow_text_printf(&r->line, "{\"lost\":%llu}\n", (unsigned long long)(to - r->next));
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
	if (!done && !r->follow)
		return -ENODATA;
	return (int)done;
}
