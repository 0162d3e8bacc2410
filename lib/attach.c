/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Programs on interfaces. tcx where the kernel has it: the links are pinned, so they outlive the
 * agent, and switching one to another program is atomic. Else clsact filters, which outlive the
 * agent by themselves and are replaced in place.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "datapath_internal.h"
#include "towpath.skel.h"

#define CLSACT_PRIORITY 0x5457 /* "TW": how our filters are known again */

enum hook_kind { HOOK_PORT_IN, HOOK_PORT_OUT, HOOK_UPLINK_IN, HOOK_KINDS };

static const struct hook_type {
	const char *name; /* of the pin: NAME_IFINDEX */
	bool egress;
} hook_types[HOOK_KINDS] = {
	[HOOK_PORT_IN] = { "port_in", false },
	[HOOK_PORT_OUT] = { "port_out", true },
	[HOOK_UPLINK_IN] = { "uplink_in", false },
};

static struct bpf_program *hook_program(const struct datapath *dp, enum hook_kind kind)
{
	switch (kind) {
	case HOOK_PORT_IN:
		return dp->skel->progs.tw_from_container;
	case HOOK_PORT_OUT:
		return dp->skel->progs.tw_to_container;
	default:
		return dp->skel->progs.tw_from_uplink;
	}
}

size_t datapath_program_ids(struct datapath *dp, uint32_t *ids, size_t max)
{
	size_t n = 0;

	for (enum hook_kind kind = 0; kind < HOOK_KINDS && n < max; kind++) {
		struct bpf_prog_info info = {};
		uint32_t len = sizeof(info);

		if (!bpf_prog_get_info_by_fd(program_fd(dp, hook_program(dp, kind)), &info, &len))
			ids[n++] = info.id;
	}
	return n;
}

static void link_path(const struct datapath *dp, enum hook_kind kind, uint32_t ifindex,
		      char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.3900s/links/%s_%u", dp->pin_dir, hook_types[kind].name,
		 ifindex);
}

static int clsact_attach(struct datapath *dp, enum hook_kind kind, uint32_t ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex,
		    .attach_point = hook_types[kind].egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = 1, .priority = CLSACT_PRIORITY,
		    .prog_fd = program_fd(dp, hook_program(dp, kind)), .flags = BPF_TC_F_REPLACE);
	int res = bpf_tc_hook_create(&hook);

	if (res && res != -EEXIST)
		return res;
	return bpf_tc_attach(&hook, &opts);
}

static bool clsact_attached(enum hook_kind kind, uint32_t ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex,
		    .attach_point = hook_types[kind].egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = 1, .priority = CLSACT_PRIORITY);

	return !bpf_tc_query(&hook, &opts);
}

static void clsact_detach(enum hook_kind kind, uint32_t ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex,
		    .attach_point = hook_types[kind].egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = 1, .priority = CLSACT_PRIORITY);

	bpf_tc_detach(&hook, &opts);
}

/* -EOPNOTSUPP-like: this kernel has no tcx. */
static bool is_unsupported(int res)
{
	return res == -EOPNOTSUPP || res == -EINVAL;
}

/* A link that is there without a pin of ours; or -ENOENT. */
static int tcx_find(struct datapath *dp, enum hook_kind kind, uint32_t ifindex)
{
	const uint32_t type = hook_types[kind].egress ? BPF_TCX_EGRESS : BPF_TCX_INGRESS;
	struct bpf_prog_info prog = {};
	uint32_t id = 0, len = sizeof(prog);

	if (bpf_prog_get_info_by_fd(program_fd(dp, hook_program(dp, kind)), &prog, &len))
		return -errno;
	while (!bpf_link_get_next_id(id, &id)) {
		struct bpf_link_info info = {};
		int fd = bpf_link_get_fd_by_id(id);

		len = sizeof(info);
		if (fd < 0)
			continue;
		if (!bpf_link_get_info_by_fd(fd, &info, &len) && info.type == BPF_LINK_TYPE_TCX &&
		    info.prog_id == prog.id && info.tcx.ifindex == ifindex &&
		    info.tcx.attach_type == type)
			return fd;
		close(fd);
	}
	return -ENOENT;
}

static int tcx_attach(struct datapath *dp, enum hook_kind kind, uint32_t ifindex)
{
	/* Before whatever is there: what lets a packet pass there ends the chain, and with it us. */
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = BPF_F_BEFORE);
	char path[PATH_MAX];
	int fd, res = 0;

	fd = bpf_link_create(program_fd(dp, hook_program(dp, kind)), (int)ifindex,
			     hook_types[kind].egress ? BPF_TCX_EGRESS : BPF_TCX_INGRESS, &opts);
	if (fd < 0 && errno == EEXIST)
		fd = tcx_find(dp, kind, ifindex);
	else if (fd < 0)
		fd = -errno;
	if (fd < 0)
		return fd;
	if (!dp->pin_dir[0])
		return 0; /* the descriptor keeps it, until the process ends */
	link_path(dp, kind, ifindex, path);
	unlink(path); /* of an interface that had this number before */
	if (bpf_obj_pin(fd, path))
		res = -errno;
	close(fd);
	return res;
}

static bool tcx_attached(struct datapath *dp, enum hook_kind kind, uint32_t ifindex)
{
	struct bpf_link_info info = {};
	uint32_t len = sizeof(info);
	char path[PATH_MAX];
	bool attached;
	int fd;

	link_path(dp, kind, ifindex, path);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return false;
	/* The kernel clears the ifindex when the device goes; its number may be used again. */
	attached = !bpf_link_get_info_by_fd(fd, &info, &len) && info.tcx.ifindex == ifindex;
	close(fd);
	return attached;
}

static bool hook_attached(struct datapath *dp, enum hook_kind kind, uint32_t ifindex)
{
	return dp->clsact ? clsact_attached(kind, ifindex) : tcx_attached(dp, kind, ifindex);
}

static int hook_attach(struct datapath *dp, enum hook_kind kind, uint32_t ifindex)
{
	int res;

	if (hook_attached(dp, kind, ifindex))
		return 0;
	if (!dp->clsact) {
		res = tcx_attach(dp, kind, ifindex);
		if (!is_unsupported(res))
			return res;
		dp->clsact = true;
	}
	return clsact_attach(dp, kind, ifindex);
}

static void hook_detach(struct datapath *dp, enum hook_kind kind, uint32_t ifindex)
{
	char path[PATH_MAX];

	if (dp->clsact) {
		clsact_detach(kind, ifindex);
		return;
	}
	link_path(dp, kind, ifindex, path);
	unlink(path);
}

int datapath_attach_port(struct datapath *dp, uint32_t ifindex, const char *ifname)
{
	/* To the container first: nothing is let in by a port of which only half is there. */
	int res = hook_attach(dp, HOOK_PORT_OUT, ifindex);

	if (!res)
		res = hook_attach(dp, HOOK_PORT_IN, ifindex);
	if (res)
		datapath_detach(dp, ifindex);
	return res;
}

int datapath_attach_port_begin(struct datapath *dp, uint32_t ifindex)
{
	int res = hook_attach(dp, HOOK_PORT_IN, ifindex);

	/* Filters take no grace period. */
	if (!res && dp->clsact)
		res = hook_attach(dp, HOOK_PORT_OUT, ifindex);
	if (res)
		datapath_detach(dp, ifindex);
	return res ? res : !dp->clsact;
}

int datapath_attach_port_end(struct datapath *dp, uint32_t ifindex)
{
	return hook_attach(dp, HOOK_PORT_OUT, ifindex);
}

int datapath_attach_uplink(struct datapath *dp, uint32_t ifindex, const char *ifname)
{
	return hook_attach(dp, HOOK_UPLINK_IN, ifindex);
}

int datapath_detach(struct datapath *dp, uint32_t ifindex)
{
	for (enum hook_kind kind = 0; kind < HOOK_KINDS; kind++)
		hook_detach(dp, kind, ifindex);
	return 0;
}

bool datapath_attached(struct datapath *dp, uint32_t ifindex)
{
	return hook_attached(dp, HOOK_UPLINK_IN, ifindex) ||
	       (hook_attached(dp, HOOK_PORT_IN, ifindex) &&
		hook_attached(dp, HOOK_PORT_OUT, ifindex));
}

bool datapath_attached_begun(struct datapath *dp, uint32_t ifindex)
{
	return hook_attached(dp, HOOK_PORT_IN, ifindex);
}

/* "port_in_12" -> kind and 12. */
static int link_name_parse(const char *name, enum hook_kind *kind, uint32_t *ifindex)
{
	for (enum hook_kind k = 0; k < HOOK_KINDS; k++) {
		size_t len = strlen(hook_types[k].name);
		char *end;

		if (strncmp(name, hook_types[k].name, len) || name[len] != '_')
			continue;
		*ifindex = (uint32_t)strtoul(name + len + 1, &end, 10);
		if (*end || end == name + len + 1)
			return -EINVAL;
		*kind = k;
		return 0;
	}
	return -EINVAL;
}

int link_name_ifindex(const char *name, uint32_t *ifindex)
{
	enum hook_kind kind;

	return link_name_parse(name, &kind, ifindex);
}

/* Calls fn for each pinned link. fn may unlink. */
static int links_each(struct datapath *dp,
		      int (*fn)(struct datapath *dp, enum hook_kind kind, uint32_t ifindex,
				const char *path, void *arg),
		      void *arg)
{
	struct dirent *entry;
	char path[PATH_MAX];
	int res = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "%.3900s/links", dp->pin_dir);
	dir = dp->pin_dir[0] ? opendir(path) : NULL;
	while (dir && !res && (entry = readdir(dir))) {
		enum hook_kind kind;
		uint32_t ifindex;

		if (link_name_parse(entry->d_name, &kind, &ifindex))
			continue;
		link_path(dp, kind, ifindex, path);
		res = fn(dp, kind, ifindex, path, arg);
	}
	if (dir)
		closedir(dir);
	return res;
}

static int link_adopt(struct datapath *dp, enum hook_kind kind, uint32_t ifindex, const char *path,
		      void *arg)
{
	int fd;

	if (!tcx_attached(dp, kind, ifindex) || dp->clsact) {
		unlink(path);
		return 0;
	}
	fd = bpf_obj_get(path);
	if (fd < 0)
		return -errno;
	if (bpf_link_update(fd, program_fd(dp, hook_program(dp, kind)), NULL)) {
		int res = -errno;

		close(fd);
		return res;
	}
	close(fd);
	return 0;
}

static int clsact_each(int (*fn)(void *arg, enum hook_kind kind, uint32_t ifindex), void *arg)
{
	struct if_nameindex *all = if_nameindex();
	int res = 0;

	for (struct if_nameindex *i = all; i && i->if_index && !res; i++) {
		/* An ingress filter alone is an uplink's; with egress, a port's. */
		bool in = clsact_attached(HOOK_PORT_IN, i->if_index);
		bool out = clsact_attached(HOOK_PORT_OUT, i->if_index);

		if (out)
			res = fn(arg, HOOK_PORT_OUT, i->if_index);
		if (in && !res)
			res = fn(arg, out ? HOOK_PORT_IN : HOOK_UPLINK_IN, i->if_index);
	}
	if_freenameindex(all);
	return res;
}

static int clsact_adopt(void *arg, enum hook_kind kind, uint32_t ifindex)
{
	struct datapath *dp = arg;

	/* With tcx in use again, filters of an agent that was told to use clsact go. */
	if (!dp->clsact) {
		int res = tcx_attach(dp, kind, ifindex);

		if (!res)
			clsact_detach(kind, ifindex);
		return is_unsupported(res) ? clsact_attach(dp, kind, ifindex) : res;
	}
	return clsact_attach(dp, kind, ifindex);
}

int datapath_links_adopt(struct datapath *dp)
{
	int res = 0;

	if (dp->clsact)
		res = clsact_each(clsact_adopt, dp);
	if (!res)
		res = links_each(dp, link_adopt, NULL);
	if (!res && !dp->clsact)
		res = clsact_each(clsact_adopt, dp);
	return res;
}

struct each {
	int (*fn)(void *arg, uint32_t ifindex);
	void *arg;
};

static int each_link(struct datapath *dp, enum hook_kind kind, uint32_t ifindex, const char *path,
		     void *arg)
{
	const struct each *each = arg;

	return each->fn(each->arg, ifindex);
}

static int each_filter(void *arg, enum hook_kind kind, uint32_t ifindex)
{
	return each_link(NULL, kind, ifindex, NULL, arg);
}

int datapath_attached_each(struct datapath *dp, int (*fn)(void *arg, uint32_t ifindex), void *arg)
{
	struct each each = { fn, arg };

	return dp->clsact ? clsact_each(each_filter, &each) : links_each(dp, each_link, &each);
}

const char *datapath_attach_mode(const struct datapath *dp)
{
	return dp->clsact ? "clsact" : "tcx";
}

static int filter_remove(void *arg, enum hook_kind kind, uint32_t ifindex)
{
	clsact_detach(kind, ifindex);
	return 0;
}

int pins_remove(const char *path)
{
	struct dirent *entry;
	DIR *dir = opendir(path);
	int res = 0;

	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(dir))) {
		char below[PATH_MAX];
		struct stat st;

		/* In a bpffs only the kernel's own files have a dot in their name, and stay. */
		if (strchr(entry->d_name, '.'))
			continue;
		snprintf(below, sizeof(below), "%.3800s/%.255s", path, entry->d_name);
		if (lstat(below, &st))
			continue;
		if (S_ISDIR(st.st_mode))
			res = pins_remove(below) ?: res;
		else if (unlink(below))
			res = -errno;
		if (S_ISDIR(st.st_mode))
			rmdir(below);
	}
	closedir(dir);
	return res;
}

int datapath_uninstall(const char *pin_dir)
{
	char links[PATH_MAX];
	int res;

	/* Interfaces that have no filters are no error here. */
	libbpf_set_print(NULL);
	/* The programs first, so that none runs without its jumps. */
	clsact_each(filter_remove, NULL);
	snprintf(links, sizeof(links), "%.3900s/links", pin_dir);
	res = pins_remove(links);
	return pins_remove(pin_dir) ?: res;
}
