/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* program build: runs clang as one would by hand, and says what its warnings mean for BPF. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdarg.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clang_advice.h"

#define ARGS_MAX 128
#define CLANG_NEWEST 40
#define CLANG_OLDEST 12 /* the first that writes BTF as libbpf wants it */

struct build {
	const char *source;
	char *object;
	char *clang;
	char *args[ARGS_MAX]; /* malloc'ed, ended by NULL */
	size_t n;
};

static void build_free(struct build *b)
{
	for (size_t i = 0; i < b->n; i++)
		free(b->args[i]);
	free(b->object);
	free(b->clang);
}

static void arg_add(struct build *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void arg_add(struct build *b, const char *fmt, ...)
{
	va_list ap;

	if (b->n == ARGS_MAX - 1)
		return; /* dispatch refuses as many */
	va_start(ap, fmt);
	if (vasprintf(&b->args[b->n], fmt, ap) < 0)
		abort();
	va_end(ap);
	b->n++;
}

/* ---- what is run ----------------------------------------------------------------------------- */

/* Whether PATH has the program. */
static bool path_has(const char *name)
{
	const char *path = getenv("PATH");

	for (const char *p = path ? path : "/usr/bin:/bin"; *p;) {
		size_t len = strcspn(p, ":");
		cleanup_(cleanup_free) char *file = cli_printf("%.*s/%s", (int)len, p, name);

		if (!access(file, X_OK))
			return true;
		p += len + (p[len] == ':');
	}
	return false;
}

/* CLANG of the environment, else the newest clang in PATH; NULL: there is none. malloc'ed. */
static char *clang_find(void)
{
	const char *named = getenv("CLANG");

	if (named && *named)
		return cli_printf("%s", named);
	for (int version = CLANG_NEWEST; version >= CLANG_OLDEST; version--) {
		char *name = cli_printf("clang-%d", version);

		if (path_has(name))
			return name;
		free(name);
	}
	return path_has("clang") ? cli_printf("clang") : NULL;
}

/* Where <towpath/bpf/...> is: installed, and in the build folder. malloc'ed; NULL: not found. */
static char *include_find(void)
{
	static const char *const folders[] = { "../include", "../../include", NULL };
	cleanup_(cleanup_free) char *headers = cli_program("towpath/bpf", folders);
	cleanup_(cleanup_free) char *up = headers ? cli_printf("%s/../..", headers) : NULL;

	return up ? realpath(up, NULL) : NULL;
}

/* libbpf's macros for the registers of a traced function ask for it. */
static const char *target_arch(const char *machine)
{
	static const struct {
		const char *machine, *arch;
	} names[] = {
		{ "x86_64", "x86" }, { "aarch64", "arm64" },   { "riscv64", "riscv" },
		{ "s390x", "s390" }, { "ppc64le", "powerpc" }, { "loongarch64", "loongarch" },
		{ "armv7l", "arm" },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!strcmp(names[i].machine, machine))
			return names[i].arch;
	return machine;
}

/*
 * -g: BTF, without which there are no maps and no lines in what the verifier says. -mcpu=v3:
 * instructions of Linux 5.1. The machine's own headers are not where clang looks for this target.
 */
static void args_build(struct build *b, char *const *rest)
{
	cleanup_(cleanup_free) char *include = include_find();
	struct utsname uts;

	uname(&uts);
	arg_add(b, "%s", b->clang);
	for (const char *const *flag = (const char *const[]){ "-g", "-O2", "-target", "bpf",
							      "-mcpu=v3", "-Wall", NULL };
	     *flag; flag++)
		arg_add(b, "%s", *flag);
	arg_add(b, "-D__TARGET_ARCH_%s", target_arch(uts.machine));
	if (include && strcmp(include, "/usr/include")) {
		arg_add(b, "-I");
		arg_add(b, "%s", include);
	}
	cleanup_(cleanup_free) char *multiarch =
		cli_printf("/usr/include/%s-linux-gnu", uts.machine);

	if (!access(multiarch, X_OK)) {
		arg_add(b, "-isystem");
		arg_add(b, "%s", multiarch);
	}
	for (; rest && *rest; rest++)
		arg_add(b, "%s", *rest);
	arg_add(b, "-c");
	arg_add(b, "%s", b->source);
	arg_add(b, "-o");
	arg_add(b, "%s", b->object);
}

/* As a shell would take it. */
static void command_print(const struct build *b)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "_-+=./,:@%";

	for (size_t i = 0; i < b->n; i++) {
		const char *s = b->args[i];

		fputs(i ? " " : "", stdout);
		if (*s && !s[strspn(s, plain)]) {
			fputs(s, stdout);
			continue;
		}
		putchar('\'');
		for (; *s; s++)
			fputs(*s == '\'' ? "'\\''" : (char[]){ *s, '\0' }, stdout);
		putchar('\'');
	}
	putchar('\n');
	fflush(stdout);
}

/* ---- running it ------------------------------------------------------------------------------ */

/* Each of clang's lines, with what it means behind the warning that it belongs to. */
static void said_print(FILE *from)
{
	struct clang_advice advice = { 0 };
	char *line = NULL;
	size_t cap = 0;

	while (getline(&line, &cap, from) >= 0) {
		const char *text = clang_advice_next(&advice, line);

		if (text)
			fprintf(stderr, "advice: %s\n", text);
		fputs(line, stderr);
	}
	free(line);
	if (clang_advice_last(&advice))
		fprintf(stderr, "advice: %s\n", clang_advice_last(&advice));
}

static int clang_missing(const struct build *b)
{
	if (b->clang)
		return cli_refuse("cannot run %s: %m; CLANG names the clang to use", b->clang);
	return cli_refuse("there is no clang in PATH: install clang and libbpf's headers "
			  "(Debian, Ubuntu: apt install clang libbpf-dev; Fedora: dnf install "
			  "clang libbpf-devel)");
}

static int clang_run(struct build *b)
{
	posix_spawn_file_actions_t actions;
	int pipes[2], status, error;
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC))
		return cli_refuse("cannot make a pipe: %m");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, pipes[1], STDERR_FILENO);
	error = posix_spawnp(&pid, b->clang, &actions, NULL, b->args, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(pipes[1]);

	FILE *from = fdopen(pipes[0], "r");

	if (!from)
		abort();
	if (error) {
		fclose(from);
		errno = error;
		return clang_missing(b);
	}
	said_print(from);
	fclose(from);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return cli_refuse("lost sight of %s: %m", b->clang);
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return CLI_OK;
	if (WIFSIGNALED(status))
		return cli_refuse("%s was ended by signal %d", b->clang, WTERMSIG(status));
	return cli_refuse("%s was not built: see what clang says above", b->object);
}

/* ---- options --------------------------------------------------------------------------------- */

/* FILE.c to FILE.o. malloc'ed; NULL when the name does not end so. */
static char *object_name(const char *source)
{
	size_t len = strlen(source);

	return len > 2 && !strcmp(source + len - 2, ".c")
		       ? cli_printf("%.*s.o", (int)len - 2, source)
		       : NULL;
}

static int build_prepare(struct cli *cli, struct build *b)
{
	size_t n = 0;

	while (cli->rest && cli->rest[n])
		n++;
	if (n > ARGS_MAX - 32)
		return cli_usage(cli, "at most %d options for clang", ARGS_MAX - 32);
	if (!b->object)
		b->object = object_name(b->source);
	if (!b->object)
		return cli_usage(cli, "\"%s\" does not end in .c: say with -o what to write",
				 b->source);
	if (!strcmp(b->object, b->source))
		return cli_usage(cli, "-o names the source, %s, which would be lost", b->source);
	if (access(b->source, R_OK))
		return cli_refuse("cannot read %s: %m", b->source);
	b->clang = clang_find();
	if (!b->clang)
		return clang_missing(b);
	args_build(b, cli->rest);
	return CLI_OK;
}

static int build_run(struct cli *cli, int argc, char **argv)
{
	struct build b = { 0 };
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		if (opt != 'o') {
			free(b.object);
			return CLI_USAGE;
		}
		free(b.object);
		b.object = cli_printf("%s", cli->value);
	}
	if (!cli_operands(cli, argc, 1, 1, &ret)) {
		b.source = argv[optind];
		ret = build_prepare(cli, &b);
		if (!ret) {
			command_print(&b);
			ret = clang_run(&b);
		}
	}
	build_free(&b);
	return ret;
}

static const struct cli_option build_options[] = {
	{ 'o', "output", "FILE", "what to write (default: FILE.o for FILE.c)" },
	{ 0 },
};

const struct cli_command cmd_program_build = {
	.name = "program build",
	.usage = "FILE.c [-o FILE.o] [-- CLANG-OPTION...]",
	.summary = "compile a program for the kernel, by clang",
	.details = "Prints the command, which does the same by hand, and behind each of clang's "
		   "warnings\n"
		   "what it means for BPF. Programs find libbpf's headers <bpf/...>, the kernel's\n"
		   "<linux/...> and Towpath's <towpath/bpf/...>. The clang is that of the "
		   "environment's\n"
		   "CLANG, else the newest in PATH. What follows \"--\" is for clang. Needs no "
		   "root.\n",
	.options = build_options,
	.examples = "  towpath program build count.c\n"
		    "  towpath program build count.c -o /tmp/count.o -- -DPORT=80 -Iinclude\n"
		    "  towpath program build count.c && sudo towpath program check count.o\n",
	.rest = true,
	.run = build_run,
};
