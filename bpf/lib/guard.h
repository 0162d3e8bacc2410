/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * When the table is full. New flows are refused, never old ones evicted. Only when the
 * agent is dead, so that nobody collects, the slow path sweeps itself: at most once a second on
 * the whole node, and only until a few entries are free, so a packet pays for it at most once
 * a second. As everywhere, an entry goes only after it was idle for its lifetime and marked by an
 * earlier sweep.
 */
#ifndef TW_GUARD_H
#define TW_GUARD_H

#include "collect.h"

#define GUARD_DELETE 256

/*
 * The packet that met the full table is dropped all the same; the next one finds room. Global,
 * so that the verifier walks it once.
 */
__weak __noinline int guard_sweep(__u32 family)
{
	struct sweep w = { .now = jiffies_now(), .max_delete = GUARD_DELETE };
	__u32 zero = 0, swept;
	struct tw_config *c = bpf_map_lookup_elem(&tw_config, &zero);

	if (!c || w.now - c->heartbeat < tw_settings.agent_dead)
		return 0;
	swept = c->swept;
	if (w.now - swept < tw_settings.hz ||
	    __sync_val_compare_and_swap(&c->swept, swept, w.now) != swept)
		return 0;
	counter_add(TW_COUNTER_GUARD_SWEEPS, 1);
	/* Not as if and else: one call instruction for both maps is refused before Linux 6.8. */
	if (family != 6)
		bpf_for_each_map_elem(&tw_flow4, sweep_flow4, &w, 0);
	if (family != 4)
		bpf_for_each_map_elem(&tw_flow6, sweep_flow6, &w, 0);
	return 0;
}

#endif
