/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "flow_lines.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define RETRY_MS 200

/* ---- in words ----------------------------------------------------------------------------------- */

void flow_end(const json_t *end, bool full, FILE *out)
{
	const char *ip = cli_str(end, "ip"), *pod = cli_str(end, "pod");
	const json_t *port = json_object_get(end, "port");
	bool brackets = port && strchr(ip, ':');

	bool unknown = !strcmp(cli_str(end, "what"), "unknown") && *ip;

	if (*pod)
		fprintf(out, "%s/%s", cli_str(end, "namespace"), pod);
	else if (!unknown)
		fputs(cli_str(end, "what"), out);
	if (*ip && (full || !*pod))
		fprintf(out, "%s%s%s%s",
			unknown ? ""
			: full	? ","
				: " ",
			brackets ? "[" : "", ip, brackets ? "]" : "");
	if (port)
		fprintf(out, ":%lld", (long long)json_integer_value(port));
}

void flow_proto(const json_t *flow, FILE *out)
{
	const json_t *proto = json_object_get(flow, "proto");

	if (json_is_integer(proto))
		fprintf(out, "%lld", (long long)json_integer_value(proto));
	else
		fputs(proto ? json_string_value(proto) : "-", out);
	if (json_object_get(flow, "icmp_type"))
		fprintf(out, "/%lld", (long long)cli_int(flow, "icmp_type"));
}

void flow_time(json_int_t ns, bool full, FILE *out)
{
	time_t t = (time_t)(ns / 1000000000);
	char buf[32];
	struct tm tm;

	localtime_r(&t, &tm);
	strftime(buf, sizeof(buf), full ? "%Y-%m-%dT%H:%M:%S" : "%H:%M:%S", &tm);
	fputs(buf, out);
	fprintf(out, full ? ".%06lld" : ".%03lld",
		(long long)(ns % 1000000000) / (full ? 1000 : 1000000));
}

/* ---- reading ------------------------------------------------------------------------------------ */

void flow_query(char **query, const char *key, const char *value)
{
	char *escaped = tw_client_escape(value);
	char *more =
		cli_printf("%s%s%s=%s", *query, **query ? "&" : "", key, escaped ? escaped : "");

	free(escaped);
	free(*query);
	*query = more;
}

/* The agent is away: waits until one answers. A sentence was printed when it refuses. */
static int agent_await(struct cli *cli)
{
	const struct timespec pause = { .tv_nsec = RETRY_MS * 1000000 };
	int status;

	fflush(stdout);
	fprintf(stderr, "towpath: the agent has gone; waiting until it is back\n");
	for (;;) {
		status = tw_client_call(cli->client, "GET", "/v1/status", NULL, NULL);
		if (status >= 200 && status < 300) {
			fprintf(stderr, "towpath: the agent is back\n");
			return CLI_OK;
		}
		if (status == -EACCES)
			return cli_refuse("%s", tw_client_error(cli->client, status, NULL));
		nanosleep(&pause, NULL);
	}
}

struct reading {
	struct flow_reader *reader;
	bool ended; /* by record() */
};

static int line_read(void *arg, const char *line, size_t len)
{
	struct reading *r = arg;
	cleanup_(cleanup_json) json_t *flow = json_loadb(line, len, 0, NULL);

	if (cli_int(flow, "seq"))
		r->reader->seq = cli_int(flow, "seq");
	r->ended = r->reader->record(r->reader->arg, flow, line, len);
	return r->ended;
}

/* One connection's worth of flows: the status of the call. */
static int stream(struct reading *r, const char *more, bool follow)
{
	const char *query = r->reader->query;
	cleanup_(cleanup_free) char *path =
		cli_printf("/v1/flows?follow=%d%s%s&%s", follow, *query ? "&" : "", query, more);

	return tw_client_stream(r->reader->cli->client, path, line_read, r);
}

int flow_read(struct flow_reader *reader, int *status)
{
	struct reading r = { .reader = reader };
	cleanup_(cleanup_free) char *more =
		reader->seq ? cli_printf("after=%lld", (long long)reader->seq)
			    : cli_printf("last=%s", reader->last);
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	*status = stream(&r, more, reader->follow);
	while (reader->follow && !ferror(stdout) && !r.ended &&
	       (*status == 200 || *status == -ECONNRESET)) {
		int ret = agent_await(reader->cli);

		if (ret)
			return ret;
		free(more);
		/* What was missed; filters that are given twice count as given last. */
		more = reader->seq ? cli_printf("after=%lld", (long long)reader->seq)
				   : cli_printf("last=" FLOWS_ALL "&since=%lld%09ld",
						(long long)now.tv_sec, now.tv_nsec);
		*status = stream(&r, more, true);
	}
	return CLI_OK;
}
