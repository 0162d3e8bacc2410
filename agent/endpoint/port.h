/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The node's end of a pair, for link.c. */
#ifndef AGENT_ENDPOINT_PORT_H
#define AGENT_ENDPOINT_PORT_H

#include "endpoint/endpoint.h"
#include "netlink.h"

/* No address made by the kernel itself, link-local ones included; on a message of a link. */
void nl_put_no_ipv6_address(struct nlmsghdr *nlh);
/* What must be there before the port is up: forwarding, rp_filter, no IPv6 addresses. */
int port_prepare(struct nl *nl, const char *port, uint32_t ifindex, char *err, size_t err_len);
/* Up, with routes and, unless the endpoint is closed, neighbours. */
int port_up(struct nl *nl, const struct endpoint *ep, char *err, size_t err_len);

#endif
