/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* program list, show: what runs where. */
#include "cli.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

enum { OPT_DEVICE = CLI_LONG, OPT_ENDPOINT, OPT_CGROUP };

/* ---- list --------------------------------------------------------------------------------------- */

/* Whose it is: for what is somebody else's, the pin or the process that keeps it. */
static void owner_cell(struct cli_table *t, const json_t *item)
{
	const json_t *pins = json_object_get(item, "pins");
	const json_t *processes = json_object_get(item, "processes");
	const char *owner = cli_str(item, "owner"), *by = NULL;

	if (!strcmp(owner, "other"))
		by = json_string_value(json_array_get(json_array_size(pins) ? pins : processes, 0));
	if (by)
		cli_table_cell(t, NULL, "%s", by);
	else if (!strcmp(owner, "user"))
		cli_table_cell(t, NULL, "user: %s", cli_str(item, "name"));
	else
		cli_table_cell(t, NULL, "%s", strcmp(owner, "other") ? owner : "-");
}

static int hooks_print(const struct cli *cli, const json_t *reply)
{
	static const char *const heads[] = { "WHERE", "HOOK",  ">#",	"PROGRAM",
					     ">ID",   "OWNER", "STATE", NULL };
	struct cli_table *t = cli_table_new(cli, heads);
	const json_t *items = json_object_get(reply, "items"), *item;
	size_t i;

	json_array_foreach(items, i, item) {
		const char *state = cli_str(item, "state"), *mode = cli_str(item, "mode");
		char position[16] = "-", id[16] = "-";

		if (cli_int(item, "position")) {
			snprintf(position, sizeof(position), "%lld",
				 (long long)cli_int(item, "position"));
			snprintf(id, sizeof(id), "%lld", (long long)cli_int(item, "id"));
		}
		cli_table_cell(t, NULL, "%s", cli_str(item, "where"));
		cli_table_cell(t, NULL, "%s", cli_str(item, "hook"));
		cli_table_cell(t, NULL, "%s", position);
		cli_table_cell(t, NULL, "%s", cli_str(item, "program"));
		cli_table_cell(t, NULL, "%s", id);
		owner_cell(t, item);
		if (*state)
			cli_table_cell(t, CLI_YELLOW, "%s: %s", state, cli_str(item, "why"));
		else
			cli_table_cell(t, NULL, "attached%s%s", *mode ? ", " : "", mode);
	}
	if (!json_array_size(items))
		printf("No program is attached there.\n");
	cli_table_print(t);
	return CLI_OK;
}

/* The path of the request, malloc'ed; NULL after a usage error. */
static char *list_path(const struct cli *cli, int where, const char *place)
{
	cleanup_(cleanup_free) char *ns = NULL;
	cleanup_(cleanup_free) char *pod = NULL;

	switch (where) {
	case OPT_DEVICE:
		return cli_path("/v1/hooks?device=%s", place);
	case OPT_CGROUP:
		return cli_path("/v1/hooks?cgroup=%s", place);
	case OPT_ENDPOINT:
		if (cli_parse_pod(place, "default", &ns, &pod))
			return cli_path("/v1/hooks?namespace=%s&pod=%s", ns, pod);
		cli_usage(cli, "--endpoint takes NAMESPACE/POD, not \"%s\"", place);
		return NULL;
	default:
		return cli_printf("/v1/hooks");
	}
}

static int list_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_json) json_t *reply = NULL;
	cleanup_(cleanup_free) char *path = NULL;
	const char *place = NULL;
	int opt, ret, where = 0;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		if (opt == '?')
			return CLI_USAGE;
		if (where)
			return cli_usage(cli, "it takes one of --device, --endpoint and --cgroup");
		where = opt;
		place = cli->value;
	}
	if (cli_operands(cli, argc, 0, 0, &ret))
		return ret;
	path = list_path(cli, where, place);
	if (!path)
		return CLI_USAGE;
	ret = cli_call(cli, "GET", path, NULL, &reply);
	if (ret)
		return ret;
	return cli->output == CLI_TABLE ? hooks_print(cli, reply) : cli_print(cli, reply);
}

static const struct cli_option list_options[] = {
	{ OPT_DEVICE, "device", "DEVICE", "XDP and tc of one interface of the node" },
	{ OPT_ENDPOINT, "endpoint", "NS/POD", "of the interface inside a container" },
	{ OPT_CGROUP, "cgroup", "PATH", "of a cgroup, with those of the cgroups above it" },
	{ 0 },
};

const struct cli_command cmd_program_list = {
	.name = "program list",
	.usage = "[--device DEVICE | --endpoint NS/POD | --cgroup PATH]",
	.summary = "list what is at the hooks: Towpath's programs, yours and others'",
	.details =
		"In the order in which it runs at each hook: XDP first, then tcx, then clsact. "
		"The\n"
		"owner of what is neither Towpath's nor attached here is where it is pinned, or a\n"
		"process that has it open. Without an option: all interfaces, containers and\n"
		"cgroups, and behind them the programs that wait for their place to come back.\n",
	.options = list_options,
	.examples = "  towpath program list\n"
		    "  towpath program list --device eth0\n"
		    "  towpath program list --endpoint shop/web\n"
		    "  towpath program list -o json | jq '.items[] | select(.owner == \"user\")'\n",
	.run = list_run,
};

/* ---- show ---------------------------------------------------------------------------------------- */

static void show_line(const char *key, const char *value)
{
	if (*value)
		printf("%-11s %s\n", key, value);
}

static void program_print(const json_t *p)
{
	const json_t *endpoint = json_object_get(p, "endpoint"), *map;
	cleanup_(cleanup_free) char *where =
		cli_printf("%s%s%s%s%s %s", cli_str(p, "device"), cli_str(p, "cgroup"),
			   cli_str(endpoint, "namespace"), endpoint ? "/" : "",
			   cli_str(endpoint, "pod"), cli_str(p, "hook"));
	cleanup_(cleanup_free) char *program = cli_printf(
		"%s of %s (%lld bytes), id %lld", cli_str(p, "program"), cli_str(p, "file"),
		(long long)cli_int(p, "size"), (long long)cli_int(p, "id"));
	cleanup_(cleanup_free) char *state = cli_printf(
		"%s%s%s", cli_str(p, "state"), *cli_str(p, "why") ? ": " : "", cli_str(p, "why"));
	time_t since = (time_t)cli_int(p, "since");
	char time[40];
	size_t i;

	strftime(time, sizeof(time), "%F %T", localtime(&since));
	show_line("name", cli_str(p, "name"));
	show_line("where", where);
	show_line("state", state);
	show_line("program", program);
	show_line("mode", cli_str(p, "mode"));
	show_line("before", cli_str(p, "before"));
	show_line("after", cli_str(p, "after"));
	if (json_is_true(json_object_get(p, "before_towpath")))
		show_line("policy", "runs before Towpath's program, and can bypass policies");
	show_line("since", time);
	json_array_foreach(json_object_get(p, "maps"), i, map) {
		cleanup_(cleanup_free) char *text =
			cli_printf("%s, id %lld, pinned at %s", cli_str(map, "name"),
				   (long long)cli_int(map, "id"), cli_str(map, "pin"));

		show_line(i ? "" : "maps", text);
	}
}

static int show_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_json) json_t *reply = NULL;
	cleanup_(cleanup_free) char *path = NULL;
	const json_t *item;
	size_t i;
	int ret;

	if (cli_getopt(cli, argc, argv) != -1)
		return CLI_USAGE;
	if (cli_operands(cli, argc, 0, 1, &ret))
		return ret;
	path = optind < argc ? cli_path("/v1/programs/%s", argv[optind])
			     : cli_printf("/v1/programs");
	ret = cli_call(cli, "GET", path, NULL, &reply);
	if (ret || cli->output != CLI_TABLE)
		return ret ? ret : cli_print(cli, reply);
	if (optind < argc)
		program_print(reply);
	json_array_foreach(json_object_get(reply, "items"), i, item) {
		printf("%s", i ? "\n" : "");
		program_print(item);
	}
	return CLI_OK;
}

const struct cli_command cmd_program_show = {
	.name = "program show",
	.usage = "[NAME]",
	.summary = "show a program that was attached here, or all: place, state, maps",
	.examples = "  towpath program show count\n"
		    "  towpath program show count -o json | jq -r '.maps[].pin'\n",
	.run = show_run,
};
