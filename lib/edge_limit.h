/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Limits and SYN cookies of the edge, as people say them, put in force all at once. Who keeps them
 * (ids, slots) is the agent. Not thread-safe.
 */
#ifndef TOWPATH_EDGE_LIMIT_H
#define TOWPATH_EDGE_LIMIT_H

#include "edge.h"

struct edge_limit {
	uint32_t id;   /* not 0; never used for another limit, so that no bucket is taken over */
	uint32_t slot; /* below TW_EDGE_LIMITS: its counters */
	enum tw_edge_limit_kind kind;
	bool source;	  /* a bucket for each source prefix, of these lengths */
	uint8_t prefix4;  /* 0 to 32 */
	uint8_t prefix6;  /* 0 to 128 */
	uint64_t rate;	  /* a second, minute or hour */
	uint32_t seconds; /* 1, 60, 3600 */
	uint64_t burst;	  /* connections, packets or bytes */
	uint8_t proto;	  /* 0: every one */
	uint16_t first;	  /* destination ports, for TCP and UDP; 0 to 65535: every packet */
	uint16_t last;
};

struct edge_cookies {
	uint16_t first; /* TCP ports */
	uint16_t last;	/* 0: none, an empty place */
	uint32_t above; /* SYNs a second; 0: always */
};

struct edge_limits {
	const struct edge_limit *limit;
	size_t n;
	const struct edge_cookies *cookies; /* that of i has the counters i */
	size_t n_cookies;
	struct tw_edge_cookie_settings settings; /* clock is filled in */
};

/* What a limit must be: bursts that a kernel of hz jiffies a second can keep, and so on. 0, or
 * -EINVAL with a sentence in err. */
int edge_limit_check(const struct edge_limit *limit, uint32_t hz, char *err, size_t err_len);

/*
 * Puts these and no others in force: no packet sees one part of old and new. Buckets of limits that
 * stay keep their fill. The program asks them only with settings.limits. -EINVAL (see above), -ENOSPC.
 */
int edge_limits_apply(struct edge *edge, const struct edge_limits *limits, char *err,
		      size_t err_len);

/* Before a slot is another limit's: its bucket and counters begin anew. */
int edge_limit_reset(struct edge *edge, uint32_t slot);

/* The same for the cookies of a place. */
int edge_cookie_reset(struct edge *edge, uint32_t index);

struct edge_limit_count {
	struct tw_metric dropped;
	uint64_t forgotten;
};
int edge_limit_count_read(const struct edge *edge, uint32_t slot, struct edge_limit_count *out);

struct edge_cookie_count {
	struct tw_edge_cookie_count sum;
	bool active;  /* SYNs are answered with cookies now (`above` 0: always) */
	bool refused; /* ... but the listener took none lately */
};
int edge_cookie_count_read(const struct edge *edge, uint32_t index, uint32_t above,
			   struct edge_cookie_count *out);

/* ---- the listeners' side (edge_accept.c) ---------------------------------------------------- */

/*
 * Puts the program that makes request sockets (TW_EDGE_COOKIE_ASSIGN) on the devices that are
 * attached, and on no others; on none when `wanted` is false. To be called after each change of
 * devices. -errno with a sentence; -EOPNOTSUPP: this kernel has no bpf_sk_assign_tcp_reqsk.
 */
int edge_accept_sync(struct edge *edge, bool wanted, char *err, size_t err_len);
/* Descriptor, borrowed, once it was wanted; -ENOENT. */
int edge_accept_fd(const struct edge *edge);

/*
 * How listeners of this process's network namespace can take cookies: by the kernel and its sysctls.
 * `force`: of these modes only that one, or OFF for the best. mss and clock of out are not touched.
 * 0, or -EOPNOTSUPP with a sentence that names what is missing.
 */
int edge_cookie_probe(enum tw_edge_cookie_mode force, struct tw_edge_cookie_settings *out,
		      char *err, size_t err_len);

/* The MSS to tell over IPv4 and IPv6: what the smallest MTU of the devices attached leaves. */
void edge_cookie_mss(struct edge *edge, uint16_t mss[2]);

#endif
