/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* policy coverage: which rules have decided anything, and which never did. */
#include "cli.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

enum { OPT_UNUSED = CLI_LONG };

struct tally {
	size_t rules, unused;
};

static const char *moment(json_int_t ns, char buf[32])
{
	time_t t = (time_t)(ns / 1000000000);
	struct tm tm;

	localtime_r(&t, &tm);
	strftime(buf, 32, "%Y-%m-%d %H:%M:%S", &tm);
	return buf;
}

static void rule_row(struct cli_table *t, const json_t *item, const char *direction,
		     const char *rule, json_int_t count, json_int_t last, const char *text)
{
	char n[32], when[32], since[32];

	cli_table_cell(t, NULL, "%s/%s", cli_str(item, "namespace"), cli_str(item, "name"));
	cli_table_cell(t, NULL, "%s", direction);
	cli_table_cell(t, NULL, "%s", rule);
	cli_table_cell(t, count ? NULL : CLI_YELLOW, "%s",
		       count ? cli_number(n, (uint64_t)count) : "never");
	cli_table_cell(t, NULL, "%s", last ? moment(last, when) : "-");
	cli_table_cell(t, NULL, "%s", moment(cli_int(item, "since"), since));
	cli_table_cell(t, NULL, "%s", text);
}

static void direction_rows(struct cli_table *t, const json_t *item, const char *direction,
			   bool unused, struct tally *tally)
{
	const json_t *d = json_object_get(item, direction);
	bool selects = cli_int(item, "selects");
	char number[24];
	json_t *rule;
	size_t i;

	json_array_foreach(json_object_get(d, "rules"), i, rule) {
		json_int_t matched = cli_int(rule, "matched");

		tally->rules++;
		tally->unused += !matched;
		snprintf(number, sizeof(number), "%zu", i);
		if (!matched || !unused)
			rule_row(t, item, direction, number, matched, cli_int(rule, "last"),
				 selects ? cli_str(rule, "text") : "selects no pod of this node");
	}
	if (d && !unused)
		rule_row(t, item, direction, "denied", cli_int(d, "denied"),
			 cli_int(d, "last_denied"), "no rule of any policy allowed it");
}

static int coverage_print(const struct cli *cli, const json_t *reply, bool unused)
{
	static const char *const heads[] = { "POLICY", "DIRECTION", "RULE", ">COUNT",
					     "LAST",   "SINCE",	    "WHAT", NULL };
	const json_t *items = json_object_get(reply, "items");
	struct cli_table *t = cli_table_new(cli, heads);
	json_int_t lost = cli_int(reply, "events_lost"), more = cli_int(reply, "more");
	struct tally tally = { 0 };
	char since[32], number[32];
	json_t *item;
	size_t i;

	json_array_foreach(items, i, item) {
		direction_rows(t, item, "ingress", unused, &tally);
		direction_rows(t, item, "egress", unused, &tally);
	}
	cli_table_print(t);
	if (more)
		printf("and %s more policies: name a namespace with -n\n",
		       cli_number(number, (uint64_t)more));
	printf("\n%zu of %zu rules never matched since the agent started (%s) or their policy "
	       "changed\n",
	       tally.unused, tally.rules, moment(cli_int(reply, "since"), since));
	if (lost)
		printf("%s events were lost before they were counted\n",
		       cli_number(number, (uint64_t)lost));
	return CLI_OK;
}

static int policy_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_json) json_t *reply = NULL;
	cleanup_(cleanup_free) char *path = NULL;
	const char *ns = NULL;
	bool unused = false;
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		switch (opt) {
		case 'n':
			ns = cli->value;
			break;
		case OPT_UNUSED:
			unused = true;
			break;
		default:
			return CLI_USAGE;
		}
	}
	if (cli_operands(cli, argc, 1, 1, &ret))
		return ret;
	if (strcmp(argv[optind], "coverage"))
		return cli_usage(cli, "\"%s\" is not coverage", argv[optind]);
	path = ns ? cli_path("/v1/coverage?namespace=%s", ns) : cli_printf("/v1/coverage");
	ret = cli_call(cli, "GET", path, NULL, &reply);
	if (ret)
		return ret;
	return cli->output == CLI_TABLE ? coverage_print(cli, reply, unused)
					: cli_print(cli, reply);
}

static const struct cli_option policy_options[] = {
	{ 'n', "namespace", "NS", "only the policies of this namespace" },
	{ OPT_UNUSED, "unused", NULL, "only rules that never matched" },
	{ 0 },
};

const struct cli_command cmd_policy = {
	.name = "policy",
	.usage = "coverage [-n NS] [--unused]",
	.summary = "count what each rule of the policies has decided",
	.details = "A rule counts each new flow for which it is the first that allows it, by the "
		   "name of\n"
		   "its policy and its place in there; so a rule that only repeats another never\n"
		   "matches. \"denied\" counts packets that no rule allowed, for each policy that\n"
		   "selects the pod. Counts begin when the agent starts or the policy changes, and "
		   "are\n"
		   "of this node.\n",
	.options = policy_options,
	.examples = "  towpath policy coverage\n"
		    "  towpath policy coverage -n shop --unused\n"
		    "  towpath policy coverage -o json | jq '.items[] | select(.selects == 0) | "
		    ".name'\n",
	.run = policy_run,
};
