/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "edge_front.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAPS_MAX 64u

/* The edge's worker and that of users' programs change the same links. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void edge_front_lock(void)
{
	pthread_mutex_lock(&lock);
}

void edge_front_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

static uint32_t link_program(int link_fd)
{
	struct bpf_link_info info = {};
	uint32_t len = sizeof(info);

	return link_fd < 0 || bpf_link_get_info_by_fd(link_fd, &info, &len) ? 0 : info.prog_id;
}

static uint32_t map_id(int fd)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);

	return fd < 0 || bpf_map_get_info_by_fd(fd, &info, &len) ? 0 : info.id;
}

/* Whether the program jumps through the array; a pin may be of a device that had the number before. */
static bool program_uses(uint32_t prog_id, int array_fd)
{
	uint32_t ids[MAPS_MAX], wanted = map_id(array_fd), len;
	struct bpf_prog_info info = { .nr_map_ids = MAPS_MAX, .map_ids = (uint64_t)(uintptr_t)ids };
	int fd = wanted ? bpf_prog_get_fd_by_id(prog_id) : -1;
	bool uses = false;

	len = sizeof(info);
	if (fd >= 0 && !bpf_prog_get_info_by_fd(fd, &info, &len))
		for (uint32_t i = 0; i < info.nr_map_ids && i < MAPS_MAX; i++)
			uses |= ids[i] == wanted;
	if (fd >= 0)
		close(fd);
	return uses;
}

static int slot_set(int array_fd, int prog_fd)
{
	const uint32_t zero = 0;

	return bpf_map_update_elem(array_fd, &zero, &prog_fd, BPF_ANY) ? -errno : 0;
}

/* A descriptor of the program in the slot. -ENOENT. */
static int slot_get(int array_fd)
{
	const uint32_t zero = 0;
	uint32_t id = 0;
	int fd;

	if (bpf_map_lookup_elem(array_fd, &zero, &id))
		return -ENOENT;
	fd = bpf_prog_get_fd_by_id(id);
	return fd < 0 ? -errno : fd;
}

/* ---- the edge's side --------------------------------------------------------------------------- */

static void front_path(const char *edge_dir, uint32_t ifindex, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.3900s/front/%u", edge_dir, ifindex);
}

/* The array of the program that is first at the link. -ENOENT: the edge is itself. */
static int front_array(const char *edge_dir, uint32_t ifindex, int link_fd)
{
	char path[PATH_MAX];
	int fd;

	front_path(edge_dir, ifindex, path);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return -ENOENT;
	if (program_uses(link_program(link_fd), fd))
		return fd;
	close(fd);
	return -ENOENT;
}

int edge_front_update(const char *edge_dir, uint32_t ifindex, int link_fd, int prog_fd)
{
	int fd = front_array(edge_dir, ifindex, link_fd), res;

	if (fd < 0)
		return fd;
	res = slot_set(fd, prog_fd);
	close(fd);
	return res;
}

/* ---- the users' side --------------------------------------------------------------------------- */

static int link_get(const char *pin_dir, uint32_t ifindex)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%.3800s/edge/links/%u", pin_dir, ifindex);
	return bpf_obj_get(path);
}

static void dir_get(const char *pin_dir, char dir[PATH_MAX])
{
	snprintf(dir, PATH_MAX, "%.3800s/edge", pin_dir);
}

/* The slot first, the pin second, the link last: whoever looks on the way finds something whole. */
static int front_put(const char *dir, uint32_t ifindex, int link_fd, int edge_fd, int prog_fd,
		     int array_fd)
{
	char path[PATH_MAX];
	int res = slot_set(array_fd, edge_fd);

	if (res)
		return res;
	snprintf(path, sizeof(path), "%.3900s/front", dir);
	if (mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	front_path(dir, ifindex, path);
	unlink(path);
	if (bpf_obj_pin(array_fd, path))
		return -errno;
	if (!bpf_link_update(link_fd, prog_fd, NULL))
		return 0;
	res = -errno;
	unlink(path);
	return res;
}

int edge_front_set(const char *pin_dir, uint32_t ifindex, int prog_fd, int array_fd, uint32_t old,
		   char *err, size_t err_len)
{
	int link, array, edge, res = 0;
	char dir[PATH_MAX];
	uint32_t first;

	dir_get(pin_dir, dir);
	edge_front_lock();
	link = link_get(pin_dir, ifindex);
	first = link_program(link);
	array = first ? front_array(dir, ifindex, link) : -ENOENT;
	if (!first) {
		snprintf(err, err_len, "the edge is not at this device");
		res = -ENOENT;
	} else if (array >= 0 && first != old) {
		snprintf(err, err_len,
			 "a program (id %u) is before the edge at this device already, which takes "
			 "one",
			 first);
		res = -EEXIST;
	} else {
		edge = array >= 0 ? slot_get(array) : bpf_prog_get_fd_by_id(first);
		res = edge < 0 ? -errno : front_put(dir, ifindex, link, edge, prog_fd, array_fd);
		if (res)
			snprintf(err, err_len,
				 "the kernel does not take the program before the edge: %s",
				 strerror(-res));
		if (edge >= 0)
			close(edge);
	}
	if (array >= 0)
		close(array);
	if (link >= 0)
		close(link);
	edge_front_unlock();
	return res;
}

uint32_t edge_front_get(const char *pin_dir, uint32_t ifindex, uint32_t *next)
{
	int link = link_get(pin_dir, ifindex), array;
	uint32_t first = link_program(link), zero = 0;
	char dir[PATH_MAX];

	dir_get(pin_dir, dir);
	array = first ? front_array(dir, ifindex, link) : -ENOENT;
	if (link >= 0)
		close(link);
	if (next)
		*next = 0;
	if (array < 0)
		return 0;
	if (next && bpf_map_lookup_elem(array, &zero, next))
		*next = 0;
	close(array);
	return first;
}

void edge_front_clear(const char *pin_dir, uint32_t ifindex)
{
	char dir[PATH_MAX], path[PATH_MAX];
	int link, array, edge;

	dir_get(pin_dir, dir);
	edge_front_lock();
	link = link_get(pin_dir, ifindex);
	array = link < 0 ? -ENOENT : front_array(dir, ifindex, link);
	edge = array < 0 ? -ENOENT : slot_get(array);
	if (edge >= 0)
		bpf_link_update(link, edge, NULL);
	front_path(dir, ifindex, path);
	unlink(path);
	if (edge >= 0)
		close(edge);
	if (array >= 0)
		close(array);
	if (link >= 0)
		close(link);
	edge_front_unlock();
}

void edge_front_keep(const char *pin_dir, const uint32_t *keep, size_t n)
{
	struct dirent *entry;
	char path[PATH_MAX];
	DIR *dir;

	snprintf(path, sizeof(path), "%.3800s/edge/front", pin_dir);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		uint32_t ifindex = (uint32_t)strtoul(entry->d_name, NULL, 10);
		uint32_t first = ifindex ? edge_front_get(pin_dir, ifindex, NULL) : 0;
		bool kept = !ifindex;

		for (size_t i = 0; i < n; i++)
			kept |= first && keep[i] == first;
		if (!kept)
			edge_front_clear(pin_dir, ifindex);
	}
	if (dir)
		closedir(dir);
}
