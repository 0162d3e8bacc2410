/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "flow_lab.h"

static const char objects[] =
	"{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: web, labels: {app: web, "
	"tier: front}}, spec: {containers: [{name: m, image: i}]}}\n---\n"
	"{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: db, labels: {app: db}}, "
	"spec: {containers: [{name: m, image: i}]}}\n---\n"
	"{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: shop, "
	"name: only-web}, spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: "
	"[{podSelector: {matchLabels: {app: cache}}}]}, {from: [{podSelector: {matchLabels: "
	"{app: web}}}], ports: [{port: 5432}]}]}}\n---\n"
	"{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: shop, "
	"name: web-out}, spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], "
	"egress: [{ports: [{port: 5432}, {port: 9999}, {port: 443}, {port: 53, protocol: "
	"UDP}]}]}}\n";

static const struct {
	const char *ns, *pod, *addr4, *addr6;
} endpoints[] = {
	[WEB] = { "shop", "web", "10.88.0.1", "fd00::1" },
	[DB] = { "shop", "db", "10.88.0.2", "fd00::2" },
	[SPY] = { "bank", "spy", "10.88.0.3", "fd00::3" },
};

static bool endpoint_name(void *arg, uint32_t slot, const char **ns, const char **pod)
{
	const struct fixture *f = arg;

	if (slot < WEB || slot > SPY)
		return false;
	*ns = endpoints[slot].ns;
	*pod = f->strange_names ? "a\"b\\c\nd\xc3\xa9" : endpoints[slot].pod;
	return true;
}

static uint32_t endpoint_slot(void *arg, uint32_t ifindex, const union tw_addr *addr)
{
	union tw_addr a4, a6;

	for (uint32_t slot = WEB; slot <= SPY; slot++) {
		assert_int_equal(addr_parse(endpoints[slot].addr4, &a4), 0);
		assert_int_equal(addr_parse(endpoints[slot].addr6, &a6), 0);
		if (ifindex ? ifindex == PORT_OF(slot)
			    : !memcmp(addr, &a4, sizeof(a4)) || !memcmp(addr, &a6, sizeof(a6)))
			return slot;
	}
	return 0;
}

static const struct labels *pod_labels(void *arg, const char *ns, const char *pod)
{
	const struct fixture *f = arg;

	for (size_t i = 0; i < f->objects.n; i++) {
		const struct object *o = f->objects.v[i];

		if (o->kind == OBJECT_POD && !strcmp(o->ns, ns) && !strcmp(o->name, pod))
			return &o->labels;
	}
	return NULL;
}

void change(struct fixture *f, const struct policy_change *c)
{
	struct policy_plan plan = { 0 };

	assert_int_equal(policy_prepare(f->policy, c, &plan), 0);
	policy_commit(f->policy);
	for (size_t i = 0; i < plan.n_endpoints; i++)
		f->identity[plan.endpoints[i].slot] = plan.endpoints[i].identity;
	policy_plan_clear(&plan);
}

int flow_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct object_error err;
	struct policy_endpoint eps[3] = { 0 };

	assert_int_equal(object_parse("t", objects, strlen(objects), &f->objects, &err), 0);
	for (uint32_t slot = WEB; slot <= SPY; slot++) {
		struct policy_endpoint *ep = &eps[slot - 1];

		ep->slot = slot;
		ep->ns = endpoints[slot].ns;
		ep->pod = endpoints[slot].pod;
		assert_int_equal(addr_parse(endpoints[slot].addr4, &ep->addr4), 0);
		assert_int_equal(addr_parse(endpoints[slot].addr6, &ep->addr6), 0);
	}
	f->policy = policy_new();
	assert_non_null(f->policy);
	change(f, &(struct policy_change){
			  .upsert = (const struct object *const *)f->objects.v,
			  .n_upsert = f->objects.n,
			  .ep_upsert = eps,
			  .n_ep_upsert = 3,
		  });

	const struct flow_source source = {
		.policy = f->policy,
		.endpoint = endpoint_name,
		.labels = pod_labels,
		.slot = endpoint_slot,
		.arg = f,
	};

	assert_int_equal(flow_log_new(&f->log, RING, &source), 0);
	*state = f;
	return 0;
}

int flow_teardown(void **state)
{
	struct fixture *f = *state;

	flow_log_free(f->log);
	policy_free(f->policy);
	object_list_clear(&f->objects);
	free(f);
	return 0;
}

uint64_t now_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

struct tw_event event(const struct fixture *f, uint16_t from, uint16_t to, uint16_t dport,
		      enum tw_event_type type, enum tw_reason reason)
{
	struct tw_event ev = {
		.time = now_ns(CLOCK_MONOTONIC),
		.type = (uint8_t)type,
		.reason = (uint8_t)reason,
		.verdict = reason == TW_REASON_OK ? TW_VERDICT_ALLOW : TW_VERDICT_DENY,
		.tcp = 0x02,
		.tuple = { .sport = htons(40000),
			   .dport = htons(dport),
			   .proto = IPPROTO_TCP,
			   .family = 4 },
		.slot_from = from,
		.slot_to = to,
		.identity_from = f->identity[from],
		.identity_to = f->identity[to],
		.length = 60,
	};

	assert_int_equal(addr_parse(endpoints[from].addr4, &ev.tuple.saddr), 0);
	assert_int_equal(addr_parse(endpoints[to].addr4, &ev.tuple.daddr), 0);
	return ev;
}

void take(struct fixture *f, struct tw_event ev)
{
	assert_int_equal(flow_log_event(f->log, &ev), 0);
}

json_t *read_lines(struct fixture *f, struct flow_filter *filter, uint32_t last, size_t step)
{
	struct flow_reader *r;
	char *text = calloc(1, 1 << 20);
	size_t n = 0;
	int got;
	json_t *lines = json_array();

	assert_int_equal(
		flow_reader_new(&r, f->log, NULL, filter, &(struct flow_reading){ .last = last }),
		0);
	while ((got = flow_reader_fill(r, text + n, step)) > 0)
		n += (size_t)got;
	assert_int_equal(got, -ENODATA);
	flow_reader_free(r);
	for (char *line = text, *nl; (nl = strchr(line, '\n')); line = nl + 1) {
		json_error_t err;
		json_t *j = json_loadb(line, (size_t)(nl - line), 0, &err);

		assert_non_null(j);
		json_array_append_new(lines, j);
	}
	free(text);
	return lines;
}

json_t *read_last(struct fixture *f)
{
	json_t *lines = read_lines(f, NULL, 1, 4096);
	json_t *line = json_incref(json_array_get(lines, 0));

	json_decref(lines);
	assert_non_null(line);
	return line;
}

const char *at(const json_t *j, const char *path)
{
	char key[64];

	while (*path) {
		size_t n = strcspn(path, ".");

		snprintf(key, sizeof(key), "%.*s", (int)n, path);
		j = json_object_get(j, key);
		path += n + (path[n] == '.');
	}
	return json_is_true(j)	   ? "true"
	       : json_is_false(j)  ? "false"
	       : json_is_string(j) ? json_string_value(j)
				   : "";
}

json_int_t num(const json_t *j, const char *key)
{
	return json_integer_value(json_object_get(j, key));
}
