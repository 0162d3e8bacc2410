/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the edge answers: its state with all counts, and what would happen to a packet. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "edge/internal.h"

static const char *const kinds[] = { "prefix", "list", "port", "form" };

int edge_file_read(const char *path, char **out, size_t *len)
{
	FILE *file = fopen(path, "re");
	char *text = NULL;
	long size = -1;
	int res = 0;

	if (!file || fseek(file, 0, SEEK_END) || (size = ftell(file)) < 0 ||
	    fseek(file, 0, SEEK_SET))
		res = -errno;
	if (!res)
		text = malloc((size_t)size + 1);
	if (!res && (!text || fread(text, 1, (size_t)size, file) != (size_t)size)) {
		free(text);
		res = text ? -EIO : -ENOMEM;
	}
	if (file)
		fclose(file);
	if (res)
		return res;
	*out = text;
	*len = (size_t)size;
	return 0;
}

static void metric_put(const struct tw_metric *m, json_t *json)
{
	json_object_set_new(json, "packets", json_integer((json_int_t)m->packets));
	json_object_set_new(json, "bytes", json_integer((json_int_t)m->bytes));
}

static void counts_put(const struct edges *e, uint32_t counter, json_t *json)
{
	struct tw_metric m = {};

	if (e->edge)
		edge_count_read(e->edge, counter, &m);
	metric_put(&m, json);
}

void edge_rule_count(const struct edges *e, const struct edge_rule *rule, struct tw_metric *out)
{
	struct tw_metric m = {};

	if (e->edge)
		edge_count_read(e->edge, rule->number, &m);
	*out = (struct tw_metric){ .packets = rule->before.packets + m.packets,
				   .bytes = rule->before.bytes + m.bytes };
}

static json_t *rule_answer(const struct edges *e, const struct edge_rule *rule)
{
	json_t *json = edge_rule_json(rule);
	struct tw_metric m;

	if (!json)
		return NULL;
	json_object_del(json, "file");
	json_object_del(json, "before_packets");
	json_object_del(json, "before_bytes");
	json_object_set_new(json, "kind", json_string(kinds[rule->kind]));
	edge_rule_count(e, rule, &m);
	metric_put(&m, json);
	return json;
}

static json_t *devices_answer(const struct edges *e)
{
	static const char *const modes[] = { "", "native", "generic" };
	json_t *items = json_array();
	struct edge_device *d;

	DL_FOREACH(e->devices, d) {
		json_array_append_new(items, json_pack("{s:s, s:i, s:b, s:s, s:s, s:s}", "device",
						       d->name, "ifindex", (int)d->at.ifindex,
						       "attached", d->at.ifindex != 0, "mode",
						       modes[d->at.mode], "state",
						       d->at.ifindex ? "attached"
						       : d->gone     ? "gone"
								     : "waiting",
						       "why", d->why));
	}
	return items;
}

static json_t *reasons_answer(const struct edges *e)
{
	json_t *items = json_array();

	for (uint32_t i = 0; i < TW_EDGE_REASON_COUNT; i++) {
		json_t *json = json_pack("{s:s, s:s, s:b}", "name", tw_edge_reason_name(i), "text",
					 tw_edge_reason_text(i), "drops", tw_edge_reason_drops(i));

		if (!json)
			continue;
		counts_put(e, i, json);
		json_array_append_new(items, json);
	}
	return items;
}

static json_t *memory_answer(const struct edges *e)
{
	struct edge_table_use use = {};

	if (e->table)
		edge_table_use(e->table, &use);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "prefixes4", (json_int_t)use.prefixes4,
			 "prefixes6", (json_int_t)use.prefixes6, "lines", (json_int_t)use.lines,
			 "max_lines", (json_int_t)use.max_lines, "kernel_bytes",
			 (json_int_t)use.kernel_bytes, "agent_bytes", (json_int_t)use.agent_bytes);
}

static void count_add(const struct edges *e, const struct edge_rule *rule, struct tw_metric *sum)
{
	struct tw_metric m;

	if (!rule || rule->action != EDGE_DENY)
		return;
	edge_rule_count(e, rule, &m);
	sum->packets += m.packets;
	sum->bytes += m.bytes;
}

json_t *edges_summary(const struct edges *e)
{
	struct edge_table_use use = {};
	struct tw_metric dropped = {};
	size_t lists = 0;

	for (uint32_t i = TW_EDGE_FIRST_RULE; i < TW_EDGE_COUNTERS; i++) {
		count_add(e, e->rule[i], &dropped);
		lists += e->rule[i] && e->rule[i]->kind == EDGE_RULE_LIST;
	}
	for (uint32_t i = 0; e->edge && i < TW_EDGE_REASON_COUNT; i++) {
		struct tw_metric m;

		if (!tw_edge_reason_drops(i) || edge_count_read(e->edge, i, &m))
			continue;
		dropped.packets += m.packets;
		dropped.bytes += m.bytes;
	}
	if (e->table)
		edge_table_use(e->table, &use);
	return json_pack("{s:o, s:I, s:I, s:I, s:I, s:I}", "devices", devices_answer(e), "rules",
			 (json_int_t)(e->n_rules - lists), "lists", (json_int_t)lists, "prefixes",
			 (json_int_t)(use.prefixes4 + use.prefixes6), "packets",
			 (json_int_t)dropped.packets, "bytes", (json_int_t)dropped.bytes);
}

void edges_problems(const struct edges *e,
		    void (*fn)(void *arg, const char *what, const char *help, const char *text),
		    void *arg)
{
	const struct edge_device *d;
	char text[512];

	DL_FOREACH(e->devices, d) {
		/* At the start a moment passes until it is known. */
		if (d->at.ifindex || !*d->why)
			continue;
		snprintf(text, sizeof(text), "the edge does not follow its rules at %s: %s",
			 d->name, d->why);
		fn(arg, "edge",
		   "mend that, or towpath edge detach DEVICE; it is tried again every 5 s", text);
	}
	if (*e->failed)
		fn(arg, "edge",
		   "the log of towpathd says more; put the list or rule in force again", e->failed);
}

static int source_add(void *arg, const struct edge_source *source)
{
	char addr[INET6_ADDRSTRLEN];

	addr_format(&source->addr, addr, sizeof(addr));
	json_array_append_new(arg, json_pack("{s:s, s:I, s:I}", "address", addr, "passed",
					     (json_int_t)source->passed, "dropped",
					     (json_int_t)source->dropped));
	/* The walk may begin anew where an entry goes meanwhile. */
	return json_array_size(arg) >= TW_EDGE_SOURCES;
}

json_t *edges_sources(const struct edges *e)
{
	json_t *items = json_array();

	if (e->edge && items)
		edge_sources_each(e->edge, source_add, items);
	return items ? json_pack("{s:I, s:o}", "time_ns", (json_int_t)uv_hrtime(), "items", items)
		     : NULL;
}

json_t *edges_json(struct edges *e)
{
	json_t *rules = json_array();

	for (uint32_t i = TW_EDGE_FIRST_RULE; i < TW_EDGE_COUNTERS; i++)
		if (e->rule[i])
			json_array_append_new(rules, rule_answer(e, e->rule[i]));
	return json_pack("{s:I, s:o, s:o, s:o, s:o}", "time_ns", (json_int_t)uv_hrtime(), "devices",
			 devices_answer(e), "rules", rules, "reasons", reasons_answer(e), "table",
			 memory_answer(e));
}

/* ---- what would happen ---------------------------------------------------------------------------- */

/* The line of the list: its file is read for it. */
static void test_work(struct edge_task *t)
{
	const struct edge_rule *rule = t->e->rule[t->list];
	char path[4096];
	char *text;
	size_t len;

	edges_list_path(t->e, rule->file, path);
	t->res = edge_file_read(path, &text, &len);
	if (t->res) {
		edge_task_refuse(t, AGENT_INTERNAL, t->res, "cannot read %s: %s", path,
				 strerror(-t->res));
		return;
	}
	t->found.line = edge_list_find(text, len, &t->addr, &t->found.len);
	free(text);
}

static void test_end(struct edge_task *t)
{
	const struct edges *e = t->e;
	const struct edge_rule *rule = t->list ? e->rule[t->list] : NULL;
	json_t *json = rule ? rule_answer(e, rule) : NULL;
	char buf[80];

	t->reply = json_pack("{s:s}", "verdict", rule ? edge_action_name(rule->action) : "pass");
	addr_format(&t->addr, buf, sizeof(buf));
	json_object_set_new(t->reply, "address", json_string(buf));
	if (!t->ports.any)
		json_object_set_new(t->reply, "port",
				    json_string(edge_ports_format(&t->ports, buf, sizeof(buf))));
	if (json)
		json_object_set_new(t->reply, "rule", json);
	if (!t->found.line)
		return;
	const struct prefix prefix = { t->addr, (uint8_t)t->found.len };
	struct prefix masked = prefix;

	prefix_mask(&masked);
	prefix_format(&masked, buf, sizeof(buf));
	json_object_set_new(t->reply, "line", json_integer(t->found.line));
	json_object_set_new(t->reply, "prefix", json_string(buf));
}

static int test_begin(struct edge_task *t)
{
	struct edges *e = t->e;
	int res;

	if (!e->table)
		return edge_task_refuse(t, AGENT_NOT_READY, -EAGAIN,
					"the edge is attached to no device; see 'towpath edge "
					"attach'");
	res = edge_table_find(e->table, &t->addr, &t->class);
	if (res)
		return edge_task_refuse(t, AGENT_INTERNAL, res, "the table cannot be read: %s",
					strerror(-res));
	t->list = edge_compile_decide(&e->compile, t->class, &t->ports);
	if (t->list && (!e->rule[t->list] || e->rule[t->list]->kind == EDGE_RULE_LIST))
		return e->rule[t->list]
			       ? 0
			       : edge_task_refuse(t, AGENT_INTERNAL, -EIO,
						  "rule %u decides, which is not there", t->list);
	test_end(t);
	return 1;
}

int edges_test(struct edges *e, const char *address, const char *port, edges_fn done, void *arg,
	       struct agent_error *err)
{
	struct edge_task *t = edge_task_new(e, done, arg);
	int res = 0;

	if (!t)
		return agent_refuse(err, AGENT_INTERNAL, "out of memory");
	t->ports.any = true;
	t->begin = test_begin;
	t->work = test_work;
	t->end = test_end;
	if (!address || addr_parse(address, &t->addr))
		res = agent_refuse(err, AGENT_INVALID, "'%.64s' is no address",
				   address ? address : "");
	else if (port && edge_ports_parse(port, &t->ports))
		res = agent_refuse(err, AGENT_INVALID,
				   "'%.64s' is no port (22/tcp) and no protocol (icmp)", port);
	if (!res && port && t->ports.first != t->ports.last &&
	    !(t->ports.first == 0 && t->ports.last == 65535))
		res = agent_refuse(err, AGENT_INVALID, "one port can be asked about, not a range");
	if (res) {
		edge_task_free(t);
		return res;
	}
	return edge_task_add(t, err);
}
