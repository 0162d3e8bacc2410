/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What is to be done about programs, one thing at a time: begun and ended on the loop, run by a worker. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "programs_internal.h"

#define WAITING_MAX 64u

void programs_release(struct programs *p)
{
	struct program *prog, *next;

	if (!p->closing || p->working || !p->timer_closed)
		return;
	DL_FOREACH_SAFE(p->list, prog, next) {
		DL_DELETE(p->list, prog);
		program_free(prog);
	}
	if (p->root_fd >= 0)
		close(p->root_fd);
	free(p);
}

void program_task_free(struct program_task *t)
{
	free(t->name);
	program_record_clear(&t->given);
	program_record_clear(&t->work.r);
	program_place_close(&t->work.place);
	program_query_free(t->work.query);
	free(t->work.object);
	free(t);
}

struct program_task *program_task_new(struct programs *p, const char *name)
{
	struct program_task *t = calloc(1, sizeof(*t));

	if (t && name)
		t->name = strdup(name);
	if (!t || (name && !t->name)) {
		free(t);
		return NULL;
	}
	t->p = p;
	t->work.prog_fd = t->work.old_fd = t->work.link.fd = -1;
	t->work.place.netns_fd = t->work.place.hook.cgroup_fd = -1;
	memcpy(t->work.root, p->root, sizeof(t->work.root));
	return t;
}

static void queue_run(struct programs *p);

static void on_work(uv_work_t *work)
{
	struct programs *p = work->data;

	p->queue->run(&p->queue->work);
}

static void task_end(struct program_task *t)
{
	struct programs *p = t->p;

	DL_DELETE(p->queue, t);
	p->n_queue--;
	if (t->prog)
		t->prog->working = false;
	t->end(t);
	program_task_free(t);
}

static void on_done(uv_work_t *work, int status)
{
	struct programs *p = work->data;

	p->working = false;
	task_end(p->queue);
	memory_release();
	queue_run(p);
	programs_release(p);
}

/* What was asked for may have gone, or changed, before its turn came. */
static int task_begin(struct program_task *t)
{
	struct program_work *w = &t->work;

	if (t->name) {
		t->prog = programs_find(t->p, t->name);
		if (!t->prog) {
			snprintf(w->err, sizeof(w->err),
				 "there is no program %.64s; see towpath program list", t->name);
			return -ESRCH;
		}
		if (program_record_copy(&w->r, &t->prog->r)) {
			snprintf(w->err, sizeof(w->err), "out of memory");
			return -ENOMEM;
		}
		t->prog->working = true;
	}
	return t->begin(t);
}

static void queue_run(struct programs *p)
{
	while (p->queue && !p->working && !p->closing) {
		struct program_task *t = p->queue;

		t->work.res = task_begin(t);
		p->working =
			!t->work.res && !uv_queue_work(&p->a->loop, &p->work, on_work, on_done);
		if (!p->working)
			task_end(t);
	}
}

void program_task_add(struct programs *p, struct program_task *t)
{
	DL_APPEND(p->queue, t);
	p->n_queue++;
	queue_run(p);
}

void program_task_answer(struct program_task *t, json_t *json)
{
	struct agent_error err = {};
	int res = t->work.res;

	if (res == -ESRCH)
		res = agent_refuse(&err, AGENT_NOT_FOUND, "%s", t->work.err);
	else if (res)
		res = agent_refuse_errno(&err, res, t->work.err);
	if (t->done)
		t->done(t->arg, json, res, &err);
	else
		json_decref(json);
}

int program_task_queue(struct programs *p, struct program_task *t, struct agent_error *err)
{
	if (p->n_queue < WAITING_MAX) {
		program_task_add(p, t);
		return 0;
	}
	program_task_free(t);
	return agent_refuse(err, AGENT_NOT_READY, "%u requests are waiting already; try again",
			    WAITING_MAX);
}
