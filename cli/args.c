/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Options and help, from the commands' tables. */
#include "cli.h"

#include <getopt.h>
#include <stdarg.h>
#include <string.h>

enum { OPT_SOCKET = CLI_LONG + 1000, OPT_COLOR };

const struct cli_option cli_common_options[] = {
	{ 'o', "output", "FORMAT", "table, json or yaml" },
	{ OPT_SOCKET, "socket", "PATH", "the agent's socket (or TOWPATH_SOCKET)" },
	{ OPT_COLOR, "color", "WHEN", "auto, always or never" },
	{ 'h', "help", NULL, "this text" },
	{ 0 },
};

void cli_args_free(struct cli *cli)
{
	free(cli->getopt_long_options);
	free(cli->getopt_short_options);
}

const char *cli_word(const struct cli_command *command)
{
	const char *space = strrchr(command->name, ' ');

	return space ? space + 1 : command->name;
}

const struct cli_command *cli_group_find(const struct cli_command *group, const char *word)
{
	for (const struct cli_command *const *c = group->commands; c && *c; c++)
		if (!strcmp(cli_word(*c), word))
			return *c;
	return NULL;
}

bool cli_option_shadowed(const struct cli_command *command, const struct cli_option *common)
{
	for (const struct cli_option *o = command->options; o && o->id; o++)
		if (o->id == common->id)
			return true;
	return false;
}

static size_t options_count(const struct cli_option *o)
{
	size_t n = 0;

	while (o && o[n].id)
		n++;
	return n;
}

/* What getopt_long wants, from the two tables of options. */
static void args_prepare(struct cli *cli)
{
	const struct cli_option *tables[] = { cli->command->options, cli_common_options };
	size_t n = options_count(tables[0]) + options_count(tables[1]);
	struct option *l = calloc(n + 1, sizeof(*l));
	char *s = calloc(2 * n + 2, 1);

	if (!l || !s)
		abort();
	cli->getopt_long_options = l;
	cli->getopt_short_options = s;
	*s++ = ':'; /* a missing argument is told apart from an unknown option */
	for (size_t t = 0; t < 2; t++) {
		for (const struct cli_option *o = tables[t]; o && o->id; o++) {
			if (t && cli_option_shadowed(cli->command, o))
				continue;
			*l++ = (struct option){ o->name, o->arg ? required_argument : no_argument,
						NULL, o->id };
			if (o->id >= CLI_LONG)
				continue;
			*s++ = (char)o->id;
			if (o->arg)
				*s++ = ':';
		}
	}
}

static bool parse_output(struct cli *cli, const char *text)
{
	static const char *const names[] = { "table", "json", "yaml", "compact" };

	if (cli->command->wide && !strcmp(text, "wide")) {
		cli->output = CLI_TABLE;
		cli->wide = true;
		return true;
	}
	for (size_t i = 0; i < (cli->command->lines ? 4u : 3u); i++) {
		if (strcmp(text, names[i]))
			continue;
		cli->output = (enum cli_output)i;
		return true;
	}
	return false;
}

/* An option that all commands have; false after a usage error. */
static bool common_option(struct cli *cli, int id)
{
	switch (id) {
	case 'o':
		if (parse_output(cli, optarg))
			return true;
		cli_usage(cli, "-o takes table, json%s, not \"%s\"",
			  cli->command->lines  ? ", yaml or compact"
			  : cli->command->wide ? ", yaml or wide"
					       : " or yaml",
			  optarg);
		return false;
	case OPT_SOCKET:
		cli->socket = optarg;
		return true;
	case OPT_COLOR:
		if (!strcmp(optarg, "always"))
			cli->color = true;
		else if (!strcmp(optarg, "never"))
			cli->color = false;
		else if (strcmp(optarg, "auto")) {
			cli_usage(cli, "--color takes auto, always or never, not \"%s\"", optarg);
			return false;
		}
		return true;
	default: /* help */
		cli_help(cli->command, stdout);
		exit(cli_finish(CLI_OK));
	}
}

static bool is_common(const struct cli *cli, int id)
{
	for (const struct cli_option *o = cli_common_options; o->id; o++)
		if (o->id == id)
			return !cli_option_shadowed(cli->command, o);
	return false;
}

int cli_getopt(struct cli *cli, int argc, char **argv)
{
	if (!cli->getopt_long_options)
		args_prepare(cli);
	opterr = 0;
	for (;;) {
		int id = getopt_long(argc, argv, cli->getopt_short_options,
				     cli->getopt_long_options, NULL);

		if (id == -1)
			return -1;
		if (id == ':') {
			cli_usage(cli, "%s needs an argument", argv[optind - 1]);
			return '?';
		}
		if (id == '?') {
			if (optopt && optopt < CLI_LONG)
				cli_usage(cli, "there is no option -%c", optopt);
			else
				cli_usage(cli, "there is no option %s", argv[optind - 1]);
			return '?';
		}
		if (is_common(cli, id)) {
			if (!common_option(cli, id))
				return '?';
			continue;
		}
		cli->value = optarg;
		return id;
	}
}

int cli_usage(const struct cli *cli, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "towpath %s: ", cli->command->name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "; see towpath %s --help\n", cli->command->name);
	return CLI_USAGE;
}

bool cli_operands(const struct cli *cli, int argc, int min, int max, int *exit_code)
{
	int n = argc - optind;

	if (n >= min && n <= max)
		return false;
	if (n < min)
		*exit_code = cli_usage(cli, "something is missing: towpath %s %s",
				       cli->command->name, cli->command->usage);
	else
		*exit_code = cli_usage(cli, "too many words: towpath %s %s", cli->command->name,
				       cli->command->usage);
	return true;
}

static void help_option(const struct cli_option *o, const char *output, FILE *to)
{
	char left[64];
	char letter[8] = "    ";

	if (o->id < CLI_LONG)
		snprintf(letter, sizeof(letter), "-%c, ", o->id);
	snprintf(left, sizeof(left), "%s--%s%s%s", letter, o->name, o->arg ? " " : "",
		 o->arg ? o->arg : "");
	fprintf(to, "  %-26s %s%s\n", left, o->help, o->id == 'o' ? output : "");
}

void cli_help(const struct cli_command *c, FILE *to)
{
	const char *output = c->lines ? ", or compact" : c->wide ? ", or wide" : "";

	fprintf(to, "%s\n\nUsage: towpath %s %s\n", c->summary, c->name, c->usage);
	if (c->commands)
		fprintf(to, "\nCommands:\n");
	for (const struct cli_command *const *sub = c->commands; sub && *sub; sub++)
		fprintf(to, "  %-12s %s\n", cli_word(*sub), (*sub)->summary);
	if (c->details)
		fprintf(to, "\n%s", c->details);
	fprintf(to, "\nOptions:\n");
	for (const struct cli_option *o = c->options; o && o->id; o++)
		help_option(o, "", to);
	for (const struct cli_option *o = cli_common_options; o->id; o++)
		if (!cli_option_shadowed(c, o))
			help_option(o, output, to);
	fprintf(to, "\nExamples:\n%s", c->examples);
}
