/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "edge/rule.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	uint8_t proto;
	bool ports;
} protos[] = {
	{ "tcp", IPPROTO_TCP, true },	    { "udp", IPPROTO_UDP, true },
	{ "sctp", IPPROTO_SCTP, true },	    { "icmp", IPPROTO_ICMP, false },
	{ "icmp6", IPPROTO_ICMPV6, false }, { "gre", IPPROTO_GRE, false },
	{ "esp", IPPROTO_ESP, false },	    { "ah", IPPROTO_AH, false },
	{ "ipip", IPPROTO_IPIP, false },    { "ip6ip", IPPROTO_IPV6, false },
};
#define N_PROTOS (sizeof(protos) / sizeof(protos[0]))

static const struct {
	const char *name;
	uint32_t form;
} forms[] = {
	{ "malformed", 0 },
	{ "bad-flags", TW_EDGE_DROP_BAD_FLAGS },
	{ "fragments", TW_EDGE_DROP_FRAGMENTS },
	{ "ip-options", TW_EDGE_DROP_OPTIONS },
	{ "bad-length", TW_EDGE_DROP_BAD_LENGTH },
};
#define N_FORMS (sizeof(forms) / sizeof(forms[0]))

const char *edge_action_name(enum edge_action action)
{
	return action == EDGE_ALLOW ? "allow" : "deny";
}

/* A number of at most `max` that ends at *end. */
static bool number(const char *text, unsigned long max, const char **end, unsigned long *out)
{
	char *stop;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*out = strtoul(text, &stop, 10);
	*end = stop;
	return !errno && *out <= max;
}

static int proto_find(const char *name)
{
	for (size_t i = 0; i < N_PROTOS; i++)
		if (!strcmp(protos[i].name, name))
			return (int)i;
	return -1;
}

int edge_ports_parse(const char *text, struct edge_ports *out)
{
	unsigned long first, last, proto;
	const char *at;
	int i = proto_find(text);

	if (i >= 0) {
		*out = (struct edge_ports){ .proto = protos[i].proto, .last = 65535 };
		return 0;
	}
	/* A number alone may be meant as a port or as a protocol: it is neither. */
	if (!strncmp(text, "proto/", 6)) {
		if (!number(text + 6, 255, &at, &proto) || *at)
			return -EINVAL;
		*out = (struct edge_ports){ .proto = (uint8_t)proto, .last = 65535 };
		return 0;
	}
	if (!number(text, 65535, &at, &first))
		return -EINVAL;
	last = first;
	if (*at == '-' && !number(at + 1, 65535, &at, &last))
		return -EINVAL;
	i = *at == '/' ? proto_find(at + 1) : -1;
	if (i < 0 || !protos[i].ports || last < first)
		return -EINVAL;
	*out = (struct edge_ports){ .proto = protos[i].proto,
				    .first = (uint16_t)first,
				    .last = (uint16_t)last };
	return 0;
}

const char *edge_ports_format(const struct edge_ports *ports, char *buf, size_t len)
{
	const char *name = NULL;
	bool whole = !ports->first && ports->last == 65535;
	char other[16];

	for (size_t i = 0; i < N_PROTOS; i++)
		if (protos[i].proto == ports->proto)
			name = protos[i].name;
	snprintf(other, sizeof(other), "proto/%u", ports->proto);
	name = name ? name : other;
	if (whole)
		snprintf(buf, len, "%s", name);
	else if (ports->first == ports->last)
		snprintf(buf, len, "%u/%s", ports->first, name);
	else
		snprintf(buf, len, "%u-%u/%s", ports->first, ports->last, name);
	return buf;
}

/* Without the length where it is a whole address. */
static void rule_prefix_format(const struct edge_rule *rule, char *buf, size_t len)
{
	if (rule->prefix.len == 128)
		addr_format(&rule->prefix.addr, buf, len);
	else
		prefix_format(&rule->prefix, buf, len);
}

static bool form_parse(const char *text, struct edge_rule *out)
{
	for (size_t i = 0; i < N_FORMS; i++) {
		if (strcmp(forms[i].name, text))
			continue;
		out->kind = EDGE_RULE_FORM;
		out->form = forms[i].form;
		return true;
	}
	return false;
}

static int text_parse(const char *text, struct edge_rule *out, char *canonical, size_t len,
		      char *err, size_t err_len)
{
	char prefix[64] = "", ports[32];
	const char *space = strchr(text, ' ');
	size_t n = space ? (size_t)(space - text) : strlen(text);

	snprintf(canonical, len, "%s", text);
	if (form_parse(text, out))
		return 0;
	if (!space && !edge_ports_parse(text, &out->ports)) {
		out->kind = EDGE_RULE_PORT;
		edge_ports_format(&out->ports, canonical, len);
		return 0;
	}
	if (n < sizeof(prefix))
		memcpy(prefix, text, n);
	if (prefix_parse(prefix, &out->prefix)) {
		snprintf(err, err_len,
			 "expected a prefix (192.0.2.0/24), a port (22/tcp), a protocol (icmp) or "
			 "a form (malformed, bad-flags, fragments, ip-options, bad-length), found "
			 "'%.60s'",
			 text);
		return -EINVAL;
	}
	out->kind = EDGE_RULE_PREFIX;
	out->ports.any = !space;
	rule_prefix_format(out, prefix, sizeof(prefix));
	if (space && edge_ports_parse(space + 1, &out->ports)) {
		snprintf(err, err_len,
			 "expected a port (22/tcp, 1000-2000/udp) or a protocol (icmp), found "
			 "'%.40s'",
			 space + 1);
		return -EINVAL;
	}
	snprintf(canonical, len, "%s%s%s", prefix, space ? " " : "",
		 space ? edge_ports_format(&out->ports, ports, sizeof(ports)) : "");
	return 0;
}

int edge_rule_parse(const char *text, enum edge_action action, struct edge_rule *out, char *err,
		    size_t err_len)
{
	struct edge_rule rule = { .action = action, .ports.any = true };
	char canonical[128];
	int res = text_parse(text, &rule, canonical, sizeof(canonical), err, err_len);

	if (!res && rule.kind == EDGE_RULE_FORM && action == EDGE_ALLOW) {
		snprintf(err, err_len, "%s can only be denied", canonical);
		return -EINVAL;
	}
	if (res)
		return res;
	rule.text = strdup(canonical);
	if (!rule.text) {
		snprintf(err, err_len, "out of memory");
		return -ENOMEM;
	}
	*out = rule;
	return 0;
}

void edge_rule_clear(struct edge_rule *rule)
{
	free(rule->text);
	*rule = (struct edge_rule){};
}

json_t *edge_rule_json(const struct edge_rule *rule)
{
	json_t *json =
		json_pack("{s:s, s:s, s:i, s:I, s:I}", "action", edge_action_name(rule->action),
			  "text", rule->text, "number", (int)rule->number, "since",
			  (json_int_t)rule->since, "expires", (json_int_t)rule->expires);

	if (json && rule->kind == EDGE_RULE_LIST) {
		json_object_set_new(json, "file", json_integer((json_int_t)rule->file));
		json_object_set_new(json, "entries", json_integer((json_int_t)rule->entries));
	}
	if (json && rule->before.packets) {
		json_object_set_new(json, "before_packets",
				    json_integer((json_int_t)rule->before.packets));
		json_object_set_new(json, "before_bytes",
				    json_integer((json_int_t)rule->before.bytes));
	}
	return json;
}

int edge_rule_load(const json_t *json, struct edge_rule *out)
{
	const char *action = json_string_value(json_object_get(json, "action"));
	const char *text = json_string_value(json_object_get(json, "text"));
	const json_t *file = json_object_get(json, "file");
	struct edge_rule rule = {};
	char err[256];

	if (!action || !text)
		return -EINVAL;
	rule.action = strcmp(action, "allow") ? EDGE_DENY : EDGE_ALLOW;
	if (file) {
		rule.kind = EDGE_RULE_LIST;
		rule.ports.any = true;
		rule.file = (uint64_t)json_integer_value(file);
		rule.entries = (size_t)json_integer_value(json_object_get(json, "entries"));
		rule.text = strdup(text);
		if (!rule.text)
			return -ENOMEM;
	} else if (edge_rule_parse(text, rule.action, &rule, err, sizeof(err))) {
		return -EINVAL;
	}
	rule.number = (uint32_t)json_integer_value(json_object_get(json, "number"));
	rule.before.packets = (uint64_t)json_integer_value(json_object_get(json, "before_packets"));
	rule.before.bytes = (uint64_t)json_integer_value(json_object_get(json, "before_bytes"));
	rule.since = json_integer_value(json_object_get(json, "since"));
	rule.expires = json_integer_value(json_object_get(json, "expires"));
	if (rule.number < TW_EDGE_FIRST_RULE || rule.number >= TW_EDGE_COUNTERS) {
		edge_rule_clear(&rule);
		return -EINVAL;
	}
	*out = rule;
	return 0;
}
