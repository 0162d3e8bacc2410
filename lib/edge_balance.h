/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * User side of the edge's balancer: frontends, Maglev tables and backends in the maps of an open
 * edge, and what becomes of connections while they change. The maps are the only memory: whoever
 * opens them later goes on where the last one stopped. Who may call what: everything from one
 * thread, but for edge_walk_run().
 *
 * A change, step by step, each of which leaves every packet with one answer:
 *
 *	edge_backend_set()	a new backend stands ready, and nothing leads to it
 *	edge_service_turn()	new flows go by the new table; entries that changed are open
 *	edge_walk_run(),	every few seconds: remembered connections that ended go; entries
 *	edge_walk_settle()	that need no memory any more are closed
 *	edge_service_forget()	a backend's time to drain is over: nothing leads to it any more
 */
#ifndef TOWPATH_EDGE_BALANCE_H
#define TOWPATH_EDGE_BALANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <towpath/edge_balance_abi.h>

#include "edge.h"
#include "maglev.h"

struct edge_balance;

/*
 * On the maps that `edge` has now: opened again after a reload with other settings, which may have
 * brought larger ones. The edge need not live as long.
 */
int edge_balance_open(struct edge_balance **out, struct edge *edge);
void edge_balance_close(struct edge_balance *eb);
/* What the program had been loaded with. Without `balance` there is no room for services. */
const struct tw_edge_settings *edge_balance_settings(const struct edge_balance *eb);

struct edge_balance_limits {
	uint32_t insert_rate; /* connections remembered, or translated, a second and CPU */
	uint32_t icmp_rate;   /* ICMP errors a second and CPU */
	uint16_t nat_first;   /* source ports of translation; both 0: there is none */
	uint16_t nat_last;
};
int edge_balance_limits_set(struct edge_balance *eb, const struct edge_balance_limits *limits);

/* ---- frontends --------------------------------------------------------------------------- */

struct edge_front {
	union tw_addr addr; /* host bits 0 */
	uint8_t len;	    /* of its prefix, in bits of 128: a single IPv4 address is 128, too */
	uint8_t proto;
	__be16 port; /* 0: every port */
	uint16_t service;
	uint8_t flags; /* enum tw_edge_front_flags */
	uint32_t seed;
};

/*
 * Exactly these, in one step: each packet sees all of before or all of these. -ENOSPC: more than
 * TW_EDGE_FRONTS / 2, more prefix lengths than TW_EDGE_PREFIXES, or an unlucky hash.
 */
int edge_fronts_set(struct edge_balance *eb, const struct edge_front *fronts, size_t n);

/* ---- services ------------------------------------------------------------------------------ */

/* The service of that name (a hash, not 0): found, or a free one taken. -ENOSPC. */
int edge_service_get(struct edge_balance *eb, uint64_t name, uint16_t *service);
/* Seconds that a flow may be silent before it is forgotten. */
int edge_service_idle(struct edge_balance *eb, uint16_t service, uint32_t seconds);
/* No frontend leads to it any more: table, backends and remembered connections go. */
int edge_service_clear(struct edge_balance *eb, uint16_t service);
/* Calls fn for each service in use. A result other than 0 ends it and is returned. */
int edge_service_each(struct edge_balance *eb,
		      int (*fn)(void *arg, uint16_t service, uint64_t name), void *arg);

/*
 * New flows go to these backends from now on. UDP flows count as old ones for `learn` seconds
 * more. *opened (may be NULL): table entries that changed.
 */
int edge_service_turn(struct edge_balance *eb, uint16_t service,
		      const struct maglev_backend *backends, size_t n, uint32_t learn,
		      uint32_t *opened);
/* Nothing leads to this backend any more; its connections go where new ones go. */
int edge_service_forget(struct edge_balance *eb, uint16_t service, uint16_t backend);
/* How many of a service's table entries are open. */
int edge_service_open(struct edge_balance *eb, uint16_t service, uint32_t *open);

/* ---- backends ------------------------------------------------------------------------------ */

int edge_backend_get(struct edge_balance *eb, uint16_t backend, struct tw_edge_backend *out);
/* A free number, for a service. -ENOSPC. */
int edge_backend_new(struct edge_balance *eb, uint16_t *backend);
/*
 * All of it, `sum` filled in here. Of one that is in use only hop, MTU, flags and server id may
 * differ: another address is another backend.
 */
int edge_backend_set(struct edge_balance *eb, uint16_t backend,
		     const struct tw_edge_backend *value);
/* After edge_service_forget(): the number is free, and its counts are 0. */
int edge_backend_clear(struct edge_balance *eb, uint16_t backend);

/* Sums over CPUs. */
int edge_backend_count(struct edge_balance *eb, uint16_t backend,
		       struct tw_edge_backend_count *out);
int edge_balance_counter(struct edge_balance *eb, enum tw_edge_balance_counter counter,
			 uint64_t *out);

/* ---- connections ----------------------------------------------------------------------------- */

/* What a walk over the remembered and the translated connections found. */
struct edge_walk {
	struct edge_balance *eb;
	uint32_t now; /* jiffies when it began */
	uint32_t generation[TW_EDGE_SERVICES];
	uint8_t *held[TW_EDGE_SERVICES];  /* bit an entry: some flow's backend is not its `now` */
	uint32_t flows[TW_EDGE_BACKENDS]; /* live ones, by backend */
	uint32_t conns, nats;		  /* entries left in the two maps */
	uint32_t deleted;
};

/* A walk that begins now. */
int edge_walk_new(struct edge_balance *eb, struct edge_walk **out);
/*
 * Deletes what is over: idle too long, closed, of a backend that is no more. Any thread, as long
 * as no service is cleared meanwhile and the handle stays open; the edge may be closed.
 */
int edge_walk_run(struct edge_walk *walk);
/* Closes what may be. *open (may be NULL): entries that are open still, of all services. */
int edge_walk_settle(const struct edge_walk *walk, uint32_t *open);
void edge_walk_free(struct edge_walk *walk);

/* ---- decapsulation ----------------------------------------------------------------------------- */

struct edge_prefix_mask {
	union tw_addr addr;
	union tw_addr mask;
};
/* The mask of a prefix whose length is in bits of 128. */
void edge_mask_make(uint8_t len, union tw_addr *out);
/* Who may send encapsulated packets to this node; at most TW_EDGE_DECAP_SOURCES. */
int edge_decap_set(struct edge_balance *eb, const struct edge_prefix_mask *from, size_t n);

#endif
