/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* edge decap: on a backend, whose packets are opened. It is the EdgeDecap object "decap". */
#include "cli.h"

#include <getopt.h>
#include <string.h>

#define PATH "/v1/objects/edgedecaps/default/decap"

static int decap_list(struct cli *cli)
{
	cleanup_(cleanup_json) json_t *reply = NULL;
	json_t *object, *from;
	int ret = cli_call(cli, "GET", "/v1/objects/edgedecaps", NULL, &reply);
	size_t i, j;

	if (ret)
		return ret;
	if (cli->output != CLI_TABLE)
		return cli_print(cli, json_object_get(reply, "items"));
	json_array_foreach(json_object_get(reply, "items"), i, object)
		json_array_foreach(json_object_get(json_object_get(object, "spec"), "from"), j,
				   from)
			printf("%s\n", json_string_value(from));
	return CLI_OK;
}

static int decap_set(struct cli *cli, char **argv, int argc)
{
	cleanup_(cleanup_json) json_t *object =
		json_pack("{s:s, s:s, s:{s:s}, s:{s:[]}}", "apiVersion", "towpath.dev/v1", "kind",
			  "EdgeDecap", "metadata", "name", "decap", "spec", "from");
	cleanup_(cleanup_json) json_t *reply = NULL;
	json_t *from = json_object_get(json_object_get(object, "spec"), "from");
	cleanup_(cleanup_free) char *text = NULL;

	for (int i = 0; i < argc; i++)
		json_array_append_new(from, json_string(argv[i]));
	text = json_dumps(object, JSON_COMPACT);
	return cli_call(
		cli, "POST", "/v1/apply",
		json_pack("{s:[{s:s, s:s}]}", "files", "name", "<command line>", "text", text),
		&reply);
}

static int decap_run(struct cli *cli, int argc, char **argv)
{
	int n;

	while (cli_getopt(cli, argc, argv) != -1)
		return CLI_USAGE;
	n = argc - optind;
	argv += optind;
	if (!n || !strcmp(argv[0], "list"))
		return n > 1 ? cli_usage(cli, "list takes nothing") : decap_list(cli);
	if (!strcmp(argv[0], "off"))
		return n > 1 ? cli_usage(cli, "off takes nothing")
			     : cli_call(cli, "DELETE", PATH, NULL, NULL);
	if (strcmp(argv[0], "from"))
		return cli_usage(cli, "there is no '%s': from, off or list", argv[0]);
	if (n < 2)
		return cli_usage(cli, "from needs addresses or prefixes of balancers");
	return decap_set(cli, argv + 1, n - 1);
}

static const char *const decap_words[] = { "list", "from", "off", NULL };

const struct cli_command cmd_edge_decap = {
	.name = "edge decap",
	.usage = "[list | from PREFIX... | off]",
	.summary = "take clients' packets out of a balancer's",
	.details = "For backends: what arrives by IPIP or GUE (UDP port 6080) from these "
		   "addresses, at\n"
		   "devices that 'towpath edge attach' has, is given to the stack as the client "
		   "sent it.\n"
		   "Of others it stays what it is.\n",
	.examples = "  towpath edge attach eth0\n"
		    "  towpath edge decap from 10.0.0.1 fd00::1\n"
		    "  towpath edge decap\n",
	.words = decap_words,
	.run = decap_run,
};
