/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* edge test: what would become of a packet, and which rule says so. */
#include "cli.h"

#include <getopt.h>
#include <string.h>

enum { OPT_PORT = CLI_LONG };

static int test_print(const struct cli *cli, const json_t *reply)
{
	const json_t *rule = json_object_get(reply, "rule");
	const char *verdict = cli_str(reply, "verdict"), *port = cli_str(reply, "port");
	bool deny = !strcmp(verdict, "deny");

	printf("%s%s%s  %s%s%s", cli_color(cli, deny ? CLI_RED : CLI_GREEN), verdict,
	       cli_plain(cli), cli_str(reply, "address"), *port ? " to " : "", port);
	if (!rule)
		puts(": no rule is for it");
	else if (json_object_get(reply, "line"))
		printf(": list %s, line %lld, %s\n", cli_str(rule, "text"),
		       (long long)cli_int(reply, "line"), cli_str(reply, "prefix"));
	else
		printf(": rule %s %s\n", cli_str(rule, "action"), cli_str(rule, "text"));
	return CLI_OK;
}

static int test_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_json) json_t *reply = NULL;
	cleanup_(cleanup_free) char *path = NULL;
	const char *port = NULL;
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		if (opt != OPT_PORT)
			return CLI_USAGE;
		port = cli->value;
	}
	if (cli_operands(cli, argc, 1, 1, &ret))
		return ret;
	path = port ? cli_path("/v1/edge/test?address=%s&port=%s", argv[optind], port)
		    : cli_path("/v1/edge/test?address=%s", argv[optind]);
	ret = cli_call(cli, "GET", path, NULL, &reply);
	if (ret)
		return ret;
	return cli->output == CLI_TABLE ? test_print(cli, reply) : cli_print(cli, reply);
}

static const struct cli_option options[] = {
	{ OPT_PORT, "port", "PORT", "to this port or protocol (22/tcp, icmp)" },
	{ 0 },
};

const struct cli_command cmd_edge_test = {
	.name = "edge test",
	.usage = "ADDRESS [--port PORT]",
	.summary = "say what would happen to a packet, by which rule, list and line",
	.details = "The answer is looked up in the tables that the program in the kernel reads.\n"
		   "Without --port, rules on ports are left out.\n",
	.options = options,
	.examples = "  towpath edge test 203.0.113.7\n"
		    "  towpath edge test 2001:db8::1 --port 443/tcp\n",
	.run = test_run,
};
