/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Objects and health, and who takes new connections. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "edge/balance_internal.h"
#include "edge/edges.h"
#include "log.h"

#define WALK_SECONDS 5u
#define HOP_SECONDS 1u

/* ---- names --------------------------------------------------------------------------------- */

/* FNV-1a; two names of the same key are refused by balancer_check(). */
static uint64_t name_key(const char *ns, const char *name)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (const char *c = ns; *c; c++)
		h = (h ^ (uint8_t)*c) * 0x100000001b3ull;
	h = (h ^ '/') * 0x100000001b3ull;
	for (const char *c = name; *c; c++)
		h = (h ^ (uint8_t)*c) * 0x100000001b3ull;
	return h ?: 1;
}

static struct service *service_find(const struct balancer *b, const char *ns, const char *name)
{
	struct service *s;

	DL_FOREACH(b->services, s) {
		if (!strcmp(s->ns, ns) && !strcmp(s->name, name))
			return s;
	}
	return NULL;
}

/* ---- health --------------------------------------------------------------------------------- */

static void health_changed(struct backend *be, bool up)
{
	char addr[64] = "";

	addr_format(&be->spec.addr, addr, sizeof(addr));
	be->up = up;
	be->in_row = 0;
	be->since = uv_now(&be->service->b->a->loop);
	log_info("edge service %s/%s: backend %s is %s%s%s", be->service->ns, be->service->name,
		 addr, up ? "up" : "down", up ? "" : ": ", up ? "" : be->failed);
	balance_service_sync(be->service);
}

static void health_result(void *arg, const char *failed)
{
	struct backend *be = arg;
	const struct edge_service *spec = &be->service->spec;
	bool first = !be->checked;

	be->checked = true;
	snprintf(be->failed, sizeof(be->failed), "%s", failed ?: "");
	if (be->up == !failed) {
		be->in_row = 0;
		return;
	}
	be->in_row++;
	/* At first it is as good as its first answer. */
	if (be->in_row >= (first ? 1 : be->up ? spec->check.fall : spec->check.rise))
		health_changed(be, !failed);
}

static uint16_t check_port(const struct backend *be)
{
	const struct service *s = be->service;

	if (s->spec.check.port)
		return s->spec.check.port;
	if (be->spec.port)
		return be->spec.port;
	for (size_t i = 0; i < s->n_fronts; i++)
		if (s->fronts[i].port)
			return s->fronts[i].port;
	return 0;
}

static void check_start(struct backend *be)
{
	const struct service *s = be->service;
	const struct check_spec spec = {
		.addr = be->spec.addr,
		.port = check_port(be),
		.http = s->spec.check.type == CHECK_HTTP,
		.path = s->path,
		.host = s->host,
		.interval_ms = s->spec.check.interval_ms,
		.timeout_ms = s->spec.check.timeout_ms,
	};

	check_close(be->check);
	be->check = NULL;
	if (s->spec.check.type == CHECK_NONE || !be->listed || !spec.port) {
		be->up = true;
		be->failed[0] = '\0';
		return;
	}
	if (check_new(&be->check, s->b->checks, &spec, health_result, be))
		log_warn("edge: out of memory: a backend is not checked");
}

/* ---- services from objects -------------------------------------------------------------------- */

void backend_free(struct backend *be)
{
	DL_DELETE(be->service->backends, be);
	check_close(be->check);
	free(be);
}

void service_free(struct service *s)
{
	struct backend *be, *next;

	DL_FOREACH_SAFE(s->backends, be, next) {
		backend_free(be);
	}
	DL_DELETE(s->b->services, s);
	free(s->fronts);
	free(s->path);
	free(s->host);
	free(s->ns);
	free(s->name);
	free(s);
}

static struct service *service_new(struct balancer *b, const char *ns, const char *name)
{
	struct service *s = calloc(1, sizeof(*s));

	if (s) {
		s->ns = strdup(ns);
		s->name = strdup(name);
	}
	if (!s || !s->ns || !s->name) {
		if (s) {
			free(s->ns);
			free(s->name);
		}
		free(s);
		return NULL;
	}
	s->b = b;
	s->key = name_key(ns, name);
	DL_APPEND(b->services, s);
	return s;
}

/* A backend is its address, port and way: with another of these it is another one. */
static struct backend *backend_find(const struct service *s, const struct service_backend *spec,
				    uint8_t way)
{
	struct backend *be;

	DL_FOREACH(s->backends, be) {
		if (!memcmp(&be->spec.addr, &spec->addr, sizeof(spec->addr)) &&
		    be->spec.port == spec->port && be->way == way)
			return be;
	}
	return NULL;
}

static bool same_check(const struct service *s, const struct edge_service *spec)
{
	return s->spec.check.type == spec->check.type && s->spec.check.port == spec->check.port &&
	       s->spec.check.interval_ms == spec->check.interval_ms &&
	       s->spec.check.timeout_ms == spec->check.timeout_ms &&
	       !strcmp(s->path ?: "", spec->check.path ?: "") &&
	       !strcmp(s->host ?: "", spec->check.host ?: "");
}

static int spec_copy(struct service *s, const struct edge_service *spec)
{
	struct service_front *fronts = calloc(spec->n_fronts, sizeof(*fronts));
	char *path = spec->check.path ? strdup(spec->check.path) : NULL;
	char *host = spec->check.host ? strdup(spec->check.host) : NULL;

	if (!fronts || (spec->check.path && !path) || (spec->check.host && !host)) {
		free(fronts);
		free(path);
		free(host);
		return -ENOMEM;
	}
	memcpy(fronts, spec->fronts, spec->n_fronts * sizeof(*fronts));
	free(s->fronts);
	free(s->path);
	free(s->host);
	s->fronts = fronts;
	s->n_fronts = spec->n_fronts;
	s->path = path;
	s->host = host;
	s->spec = *spec;
	s->spec.fronts = NULL;
	s->spec.backends = NULL;
	s->spec.check.path = s->spec.check.host = NULL;
	return 0;
}

static void backend_unlist(struct backend *be)
{
	if (!be->listed)
		return;
	be->listed = false;
	be->deadline = uv_now(&be->service->b->a->loop) + be->service->spec.drain * 1000ull;
	check_close(be->check);
	be->check = NULL;
}

/* Those that a service begins with are taken for up; who comes later has to show it first. */
static int backend_list(struct service *s, const struct service_backend *spec, bool begins,
			bool checks_new)
{
	struct backend *be = backend_find(s, spec, s->spec.way);
	bool fresh = !be || !be->listed;

	if (!be) {
		be = calloc(1, sizeof(*be));
		if (!be)
			return -ENOMEM;
		be->service = s;
		be->way = s->spec.way;
		be->since = uv_now(&s->b->a->loop);
		be->up = begins;
		DL_APPEND(s->backends, be);
	}
	be->spec = *spec;
	be->listed = true;
	if (fresh || checks_new)
		check_start(be);
	return 0;
}

static int service_take(struct balancer *b, const struct object *obj)
{
	struct service *s = service_find(b, obj->ns, obj->name);
	bool begins = !s || !s->backends;
	bool checks_new = begins || !same_check(s, &obj->service);
	struct backend *be;
	int res;

	if (!s)
		s = service_new(b, obj->ns, obj->name);
	res = s ? spec_copy(s, &obj->service) : -ENOMEM;
	if (res)
		return res;
	s->listed = true;
	DL_FOREACH(s->backends, be) {
		const struct service_backend *found = NULL;

		for (size_t i = 0; i < obj->service.n_backends && !found; i++)
			if (backend_find(s, &obj->service.backends[i], s->spec.way) == be)
				found = &obj->service.backends[i];
		if (!found)
			backend_unlist(be);
	}
	for (size_t i = 0; !res && i < obj->service.n_backends; i++)
		res = backend_list(s, &obj->service.backends[i], begins, checks_new);
	return res;
}

static int decap_take(void *arg, const struct object *obj)
{
	struct balancer *b = arg;

	for (size_t i = 0; i < obj->decap.n_from; i++) {
		const struct prefix *p = &obj->decap.from[i];

		if (b->n_from == TW_EDGE_DECAP_SOURCES)
			return -ENOSPC; /* balancer_check() has refused it */
		b->from[b->n_from] = (struct edge_prefix_mask){ .addr = p->addr };
		edge_mask_make(p->len, &b->from[b->n_from++].mask);
	}
	return 0;
}

static int object_take(void *arg, const struct object *obj)
{
	return service_take(arg, obj);
}

void balancer_changed(struct balancer *b)
{
	struct service *s;
	int res;

	if (!b)
		return;
	DL_FOREACH(b->services, s) {
		s->listed = false;
	}
	res = store_object_each(b->a->store, OBJECT_EDGESERVICE, NULL, object_take, b);
	b->n_from = 0;
	if (!res)
		res = store_object_each(b->a->store, OBJECT_EDGEDECAP, NULL, decap_take, b);
	if (res)
		log_error("edge: not every service is balanced: %s", strerror(-res));
	balance_sync(b);
	edges_look(b->a->edges);
}

/* ---- life ------------------------------------------------------------------------------------- */

void balancer_settings(const struct balancer *b, struct tw_edge_settings *out)
{
	const struct service *s;

	if (!b)
		return;
	DL_FOREACH(b->services, s) {
		if (!s->listed)
			continue;
		out->parse = out->balance = 1;
		if (s->spec.way == TW_EDGE_WAY_NAT)
			out->nat = 1;
	}
	if (b->n_from)
		out->parse = out->decap = 1;
}

void balancer_tick(struct balancer *b)
{
	if (!b || !b->eb)
		return;
	b->seconds++;
	if (b->seconds % HOP_SECONDS == 0)
		balance_hops(b);
	if (b->seconds % WALK_SECONDS == 0)
		balance_walk_start(b);
}

int balancer_new(struct balancer **out, struct agent *a, char *err, size_t err_len)
{
	struct balancer *b = calloc(1, sizeof(*b));
	int res = b ? nl_open(&b->nl) : -ENOMEM;

	if (!res)
		res = checks_new(&b->checks, &a->loop);
	if (res) {
		snprintf(err, err_len, "cannot start the balancer: %s", strerror(-res));
		if (b)
			nl_close(&b->nl);
		free(b);
		return res;
	}
	b->a = a;
	balancer_changed(b);
	*out = b;
	return 0;
}

void balancer_free(struct balancer *b)
{
	struct service *s, *next;

	if (!b)
		return;
	b->closing = true;
	DL_FOREACH_SAFE(b->services, s, next) {
		service_free(s);
	}
	checks_free(b->checks);
	b->checks = NULL;
	balancer_edge(b, NULL);
	nl_close(&b->nl);
	if (!b->walk)
		free(b);
}
