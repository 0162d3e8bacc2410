// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Maps of many kinds, for test_map.py: loaded by bpftool, as any user's program would be. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

enum state { STATE_NEW, STATE_OPEN, STATE_CLOSED = 7 };
enum signed_one { BELOW = -2, ABOVE = 2 };
enum wide : unsigned long { WIDE_ONE = 1, WIDE_TOP = 1ul << 40 };

struct flow {
	__be32 saddr;
	__be32 daddr;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 pad[3];
};

struct count {
	__u64 packets;
	__u64 bytes;
};

struct seen {
	__u64 packets;
	__u64 bytes;
	enum state state;
	__u32 last;
};

struct prefix4 {
	__u32 prefixlen;
	__be32 addr;
};

struct prefix6 {
	__u32 prefixlen;
	__u8 addr[16];
};

struct odd {
	char name[16];
	__u8 mac[6];
	bool on;
	signed char below;
	__u32 low : 3;
	__u32 high : 29;
	int negative : 5;
	enum signed_one signed_one;
	enum wide wide;
	union {
		__be32 v4;
		struct in6_addr v6;
	};
	union {
		__u64 all;
		struct {
			__u32 first;
			__u32 second;
		};
	} halves;
	struct {
		__be16 port;
		__u16 weight;
	} ends[2];
	__u64 top;
	__int128 huge;
	void *pointer;
	__be32 seq;
};

#define MAP(TYPE, NAME, KEY, VALUE, MAX, FLAGS)                                                    \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_##TYPE);                                                 \
		__uint(max_entries, MAX);                                                          \
		__uint(map_flags, FLAGS);                                                          \
		__type(key, KEY);                                                                  \
		__type(value, VALUE);                                                              \
	} NAME SEC(".maps")

MAP(HASH, mt_flows, struct flow, struct seen, 64, 0);
MAP(HASH, mt_odd, __u32, struct odd, 4, 0);
MAP(PERCPU_ARRAY, mt_cpu_array, __u32, struct count, 4, 0);
MAP(PERCPU_HASH, mt_cpu_hash, __be32, struct count, 16, 0);
MAP(LRU_HASH, mt_lru, struct in6_addr, __u32, 16, 0);
MAP(LPM_TRIE, mt_lpm4, struct prefix4, __u32, 16, BPF_F_NO_PREALLOC);
MAP(LPM_TRIE, mt_lpm6, struct prefix6, enum state, 16, BPF_F_NO_PREALLOC);
MAP(ARRAY, mt_array, __u32, __u64, 1000, 0);
MAP(ARRAY, mt_a_name_longer_than_the_kernel_keeps, __u32, __u64, 2, 0);
MAP(HASH, mt_large, __u32, __u64, 200000, BPF_F_NO_PREALLOC);
MAP(SOCKHASH, mt_socks, struct flow, __u64, 4, 0);

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 4);
	__type(value, __u32);
} mt_queue SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} mt_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
} mt_perf SEC(".maps");

struct event {
	__be32 saddr;
	__be16 port;
	enum state state;
};

const struct event *event_type __attribute__((unused));

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} mt_inner SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __be32);
	__array(values, struct inner);
} mt_outer SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u32);
} mt_jumps SEC(".maps");

const volatile __u32 fixed = 42;
volatile __u32 enabled = 1;
volatile enum state phase = STATE_OPEN;
volatile __u64 runs;
volatile char label[8] = "first";
volatile __be16 port;

SEC("tc")
int mt_next(struct __sk_buff *skb)
{
	return 0;
}

SEC("tc")
int mt_count(struct __sk_buff *skb)
{
	__u32 zero = 0;
	__be32 addr = skb->len;
	struct count *c = bpf_map_lookup_elem(&mt_cpu_array, &zero), first = { 1, skb->len };
	struct flow flow = {};

	__sync_fetch_and_add(&runs, 1);
	if (c) {
		c->packets++;
		c->bytes += skb->len;
	}
	c = bpf_map_lookup_elem(&mt_cpu_hash, &addr);
	if (c)
		c->packets++;
	else
		bpf_map_update_elem(&mt_cpu_hash, &addr, &first, BPF_ANY);
	/* Named so that they are loaded. */
	bpf_map_lookup_elem(&mt_flows, &flow);
	bpf_map_lookup_elem(&mt_odd, &zero);
	bpf_map_lookup_elem(&mt_array, &zero);
	bpf_map_lookup_elem(&mt_a_name_longer_than_the_kernel_keeps, &zero);
	bpf_map_lookup_elem(&mt_large, &zero);
	bpf_map_lookup_elem(&mt_outer, &zero);
	bpf_map_peek_elem(&mt_queue, &zero);
	void *record = bpf_ringbuf_reserve(&mt_ring, 8, 0);
	if (record)
		bpf_ringbuf_discard(record, 0);
	void *sock = bpf_map_lookup_elem(&mt_socks, &flow);
	if (sock)
		bpf_sk_release(sock);
	if (!enabled && phase == STATE_CLOSED && label[0] && port)
		bpf_tail_call(skb, &mt_jumps, fixed);
	return 0;
}

SEC("tc")
int mt_events(struct __sk_buff *skb)
{
	struct event event = { 0x0100000a, 0x5000, STATE_OPEN };

	bpf_ringbuf_output(&mt_ring, &event, sizeof(event), 0);
	bpf_ringbuf_output(&mt_ring, &event, 4, BPF_RB_NO_WAKEUP);
	bpf_perf_event_output(skb, &mt_perf, BPF_F_CURRENT_CPU, &event, sizeof(event));
	return 0;
}

SEC("tc")
int mt_prefixes(struct __sk_buff *skb)
{
	struct prefix4 four = { 32, 0 };
	struct prefix6 six = { 128, {} };
	struct in6_addr addr = {};

	bpf_map_lookup_elem(&mt_lpm4, &four);
	bpf_map_lookup_elem(&mt_lpm6, &six);
	bpf_map_lookup_elem(&mt_lru, &addr);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
