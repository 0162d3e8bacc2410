/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Objects from outside: apply and delete, whole or not at all. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "log.h"
#include "tick.h"

/* Requests with more objects leave a heap behind that is worth giving back. */
#define RELEASE_OBJECTS 64

/* What a request comes to. Objects that are not given up to the store are freed. */
struct request {
	struct object_list objects; /* as read; an object that a later one replaces is NULL */
	struct object **put;
	size_t n_put;
	const struct object **del;
	size_t n_del, room_del;
	json_t *results;
};

static void request_clear(struct request *r)
{
	for (size_t i = 0; i < r->objects.n; i++)
		if (r->objects.v[i])
			object_free(r->objects.v[i]);
	free(r->objects.v);
	free(r->put);
	free(r->del);
	json_decref(r->results);
}
#define _cleanup_request_ __attribute__((cleanup(request_clear)))

static int request_memory(struct agent_error *err)
{
	return agent_refuse(err, AGENT_INTERNAL, "out of memory");
}

typedef int (*parse_fn)(const char *file, const char *text, size_t len, struct object_list *out,
			struct object_error *err);

static int request_read(struct request *r, const struct agent_file *file, parse_fn parse,
			struct agent_error *err)
{
	struct object_list list = {};
	struct agent_error e = { .code = AGENT_INVALID };
	int res = parse(file->name, file->text, file->len, &list, &e.at);

	if (res == -EINVAL) {
		*err = e;
		return res;
	}
	if (res)
		return request_memory(err);
	struct object **v = reallocarray(r->objects.v, r->objects.n + list.n + 1, sizeof(*v));
	if (!v) {
		object_list_clear(&list);
		return request_memory(err);
	}
	if (list.n)
		memcpy(v + r->objects.n, list.v, list.n * sizeof(*v));
	r->objects.v = v;
	r->objects.n += list.n;
	free(list.v);
	return 0;
}

static int object_order(const void *a, const void *b)
{
	const struct object *x = **(struct object * *const *)a, *y = **(struct object * *const *)b;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	int order = strcmp(x->ns, y->ns);
	return order ? order : strcmp(x->name, y->name);
}

static int place_order(const void *a, const void *b)
{
	struct object **x = *(struct object * *const *)a, **y = *(struct object * *const *)b;
	int order = object_order(a, b);

	return order ? order : x < y ? -1 : 1;
}

/* An object that is defined more than once counts as it is defined last. */
static int request_unique(struct request *r, struct agent_error *err)
{
	struct object ***places = calloc(r->objects.n + 1, sizeof(*places));

	if (!places)
		return request_memory(err);
	for (size_t i = 0; i < r->objects.n; i++)
		places[i] = &r->objects.v[i];
	qsort(places, r->objects.n, sizeof(*places), place_order);
	for (size_t i = 1; i < r->objects.n; i++) {
		if (!object_order(&places[i - 1], &places[i])) {
			object_free(*places[i - 1]);
			*places[i - 1] = NULL;
		}
	}
	free(places);
	return 0;
}

static int request_open(struct request *r, const struct agent_file *files, size_t n, parse_fn parse,
			struct agent_error *err)
{
	for (size_t i = 0; i < n; i++) {
		int res = request_read(r, &files[i], parse, err);

		if (res)
			return res;
	}
	int res = request_unique(r, err);
	if (res)
		return res;
	r->put = calloc(r->objects.n + 1, sizeof(struct object *));
	r->results = json_array();
	return r->put && r->results ? 0 : request_memory(err);
}

static int request_result(struct request *r, const struct object *obj, const char *action,
			  struct agent_error *err)
{
	json_t *result = json_pack("{s:s, s:s, s:s}", "kind", object_kind_name(obj->kind), "name",
				   obj->name, "action", action);

	if (result && *obj->ns)
		json_object_set_new(result, "namespace", json_string(obj->ns));
	return json_array_append_new(r->results, result) ? request_memory(err) : 0;
}

static void effects_free(json_t **effects)
{
	json_decref(*effects);
}

static int request_run(struct agent *a, struct request *r, const struct agent_dry_run *dry_run,
		       json_t **reply, struct agent_error *err)
{
	__attribute__((cleanup(effects_free))) json_t *effects = NULL;
	const struct agent_change change = {
		.put = r->put,
		.n_put = r->n_put,
		.del = r->del,
		.n_del = r->n_del,
		.dry_run = dry_run,
		.effects = &effects,
	};
	struct agent_cost cost;
	int res = agent_change(a, &change, &cost, err);

	if (res && !dry_run)
		a->metrics.refused++;
	else if (!dry_run)
		metrics_applied(&a->metrics,
				cost.compile_us + cost.wait_us + cost.store_us + cost.kernel_us);

	if (r->objects.n + r->n_del > RELEASE_OBJECTS)
		tick_release(a->tick);
	if (res)
		return res;
	if (!dry_run) {
		/* What was put is the store's now. */
		for (size_t i = 0, j = 0; i < r->objects.n && j < r->n_put; i++) {
			if (r->objects.v[i] == r->put[j]) {
				r->objects.v[i] = NULL;
				j++;
			}
		}
		log_info(
			"%zu objects written, %zu deleted: compiled in %.1f ms, stored in %.1f ms, "
			"in the kernel in %.1f ms",
			r->n_put, r->n_del, (double)cost.compile_us / 1e3,
			(double)cost.store_us / 1e3, (double)cost.kernel_us / 1e3);
	}
	*reply = json_pack(
		"{s:O, s:I, s:I, s:I, s:I, s:{s:i, s:i, s:i, s:i}}", "results", r->results,
		"compile_us", (json_int_t)cost.compile_us, "store_us", (json_int_t)cost.store_us,
		"wait_us", (json_int_t)cost.wait_us, "kernel_us", (json_int_t)cost.kernel_us,
		"kernel", "peers", (int)cost.kernel.peers, "versions", (int)cost.kernel.versions,
		"endpoints", (int)cost.kernel.endpoints, "prefixes", (int)cost.kernel.prefixes);
	if (*reply && effects)
		json_object_set(*reply, "effects", effects);
	return *reply ? 0 : request_memory(err);
}

/* created, configured or unchanged; NULL when the database cannot be read. */
static const char *apply_action(struct agent *a, const struct object *obj)
{
	char *json = NULL;

	if (!store_object(a->store, obj->kind, obj->ns, obj->name))
		return "created";
	if (store_object_json(a->store, obj->kind, obj->ns, obj->name, &json))
		return NULL;
	bool same = !strcmp(json, obj->json);
	free(json);
	return same ? "unchanged" : "configured";
}

int agent_apply(struct agent *a, const struct agent_file *files, size_t n,
		const struct agent_dry_run *dry_run, json_t **reply, struct agent_error *err)
{
	_cleanup_request_ struct request r = {};
	int res = request_open(&r, files, n, object_parse, err);

	for (size_t i = 0; !res && i < r.objects.n; i++) {
		struct object *obj = r.objects.v[i];

		if (!obj)
			continue;
		const char *action = apply_action(a, obj);
		if (!action)
			return agent_refuse_errno(err, -EIO, store_error(a->store));
		if (strcmp(action, "unchanged"))
			r.put[r.n_put++] = obj;
		res = request_result(&r, obj, action, err);
	}
	return res ? res : request_run(a, &r, dry_run, reply, err);
}

/* ---- delete --------------------------------------------------------------------------------- */

struct delete
{
	struct request *r;
	struct agent_error *err;
};

static int delete_add(void *arg, const struct object *obj)
{
	const struct delete *d = arg;
	struct request *r = d->r;

	if (r->n_del == r->room_del) {
		size_t room = r->room_del ? r->room_del * 2 : 16;
		const struct object **v = reallocarray(r->del, room, sizeof(*v));

		if (!v)
			return request_memory(d->err);
		r->del = v;
		r->room_del = room;
	}
	r->del[r->n_del++] = obj;
	return request_result(r, obj, "deleted", d->err);
}

static bool names_namespace(const struct request *r, const char *ns)
{
	for (size_t i = 0; i < r->objects.n; i++) {
		const struct object *obj = r->objects.v[i];

		if (obj && obj->kind == OBJECT_NAMESPACE && !strcmp(obj->name, ns))
			return true;
	}
	return false;
}

/* As in Kubernetes, what is in a namespace goes with it. */
static int delete_contents(const struct agent *a, struct delete *d, const char *ns)
{
	for (unsigned int kind = 0; kind < OBJECT_KIND_COUNT; kind++) {
		int res = store_object_each(a->store, (enum object_kind)kind, ns, delete_add, d);

		if (res)
			return res;
	}
	return 0;
}

static int delete(struct agent *a, struct request *r, const struct agent_dry_run *dry_run,
		  json_t **reply, struct agent_error *err)
{
	struct delete d = { .r = r, .err = err };
	const struct object *missing = NULL;
	int res = 0;

	for (size_t i = 0; !res && i < r->objects.n; i++) {
		const struct object *asked = r->objects.v[i];

		/* What lies in a namespace that is deleted, too, comes with its contents. */
		if (!asked || (*asked->ns && names_namespace(r, asked->ns)))
			continue;
		const struct object *obj =
			store_object(a->store, asked->kind, asked->ns, asked->name);
		if (!obj) {
			missing = missing ? missing : asked;
			res = request_result(r, asked, "not_found", err);
			continue;
		}
		res = delete_add(&d, obj);
		if (!res && obj->kind == OBJECT_NAMESPACE)
			res = delete_contents(a, &d, obj->name);
	}
	if (res)
		return res;
	if (!missing)
		return request_run(a, r, dry_run, reply, err);
	*reply = json_pack("{s:O}", "results", r->results);
	return agent_refuse(err, AGENT_NOT_FOUND, "there is no %s %s%s%s; nothing was deleted",
			    object_kind_name(missing->kind), missing->ns, *missing->ns ? "/" : "",
			    missing->name);
}

int agent_delete(struct agent *a, const struct agent_file *files, size_t n,
		 const struct agent_dry_run *dry_run, json_t **reply, struct agent_error *err)
{
	_cleanup_request_ struct request r = {};
	int res = request_open(&r, files, n, object_parse_names, err);

	return res ? res : delete (a, &r, dry_run, reply, err);
}

int agent_delete_one(struct agent *a, enum object_kind kind, const char *ns, const char *name,
		     json_t **reply, struct agent_error *err)
{
	_cleanup_request_ struct request r = { .results = json_array() };
	struct delete d = { .r = &r, .err = err };
	const struct object *obj = store_object(a->store, kind, ns, name);

	if (!r.results)
		return request_memory(err);
	if (!obj)
		return agent_refuse(err, AGENT_NOT_FOUND, "there is no %s %s%s%s",
				    object_kind_name(kind), ns, *ns ? "/" : "", name);
	int res = delete_add(&d, obj);
	if (!res && kind == OBJECT_NAMESPACE)
		res = delete_contents(a, &d, name);
	return res ? res : request_run(a, &r, NULL, reply, err);
}
