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
	X(ODD_SYN, "odd_syn", 1, "a SYN in fragments or behind IPv6 extension headers, in a flood")

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

/* ---- settings and live switches ----------------------------------------------------------- */

/*
 * Load-time settings: `const volatile struct tw_edge_settings` in .rodata, so the verifier prunes
 * the stages that are off. 0 everywhere: frames are parsed as far as IP, counted and passed.
 */
struct tw_edge_settings {
	__u32 hz;     /* jiffies a second of this kernel */
	__u8 jumbo;   /* a frame may have fragments (xdp.frags): its length is asked for */
	__u8 parse;   /* a stage behind the source filter needs ports: parse the whole header */
	__u8 balance; /* there are frontends */
	__u8 decap;   /* there are balancers that this node takes packets from */
	__u8 nat;     /* some frontend's backends are reached by translation */
	__u8 limits;  /* there are limits or SYN cookies; needs parse */
	__u8 pad[2];  /* zero */
};

/* tw_edge_config: one mmapable element. The agent writes, programs read. */
struct tw_edge_config {
	__u32 abi_version;
	__u32 pad[15]; /* a cache line */
};

_Static_assert(sizeof(struct tw_edge_config) == 64, "edge config");
_Static_assert((int)TW_EDGE_REASON_COUNT <= (int)TW_EDGE_FIRST_LIMIT, "edge reasons");
_Static_assert(TW_EDGE_FIRST_LIMIT + TW_EDGE_LIMITS <= TW_EDGE_FIRST_RULE, "edge limits");

#endif
