/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The node's own side: uplinks, local addresses, what changes about them, and the sysctls that
 * Towpath sets outside its own ports. A node is the network namespace of the caller.
 */
#ifndef AGENT_NODE_H
#define AGENT_NODE_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "object/object.h"

struct uplink {
	uint32_t ifindex;
	char name[IFNAMSIZ];
	uint32_t mtu;
	bool up;
	union tw_addr addr4; /* first address of global scope, mapped; all zero: none */
	union tw_addr addr6;
};

/*
 * Uplinks by name, or, with n_names 0, every interface that a default route of either family
 * leaves through. *out is one allocation, the caller's to free. -ENODEV: `all` names were to be
 * there, and there is no interface of that name, which err names. No uplink at all is no error.
 */
int uplink_find(const char *const *names, size_t n_names, bool all, struct uplink **out, size_t *n,
		char *err, size_t err_len);
/*
 * What containers get: the smallest MTU of the uplinks, but not less than IPv6 needs. 1500 when
 * there are none.
 */
uint32_t uplink_mtu(const struct uplink *uplinks, size_t n);

struct node_addr {
	union tw_addr addr;
	uint8_t len; /* of the prefix on the link, as in struct prefix: 96 + for IPv4 */
	uint32_t ifindex;
};
/* All addresses that are local to this node (loopback and link-local included). */
int node_addrs(struct node_addr **out, size_t *n);

/* Changes of links, addresses and routes. Not of Towpath's own ports (tw...). */
enum node_change { NODE_LINK = 1, NODE_ADDR = 2, NODE_ROUTE = 4 };
struct node_watch;
int node_watch_open(struct node_watch **out);
int node_watch_fd(const struct node_watch *w); /* poll for reading */
/*
 * Reads what has come. *changes is the OR of what happened: look everything up anew. When
 * messages were lost, all bits are set. Never blocks.
 */
int node_watch_read(struct node_watch *w, unsigned int *changes);
void node_watch_close(struct node_watch *w);

/*
 * Called before a sysctl outside Towpath's ports is changed for the first time: path below
 * /proc/sys ("net/ipv4/conf/eth0/forwarding") and the old value. An error stops the change.
 * The callee keeps the first value that it ever saw for a path.
 */
typedef int (*sysctl_save_fn)(void *arg, const char *path, const char *old);

/* Source ports of masqueraded flows: above the kernel's ephemeral range and the NodePorts. */
#define NODE_SNAT_FIRST 61000u
#define NODE_SNAT_LAST 65535u

/*
 * forwarding on, both families; accept_ra 1 becomes 2 first, or the kernel would drop the
 * default routes that it learned (RFC 4861 6.2.1: routers ignore advertisements).
 */
int uplink_prepare(const struct uplink *uplink, sysctl_save_fn save, void *arg, char *err,
		   size_t err_len);
/* Adds the range of translated source ports to net.ipv4.ip_local_reserved_ports. */
int node_reserve_ports(sysctl_save_fn save, void *arg, char *err, size_t err_len);
/* Puts a remembered value back. A path that is gone (the interface is) is no error. */
int sysctl_restore(const char *path, const char *old);

/* Reads or writes below /proc/sys of the calling thread's network namespace. */
int sysctl_read(const char *path, char *buf, size_t len);
int sysctl_write(const char *path, const char *value);

#endif
