/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* top: what is busy now, refreshed in place. */
#include "cli.h"

#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define INTERVAL_DEFAULT_NS 1000000000u
#define INTERVAL_MIN_NS 500000000u   /* over less, rates are noise */
#define INTERVAL_MAX_NS 10000000000u /* the agent forgets what rates are since */
#define ROWS_DEFAULT 20u
#define ROWS_MAX 256u
#define LINES_AROUND 3u /* head, empty line, heads of the columns */

enum { OPT_SORT = CLI_LONG, OPT_INTERVAL, OPT_ONCE };

struct top {
	const char *what, *sort, *ns;
	uint64_t interval;
	unsigned int rows; /* 0: as many as fit */
	bool once;
};

static const char *const kinds[] = { "flows", "endpoints", "policies", NULL };
static const char *const sorts[] = { "packets", "bytes", "drops", NULL };

static const char *word_find(const char *const *words, const char *text)
{
	for (; *words; words++)
		if (!strcmp(*words, text))
			return *words;
	return NULL;
}

/* ---- the table ------------------------------------------------------------------------------------ */

static double real(const json_t *item, const char *key)
{
	return json_number_value(json_object_get(item, key));
}

/* "12.3", "1 234": small numbers have what is behind the point. */
static void cell_rate(struct cli_table *t, const json_t *item, const char *key, bool bad)
{
	double v = real(item, key);
	const char *color = v <= 0 ? CLI_DIM : bad ? CLI_RED : NULL;
	char buf[32];

	if (v > 0 && v < 100)
		cli_table_cell(t, color, "%.1f", v);
	else
		cli_table_cell(t, color, "%s", cli_number(buf, (uint64_t)(v + 0.5)));
}

static void cells_values(struct cli_table *t, const json_t *item)
{
	char buf[32];

	cell_rate(t, item, "packets_s", false);
	cli_table_cell(t, real(item, "bytes_s") <= 0 ? CLI_DIM : NULL, "%s",
		       cli_bytes(buf, (uint64_t)(real(item, "bytes_s") + 0.5)));
	cell_rate(t, item, "drops_s", true);
	cli_table_cell(t, NULL, "%s", cli_number(buf, (uint64_t)cli_int(item, "packets")));
	cli_table_cell(t, NULL, "%s", cli_bytes(buf, (uint64_t)cli_int(item, "bytes")));
}

/* "shop/web:80", "host 192.0.2.1:22", "[2001:db8::1]:443" */
static void cell_end(struct cli_table *t, const json_t *end)
{
	const char *ip = cli_str(end, "ip"), *what = cli_str(end, "what");
	bool pod = !strcmp(what, "pod"), v6 = !pod && strchr(ip, ':');
	char port[16] = "";

	if (json_object_get(end, "port"))
		snprintf(port, sizeof(port), ":%lld", (long long)cli_int(end, "port"));
	if (pod)
		cli_table_cell(t, NULL, "%s/%s%s", cli_str(end, "namespace"), cli_str(end, "pod"),
			       port);
	else
		cli_table_cell(t, NULL, "%s%s%s%s%s%s", strcmp(what, "world") ? what : "",
			       strcmp(what, "world") ? " " : "", v6 && *port ? "[" : "", ip,
			       v6 && *port ? "]" : "", port);
}

static void row_flow(struct cli_table *t, const json_t *item)
{
	const char *state = cli_str(item, "state");
	bool bad = !strcmp(state, "dropped") || !strcmp(state, "denied");

	cell_end(t, json_object_get(item, "from"));
	cell_end(t, json_object_get(item, "to"));
	cli_table_cell(t, NULL, "%s", cli_str(item, "proto"));
	cells_values(t, item);
	cli_table_cell(t, bad ? CLI_RED : NULL, "%s",
		       json_object_get(item, "reason") ? cli_str(item, "reason") : state);
}

static void row_endpoint(struct cli_table *t, const json_t *item)
{
	cli_table_cell(t, NULL, "%s/%s", cli_str(item, "namespace"), cli_str(item, "pod"));
	cli_table_cell(t, NULL, "%lld", (long long)cli_int(item, "flows"));
	cells_values(t, item);
}

static void row_policy(struct cli_table *t, const json_t *item)
{
	cli_table_cell(t, NULL, "%s/%s", cli_str(item, "namespace"), cli_str(item, "name"));
	cli_table_cell(t, NULL, "%lld", (long long)cli_int(item, "flows"));
	cells_values(t, item);
}

#define VALUE_HEADS ">PACKETS/S", ">BYTES/S", ">DROPS/S", ">PACKETS", ">BYTES"

static void print_table(const struct cli *cli, const struct top *top, const json_t *reply,
			size_t rows)
{
	static const char *const flow_heads[] = {
		"FROM", "TO", "PROTO", VALUE_HEADS, "STATE", NULL
	};
	static const char *const endpoint_heads[] = { "ENDPOINT", ">FLOWS", VALUE_HEADS, NULL };
	static const char *const policy_heads[] = { "POLICY", ">FLOWS", VALUE_HEADS, NULL };
	bool flows = top->what == kinds[0], endpoints = top->what == kinds[1];
	const json_t *items = json_object_get(reply, "items"), *item;
	struct cli_table *t = cli_table_new(cli, flows	     ? flow_heads
						 : endpoints ? endpoint_heads
							     : policy_heads);
	char number[32], bytes[32];
	size_t i;

	printf("%s by %s%s%s: %s flows, %.0f packets/s, %s/s", top->what, top->sort,
	       top->ns ? " in " : "", top->ns ? top->ns : "",
	       cli_number(number, (uint64_t)cli_int(reply, "flows")), real(reply, "packets_s"),
	       cli_bytes(bytes, (uint64_t)real(reply, "bytes_s")));
	if (json_object_get(reply, "share"))
		printf("; %.0f %% of them looked at", 100 * real(reply, "share"));
	printf(" (last %.1f s)\n\n", real(reply, "seconds"));
	json_array_foreach(items, i, item) {
		if (i >= rows)
			break;
		if (flows)
			row_flow(t, item);
		else if (endpoints)
			row_endpoint(t, item);
		else
			row_policy(t, item);
	}
	if (!json_array_size(items))
		printf("Nothing.\n");
	cli_table_print(t);
}

/* ---- live ----------------------------------------------------------------------------------------- */

/* How many rows fit on the screen. */
static size_t rows_fit(const struct top *top)
{
	struct winsize size = {};

	if (top->rows)
		return top->rows;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || size.ws_row <= LINES_AROUND + 1)
		return ROWS_DEFAULT;
	size_t rows = size.ws_row - LINES_AROUND - 1u;
	return rows < ROWS_MAX ? rows : ROWS_MAX;
}

/* The status of the call; *reply may be an error's. */
static int ask(struct cli *cli, void *arg, json_t **reply)
{
	const struct top *top = arg;
	char rows[16];

	snprintf(rows, sizeof(rows), "%zu", top->once && !top->rows ? ROWS_DEFAULT : rows_fit(top));
	cleanup_(cleanup_free) char *path =
		cli_path("/v1/top?what=%s&sort=%s&n=%s&namespace=%s", top->what, top->sort, rows,
			 top->ns ? top->ns : "");

	return tw_client_call(cli->client, "GET", path, NULL, reply);
}

/* f, e, w: what is shown; p, b, d: sorted by. */
static void key_take(void *arg, int key)
{
	struct top *top = arg;
	static const struct {
		char key;
		bool sort;
		unsigned int i;
	} keys[] = { { 'f', false, 0 }, { 'e', false, 1 }, { 'w', false, 2 },
		     { 'p', true, 0 },	{ 'b', true, 1 },  { 'd', true, 2 } };

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (keys[i].key != key)
			continue;
		if (keys[i].sort)
			top->sort = sorts[keys[i].i];
		else
			top->what = kinds[keys[i].i];
	}
}

static uint64_t show(struct cli *cli, void *arg, const json_t *before, json_t *reply)
{
	const struct top *top = arg;

	print_table(cli, top, reply, rows_fit(top));
	/* What came with the first look has no rates: the second one follows soon. */
	return real(reply, "seconds") > 0 ? top->interval : INTERVAL_MIN_NS;
}

static int once(struct cli *cli, struct top *top)
{
	cleanup_(cleanup_json) json_t *first = NULL, *reply = NULL;

	if (cli_twice(cli, ask, top, top->interval, &first, &reply))
		return CLI_REFUSED;
	if (cli->output != CLI_TABLE)
		return cli_print(cli, reply);
	print_table(cli, top, reply, top->rows ? top->rows : ROWS_DEFAULT);
	return CLI_OK;
}

static int option_take(struct cli *cli, struct top *top, int opt)
{
	unsigned long rows;
	char *end;

	switch (opt) {
	case OPT_SORT:
		top->sort = word_find(sorts, cli->value);
		if (!top->sort)
			return cli_usage(cli, "--sort takes packets, bytes or drops, not \"%s\"",
					 cli->value);
		return CLI_OK;
	case OPT_INTERVAL:
		if (!cli_parse_duration(cli->value, &top->interval) ||
		    top->interval < INTERVAL_MIN_NS || top->interval > INTERVAL_MAX_NS)
			return cli_usage(cli, "--interval takes 500ms to 10s, not \"%s\"",
					 cli->value);
		return CLI_OK;
	case 'n':
		top->ns = cli->value;
		return CLI_OK;
	case 'r':
		rows = strtoul(cli->value, &end, 10);
		if (*end || *cli->value < '0' || *cli->value > '9' || !rows || rows > ROWS_MAX)
			return cli_usage(cli, "--rows takes a number from 1 to %u, not \"%s\"",
					 ROWS_MAX, cli->value);
		top->rows = (unsigned int)rows;
		return CLI_OK;
	case OPT_ONCE:
		top->once = true;
		return CLI_OK;
	default:
		return CLI_USAGE;
	}
}

static int top_run(struct cli *cli, int argc, char **argv)
{
	struct top top = { kinds[0], sorts[0], NULL, INTERVAL_DEFAULT_NS, 0, false };
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		ret = option_take(cli, &top, opt);
		if (ret)
			return ret;
	}
	if (cli_operands(cli, argc, 0, 1, &ret))
		return ret;
	if (optind < argc) {
		top.what = word_find(kinds, argv[optind]);
		if (!top.what)
			return cli_usage(cli, "there is flows, endpoints or policies, not \"%s\"",
					 argv[optind]);
	}
	if (cli->output != CLI_TABLE || !isatty(STDOUT_FILENO))
		top.once = true;
	if (cli_connect(cli))
		return CLI_REFUSED;
	return top.once ? once(cli, &top)
			: cli_live(cli, &(struct cli_live){ ask, show, key_take }, &top);
}

static const struct cli_option top_options[] = {
	{ OPT_SORT, "sort", "KEY", "packets (default), bytes or drops" },
	{ 'n', "namespace", "NS", "only this namespace" },
	{ 'r', "rows", "N", "at most so many rows (default: what fits, else 20)" },
	{ OPT_INTERVAL, "interval", "TIME", "between looks: 500ms to 10s (default 1s)" },
	{ OPT_ONCE, "once", NULL, "one table, and end; so does an output that is no terminal" },
	{ 0 },
};

const struct cli_command cmd_top = {
	.name = "top",
	.usage = "[flows|endpoints|policies] [--sort KEY] [-n NS] [--interval TIME] [--once]",
	.summary = "show the busiest flows, endpoints or policies, live",
	.details =
		"Rates are those between two looks; packets and bytes without /S are those of the\n"
		"connections that are open. Drops are counted from the flow log. While it runs, "
		"the keys\n"
		"f, e and w show flows, endpoints and policies, p, b and d sort by packets, bytes "
		"and\n"
		"drops, q ends. A flow counts for the policy that allows it, a drop for those "
		"that\n"
		"deny it. A node where nobody asks counts nothing for this.\n",
	.options = top_options,
	.words = kinds,
	.examples = "  towpath top\n"
		    "  towpath top endpoints --sort bytes -n shop\n"
		    "  towpath top flows --sort drops --once\n"
		    "  towpath top policies -o json | jq '.items[] | {name, packets_s}'\n",
	.run = top_run,
};
