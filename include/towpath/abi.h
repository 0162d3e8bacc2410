/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the programs in bpf/ and the user side share: keys, values, events, enums.
 * Each layout lives here and nowhere else. Included by both sides, so it uses no
 * header but the kernel's types; byte order lives in the type (__be16, __be32).
 * A change of any layout below must raise TW_ABI_VERSION. Flows, budgets and counts are carried
 * over to the new layout by the names of their fields (lib/migrate.c): a new field must mean
 * with 0 what was so before, and a field whose meaning changes needs another name.
 */
#ifndef TOWPATH_ABI_H
#define TOWPATH_ABI_H

#ifndef __bpf__
#include <assert.h>
#include <linux/types.h>
#include <stddef.h>
#endif

#define TW_ABI_VERSION 2

/* ---- limits ------------------------------------------------------------------------------ */

#define TW_MAX_ENDPOINTS 16384u /* slots 1 .. TW_MAX_ENDPOINTS - 1; slot 0 is "no endpoint" */
#define TW_CLASS_STEPS 18	/* bound of the search in tw_classes: 2^17 classes a direction */
#define TW_MAX_UPLINKS 16u

/* ---- identities (design 3.3) -------------------------------------------------------------- */

enum tw_identity {
	TW_ID_UNKNOWN = 0,
	TW_ID_HOST = 1,	       /* the node itself */
	TW_ID_WORLD = 2,       /* an address that no rule in force names */
	TW_ID_REMOTE_NODE = 3, /* another node of the cluster */
	TW_ID_UNASSIGNED = 4,  /* in a pod subnet of this node, but no endpoint has it */
	TW_ID_FIRST = 256,     /* first identity that the policy compiler hands out */
	TW_ID_MAX = 0x3fffffff,
};

/*
 * A word of the ipcache. Two kind bits and 30 bits of payload. A zero word is "nothing
 * here", which the look-up answers with TW_ID_WORLD.
 */
#define TW_WORD_KIND 0xc0000000u
#define TW_WORD_IDENTITY 0x00000000u /* payload: identity */
#define TW_WORD_ENDPOINT 0x40000000u /* payload: slot in tw_endpoints, which holds the identity */
#define TW_WORD_PAGE 0x80000000u     /* payload: index into tw_ipcache_pages (IPv4 table only) */
#define TW_WORD_PAYLOAD 0x3fffffffu

/* ---- verdicts, reasons, kinds -------------------------------------------------------------- */

enum tw_verdict {
	TW_VERDICT_ALLOW = 0,
	TW_VERDICT_DENY = 1,
	TW_VERDICT_REJECT = 2,
	TW_VERDICT_REDIRECT = 3,
};

/*
 * Why a packet was dropped, or TW_REASON_OK. X(symbol, name, sentence): the name is what
 * people see and filter by, and is stable; add at the end only.
 */
#define TW_REASONS(X)                                                                              \
	X(OK, "ok", "forwarded")                                                                   \
	X(POLICY_EGRESS, "policy_egress", "the sender's egress policy has no rule that allows it") \
	X(POLICY_INGRESS, "policy_ingress",                                                        \
	  "the receiver's ingress policy has no rule that allows it")                              \
	X(REVOKED, "revoked", "a policy change forbade a connection that was open")                \
	X(NO_FLOW, "no_flow", "no connection is open that this packet could belong to")            \
	X(SPOOFED, "spoofed_source", "the source address does not belong to where it came from")   \
	X(WRONG_INGRESS, "wrong_ingress", "the connection was opened through another interface")   \
	X(NO_ENDPOINT, "no_endpoint", "no container has this address of the node's pod subnet")    \
	X(ENDPOINT_GONE, "endpoint_gone", "the container of this connection was removed")          \
	X(MAP_FULL, "flow_table_full", "the flow table is full")                                   \
	X(RATE, "new_flow_rate", "too many new connections a second")                              \
	X(CAP, "flow_cap", "the endpoint holds as many connections as it may")                     \
	X(NO_PORT, "no_snat_port", "no port is free to translate the source to")                   \
	X(NAT_NO_FLOW, "nat_no_flow", "sent to a translation port that no connection uses")        \
	X(NO_ROUTE, "no_route", "the node has no route to this address")                           \
	X(NO_UPLINK, "no_uplink", "the route does not leave through an uplink")                    \
	X(NO_MASQ, "no_masquerade_address", "the uplink has no address to translate to")           \
	X(TTL, "ttl_expired", "the time to live ran out")                                          \
	X(TOO_BIG, "too_big", "larger than the MTU of the way out")                                \
	X(TRUNCATED, "truncated", "shorter than its own headers say")                              \
	X(MALFORMED, "malformed", "headers contradict each other")                                 \
	X(EXT_HEADERS, "extension_headers", "more IPv6 extension headers than are followed")       \
	X(FRAG_NO_FIRST, "fragment_without_first", "a later fragment whose first is not known")    \
	X(VLAN, "vlan", "a container sent a VLAN-tagged frame")                                    \
	X(NOT_IP, "not_ip", "a container sent a frame that is neither IPv4 nor IPv6")              \
	X(MULTICAST, "multicast", "multicast and broadcast are not carried")                       \
	X(UNKNOWN_PROTO, "unknown_protocol", "a protocol without ports that is not carried")       \
	X(ICMP_UNRELATED, "icmp_unrelated", "an ICMP error about a connection that is not open")   \
	X(ICMP_TYPE, "icmp_type", "an ICMP type that is not carried")                              \
	X(NO_PROGRAM, "no_program", "a program of the data path is missing (agent bug)")           \
	X(INTERNAL, "internal", "a map look-up that cannot fail did (agent bug)")

#define TW_REASON_ENUM(sym, name, text) TW_REASON_##sym,
enum tw_reason { TW_REASONS(TW_REASON_ENUM) TW_REASON_COUNT };
#undef TW_REASON_ENUM

/* What a flow half tells the fast path to do. NONE sends the packet to the slow path. */
enum tw_kind {
	TW_KIND_NONE = 0,  /* marked idle, or being rewritten: not an answer */
	TW_KIND_LOCAL = 1, /* to a container of this node: bpf_redirect_peer */
	TW_KIND_OUT = 2,   /* to the outside: bpf_redirect_neigh */
	TW_KIND_STACK = 3, /* to the host's stack */
	TW_KIND_PASS = 4,  /* from the host's stack to the container: go on */
	TW_KIND_DENY = 5,  /* tombstone of a revoked flow (I1) */
	/* Where a port has queues of its own. Kinds that translate the source are even. */
	TW_KIND_UP =
		6, /* as OUT or LOCAL, but by the host's stack, behind the port's ingress qdisc */
	TW_KIND_QUEUE = 7, /* as LOCAL, but by the port's own qdisc: bpf_redirect */
};

enum tw_half_flags {
	TW_HALF_OPENER = 1 << 0,      /* this half's direction opened the flow */
	TW_HALF_REWRITE = 1 << 1,     /* addr/port replace source (OUT) or destination (else) */
	TW_HALF_TTL = 1 << 2,	      /* crosses the node's border: TTL is decremented */
	TW_HALF_NEXTHOP = 1 << 3,     /* OUT: a next hop is stored; see struct tw_flow */
	TW_HALF_NEXTHOP6 = 1 << 4,    /* ... and it is an IPv6 address */
	TW_HALF_TWIN = 1 << 5,	      /* the entry has a twin under the translated tuple */
	TW_HALF_REPLY_ENTRY = 1 << 6, /* of the two, this is the reply entry */
};

/* tw_half.idle of half[0]: who has the entry in hand. */
enum tw_idle {
	TW_IDLE_NO = 0,
	TW_IDLE_MARKED = 1,   /* by the collector; kind is NONE: packets take the slow path */
	TW_IDLE_DELETING = 2, /* nobody may touch it any more */
	TW_IDLE_WRITING = 3,  /* one CPU writes its decision; others leave theirs */
};

/* Hooks, as they appear in events and metrics. */
enum tw_hook {
	TW_HOOK_FROM_CONTAINER = 0, /* tc ingress of a port */
	TW_HOOK_TO_CONTAINER = 1,   /* tc egress of a port */
	TW_HOOK_FROM_UPLINK = 2,    /* tc ingress of an uplink */
	TW_HOOK_COUNT = 3,
	TW_HOOK_KERNEL = 3, /* no hook: the kernel itself dropped it; `reason` is the kernel's */
};

/* ---- addresses and tuples ------------------------------------------------------------------ */

/* 128 bits in network order; IPv4 as ::ffff:a.b.c.d (RFC 4291 2.5.5.2). */
union tw_addr {
	__u8 byte[16];
	__be32 word[4];
	__u64 quad[2];
};

/*
 * A packet's tuple in the packet's own direction. ICMP echo: both ports are the identifier.
 * Protocols without ports: both 0.
 */
struct tw_tuple {
	union tw_addr saddr;
	union tw_addr daddr;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 family; /* 4 or 6 */
	__u8 pad[2];
};

/* ---- flows ---------------------------------------------------------------------------------- */

/*
 * The tuple in canonical order: the end with the smaller (address, port), compared as
 * stored, comes first. So both directions share one entry, and half[0] belongs to the
 * direction whose source is end 0.
 */
struct tw_flow4_key {
	__be32 addr[2];
	__be16 port[2];
	__u8 proto;
	__u8 pad[3];
};

struct tw_flow6_key {
	union tw_addr addr[2];
	__be16 port[2];
	__u8 proto;
	__u8 pad[3];
};

/* Where a packet entered, as stored in tw_half.in. An ifindex has 24 bits here. */
#define TW_IN_HOST 0u		  /* made by the node itself */
#define TW_IN_STACK (1u << 30)	  /* | ifindex: came through the host's stack from there */
#define TW_IN_NOWHERE (~0u)	  /* no packet comes from there */
#define TW_IN_IFINDEX 0x00ffffffu /* tc ingress of this port or uplink */

/*
 * One direction of a flow: everything the fast path reads and writes, in one cache line.
 * Written by the slow path (decision) and by the fast path (seen, tcp, counters: plain
 * stores; two CPUs that carry one direction at once may lose a count, never a decision).
 */
struct tw_half {
	union {
		/*
		 * What was decided, and under which epochs: always written as one, so that no
		 * packet finds one writer's verdict under another's stamp.
		 */
		__u64 decided;
		struct {
			__u32 stamp; /* sum of the epochs of the node and of both slots (I4) */
			union {
				__u32 state; /* the collector and the slow path swap it whole */
				struct {
					__u8 kind;  /* enum tw_kind */
					__u8 flags; /* enum tw_half_flags */
					__u8 tcp;   /* TCP flags seen in this direction, ORed */
					__u8 idle;  /* enum tw_idle, of half[0] */
				};
			};
		};
	};
	__u32 in;	 /* TW_IN_*: the only ingress it answers for (I2) */
	__u32 out;	 /* ifindex to redirect to */
	__u32 seen;	 /* jiffies of the last packet, low 32 bits */
	__u16 slot_from; /* endpoint slots whose epochs are in the stamp, 0 = none */
	__u16 slot_to;
	__u16 mtu;   /* largest IP packet for the way out; 0 = not checked */
	__be16 port; /* REWRITE: translated port or echo identifier */
	__u32 packets;
	__u64 bytes;	  /* IP bytes, GSO packets as one */
	__u16 packets_hi; /* carries of packets */
	__u8 dmac[6];	  /* LOCAL: the container's MAC */
	/*
	 * REWRITE: the translated address. OUT without REWRITE: the next hop. An OUT entry
	 * with REWRITE keeps its next hop in the addr of its other half, which a translated
	 * entry does not use.
	 */
	union tw_addr addr;
};

struct tw_flow {
	struct tw_half half[2];
};

/* ---- endpoints -------------------------------------------------------------------------------- */

enum tw_endpoint_flags {
	TW_EP_LIVE = 1 << 0,
	TW_EP_QUEUE_TO = 1 << 1,   /* the port has a qdisc: what goes to the container takes it */
	TW_EP_QUEUE_FROM = 1 << 2, /* ... and an ingress qdisc: what the container sends takes it */
	TW_EP_NO_MASQ = 1 << 3,	   /* leaves the node with its own address */
};

/* tw_endpoints[slot]. The agent writes it; `version` and `identity` change by one store each. */
struct tw_endpoint {
	__u32 ifindex; /* of the port; 0: free slot */
	__u32 flags;   /* enum tw_endpoint_flags */
	__u32 identity;
	__u32 version; /* policy version: index into tw_policy; 0 allows everything */
	__be32 addr4;  /* 0: none */
	__u16 mtu;
	__u8 mac[6]; /* of the container's interface */
	__u32 rate;  /* new flows a second; 0: not limited */
	__u32 cap;   /* flows at most; 0: not limited. Slot 0: what uplinks and the stack opened */
	__u32 pad;
	union tw_addr addr6; /* all zero: none */
	__u32 identity6;     /* of addr6; 0: the same as `identity`, which is that of addr4 */
	__u32 reserved;
};

/* tw_budget[slot]: written by the slow path and the collector with atomic adds (I10). */
struct tw_budget {
	__u32 flows;  /* entries charged to this slot (slot 0: opened from an uplink or the host) */
	__u32 tokens; /* new flows that may still be opened */
	__u32 filled; /* jiffies of the last refill */
	__u32 pad;
};

/* ---- policy ------------------------------------------------------------------------------------- */

/*
 * tw_policy[version]. For a direction, (protocol << 16 | port in host order) is searched
 * among `count` sorted elements of tw_classes that begin at `first`; the last element whose
 * `start` is not above it decides. ICMP and protocols without ports use port 0. count 0 with
 * isolated 0: everything passes. Versions are immutable once an endpoint uses them (I5).
 */
enum tw_direction { TW_INGRESS = 0, TW_EGRESS = 1 };

struct tw_policy_dir {
	__u32 first;
	__u32 count;
	__u32 isolated;	  /* 0: no policy selects the endpoint for this direction */
	__u16 generation; /* of the version: the members of its sets are those of this generation */
	__u16 pad;
};

struct tw_policy {
	struct tw_policy_dir dir[2]; /* enum tw_direction */
};

#define TW_SET_NONE 0u	       /* nobody passes */
#define TW_SET_ANY 0xffffffffu /* everybody passes */

/* tw_classes: one interval of the (protocol, port) space. */
struct tw_class {
	__u32 start; /* protocol << 16 | first port, host order */
	__u32 set;   /* TW_SET_* or a set of identities: the peers that pass */
};

/*
 * tw_peers: the identity is in the set. A set may change: to versions of a generation from `since`
 * on and before `until`, round the corner, the identity is in it; where the two are equal, to all.
 * Read and written as one word. The kernel may give the element of a pair that was deleted or
 * replaced to another one at once, while it is being read: `tag` tells.
 */
struct tw_peer_key {
	__u32 set;
	__u32 identity;
};

union tw_peer {
	struct {
		__u16 since;
		__u16 until;
		__u32 tag; /* TW_PEER_TAG of the key */
	};
	__u64 word;
};

#define TW_PEER_TAG(set, identity) ((set) * 0x9e3779b1u ^ (identity))

/* ---- ipcache --------------------------------------------------------------------------------------- */

/* IPv4, 16-8-8: top word by the first 16 bits, then pages by 8 bits each. */
struct tw_ipcache_top {
	__u32 word[65536];
};

struct tw_ipcache_page {
	__u32 word[256];
};

/* IPv6: longest prefix match. prefixlen in bits, 0 to 128. */
struct tw_ipcache6_key {
	__u32 prefixlen;
	__be32 addr[4]; /* not a tw_addr: its alignment would leave a hole in the key */
};

/* ---- uplinks ----------------------------------------------------------------------------------------- */

/* tw_uplinks: by ifindex. */
struct tw_uplink {
	__be32 masq4; /* address that containers' traffic leaves with; 0: none */
	__u32 mtu;
	union tw_addr masq6; /* all zero: none */
};

/* tw_nomasq: LPM over 128-bit addresses; a destination in it keeps its source address. */

/* ---- fragments ----------------------------------------------------------------------------------------- */

struct tw_frag_key {
	union tw_addr saddr;
	union tw_addr daddr;
	__u32 id; /* as on the wire */
	__u32 in; /* TW_IN_* */
	__u8 proto;
	__u8 pad[7];
};

struct tw_frag {
	__be16 sport;
	__be16 dport;
	__u32 seen; /* jiffies */
};

/* ---- metrics and events ----------------------------------------------------------------------------------- */

/* tw_metrics[reason * TW_HOOK_COUNT + hook], per CPU. Reason OK counts slow-path passes only. */
struct tw_metric {
	__u64 packets;
	__u64 bytes;
};

/* tw_counters, per CPU: things that are no verdicts. */
enum tw_counter {
	TW_COUNTER_EVENTS_LOST = 0,	  /* ring full */
	TW_COUNTER_EVENTS_SUPPRESSED = 1, /* rate limit of drop events */
	TW_COUNTER_INSERTS = 2,		  /* flow entries made */
	TW_COUNTER_REDECISIONS = 3,	  /* entries judged again */
	TW_COUNTER_COLLECTED = 4,	  /* entries deleted */
	TW_COUNTER_GUARD_SWEEPS = 5,	  /* sweeps by the slow path, agent dead */
	TW_COUNTER_EVENTS_SENT = 6,
	TW_COUNTER_ICMP_SENT = 7, /* frag-needed, packet-too-big, time-exceeded made */
	TW_COUNTER_COUNT = 8,
};

enum tw_event_type {
	TW_EVENT_NEW = 1,    /* a flow was opened */
	TW_EVENT_DROP = 2,   /* a packet was dropped; reason says why */
	TW_EVENT_CLOSE = 3,  /* a flow was collected; counters are final */
	TW_EVENT_REVOKE = 4, /* a flow was turned into a tombstone */
};

/* One record of tw_events. The tuple is the opener's for NEW, CLOSE, REVOKE; else the packet's. */
struct tw_event {
	__u64 time; /* in the ring: jiffies; from datapath_events(): ns of CLOCK_MONOTONIC */
	__u8 type;  /* enum tw_event_type */
	__u8 reason;
	__u8 verdict;
	__u8 hook;
	__u8 tcp;	/* TCP flags: of the packet, or seen by the opener's half */
	__u8 tcp_reply; /* CLOSE: seen by the other half */
	__u8 icmp_type;
	__u8 icmp_code;
	struct tw_tuple tuple;
	__u32 ifindex;
	__u32 identity_from;
	__u32 identity_to;
	__u32 version_from; /* the sender's policy version (egress); 0: none */
	__u32 version_to;   /* the receiver's policy version (ingress); 0: none */
	__u16 slot_from;    /* 0: not an endpoint */
	__u16 slot_to;
	__be16 nat_port; /* translated source port; 0: none */
	__u16 length;	 /* of the IP packet, capped at 65535 */
	__u32 idle;	 /* CLOSE: jiffies since its last packet; from datapath_events(): ms */
	union tw_addr nat_addr; /* translated source address */
	__u64 packets[2];	/* CLOSE: opener's direction, reply */
	__u64 bytes[2];
};

/* ---- live switches --------------------------------------------------------------------------------------- */

/* tw_config: one mmapable element. The agent writes, programs read. */
struct tw_config {
	__u32 abi_version;
	__u32 heartbeat;   /* jiffies (low 32 bits) when the agent was last alive */
	__u32 drop_events; /* drop events a second and CPU at most */
	__u32 swept;	   /* jiffies of the guard's last sweep; written by the programs */
};

/*
 * Load-time settings: `const volatile struct tw_settings tw_settings` in .rodata, so the
 * verifier prunes what is switched off. Times are in jiffies of this kernel.
 */
struct tw_settings {
	__u32 hz;
	__u32 masquerade4; /* 0: leave with the container's own address */
	__u32 masquerade6;
	__u32 have_nomasq;   /* tw_nomasq has entries */
	__u32 outside_stack; /* I8: 1 = hand everything for the outside to the stack */
	__u32 snat_first;    /* port range of SNAT, host order, inclusive */
	__u32 snat_last;
	__u32 agent_dead;   /* heartbeat older than this: the guard may collect */
	__u32 life_tcp_new; /* SYN seen, but no answer, or no packet after it */
	__u32 life_tcp_established;
	__u32 life_tcp_closed; /* FIN from both, or RST */
	__u32 life_udp_new;    /* one direction only */
	__u32 life_udp;
	__u32 life_icmp;
	__u32 life_other;
	__u32 host_rate;     /* new flows a second from an uplink; 0: not limited */
	__u8 gateway_mac[6]; /* of every port's host side */
	__u8 csum_ipv6;	     /* 1: bpf_l4_csum_replace knows BPF_F_IPV6; found out by the library */
	__u8 pad;
};

/* Context of a syscall program (tw_collect): one bounded pass over the flow tables. */
struct tw_collect_args {
	__u32 now;	  /* in: jiffies, 0: take the kernel's */
	__u32 max_delete; /* in: entries to delete at most, 0: no limit */
	__u32 visited;	  /* out */
	__u32 marked;	  /* out */
	__u32 deleted;	  /* out */
	__u32 live;	  /* out: entries left */
	__u32 live4;	  /* out: of them IPv4 */
};

/* Context of the syscall program tw_heartbeat. */
struct tw_clock {
	__u64 jiffies; /* out */
};

/*
 * Drops of the kernel itself (drops.bpf.c). Its reasons are numbered by its enum
 * skb_drop_reason, which differs from kernel to kernel; from here on they are subsystems'.
 */
#define TW_KERNEL_REASONS 256u

/* What is told of a reason. */
enum tw_drop_told {
	TW_DROP_QUIET = 0, /* no loss: a packet's ordinary end, or a copy of what is there */
	TW_DROP_TOLD = 1,
	TW_DROP_TC = 2, /* a tc program's verdict: on the node's interfaces told by the program */
};

/* tw_drop_netns: whose network namespace. */
enum tw_drop_place {
	TW_DROP_NODE = 0,
	TW_DROP_CONTAINER = 1,
};

/* Slots of tw_jumps. */
enum tw_jump {
	TW_JUMP_NEW = 0,
	TW_JUMP_ODD = 1,
	TW_JUMP_ICMP_ERROR = 2, /* answer a packet with frag-needed or time-exceeded */
	TW_JUMP_COUNT = 4,
};

_Static_assert(sizeof(struct tw_flow4_key) == 16, "IPv4 flow key");
_Static_assert(sizeof(struct tw_flow6_key) == 40, "IPv6 flow key");
_Static_assert(sizeof(struct tw_half) == 64, "a half is one cache line");
_Static_assert(sizeof(struct tw_flow) == 128, "a flow is two cache lines");
_Static_assert(sizeof(struct tw_endpoint) == 64, "endpoint");
_Static_assert(sizeof(struct tw_class) == 8, "class");
_Static_assert(sizeof(union tw_peer) == 8, "peer");
_Static_assert(sizeof(struct tw_ipcache6_key) == 20, "the trie's key has no hole");
_Static_assert(sizeof(struct tw_ipcache_page) == 1024, "ipcache page");

#endif
