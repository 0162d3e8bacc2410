/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Devices of the edge. The first one loads the program and the lists; with the last one all of it goes
 * again. What an earlier agent attached keeps filtering until this one's table is whole.
 */
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "edge/internal.h"
#include "log.h"

#define AGAIN_MS 5000u

static const char *const mode_names[] = { "auto", "native", "generic" };

struct edge_device *edge_device_find(const struct edges *e, const char *name)
{
	struct edge_device *d;

	DL_FOREACH(e->devices, d) {
		if (!strcmp(d->name, name))
			return d;
	}
	return NULL;
}

static int mode_parse(const char *text, enum edge_mode *out)
{
	for (size_t i = 0; i < sizeof(mode_names) / sizeof(mode_names[0]); i++) {
		if (strcmp(mode_names[i], text))
			continue;
		*out = (enum edge_mode)i;
		return 0;
	}
	return -EINVAL;
}

static int device_parse(const json_t *body, struct edge_device *out)
{
	const char *name = json_string_value(json_object_get(body, "device"));
	const char *mode = json_string_value(json_object_get(body, "mode"));
	struct edge_device d = {};

	if (!name || !*name || strlen(name) >= IFNAMSIZ || strchr(name, '/') ||
	    mode_parse(mode ? mode : "auto", &d.mode))
		return -EINVAL;
	snprintf(d.name, sizeof(d.name), "%s", name);
	d.replace = json_is_true(json_object_get(body, "replace"));
	*out = d;
	return 0;
}

int edge_device_load(struct edges *e, const char *name, const char *text)
{
	struct edge_device *d = calloc(1, sizeof(*d));
	json_t *json = json_loads(text, 0, NULL);
	int res = d && json ? device_parse(json, d) : -EINVAL;

	json_decref(json);
	if (res) {
		free(d);
		return res;
	}
	DL_APPEND(e->devices, d);
	return 0;
}

static int device_store(struct edges *e, const struct edge_device *d, bool there)
{
	json_t *json = json_pack("{s:s, s:s, s:b}", "device", d->name, "mode", mode_names[d->mode],
				 "replace", d->replace);
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	char key[32];
	const struct store_edge_item item = { key, there ? text : NULL };
	int res;

	snprintf(key, sizeof(key), "device/%s", d->name);
	res = text ? store_edge_write(e->a->store, &item, 1) : -ENOMEM;
	free(text);
	json_decref(json);
	return res;
}

/* ---- the worker ----------------------------------------------------------------------------------- */

static int table_fill(struct edge_task *t)
{
	struct edge_prefixes lists = {}, singles = {};
	struct edges *e = t->e;
	int res = edges_lists_read(e, &lists, t->broken, sizeof(t->broken));

	if (!res)
		res = edges_singles(e, &singles);
	if (res) {
		edge_prefixes_free(&lists);
		return res;
	}
	edge_compile_begin(&e->compile);
	res = edge_table_load(t->table, &lists, &singles, &t->want, t->err, sizeof(t->err));
	return res ? res : e->compile.failed;
}

/* The program and all that it reads; nothing is attached to it yet, and the loop knows nothing of it. */
static int edge_make(struct edge_task *t)
{
	struct edges *e = t->e;
	const struct edge_options opts = { t->want, e->pin_dir };
	struct tw_edge_ports *ports = malloc(sizeof(*ports));
	int res = ports ? 0 : -ENOMEM;

	if (!res)
		res = edge_open(&t->edge, &opts, t->err, sizeof(t->err));
	if (!res) {
		e->compile.edge = t->edge;
		res = edge_table_open(&t->table, t->edge, edge_compile_class, &e->compile);
	}
	if (!res)
		res = table_fill(t);
	if (!res) {
		edge_compile_ports(&e->compile, ports);
		res = edge_ports_store(t->edge, ports);
	}
	free(ports);
	if (res) {
		e->compile.edge = NULL;
		if (!*t->err)
			edge_task_refuse(t, AGENT_INTERNAL, res, "the edge could not be loaded: %s",
					 strerror(-res));
	}
	return res;
}

static int device_attach(struct edge_task *t)
{
	struct edge *edge = t->edge ? t->edge : t->e->edge;
	uint32_t ifindex = if_nametoindex(t->device.name);
	char why[256] = "";
	int res;

	if (!ifindex)
		return edge_task_refuse(t, AGENT_NOT_FOUND, -ENODEV, "there is no interface %s",
					t->device.name);
	res = edge_attach(edge, ifindex, t->device.mode, t->device.replace, &t->device.at, why,
			  sizeof(why));
	if (res)
		return edge_task_refuse(t, res == -EBUSY ? AGENT_EXISTS : AGENT_INTERNAL, res,
					"cannot attach to %s: %s", t->device.name,
					*why ? why : strerror(-res));
	snprintf(t->device.why, sizeof(t->device.why), "%s", why);
	return 0;
}

static void attach_work(struct edge_task *t)
{
	t->res = t->e->edge ? 0 : edge_make(t);
	/* Whom the kept lists keep out is known now. */
	if (!t->res && t->who)
		t->res = edges_guard(t);
	if (!t->res && t->edge)
		t->res = edges_limits_attach(t);
	/* Links of an earlier agent: from here on with the whole table of this one. */
	if (!t->res && t->edge)
		t->res = edge_switch(t->edge, t->err, sizeof(t->err));
	if (!t->res && *t->device.name)
		t->res = device_attach(t);
	if (t->res || !*t->device.name)
		return;
	/* With this device among those that cookies are taken at. */
	t->res = edges_limits_attach(t);
	if (t->res)
		edge_detach(t->edge ? t->edge : t->e->edge, t->device.at.ifindex);
}

/* ---- the loop ---------------------------------------------------------------------------------------- */

static void edge_adopt(struct edge_task *t)
{
	struct edges *e = t->e;

	edges_limits_attached(t);
	if (!t->edge)
		return;
	e->edge = t->edge;
	e->table = t->table;
	t->edge = NULL;
	t->table = NULL;
	memcpy(e->failed, t->broken, sizeof(e->failed));
	if (*e->failed)
		log_error("edge: %s", e->failed);
	edges_loaded(e);
}

static json_t *device_json(const struct edge_device *d)
{
	return json_pack("{s:s, s:i, s:s, s:s, s:s, s:i}", "device", d->name, "ifindex",
			 (int)d->at.ifindex, "mode", mode_names[d->at.mode], "state",
			 d->at.ifindex ? "attached"
			 : d->gone     ? "gone"
				       : "waiting",
			 "why", d->why, "prog_id", (int)d->at.prog_id);
}

static void attach_end(struct edge_task *t)
{
	struct edges *e = t->e;
	struct edge_device *d = edge_device_find(e, t->device.name);

	edge_adopt(t);
	if (!d) {
		d = calloc(1, sizeof(*d));
		if (!d) {
			t->res = edge_task_refuse(t, AGENT_INTERNAL, -ENOMEM, "out of memory");
			return;
		}
		*d = t->device;
		DL_APPEND(e->devices, d);
	} else {
		struct edge_device *prev = d->prev, *next = d->next;

		*d = t->device;
		d->prev = prev;
		d->next = next;
	}
	if (device_store(e, d, true)) {
		t->res = edge_task_refuse(t, AGENT_INTERNAL, -EIO, "%s", store_error(e->a->store));
		edge_detach(e->edge, d->at.ifindex);
		DL_DELETE(e->devices, d);
		free(d);
		return;
	}
	if (*d->why)
		log_warn("edge: %s is filtered in generic mode: %s", d->name, d->why);
	t->reply = device_json(d);
}

/* With no device left nothing is loaded. */
static void attach_over(struct edge_task *t)
{
	struct edges *e = t->e;

	if (!t->res)
		return;
	if (t->edge) {
		edge_table_close(t->table);
		edge_close(t->edge);
		t->table = NULL;
		t->edge = NULL;
		if (!e->devices)
			edge_uninstall(e->pin_dir);
	}
	if (e->edge && !e->devices)
		edges_close(e);
}

static int want_begin(struct edge_task *t)
{
	edges_settings(t->e, &t->want);
	return 0;
}

static int attach_begin(struct edge_task *t)
{
	want_begin(t);
	if (if_nametoindex(t->device.name) == 0)
		return edge_task_refuse(t, AGENT_NOT_FOUND, -ENODEV, "there is no interface %s",
					t->device.name);
	t->who = calloc(GUARDED_MAX, sizeof(*t->who));
	if (!t->who)
		return edge_task_refuse(t, AGENT_INTERNAL, -ENOMEM, "out of memory");
	t->n_who = guarded_find(t->e, t->client, t->who);
	return 0;
}

static struct edge_task *attach_task(struct edges *e, edges_fn done, void *arg)
{
	struct edge_task *t = edge_task_new(e, done, arg);

	if (t) {
		t->begin = attach_begin;
		t->work = attach_work;
		t->end = attach_end;
		t->over = attach_over;
	}
	return t;
}

int edges_attach(struct edges *e, const json_t *body, edges_fn done, void *arg,
		 struct agent_error *err)
{
	const char *client = json_string_value(json_object_get(body, "client"));
	struct edge_task *t = attach_task(e, done, arg);

	if (!t)
		return agent_refuse(err, AGENT_INTERNAL, "out of memory");
	if (device_parse(body, &t->device)) {
		edge_task_free(t);
		return agent_refuse(err, AGENT_INVALID,
				    "the request needs device (a name of an interface) and mode "
				    "(auto, native, generic)");
	}
	t->force = json_is_true(json_object_get(body, "force"));
	t->client = client ? strdup(client) : NULL;
	return edge_task_add(t, err);
}

static int detach_begin(struct edge_task *t)
{
	struct edges *e = t->e;
	struct edge_device *d = edge_device_find(e, t->device.name);
	int res;

	if (!d)
		return edge_task_refuse(t, AGENT_NOT_FOUND, -ENOENT,
					"the edge is not attached to %s", t->device.name);
	res = device_store(e, d, false);
	if (res)
		return edge_task_refuse(t, AGENT_INTERNAL, res, "%s", store_error(e->a->store));
	if (e->edge && d->at.ifindex)
		edge_detach(e->edge, d->at.ifindex);
	DL_DELETE(e->devices, d);
	free(d);
	if (!e->devices)
		edges_close(e);
	t->reply = json_pack("{s:s}", "device", t->device.name);
	return 1;
}

int edges_detach(struct edges *e, const char *device, edges_fn done, void *arg,
		 struct agent_error *err)
{
	struct edge_task *t = edge_task_new(e, done, arg);

	if (!t)
		return agent_refuse(err, AGENT_INTERNAL, "out of memory");
	snprintf(t->device.name, sizeof(t->device.name), "%.15s", device);
	t->begin = detach_begin;
	return edge_task_add(t, err);
}

/* ---- devices that come and go ------------------------------------------------------------------------ */

static void start_end(struct edge_task *t)
{
	edge_adopt(t);
	t->e->look = true;
}

static void start_over(struct edge_task *t)
{
	/* The programs of before stay attached, with the lists of before. */
	if (t->res) {
		snprintf(t->e->failed, sizeof(t->e->failed), "%.255s",
			 *t->err ? t->err : strerror(-t->res));
		log_error("edge: %s", t->e->failed);
	}
	t->res = 0;
}

void edges_devices_start(struct edges *e)
{
	struct agent_error err;
	struct edge_task *t;

	if (!e->devices)
		return;
	t = edge_task_new(e, NULL, NULL);
	if (!t)
		return;
	t->begin = want_begin;
	t->work = attach_work;
	t->end = start_end;
	t->over = start_over;
	edge_task_add(t, &err);
}

static void again_end(struct edge_task *t)
{
	struct edge_device *d = edge_device_find(t->e, t->device.name);

	edge_adopt(t);
	if (!d)
		return;
	d->at = t->device.at;
	snprintf(d->why, sizeof(d->why), "%s", t->device.why);
	log_info("edge: attached to %s again", d->name);
}

static void again_over(struct edge_task *t)
{
	struct edge_device *d = edge_device_find(t->e, t->device.name);

	if (t->res && d) {
		if (strcmp(d->why, t->err))
			log_warn("edge: %s", t->err);
		snprintf(d->why, sizeof(d->why), "%.255s", t->err);
		d->again = uv_now(&t->e->a->loop) + AGAIN_MS;
	}
	t->res = 0;
}

static void device_again(struct edges *e, const struct edge_device *d)
{
	struct edge_task *t = edge_task_new(e, NULL, NULL);
	struct agent_error err;

	if (!t)
		return;
	t->device = *d;
	/* Whoever came meanwhile is not taken off without being told to. */
	t->device.replace = false;
	t->begin = want_begin;
	t->work = attach_work;
	t->end = again_end;
	t->over = again_over;
	edge_task_add(t, &err);
}

static void device_look(struct edges *e, struct edge_device *d)
{
	uint32_t ifindex = if_nametoindex(d->name);

	d->gone = !ifindex;
	if (ifindex && e->edge && !edge_attachment_get(e->edge, ifindex, &d->at))
		return;
	if (d->at.ifindex)
		log_warn("edge: %s %s", d->name,
			 ifindex ? "has lost the program"
				 : "is gone; it is attached again when it "
				   "comes back");
	d->at = (struct edge_attachment){};
	if (!ifindex) {
		snprintf(d->why, sizeof(d->why), "there is no interface of this name");
		d->again = 0;
	} else if (uv_now(&e->a->loop) >= d->again) {
		device_again(e, d);
	}
}

void edges_devices_look(struct edges *e)
{
	struct edge_device *d;

	DL_FOREACH(e->devices, d) {
		if (e->queue)
			return;
		device_look(e, d);
	}
}
