/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * uninstall and completion, commands that hand over to something else; and what several commands
 * share that is no output and no option.
 */
#include "cli.h"

#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

static const char completion_bash[] =
#include "completion_bash.h"
	;
static const char completion_zsh[] =
#include "completion_zsh.h"
	;

enum { OPT_RUN_DIR = CLI_LONG, OPT_STATE_DIR };

char *cli_program(const char *name, const char *const *folders)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n > 0) {
		self[n] = '\0';

		const char *dir = dirname(self);

		for (; *folders; folders++) {
			char *path = **folders == '/' ? cli_printf("%s/%s", *folders, name)
						      : cli_printf("%s/%s/%s", dir, *folders, name);

			if (!access(path, X_OK))
				return path;
			free(path);
		}
	}
	return NULL;
}

char *cli_run_dir(const struct cli *cli)
{
	const char *socket = cli->socket ? cli->socket : getenv("TOWPATH_SOCKET");
	cleanup_(cleanup_free) char *copy =
		cli_printf("%s", socket && *socket ? socket : TW_SOCKET_DEFAULT);

	return cli_printf("%s", dirname(copy));
}

int cli_delete_each(struct cli *cli, int argc, char **argv, const char *path, const char *done)
{
	int ret = CLI_OK;

	if (cli_getopt(cli, argc, argv) != -1)
		return CLI_USAGE;
	if (cli_operands(cli, argc, 1, INT_MAX, &ret))
		return ret;
	for (int i = optind; i < argc; i++) {
		cleanup_(cleanup_free) char *name = cli_path("%s", argv[i]);
		cleanup_(cleanup_free) char *whole = cli_printf("%s%s", path, name);
		cleanup_(cleanup_json) json_t *reply = NULL;
		int res = cli_call(cli, "DELETE", whole, NULL, &reply);

		if (res)
			ret = res;
		else if (cli->output == CLI_TABLE)
			printf("%s %s\n", argv[i], done);
		else
			cli_print(cli, reply);
	}
	return ret;
}

static int uninstall_run(struct cli *cli, int argc, char **argv)
{
	/* Installed, and in the build folder. */
	static const char *const folders[] = { ".", "../sbin", "../agent", NULL };
	cleanup_(cleanup_free) char *agent = cli_program("towpathd", folders);
	cleanup_(cleanup_free) char *run_dir = NULL;
	const char *state_dir = NULL;
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		switch (opt) {
		case OPT_RUN_DIR:
			free(run_dir);
			run_dir = cli_printf("%s", cli->value);
			break;
		case OPT_STATE_DIR:
			state_dir = cli->value;
			break;
		default:
			return CLI_USAGE;
		}
	}
	if (cli_operands(cli, argc, 0, 0, &ret))
		return ret;
	if (!run_dir)
		run_dir = cli_run_dir(cli);

	const char *const args[] = {
		"towpathd", "--uninstall", "--run-dir", run_dir, state_dir ? "--state-dir" : NULL,
		state_dir,  NULL
	};

	if (agent)
		execv(agent, (char *const *)args);
	else
		execvp("towpathd", (char *const *)args);
	return cli_refuse("cannot run towpathd, which takes the data path down: %m");
}

static const struct cli_option uninstall_options[] = {
	{ OPT_RUN_DIR, "run-dir", "DIR", "of the agent (default: where its socket is)" },
	{ OPT_STATE_DIR, "state-dir", "DIR", "of the agent (default /var/lib/towpath)" },
	{ 0 },
};

const struct cli_command cmd_uninstall = {
	.name = "uninstall",
	.usage = "[--run-dir DIR] [--state-dir DIR]",
	.summary = "take everything out of the kernel: programs, maps, settings",
	.details =
		"What is pinned goes on filtering after the agent has stopped, on purpose; this\n"
		"command ends that. Stop the agent first. Objects and addresses in the state\n"
		"folder stay, so that an agent that is started again is as before.\n",
	.options = uninstall_options,
	.examples = "  sudo systemctl stop towpathd && sudo towpath uninstall\n"
		    "  sudo towpath uninstall --run-dir /run/other --state-dir /var/lib/other\n",
	.run = uninstall_run,
};

static int completion_run(struct cli *cli, int argc, char **argv)
{
	int ret;

	if (cli_getopt(cli, argc, argv) != -1)
		return CLI_USAGE;
	if (cli_operands(cli, argc, 0, 1, &ret))
		return ret;

	const char *shell = optind < argc ? argv[optind] : "bash";

	if (strcmp(shell, "bash") && strcmp(shell, "zsh"))
		return cli_usage(cli, "there is completion for bash and zsh, not for %s", shell);
	fputs(strcmp(shell, "zsh") ? completion_bash : completion_zsh, stdout);
	return CLI_OK;
}

static const char *const shells[] = { "bash", "zsh", NULL };

const struct cli_command cmd_completion = {
	.name = "completion",
	.usage = "[bash|zsh]",
	.summary = "print the completion script for bash or zsh",
	.details = "Commands, options, kinds and drop reasons are in the program; names of "
		   "namespaces,\n"
		   "pods and policies come from the agent when it answers at once.\n",
	.words = shells,
	.examples = "  source <(towpath completion bash)\n"
		    "  towpath completion bash > /etc/bash_completion.d/towpath\n"
		    "  towpath completion zsh > /usr/local/share/zsh/site-functions/_towpath\n",
	.run = completion_run,
};
