/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The two ends and the transport of a question that a person asks: explain.c and trace.c. */
#ifndef AGENT_ENDS_H
#define AGENT_ENDS_H

#include "agent.h"

struct end {
	struct policy_end policy;
	const char *what;
	const struct endpoint *ep; /* of this node, else NULL */
	char ns[64];
	char pod[254];
	union tw_addr addr4, addr6; /* of a pod; all zero: none */
};

bool addr_is_none(const union tw_addr *addr);

/* "ns/pod", "pod" (in default), an address, or "host". Borrows from the agent's endpoints. */
int end_parse(struct agent *a, const char *text, struct end *end, struct agent_error *err);
/* Both ends must speak the same family: a pod takes the address that fits the other end. */
int ends_pair(struct end *from, struct end *to, struct agent_error *err);
json_t *end_json(const struct end *end);

struct transport {
	const char *name;
	uint8_t number;
	bool ports;
};

/* proto NULL or "": tcp. A port is needed where the transport has ports; else *port is 0. */
int transport_parse(const char *proto, const char *port_text, const struct transport **out,
		    uint16_t *port, struct agent_error *err);

#endif
