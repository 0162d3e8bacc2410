/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* program list, show: what runs where. */
#include "cli.h"

#include <string.h>

static void place_cell(struct cli_table *t, const json_t *item)
{
	const json_t *endpoint = json_object_get(item, "endpoint");

	cli_table_cell(t, NULL, "%s%s%s%s%s", cli_str(item, "device"), cli_str(item, "cgroup"),
		       cli_str(endpoint, "namespace"), endpoint ? "/" : "",
		       cli_str(endpoint, "pod"));
}

static int programs_print(const struct cli *cli, const json_t *reply)
{
	static const char *const heads[] = { "NAME", "WHERE", "HOOK",  "PROGRAM",
					     ">ID",  "FILE",  "STATE", NULL };
	struct cli_table *t = cli_table_new(cli, heads);
	const json_t *items = json_object_get(reply, "items"), *item;
	size_t i;

	json_array_foreach(items, i, item) {
		const char *state = cli_str(item, "state"), *why = cli_str(item, "why");

		cli_table_cell(t, NULL, "%s", cli_str(item, "name"));
		place_cell(t, item);
		cli_table_cell(t, NULL, "%s", cli_str(item, "hook"));
		cli_table_cell(t, NULL, "%s", cli_str(item, "program"));
		cli_table_cell(t, NULL, "%lld", (long long)cli_int(item, "id"));
		cli_table_cell(t, NULL, "%s", cli_str(item, "file"));
		cli_table_cell(t, !strcmp(state, "attached") ? CLI_GREEN : CLI_YELLOW, "%s%s%s",
			       state, *why ? ": " : "", why);
	}
	cli_table_print(t);
	return CLI_OK;
}

static int list_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_json) json_t *reply = NULL;
	int ret;

	if (cli_getopt(cli, argc, argv) != -1)
		return CLI_USAGE;
	if (cli_operands(cli, argc, 0, 0, &ret))
		return ret;
	ret = cli_call(cli, "GET", "/v1/programs", NULL, &reply);
	if (ret)
		return ret;
	return cli->output == CLI_TABLE ? programs_print(cli, reply) : cli_print(cli, reply);
}

const struct cli_command cmd_program_list = {
	.name = "program list",
	.usage = "",
	.summary = "list the programs, and where they are attached",
	.examples = "  towpath program list\n"
		    "  towpath program list -o json | jq '.items[] | {name, state}'\n",
	.run = list_run,
};
