/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The filter's cases: sources that are on a list or not, one of them hot or all at random, beside
 * xdp-filter of xdp-tools with the same addresses where it is installed (its own, unmodified
 * program for denied IP addresses).
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <edge_table.h>

#include "edge.h"
#include "edge_wrap.skel.h"

#define ADDRS_MAX (1u << 20)
#define RULE TW_EDGE_FIRST_RULE

/* Debian's multiarch folder and the one of xdp-tools' own Makefile. */
static const char *const xdp_filter_files[] = {
	"/usr/lib/" MULTIARCH "/bpf/xdpfilt_alw_ip.o",
	"/usr/lib/bpf/xdpfilt_alw_ip.o",
	"/usr/local/lib/bpf/xdpfilt_alw_ip.o",
};

/* As in edge_wrap.bpf.c. */
struct bench_addr {
	uint64_t half[2];
};

static uint32_t classify(void *arg, uint32_t outer, uint32_t rule)
{
	return TW_EDGE_CLASS_DENY | rule;
}

/* Repeatable; any two runs measure the same addresses. */
static uint32_t chance(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*seed >> 32);
}

struct filter {
	struct edge *edge;
	struct edge_table *table;
	struct bpf_object *beside; /* NULL: not installed */
	union tw_addr *listed;
	uint32_t n;
	int family;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "bench: %s: %s\n", what, why);
	exit(1);
}

static void addr_any(int family, uint64_t *seed, union tw_addr *out)
{
	*out = (union tw_addr){};
	if (family == 4) {
		out->word[2] = htonl(0xffff);
		out->word[3] = chance(seed);
		return;
	}
	for (int i = 0; i < 4; i++)
		out->word[i] = chance(seed);
	/* The part that is in use: 2000::/3. */
	out->byte[0] = 0x20 | (out->byte[0] & 0x1f);
}

/* Its map has the size that it is given, and nothing of it is pinned. */
static struct bpf_object *xdp_filter_load(uint32_t entries)
{
	for (size_t i = 0; i < sizeof(xdp_filter_files) / sizeof(xdp_filter_files[0]); i++) {
		struct bpf_object *obj = access(xdp_filter_files[i], R_OK)
						 ? NULL
						 : bpf_object__open_file(xdp_filter_files[i], NULL);
		struct bpf_map *map;

		if (!obj)
			continue;
		bpf_object__for_each_map(map, obj) bpf_map__set_pin_path(map, NULL);
		map = bpf_object__find_map_by_name(obj, "filter_ipv4");
		if (map)
			bpf_map__set_max_entries(map, entries + 1);
		/* So that the wrapper may call it: the instructions stay as they are. */
		bpf_program__set_flags(bpf_object__next_program(obj, NULL), BPF_F_XDP_HAS_FRAGS);
		if (map && !bpf_object__load(obj))
			return obj;
		bpf_object__close(obj);
	}
	return NULL;
}

static void xdp_filter_fill(const struct filter *f)
{
	int fd = bpf_object__find_map_fd_by_name(f->beside, "filter_ipv4");
	int cpus = libbpf_num_possible_cpus();
	uint64_t *values = calloc((size_t)cpus, sizeof(*values));

	if (!values)
		die("xdp-filter", "out of memory");
	for (int i = 0; i < cpus; i++)
		values[i] = 0x3f; /* every flag of an address: source, destination, protocols */
	for (uint32_t i = 0; i < f->n; i++)
		if (bpf_map_update_elem(fd, &f->listed[i].word[3], values, BPF_ANY))
			die("xdp-filter", strerror(errno));
	free(values);
}

static void filter_open(struct filter *f, int family, uint32_t n)
{
	struct edge_options opts = {};
	struct edge_prefixes lists = {}, none = {};
	uint64_t seed = 42;
	char err[256] = "";

	*f = (struct filter){ .family = family, .n = n };
	f->listed = calloc(n, sizeof(*f->listed));
	edge_settings_default(&opts.settings);
	opts.settings.filter = 1;
	if (!f->listed || edge_open(&f->edge, &opts, err, sizeof(err)) ||
	    edge_table_open(&f->table, f->edge, classify, NULL))
		die("the edge", *err ? err : "out of memory");
	for (uint32_t i = 0; i < n; i++) {
		addr_any(family, &seed, &f->listed[i]);
		if (edge_prefixes_add(&lists, &f->listed[i], 128, RULE))
			die("the list", "out of memory");
	}
	if (edge_prefixes_sort(&lists) ||
	    edge_table_load(f->table, &lists, &none, &opts.settings, err, sizeof(err)))
		die("the list", err);
	/* A million entries for each CPU are more than its hash is meant for. */
	f->beside = family == 4 && n <= 100000 ? xdp_filter_load(n) : NULL;
	if (f->beside)
		xdp_filter_fill(f);
}

static void filter_close(struct filter *f)
{
	edge_table_close(f->table);
	edge_close(f->edge);
	bpf_object__close(f->beside);
	free(f->listed);
}

/* What the wrapper sends: `count` of the listed in any order, or others. */
static uint32_t sources_set(struct edge_bench *b, const struct filter *f, bool listed,
			    uint32_t most)
{
	uint32_t count = 1;
	uint64_t seed = listed ? 7 : 1234567;
	struct bench_addr *at = mmap(NULL, ADDRS_MAX * sizeof(*at), PROT_READ | PROT_WRITE,
				     MAP_SHARED, bpf_map__fd(b->wrap->maps.bench_addrs), 0);

	if (at == MAP_FAILED)
		die("the addresses", strerror(errno));
	while (count * 2 <= most && count < ADDRS_MAX)
		count *= 2;
	for (uint32_t i = 0; i < count; i++) {
		union tw_addr addr;

		addr_any(f->family, &seed, &addr);
		if (listed)
			addr = f->listed[chance(&seed) % f->n];
		at[i].half[0] = f->family == 4 ? addr.word[3] : addr.quad[0];
		at[i].half[1] = addr.quad[1];
	}
	munmap(at, ADDRS_MAX * sizeof(*at));
	return count;
}

struct row {
	const char *name;
	int family;
	uint32_t entries;
	uint32_t sources; /* 1: always the same; rounded to a power of two */
	bool listed;
	double goal_ns, goal_ratio;
	const char *note;
};

static const struct row rows[] = {
	{ "drop_hot_1", 4, 1, 1, true, 38, 1.6, "one address listed, all frames from it" },
	{ "drop_hot_100k", 4, 100000, 1, true, 38, 1.6, "100 000 listed, all frames from one" },
	{ "pass_hot_100k", 4, 100000, 1, false, 0, 0, "100 000 listed, all frames from another" },
	{ "drop_random_100k", 4, 100000, 100000, true, 100, 0, "100 000 listed, from all of them" },
	{ "pass_random_100k", 4, 100000, 1000000, false, 0, 0, "100 000 listed, from others" },
	{ "drop_random_1m", 4, 1000000, 1000000, true, 170, 0,
	  "a million listed, from all of them" },
	{ "pass_random_1m", 4, 1000000, 1000000, false, 0, 0, "a million listed, from others" },
	{ "drop_hot_1_ipv6", 6, 1, 1, true, 0, 0, "one address listed" },
	{ "drop_random_100k_ipv6", 6, 100000, 100000, true, 0, 0, "100 000 listed" },
	{ "pass_random_100k_ipv6", 6, 100000, 1000000, false, 0, 0, "100 000 listed, from others" },
};

static void row_run(struct edge_bench *b, const struct row *row)
{
	static const struct spec packet = { UDP, OUTSIDE, NODE, 4000, 53, .payload = 18 };
	struct filter f;

	if (!edge_case_wanted(b, row->name))
		return;
	filter_open(&f, row->family, row->entries);
	const struct edge_case c = {
		.name = row->name,
		.prog_fd = edge_prog_fd(f.edge),
		.family = row->family,
		.frame = &packet,
		.flows = sources_set(b, &f, row->listed, row->sources),
		.sources = true,
		.action = row->listed ? XDP_DROP : XDP_PASS,
		.goal_ns = row->goal_ns,
		.goal_ratio = row->goal_ratio,
		.note = row->note,
		.beside_fd =
			f.beside ? bpf_program__fd(bpf_object__next_program(f.beside, NULL)) : -1,
		.beside = f.beside ? "xdp-filter" : NULL,
	};
	edge_case_run(b, &c);
	filter_close(&f);
}

void edge_filter_cases(struct edge_bench *b)
{
	/* Objects of others have sections that libbpf mentions. */
	libbpf_set_print(NULL);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		row_run(b, &rows[i]);
}
