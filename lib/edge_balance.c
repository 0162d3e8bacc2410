/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Frontends, services and backends in the maps; edge_walk.c has the connections. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "edge_balance_internal.h"

#define PAGE 4096u

/* ---- opening ----------------------------------------------------------------------------- */

static int windows_open(struct edge_balance *eb, const struct edge *edge)
{
	const struct {
		struct window *window;
		const char *map;
		uint32_t size, n;
	} all[] = {
		{ &eb->balance, "tw_edge_balance", sizeof(struct tw_edge_balance), 1 },
		{ &eb->index, "tw_edge_index", sizeof(struct tw_edge_index), 2 },
		{ &eb->fronts, "tw_edge_fronts", sizeof(struct tw_edge_front), TW_EDGE_FRONTS },
		{ &eb->services, "tw_edge_services", sizeof(struct tw_edge_service),
		  TW_EDGE_SERVICES },
		{ &eb->backends, "tw_edge_backends", sizeof(struct tw_edge_backend),
		  TW_EDGE_BACKENDS },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		int fd = edge_map_fd(edge, all[i].map), res;

		if (fd < 0)
			return fd;
		res = window_open(all[i].window, fd, all[i].size, all[i].n);
		/* Mapped now, so that later calls cannot fail, and walks on other threads only read. */
		for (uint32_t at = 0; !res && at < all[i].n; at += WINDOW_BYTES / all[i].size ?: 1)
			res = window_at(all[i].window, at) ? 0 : -ENOMEM;
		if (res)
			return res;
	}
	return 0;
}

/* The descriptors that it has, each with where it comes from; the clock's is a program's. */
#define OWN_FDS 8
struct own_fd {
	int *fd;
	const char *map;
};

static void own_fds(struct edge_balance *eb, struct own_fd out[OWN_FDS])
{
	const struct own_fd all[OWN_FDS] = {
		{ &eb->maglev_fd, "tw_edge_maglev" },
		{ &eb->conns_fd, "tw_edge_conns" },
		{ &eb->nats_fd, "tw_edge_nats" },
		{ &eb->quic_fd, "tw_edge_quic" },
		{ &eb->count_fd, "tw_edge_backend_count" },
		{ &eb->counters_fd, "tw_edge_balance_count" },
		{ &eb->decap_fd, "tw_edge_decap" },
		{ &eb->clock_fd, NULL },
	};

	memcpy(out, all, sizeof(all));
}

static int fds_open(struct edge_balance *eb, const struct edge *edge)
{
	struct own_fd own[OWN_FDS];

	own_fds(eb, own);
	for (size_t i = 0; i < OWN_FDS; i++)
		*own[i].fd = -1;
	for (size_t i = 0; i < OWN_FDS; i++) {
		int fd = own[i].map ? edge_map_fd(edge, own[i].map) : edge_clock_fd(edge);

		*own[i].fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (*own[i].fd < 0)
			return -errno;
	}
	return 0;
}

static void fds_close(struct edge_balance *eb)
{
	struct own_fd own[OWN_FDS];

	own_fds(eb, own);
	for (size_t i = 0; i < OWN_FDS; i++)
		if (*own[i].fd >= 0)
			close(*own[i].fd);
}

/* An element of tw_edge_maglev does not begin at a page. */
static int table_map(struct edge_balance *eb, uint16_t service)
{
	size_t at = (size_t)service * sizeof(struct tw_maglev), begin = at & ~(size_t)(PAGE - 1);
	size_t total = ((size_t)TW_EDGE_SERVICES * sizeof(struct tw_maglev) + PAGE - 1) &
		       ~(size_t)(PAGE - 1);
	size_t end = (at + sizeof(struct tw_maglev) + PAGE - 1) & ~(size_t)(PAGE - 1);
	struct mapped_table *t = &eb->tables[service];

	if (t->table)
		return 0;
	if (end > total)
		end = total;
	t->map = mmap(NULL, end - begin, PROT_READ | PROT_WRITE, MAP_SHARED, eb->maglev_fd,
		      (off_t)begin);
	if (t->map == MAP_FAILED) {
		t->map = NULL;
		return -errno;
	}
	t->len = end - begin;
	t->table = (struct tw_maglev *)((char *)t->map + (at - begin));
	return 0;
}

static void table_unmap(struct edge_balance *eb, uint16_t service)
{
	struct mapped_table *t = &eb->tables[service];

	if (t->map)
		munmap(t->map, t->len);
	*t = (struct mapped_table){ .generation = t->generation };
}

int edge_balance_open(struct edge_balance **out, struct edge *edge)
{
	struct edge_balance *eb = calloc(1, sizeof(*eb));
	int res;

	if (!eb)
		return -ENOMEM;
	eb->settings = edge->settings;
	res = fds_open(eb, edge);
	if (!res)
		res = windows_open(eb, edge);
	for (uint16_t i = 1; !res && i < TW_EDGE_SERVICES; i++)
		if (service_at(eb, i)->name)
			res = table_map(eb, i);
	if (res) {
		edge_balance_close(eb);
		return res;
	}
	*out = eb;
	return 0;
}

void edge_balance_close(struct edge_balance *eb)
{
	if (!eb)
		return;
	for (uint16_t i = 0; i < TW_EDGE_SERVICES; i++)
		table_unmap(eb, i);
	window_close(&eb->balance);
	window_close(&eb->index);
	window_close(&eb->fronts);
	window_close(&eb->services);
	window_close(&eb->backends);
	fds_close(eb);
	free(eb);
}

int edge_balance_limits_set(struct edge_balance *eb, const struct edge_balance_limits *limits)
{
	struct tw_edge_balance *b = balance_at(eb);

	if (limits->nat_last < limits->nat_first)
		return -EINVAL;
	__atomic_store_n(&b->insert_rate, limits->insert_rate, __ATOMIC_RELAXED);
	__atomic_store_n(&b->icmp_rate, limits->icmp_rate, __ATOMIC_RELAXED);
	/* A packet that sees half of it takes a port at the edge of either range for none. */
	__atomic_store_n(&b->nat_first, limits->nat_first, __ATOMIC_RELAXED);
	__atomic_store_n(&b->nat_last, limits->nat_last, __ATOMIC_RELAXED);
	return 0;
}

/* ---- frontends ---------------------------------------------------------------------------- */

/* What a set of frontends becomes, before any of it is in force. */
struct fronts_plan {
	struct tw_edge_front *value;
	uint32_t *number; /* in tw_edge_fronts; 0: not there yet */
	size_t n;
	uint8_t lens[TW_EDGE_PREFIXES]; /* longest first */
	uint32_t n_lens;
	bool any_port;
};

static int by_length(const void *a, const void *b)
{
	return *(const uint8_t *)b - *(const uint8_t *)a;
}

static int plan_lengths(struct fronts_plan *plan, const struct edge_front *fronts)
{
	for (size_t i = 0; i < plan->n; i++) {
		uint8_t len = fronts[i].len;

		if (len == 128 || memchr(plan->lens, len, plan->n_lens))
			continue;
		if (plan->n_lens == TW_EDGE_PREFIXES)
			return -ENOSPC;
		plan->lens[plan->n_lens++] = len;
	}
	qsort(plan->lens, plan->n_lens, 1, by_length);
	return 0;
}

static void plan_values(struct fronts_plan *plan, const struct edge_front *fronts)
{
	for (size_t i = 0; i < plan->n; i++) {
		const struct edge_front *f = &fronts[i];
		const uint8_t *at = memchr(plan->lens, f->len, plan->n_lens);

		plan->value[i] = (struct tw_edge_front){
			.addr = f->addr,
			.port = f->port,
			.proto = f->proto,
			.prefix = at ? (uint8_t)(at - plan->lens) : TW_EDGE_NO_PREFIX,
			.service = f->service,
			.flags = f->flags,
			.seed = f->seed,
		};
		plan->any_port |= !f->port;
	}
}

/* Which elements of tw_edge_fronts the index in use refers to. */
static void fronts_used(struct edge_balance *eb, bool used[TW_EDGE_FRONTS])
{
	const struct tw_edge_index *index = window_at(&eb->index, balance_at(eb)->index);

	memset(used, 0, TW_EDGE_FRONTS * sizeof(*used));
	for (uint32_t i = 0; i < TW_EDGE_INDEX; i++)
		if (index->word[i] < TW_EDGE_FRONTS)
			used[index->word[i]] = true;
}

/* Equal ones keep their element; the others get one that is not in use. */
static int plan_number(struct edge_balance *eb, struct fronts_plan *plan)
{
	bool used[TW_EDGE_FRONTS];
	uint32_t free_at = 1;

	fronts_used(eb, used);
	for (size_t i = 0; i < plan->n; i++)
		for (uint32_t at = 1; at < TW_EDGE_FRONTS && !plan->number[i]; at++)
			if (used[at] && !memcmp(window_at(&eb->fronts, at), &plan->value[i],
						sizeof(plan->value[i])))
				plan->number[i] = at;
	for (size_t i = 0; i < plan->n; i++) {
		if (plan->number[i])
			continue;
		while (free_at < TW_EDGE_FRONTS && used[free_at])
			free_at++;
		if (free_at == TW_EDGE_FRONTS)
			return -ENOSPC;
		plan->number[i] = free_at++;
	}
	return 0;
}

void edge_mask_make(uint8_t len, union tw_addr *out)
{
	*out = (union tw_addr){};
	for (uint8_t i = 0; i < len; i++)
		out->byte[i / 8] |= (uint8_t)(0x80 >> i % 8);
}

static int plan_index(const struct fronts_plan *plan, struct tw_edge_index *index)
{
	*index = (struct tw_edge_index){ .any_port = plan->any_port, .n_prefixes = plan->n_lens };
	for (uint32_t i = 0; i < plan->n_lens; i++)
		edge_mask_make(plan->lens[i], &index->mask[i]);
	for (size_t i = 0; i < plan->n; i++) {
		const struct tw_edge_front *f = &plan->value[i];
		uint32_t h = tw_edge_front_hash(&f->addr, f->port, f->proto), step = 0;

		while (step < TW_EDGE_PROBES && index->word[(h + step) % TW_EDGE_INDEX])
			step++;
		if (step == TW_EDGE_PROBES)
			return -ENOSPC;
		index->word[(h + step) % TW_EDGE_INDEX] = plan->number[i];
	}
	return 0;
}

/* Nobody has read the other index since the grace period of the switch before this one. */
static void plan_write(struct edge_balance *eb, const struct fronts_plan *plan,
		       const struct tw_edge_index *index)
{
	struct tw_edge_balance *b = balance_at(eb);
	uint32_t other = !b->index;

	for (size_t i = 0; i < plan->n; i++)
		*(struct tw_edge_front *)window_at(&eb->fronts, plan->number[i]) = plan->value[i];
	memcpy(window_at(&eb->index, other), index, sizeof(*index));
	__atomic_store_n(&b->index, other, __ATOMIC_RELEASE);
	datapath_rcu_wait();
}

int edge_fronts_set(struct edge_balance *eb, const struct edge_front *fronts, size_t n)
{
	struct fronts_plan plan = { .n = n };
	struct tw_edge_index *index;
	int res;

	if (n > TW_EDGE_FRONTS / 2 - 1)
		return -ENOSPC;
	plan.value = calloc(n ?: 1, sizeof(*plan.value));
	plan.number = calloc(n ?: 1, sizeof(*plan.number));
	index = calloc(1, sizeof(*index));
	res = plan.value && plan.number && index ? plan_lengths(&plan, fronts) : -ENOMEM;
	if (!res) {
		plan_values(&plan, fronts);
		res = plan_number(eb, &plan);
	}
	if (!res)
		res = plan_index(&plan, index);
	if (!res)
		plan_write(eb, &plan, index);
	free(plan.value);
	free(plan.number);
	free(index);
	return res;
}

static int quic_set(struct edge_balance *eb, uint16_t backend, const struct tw_edge_backend *b)
{
	struct tw_edge_quic_key key = { .service = b->service, .server_id = b->server_id };
	uint32_t value = backend;

	if (!b->server_id)
		return 0;
	return bpf_map_update_elem(eb->quic_fd, &key, &value, BPF_ANY) ? -errno : 0;
}

/* Only if it is this backend's: another may have the id by now. */
static void quic_del(struct edge_balance *eb, uint16_t backend, const struct tw_edge_backend *b)
{
	struct tw_edge_quic_key key = { .service = b->service, .server_id = b->server_id };
	uint32_t value;

	if (b->server_id && !bpf_map_lookup_elem(eb->quic_fd, &key, &value) && value == backend)
		bpf_map_delete_elem(eb->quic_fd, &key);
}

/* Takes one backend, or all of a service, out of use, waits, and makes them free. */
static void backends_clear(struct edge_balance *eb, uint16_t service, uint16_t backend)
{
	int cpus = libbpf_num_possible_cpus();
	struct tw_edge_backend_count *none = calloc((size_t)(cpus > 0 ? cpus : 1), sizeof(*none));
	uint8_t gone[TW_EDGE_BACKENDS] = {};

	for (uint16_t i = 1; i < TW_EDGE_BACKENDS; i++) {
		struct tw_edge_backend *b = backend_at(eb, i);

		if (!b->way || (backend ? i != backend : b->service != service))
			continue;
		gone[i] = 1;
		quic_del(eb, i, b);
		__atomic_store_n(&b->src, 0, __ATOMIC_RELEASE);
	}
	datapath_rcu_wait();
	for (uint32_t i = 1; i < TW_EDGE_BACKENDS; i++) {
		if (!gone[i])
			continue;
		memset(backend_at(eb, (uint16_t)i), 0, sizeof(struct tw_edge_backend));
		if (none)
			bpf_map_update_elem(eb->count_fd, &i, none, BPF_ANY);
	}
	free(none);
}

/* ---- services ------------------------------------------------------------------------------ */

int edge_service_get(struct edge_balance *eb, uint64_t name, uint16_t *service)
{
	uint16_t found = 0;
	int res;

	for (uint16_t i = TW_EDGE_SERVICES - 1; i; i--) {
		uint64_t there = service_at(eb, i)->name;

		if (there == name) {
			*service = i;
			return 0;
		}
		if (!there)
			found = i;
	}
	if (!found)
		return -ENOSPC;
	res = table_map(eb, found);
	if (res)
		return res;
	memset(eb->tables[found].table, 0, sizeof(struct tw_maglev));
	*service_at(eb, found) = (struct tw_edge_service){ .name = name };
	*service = found;
	return 0;
}

int edge_service_each(struct edge_balance *eb,
		      int (*fn)(void *arg, uint16_t service, uint64_t name), void *arg)
{
	for (uint16_t i = 1; i < TW_EDGE_SERVICES; i++) {
		uint64_t name = service_at(eb, i)->name;
		int res = name ? fn(arg, i, name) : 0;

		if (res)
			return res;
	}
	return 0;
}

int edge_service_idle(struct edge_balance *eb, uint16_t service, uint32_t seconds)
{
	if (!service || service >= TW_EDGE_SERVICES || !eb->tables[service].table)
		return -ENOENT;
	service_at(eb, service)->idle = seconds * eb->settings.hz;
	return 0;
}

int edge_service_clear(struct edge_balance *eb, uint16_t service)
{
	if (!service || service >= TW_EDGE_SERVICES || !eb->tables[service].table)
		return -ENOENT;
	backends_clear(eb, service, 0);
	memset(eb->tables[service].table, 0, sizeof(struct tw_maglev));
	eb->tables[service].generation++;
	/* Entries of tw_edge_conns go at the next walk, as of a service that nobody has. */
	*service_at(eb, service) = (struct tw_edge_service){};
	table_unmap(eb, service);
	return 0;
}

/* The new word of an entry whose flows are to go to `now`; see bpf/lib/edge_conn.h. */
static uint32_t word_turn(uint32_t word, uint16_t now)
{
	if (!word)
		return TW_MAGLEV_WORD(now, now);
	if (TW_MAGLEV_NOW(word) == now)
		return word;
	return TW_MAGLEV_WORD(now, TW_MAGLEV_BEFORE(word)) | TW_MAGLEV_OPEN;
}

int edge_service_turn(struct edge_balance *eb, uint16_t service,
		      const struct maglev_backend *backends, size_t n, uint32_t learn,
		      uint32_t *opened)
{
	struct tw_edge_service *s;
	uint32_t now, changed = 0;
	struct tw_maglev *table;
	uint16_t *fresh;
	int res;

	if (!service || service >= TW_EDGE_SERVICES || !eb->tables[service].table)
		return -ENOENT;
	res = eb_now(eb, &now);
	if (res)
		return res;
	fresh = calloc(TW_MAGLEV_SIZE, sizeof(*fresh));
	if (!fresh)
		return -ENOMEM;
	res = maglev_fill(fresh, backends, n);
	s = service_at(eb, service);
	table = eb->tables[service].table;
	for (uint32_t i = 0; !res && i < TW_MAGLEV_SIZE; i++)
		changed += table->word[i] && word_turn(table->word[i], fresh[i]) != table->word[i];
	if (!res && changed) {
		__atomic_store_n(&s->learn_until, now + learn * eb->settings.hz, __ATOMIC_RELEASE);
		s->changed = now;
		eb->tables[service].generation++;
	}
	for (uint32_t i = 0; !res && i < TW_MAGLEV_SIZE; i++)
		__atomic_store_n(&table->word[i], word_turn(table->word[i], fresh[i]),
				 __ATOMIC_RELEASE);
	free(fresh);
	if (!res && opened)
		*opened = changed;
	return res;
}

int edge_service_forget(struct edge_balance *eb, uint16_t service, uint16_t backend)
{
	struct tw_maglev *table;

	if (!service || service >= TW_EDGE_SERVICES || !eb->tables[service].table)
		return -ENOENT;
	table = eb->tables[service].table;
	for (uint32_t i = 0; i < TW_MAGLEV_SIZE; i++) {
		uint32_t word = table->word[i];

		if (TW_MAGLEV_NOW(word) == backend)
			return -EBUSY;
		if (TW_MAGLEV_BEFORE(word) == backend)
			__atomic_store_n(&table->word[i],
					 TW_MAGLEV_WORD(TW_MAGLEV_NOW(word), TW_MAGLEV_NOW(word)) |
						 (word & TW_MAGLEV_OPEN),
					 __ATOMIC_RELEASE);
	}
	return 0;
}

int edge_service_open(struct edge_balance *eb, uint16_t service, uint32_t *open)
{
	uint32_t n = 0;

	if (!service || service >= TW_EDGE_SERVICES || !eb->tables[service].table)
		return -ENOENT;
	for (uint32_t i = 0; i < TW_MAGLEV_SIZE; i++)
		n += eb->tables[service].table->word[i] >> 31;
	*open = n;
	return 0;
}

/* ---- backends ------------------------------------------------------------------------------ */

int edge_backend_get(struct edge_balance *eb, uint16_t backend, struct tw_edge_backend *out)
{
	if (!backend || backend >= TW_EDGE_BACKENDS)
		return -EINVAL;
	*out = *backend_at(eb, backend);
	return out->way ? 0 : -ENOENT;
}

int edge_backend_new(struct edge_balance *eb, uint16_t *backend)
{
	for (uint16_t i = 1; i < TW_EDGE_BACKENDS; i++) {
		if (backend_at(eb, i)->way)
			continue;
		*backend = i;
		return 0;
	}
	return -ENOSPC;
}

/* What the sum of an outer IPv4 header owes to fields that are the same in every packet. */
static uint16_t outer_sum(const struct tw_edge_backend *b)
{
	const uint32_t fixed[] = { 0x4500, 0x4000 }; /* version and length; don't fragment */
	const uint8_t *at[] = { b->source.byte + 12, b->addr.byte + 12 };
	uint32_t sum = fixed[0] + fixed[1];
	uint8_t bytes[2];
	uint16_t out;

	for (int i = 0; i < 4; i++)
		sum += (uint32_t)at[i / 2][i % 2 * 2] << 8 | at[i / 2][i % 2 * 2 + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	bytes[0] = (uint8_t)(sum >> 8);
	bytes[1] = (uint8_t)sum;
	memcpy(&out, bytes, 2);
	return out;
}

int edge_backend_set(struct edge_balance *eb, uint16_t backend, const struct tw_edge_backend *value)
{
	struct tw_edge_backend *b, v = *value;
	int res;

	if (!backend || backend >= TW_EDGE_BACKENDS || !value->way)
		return -EINVAL;
	b = backend_at(eb, backend);
	v.sum = outer_sum(value);
	if (b->way && (memcmp(&b->addr, &v.addr, 16) || b->service != v.service ||
		       b->way != v.way || b->port != v.port))
		return -EEXIST;
	if (b->way && b->server_id != v.server_id)
		quic_del(eb, backend, b);
	res = quic_set(eb, backend, &v);
	if (res)
		return res;
	b->addr = v.addr;
	b->port = v.port;
	b->service = v.service;
	b->server_id = v.server_id;
	/*
	 * The node's own address changes seldom; then a packet may leave with the old sum or half
	 * an address, and is lost.
	 */
	b->source = v.source;
	b->sum = v.sum;
	b->ifindex = v.ifindex;
	__atomic_store_n(&b->dst, v.dst, __ATOMIC_RELEASE);
	__atomic_store_n(&b->src, v.src, __ATOMIC_RELEASE);
	return 0;
}

int edge_backend_clear(struct edge_balance *eb, uint16_t backend)
{
	if (!backend || backend >= TW_EDGE_BACKENDS)
		return -EINVAL;
	backends_clear(eb, 0, backend);
	return 0;
}

int edge_backend_count(struct edge_balance *eb, uint16_t backend, struct tw_edge_backend_count *out)
{
	uint64_t sum[4];
	int res = datapath_percpu_sum(eb->count_fd, backend, sum, 4);

	if (!res)
		*out = (struct tw_edge_backend_count){ .packets = sum[0],
						       .bytes = sum[1],
						       .opened = sum[2] };
	return res;
}

int edge_balance_counter(struct edge_balance *eb, enum tw_edge_balance_counter counter,
			 uint64_t *out)
{
	return datapath_percpu_sum(eb->counters_fd, counter, out, 1);
}

int edge_decap_set(struct edge_balance *eb, const struct edge_prefix_mask *from, size_t n)
{
	struct tw_edge_decap value = { .n = (uint32_t)n };
	uint32_t zero = 0;

	if (n > TW_EDGE_DECAP_SOURCES)
		return -ENOSPC;
	for (size_t i = 0; i < n; i++) {
		value.from[i].addr = from[i].addr;
		value.from[i].mask = from[i].mask;
	}
	return bpf_map_update_elem(eb->decap_fd, &zero, &value, BPF_ANY) ? -errno : 0;
}

const struct tw_edge_settings *edge_balance_settings(const struct edge_balance *eb)
{
	return &eb->settings;
}
