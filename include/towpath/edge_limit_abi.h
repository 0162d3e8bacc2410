/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Limits and SYN cookies of the edge: what bpf/lib/edge_limit.h, edge_cookie.h and edge_accept.h
 * share with the user side. Part of edge_abi.h, and of its version.
 */
#ifndef TOWPATH_EDGE_LIMIT_ABI_H
#define TOWPATH_EDGE_LIMIT_ABI_H

#include <towpath/abi.h>

#define TW_EDGE_LIMITS 24u	 /* limits at a time: one bit each in a port's word */
#define TW_EDGE_COOKIE_PORTS 64u /* port ranges with SYN cookies */

/* ---- limits ------------------------------------------------------------------------------ */

enum tw_edge_limit_kind {
	TW_EDGE_LIMIT_CONNECTIONS = 0, /* TCP: SYNs; where cookies answer them, valid cookies */
	TW_EDGE_LIMIT_PACKETS = 1,
	TW_EDGE_LIMIT_BYTES = 2, /* of whole frames */
};

/*
 * A token bucket is kept as its debt: the time from now until it is full again. That is one word,
 * needs no refill, and a bucket that nobody has used for a while is 0 debt, which is what no entry
 * says, too. Time is counted in units of 1/2^shift jiffy, chosen so that a burst is 2^30 to 2^31
 * of them, whatever the rate.
 */
struct tw_edge_limit {
	__u32 id;    /* never used again for another limit: part of the hash; 0: free slot */
	__u8 kind;   /* enum tw_edge_limit_kind */
	__u8 source; /* 1: a bucket for each source prefix; 0: one bucket */
	__u8 shift;
	__u8 pad;
	__u64 cost;	  /* of a packet or byte: units << TW_EDGE_COST_SHIFT */
	__u64 burst;	  /* largest debt, in units */
	__u64 mask[2][2]; /* of a source, as stored in union tw_addr: IPv4, IPv6 */
	__u64 reserved;
};
#define TW_EDGE_COST_SHIFT 16

/* tw_edge_buckets: debts of sources. A way is (tag, end of the debt); 0: none. */
#define TW_EDGE_BUCKET_WAYS 8
#define TW_EDGE_BUCKET_SETS 65536u
#define TW_EDGE_TIME_BITS 44 /* units, cut off: what is further ahead than a burst is long over */
struct tw_edge_bucket_set {
	__u64 way[TW_EDGE_BUCKET_WAYS]; /* one cache line */
};

/* tw_edge_totals[slot]: the bucket of a limit that is not per source. */
struct tw_edge_total {
	__u64 until; /* units; the end of the debt */
	__u64 pad[7];
};

/* tw_edge_limit_count[slot], per CPU; what a limit dropped is in tw_edge_count. */
struct tw_edge_limit_count {
	__u64 forgotten; /* buckets with a debt that made room for others */
};

/* ---- SYN cookies --------------------------------------------------------------------------- */

/* A port range whose SYNs are answered here while more than `above` a second come. */
struct tw_edge_cookie_port {
	__u32 above; /* 0: always */
};

/* Kept by the programs for each tw_edge_cookie_port, in jiffies. */
struct tw_edge_cookie_state {
	__u64 window;  /* begin of the second that is counted */
	__u64 until;   /* cookies are given until then */
	__u64 refused; /* a listener took no cookie: until then its SYNs go to it */
	__u32 count;   /* SYNs in the window, up to above + 1 */
	__u32 pad;
	/* Last SYN let through, by family and address; see TW_EDGE_COOKIE_KERNEL. */
	__u64 real[2][2];
};

/* tw_edge_cookie_count, per CPU. */
struct tw_edge_cookie_count {
	__u64 answered; /* SYNs */
	__u64 accepted; /* valid cookies given to the listener */
	__u64 invalid;	/* segments without connection and without valid cookie, dropped */
	__u64 unusable; /* valid cookies that the listener could not take */
};

/* How listeners take a cookie. */
enum tw_edge_cookie_mode {
	TW_EDGE_COOKIE_OFF = 0,
	/* tw_edge_accept (tc) makes the request socket: bpf_sk_assign_tcp_reqsk, Linux 6.9. */
	TW_EDGE_COOKIE_ASSIGN = 1,
	/* The listener's own check: tcp_syncookies=2, and a real SYN now and then. */
	TW_EDGE_COOKIE_KERNEL = 2,
};

struct tw_edge_cookie_settings {
	__u8 mode;	 /* enum tw_edge_cookie_mode */
	__u8 timestamps; /* answer with timestamps, where options are kept meanwhile */
	__u8 sack;
	__u8 window_scale; /* the one that we tell, 0 to 14; 15: none */
	__u16 mss[2];	   /* that we tell: IPv4, IPv6 */
	__u32 clock;	   /* ms added to timestamps, which else tell the machine's uptime */
	__u32 pad;
};

/* ---- all of it ----------------------------------------------------------------------------- */

/* The word of a port: limits that ask about it, and its cookies. */
#define TW_EDGE_PORT_LIMITS ((1u << TW_EDGE_LIMITS) - 1)
#define TW_EDGE_PORT_COOKIE_SHIFT TW_EDGE_LIMITS /* index of tw_edge_cookie_port + 1; 0: none */

/* Everything that is configured. Written while it is not in use, then put in force by one store. */
struct tw_edge_limit_set {
	__u32 tcp[65536]; /* words, by destination port in host order */
	__u32 udp[65536];
	__u32 other[256];  /* by protocol: neither TCP nor UDP, or a fragment without ports */
	__u32 connections; /* bits of the limits of that kind */
	__u32 sources;	   /* bits of the limits that are per source */
	struct tw_edge_cookie_settings cookie;
	struct tw_edge_limit limit[TW_EDGE_LIMITS];
	struct tw_edge_cookie_port cookie_port[TW_EDGE_COOKIE_PORTS];
};

/* tw_edge_limits: one mmapable element. */
struct tw_edge_limits {
	__u64 secret[2]; /* of the hash; written once, when the map is made */
	__u32 current;	 /* which set is in force: 0 or 1 */
	__u32 pad[11];
	struct tw_edge_limit_set set[2];
};

_Static_assert(sizeof(struct tw_edge_limit) == 64, "a limit is one cache line");
_Static_assert(sizeof(struct tw_edge_bucket_set) == 64, "a set of buckets is one cache line");
_Static_assert(sizeof(struct tw_edge_cookie_state) == 64, "cookie state");
_Static_assert(sizeof(struct tw_edge_cookie_settings) == 16, "cookie settings");
_Static_assert(TW_EDGE_COOKIE_PORTS < 256, "an index and 0 fit the top byte of a port's word");

#endif
