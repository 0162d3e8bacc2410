/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Interfaces of endpoints that end (CNI DEL). The kernel takes some 40 ms for one: two grace
 * periods for its programs under the lock of all interfaces, another one behind it. But what
 * it does first, within a millisecond, is to set both ends down and take them off all lists,
 * after which nobody finds or uses them any more. So a worker waits for the whole, the event
 * loop for the first part, and DELs that come together share one request.
 */
#ifndef AGENT_REMOVER_H
#define AGENT_REMOVER_H

#include "agent.h"

struct remover;

/* In the event loop, once the endpoint is gone or cannot be removed; err is of the failure. */
typedef void (*remover_fn)(void *arg, int res, const struct agent_error *err);

int remover_new(struct remover **out, struct agent *a);
/* Before the loop's last run. Those who wait are told that the agent stops. */
void remover_free(struct remover *r);
/* Ends the endpoint in this slot; also when it is ending already. -ENOMEM. */
int remover_add(struct remover *r, struct endpoint *ep, remover_fn done, void *arg);

#endif
