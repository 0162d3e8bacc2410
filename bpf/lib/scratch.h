/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the programs leave each other in tw_scratch, a map that each load has for itself: so it
 * is no part of the ABI. lib/trace.c reads it after a packet.
 */
#ifndef TW_SCRATCH_H
#define TW_SCRATCH_H

#include <towpath/abi.h>

/* What a packet's parser found; how the slow programs get it without parsing again. */
enum packet_flags {
	PACKET_FRAG_FIRST = 1 << 0,
	PACKET_FRAG_LATER = 1 << 1, /* no layer-4 header in this packet */
	PACKET_ICMP_ERROR = 1 << 2,
	PACKET_NO_PORTS = 1 << 3,
	PACKET_NO_ENTRY = 1 << 4,  /* the flow table was asked already: it has none */
	PACKET_ASKS_BACK = 1 << 5, /* a request where answers are expected */
};

struct packet {
	struct tw_tuple tuple;
	__u32 in;     /* TW_IN_* */
	__u32 len;    /* of the IP packet, by the skb */
	__u16 l4_off; /* from the start of the frame */
	__u8 tcp;
	__u8 flags; /* enum packet_flags */
	__u8 icmp_type;
	__u8 icmp_code;
	__u16 mtu; /* for TW_JUMP_ICMP_ERROR: 0 means time exceeded */
	__u8 hook;
	__u8 pad[3];
};

/* One end of the opener's tuple. */
struct end {
	__u32 identity;
	__u32 version;
	__u32 ifindex; /* of the port; 0: not a container */
	__u16 slot;
	__u16 mtu;
	__u8 mac[6];
	__u8 flags; /* enum tw_endpoint_flags */
	__u8 pad;
};

/* All that a decision found out, on its way into an entry. */
struct decision {
	struct end from;
	struct end to;
	__u32 epoch_node; /* read before anything else */
	__u32 epoch_from;
	__u32 epoch_to;
	__u32 in;	/* where the opener entered */
	__u32 reply_in; /* where the host's stack has its answers from */
	__u32 moved;	/* the opener's packet came by another uplink than before: that one */
	/* the way out, when an end is outside */
	__u32 oif;
	__u16 mtu;
	__u8 hop_flags; /* TW_HALF_NEXTHOP* */
	__u8 reopen;	/* the reply entry is to forget what it saw, too */
	union tw_addr hop;
	union tw_addr masq; /* of the uplink, in the flow's family; all zero: none */
};

/* What both ends of a judged flow are, for events. Zero where nothing is known. */
struct ends {
	__u32 identity_from;
	__u32 identity_to;
	__u32 version_from;
	__u32 version_to;
	__u16 slot_from;
	__u16 slot_to;
};

/*
 * Drops that this CPU has told of in this second, by kind: ends, port, protocol and reason. The
 * first ones are an event each; of a flood, an event tells of many.
 */
#define DROP_KINDS 32  /* a power of two */
#define DROP_SINGLE 16 /* of a kind, told one by one */
#define DROP_MANY 1024 /* told by one event after that */

struct drop_kind {
	__u32 tag;
	__u32 since;   /* jiffies */
	__u32 singles; /* in this second */
	__u32 packets; /* not told yet */
	__u64 bytes;
};

/* Per-CPU scratch for what does not fit the stack; valid within one packet only, but for what counts drops. */
struct scratch {
	struct packet packet;
	struct tw_tuple opener; /* the tuple that is judged */
	struct tw_tuple twin;
	struct decision decision;
	struct ends ends;
	struct tw_flow flow; /* entry being built */
	union {
		struct tw_flow4_key key4;
		struct tw_flow6_key key6;
	};
	struct tw_ipcache6_key prefix;
	union tw_addr nat_addr; /* of the flow being opened, for its event */
	__be16 nat_port;
	__u16 pad;
	__u8 bytes[128];
	__u32 drop_tokens;  /* I13: drop events of this CPU in this second */
	__u32 drop_since;   /* jiffies */
	__u64 drop_packets; /* what the event stands for, besides this packet */
	__u64 drop_bytes;
	struct drop_kind kinds[DROP_KINDS];
};

#endif
