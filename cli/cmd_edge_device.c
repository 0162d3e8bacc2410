/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* edge attach, detach, status: the devices, and all that holds on them. */
#include "cli.h"

#include <getopt.h>
#include <limits.h>
#include <string.h>
#include <time.h>

enum { OPT_MODE = CLI_LONG, OPT_REPLACE, OPT_FORCE };

static const char *const modes[] = { "auto", "native", "generic", NULL };

static bool is_mode(const char *text)
{
	for (size_t i = 0; modes[i]; i++)
		if (!strcmp(modes[i], text))
			return true;
	return false;
}

static int attach_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_json) json_t *body = json_object();
	cleanup_(cleanup_json) json_t *reply = NULL;
	const char *client = getenv("SSH_CONNECTION");
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		switch (opt) {
		case OPT_MODE:
			if (!is_mode(cli->value))
				return cli_usage(cli,
						 "--mode takes auto, native or generic, not \"%s\"",
						 cli->value);
			json_object_set_new(body, "mode", json_string(cli->value));
			break;
		case OPT_REPLACE:
			json_object_set_new(body, "replace", json_true());
			break;
		case OPT_FORCE:
			json_object_set_new(body, "force", json_true());
			break;
		default:
			return CLI_USAGE;
		}
	}
	if (cli_operands(cli, argc, 1, 1, &ret))
		return ret;
	json_object_set_new(body, "device", json_string(argv[optind]));
	if (client)
		json_object_set_new(body, "client", json_string(client));
	ret = cli_call(cli, "POST", "/v1/edge/devices", body, &reply);
	if (ret)
		return ret;
	if (cli->output != CLI_TABLE)
		return cli_print(cli, reply);
	printf("%s is filtered, %s mode, program id %lld\n", cli_str(reply, "device"),
	       cli_str(reply, "mode"), (long long)cli_int(reply, "prog_id"));
	if (*cli_str(reply, "why"))
		fprintf(stderr, "towpath: warning: %s is in generic mode: %s\n",
			cli_str(reply, "device"), cli_str(reply, "why"));
	return CLI_OK;
}

static const struct cli_option attach_options[] = {
	{ OPT_MODE, "mode", "MODE", "auto (default: the driver's, else generic), native, generic" },
	{ OPT_REPLACE, "replace", NULL, "take another XDP program off that is there" },
	{ OPT_FORCE, "force", NULL, "also when the rules would lock out who manages this node" },
	{ 0 },
};

const struct cli_command cmd_edge_attach = {
	.name = "edge attach",
	.usage = "DEVICE [--mode MODE] [--replace] [--force]",
	.summary = "filter what arrives at a device",
	.details = "From then on the rules hold there, also without the agent, and again when the\n"
		   "device comes back or the machine starts. In generic mode the kernel has "
		   "allocated\n"
		   "each frame before it is looked at, which costs most of the advantage.\n",
	.options = attach_options,
	.examples = "  towpath edge attach eth0\n"
		    "  towpath edge attach eth0 --mode native --replace\n",
	.run = attach_run,
};

static int detach_run(struct cli *cli, int argc, char **argv)
{
	return cli_delete_each(cli, argc, argv, "/v1/edge/devices/", "is not filtered any more");
}

const struct cli_command cmd_edge_detach = {
	.name = "edge detach",
	.usage = "DEVICE...",
	.summary = "stop filtering at devices; rules and lists are kept",
	.examples = "  towpath edge detach eth0\n",
	.run = detach_run,
};

/* ---- status ------------------------------------------------------------------------------------- */

static void devices_print(const struct cli *cli, const json_t *reply)
{
	static const char *const heads[] = { "DEVICE", "MODE", "STATE", NULL };
	const json_t *items = json_object_get(reply, "devices"), *item;
	struct cli_table *t;
	size_t i;

	if (!json_array_size(items)) {
		puts("attached to no device: towpath edge attach DEVICE");
		return;
	}
	t = cli_table_new(cli, heads);
	json_array_foreach(items, i, item) {
		const char *state = cli_str(item, "state"), *why = cli_str(item, "why");

		cli_table_cell(t, NULL, "%s", cli_str(item, "device"));
		cli_table_cell(t, !strcmp(cli_str(item, "mode"), "generic") ? CLI_YELLOW : NULL,
			       "%s", cli_str(item, "mode"));
		cli_table_cell(t, !strcmp(state, "attached") ? CLI_GREEN : CLI_YELLOW, "%s%s%s",
			       state, *why ? ": " : "", why);
	}
	cli_table_print(t);
}

static void counts_cells(struct cli_table *t, const json_t *item)
{
	char buf[32];

	cli_table_cell(t, NULL, "%s", cli_number(buf, (uint64_t)cli_int(item, "packets")));
	cli_table_cell(t, NULL, "%s", cli_bytes(buf, (uint64_t)cli_int(item, "bytes")));
}

static void rules_print(const struct cli *cli, const json_t *reply)
{
	static const char *const heads[] = { "ACTION", "RULE",	   ">PREFIXES", ">PACKETS",
					     ">BYTES", ">ENDS IN", NULL };
	const json_t *items = json_object_get(reply, "rules"), *item;
	struct cli_table *t = cli_table_new(cli, heads);
	int64_t now = time(NULL);
	char buf[32];
	size_t i;

	json_array_foreach(items, i, item) {
		json_int_t expires = cli_int(item, "expires");
		bool list = !strcmp(cli_str(item, "kind"), "list");

		cli_table_cell(t, NULL, "%s", cli_str(item, "action"));
		cli_table_cell(t, NULL, "%s", cli_str(item, "text"));
		cli_table_cell(t, NULL, "%s",
			       list ? cli_number(buf, (uint64_t)cli_int(item, "entries")) : "");
		counts_cells(t, item);
		cli_table_cell(
			t, NULL, "%s",
			expires ? cli_duration(buf, expires > now ? (uint64_t)(expires - now) : 0)
				: "");
	}
	cli_table_print(t);
}

/* Those that count nothing say nothing. */
static void reasons_print(const struct cli *cli, const json_t *reply)
{
	static const char *const heads[] = { "VERDICT", "REASON", ">PACKETS", ">BYTES", "", NULL };
	const json_t *items = json_object_get(reply, "reasons"), *item;
	struct cli_table *t = cli_table_new(cli, heads);
	size_t i;

	json_array_foreach(items, i, item) {
		bool drops = json_is_true(json_object_get(item, "drops"));

		if (!cli_int(item, "packets"))
			continue;
		cli_table_cell(t, drops ? CLI_RED : NULL, drops ? "drop" : "pass");
		cli_table_cell(t, NULL, "%s", cli_str(item, "name"));
		counts_cells(t, item);
		cli_table_cell(t, CLI_DIM, "%s", cli_str(item, "text"));
	}
	if (cli_table_rows(t))
		putchar('\n');
	cli_table_print(t);
}

static void table_print(const json_t *reply)
{
	const json_t *table = json_object_get(reply, "table");
	uint64_t n = (uint64_t)(cli_int(table, "prefixes4") + cli_int(table, "prefixes6"));
	char number[32], kernel[32], agent[32];

	if (!json_array_size(json_object_get(reply, "devices")))
		return;
	printf("\n%s prefixes in force, %s in the kernel, %s in the agent\n", cli_number(number, n),
	       cli_bytes(kernel, (uint64_t)cli_int(table, "kernel_bytes")),
	       cli_bytes(agent, (uint64_t)cli_int(table, "agent_bytes")));
}

/* Only the device that was asked for. */
static int device_keep(json_t *reply, const char *name)
{
	json_t *items = json_object_get(reply, "devices");

	for (size_t i = json_array_size(items); i--;)
		if (strcmp(cli_str(json_array_get(items, i), "device"), name))
			json_array_remove(items, i);
	return json_array_size(items) ? CLI_OK : cli_refuse("the edge is not attached to %s", name);
}

static int state_get(struct cli *cli, int argc, char **argv, int operands, json_t **reply)
{
	int ret;

	if (cli_getopt(cli, argc, argv) != -1)
		return CLI_USAGE;
	if (cli_operands(cli, argc, 0, operands, &ret))
		return ret;
	return cli_call(cli, "GET", "/v1/edge", NULL, reply);
}

static int lists_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_json) json_t *reply = NULL, *rules = NULL;
	int ret = state_get(cli, argc, argv, 0, &reply);

	if (ret)
		return ret;
	if (cli->output != CLI_TABLE) {
		rules = json_pack("{s:O}", "items", json_object_get(reply, "rules"));
		return cli_print(cli, rules);
	}
	if (!json_array_size(json_object_get(reply, "rules")))
		puts("There is no rule and no list.");
	rules_print(cli, reply);
	return CLI_OK;
}

const struct cli_command cmd_edge_lists = {
	.name = "edge lists",
	.usage = "",
	.summary = "list rules and lists, with what they counted and when they end",
	.examples = "  towpath edge lists\n"
		    "  towpath edge lists -o json | jq -r '.items[] | select(.kind == \"list\") | "
		    ".text'\n",
	.run = lists_run,
};

static int status_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_json) json_t *reply = NULL;
	int ret = state_get(cli, argc, argv, 1, &reply);

	if (!ret && optind < argc)
		ret = device_keep(reply, argv[optind]);
	if (ret)
		return ret;
	if (cli->output != CLI_TABLE)
		return cli_print(cli, reply);
	devices_print(cli, reply);
	if (json_array_size(json_object_get(reply, "rules")))
		putchar('\n');
	rules_print(cli, reply);
	reasons_print(cli, reply);
	table_print(reply);
	return CLI_OK;
}

const struct cli_command cmd_edge_status = {
	.name = "edge status",
	.usage = "[DEVICE]",
	.summary = "show devices, rules and lists with what they counted",
	.examples = "  towpath edge status\n"
		    "  towpath edge status -o json | jq '.rules[] | {text, packets}'\n",
	.run = status_run,
};
