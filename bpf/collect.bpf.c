// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The collector, run by the agent as a syscall program: idle flows are marked in one pass and
 * deleted in a later one, if no packet came in between (I11). It runs in process context and can
 * be preempted; only the bucket in hand is locked.
 */
#include "lib/collect.h"

SEC("syscall")
int tw_collect(struct tw_collect_args *args)
{
	struct sweep sweep = {
		.now = args->now ?: jiffies_now(),
		.max_delete = args->max_delete,
	};

	bpf_for_each_map_elem(&tw_flow4, sweep_flow4, &sweep, 0);
	args->live4 = sweep.visited - sweep.deleted;
	bpf_for_each_map_elem(&tw_flow6, sweep_flow6, &sweep, 0);
	args->visited = sweep.visited;
	args->marked = sweep.marked;
	args->deleted = sweep.deleted;
	args->live = sweep.visited - sweep.deleted;
	return 0;
}

/*
 * The agent lives: as long as it says so, the slow path leaves collecting to it. Tells the time
 * that events are stamped with.
 */
SEC("syscall")
int tw_heartbeat(struct tw_clock *clock)
{
	__u32 zero = 0;
	struct tw_config *config = bpf_map_lookup_elem(&tw_config, &zero);

	if (config)
		config->heartbeat = jiffies_now();
	clock->jiffies = bpf_jiffies64();
	return 0;
}

char _license[] SEC("license") __weak = "Dual BSD/GPL";
