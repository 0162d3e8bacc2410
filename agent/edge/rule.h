/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * One rule of the edge's filter: what people write, what is kept, and what it is for. A rule has a
 * number, which is its counter in the kernel. Knows nothing of the agent.
 */
#ifndef AGENT_EDGE_RULE_H
#define AGENT_EDGE_RULE_H

#include <jansson.h>

#include <towpath/edge_abi.h>

#include "edge/list.h"
#include "object/object.h"

enum edge_action { EDGE_DENY, EDGE_ALLOW };

enum edge_rule_kind {
	EDGE_RULE_PREFIX, /* a prefix, perhaps with ports */
	EDGE_RULE_LIST,	  /* a file of prefixes */
	EDGE_RULE_PORT,	  /* a protocol or ports, whatever the source */
	EDGE_RULE_FORM,	  /* a form of packets: enum tw_edge_drop, or malformed headers (0) */
};

/* A protocol, and ports of it. */
struct edge_ports {
	bool any; /* every protocol and port: none is named */
	uint8_t proto;
	uint16_t first, last; /* 0 to 65535 for protocols without */
};

struct edge_rule {
	uint32_t number; /* TW_EDGE_FIRST_RULE and up */
	enum edge_action action;
	enum edge_rule_kind kind;
	struct prefix prefix;
	struct edge_ports ports;
	uint32_t form;
	char *text;	/* as people write it, in one way only: names the rule with the action */
	uint64_t file;	/* LIST: the number in its file's name */
	size_t entries; /* LIST: prefixes in it */
	struct tw_metric before; /* counted under other numbers */
	int64_t since;		 /* seconds since the epoch */
	int64_t expires;	 /* 0: never */
};

const char *edge_action_name(enum edge_action action);

/*
 * "192.0.2.0/24", "22/tcp", "192.0.2.0/24 1000-2000/udp", "icmp", "fragments", ...: kind and what
 * belongs to it, and text. -EINVAL with a sentence; forms can only be denied.
 */
int edge_rule_parse(const char *text, enum edge_action action, struct edge_rule *out, char *err,
		    size_t err_len);
void edge_rule_clear(struct edge_rule *rule);

/* "22/tcp", "1000-2000/udp", "icmp", "proto/47". -EINVAL. */
int edge_ports_parse(const char *text, struct edge_ports *out);
const char *edge_ports_format(const struct edge_ports *ports, char *buf, size_t len);

/* As it is kept, and back; -EINVAL for what is none. */
json_t *edge_rule_json(const struct edge_rule *rule);
int edge_rule_load(const json_t *json, struct edge_rule *out);

#endif
