/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "edge_limit.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "datapath_internal.h"
#include "edge_internal.h"

#define PROTO_TCP 6
#define PROTO_UDP 17

/* The longest burst in units is below 2^31; see struct tw_edge_limit. */
#define BURST_BITS 31
#define SHIFT_MAX 40
/* The largest frame that a driver gives to an XDP program in one piece, and more. */
#define BYTES_BURST_MIN 10000u

int edge_limit_check(const struct edge_limit *l, uint32_t hz, char *err, size_t err_len)
{
	/* Time moves by jiffies: what comes in one of them has to fit. */
	uint64_t jiffy = (l->rate + (uint64_t)l->seconds * hz - 1) / ((uint64_t)l->seconds * hz);
	uint64_t least =
		l->kind == TW_EDGE_LIMIT_BYTES && jiffy < BYTES_BURST_MIN ? BYTES_BURST_MIN : jiffy;

	if (!l->rate || l->rate > 1000000000000u || !l->seconds || l->seconds > 3600)
		datapath_message(err, err_len, "a rate is 1 to 10^12 a second, minute or hour");
	else if (l->burst < least || l->burst > 1000000000000u)
		datapath_message(err, err_len,
				 "a burst of %llu is out of range: at this rate %llu to 10^12",
				 (unsigned long long)l->burst, (unsigned long long)least);
	else if (l->burst / l->rate >= 86400 / l->seconds)
		datapath_message(err, err_len, "a burst that takes more than a day to come back");
	else if (l->prefix4 > 32 || l->prefix6 > 128)
		datapath_message(err, err_len, "a prefix has at most 32 or 128 bits");
	else if (l->first > l->last)
		datapath_message(err, err_len, "ports %u to %u are none", l->first, l->last);
	else if (l->kind == TW_EDGE_LIMIT_CONNECTIONS && l->proto != PROTO_TCP)
		datapath_message(err, err_len, "only TCP tells new connections from others");
	else if (l->proto != PROTO_TCP && l->proto != PROTO_UDP && (l->first || l->last != 65535))
		datapath_message(err, err_len, "only TCP and UDP have ports");
	else if (!l->id || l->slot >= TW_EDGE_LIMITS)
		datapath_message(err, err_len, "a limit without number or place");
	else
		return 0;
	return -EINVAL;
}

static void mask_make(__u64 out[2], unsigned int bits)
{
	uint8_t byte[16] = {};

	for (unsigned int i = 0; i < bits; i++)
		byte[i / 8] |= (uint8_t)(0x80 >> i % 8);
	memcpy(out, byte, sizeof(byte));
}

static void limit_make(struct tw_edge_limit *out, const struct edge_limit *l, uint32_t hz)
{
	/* Jiffies that a burst takes to come back, and one of it. */
	long double token = (long double)l->seconds * hz / (long double)l->rate;
	long double whole = token * (long double)l->burst;
	unsigned int shift = 0;

	while (shift < SHIFT_MAX && whole * (long double)(1ull << (shift + 1)) < 1ull << BURST_BITS)
		shift++;
	*out = (struct tw_edge_limit){
		.id = l->id,
		.kind = (uint8_t)l->kind,
		.source = l->source,
		.shift = (uint8_t)shift,
		.burst = (uint64_t)(whole * (long double)(1ull << shift)),
		.cost = (uint64_t)(token * (long double)(1ull << shift) *
				   (1 << TW_EDGE_COST_SHIFT)),
	};
	/* Of what is counted one by one, a burst is a whole number also in units. */
	if (l->kind != TW_EDGE_LIMIT_BYTES)
		out->burst = l->burst *
			     ((out->cost + (1u << (TW_EDGE_COST_SHIFT - 1))) >> TW_EDGE_COST_SHIFT);
	mask_make(out->mask[0], 96u + l->prefix4);
	mask_make(out->mask[1], l->prefix6);
}

static void words_set(uint32_t *words, uint16_t first, uint16_t last, uint32_t bit)
{
	for (uint32_t port = first; port <= last; port++)
		words[port] |= bit;
}

static void limit_put(struct tw_edge_limit_set *set, const struct edge_limit *l, uint32_t hz)
{
	uint32_t bit = 1u << l->slot;
	bool all = !l->first && l->last == 65535;

	limit_make(&set->limit[l->slot], l, hz);
	if (l->kind == TW_EDGE_LIMIT_CONNECTIONS)
		set->connections |= bit;
	if (l->source)
		set->sources |= bit;
	if (!l->proto || l->proto == PROTO_TCP)
		words_set(set->tcp, l->first, l->last, bit);
	if (!l->proto || l->proto == PROTO_UDP)
		words_set(set->udp, l->first, l->last, bit);
	/* Fragments without ports: of limits on all ports of their protocol. */
	for (uint32_t proto = 0; all && proto < 256; proto++)
		if (!l->proto || l->proto == proto)
			set->other[proto] |= bit;
}

static int set_make(struct tw_edge_limit_set *set, const struct edge_limits *limits, uint32_t hz,
		    char *err, size_t err_len)
{
	memset(set, 0, sizeof(*set));
	if (limits->n_cookies > TW_EDGE_COOKIE_PORTS)
		return -ENOSPC;
	for (size_t i = 0; i < limits->n; i++) {
		int res = edge_limit_check(&limits->limit[i], hz, err, err_len);

		if (res)
			return res;
		limit_put(set, &limits->limit[i], hz);
	}
	set->cookie = limits->settings;
	for (size_t i = 0; i < limits->n_cookies; i++) {
		const struct edge_cookies *c = &limits->cookies[i];

		if (!c->last)
			continue;
		set->cookie_port[i].above = c->above;
		for (uint32_t port = c->first; port <= c->last; port++)
			set->tcp[port] = (set->tcp[port] & TW_EDGE_PORT_LIMITS) |
					 (uint32_t)(i + 1) << TW_EDGE_PORT_COOKIE_SHIFT;
	}
	return 0;
}

/* Once in the life of the maps; not in force before there is a limit. */
static int secret_make(struct tw_edge_limits *map)
{
	if (map->secret[0] | map->secret[1])
		return 0;
	return getrandom(map->secret, sizeof(map->secret), 0) == sizeof(map->secret) ? 0 : -EIO;
}

int edge_limits_apply(struct edge *edge, const struct edge_limits *limits, char *err,
		      size_t err_len)
{
	const size_t len = (sizeof(struct tw_edge_limits) + 4095) & ~4095ul;
	struct tw_edge_limits *map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED,
					  edge_map_fd(edge, "tw_edge_limits"), 0);
	uint32_t next;
	int res;

	if (map == MAP_FAILED)
		return -errno;
	res = secret_make(map);
	next = !(map->current & 1);
	/* Nobody reads the other set: it rests since the change before this one ended. */
	if (!res)
		res = set_make(&map->set[next], limits, edge->settings.hz, err, err_len);
	if (!res) {
		/* Tells no uptime; the same after a restart, since connections keep their clock. */
		map->set[next].cookie.clock = limits->settings.mode == TW_EDGE_COOKIE_ASSIGN
						      ? (uint32_t)map->secret[0]
						      : 0;
		__atomic_store_n(&map->current, next, __ATOMIC_RELEASE);
		datapath_grace(NULL);
	}
	munmap(map, len);
	return res;
}

/* ---- counters ------------------------------------------------------------------------------ */

static int percpu_zero(int fd, uint32_t key, size_t size)
{
	int n = libbpf_num_possible_cpus(), res;
	void *zero = n > 0 ? calloc((size_t)n, (size + 7) & ~7ul) : NULL;

	if (!zero)
		return -ENOMEM;
	res = bpf_map_update_elem(fd, &key, zero, BPF_ANY) ? -errno : 0;
	free(zero);
	return res;
}

int edge_limit_reset(struct edge *edge, uint32_t slot)
{
	const struct tw_edge_total none = {};
	int res;

	if (slot >= TW_EDGE_LIMITS)
		return -EINVAL;
	if (bpf_map_update_elem(edge_map_fd(edge, "tw_edge_totals"), &slot, &none, BPF_ANY))
		return -errno;
	res = percpu_zero(edge_map_fd(edge, "tw_edge_limit_count"), slot,
			  sizeof(struct tw_edge_limit_count));
	if (!res)
		res = percpu_zero(edge_map_fd(edge, "tw_edge_count"), TW_EDGE_FIRST_LIMIT + slot,
				  sizeof(struct tw_metric));
	return res;
}

int edge_cookie_reset(struct edge *edge, uint32_t index)
{
	const struct tw_edge_cookie_state none = {};

	if (index >= TW_EDGE_COOKIE_PORTS)
		return -EINVAL;
	if (bpf_map_update_elem(edge_map_fd(edge, "tw_edge_cookie_state"), &index, &none, BPF_ANY))
		return -errno;
	return percpu_zero(edge_map_fd(edge, "tw_edge_cookie_count"), index,
			   sizeof(struct tw_edge_cookie_count));
}

/* Adds up n 64-bit words of a per-CPU element. */
static int percpu_sum(int fd, uint32_t key, uint64_t *out, size_t n)
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t *all = cpus > 0 ? calloc((size_t)cpus, n * sizeof(*all)) : NULL;
	int res;

	if (!all)
		return -ENOMEM;
	res = bpf_map_lookup_elem(fd, &key, all) ? -errno : 0;
	if (!res) {
		memset(out, 0, n * sizeof(*out));
		for (size_t i = 0; i < (size_t)cpus * n; i++)
			out[i % n] += all[i];
	}
	free(all);
	return res;
}

int edge_limit_count_read(const struct edge *edge, uint32_t slot, struct edge_limit_count *out)
{
	struct edge_limit_count got = {};
	int res = edge_count_read(edge, TW_EDGE_FIRST_LIMIT + slot, &got.dropped);

	if (!res)
		res = percpu_sum(edge_map_fd(edge, "tw_edge_limit_count"), slot, &got.forgotten, 1);
	if (!res)
		*out = got;
	return res;
}

int edge_cookie_count_read(const struct edge *edge, uint32_t index, uint32_t above,
			   struct edge_cookie_count *out)
{
	int fd = edge_map_fd(edge, "tw_edge_cookie_state");
	struct edge_cookie_count got = {};
	struct tw_edge_cookie_state state;
	uint64_t now;
	int res = percpu_sum(edge_map_fd(edge, "tw_edge_cookie_count"), index, (uint64_t *)&got.sum,
			     sizeof(got.sum) / 8);

	if (!res && bpf_map_lookup_elem(fd, &index, &state))
		res = -errno;
	if (!res)
		res = edge_jiffies(edge, &now);
	if (res)
		return res;
	got.active = !above || now < state.until;
	got.refused = now < state.refused;
	*out = got;
	return 0;
}
