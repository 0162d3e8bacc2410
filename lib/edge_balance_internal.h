/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#ifndef TOWPATH_EDGE_BALANCE_INTERNAL_H
#define TOWPATH_EDGE_BALANCE_INTERNAL_H

#include "datapath_internal.h"
#include "edge_balance.h"
#include "edge_internal.h"

struct edge_balance {
	struct tw_edge_settings settings; /* that the program was loaded with */
	struct window balance, index, fronts, services, backends;
	/* Its own, so that the edge may be reloaded or closed by another thread. */
	int maglev_fd, conns_fd, nats_fd, quic_fd, count_fd, counters_fd, decap_fd, clock_fd;
	struct mapped_table {
		struct tw_maglev *table; /* NULL: the service is free */
		void *map;
		size_t len;
		uint32_t generation; /* grows when entries are opened */
	} tables[TW_EDGE_SERVICES];
};

/* Elements of maps that are mapped in full when the handle is opened. */
static inline struct tw_edge_balance *balance_at(struct edge_balance *eb)
{
	return window_at(&eb->balance, 0);
}

static inline struct tw_edge_service *service_at(struct edge_balance *eb, uint16_t service)
{
	return window_at(&eb->services, service);
}

static inline struct tw_edge_backend *backend_at(struct edge_balance *eb, uint16_t backend)
{
	return window_at(&eb->backends, backend);
}

/* jiffies, low 32 bits. */
static inline int eb_now(const struct edge_balance *eb, uint32_t *now)
{
	uint64_t jiffies;
	int res = edge_clock_read(eb->clock_fd, &jiffies);

	if (!res)
		*now = (uint32_t)jiffies;
	return res;
}

#endif
