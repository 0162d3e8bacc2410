/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the edge's balancer (bpf/lib/edge_balance*.h) and the user side share, apart from
 * edge_abi.h because a node without frontends has none of it. Rules of abi.h hold here, too.
 */
#ifndef TOWPATH_EDGE_BALANCE_ABI_H
#define TOWPATH_EDGE_BALANCE_ABI_H

#include <towpath/abi.h>

/* ---- limits ------------------------------------------------------------------------------ */

#define TW_EDGE_SERVICES 64u   /* 1 .. 63; each has a Maglev table of 128 KB */
#define TW_EDGE_FRONTS 2048u   /* 1 .. 2047, half of them in use, so that all can change at once */
#define TW_EDGE_INDEX 4096u    /* words of an index of frontends: a power of two */
#define TW_EDGE_PROBES 8u      /* neighbouring words that a look-up reads at most */
#define TW_EDGE_CONNS 262144u  /* connections remembered while backends change: 30 MB */
#define TW_EDGE_NATS 262144u   /* entries of translated connections, two each: 40 MB */
#define TW_EDGE_PREFIXES 4u    /* different lengths that frontends with a prefix may have */
#define TW_EDGE_BACKENDS 4096u /* 1 .. 4095, of all services together */

/*
 * Entries of a Maglev table: prime. With 16381 taking one of 100 backends away moves up to 2.1 %
 * of the others' flows, with 32749 1.1 % (docs/design/edge.md).
 */
#define TW_MAGLEV_SIZE 32749u

/* ---- frontends ----------------------------------------------------------------------------- */

enum tw_edge_front_flags {
	TW_EDGE_FRONT_QUIC = 1 << 0,	/* UDP is QUIC: packets name their backend, see below */
	TW_EDGE_FRONT_ADDRESS = 1 << 1, /* a client's address alone decides, not its ports */
	TW_EDGE_FRONT_NAT = 1 << 2,	/* every backend is reached by translation */
};

/* tw_edge_fronts[front]: what is balanced. Immutable while an index refers to it. */
struct tw_edge_front {
	union tw_addr addr; /* its first bits, by the prefix; the others are 0 */
	__be16 port;	    /* 0: every port */
	__u8 proto;
	__u8 prefix;   /* index of its mask in tw_edge_index, or TW_EDGE_NO_PREFIX */
	__u16 service; /* index in tw_edge_maglev and tw_edge_services */
	__u8 flags;    /* enum tw_edge_front_flags */
	__u8 pad;
	__u32 seed; /* of the flow hash; the same on every balancer of the service */
	__u32 pad2;
};

#define TW_EDGE_NO_PREFIX 0xff

/*
 * tw_edge_index[0 and 1]: the frontends by a hash of (address, port, protocol), neighbouring words
 * after a collision; 0 ends a search. The agent fills the one that is not in use and then switches
 * over in tw_edge_balance, so that a packet sees all frontends before a change or all after it.
 */
struct tw_edge_index {
	__u32 any_port;	  /* there are frontends with port 0 */
	__u32 n_prefixes; /* masks in use, longest first */
	__u32 pad[2];
	union tw_addr mask[TW_EDGE_PREFIXES];
	__u32 word[TW_EDGE_INDEX]; /* index in tw_edge_fronts */
};

/* tw_edge_balance: one mmapable element. The agent writes, programs read. */
struct tw_edge_balance {
	__u32 index;	   /* 0 or 1: of tw_edge_index, in use */
	__u32 insert_rate; /* connections remembered a second and CPU at most */
	__u32 icmp_rate;   /* ICMP errors made a second and CPU at most */
	__u32 nat_first;   /* source ports of translation, host order, inclusive */
	__u32 nat_last;
	__u32 pad[11];
};

/* ---- Maglev tables ------------------------------------------------------------------------- */

/*
 * An entry: the backend that new flows go to, the one that flows without a remembered connection
 * belong to, and whether there are remembered connections to ask for at all. In quiet times the
 * two are the same and OPEN is not set: then a packet is balanced without any state.
 */
#define TW_MAGLEV_NOW(word) ((word) & 0xffffu)
#define TW_MAGLEV_BEFORE(word) ((word) >> 16 & 0x7fffu)
#define TW_MAGLEV_OPEN 0x80000000u
#define TW_MAGLEV_WORD(now, before) ((__u32)(now) | (__u32)(before) << 16)

struct tw_maglev { /* tw_edge_maglev[service] */
	__u32 word[TW_MAGLEV_SIZE];
	__u32 pad; /* array elements are multiples of 8 bytes */
};

/* tw_edge_services[service]. Times in jiffies, low 32 bits. The agent writes. */
struct tw_edge_service {
	/*
	 * A flow of UDP does not say whether it is new. Until then an unknown one in an open entry
	 * is taken for an old one, and after that for a new one.
	 */
	__u32 learn_until;
	__u32 changed; /* when an entry was opened last; for the agent */
	__u32 idle;    /* a flow that says nothing for so long is forgotten; for the agent */
	__u32 pad;
	__u64 name; /* hash of its name, 0: free; an agent finds its services again by it */
};

/* ---- backends ------------------------------------------------------------------------------ */

enum tw_edge_way {
	TW_EDGE_WAY_NONE = 0, /* no backend: the packet is dropped */
	TW_EDGE_WAY_IPIP = 1, /* RFC 2003, 2473, 4213: IPv4 or IPv6 in either */
	TW_EDGE_WAY_GUE = 2,  /* Generic UDP Encapsulation, variant 1: IP directly in UDP */
	TW_EDGE_WAY_L2 = 3,   /* the frame with another MAC address */
	TW_EDGE_WAY_NAT = 4,  /* destination and source translated */
};

enum tw_edge_backend_flags {
	TW_EDGE_BACKEND_TAKES = 1 << 0, /* up and not draining: may be given new connections */
	TW_EDGE_BACKEND_HOP = 1 << 1,	/* dmac and smac are right; else the kernel is asked */
};

/*
 * tw_edge_backends[backend]: one cache line. dmac with mtu, and smac with way and flags, are
 * written by the agent as one word each, so that no packet leaves with half of an address.
 */
struct tw_edge_backend {
	union tw_addr addr;   /* outer destination, or the translated one */
	union tw_addr source; /* outer or translated source: an address of the node */
	union {
		__u64 dst;
		struct {
			__u8 dmac[6]; /* of the next hop */
			__u16 mtu;    /* largest IP packet on the way, encapsulation included */
		};
	};
	union {
		__u64 src;
		struct {
			__u8 smac[6];
			__u8 way;   /* enum tw_edge_way */
			__u8 flags; /* enum tw_edge_backend_flags */
		};
	};
	__u32 ifindex;	 /* way out */
	__be16 port;	 /* NAT: its port, 0: the frontend's. GUE: the outer destination port */
	__u16 sum;	 /* of the outer IPv4 header but for length and TOS, folded, not inverted */
	__u16 server_id; /* QUIC: what its connection ids begin with */
	__u16 service;
	__u32 pad;
};

#define TW_EDGE_GUE_PORT 6080 /* IANA: gue */

/* ---- remembered connections ------------------------------------------------------------------ */

/* tw_edge_conns: by the client's tuple, as it arrives. */
struct tw_edge_conn_key {
	union tw_addr saddr;
	union tw_addr daddr;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 pad;
	__u16 service;
};

/*
 * Preallocated elements are used again without a grace period, so a program may find another
 * flow's under its key. Tag and backend are one word, read and written as one: a wrong tag is an
 * entry that is not there.
 */
struct tw_edge_conn {
	union {
		__u64 what;
		struct {
			__u32 tag; /* of the flow hash's upper half */
			__u16 backend;
			__u8 closed; /* FIN or RST came from the client */
			__u8 pad;
		};
	};
	__u32 seen;  /* jiffies, low 32 bits */
	__u32 entry; /* of the Maglev table */
};

/* ---- translated connections ------------------------------------------------------------------- */

enum tw_edge_nat_flags {
	TW_EDGE_NAT_REPLY = 1 << 0, /* the entry under the backend's tuple */
};

/*
 * tw_edge_nats: two entries a connection, one under the client's tuple and one under the
 * backend's. Each says what its packets become, and is by that the other's reversed tuple.
 */
struct tw_edge_nat_key {
	union tw_addr saddr;
	union tw_addr daddr;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 pad[3];
};

/* The tag stands first: an element that is used again is written from its beginning. */
struct tw_edge_nat {
	__u32 tag; /* of the key, never 0 */
	__u16 backend;
	__u8 flags; /* enum tw_edge_nat_flags */
	__u8 tcp;   /* TCP flags seen in this direction, ORed */
	union tw_addr saddr;
	union tw_addr daddr;
	__be16 sport;
	__be16 dport;
	__u32 seen;    /* jiffies, low 32 bits */
	__u32 ifindex; /* where the client's packets come in */
	__u8 link[12]; /* ... and what their frames begin with: replies go back to that neighbour */
};

/* ---- QUIC -------------------------------------------------------------------------------------- */

/* tw_edge_quic: which backend has a server id, in a service. */
struct tw_edge_quic_key {
	__u16 service;
	__u16 server_id;
};

/* ---- decapsulation --------------------------------------------------------------------------- */

#define TW_EDGE_DECAP_SOURCES 8u

/* tw_edge_decap: one mmapable element. Who may send encapsulated packets to this node. */
struct tw_edge_decap {
	__u32 n;
	__u32 pad[3];
	struct {
		union tw_addr addr; /* masked */
		union tw_addr mask;
	} from[TW_EDGE_DECAP_SOURCES];
};

/* ---- counters ---------------------------------------------------------------------------------------- */

/* tw_edge_backend_count[backend], per CPU. */
struct tw_edge_backend_count {
	__u64 packets;
	__u64 bytes;  /* of the clients' IP packets */
	__u64 opened; /* TCP SYNs, and first packets of QUIC connections */
	__u64 pad;
};

/* tw_edge_balance_count[], per CPU: what is no end of a frame. */
enum tw_edge_balance_counter {
	TW_EDGE_COUNT_REMEMBERED = 0,	 /* connections put into tw_edge_conns */
	TW_EDGE_COUNT_REMEMBER_RATE = 1, /* not put there: over the rate */
	TW_EDGE_COUNT_REMEMBER_FULL = 2, /* not put there: no room */
	TW_EDGE_COUNT_ICMP_SENT = 3,	 /* too big, time exceeded */
	TW_EDGE_COUNT_ICMP_RATE = 4,	 /* not sent: over the rate */
	TW_EDGE_COUNT_BALANCE_COUNTERS = 8,
};

/* ---- hashes ------------------------------------------------------------------------------------------ */

/* Where the search for a frontend begins in an index. Both sides compute it. */
static inline __u32 tw_edge_front_hash(const union tw_addr *addr, __be16 port, __u8 proto)
{
	__u64 h = addr->quad[1] + addr->quad[0] * 0x9e3779b97f4a7c15ull +
		  ((__u64)port << 8 | proto) * 0xc2b2ae3d27d4eb4full;

	h ^= h >> 32;
	h *= 0xff51afd7ed558ccdull;
	return (__u32)(h >> 52);
}

/*
 * A flow's hash: its upper half chooses the entry of the Maglev table, its lower half is the tag.
 * ports: the client's in the upper 16 bits, the other below, as read from the wire; 0: only the
 * address counts.
 */
static inline __u64 tw_edge_flow_hash(const union tw_addr *client, __u32 ports, __u32 seed)
{
	__u64 h = (client->quad[0] ^ seed) * 0x9e3779b97f4a7c15ull;

	h = ((h ^ h >> 32) + client->quad[1]) * 0xc4ceb9fe1a85ec53ull;
	h = ((h ^ h >> 29) + ports) * 0xff51afd7ed558ccdull;
	return h ^ h >> 32;
}

static inline __u32 tw_maglev_entry(__u64 hash)
{
	return (__u32)((hash >> 32) * TW_MAGLEV_SIZE >> 32);
}

_Static_assert(TW_EDGE_INDEX == 1u << 12, "tw_edge_front_hash() gives 12 bits");
_Static_assert(sizeof(struct tw_edge_nat) == 64, "translation");
_Static_assert(sizeof(struct tw_edge_front) == 32, "a frontend is half a cache line");
_Static_assert(sizeof(struct tw_edge_backend) == 64, "a backend is one cache line");
_Static_assert(sizeof(struct tw_edge_conn) == 16, "connection");
_Static_assert(sizeof(struct tw_edge_conn_key) == 40, "connection key");
_Static_assert(sizeof(struct tw_edge_nat_key) == 40, "translation key");
_Static_assert(sizeof(struct tw_maglev) % 8 == 0, "array element");

#endif
