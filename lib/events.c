/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <towpath/events.h>

#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>

#include "btf_value.h"
#include "datapath_internal.h"
#include "map_internal.h"

#define PERF_PAGES 64 /* of each CPU */

struct tw_events {
	struct ring_buffer *ring;
	struct perf_buffer *perf; /* one of the two */
	struct btf *btf;
	uint32_t type;
	size_t size;
	uint64_t lost;
	/* Of the call that is under way. */
	int (*fn)(void *arg, const void *data, size_t size);
	void *arg;
	int result, count;
};

static int event_give(struct tw_events *e, const void *data, size_t size)
{
	if (e->result)
		return e->result;
	e->count++;
	e->result = e->fn(e->arg, data, size);
	return e->result;
}

static int on_ring(void *ctx, void *data, size_t size)
{
	int res = event_give(ctx, data, size);

	/* Below 0 ends libbpf's loop; the event is counted as read before. */
	return res > 0 ? -ECANCELED : res;
}

static enum bpf_perf_event_ret on_perf(void *ctx, int cpu, struct perf_event_header *header)
{
	const struct {
		struct perf_event_header header;
		uint32_t size;
		char data[];
	} *sample = (const void *)header;
	const struct {
		struct perf_event_header header;
		uint64_t id, lost;
	} *lost = (const void *)header;
	struct tw_events *e = ctx;

	if (header->type == PERF_RECORD_LOST)
		e->lost += lost->lost;
	else if (header->type == PERF_RECORD_SAMPLE && event_give(e, sample->data, sample->size))
		return LIBBPF_PERF_EVENT_ERROR;
	return LIBBPF_PERF_EVENT_CONT;
}

/* A struct, union, enum or typedef of that name. */
static int type_find(struct tw_events *e, const struct tw_map *map, const char *type, char *err,
		     size_t err_len)
{
	static const unsigned int kinds[] = { BTF_KIND_STRUCT, BTF_KIND_TYPEDEF, BTF_KIND_UNION,
					      BTF_KIND_ENUM, BTF_KIND_INT };
	int id = -ENOENT;

	for (size_t i = 0; map->btf && id < 0 && i < sizeof(kinds) / sizeof(*kinds); i++)
		id = btf__find_by_name_kind(map->btf, type, kinds[i]);
	int64_t size = id < 0 ? -1 : btf__resolve_size(map->btf, (uint32_t)id);

	if (size < 0 && !map->btf)
		datapath_message(err, err_len, "%s: no program that uses it has BTF",
				 map->info.name);
	else if (size < 0)
		datapath_message(
			err, err_len, "%s: there is no type \"%.64s\" in the BTF of its program%s",
			map->info.name, type, "; a struct that no variable has is not there");
	if (size < 0)
		return -ENOENT;
	/* The map may go before the events. */
	uint32_t len;
	const void *raw = btf__raw_data(map->btf, &len);

	e->btf = raw ? btf__new(raw, len) : NULL;
	e->type = (uint32_t)id;
	e->size = (size_t)size;
	return e->btf ? 0 : -ENOMEM;
}

static int buffer_open(struct tw_events *e, const struct tw_map *map)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_BPF_OUTPUT,
		.sample_type = PERF_SAMPLE_RAW,
		.sample_period = 1,
		.wakeup_events = 1,
	};

	if (map->info.type == BPF_MAP_TYPE_RINGBUF)
		e->ring = ring_buffer__new(map->fd, on_ring, e, NULL);
	else
		e->perf = perf_buffer__new_raw(map->fd, PERF_PAGES, &attr, on_perf, e, NULL);
	return e->ring || e->perf ? 0 : -errno;
}

int tw_events_open(struct tw_events **out, const struct tw_map *map, const char *type, char *err,
		   size_t err_len)
{
	struct tw_events *e;
	int res = 0;

	if (map->info.access != TW_MAP_EVENTS) {
		datapath_message(err, err_len, "%s is a %s, which holds no events", map->info.name,
				 map->info.type_name);
		return -EINVAL;
	}
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	if (type)
		res = type_find(e, map, type, err, err_len);
	if (!res) {
		res = buffer_open(e, map);
		if (res)
			datapath_message(err, err_len, "%s cannot be read: %s", map->info.name,
					 strerror(-res));
	}
	if (res)
		tw_events_close(e);
	else
		*out = e;
	return res;
}

void tw_events_close(struct tw_events *events)
{
	if (!events)
		return;
	ring_buffer__free(events->ring);
	perf_buffer__free(events->perf);
	btf__free(events->btf);
	free(events);
}

int tw_events_fd(const struct tw_events *events)
{
	return events->ring ? ring_buffer__epoll_fd(events->ring)
			    : perf_buffer__epoll_fd(events->perf);
}

int tw_events_read(struct tw_events *events, int timeout_ms,
		   int (*fn)(void *arg, const void *data, size_t size), void *arg)
{
	int res;

	events->fn = fn;
	events->arg = arg;
	events->result = events->count = 0;
	res = events->ring ? ring_buffer__poll(events->ring, timeout_ms)
			   : perf_buffer__poll(events->perf, timeout_ms);
	if (events->result < 0)
		return events->result;
	/* Programs that do not wake readers up (BPF_RB_NO_WAKEUP) leave events behind. */
	if (events->ring && !res && !events->result)
		res = ring_buffer__consume(events->ring);
	if (events->result < 0)
		return events->result;
	return res < 0 && !events->result ? res : events->count;
}

json_t *tw_events_json(const struct tw_events *events, const void *data, size_t size)
{
	json_t *out = NULL;

	if (!events->btf)
		return btf_hex_json(data, size);
	if (size < events->size)
		return NULL;
	return btf_value_json(events->btf, events->type, data, events->size, &out) ? NULL : out;
}

uint64_t tw_events_lost(const struct tw_events *events)
{
	return events->lost;
}
