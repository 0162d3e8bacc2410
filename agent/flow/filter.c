/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Conditions on flow records: text to filter, filter against record. */
#include "flow/record.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "datapath.h"

/* One end, as people name it. */
struct end_match {
	enum { END_ALL, END_WHAT, END_PREFIX, END_NS, END_POD, END_NS_POD, END_LABEL } kind;
	enum flow_what what;
	struct prefix prefix;
	char *ns;
	char *text; /* pod, or key=value, or key */
};

struct flow_filter {
	struct end_match from, to, with, label;
	bool has_port, has_proto;
	uint16_t port;
	uint8_t proto;
	uint64_t verdicts, types; /* bits; 0: all */
	char *reasons;		  /* names with commas; NULL: all */
	char *ns;		  /* of either end */
	char *policy;
	uint64_t since, until; /* until 0: no end */
};

int flow_filter_new(struct flow_filter **out)
{
	struct flow_filter *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	*out = f;
	return 0;
}

static void end_match_clear(struct end_match *m)
{
	free(m->ns);
	free(m->text);
	memset(m, 0, sizeof(*m));
}

void flow_filter_free(struct flow_filter *f)
{
	if (!f)
		return;
	end_match_clear(&f->from);
	end_match_clear(&f->to);
	end_match_clear(&f->with);
	end_match_clear(&f->label);
	free(f->ns);
	free(f->policy);
	free(f->reasons);
	free(f);
}

static int end_match_parse(const char *text, struct end_match *out)
{
	struct end_match m = { 0 };
	const char *slash = strchr(text, '/');

	if (!*text || *text == '/')
		return -EINVAL;
	for (unsigned int w = FLOW_WHAT_HOST; w < FLOW_WHAT_COUNT; w++) {
		if (strcmp(text, flow_what_name(w)))
			continue;
		m.kind = END_WHAT;
		m.what = w;
	}
	if (m.kind == END_ALL && !prefix_parse(text, &m.prefix)) {
		m.kind = END_PREFIX;
	} else if (m.kind == END_ALL && strchr(text, '=')) {
		m.kind = END_LABEL;
		m.text = strdup(text);
	} else if (m.kind == END_ALL && slash) {
		m.kind = slash[1] ? END_NS_POD : END_NS;
		m.ns = strndup(text, (size_t)(slash - text));
		m.text = strdup(slash + 1);
	} else if (m.kind == END_ALL) {
		m.kind = END_POD;
		m.text = strdup(text);
	}
	bool failed = (m.kind >= END_NS && !m.text) ||
		      (slash && m.kind >= END_NS && m.kind != END_LABEL && !m.ns);

	if (failed) {
		end_match_clear(&m);
		return -ENOMEM;
	}
	end_match_clear(out);
	*out = m;
	return 0;
}

/* "a,b" to bits by the names of an enum; -EINVAL for a name that is none. */
static int bits_parse(const char *text, const char *(*name)(unsigned int), unsigned int count,
		      uint64_t *out)
{
	uint64_t bits = 0;

	while (*text) {
		size_t len = strcspn(text, ",");
		unsigned int i = 0;

		while (i < count && (strlen(name(i)) != len || strncmp(name(i), text, len)))
			i++;
		if (i == count)
			return -EINVAL;
		bits |= 1ull << i;
		text += len + (text[len] == ',');
	}
	if (!bits)
		return -EINVAL;
	*out = bits;
	return 0;
}

#define KERNEL_REASONS "kernel" /* in the place of a name: all of the kernel's own */

/* A reason of ours, one of the running kernel's, or all of those. */
static bool reason_known(const char *name, size_t len)
{
	for (unsigned int i = 0; i < TW_REASON_COUNT; i++)
		if (strlen(tw_reason_name(i)) == len && !strncmp(tw_reason_name(i), name, len))
			return true;
	for (unsigned int i = 0; i < TW_KERNEL_REASONS; i++) {
		const char *known = tw_kernel_reason_name(i);

		if (strlen(known) == len && !strncmp(known, name, len))
			return true;
	}
	return len == strlen(KERNEL_REASONS) && !strncmp(name, KERNEL_REASONS, len);
}

static int reasons_parse(const char *text, char **out)
{
	char *copy;

	for (const char *at = text; *at || at == text;) {
		size_t len = strcspn(at, ",");

		if (!reason_known(at, len))
			return -EINVAL;
		at += len + (at[len] == ',');
	}
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(*out);
	*out = copy;
	return 0;
}

static bool list_has(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (;; list++) {
		size_t len = strcspn(list, ",");

		if (len == n && !strncmp(list, name, n))
			return true;
		list += len;
		if (!*list)
			return false;
	}
}

static bool reason_match(const char *reasons, const struct flow_record *r)
{
	return !reasons || list_has(reasons, flow_reason_name(r)) ||
	       (r->hook == TW_HOOK_KERNEL && list_has(reasons, KERNEL_REASONS));
}

static int proto_parse(const char *text, uint8_t *out)
{
	static const struct {
		const char *name;
		uint8_t proto;
	} protos[] = { { "tcp", IPPROTO_TCP },
		       { "udp", IPPROTO_UDP },
		       { "sctp", IPPROTO_SCTP },
		       { "icmp", IPPROTO_ICMP },
		       { "icmpv6", IPPROTO_ICMPV6 } };

	for (size_t i = 0; i < sizeof(protos) / sizeof(*protos); i++) {
		if (strcasecmp(text, protos[i].name))
			continue;
		*out = protos[i].proto;
		return 0;
	}
	return -EINVAL;
}

/* PORT, PORT/PROTO or PROTO. */
static int port_parse(struct flow_filter *f, const char *text)
{
	char *end;
	uint8_t proto = 0;

	if (*text < '0' || *text > '9') {
		if (proto_parse(text, &proto))
			return -EINVAL;
		f->has_proto = true;
		f->has_port = false;
		f->proto = proto;
		return 0;
	}
	unsigned long port = strtoul(text, &end, 10);

	if (port > 65535 || (*end && (*end != '/' || proto_parse(end + 1, &proto))))
		return -EINVAL;
	f->has_port = true;
	f->port = (uint16_t)port;
	f->has_proto = *end == '/';
	if (f->has_proto)
		f->proto = proto;
	return 0;
}

static int name_parse(const char *text, char **out)
{
	char *copy = *text ? strdup(text) : NULL;

	if (!copy)
		return *text ? -ENOMEM : -EINVAL;
	free(*out);
	*out = copy;
	return 0;
}

static int time_parse(const char *text, uint64_t *out)
{
	char *end;

	errno = 0;
	unsigned long long ns = strtoull(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || errno)
		return -EINVAL;
	*out = ns;
	return 0;
}

/* key or key=value: a label without a value matches every value. */
static int label_parse(struct flow_filter *f, const char *text)
{
	char *copy = *text && *text != '=' ? strdup(text) : NULL;

	if (!copy)
		return *text && *text != '=' ? -ENOMEM : -EINVAL;
	end_match_clear(&f->label);
	f->label.kind = END_LABEL;
	f->label.text = copy;
	return 0;
}

int flow_filter_set(struct flow_filter *f, const char *key, const char *value, char *err,
		    size_t err_len)
{
	const char *end_wants = "a pod (ns/name or name), a namespace (ns/), a label (key=value), "
				"an address, a CIDR, host, world, node or unassigned";
	const char *wants = NULL;
	int ret;

	if (!strcmp(key, "from") || !strcmp(key, "to") || !strcmp(key, "with")) {
		wants = end_wants;
		ret = end_match_parse(value, *key == 'f'   ? &f->from
					     : *key == 't' ? &f->to
							   : &f->with);
	} else if (!strcmp(key, "label")) {
		wants = "key or key=value";
		ret = label_parse(f, value);
	} else if (!strcmp(key, "port")) {
		wants = "a port (80), a port and protocol (80/tcp), or a protocol (tcp, udp, sctp, "
			"icmp, icmpv6)";
		ret = port_parse(f, value);
	} else if (!strcmp(key, "verdict")) {
		wants = "allow, deny, reject or redirect, several with commas";
		ret = bits_parse(value, tw_verdict_name, TW_VERDICT_REDIRECT + 1, &f->verdicts);
	} else if (!strcmp(key, "reason")) {
		wants = "names of drop reasons (towpath flows --help lists them) or kernel, "
			"several with commas";
		ret = reasons_parse(value, &f->reasons);
	} else if (!strcmp(key, "type")) {
		wants = "new, drop, close or revoke, several with commas";
		ret = bits_parse(value, flow_type_name, TW_EVENT_REVOKE + 1, &f->types);
	} else if (!strcmp(key, "policy")) {
		wants = "the name of a policy, or namespace/name";
		ret = name_parse(value, &f->policy);
	} else if (!strcmp(key, "namespace")) {
		wants = "the name of a namespace";
		ret = name_parse(value, &f->ns);
	} else if (!strcmp(key, "since") || !strcmp(key, "until")) {
		wants = "nanoseconds since 1970";
		ret = time_parse(value, *key == 's' ? &f->since : &f->until);
	} else {
		snprintf(err, err_len,
			 "flows have no filter \"%s\": use from, to, with, namespace, "
			 "label, port, verdict, reason, type, policy, since or until",
			 key);
		return -ENOENT;
	}
	if (ret == -EINVAL)
		snprintf(err, err_len, "%s \"%s\" is not understood: give %s", key, value, wants);
	else if (ret)
		snprintf(err, err_len, "out of memory");
	return ret;
}

/* Whether one of the lines of an end is the label, or has the key. */
static bool label_match(const char *end, const char *label)
{
	bool whole = strchr(label, '=');
	size_t n = strlen(label), len;
	const char *line;

	for (unsigned int i = 2; (line = intern_line(end, i, &len)); i++)
		if (len >= n && !strncmp(line, label, n) && (whole ? len == n : line[n] == '='))
			return true;
	return false;
}

static bool line_is(const char *text, unsigned int n, const char *want)
{
	size_t len;
	const char *line = intern_line(text, n, &len);

	return line && strlen(want) == len && !strncmp(line, want, len);
}

static bool end_match(const struct end_match *m, const struct flow_record *r, int i)
{
	const char *end = intern_text(r->end[i]);

	switch (m->kind) {
	case END_ALL:
		return true;
	case END_WHAT:
		return r->what[i] == m->what;
	case END_PREFIX:
		return r->family && prefix_contains(&m->prefix, &r->addr[i]);
	case END_NS:
		return line_is(end, 0, m->ns);
	case END_POD:
		return line_is(end, 1, m->text);
	case END_NS_POD:
		return line_is(end, 0, m->ns) && line_is(end, 1, m->text);
	case END_LABEL:
		return r->end[i] && label_match(end, m->text);
	}
	return false;
}

static bool port_match(const struct flow_filter *f, const struct flow_record *r)
{
	if (f->has_proto && (!r->family || r->proto != f->proto))
		return false;
	if (!f->has_port)
		return true;
	/* A dropped packet may be an answer: then the port that people mean is its source. */
	return r->port[1] == f->port || (r->type == TW_EVENT_DROP && r->port[0] == f->port);
}

/* Whether "ns/name" (of len bytes) is the policy that was asked for, by either form. */
static bool policy_is(const char *want, const char *name, size_t len)
{
	const char *slash = memchr(name, '/', len);

	if (!strchr(want, '/') && slash) {
		len -= (size_t)(slash + 1 - name);
		name = slash + 1;
	}
	return strlen(want) == len && !strncmp(want, name, len);
}

static bool policy_match(const char *want, const struct flow_record *r)
{
	for (int dir = 0; dir < 2; dir++) {
		const char *text = intern_text(r->decision[dir]);
		size_t len, left;
		const char *line = intern_line(text, 1, &len);

		if (line && policy_is(want, line, len))
			return true;
		line = intern_line(text, 3, &left);
		while (line && left) {
			const char *comma = memchr(line, ',', left);

			len = comma ? (size_t)(comma - line) : left;
			if (policy_is(want, line, len))
				return true;
			left -= len;
			line += len;
			while (left && (*line == ',' || *line == ' ')) {
				line++;
				left--;
			}
		}
	}
	return false;
}

uint64_t flow_filter_since(const struct flow_filter *f)
{
	return f ? f->since : 0;
}

bool flow_filter_match(const struct flow_filter *f, const struct flow_record *r)
{
	if (!f)
		return true;
	if (r->time < f->since || (f->until && r->time >= f->until) ||
	    (f->types && !(f->types >> r->type & 1)) ||
	    (f->verdicts && !(f->verdicts >> r->verdict & 1)) || !reason_match(f->reasons, r))
		return false;
	return port_match(f, r) && end_match(&f->from, r, 0) && end_match(&f->to, r, 1) &&
	       (end_match(&f->with, r, 0) || end_match(&f->with, r, 1)) &&
	       (end_match(&f->label, r, 0) || end_match(&f->label, r, 1)) &&
	       (!f->ns || line_is(intern_text(r->end[0]), 0, f->ns) ||
		line_is(intern_text(r->end[1]), 0, f->ns)) &&
	       (!f->policy || policy_match(f->policy, r));
}
