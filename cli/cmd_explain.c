/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* explain: which policies and rules decide about one connection, and why. */
#include "cli.h"

#include <string.h>
#include <unistd.h>

enum { OPT_FROM = CLI_LONG, OPT_TO };

static const char *end_name(const json_t *end, char buf[512])
{
	const char *pod = cli_str(end, "pod"), *ip = cli_str(end, "ip");

	if (*pod)
		snprintf(buf, 512, "%s/%s%s%s", cli_str(end, "namespace"), pod, *ip ? " " : "", ip);
	else
		snprintf(buf, 512, "%s%s%s", cli_str(end, "what"), *ip ? " " : "", ip);
	return buf;
}

#define INDENT 16 /* of what belongs to a direction */

static const char *direction_says(const json_t *d, const char *direction, const char *whose,
				  char buf[768])
{
	const char *policy = cli_str(d, "policy");

	if (!json_is_true(json_object_get(d, "isolated")))
		snprintf(buf, 768, "no policy selects %s for %s", whose, direction);
	else if (!json_is_true(json_object_get(d, "allow")))
		snprintf(buf, 768, "selected by %s: no rule allows it", cli_str(d, "selected_by"));
	else if (*policy)
		snprintf(buf, 768, "%s, spec.%s[%lld]; selected by %s", policy, direction,
			 (long long)cli_int(d, "rule"), cli_str(d, "selected_by"));
	else
		snprintf(buf, 768,
			 "a node and its own pods always reach each other; selected by "
			 "%s",
			 cli_str(d, "selected_by"));
	return buf;
}

static void print_rules(const struct cli *cli, const json_t *d)
{
	const json_t *policies = json_object_get(d, "policies");
	json_t *policy, *rule;
	size_t i, j;

	json_array_foreach(policies, i, policy) {
		const json_t *rules = json_object_get(policy, "rules");

		printf("%*s%s%s\n", INDENT, "", cli_str(policy, "policy"),
		       json_array_size(rules) ? "" : ": no rules");
		json_array_foreach(rules, j, rule) {
			bool matches = json_is_true(json_object_get(rule, "peer")) &&
				       json_is_true(json_object_get(rule, "port"));

			printf("%*s  rule %lld: %s: %s%s%s\n", INDENT, "",
			       (long long)cli_int(rule, "rule"), cli_str(rule, "text"),
			       cli_color(cli, matches ? CLI_GREEN : CLI_DIM), cli_str(rule, "says"),
			       cli_plain(cli));
		}
	}
	if (cli_int(d, "more_rules"))
		printf("%*sand %lld more rules\n", INDENT, "", (long long)cli_int(d, "more_rules"));
}

/* Which entries of the maps carry it. */
static void print_kernel(const json_t *kernel, const char *direction)
{
	const json_t *set = json_object_get(kernel, "set");
	const char *all = cli_str(kernel, "set");

	printf("%*skernel: ", INDENT, "");
	if (!json_is_true(json_object_get(kernel, "asked"))) {
		puts("decided before policies are asked");
		return;
	}
	printf("slot %lld has policy version %lld", (long long)cli_int(kernel, "slot"),
	       (long long)cli_int(kernel, "version"));
	if (!json_is_true(json_object_get(kernel, "isolated"))) {
		printf(", which lets everything pass for %s\n", direction);
		return;
	}
	if (json_object_get(kernel, "class"))
		printf(", class %lld (%s)", (long long)cli_int(kernel, "class"),
		       cli_str(kernel, "ports"));
	if (json_is_string(set))
		printf(" passes %s\n", !strcmp(all, "any") ? "everybody" : "nobody");
	else
		printf(" passes set %lld; the peer's identity %lld is %sin it\n",
		       (long long)json_integer_value(set), (long long)cli_int(kernel, "identity"),
		       json_is_true(json_object_get(kernel, "allow")) ? "" : "not ");
}

static void print_direction(const struct cli *cli, const json_t *d, const char *direction,
			    const char *whose)
{
	const char *nearest = cli_str(json_object_get(d, "nearest"), "text");
	bool allow = json_is_true(json_object_get(d, "allow"));
	char says[768];

	printf("%-8s ", direction);
	if (!d) {
		printf("not asked: %s is no endpoint of this node\n", whose);
		return;
	}
	printf("%s%-5s%s  %s\n", cli_color(cli, allow ? CLI_GREEN : CLI_RED),
	       allow ? "allow" : "deny", cli_plain(cli), direction_says(d, direction, whose, says));
	print_rules(cli, d);
	if (*nearest)
		printf("%*snearest: %s\n", INDENT, "", nearest);
	print_kernel(json_object_get(d, "kernel"), direction);
}

static int explain_print(const struct cli *cli, const json_t *reply)
{
	const json_t *from = json_object_get(reply, "from"), *to = json_object_get(reply, "to");
	const char *verdict = cli_str(reply, "verdict"), *warning = cli_str(reply, "warning");
	const char *color = !strcmp(verdict, "allow")  ? CLI_GREEN
			    : !strcmp(verdict, "deny") ? CLI_RED
						       : CLI_YELLOW;
	char a[512], b[512];

	printf("%s%s%s  %s -> %s", cli_color(cli, color), verdict, cli_plain(cli),
	       end_name(from, a), end_name(to, b));
	if (cli_int(reply, "port"))
		printf(" %lld/%s", (long long)cli_int(reply, "port"), cli_str(reply, "proto"));
	else
		printf(" %s", cli_str(reply, "proto"));
	printf(": %s\n\n", cli_str(reply, "text"));
	print_direction(cli, json_object_get(reply, "egress"), "egress", a);
	print_direction(cli, json_object_get(reply, "ingress"), "ingress", b);
	if (*warning)
		printf("\n%swarning%s: %s\n", cli_color(cli, CLI_YELLOW), cli_plain(cli), warning);
	return CLI_OK;
}

/* "80", "80/tcp", "icmp": the query's port and proto. malloc'ed; NULL: not understood. */
static char *port_query(const char *text)
{
	static const char *const protos[] = { "tcp", "udp", "sctp", "icmp", "icmpv6" };
	char *end = NULL;
	bool digits = *text >= '0' && *text <= '9';
	unsigned long port = digits ? strtoul(text, &end, 10) : 0;
	const char *proto = !digits ? text : *end == '/' ? end + 1 : "tcp";

	if (port > 65535 || (digits && *end && *end != '/'))
		return NULL;
	for (size_t i = 0; i < (digits ? 3u : 5u); i++) {
		if (strcasecmp(proto, protos[i]))
			continue;
		return digits ? cli_printf("proto=%s&port=%lu", protos[i], port)
			      : cli_printf("proto=%s", protos[i]);
	}
	return NULL;
}

static int explain_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_json) json_t *reply = NULL;
	cleanup_(cleanup_free) char *query = NULL, *ends = NULL, *path = NULL;
	const char *from = NULL, *to = NULL, *port = NULL;
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		switch (opt) {
		case OPT_FROM:
			from = cli->value;
			break;
		case OPT_TO:
			to = cli->value;
			break;
		case 'p':
			port = cli->value;
			break;
		default:
			return CLI_USAGE;
		}
	}
	if (cli_operands(cli, argc, 0, 0, &ret))
		return ret;
	if (!from || !to || !port)
		return cli_usage(cli, "--from, --to and --port are all needed");
	query = port_query(port);
	if (!query)
		return cli_usage(cli,
				 "--port takes 80, 80/tcp, 53/udp, 7/sctp, icmp or icmpv6, not "
				 "\"%s\"",
				 port);
	ends = cli_path("/v1/explain?from=%s&to=%s", from, to);
	path = cli_printf("%s&%s", ends, query);
	ret = cli_call(cli, "GET", path, NULL, &reply);
	if (ret)
		return ret;
	return cli->output == CLI_TABLE ? explain_print(cli, reply) : cli_print(cli, reply);
}

static const struct cli_option explain_options[] = {
	{ OPT_FROM, "from", "END", "sender: ns/pod, pod (in default), an address, or host" },
	{ OPT_TO, "to", "END", "receiver, likewise" },
	{ 'p', "port", "PORT[/PROTO]", "80, 80/tcp, 53/udp, 7/sctp, icmp, icmpv6 (default tcp)" },
	{ 0 },
};

const struct cli_command cmd_explain = {
	.name = "explain",
	.usage = "--from END --to END --port PORT[/PROTO]",
	.summary = "say which policies and rules decide about a connection",
	.details = "The answer is for a new connection, and it is the kernel's: read from the "
		   "maps that\n"
		   "the programs use. Each rule of the policies that select an end is shown with "
		   "what\n"
		   "it says, and for a denial the rule that comes nearest to allowing it. Exit "
		   "status\n"
		   "0 also when it is denied: what was asked was answered.\n",
	.options = explain_options,
	.examples = "  towpath explain --from shop/web --to shop/db --port 5432\n"
		    "  towpath explain --from 192.0.2.7 --to shop/web --port 80/tcp -o json\n",
	.run = explain_run,
};
