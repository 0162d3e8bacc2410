/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* status: the agent on one screen. */
#include "cli.h"

#include <string.h>
#include <unistd.h>

#define DROPS_SHOWN 12
#define COUNTERS_A_LINE 4

/* A list of things in one line, each made by `one`; `none` when there are none. */
static void print_list(const char *head, const json_t *list, void (*one)(const json_t *item),
		       const char *none)
{
	size_t i;
	json_t *item;

	printf("%-11s", head);
	json_array_foreach(list, i, item) {
		fputs(i ? ", " : "", stdout);
		one(item);
	}
	puts(json_array_size(list) ? "" : none);
}

static void print_uplink(const json_t *u)
{
	const char *ip4 = cli_str(u, "ip4"), *ip6 = cli_str(u, "ip6");

	printf("%s (%s%s%s)%s", cli_str(u, "name"), *ip4 || *ip6 ? ip4 : "no address",
	       *ip4 && *ip6 ? " " : "", ip6,
	       json_is_false(json_object_get(u, "up")) ? " down" : "");
}

static void print_pool(const json_t *p)
{
	char number[32];

	printf("%s (%s used)", cli_str(p, "subnet"),
	       cli_number(number, (uint64_t)cli_int(p, "used")));
}

struct count {
	const char *key; /* of the counts; also the plural */
	const char *one;
};

/* "3 pods, 1 namespace" */
static void print_counts(const char *head, const json_t *counts, const struct count *c)
{
	const char *comma = "";
	char number[32];

	printf("%-11s", head);
	for (; c->key; c++, comma = ", ") {
		uint64_t n = (uint64_t)cli_int(counts, c->key);

		printf("%s%s %s", comma, cli_number(number, n), n == 1 ? c->one : c->key);
	}
	putchar('\n');
}

static void print_maps(const struct cli *cli, const json_t *maps)
{
	static const char *const heads[] = { "MAP", ">USED", ">MAX", ">FILL", ">MEMORY", NULL };
	struct cli_table *t = cli_table_new(cli, heads);
	char buf[32];
	size_t i;
	json_t *m;

	json_array_foreach(maps, i, m) {
		uint64_t used = (uint64_t)cli_int(m, "used"), max = (uint64_t)cli_int(m, "max");
		double fill = max ? 100 * (double)used / (double)max : 0;
		const char *color = fill >= 95 ? CLI_RED : fill >= 80 ? CLI_YELLOW : NULL;

		cli_table_cell(t, NULL, "%s", cli_str(m, "name"));
		cli_table_cell(t, NULL, "%s", cli_number(buf, used));
		cli_table_cell(t, NULL, "%s", cli_number(buf, max));
		cli_table_cell(t, color, "%.1f %%", fill);
		cli_table_cell(t, NULL, "%s", cli_bytes(buf, (uint64_t)cli_int(m, "bytes")));
	}
	putchar('\n');
	cli_table_print(t);
}

static int by_packets(const void *a, const void *b)
{
	json_int_t x = cli_int(*(json_t *const *)a, "packets");
	json_int_t y = cli_int(*(json_t *const *)b, "packets");

	return (x < y) - (x > y);
}

static void print_drops(const struct cli *cli, const json_t *drops)
{
	static const char *const heads[] = { ">PACKETS", ">BYTES",	"DROPPED FOR",
					     "AT",	 "WHICH MEANS", NULL };
	struct cli_table *t = cli_table_new(cli, heads);
	size_t n = json_array_size(drops), shown = 0, i;
	cleanup_(cleanup_free) json_t **sorted = calloc(n + 1, sizeof(*sorted));
	char buf[32];
	json_t *d;

	if (!sorted)
		abort();
	json_array_foreach(drops, i, d)
		sorted[i] = d;
	qsort(sorted, n, sizeof(*sorted), by_packets);
	for (i = 0; i < n; i++) {
		if (!cli_int(sorted[i], "packets") || shown++ >= DROPS_SHOWN)
			continue;
		cli_table_cell(t, NULL, "%s",
			       cli_number(buf, (uint64_t)cli_int(sorted[i], "packets")));
		cli_table_cell(t, NULL, "%s",
			       cli_bytes(buf, (uint64_t)cli_int(sorted[i], "bytes")));
		cli_table_cell(t, CLI_RED, "%s", cli_str(sorted[i], "reason"));
		cli_table_cell(t, NULL, "%s", cli_str(sorted[i], "hook"));
		cli_table_cell(t, NULL, "%s", cli_str(sorted[i], "text"));
	}
	putchar('\n');
	if (!shown)
		printf("Nothing was dropped.\n");
	cli_table_print(t);
	if (shown > DROPS_SHOWN)
		printf("and %zu reasons more: -o json shows all\n", shown - DROPS_SHOWN);
}

static void print_counters(const struct cli *cli, const json_t *counters)
{
	const char *key, *separator = "\ncounters   ";
	char buf[32];
	unsigned int n = 0;
	json_t *v;

	json_object_foreach((json_t *)counters, key, v) {
		bool bad = !strcmp(key, "events_lost") && json_integer_value(v);

		printf("%s%s%s %s%s", separator, cli_color(cli, bad ? CLI_YELLOW : NULL), key,
		       cli_number(buf, (uint64_t)json_integer_value(v)), bad ? cli_plain(cli) : "");
		separator = ++n % COUNTERS_A_LINE ? ", " : ",\n           ";
	}
	putchar('\n');
}

/* What is wrong stands first, each with what helps. */
static void print_problems(const struct cli *cli, const json_t *problems)
{
	size_t i;
	json_t *p;

	json_array_foreach(problems, i, p)
		printf("%sPROBLEM%s    %s\n           %s\n", cli_color(cli, CLI_RED),
		       cli_plain(cli), cli_str(p, "text"), cli_str(p, "help"));
	if (json_array_size(problems))
		putchar('\n');
}

static void print_health(const struct cli *cli, const json_t *health)
{
	const json_t *hooks = json_object_get(health, "hooks");
	const json_t *pins = json_object_get(health, "pins");
	bool ok = json_is_true(json_object_get(health, "ok"));

	printf("%shealth%s     %s; programs at %lld of %lld interfaces, %lld of %lld maps pinned, "
	       "heartbeat %lld ms ago\n",
	       cli_color(cli, ok ? CLI_GREEN : CLI_RED), cli_plain(cli), ok ? "good" : "bad",
	       (long long)cli_int(hooks, "attached"), (long long)cli_int(hooks, "expected"),
	       (long long)cli_int(pins, "here"), (long long)cli_int(pins, "expected"),
	       (long long)cli_int(health, "heartbeat_ms"));
}

static double real(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

/* The user's own; nothing where there are none. */
static void print_programs(const json_t *programs)
{
	json_int_t attached = cli_int(programs, "attached"), waiting = cli_int(programs, "waiting"),
		   failed = cli_int(programs, "failed");

	if (attached + waiting + failed)
		printf("programs   %lld of the user's attached, %lld waiting, %lld failed\n",
		       (long long)attached, (long long)waiting, (long long)failed);
}

static void print_rates(const json_t *rates)
{
	printf("rates      %.1f new flows/s, %.1f packets dropped/s, %.1f of them by policy (last "
	       "%.0f s)\n",
	       real(rates, "flows_opened"), real(rates, "packets_dropped"),
	       real(rates, "packets_denied"), real(rates, "seconds"));
}

static void print_device(const json_t *d)
{
	const char *state = cli_str(d, "state");
	bool attached = !strcmp(state, "attached");

	printf("%s (%s)", cli_str(d, "device"), attached ? cli_str(d, "mode") : state);
}

/* A node without an edge has no line for it. */
static void print_edge(const json_t *edge)
{
	static const struct count counts[] = {
		{ "rules", "rule" }, { "lists", "list" }, { "prefixes", "prefix" }, {}
	};
	char number[32], bytes[32];

	if (!json_array_size(json_object_get(edge, "devices")))
		return;
	print_list("edge", json_object_get(edge, "devices"), print_device, "");
	print_counts("", edge, counts);
	printf("%-11s%s packets (%s) dropped\n", "",
	       cli_number(number, (uint64_t)cli_int(edge, "packets")),
	       cli_bytes(bytes, (uint64_t)cli_int(edge, "bytes")));
}

static void status_print(const struct cli *cli, const json_t *s)
{
	static const struct count objects[] = {
		{ "pods", "pod" }, { "namespaces", "namespace" }, { "policies", "policy" }, {}
	};
	static const struct count compiled[] = { { "endpoints", "endpoint" },
						 { "identities", "identity" },
						 { "sets", "set" },
						 { "versions", "version" },
						 {} };
	const json_t *kernel = json_object_get(s, "kernel"), *node = json_object_get(s, "node");
	const json_t *log = json_object_get(s, "flow_log");
	const json_t *health = json_object_get(s, "health");
	char up[32], memory[32], kept[32], capacity[32], events[32];

	print_problems(cli, json_object_get(health, "problems"));
	print_health(cli, health);
	printf("agent      towpathd %s, pid %lld, up %s, %s\n", cli_str(s, "version"),
	       (long long)cli_int(s, "pid"), cli_duration(up, (uint64_t)cli_int(s, "uptime_s")),
	       cli_bytes(memory, (uint64_t)cli_int(s, "memory_kb") * 1024));
	printf("kernel     %s, programs attached by %s\n", cli_str(kernel, "release"),
	       cli_str(kernel, "attach"));
	print_list("uplinks", json_object_get(node, "uplinks"), print_uplink,
		   "none: pods reach only this node");
	print_edge(json_object_get(s, "edge"));
	print_list("pools", json_object_get(s, "pools"), print_pool, "none");
	print_counts("objects", json_object_get(s, "counts"), objects);
	print_counts("in force", json_object_get(s, "counts"), compiled);
	print_programs(json_object_get(s, "programs"));
	print_rates(json_object_get(s, "rates"));
	printf("flow log   %s of %s records, %s events since the start\n",
	       cli_number(kept, (uint64_t)cli_int(log, "kept")),
	       cli_number(capacity, (uint64_t)cli_int(log, "capacity")),
	       cli_number(events, (uint64_t)cli_int(log, "events")));
	print_maps(cli, json_object_get(s, "maps"));
	print_drops(cli, json_object_get(s, "drops"));
	print_counters(cli, json_object_get(s, "counters"));
}

static int status_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_json) json_t *reply = NULL;
	int ret;

	if (cli_getopt(cli, argc, argv) != -1)
		return CLI_USAGE;
	if (cli_operands(cli, argc, 0, 0, &ret))
		return ret;
	if (cli_connect(cli))
		return CLI_REFUSED;
	tw_client_timeout(cli->client, 5000); /* a stuck agent is a status too */
	ret = cli_call(cli, "GET", "/v1/status", NULL, &reply);
	if (ret)
		return ret;
	if (cli->output == CLI_TABLE)
		status_print(cli, reply);
	else
		ret = cli_print(cli, reply);
	if (!ret && json_is_false(json_object_get(json_object_get(reply, "health"), "ok")))
		ret = CLI_REFUSED;
	return ret;
}

const struct cli_command cmd_status = {
	.name = "status",
	.usage = "",
	.summary = "show the agent, the kernel side, map fill and drops on one screen",
	.details = "What is wrong stands first, with what helps; the exit status is then 1. Rates "
		   "are\n"
		   "those of the last seconds; counters and drops are since the maps were made.\n",
	.examples = "  towpath status\n"
		    "  towpath status > /dev/null || alert\n"
		    "  towpath status -o json | jq '.health.problems[]'\n"
		    "  towpath status -o json | jq .drops\n"
		    "  towpath --socket /run/other/towpath.sock status\n",
	.run = status_run,
};
