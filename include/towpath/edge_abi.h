/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the edge (bpf/edge.bpf.c, XDP) and the user side share, as abi.h does for the container
 * data path. Rules of abi.h hold here, too: no layout twice, byte order in the type, any change of
 * a layout raises TW_EDGE_ABI_VERSION. Maps are named tw_edge_*, one object has them all.
 */
#ifndef TOWPATH_EDGE_ABI_H
#define TOWPATH_EDGE_ABI_H

#include <towpath/abi.h>
#include <towpath/edge_limit_abi.h>

#define TW_EDGE_ABI_VERSION 1

/* Interface numbers below this can have a user's program behind the edge (edge_devices.bpf.c). */
#define TW_EDGE_DEVICES 16384u

/* ---- verdicts ---------------------------------------------------------------------------- */

/*
 * What becomes of a frame, when no rule of the user's says it. X(symbol, name, drops, sentence):
 * the name is what people see, and is stable; `drops` is 1 where the frame ends here. Add at the
 * end only.
 */
#define TW_EDGE_REASONS(X)                                                                         \
	X(PASS, "pass", 0, "given to the stack")                                                   \
	X(NOT_IP, "not_ip", 0, "neither IPv4 nor IPv6, given to the stack")                        \
	X(TRUNCATED, "truncated", 1, "shorter than its own headers say")                           \
	X(MALFORMED, "malformed", 1, "headers contradict each other")                              \
	X(EXT_HEADERS, "extension_headers", 1, "more IPv6 extension headers than are followed")    \
	X(VLAN_DEPTH, "vlan_depth", 1, "more VLAN tags than are followed")                         \
	X(INTERNAL, "internal", 1, "a map look-up that cannot fail did (agent bug)")               \
	X(BALANCED, "balanced", 0, "sent to a backend")                                            \
	X(NO_BACKEND, "no_backend", 1, "its service has no backend")                               \
	X(NO_NEIGHBOUR, "no_neighbour", 1, "the MAC address on the way to its backend is unknown") \
	X(TOO_BIG, "too_big", 1, "too long for the way to its backend; answered by ICMP")          \
	X(TTL, "ttl", 1, "its time to live ended here; answered by ICMP")                          \
	X(NO_HEADROOM, "no_headroom", 1, "the driver left no room for an outer header")            \
	X(FRAG_NO_FIRST, "frag_no_first", 1, "a fragment whose first one did not come before it")  \
	X(NAT_NO_FLOW, "nat_no_flow", 1, "belongs to no connection that is translated")            \
	X(NAT_NO_PORT, "nat_no_port", 1, "no free port to translate its source to")                \
	X(NAT_FULL, "nat_full", 1, "no room for another translated connection")                    \
	X(NAT_RATE, "nat_rate", 1, "more new translated connections a second than allowed")        \
	X(DECAPSULATED, "decapsulated", 0, "taken out of a balancer's packet, given to the stack") \
	X(SYN_COOKIE, "syn_cookie", 0, "a SYN answered with a cookie")                             \
	X(BAD_COOKIE, "bad_cookie", 1, "of no connection and without valid cookie, in a flood")    \
	X(ODD_SYN, "odd_syn", 1,                                                                   \
	  "a SYN in fragments or behind IPv6 extension headers, in a flood")                       \
	X(BAD_FLAGS, "bad_tcp_flags", 1, "TCP flags that no TCP sends together")                   \
	X(FRAGMENT, "fragment", 1, "a fragment, where fragments are not taken")                    \
	X(OPTIONS, "ip_options", 1, "IPv4 options or IPv6 extension headers, where not taken")     \
	X(BAD_LENGTH, "bad_length", 1, "a transport header whose length is not the packet's")

#define TW_EDGE_REASON_ENUM(sym, name, drops, text) TW_EDGE_##sym,
enum tw_edge_reason { TW_EDGE_REASONS(TW_EDGE_REASON_ENUM) TW_EDGE_REASON_COUNT };
#undef TW_EDGE_REASON_ENUM

/*
 * tw_edge_count[], per CPU: struct tw_metric (abi.h), first by enum tw_edge_reason, from
 * TW_EDGE_FIRST_RULE on by the number of the rule or list that decided.
 */
#define TW_EDGE_FIRST_LIMIT 40u /* what a limit (TW_EDGE_LIMITS) dropped, by its slot */
#define TW_EDGE_FIRST_RULE 64u
#define TW_EDGE_COUNTERS 4096u

/*
 * tw_edge_sources: who sends, by source address: one frame in TW_EDGE_SAMPLE of each counter and CPU
 * is looked at, the others cost nothing. The longest unseen make room.
 */
#define TW_EDGE_SAMPLE 1024u
#define TW_EDGE_SOURCES 4096u
struct tw_edge_source {
	__u64 samples[2]; /* passed on, dropped */
	__u32 counter;	  /* what the last of them was counted as */
	__u32 pad;
};

/* ---- what the filter says of an address --------------------------------------------------- */

/*
 * A class: 16 bits, what the filter says of a source address. For DENY and ALLOW the low bits are
 * the counter of the rule that says so; for PORTS an index into tw_edge_classes. 0: no rule.
 */
#define TW_EDGE_CLASS_KIND 0xc000u
#define TW_EDGE_CLASS_DENY 0x4000u
#define TW_EDGE_CLASS_ALLOW 0x8000u
#define TW_EDGE_CLASS_PORTS 0xc000u
#define TW_EDGE_CLASS_NUMBER 0x3fffu

/*
 * The address table: a word of a root by the first 16 bits of the address, then nodes by 8 bits
 * each. A node has a bitmap of the bytes that it has words for, and those words packed: where a
 * byte's word stands is counted in the bitmap (as in Poptrie, Asai and Ohara, SIGCOMM 2015). All
 * of it stands in lines of 64 bytes, a node in as many as it needs, one behind the other. A word:
 * two bits of kind and a payload of 30.
 *
 * A node or leaf is filled before a word links it, and never changes; a word of a root changes by
 * one store. So a reader sees the table before or after a change, for any one address.
 */
#define TW_EDGE_WORD_KIND 0xc0000000u
#define TW_EDGE_WORD_CLASS 0x00000000u	/* payload: a class */
#define TW_EDGE_WORD_SINGLE 0x40000000u /* see below */
#define TW_EDGE_WORD_NODE 0x80000000u	/* payload: the node's first line */
#define TW_EDGE_WORD_BITS 0xc0000000u	/* payload: the line of a leaf; IPv4, last 8 bits */
#define TW_EDGE_WORD_PAYLOAD 0x3fffffffu

/*
 * SINGLE: one prefix is all there is below. IPv4, last 8 bits: the class in bits 0 to 15, the
 * prefix's last byte in 16 to 23, how many of its bits do not count in 24 to 26; where it does not
 * match, the node's default holds. IPv6: the payload is the line of a leaf with the whole prefix.
 */
#define TW_EDGE_SINGLE_BYTE 16
#define TW_EDGE_SINGLE_SHIFT 24

#define TW_EDGE_LINE_WORDS 16u
#define TW_EDGE_NODE_COUNTS 16u	 /* half[]: bits set in the quads before this one, for each */
#define TW_EDGE_NODE_DEFAULT 10u /* word[]: the class of bytes that have no word */
#define TW_EDGE_NODE_WORDS 11u	 /* word[]: the first of the packed words */
#define TW_EDGE_NODE_LINES 17u	 /* at most */
#define TW_EDGE_LEAF_IN 8u  /* word[]: the class of addresses whose bit is set, or that match */
#define TW_EDGE_LEAF_OUT 9u /* word[]: ... of the others */

struct tw_edge_line {
	union {
		__u64 quad
			[8]; /* node, BITS leaf: [0..3] bitmap; IPv6 leaf: [0..1] prefix, [2..3] mask */
		__u32 word[16];
		__u16 half[32];
	};
};

/*
 * tw_edge_roots[generation * 2 + family]: 0 is IPv4, 1 is IPv6. The generation is the one element
 * of tw_edge_table: 0 or 1, and one store of it replaces the whole table. Lines of generation 0
 * are the lower half of tw_edge_lines, those of 1 the upper one.
 */
struct tw_edge_root {
	__u32 word[65536];
};

/*
 * Rules on protocol and port whatever the source: tw_edge_ports, one mmapable element. Classes of
 * kind DENY or ALLOW. Port numbers in host order.
 */
enum tw_edge_port_proto { TW_EDGE_TCP, TW_EDGE_UDP, TW_EDGE_SCTP, TW_EDGE_PORT_PROTOS };
struct tw_edge_ports {
	__u16 port[TW_EDGE_PORT_PROTOS][65536];
	__u16 proto[256];
};

/*
 * tw_edge_classes: prefixes with rules on ports. Of (protocol << 16 | port in host order), the last
 * interval whose start is not above it decides; protocols without ports use port 0. A class that
 * says nothing there leaves it to `rest`. Immutable once a word of the table names it.
 */
#define TW_EDGE_CLASSES 1024u
#define TW_EDGE_INTERVALS 16384u
#define TW_EDGE_INTERVAL_STEPS 13u /* of the search: 4096 intervals of a class */
struct tw_edge_class {
	__u32 first; /* in tw_edge_intervals */
	__u32 count; /* at least 1, the first starts at 0 */
	__u32 rest;  /* class DENY or 0 */
	__u32 pad;
};

struct tw_edge_interval {
	__u32 start;
	__u32 class; /* DENY, ALLOW or 0 */
};

/* ---- settings and live switches ----------------------------------------------------------- */

/*
 * Load-time settings: `const volatile struct tw_edge_settings` in .rodata, so the verifier prunes
 * the stages that are off. 0 everywhere: frames are parsed as far as IP, counted and passed.
 */
struct tw_edge_settings {
	__u32 hz;     /* jiffies a second of this kernel */
	__u32 drop;   /* enum tw_edge_drop: what is dropped for its form alone */
	__u8 jumbo;   /* a frame may have fragments (xdp.frags): its length is asked for */
	__u8 parse;   /* headers are parsed to the end, and dropped when they are malformed */
	__u8 filter;  /* the address table has entries */
	__u8 ports;   /* some rule has a protocol or port */
	__u8 balance; /* there are frontends */
	__u8 decap;   /* there are balancers that this node takes packets from */
	__u8 nat;     /* some frontend's backends are reached by translation */
	__u8 limits;  /* there are limits or SYN cookies; needs parse */
};

/* Each needs `parse`. */
enum tw_edge_drop {
	TW_EDGE_DROP_BAD_FLAGS = 1 << 0,
	TW_EDGE_DROP_FRAGMENTS = 1 << 1,
	TW_EDGE_DROP_OPTIONS = 1 << 2,
	TW_EDGE_DROP_BAD_LENGTH = 1 << 3,
};

/* tw_edge_config: one mmapable element. The agent writes, programs read. */
struct tw_edge_config {
	__u32 abi_version;
	__u32 pad[15]; /* a cache line */
};

_Static_assert(sizeof(struct tw_edge_line) == 64, "edge line");
_Static_assert(sizeof(struct tw_edge_config) == 64, "edge config");
_Static_assert((int)TW_EDGE_REASON_COUNT <= (int)TW_EDGE_FIRST_LIMIT, "edge reasons");
_Static_assert(TW_EDGE_FIRST_LIMIT + TW_EDGE_LIMITS <= TW_EDGE_FIRST_RULE, "edge limits");

#endif
