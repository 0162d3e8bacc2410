/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Reads the flow history for a dry run, on a worker thread. */
#ifndef AGENT_PAST_H
#define AGENT_PAST_H

#include "agent.h"

/* In the event loop; res -EAGAIN: the agent stops. What is not in the log any more, each once. */
typedef void (*past_fn)(void *arg, int res, const struct flow_past *v, size_t n);

/* 0, and done is called, perhaps at once; -ENOMEM. */
int past_ask(struct agent *a, past_fn done, void *arg);
/* Before the loop's last run: who waits is told. */
void past_stop(struct agent *a);

#endif
