/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the agent and the CNI plugin must agree on about one attachment (container id, interface
 * name) without asking each other: which names are valid, and how its port is called. The
 * names of ports are also in the records on disk: never change how they are made.
 */
#ifndef TOWPATH_ATTACHMENT_H
#define TOWPATH_ATTACHMENT_H

#include <stdbool.h>

#define TW_PORT_PREFIX "tw"
#define TW_PORT_NAME_LEN 12		/* tw and 10 hex digits */
#define TW_PORT_MAC "02:54:57:00:00:01" /* of every port: the containers' gateway */

/* What a container sees as its gateway; one for all ports of all nodes. */
#define TW_GATEWAY4 "169.254.1.1"
#define TW_GATEWAY6 "fe80::1"

/* The node's end of the pair: a hash of (container id, ifname). */
void tw_port_name(const char *container_id, const char *ifname, char buf[TW_PORT_NAME_LEN + 1]);
/* Whether an interface name has that form. */
bool tw_port_name_valid(const char *name);

/*
 * The rule of the CNI specification, [A-Za-z0-9][A-Za-z0-9_.-]*, for container ids and network
 * names; at most 239 characters, so that "<id>@<ifname>" is the name of a file.
 */
bool tw_cni_name_valid(const char *name);
/* What the kernel takes for an interface: 1 to 15 characters without '/', ':', white space. */
bool tw_ifname_valid(const char *ifname);

#endif
