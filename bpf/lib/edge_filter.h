/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The filter: what its source address says of a frame (the table of edge_abi.h), then rules on
 * protocol and port. Allow wins over deny. All maps are arrays that the agent writes by plain
 * stores, so every look-up here is inlined by the JIT.
 */
#ifndef TW_EDGE_FILTER_H
#define TW_EDGE_FILTER_H

#include "edge_count.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tw_edge_root);
} tw_edge_roots SEC(".maps");

/* The generation. These three are made anew together when the table grows. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u32);
} tw_edge_table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tw_edge_line);
} tw_edge_lines SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tw_edge_ports);
} tw_edge_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TW_EDGE_CLASSES);
	__type(key, __u32);
	__type(value, struct tw_edge_class);
} tw_edge_classes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TW_EDGE_INTERVALS);
	__type(key, __u32);
	__type(value, struct tw_edge_interval);
} tw_edge_intervals SEC(".maps");

/* BPF has no instruction for it. */
static __always_inline __u32 bits_count(__u64 x)
{
	x -= x >> 1 & 0x5555555555555555ull;
	x = (x & 0x3333333333333333ull) + (x >> 2 & 0x3333333333333333ull);
	x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0full;
	return (__u32)(x * 0x0101010101010101ull >> 56);
}

static __always_inline struct tw_edge_line *edge_line(__u32 word)
{
	__u32 index = word & TW_EDGE_WORD_PAYLOAD;

	return bpf_map_lookup_elem(&tw_edge_lines, &index);
}

/* The word for the next byte of the address; rest becomes the node's default. */
static __always_inline __u32 edge_node_word(__u32 word, __u8 byte, __u32 *rest)
{
	struct tw_edge_line *line = edge_line(word);
	__u32 quad = byte >> 6, at;
	__u64 bits, bit = 1ull << (byte & 63);

	if (unlikely(!line))
		return 0;
	*rest = line->word[TW_EDGE_NODE_DEFAULT];
	bits = line->quad[quad];
	if (!(bits & bit))
		return *rest;
	at = TW_EDGE_NODE_WORDS + line->half[TW_EDGE_NODE_COUNTS + quad] +
	     bits_count(bits & (bit - 1));
	line = edge_line(word + at / TW_EDGE_LINE_WORDS);
	return likely(line) ? line->word[at % TW_EDGE_LINE_WORDS] : 0;
}

static __always_inline struct tw_edge_root *edge_root(__u32 family)
{
	__u32 index = 0, *generation;

	generation = bpf_map_lookup_elem(&tw_edge_table, &index);
	if (unlikely(!generation))
		return NULL;
	index = *generation * 2 + family;
	return bpf_map_lookup_elem(&tw_edge_roots, &index);
}

static __always_inline __u32 edge_class4(__u32 addr) /* host order */
{
	struct tw_edge_root *root = edge_root(0);
	struct tw_edge_line *leaf;
	__u32 word, rest = 0;

	if (unlikely(!root))
		return 0;
	word = root->word[addr >> 16];
	if ((word & TW_EDGE_WORD_KIND) == TW_EDGE_WORD_NODE)
		word = edge_node_word(word, (__u8)(addr >> 8), &rest);
	switch (word & TW_EDGE_WORD_KIND) {
	case TW_EDGE_WORD_CLASS:
		return word;
	case TW_EDGE_WORD_SINGLE:
		if (((addr ^ word >> TW_EDGE_SINGLE_BYTE) & 0xff) >>
		    (word >> TW_EDGE_SINGLE_SHIFT & 7))
			return rest;
		return word & 0xffff;
	case TW_EDGE_WORD_NODE:
		return edge_node_word(word, (__u8)addr, &rest);
	default:
		leaf = edge_line(word);
		if (unlikely(!leaf))
			return 0;
		return leaf->quad[addr >> 6 & 3] >> (addr & 63) & 1 ? leaf->word[TW_EDGE_LEAF_IN]
								    : leaf->word[TW_EDGE_LEAF_OUT];
	}
}

/* A subprogram, because the stack of the one that calls it is full: with the balancer's, 512 bytes. */
static __noinline __u32 edge_class6(const union tw_addr *addr)
{
	struct tw_edge_root *root = edge_root(1);
	__u64 rest_of_addr = bpf_be64_to_cpu(addr->quad[0]);
	struct tw_edge_line *leaf;
	__u32 word, rest = 0;

	if (unlikely(!root))
		return 0;
	word = root->word[rest_of_addr >> 48];
	rest_of_addr <<= 16;
	for (int i = 2; i < 16; i++) {
		if ((word & TW_EDGE_WORD_KIND) != TW_EDGE_WORD_NODE)
			break;
		if (i == 8)
			rest_of_addr = bpf_be64_to_cpu(addr->quad[1]);
		word = edge_node_word(word, (__u8)(rest_of_addr >> 56), &rest);
		rest_of_addr <<= 8;
	}
	if (likely((word & TW_EDGE_WORD_KIND) != TW_EDGE_WORD_SINGLE))
		return word & 0xffff;
	leaf = edge_line(word);
	if (unlikely(!leaf))
		return 0;
	return ((addr->quad[0] ^ leaf->quad[0]) & leaf->quad[2]) |
			       ((addr->quad[1] ^ leaf->quad[1]) & leaf->quad[3])
		       ? leaf->word[TW_EDGE_LEAF_OUT]
		       : leaf->word[TW_EDGE_LEAF_IN];
}

static __always_inline __u32 edge_class(const struct edge_packet *p)
{
	if (!tw_edge_settings.filter)
		return 0;
	if (likely(p->tuple.family == 4))
		return edge_class4(bpf_ntohl(p->tuple.saddr.word[3]));
	return edge_class6(&p->tuple.saddr);
}

/* Rules on ports whatever the source: a class, 0: none. */
static __always_inline __u32 edge_ports_class(const struct edge_packet *p)
{
	struct tw_edge_ports *ports;
	__u32 zero = 0, class = 0;
	__u32 dport = port_index(p->tuple.dport);

	ports = bpf_map_lookup_elem(&tw_edge_ports, &zero);
	if (unlikely(!ports))
		return 0;
	if (!(p->flags & EDGE_FRAG_LATER)) {
		if (p->tuple.proto == PROTO_TCP)
			class = ports->port[TW_EDGE_TCP][dport];
		else if (p->tuple.proto == PROTO_UDP)
			class = ports->port[TW_EDGE_UDP][dport];
		else if (p->tuple.proto == PROTO_SCTP)
			class = ports->port[TW_EDGE_SCTP][dport];
	}
	return class ?: ports->proto[p->tuple.proto];
}

/* What a prefix's rules on ports say: the same search as in policy.h. */
static __always_inline __u32 edge_interval_class(const struct edge_packet *p, __u32 number)
{
	struct tw_edge_class *class = bpf_map_lookup_elem(&tw_edge_classes, &number);
	__u32 key = (__u32)p->tuple.proto << 16, at, n;
	struct tw_edge_interval *v;

	if (unlikely(!class))
		return 0;
	if (!(p->flags & (EDGE_NO_PORTS | EDGE_FRAG_LATER)) && p->tuple.proto != PROTO_ICMP &&
	    p->tuple.proto != PROTO_ICMP6)
		key |= bpf_ntohs(p->tuple.dport);
	at = class->first;
	n = class->count;
	for (__u32 i = 0; i < TW_EDGE_INTERVAL_STEPS && n > 1; i++) {
		__u32 step = n >> 1, mid = at + step;

		v = bpf_map_lookup_elem(&tw_edge_intervals, &mid);
		if (unlikely(!v))
			return 0;
		if (v->start <= key) {
			at = mid;
			n -= step;
		} else {
			n = step;
		}
	}
	v = bpf_map_lookup_elem(&tw_edge_intervals, &at);
	return v && v->class ? v->class : class->rest;
}

static __always_inline bool edge_is(__u32 class, __u32 kind)
{
	return (class & TW_EDGE_CLASS_KIND) == kind;
}

/* Before anything but the addresses is parsed. */
static __always_inline int edge_filter_source(struct edge_packet *p)
{
	p->class = (__u16)edge_class(p);
	/* With rules on ports one of them may allow it. */
	if (!tw_edge_settings.ports && edge_is(p->class, TW_EDGE_CLASS_DENY))
		return edge_drop(p, p->class & TW_EDGE_CLASS_NUMBER);
	return EDGE_NEXT;
}

/* As edge_class6(). */
static __noinline int edge_filter_ports(struct edge_packet *p)
{
	__u32 any = edge_ports_class(p);

	if (edge_is(p->class, TW_EDGE_CLASS_PORTS))
		p->class = (__u16)edge_interval_class(p, p->class & TW_EDGE_CLASS_NUMBER);
	if (!edge_allowed(p) && (!p->class || edge_is(any, TW_EDGE_CLASS_ALLOW)))
		p->class = (__u16)any;
	if (edge_is(p->class, TW_EDGE_CLASS_DENY))
		return edge_drop(p, p->class & TW_EDGE_CLASS_NUMBER);
	return EDGE_NEXT;
}

/* Flags that RFC 9293 has no segment for: none, SYN with FIN or RST, FIN with RST or without ACK. */
static __always_inline bool tcp_flags_bad(__u8 tcp)
{
	__u8 opening = tcp & (TCP_SYN | TCP_FIN | TCP_RST);

	return !(tcp & (TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK)) || (opening & (opening - 1)) ||
	       ((tcp & TCP_FIN) && !(tcp & TCP_ACK));
}

/* Rules on form, each switched on by its own setting. */
static __always_inline __u32 edge_form_reason(const struct edge_packet *p)
{
	if (tw_edge_settings.drop & TW_EDGE_DROP_FRAGMENTS &&
	    p->flags & (EDGE_FRAG_FIRST | EDGE_FRAG_LATER))
		return TW_EDGE_FRAGMENT;
	if (tw_edge_settings.drop & TW_EDGE_DROP_OPTIONS && p->flags & EDGE_OPTIONS)
		return TW_EDGE_OPTIONS;
	if (tw_edge_settings.drop & TW_EDGE_DROP_BAD_FLAGS && p->tuple.proto == PROTO_TCP &&
	    !(p->flags & EDGE_FRAG_LATER) && tcp_flags_bad(p->tcp))
		return TW_EDGE_BAD_FLAGS;
	if (tw_edge_settings.drop & TW_EDGE_DROP_BAD_LENGTH && p->flags & EDGE_BAD_LENGTH)
		return TW_EDGE_BAD_LENGTH;
	return 0;
}

/* Behind edge_packet_rest(). */
static __always_inline int edge_filter_rest(struct edge_packet *p)
{
	if (edge_allowed(p))
		return EDGE_NEXT;
	if (tw_edge_settings.ports) {
		int verdict = edge_filter_ports(p);

		if (verdict != EDGE_NEXT || edge_allowed(p))
			return verdict;
	}
	if (tw_edge_settings.drop) {
		__u32 reason = edge_form_reason(p);

		if (reason)
			return edge_drop(p, reason);
	}
	return EDGE_NEXT;
}

#endif
