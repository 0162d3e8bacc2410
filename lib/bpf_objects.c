/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <mntent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bpf_objects.h"

#define PIN_DEPTH_MAX 16u
#define PINS_MAX 65536u	       /* looked at */
#define PROGRAM_MAPS_MAX 4096u /* of one program; the kernel allows 64 */

/* 1: gone meanwhile. */
static int program_read(int fd, struct bpf_prog_info *info, uint32_t *map_ids)
{
	uint32_t len = sizeof(*info);

	memset(info, 0, sizeof(*info));
	info->nr_map_ids = PROGRAM_MAPS_MAX;
	info->map_ids = (uint64_t)(uintptr_t)map_ids;
	if (bpf_prog_get_info_by_fd(fd, info, &len))
		return -errno;
	if (info->nr_map_ids > PROGRAM_MAPS_MAX)
		info->nr_map_ids = PROGRAM_MAPS_MAX;
	return 0;
}

int bpf_programs_each(int (*fn)(void *arg, int fd, const struct bpf_prog_info *info,
				const uint32_t *map_ids),
		      void *arg)
{
	uint32_t *map_ids = calloc(PROGRAM_MAPS_MAX, sizeof(*map_ids)), id = 0;
	int res = map_ids ? 0 : -ENOMEM;

	while (!res) {
		struct bpf_prog_info info;
		int fd;

		if (bpf_prog_get_next_id(id, &id)) {
			res = errno == ENOENT ? 0 : -errno;
			break;
		}
		fd = bpf_prog_get_fd_by_id(id);
		if (fd < 0 && errno == ENOENT)
			continue; /* gone meanwhile */
		res = fd < 0 ? -errno : program_read(fd, &info, map_ids);
		if (!res)
			res = fn(arg, fd, &info, map_ids);
		if (fd >= 0)
			close(fd);
	}
	free(map_ids);
	return res;
}

/* ---- pins ------------------------------------------------------------------------------------- */

struct pins {
	int (*fn)(void *arg, const char *path, enum bpf_pin kind, int fd);
	void *arg;
	dev_t seen[64]; /* a bpffs may be mounted at several places */
	size_t n;
	unsigned int looked;
};

static int pin_visit(struct pins *p, const char *path)
{
	char proc[64], link[64] = "";
	int fd = bpf_obj_get(path), res = 0;

	if (fd < 0)
		return 0; /* gone, or of a kind that cannot be opened */
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	if (readlink(proc, link, sizeof(link) - 1) > 0) {
		if (strstr(link, "bpf-map"))
			res = p->fn(p->arg, path, BPF_PIN_MAP, fd);
		else if (strstr(link, "bpf-prog"))
			res = p->fn(p->arg, path, BPF_PIN_PROGRAM, fd);
		else if (strstr(link, "bpf_link") || strstr(link, "bpf-link"))
			res = p->fn(p->arg, path, BPF_PIN_LINK, fd);
	}
	close(fd);
	return res;
}

static int folder_visit(struct pins *p, const char *folder, unsigned int depth)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;
	int res = 0;

	while (dir && !res && (entry = readdir(dir))) {
		char path[PATH_MAX];
		struct stat st;

		/* Pins have no dots; the kernel's own files do. */
		if (strchr(entry->d_name, '.') ||
		    snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name) >=
			    (int)sizeof(path) ||
		    lstat(path, &st))
			continue;
		if (S_ISDIR(st.st_mode) && depth)
			res = folder_visit(p, path, depth - 1);
		else if (S_ISREG(st.st_mode) && p->looked++ < PINS_MAX)
			res = pin_visit(p, path);
	}
	if (dir)
		closedir(dir);
	return res;
}

static bool mount_is_new(struct pins *p, const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return false;
	for (size_t i = 0; i < p->n; i++)
		if (p->seen[i] == st.st_dev)
			return false;
	if (p->n < sizeof(p->seen) / sizeof(*p->seen))
		p->seen[p->n++] = st.st_dev;
	return true;
}

int bpf_pins_each(int (*fn)(void *arg, const char *path, enum bpf_pin kind, int fd), void *arg)
{
	struct pins p = { .fn = fn, .arg = arg };
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	struct mntent m;
	char text[2 * PATH_MAX];
	int res = 0;

	if (!mounts)
		return -errno;
	while (!res && getmntent_r(mounts, &m, text, sizeof(text)))
		if (!strcmp(m.mnt_type, "bpf") && mount_is_new(&p, m.mnt_dir))
			res = folder_visit(&p, m.mnt_dir, PIN_DEPTH_MAX);
	endmntent(mounts);
	return res;
}
