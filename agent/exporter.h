/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* --flow-export: all flows as JSON lines into a file that is rotated, on a worker thread. */
#ifndef AGENT_EXPORTER_H
#define AGENT_EXPORTER_H

#include <stdbool.h>

struct agent;
struct exporter;

/* Goes on behind the last record that the file has. -errno when it cannot be opened. */
int exporter_new(struct exporter **out, struct agent *a);
/* Writes what there is; after a failure only when `again`. Returns at once. */
void exporter_write(struct exporter *e, bool again);
/* 0, or -errno while flows cannot be written. NULL is fine. */
int exporter_error(const struct exporter *e);
/* The rest, here and now: when the event loop has ended. Before the history is closed. */
void exporter_free(struct exporter *e);

#endif
