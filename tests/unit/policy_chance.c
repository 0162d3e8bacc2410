/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "policy_chance.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include "unit.h"

const char *const chance_ns[CHANCE_NS] = { "x", "y", "z" };
const char *const chance_values[3] = { "a", "b", "c" };
const char *const chance_keys[3] = { "app", "tier", "env" };
static const char *const port_names[] = { "http", "dns", "metrics" };
static const char *const cidrs[] = {
	"0.0.0.0/0",   "10.0.0.0/8",  "10.0.0.0/16",	"10.0.0.0/24",	 "10.0.1.0/24",
	"10.0.0.2/32", "10.0.0.0/30", "192.168.0.0/16", "10.1.0.0/31",	 "10.0.1.3/32",
	"128.0.0.0/1", "::/0",	      "::/1",		"::/64",	 "fd00::/16",
	"fd00::/112",  "fd00::1/128", "fd00::1:0/112",	"2001:db8::/32",
};
const char *const chance_pods[12] = {
	"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.1", "10.0.1.2",  "10.0.1.3",
	"10.1.0.1", "fd00::1",	"fd00::2",  "fd00::3",	"fd00::1:1", "fd00::1:2",
};
const char *const chance_world[11] = {
	"10.0.0.9",  "10.0.1.77", "10.1.0.0",	 "192.168.1.1", "192.168.2.2", "8.8.8.8",
	"200.1.1.1", "fd00::9",	  "2001:db8::1", "::1:2",	"4000::1",
};
const struct chance_probe chance_probes[10] = {
	{ IPPROTO_TCP, 80 },	{ IPPROTO_TCP, 81 }, { IPPROTO_TCP, 8080 }, { IPPROTO_TCP, 0 },
	{ IPPROTO_UDP, 53 },	{ IPPROTO_UDP, 80 }, { IPPROTO_SCTP, 80 },  { IPPROTO_ICMP, 0 },
	{ IPPROTO_TCP, 65535 }, { IPPROTO_UDP, 81 },
};

/* ---- chance --------------------------------------------------------------------------------- */

static uint64_t seed;
static const char *const *pod_addrs = chance_pods, *const *blocks = cidrs;
static uint32_t n_pod_addrs = COUNT(chance_pods), n_blocks = COUNT(cidrs);

void chance_addresses(const char *const *pods, uint32_t n_pods, const char *const *block,
		      uint32_t n_block)
{
	pod_addrs = pods;
	n_pod_addrs = n_pods;
	blocks = block;
	n_blocks = n_block;
}

void chance_seed(uint64_t value)
{
	seed = value;
}

uint32_t rnd(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)((seed * 0x2545f4914f6cdd1dull) >> 33) % n;
}

/* ---- objects -------------------------------------------------------------------------------- */

struct text {
	char v[8192];
	size_t n;
};

static void add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct text *t, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	t->n += (size_t)vsnprintf(t->v + t->n, sizeof(t->v) - t->n, fmt, args);
	va_end(args);
	assert_true(t->n < sizeof(t->v));
}

static struct object *object_from(const struct text *t)
{
	struct object_list list;
	struct object_error err;
	struct object *obj;

	if (object_parse("random", t->v, t->n, &list, &err))
		fail_msg("%s: %s\n%s", err.field, err.text, t->v);
	assert_int_equal(list.n, 1);
	obj = list.v[0];
	free(list.v);
	return obj;
}

static void add_labels(struct text *t, uint32_t chance)
{
	bool some = false;

	add(t, "{");
	for (size_t i = 0; i < COUNT(chance_keys); i++) {
		if (rnd(100) >= chance)
			continue;
		add(t, "%s\"%s\": \"%s\"", some ? ", " : "", chance_keys[i], pick(chance_values));
		some = true;
	}
	add(t, "}");
}

static void add_selector(struct text *t, bool of_ns)
{
	uint32_t n = rnd(3);

	if (!rnd(4)) {
		add(t, "{}");
		return;
	}
	add(t, "{matchLabels: ");
	if (of_ns && rnd(2))
		add(t, "{kubernetes.io/metadata.name: \"%s\"}", pick(chance_ns));
	else
		add_labels(t, 35);
	add(t, ", matchExpressions: [");
	for (uint32_t i = 0; i < n; i++) {
		static const char *const ops[] = { "In", "NotIn", "Exists", "DoesNotExist" };
		uint32_t op = rnd(4);

		add(t, "%s{key: %s, operator: %s", i ? ", " : "", pick(chance_keys), ops[op]);
		if (op < 2)
			add(t, ", values: [\"%s\", \"%s\"]", pick(chance_values),
			    pick(chance_values));
		add(t, "}");
	}
	add(t, "]}");
}

static void add_block(struct text *t)
{
	const char *cidr = blocks[rnd(n_blocks)];
	struct prefix outer, inner;
	bool some = false;

	assert_int_equal(prefix_parse(cidr, &outer), 0);
	add(t, "{ipBlock: {cidr: \"%s\", except: [", cidr);
	for (uint32_t i = rnd(4); i; i--) {
		const char *except = blocks[rnd(n_blocks)];

		prefix_parse(except, &inner);
		if (inner.len <= outer.len || !prefix_contains(&outer, &inner.addr))
			continue;
		add(t, "%s\"%s\"", some ? ", " : "", except);
		some = true;
	}
	add(t, "]}}");
}

static void add_peers(struct text *t, uint32_t n)
{
	add(t, "[");
	for (uint32_t i = 0; i < n; i++) {
		uint32_t kind = rnd(5);

		if (i)
			add(t, ", ");
		if (kind < 2) {
			add_block(t);
			continue;
		}
		add(t, "{");
		if (kind != 2) {
			add(t, "podSelector: ");
			add_selector(t, false);
		}
		if (kind != 3) {
			add(t, "%snamespaceSelector: ", kind != 2 ? ", " : "");
			add_selector(t, true);
		}
		add(t, "}");
	}
	add(t, "]");
}

static void add_ports(struct text *t)
{
	static const char *const protos[] = { "TCP", "UDP", "SCTP" };
	uint32_t n = rnd(3);

	add(t, "[");
	for (uint32_t i = 0; i < n; i++) {
		uint16_t port = chance_probes[rnd(6)].port;

		add(t, "%s{protocol: %s", i ? ", " : "", pick(protos));
		switch (rnd(5)) {
		case 0:
			break;
		case 1:
		case 2:
			add(t, ", port: %s", pick(port_names));
			break;
		case 3:
			add(t, ", port: %u", port ? port : 1);
			break;
		default:
			add(t, ", port: %u, endPort: %u", port ? port : 1,
			    rnd(3) ? port + 1u + rnd(9000) : 65535u);
		}
		add(t, "}");
	}
	add(t, "]");
}

static void add_rules(struct text *t, const char *peers)
{
	uint32_t n = rnd(4);

	add(t, "[");
	for (uint32_t i = 0; i < n; i++) {
		bool to = rnd(5);

		add(t, "%s{", i ? ", " : "");
		if (to) {
			add(t, "%s: ", peers);
			add_peers(t, rnd(4));
		}
		if (rnd(5)) {
			add(t, "%sports: ", to ? ", " : "");
			add_ports(t);
		}
		add(t, "}");
	}
	add(t, "]");
}

struct object *chance_policy(uint32_t i)
{
	static const char *const types[] = { "[Ingress]", "[Egress]", "[Ingress, Egress]", "[]" };
	struct text t = {};

	add(&t,
	    "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p%u, "
	    "namespace: %s}, spec: {podSelector: ",
	    i, chance_ns[i % CHANCE_NS]);
	add_selector(&t, false);
	add(&t, ", policyTypes: %s, ingress: ", pick(types));
	add_rules(&t, "from");
	add(&t, ", egress: ");
	add_rules(&t, "to");
	add(&t, "}}");
	return object_from(&t);
}

struct object *chance_plain_policy(uint32_t i)
{
	static const char *const ports[] = { "port: 80", "port: 80", "port: 80, endPort: 81",
					     "port: 79, endPort: 9000", "port: metrics" };
	static const char *const ways[2][2] = { { "ingress", "from" }, { "egress", "to" } };
	struct text t = {};

	add(&t,
	    "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p%u, "
	    "namespace: %s}, spec: {podSelector: {}, policyTypes: [Ingress, Egress]",
	    i, chance_ns[i % CHANCE_NS]);
	for (size_t way = 0; way < 2; way++) {
		add(&t, ", %s: [{%s: ", ways[way][0], ways[way][1]);
		add_peers(&t, 1 + rnd(3));
		if (rnd(8))
			add(&t, ", ports: [{protocol: TCP, %s}]", pick(ports));
		add(&t, "}]");
	}
	add(&t, "}}");
	return object_from(&t);
}

struct object *chance_pod(uint32_t i)
{
	static const char *const protos[] = { "TCP", "UDP" };
	struct text t = {};

	add(&t, "{apiVersion: v1, kind: Pod, metadata: {name: pod%u, namespace: %s, labels: ",
	    i / CHANCE_NS, chance_ns[i % CHANCE_NS]);
	add_labels(&t, 60);
	add(&t, "}, spec: {hostNetwork: %s, containers: [{ports: [", rnd(10) ? "false" : "true");
	/* Mostly the ports that pods of this name always have. */
	for (uint32_t j = rnd(5) ? i % 4 : rnd(4); j; j--) {
		bool usual = rnd(5);
		uint16_t port = chance_probes[usual ? (i + j) % 5 : rnd(6)].port;

		add(&t, "{name: %s, containerPort: %u, protocol: %s}%s",
		    port_names[usual ? j % 3 : rnd(3)], port ? port : 1,
		    protos[usual ? j / 3 : rnd(2)], j > 1 ? ", " : "");
	}
	add(&t, "]}]}, status: {podIPs: [");
	for (uint32_t j = rnd(3); j; j--)
		add(&t, "{ip: \"%s\"}%s", pod_addrs[rnd(n_pod_addrs)], j > 1 ? ", " : "");
	add(&t, "], phase: %s}}", rnd(10) ? "Running" : "Failed");
	return object_from(&t);
}

struct object *chance_namespace(uint32_t i)
{
	struct text t = {};

	add(&t, "{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: ", chance_ns[i]);
	add_labels(&t, 50);
	add(&t, "}}");
	return object_from(&t);
}
