/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the word under the cursor may become, for the shells' scripts: from the commands' tables,
 * and names from the agent, when it answers at once.
 */
#include "cli.h"

#include <bpf/libbpf.h>
#include <net/if.h>
#include <string.h>
#include <towpath/map.h>

#include "bpf_objects.h"
#include "drops.h"
#include "userprog.h"

/* A person waits for it. */
#define AGENT_MS 300u

/* What stands before the word under the cursor. */
struct typed {
	const struct cli_command *command;
	const struct cli_option *option; /* whose argument the word is; NULL: none's */
	const char *first;		 /* operand; NULL: none yet */
	size_t operands;
	const char *ns; /* of -n; NULL: not given */
	bool rest;	/* behind "--" */
};

static void offer(const char *text, const char *begin)
{
	if (!strncmp(text, begin, strlen(begin)))
		puts(text);
}

static void offer_words(const char *const *words, const char *begin)
{
	for (; words && *words; words++)
		offer(*words, begin);
}

/* The last of several words with commas between them. */
static void offer_listed(const char *const *words, const char *begin)
{
	const char *comma = strrchr(begin, ',');
	int before = comma ? (int)(comma + 1 - begin) : 0;

	for (; *words; words++) {
		cleanup_(cleanup_free) char *text = cli_printf("%.*s%s", before, begin, *words);

		offer(text, begin);
	}
}

static void offer_option(const struct cli_option *o, const char *begin)
{
	cleanup_(cleanup_free) char *text = cli_printf("--%s", o->name);

	offer(text, begin);
}

static void offer_options(const struct cli_command *c, const char *begin)
{
	for (const struct cli_option *o = c->options; o && o->id; o++)
		offer_option(o, begin);
	for (const struct cli_option *o = cli_common_options; o->id; o++)
		if (!cli_option_shadowed(c, o))
			offer_option(o, begin);
}

/* ---- names of the agent's ------------------------------------------------------------------- */

/* The list at a path; NULL when the agent does not answer at once. */
static json_t *ask(struct cli *cli, const char *path)
{
	json_t *reply = NULL;

	if (cli_connect(cli))
		return NULL;
	tw_client_timeout(cli->client, AGENT_MS);
	if (tw_client_call(cli->client, "GET", path, NULL, &reply) == 200)
		return reply;
	json_decref(reply);
	return NULL;
}

/* What can be typed for a pod or an object: a bare name is one of -n's, or of default. */
static void offer_name(const char *ns, const char *name, const struct typed *t, const char *begin)
{
	const char *here = t->ns ? t->ns : "default";

	if (!*ns || !strcmp(ns, here))
		offer(name, begin);
	if (*ns && !t->ns) {
		cleanup_(cleanup_free) char *whole = cli_printf("%s/%s", ns, name);

		offer(whole, begin);
	}
}

static void offer_endpoints(struct cli *cli, const struct typed *t, const char *begin)
{
	cleanup_(cleanup_json) json_t *reply = ask(cli, "/v1/endpoints");
	size_t i;
	json_t *ep;

	json_array_foreach(json_object_get(reply, "items"), i, ep)
		offer_name(cli_str(ep, "namespace"), cli_str(ep, "pod"), t, begin);
}

static void offer_objects(struct cli *cli, const char *kind, const struct typed *t,
			  const char *begin)
{
	cleanup_(cleanup_free) char *path = cli_path("/v1/objects/%s", kind);
	cleanup_(cleanup_json) json_t *reply = ask(cli, path);
	size_t i;
	json_t *object;

	json_array_foreach(json_object_get(reply, "items"), i, object) {
		const json_t *metadata = json_object_get(object, "metadata");

		offer_name(cli_str(metadata, "namespace"), cli_str(metadata, "name"), t, begin);
	}
}

static void offer_identities(struct cli *cli, const char *begin)
{
	cleanup_(cleanup_json) json_t *reply = ask(cli, "/v1/identities");
	size_t i;
	json_t *id;

	json_array_foreach(json_object_get(reply, "items"), i, id) {
		char number[24];

		snprintf(number, sizeof(number), "%lld", (long long)cli_int(id, "id"));
		offer(number, begin);
	}
}

/* Names of what was attached. */
static void offer_programs(struct cli *cli, const char *begin)
{
	cleanup_(cleanup_json) json_t *reply = ask(cli, "/v1/programs");
	size_t i;
	json_t *program;

	json_array_foreach(json_object_get(reply, "items"), i, program)
		offer(cli_str(program, "name"), begin);
}

static void offer_neighbours(struct cli *cli, const char *begin)
{
	offer("towpath", begin);
	offer_programs(cli, begin);
}

static void offer_hooks(const char *begin)
{
	for (const struct userprog_point *p = NULL; (p = userprog_point_next(p));)
		/* The two that devices and cgroups share once. */
		if (p->attach != BPF_XDP && p->attach != BPF_CGROUP_SOCK_OPS &&
		    !userprog_point_is_tc(p))
			offer(p->name, begin);
}

static void offer_devices(const char *begin)
{
	struct if_nameindex *all = if_nameindex();

	for (const struct if_nameindex *i = all; i && i->if_index; i++)
		offer(i->if_name, begin);
	if_freenameindex(all);
}

/* ---- arguments of options -------------------------------------------------------------------- */

static void offer_reasons(const char *begin)
{
	const char *names[TW_REASON_COUNT] = { NULL };

	for (unsigned int r = TW_REASON_OK + 1; r < TW_REASON_COUNT; r++)
		names[r - TW_REASON_OK - 1] = tw_reason_name(r);
	offer_listed(names, begin);
}

static void offer_ends(struct cli *cli, const struct typed *t, const char *begin)
{
	static const char *const others[] = { "world", "node", "unassigned", NULL };
	const struct typed anywhere = { .command = t->command };

	offer("host", begin);
	/* What is no pod and no single address is for the flow log only. */
	if (!strcmp(t->command->name, "flows"))
		offer_words(others, begin);
	offer_endpoints(cli, &anywhere, begin);
}

static void offer_output(const struct typed *t, const char *begin)
{
	offer_words((const char *const[]){ "table", "json", "yaml", NULL }, begin);
	if (t->command->lines)
		offer("compact", begin);
	if (t->command->wide)
		offer("wide", begin);
}

/* Those of the kernel's own. */
static void offer_kernel_reasons(const char *begin)
{
	char *names[TW_KERNEL_REASONS] = { NULL };
	const char *known[TW_KERNEL_REASONS + 1] = { NULL };
	size_t n = 0;

	drops_names_read(names);
	for (size_t i = 0; i < TW_KERNEL_REASONS; i++)
		if (names[i])
			known[n++] = names[i];
	offer_listed(known, begin);
	for (size_t i = 0; i < TW_KERNEL_REASONS; i++)
		free(names[i]);
}

static int offer_program(void *arg, int fd, const struct bpf_prog_info *info,
			 const uint32_t *map_ids)
{
	char name[USERPROG_NAME_MAX];

	userprog_name(info->id, name, sizeof(name));
	offer(name, arg);
	return 0;
}

/* Options that mean something else here than in other commands. */
static bool offer_own(struct cli *cli, const struct typed *t, const char *begin)
{
	const struct typed anywhere = { .command = t->command };
	bool log = !strcmp(t->command->name, "log");
	const char *option = t->option->name;

	if (!strcmp(t->command->name, "map list") && !strcmp(option, "type")) {
		for (unsigned int i = 1; libbpf_bpf_map_type_str((enum bpf_map_type)i); i++)
			offer(libbpf_bpf_map_type_str((enum bpf_map_type)i), begin);
		return true;
	}
	if (log && !strcmp(option, "reason"))
		offer_kernel_reasons(begin);
	else if (log && !strcmp(option, "program"))
		bpf_programs_each(offer_program, (void *)begin);
	else if (log && !strcmp(option, "pod"))
		offer_endpoints(cli, &anywhere, begin);
	else
		return false;
	return true;
}

/* Nothing where the shell had better look for a file. */
static void offer_argument(struct cli *cli, const struct typed *t, const char *begin)
{
	static const struct {
		const char *option;
		bool list;
		const char *const words[8];
	} known[] = {
		{ "color", false, { "auto", "always", "never" } },
		{ "verdict", true, { "allow", "deny", "reject", "redirect" } },
		{ "type", true, { "new", "drop", "close", "revoke" } },
		{ "sort", false, { "packets", "bytes", "drops" } },
		{ "mode", false, { "auto", "native", "generic" } },
		{ "proto", false, { "tcp", "udp", "sctp", "icmp", "icmpv6" } },
	};
	const struct typed anywhere = { .command = t->command };
	const char *option = t->option->name;

	if (offer_own(cli, t, begin))
		return;
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (!strcmp(option, known[i].option))
			(known[i].list ? offer_listed : offer_words)(known[i].words, begin);
	if (t->option->id == 'o' && !strcmp(t->option->arg, "FORMAT"))
		offer_output(t, begin);
	else if (!strcmp(option, "namespace"))
		offer_objects(cli, "namespaces", &anywhere, begin);
	else if (!strcmp(option, "reason"))
		offer_reasons(begin);
	else if (!strcmp(option, "policy"))
		offer_objects(cli, "networkpolicies", &anywhere, begin);
	else if (!strcmp(option, "xdp") || !strcmp(option, "tc") || !strcmp(option, "device"))
		offer_devices(begin);
	else if (!strcmp(option, "endpoint"))
		offer_endpoints(cli, &anywhere, begin);
	else if (!strcmp(option, "before") || !strcmp(option, "after"))
		offer_neighbours(cli, begin);
	else if (!strcmp(option, "from") || !strcmp(option, "to") || !strcmp(option, "with"))
		offer_ends(cli, t, begin);
}

/* ---- what was typed --------------------------------------------------------------------------- */

/* The option that a word is, -n or --namespace; NULL: none. */
static const struct cli_option *option_find(const struct cli_command *c, const char *word)
{
	const struct cli_option *tables[] = { c->options, cli_common_options };

	for (size_t i = 0; i < 2; i++)
		for (const struct cli_option *o = tables[i]; o && o->id; o++)
			if ((word[1] == '-' && !strcmp(word + 2, o->name)) ||
			    (o->id < CLI_LONG && word[1] == o->id && !word[2]))
				return o;
	return NULL;
}

/* The words behind the command, but for the one under the cursor. */
static void typed_read(struct typed *t, struct cli *cli, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		const struct cli_option *o;

		if (!strcmp(argv[i], "--")) {
			t->rest = true;
			return;
		}
		if (argv[i][0] != '-' || !argv[i][1]) {
			t->first = t->operands++ ? t->first : argv[i];
			continue;
		}
		o = option_find(t->command, argv[i]);
		if (!o || !o->arg)
			continue;
		if (++i == argc)
			t->option = o;
		else if (!strcmp(o->name, "namespace"))
			t->ns = argv[i];
		else if (!strcmp(o->name, "socket"))
			cli->socket = argv[i];
	}
}

static int offer_map(void *arg, struct tw_map *map)
{
	if (*tw_map_info(map)->name)
		offer(tw_map_info(map)->name, arg);
	return 0;
}

static void offer_operand(struct cli *cli, const struct typed *t, const char *begin)
{
	const char *name = t->command->name;
	bool of_kind = t->operands == 1 && (!strcmp(name, "get") || !strcmp(name, "delete"));

	if (t->command->words && !t->operands)
		offer_words(t->command->words, begin);
	else if (!strncmp(name, "map ", 4) && strcmp(name, "map list") && !t->operands)
		tw_map_each(offer_map, (void *)begin);
	else if (!strcmp(name, "edge attach") || !strcmp(name, "edge detach") ||
		 !strcmp(name, "edge status"))
		offer_devices(begin);
	else if (!strcmp(name, "program attach") && t->operands == 1)
		offer_hooks(begin);
	else if (!strcmp(name, "program detach") ||
		 (!t->operands &&
		  (!strcmp(name, "program show") || !strcmp(name, "program stats") ||
		   !strcmp(name, "program replace"))))
		offer_programs(cli, begin);
	else if (of_kind && (!strncmp(t->first, "endpoint", 8) || !strcmp(t->first, "ep")))
		offer_endpoints(cli, t, begin);
	else if (of_kind && (!strncmp(t->first, "identit", 7) || !strcmp(t->first, "id")))
		offer_identities(cli, begin);
	else if (of_kind)
		offer_objects(cli, t->first, t, begin);
	else if ((!strcmp(name, "exec") && !t->operands) || !strcmp(name, "rm"))
		offer_endpoints(cli, t, begin);
}

int cli_complete(struct cli *cli, int argc, char **argv)
{
	const struct cli_command *const *c = cli_commands;
	const char *begin = argc ? argv[argc - 1] : "";
	struct typed t = {};

	/* As in main(): an option before the command. */
	if (argc > 2 && !strcmp(argv[0], "--socket")) {
		cli->socket = argv[1];
		argc -= 2;
		argv += 2;
	}
	if (argc <= 1) {
		for (; *c; c++)
			offer((*c)->name, begin);
		return CLI_OK;
	}
	while (*c && strcmp((*c)->name, argv[0]))
		c++;
	if (!*c)
		return CLI_OK;
	t.command = *c;
	if (t.command->commands) {
		if (argc == 2) {
			for (c = t.command->commands; *c; c++)
				offer(cli_word(*c), begin);
			return CLI_OK;
		}
		t.command = cli_group_find(t.command, argv[1]);
		if (!t.command)
			return CLI_OK;
		argc--;
		argv++;
	}
	typed_read(&t, cli, argc - 2, argv + 1);
	if (t.rest)
		return CLI_OK;
	if (t.option) {
		offer_argument(cli, &t, begin);
	} else if (begin[0] == '-') {
		offer_options(t.command, begin);
	} else {
		offer_operand(cli, &t, begin);
	}
	return CLI_OK;
}
