/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * How often programs run and for how long. The kernel counts only while somebody holds a descriptor for
 * it, because the two looks at the clock cost some 80 ns a run; here it is held as long as somebody asks.
 */
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "log.h"
#include "programs_internal.h"

#define HOLD_MS_MAX 30000u

static void let_go(uv_timer_t *timer)
{
	struct programs *p = timer->data;

	programs_stats_end(p);
}

/* [{name, pin, id}] of what is pinned as a map. */
json_t *program_maps_json(const char *dir)
{
	json_t *maps = json_array();
	char folder[PATH_MAX];
	struct dirent *entry;
	DIR *in;

	snprintf(folder, sizeof(folder), "%.3900s/maps", dir);
	in = opendir(folder);
	while (in && (entry = readdir(in))) {
		struct bpf_map_info info = {};
		uint32_t len = sizeof(info);
		char path[PATH_MAX];
		int fd;

		snprintf(path, sizeof(path), "%.3800s/%.255s", folder, entry->d_name);
		fd = strchr(entry->d_name, '.') ? -1 : bpf_obj_get(path);
		if (fd < 0)
			continue;
		if (!bpf_map_get_info_by_fd(fd, &info, &len))
			json_array_append_new(maps,
					      json_pack("{s:s, s:s, s:I}", "name", entry->d_name,
							"pin", path, "id", (json_int_t)info.id));
		close(fd);
	}
	if (in)
		closedir(in);
	return maps;
}

void programs_stats_end(struct programs *p)
{
	if (p->stats_fd >= 0)
		close(p->stats_fd);
	p->stats_fd = -1;
}

static json_t *stats_one(const struct program *prog)
{
	struct bpf_prog_info info = {};
	uint32_t len = sizeof(info);

	if (prog->prog_fd < 0 || bpf_prog_get_info_by_fd(prog->prog_fd, &info, &len))
		return NULL;
	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I}", "name", prog->r.name, "program",
			 prog->r.program, "id", (json_int_t)info.id, "runs",
			 (json_int_t)info.run_cnt, "ns", (json_int_t)info.run_time_ns, "misses",
			 (json_int_t)info.recursion_misses);
}

json_t *programs_stats_json(struct programs *p, unsigned int hold_ms, struct agent_error *err)
{
	json_t *items = json_array(), *item;
	const struct program *prog;

	if (p->stats_fd < 0)
		p->stats_fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
	if (p->stats_fd < 0) {
		json_decref(items);
		agent_refuse(err, AGENT_INTERNAL, "the kernel does not count runs: %s",
			     strerror(errno));
		return NULL;
	}
	uv_timer_start(&p->stats_timer, let_go, hold_ms < HOLD_MS_MAX ? hold_ms : HOLD_MS_MAX, 0);
	DL_FOREACH(p->list, prog) {
		item = stats_one(prog);
		if (item)
			json_array_append_new(items, item);
	}
	return json_pack("{s:I, s:o}", "time_ns", (json_int_t)uv_hrtime(), "items", items);
}

json_t *programs_counts_json(const struct programs *p)
{
	json_int_t attached = 0, waiting = 0, failed = 0;
	const struct program *prog;

	DL_FOREACH(p->list, prog) {
		attached += !prog->failed && !*prog->why;
		waiting += !prog->failed && *prog->why;
		failed += prog->failed;
	}
	return json_pack("{s:I, s:I, s:I}", "attached", attached, "waiting", waiting, "failed",
			 failed);
}
