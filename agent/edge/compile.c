/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "edge/compile.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

/* Rules with ports that hold for the same addresses. */
#define CLASS_RULES_MAX 64u

struct class_key {
	uint32_t rest; /* what holds where no rule does: a class DENY, or 0 */
	uint32_t n;
	uint32_t rule[CLASS_RULES_MAX]; /* sorted */
};

struct edge_port_class {
	struct class_key key;
	uint32_t number;
	UT_hash_handle hh;
};

void edge_compile_close(struct edge_compile *c)
{
	HASH_CLEAR(hh, c->by_key);
	for (size_t i = 0; i < TW_EDGE_CLASSES; i++) {
		free(c->by_number[i]);
		c->by_number[i] = NULL;
	}
}

void edge_compile_begin(struct edge_compile *c)
{
	HASH_CLEAR(hh, c->by_key);
	c->half = !c->half;
	c->n_classes = c->n_intervals = 0;
	c->failed = 0;
	for (uint32_t i = 0; i < EDGE_CLASSES_HALF; i++) {
		free(c->by_number[c->half * EDGE_CLASSES_HALF + i]);
		c->by_number[c->half * EDGE_CLASSES_HALF + i] = NULL;
	}
}

static uint32_t verdict_of(const struct edge_rule *rule)
{
	return (rule->action == EDGE_ALLOW ? TW_EDGE_CLASS_ALLOW : TW_EDGE_CLASS_DENY) |
	       rule->number;
}

static bool is_allow(uint32_t class)
{
	return (class & TW_EDGE_CLASS_KIND) == TW_EDGE_CLASS_ALLOW;
}

static bool is_ports(uint32_t class)
{
	return (class & TW_EDGE_CLASS_KIND) == TW_EDGE_CLASS_PORTS;
}

/* ---- classes ----------------------------------------------------------------------------------- */

static uint32_t ports_start(const struct edge_ports *p)
{
	return (uint32_t)p->proto << 16 | p->first;
}

static uint32_t ports_end(const struct edge_ports *p)
{
	return ((uint32_t)p->proto << 16 | p->last) + 1;
}

static int order32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* What the rules say at one (protocol, port): allow wins, then the rule that is narrower. */
static uint32_t rules_at(const struct edge_compile *c, const struct class_key *key, uint32_t at)
{
	uint32_t found = 0, width = UINT32_MAX;

	for (uint32_t i = 0; i < key->n; i++) {
		const struct edge_rule *rule = c->rule[key->rule[i]];
		uint32_t start = ports_start(&rule->ports), end = ports_end(&rule->ports);
		uint32_t says = verdict_of(rule);

		if (at < start || at >= end || (is_allow(found) && !is_allow(says)))
			continue;
		if (is_allow(says) == is_allow(found) && found && end - start >= width)
			continue;
		found = says;
		width = end - start;
	}
	return found;
}

static uint32_t intervals_make(const struct edge_compile *c, const struct class_key *key,
			       struct tw_edge_interval out[2 * CLASS_RULES_MAX + 1])
{
	uint32_t edge[2 * CLASS_RULES_MAX + 1] = {}, n = 1, made = 0;

	for (uint32_t i = 0; i < key->n; i++) {
		edge[n++] = ports_start(&c->rule[key->rule[i]]->ports);
		edge[n++] = ports_end(&c->rule[key->rule[i]]->ports);
	}
	qsort(edge, n, sizeof(edge[0]), order32);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t says = rules_at(c, key, edge[i]);

		if (made && (out[made - 1].class == says || edge[i] == edge[i - 1]))
			continue;
		out[made++] = (struct tw_edge_interval){ edge[i], says };
	}
	return made;
}

static int class_store(struct edge_compile *c, struct edge_port_class *class)
{
	struct tw_edge_interval intervals[2 * CLASS_RULES_MAX + 1];
	struct tw_edge_class value = {
		.first = c->half * EDGE_INTERVALS_HALF + c->n_intervals,
		.count = intervals_make(c, &class->key, intervals),
		.rest = class->key.rest,
	};

	if (c->n_classes == EDGE_CLASSES_HALF || c->n_intervals + value.count > EDGE_INTERVALS_HALF)
		return -ENOSPC;
	class->number = c->half * EDGE_CLASSES_HALF + c->n_classes;
	int res = edge_class_set(c->edge, class->number, &value, intervals);
	if (res)
		return res;
	c->n_classes++;
	c->n_intervals += value.count;
	return 0;
}

/* The class of exactly these rules. On failure `failed` is set, and the load does not count. */
static uint32_t class_get(struct edge_compile *c, const struct class_key *key)
{
	struct edge_port_class *class;
	int res = -ENOMEM;

	HASH_FIND(hh, c->by_key, key, sizeof(*key), class);
	if (class)
		return TW_EDGE_CLASS_PORTS | class->number;
	class = calloc(1, sizeof(*class));
	if (class) {
		class->key = *key;
		res = class_store(c, class);
	}
	if (res) {
		free(class);
		c->failed = c->failed ? c->failed : res;
		return 0;
	}
	c->by_number[class->number] = class;
	HASH_ADD(hh, c->by_key, key, sizeof(class->key), class);
	return TW_EDGE_CLASS_PORTS | class->number;
}

static void key_add(struct edge_compile *c, struct class_key *key, uint32_t rule)
{
	uint32_t at = 0;

	while (at < key->n && key->rule[at] < rule)
		at++;
	if (at < key->n && key->rule[at] == rule)
		return;
	if (key->n == CLASS_RULES_MAX) {
		c->failed = c->failed ? c->failed : -E2BIG;
		return;
	}
	memmove(&key->rule[at + 1], &key->rule[at], (key->n - at) * sizeof(key->rule[0]));
	key->rule[at] = rule;
	key->n++;
}

uint32_t edge_compile_class(void *arg, uint32_t outer, uint32_t number)
{
	struct edge_compile *c = arg;
	const struct edge_rule *rule = c->rule[number];
	struct class_key key = {};

	/* A rule that is being taken away says nothing any more. */
	if (!rule || is_allow(outer))
		return outer;
	if (rule->ports.any && (rule->action == EDGE_ALLOW || !is_ports(outer)))
		return verdict_of(rule);
	if (is_ports(outer))
		key = c->by_number[outer & TW_EDGE_CLASS_NUMBER]->key;
	else
		key.rest = outer;
	if (rule->ports.any)
		key.rest = verdict_of(rule);
	else
		key_add(c, &key, number);
	return class_get(c, &key);
}

/* ---- any source ---------------------------------------------------------------------------------- */

static int port_proto(uint8_t proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return TW_EDGE_TCP;
	case IPPROTO_UDP:
		return TW_EDGE_UDP;
	case IPPROTO_SCTP:
		return TW_EDGE_SCTP;
	default:
		return -1;
	}
}

static void ports_paint(struct tw_edge_ports *out, const struct edge_rule *rule)
{
	int proto = port_proto(rule->ports.proto);
	uint16_t says = (uint16_t)verdict_of(rule);

	/* The whole of a protocol, later fragments with it. */
	if (!rule->ports.first && rule->ports.last == 65535) {
		if (!is_allow(out->proto[rule->ports.proto]))
			out->proto[rule->ports.proto] = says;
		return;
	}
	for (uint32_t p = rule->ports.first; proto >= 0 && p <= rule->ports.last; p++)
		if (!is_allow(out->port[proto][p]))
			out->port[proto][p] = says;
}

void edge_compile_ports(const struct edge_compile *c, struct tw_edge_ports *out)
{
	memset(out, 0, sizeof(*out));
	for (uint32_t i = TW_EDGE_FIRST_RULE; i < TW_EDGE_COUNTERS; i++)
		if (c->rule[i] && c->rule[i]->kind == EDGE_RULE_PORT)
			ports_paint(out, c->rule[i]);
	/* A protocol that is allowed as a whole is so at each of its ports. */
	for (int proto = 0; proto < 256; proto++) {
		int ports = port_proto((uint8_t)proto);

		if (ports < 0 || !is_allow(out->proto[proto]))
			continue;
		for (uint32_t p = 0; p < 65536; p++)
			out->port[ports][p] = out->proto[proto];
	}
}

void edge_compile_settings(const struct edge_compile *c, struct tw_edge_settings *out)
{
	for (uint32_t i = TW_EDGE_FIRST_RULE; i < TW_EDGE_COUNTERS; i++) {
		const struct edge_rule *rule = c->rule[i];

		if (!rule)
			continue;
		if (rule->kind == EDGE_RULE_PREFIX || rule->kind == EDGE_RULE_LIST)
			out->filter = 1;
		if (!rule->ports.any)
			out->ports = out->parse = 1;
		if (rule->kind == EDGE_RULE_FORM) {
			out->drop |= rule->form;
			out->parse = 1;
		}
	}
}

/* ---- questions -------------------------------------------------------------------------------------- */

/*
 * As ports_paint() leaves it for the program: the first that allows the whole protocol, or the port;
 * else the last that denies the port, or the whole protocol.
 */
static uint32_t any_decides(const struct edge_compile *c, const struct edge_ports *packet)
{
	uint32_t at = ports_start(packet), found[4] = {};

	for (uint32_t i = TW_EDGE_FIRST_RULE; i < TW_EDGE_COUNTERS; i++) {
		const struct edge_rule *rule = c->rule[i];
		bool whole;

		if (!rule || rule->kind != EDGE_RULE_PORT || at < ports_start(&rule->ports) ||
		    at >= ports_end(&rule->ports))
			continue;
		whole = !rule->ports.first && rule->ports.last == 65535;
		if (rule->action == EDGE_DENY)
			found[whole ? 3 : 2] = verdict_of(rule);
		else if (!found[whole ? 0 : 1])
			found[whole ? 0 : 1] = verdict_of(rule);
	}
	for (int i = 0; i < 4; i++)
		if (found[i])
			return found[i];
	return 0;
}

/* In the order of bpf/lib/edge_filter.h. */
uint32_t edge_compile_decide(const struct edge_compile *c, uint32_t class,
			     const struct edge_ports *packet)
{
	uint32_t any = packet->any ? 0 : any_decides(c, packet);

	if (is_ports(class)) {
		const struct edge_port_class *p = c->by_number[class & TW_EDGE_CLASS_NUMBER];
		uint32_t says = p && !packet->any ? rules_at(c, &p->key, ports_start(packet)) : 0;

		class = says ? says : p ? p->key.rest : 0;
	}
	if (is_allow(class) || (class && !is_allow(any)))
		return class & TW_EDGE_CLASS_NUMBER;
	return any & TW_EDGE_CLASS_NUMBER;
}
