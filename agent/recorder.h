/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Takes what the flow log has to the flow history, on a worker thread. */
#ifndef AGENT_RECORDER_H
#define AGENT_RECORDER_H

#include <stdbool.h>

struct agent;
struct recorder;

/* Opens a->history, and numbers a->flows. -ENOMEM. */
int recorder_new(struct recorder **out, struct agent *a);
/* Writes what waits, if it is much; every: whatever there is. Returns at once. */
void recorder_write(struct recorder *r, bool every);
/* The rest, here and now: when the event loop has ended. Closes the history. */
void recorder_free(struct recorder *r);

#endif
