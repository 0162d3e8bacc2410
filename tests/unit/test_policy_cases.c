/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Truth tables in the format of the conformance collection (tests/conformance), judged by the
 * compiled tables: every pod is an endpoint, each step a change. The file is the argument, or
 * what TW_CONFORMANCE names, or tests/conformance/cases/netpol_cases_dev.json.
 */
#include <arpa/inet.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>

#include "unit.h"

#include "policy_lab.h"

#define MAX_OBJECTS 256

static const char *file_name;
static json_t *file;

/* ---- IPv6 forms ----------------------------------------------------------------------------- */

/*
 * 10.244.S.H becomes fd00:a:f4:S::H: each byte has a group of its own, so a prefix holds after
 * the rewriting what it held before.
 */
static void v6_address(const char *text, char *out, size_t len)
{
	struct in_addr a;

	if (inet_pton(AF_INET, text, &a) == 1) {
		const uint8_t *b = (const uint8_t *)&a;

		snprintf(out, len, "fd00:%x:%x:%x::%x", b[0], b[1], b[2], b[3]);
	} else {
		snprintf(out, len, "%s", text);
	}
}

static void v6_prefix(const char *text, char *out, size_t len)
{
	static const unsigned int first[] = { 24, 40, 56, 120 };
	char addr[64], v6[64];
	unsigned int n;

	if (strchr(text, ':') || sscanf(text, "%63[^/]/%u", addr, &n) != 2) {
		snprintf(out, len, "%s", text);
		return;
	}
	v6_address(addr, v6, sizeof(v6));
	n = n == 32 ? 128 : first[n / 8] + n % 8;
	snprintf(out, len, "%s/%u", v6, n);
}

/* Every CIDR below a value. */
static void v6_blocks(json_t *value, bool in_block)
{
	const char *key;
	json_t *child;
	size_t i;
	char text[80];

	if (json_is_object(value)) {
		json_object_foreach(value, key, child)
			v6_blocks(child, in_block || !strcmp(key, "ipBlock"));
	} else if (json_is_array(value)) {
		json_array_foreach(value, i, child)
			v6_blocks(child, in_block);
	} else if (json_is_string(value) && in_block) {
		v6_prefix(json_string_value(value), text, sizeof(text));
		json_string_set(value, text);
	}
}

/* ---- a cluster ------------------------------------------------------------------------------ */

struct member { /* an object in force */
	char *text;
	struct object *obj;
	bool wanted;
};

struct cluster {
	struct policy *policy;
	struct lab lab;
	struct member members[MAX_OBJECTS];
	bool v6;
	/* the change being made */
	const struct object *upsert[MAX_OBJECTS], *remove[MAX_OBJECTS];
	struct object *gone[MAX_OBJECTS];
	struct policy_endpoint eps[LAB_EPS];
	uint32_t ep_remove[LAB_EPS];
	size_t n_gone;
	struct policy_change change;
	/* endpoints by slot: the pod's "ns/name" and address */
	char pods[LAB_EPS][128];
	union tw_addr addrs[LAB_EPS];
	bool pod_wanted[LAB_EPS];
};

static struct object *parse_one(const char *text)
{
	struct object_list list;
	struct object_error err;
	struct object *obj;

	if (object_parse(file_name, text, strlen(text), &list, &err))
		fail_msg("%s: %s\n%s", err.field, err.text, text);
	obj = list.v[0];
	free(list.v);
	return obj;
}

static bool same_name(const struct object *a, const struct object *b)
{
	return a->kind == b->kind && !strcmp(a->ns, b->ns) && !strcmp(a->name, b->name);
}

/* Wants an object; takes the reference. */
static void cluster_want(struct cluster *c, json_t *json)
{
	char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
	struct object *obj = parse_one(text);
	struct member *m = NULL;

	for (size_t i = 0; i < MAX_OBJECTS && !m; i++)
		if (c->members[i].obj && same_name(c->members[i].obj, obj))
			m = &c->members[i];
	for (size_t i = 0; i < MAX_OBJECTS && !m; i++)
		if (!c->members[i].obj)
			m = &c->members[i];
	assert_non_null(m);
	json_decref(json);
	m->wanted = true;
	if (m->text && !strcmp(m->text, text)) {
		object_free(obj);
		free(text);
		return;
	}
	if (m->obj)
		c->gone[c->n_gone++] = m->obj;
	free(m->text);
	m->obj = obj;
	m->text = text;
	c->upsert[c->change.n_upsert++] = obj;
}

static void cluster_want_pod(struct cluster *c, const json_t *pod, json_t *ports)
{
	const char *ns, *name, *ip;
	char addr[64], full[128];
	json_t *labels;
	uint32_t slot = 0;

	assert_int_equal(json_unpack((json_t *)(uintptr_t)pod, "{s:s, s:s, s:s, s:o}", "namespace",
				     &ns, "name", &name, "ip", &ip, "labels", &labels),
			 0);
	snprintf(addr, sizeof(addr), "%s", ip);
	if (c->v6)
		v6_address(ip, addr, sizeof(addr));
	cluster_want(c, json_pack("{s:s, s:s, s:{s:s, s:s, s:O}, s:{s:[{s:O}]}, s:{s:s}}",
				  "apiVersion", "v1", "kind", "Pod", "metadata", "name", name,
				  "namespace", ns, "labels", labels, "spec", "containers", "ports",
				  ports, "status", "podIP", addr));
	snprintf(full, sizeof(full), "%s/%s", ns, name);
	for (uint32_t i = 1; i < LAB_EPS && !slot; i++)
		if (!strcmp(c->pods[i], full))
			slot = i;
	if (slot) {
		c->pod_wanted[slot] = true;
		return;
	}
	for (uint32_t i = 1; i < LAB_EPS && !slot; i++)
		if (!*c->pods[i])
			slot = i;
	assert_true(slot);
	strcpy(c->pods[slot], full);
	c->pod_wanted[slot] = true;
	assert_int_equal(addr_parse(addr, &c->addrs[slot]), 0);
	c->eps[c->change.n_ep_upsert] = (struct policy_endpoint){ .slot = slot };
	c->eps[c->change.n_ep_upsert].ns = c->upsert[c->change.n_upsert - 1]->ns;
	c->eps[c->change.n_ep_upsert].pod = c->upsert[c->change.n_upsert - 1]->name;
	if (addr_is4(&c->addrs[slot]))
		c->eps[c->change.n_ep_upsert].addr4 = c->addrs[slot];
	else
		c->eps[c->change.n_ep_upsert].addr6 = c->addrs[slot];
	c->change.n_ep_upsert++;
}

static void cluster_want_all(struct cluster *c, const json_t *namespaces, const json_t *pods,
			     const json_t *policies, json_t *ports)
{
	const char *name;
	json_t *value;
	size_t i;

	json_object_foreach((json_t *)(uintptr_t)namespaces, name, value)
		cluster_want(c, json_pack("{s:s, s:s, s:{s:s, s:O}}", "apiVersion", "v1", "kind",
					  "Namespace", "metadata", "name", name, "labels", value));
	json_array_foreach(pods, i, value) {
		json_t *own = json_object_get(value, "ports");

		cluster_want_pod(c, value, own ? own : ports);
	}
	json_array_foreach(policies, i, value) {
		json_t *copy = json_deep_copy(value);

		if (c->v6)
			v6_blocks(copy, false);
		/* Some cases leave out what every policy has. */
		json_object_set_new(copy, "apiVersion", json_string("networking.k8s.io/v1"));
		json_object_set_new(copy, "kind", json_string("NetworkPolicy"));
		cluster_want(c, copy);
	}
}

/* What is not wanted any more goes with the same change. */
static void cluster_apply(struct cluster *c)
{
	struct policy_plan plan;

	for (size_t i = 0; i < MAX_OBJECTS; i++) {
		struct member *m = &c->members[i];

		if (m->obj && !m->wanted) {
			c->remove[c->change.n_remove++] = m->obj;
			c->gone[c->n_gone++] = m->obj;
			free(m->text);
			*m = (struct member){};
		}
		m->wanted = false;
	}
	for (uint32_t i = 1; i < LAB_EPS; i++) {
		if (*c->pods[i] && !c->pod_wanted[i]) {
			c->ep_remove[c->change.n_ep_remove++] = i;
			lab_remove_endpoint(&c->lab, i);
			*c->pods[i] = 0;
		}
		c->pod_wanted[i] = false;
	}
	c->change.upsert = c->upsert;
	c->change.remove = c->remove;
	c->change.ep_upsert = c->eps;
	c->change.ep_remove = c->ep_remove;
	assert_int_equal(policy_prepare(c->policy, &c->change, &plan), 0);
	lab_apply(&c->lab, &plan, NULL, NULL);
	policy_commit(c->policy);
	policy_plan_clear(&plan);
	for (size_t i = 0; i < c->n_gone; i++)
		object_free(c->gone[i]);
	c->n_gone = 0;
	c->change = (struct policy_change){};
}

static struct cluster *cluster_new(bool v6)
{
	struct cluster *c = calloc(1, sizeof(*c));

	c->v6 = v6;
	c->policy = policy_new();
	return c;
}

static void cluster_free(struct cluster *c)
{
	policy_free(c->policy);
	lab_clear(&c->lab);
	for (size_t i = 0; i < MAX_OBJECTS; i++) {
		object_free(c->members[i].obj);
		free(c->members[i].text);
	}
	free(c);
}

static uint32_t cluster_slot(const struct cluster *c, const char *pod)
{
	for (uint32_t i = 1; i < LAB_EPS; i++)
		if (!strcmp(c->pods[i], pod))
			return i;
	fail_msg("no pod %s", pod);
	return 0;
}

static uint8_t protocol(const char *name)
{
	return !strcmp(name, "TCP")   ? IPPROTO_TCP
	       : !strcmp(name, "UDP") ? IPPROTO_UDP
				      : IPPROTO_SCTP;
}

/* ---- matrices ------------------------------------------------------------------------------- */

struct score {
	unsigned int passed, failed;
};

static void score_pair(struct score *s, const char *id, const char *from, const char *to,
		       const char *proto, int port, bool want, bool got)
{
	if (want == got) {
		s->passed++;
		return;
	}
	s->failed++;
	print_error("%s: %s to %s on %s %d: expected %s\n", id, from, to, proto, port,
		    want ? "allow" : "deny");
}

static void judge_probe(struct cluster *c, const char *id, const json_t *probe, const json_t *order,
			struct score *score)
{
	const char *proto, *from, *row;
	json_t *matrix, *value;
	int port;

	assert_int_equal(json_unpack((json_t *)(uintptr_t)probe, "{s:s, s:i, s:o}", "protocol",
				     &proto, "port", &port, "matrix", &matrix),
			 0);
	json_object_foreach(matrix, from, value) {
		uint32_t src = cluster_slot(c, from);

		row = json_string_value(value);
		for (size_t i = 0; row[i]; i++) {
			const char *to = json_string_value(json_array_get(order, i));
			uint32_t dst = cluster_slot(c, to);
			bool got;

			if (row[i] == '-')
				continue;
			got = lab_allows(&c->lab, src, TW_EGRESS, &c->addrs[dst], protocol(proto),
					 (uint16_t)port) &&
			      lab_allows(&c->lab, dst, TW_INGRESS, &c->addrs[src], protocol(proto),
					 (uint16_t)port);
			score_pair(score, id, from, to, proto, port, row[i] == 'A', got);
		}
	}
}

static const json_t *own_or(const json_t *step, const char *key, const json_t *topology)
{
	const json_t *own = json_object_get(step, key);

	return own ? own : json_object_get(topology, key);
}

static void judge_cases(bool v6, struct score *score)
{
	const json_t *topology = json_object_get(json_object_get(file, "meta"), "topology");
	json_t *ports = json_object_get(topology, "container_ports");
	json_t *item, *step, *probe;
	size_t i, j, k;

	json_array_foreach(json_object_get(file, "cases"), i, item) {
		const char *id = json_string_value(json_object_get(item, "id"));
		struct cluster *c = cluster_new(v6);

		json_array_foreach(json_object_get(item, "steps"), j, step) {
			cluster_want_all(c, own_or(step, "namespaces", topology),
					 own_or(step, "pods", topology),
					 json_object_get(step, "policies"), ports);
			cluster_apply(c);
			json_array_foreach(json_object_get(step, "probes"), k, probe)
				judge_probe(c, id, probe, own_or(step, "matrix_order", topology),
					    score);
		}
		cluster_free(c);
	}
}

/* ---- single flows --------------------------------------------------------------------------- */

/* Where an end is: its slot and address; slot 0: an address outside. */
static uint32_t flow_end(struct cluster *c, const json_t *end, union tw_addr *addr)
{
	const char *name = json_string_value(json_object_get(end, "name"));
	char text[128];

	if (name) {
		uint32_t slot;

		snprintf(text, sizeof(text), "%s/%s",
			 json_string_value(json_object_get(end, "namespace")), name);
		slot = cluster_slot(c, text);
		*addr = c->addrs[slot];
		return slot;
	}
	snprintf(text, sizeof(text), "%s", json_string_value(json_object_get(end, "ip")));
	if (c->v6)
		v6_address(json_string_value(json_object_get(end, "ip")), text, sizeof(text));
	assert_int_equal(addr_parse(text, addr), 0);
	return 0;
}

static void judge_flow(struct cluster *c, const json_t *item, struct score *score)
{
	const char *id, *proto, *expected;
	union tw_addr src, dst;
	json_t *from, *to;
	uint32_t src_slot, dst_slot;
	bool got = true;
	int port;

	assert_int_equal(json_unpack((json_t *)(uintptr_t)item, "{s:s, s:s, s:i, s:s, s:o, s:o}",
				     "id", &id, "protocol", &proto, "port", &port, "expected",
				     &expected, "src", &from, "dst", &to),
			 0);
	src_slot = flow_end(c, from, &src);
	dst_slot = flow_end(c, to, &dst);
	if (src_slot)
		got = lab_allows(&c->lab, src_slot, TW_EGRESS, &dst, protocol(proto),
				 (uint16_t)port);
	if (dst_slot)
		got &= lab_allows(&c->lab, dst_slot, TW_INGRESS, &src, protocol(proto),
				  (uint16_t)port);
	score_pair(score, id, "the source", "the destination", proto, port,
		   !strcmp(expected, "allow"), got);
}

static void judge_flows(bool v6, struct score *score)
{
	static const char *const ends[] = { "src", "dst" };
	json_t *item, *no_ports = json_array();
	size_t i;

	json_array_foreach(json_object_get(file, "traffic_cases"), i, item) {
		struct cluster *c = cluster_new(v6);
		json_t *pods = json_array();

		for (size_t j = 0; j < 2; j++) {
			json_t *end = json_object_get(item, ends[j]);

			if (json_object_get(end, "name"))
				json_array_append(pods, end);
		}
		cluster_want_all(c, json_object_get(item, "namespaces"), pods,
				 json_object_get(item, "policies"), no_ports);
		cluster_apply(c);
		judge_flow(c, item, score);
		json_decref(pods);
		cluster_free(c);
	}
	json_decref(no_ports);
}

/* ---- the tests ------------------------------------------------------------------------------ */

static void run(const char *what, bool v6, void (*judge)(bool v6, struct score *score))
{
	struct score score = {};

	if (!file) {
		print_message("skipped: there is no %s; name one with TW_CONFORMANCE\n", file_name);
		skip();
	}
	judge(v6, &score);
	print_message("%s: %u passed, %u failed\n", what, score.passed, score.failed);
	assert_true(score.passed > 0);
	assert_int_equal(score.failed, 0);
}

static void test_cases_ipv4(void **state)
{
	run("pairs over IPv4", false, judge_cases);
}

static void test_cases_ipv6(void **state)
{
	run("pairs over IPv6", true, judge_cases);
}

static void test_flows_ipv4(void **state)
{
	run("flows as given", false, judge_flows);
}

static void test_flows_ipv6(void **state)
{
	run("flows over IPv6", true, judge_flows);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases_ipv4),
		cmocka_unit_test(test_cases_ipv6),
		cmocka_unit_test(test_flows_ipv4),
		cmocka_unit_test(test_flows_ipv6),
	};
	json_error_t err;
	int failed;

	file_name = getenv("TW_CONFORMANCE");
	if (!file_name || !*file_name)
		file_name = SOURCE_ROOT "/tests/conformance/cases/netpol_cases_dev.json";
	if (argc > 1)
		file_name = argv[1];
	file = json_load_file(file_name, 0, &err);
	if (!file && (argc > 1 || json_error_code(&err) != json_error_cannot_open_file)) {
		fprintf(stderr, "%s:%d: %s\n", file_name, err.line, err.text);
		return 2;
	}
	failed = cmocka_run_group_tests_name("policy_cases", tests, NULL, NULL);
	json_decref(file);
	return failed;
}
