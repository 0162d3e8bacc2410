/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What a change would do to traffic, for a dry run. */
#ifndef AGENT_EFFECTS_H
#define AGENT_EFFECTS_H

#include "agent.h"

/* Between policy_prepare() and policy_abort(): "effects" of docs/design/agent.md. -ENOMEM. */
int effects_json(const struct agent *a, const struct agent_dry_run *dry_run, json_t **out);

#endif
