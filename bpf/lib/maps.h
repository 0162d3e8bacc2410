/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Every map of the data path. All programs are linked into one object, so each map is weak
 * and stands once. Sizes marked 1 are set by the loader.
 */
#ifndef TW_MAPS_H
#define TW_MAPS_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include <towpath/abi.h>

#include "scratch.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Load-time settings; the verifier prunes what they switch off. */
const volatile struct tw_settings tw_settings __weak = {};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct tw_flow4_key);
	__type(value, struct tw_flow);
} tw_flow4 SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct tw_flow6_key);
	__type(value, struct tw_flow);
} tw_flow6 SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TW_MAX_ENDPOINTS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tw_endpoint);
} tw_endpoints SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TW_MAX_ENDPOINTS);
	__type(key, __u32);
	__type(value, struct tw_budget);
} tw_budget SEC(".maps") __weak;

/* One element: all epochs sit behind one look-up. Slot 0 is the node (I4). */
struct tw_epochs {
	__u32 epoch[TW_MAX_ENDPOINTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tw_epochs);
} tw_epochs SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tw_config);
} tw_config SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tw_ipcache_top);
} tw_ipcache_top SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tw_ipcache_page);
} tw_ipcache_pages SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct tw_ipcache6_key);
	__type(value, __u32);
} tw_ipcache6 SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct tw_ipcache6_key);
	__type(value, __u32);
} tw_nomasq SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tw_policy);
} tw_policy SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tw_class);
} tw_classes SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC); /* read by the slow path only; memory as used */
	__type(key, struct tw_peer_key);
	__type(value, union tw_peer);
} tw_peers SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TW_MAX_UPLINKS);
	__type(key, __u32);
	__type(value, struct tw_uplink);
} tw_uplinks SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct tw_frag_key);
	__type(value, struct tw_frag);
} tw_frags SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TW_REASON_COUNT *TW_HOOK_COUNT);
	__type(key, __u32);
	__type(value, struct tw_metric);
} tw_metrics SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TW_COUNTER_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} tw_counters SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 512 * 1024);
} tw_events SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, TW_JUMP_COUNT);
	__type(key, __u32);
	__type(value, __u32);
} tw_jumps SEC(".maps") __weak;

#define HEADERS_MAX 512 /* bytes of a frame that its headers may take; a power of two */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} tw_scratch SEC(".maps") __weak;

static __always_inline struct scratch *scratch_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&tw_scratch, &zero);
}

static __always_inline void counter_add(__u32 counter, __u64 n)
{
	__u64 *v = bpf_map_lookup_elem(&tw_counters, &counter);

	if (v)
		*v += n;
}

static __always_inline __u32 jiffies_now(void)
{
	return (__u32)bpf_jiffies64();
}

#endif
