/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The queue. A change is prepared beside what is in force, then stored, then put in force by a store
 * or two. What the store does not have has not happened; the kernel follows it at each start.
 */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

#include "edge/balance.h"
#include "edge/internal.h"
#include "log.h"

#define WAITING_MAX 64u

/* ---- tasks --------------------------------------------------------------------------------------- */

struct edge_task *edge_task_new(struct edges *e, edges_fn done, void *arg)
{
	struct edge_task *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->e = e;
	t->done = done;
	t->arg = arg;
	t->started = uv_hrtime();
	return t;
}

void edge_task_free(struct edge_task *t)
{
	for (size_t i = 0; i < t->n_add; i++)
		edge_rule_clear(&t->add[i]);
	free(t->add);
	free(t->del);
	free(t->client);
	free(t->who);
	free(t->text);
	edge_prefixes_free(&t->prefixes);
	edge_load_free(t->load);
	edge_table_close(t->table);
	edge_close(t->edge);
	edges_limits_free(t->limits);
	json_decref(t->reply);
	free(t);
}

int edge_task_refuse(struct edge_task *t, enum agent_code code, int res, const char *format, ...)
{
	va_list args;

	t->code = code;
	va_start(args, format);
	vsnprintf(t->err, sizeof(t->err), format, args);
	va_end(args);
	return res;
}

static void task_error(const struct edge_task *t, struct agent_error *err)
{
	*err = (struct agent_error){ .code = t->code };
	snprintf(err->at.text, sizeof(err->at.text), "%s",
		 *t->err ? t->err : "the edge could not be changed");
	if (!t->at.line)
		return;
	snprintf(err->at.file, sizeof(err->at.file), "%s", t->name);
	snprintf(err->at.text, sizeof(err->at.text), "%s", t->at.text);
	err->at.line = t->at.line;
	err->at.column = t->at.column;
}

static void queue_run(struct edges *e);

static void release(struct edges *e)
{
	struct edge_device *d, *next;

	if (!e->closing || e->working || e->waiting)
		return;
	DL_FOREACH_SAFE(e->devices, d, next) {
		DL_DELETE(e->devices, d);
		free(d);
	}
	for (size_t i = 0; i < TW_EDGE_COUNTERS; i++) {
		if (e->rule[i])
			edge_rule_clear(e->rule[i]);
		free(e->rule[i]);
	}
	edge_table_close(e->table);
	edge_close(e->edge);
	edge_compile_close(&e->compile);
	free(e);
}

static void task_tell(struct edge_task *t)
{
	struct agent_error err = {};
	json_t *reply = t->reply;

	if (t->over)
		t->over(t);
	DL_DELETE(t->e->queue, t);
	t->e->n_queue--;
	if (t->res)
		task_error(t, &err);
	if (t->done) {
		t->reply = NULL;
		if (t->res)
			json_decref(reply);
		t->done(t->arg, t->res ? NULL : reply, t->res, &err);
	} else if (t->res && *t->err) {
		log_warn("edge: %s", t->err);
	}
	edge_task_free(t);
}

/* What waited until nothing else is to be done. */
static void queue_empty(struct edges *e)
{
	if (e->queue || e->closing)
		return;
	edges_reload(e);
	if (!e->look)
		return;
	e->look = false;
	edges_devices_look(e);
}

static void task_worked(uv_work_t *work, int status)
{
	struct edges *e = work->data;
	struct edge_task *t = e->queue;

	e->working = false;
	if (e->closing) {
		DL_DELETE(e->queue, t);
		edge_task_free(t);
		release(e);
		return;
	}
	if (!t->res)
		t->end(t);
	task_tell(t);
	if (e->table)
		edges_settle(e);
	memory_release();
	queue_run(e);
	queue_empty(e);
}

static void task_work(uv_work_t *work)
{
	struct edges *e = work->data;

	e->queue->work(e->queue);
}

static void queue_run(struct edges *e)
{
	while (e->queue && !e->working && !e->closing) {
		struct edge_task *t = e->queue;
		int res = t->begin ? t->begin(t) : 0;

		if (!res) {
			e->work.data = e;
			e->working = true;
			if (!uv_queue_work(&e->a->loop, &e->work, task_work, task_worked))
				return;
			e->working = false;
			res = edge_task_refuse(t, AGENT_INTERNAL, -ENOMEM, "out of memory");
		}
		t->res = res < 0 ? res : 0;
		task_tell(t);
		if (e->table)
			edges_settle(e);
	}
}

int edge_task_add(struct edge_task *t, struct agent_error *err)
{
	struct edges *e = t->e;

	if (e->closing || e->n_queue >= WAITING_MAX) {
		edge_task_free(t);
		return agent_refuse(err, AGENT_NOT_READY,
				    "too many changes of the edge wait; try again");
	}
	DL_APPEND(e->queue, t);
	e->n_queue++;
	queue_run(e);
	return 0;
}

/* ---- grace ----------------------------------------------------------------------------------------- */

static void grace_work(uv_work_t *work)
{
	edge_grace();
}

static void grace_over(uv_work_t *work, int status)
{
	struct edges *e = work->data;

	e->waiting = false;
	if (e->closing) {
		release(e);
		return;
	}
	/* Not under a worker that reads the table; what is ripe waits for the next time then. */
	if (e->table && !e->working) {
		edge_table_settle(e->table);
		edges_settle(e);
	}
}

void edges_settle(struct edges *e)
{
	if (e->waiting || e->working || !e->table || !edge_table_resting(e->table))
		return;
	edge_table_settle_begin(e->table);
	e->grace.data = e;
	e->waiting = !uv_queue_work(&e->a->loop, &e->grace, grace_work, grace_over);
}

/* ---- what is kept ------------------------------------------------------------------------------------ */

/* On the loop only: the balancer and the limits are asked, too. */
void edges_settings(const struct edges *e, struct tw_edge_settings *out)
{
	edge_settings_default(out);
	edge_compile_settings(&e->compile, out);
	if (e->a->balancer)
		balancer_settings(e->a->balancer, out);
	limits_settings(&e->limits, out);
}

void edges_loaded(struct edges *e)
{
	balancer_edge(e->a->balancer, e->edge);
}

int edges_singles(const struct edges *e, struct edge_prefixes *out)
{
	struct edge_prefixes found = {};
	int res = 0;

	for (uint32_t i = TW_EDGE_FIRST_RULE; i < TW_EDGE_COUNTERS && !res; i++) {
		const struct edge_rule *rule = e->compile.rule[i];

		if (rule && rule->kind == EDGE_RULE_PREFIX)
			res = edge_prefixes_add(&found, &rule->prefix.addr, rule->prefix.len, i);
	}
	if (!res)
		res = edge_prefixes_sort(&found);
	if (res)
		edge_prefixes_free(&found);
	else
		*out = found;
	return res;
}

void edges_list_path(const struct edges *e, uint64_t file, char buf[4096])
{
	snprintf(buf, 4096, "%s/%llu.list", e->dir, (unsigned long long)file);
}

/* Files that no rule names: of a change that was not stored, or whose rule is gone. */
static void files_tidy(struct edges *e)
{
	DIR *dir = opendir(e->dir);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		unsigned long long file = strtoull(entry->d_name, NULL, 10);
		bool used = false;
		char path[4096];

		if (entry->d_name[0] == '.')
			continue;
		for (uint32_t i = 0; i < TW_EDGE_COUNTERS; i++)
			used |= e->rule[i] && e->rule[i]->kind == EDGE_RULE_LIST &&
				e->rule[i]->file == file;
		snprintf(path, sizeof(path), "%s/%.255s", e->dir, entry->d_name);
		if (!used || strchr(entry->d_name, '+'))
			unlink(path);
	}
	if (dir)
		closedir(dir);
}

static int kept_rule(struct edges *e, const json_t *json)
{
	struct edge_rule *rule = calloc(1, sizeof(*rule));
	int res = rule ? edge_rule_load(json, rule) : -ENOMEM;

	if (!res && e->rule[rule->number]) {
		edge_rule_clear(rule);
		res = -EINVAL;
	}
	if (res) {
		free(rule);
		return res;
	}
	e->rule[rule->number] = rule;
	e->compile.rule[rule->number] = rule;
	e->n_rules++;
	if (rule->file > e->file)
		e->file = rule->file;
	return 0;
}

static int kept(void *arg, const char *key, const char *text)
{
	struct edges *e = arg;
	json_t *json = json_loads(text, 0, NULL);
	int res = 0;

	if (!strncmp(key, "rule/", 5))
		res = json ? kept_rule(e, json) : -EINVAL;
	else if (!strncmp(key, "device/", 7))
		res = edge_device_load(e, key + 7, text);
	else
		res = limits_load(&e->limits, key, text);
	if (res)
		log_warn("edge: what is kept as %s is not understood, and left out", key);
	json_decref(json);
	return 0;
}

int edges_new(struct edges **out, struct agent *a, char *err, size_t err_len)
{
	struct edges *e = calloc(1, sizeof(*e));
	int res;

	if (!e)
		return -ENOMEM;
	e->a = a;
	e->compile.half = 1;
	guard_pin_dir(a->opts, e->pin_dir, sizeof(e->pin_dir));
	snprintf(e->dir, sizeof(e->dir), "%.3000s/edge", a->opts->state_dir);
	res = mkdir(e->dir, 0700) && errno != EEXIST ? -errno : 0;
	if (res)
		snprintf(err, err_len, "cannot make %s: %s", e->dir, strerror(-res));
	if (!res)
		res = store_edge_each(a->store, kept, e);
	if (res) {
		e->closing = true;
		release(e);
		return res;
	}
	files_tidy(e);
	*out = e;
	return 0;
}

void edges_start(struct edges *e)
{
	edges_devices_start(e);
}

void edges_free(struct edges *e)
{
	struct edge_task *t, *next;

	if (!e)
		return;
	e->closing = true;
	DL_FOREACH_SAFE(e->queue, t, next) {
		if (e->working && t == e->queue)
			continue;
		DL_DELETE(e->queue, t);
		edge_task_free(t);
	}
	release(e);
}

void edges_close(struct edges *e)
{
	balancer_edge(e->a->balancer, NULL);
	edge_table_close(e->table);
	edge_close(e->edge);
	e->table = NULL;
	e->edge = NULL;
	e->compile.edge = NULL;
	edge_uninstall(e->pin_dir);
}

void edges_look(struct edges *e)
{
	if (!e || e->closing || e->queue)
		return;
	edges_expire(e);
	edges_reload(e);
	edges_devices_look(e);
}
