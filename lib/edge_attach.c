/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Devices of the edge. A device is attached by a link: pinned, it outlives the process, and a
 * switch to another program is one atomic step in which no frame passes unfiltered.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "datapath_internal.h"
#include "edge_front.h"
#include "edge_internal.h"

static const char *const places[] = { [EDGE_LINK_XDP] = "links", [EDGE_LINK_ACCEPT] = "accept" };

static void link_path(const struct edge *edge, enum edge_link_place place, uint32_t ifindex,
		      char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.3900s/%s/%u", edge->pin_dir, places[place], ifindex);
}

int edge_link_get(const struct edge *edge, enum edge_link_place place, uint32_t ifindex)
{
	char path[PATH_MAX];
	int fd;

	if (edge->pin_dir[0]) {
		link_path(edge, place, ifindex, path);
		fd = bpf_obj_get(path);
		return fd < 0 ? -errno : fd;
	}
	for (size_t i = 0; i < edge->n_links; i++) {
		if (edge->links[i].ifindex != ifindex || edge->links[i].place != place)
			continue;
		fd = dup(edge->links[i].fd);
		return fd < 0 ? -errno : fd;
	}
	return -ENOENT;
}

int edge_link_keep(struct edge *edge, enum edge_link_place place, uint32_t ifindex, int fd)
{
	struct edge_link *links;
	char path[PATH_MAX];
	int res = 0;

	if (edge->pin_dir[0]) {
		link_path(edge, place, ifindex, path);
		unlink(path); /* of a device that had this number before */
		if (bpf_obj_pin(fd, path))
			res = -errno;
		close(fd);
		return res;
	}
	links = realloc(edge->links, (edge->n_links + 1) * sizeof(*links));
	if (!links) {
		close(fd);
		return -ENOMEM;
	}
	edge->links = links;
	edge->links[edge->n_links++] = (struct edge_link){ place, ifindex, fd };
	return 0;
}

static void link_forget(struct edge *edge, enum edge_link_place place, uint32_t ifindex)
{
	char path[PATH_MAX];

	if (edge->pin_dir[0]) {
		link_path(edge, place, ifindex, path);
		unlink(path);
		return;
	}
	for (size_t i = 0; i < edge->n_links; i++) {
		if (edge->links[i].ifindex != ifindex || edge->links[i].place != place)
			continue;
		close(edge->links[i].fd);
		edge->links[i] = edge->links[--edge->n_links];
		return;
	}
}

int edge_link_remove(struct edge *edge, enum edge_link_place place, uint32_t ifindex)
{
	int fd = edge_link_get(edge, place, ifindex), res = 0;

	if (fd < 0)
		return fd;
	/* Explicitly, so that nobody else's descriptor keeps it; a device that is gone is fine. */
	if (bpf_link_detach(fd) && errno != ENOLINK)
		res = -errno;
	close(fd);
	if (!res)
		link_forget(edge, place, ifindex);
	return res;
}

int edge_links_each(struct edge *edge, enum edge_link_place place,
		    int (*fn)(void *arg, uint32_t ifindex), void *arg)
{
	struct dirent *entry;
	char path[PATH_MAX];
	int res = 0;
	DIR *dir;

	for (size_t i = edge->n_links; i-- && !res;)
		if (edge->links[i].place == place)
			res = fn(arg, edge->links[i].ifindex);
	snprintf(path, sizeof(path), "%.3900s/%s", edge->pin_dir, places[place]);
	dir = edge->pin_dir[0] ? opendir(path) : NULL;
	while (dir && !res && (entry = readdir(dir))) {
		char *end;
		unsigned long ifindex = strtoul(entry->d_name, &end, 10);

		if (end != entry->d_name && !*end)
			res = fn(arg, (uint32_t)ifindex);
	}
	if (dir)
		closedir(dir);
	return res;
}

int edge_attachment_get(struct edge *edge, uint32_t ifindex, struct edge_attachment *out)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, query);
	struct bpf_link_info info = {};
	uint32_t len = sizeof(info);
	int fd = edge_link_get(edge, EDGE_LINK_XDP, ifindex), res;

	if (fd < 0)
		return fd;
	res = bpf_link_get_info_by_fd(fd, &info, &len) ? -errno : 0;
	close(fd);
	if (res)
		return res;
	/* The kernel clears the ifindex when the device goes; its number may be used again. */
	if (info.xdp.ifindex != ifindex || bpf_xdp_query((int)ifindex, 0, &query)) {
		link_forget(edge, EDGE_LINK_XDP, ifindex);
		return -ENOENT;
	}
	*out = (struct edge_attachment){
		.ifindex = ifindex,
		.mode = query.attach_mode == XDP_ATTACHED_SKB ? EDGE_MODE_GENERIC
							      : EDGE_MODE_NATIVE,
		.prog_id = info.prog_id,
	};
	return 0;
}

struct each {
	struct edge *edge;
	int (*fn)(void *arg, const struct edge_attachment *attachment);
	void *arg;
};

static int attachment_call(void *arg, uint32_t ifindex)
{
	const struct each *each = arg;
	struct edge_attachment at;

	return edge_attachment_get(each->edge, ifindex, &at) ? 0 : each->fn(each->arg, &at);
}

/* Calls fn for each attached device; fn may detach it. */
int edge_attachment_each(struct edge *edge,
			 int (*fn)(void *arg, const struct edge_attachment *attachment), void *arg)
{
	struct each each = { edge, fn, arg };

	return edge_links_each(edge, EDGE_LINK_XDP, attachment_call, &each);
}

struct update {
	struct edge *edge;
	int prog_fd;
};

static int link_update(void *arg, const struct edge_attachment *at)
{
	const struct update *update = arg;
	int fd = edge_link_get(update->edge, EDGE_LINK_XDP, at->ifindex), res = -ENOENT;

	if (fd < 0)
		return fd;
	edge_front_lock();
	if (update->edge->pin_dir[0])
		res = edge_front_update(update->edge->pin_dir, at->ifindex, fd, update->prog_fd);
	if (res == -ENOENT)
		res = bpf_link_update(fd, update->prog_fd, NULL) ? -errno : 0;
	edge_front_unlock();
	close(fd);
	/* Gone while we looked: nothing to switch. */
	return res == -ENOLINK ? 0 : res;
}

int edge_links_update(struct edge *edge, int prog_fd)
{
	struct update update = { edge, prog_fd };

	return edge_attachment_each(edge, link_update, &update);
}

/* ---- another program on the device ----------------------------------------------------------- */

/* What is on the device and is not ours. */
struct foreign {
	uint32_t prog_id;
	uint32_t flags; /* XDP_FLAGS_*_MODE */
	char name[BPF_OBJ_NAME_LEN];
};

static bool foreign_find(uint32_t ifindex, struct foreign *out)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, query);
	struct bpf_prog_info info = {};
	uint32_t len = sizeof(info);
	int fd;

	if (bpf_xdp_query((int)ifindex, 0, &query))
		return false;
	*out = (struct foreign){ .flags = XDP_FLAGS_DRV_MODE, .prog_id = query.drv_prog_id };
	if (!out->prog_id)
		*out = (struct foreign){ .flags = XDP_FLAGS_SKB_MODE,
					 .prog_id = query.skb_prog_id };
	if (!out->prog_id)
		*out = (struct foreign){ .flags = XDP_FLAGS_HW_MODE, .prog_id = query.hw_prog_id };
	fd = out->prog_id ? bpf_prog_get_fd_by_id(out->prog_id) : -1;
	if (fd >= 0) {
		if (!bpf_prog_get_info_by_fd(fd, &info, &len))
			snprintf(out->name, sizeof(out->name), "%s", info.name);
		close(fd);
	}
	return out->prog_id != 0;
}

/*
 * The link that holds the device; -ENOENT: the program was attached without one. By its program, too:
 * the number alone is that of a device in every network namespace.
 */
static int foreign_link(uint32_t ifindex, uint32_t prog_id)
{
	for (uint32_t id = 0; !bpf_link_get_next_id(id, &id);) {
		struct bpf_link_info info = {};
		uint32_t len = sizeof(info);
		int fd = bpf_link_get_fd_by_id(id);

		if (fd < 0)
			continue;
		if (!bpf_link_get_info_by_fd(fd, &info, &len) && info.type == BPF_LINK_TYPE_XDP &&
		    info.xdp.ifindex == ifindex && info.prog_id == prog_id)
			return fd;
		close(fd);
	}
	return -ENOENT;
}

static int foreign_remove(uint32_t ifindex, const struct foreign *foreign)
{
	int fd = foreign_link(ifindex, foreign->prog_id), res;

	if (fd < 0)
		return bpf_xdp_detach((int)ifindex, foreign->flags, NULL);
	res = bpf_link_detach(fd) ? -errno : 0;
	close(fd);
	return res;
}

/* ---- attaching ----------------------------------------------------------------------------------- */

static int link_create(const struct edge *edge, uint32_t ifindex, uint32_t flags)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = flags);
	int fd = bpf_link_create(edge_prog_fd(edge), (int)ifindex, BPF_XDP, &opts);

	return fd < 0 ? -errno : fd;
}

/* Native where it is asked for or can be had. A link's descriptor; err says why it is generic. */
static int link_create_mode(const struct edge *edge, uint32_t ifindex, enum edge_mode mode,
			    char *err, size_t err_len)
{
	int fd = -EOPNOTSUPP;

	if (mode != EDGE_MODE_GENERIC)
		fd = link_create(edge, ifindex, XDP_FLAGS_DRV_MODE);
	if (fd >= 0 || mode == EDGE_MODE_NATIVE || fd == -ENODEV || fd == -EBUSY || fd == -EEXIST)
		return fd;
	if (mode == EDGE_MODE_AUTO)
		datapath_message(err, err_len,
				 fd == -EOPNOTSUPP
					 ? "its driver has no XDP, so each frame is "
					   "allocated before it is looked at"
					 : "its driver refused (%s), so each frame is allocated "
					   "before it is looked at",
				 strerror(-fd));
	return link_create(edge, ifindex, XDP_FLAGS_SKB_MODE);
}

static int attach_new(struct edge *edge, uint32_t ifindex, enum edge_mode mode, bool replace,
		      char *err, size_t err_len)
{
	struct foreign foreign = {};
	bool other = foreign_find(ifindex, &foreign);
	int old = -1, fd, res;

	if (other && !replace) {
		datapath_message(err, err_len,
				 "it has an XDP program already: '%s', id %u; --replace takes it "
				 "off",
				 foreign.name, foreign.prog_id);
		return -EBUSY;
	}
	if (other) {
		old = bpf_prog_get_fd_by_id(foreign.prog_id);
		res = foreign_remove(ifindex, &foreign);
		if (res) {
			datapath_message(err, err_len, "'%s', id %u, does not go: %s", foreign.name,
					 foreign.prog_id, strerror(-res));
			if (old >= 0)
				close(old);
			return res;
		}
	}
	fd = link_create_mode(edge, ifindex, mode, err, err_len);
	if (fd < 0 && old >= 0)
		bpf_xdp_attach((int)ifindex, old, foreign.flags, NULL);
	if (old >= 0)
		close(old);
	if (fd < 0) {
		datapath_message(err, err_len, "the kernel refused: %s", strerror(-fd));
		return fd;
	}
	return edge_link_keep(edge, EDGE_LINK_XDP, ifindex, fd);
}

int edge_attach(struct edge *edge, uint32_t ifindex, enum edge_mode mode, bool replace,
		struct edge_attachment *out, char *err, size_t err_len)
{
	struct edge_attachment at;
	int res;

	if (err && err_len)
		*err = 0;
	res = edge_attachment_get(edge, ifindex, &at);
	if (res == -ENOENT) {
		res = attach_new(edge, ifindex, mode, replace, err, err_len);
		if (!res)
			res = edge_attachment_get(edge, ifindex, &at);
	}
	if (!res)
		*out = at;
	return res;
}

int edge_detach(struct edge *edge, uint32_t ifindex)
{
	int res = edge_link_remove(edge, EDGE_LINK_XDP, ifindex);

	if (!res)
		edge_link_remove(edge, EDGE_LINK_ACCEPT, ifindex);
	return res;
}

int edge_uninstall(const char *pin_dir)
{
	char path[PATH_MAX];
	int res = 0;

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(path, sizeof(path), "%.3900s/edge/%s", pin_dir, places[i]);
		res = pins_remove(path) ?: res;
	}
	snprintf(path, sizeof(path), "%.3900s/edge", pin_dir);
	return pins_remove(path) ?: res;
}
