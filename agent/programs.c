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

#include "edge_front.h"
#include "log.h"
#include "programs_internal.h"

#define LOST_MS 500u   /* until an XDP program that was taken off is attached again */
#define AGAIN_MS 5000u /* what failed is tried again: nothing may change for days */

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

static int begin_place(struct program_task *t)
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

static int begin_attach(struct program_task *t)
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
	prog->lost = 0;
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
static void look_one(struct programs *p, struct program *prog);

static void end_attach(struct program_task *t)
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
		program_task_answer(t, NULL);
		return;
	}
	attached(prog, w);
	prog->r = w->r;
	w->r = (struct program_record){};
	programs_add(p, prog);
	look_one(p, prog);
	log_info("program %s (%s of %s) is attached to %s", prog->r.name, prog->r.program,
		 prog->r.file, program_place_words(&prog->r, words, sizeof(words)));
	program_task_answer(t, one_json(p, prog));
}

int programs_attach(struct programs *p, const json_t *body, programs_fn done, void *arg,
		    struct agent_error *err)
{
	struct program_task *t = program_task_new(p, NULL);
	int res;

	if (!t)
		return agent_refuse(err, AGENT_INTERNAL, "out of memory");
	res = program_request_parse(body, &t->work.r, &t->work.object, err);
	if (res) {
		program_task_free(t);
		return res;
	}
	t->work.fresh = true;
	t->begin = begin_attach;
	t->run = program_work_attach;
	t->end = end_attach;
	t->done = done;
	t->arg = arg;
	return program_task_queue(p, t, err);
}

/* ---- detach -------------------------------------------------------------------------------------- */

static int refuse_unknown(const char *name, struct agent_error *err)
{
	return agent_refuse(err, AGENT_NOT_FOUND,
			    "there is no program %.64s; see towpath program list", name);
}

/* A request about a program of the list. */
static int task_about(struct programs *p, const char *name, struct program_task **out,
		      struct agent_error *err)
{
	if (!programs_find(p, name))
		return refuse_unknown(name, err);
	*out = program_task_new(p, name);
	return *out ? 0 : agent_refuse(err, AGENT_INTERNAL, "out of memory");
}

static int begin_detach(struct program_task *t)
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
	w->place.pins = p->pins;
	w->prog_fd = prog->prog_fd;
	w->link = prog->link;
	prog->prog_fd = prog->link.fd = -1;
	DL_DELETE(p->list, prog);
	p->n--;
	t->prog = NULL;
	program_free(prog);
	return 0;
}

static void end_detach(struct program_task *t)
{
	if (!t->work.res)
		log_info("program %s is detached", t->work.r.name);
	program_task_answer(t, t->work.res ? NULL : json_pack("{s:s}", "name", t->work.r.name));
}

int programs_detach(struct programs *p, const char *name, programs_fn done, void *arg,
		    struct agent_error *err)
{
	struct program_task *t = NULL;
	int res = task_about(p, name, &t, err);

	if (res)
		return res;
	t->begin = begin_detach;
	t->run = program_work_detach;
	t->end = end_detach;
	t->done = done;
	t->arg = arg;
	return program_task_queue(p, t, err);
}

/* ---- replace ------------------------------------------------------------------------------------- */

static int begin_replace(struct program_task *t)
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

static void end_replace(struct program_task *t)
{
	struct program_work *w = &t->work;
	struct program *prog = t->prog;

	if (!w->res) {
		w->res = store_record(t->p, w, w->err, sizeof(w->err));
		program_work_replaced(w);
	}
	w->link.fd = -1; /* the program's */
	if (w->res) {
		program_task_answer(t, NULL);
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
	program_task_answer(t, one_json(t->p, prog));
}

int programs_replace(struct programs *p, const char *name, const json_t *body, programs_fn done,
		     void *arg, struct agent_error *err)
{
	struct program_task *t = NULL;
	int res = task_about(p, name, &t, err);

	if (res)
		return res;
	res = program_replacement_parse(body, &t->given, &t->work.object, err);
	if (res) {
		program_task_free(t);
		return res;
	}
	t->begin = begin_replace;
	t->run = program_work_replace;
	t->end = end_replace;
	t->done = done;
	t->arg = arg;
	return program_task_queue(p, t, err);
}

/* ---- who is at the hooks --------------------------------------------------------------------------- */

/* What is in no list of the kernel's, because its place is not there. */
static void waiting_add(const struct programs *p, json_t *items)
{
	const struct program *prog;
	char words[PATH_MAX];

	DL_FOREACH(p->list, prog) {
		if (!*prog->why)
			continue;
		program_place_words(&prog->r, words, sizeof(words));
		*strrchr(words, ' ') = '\0';
		json_array_append_new(
			items,
			json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:s}", "where", words,
				  "hook", prog->r.point->name, "position", (json_int_t)0, "program",
				  prog->r.program, "owner", "user", "name", prog->r.name, "state",
				  prog->failed ? "failed" : "waiting", "why", prog->why));
	}
}

static int begin_hooks(struct program_task *t)
{
	return 0;
}

static void end_hooks(struct program_task *t)
{
	json_t *items = program_query_items(t->work.query);

	if (t->all)
		waiting_add(t->p, items);
	program_task_answer(t, json_pack("{s:o}", "items", items));
}

int programs_hooks(struct programs *p, const struct programs_asked *asked, programs_fn done,
		   void *arg, struct agent_error *err)
{
	struct program_task *t = program_task_new(p, NULL);
	char why[512];
	int res = t ? program_query_new(p, asked, &t->work.query, why, sizeof(why)) : 0;

	if (!t || res) {
		free(t);
		return t ? agent_refuse_errno(err, res, why)
			 : agent_refuse(err, AGENT_INTERNAL, "out of memory");
	}
	t->all = !asked->device && !asked->pod && !asked->cgroup;
	t->begin = begin_hooks;
	t->run = program_work_list;
	t->end = end_hooks;
	t->done = done;
	t->arg = arg;
	return program_task_queue(p, t, err);
}

/* ---- what has to be attached again ----------------------------------------------------------------- */

static int begin_renew(struct program_task *t)
{
	struct program_work *w = &t->work;
	struct program *prog = t->prog;
	int res = begin_place(t);

	/* One that has no place yet is loaded, to be at hand when the place comes. */
	w->only_load = res && prog->prog_fd < 0;
	if (res && !w->only_load)
		return res;
	w->prog_fd = prog->prog_fd;
	w->old_fd = prog->link.fd;
	if (w->prog_fd >= 0)
		return 0;
	res = store_program_object(t->p->a->store, w->r.name, &w->object, &w->r.size);
	if (res)
		snprintf(w->err, sizeof(w->err), "%s", store_error(t->p->a->store));
	return res;
}

static void end_renew(struct program_task *t)
{
	struct program_work *w = &t->work;
	struct program *prog = t->prog;
	char words[PATH_MAX];

	if (!prog)
		return; /* detached meanwhile */
	bool again = prog->failed && !strncmp(prog->why, w->err, sizeof(prog->why) - 1);

	program_place_words(&prog->r, words, sizeof(words));
	prog->prog_fd = w->prog_fd >= 0 ? w->prog_fd : prog->prog_fd;
	if (!w->res && w->only_load) {
		w->prog_fd = -1; /* the program's */
		return;
	}
	if (!w->res) {
		if (prog->link.slot && !prog->link.front && prog->link.slot != w->link.slot)
			userprog_edge_clear(t->p->pins, prog->link.slot);
		if (prog->link.fd >= 0)
			close(prog->link.fd);
		attached(prog, w);
		log_info("program %s is attached to %s again", prog->r.name, words);
		return;
	}
	/* Meanwhile the container may have come back, with the program. */
	if (prog->link.fd == w->old_fd) {
		if (prog->link.fd >= 0)
			close(prog->link.fd);
		prog->link = (struct userprog_link){ .fd = -1 };
	}
	prog->failed = true;
	prog->again = uv_now(&t->p->a->loop) + AGAIN_MS;
	snprintf(prog->why, sizeof(prog->why), "%.511s", w->err);
	if (!again)
		log_warn("program %s cannot be attached to %s: %s", prog->r.name, words, w->err);
}

static void renew(struct programs *p, struct program *prog)
{
	struct program_task *t = program_task_new(p, prog->r.name);

	if (!t)
		return; /* at the next look */
	prog->working = true;
	t->begin = begin_renew;
	t->run = program_work_attach;
	t->end = end_renew;
	program_task_add(p, t);
}

struct looking {
	const struct program_place *place;
	const struct userprog_link *link;
	uint32_t id;
	bool there;
	bool ahead, behind; /* of Towpath's own */
	bool skb_mode;
};

/* On which side of Towpath's program it runs, if that is there. */
static void look_order(struct looking *l, const struct userprog_hook *hook)
{
	const struct userprog_order *order = &l->place->order;
	struct userprog_entry chain[USERPROG_CHAIN_MAX];
	size_t n = USERPROG_CHAIN_MAX;
	bool passed = false, met = false;

	if (!userprog_point_is_tc(hook->point) || userprog_chain(hook, chain, &n))
		return;
	for (size_t i = 0; i < n; i++) {
		bool guard = false;

		for (size_t j = 0; j < order->n_guards; j++)
			guard |= l->place->guards[j] == chain[i].prog_id;
		l->ahead |= guard && met;
		l->behind |= passed && chain[i].prog_id == l->id;
		passed |= guard;
		met |= chain[i].prog_id == l->id;
	}
}

static int look_there(void *arg)
{
	struct looking *l = arg;
	struct userprog_hook hook = l->place->hook;
	struct userprog_entry xdp;
	size_t n = 1;

	if (hook.point->where == USERPROG_DEVICE)
		hook.ifindex = if_nametoindex(l->place->device);
	if (hook.point->where == USERPROG_DEVICE && !hook.ifindex)
		return 0;
	/* With the edge come or gone, the other place is the right one. */
	if (l->link->slot || program_behind_edge(l->place, hook.ifindex))
		l->there = l->link->slot == hook.ifindex && l->link->front == l->place->front &&
			   program_behind_edge(l->place, hook.ifindex) &&
			   (l->place->front
				    ? edge_front_get(l->place->pins, hook.ifindex, NULL)
				    : userprog_edge_get(l->place->pins, hook.ifindex)) == l->id;
	else
		l->there = userprog_attached(&hook, l->link);
	if (l->there && hook.point->attach == BPF_XDP)
		l->skb_mode = !userprog_chain(&hook, &xdp, &n) && n && xdp.skb_mode;
	if (l->there)
		look_order(l, &hook);
	return 0;
}

/* Its place may have gone: then there is nothing to attach to, and `why` says so. */
static void look_one(struct programs *p, struct program *prog)
{
	struct program_place place;
	struct looking l = { .place = &place,
			     .link = &prog->link,
			     .id = userprog_id(prog->prog_fd) };
	char why[sizeof(prog->why)] = "";

	if (program_place_find(p, &prog->r, false, &place, why, sizeof(why))) {
		/* Another device may get the number. */
		if (prog->link.slot && !prog->link.front)
			userprog_edge_clear(p->pins, prog->link.slot);
		prog->link.slot = 0;
		if (prog->prog_fd < 0 && (!prog->failed || uv_now(&p->a->loop) >= prog->again)) {
			renew(p, prog);
			return;
		}
		if (prog->prog_fd < 0)
			return; /* why it cannot be loaded is what counts */
		snprintf(prog->why, sizeof(prog->why), "%s", why);
		prog->failed = false;
		return;
	}
	if (prog->link.fd >= 0 && prog->r.pod)
		/* A link that has lost its interface says so, from any namespace. */
		l.there = place.port == prog->port && userprog_link_alive(prog->link.fd) &&
			  userprog_link_program(prog->link.fd) == l.id;
	else
		program_place_run(&place, look_there, &l, why, sizeof(why));
	program_place_close(&place);
	prog->ahead = l.ahead;
	prog->link.skb_mode = l.skb_mode;
	/* Towpath was attached anew, and comes first: one that is meant to be before it goes there. */
	if (l.behind && prog->r.bypass && prog->r.before)
		l.there = false;
	if (l.there || prog->r.point->attach != BPF_XDP)
		prog->lost = 0;
	else if (!prog->lost)
		prog->lost = uv_now(&p->a->loop);
	/* Whoever took it off may be about to attach himself, as the edge does with --replace. */
	if (prog->lost && prog->link.fd >= 0 && uv_now(&p->a->loop) - prog->lost < LOST_MS)
		return;
	if (!l.there && (!prog->failed || uv_now(&p->a->loop) >= prog->again))
		renew(p, prog);
}

void programs_look(struct programs *p)
{
	struct program *prog;

	DL_FOREACH(p->list, prog) {
		char dir[PATH_MAX];

		if (prog->working)
			continue;
		program_dir(p->root, &prog->r, dir);
		userprog_repin(dir, prog->r.generation, prog->prog_fd, prog->link.fd);
		look_one(p, prog);
	}
}

/* A pod's programs are at its eth0; at another interface only where that is all it has. */
static bool belongs(const struct programs *p, const struct program *prog, const struct endpoint *ep)
{
	return prog->r.pod && !strcmp(prog->r.ns, ep->ns) && !strcmp(prog->r.pod, ep->pod) &&
	       (!strcmp(ep->ifname, "eth0") || !program_endpoint_find(p->a, ep->ns, ep->pod));
}

static int endpoint_attach(struct programs *p, struct program *prog, const struct endpoint *ep,
			   int netns_fd, char *err, size_t err_len)
{
	struct program_place place = {
		.hook = { .point = prog->r.point, .cgroup_fd = -1, .clsact = program_clsact(p->a) },
		.netns_fd = netns_fd,
		.port = ep->port_ifindex,
		.order = { .bypass = true }, /* nothing of Towpath is in there */
	};
	struct userprog_link link = { .fd = -1 };
	char why[512] = "", dir[PATH_MAX];
	int res;

	if (prog->prog_fd < 0) {
		snprintf(err, err_len,
			 "the program %s, which belongs to this container, is not loaded%s%.300s; "
			 "try again, or 'towpath program detach %s' lets it start without",
			 prog->r.name, *prog->why ? ": " : "", prog->why, prog->r.name);
		return -EAGAIN;
	}
	snprintf(place.device, sizeof(place.device), "%s", ep->ifname);
	program_dir(p->root, &prog->r, dir);
	res = program_link(dir, &place, prog->prog_fd, &link, why, sizeof(why));
	if (res) {
		snprintf(err, err_len,
			 "the program %s, which belongs to this container, cannot be attached: "
			 "%s; 'towpath program detach %s' lets it start without",
			 prog->r.name, why, prog->r.name);
		return res;
	}
	if (prog->link.fd >= 0)
		close(prog->link.fd);
	prog->link = link;
	prog->port = ep->port_ifindex;
	prog->failed = false;
	*prog->why = '\0';
	return 0;
}

int programs_endpoint_up(struct programs *p, const struct endpoint *ep, int netns_fd, char *err,
			 size_t err_len)
{
	struct program *prog;
	int res = 0;

	DL_FOREACH(p->list, prog) {
		if (!res && belongs(p, prog, ep))
			res = endpoint_attach(p, prog, ep, netns_fd, err, err_len);
	}
	return res;
}

void programs_problems(const struct programs *p,
		       void (*fn)(void *arg, const char *what, const char *help, const char *text),
		       void *arg)
{
	const struct program *prog;
	char words[PATH_MAX], text[PATH_MAX + 1024];

	DL_FOREACH(p->list, prog) {
		program_place_words(&prog->r, words, sizeof(words));
		if (prog->ahead) {
			snprintf(text, sizeof(text),
				 "the program %s on %s runs before Towpath's own: what it passes "
				 "with TC_ACT_OK escapes all policies",
				 prog->r.name, words);
			fn(arg, "policy_bypass",
			   "if it is not meant any more: towpath program detach NAME", text);
		}
		if (prog->failed) {
			snprintf(text, sizeof(text), "the program %s cannot be attached to %s: %s",
				 prog->r.name, words, prog->why);
			fn(arg, "program",
			   "mend that, or towpath program detach NAME; it is tried "
			   "again every 5 s",
			   text);
		}
	}
}

/* ---- the end ----------------------------------------------------------------------------------- */

static void timer_closed(uv_handle_t *handle)
{
	struct programs *p = handle->data;

	p->timer_closed = true;
	programs_release(p);
}

void programs_free(struct programs *p)
{
	struct agent_error err = {};
	struct program_task *t, *next;
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
		program_task_free(t);
	}
	programs_stats_end(p);
	uv_close((uv_handle_t *)&p->stats_timer, timer_closed);
}

/* ---- answers -------------------------------------------------------------------------------------- */

static json_t *one_json(const struct programs *p, const struct program *prog)
{
	const bool there = prog->link.fd >= 0 || prog->link.priority || prog->link.slot;
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
	json_object_set_new(json, "before_towpath", json_boolean(prog->ahead));
	if (prog->prog_fd >= 0)
		json_object_set_new(json, "id", json_integer(userprog_id(prog->prog_fd)));
	if (prog->r.point->attach == BPF_XDP)
		json_object_set_new(json, "mode",
				    json_string(prog->link.front      ? "before the edge"
						: prog->link.slot     ? "behind the edge"
						: prog->link.skb_mode ? "generic"
								      : "native"));
	json_object_set_new(json, "pins", json_string(dir));
	return json;
}

json_t *programs_json(const struct programs *p)
{
	json_t *items = json_array();
	const struct program *prog;
	struct agent_error err;

	DL_FOREACH(p->list, prog)
		json_array_append_new(items, program_json(p, prog->r.name, &err));
	return json_pack("{s:o}", "items", items);
}

json_t *program_json(const struct programs *p, const char *name, struct agent_error *err)
{
	const struct program *prog = programs_find(p, name);
	json_t *json = prog ? one_json(p, prog) : NULL;
	char dir[PATH_MAX];

	if (json) {
		program_dir(p->root, &prog->r, dir);
		json_object_set_new(json, "maps", program_maps_json(dir));
	}
	if (!prog)
		refuse_unknown(name, err);
	else if (!json)
		agent_refuse(err, AGENT_INTERNAL, "out of memory");
	return json;
}
