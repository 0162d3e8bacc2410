/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "top.h"

#define ROWS_DEFAULT 20u

static int choose(const char *const *words, size_t n, const char *text, const char *key,
		  unsigned int *out, struct agent_error *err)
{
	for (unsigned int i = 0; i < n; i++) {
		if (!text || !strcmp(text, words[i])) {
			*out = i;
			return 0;
		}
	}
	return agent_refuse(err, AGENT_INVALID, "%s is %s, %s or %s, not '%.32s'", key, words[0],
			    words[1], words[2], text);
}

int top_query_parse(struct top_query *out, const char *what, const char *sort, const char *n,
		    const char *ns, struct agent_error *err)
{
	static const char *const whats[TOP_WHAT_COUNT] = { "flows", "endpoints", "policies" };
	static const char *const sorts[TOP_SORT_COUNT] = { "packets", "bytes", "drops" };
	struct top_query q = { .n = ROWS_DEFAULT };
	unsigned int value = 0;
	char *end;
	int res = choose(whats, TOP_WHAT_COUNT, what, "what", &value, err);

	q.what = (enum top_what)value;
	if (!res)
		res = choose(sorts, TOP_SORT_COUNT, sort, "sort", &value, err);
	if (res)
		return res;
	q.sort = (enum top_sort)value;
	if (n) {
		unsigned long rows = strtoul(n, &end, 10);

		if (end == n || *end || *n < '0' || *n > '9' || !rows || rows > TOP_MAX)
			return agent_refuse(err, AGENT_INVALID,
					    "n is a number from 1 to %u, not '%.32s'", TOP_MAX, n);
		q.n = (uint32_t)rows;
	}
	if (ns && strlen(ns) >= sizeof(q.ns))
		return agent_refuse(err, AGENT_INVALID, "'%.80s' is no namespace", ns);
	snprintf(q.ns, sizeof(q.ns), "%s", ns ? ns : "");
	*out = q;
	return 0;
}
