/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Whom a rule must not lock out: those that manage this node now, and its way to the world. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "edge/internal.h"
#include "netlink.h"

#define SSH_PORT 22u
/* To list TCP connections takes the kernel some 8 ms, however few there are. */
#define NODE_MS 10000u

struct found {
	struct guarded *v;
	size_t n;
};

static void add(struct found *f, const union tw_addr *addr, uint16_t port, const char *who)
{
	for (size_t i = 0; i < f->n; i++)
		if (!memcmp(&f->v[i].addr, addr, sizeof(*addr)) && f->v[i].port == port)
			return;
	if (f->n == GUARDED_MAX || addr_is_loopback(addr))
		return;
	f->v[f->n] = (struct guarded){ .addr = *addr, .port = port };
	snprintf(f->v[f->n].who, sizeof(f->v[f->n].who), "%s", who);
	f->n++;
}

/* SSH_CONNECTION: the client's address and port, the server's address and port. */
static void client_add(struct found *f, const char *client)
{
	char from[64], to[64];
	unsigned int sport, dport;
	union tw_addr addr;

	if (client && sscanf(client, "%63s %u %63s %u", from, &sport, to, &dport) == 4 &&
	    dport <= 65535 && !addr_parse(from, &addr))
		add(f, &addr, (uint16_t)dport, "from where this command comes");
}

/* Lines of /proc/net/tcp and tcp6: addresses in words of the host's order, state 01 is established. */
static void session_add(struct found *f, const char *line)
{
	char local[40], remote[40];
	unsigned int lport, rport, state;
	union tw_addr addr = {};

	if (sscanf(line, " %*u: %39[0-9A-F]:%4X %39[0-9A-F]:%4X %2X", local, &lport, remote, &rport,
		   &state) != 5 ||
	    state != 1 || lport != SSH_PORT)
		return;
	if (strlen(remote) == 8) {
		addr.word[2] = htonl(0xffff);
		sscanf(remote, "%8X", &addr.word[3]);
	} else {
		for (int i = 0; i < 4; i++)
			sscanf(remote + 8 * i, "%8X", &addr.word[i]);
	}
	add(f, &addr, SSH_PORT, "from where somebody is logged in by SSH");
}

static void sessions_add(struct found *f, const char *path)
{
	FILE *file = fopen(path, "re");
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		session_add(f, line);
	if (file)
		fclose(file);
}

static int gateway_add(void *arg, const struct nl_route *route)
{
	if (route->has_gateway && (route->len == 0 || route->len == 96))
		add(arg, &route->gateway, 0, "which is this node's default gateway");
	return 0;
}

static void node_look(struct guarded_node *node)
{
	struct found f = { .v = node->v };
	_cleanup_nl_ struct nl nl = {};

	if (!nl_open(&nl))
		nl_route_each(&nl, gateway_add, &f);
	sessions_add(&f, "/proc/net/tcp");
	sessions_add(&f, "/proc/net/tcp6");
	node->n = f.n;
}

size_t guarded_find(struct edges *e, const char *client, struct guarded out[GUARDED_MAX])
{
	struct found f = { .v = out };
	uint64_t now = uv_now(&e->a->loop);

	if (!e->guarded.at || now - e->guarded.at > NODE_MS) {
		node_look(&e->guarded);
		e->guarded.at = now;
	}
	client_add(&f, client);
	for (size_t i = 0; i < e->guarded.n; i++)
		add(&f, &e->guarded.v[i].addr, e->guarded.v[i].port, e->guarded.v[i].who);
	return f.n;
}
