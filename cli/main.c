/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Finds the command, and the options that stand before it. */
#include "cli.h"

#include <getopt.h>
#include <string.h>
#include <unistd.h>

const struct cli_command *const cli_commands[] = {
	&cmd_status,	&cmd_apply,	 &cmd_delete,  &cmd_get,    &cmd_run,	   &cmd_exec,
	&cmd_rm,	&cmd_flows,	 &cmd_explain, &cmd_policy, &cmd_trace,	   &cmd_top,
	&cmd_program,	&cmd_map,	 &cmd_log,     &cmd_edge,   &cmd_features, &cmd_cni,
	&cmd_uninstall, &cmd_completion, NULL,
};

static void main_help(FILE *to)
{
	fprintf(to, "towpath: containers of this node under policy, on the kernel's own data path\n"
		    "\nUsage: towpath [--socket PATH] COMMAND [ARGUMENT]...\n\nCommands:\n");
	for (size_t i = 0; cli_commands[i]; i++)
		fprintf(to, "  %-12s %s\n", cli_commands[i]->name, cli_commands[i]->summary);
	fprintf(to,
		"\nEach command has --help with examples. Exit status: 0 done, 1 refused or not\n"
		"found, 2 usage; run and exec give that of the command they ran.\n");
}

static int main_usage(const char *what, const char *word)
{
	fprintf(stderr, "towpath: %s%s; see towpath --help\n", what, word);
	return CLI_USAGE;
}

/* Cuts off what follows "--": that is another command's business. */
static int rest_cut(struct cli *cli, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--"))
			continue;
		cli->rest = argv + i + 1;
		argv[i] = NULL;
		return i;
	}
	return argc;
}

/*
 * The command of a group that the next word names, which the words then begin with; -1, or the exit
 * status when there is none.
 */
static int group_enter(struct cli *cli, int *argc, char ***argv)
{
	const struct cli_command *group = cli->command;
	const char *word = *argc > 1 ? (*argv)[1] : "";

	if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
		cli_help(group, stdout);
		return CLI_OK;
	}
	if (*argc < 2)
		return cli_usage(cli, "something is missing: towpath %s %s", group->name,
				 group->usage);
	cli->command = cli_group_find(group, word);
	if (!cli->command) {
		cli->command = group;
		return cli_usage(cli, "there is no \"%s\" in towpath %s %s", word, group->name,
				 group->usage);
	}
	--*argc;
	++*argv;
	return -1;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ "complete", no_argument, NULL, 'c' },
		{ 0 },
	};
	const char *term = getenv("TERM");
	struct cli cli = {
		.color = isatty(STDOUT_FILENO) && !getenv("NO_COLOR") && term &&
			 strcmp(term, "dumb"),
	};
	int opt;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, "+hV", options, NULL)) != -1) {
		switch (opt) {
		case 's':
			cli.socket = optarg;
			break;
		case 'h':
			main_help(stdout);
			return cli_finish(CLI_OK);
		case 'V':
			puts("towpath " TOWPATH_VERSION);
			return cli_finish(CLI_OK);
		case 'c':
			return cli_complete(&cli, argc - optind, argv + optind);
		default:
			return main_usage("there is no such option, or its argument is missing: ",
					  argv[optind - 1]);
		}
	}
	if (optind == argc) {
		main_help(stderr);
		return CLI_USAGE;
	}
	for (size_t i = 0; cli_commands[i]; i++)
		if (!strcmp(cli_commands[i]->name, argv[optind]))
			cli.command = cli_commands[i];
	if (!cli.command)
		return main_usage("there is no command ", argv[optind]);
	argc -= optind;
	argv += optind;
	optind = 0; /* getopt: begin anew */

	int ret = cli.command->commands ? group_enter(&cli, &argc, &argv) : -1;

	if (ret >= 0)
		return cli_finish(ret);
	if (cli.command->rest)
		argc = rest_cut(&cli, argc, argv);
	ret = cli.command->run(&cli, argc, argv);

	cli_args_free(&cli);
	tw_client_free(cli.client);
	return cli_finish(ret);
}
