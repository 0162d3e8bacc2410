/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "edge.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <towpath/edge_balance_abi.h>

#include "datapath_internal.h"
#include "edge.skel.h"
#include "edge_internal.h"

#ifndef BPF_F_XDP_HAS_FRAGS
#define BPF_F_XDP_HAS_FRAGS (1U << 5)
#endif

void edge_settings_default(struct tw_edge_settings *out)
{
	struct tw_settings dp;

	datapath_settings_default(&dp);
	*out = (struct tw_edge_settings){ .hz = dp.hz };
}

/* ---- pins -------------------------------------------------------------------------------- */

static void edge_map_path(const struct edge *edge, const struct bpf_map *map, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.3900s/maps/v%d/%s", edge->pin_dir, TW_EDGE_ABI_VERSION,
		 bpf_map__name(map));
}

static int folders_make(const struct edge *edge)
{
	static const char *const names[] = { "", "/links", "/accept", "/maps", "/maps/v%d" };
	char path[PATH_MAX], name[32];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(name, sizeof(name), names[i], TW_EDGE_ABI_VERSION);
		snprintf(path, sizeof(path), "%.3900s%s", edge->pin_dir, name);
		if (mkdir(path, 0700) && errno != EEXIST)
			return -errno;
	}
	return 0;
}

/* Uses it, unless it is smaller than the settings want: then the new program gets one of its own. */
static int map_reuse(struct bpf_map *map, int fd)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);

	if (bpf_map_get_info_by_fd(fd, &info, &len))
		return -errno;
	return info.max_entries < bpf_map__max_entries(map) ? 0 : bpf_map__reuse_fd(map, fd);
}

/*
 * Those of the address table are made anew when it grows, and at each start, because what an
 * agent that died in the middle of a change left is not worth finding out.
 */
static bool map_is_table(const struct bpf_map *map)
{
	const char *name = bpf_map__name(map);

	return !strcmp(name, "tw_edge_table") || !strcmp(name, "tw_edge_roots") ||
	       !strcmp(name, "tw_edge_lines");
}

/*
 * Each process numbers these anew, while the program of the one before may still be attached: so
 * they are not shared with it.
 */
static bool map_is_numbered(const struct bpf_map *map)
{
	const char *name = bpf_map__name(map);

	return !strcmp(name, "tw_edge_classes") || !strcmp(name, "tw_edge_intervals");
}

/* Takes over a map that is pinned, or that an open skeleton has. */
static int map_take(const struct edge *edge, const struct edge_bpf *from, bool table,
		    struct bpf_map *map)
{
	char path[PATH_MAX];
	int fd, res;

	if (bpf_map__is_internal(map) || (map_is_table(map) && !table))
		return 0;
	if (from)
		return map_reuse(map,
				 bpf_object__find_map_fd_by_name(from->obj, bpf_map__name(map)));
	if (!edge->pin_dir[0] || map_is_numbered(map))
		return 0;
	edge_map_path(edge, map, path);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	res = map_reuse(map, fd);
	close(fd);
	return res;
}

/* Maps of stages that are off have one element. */
static int maps_size(struct edge_bpf *skel, const struct tw_edge_settings *settings)
{
	int res = 0;

	if (settings->balance)
		res = bpf_map__set_max_entries(skel->maps.tw_edge_conns, TW_EDGE_CONNS);
	else
		res = bpf_map__set_max_entries(skel->maps.tw_edge_maglev, 1);
	if (!res && settings->nat)
		res = bpf_map__set_max_entries(skel->maps.tw_edge_nats, TW_EDGE_NATS);
	return res;
}

static int maps_take(const struct edge *edge, const struct edge_bpf *from, bool table,
		     struct edge_bpf *skel)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, skel->obj)
	{
		int res = map_take(edge, from, table, map);

		if (res)
			return res;
	}
	return 0;
}

/* Pins what has no pin; a pin of a map that a larger one has replaced goes over to that one. */
static int maps_pin_missing(const struct edge *edge)
{
	struct bpf_map *map;
	char path[PATH_MAX];

	bpf_object__for_each_map(map, edge->skel->obj)
	{
		if (bpf_map__is_internal(map) || map_is_table(map) || map_is_numbered(map))
			continue;
		edge_map_path(edge, map, path);
		if (map_pinned_at(map, path))
			continue;
		if ((unlink(path) && errno != ENOENT) || bpf_obj_pin(bpf_map__fd(map), path))
			return -errno;
	}
	return 0;
}

/* ---- loading -------------------------------------------------------------------------------- */

static int skel_load(const struct edge *edge, const struct edge_bpf *from,
		     const struct tw_edge_settings *settings, uint32_t max_lines, bool frags,
		     struct edge_bpf **out)
{
	struct edge_bpf *skel = edge_bpf__open();
	int res;

	if (!skel)
		return -errno;
	memcpy((void *)&skel->rodata->tw_edge_settings, settings, sizeof(*settings));
	if (!frags)
		bpf_program__set_flags(skel->progs.tw_edge, 0);
	res = maps_size(skel, settings);
	if (!res && max_lines)
		res = bpf_map__set_max_entries(skel->maps.tw_edge_lines, max_lines);
	if (!res)
		res = maps_take(edge, from, !max_lines, skel);
	if (!res)
		res = edge_bpf__load(skel);
	if (res) {
		edge_bpf__destroy(skel);
		return res;
	}
	*out = skel;
	return 0;
}

/* Kernels before 5.18 have no frames of several buffers. */
int edge_load_next(const struct edge *edge, const struct tw_edge_settings *settings,
		   uint32_t max_lines, struct edge_bpf **out, char *err, size_t err_len)
{
	int res = skel_load(edge, edge->skel, settings, max_lines, true, out);

	if (res == -EINVAL)
		res = skel_load(edge, edge->skel, settings, max_lines, false, out);
	if (res)
		datapath_message(err, err_len, "the kernel refused the edge's program: %s",
				 strerror(-res));
	return res;
}

int edge_use_next(struct edge *edge, struct edge_bpf *skel, const struct tw_edge_settings *settings,
		  uint32_t max_lines, char *err, size_t err_len)
{
	struct edge_bpf *before = edge->skel;
	int res;

	edge->skel = skel;
	res = edge_switch(edge, err, err_len);
	if (!res && edge->pin_dir[0])
		res = maps_pin_missing(edge);
	if (res) {
		/* Back on those that were switched; they were there a moment ago. */
		edge->skel = before;
		edge_links_update(edge, edge_prog_fd(edge));
		edge_bpf__destroy(skel);
		return res;
	}
	edge->settings = *settings;
	if (max_lines)
		edge->max_lines = max_lines;
	edge_bpf__destroy(before);
	return 0;
}

int edge_skel_map(const struct edge_bpf *skel, const char *name)
{
	return bpf_object__find_map_fd_by_name(skel->obj, name);
}

void edge_skel_close(struct edge_bpf *skel)
{
	edge_bpf__destroy(skel);
}

static int edge_prepare(struct edge *edge, const struct edge_options *opts, char *err,
			size_t err_len)
{
	uint32_t zero = 0;
	struct tw_edge_config config = { .abi_version = TW_EDGE_ABI_VERSION };
	int res = 0;

	edge->settings = opts->settings;
	if (opts->pin_dir) {
		snprintf(edge->pin_dir, sizeof(edge->pin_dir), "%.3900s/edge", opts->pin_dir);
		res = folders_make(edge);
	}
	if (res) {
		datapath_message(err, err_len, "cannot pin below %s: %s", edge->pin_dir,
				 strerror(-res));
		return res;
	}
	edge->max_lines = EDGE_LINES_MIN;
	res = edge_load_next(edge, &edge->settings, edge->max_lines, &edge->skel, err, err_len);
	if (res)
		return res;
	/* Taken over or new: NOEXIST has no meaning for an array, and the value is the same. */
	if (bpf_map_update_elem(bpf_map__fd(edge->skel->maps.tw_edge_config), &zero, &config,
				BPF_ANY))
		return -errno;
	res = edge->pin_dir[0] ? maps_pin_missing(edge) : 0;
	if (res)
		datapath_message(err, err_len, "cannot pin below %s: %s", edge->pin_dir,
				 strerror(-res));
	return res;
}

int edge_open(struct edge **out, const struct edge_options *opts, char *err, size_t err_len)
{
	struct edge *edge = calloc(1, sizeof(*edge));
	int res;

	if (!edge)
		return -ENOMEM;
	res = edge_prepare(edge, opts, err, err_len);
	if (res) {
		edge_close(edge);
		return res;
	}
	*out = edge;
	return 0;
}

void edge_close(struct edge *edge)
{
	if (!edge)
		return;
	for (size_t i = 0; i < edge->n_links; i++)
		close(edge->links[i].fd);
	free(edge->links);
	edge_accept_close(edge);
	edge_bpf__destroy(edge->skel);
	free(edge);
}

int edge_switch(struct edge *edge, char *err, size_t err_len)
{
	int res = edge_links_update(edge, edge_prog_fd(edge));

	if (res)
		datapath_message(err, err_len, "cannot switch the devices of %s: %s", edge->pin_dir,
				 strerror(-res));
	return res;
}

bool edge_settings_equal(const struct edge *edge, const struct tw_edge_settings *settings)
{
	return !memcmp(settings, &edge->settings, sizeof(*settings));
}

int edge_reload(struct edge *edge, const struct tw_edge_settings *settings, char *err,
		size_t err_len)
{
	struct edge_bpf *skel;
	int res;

	if (edge_settings_equal(edge, settings))
		return 0;
	res = edge_load_next(edge, settings, 0, &skel, err, err_len);
	return res ?: edge_use_next(edge, skel, settings, 0, err, err_len);
}

/* ---- counts and names ---------------------------------------------------------------------- */

int edge_count_read(const struct edge *edge, uint32_t counter, struct tw_metric *out)
{
	if (counter >= TW_EDGE_COUNTERS)
		return -EINVAL;
	return datapath_metric_sum(bpf_map__fd(edge->skel->maps.tw_edge_count), counter, out);
}

int edge_count_clear(const struct edge *edge, uint32_t counter)
{
	int cpus = libbpf_num_possible_cpus();
	struct tw_metric *zero = cpus > 0 ? calloc((size_t)cpus, sizeof(*zero)) : NULL;
	int res;

	if (!zero)
		return cpus < 0 ? cpus : -ENOMEM;
	res = bpf_map_update_elem(bpf_map__fd(edge->skel->maps.tw_edge_count), &counter, zero,
				  BPF_ANY)
		      ? -errno
		      : 0;
	free(zero);
	return res;
}

#define REASON_ROW(sym, name, drops, text) { name, text, drops },
static const struct {
	const char *name, *text;
	bool drops;
} reasons[] = { TW_EDGE_REASONS(REASON_ROW) };

const char *tw_edge_reason_name(uint32_t reason)
{
	return reason < TW_EDGE_REASON_COUNT ? reasons[reason].name : NULL;
}

const char *tw_edge_reason_text(uint32_t reason)
{
	return reason < TW_EDGE_REASON_COUNT ? reasons[reason].text : NULL;
}

bool tw_edge_reason_drops(uint32_t reason)
{
	return reason < TW_EDGE_REASON_COUNT && reasons[reason].drops;
}

int edge_clock_read(int prog_fd, uint64_t *out)
{
	struct tw_clock clock = {};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &clock, .ctx_size_in = sizeof(clock));

	if (bpf_prog_test_run_opts(prog_fd, &opts))
		return -errno;
	*out = clock.jiffies;
	return 0;
}

int edge_clock_fd(const struct edge *edge)
{
	return bpf_program__fd(edge->skel->progs.tw_edge_clock);
}

int edge_jiffies(const struct edge *edge, uint64_t *out)
{
	return edge_clock_read(edge_clock_fd(edge), out);
}

int edge_prog_fd(const struct edge *edge)
{
	return bpf_program__fd(edge->skel->progs.tw_edge);
}

int edge_map_fd(const struct edge *edge, const char *name)
{
	return edge_skel_map(edge->skel, name);
}
