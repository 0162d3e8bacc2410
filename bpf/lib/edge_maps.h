/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Maps and settings of the edge that more than one stage uses; a stage's own maps stand in its
 * header. Sizes marked 1 are set by the loader.
 */
#ifndef TW_EDGE_MAPS_H
#define TW_EDGE_MAPS_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include <towpath/edge_abi.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Load-time settings; the verifier prunes what they switch off. */
const volatile struct tw_edge_settings tw_edge_settings = {};

/* Live switches. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tw_edge_config);
} tw_edge_config SEC(".maps");

/* Every frame counts here exactly once. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TW_EDGE_COUNTERS);
	__type(key, __u32);
	__type(value, struct tw_metric);
} tw_edge_count SEC(".maps");

/* What passes is handed to the program in slot 0, a user's own; empty by default. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} tw_edge_next SEC(".maps");

#endif
