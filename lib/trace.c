/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "trace.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>

#include "../bpf/lib/scratch.h"
#include "datapath_internal.h"
#include "flow.h"
#include "towpath.skel.h"

/* Entries that one packet can meet: its own, a twin, and ports that others hold already. */
#define SEEDS_MAX 24u
#define TABLE_SIZE 64u
#define RING_BYTES 4096u

struct trace {
	struct towpath_bpf *skel;
	const struct datapath *dp;
	struct ring_buffer *ring;
	struct trace_result *taking; /* events go here */
	void *scratch;		     /* of all CPUs */
	size_t scratch_size;	     /* of one */
	int cpus;
	/* Entries of the real table that the private one begins with. */
	union flow_key seed[SEEDS_MAX];
	size_t n_seeds;
};

/*
 * Maps that the programs only read. Whatever is not named here is this load's own: a map that
 * is forgotten stays empty, and none that is in use can be written.
 */
static const char *const shared[] = {
	"tw_endpoints", "tw_epochs", "tw_ipcache_top", "tw_ipcache_pages", "tw_ipcache6",
	"tw_nomasq",	"tw_policy", "tw_classes",     "tw_peers",	   "tw_uplinks",
};

static bool is_shared(const char *name)
{
	for (size_t i = 0; i < sizeof(shared) / sizeof(*shared); i++)
		if (!strcmp(name, shared[i]))
			return true;
	return false;
}

static int maps_prepare(struct trace *t)
{
	struct bpf_map *map;
	int res = 0;

	bpf_object__for_each_map(map, t->skel->obj)
	{
		if (is_shared(bpf_map__name(map)))
			res = bpf_map__reuse_fd(map, datapath_fd(t->dp, bpf_map__name(map)));
		if (res)
			return res;
	}
	res = bpf_map__set_max_entries(t->skel->maps.tw_flow4, TABLE_SIZE);
	if (!res)
		res = bpf_map__set_max_entries(t->skel->maps.tw_flow6, TABLE_SIZE);
	if (!res)
		res = bpf_map__set_max_entries(t->skel->maps.tw_frags, TABLE_SIZE);
	return res ? res : bpf_map__set_max_entries(t->skel->maps.tw_events, RING_BYTES);
}

static int event_keep(void *arg, void *data, size_t len)
{
	struct trace *t = arg;
	struct trace_result *r = t->taking;

	if (r && r->n_events < TRACE_EVENTS_MAX && len >= sizeof(struct tw_event))
		memcpy(&r->events[r->n_events++], data, sizeof(struct tw_event));
	return 0;
}

static int trace_load(struct trace *t)
{
	t->skel = towpath_bpf__open();
	if (!t->skel)
		return -errno;
	memcpy((void *)&t->skel->rodata->tw_settings, &t->dp->settings, sizeof(t->dp->settings));
	bpf_program__set_autoload(t->skel->progs.tw_collect, false);
	bpf_program__set_autoload(t->skel->progs.tw_heartbeat, false);
	int res = maps_prepare(t);
	if (!res)
		res = towpath_bpf__load(t->skel);
	if (!res)
		res = datapath_jumps_fill(t->skel);
	if (res)
		return res;
	t->cpus = libbpf_num_possible_cpus();
	t->scratch_size = (bpf_map__value_size(t->skel->maps.tw_scratch) + 7) / 8 * 8;
	t->scratch = t->cpus > 0 ? calloc((size_t)t->cpus, t->scratch_size) : NULL;
	t->ring = ring_buffer__new(bpf_map__fd(t->skel->maps.tw_events), event_keep, t, NULL);
	return t->scratch && t->ring ? 0 : -ENOMEM;
}

int trace_open(struct trace **out, const struct datapath *dp, char *err, size_t err_len)
{
	struct trace *t = calloc(1, sizeof(*t));
	int res;

	if (!t)
		return -ENOMEM;
	t->dp = dp;
	res = trace_load(t);
	if (res) {
		datapath_message(err, err_len, "cannot load the programs a second time: %s",
				 strerror(-res));
		trace_close(t);
		return res;
	}
	*out = t;
	return 0;
}

void trace_close(struct trace *t)
{
	if (!t)
		return;
	ring_buffer__free(t->ring);
	towpath_bpf__destroy(t->skel);
	free(t->scratch);
	free(t);
}

/* ---- what the packet meets ------------------------------------------------------------------ */

static int table_fd(const struct trace *t, uint8_t family)
{
	return bpf_map__fd(family == 4 ? t->skel->maps.tw_flow4 : t->skel->maps.tw_flow6);
}

static int real_fd(const struct trace *t, uint8_t family)
{
	return datapath_fd(t->dp, family == 4 ? "tw_flow4" : "tw_flow6");
}

/* Keys are zero behind their family's bytes. */
static bool key_same(const void *a, const void *b)
{
	return !memcmp(a, b, sizeof(union flow_key));
}

static bool is_seed(const struct trace *t, const union flow_key *key)
{
	for (size_t i = 0; i < t->n_seeds; i++)
		if (key_same(&t->seed[i], key))
			return true;
	return false;
}

static bool seed_add(struct trace *t, uint8_t family, const union flow_key *key)
{
	struct tw_flow flow;

	if (t->n_seeds == SEEDS_MAX || is_seed(t, key) ||
	    bpf_map_lookup_elem(real_fd(t, family), key, &flow))
		return false;
	t->seed[t->n_seeds++] = *key;
	return true;
}

/* The entry under the tuple, and the other one of a translated flow. */
static void seed_tuple(struct trace *t, const struct tw_tuple *tuple)
{
	struct tw_tuple carried = *tuple, twin;
	union flow_key key;
	unsigned int dir = flow_key_pack(tuple, &key);
	struct tw_flow flow;

	if (!seed_add(t, tuple->family, &key) ||
	    bpf_map_lookup_elem(real_fd(t, tuple->family), &key, &flow))
		return;
	for (unsigned int i = 0; i < 2; i++) {
		if (!(flow.half[i].flags & TW_HALF_TWIN))
			continue;
		if (i != dir) {
			carried.saddr = tuple->daddr;
			carried.daddr = tuple->saddr;
			carried.sport = tuple->dport;
			carried.dport = tuple->sport;
		}
		flow_twin_tuple(&carried, &flow.half[i], &twin);
		flow_key_pack(&twin, &key);
		seed_add(t, tuple->family, &key);
	}
}

static int table_clear(int fd)
{
	union flow_key key = {};

	while (!bpf_map_get_next_key(fd, NULL, &key))
		if (bpf_map_delete_elem(fd, &key))
			return -errno;
	return 0;
}

/* Such ports, such a protocol (reserved, RFC 3692) and such addresses have no packets. */
static bool is_filler(const union flow_key *key)
{
	static const uint8_t ones[8] = { 255, 255, 255, 255, 255, 255, 255, 255 };

	return !memcmp((const uint8_t *)key + 8, ones, sizeof(ones));
}

/* A table that is full refuses; so does its small copy, which has as much room left. */
static void table_fill(const struct trace *t, int fd, uint32_t room)
{
	union flow_key key;
	static const struct tw_flow none;

	memset(&key, 0xff, sizeof(key));
	for (uint64_t i = (uint64_t)room + t->n_seeds; i < TABLE_SIZE; i++) {
		memcpy(&key, &i, sizeof(i));
		if (bpf_map_update_elem(fd, &key, &none, BPF_NOEXIST))
			return;
	}
}

static int copy_elem(const struct trace *t, struct bpf_map *to, uint32_t index, void *value)
{
	if (bpf_map_lookup_elem(datapath_fd(t->dp, bpf_map__name(to)), &index, value) ||
	    bpf_map_update_elem(bpf_map__fd(to), &index, value, BPF_ANY))
		return -errno;
	return 0;
}

/* The private maps as the real ones are now, as far as the packet can look. */
static int state_copy(struct trace *t, const struct trace_packet *p, uint32_t room)
{
	const uint32_t slots[] = { 0, p->slot[0], p->slot[1] };
	int fd = table_fd(t, p->tuple.family), real = real_fd(t, p->tuple.family);
	struct tw_config config;
	struct tw_budget budget;
	uint32_t zero = 0;
	int res = table_clear(fd);

	for (size_t i = 0; !res && i < t->n_seeds; i++) {
		struct tw_flow flow;

		if (!bpf_map_lookup_elem(real, &t->seed[i], &flow) &&
		    bpf_map_update_elem(fd, &t->seed[i], &flow, BPF_ANY))
			res = -errno;
	}
	if (!res)
		table_fill(t, fd, room);
	for (size_t i = 0; !res && i < 3; i++)
		res = copy_elem(t, t->skel->maps.tw_budget, slots[i], &budget);
	if (!res)
		res = copy_elem(t, t->skel->maps.tw_config, 0, &config);
	memset(t->scratch, 0, (size_t)t->cpus * t->scratch_size);
	if (!res &&
	    bpf_map_update_elem(bpf_map__fd(t->skel->maps.tw_scratch), &zero, t->scratch, BPF_ANY))
		res = -errno;
	return res;
}

/*
 * An entry that this run has made although the real table has one there: of a translation port
 * that is taken, say. Then the run was not what would happen, and is made again with it.
 */
static bool seed_missed(struct trace *t, uint8_t family)
{
	union flow_key key = {}, next = {};
	int fd = table_fd(t, family);
	bool missed = false;

	for (void *at = NULL; !bpf_map_get_next_key(fd, at, &next); at = &key) {
		key = next;
		missed = seed_add(t, family, &key) || missed;
	}
	return missed;
}

/* ---- the run ---------------------------------------------------------------------------------- */

static struct bpf_program *program(const struct trace *t, enum tw_hook hook)
{
	switch (hook) {
	case TW_HOOK_FROM_CONTAINER:
		return t->skel->progs.tw_from_container;
	case TW_HOOK_TO_CONTAINER:
		return t->skel->progs.tw_to_container;
	default:
		return t->skel->progs.tw_from_uplink;
	}
}

static int packet_run(struct trace *t, const struct trace_packet *p, struct trace_result *out)
{
	struct __sk_buff ctx = { .ifindex = p->ifindex, .ingress_ifindex = p->in };
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = p->frame, .data_size_in = (uint32_t)p->len,
		    .data_out = out->frame, .data_size_out = sizeof(out->frame), .ctx_in = &ctx,
		    .ctx_size_in = sizeof(ctx), .repeat = 1);

	t->taking = NULL;
	ring_buffer__consume(t->ring);
	int res = bpf_prog_test_run_opts(bpf_program__fd(program(t, p->hook)), &run);
	if (res)
		return res;
	out->verdict = (int)run.retval;
	out->len = run.data_size_out;
	out->n_events = 0;
	t->taking = out;
	ring_buffer__consume(t->ring);
	t->taking = NULL;
	return 0;
}

static void end_read(const struct end *end, struct trace_end *out)
{
	*out = (struct trace_end){ end->identity, end->version, end->slot };
}

/* What the slow path left in the memory of the CPU that it ran on. */
static int scratch_read(struct trace *t, struct trace_result *out)
{
	uint32_t zero = 0;

	if (bpf_map_lookup_elem(bpf_map__fd(t->skel->maps.tw_scratch), &zero, t->scratch))
		return -errno;
	for (int cpu = 0; cpu < t->cpus; cpu++) {
		const struct scratch *s =
			(const void *)((const char *)t->scratch + (size_t)cpu * t->scratch_size);
		const struct decision *d = &s->decision;

		if (!s->packet.len)
			continue;
		out->parsed = true;
		out->opener = s->opener;
		end_read(&d->from, &out->from);
		end_read(&d->to, &out->to);
		out->oif = d->oif;
		out->mtu = d->mtu;
		out->has_hop = d->hop_flags;
		out->hop = d->hop;
		out->nat_port = s->nat_port;
		out->nat_addr = s->nat_addr;
	}
	return 0;
}

static void entries_read(struct trace *t, const struct trace_packet *p, struct trace_result *out)
{
	union flow_key key = {}, next = {};
	int fd = table_fd(t, p->tuple.family);

	out->dir = flow_key_pack(&p->tuple, &key);
	out->met = is_seed(t, &key) &&
		   !bpf_map_lookup_elem(real_fd(t, p->tuple.family), &key, &out->before);
	out->kept = !bpf_map_lookup_elem(fd, &key, &out->after);
	for (void *at = NULL; !bpf_map_get_next_key(fd, at, &next); at = &key) {
		key = next;
		out->made += !is_seed(t, &key) && !is_filler(&key);
	}
}

int trace_run(struct trace *t, const struct trace_packet *p, struct trace_result *out)
{
	struct bpf_map *real =
		p->tuple.family == 4 ? t->dp->skel->maps.tw_flow4 : t->dp->skel->maps.tw_flow6;
	uint32_t live = __atomic_load_n(&t->dp->live[p->tuple.family == 6], __ATOMIC_RELAXED);
	uint32_t max = bpf_map__max_entries(real), room = live < max ? max - live : 0;
	int res = 0;

	t->n_seeds = 0;
	seed_tuple(t, &p->tuple);
	for (unsigned int i = 0; !res && i <= SEEDS_MAX; i++) {
		memset(out, 0, sizeof(*out));
		out->full = !room;
		res = state_copy(t, p, room);
		if (!res)
			res = packet_run(t, p, out);
		if (res || !seed_missed(t, p->tuple.family))
			break;
	}
	if (!res)
		res = scratch_read(t, out);
	if (res)
		return res;
	entries_read(t, p, out);
	return 0;
}
