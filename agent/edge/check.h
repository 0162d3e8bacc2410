/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Health checks of backends: a TCP connection, or an HTTP request that must be answered with 200 to
 * 399. Each has a timer of its own, a little irregular so that many do not come together; at most
 * CHECKS_AT_ONCE are under way. Knows of no service.
 */
#ifndef AGENT_EDGE_CHECK_H
#define AGENT_EDGE_CHECK_H

#include <uv.h>

#include "object/object.h"

#define CHECKS_AT_ONCE 64u

struct checks; /* what the checks of one balancer share */
struct check;

int checks_new(struct checks **out, uv_loop_t *loop);
/* All checks are closed; freed when their handles are. */
void checks_free(struct checks *c);

struct check_spec {
	union tw_addr addr;
	uint16_t port;
	bool http;
	const char *path, *host; /* copied; NULL: /, and the address */
	uint32_t interval_ms, timeout_ms;
};

/* What a check came to: NULL, or why it failed. */
typedef void (*check_fn)(void *arg, const char *failed);

/* The first one follows at once. -errno: no memory. */
int check_new(struct check **out, struct checks *all, const struct check_spec *spec, check_fn done,
	      void *arg);
/* NULL is fine. done() is not called any more. */
void check_close(struct check *check);

#endif
