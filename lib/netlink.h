/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * rtnetlink over libmnl: many changes in one send, and typed answers of the look-ups that
 * the agent and the CNI plugin make. Knows of interfaces, addresses, routes and neighbours,
 * and nothing of endpoints. A socket belongs to the network namespace that it was opened in.
 */
#ifndef TOWPATH_NETLINK_H
#define TOWPATH_NETLINK_H

#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <towpath/abi.h>

struct nl {
	struct mnl_socket *sock;
};

int nl_open(struct nl *nl); /* in the calling thread's network namespace; close-on-exec */
void nl_close(struct nl *nl);
#define _cleanup_nl_ __attribute__((cleanup(nl_close)))

#define NL_BATCH_MAX 16u
#define NL_BATCH_BYTES 8192u

/*
 * Messages that go out in one send. The kernel works through all of them, also after one has
 * failed, so the whole must be harmless when taken back as one.
 */
struct nl_batch {
	char buf[NL_BATCH_BYTES];
	struct nlmsghdr *last;
	unsigned int n;
	const char *what[NL_BATCH_MAX]; /* "add the address": completes "could not ..." */
	int error[NL_BATCH_MAX];	/* after nl_batch_send(): 0 or -errno of each */
};

void nl_batch_begin(struct nl_batch *b);
/* The next message: type RTM_*, flags beside NLM_F_REQUEST. More than NL_BATCH_MAX is a bug. */
struct nlmsghdr *nl_batch_put(struct nl_batch *b, uint16_t type, uint16_t flags, const char *what);
/*
 * Sends, waits for the end; replies (of RTM_GET*) go to cb (may be NULL). Returns the first
 * error, with a sentence in err (may be NULL).
 */
int nl_batch_send(struct nl *nl, struct nl_batch *b, mnl_cb_t cb, void *arg, char *err,
		  size_t err_len);

/* A dump: nlh made by nl_batch_put() with NLM_F_DUMP as the only message of its batch. */
int nl_dump(struct nl *nl, struct nl_batch *b, mnl_cb_t cb, void *arg);

/* ---- messages ---------------------------------------------------------------------------- */

#define NL_NEW (NLM_F_CREATE | NLM_F_EXCL)
#define NL_SET (NLM_F_CREATE | NLM_F_REPLACE)

/* Message of an interface by index, ready for attributes; change says which flags are meant. */
struct nlmsghdr *nl_put_link(struct nl_batch *b, uint16_t type, uint16_t flags, uint32_t ifindex,
			     unsigned int up, unsigned int change, const char *what);
/* Full-length address (/32 or /128), IPv6 without duplicate address detection. */
void nl_put_addr(struct nl_batch *b, uint32_t ifindex, const union tw_addr *addr, const char *what);
/*
 * The kernel does not ask for neighbours of the interface: packets to one that it does not know
 * wait some seconds for somebody to make it known (`family` AF_INET or AF_INET6).
 */
void nl_put_neigh_wait(struct nl_batch *b, int family, uint32_t ifindex, const char *what);
/* Permanent neighbour. */
void nl_put_neigh(struct nl_batch *b, uint32_t ifindex, const union tw_addr *addr,
		  const uint8_t mac[6], const char *what);

struct nl_route {
	union tw_addr dst;
	uint8_t len; /* as in struct prefix: 96 + for IPv4; the family is that of dst */
	bool has_gateway;
	union tw_addr gateway;
	bool has_source;
	union tw_addr source; /* preferred; of an answer only */
	uint32_t oif;
	uint32_t table; /* 0: main */
	uint8_t type;	/* RTN_UNICAST ...; of an answer only */
};
void nl_put_route(struct nl_batch *b, uint16_t flags, const struct nl_route *route,
		  const char *what);

/* Packets from addr look into this table first. */
void nl_put_rule(struct nl_batch *b, const union tw_addr *from, uint32_t table, const char *what);

/* ---- answers ----------------------------------------------------------------------------- */

struct nl_link {
	uint32_t ifindex;
	uint32_t peer; /* ifindex of a veth's other end, in its own namespace; 0: none */
	uint32_t mtu;
	unsigned int flags; /* IFF_* */
	char name[IFNAMSIZ];
	char kind[16]; /* "veth"; "" for a physical one */
	char alias[64];
	uint8_t mac[6];
};
void nl_link_parse(const struct nlmsghdr *nlh, struct nl_link *out); /* RTM_NEWLINK */
/* By index, or by name when ifindex is 0. -ENODEV. */
int nl_link_get(struct nl *nl, uint32_t ifindex, const char *name, struct nl_link *out);
/* Calls fn for each interface; non-zero ends it and is returned. */
int nl_link_each(struct nl *nl, int (*fn)(void *arg, const struct nl_link *link), void *arg);
int nl_link_delete(struct nl *nl, uint32_t ifindex, const char *name); /* likewise */

struct nl_addr {
	uint32_t ifindex;
	uint8_t len; /* as in struct prefix */
	uint8_t scope;
	uint32_t flags; /* IFA_F_* */
	union tw_addr addr;
};
int nl_addr_parse(const struct nlmsghdr *nlh, struct nl_addr *out); /* RTM_NEWADDR */
/* Calls fn for each address of ifindex (0: of all); non-zero ends it and is returned. */
int nl_addr_each(struct nl *nl, uint32_t ifindex, int (*fn)(void *arg, const struct nl_addr *addr),
		 void *arg);

/* RTM_NEWROUTE, of any type. A route of several next hops has no oif. */
int nl_route_parse(const struct nlmsghdr *nlh, struct nl_route *out);
/*
 * Calls fn for each unicast route of all tables and both families; one of several next hops
 * is shown once for each.
 */
int nl_route_each(struct nl *nl, int (*fn)(void *arg, const struct nl_route *route), void *arg);
/* The route that a packet to addr would take. */
int nl_route_to(struct nl *nl, const union tw_addr *addr, struct nl_route *out);
/* Whether the neighbour is there as a permanent one with this MAC. 0, -ENOENT, or worse. */
int nl_neigh_check(struct nl *nl, uint32_t ifindex, const union tw_addr *addr,
		   const uint8_t mac[6]);
/* The neighbour's MAC, when it is known or was a moment ago. -ENOENT. */
int nl_neigh_get(struct nl *nl, uint32_t ifindex, const union tw_addr *addr, uint8_t mac[6]);
/* Has the kernel ask for it now, as if there were a packet for it. */
int nl_neigh_ask(struct nl *nl, uint32_t ifindex, const union tw_addr *addr);

#endif
