/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A balancer on the edge's lab: services with backends, and frames as they must come out. The
 * client is OUTSIDE, the frontends are NODE's address, the balancer's own is ROUTER's.
 */
#ifndef TESTS_DATAPATH_EDGE_BALANCE_LAB_H
#define TESTS_DATAPATH_EDGE_BALANCE_LAB_H

#include <edge_balance.h>

#include "edge_lab.h"

#define BALANCE_IFINDEX 1u /* test runs come in by lo */
#define BALANCE_MTU 1500u

struct balance_lab {
	struct edge *edge;
	struct edge_balance *eb;
	uint16_t service;
	struct edge_front fronts[32];
	size_t n_fronts;
	struct maglev_backend backends[256]; /* of the service; weight 0 when it takes nothing */
	size_t n_backends;
	uint64_t counted[TW_EDGE_COUNT_BALANCE_COUNTERS]; /* when the test began */
};

/* The programs are loaded once for a group. */
int balance_group_setup(void **state);
int balance_group_teardown(void **state);
/* A service without frontends and backends, and nothing remembered. */
int balance_setup(void **state);

/* NODE's address of both families. */
void balance_front(struct balance_lab *lab, enum what what, uint16_t port, uint8_t flags);
void balance_front_at(struct balance_lab *lab, const union tw_addr *addr, uint8_t len,
		      enum what what, uint16_t port, uint8_t flags);

/* What balance_backend() makes: its index in lab->backends is returned. */
struct backend_spec {
	enum tw_edge_way way;
	int family;	  /* of its address */
	enum place place; /* NOWHERE: 10.9.0.0 + its number */
	uint16_t mtu;	  /* 0: BALANCE_MTU */
	uint16_t port;
	uint16_t server_id;
	uint32_t ifindex; /* 0: BALANCE_IFINDEX */
	bool no_hop;
};
size_t balance_backend(struct balance_lab *lab, const struct backend_spec *spec);
/* Flags and weights as lab->backends says, then the table. */
void balance_turn(struct balance_lab *lab, uint32_t learn);
/* One walk, and what it lets be closed; open entries. */
uint32_t balance_walk(struct balance_lab *lab);

/* Sends a spec; *out is what became of it. */
void balance_send(struct balance_lab *lab, int family, const struct spec *spec,
		  struct edge_outcome *out);
/* The backend number that an outer header or a translated one names; 0: none. */
uint16_t balance_backend_of(const struct frame *frame);
/* Sends a spec that must be balanced, and says to which backend number. Looks at no counter. */
uint16_t balance_to(struct balance_lab *lab, int family, const struct spec *spec);

/* Since the test began. */
uint64_t balance_counter(struct balance_lab *lab, enum tw_edge_balance_counter counter);

/*
 * The frame as it must come out for a backend: `inner` with one hop less in an outer header.
 * What depends on the flow's hash (source port, flow label) is taken from `got`.
 */
void balance_expect(const struct balance_lab *lab, size_t backend, int family,
		    const struct spec *inner, const struct frame *got, struct frame *out);

#endif
