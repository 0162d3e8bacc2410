/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* program stats: how often programs run, and for how long, refreshed in place. */
#include "cli.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#define INTERVAL_DEFAULT_NS 1000000000u
#define INTERVAL_MIN_NS 100000000u
#define INTERVAL_MAX_NS 10000000000u
#define SLACK_MS 2000u /* that a call may take; then the kernel stops counting */

enum { OPT_INTERVAL = CLI_LONG, OPT_ONCE };

struct stats {
	const char *name; /* NULL: all */
	uint64_t interval;
	bool once;
};

static int ask(struct cli *cli, void *arg, json_t **reply)
{
	const struct stats *s = arg;
	const unsigned int hold = (unsigned int)(s->interval / 1000000u) + SLACK_MS;
	cleanup_(cleanup_free) char *path = cli_printf("/v1/program-stats?hold=%u", hold);

	return tw_client_call(cli->client, "GET", path, NULL, reply);
}

static const json_t *item_find(const json_t *reply, const char *name, json_int_t id)
{
	const json_t *item;
	size_t i;

	json_array_foreach(json_object_get(reply, "items"), i, item) {
		if (!strcmp(cli_str(item, "name"), name) && cli_int(item, "id") == id)
			return item;
	}
	return NULL;
}

/* What a program did between two looks; the later one gets it. */
static void rates_put(const json_t *before, const json_t *after)
{
	double seconds =
		(double)(cli_int(after, "time_ns") - cli_int(before, "time_ns")) / 1000000000.0;
	json_t *item;
	size_t i;

	json_array_foreach(json_object_get(after, "items"), i, item) {
		const json_t *old = item_find(before, cli_str(item, "name"), cli_int(item, "id"));
		json_int_t runs = old ? cli_int(item, "runs") - cli_int(old, "runs") : 0;
		json_int_t ns = old ? cli_int(item, "ns") - cli_int(old, "ns") : 0;

		json_object_set_new(item, "runs_s",
				    json_real(seconds > 0 ? (double)runs / seconds : 0));
		json_object_set_new(item, "ns_a_run",
				    json_real(runs ? (double)ns / (double)runs : 0));
		json_object_set_new(item, "cpu_percent",
				    json_real(seconds > 0 ? (double)ns / seconds / 10000000.0 : 0));
	}
}

static double real(const json_t *item, const char *key)
{
	return json_number_value(json_object_get(item, key));
}

static void print_table(const struct cli *cli, const json_t *reply)
{
	static const char *const heads[] = { "NAME",	"PROGRAM", ">ID",   ">RUNS/S",
					     ">NS/RUN", ">CPU %",  ">RUNS", NULL };
	struct cli_table *t = cli_table_new(cli, heads);
	const json_t *items = json_object_get(reply, "items"), *item;
	char number[32];
	size_t i;

	json_array_foreach(items, i, item) {
		cli_table_cell(t, NULL, "%s", cli_str(item, "name"));
		cli_table_cell(t, NULL, "%s", cli_str(item, "program"));
		cli_table_cell(t, NULL, "%lld", (long long)cli_int(item, "id"));
		cli_table_cell(t, real(item, "runs_s") > 0 ? NULL : CLI_DIM, "%.1f",
			       real(item, "runs_s"));
		cli_table_cell(t, real(item, "runs_s") > 0 ? NULL : CLI_DIM, "%.0f",
			       real(item, "ns_a_run"));
		cli_table_cell(t, NULL, "%.2f", real(item, "cpu_percent"));
		cli_table_cell(t, NULL, "%s", cli_number(number, (uint64_t)cli_int(item, "runs")));
	}
	if (!json_array_size(items))
		printf("No program is attached.\n");
	cli_table_print(t);
}

/* Only the one that was asked for. */
static void filter(const struct stats *s, json_t *reply)
{
	json_t *items = json_object_get(reply, "items");

	for (size_t i = json_array_size(items); s->name && i--;)
		if (strcmp(cli_str(json_array_get(items, i), "name"), s->name))
			json_array_remove(items, i);
}

static uint64_t show(struct cli *cli, void *arg, const json_t *before, json_t *after)
{
	const struct stats *s = arg;

	filter(s, after);
	rates_put(before ? before : after, after);
	print_table(cli, after);
	/* The first look has no rates: the second one follows soon. */
	return before ? s->interval : INTERVAL_MIN_NS;
}

static int once(struct cli *cli, struct stats *s)
{
	cleanup_(cleanup_json) json_t *first = NULL, *reply = NULL;

	if (cli_twice(cli, ask, s, s->interval, &first, &reply))
		return CLI_REFUSED;
	filter(s, reply);
	if (s->name && !json_array_size(json_object_get(reply, "items")))
		return cli_refuse("there is no program %s that is loaded; see towpath program show",
				  s->name);
	rates_put(first, reply);
	if (cli->output != CLI_TABLE)
		return cli_print(cli, reply);
	print_table(cli, reply);
	return CLI_OK;
}

static int stats_run(struct cli *cli, int argc, char **argv)
{
	struct stats s = { .interval = INTERVAL_DEFAULT_NS };
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		switch (opt) {
		case OPT_INTERVAL:
			if (!cli_parse_duration(cli->value, &s.interval) ||
			    s.interval < INTERVAL_MIN_NS || s.interval > INTERVAL_MAX_NS)
				return cli_usage(cli, "--interval takes 100ms to 10s, not \"%s\"",
						 cli->value);
			break;
		case OPT_ONCE:
			s.once = true;
			break;
		default:
			return CLI_USAGE;
		}
	}
	if (cli_operands(cli, argc, 0, 1, &ret))
		return ret;
	s.name = argv[optind];
	if (cli_connect(cli))
		return CLI_REFUSED;
	if (s.once || cli->output != CLI_TABLE || !isatty(STDOUT_FILENO))
		return once(cli, &s);
	return cli_live(cli, &(struct cli_live){ ask, show, NULL }, &s);
}

static const struct cli_option stats_options[] = {
	{ OPT_INTERVAL, "interval", "TIME", "between looks: 100ms to 10s (default 1s)" },
	{ OPT_ONCE, "once", NULL, "one table, and end; so does an output that is no terminal" },
	{ 0 },
};

const struct cli_command cmd_program_stats = {
	.name = "program stats",
	.usage = "[NAME] [--interval TIME] [--once]",
	.summary = "show how often programs run and how long that takes, live",
	.details =
		"The kernel counts only while this runs, for all programs of the machine, which\n"
		"makes each run some 80 ns longer. NS/RUN is an average over the interval, with\n"
		"what the program tail calls. q ends.\n",
	.options = stats_options,
	.examples = "  towpath program stats\n"
		    "  towpath program stats count --interval 500ms\n"
		    "  towpath program stats --once -o json | jq '.items[] | {name, ns_a_run}'\n",
	.run = stats_run,
};
