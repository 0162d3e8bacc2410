/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* flows: the agent's flow log, as lines that can be read while they come. */
#include "cli.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "datapath.h"
#include "flow_lines.h"
#include "linefile.h"

enum {
	OPT_FROM = CLI_LONG,
	OPT_TO,
	OPT_WITH,
	OPT_VERDICT,
	OPT_REASON,
	OPT_POLICY,
	OPT_TYPE,
	OPT_LAST,
	OPT_SINCE,
	OPT_UNTIL,
	OPT_EXPORT,
	OPT_EXPORT_MB,
	OPT_EXPORT_FILES
};

#define LAST_DEFAULT "100"
#define LAST_FOLLOW "10"
#define EXPORT_MB 100
#define EXPORT_FILES 5

enum column { COL_TIME, COL_VERDICT, COL_FROM, COL_TO, COL_PROTO, COL_WHY, COL_COUNT };

struct flows {
	struct cli *cli;
	size_t width[COL_COUNT]; /* the widest so far: columns only grow, as no line can wait */
	uint64_t lines;
	json_int_t seq;		 /* of the last flow of an earlier export */
	struct linefile *export; /* NULL: to standard output */
	int export_error;
};

/* Which policies decided a direction; nothing where no policy selects the endpoint. */
static void decision_text(const json_t *flow, const char *direction, const char **separator,
			  FILE *out)
{
	const json_t *d = json_object_get(json_object_get(flow, "policy"), direction);
	const char *policy = cli_str(d, "policy");

	if (!d || !json_is_true(json_object_get(d, "isolated")))
		return;
	if (!json_is_true(json_object_get(d, "allow")))
		fprintf(out, "%sno %s rule of %s allows it", *separator, direction,
			cli_str(d, "selected_by"));
	else if (*policy)
		fprintf(out, "%s%s by %s rule %lld", *separator, direction, policy,
			(long long)cli_int(d, "rule"));
	else
		return;
	*separator = "; ";
}

static void counters_text(const json_t *flow, FILE *out)
{
	static const char *const where[] = { " there, ", " back" };
	char bytes[32];

	for (size_t i = 0; i < 2; i++) {
		const json_t *p = json_array_get(json_object_get(flow, "packets"), i);
		const json_t *b = json_array_get(json_object_get(flow, "bytes"), i);

		fprintf(out, "%lld packets %s%s", (long long)json_integer_value(p),
			cli_bytes(bytes, (uint64_t)json_integer_value(b)), where[i]);
	}
}

static void duration_text(const json_t *flow, FILE *out)
{
	const json_t *duration = json_object_get(flow, "duration_ms");
	double seconds = (double)json_integer_value(duration) / 1000;
	char buf[32];

	if (duration && seconds < 60)
		fprintf(out, " after %.*f s", seconds < 10 ? 2 : 1, seconds);
	else if (duration)
		fprintf(out, " after %s", cli_duration(buf, (uint64_t)seconds));
}

/* What happened and whose doing it was. */
static void why_text(const json_t *flow, FILE *out)
{
	const char *type = cli_str(flow, "type"), *reason = cli_str(flow, "reason");
	const char *separator = ": ";
	bool drop = !strcmp(type, "drop");

	fputs(drop ? reason : type, out);
	if (cli_int(flow, "count") > 1)
		fprintf(out, ", %lld times", (long long)cli_int(flow, "count"));
	if (*cli_str(flow, "nat"))
		fprintf(out, ", leaves as %s", cli_str(flow, "nat"));
	if (!strcmp(type, "close")) {
		duration_text(flow, out);
		fputs(separator, out);
		counters_text(flow, out);
	}
	/* Who denies comes first; that the other end's policy allowed it explains nothing. */
	if (strcmp(reason, tw_reason_name(TW_REASON_POLICY_INGRESS)))
		decision_text(flow, "egress", &separator, out);
	decision_text(flow, "ingress", &separator, out);
	for (unsigned int r = 0; drop && !strcmp(separator, ": ") && r < TW_REASON_COUNT; r++)
		if (!strcmp(reason, tw_reason_name(r)))
			fprintf(out, ": %s", tw_reason_text(r));
	if (drop && !strcmp(cli_str(flow, "hook"), tw_hook_name(TW_HOOK_KERNEL)))
		fputs(": dropped by the kernel's own stack", out);
}

static void column_text(const json_t *flow, enum column c, bool full, FILE *out)
{
	switch (c) {
	case COL_TIME:
		flow_time(cli_int(flow, "time"), full, out);
		break;
	case COL_VERDICT:
		fputs(cli_str(flow, "verdict"), out);
		break;
	case COL_FROM:
	case COL_TO:
		flow_end(json_object_get(flow, c == COL_FROM ? "from" : "to"), full, out);
		break;
	case COL_PROTO:
		flow_proto(flow, out);
		break;
	case COL_WHY:
		why_text(flow, out);
		break;
	case COL_COUNT:
		break;
	}
}

static void print_columns(struct flows *f, const json_t *flow)
{
	static const char *const heads[] = { "TIME", "VERDICT", "FROM", "TO", "PROTO", "WHY" };
	const struct cli *cli = f->cli;
	bool full = cli->output == CLI_COMPACT;

	for (enum column c = 0; c < COL_COUNT; c++) {
		cleanup_(cleanup_free) char *text = NULL;
		size_t len;
		FILE *out = open_memstream(&text, &len);

		if (!out)
			abort();
		if (flow)
			column_text(flow, c, full, out);
		else
			fputs(heads[c], out);
		fclose(out);
		if (c < COL_WHY && !full && len > f->width[c])
			f->width[c] = len;

		const char *color = !flow ? CLI_BOLD : NULL;

		if (flow && c == COL_VERDICT)
			color = !strcmp(text, "allow") ? CLI_GREEN : CLI_RED;
		printf("%s%s%s%*s%s", cli_color(cli, color), text, color ? cli_plain(cli) : "",
		       full ? 0 : (int)(f->width[c] - (c < COL_WHY ? len : 0)), "",
		       c == COL_WHY	       ? "\n"
		       : full && c == COL_FROM ? " -> "
		       : full		       ? " "
					       : "  ");
	}
}

/* What the flows of a call are asked by. */
struct flows_ask {
	char *query; /* filters */
	const char *last;
	bool follow, since;
	struct linefile_options export; /* path NULL: none */
};

static int export_line(struct flows *f, const char *line, size_t len)
{
	cleanup_(cleanup_free) char *text = cli_printf("%.*s\n", (int)len, line);

	size_t written;

	f->export_error = linefile_write(f->export, text, len + 1, &written);
	return f->export_error;
}

/* Opens the file, and finds out where an earlier export ended. */
static int export_open(struct flows *f, const struct linefile_options *options)
{
	cleanup_(cleanup_free) char *last = NULL;
	cleanup_(cleanup_json) json_t *flow = NULL;
	int err = linefile_open(&f->export, options, &last);

	if (err)
		return cli_refuse("cannot write flows to %s: %s", options->path, strerror(-err));
	flow = json_loads(last, 0, NULL);
	f->seq = cli_int(flow, "seq");
	return CLI_OK;
}

static int flow_record(void *arg, const json_t *flow, const char *line, size_t len)
{
	struct flows *f = arg;
	json_int_t lost = cli_int(flow, "lost");

	if (f->export)
		return export_line(f, line, len);
	if (f->cli->output == CLI_JSON) {
		printf("%.*s\n", (int)len, line);
	} else if (f->cli->output == CLI_YAML) {
		puts("---");
		cli_yaml(flow, stdout);
	} else if (lost) {
		printf("lost: %lld flows that came faster than they were read\n", (long long)lost);
	} else if (flow) {
		if (!f->lines++ && f->cli->output == CLI_TABLE)
			print_columns(f, NULL);
		print_columns(f, flow);
	}
	return 0;
}

static int flows_show(struct cli *cli, const struct flows_ask *ask)
{
	/* Wide enough for most, so that columns seldom move. */
	struct flows f = { .cli = cli, .width = { 12, 7, 24, 24, 5, 0 } };
	int ret = cli_connect(cli), status = 0;

	if (!ret && ask->export.path)
		ret = export_open(&f, &ask->export);
	if (ret)
		return ret;
	setvbuf(stdout, NULL, _IOLBF, 0);

	struct flow_reader reader = { cli,   ask->query,  ask->last, ask->follow,
				      f.seq, flow_record, &f };

	ret = flow_read(&reader, &status);
	linefile_close(f.export);
	if (ret)
		return ret;
	if (f.export_error)
		return cli_refuse("cannot write flows to %s: %s", ask->export.path,
				  strerror(-f.export_error));
	if (status == 400) /* a filter that the agent does not understand */
		return cli_usage(cli, "%s", tw_client_error(cli->client, status, NULL));
	if (status < 200 || status >= 300)
		return cli_refuse("%s", tw_client_error(cli->client, status, NULL));
	if (!f.lines && !f.export && cli->output == CLI_TABLE)
		fprintf(stderr, "no flows\n");
	return CLI_OK;
}

static int flows_time(struct cli *cli, const char *name, char **query)
{
	cleanup_(cleanup_free) char *text = NULL;
	uint64_t since;

	if (!cli_parse_since(cli->value, &since))
		return cli_usage(cli,
				 "--%s takes 30s, 10m, 2h, 1d or 2026-01-31T12:00:00Z, not "
				 "\"%s\"",
				 name, cli->value);
	text = cli_printf("%llu", (unsigned long long)since);
	flow_query(query, name, text);
	return CLI_OK;
}

static const struct cli_option flows_options[] = {
	{ 'f', "follow", NULL, "go on with what comes" },
	{ OPT_FROM, "from", "END",
	  "sender: ns/pod, pod, ns/, key=value, address, CIDR, host, world" },
	{ OPT_TO, "to", "END", "receiver, likewise" },
	{ OPT_WITH, "with", "END", "sender or receiver, likewise" },
	{ 'n', "namespace", "NS", "either end is a pod of this namespace" },
	{ 'l', "label", "KEY[=VALUE]", "either end has this label" },
	{ 'p', "port", "PORT[/PROTO]", "destination port; or a protocol: tcp, udp, sctp, icmp" },
	{ OPT_VERDICT, "verdict", "V", "allow or deny" },
	{ OPT_REASON, "reason", "R",
	  "why it was dropped, several with commas; kernel: by its own stack" },
	{ OPT_POLICY, "policy", "[NS/]NAME", "a policy that decided, or that selects an end" },
	{ OPT_TYPE, "type", "T", "new, drop, close, revoke, several with commas" },
	{ OPT_LAST, "last", "N",
	  "how many of the past, or all (default 100, 10 with -f, all with --since)" },
	{ OPT_SINCE, "since", "T", "not older than 30s, 10m, 2h, or than 2026-01-31T12:00:00Z" },
	{ OPT_UNTIL, "until", "T", "older than that" },
	{ OPT_EXPORT, "export", "FILE",
	  "append to FILE as JSON lines, behind what it has already" },
	{ OPT_EXPORT_MB, "export-mb", "N", "begin it anew at so many megabytes (100)" },
	{ OPT_EXPORT_FILES, "export-files", "N", "older ones kept: FILE.1, FILE.2, ... (5)" },
	{ 0 },
};

static const char *option_name(int id)
{
	for (const struct cli_option *o = flows_options; o->id; o++)
		if (o->id == id)
			return o->name;
	return NULL;
}

static int export_number(struct cli *cli, int opt, struct linefile_options *out)
{
	char *end;
	unsigned long n = strtoul(cli->value, &end, 10);

	if (!*cli->value || *cli->value == '-' || *end || n > 1000000 ||
	    (opt == OPT_EXPORT_MB && !n))
		return cli_usage(cli, "--%s takes a number, not \"%s\"", option_name(opt),
				 cli->value);
	if (opt == OPT_EXPORT_MB)
		out->bytes = (uint64_t)n << 20;
	else
		out->files = (unsigned int)n;
	return CLI_OK;
}

static int flows_option(struct cli *cli, int opt, struct flows_ask *ask)
{
	switch (opt) {
	case 'f':
		ask->follow = true;
		return CLI_OK;
	case OPT_LAST:
		ask->last = cli->value;
		return CLI_OK;
	case OPT_SINCE:
	case OPT_UNTIL:
		ask->since |= opt == OPT_SINCE;
		return flows_time(cli, option_name(opt), &ask->query);
	case OPT_EXPORT:
		ask->export.path = cli->value;
		return CLI_OK;
	case OPT_EXPORT_MB:
	case OPT_EXPORT_FILES:
		return export_number(cli, opt, &ask->export);
	case '?':
		return CLI_USAGE;
	default:
		flow_query(&ask->query, option_name(opt), cli->value);
		return CLI_OK;
	}
}

static void ask_clear(struct flows_ask *ask)
{
	free(ask->query);
}

static int flows_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(ask_clear) struct flows_ask ask = {
		.query = cli_printf("%s", ""),
		.export = { .bytes = (uint64_t)EXPORT_MB << 20, .files = EXPORT_FILES },
	};
	char *end;
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		ret = flows_option(cli, opt, &ask);
		if (ret)
			return ret;
	}
	if (cli_operands(cli, argc, 0, 0, &ret))
		return ret;
	if (!ask.last)
		ask.last = ask.since || ask.export.path ? FLOWS_ALL
			   : ask.follow			? LAST_FOLLOW
							: LAST_DEFAULT;
	else if (!strcmp(ask.last, "all"))
		ask.last = FLOWS_ALL;
	else if (!*ask.last || strtoul(ask.last, &end, 10) > UINT32_MAX || *end || *ask.last == '-')
		return cli_usage(cli, "--last takes a number or all, not \"%s\"", ask.last);
	return flows_show(cli, &ask);
}

#define REASON_LINE(sym, name, text) "  " name "\n      " text "\n"

const struct cli_command cmd_flows = {
	.name = "flows",
	.usage = "[-f] [--from END] [--to END] [--with END] [--port P] [--verdict V] ...",
	.summary = "show new, denied and closed flows, and which policy decided",
	.details =
		"Each line names both ends, the verdict, and the policy and rule that decided; "
		"for\n"
		"a denied packet, the policies that select the endpoint and have no rule for it.\n"
		"Equal drops within a second are one line with their number. -o compact gives "
		"full\n"
		"times and addresses, one flow a line; -o json one object a line.\n"
		"\nReasons:\n" TW_REASONS(REASON_LINE) "\nA reason in capitals is the kernel's own "
						       "(NO_SOCKET, TCP_CSUM, ...); --reason "
						       "kernel\nselects all of those.\n",
	.options = flows_options,
	.examples = "  towpath flows --verdict deny --since 10m\n"
		    "  towpath flows -f --to shop/db\n"
		    "  towpath flows -f --export /var/log/flows.json --export-mb 10\n"
		    "  towpath flows --with app=web -n shop --since 2h --until 1h\n"
		    "  towpath flows --from 10.88.0.0/16 --port 443/tcp --last all\n"
		    "  towpath flows --policy shop/deny-all -o json\n",
	.lines = true,
	.run = flows_run,
};
