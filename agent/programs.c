/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The list of users' programs. The kernel is changed first and the store second: what the store
 * does not have when the agent starts has not happened, and is taken back.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <utlist.h>

#include "log.h"
#include "programs_internal.h"

#define AGAIN_MS 5000u /* what failed is tried again: nothing may change for days */
#define WAITING_MAX 64u

/* Something to do, in a queue: the worker has the first one. */
struct task {
	struct programs *p;
	char *name;	      /* of the program that it is about; NULL: one that is not there yet */
	struct program *prog; /* that program, while the task is under way */
	struct program_record given; /* of a replacement */
	struct program_work work;
	void (*run)(struct program_work *w); /* on the worker thread */
	void (*end)(struct task *t);	     /* on the loop */
	int (*begin)(struct task *t);	     /* on the loop, before run */
	programs_fn done;		     /* NULL: nobody waits */
	void *arg;
	struct task *prev, *next;
};

void program_free(struct program *prog)
{
	if (!prog)
		return;
	if (prog->prog_fd >= 0)
		close(prog->prog_fd);
	if (prog->link.fd >= 0)
		close(prog->link.fd);
	program_record_clear(&prog->r);
	free(prog);
}

struct program *program_new(void)
{
	struct program *prog = calloc(1, sizeof(*prog));

	if (prog)
		prog->prog_fd = prog->link.fd = -1;
	return prog;
}

struct program *programs_find(const struct programs *p, const char *name)
{
	struct program *prog;

	DL_FOREACH(p->list, prog) {
		if (!strcmp(prog->r.name, name))
			return prog;
	}
	return NULL;
}

static int by_number(const struct program *a, const struct program *b)
{
	return a->r.number < b->r.number ? -1 : a->r.number > b->r.number;
}

void programs_add(struct programs *p, struct program *prog)
{
	DL_INSERT_INORDER(p->list, prog, by_number);
	p->n++;
	if (prog->r.number > p->number)
		p->number = prog->r.number;
}

/* ---- the queue ---------------------------------------------------------------------------------- */

void programs_release(struct programs *p)
{
	struct program *prog, *next;

	if (!p->closing || p->working)
		return;
	DL_FOREACH_SAFE(p->list, prog, next) {
		DL_DELETE(p->list, prog);
		program_free(prog);
	}
	free(p);
}

static void task_free(struct task *t)
{
	free(t->name);
	program_record_clear(&t->given);
	program_record_clear(&t->work.r);
	program_place_close(&t->work.place);
	free(t->work.object);
	free(t);
}

static struct task *task_new(struct programs *p, const char *name)
{
	struct task *t = calloc(1, sizeof(*t));

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

static void task_end(struct task *t)
{
	struct programs *p = t->p;

	DL_DELETE(p->queue, t);
	p->n_queue--;
	if (t->prog)
		t->prog->working = false;
	t->end(t);
	task_free(t);
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
static int task_begin(struct task *t)
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
		struct task *t = p->queue;

		t->work.res = task_begin(t);
		p->working =
			!t->work.res && !uv_queue_work(&p->a->loop, &p->work, on_work, on_done);
		if (!p->working)
			task_end(t);
	}
}

static void queue_add(struct programs *p, struct task *t)
{
	DL_APPEND(p->queue, t);
	p->n_queue++;
	queue_run(p);
}

static void task_answer(struct task *t, json_t *json)
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

static int begin_place(struct task *t)
{
	struct program_work *w = &t->work;
	int res = program_place_find(t->p, &w->r, w->fresh, &w->place, w->err, sizeof(w->err));

	w->place.order.guards = w->place.guards;
	return res;
}

/* ---- attach -------------------------------------------------------------------------------------- */

static uint64_t generation_new(void)
{
	uint64_t generation = 0;

	/* Told apart by chance: the same object may be loaded twice. */
	while (!generation)
		if (getrandom(&generation, sizeof(generation), 0) != sizeof(generation))
			abort();
	return generation;
}

static int begin_attach(struct task *t)
{
	struct program_work *w = &t->work;

	if (t->p->n >= PROGRAMS_MAX) {
		snprintf(w->err, sizeof(w->err),
			 "there are %u programs already, as many as there may be; detach one",
			 PROGRAMS_MAX);
		return -ENOSPC;
	}
	if (w->r.name && programs_find(t->p, w->r.name)) {
		snprintf(w->err, sizeof(w->err),
			 "there is a program %s already; detach or replace it, or give this one "
			 "another name with --name",
			 w->r.name);
		return -EEXIST;
	}
	w->r.number = t->p->number + 1;
	w->r.generation = generation_new();
	return begin_place(t);
}

static void attached(struct program *prog, struct program_work *w)
{
	prog->prog_fd = w->prog_fd;
	prog->link = w->link;
	prog->port = w->place.port;
	prog->failed = false;
	*prog->why = '\0';
	w->prog_fd = w->link.fd = -1;
}

static int store_record(struct programs *p, const struct program_work *w, char *err, size_t err_len)
{
	json_t *json = program_record_json(&w->r);
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	int res = text ? store_program_put(p->a->store, w->r.name, text, w->object, w->r.size)
		       : -ENOMEM;

	if (res)
		snprintf(err, err_len, "%s", text ? store_error(p->a->store) : "out of memory");
	free(text);
	json_decref(json);
	return res;
}

static json_t *one_json(const struct programs *p, const struct program *prog);

static void end_attach(struct task *t)
{
	struct program_work *w = &t->work;
	struct program *prog = w->res ? NULL : program_new();
	struct programs *p = t->p;
	char words[PATH_MAX];

	if (!w->res && !prog)
		w->res = -ENOMEM;
	if (!w->res && programs_find(p, w->r.name)) {
		w->res = -EEXIST;
		snprintf(w->err, sizeof(w->err), "there is a program %s already", w->r.name);
	}
	w->r.since = (int64_t)agent_wall_seconds(p->a);
	if (!w->res)
		w->res = store_record(p, w, w->err, sizeof(w->err));
	if (w->res) {
		if (w->prog_fd >= 0)
			program_work_undo(w);
		free(prog);
		task_answer(t, NULL);
		return;
	}
	attached(prog, w);
	prog->r = w->r;
	w->r = (struct program_record){};
	programs_add(p, prog);
	log_info("program %s (%s of %s) is attached to %s", prog->r.name, prog->r.program,
		 prog->r.file, program_place_words(&prog->r, words, sizeof(words)));
	task_answer(t, one_json(p, prog));
}

static int task_queue(struct programs *p, struct task *t, struct agent_error *err)
{
	if (p->n_queue < WAITING_MAX) {
		queue_add(p, t);
		return 0;
	}
	task_free(t);
	return agent_refuse(err, AGENT_NOT_READY, "%u requests are waiting already; try again",
			    WAITING_MAX);
}

int programs_attach(struct programs *p, const json_t *body, programs_fn done, void *arg,
		    struct agent_error *err)
{
	struct task *t = task_new(p, NULL);
	int res;

	if (!t)
		return agent_refuse(err, AGENT_INTERNAL, "out of memory");
	res = program_request_parse(body, &t->work.r, &t->work.object, err);
	if (res) {
		task_free(t);
		return res;
	}
	t->work.fresh = true;
	t->begin = begin_attach;
	t->run = program_work_attach;
	t->end = end_attach;
	t->done = done;
	t->arg = arg;
	return task_queue(p, t, err);
}

/* ---- detach -------------------------------------------------------------------------------------- */

static int refuse_unknown(const char *name, struct agent_error *err)
{
	return agent_refuse(err, AGENT_NOT_FOUND,
			    "there is no program %.64s; see towpath program list", name);
}

/* A request about a program of the list. */
static int task_about(struct programs *p, const char *name, struct task **out,
		      struct agent_error *err)
{
	if (!programs_find(p, name))
		return refuse_unknown(name, err);
	*out = task_new(p, name);
	return *out ? 0 : agent_refuse(err, AGENT_INTERNAL, "out of memory");
}

static int begin_detach(struct task *t)
{
	struct program_work *w = &t->work;
	struct programs *p = t->p;
	struct program *prog = t->prog;
	char why[256];
	int res = store_program_del(p->a->store, w->r.name);

	if (res) {
		snprintf(w->err, sizeof(w->err), "%s", store_error(p->a->store));
		return res;
	}
	/* Only a filter needs its place; where that has gone, so has the filter. */
	if (program_place_find(p, &w->r, false, &w->place, why, sizeof(why)))
		prog->link.priority = 0;
	w->prog_fd = prog->prog_fd;
	w->link = prog->link;
	prog->prog_fd = prog->link.fd = -1;
	DL_DELETE(p->list, prog);
	p->n--;
	t->prog = NULL;
	program_free(prog);
	return 0;
}

static void end_detach(struct task *t)
{
	if (!t->work.res)
		log_info("program %s is detached", t->work.r.name);
	task_answer(t, t->work.res ? NULL : json_pack("{s:s}", "name", t->work.r.name));
}

int programs_detach(struct programs *p, const char *name, programs_fn done, void *arg,
		    struct agent_error *err)
{
	struct task *t = NULL;
	int res = task_about(p, name, &t, err);

	if (res)
		return res;
	t->begin = begin_detach;
	t->run = program_work_detach;
	t->end = end_detach;
	t->done = done;
	t->arg = arg;
	return task_queue(p, t, err);
}

/* ---- replace ------------------------------------------------------------------------------------- */

static int begin_replace(struct task *t)
{
	struct program_work *w = &t->work;
	const struct program *prog = t->prog;
	char why[256];

	free(w->r.file);
	free(w->r.program);
	w->r.file = t->given.file;
	w->r.program = t->given.program;
	w->r.size = t->given.size;
	w->r.new_maps = t->given.new_maps;
	t->given = (struct program_record){};
	w->r.generation = generation_new();
	w->old_fd = prog->prog_fd;
	w->link = prog->link;
	/* What is attached nowhere at the moment is only loaded. */
	if (program_place_find(t->p, &w->r, false, &w->place, why, sizeof(why))) {
		w->place.hook.point = w->r.point;
		w->link = (struct userprog_link){ .fd = -1 };
	}
	return 0;
}

static void end_replace(struct task *t)
{
	struct program_work *w = &t->work;
	struct program *prog = t->prog;

	if (!w->res) {
		w->res = store_record(t->p, w, w->err, sizeof(w->err));
		program_work_replaced(w);
	}
	w->link.fd = -1; /* the program's */
	if (w->res) {
		task_answer(t, NULL);
		return;
	}
	if (prog->prog_fd >= 0)
		close(prog->prog_fd);
	prog->prog_fd = w->prog_fd;
	w->prog_fd = -1;
	program_record_clear(&prog->r);
	prog->r = w->r;
	w->r = (struct program_record){};
	log_info("program %s is replaced by %s of %s", prog->r.name, prog->r.program, prog->r.file);
	task_answer(t, one_json(t->p, prog));
}

int programs_replace(struct programs *p, const char *name, const json_t *body, programs_fn done,
		     void *arg, struct agent_error *err)
{
	struct task *t = NULL;
	int res = task_about(p, name, &t, err);

	if (res)
		return res;
	res = program_replacement_parse(body, &t->given, &t->work.object, err);
	if (res) {
		task_free(t);
		return res;
	}
	t->begin = begin_replace;
	t->run = program_work_replace;
	t->end = end_replace;
	t->done = done;
	t->arg = arg;
	return task_queue(p, t, err);
}

/* ---- what has to be attached again ----------------------------------------------------------------- */

static int begin_renew(struct task *t)
{
	struct program_work *w = &t->work;
	struct program *prog = t->prog;
	int res = begin_place(t);

	if (res)
		return res;
	w->prog_fd = prog->prog_fd;
	if (w->prog_fd >= 0)
		return 0;
	res = store_program_object(t->p->a->store, w->r.name, &w->object, &w->r.size);
	if (res)
		snprintf(w->err, sizeof(w->err), "%s", store_error(t->p->a->store));
	return res;
}

static void end_renew(struct task *t)
{
	struct program_work *w = &t->work;
	struct program *prog = t->prog;
	char words[PATH_MAX];

	if (!prog)
		return; /* detached meanwhile */
	bool again = prog->failed && !strncmp(prog->why, w->err, sizeof(prog->why) - 1);

	program_place_words(&prog->r, words, sizeof(words));
	prog->prog_fd = w->prog_fd >= 0 ? w->prog_fd : prog->prog_fd;
	if (!w->res) {
		if (prog->link.fd >= 0)
			close(prog->link.fd);
		attached(prog, w);
		log_info("program %s is attached to %s again", prog->r.name, words);
		return;
	}
	prog->failed = true;
	prog->again = uv_now(&t->p->a->loop) + AGAIN_MS;
	snprintf(prog->why, sizeof(prog->why), "%.511s", w->err);
	if (!again)
		log_warn("program %s cannot be attached to %s: %s", prog->r.name, words, w->err);
}

static void renew(struct programs *p, struct program *prog)
{
	struct task *t = task_new(p, prog->r.name);

	if (!t)
		return; /* at the next look */
	prog->working = true;
	t->begin = begin_renew;
	t->run = program_work_attach;
	t->end = end_renew;
	queue_add(p, t);
}

struct looking {
	const struct program_place *place;
	const struct userprog_link *link;
	bool there;
};

static int look_there(void *arg)
{
	struct looking *l = arg;
	struct userprog_hook hook = l->place->hook;

	if (hook.point->where == USERPROG_DEVICE)
		hook.ifindex = if_nametoindex(l->place->device);
	if (hook.point->where == USERPROG_DEVICE && !hook.ifindex)
		return 0;
	l->there = userprog_attached(&hook, l->link);
	return 0;
}

/* Its place may have gone: then there is nothing to attach to, and `why` says so. */
static void look_one(struct programs *p, struct program *prog)
{
	struct program_place place;
	struct looking l = { &place, &prog->link, false };
	char why[sizeof(prog->why)] = "";

	if (program_place_find(p, &prog->r, false, &place, why, sizeof(why))) {
		snprintf(prog->why, sizeof(prog->why), "%s", why);
		prog->failed = false;
		return;
	}
	if (prog->link.fd >= 0 && prog->r.pod)
		/* A link that has lost its interface says so, from any namespace. */
		l.there = place.port == prog->port && userprog_link_alive(prog->link.fd);
	else
		program_place_run(&place, look_there, &l, why, sizeof(why));
	program_place_close(&place);
	if (!l.there && (!prog->failed || uv_now(&p->a->loop) >= prog->again))
		renew(p, prog);
}

void programs_look(struct programs *p)
{
	struct program *prog;

	DL_FOREACH(p->list, prog) {
		if (!prog->working)
			look_one(p, prog);
	}
}

int programs_endpoint_up(struct programs *p, const struct endpoint *ep, int netns_fd, char *err,
			 size_t err_len)
{
	struct program *prog;
	char why[512] = "", dir[PATH_MAX];

	DL_FOREACH(p->list, prog) {
		struct program_place place = {
			.hook = { .point = prog->r.point, .cgroup_fd = -1 },
			.netns_fd = netns_fd,
			.port = ep->port_ifindex,
			.order = { .bypass = true }, /* nothing of Towpath is in there */
		};
		struct userprog_link link = { .fd = -1 };
		int res;

		if (!prog->r.pod || strcmp(prog->r.ns, ep->ns) || strcmp(prog->r.pod, ep->pod) ||
		    prog->working || prog->prog_fd < 0)
			continue;
		snprintf(place.device, sizeof(place.device), "%s", ep->ifname);
		place.hook.clsact = !strcmp(datapath_attach_mode(p->a->dp), "clsact");
		program_dir(p->root, &prog->r, dir);
		res = program_link(dir, &place, prog->prog_fd, &link, why, sizeof(why));
		if (res) {
			snprintf(err, err_len,
				 "the program %s, which belongs to this container, cannot be "
				 "attached: %s; 'towpath program detach %s' lets it start without",
				 prog->r.name, why, prog->r.name);
			return res;
		}
		if (prog->link.fd >= 0)
			close(prog->link.fd);
		prog->link = link;
		prog->port = ep->port_ifindex;
		prog->failed = false;
		*prog->why = '\0';
	}
	return 0;
}

/* ---- the end ----------------------------------------------------------------------------------- */

void programs_free(struct programs *p)
{
	struct agent_error err = {};
	struct task *t, *next;
	int res;

	if (!p)
		return;
	res = agent_refuse(&err, AGENT_NOT_READY, "the agent is stopping; try again once it runs");
	p->closing = true;
	DL_FOREACH_SAFE(p->queue, t, next) {
		if (t->done)
			t->done(t->arg, NULL, res, &err);
		t->done = NULL;
		/* The first one is the worker's as long as that runs. */
		if (p->working && t == p->queue)
			continue;
		DL_DELETE(p->queue, t);
		task_free(t);
	}
	programs_release(p);
}

/* ---- answers -------------------------------------------------------------------------------------- */

static json_t *one_json(const struct programs *p, const struct program *prog)
{
	const bool there = prog->link.fd >= 0 || prog->link.priority;
	const char *state = prog->failed ? "failed"
			    : *prog->why ? "waiting"
			    : there	 ? "attached"
					 : "attaching";
	json_t *json = program_record_json(&prog->r);
	char dir[PATH_MAX];

	if (!json)
		return NULL;
	program_dir(p->root, &prog->r, dir);
	json_object_set_new(json, "where",
			    json_string(prog->r.device	 ? "device"
					: prog->r.cgroup ? "cgroup"
							 : "endpoint"));
	json_object_set_new(json, "state", json_string(state));
	if (*prog->why)
		json_object_set_new(json, "why", json_string(prog->why));
	if (prog->prog_fd >= 0)
		json_object_set_new(json, "id", json_integer(userprog_id(prog->prog_fd)));
	if (prog->r.point->attach == BPF_XDP)
		json_object_set_new(json, "mode",
				    json_string(prog->link.skb_mode ? "generic" : "native"));
	json_object_set_new(json, "pins", json_string(dir));
	return json;
}

json_t *programs_json(const struct programs *p)
{
	json_t *items = json_array();
	const struct program *prog;

	DL_FOREACH(p->list, prog)
		json_array_append_new(items, one_json(p, prog));
	return json_pack("{s:o}", "items", items);
}

json_t *program_json(const struct programs *p, const char *name, struct agent_error *err)
{
	const struct program *prog = programs_find(p, name);
	json_t *json = prog ? one_json(p, prog) : NULL;

	if (!prog)
		refuse_unknown(name, err);
	else if (!json)
		agent_refuse(err, AGENT_INTERNAL, "out of memory");
	return json;
}
