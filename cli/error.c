/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Calls to the agent, and what is said when they fail. */
#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

int cli_refuse(const char *fmt, ...)
{
	va_list ap;
	int saved = errno; /* for %m */

	fflush(stdout);
	fprintf(stderr, "towpath: ");
	errno = saved;
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return CLI_REFUSED;
}

int cli_finish(int status)
{
	if ((fflush(stdout) || ferror(stdout)) && !status)
		return cli_refuse("cannot write the output: %m");
	return status;
}

char *cli_printf(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		abort();
	va_end(ap);
	return s;
}

char *cli_path(const char *fmt, ...)
{
	char *path = calloc(1, 1);
	va_list ap;

	va_start(ap, fmt);
	while (path && *fmt) {
		size_t plain = strcspn(fmt, "%");
		bool arg = fmt[plain] == '%'; /* only %s is used */
		char *text = arg ? tw_client_escape(va_arg(ap, const char *)) : NULL;
		char *next = cli_printf("%s%.*s%s", path, (int)plain, fmt, text ? text : "");

		free(path);
		free(text);
		path = next;
		fmt += plain + (arg ? 2 : 0);
	}
	va_end(ap);
	if (!path)
		abort();
	return path;
}

int cli_connect(struct cli *cli)
{
	if (!cli->client && tw_client_new(&cli->client, cli->socket))
		return cli_refuse("out of memory");
	return CLI_OK;
}

/* file:line:column: field: sentence, as compilers do, so that editors find the place. */
static int call_failed(const struct cli *cli, int status, const json_t *reply)
{
	const char *text = tw_client_error(cli->client, status, reply);
	const char *file = cli_str(reply, "file");
	const char *field = cli_str(reply, "field");
	json_int_t line = cli_int(reply, "line");

	if (!*file && !line)
		return cli_refuse("%s", text);
	fflush(stdout);
	fprintf(stderr, "%s:", file);
	if (line)
		fprintf(stderr, "%lld:%lld:", (long long)line, (long long)cli_int(reply, "column"));
	fprintf(stderr, " %s%s%s\n", field, *field ? ": " : "", text);
	return CLI_REFUSED;
}

/* What became of a call: `got` is the reply's, or freed. */
static int call_end(const struct cli *cli, int status, json_t *got, json_t **reply)
{
	int ret = status < 200 || status >= 300 ? call_failed(cli, status, got) : CLI_OK;

	if (!ret && reply)
		*reply = got;
	else
		json_decref(got);
	return ret;
}

static int call(struct cli *cli, const char *method, const char *path, json_t *body, json_t **reply,
		bool quiet404)
{
	json_t *got = NULL;
	int ret = cli_connect(cli);

	if (ret)
		return ret;
	int status = tw_client_call(cli->client, method, path, body, &got);

	if (status == 404 && quiet404) {
		json_decref(got);
		return -1;
	}
	return call_end(cli, status, got, reply);
}

int cli_send(struct cli *cli, const char *method, const char *path, const void *body, size_t len,
	     json_t **reply)
{
	json_t *got = NULL;
	int ret = cli_connect(cli);

	if (ret)
		return ret;
	int status = tw_client_send(cli->client, method, path, body, len, &got);

	return call_end(cli, status, got, reply);
}

int cli_call(struct cli *cli, const char *method, const char *path, json_t *body, json_t **reply)
{
	return call(cli, method, path, body, reply, false);
}

int cli_call_quiet404(struct cli *cli, const char *method, const char *path, json_t **reply)
{
	return call(cli, method, path, NULL, reply, true);
}
