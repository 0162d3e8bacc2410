/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Endpoints: the record of one attached container interface, and its kernel state (veth pair,
 * addresses, routes, neighbours, sysctls) over rtnetlink. Nothing here knows of maps, the
 * store or HTTP. Addresses are chosen in ipam.h; the node's own interfaces are in node.h.
 *
 * All functions that can fail for a reason that a person must hear of take err/err_len and
 * leave one sentence there (err may be NULL); they return -errno.
 */
#ifndef AGENT_ENDPOINT_H
#define AGENT_ENDPOINT_H

#include <jansson.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "object/object.h"

extern const uint8_t endpoint_gateway_mac[6]; /* TW_PORT_MAC: every port's */

#define ENDPOINT_MTU_MIN 1280u /* what IPv6 asks of every link (RFC 8200 5) */
#define ENDPOINT_MTU_MAX 65535u

/* Addresses of one family that an endpoint may have. */
#define ENDPOINT_PARTS_MAX 8u

enum endpoint_state {
	ENDPOINT_CREATING, /* stored before the kernel is touched: a crash here means undo */
	ENDPOINT_READY,
};

/*
 * The record. Strings are owned; NULL never appears in a record that was parsed.
 *
 * To the data path an endpoint is one address of each family. One with several has further
 * PARTS: records of their own, with a slot, an identity and a share of the budgets, that have
 * the port in common and come and go with the first (part 0).
 */
struct endpoint {
	char *container_id;
	char ifname[IFNAMSIZ]; /* in the container */
	char *sandbox;	       /* network namespace as the runtime named it; may be "" */
	char *network;	       /* name of the CNI network */
	char *ns;	       /* Kubernetes namespace */
	char *pod;
	struct labels labels;	/* from the network configuration; sorted by key */
	struct prefix *subnets; /* of this network; none: the agent's pools */
	size_t n_subnets;
	struct prefix *routes; /* of the container, by its gateway; none: everything */
	size_t n_routes;
	uint32_t part; /* 0, or one more pair of addresses of the endpoint */

	uint32_t slot; /* slot, identity and version are the agent's; 0 until given */
	uint32_t identity;
	uint32_t version;

	char port[IFNAMSIZ]; /* the node's end of the pair */
	uint32_t port_ifindex;
	uint8_t mac[6]; /* of the container's end */
	uint32_t mtu;
	/* Routing table in the container; 0: main. Another one when eth0 has the default route. */
	uint32_t table;
	union tw_addr addr4; /* mapped; all zero: none */
	union tw_addr addr6;
	enum endpoint_state state;
	bool ending;  /* its interface is being removed; in no record */
	bool closed;  /* to the node's stack, whose packets to it wait (opener.c); in no record */
	bool no_masq; /* leaves the node with its own addresses, whatever the node does */
	/* TW_EP_QUEUE_*: what the port has now; not in the record. */
	uint32_t queues;
};

/* Zeroed memory is an empty record. Frees what the record owns and zeroes it. */
void endpoint_clear(struct endpoint *ep);
/* Deep copy; *out is overwritten without being cleared. -ENOMEM. */
int endpoint_copy(struct endpoint *out, const struct endpoint *ep);
/* Under which interface name the store keeps the record: a part's is no interface's. */
#define ENDPOINT_KEY_LEN (IFNAMSIZ + 12)
const char *endpoint_key(const struct endpoint *ep, char buf[ENDPOINT_KEY_LEN]);
/* Adds a part's addresses to what endpoint_to_json() made of the endpoint. */
void endpoint_json_add_part(json_t *json, const struct endpoint *part);
/* The record as docs/design/agent.md shows it, for the store and the API. NULL: no memory. */
json_t *endpoint_to_json(const struct endpoint *ep);
/* Back from endpoint_to_json(); -EINVAL names the field in err. */
int endpoint_from_json(const json_t *json, struct endpoint *out, char *err, size_t err_len);

/* The body of POST /v1/endpoints. */
struct endpoint_request {
	/* Filled: who it is, subnets, port name; mac and mtu when asked for, else 0. */
	struct endpoint ep;
	char *netns; /* path that the agent opens */
	/* Addresses asked for, a pair a part; all zero: any. */
	union tw_addr wish4[ENDPOINT_PARTS_MAX];
	union tw_addr wish6[ENDPOINT_PARTS_MAX];
	size_t n_parts; /* 1 at least */
	bool masq;	/* asked for by name: refused where the node does not */
	bool given;	/* the addresses are given by another plugin: these and no others */
};

/* Validates everything. -EINVAL with a sentence that names the field. */
int endpoint_request_parse(const json_t *body, struct endpoint_request *out, char *err,
			   size_t err_len);
void endpoint_request_clear(struct endpoint_request *req);

/* ---- kernel state (link.c, port.c) -------------------------------------------------------- */

/*
 * Opens a network namespace path. -EINVAL when it is not a network namespace or is the
 * caller's own; -ENOENT and the like from open. The fd is close-on-exec.
 */
int endpoint_netns_open(const char *path, int *fd, char *err, size_t err_len);
/* Runs fn with the calling thread inside the network namespace. */
int endpoint_netns_run(int netns_fd, int (*fn)(void *arg), void *arg, char *err, size_t err_len);

/*
 * An endpoint is made in two steps, so that nothing passes before the programs are there:
 *
 *   endpoint_link_create()   the pair, both ends down; the port's settings
 *   (attach the programs, write the maps)
 *   endpoint_link_up()       both ends up with addresses, routes and neighbours
 *
 * After a failure of anything behind create, endpoint_link_delete() undoes all of it.
 * Both need CAP_NET_ADMIN and CAP_SYS_ADMIN, and put the calling thread into the container's
 * network namespace for a moment.
 */

/*
 * Uses ep->ifname, port, mtu, mac (all zero: a random one). Sets ep->port_ifindex and
 * ep->mac. On failure nothing is left. -EEXIST: the container has an interface of that name,
 * which stays untouched. The caller has made sure that no record owns ep->port: an interface
 * of that name on the node is a leftover of a crash, and is replaced.
 */
int endpoint_link_create(struct endpoint *ep, int netns_fd, char *err, size_t err_len);
/* Uses addr4, addr6 and routes too. Sets ep->table. */
int endpoint_link_up(struct endpoint *ep, int netns_fd, char *err, size_t err_len);
/* The addresses of a part, after endpoint_link_up() of its endpoint. */
int endpoint_link_up_part(const struct endpoint *part, int netns_fd, char *err, size_t err_len);
/*
 * An endpoint that is `closed` has no neighbours on the node: what the node's stack sends to it
 * waits, for some seconds at most. This opens it, from any thread: its parts' addresses, as
 * they were taken down.
 */
struct endpoint_address {
	uint32_t port_ifindex;
	uint8_t mac[6];
	union tw_addr addr4, addr6;
};
int endpoint_link_open(const struct endpoint_address *v, size_t n, char *err, size_t err_len);
/*
 * Puts back what the port of an existing record needs (settings, up, routes, neighbours).
 */
int endpoint_link_repair(const struct endpoint *ep, char *err, size_t err_len);
/*
 * Removes the pair of a record, or one that has none (leaks, DELs recorded while the agent was
 * away). 0 also when there is none.
 */
int endpoint_link_delete(const char *port, char *err, size_t err_len);
/*
 * The same for n of them, in one request of which the kernel does each step for all at once. For a thread of its own: it takes some 20 ms each. -errno: some are left.
 */
int endpoint_links_delete(char (*ports)[IFNAMSIZ], size_t n, char *err, size_t err_len);
/*
 * Whether the port is there, without waiting for those who change interfaces. One that is being
 * removed is down and out of reach from the moment on that this says no.
 */
bool endpoint_link_listed(const char *port, uint32_t ifindex);
/*
 * Whether the host's stack forwards what comes from the port, also under the node's own address.
 * -EOPNOTSUPP: IPv6 only when net.ipv6.conf.all.forwarding is 1 (before Linux 6.17).
 */
int endpoint_link_use_stack(const struct endpoint *ep, bool on);
/* Calls fn for each interface with qdiscs of somebody's own: TW_EP_QUEUE_* of each one. */
int endpoint_link_queues(void (*fn)(void *arg, uint32_t ifindex, uint32_t queue), void *arg);
/* Whether the record's port is there, by index and name. */
bool endpoint_link_exists(const struct endpoint *ep);
/*
 * Names of ports (tw + 10 hex digits, veth) that no record of the caller's owns:
 * owned(arg, name) says so. *out is an array of n names, to be freed by the caller.
 */
int endpoint_link_leaks(bool (*owned)(void *arg, const char *port), void *arg,
			char (**out)[IFNAMSIZ], size_t *n);
/*
 * The node's half of CHECK: the port is up and has its settings, routes and neighbours.
 * -ENODEV, -ENETDOWN, -ENOENT and a sentence that names the first thing missing. (The
 * container's half is the plugin's: it holds the final result of the whole plugin chain.)
 */
int endpoint_link_check(const struct endpoint *ep, char *err, size_t err_len);

#endif
