/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The agent as the API sees it, store, compiler and flow log and all, with nothing below: the
 * kernel takes every change and has no interface. Needs no privileges.
 */
#ifndef TESTS_FUZZ_FUZZ_AGENT_H
#define TESTS_FUZZ_FUZZ_AGENT_H

#include "agent.h"

/* The one agent of this process, listening in a folder of its own under /dev/shm or /tmp. */
struct agent *fuzz_agent(void);
/* As it was at first: no objects, no endpoints. */
void fuzz_agent_reset(struct agent *a);

#endif
