/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Single properties of the compiler; test_policy_random.c has the semantics as a whole. */
#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "unit.h"

#include "policy_rig.h"

static struct rig rig;

static int setup(void **state)
{
	rig_open(&rig);
	return 0;
}

static int teardown(void **state)
{
	rig_close(&rig);
	return 0;
}

#define ALLOW_APP(app)                                                                             \
	"{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: " app "}}}]}]}"
#define ALLOW_CIDR(cidr) "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: \"" cidr "\"}}]}]}"
#define SELECT_APP(app, rest) "{podSelector: {matchLabels: {app: " app "}}, " rest "}"

/* ---- versions and identities ---------------------------------------------------------------- */

static void test_no_policy_is_version_0(void **state)
{
	rig_endpoint(&rig, 1, "n", "a", "10.0.0.1", NULL);
	assert_int_equal(rig.lab.eps[1].version, 0);
	assert_true(rig.lab.eps[1].identity >= TW_ID_FIRST);
	assert_true(rig_allows(&rig, 1, TW_INGRESS, "8.8.8.8", "tcp", 80));
	rig_apply(&rig, rig_policy("other", "deny", "{podSelector: {}}"));
	assert_int_equal(rig_writes(&rig), 0);
}

static void test_versions_are_shared_by_content(void **state)
{
	rig_endpoint(&rig, 1, "n", "a", "10.0.0.1", NULL);
	rig_endpoint(&rig, 2, "n", "b", "10.0.0.2", NULL);
	rig_endpoint(&rig, 3, "m", "c", "10.0.0.3", NULL);
	rig_apply(&rig, rig_policy("n", "p", ALLOW_CIDR("10.9.0.0/16")));
	rig_apply(&rig, rig_policy("m", "q", ALLOW_CIDR("10.9.1.1/16")));
	assert_int_equal(rig.lab.eps[1].version, 1);
	assert_int_equal(rig.lab.eps[2].version, 1);
	assert_int_equal(rig.lab.eps[3].version, 1); /* the same content from another policy */
	assert_int_equal(rig_stats(&rig).versions, 1);
	assert_int_equal(rig_stats(&rig).sets, 1);
	rig_apply(&rig, rig_policy("m", "q2", ALLOW_CIDR("10.9.0.0/16")));
	assert_int_equal(rig_writes(&rig), 0); /* says what was said */
	rig_apply(&rig, rig_policy("m", "q", ALLOW_CIDR("10.8.0.0/16")));
	assert_int_equal(rig.lab.eps[3].version, 2);
}

/* The version after one more change of the only policy. */
static uint32_t version_after_change(unsigned int n)
{
	char rules[128];

	snprintf(rules, sizeof(rules), ALLOW_CIDR("10.%u.%u.0/24"), n / 250 % 250, n % 250);
	rig_apply(&rig, rig_policy("n", "p", rules));
	return rig.lab.eps[1].version;
}

/* A number that was given back rests while others are free, and is used again some day. */
static void test_numbers_rest_and_are_used_again(void **state)
{
	uint32_t first, last;
	unsigned int again = 0;

	rig_endpoint(&rig, 1, "n", "a", "10.0.0.1", NULL);
	first = last = version_after_change(0);
	for (unsigned int n = 1; n < 1000; n++) {
		uint32_t version = version_after_change(n);

		assert_true(version != last);
		assert_int_equal(rig.plan.n_versions_del, 1);
		assert_int_equal(rig.plan.versions_del[0], last);
		assert_true(version < 1000);
		again += version == first;
		assert_true(again == 0 || n > 100);
		last = version;
	}
	assert_true(again > 1);
}

/* Numbers of the last run wait for their content through the first commit, and no longer. */
static void test_restored_numbers(void **state)
{
	const struct policy_id ids[] = {
		{ POLICY_ID_VERSION, "somebody else's", 1 },
		{ POLICY_ID_IDENTITY, "the secret ....", 0 },
		{ POLICY_ID_VERSION, "a damaged row..", 0 },
	};
	struct policy_id *now;
	size_t n;

	assert_int_equal(policy_restore_ids(rig.policy, ids, 3), 0);
	rig_endpoint(&rig, 1, "n", "a", "10.0.0.1", NULL);
	assert_int_equal(policy_export_ids(rig.policy, &now, &n), 0);
	assert_int_equal(n, 2);
	assert_memory_equal(&now[0], &ids[1], sizeof(ids[1]));
	free(now);
	rig_apply(&rig, rig_policy("n", "p", ALLOW_CIDR("10.1.0.0/16")));
	for (unsigned int i = 0; rig.lab.eps[1].version != 1; i++) {
		assert_true(i < 1000);
		version_after_change(i);
	}
}

static void test_replicas_are_one_identity(void **state)
{
	struct policy_stats stats;

	rig_endpoint(&rig, 1, "n", "a", "10.0.0.1", NULL);
	rig_apply(&rig, rig_policy("n", "p", ALLOW_APP("web")));
	for (unsigned int i = 0; i < 200; i++) {
		char name[16], labels[64], addr[32];

		snprintf(name, sizeof(name), "r%u", i);
		snprintf(labels, sizeof(labels), "{app: web, pod-template-hash: h%u}", i);
		snprintf(addr, sizeof(addr), "10.1.0.%u", i);
		rig_apply(&rig, rig_pod("n", name, labels, addr));
		assert_int_equal(rig.plan.n_peers_add, i ? 0 : 1);
		assert_int_equal(rig.plan.n_prefixes_set, 1);
	}
	stats = rig_stats(&rig);
	assert_int_equal(stats.identities, 2);
	assert_int_equal(stats.peers, 1);
	assert_int_equal(stats.prefixes, 201);
	assert_true(rig_allows(&rig, 1, TW_INGRESS, "10.1.0.7", "tcp", 80));
	/* A rule that all or none of them meet moves none of them. */
	rig_apply(&rig, rig_policy("n", "q", SELECT_APP("none", "ingress: []")));
	assert_int_equal(rig_writes(&rig), 0);
	rig_apply(&rig, rig_policy("n", "r",
				   "{podSelector: {}, ingress: [{from: [{podSelector: "
				   "{matchExpressions: [{key: app, operator: Exists}]}}], "
				   "ports: [{port: 9}]}]}"));
	assert_int_equal(rig.plan.n_prefixes_set, 0);
	assert_int_equal(rig_stats(&rig).identities, 2);
	/* One that meets one of them splits it off. */
	rig_apply(&rig, rig_policy("n", "s",
				   "{podSelector: {}, ingress: [{from: [{podSelector: "
				   "{matchLabels: {pod-template-hash: h3}}}]}]}"));
	assert_int_equal(rig.plan.n_refine_prefixes + rig.plan.n_prefixes_set, 1);
	assert_int_equal(rig_stats(&rig).identities, 3);
}

/* An address of one family may be named by a rule and the other not. */
static void test_families_have_identities_of_their_own(void **state)
{
	rig_endpoint(&rig, 1, "n", "a", "10.0.0.1", "fd00::1");
	rig_endpoint(&rig, 2, "n", "b", "10.0.0.2", "fd00::2");
	assert_int_equal(rig.lab.eps[2].identity, rig.lab.eps[2].identity6);
	rig_apply(&rig, rig_policy("n", "p", ALLOW_CIDR("10.0.0.2/32")));
	assert_int_not_equal(rig.lab.eps[2].identity, rig.lab.eps[2].identity6);
	assert_true(rig_allows(&rig, 1, TW_INGRESS, "10.0.0.2", "tcp", 80));
	assert_false(rig_allows(&rig, 1, TW_INGRESS, "fd00::2", "tcp", 80));
}

/* ---- prefixes ------------------------------------------------------------------------------- */

static void test_ipv6_prefixes_are_not_for_ipv4(void **state)
{
	rig_endpoint(&rig, 1, "n", "a", "10.0.0.1", "fd00::1");
	rig_apply(&rig, rig_policy("n", "p", ALLOW_CIDR("::/0")));
	assert_true(rig_allows(&rig, 1, TW_INGRESS, "2001:db8::1", "tcp", 80));
	assert_true(rig_allows(&rig, 1, TW_INGRESS, "::1:2", "tcp", 80));
	assert_false(rig_allows(&rig, 1, TW_INGRESS, "8.8.8.8", "tcp", 80));
	rig_apply(&rig, rig_policy("n", "p", ALLOW_CIDR("0.0.0.0/0")));
	assert_false(rig_allows(&rig, 1, TW_INGRESS, "2001:db8::1", "tcp", 80));
	assert_true(rig_allows(&rig, 1, TW_INGRESS, "8.8.8.8", "tcp", 80));
	assert_int_equal(rig.plan.n_prefixes_set, 1);
	assert_int_equal(rig.plan.prefixes_set[0].prefix.len, 96);
}

/* Holes within holes, and blocks inside of holes. */
static void test_nested_blocks(void **state)
{
	rig_endpoint(&rig, 1, "n", "a", "10.0.0.1", NULL);
	rig_apply(&rig,
		  rig_policy("n", "p",
			     "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, "
			     "except: [10.1.0.0/16, 10.1.2.0/24, 10.1.0.0/16]}}, "
			     "{ipBlock: {cidr: 10.1.2.3/32}}]}]}"));
	assert_true(rig_allows(&rig, 1, TW_INGRESS, "10.2.0.1", "tcp", 80));
	assert_false(rig_allows(&rig, 1, TW_INGRESS, "10.1.0.1", "tcp", 80));
	assert_false(rig_allows(&rig, 1, TW_INGRESS, "10.1.2.1", "tcp", 80));
	assert_true(rig_allows(&rig, 1, TW_INGRESS, "10.1.2.3", "tcp", 80));
	assert_false(rig_allows(&rig, 1, TW_INGRESS, "11.0.0.1", "tcp", 80));
}

static bool plan_has_prefix(const char *text)
{
	struct prefix p;

	assert_int_equal(prefix_parse(text, &p), 0);
	for (size_t i = 0; i < rig.lab.n_prefixes; i++)
		if (!memcmp(&rig.lab.prefixes[i].prefix.addr, &p.addr, sizeof(p.addr)) &&
		    rig.lab.prefixes[i].prefix.len == p.len)
			return true;
	return false;
}

static void test_reserved_prefixes(void **state)
{
	struct prefix reserved[2];

	prefix_parse("10.0.0.0/16", &reserved[0]);
	prefix_parse("192.168.0.1/32", &reserved[1]);
	assert_int_equal(policy_reserve(rig.policy, reserved, 2), 0);
	rig_endpoint(&rig, 1, "n", "a", "10.0.0.1", NULL);
	rig_apply(&rig, rig_pod("n", "ghost", "{app: web}", "10.0.0.9"));
	rig_apply(&rig, rig_policy("n", "p",
				   "{podSelector: {}, ingress: [{from: [{podSelector: {}}, "
				   "{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.7.0/24]}}, "
				   "{ipBlock: {cidr: 10.0.0.0/16}}, "
				   "{ipBlock: {cidr: 192.168.0.1/32}}]}]}"));
	assert_true(plan_has_prefix("10.0.0.1/32")); /* the endpoint */
	assert_true(plan_has_prefix("10.0.0.0/8"));
	assert_false(plan_has_prefix("10.0.0.9/32"));
	assert_false(plan_has_prefix("10.0.7.0/24"));
	assert_false(plan_has_prefix("10.0.0.0/16"));
	assert_false(plan_has_prefix("192.168.0.1/32"));
	assert_int_equal(policy_reserve(rig.policy, reserved + 1, 1), 0);
	rig_apply(&rig, "");
	assert_true(plan_has_prefix("10.0.0.9/32"));
	assert_true(plan_has_prefix("10.0.7.0/24"));
	assert_true(plan_has_prefix("10.0.0.0/16"));
	assert_false(plan_has_prefix("192.168.0.1/32"));
	assert_int_equal(policy_reserve(rig.policy, reserved, 1), 0);
	rig_apply(&rig, "");
	assert_false(plan_has_prefix("10.0.7.0/24"));
	assert_true(plan_has_prefix("192.168.0.1/32"));
}

/* ---- epochs: additions that cannot change a live decision bump nothing (I4) ----------------- */

static void test_bump_only_whom_a_rule_concerns(void **state)
{
	rig_endpoint(&rig, 1, "n", "a", "10.0.0.1", NULL);
	rig_endpoint(&rig, 2, "n", "b", "10.0.0.2", NULL);
	rig_apply(&rig, rig_pod("n", "a", "{app: a}", "10.0.0.1"));
	rig_apply(&rig, rig_pod("n", "b", "{app: b}", "10.0.0.2"));
	rig_apply(&rig, rig_pod("n", "r", "{app: r}", "10.1.0.1"));
	rig_apply(&rig, rig_policy("n", "p",
				   SELECT_APP("a", "ingress: [{from: [{podSelector: "
						   "{matchLabels: {app: b}}}]}]")));
	assert_true(rig_bumped(&rig, 1));
	assert_false(rig_bumped(&rig, 2)); /* gets another identity, and that is all */
	assert_false(rig_bumped(&rig, 0));
	rig_apply(&rig, rig_policy("n", "q",
				   SELECT_APP("a", "ingress: [{from: [{ipBlock: "
						   "{cidr: 10.0.0.0/8}}]}]")));
	assert_true(rig_bumped(&rig, 1));
	assert_false(rig_bumped(&rig, 2));
	assert_false(rig_bumped(&rig, 0));
	rig_delete(&rig, rig_policy("n", "q", "{}"));
	assert_true(rig_bumped(&rig, 1));
	assert_false(rig_bumped(&rig, 2));
	assert_false(rig_bumped(&rig, 0));
}

static void test_bump_on_change_of_meaning(void **state)
{
	rig_endpoint(&rig, 1, "n", "a", "10.0.0.1", NULL);
	rig_endpoint(&rig, 2, "n", "b", "10.0.0.2", NULL);
	rig_apply(&rig, rig_pod("n", "b", "{app: b}", "10.0.0.2"));
	rig_apply(&rig, rig_pod("n", "r", "{app: r}", "10.1.0.1"));
	rig_apply(&rig, rig_policy("n", "p", ALLOW_APP("web")));
	rig_apply(&rig, rig_pod("n", "b", "{app: c}", "10.0.0.2"));
	assert_false(rig_bumped(&rig, 2)); /* no rule sees a difference */
	rig_apply(&rig, rig_pod("n", "b", "{app: web}", "10.0.0.2"));
	assert_true(rig_bumped(&rig, 2));
	assert_false(rig_bumped(&rig, 0));
	rig_apply(&rig, rig_pod("n", "r", "{app: s}", "10.1.0.1"));
	assert_false(rig_bumped(&rig, 0));
	rig_apply(&rig, rig_pod("n", "r", "{app: web}", "10.1.0.1"));
	assert_true(rig_bumped(&rig, 0));
	rig_delete(&rig, rig_pod("n", "r", "{}", ""));
	assert_true(rig_bumped(&rig, 0));
	rig_endpoint(&rig, 3, "n", "c", "10.0.0.3", NULL); /* nobody has flows with it yet */
	assert_false(rig_bumped(&rig, 0));
	assert_false(rig_bumped(&rig, 1));
}

static void test_bump_on_namespace_labels(void **state)
{
	rig_endpoint(&rig, 1, "n", "a", "10.0.0.1", NULL);
	rig_endpoint(&rig, 2, "m", "b", "10.0.0.2", NULL);
	rig_apply(&rig, rig_policy("n", "p",
				   "{podSelector: {}, ingress: [{from: "
				   "[{namespaceSelector: {matchLabels: {team: x}}}]}]}"));
	assert_false(rig_allows(&rig, 1, TW_INGRESS, "10.0.0.2", "tcp", 80));
	rig_apply(&rig,
		  "{apiVersion: v1, kind: Namespace, metadata: {name: m, labels: {team: x}}}");
	assert_true(rig_bumped(&rig, 2));
	assert_false(rig_bumped(&rig, 1));
	assert_true(rig_allows(&rig, 1, TW_INGRESS, "10.0.0.2", "tcp", 80));
	rig_apply(&rig, "{apiVersion: v1, kind: Namespace, metadata: {name: m, labels: {team: x, "
			"other: y}}}");
	assert_int_equal(rig_writes(&rig), 0);
}

/* ---- named ports ---------------------------------------------------------------------------- */

#define WEB_POD(name, addr, port)                                                                  \
	"---\n{apiVersion: v1, kind: Pod, metadata: {name: " name ", namespace: n}, spec: "        \
	"{containers: [{ports: [{name: http, containerPort: " port "}]}]}, status: {podIP: " addr  \
	"}}\n"

static void test_named_ports(void **state)
{
	rig_endpoint(&rig, 1, "n", "a", "10.0.0.1", NULL);
	rig_apply(&rig,
		  rig_policy("n", "p",
			     "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: "
			     "[{ports: [{port: http}]}], egress: [{ports: [{port: http}]}]}"));
	assert_false(rig_allows(&rig, 1, TW_INGRESS, "10.1.0.1", "tcp", 80));
	rig_apply(&rig, WEB_POD("a", "10.0.0.1", "80") WEB_POD("x", "10.1.0.1", "8080")
				WEB_POD("y", "10.1.0.2", "8081"));
	assert_true(rig_allows(&rig, 1, TW_INGRESS, "8.8.8.8", "tcp", 80));
	assert_false(rig_allows(&rig, 1, TW_INGRESS, "8.8.8.8", "tcp", 8080));
	assert_true(rig_allows(&rig, 1, TW_EGRESS, "10.1.0.1", "tcp", 8080));
	assert_false(rig_allows(&rig, 1, TW_EGRESS, "10.1.0.1", "tcp", 8081));
	assert_true(rig_allows(&rig, 1, TW_EGRESS, "10.1.0.2", "tcp", 8081));
	assert_false(rig_allows(&rig, 1, TW_EGRESS, "8.8.8.8", "tcp", 8080));
	assert_false(rig_allows(&rig, 1, TW_EGRESS, "10.1.0.1", "udp", 8080));
	rig_apply(&rig, WEB_POD("y", "10.1.0.2", "8080"));
	assert_false(rig_allows(&rig, 1, TW_EGRESS, "10.1.0.2", "tcp", 8081));
	assert_true(rig_allows(&rig, 1, TW_EGRESS, "10.1.0.2", "tcp", 8080));
}

/* ---- refusals: nothing has changed ---------------------------------------------------------- */

static void check_untouched(void)
{
	struct policy_plan full;

	assert_int_equal(policy_full_plan(rig.policy, &full), 0);
	lab_compare(&rig.lab, &full);
	policy_plan_clear(&full);
}

/* More classes than the search of the data path can reach. */
static void test_too_many_classes(void **state)
{
	static const char *const protos[] = { "TCP", "UDP", "SCTP" };
	char *text = malloc(8u << 20);
	size_t n =
		(size_t)sprintf(text, "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, "
				      "metadata: {name: p, namespace: n}, spec: {podSelector: {}, "
				      "ingress: [{ports: [");
	struct object_list list;
	struct policy_plan plan;

	for (unsigned int i = 0; i < 3; i++)
		for (unsigned int port = 1; port < 65536; port += 2)
			n += (size_t)sprintf(text + n, "{port: %u, protocol: %s},", port,
					     protos[i]);
	strcpy(text + n - 1, "]}]}}");
	list = rig_parse(text);
	free(text);
	rig_endpoint(&rig, 1, "n", "a", "10.0.0.1", NULL);
	rig_apply(&rig, rig_policy("n", "q", ALLOW_CIDR("10.0.0.0/8")));
	assert_int_equal(policy_prepare(rig.policy,
					&(struct policy_change){
						.upsert = (const struct object *const *)list.v,
						.n_upsert = 1,
					},
					&plan),
			 -E2BIG);
	check_untouched();
	rig_apply(&rig, rig_policy("n", "q", ALLOW_CIDR("10.0.0.0/9")));
	object_list_clear(&list);
}

static void test_one_change_at_a_time(void **state)
{
	const struct policy_endpoint bad = { .slot = TW_MAX_ENDPOINTS, .ns = "n", .pod = "a" };
	const struct policy_change none = {}, wrong = { .ep_upsert = &bad, .n_ep_upsert = 1 };
	struct policy_plan plan;

	assert_int_equal(policy_prepare(rig.policy, &wrong, &plan), -EINVAL);
	assert_int_equal(policy_prepare(rig.policy, &none, &plan), 0);
	policy_plan_clear(&plan);
	assert_int_equal(policy_prepare(rig.policy, &none, &plan), -EBUSY);
	policy_abort(rig.policy);
	assert_int_equal(policy_prepare(rig.policy, &none, &plan), 0);
	policy_plan_clear(&plan);
	policy_commit(rig.policy);
	assert_int_equal(policy_restore_ids(rig.policy, NULL, 0), -EBUSY);
}

/* ---- answers -------------------------------------------------------------------------------- */

static void test_explain(void **state)
{
	struct policy_answer answer;
	struct policy_end world = { .addr = rig_addr("8.8.8.8") }, host = { .is_host = true };
	struct policy_end pod = { .slot = 2 };

	rig_endpoint(&rig, 1, "n", "a", "10.0.0.1", NULL);
	rig_endpoint(&rig, 2, "n", "b", "10.0.0.2", NULL);
	rig_apply(&rig, rig_pod("n", "b", "{app: web}", "10.0.0.2"));
	rig_apply(&rig, rig_policy("n", "zz", ALLOW_APP("web")));
	rig_apply(&rig, rig_policy("n", "aa",
				   "{podSelector: {}, ingress: [{ports: [{port: 1}]}, "
				   "{from: [{podSelector: {}}], ports: [{port: 80}]}]}"));
	assert_int_equal(policy_explain(rig.policy, 1, TW_INGRESS, &pod, IPPROTO_TCP, 80, &answer),
			 0);
	assert_true(answer.allow && answer.isolated);
	assert_string_equal(answer.policy_ns, "n");
	assert_string_equal(answer.policy, "aa");
	assert_int_equal(answer.rule, 1);
	assert_string_equal(answer.selected_by, "n/aa, n/zz");
	assert_int_equal(policy_explain(rig.policy, 1, TW_INGRESS, &pod, IPPROTO_UDP, 9, &answer),
			 0);
	assert_string_equal(answer.policy, "zz");
	assert_int_equal(
		policy_explain(rig.policy, 1, TW_INGRESS, &world, IPPROTO_TCP, 80, &answer), 0);
	assert_false(answer.allow);
	assert_null(answer.policy);
	assert_int_equal(policy_explain(rig.policy, 1, TW_INGRESS, &host, IPPROTO_TCP, 80, &answer),
			 0);
	assert_true(answer.allow);
	assert_int_equal(policy_explain(rig.policy, 1, TW_EGRESS, &world, IPPROTO_TCP, 80, &answer),
			 0);
	assert_true(answer.allow && !answer.isolated);
	assert_string_equal(answer.selected_by, "");
	assert_int_equal(policy_explain(rig.policy, 9, TW_EGRESS, &world, IPPROTO_TCP, 80, &answer),
			 -ENOENT);
}

struct seen {
	unsigned int n;
	uint32_t addrs;
	char what[512];
};

static int see_identity(void *arg, uint32_t identity, const char *what, uint32_t addrs)
{
	struct seen *seen = arg;

	assert_true(identity >= TW_ID_FIRST);
	seen->n++;
	seen->addrs += addrs;
	strcat(strcat(seen->what, what), "; ");
	return 0;
}

static void test_names_and_identities(void **state)
{
	struct seen seen = {};
	const union tw_addr a = rig_addr("10.0.0.1"), r = rig_addr("10.1.0.1"),
			    w = rig_addr("10.9.0.1");

	rig_endpoint(&rig, 1, "n", "a", "10.0.0.1", "fd00::1");
	rig_apply(&rig, rig_pod("m", "r", "{app: web}", "10.1.0.1"));
	rig_apply(&rig, rig_policy("n", "p", ALLOW_CIDR("10.9.0.0/16")));
	assert_string_equal(policy_addr_name(rig.policy, &a), "n/a");
	assert_string_equal(policy_addr_name(rig.policy, &r), "m/r");
	assert_string_equal(policy_addr_name(rig.policy, &w), "");
	assert_int_equal(policy_identity_each(rig.policy, see_identity, &seen), 0);
	assert_int_equal(seen.n, 2);
	assert_int_equal(seen.addrs, 4);
	assert_non_null(strstr(seen.what, "m/r"));
	assert_non_null(strstr(seen.what, "10.9.0.0/16"));
}

/* ---- size ----------------------------------------------------------------------------------- */

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static size_t heap_used(void)
{
	const struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

/* A third by port, a third by block, a third by label; all on `eps` endpoints in turn. */
static struct object_list many_policies(unsigned int n, unsigned int eps)
{
	struct object_list all = { .v = calloc(n, sizeof(*all.v)) };

	for (unsigned int i = 0; i < n; i++) {
		char rule[160], spec[400], name[16];
		struct object_list one;

		if (i % 3 == 0)
			snprintf(rule, sizeof(rule), "{ports: [{port: %u}]}", 1 + i / 3 % 65535);
		else if (i % 3 == 1)
			snprintf(rule, sizeof(rule), "{from: [{ipBlock: {cidr: %u.%u.%u.0/24}}]}",
				 20 + i / 65536, i / 256 % 256, i % 256);
		else
			snprintf(rule, sizeof(rule),
				 "{from: [{podSelector: {matchLabels: {app: c%u}}}]}", i);
		snprintf(spec, sizeof(spec),
			 "{podSelector: {matchLabels: {app: e%u}}, ingress: [%s]}", i % eps, rule);
		snprintf(name, sizeof(name), "p%u", i);
		one = rig_parse(rig_policy("n", name, spec));
		all.v[all.n++] = one.v[0];
		free(one.v);
	}
	return all;
}

static void many_endpoints(unsigned int n)
{
	struct policy_plan plan;

	for (unsigned int i = 0; i < n; i++) {
		char name[16], addr[32], labels[32];
		struct policy_endpoint ep = { .slot = i + 1, .ns = "n", .pod = name };

		snprintf(name, sizeof(name), "e%u", i);
		snprintf(addr, sizeof(addr), "10.88.%u.%u", i / 200, i % 200 + 1);
		snprintf(labels, sizeof(labels), "{app: e%u}", i);
		struct object_list one = rig_parse(rig_pod("n", name, labels, addr));
		const struct object *obj = one.v[0];

		rig.objects[rig.n_objects++] = one.v[0];
		free(one.v);
		ep.addr4 = rig_addr(addr);
		assert_int_equal(policy_prepare(rig.policy,
						&(struct policy_change){
							.upsert = &obj,
							.n_upsert = 1,
							.ep_upsert = &ep,
							.n_ep_upsert = 1,
						},
						&plan),
				 0);
		policy_commit(rig.policy);
		policy_plan_clear(&plan);
	}
}

static double compile_ms(const struct policy_change *change)
{
	struct policy_plan plan;
	double start = now_ms(), end;

	assert_int_equal(policy_prepare(rig.policy, change, &plan), 0);
	policy_commit(rig.policy);
	end = now_ms();
	policy_plan_clear(&plan);
	return end - start;
}

/* Bounds far above what it takes: they fail when something has become quadratic. */
static void test_size(void **state)
{
	static const struct {
		unsigned int policies, eps, ms, kb;
	} sizes[] = { { 1000, 100, 300, 2048 }, { 30000, 1, 10000, 65536 } };

	for (size_t i = 0; i < 2; i++) {
		struct object_list list = many_policies(sizes[i].policies, sizes[i].eps);
		struct policy_change change = {
			.upsert = (const struct object *const *)list.v,
			.n_upsert = list.n,
		};
		size_t before = heap_used(), kb;
		double all, none;

		many_endpoints(sizes[i].eps);
		all = compile_ms(&change);
		kb = (heap_used() - before) / 1024;
		change = (struct policy_change){
			.remove = (const struct object *const *)list.v,
			.n_remove = list.n,
		};
		none = compile_ms(&change);
		print_message("%u policies on %u endpoints: %.1f ms, %zu KiB; removed in %.1f ms\n",
			      sizes[i].policies, sizes[i].eps, all, kb, none);
		assert_true(all < sizes[i].ms && none < sizes[i].ms);
		assert_true(kb < sizes[i].kb);
		assert_int_equal(rig_stats(&rig).atoms, 0);
		object_list_clear(&list);
		rig_close(&rig);
		rig_open(&rig);
	}
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_no_policy_is_version_0),
		CASE(test_versions_are_shared_by_content),
		CASE(test_numbers_rest_and_are_used_again),
		CASE(test_restored_numbers),
		CASE(test_replicas_are_one_identity),
		CASE(test_families_have_identities_of_their_own),
		CASE(test_ipv6_prefixes_are_not_for_ipv4),
		CASE(test_nested_blocks),
		CASE(test_reserved_prefixes),
		CASE(test_bump_only_whom_a_rule_concerns),
		CASE(test_bump_on_change_of_meaning),
		CASE(test_bump_on_namespace_labels),
		CASE(test_named_ports),
		CASE(test_too_many_classes),
		CASE(test_one_change_at_a_time),
		CASE(test_explain),
		CASE(test_names_and_identities),
		CASE(test_size),
	};

	return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
