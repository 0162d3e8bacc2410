/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Which rules of the policies in force have decided anything, by the records of the flow log. In
 * memory only: counts begin with the agent, or with the last change of their policy. There is an
 * entry for each policy that has decided something, so they are never more than policies.
 */
#ifndef AGENT_COVERAGE_H
#define AGENT_COVERAGE_H

#include <jansson.h>

#include "flow/flow.h"
#include "store/store.h"

struct coverage;

struct coverage *coverage_new(void); /* NULL: out of memory */
void coverage_free(struct coverage *c);
/* flow_source.decided. What finds no memory is not counted. */
void coverage_decided(struct coverage *c, const struct flow_decided *d);
/* The policy changed, or is gone; of another kind of object nothing is known. */
void coverage_forget(struct coverage *c, const struct object *obj);

/*
 * [item] of docs/design/agent.md for the NetworkPolicies of a namespace (NULL: all), at most
 * `limit`; *more: how many were left out. `since` in seconds, for policies that were there when the
 * agent started. NULL: out of memory.
 */
json_t *coverage_json(const struct coverage *c, const struct store *store,
		      const struct policy *policy, const char *ns, uint64_t since, uint32_t limit,
		      uint64_t *more);

#endif
