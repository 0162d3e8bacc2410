/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Programs outlive the agent. One that starts again with the same programs, settings and sizes
 * takes over those that an earlier one loaded, instead of having them verified anew, which
 * takes the kernel some hundred milliseconds and changes nothing.
 *
 * They are pinned in PIN_DIR/progs_<fingerprint>/. The folder is made when links and jumps are
 * in place, and removed before anything of that is changed; so when it is complete, so are they.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "datapath_internal.h"
#include "towpath.skel.h"

#define PROGRAM_MAPS_MAX 64u

/* FNV-1a: tells builds apart, keeps nobody out; the folder is root's. */
static uint64_t fold(uint64_t hash, const void *data, size_t len)
{
	const unsigned char *byte = data;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ byte[i]) * 0x100000001b3u;
	return hash;
}

/* Everything that what is loaded follows from. */
static uint64_t fingerprint(const struct datapath *dp)
{
	uint64_t hash = 0xcbf29ce484222325u;
	struct utsname kernel = {};
	const struct bpf_map *map;
	size_t len;
	const void *elf = towpath_bpf__elf_bytes(&len);

	uname(&kernel);
	hash = fold(hash, elf, len);
	hash = fold(hash, &dp->settings, sizeof(dp->settings));
	hash = fold(hash, kernel.release, strlen(kernel.release));
	hash = fold(hash, kernel.version, strlen(kernel.version));
	bpf_object__for_each_map(map, dp->skel->obj)
	{
		uint32_t n = bpf_map__max_entries(map);

		hash = fold(hash, &n, sizeof(n));
	}
	return hash;
}

void programs_path(const struct datapath *dp, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.3900s/progs_%016llx", dp->pin_dir,
		 (unsigned long long)dp->fingerprint);
}

static void program_path(const struct datapath *dp, const struct bpf_program *prog,
			 char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.3900s/progs_%016llx/%s", dp->pin_dir,
		 (unsigned long long)dp->fingerprint, bpf_program__name(prog));
}

/* ---- taking over ----------------------------------------------------------------------------- */

struct program_maps {
	uint32_t id[PROGRAM_MAPS_MAX];
	uint32_t n;
};

static int program_maps(int fd, struct program_maps *maps)
{
	struct bpf_prog_info info = { .nr_map_ids = PROGRAM_MAPS_MAX,
				      .map_ids = (uint64_t)(uintptr_t)maps->id };
	uint32_t len = sizeof(info);

	if (bpf_prog_get_info_by_fd(fd, &info, &len))
		return -errno;
	maps->n = info.nr_map_ids < PROGRAM_MAPS_MAX ? info.nr_map_ids : PROGRAM_MAPS_MAX;
	return 0;
}

static bool has_map(const struct program_maps *maps, int fd)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);

	if (fd < 0 || bpf_map_get_info_by_fd(fd, &info, &len))
		return false;
	for (uint32_t i = 0; i < maps->n; i++)
		if (maps->id[i] == info.id)
			return true;
	return false;
}

/* A pinned jump table of these maps; without a pin it would be empty. -ENOENT. */
static int jumps_find(const struct datapath *dp, const struct program_maps *maps)
{
	DIR *dir = opendir(dp->pin_dir);
	struct dirent *entry;
	int found = -ENOENT;

	while (dir && found < 0 && (entry = readdir(dir))) {
		char path[PATH_MAX];
		int fd;

		if (strncmp(entry->d_name, "jumps_", 6))
			continue;
		snprintf(path, sizeof(path), "%.3800s/%.255s", dp->pin_dir, entry->d_name);
		fd = bpf_obj_get(path);
		if (has_map(maps, fd))
			found = fd;
		else if (fd >= 0)
			close(fd);
	}
	if (dir)
		closedir(dir);
	return found;
}

bool jumps_pinned(const struct datapath *dp, int fd)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);

	if (bpf_map_get_info_by_fd(fd, &info, &len))
		return false;
	const struct program_maps one = { .id = { info.id }, .n = 1 };
	int pinned = jumps_find(dp, &one);
	if (pinned < 0)
		return false;
	close(pinned);
	return true;
}

/*
 * Do they work on the very maps that this agent has opened, on each of them? A pin that was lost
 * means a new map, which programs of an earlier agent know nothing of.
 */
static bool belongs(struct datapath *dp)
{
	const struct bpf_map *map;
	struct program_maps maps;

	bpf_object__for_each_map(map, dp->skel->obj)
	{
		bool used = map_is_private(map);

		for (size_t i = 0; i < dp->n_adopted && !used; i++)
			used = !program_maps(dp->adopted[i].fd, &maps) &&
			       has_map(&maps, bpf_map__fd(map));
		if (!used)
			return false;
	}
	if (program_maps(program_fd(dp, dp->skel->progs.tw_from_container), &maps))
		return false;
	int jumps = jumps_find(dp, &maps);
	if (jumps < 0)
		return false;
	dp->jumps_fd = jumps;
	return true;
}

static int adopted_get(const struct datapath *dp, const struct bpf_program *prog)
{
	char path[PATH_MAX];

	program_path(dp, prog, path);
	return bpf_obj_get(path);
}

void programs_close(struct datapath *dp)
{
	for (size_t i = 0; i < dp->n_adopted; i++)
		close(dp->adopted[i].fd);
	free(dp->adopted);
	dp->adopted = NULL;
	dp->n_adopted = 0;
}

bool programs_adopt(struct datapath *dp)
{
	struct bpf_program *prog;
	size_t n = 0;

	dp->fingerprint = fingerprint(dp);
	bpf_object__for_each_program(prog, dp->skel->obj) n++;
	dp->adopted = calloc(n, sizeof(*dp->adopted));
	if (!dp->adopted)
		return false;
	bpf_object__for_each_program(prog, dp->skel->obj)
	{
		int fd = adopted_get(dp, prog);

		if (fd < 0)
			break;
		dp->adopted[dp->n_adopted++] = (struct adopted_program){ prog, fd };
	}
	if (dp->n_adopted < n || !belongs(dp)) {
		programs_close(dp);
		return false;
	}
	bpf_object__for_each_program(prog, dp->skel->obj) bpf_program__set_autoload(prog, false);
	return true;
}

int program_fd(const struct datapath *dp, const struct bpf_program *prog)
{
	for (size_t i = 0; i < dp->n_adopted; i++)
		if (dp->adopted[i].prog == prog)
			return dp->adopted[i].fd;
	return bpf_program__fd(prog);
}

/* ---- leaving for the next one ------------------------------------------------------------------ */

void programs_forget(const struct datapath *dp)
{
	DIR *dir = opendir(dp->pin_dir);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		char path[PATH_MAX];

		if (strncmp(entry->d_name, "progs_", 6))
			continue;
		snprintf(path, sizeof(path), "%.3800s/%.255s", dp->pin_dir, entry->d_name);
		pins_remove(path);
		rmdir(path);
	}
	if (dir)
		closedir(dir);
}

int programs_pin(const struct datapath *dp)
{
	struct bpf_program *prog;
	char path[PATH_MAX];

	programs_path(dp, path);
	if (mkdir(path, 0700))
		return -errno;
	bpf_object__for_each_program(prog, dp->skel->obj)
	{
		program_path(dp, prog, path);
		if (bpf_obj_pin(program_fd(dp, prog), path))
			return -errno;
	}
	return 0;
}

bool programs_pinned(const struct datapath *dp)
{
	struct bpf_program *prog;
	char path[PATH_MAX];

	bpf_object__for_each_program(prog, dp->skel->obj)
	{
		program_path(dp, prog, path);
		if (access(path, F_OK))
			return false;
	}
	return true;
}
