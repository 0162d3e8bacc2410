/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Private to the balancer. balance.c: objects and what follows from them; balance_kernel.c: what
 * the kernel has of it; balance_answer.c: answers.
 */
#ifndef AGENT_EDGE_BALANCE_INTERNAL_H
#define AGENT_EDGE_BALANCE_INTERNAL_H

#include "edge/balance.h"
#include "edge/check.h"
#include "edge/hop.h"
#include "edge_balance.h"

#define LEARN_SECONDS 30u /* after a change an unknown UDP flow counts as an old one */

struct service;

struct backend {
	struct service *service;
	struct service_backend spec;
	uint8_t way;
	uint16_t id;	   /* in the kernel; 0: not there */
	bool listed;	   /* in the object; else it is kept for its connections */
	uint64_t deadline; /* !listed: when those have had their time; ms of the loop */
	bool up;
	bool checked;	  /* a check has come to something since the start */
	uint32_t in_row;  /* results that speak against `up` */
	char failed[128]; /* why the last check did; "": it did not */
	uint64_t since;	  /* of `up`; ms of the loop */
	struct check *check;
	struct hop hop;
	char no_hop[160]; /* why there is none; "": there is */
	uint32_t flows;	  /* remembered or translated, at the last walk */
	struct backend *prev, *next;
};

struct service {
	struct balancer *b;
	char *ns, *name;
	uint64_t key;		  /* hash of both: its name in the kernel */
	uint16_t number;	  /* 0: not in the kernel */
	bool listed;		  /* an object is there */
	bool panic;		  /* no backend is up, so all are taken for up */
	struct edge_service spec; /* without pointers */
	struct service_front *fronts;
	size_t n_fronts;
	char *path, *host;
	uint32_t open; /* table entries, at the last walk */
	struct backend *backends;
	struct service *prev, *next;
};

struct balancer {
	struct agent *a;
	struct edge_balance *eb;     /* NULL: the edge is not loaded */
	struct edge_walk *walk;	     /* under way on a worker */
	struct edge_balance *orphan; /* what that walk reads, when the edge was closed meanwhile */
	uv_work_t work;
	int walk_res;
	struct nl nl;
	struct checks *checks;
	struct service *services;
	struct edge_prefix_mask from[TW_EDGE_DECAP_SOURCES]; /* of all EdgeDecap objects */
	size_t n_from;
	unsigned int seconds;
	size_t hops_seen; /* backends before this one were looked at */
	bool again;	  /* something was put off until the walk's end */
	bool closing;
	char failed[256]; /* the kernel did not take something; "": it did */
};

/* ---- balance_kernel.c ---- */

/*
 * Whether the program was loaded with what the services need. While it is not, a reload is under way, and
 * the kernel is left as it is.
 */
bool balance_loaded(const struct balancer *b);
/* The kernel becomes what the services say, as far as it is not. */
void balance_sync(struct balancer *b);
/* One service's backends and table. */
void balance_service_sync(struct service *s);
/* Hops may have changed. */
void balance_hops(struct balancer *b);
/* Begins a walk, unless one is under way or nothing is remembered. */
void balance_walk_start(struct balancer *b);
/* Whether a backend is given new connections: the panic of its service counts. */
bool backend_takes(const struct backend *be);

/* ---- balance.c ---- */

void backend_free(struct backend *be);
void service_free(struct service *s);

#endif
