/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What is wrong with this node, in words, and what helps. Looks, and changes nothing. */
#ifndef AGENT_HEALTH_H
#define AGENT_HEALTH_H

#include <jansson.h>

struct agent;

/*
 * {ok, problems: [{what, text, help}], hooks: {expected, attached}, pins: {expected, here},
 * heartbeat_ms}. NULL: out of memory.
 */
json_t *health_json(struct agent *a);

#endif
