/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* From what a record says to a hook of the kernel's: a device, a container's interface, a cgroup. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "programs_internal.h"

const struct endpoint *program_endpoint_find(const struct agent *a, const char *ns, const char *pod)
{
	const struct endpoint *ep, *other = NULL;

	for (uint32_t slot = 1; (ep = slots_next(a->slots, slot)); slot = ep->slot + 1) {
		if (ep->part || ep->ending || strcmp(ep->ns, ns) || strcmp(ep->pod, pod))
			continue;
		if (!strcmp(ep->ifname, "eth0"))
			return ep;
		other = other ? other : ep;
	}
	return other;
}

/* A cgroup2 mount, for paths that are relative to it. */
static int cgroup_mount(char *buf, size_t len)
{
	FILE *in = fopen("/proc/self/mountinfo", "re");
	char line[2 * PATH_MAX], path[PATH_MAX], kind[32];
	int res = -ENOENT;

	while (in && res && fgets(line, sizeof(line), in)) {
		const char *rest = strstr(line, " - ");

		/* id parent major:minor root mount-point options ... - type */
		if (!rest || sscanf(rest, " - %31s", kind) != 1 || strcmp(kind, "cgroup2") ||
		    sscanf(line, "%*d %*d %*s %*s %4095s", path) != 1)
			continue;
		res = snprintf(buf, len, "%s", path) < (int)len ? 0 : -ENAMETOOLONG;
	}
	if (in)
		fclose(in);
	return res;
}

int program_cgroup_path(const char *name, char *buf, size_t len)
{
	char mount[PATH_MAX] = "";
	int res = *name == '/' ? 0 : cgroup_mount(mount, sizeof(mount));

	if (res)
		return res;
	return snprintf(buf, len, "%s%s%s", mount, *mount && *name ? "/" : "", name) < (int)len
		       ? 0
		       : -ENAMETOOLONG;
}

int program_cgroup_open(const char *name, int *out, char *err, size_t err_len)
{
	char path[PATH_MAX];
	struct statfs fs;
	int res = program_cgroup_path(name, path, sizeof(path)), fd;

	if (res) {
		snprintf(err, err_len,
			 res == -ENOENT ? "cgroup v2 is not mounted on this machine"
					: "the path of the cgroup is too long");
		return res == -ENOENT ? res : -EINVAL;
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		snprintf(err, err_len, "there is no cgroup %.300s: %s", path, strerror(errno));
		return -ENOENT;
	}
	if (fstatfs(fd, &fs) || fs.f_type != CGROUP2_SUPER_MAGIC) {
		close(fd);
		snprintf(err, err_len, "%.300s is no cgroup of version 2", path);
		return -EINVAL;
	}
	*out = fd;
	return 0;
}

static int endpoint_place(struct agent *a, const struct program_record *r,
			  struct program_place *place, char *err, size_t err_len)
{
	const struct endpoint *ep = program_endpoint_find(a, r->ns, r->pod);

	if (!ep) {
		snprintf(err, err_len, "there is no container %.63s/%.253s on this node", r->ns,
			 r->pod);
		return -ENOENT;
	}
	snprintf(place->device, sizeof(place->device), "%s", ep->ifname);
	place->port = ep->port_ifindex;
	return endpoint_netns_open(ep->sandbox, &place->netns_fd, err, err_len);
}

/* "towpath", a program of the list, or a number that the kernel knows a program by. */
static int order_find(const struct programs *p, const struct program_record *r,
		      struct userprog_order *order, char *err, size_t err_len)
{
	const struct program *other = programs_find(p, r->relative);
	char *end;

	order->place = r->before ? USERPROG_BEFORE : USERPROG_AFTER;
	if (!strcmp(r->relative, "towpath")) {
		order->prog_id = USERPROG_GUARDS;
		return 0;
	}
	if (other) {
		order->prog_id = userprog_id(other->prog_fd);
		return 0;
	}
	order->prog_id = (uint32_t)strtoul(r->relative, &end, 10);
	if (!*end && order->prog_id)
		return 0;
	snprintf(err, err_len,
		 "there is no program %.64s to be %s; it takes a name of 'towpath program list', "
		 "towpath, or a program's id",
		 r->relative, r->before ? "before" : "behind");
	return -ENOENT;
}

/* The data path may have attached nothing yet, and then does not know what the kernel has. */
bool program_clsact(const struct agent *a)
{
	return !strcmp(datapath_attach_mode(a->dp), "clsact") || !userprog_has_tcx();
}

int program_place_find(const struct programs *p, const struct program_record *r, bool strict,
		       struct program_place *out, char *err, size_t err_len)
{
	struct program_place place = {
		.hook = { .point = r->point, .cgroup_fd = -1 },
		.netns_fd = -1,
		.pins = p->pins,
		.front = r->point->attach == BPF_XDP && r->before,
		.order = { .bypass = r->bypass },
	};
	struct agent *a = p->a;
	int res = 0;

	place.hook.clsact =
		userprog_point_is_tc(r->point) && !strcmp(datapath_attach_mode(a->dp), "clsact");
	if (r->device && !if_nametoindex(r->device)) {
		snprintf(err, err_len, "there is no interface %s on this node", r->device);
		res = -ENODEV;
	} else if (r->device)
		snprintf(place.device, sizeof(place.device), "%s", r->device);
	else if (r->cgroup)
		res = program_cgroup_open(r->cgroup, &place.hook.cgroup_fd, err, err_len);
	else
		res = endpoint_place(a, r, &place, err, err_len);
	if (!res && r->relative && userprog_point_is_tc(r->point)) {
		res = order_find(p, r, &place.order, err, err_len);
		if (res && !strict) {
			place.order.place = USERPROG_LAST;
			res = 0;
		}
	}
	if (res) {
		program_place_close(&place);
		return res;
	}
	place.order.n_guards = datapath_program_ids(a->dp, place.guards, GUARDS_MAX);
	*out = place;
	return 0;
}
