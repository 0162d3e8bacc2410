/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * How fast things happen now: a look at the kernel's counters every second, of which the last
 * ten are kept. Counters say what has happened since the maps were made; whether a table is
 * full now, or was a month ago, only this tells.
 */
#ifndef AGENT_RATES_H
#define AGENT_RATES_H

#include <stdint.h>

struct agent;
struct rates;

enum rate {
	RATE_FLOWS,  /* opened */
	RATE_DROPS,  /* packets, whatever the reason */
	RATE_DENIED, /* of them by policy */
	RATE_LOST,   /* events */
	RATE_FULL,   /* packets that found the flow table full */
	RATE_BUGS,   /* packets dropped for a reason that must not be */
	RATE_COUNT,
};

/* -ENOMEM. */
int rates_new(struct rates **out, struct agent *a);
void rates_free(struct rates *r);
/* Once a second. */
void rates_look(struct rates *r);
/* What happened in the last *seconds (ten at most) until now. */
void rates_get(struct rates *r, double *seconds, uint64_t count[RATE_COUNT]);

#endif
