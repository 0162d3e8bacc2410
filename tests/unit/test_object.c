/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* object_parse(): what is taken, and with which words and position the rest is refused. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

#include "object/object.h"

static struct object_list parse_ok(const char *text)
{
	struct object_list list = {};
	struct object_error err;

	if (object_parse("t.yaml", text, strlen(text), &list, &err))
		fail_msg("%u:%u: %s: %s\n%s", err.line, err.column, err.field, err.text, text);
	return list;
}

/* ---- Pods ----------------------------------------------------------------------------------- */

static void test_pod(void **state)
{
	struct object_list list =
		parse_ok("apiVersion: v1\n"
			 "kind: Pod\n"
			 "metadata:\n"
			 "  name: web-0\n"
			 "  namespace: shop\n"
			 "  labels: {tier: web, app.kubernetes.io/name: shop, empty: ''}\n"
			 "spec:\n"
			 "  containers:\n"
			 "  - name: a\n"
			 "    image: x\n"
			 "    ports:\n"
			 "    - {name: http, containerPort: 80}\n"
			 "    - {name: dns, containerPort: 53, protocol: UDP}\n"
			 "  - name: b\n"
			 "    ports: [{containerPort: 9090}]\n"
			 "  initContainers:\n"
			 "  - name: once\n"
			 "    ports: [{name: once, containerPort: 1}]\n"
			 "  - name: sidecar\n"
			 "    restartPolicy: Always\n"
			 "    ports: [{name: proxy, containerPort: 2}]\n"
			 "status:\n"
			 "  phase: Running\n"
			 "  podIP: 10.1.2.3\n"
			 "  podIPs: [{ip: 10.1.2.3}, {ip: 'fd00::3'}]\n");
	const struct object *obj = list.v[0];

	assert_int_equal(list.n, 1);
	assert_int_equal(obj->kind, OBJECT_POD);
	assert_string_equal(obj->ns, "shop");
	assert_string_equal(obj->name, "web-0");
	assert_int_equal(obj->labels.n, 3);
	assert_string_equal(labels_get(&obj->labels, "app.kubernetes.io/name"), "shop");
	assert_string_equal(labels_get(&obj->labels, "empty"), "");
	assert_null(labels_get(&obj->labels, "app"));
	assert_int_equal(obj->pod.n_ports, 4);
	assert_string_equal(obj->pod.ports[0].name, "http");
	assert_int_equal(obj->pod.ports[0].proto, IPPROTO_TCP);
	assert_int_equal(obj->pod.ports[1].proto, IPPROTO_UDP);
	assert_null(obj->pod.ports[2].name);
	assert_string_equal(obj->pod.ports[3].name, "proxy");
	assert_int_equal(obj->pod.n_addrs, 2);
	assert_true(addr_is4(&obj->pod.addrs[0]));
	assert_false(addr_is4(&obj->pod.addrs[1]));
	object_list_clear(&list);
}

static void test_pod_ended_has_no_address(void **state)
{
	static const char *const phases[] = { "Succeeded", "Failed" };

	for (size_t i = 0; i < 2; i++) {
		char text[256];

		snprintf(text, sizeof(text),
			 "{apiVersion: v1, kind: Pod, metadata: {name: a}, status: {phase: %s, "
			 "podIP: 10.0.0.1}}",
			 phases[i]);
		struct object_list list = parse_ok(text);

		assert_int_equal(list.v[0]->pod.n_addrs, 0);
		assert_string_equal(list.v[0]->ns, "default");
		object_list_clear(&list);
	}
}

static void test_pod_host_network(void **state)
{
	struct object_list list = parse_ok("{apiVersion: v1, kind: Pod, metadata: {name: a}, "
					   "spec: {hostNetwork: true}, status: {podIP: ''}}");

	assert_true(list.v[0]->pod.host_network);
	assert_int_equal(list.v[0]->pod.n_addrs, 0);
	object_list_clear(&list);
}

static void test_namespace_label(void **state)
{
	struct object_list list = parse_ok(
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"
		"---\n"
		"apiVersion: v1\nkind: Namespace\n"
		"metadata: {name: b, labels: {kubernetes.io/metadata.name: a, z: z, a: a}}\n");

	assert_int_equal(list.n, 2);
	assert_string_equal(list.v[0]->ns, "");
	assert_string_equal(labels_get(&list.v[0]->labels, "kubernetes.io/metadata.name"), "a");
	assert_int_equal(list.v[1]->labels.n, 3);
	assert_string_equal(labels_get(&list.v[1]->labels, "kubernetes.io/metadata.name"), "b");
	assert_string_equal(labels_get(&list.v[1]->labels, "z"), "z");
	object_list_clear(&list);
}

/* ---- NetworkPolicies ------------------------------------------------------------------------ */

#define POLICY(spec)                                                                               \
	"apiVersion: networking.k8s.io/v1\n"                                                       \
	"kind: NetworkPolicy\n"                                                                    \
	"metadata: {name: p, namespace: n}\n"                                                      \
	"spec: " spec "\n"

static void test_policy(void **state)
{
	struct object_list list = parse_ok(
		POLICY("\n"
		       "  podSelector:\n"
		       "    matchLabels: {app: web}\n"
		       "    matchExpressions:\n"
		       "    - {key: env, operator: NotIn, values: [test, dev, test]}\n"
		       "    - {key: x/y, operator: Exists}\n"
		       "    - {key: z, operator: DoesNotExist, values: []}\n"
		       "  policyTypes: [Ingress, Egress]\n"
		       "  ingress:\n"
		       "  - from:\n"
		       "    - podSelector: {}\n"
		       "    - namespaceSelector: {matchLabels: null}\n"
		       "      podSelector: null\n"
		       "    - ipBlock: {cidr: 10.1.2.3/8, except: [10.9.9.9/16, 10.0.0.1/32]}\n"
		       "    ports:\n"
		       "    - port: 80\n"
		       "    - {port: 8000, endPort: 8999, protocol: UDP}\n"
		       "    - {port: http}\n"
		       "    - {protocol: SCTP}\n"
		       "  - {}\n"
		       "  egress:\n"
		       "  - to: [{ipBlock: {cidr: 'fd00::1/64'}}]\n"));
	const struct network_policy *p = &list.v[0]->policy;
	const struct policy_rule *rule = &p->in[0];
	char buf[64];

	assert_int_equal(p->pods.n, 4);
	assert_int_equal(p->pods.v[1].n_values, 2);
	assert_string_equal(p->pods.v[1].values[0], "dev");
	assert_true(p->ingress && p->egress);
	assert_int_equal(p->n_in, 2);
	assert_int_equal(rule->n_peers, 3);
	assert_true(rule->peers[0].has_pod && !rule->peers[0].has_namespace);
	assert_true(rule->peers[1].has_namespace && !rule->peers[1].has_pod);
	assert_true(rule->peers[2].has_block);
	prefix_format(&rule->peers[2].cidr, buf, sizeof(buf));
	assert_string_equal(buf, "10.0.0.0/8");
	prefix_format(&rule->peers[2].except[0], buf, sizeof(buf));
	assert_string_equal(buf, "10.9.0.0/16");
	assert_int_equal(rule->n_ports, 4);
	assert_int_equal(rule->ports[0].last, 80);
	assert_int_equal(rule->ports[1].last, 8999);
	assert_string_equal(rule->ports[2].name, "http");
	assert_true(rule->ports[3].any);
	assert_int_equal(p->in[1].n_peers + p->in[1].n_ports, 0);
	prefix_format(&p->out[0].peers[0].cidr, buf, sizeof(buf));
	assert_string_equal(buf, "fd00::/64");
	object_list_clear(&list);
}

static void test_policy_types_default(void **state)
{
	static const struct {
		const char *text;
		bool ingress, egress;
	} cases[] = {
		{ POLICY("{}"), true, false },
		{ POLICY("{podSelector: {}, egress: []}"), true, false },
		{ POLICY("{podSelector: {}, egress: [{}]}"), true, true },
		{ POLICY("{podSelector: {}, policyTypes: [Egress]}"), false, true },
		{ POLICY("{podSelector: {}, policyTypes: [Ingress], egress: [{}]}"), true, false },
		{ POLICY("{podSelector: {}, policyTypes: []}"), true, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct object_list list = parse_ok(cases[i].text);

		assert_int_equal(list.v[0]->policy.ingress, cases[i].ingress);
		assert_int_equal(list.v[0]->policy.egress, cases[i].egress);
		object_list_clear(&list);
	}
}

/* A null rule is an empty rule to the API server; a null list is no list. */
static void test_policy_nulls(void **state)
{
	struct object_list list =
		parse_ok(POLICY("{podSelector: null, ingress: [null, {from: null, "
				"ports: [null]}]}"));
	const struct network_policy *p = &list.v[0]->policy;

	assert_int_equal(p->pods.n, 0);
	assert_int_equal(p->n_in, 2);
	assert_int_equal(p->in[1].n_peers, 0);
	assert_int_equal(p->in[1].n_ports, 1);
	assert_true(p->in[1].ports[0].any);
	assert_int_equal(p->in[1].ports[0].proto, IPPROTO_TCP);
	object_list_clear(&list);
}

/* ---- YAML and JSON -------------------------------------------------------------------------- */

static void test_documents_and_lists(void **state)
{
	struct object_list list = parse_ok(
		"# a comment only\n---\n---\n"
		"apiVersion: v1\nkind: List\nitems:\n"
		"- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n"
		"- {apiVersion: v1, kind: Namespace, metadata: {name: b}}\n"
		"...\n---\n"
		"{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"c\"}}\n");

	assert_int_equal(list.n, 3);
	assert_string_equal(list.v[2]->name, "c");
	object_list_clear(&list);
	list = parse_ok("\xef\xbb\xbf"
			"apiVersion: v1\r\nkind: Namespace\r\nmetadata: {name: a}\r\n");
	assert_int_equal(list.n, 1);
	object_list_clear(&list);
	list = parse_ok("");
	assert_int_equal(list.n, 0);
	object_list_clear(&list);
	list = parse_ok("{apiVersion: v1, kind: List, items: null}");
	assert_int_equal(list.n, 0);
	object_list_clear(&list);
}

/* The canonical text, from YAML and from JSON, is stable when parsed again. */
static void test_json(void **state)
{
	static const struct {
		const char *text, *json;
	} cases[] = {
		{ "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations:\n"
		  "    n: 0x10\n    o: 017\n    f: 1.10\n    b: yes\n    z: ~\n    t: 2001-01-01\n"
		  "    u: 1_000\n    q: \"a\\tb\\\"\\u00e9\"\n    l: |\n      x\n      y\n"
		  "    s: !!str 80\n    e: ''\n    i: -5\n    v: 1.2.3\n    m: [~]\n",
		  "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\","
		  "\"annotations\":{\"n\":16,\"o\":15,\"f\":1.1,\"b\":true,\"z\":null,"
		  "\"t\":\"2001-01-01\",\"u\":1000,\"q\":\"a\\tb\\\"\xc3\xa9\",\"l\":\"x\\ny\\n\","
		  "\"s\":\"80\",\"e\":\"\",\"i\":-5,\"v\":\"1.2.3\",\"m\":[null]}}}" },
		{ "{\n\t\"apiVersion\":\"v1\",\t\"kind\" : \"Pod\" "
		  ",\n\t\t\"metadata\":{\"name\":\"a\","
		  "\"annotations\":{\"x\":\"\\/"
		  "\\u00e9\\ud83d\\ude00\\\\ud83d\\n\\u0001\",\"n\":1e3,"
		  "\"a\":[],\"o\":{}}}}",
		  "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\","
		  "\"annotations\":{\"x\":\"/"
		  "\xc3\xa9\xf0\x9f\x98\x80\\\\ud83d\\n\\u0001\",\"n\":1000,"
		  "\"a\":[],\"o\":{}}}}" },
		{ "apiVersion: v1\nkind: Pod\nmetadata: &m\n  name: a\n  labels: &l {a: b}\n"
		  "spec:\n  x: *l\n  y:\n    <<: *l\n    c: d\n",
		  "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\","
		  "\"labels\":{\"a\":\"b\"}},\"spec\":{\"x\":{\"a\":\"b\"},\"y\":{\"c\":\"d\","
		  "\"a\":\"b\"}}}" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct object_list list = parse_ok(cases[i].text), again;

		assert_string_equal(list.v[0]->json, cases[i].json);
		again = parse_ok(list.v[0]->json);
		assert_string_equal(again.v[0]->json, cases[i].json);
		object_list_clear(&again);
		object_list_clear(&list);
	}
}

/* ---- refusals ------------------------------------------------------------------------------- */

#define META "apiVersion: v1\nkind: Pod\nmetadata: "

static const struct refusal {
	const char *text;
	unsigned int line, column;
	const char *field;
	const char *part; /* of the sentence */
} refusals[] = {
	/* YAML */
	{ "a: [1\nb: 2\n", 2, 2, "", "not valid YAML" },
	{ "\tkind: Pod\n", 1, 1, "", "not valid YAML" },
	{ "apiVersion: v1\nkind: \xff\n", 2, 7, "", "UTF-8" },
	{ "apiVersion: v1\nkind: a\x01\n", 2, 8, "", "control character" },
	{ "kind: Pod\nkind: Pod\n", 2, 1, "", "kind again" },
	{ "a: *x\n", 1, 4, "", "no anchor &x" },
	{ "a: &x [*x]\n", 1, 8, "", "no anchor &x" },
	{ "yes: 1\n", 1, 1, "", "string as key" },
	{ "? [a]\n: b\n", 1, 3, "", "string as key" },
	{ "a: !!binary aGk=\n", 1, 4, "", "tag" },
	{ "a: !custom x\n", 1, 4, "", "tag" },
	{ "a: \"\\0\"\n", 1, 4, "", "NUL" },
	{ "<<: 1\n", 1, 5, "", "merge" },
	{ "- a\n", 1, 1, "", "expected an object" },
	{ "just text\n", 1, 1, "", "expected an object" },
	/* the document */
	{ "kind: Pod\n", 1, 1, "apiVersion", "missing" },
	{ "apiVersion: v1\n", 1, 1, "kind", "missing" },
	{ "apiVersion: v1\nkind: Service\n", 2, 7, "kind", "'Service'" },
	{ "apiVersion: v1\nkind: 1\n", 2, 7, "kind", "quotes" },
	{ "apiVersion: v2\nkind: Pod\n", 1, 13, "apiVersion", "v1 for Pod" },
	{ "apiVersion: v1\nkind: NetworkPolicy\n", 1, 13, "apiVersion", "networking.k8s.io/v1" },
	{ "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: List\n", 5, 9,
	  "items[0].kind", "'List'" },
	{ "apiVersion: v1\nkind: List\nitems: {}\n", 3, 8, "items", "a list" },
	{ "apiVersion: v1\nkind: Pod\n", 1, 1, "metadata", "missing" },
	{ META "{}\n", 3, 11, "metadata.name", "missing" },
	{ META "{name: A}\n", 3, 18, "metadata.name", "'A'" },
	{ META "{name: 1}\n", 3, 18, "metadata.name", "quotes" },
	{ META "{name: a..b}\n", 3, 18, "metadata.name", "'a..b'" },
	{ META "{name: a, namespace: a.b}\n", 3, 32, "metadata.namespace", "'a.b'" },
	{ META "{name: a, namespace: no}\n", 3, 32, "metadata.namespace", "boolean" },
	{ META "{name: a, labels: {a: yes}}\n", 3, 33, "metadata.labels.a", "a boolean (true)" },
	{ META "{name: a, labels: {a: 1}}\n", 3, 33, "metadata.labels.a", "a number (1)" },
	{ META "{name: a, labels: {a: 1.5}}\n", 3, 33, "metadata.labels.a", "a fraction" },
	{ META "{name: a, labels: {a: }}\n", 3, 33, "metadata.labels.a", "found nothing" },
	{ META "{name: a, labels: {a: [b]}}\n", 3, 33, "metadata.labels.a", "found a list" },
	{ META "{name: a, labels: {a: -b}}\n", 3, 33, "metadata.labels.a", "'-b'" },
	{ META "{name: a, labels: {A_/b: c}}\n", 3, 30, "metadata.labels.A_/b", "DNS name" },
	{ META "{name: a, labels: {a/: c}}\n", 3, 30, "metadata.labels.a/", "'a/'" },
	{ META "{name: a, labels: [a]}\n", 3, 29, "metadata.labels", "a map" },
	{ "apiVersion: v1\nkind: Namespace\nmetadata: {name: a.b}\n", 3, 18, "metadata.name",
	  "'a.b'" },
	{ "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, namespace: b}\n", 3, 32,
	  "metadata.namespace", "no namespace" },
	/* Pods */
	{ META "{name: a}\nstatus: {podIP: 1.2.3}\n", 4, 17, "status.podIP", "'1.2.3'" },
	{ META "{name: a}\nstatus: {podIP: '::ffff:1.2.3.4'}\n", 4, 17, "status.podIP", "address" },
	{ META "{name: a}\nspec: {containers: [{ports: [{containerPort: 0}]}]}\n", 4, 46,
	  "spec.containers[0].ports[0].containerPort", "1 to 65535" },
	{ META "{name: a}\nspec: {containers: [{ports: [{name: a}]}]}\n", 4, 30,
	  "spec.containers[0].ports[0].containerPort", "missing" },
	{ META "{name: a}\nspec: {containers: [{}, {ports: [{containerPort: 1, name: A}]}]}\n", 4,
	  59, "spec.containers[1].ports[0].name", "'A'" },
	{ META "{name: a}\nspec: {containers: [{ports: [{containerPort: 1, protocol: ICMP}]}]}\n",
	  4, 59, "spec.containers[0].ports[0].protocol", "ICMP" },
	{ META "{name: a}\nspec: {hostNetwork: 'true'}\n", 4, 21, "spec.hostNetwork",
	  "true or false" },
	/* NetworkPolicies */
	{ POLICY("{podSelectors: {}}"), 4, 8, "spec.podSelectors", "no field podSelectors" },
	{ POLICY("{podSelector: {app: x}}"), 4, 22, "spec.podSelector.app",
	  "matchLabels or matchExpressions" },
	{ POLICY("{podSelector: {matchLabels: {a: true}}}"), 4, 39,
	  "spec.podSelector.matchLabels.a", "quotes" },
	{ POLICY("{podSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}}"), 4, 60,
	  "spec.podSelector.matchExpressions[0].operator", "'in'" },
	{ POLICY("{podSelector: {matchExpressions: [{key: a, operator: In}]}}"), 4, 41,
	  "spec.podSelector.matchExpressions[0].values", "at least one" },
	{ POLICY("{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}"), 4,
	  41, "spec.podSelector.matchExpressions[0].values", "no values" },
	{ POLICY("{podSelector: {matchExpressions: [{key: '', operator: Exists}]}}"), 4, 47,
	  "spec.podSelector.matchExpressions[0].key", "label key" },
	{ POLICY("{podSelector: {matchExpressions: [{key: a, operator: In, values: [1]}]}}"), 4, 73,
	  "spec.podSelector.matchExpressions[0].values[0]", "quotes" },
	{ POLICY("{policyTypes: [ingress]}"), 4, 22, "spec.policyTypes[0]", "'ingress'" },
	{ POLICY("{policyTypes: [Ingress, Egress, Egress]}"), 4, 21, "spec.policyTypes", "two" },
	{ POLICY("{ingress: [{to: []}]}"), 4, 19, "spec.ingress[0].to", "from or ports" },
	{ POLICY("{egress: [{from: []}]}"), 4, 18, "spec.egress[0].from", "to or ports" },
	{ POLICY("{ingress: {}}"), 4, 17, "spec.ingress", "a list" },
	{ POLICY("{ingress: [{from: [{}]}]}"), 4, 26, "spec.ingress[0].from[0]", "in the peer" },
	{ POLICY("{ingress: [{from: [null]}]}"), 4, 26, "spec.ingress[0].from[0]", "in the peer" },
	{ POLICY("{ingress: [{from: [{podSelector: null}]}]}"), 4, 26, "spec.ingress[0].from[0]",
	  "in the peer" },
	{ POLICY("{ingress: [{from: [{podSelector: {}, ipBlock: {cidr: 1.0.0.0/8}}]}]}"), 4, 26,
	  "spec.ingress[0].from[0]", "not both" },
	{ POLICY("{ingress: [{from: [{ipBlock: {}}]}]}"), 4, 36,
	  "spec.ingress[0].from[0].ipBlock.cidr", "missing" },
	{ POLICY("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0}}]}]}"), 4, 43,
	  "spec.ingress[0].from[0].ipBlock.cidr", "'10.0.0.0'" },
	{ POLICY("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]}"), 4, 43,
	  "spec.ingress[0].from[0].ipBlock.cidr", "/33" },
	{ POLICY("{ingress: [{from: [{ipBlock: {cidr: 10.0.0/8}}]}]}"), 4, 43,
	  "spec.ingress[0].from[0].ipBlock.cidr", "CIDR" },
	{ POLICY("{ingress: [{from: [{ipBlock: {cidr: '::ffff:10.0.0.0/104'}}]}]}"), 4, 43,
	  "spec.ingress[0].from[0].ipBlock.cidr", "CIDR" },
	{ POLICY("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/9]}}]}]}"), 4,
	  64, "spec.ingress[0].from[0].ipBlock.except[0]", "inside" },
	{ POLICY("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]}"), 4,
	  64, "spec.ingress[0].from[0].ipBlock.except[0]", "smaller" },
	{ POLICY("{ingress: [{from: [{ipBlock: {cidr: '::/0', except: [10.0.0.0/8]}}]}]}"), 4, 60,
	  "spec.ingress[0].from[0].ipBlock.except[0]", "inside" },
	{ POLICY("{ingress: [{ports: [{port: 0}]}]}"), 4, 34, "spec.ingress[0].ports[0].port",
	  "1 to 65535" },
	{ POLICY("{ingress: [{ports: [{port: 65536}]}]}"), 4, 34, "spec.ingress[0].ports[0].port",
	  "1 to 65535" },
	{ POLICY("{ingress: [{ports: [{port: '80'}]}]}"), 4, 34, "spec.ingress[0].ports[0].port",
	  "at least one letter" },
	{ POLICY("{ingress: [{ports: [{port: a--b}]}]}"), 4, 34, "spec.ingress[0].ports[0].port",
	  "port name" },
	{ POLICY("{ingress: [{ports: [{port: abcdefghijklmnop}]}]}"), 4, 34,
	  "spec.ingress[0].ports[0].port", "15" },
	{ POLICY("{ingress: [{ports: [{port: 1.5}]}]}"), 4, 34, "spec.ingress[0].ports[0].port",
	  "number or name" },
	{ POLICY("{ingress: [{ports: [{port: 80, endPort: 79}]}]}"), 4, 47,
	  "spec.ingress[0].ports[0].endPort", "below" },
	{ POLICY("{ingress: [{ports: [{port: http, endPort: 81}]}]}"), 4, 49,
	  "spec.ingress[0].ports[0].endPort", "name" },
	{ POLICY("{ingress: [{ports: [{endPort: 81}]}]}"), 4, 37,
	  "spec.ingress[0].ports[0].endPort", "without a port" },
	{ POLICY("{ingress: [{ports: [{protocol: tcp}]}]}"), 4, 38,
	  "spec.ingress[0].ports[0].protocol", "TCP, UDP or SCTP" },
	{ POLICY("{ingress: [{ports: [{prot: TCP}]}]}"), 4, 28, "spec.ingress[0].ports[0].prot",
	  "no field prot" },
	/* the second document: positions go on, and nothing of the first is kept */
	{ META "{name: a}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: B}\n", 7, 18,
	  "metadata.name", "'B'" },
};

static void test_refusals(void **state)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
		const struct refusal *r = &refusals[i];
		struct object_list list = { (void *)1, 77 };
		struct object_error err;

		if (object_parse("t.yaml", r->text, strlen(r->text), &list, &err) != -EINVAL)
			fail_msg("taken: %s", r->text);
		if (err.line != r->line || err.column != r->column || strcmp(err.field, r->field) ||
		    !strstr(err.text, r->part) || strcmp(err.file, "t.yaml"))
			fail_msg("%s%s:%u:%u: %s: %s", r->text, err.file, err.line, err.column,
				 err.field, err.text);
		assert_int_equal(list.n, 77); /* untouched */
	}
}

static char *repeat(const char *unit, size_t n, const char *end)
{
	size_t len = strlen(unit);
	char *text = malloc(n * len + strlen(end) + 1);

	for (size_t i = 0; i < n; i++)
		memcpy(text + i * len, unit, len);
	strcpy(text + n * len, end);
	return text;
}

static void refuse_text(char *text, const char *part)
{
	struct object_list list;
	struct object_error err;

	assert_int_equal(object_parse("t", text, strlen(text), &list, &err), -EINVAL);
	if (!strstr(err.text, part))
		fail_msg("%s", err.text);
	free(text);
}

/* Two bytes of text make a value of a hundred. */
static void test_values_bound(void **state)
{
	const size_t n = (1u << 20) + 1;
	char *list = malloc(2 * n + 2), *empty = malloc(4 * n + 1);

	assert_true(list && empty);
	for (size_t i = 0; i < n; i++) {
		memcpy(list + 2 * i, i ? ",1" : "[1", 2);
		memcpy(empty + 4 * i, "---\n", 4);
	}
	strcpy(list + 2 * n, "]");
	empty[4 * n] = '\0';
	refuse_text(list, "split it");
	refuse_text(empty, "split it");
}

static void test_bounds(void **state)
{
	char *laughs = malloc(4096);
	size_t n = (size_t)sprintf(laughs, "a0: &a0 [x,x,x,x,x,x,x,x,x]\n");

	for (int i = 1; i < 12; i++)
		n += (size_t)sprintf(laughs + n,
				     "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i,
				     i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
	refuse_text(laughs, "aliases");
	refuse_text(repeat("[", 5000, ""), "nested");
	refuse_text(repeat("- ", 5000, "a"), "nested");
	refuse_text(repeat("x", (64u << 20) + 1, ""), "64 MiB");
}

/* ---- small parts ---------------------------------------------------------------------------- */

static void test_names_only(void **state)
{
	static const char text[] =
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {'!': 7}}\nspec: 3\n"
		"---\n"
		"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
		"metadata: {name: p, namespace: shop}\n";
	static const char nameless[] = "apiVersion: v1\nkind: Pod\nmetadata: {}\n";
	struct object_list list = {};
	struct object_error err;

	assert_int_equal(object_parse("t", text, strlen(text), &list, &err), -EINVAL);
	assert_int_equal(object_parse_names("t", text, strlen(text), &list, &err), 0);
	assert_int_equal(list.n, 2);
	assert_string_equal(list.v[0]->ns, "default");
	assert_string_equal(list.v[1]->ns, "shop");
	assert_string_equal(list.v[1]->name, "p");
	assert_null(list.v[1]->json);
	object_list_clear(&list);
	assert_int_equal(object_parse_names("t", nameless, strlen(nameless), &list, &err), -EINVAL);
	assert_string_equal(err.field, "metadata.name");
}

static void test_selector(void **state)
{
	static const struct {
		const char *selector;
		bool match; /* of the labels a=1, b=2 */
	} cases[] = {
		{ "{}", true },
		{ "{matchLabels: {a: '1'}}", true },
		{ "{matchLabels: {a: '1', b: '3'}}", false },
		{ "{matchLabels: {c: ''}}", false },
		{ "{matchExpressions: [{key: a, operator: In, values: ['0', '1']}]}", true },
		{ "{matchExpressions: [{key: c, operator: In, values: ['']}]}", false },
		{ "{matchExpressions: [{key: a, operator: NotIn, values: ['1']}]}", false },
		{ "{matchExpressions: [{key: a, operator: NotIn, values: ['2']}]}", true },
		{ "{matchExpressions: [{key: c, operator: NotIn, values: ['2']}]}", true },
		{ "{matchExpressions: [{key: a, operator: Exists}]}", true },
		{ "{matchExpressions: [{key: c, operator: Exists}]}", false },
		{ "{matchExpressions: [{key: a, operator: DoesNotExist}]}", false },
		{ "{matchExpressions: [{key: c, operator: DoesNotExist}]}", true },
		{ "{matchLabels: {a: '1'}, matchExpressions: [{key: b, operator: NotIn, values: "
		  "['2']}]}",
		  false },
	};
	struct label v[] = { { "a", "1" }, { "b", "2" } };
	const struct labels labels = { v, 2 };

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char text[512];

		snprintf(text, sizeof(text), POLICY("{podSelector: %s}"), cases[i].selector);
		struct object_list list = parse_ok(text);

		if (selector_match(&list.v[0]->policy.pods, &labels) != cases[i].match)
			fail_msg("%s", cases[i].selector);
		object_list_clear(&list);
	}
}

static void test_prefix(void **state)
{
	static const struct {
		const char *prefix, *shown, *in, *out;
	} cases[] = {
		{ "10.1.2.3/8", "10.0.0.0/8", "10.255.0.1", "11.0.0.0" },
		{ "0.0.0.0/0", "0.0.0.0/0", "255.255.255.255", "::1" },
		{ "1.2.3.4", "1.2.3.4/32", "1.2.3.4", "1.2.3.5" },
		{ "10.1.2.77/26", "10.1.2.64/26", "10.1.2.127", "10.1.2.128" },
		{ "::/0", "::/0", "fe80::1", "10.0.0.1" },
		{ "::/64", "::/64", "::ffff", "1.2.3.4" },
		{ "fd00::ffff/65", "fd00::/65", "fd00::7fff:0:0:1", "fd00::8000:0:0:0" },
		{ "fd00::1", "fd00::1/128", "fd00::1", "fd00::2" },
	};
	static const char *const bad[] = {
		"",	     "/8",	   "10.0.0.0/",	  "10.0.0.0/08",
		"10.0.0/8",  "1.2.3.4/-1", "1.2.3.4/33",  "::/129",
		"a::b::c/8", "01.2.3.4",   "1.2.3.4/8/8", "::ffff:1.2.3.4/97"
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct prefix p;
		union tw_addr in, out;
		char buf[64];

		assert_int_equal(prefix_parse(cases[i].prefix, &p), 0);
		assert_int_equal(prefix_format(&p, buf, sizeof(buf)), 0);
		assert_string_equal(buf, cases[i].shown);
		assert_int_equal(addr_parse(cases[i].in, &in), 0);
		assert_int_equal(addr_parse(cases[i].out, &out), 0);
		assert_true(prefix_contains(&p, &in));
		assert_false(prefix_contains(&p, &out));
		assert_int_equal(addr_format(&in, buf, sizeof(buf)), 0);
		assert_string_equal(buf, cases[i].in);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct prefix p;

		if (prefix_parse(bad[i], &p) != -EINVAL)
			fail_msg("taken: %s", bad[i]);
	}
}

static void test_kinds(void **state)
{
	static const char *const names[] = { "Pod",	   "po",     "ns",
					     "Namespaces", "netpol", "networkpolicies" };
	static const enum object_kind kinds[] = { OBJECT_POD,		OBJECT_POD,
						  OBJECT_NAMESPACE,	OBJECT_NAMESPACE,
						  OBJECT_NETWORKPOLICY, OBJECT_NETWORKPOLICY };
	enum object_kind kind;

	for (size_t i = 0; i < 6; i++) {
		assert_int_equal(object_kind_parse(names[i], &kind), 0);
		assert_int_equal(kind, kinds[i]);
	}
	assert_int_equal(object_kind_parse("service", &kind), -EINVAL);
	assert_string_equal(object_kind_name(OBJECT_NETWORKPOLICY), "NetworkPolicy");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pod),
		cmocka_unit_test(test_pod_ended_has_no_address),
		cmocka_unit_test(test_pod_host_network),
		cmocka_unit_test(test_namespace_label),
		cmocka_unit_test(test_policy),
		cmocka_unit_test(test_policy_types_default),
		cmocka_unit_test(test_policy_nulls),
		cmocka_unit_test(test_documents_and_lists),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_values_bound),
		cmocka_unit_test(test_names_only),
		cmocka_unit_test(test_selector),
		cmocka_unit_test(test_prefix),
		cmocka_unit_test(test_kinds),
	};

	return cmocka_run_group_tests_name("object", tests, NULL, NULL);
}
