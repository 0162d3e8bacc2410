/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Where a program is pinned: made, put back, moved, taken away. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "datapath_internal.h"
#include "userprog_internal.h"

#define MAPS_MAX 64u

void userprog_pin_path(const char *dir, uint64_t generation, char *buf, size_t len)
{
	snprintf(buf, len, "%.3900s/prog_%016llx", dir, (unsigned long long)generation);
}

void userprog_unpin(const char *dir)
{
	char path[PATH_MAX];

	/* A program whose jumps are emptied under it would go another way. */
	snprintf(path, sizeof(path), "%.3900s/link", dir);
	unlink(path);
	pins_remove(dir);
	rmdir(dir);
}

/* ---- what somebody deleted ------------------------------------------------------------------------ */

static void pin_put_back(int fd, const char *path)
{
	if (fd >= 0 && access(path, F_OK))
		bpf_obj_pin(fd, path);
}

void userprog_repin(const char *dir, uint64_t generation, int prog_fd, int link_fd)
{
	uint32_t ids[MAPS_MAX];
	struct bpf_prog_info info = { .nr_map_ids = MAPS_MAX, .map_ids = (uint64_t)(uintptr_t)ids };
	uint32_t len = sizeof(info);
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%.3900s/link", dir);
	if (link_fd >= 0 && access(path, F_OK)) {
		mkdir(dir, 0700);
		bpf_obj_pin(link_fd, path);
	}
	userprog_pin_path(dir, generation, path, sizeof(path));
	if (!access(path, F_OK) || bpf_prog_get_info_by_fd(prog_fd, &info, &len))
		return;
	mkdir(dir, 0700);
	bpf_obj_pin(prog_fd, path);
	snprintf(path, sizeof(path), "%.3900s/maps", dir);
	mkdir(path, 0700);
	for (uint32_t i = 0; i < info.nr_map_ids && i < MAPS_MAX; i++) {
		int fd = bpf_map_get_fd_by_id(ids[i]);
		struct bpf_map_info map = {};
		const char *dot;

		len = sizeof(map);
		if (fd < 0)
			continue;
		bpf_map_get_info_by_fd(fd, &map, &len);
		dot = strchr(map.name, '.');
		snprintf(path, sizeof(path), "%.3800s/maps/%s", dir, dot ? dot + 1 : map.name);
		pin_put_back(fd, path);
		close(fd);
	}
}

void userprog_pins_move(const char *from, const char *to)
{
	DIR *dir = opendir(from);
	struct dirent *entry;

	mkdir(to, 0700);
	while (dir && (entry = readdir(dir))) {
		char old[PATH_MAX], new[PATH_MAX];
		int fd;

		if (strchr(entry->d_name, '.'))
			continue;
		snprintf(old, sizeof(old), "%.3800s/%.255s", from, entry->d_name);
		snprintf(new, sizeof(new), "%.3800s/%.255s", to, entry->d_name);
		if (entry->d_type == DT_DIR) {
			userprog_pins_move(old, new);
			continue;
		}
		fd = bpf_obj_get(old);
		pin_put_back(fd, new);
		if (fd >= 0) {
			unlink(old);
			close(fd);
		}
	}
	if (dir)
		closedir(dir);
}

void userprog_uninstall(const char *root)
{
	DIR *dir = opendir(root);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		char path[PATH_MAX];

		if (strchr(entry->d_name, '.'))
			continue;
		snprintf(path, sizeof(path), "%.3800s/%.255s", root, entry->d_name);
		userprog_unpin(path);
	}
	if (dir)
		closedir(dir);
	userprog_filters_remove(NULL, 0);
}
