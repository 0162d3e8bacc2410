/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * HTTP with JSON on the agent's Unix socket (docs/design/agent.md lists the calls). Turns
 * requests into calls of agent.h and their results into replies; decides nothing itself.
 */
#ifndef AGENT_API_H
#define AGENT_API_H

#include <stddef.h>

struct agent;
struct api;

/*
 * Listens on <run-dir>/towpath.sock, mode 0660, group towpath if there is one. A socket that
 * an agent left behind is replaced. -errno with a sentence in err.
 */
int api_new(struct api **out, struct agent *a, char *err, size_t err_len);
/* Before the loop's last run; frees it there. Ends all connections and removes the socket. */
void api_free(struct api *api);
/* There may be new flow records: streams that wait go on. */
void api_wake(struct api *api);

#endif
