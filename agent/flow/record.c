/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Records of the flow log: shared strings, comparison, and the JSON line. */
#include "flow/record.h"

#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "datapath.h"

struct intern {
	UT_hash_handle hh;
	uint32_t refs;
	char text[];
};

struct intern_table {
	struct intern *head;
	size_t bytes;
};

struct intern_table *intern_table_new(void)
{
	return calloc(1, sizeof(struct intern_table));
}

void intern_table_free(struct intern_table *t)
{
	struct intern *s, *tmp;

	if (!t)
		return;
	HASH_ITER(hh, t->head, s, tmp) {
		HASH_DEL(t->head, s);
		free(s);
	}
	free(t);
}

struct intern *intern_get(struct intern_table *t, const char *text)
{
	size_t len = strlen(text);
	struct intern *s = NULL;

	HASH_FIND(hh, t->head, text, len, s);
	if (s)
		return intern_ref(s);
	s = calloc(1, sizeof(*s) + len + 1);
	if (!s)
		return NULL;
	memcpy(s->text, text, len + 1);
	s->refs = 1;
	HASH_ADD_KEYPTR(hh, t->head, s->text, len, s);
	t->bytes += sizeof(*s) + len + 1;
	return s;
}

struct intern *intern_ref(struct intern *s)
{
	if (s)
		s->refs++;
	return s;
}

void intern_unref(struct intern_table *t, struct intern *s)
{
	if (!s || --s->refs)
		return;
	t->bytes -= sizeof(*s) + strlen(s->text) + 1;
	HASH_DEL(t->head, s);
	free(s);
}

const char *intern_text(const struct intern *s)
{
	return s ? s->text : "";
}

size_t intern_table_bytes(const struct intern_table *t)
{
	return t->bytes;
}

const char *intern_line(const char *text, unsigned int n, size_t *len)
{
	*len = 0;
	for (; n; n--) {
		text = strchr(text, '\n');
		if (!text)
			return NULL;
		text++;
	}
	*len = strcspn(text, "\n");
	return text;
}

void flow_record_ref(const struct flow_record *r)
{
	for (int i = 0; i < 2; i++) {
		intern_ref(r->end[i]);
		intern_ref(r->decision[i]);
	}
	intern_ref(r->nat);
}

void flow_record_clear(struct intern_table *t, struct flow_record *r)
{
	for (int i = 0; i < 2; i++) {
		intern_unref(t, r->end[i]);
		intern_unref(t, r->decision[i]);
	}
	intern_unref(t, r->nat);
	memset(r, 0, sizeof(*r));
}

bool flow_record_same_drop(const struct flow_record *a, const struct flow_record *b)
{
	return a->type == TW_EVENT_DROP && b->type == TW_EVENT_DROP && a->reason == b->reason &&
	       a->hook == b->hook && a->family == b->family && a->proto == b->proto &&
	       a->port[1] == b->port[1] && a->icmp_type == b->icmp_type &&
	       !memcmp(a->addr, b->addr, sizeof(a->addr));
}

void flow_text_printf(struct flow_text *t, const char *fmt, ...)
{
	va_list ap, again;

	if (t->failed)
		return;
	va_start(ap, fmt);
	va_copy(again, ap);
	int n = vsnprintf(t->v ? t->v + t->n : NULL, t->cap - t->n, fmt, ap);

	va_end(ap);
	if (n >= 0 && t->n + (size_t)n >= t->cap) {
		size_t cap = 2 * (t->n + (size_t)n) + 256;
		char *v = realloc(t->v, cap);

		if (v) {
			t->v = v;
			t->cap = cap;
			vsnprintf(v + t->n, cap - t->n, fmt, again);
		} else {
			n = -1;
		}
	}
	va_end(again);
	if (n < 0)
		t->failed = true;
	else
		t->n += (size_t)n;
}

/* A JSON string; what is no ASCII text is escaped, so a line is always valid UTF-8. */
static void text_string(struct flow_text *t, const char *s, size_t len)
{
	flow_text_printf(t, "\"");
	for (size_t i = 0; i < len;) {
		size_t plain = i;

		while (plain < len && s[plain] >= 0x20 && s[plain] < 0x7f && s[plain] != '"' &&
		       s[plain] != '\\')
			plain++;
		flow_text_printf(t, "%.*s", (int)(plain - i), s + i);
		for (; plain < len &&
		       (s[plain] < 0x20 || s[plain] >= 0x7f || s[plain] == '"' || s[plain] == '\\');
		     plain++)
			flow_text_printf(t, "\\u%04x", (unsigned char)s[plain]);
		i = plain;
	}
	flow_text_printf(t, "\"");
}

static const char *const type_names[] = {
	[TW_EVENT_NEW] = "new",
	[TW_EVENT_DROP] = "drop",
	[TW_EVENT_CLOSE] = "close",
	[TW_EVENT_REVOKE] = "revoke",
};

static const char *const what_names[] = {
	[FLOW_WHAT_UNKNOWN] = "unknown", [FLOW_WHAT_POD] = "pod",
	[FLOW_WHAT_HOST] = "host",	 [FLOW_WHAT_WORLD] = "world",
	[FLOW_WHAT_NODE] = "node",	 [FLOW_WHAT_UNASSIGNED] = "unassigned",
};

const char *flow_type_name(unsigned int type)
{
	return type && type < sizeof(type_names) / sizeof(*type_names) ? type_names[type]
								       : "unknown";
}

const char *flow_what_name(unsigned int what)
{
	return what < FLOW_WHAT_COUNT ? what_names[what] : "unknown";
}

static bool proto_has_ports(uint8_t proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP;
}

static void json_end(const struct flow_record *r, int i, struct flow_text *t)
{
	const char *text = intern_text(r->end[i]);
	char ip[64];
	size_t len;

	flow_text_printf(t, ",\"%s\":{\"what\":\"%s\"", i ? "to" : "from",
			 flow_what_name(r->what[i]));
	if (r->family && !addr_format(&r->addr[i], ip, sizeof(ip)))
		flow_text_printf(t, ",\"ip\":\"%s\"", ip);
	if (r->family && proto_has_ports(r->proto))
		flow_text_printf(t, ",\"port\":%u", r->port[i]);
	if (r->end[i]) {
		const char *line = intern_line(text, 0, &len);

		flow_text_printf(t, ",\"namespace\":");
		text_string(t, line, len);
		line = intern_line(text, 1, &len);
		flow_text_printf(t, ",\"pod\":");
		text_string(t, line, len);
		flow_text_printf(t, ",\"labels\":{");
		for (unsigned int n = 2; (line = intern_line(text, n, &len)); n++) {
			const char *eq = memchr(line, '=', len);

			flow_text_printf(t, n > 2 ? "," : "");
			text_string(t, line, (size_t)(eq - line));
			flow_text_printf(t, ":");
			text_string(t, eq + 1, len - (size_t)(eq + 1 - line));
		}
		flow_text_printf(t, "}");
	}
	flow_text_printf(t, "}");
}

static void json_tcp_flags(const char *key, uint8_t flags, struct flow_text *t)
{
	static const char *const names[] = {
		"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"
	};
	const char *comma = "";

	flow_text_printf(t, ",\"%s\":\"", key);
	for (unsigned int i = 0; i < 8; i++) {
		if (!(flags & 1u << i))
			continue;
		flow_text_printf(t, "%s%s", comma, names[i]);
		comma = ",";
	}
	flow_text_printf(t, "\"");
}

static void json_decision(const char *key, const struct intern *decision, struct flow_text *t)
{
	const char *text = intern_text(decision);
	size_t len, rule_len;
	const char *line = intern_line(text, 1, &len);
	const char *rule = intern_line(text, 2, &rule_len);

	flow_text_printf(t, "\"%s\":{\"isolated\":%s,\"allow\":%s", key,
			 text[0] == '1' ? "true" : "false", text[1] == '1' ? "true" : "false");
	if (len) {
		flow_text_printf(t, ",\"policy\":");
		text_string(t, line, len);
		flow_text_printf(t, ",\"rule\":%.*s", (int)rule_len, rule);
	}
	line = intern_line(text, 3, &len);
	flow_text_printf(t, ",\"selected_by\":");
	text_string(t, line, len);
	flow_text_printf(t, "}");
}

static void json_proto(const struct flow_record *r, struct flow_text *t)
{
	static const struct {
		uint8_t proto;
		const char *name;
	} names[] = { { IPPROTO_TCP, "tcp" },
		      { IPPROTO_UDP, "udp" },
		      { IPPROTO_SCTP, "sctp" },
		      { IPPROTO_ICMP, "icmp" },
		      { IPPROTO_ICMPV6, "icmpv6" } };

	if (!r->family)
		return;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (names[i].proto != r->proto)
			continue;
		flow_text_printf(t, ",\"proto\":\"%s\"", names[i].name);
		if (r->proto == IPPROTO_ICMP || r->proto == IPPROTO_ICMPV6)
			flow_text_printf(t, ",\"icmp_type\":%u,\"icmp_code\":%u", r->icmp_type,
					 r->icmp_code);
		return;
	}
	flow_text_printf(t, ",\"proto\":%u", r->proto);
}

const char *flow_reason_name(const struct flow_record *r)
{
	return r->hook == TW_HOOK_KERNEL ? tw_kernel_reason_name(r->reason)
					 : tw_reason_name(r->reason);
}

void flow_record_json(const struct flow_record *r, uint64_t seq, struct flow_text *out)
{
	flow_text_printf(out,
			 "{\"seq\":%llu,\"time\":%llu,\"type\":\"%s\",\"verdict\":\"%s\","
			 "\"reason\":\"%s\"",
			 (unsigned long long)seq, (unsigned long long)r->time,
			 flow_type_name(r->type), tw_verdict_name(r->verdict), flow_reason_name(r));
	json_end(r, 0, out);
	json_end(r, 1, out);
	json_proto(r, out);
	if (r->family && r->proto == IPPROTO_TCP) {
		json_tcp_flags("tcp_flags", r->tcp, out);
		if (r->type == TW_EVENT_CLOSE)
			json_tcp_flags("tcp_flags_reply", r->tcp_reply, out);
	}
	flow_text_printf(out, ",\"hook\":\"%s\"", tw_hook_name(r->hook));
	if (r->decision[TW_EGRESS] || r->decision[TW_INGRESS]) {
		flow_text_printf(out, ",\"policy\":{");
		if (r->decision[TW_EGRESS])
			json_decision("egress", r->decision[TW_EGRESS], out);
		if (r->decision[TW_EGRESS] && r->decision[TW_INGRESS])
			flow_text_printf(out, ",");
		if (r->decision[TW_INGRESS])
			json_decision("ingress", r->decision[TW_INGRESS], out);
		flow_text_printf(out, "}");
	}
	if (r->type == TW_EVENT_CLOSE || r->type == TW_EVENT_DROP)
		flow_text_printf(out, ",\"packets\":[%llu,%llu],\"bytes\":[%llu,%llu]",
				 (unsigned long long)r->packets[0],
				 (unsigned long long)r->packets[1], (unsigned long long)r->bytes[0],
				 (unsigned long long)r->bytes[1]);
	if (r->type == TW_EVENT_CLOSE && r->duration != FLOW_DURATION_UNKNOWN)
		flow_text_printf(out, ",\"duration_ms\":%u", r->duration);
	if (r->nat)
		flow_text_printf(out,
				 strchr(intern_text(r->nat), ':') ? ",\"nat\":\"[%s]:%u\""
								  : ",\"nat\":\"%s:%u\"",
				 intern_text(r->nat), r->nat_port);
	flow_text_printf(out, ",\"count\":%llu}\n",
			 r->type == TW_EVENT_DROP ? (unsigned long long)r->packets[0] : 1ull);
}
