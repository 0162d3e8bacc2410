/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Memory that runs out at any point of a change leaves the compiler as it was: every single
 * allocation of a change is made to fail once.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

#include "policy_rig.h"

/* Allocations until one fails; negative: none does. The linker puts these in their place. */
static long budget = -1;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
char *__wrap_strdup(const char *s);

static bool exhausted(void)
{
	if (budget > 0)
		budget--;
	return budget == 0;
}

void *__wrap_malloc(size_t size)
{
	return exhausted() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return exhausted() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return exhausted() ? NULL : __real_realloc(p, size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	return exhausted() ? NULL : __real_reallocarray(p, n, size);
}

char *__wrap_strdup(const char *s)
{
	return exhausted() ? NULL : __real_strdup(s);
}

static struct rig rig;

static int id_order(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct policy_id));
}

static void ids_get(struct policy_id **out, size_t *n)
{
	assert_int_equal(policy_export_ids(rig.policy, out, n), 0);
	qsort(*out, *n, sizeof(**out), id_order);
}

static void check_same(const struct policy_id *ids, size_t n, const struct policy_stats *stats)
{
	struct policy_stats now = rig_stats(&rig);
	struct policy_plan full;
	struct policy_id *now_ids;
	size_t now_n;

	assert_memory_equal(&now, stats, sizeof(now));
	ids_get(&now_ids, &now_n);
	assert_int_equal(now_n, n);
	assert_memory_equal(now_ids, ids, n * sizeof(*ids));
	free(now_ids);
	assert_int_equal(policy_full_plan(rig.policy, &full), 0);
	lab_compare(&rig.lab, &full);
	policy_plan_clear(&full);
}

/* Fails the first, the second, ... allocation of the change, until it needs no more. */
static void exhaust(const struct policy_change *change)
{
	const struct policy_stats stats = rig_stats(&rig);
	struct policy_id *ids;
	struct policy_plan plan;
	long failed = 0;
	size_t n;

	ids_get(&ids, &n);
	for (long i = 1;; i++) {
		int err;

		budget = i;
		err = policy_prepare(rig.policy, change, &plan);
		if (budget > 0) { /* some were left */
			budget = -1;
			assert_int_equal(err, 0);
			break;
		}
		budget = -1;
		assert_int_equal(err, -ENOMEM);
		check_same(ids, n, &stats);
		failed++;
	}
	free(ids);
	policy_plan_clear(&plan);
	policy_abort(rig.policy);
	assert_true(failed > 50);
	print_message("%ld allocations failed, one at a time\n", failed);
}

static const char before[] =
	"---\n{apiVersion: v1, kind: Namespace, metadata: {name: n, labels: {team: x}}}\n"
	"---\n{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: n, labels: {app: a}}, "
	"spec: "
	"{containers: [{ports: [{name: http, containerPort: 80}]}]}, status: {podIP: 10.0.0.1}}\n"
	"---\n{apiVersion: v1, kind: Pod, metadata: {name: r, namespace: m, labels: {app: r}}, "
	"spec: "
	"{containers: [{ports: [{name: http, containerPort: 8080}]}]}, status: {podIP: 10.1.0.1}}\n"
	"---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, "
	"namespace: "
	"n}, spec: {podSelector: {}, ingress: [{from: [{podSelector: {}}, {ipBlock: {cidr: "
	"10.0.0.0/8, except: [10.1.0.0/16]}}], ports: [{port: http}, {port: 90, endPort: 99}]}], "
	"egress: [{to: [{namespaceSelector: {}}], ports: [{port: http}]}]}}\n";

static const char after[] =
	"---\n{apiVersion: v1, kind: Namespace, metadata: {name: n, labels: {team: y}}}\n"
	"---\n{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: n, labels: {app: b}}, "
	"spec: "
	"{containers: [{ports: [{name: http, containerPort: 81}]}]}, status: {podIP: 10.0.0.1}}\n"
	"---\n{apiVersion: v1, kind: Pod, metadata: {name: s, namespace: o, labels: {app: s}}, "
	"spec: "
	"{containers: [{ports: [{name: http, containerPort: 8081}, {name: dns, containerPort: "
	"53}]}]}, "
	"status: {podIPs: [{ip: 10.2.0.1}, {ip: 'fd00::5'}]}}\n"
	"---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, "
	"namespace: "
	"n}, spec: {podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}, "
	"{ipBlock: {cidr: 10.0.0.0/8, except: [10.2.0.0/16]}}]}], egress: [{to: "
	"[{namespaceSelector: "
	"{matchLabels: {team: y}}}, {ipBlock: {cidr: 'fd00::/16'}}], ports: [{port: http}, {port: "
	"dns}]}]}}\n"
	"---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: q, "
	"namespace: "
	"m}, spec: {podSelector: {matchLabels: {app: z}}, ingress: [{from: [{podSelector: "
	"{}}]}]}}\n";

static void test_memory(void **state)
{
	const struct policy_endpoint ep = {
		.slot = 3,
		.ns = "m",
		.pod = "z",
		.addr4 = rig_addr("10.0.0.3"),
		.labels =
			&(struct labels){
				(struct label[]){ { (char[]){ "app" }, (char[]){ "z" } } }, 1 },
	};
	const uint32_t gone = 2;
	struct object_list list;

	rig_open(&rig);
	rig_endpoint(&rig, 1, "n", "a", "10.0.0.1", "fd00::1");
	rig_endpoint(&rig, 2, "n", "b", "10.0.0.2", NULL);
	rig_apply(&rig, before);
	list = rig_parse(after);
	exhaust(&(struct policy_change){
		.upsert = (const struct object *const *)list.v,
		.n_upsert = list.n,
		.remove = (const struct object *const *)&rig.objects[2],
		.n_remove = 1,
		.ep_upsert = &ep,
		.n_ep_upsert = 1,
		.ep_remove = &gone,
		.n_ep_remove = 1,
	});
	object_list_clear(&list);
	rig_close(&rig);
}

#define ONE_BLOCK(cidr)                                                                            \
	"{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: one, "           \
	"namespace: n}, spec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: " cidr          \
	"}}], ports: [{port: 80}]}]}}"

/* One of the peers of a large set changes: the version is patched, the set edited. */
static void test_memory_of_an_edit(void **state)
{
	static const char changed[] = ONE_BLOCK("10.2.0.0/16");
	char text[8192];
	size_t n = (size_t)sprintf(
		text,
		ONE_BLOCK("10.1.0.0/16") "\n---\n"
					 "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, "
					 "metadata: {name: many, namespace: n}, spec: "
					 "{podSelector: {}, "
					 "ingress: [{ports: [{port: 80}], from: [");
	struct object_list list;
	struct policy_plan plan;

	for (unsigned int i = 0; i < 40; i++)
		n += (size_t)sprintf(text + n, "%s{ipBlock: {cidr: 192.0.2.%u/32}}", i ? ", " : "",
				     i);
	strcpy(text + n, "]}]}}");
	rig_open(&rig);
	rig_endpoint(&rig, 1, "n", "a", "10.0.0.1", "fd00::1");
	rig_apply(&rig, text);
	list = rig_parse(changed);
	const struct policy_change change = {
		.upsert = (const struct object *const *)list.v,
		.n_upsert = 1,
	};
	assert_int_equal(policy_prepare(rig.policy, &change, &plan), 0);
	assert_int_equal(plan.n_peers_join + plan.n_peers_leave, 2);
	policy_plan_clear(&plan);
	policy_abort(rig.policy);
	exhaust(&change);
	object_list_clear(&list);
	rig_close(&rig);
}

static void test_memory_of_parser(void **state)
{
	long failed = 0;

	for (long i = 1;; i++) {
		struct object_list list = {};
		struct object_error err;
		int res;

		budget = i;
		res = object_parse("t", after, sizeof(after) - 1, &list, &err);
		if (budget > 0) {
			budget = -1;
			assert_int_equal(res, 0);
			object_list_clear(&list);
			break;
		}
		budget = -1;
		assert_int_equal(res, -ENOMEM);
		failed++;
	}
	assert_true(failed > 20);
	print_message("%ld allocations failed, one at a time\n", failed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_memory_of_an_edit),
		cmocka_unit_test(test_memory_of_parser),
	};

	return cmocka_run_group_tests_name("policy_memory", tests, NULL, NULL);
}
