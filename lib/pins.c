/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Pins that somebody takes away. A link lives as long as its pin, so without the bpffs all ports
 * would be without programs. The open folder keeps the bpffs alive: unmounting it is refused as
 * busy, or, done lazily, only hides it. What is deleted is noticed by inotify and made anew.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "datapath_internal.h"
#include "towpath.skel.h"

#define WATCHED (IN_DELETE | IN_MOVED_FROM | IN_ONLYDIR)

static int watch_folders(const struct datapath *dp)
{
	static const char *const names[] = { "", "/links", "/maps/v%d" };
	char path[PATH_MAX], name[32];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(name, sizeof(name), names[i], TW_ABI_VERSION);
		snprintf(path, sizeof(path), "%.3900s%s", dp->pin_dir, name);
		if (inotify_add_watch(dp->pins_watch, path, WATCHED) < 0)
			return -errno;
	}
	programs_path(dp, path);
	return inotify_add_watch(dp->pins_watch, path, WATCHED) < 0 ? -errno : 0;
}

int datapath_pins_hold(struct datapath *dp)
{
	int res;

	dp->pins_dir = open(dp->pin_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dp->pins_dir < 0)
		return -errno;
	dp->pins_watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	res = dp->pins_watch < 0 ? -errno : watch_folders(dp);
	return res ?: dp->pins_watch;
}

void pins_close(struct datapath *dp)
{
	/* 0 was never one of these: it is a descriptor that the process came with. */
	if (dp->pins_dir > 0)
		close(dp->pins_dir);
	if (dp->pins_watch > 0)
		close(dp->pins_watch);
	if (dp->jumps_fd > 0)
		close(dp->jumps_fd);
	dp->pins_dir = dp->pins_watch = dp->jumps_fd = 0;
}

bool map_pinned_at(const struct bpf_map *map, const char *path)
{
	struct bpf_map_info ours = {}, there = {};
	uint32_t len = sizeof(ours);
	int fd = bpf_obj_get(path);
	bool same = fd >= 0 && !bpf_map_get_info_by_fd(fd, &there, &len) &&
		    !bpf_map_get_info_by_fd(bpf_map__fd(map), &ours, &len) && ours.id == there.id;

	if (fd >= 0)
		close(fd);
	return same;
}

size_t datapath_pins(struct datapath *dp, size_t *expected, const char **missing)
{
	const struct bpf_map *map;
	size_t n = 0, right = 0;

	bpf_object__for_each_map(map, dp->skel->obj)
	{
		char path[PATH_MAX];

		if (map_is_private(map))
			continue;
		n++;
		map_pin_path(dp, map, path);
		if (map_pinned_at(map, path))
			right++;
		else
			*missing = bpf_map__name(map);
	}
	*expected = n;
	return right;
}

bool datapath_pins_hidden(const struct datapath *dp)
{
	struct stat ours, there;

	return dp->pins_dir > 0 && !fstat(dp->pins_dir, &ours) &&
	       (stat(dp->pin_dir, &there) || ours.st_dev != there.st_dev);
}

/* The jump table in use has a pin, or gets one. */
static int jumps_keep(struct datapath *dp)
{
	int fd = dp->n_adopted ? dp->jumps_fd : bpf_map__fd(dp->skel->maps.tw_jumps);

	return jumps_pinned(dp, fd) ? 0 : jumps_pin(dp, fd);
}

static int repair(struct datapath *dp)
{
	int res = pin_folders_make(dp);

	if (!res)
		res = maps_pin(dp);
	if (!res)
		res = jumps_keep(dp);
	if (!res && !programs_pinned(dp)) {
		programs_forget(dp);
		res = programs_pin(dp);
	}
	return res ?: watch_folders(dp);
}

int datapath_pins_read(struct datapath *dp, void (*gone)(void *arg, uint32_t ifindex), void *arg)
{
	char buf[8192] __attribute__((aligned(__alignof__(struct inotify_event))));
	bool others = false;
	ssize_t n;

	while ((n = read(dp->pins_watch, buf, sizeof(buf))) > 0) {
		const struct inotify_event *ev;

		for (char *at = buf; at < buf + n; at += sizeof(*ev) + ev->len) {
			uint32_t ifindex = 0;

			ev = (const struct inotify_event *)at;
			/* 0: lost events, so it may have been any of them. */
			if (ev->mask & IN_Q_OVERFLOW ||
			    (ev->len && !link_name_ifindex(ev->name, &ifindex)))
				gone(arg, ifindex);
			else
				others = true;
		}
	}
	return others && !datapath_pins_hidden(dp) ? repair(dp) : 0;
}

/*
 * Links are reachable by the folder that is held open. The old pin goes: a link with a second pin
 * that nobody sees could not be taken off any more.
 */
static int links_bring(const struct datapath *dp, const char *from)
{
	DIR *dir = opendir(from);
	struct dirent *entry;
	int res = 0;

	while (dir && !res && (entry = readdir(dir))) {
		char old[PATH_MAX], path[PATH_MAX];
		uint32_t ifindex;
		int fd;

		if (link_name_ifindex(entry->d_name, &ifindex))
			continue;
		snprintf(old, sizeof(old), "%s/%s", from, entry->d_name);
		fd = bpf_obj_get(old);
		snprintf(path, sizeof(path), "%.3800s/links/%.255s", dp->pin_dir, entry->d_name);
		if (fd < 0 || (bpf_obj_pin(fd, path) && errno != EEXIST))
			res = -errno;
		else
			unlink(old);
		if (fd >= 0)
			close(fd);
	}
	if (dir)
		closedir(dir);
	return res;
}

int datapath_pins_bring(struct datapath *dp)
{
	char links[64];
	int res = pin_folders_make(dp), dir;

	snprintf(links, sizeof(links), "/proc/self/fd/%d/links", dp->pins_dir);
	if (!res)
		res = links_bring(dp, links);
	if (!res)
		res = repair(dp);
	if (res)
		return res;
	dir = open(dp->pin_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	close(dp->pins_dir);
	dp->pins_dir = dir;
	return 0;
}
