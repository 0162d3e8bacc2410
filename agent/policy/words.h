/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Between explain.c, which judges rules, and words.c, which says it. */
#ifndef AGENT_POLICY_WORDS_H
#define AGENT_POLICY_WORDS_H

#include "policy/internal.h"

/* The other end, as rules see it. */
struct rule_peer {
	const struct subject *subject; /* NULL: no pod */
	const union tw_addr *addr;
};

#endif
