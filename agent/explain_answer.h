/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The decision about one question, with its reasons: what the maps say is the verdict, and the
 * rules say why. Where the two differ, the answer has a warning.
 */
#ifndef AGENT_EXPLAIN_ANSWER_H
#define AGENT_EXPLAIN_ANSWER_H

#include <jansson.h>

#include "datapath.h"
#include "policy/policy.h"

/*
 * ends: from, to; addr is needed unless is_host, and slot where it is an endpoint. *out gets
 * verdict, reason, text, egress, ingress and warning of docs/design/agent.md. -errno.
 */
int explain_answer(const struct policy *p, struct datapath *dp, const struct policy_end ends[2],
		   uint8_t proto, uint16_t port, json_t **out);

/*
 * Keys first to last of a policy version (protocol << 16 | port) as people write them:
 * "80/tcp", "8000-8100/tcp", "tcp", "every port"; several with commas.
 */
void explain_ports(uint32_t first, uint32_t last, char *buf, size_t len);

#endif
