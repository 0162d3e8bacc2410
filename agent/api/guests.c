/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Who is connected, and for how long each has been at its request. Silence alone is no measure: a
 * client that sends a byte now and then is never silent. So an exchange, which is a request and
 * its answer, has an end; and when nearly all places are taken, the process that holds the most of
 * them gives up the one that has been at its exchange longest: a flood makes room for itself, and
 * who has one connection keeps it. Streams of flows have a number of their own and are not counted
 * here once they run.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <utlist.h>

#include "api/internal.h"

#define ROOM 16u /* places that are kept free, so that the next client is heard */
#define EXCHANGE_MS 20000u

struct guest {
	struct MHD_Connection *connection;
	int fd;
	pid_t pid;		   /* who connected */
	uint64_t since;		   /* ms; begin of its exchange */
	struct guest *prev, *next; /* by `since`, the oldest first */
};

static uint64_t now_ms(const struct api *api)
{
	return uv_now(&api->agent->loop);
}

/* The server sees the end of the connection, and tidies up. */
static void guest_dismiss(struct api *api, struct guest *g)
{
	shutdown(g->fd, SHUT_RDWR);
	/* Once; the place is free when the server has closed it. */
	DL_DELETE(api->guests, g);
	g->prev = NULL;
	api->n_guests--;
}

static unsigned int guests_of(const struct api *api, pid_t pid)
{
	const struct guest *g;
	unsigned int n = 0;

	DL_FOREACH(api->guests, g)
		n += g->pid == pid;
	return n;
}

/* The oldest of the process with the most. Some 12 000 steps, and only when places are short. */
static struct guest *guest_choose(const struct api *api)
{
	struct guest *g, *chosen = NULL;
	unsigned int most = 0;

	DL_FOREACH(api->guests, g) {
		unsigned int n = guests_of(api, g->pid);

		if (n > most) {
			most = n;
			chosen = g;
		}
	}
	return chosen;
}

static void guest_come(struct api *api, struct MHD_Connection *connection, void **context)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct guest *g = info ? calloc(1, sizeof(*g)) : NULL;
	struct ucred peer = {};
	socklen_t len = sizeof(peer);

	*context = g;
	if (!g)
		return;
	g->connection = connection;
	g->fd = info->connect_fd;
	if (!getsockopt(g->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		g->pid = peer.pid;
	g->since = now_ms(api);
	DL_APPEND(api->guests, g);
	if (++api->n_guests + api->n_streams > CONNECTIONS_MAX - ROOM)
		guest_dismiss(api, guest_choose(api));
}

static void guest_go(struct api *api, struct guest *g)
{
	if (g && g->prev) {
		DL_DELETE(api->guests, g);
		api->n_guests--;
	}
	free(g);
}

void guests_notify(void *arg, struct MHD_Connection *connection, void **context,
		   enum MHD_ConnectionNotificationCode code)
{
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
		guest_come(arg, connection, context);
	else
		guest_go(arg, *context);
}

static struct guest *guest_of(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

void guest_streams(struct api *api, struct MHD_Connection *connection)
{
	struct guest *g = guest_of(connection);

	if (!g || !g->prev)
		return;
	DL_DELETE(api->guests, g);
	g->prev = NULL;
	api->n_guests--;
}

void guest_answered(struct api *api, struct MHD_Connection *connection)
{
	struct guest *g = guest_of(connection);

	if (!g || !g->prev)
		return;
	/* Its next exchange begins. */
	DL_DELETE(api->guests, g);
	g->since = now_ms(api);
	DL_APPEND(api->guests, g);
}

void guests_sweep(struct api *api)
{
	while (api->guests && now_ms(api) - api->guests->since > EXCHANGE_MS)
		guest_dismiss(api, api->guests);
}
