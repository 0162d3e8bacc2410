/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "exporter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "linefile.h"
#include "log.h"

#define BUFFER (32u << 10)

struct exporter {
	struct agent *a;
	struct linefile *file;
	struct flow_reader *reader;
	uv_work_t work;
	bool working; /* the worker has all of this */
	bool load;    /* its job: take records from the history; else write the buffer */
	size_t n;     /* bytes in the buffer */
	size_t written;
	int error; /* of the last write */
	bool failing;
	int said; /* the error of it */
	char buffer[BUFFER];
};

/* The number of the record that is the last line of an earlier export. */
static uint64_t last_seq(const char *line)
{
	json_t *json = json_loads(line, 0, NULL);
	json_int_t seq = json_integer_value(json_object_get(json, "seq"));

	json_decref(json);
	return seq > 0 ? (uint64_t)seq : 0;
}

int exporter_new(struct exporter **out, struct agent *a)
{
	const struct linefile_options options = {
		.path = a->opts->flow_export,
		.bytes = (uint64_t)a->opts->flow_export_mb << 20,
		.files = a->opts->flow_export_files,
	};
	struct flow_reading how = { .follow = true };
	struct exporter *e = calloc(1, sizeof(*e));
	char *last = NULL;

	if (!e)
		return -ENOMEM;
	e->a = a;
	e->work.data = e;
	int res = linefile_open(&e->file, &options, &last);
	if (!res) {
		how.after = last_seq(last);
		res = flow_reader_new(&e->reader, a->flows, a->history, NULL, &how);
	}
	free(last);
	if (res) {
		linefile_close(e->file);
		free(e);
		return res;
	}
	*out = e;
	return 0;
}

static void work_run(uv_work_t *work)
{
	struct exporter *e = work->data;

	if (e->load)
		flow_reader_load(e->reader);
	else
		e->error = linefile_write(e->file, e->buffer, e->n, &e->written);
}

/* A buffer that could not be written is tried again: then the ring runs over, and that is told. */
static void written(struct exporter *e)
{
	e->n -= e->written;
	memmove(e->buffer, e->buffer + e->written, e->n);
	if (e->error && !e->failing)
		log_warn("flows cannot be exported to %s: %s; it is tried again",
			 e->a->opts->flow_export, strerror(-e->error));
	else if (!e->error && e->failing)
		log_warn("flows are exported to %s again", e->a->opts->flow_export);
	e->failing = e->error != 0;
	e->said = e->error;
}

static void work_done(uv_work_t *work, int status)
{
	struct exporter *e = work->data;

	e->working = false;
	if (!e->load)
		written(e);
	if (!e->failing)
		exporter_write(e, false);
}

/* Whether there is work; what it is stands in the exporter. */
static bool work_find(struct exporter *e)
{
	int n = e->n ? 0 : flow_reader_fill(e->reader, e->buffer, sizeof(e->buffer));

	if (n > 0)
		e->n = (size_t)n;
	e->load = !e->n && flow_reader_wants(e->reader) && flow_reader_ready(e->reader);
	return e->n || e->load;
}

void exporter_write(struct exporter *e, bool again)
{
	if (e && !e->working && (again || !e->failing) && work_find(e))
		e->working = !uv_queue_work(&e->a->loop, &e->work, work_run, work_done);
}

int exporter_error(const struct exporter *e)
{
	/* Not `error`: that is the worker's while it writes. */
	return e && e->failing ? e->said : 0;
}

void exporter_free(struct exporter *e)
{
	if (!e)
		return;
	while (!e->error && work_find(e)) {
		work_run(&e->work);
		if (!e->load)
			written(e);
	}
	flow_reader_free(e->reader);
	linefile_close(e->file);
	free(e);
}
