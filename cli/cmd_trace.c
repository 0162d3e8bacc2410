/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* trace: one made-up packet through the data path, step by step; nothing is sent or changed. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

enum {
	OPT_FROM = CLI_LONG,
	OPT_TO,
	OPT_PROTO,
	OPT_DPORT,
	OPT_SPORT,
	OPT_FLAGS,
	OPT_PAYLOAD,
	OPT_TTL,
};

static int trace_print(const struct cli *cli, const json_t *reply)
{
	bool allow = !strcmp(cli_str(reply, "verdict"), "allow");
	const json_t *step;
	size_t i;

	json_array_foreach(json_object_get(reply, "steps"), i, step) {
		const char *name = cli_str(step, "step"), *map = cli_str(step, "map");
		bool verdict = !strcmp(name, "verdict");

		printf("%-9s ", name);
		if (*map)
			printf("%s[%s]: ", map, cli_str(step, "key"));
		printf("%s%s%s\n", verdict ? cli_color(cli, allow ? CLI_GREEN : CLI_RED) : "",
		       cli_str(step, "result"), verdict ? cli_plain(cli) : "");
	}
	return CLI_OK;
}

/* A number of an option into the request. */
static int number_set(struct cli *cli, json_t *request, const char *key)
{
	char *end = NULL;
	unsigned long n = strtoul(cli->value, &end, 10);

	if (*cli->value < '0' || *cli->value > '9' || *end || n > 65535)
		return cli_usage(cli, "--%s takes a number, not \"%s\"", key, cli->value);
	json_object_set_new(request, key, json_integer((json_int_t)n));
	return CLI_OK;
}

static int option_take(struct cli *cli, int opt, json_t *request)
{
	static const struct {
		int opt;
		const char *key;
		bool number;
	} keys[] = {
		{ OPT_FROM, "from", false },   { OPT_TO, "to", false },
		{ OPT_PROTO, "proto", false }, { OPT_FLAGS, "flags", false },
		{ OPT_DPORT, "dport", true },  { OPT_SPORT, "sport", true },
		{ OPT_TTL, "ttl", true },      { OPT_PAYLOAD, "payload", true },
	};

	if (opt == '4' || opt == '6') {
		json_object_set_new(request, "family", json_integer(opt - '0'));
		return CLI_OK;
	}
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		if (keys[i].opt != opt)
			continue;
		if (keys[i].number)
			return number_set(cli, request, keys[i].key);
		json_object_set_new(request, keys[i].key, json_string(cli->value));
		return CLI_OK;
	}
	return CLI_USAGE;
}

static bool has_ports(const char *proto)
{
	return strncasecmp(proto, "icmp", 4) != 0;
}

static int trace_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_json) json_t *reply = NULL;
	cleanup_(cleanup_json) json_t *request = json_object();
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		ret = option_take(cli, opt, request);
		if (ret)
			return ret;
	}
	if (cli_operands(cli, argc, 0, 0, &ret))
		return ret;
	if (!*cli_str(request, "from") || !*cli_str(request, "to"))
		return cli_usage(cli, "--from and --to are both needed");
	if (has_ports(cli_str(request, "proto")) && !json_object_get(request, "dport"))
		return cli_usage(cli, "--dport is needed, but for --proto icmp and icmpv6");
	ret = cli_call(cli, "POST", "/v1/trace", request, &reply);
	if (ret)
		return ret;
	return cli->output == CLI_TABLE ? trace_print(cli, reply) : cli_print(cli, reply);
}

static const struct cli_option trace_options[] = {
	{ OPT_FROM, "from", "END",
	  "sender: ns/pod, pod (in default), an address, host, or outside" },
	{ OPT_TO, "to", "END", "receiver, likewise" },
	{ OPT_PROTO, "proto", "PROTO", "tcp (default), udp, sctp, icmp, icmpv6 (an echo request)" },
	{ OPT_DPORT, "dport", "PORT", "destination port" },
	{ OPT_SPORT, "sport", "PORT", "source port, or identifier of the echo (default 40000)" },
	{ OPT_FLAGS, "flags", "FLAGS", "TCP flags: letters of FSRPAUEC (default S), or syn,ack" },
	{ OPT_PAYLOAD, "payload", "N", "bytes of payload (default 0)" },
	{ OPT_TTL, "ttl", "N", "time to live (default 64)" },
	{ '4', "ipv4", NULL, "by the ends' IPv4 addresses" },
	{ '6', "ipv6", NULL, "by the ends' IPv6 addresses" },
	{ 0 },
};

const struct cli_command cmd_trace = {
	.name = "trace",
	.usage = "--from END --to END [--proto PROTO] --dport PORT [OPTION]...",
	.summary = "lead a made-up packet through the data path, step by step",
	.details =
		"The programs in force run it, on copies of what they would write: no flow, "
		"counter "
		"or\n"
		"budget changes, and nothing is sent. The packet is met as it would be now: with "
		"the ports\n"
		"of an open connection it takes that connection's way. outside is some host out "
		"there.\n"
		"Exit status 0 also when it is dropped: what was asked was answered.\n",
	.options = trace_options,
	.examples = "  towpath trace --from shop/web --to shop/db --dport 5432\n"
		    "  towpath trace --from shop/web --to 192.0.2.7 --proto udp --dport 53\n"
		    "  towpath trace --from outside --to shop/web --dport 80 --flags A -o json\n",
	.run = trace_run,
};
