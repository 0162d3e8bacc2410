/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "top.h"

#define READ_BYTES (64u << 10)
#define LOOK_BYTES_MAX (4u << 20) /* of one look: what a flood writes beyond that is not read */
#define FLOWS_MAX 4096u		  /* different ones */

struct top_drops {
	struct flow_reader *reader;
	json_t *by[TOP_WHAT_COUNT];
	char *buf; /* a line that is not complete yet, and what was read behind it */
	size_t len;
};

void top_drops_clear(struct top_drops *d)
{
	for (unsigned int i = 0; i < TOP_WHAT_COUNT; i++)
		json_object_clear(d->by[i]);
}

void top_drops_free(struct top_drops *d)
{
	if (!d)
		return;
	flow_reader_free(d->reader);
	for (unsigned int i = 0; i < TOP_WHAT_COUNT; i++)
		json_decref(d->by[i]);
	free(d->buf);
	free(d);
}

int top_drops_new(struct top_drops **out, struct flow_log *log)
{
	const struct flow_reading from_now = { .follow = true };
	struct top_drops *d = calloc(1, sizeof(*d));
	struct flow_filter *filter = NULL;
	char why[128];
	bool room;

	if (!d)
		return -ENOMEM;
	d->buf = malloc(2 * READ_BYTES);
	room = d->buf != NULL;
	for (unsigned int i = 0; i < TOP_WHAT_COUNT; i++)
		room &= (d->by[i] = json_object()) != NULL;
	room = room && !flow_filter_new(&filter) &&
	       !flow_filter_set(filter, "type", "drop", why, sizeof(why));
	if (room && !flow_reader_new(&d->reader, log, NULL, filter, &from_now)) {
		*out = d;
		return 0;
	}
	/* The reader takes the filter over, also when it fails. */
	if (!room)
		flow_filter_free(filter);
	top_drops_free(d);
	return -ENOMEM;
}

const json_t *top_drops_by(const struct top_drops *d, enum top_what what)
{
	return d->by[what];
}

void top_flow_key(char key[TOP_KEY_LEN], const char *from, const char *to, const char *proto,
		  unsigned int port)
{
	snprintf(key, TOP_KEY_LEN, "%.45s %.45s %.10s %u", from, to, proto, port);
}

/* The entry of a key, made when it is new; NULL: no room. */
static json_t *entry(json_t *by, const char *key, json_int_t drops)
{
	json_t *e = json_object_get(by, key);

	if (!e && json_object_size(by) < FLOWS_MAX && !json_object_set_new(by, key, json_object()))
		e = json_object_get(by, key);
	if (e)
		json_object_set_new(
			e, "drops",
			json_integer(json_integer_value(json_object_get(e, "drops")) + drops));
	return e;
}

static const char *text(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

/* "ns/a, ns/b": each of them is one that denied. */
static void count_policies(json_t *by, const char *list, json_int_t drops)
{
	char name[512];

	while (*list) {
		size_t len = strcspn(list, ", ");

		snprintf(name, sizeof(name), "%.*s", (int)len, list);
		if (len)
			entry(by, name, drops);
		list += len + strspn(list + len, ", ");
	}
}

static void count_record(struct top_drops *d, const json_t *r)
{
	static const char *const ends[] = { "from", "to" }, *const dirs[] = { "egress", "ingress" };
	json_int_t drops = json_integer_value(json_object_get(r, "count"));
	const json_t *to = json_object_get(r, "to"), *policy = json_object_get(r, "policy");
	char key[TOP_KEY_LEN], name[512];
	json_t *flow;

	for (unsigned int i = 0; i < 2; i++) {
		const json_t *end = json_object_get(r, ends[i]);
		const json_t *said = json_object_get(policy, dirs[i]);

		if (*text(end, "pod")) {
			snprintf(name, sizeof(name), "%.63s/%.253s", text(end, "namespace"),
				 text(end, "pod"));
			entry(d->by[TOP_ENDPOINTS], name, drops);
		}
		if (json_is_true(json_object_get(said, "isolated")) &&
		    json_is_false(json_object_get(said, "allow")))
			count_policies(d->by[TOP_POLICIES], text(said, "selected_by"), drops);
	}
	top_flow_key(key, text(json_object_get(r, "from"), "ip"), text(to, "ip"), text(r, "proto"),
		     (unsigned int)json_integer_value(json_object_get(to, "port")));
	flow = entry(d->by[TOP_FLOWS], key, drops);
	if (flow && !json_object_get(flow, "from")) {
		json_object_set(flow, "from", json_object_get(r, "from"));
		json_object_set(flow, "to", json_object_get(r, "to"));
		json_object_set(flow, "proto", json_object_get(r, "proto"));
		json_object_set(flow, "reason", json_object_get(r, "reason"));
	}
}

void top_drops_read(struct top_drops *d)
{
	size_t total = 0;
	int n;

	while (total < LOOK_BYTES_MAX &&
	       (n = flow_reader_fill(d->reader, d->buf + d->len, READ_BYTES)) > 0) {
		char *line = d->buf, *end = d->buf + d->len + n, *newline;

		total += (size_t)n;
		while ((newline = memchr(line, '\n', (size_t)(end - line)))) {
			json_t *r = json_loadb(line, (size_t)(newline - line), 0, NULL);

			if (json_object_get(r, "count"))
				count_record(d, r);
			json_decref(r);
			line = newline + 1;
		}
		d->len = (size_t)(end - line);
		/* No record is that long. */
		if (d->len > READ_BYTES)
			d->len = 0;
		memmove(d->buf, line, d->len);
	}
}
