/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What Prometheus is told: the state of status.c as text in its exposition format 0.0.4, and
 * what only this keeps, the distribution of how long changes take. Who serves it: api/metrics.c.
 */
#ifndef AGENT_METRICS_H
#define AGENT_METRICS_H

#include <stddef.h>
#include <stdint.h>

struct agent;

/* Upper bounds of the histogram's buckets, in microseconds; one more has what is above. */
#define METRICS_BUCKETS 12u

struct metrics {
	uint64_t applied[METRICS_BUCKETS + 1]; /* changes, by bucket */
	uint64_t applied_us;		       /* all of them together */
	uint64_t refused;
};

/* A change of objects was put in force, in so many microseconds. */
void metrics_applied(struct metrics *m, uint64_t us);

/* The text, malloc'ed. NULL: out of memory. */
char *metrics_text(struct agent *a, size_t *len);

#endif
