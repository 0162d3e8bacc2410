/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* CNI plugins, found and called as a container runtime would. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define REPLY_MAX (1u << 20)
#define STATUS_NOT_RUN 127

char *cli_plugin_find(void)
{
	/* Installed, in the build folder, and where container runtimes look. */
	static const char *const folders[] = { ".",
					       "../libexec/towpath",
					       "../libexec/cni",
					       "../cni",
					       "/usr/libexec/cni",
					       "/opt/cni/bin",
					       "/usr/lib/cni",
					       NULL };

	return cli_program("towpath-cni", folders);
}

/* In the child: the plugin's environment, then the plugin. */
static void plugin_exec(const char *plugin, char *const *vars, int in, int out)
{
	cleanup_(cleanup_free) char *copy = cli_printf("%s", plugin);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setenv("CNI_PATH", dirname(copy), 1);
	for (; *vars; vars++)
		putenv(*vars);
	if (dup2(in, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0)
		execl(plugin, plugin, (char *)NULL);
	_exit(STATUS_NOT_RUN);
}

/* The plugin's reply, NUL-terminated and malloc'ed; NULL when it is too long. */
static char *reply_read(int fd)
{
	char *buf = calloc(1, REPLY_MAX + 1);
	size_t n = 0;

	while (buf && n < REPLY_MAX) {
		ssize_t got = read(fd, buf + n, REPLY_MAX - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return buf;
		n += (size_t)got;
	}
	free(buf);
	return NULL;
}

static int plugin_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/*
 * Text as a file to read from: a plugin that ends before it has read all of it, or does not read,
 * stops nobody. -1 when that fails.
 */
static int input_open(const char *text)
{
	size_t len = strlen(text);
	int fd = memfd_create("cni-input", MFD_CLOEXEC);

	if (fd >= 0 && write(fd, text, len) == (ssize_t)len && !lseek(fd, 0, SEEK_SET))
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

/* The plugin's exit status, -1 when there is none. */
static int plugin_run(const char *plugin, char *const *vars, const char *conf, char **text)
{
	int in = input_open(conf), out[2];

	if (in < 0)
		return -1;
	if (pipe2(out, O_CLOEXEC)) {
		close(in);
		return -1;
	}
	fflush(stdout);

	pid_t pid = fork();

	if (!pid)
		plugin_exec(plugin, vars, in, out[1]);
	close(in);
	close(out[1]);
	*text = pid > 0 ? reply_read(out[0]) : NULL;
	close(out[0]);
	return pid > 0 ? plugin_wait(pid) : -1;
}

int cli_plugin_call(const char *plugin, char *const *vars, const json_t *conf, json_t **reply,
		    char **error)
{
	cleanup_(cleanup_free) char *input = json_dumps(conf, JSON_COMPACT);
	cleanup_(cleanup_free) char *text = NULL;
	int status = input ? plugin_run(plugin, vars, input, &text) : -1;
	cleanup_(cleanup_json) json_t *answer = json_loads(text ? text : "", 0, NULL);

	if (!status) {
		*reply = answer;
		answer = NULL;
		return 0;
	}
	if (status == STATUS_NOT_RUN && !answer) {
		*error = cli_printf("cannot run the CNI plugin %s", plugin);
		return -1;
	}

	const char *details = cli_str(answer, "details");

	*error = cli_printf("%s%s%s",
			    *cli_str(answer, "msg") ? cli_str(answer, "msg")
						    : "the CNI plugin failed",
			    *details ? ": " : "", details);
	return -1;
}
