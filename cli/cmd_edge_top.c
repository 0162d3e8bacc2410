/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* edge top: what arrives at the edge and what becomes of it, refreshed in place. */
#include "cli.h"

#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define INTERVAL_DEFAULT_NS 1000000000u
#define INTERVAL_MIN_NS 100000000u
#define INTERVAL_MAX_NS 60000000000u
#define ROWS_DEFAULT 40u
#define SOURCES_SHOWN 10u
#define LINES_AROUND 5u /* head, empty lines, heads of the columns */

enum { OPT_INTERVAL = CLI_LONG, OPT_ONCE };

struct top {
	uint64_t interval;
	bool once;
};

static int ask(struct cli *cli, void *arg, json_t **reply)
{
	json_t *sources = NULL;
	int status = tw_client_call(cli->client, "GET", "/v1/edge", NULL, reply);

	if (status == 200)
		status = tw_client_call(cli->client, "GET", "/v1/edge/sources", NULL, &sources);
	if (status == 200) {
		json_object_set_new(*reply, "sources", sources);
	} else if (sources) {
		json_decref(*reply);
		*reply = sources;
	}
	return status;
}

static double real(const json_t *item, const char *key)
{
	return json_number_value(json_object_get(item, key));
}

/* ---- rates ------------------------------------------------------------------------------------ */

/* What counted before is subtracted; a counter that went back has begun anew. */
static void rate_put(json_t *item, const json_t *old, const char *key, const char *rate,
		     double seconds)
{
	json_int_t now = cli_int(item, key), then = cli_int(old, key);
	json_int_t n = now >= then ? now - then : now;

	json_object_set_new(item, rate, json_real(old && seconds > 0 ? (double)n / seconds : 0));
}

static const json_t *item_find(const json_t *items, const json_t *like)
{
	const json_t *item;
	size_t i;

	json_array_foreach(items, i, item)
		if (!strcmp(cli_str(item, "what"), cli_str(like, "what")) &&
		    !strcmp(cli_str(item, "verdict"), cli_str(like, "verdict")))
			return item;
	return NULL;
}

static int by_rate(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	double p = real(x, "packets_s"), q = real(y, "packets_s");
	json_int_t m = cli_int(x, "packets"), n = cli_int(y, "packets");

	if (p != q)
		return p < q ? 1 : -1;
	return (m < n) - (m > n);
}

static json_t *item_new(const char *verdict, const char *kind, const char *what, const json_t *from)
{
	return json_pack("{s:s, s:s, s:s, s:I, s:I}", "verdict", verdict, "kind", kind, "what",
			 what, "packets", cli_int(from, "packets"), "bytes",
			 cli_int(from, "bytes"));
}

/* Rules and reasons as one list. */
static json_t *items_make(const json_t *reply)
{
	json_t *items = json_array();
	const json_t *from;
	size_t i;

	json_array_foreach(json_object_get(reply, "rules"), i, from) {
		bool deny = !strcmp(cli_str(from, "action"), "deny");

		json_array_append_new(items, item_new(deny ? "drop" : "pass", cli_str(from, "kind"),
						      cli_str(from, "text"), from));
	}
	json_array_foreach(json_object_get(reply, "reasons"), i, from) {
		bool drops = json_is_true(json_object_get(from, "drops"));

		if (cli_int(from, "packets"))
			json_array_append_new(items, item_new(drops ? "drop" : "pass", "reason",
							      cli_str(from, "name"), from));
	}
	return items;
}

static json_t *items_sort(json_t *items, int (*order)(const void *a, const void *b))
{
	size_t n = json_array_size(items);
	cleanup_(cleanup_free) json_t **v = calloc(n + 1, sizeof(*v));
	json_t *sorted = json_array();

	for (size_t i = 0; v && i < n; i++)
		v[i] = json_array_get(items, i);
	if (v)
		qsort(v, n, sizeof(*v), order);
	for (size_t i = 0; v && i < n; i++)
		json_array_append(sorted, v[i]);
	json_decref(items);
	return sorted;
}

static int by_rates(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	double p = real(x, "dropped_s") + real(x, "passed_s");
	double q = real(y, "dropped_s") + real(y, "passed_s");

	return (p < q) - (p > q);
}

/* The sources that sent most meanwhile. */
static json_t *sources_make(const json_t *before, const json_t *after)
{
	const json_t *now = json_object_get(after, "items");
	double seconds = (double)(cli_int(after, "time_ns") - cli_int(before, "time_ns")) / 1e9;
	cleanup_(cleanup_json) json_t *none = json_object();
	cleanup_(cleanup_json) json_t *old = json_object();
	json_t *items = json_array(), *item, *sorted;
	size_t i;

	json_array_foreach(json_object_get(before, "items"), i, item)
		json_object_set(old, cli_str(item, "address"), item);
	json_array_foreach(now, i, item) {
		const json_t *was = json_object_get(old, cli_str(item, "address"));

		rate_put(item, was ? was : none, "passed", "passed_s", seconds);
		rate_put(item, was ? was : none, "dropped", "dropped_s", seconds);
		if (real(item, "passed_s") + real(item, "dropped_s") > 0)
			json_array_append(items, item);
	}
	sorted = items_sort(items, by_rates);
	while (json_array_size(sorted) > SOURCES_SHOWN)
		json_array_remove(sorted, SOURCES_SHOWN);
	return sorted;
}

/* {seconds, drop: {packets_s, bytes_s}, pass: {..}, items: [..], sources: [..]}, busiest first. */
static json_t *rates_make(const json_t *before, const json_t *after)
{
	cleanup_(cleanup_json) json_t *old = items_make(before);
	json_t *items = items_make(after), *item;
	double seconds = (double)(cli_int(after, "time_ns") - cli_int(before, "time_ns")) / 1e9;
	double sum[2][2] = {};
	size_t i;

	json_array_foreach(items, i, item) {
		const json_t *was = item_find(old, item);
		double *to = sum[!strcmp(cli_str(item, "verdict"), "pass")];
		cleanup_(cleanup_json) json_t *none = json_object();

		/* What is here for the first time has counted since. */
		rate_put(item, was ? was : none, "packets", "packets_s", seconds);
		rate_put(item, was ? was : none, "bytes", "bytes_s", seconds);
		to[0] += real(item, "packets_s");
		to[1] += real(item, "bytes_s");
	}
	return json_pack("{s:f, s:{s:f, s:f}, s:{s:f, s:f}, s:o, s:o}", "seconds",
			 seconds > 0 ? seconds : 0.0, "drop", "packets_s", sum[0][0], "bytes_s",
			 sum[0][1], "pass", "packets_s", sum[1][0], "bytes_s", sum[1][1], "items",
			 items_sort(items, by_rate), "sources",
			 sources_make(json_object_get(before, "sources"),
				      json_object_get(after, "sources")));
}

/* ---- the table -------------------------------------------------------------------------------- */

static void cell_number(struct cli_table *t, double v, const char *(*format)(char *, uint64_t))
{
	char buf[32];

	cli_table_cell(t, v <= 0 ? CLI_DIM : NULL, "%s", format(buf, (uint64_t)(v + 0.5)));
}

static void print_table(const struct cli *cli, const json_t *rates, size_t rows)
{
	static const char *const heads[] = { "VERDICT",	   "RULE, LIST OR REASON",
					     ">PACKETS/S", ">BYTES/S",
					     ">PACKETS",   ">BYTES",
					     NULL };
	const json_t *drop = json_object_get(rates, "drop"), *pass = json_object_get(rates, "pass");
	const json_t *items = json_object_get(rates, "items"), *item;
	struct cli_table *t = cli_table_new(cli, heads);
	char packets[2][32], bytes[2][32];
	size_t i;

	printf("dropped %s packets/s, %s/s; passed %s packets/s, %s/s (last %.1f s)\n\n",
	       cli_number(packets[0], (uint64_t)(real(drop, "packets_s") + 0.5)),
	       cli_bytes(bytes[0], (uint64_t)real(drop, "bytes_s")),
	       cli_number(packets[1], (uint64_t)(real(pass, "packets_s") + 0.5)),
	       cli_bytes(bytes[1], (uint64_t)real(pass, "bytes_s")), real(rates, "seconds"));
	json_array_foreach(items, i, item) {
		const char *verdict = cli_str(item, "verdict");

		if (i >= rows)
			break;
		cli_table_cell(t, strcmp(verdict, "drop") ? CLI_GREEN : CLI_RED, "%s", verdict);
		cli_table_cell(t, NULL, "%s%s",
			       strcmp(cli_str(item, "kind"), "list") ? "" : "list ",
			       cli_str(item, "what"));
		cell_number(t, real(item, "packets_s"), cli_number);
		cell_number(t, real(item, "bytes_s"), cli_bytes);
		cell_number(t, (double)cli_int(item, "packets"), cli_number);
		cell_number(t, (double)cli_int(item, "bytes"), cli_bytes);
	}
	if (!json_array_size(items))
		puts("Nothing has arrived.");
	cli_table_print(t);
}

static void print_sources(const struct cli *cli, const json_t *rates)
{
	static const char *const heads[] = { "SOURCE (SAMPLED)", ">DROPPED/S", ">PASSED/S", NULL };
	const json_t *items = json_object_get(rates, "sources"), *item;
	struct cli_table *t = cli_table_new(cli, heads);
	size_t i;

	json_array_foreach(items, i, item) {
		cli_table_cell(t, NULL, "%s", cli_str(item, "address"));
		cell_number(t, real(item, "dropped_s"), cli_number);
		cell_number(t, real(item, "passed_s"), cli_number);
	}
	if (cli_table_rows(t))
		putchar('\n');
	cli_table_print(t);
}

static int is_attached(const json_t *reply)
{
	return json_array_size(json_object_get(reply, "devices")) > 0;
}

/* Above so many sources. */
static size_t rows_fit(size_t sources)
{
	size_t around = LINES_AROUND + sources + 1;
	struct winsize size = {};

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || size.ws_row <= around)
		return ROWS_DEFAULT;
	return size.ws_row - around;
}

static uint64_t show(struct cli *cli, void *arg, const json_t *before, json_t *after)
{
	const struct top *top = arg;
	cleanup_(cleanup_json) json_t *rates = rates_make(before ? before : after, after);

	if (!is_attached(after))
		puts("The edge is attached to no device: towpath edge attach DEVICE\n");
	print_table(cli, rates, rows_fit(json_array_size(json_object_get(rates, "sources"))));
	print_sources(cli, rates);
	/* The first look has no rates: the second one follows soon. */
	return before ? top->interval : INTERVAL_MIN_NS;
}

static int once(struct cli *cli, struct top *top)
{
	cleanup_(cleanup_json) json_t *first = NULL, *reply = NULL, *rates = NULL;

	if (cli_twice(cli, ask, top, top->interval, &first, &reply))
		return CLI_REFUSED;
	if (!is_attached(reply))
		return cli_refuse("the edge is attached to no device: towpath edge attach DEVICE");
	rates = rates_make(first, reply);
	if (cli->output != CLI_TABLE)
		return cli_print(cli, rates);
	print_table(cli, rates, ROWS_DEFAULT);
	print_sources(cli, rates);
	return CLI_OK;
}

static int top_run(struct cli *cli, int argc, char **argv)
{
	struct top top = { .interval = INTERVAL_DEFAULT_NS };
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		switch (opt) {
		case OPT_INTERVAL:
			if (!cli_parse_duration(cli->value, &top.interval) ||
			    top.interval < INTERVAL_MIN_NS || top.interval > INTERVAL_MAX_NS)
				return cli_usage(cli, "--interval takes 100ms to 60s, not \"%s\"",
						 cli->value);
			break;
		case OPT_ONCE:
			top.once = true;
			break;
		default:
			return CLI_USAGE;
		}
	}
	if (cli_operands(cli, argc, 0, 0, &ret))
		return ret;
	if (cli_connect(cli))
		return CLI_REFUSED;
	if (top.once || cli->output != CLI_TABLE || !isatty(STDOUT_FILENO))
		return once(cli, &top);
	return cli_live(cli, &(struct cli_live){ ask, show, NULL }, &top);
}

static const struct cli_option options[] = {
	{ OPT_INTERVAL, "interval", "TIME", "between looks: 100ms to 60s (default 1s)" },
	{ OPT_ONCE, "once", NULL, "one table, and end; so does an output that is no terminal" },
	{ 0 },
};

const struct cli_command cmd_edge_top = {
	.name = "edge top",
	.usage = "[--interval TIME] [--once]",
	.summary = "show what arrives and what drops it, live",
	.details =
		"Packets and bytes a second by rule, list and reason, the busiest first, of all\n"
		"devices of the edge together, and below them who sends most, estimated from one\n"
		"packet in 1024. q ends.\n",
	.options = options,
	.examples = "  towpath edge top\n"
		    "  towpath edge top --once -o json | jq .drop\n",
	.run = top_run,
};
