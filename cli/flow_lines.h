/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Records of the agent's flow log as they come: read over restarts of the agent, and put into words. */
#ifndef CLI_FLOW_LINES_H
#define CLI_FLOW_LINES_H

#include "cli.h"

#define FLOWS_ALL "4294967295" /* as `last` */

struct flow_reader {
	struct cli *cli;
	const char *query; /* filters, "" for none */
	const char *last;  /* how many of the past */
	bool follow;
	json_int_t seq; /* of the last record that was seen; not 0: begin behind it */
	/* A record and its line; other than 0 ends the reading. */
	int (*record)(void *arg, const json_t *flow, const char *line, size_t len);
	void *arg;
};

/*
 * Reads until the end, or with `follow` for ever: an agent that goes away is waited for. *status is
 * that of the last call; CLI_OK, or another one after a sentence.
 */
int flow_read(struct flow_reader *r, int *status);

/* Adds key=value to a query, which is malloc'ed. */
void flow_query(char **query, const char *key, const char *value);

/* "demo/web:80", "world 10.0.0.1:53", "host [fd00::1]:22"; full: with the pod's address. */
void flow_end(const json_t *end, bool full, FILE *out);
void flow_proto(const json_t *flow, FILE *out);
/* "12:00:01.123", or with the day and microseconds. */
void flow_time(json_int_t ns, bool full, FILE *out);

#endif
