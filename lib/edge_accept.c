/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* SYN cookies on the listeners' side: what there must be, and the tc program that hands them over. */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <towpath/edge_abi.h>

#include "datapath_internal.h"
#include "edge_accept.skel.h"
#include "edge_internal.h"
#include "edge_limit.h"

#define TCP_SCALE_MAX 14

/* ---- what there must be ---------------------------------------------------------------------- */

/* Of /proc/sys/net, in this process's network namespace; -1: not there. `field`: which number. */
static long sysctl_get(const char *name, unsigned int field)
{
	char path[PATH_MAX], text[128], *at = text;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/sys/net/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return -1;
	text[n] = '\0';
	for (unsigned int i = 0; i < field; i++)
		strtol(at, &at, 10);
	return strtol(at, NULL, 10);
}

/* The window scale that Linux chooses for a socket (tcp_select_initial_window). */
static uint8_t window_scale(void)
{
	long space = sysctl_get("ipv4/tcp_rmem", 2), max = sysctl_get("core/rmem_max", 0);
	uint8_t scale = 0;

	for (space = max > space ? max : space; space > 65535 && scale < TCP_SCALE_MAX; space >>= 1)
		scale++;
	return scale;
}

static bool kfunc_exists(void)
{
	struct btf *btf = btf__load_vmlinux_btf();
	bool there =
		btf && btf__find_by_name_kind(btf, "bpf_sk_assign_tcp_reqsk", BTF_KIND_FUNC) > 0;

	btf__free(btf);
	return there;
}

static bool helpers_exist(void)
{
	return libbpf_probe_bpf_helper(BPF_PROG_TYPE_XDP, BPF_FUNC_tcp_raw_gen_syncookie_ipv4,
				       NULL) == 1;
}

int edge_cookie_probe(enum tw_edge_cookie_mode force, struct tw_edge_cookie_settings *out,
		      char *err, size_t err_len)
{
	long cookies = sysctl_get("ipv4/tcp_syncookies", 0);
	long stamps = sysctl_get("ipv4/tcp_timestamps", 0);
	bool assign = force != TW_EDGE_COOKIE_KERNEL && kfunc_exists();

	if (!helpers_exist())
		datapath_message(err, err_len,
				 "this kernel makes no SYN cookies for XDP programs: "
				 "that needs Linux 6.0");
	else if (force == TW_EDGE_COOKIE_ASSIGN && !assign)
		datapath_message(err, err_len,
				 "this kernel has no bpf_sk_assign_tcp_reqsk: that "
				 "needs Linux 6.9");
	else if (cookies < 1)
		datapath_message(err, err_len,
				 "net.ipv4.tcp_syncookies is 0, so no listener takes "
				 "a cookie: set it to %d",
				 assign ? 1 : 2);
	else if (!assign && cookies != 2)
		datapath_message(err, err_len,
				 "without bpf_sk_assign_tcp_reqsk (Linux 6.9) a "
				 "listener takes cookies that it did not make only "
				 "with net.ipv4.tcp_syncookies at 2: set it");
	else {
		out->mode = assign ? TW_EDGE_COOKIE_ASSIGN : TW_EDGE_COOKIE_KERNEL;
		/*
		 * A listener that decodes the timestamp itself takes an offset of its own off it,
		 * but with 2. Without timestamps there is no place for the options.
		 */
		out->timestamps = assign ? stamps > 0 : stamps == 2;
		out->sack = sysctl_get("ipv4/tcp_sack", 0) > 0;
		out->window_scale =
			sysctl_get("ipv4/tcp_window_scaling", 0) > 0 ? window_scale() : 15;
		return 0;
	}
	return -EOPNOTSUPP;
}

struct smallest {
	int fd;
	uint32_t mtu;
};

static int mtu_look(void *arg, const struct edge_attachment *at)
{
	struct smallest *smallest = arg;
	struct ifreq req = {};

	if (if_indextoname(at->ifindex, req.ifr_name) && !ioctl(smallest->fd, SIOCGIFMTU, &req) &&
	    (uint32_t)req.ifr_mtu < smallest->mtu)
		smallest->mtu = (uint32_t)req.ifr_mtu;
	return 0;
}

void edge_cookie_mss(struct edge *edge, uint16_t mss[2])
{
	struct smallest smallest = { socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), ETH_DATA_LEN };

	if (smallest.fd >= 0) {
		edge_attachment_each(edge, mtu_look, &smallest);
		close(smallest.fd);
	}
	/* Headers of IP and TCP; no link has less than IP asks for (RFC 791, RFC 8200). */
	mss[0] = (uint16_t)(smallest.mtu < 576 ? 536 : smallest.mtu - 40);
	mss[1] = (uint16_t)(smallest.mtu < 1280 ? 1220 : smallest.mtu - 60);
}

/* ---- the program ------------------------------------------------------------------------------- */

/* With the maps of the edge; those that it does not have would be a bug of the build. */
static int accept_load(struct edge *edge)
{
	struct edge_accept_bpf *skel = edge_accept_bpf__open();
	struct bpf_map *map;
	int res = skel ? 0 : -errno;

	if (!res)
		memcpy((void *)&skel->rodata->tw_edge_settings, &edge->settings,
		       sizeof(edge->settings));
	if (!res)
		bpf_object__for_each_map(map, skel->obj) if (!res && !bpf_map__is_internal(map))
			res = bpf_map__reuse_fd(map, edge_map_fd(edge, bpf_map__name(map)));
	if (!res)
		res = edge_accept_bpf__load(skel);
	if (res) {
		edge_accept_bpf__destroy(skel);
		return res;
	}
	edge->accept = skel;
	return 0;
}

/* On the device already, maybe with an earlier process's program; -ENOENT. */
static int accept_update(struct edge *edge, uint32_t ifindex)
{
	struct bpf_link_info info = {};
	uint32_t len = sizeof(info);
	int fd = edge_link_get(edge, EDGE_LINK_ACCEPT, ifindex), res = 0;

	if (fd < 0)
		return fd;
	if (bpf_link_get_info_by_fd(fd, &info, &len) ||
	    bpf_link_update(fd, edge_accept_fd(edge), NULL))
		res = -errno;
	/* Of a device that is gone: its number is used again. */
	if (res == -ENOLINK || (!res && info.tcx.ifindex != ifindex))
		res = -ENOENT;
	close(fd);
	return res;
}

static int accept_attach(void *arg, const struct edge_attachment *at)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts);
	struct edge *edge = arg;
	int res = accept_update(edge, at->ifindex), fd;

	if (res != -ENOENT)
		return res;
	fd = bpf_link_create(edge_accept_fd(edge), (int)at->ifindex, BPF_TCX_INGRESS, &opts);
	return fd < 0 ? -errno : edge_link_keep(edge, EDGE_LINK_ACCEPT, at->ifindex, fd);
}

struct removal {
	struct edge *edge;
	bool all;
};

static int accept_remove(void *arg, uint32_t ifindex)
{
	const struct removal *removal = arg;
	struct edge_attachment at;

	if (!removal->all && !edge_attachment_get(removal->edge, ifindex, &at))
		return 0;
	return edge_link_remove(removal->edge, EDGE_LINK_ACCEPT, ifindex);
}

int edge_accept_sync(struct edge *edge, bool wanted, char *err, size_t err_len)
{
	struct removal removal = { edge, !wanted };
	int res = 0;

	if (wanted && !edge->accept)
		res = accept_load(edge);
	if (!res)
		res = edge_links_each(edge, EDGE_LINK_ACCEPT, accept_remove, &removal);
	if (!res && wanted)
		res = edge_attachment_each(edge, accept_attach, edge);
	if (res)
		datapath_message(err, err_len, "SYN cookies cannot be handed to listeners: %s",
				 strerror(-res));
	return res;
}

void edge_accept_close(struct edge *edge)
{
	edge_accept_bpf__destroy(edge->accept);
}

int edge_accept_fd(const struct edge *edge)
{
	return edge->accept ? bpf_program__fd(edge->accept->progs.tw_edge_accept) : -ENOENT;
}
