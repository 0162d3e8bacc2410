/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Names and units as https://prometheus.io/docs/practices/naming/ has them: towpath_, base
 * units, _total for what only grows. They are an interface: dashboards and alerts hold on to them.
 */
#include "metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "edge/edges.h"
#include "status.h"

static const uint32_t bounds_us[METRICS_BUCKETS] = {
	500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000
};

void metrics_applied(struct metrics *m, uint64_t us)
{
	unsigned int i = 0;

	while (i < METRICS_BUCKETS && us > bounds_us[i])
		i++;
	m->applied[i]++;
	m->applied_us += us;
}

static void head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP towpath_%s %s\n# TYPE towpath_%s %s\n", name, help, name, type);
}

/* A label's value may have any character. */
static void label(FILE *out, const char *separator, const char *name, const char *value)
{
	fprintf(out, "%s%s=\"", separator, name);
	for (; value && *value; value++) {
		if (*value == '\n')
			fputs("\\n", out);
		else if (*value == '"' || *value == '\\')
			fprintf(out, "\\%c", *value);
		else
			fputc(*value, out);
	}
	fputc('"', out);
}

static json_int_t number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static void plain(FILE *out, const char *name, const char *type, const char *help, json_int_t value)
{
	head(out, name, type, help);
	fprintf(out, "towpath_%s %" JSON_INTEGER_FORMAT "\n", name, value);
}

/*
 * A metric with a row for each object of a list. labels: pairs of label and key, ended by NULL.
 */
static void rows(FILE *out, const char *name, const char *type, const char *help,
		 const json_t *list, const char *const *labels, const char *key)
{
	const json_t *row;
	size_t i;

	head(out, name, type, help);
	json_array_foreach(list, i, row) {
		const json_t *value = json_object_get(row, key);

		fprintf(out, "towpath_%s", name);
		for (size_t l = 0; labels[l]; l += 2)
			label(out, l ? "," : "{", labels[l], text(row, labels[l + 1]));
		fprintf(out, "} %" JSON_INTEGER_FORMAT "\n",
			json_is_boolean(value) ? json_is_true(value) : json_integer_value(value));
	}
}

static void put_agent(FILE *out, struct agent *a, const json_t *s)
{
	const json_t *health = json_object_get(s, "health");
	const json_t *kernel = json_object_get(s, "kernel");
	const json_t *hooks = json_object_get(health, "hooks");
	const json_t *pins = json_object_get(health, "pins");

	head(out, "build_info", "gauge",
	     "The agent's version, the kernel, how programs are attached.");
	fputs("towpath_build_info", out);
	label(out, "{", "version", text(s, "version"));
	label(out, ",", "kernel", text(kernel, "release"));
	label(out, ",", "attach", text(kernel, "attach"));
	fputs("} 1\n", out);
	plain(out, "start_time_seconds", "gauge", "When the agent started, since the epoch.",
	      (json_int_t)a->started_at);
	plain(out, "agent_resident_memory_bytes", "gauge", "Memory of the agent that is resident.",
	      number(s, "memory_kb") * 1024);
	plain(out, "healthy", "gauge", "Whether towpath status finds nothing wrong.",
	      json_is_true(json_object_get(health, "ok")));
	plain(out, "problems", "gauge", "What towpath status finds wrong.",
	      (json_int_t)json_array_size(json_object_get(health, "problems")));
	plain(out, "hooks", "gauge", "Interfaces that have their programs.",
	      number(hooks, "attached"));
	plain(out, "hooks_expected", "gauge", "Interfaces that should have programs.",
	      number(hooks, "expected"));
	plain(out, "pinned_maps", "gauge", "Maps that are pinned.", number(pins, "here"));
	plain(out, "pinned_maps_expected", "gauge", "Maps that should be pinned.",
	      number(pins, "expected"));
}

static void put_packets(FILE *out, const json_t *s)
{
	static const char *const by[] = { "reason", "reason", "hook", "hook", NULL };
	const json_t *drops = json_object_get(s, "drops");
	const json_t *verdicts = json_object_get(s, "verdicts");

	head(out, "verdicts_total", "counter",
	     "Packets that were judged: allowed on the slow path, denied by policy.");
	fprintf(out, "towpath_verdicts_total{verdict=\"allow\"} %" JSON_INTEGER_FORMAT "\n",
		number(verdicts, "allow"));
	fprintf(out, "towpath_verdicts_total{verdict=\"deny\"} %" JSON_INTEGER_FORMAT "\n",
		number(verdicts, "deny"));
	rows(out, "dropped_packets_total", "counter",
	     "Dropped packets by reason and hook; hook kernel: by the kernel's own stack.", drops,
	     by, "packets");
	rows(out, "dropped_bytes_total", "counter", "Bytes of dropped packets.", drops, by,
	     "bytes");
}

static void put_flows(FILE *out, const json_t *s)
{
	static const struct {
		const char *name, *key, *help;
	} counters[] = {
		{ "flows_opened_total", "flows_opened", "Connections that were opened." },
		{ "flows_collected_total", "flows_collected", "Connections that ended." },
		{ "flows_judged_again_total", "flows_judged_again",
		  "Connections that were judged again after a change." },
		{ "guard_sweeps_total", "guard_sweeps",
		  "Sweeps of the flow tables by the data path itself, without an agent." },
		{ "icmp_errors_sent_total", "icmp_errors_sent",
		  "ICMP errors sent: too big, time exceeded." },
		{ "events_sent_total", "events_sent", "Events that the programs sent." },
		{ "events_lost_total", "events_lost", "Events that found no room in the ring." },
		{ "events_suppressed_total", "events_suppressed",
		  "Drop events that were left out by their rate limit." },
	};
	const json_t *log = json_object_get(s, "flow_log");

	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
		plain(out, counters[i].name, "counter", counters[i].help,
		      number(json_object_get(s, "counters"), counters[i].key));
	plain(out, "flows", "gauge", "Connections in the flow tables.",
	      number(json_object_get(s, "counters"), "flows_live"));
	plain(out, "flow_log_records_total", "counter", "Records written to the flow log.",
	      number(log, "records"));
	plain(out, "flow_history_records", "gauge", "Records that the flow history keeps.",
	      number(json_object_get(s, "flow_history"), "kept"));
	plain(out, "flow_history_bytes", "gauge", "Size of the flow history on disk.",
	      number(json_object_get(s, "flow_history"), "bytes"));
	plain(out, "flow_history_lost_records_total", "counter",
	      "Records that the flow history could not take.",
	      number(json_object_get(s, "flow_history"), "lost"));
	plain(out, "flow_log_records", "gauge", "Records that the flow log keeps now.",
	      number(log, "kept"));
}

static void put_tables(FILE *out, const json_t *s)
{
	static const char *const by_map[] = { "map", "name", NULL };
	static const char *const by_pool[] = { "network", "network", "subnet", "subnet", NULL };
	static const char *const by_uplink[] = { "uplink", "name", NULL };
	const json_t *maps = json_object_get(s, "maps"), *pools = json_object_get(s, "pools");

	rows(out, "map_entries", "gauge", "Entries in use of a map.", maps, by_map, "used");
	rows(out, "map_max_entries", "gauge", "Entries that a map has room for.", maps, by_map,
	     "max");
	rows(out, "map_memory_bytes", "gauge", "Kernel memory of a map.", maps, by_map, "bytes");
	rows(out, "pool_used_addresses", "gauge", "Addresses in use of a pool.", pools, by_pool,
	     "used");
	rows(out, "pool_addresses", "gauge", "Addresses of a pool.", pools, by_pool, "size");
	rows(out, "uplink_up", "gauge", "Whether an uplink is up.",
	     json_object_get(json_object_get(s, "node"), "uplinks"), by_uplink, "up");
}

static void put_policy(FILE *out, const struct metrics *m, const json_t *s)
{
	static const char *const kinds[] = { "pods", "namespaces", "policies" };
	const json_t *counts = json_object_get(s, "counts");
	uint64_t n = 0;

	head(out, "objects", "gauge", "Objects in the store.");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		fprintf(out, "towpath_objects{kind=\"%s\"} %" JSON_INTEGER_FORMAT "\n", kinds[i],
			number(counts, kinds[i]));
	plain(out, "endpoints", "gauge", "Containers that are attached.",
	      number(counts, "endpoints"));
	plain(out, "identities", "gauge", "Classes of addresses that the policies tell apart.",
	      number(counts, "identities"));
	plain(out, "policy_versions", "gauge", "Different compiled policies in force.",
	      number(counts, "versions"));
	plain(out, "policy_changes_refused_total", "counter",
	      "Changes of objects that were not put in force.", (json_int_t)m->refused);
	head(out, "policy_apply_duration_seconds", "histogram",
	     "From a change of objects to its being in force.");
	for (unsigned int i = 0; i <= METRICS_BUCKETS; i++) {
		n += m->applied[i];
		if (i < METRICS_BUCKETS)
			fprintf(out,
				"towpath_policy_apply_duration_seconds_bucket{le=\"%g\"} %" PRIu64
				"\n",
				bounds_us[i] / 1e6, n);
	}
	fprintf(out,
		"towpath_policy_apply_duration_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\n"
		"towpath_policy_apply_duration_seconds_sum %.6f\n"
		"towpath_policy_apply_duration_seconds_count %" PRIu64 "\n",
		n, (double)m->applied_us / 1e6, n);
}

/* Rows of a node without an edge are none: what is not attached counts nothing. */
static void put_edge(FILE *out, struct agent *a, const json_t *s)
{
	static const char *const by_device[] = { "device", "device", "mode", "mode", NULL };
	static const char *const by_rule[] = { "action", "action", "rule", "text", NULL };
	static const char *const by_reason[] = { "reason", "name", NULL };
	json_t *edge = edges_json(a->edges);
	const json_t *rules = json_object_get(edge, "rules"), *table;
	const json_t *reasons = json_object_get(edge, "reasons");
	const json_t *summary = json_object_get(s, "edge");

	rows(out, "edge_attached", "gauge", "Whether the edge's program is at a device.",
	     json_object_get(edge, "devices"), by_device, "attached");
	rows(out, "edge_rule_packets_total", "counter",
	     "Packets that a rule or list of the edge decided about.", rules, by_rule, "packets");
	rows(out, "edge_rule_bytes_total", "counter", "Bytes of these packets.", rules, by_rule,
	     "bytes");
	rows(out, "edge_packets_total", "counter",
	     "Packets that no rule of the edge decided about, by what became of them.", reasons,
	     by_reason, "packets");
	rows(out, "edge_bytes_total", "counter", "Bytes of these packets.", reasons, by_reason,
	     "bytes");
	plain(out, "edge_dropped_packets_total", "counter",
	      "Packets that the edge dropped, by rules and for other reasons.",
	      number(summary, "packets"));
	plain(out, "edge_prefixes", "gauge", "Prefixes that are in force at the edge.",
	      number(summary, "prefixes"));
	table = json_object_get(edge, "table");
	plain(out, "edge_table_memory_bytes", "gauge",
	      "Kernel memory of the edge's table of addresses.", number(table, "kernel_bytes"));
	json_decref(edge);
}

char *metrics_text(struct agent *a, size_t *len)
{
	json_t *s = status_json(a);
	char *out = NULL;
	FILE *to = s ? open_memstream(&out, len) : NULL;

	if (to) {
		put_agent(to, a, s);
		put_packets(to, s);
		put_flows(to, s);
		put_tables(to, s);
		put_policy(to, &a->metrics, s);
		put_edge(to, a, s);
		if (fclose(to)) {
			free(out);
			out = NULL;
		}
	}
	json_decref(s);
	return out;
}
