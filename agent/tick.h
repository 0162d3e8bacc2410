/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What happens by the clock: the heartbeat that the programs watch, collection of flows (on a
 * worker thread), events from the kernel to the flow log, endpoints that ended without a word.
 */
#ifndef AGENT_TICK_H
#define AGENT_TICK_H

#include <towpath/abi.h>

struct agent;
struct tick;

int tick_new(struct tick **out, struct agent *a);
void tick_start(struct tick *t);
/* Before the loop's last run; frees it there. */
void tick_free(struct tick *t);

/* Takes what is in the ring of events now. */
void tick_events(struct tick *t);
/* Gives memory back a little later, when what is under way has freed its own. */
void tick_release(struct tick *t);
/* 0, or -errno of the last pass over the flow tables. */
int tick_collect_result(const struct tick *t);
/* What the last pass over the flow tables found. */
void tick_collected(const struct tick *t, struct tw_collect_args *out);

#endif
