/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What is pinned stays pinned while the agent runs: the bpffs is held, deleted pins are made anew,
 * programs that were taken off are put back.
 */
#ifndef AGENT_PINS_H
#define AGENT_PINS_H

struct agent;
struct pins;

/* With everything in force. -errno. */
int pins_new(struct pins **out, struct agent *a);
/* Every second: what no event tells of. */
void pins_tick(struct pins *p);
/* Before the loop's last run; frees it there. */
void pins_free(struct pins *p);

#endif
