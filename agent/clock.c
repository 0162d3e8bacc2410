/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "agent.h"

uint64_t agent_wall_seconds(const struct agent *a)
{
	return (uint64_t)a->started_at + (uv_hrtime() - a->started) / 1000000000u;
}
