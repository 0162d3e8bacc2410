/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Users' programs behind the edge. A device has one XDP program, which is the edge then; what it lets
 * pass goes on to slot 0 of tw_edge_next, one for all devices. There stands a program that goes on
 * by the device's number, through an array of which each user's program has one slot:
 *
 *	PIN_DIR/edge/maps/v*\/tw_edge_next[0] -> tw_edge_devices -> tw_edge_behind[ifindex]
 *
 * Both are pinned in PIN_DIR/edge_behind, so they go on without the agent.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "datapath_internal.h"
#include "edge_devices.skel.h"
#include "towpath/edge_abi.h"
#include "userprog_internal.h"

static int pin_get(const char *pin_dir, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%.3800s/%s", pin_dir, name);
	int fd = bpf_obj_get(path);
	return fd < 0 ? -errno : fd;
}

static int next_get(const char *pin_dir)
{
	char name[64];

	snprintf(name, sizeof(name), "edge/maps/v%d/tw_edge_next", TW_EDGE_ABI_VERSION);
	return pin_get(pin_dir, name);
}

bool userprog_edge_has(const char *pin_dir, uint32_t ifindex)
{
	struct bpf_link_info info = {};
	uint32_t len = sizeof(info);
	char name[64];
	bool there;
	int fd;

	snprintf(name, sizeof(name), "edge/links/%u", ifindex);
	fd = ifindex ? pin_get(pin_dir, name) : -ENOENT;
	/* The kernel clears the number when the device goes. */
	there = fd >= 0 && !bpf_link_get_info_by_fd(fd, &info, &len) && info.xdp.ifindex == ifindex;
	if (fd >= 0)
		close(fd);
	return there;
}

/* The id in a slot; 0: it is empty, or there is no such array. Takes the descriptor. */
static uint32_t slot_read(int fd, uint32_t slot)
{
	uint32_t id = 0;

	if (fd < 0)
		return 0;
	if (bpf_map_lookup_elem(fd, &slot, &id))
		id = 0;
	close(fd);
	return id;
}

uint32_t userprog_edge_get(const char *pin_dir, uint32_t ifindex)
{
	int devices = pin_get(pin_dir, "edge_behind/devices");
	uint32_t first = userprog_id(devices);

	if (devices >= 0)
		close(devices);
	/* An edge that was made anew has an empty slot. */
	if (!first || slot_read(next_get(pin_dir), 0) != first)
		return 0;
	return slot_read(pin_get(pin_dir, "edge_behind/behind"), ifindex);
}

/* Loads and pins both. */
static int devices_make(const char *pin_dir)
{
	struct edge_devices_bpf *skel = edge_devices_bpf__open_and_load();
	char path[PATH_MAX];
	int res = skel ? 0 : -errno;

	snprintf(path, sizeof(path), "%.3800s/edge_behind", pin_dir);
	userprog_unpin(path); /* half of it, of an agent that died */
	if (!res && mkdir(path, 0700))
		res = -errno;
	snprintf(path, sizeof(path), "%.3800s/edge_behind/behind", pin_dir);
	if (!res && bpf_obj_pin(bpf_map__fd(skel->maps.tw_edge_behind), path))
		res = -errno;
	snprintf(path, sizeof(path), "%.3800s/edge_behind/devices", pin_dir);
	if (!res && bpf_obj_pin(bpf_program__fd(skel->progs.tw_edge_devices), path))
		res = -errno;
	edge_devices_bpf__destroy(skel);
	return res;
}

static int slot_write(int fd, uint32_t slot, int prog_fd)
{
	int res = fd < 0 ? fd : 0;

	if (!res && bpf_map_update_elem(fd, &slot, &prog_fd, BPF_ANY))
		res = -errno;
	if (fd >= 0)
		close(fd);
	return res;
}

int userprog_edge_set(const char *pin_dir, uint32_t ifindex, int prog_fd, char *err, size_t err_len)
{
	int devices = pin_get(pin_dir, "edge_behind/devices"), res = 0;

	if (ifindex >= TW_EDGE_DEVICES) {
		snprintf(err, err_len,
			 "the interface has number %u, and behind the edge only those below %u can "
			 "have a program",
			 ifindex, TW_EDGE_DEVICES);
		return -ENOSPC;
	}
	if (devices < 0) {
		res = devices_make(pin_dir);
		devices = res ? -1 : pin_get(pin_dir, "edge_behind/devices");
	}
	/* Its own slot first: whoever comes through the other one finds it. */
	if (!res)
		res = slot_write(pin_get(pin_dir, "edge_behind/behind"), ifindex, prog_fd);
	if (!res)
		res = slot_write(next_get(pin_dir), 0, devices);
	if (devices >= 0)
		close(devices);
	if (res)
		snprintf(err, err_len, "the kernel does not take the program behind the edge: %s",
			 strerror(-res));
	return res;
}

void userprog_edge_clear(const char *pin_dir, uint32_t ifindex)
{
	int fd = pin_get(pin_dir, "edge_behind/behind");

	if (fd < 0)
		return;
	bpf_map_delete_elem(fd, &ifindex);
	close(fd);
}

void userprog_edge_keep(const char *pin_dir, const uint32_t *keep, size_t n)
{
	int fd = pin_get(pin_dir, "edge_behind/behind");

	for (uint32_t slot = 0; fd >= 0 && slot < TW_EDGE_DEVICES; slot++) {
		uint32_t id = 0;
		bool kept = false;

		if (bpf_map_lookup_elem(fd, &slot, &id))
			continue;
		for (size_t i = 0; i < n; i++)
			kept |= keep[i] == id;
		if (!kept)
			bpf_map_delete_elem(fd, &slot);
	}
	if (fd >= 0)
		close(fd);
}
