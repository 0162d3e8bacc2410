/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * GET /metrics on a TCP port of the node, for Prometheus; the only thing the agent ever listens
 * to on a network, and only when it is told to. It takes no body and knows no other path.
 */
#ifndef AGENT_API_METRICS_H
#define AGENT_API_METRICS_H

#include <stddef.h>

struct agent;
struct metrics_server;

/* Nothing, when the options name no port: *out is NULL then. -errno with a sentence in err. */
int metrics_server_new(struct metrics_server **out, struct agent *a, char *err, size_t err_len);
/* Before the loop's last run; frees it there. NULL is fine. */
void metrics_server_free(struct metrics_server *m);

#endif
