/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Users' programs at hooks. A link where the kernel has one for the hook: what is pinned outlives
 * the agent, and one program takes another's place atomically. On kernels without tcx a clsact
 * filter, which outlives the agent by itself; its handle says that it is a user's.
 */
#include "userprog.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "datapath_internal.h"
#include "netlink.h"

#define FILTER_HANDLE 0x55500001u /* "UP" */
#define PRIORITY_FIRST 0x6000u	  /* behind Towpath's own */
#define PRIORITY_STEP 0x40u
#define PRIORITY_END 0x10000u
/* Somebody else changed the chain between look and attachment: looked at again. */
#define CHAIN_TRIES 8

#define DEVICE(name, section, attach, prog) { name, section, USERPROG_DEVICE, attach, prog }
#define CGROUP(name, section, attach, prog) { name, section, USERPROG_CGROUP, attach, prog }
#define CGROUP_ADDR(name, attach)                                                                  \
	CGROUP(name, "cgroup/" name, attach, BPF_PROG_TYPE_CGROUP_SOCK_ADDR)

static const struct userprog_point points[] = {
	DEVICE("xdp", "xdp", BPF_XDP, BPF_PROG_TYPE_XDP),
	DEVICE("ingress", "tc", BPF_TCX_INGRESS, BPF_PROG_TYPE_SCHED_CLS),
	DEVICE("egress", "tc", BPF_TCX_EGRESS, BPF_PROG_TYPE_SCHED_CLS),
	CGROUP("ingress", "cgroup_skb/ingress", BPF_CGROUP_INET_INGRESS, BPF_PROG_TYPE_CGROUP_SKB),
	CGROUP("egress", "cgroup_skb/egress", BPF_CGROUP_INET_EGRESS, BPF_PROG_TYPE_CGROUP_SKB),
	CGROUP("sock_create", "cgroup/sock_create", BPF_CGROUP_INET_SOCK_CREATE,
	       BPF_PROG_TYPE_CGROUP_SOCK),
	CGROUP("sock_release", "cgroup/sock_release", BPF_CGROUP_INET_SOCK_RELEASE,
	       BPF_PROG_TYPE_CGROUP_SOCK),
	CGROUP("post_bind4", "cgroup/post_bind4", BPF_CGROUP_INET4_POST_BIND,
	       BPF_PROG_TYPE_CGROUP_SOCK),
	CGROUP("post_bind6", "cgroup/post_bind6", BPF_CGROUP_INET6_POST_BIND,
	       BPF_PROG_TYPE_CGROUP_SOCK),
	CGROUP_ADDR("bind4", BPF_CGROUP_INET4_BIND),
	CGROUP_ADDR("bind6", BPF_CGROUP_INET6_BIND),
	CGROUP_ADDR("connect4", BPF_CGROUP_INET4_CONNECT),
	CGROUP_ADDR("connect6", BPF_CGROUP_INET6_CONNECT),
	CGROUP_ADDR("sendmsg4", BPF_CGROUP_UDP4_SENDMSG),
	CGROUP_ADDR("sendmsg6", BPF_CGROUP_UDP6_SENDMSG),
	CGROUP_ADDR("recvmsg4", BPF_CGROUP_UDP4_RECVMSG),
	CGROUP_ADDR("recvmsg6", BPF_CGROUP_UDP6_RECVMSG),
	CGROUP_ADDR("getpeername4", BPF_CGROUP_INET4_GETPEERNAME),
	CGROUP_ADDR("getpeername6", BPF_CGROUP_INET6_GETPEERNAME),
	CGROUP_ADDR("getsockname4", BPF_CGROUP_INET4_GETSOCKNAME),
	CGROUP_ADDR("getsockname6", BPF_CGROUP_INET6_GETSOCKNAME),
	CGROUP("getsockopt", "cgroup/getsockopt", BPF_CGROUP_GETSOCKOPT,
	       BPF_PROG_TYPE_CGROUP_SOCKOPT),
	CGROUP("setsockopt", "cgroup/setsockopt", BPF_CGROUP_SETSOCKOPT,
	       BPF_PROG_TYPE_CGROUP_SOCKOPT),
	CGROUP("dev", "cgroup/dev", BPF_CGROUP_DEVICE, BPF_PROG_TYPE_CGROUP_DEVICE),
	CGROUP("sysctl", "cgroup/sysctl", BPF_CGROUP_SYSCTL, BPF_PROG_TYPE_CGROUP_SYSCTL),
	CGROUP("sockops", "sockops", BPF_CGROUP_SOCK_OPS, BPF_PROG_TYPE_SOCK_OPS),
};
#define N_POINTS (sizeof(points) / sizeof(points[0]))

const struct userprog_point *userprog_point_find(enum userprog_where where, const char *name)
{
	if (!strcmp(name, "sock_ops"))
		name = "sockops";
	for (size_t i = 0; i < N_POINTS; i++)
		if (points[i].where == where && !strcmp(points[i].name, name))
			return &points[i];
	return NULL;
}

const struct userprog_point *userprog_point_next(const struct userprog_point *after)
{
	const struct userprog_point *next = after ? after + 1 : points;

	return next < points + N_POINTS ? next : NULL;
}

bool userprog_point_is_tc(const struct userprog_point *point)
{
	return point->prog == BPF_PROG_TYPE_SCHED_CLS;
}

bool userprog_has_tcx(void)
{
	LIBBPF_OPTS(bpf_prog_query_opts, opts);

	/* Of lo, which is 1 in every network namespace. Without a chain it says ENOENT. */
	return !bpf_prog_query_opts(1, BPF_TCX_INGRESS, &opts) || errno == ENOENT;
}

/* ---- who is there --------------------------------------------------------------------------- */

uint32_t userprog_id(int prog_fd)
{
	struct bpf_prog_info info = {};
	uint32_t len = sizeof(info);

	return prog_fd < 0 || bpf_prog_get_info_by_fd(prog_fd, &info, &len) ? 0 : info.id;
}

uint32_t userprog_link_program(int link_fd)
{
	struct bpf_link_info info = {};
	uint32_t len = sizeof(info);

	return link_fd < 0 || bpf_link_get_info_by_fd(link_fd, &info, &len) ? 0 : info.prog_id;
}

/* "the program count (id 17)" */
static const char *program_words(uint32_t id, char buf[64])
{
	struct bpf_prog_info info = {};
	uint32_t len = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(id);

	if (fd >= 0)
		bpf_prog_get_info_by_fd(fd, &info, &len);
	snprintf(buf, 64, "the program %s%s(id %u)", info.name, *info.name ? " " : "", id);
	if (fd >= 0)
		close(fd);
	return buf;
}

static uint32_t filter_parent(const struct userprog_hook *hook)
{
	return TC_H_MAKE(TC_H_CLSACT, hook->point->attach == BPF_TCX_EGRESS ? TC_H_MIN_EGRESS
									    : TC_H_MIN_INGRESS);
}

struct filters {
	struct userprog_entry *v;
	size_t n, room;
	bool full;
};

static int bpf_option(const struct nlattr *attr, void *arg)
{
	if (mnl_attr_get_type(attr) == TCA_BPF_ID && mnl_attr_get_payload_len(attr) >= 4)
		*(uint32_t *)arg = mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

struct filter {
	bool bpf;
	uint32_t id;
};

static int filter_attr(const struct nlattr *attr, void *arg)
{
	struct filter *f = arg;

	if (mnl_attr_get_type(attr) == TCA_KIND)
		f->bpf = !strcmp(mnl_attr_get_str(attr), "bpf");
	else if (mnl_attr_get_type(attr) == TCA_OPTIONS && f->bpf)
		mnl_attr_parse_nested(attr, bpf_option, &f->id);
	return MNL_CB_OK;
}

static int filter_cb(const struct nlmsghdr *nlh, void *arg)
{
	const struct tcmsg *tcm = mnl_nlmsg_get_payload(nlh);
	struct filter filter = {};
	struct filters *f = arg;

	mnl_attr_parse(nlh, sizeof(*tcm), filter_attr, &filter);
	if (!filter.id)
		return MNL_CB_OK;
	if (f->n == f->room) {
		f->full = true;
		return MNL_CB_OK;
	}
	f->v[f->n++] = (struct userprog_entry){
		.prog_id = filter.id,
		.priority = tcm->tcm_info >> 16,
		.handle = tcm->tcm_handle,
	};
	return MNL_CB_OK;
}

/* By priority, which is how the kernel lists them. */
static int filters_list(const struct userprog_hook *hook, struct userprog_entry *out, size_t *n)
{
	struct filters f = { .v = out, .room = *n };
	_cleanup_nl_ struct nl nl = { 0 };
	struct nl_batch b;
	int res = nl_open(&nl);

	if (res)
		return res;
	nl_batch_begin(&b);
	struct tcmsg *tcm = mnl_nlmsg_put_extra_header(
		nl_batch_put(&b, RTM_GETTFILTER, NLM_F_DUMP, "list the filters"), sizeof(*tcm));
	tcm->tcm_family = AF_UNSPEC;
	tcm->tcm_ifindex = (int)hook->ifindex;
	tcm->tcm_parent = filter_parent(hook);
	res = nl_dump(&nl, &b, filter_cb, &f);
	if (res == -EINVAL || res == -ENOENT)
		res = 0; /* no clsact there */
	*n = f.n;
	return res ? res : f.full ? -E2BIG : 0;
}

static int chain_xdp(const struct userprog_hook *hook, struct userprog_entry *out, size_t *n)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, opts);
	int res = bpf_xdp_query((int)hook->ifindex, 0, &opts);

	if (res)
		return res;
	if (opts.prog_id && !*n)
		return -E2BIG;
	*n = opts.attach_mode != XDP_ATTACHED_NONE && opts.prog_id;
	if (*n)
		*out = (struct userprog_entry){
			.prog_id = opts.prog_id,
			.skb_mode = opts.attach_mode == XDP_ATTACHED_SKB,
		};
	return 0;
}

/* A chain of the kernel's; *revision 0 where it has none. */
static int chain_query(const struct userprog_hook *hook, struct userprog_entry *out, size_t *n,
		       uint64_t *revision)
{
	uint32_t ids[USERPROG_CHAIN_MAX] = {}, links[USERPROG_CHAIN_MAX] = {};
	bool cgroup = hook->point->where == USERPROG_CGROUP;
	LIBBPF_OPTS(bpf_prog_query_opts, opts, .prog_ids = ids, .count = USERPROG_CHAIN_MAX);
	int target = cgroup ? hook->cgroup_fd : (int)hook->ifindex;

	if (!cgroup)
		opts.link_ids = links;
	if (hook->effective)
		opts.query_flags = BPF_F_QUERY_EFFECTIVE;
	if (bpf_prog_query_opts(target, hook->point->attach, &opts)) {
		if (errno != ENOENT)
			return -errno;
		opts.count = 0;
		opts.revision = 1; /* of a chain that is not there yet */
	}
	if (opts.count > *n)
		return -E2BIG;
	*n = opts.count;
	for (size_t i = 0; i < opts.count; i++)
		out[i] = (struct userprog_entry){ .prog_id = ids[i], .link_id = links[i] };
	*revision = cgroup ? 0 : opts.revision;
	return 0;
}

int userprog_chain(const struct userprog_hook *hook, struct userprog_entry *out, size_t *n)
{
	uint64_t revision;

	if (hook->point->attach == BPF_XDP)
		return chain_xdp(hook, out, n);
	if (hook->clsact)
		return filters_list(hook, out, n);
	return chain_query(hook, out, n, &revision);
}

/* ---- where in the chain ---------------------------------------------------------------------- */

static bool is_among(uint32_t id, const uint32_t *ids, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (ids[i] == id)
			return true;
	return false;
}

static bool is_guard(const struct userprog_order *order, uint32_t id)
{
	return is_among(id, order->guards, order->n_guards);
}

/* The place that a program gets: the number of those that run before it. */
static int place_find(const struct userprog_order *order, const struct userprog_entry *chain,
		      size_t n, size_t *out, char *err, size_t err_len)
{
	size_t at = order->place == USERPROG_BEFORE ? 0 : n;
	char words[64];

	if (order->place != USERPROG_LAST && order->prog_id) {
		const bool guards = order->prog_id == USERPROG_GUARDS;

		for (at = 0; at < n && (guards ? !is_guard(order, chain[at].prog_id)
					       : chain[at].prog_id != order->prog_id);
		     at++)
			;
		if (at == n) {
			snprintf(err, err_len, "%s is not at this hook",
				 guards ? "Towpath" : program_words(order->prog_id, words));
			return -ENOENT;
		}
		at += order->place == USERPROG_AFTER;
	}
	for (size_t i = at; i < n && !order->bypass; i++) {
		if (!is_guard(order, chain[i].prog_id))
			continue;
		snprintf(err, err_len,
			 "there it would run before Towpath's own program, and what it lets pass "
			 "with TC_ACT_OK would escape all policies; if that is meant, add "
			 "--allow-policy-bypass");
		return -EPERM;
	}
	*out = at;
	return 0;
}

/* ---- attaching ------------------------------------------------------------------------------- */

static int refuse_kernel(int res, const char *what, char *err, size_t err_len)
{
	snprintf(err, err_len, "the kernel does not attach the program to %s: %s", what,
		 strerror(-res));
	return res;
}

static int tcx_attach(const struct userprog_hook *hook, int prog_fd,
		      const struct userprog_order *order, struct userprog_link *out, char *err,
		      size_t err_len)
{
	struct userprog_entry chain[USERPROG_CHAIN_MAX];
	int res = -ESTALE;

	for (int i = 0; i < CHAIN_TRIES && res == -ESTALE; i++) {
		LIBBPF_OPTS(bpf_link_create_opts, opts);
		size_t n = USERPROG_CHAIN_MAX, at;
		uint64_t revision;

		res = chain_query(hook, chain, &n, &revision);
		if (res)
			return refuse_kernel(res, "this device", err, err_len);
		res = place_find(order, chain, n, &at, err, err_len);
		if (res)
			return res;
		opts.tcx.expected_revision = revision;
		if (at < n) {
			opts.flags = BPF_F_BEFORE;
			opts.tcx.relative_id = chain[at].prog_id;
		}
		out->fd = bpf_link_create(prog_fd, (int)hook->ifindex, hook->point->attach, &opts);
		res = out->fd < 0 ? -errno : 0;
	}
	if (res == -ERANGE || res == -E2BIG) {
		snprintf(err, err_len,
			 "there are %u programs at this hook already, as many as the "
			 "kernel takes",
			 USERPROG_CHAIN_MAX);
		return -ENOSPC;
	}
	return res ? refuse_kernel(res, "this device", err, err_len) : 0;
}

static struct bpf_tc_hook filter_hook(const struct userprog_hook *hook)
{
	const bool egress = hook->point->attach == BPF_TCX_EGRESS;

	return (struct bpf_tc_hook){
		.sz = sizeof(struct bpf_tc_hook),
		.ifindex = (int)hook->ifindex,
		.attach_point = egress ? BPF_TC_EGRESS : BPF_TC_INGRESS,
	};
}

static int filter_set(const struct userprog_hook *hook, uint32_t priority, int prog_fd, bool again)
{
	struct bpf_tc_hook tc = filter_hook(hook);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = FILTER_HANDLE, .priority = priority,
		    .prog_fd = prog_fd, .flags = again ? BPF_TC_F_REPLACE : 0);
	int res = bpf_tc_hook_create(&tc);

	return res && res != -EEXIST ? res : bpf_tc_attach(&tc, &opts);
}

static int filter_attach(const struct userprog_hook *hook, int prog_fd,
			 const struct userprog_order *order, struct userprog_link *out, char *err,
			 size_t err_len)
{
	struct userprog_entry chain[USERPROG_CHAIN_MAX];
	size_t n = USERPROG_CHAIN_MAX, at;
	int res = filters_list(hook, chain, &n);
	uint32_t low, high;

	if (res)
		return refuse_kernel(res, "this device", err, err_len);
	res = place_find(order, chain, n, &at, err, err_len);
	if (res)
		return res;
	low = at ? chain[at - 1].priority : 0;
	high = at < n ? chain[at].priority : PRIORITY_END;
	if (at == n && low < PRIORITY_FIRST)
		low = PRIORITY_FIRST - PRIORITY_STEP;
	if (high - low < 2) {
		snprintf(err, err_len, "no priority is free between the filters there");
		return -ENOSPC;
	}
	out->priority = at == n && low + PRIORITY_STEP < high ? low + PRIORITY_STEP
							      : low + (high - low) / 2;
	res = filter_set(hook, out->priority, prog_fd, false);
	return res ? refuse_kernel(res, "this device", err, err_len) : 0;
}

static int xdp_attach(const struct userprog_hook *hook, int prog_fd, struct userprog_link *out,
		      char *err, size_t err_len)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts);
	struct userprog_entry there = {};
	size_t n = 1;
	char words[64];
	int res = chain_xdp(hook, &there, &n);

	if (!res && n) {
		snprintf(err, err_len, "%s is at the device's XDP hook already, which takes one",
			 program_words(there.prog_id, words));
		return -EEXIST;
	}
	out->fd = bpf_link_create(prog_fd, (int)hook->ifindex, BPF_XDP, &opts);
	if (out->fd < 0) {
		/* The driver does not take it: the stack does, later and slower. */
		opts.flags = XDP_FLAGS_SKB_MODE;
		out->fd = bpf_link_create(prog_fd, (int)hook->ifindex, BPF_XDP, &opts);
	}
	if (out->fd < 0)
		return refuse_kernel(-errno, "this device", err, err_len);
	n = 1;
	out->skb_mode = !chain_xdp(hook, &there, &n) && n && there.skb_mode;
	return 0;
}

static int cgroup_attach(const struct userprog_hook *hook, int prog_fd, struct userprog_link *out,
			 char *err, size_t err_len)
{
	struct userprog_entry chain[USERPROG_CHAIN_MAX];
	size_t n = USERPROG_CHAIN_MAX;
	uint64_t revision;
	char words[64];
	int res;

	out->fd = bpf_link_create(prog_fd, hook->cgroup_fd, hook->point->attach, NULL);
	if (out->fd >= 0)
		return 0;
	res = -errno;
	/* One that was attached for itself alone, here or above. */
	if (res == -EPERM && !chain_query(hook, chain, &n, &revision) && n) {
		snprintf(err, err_len,
			 "%s is at this hook of the cgroup, attached so that it takes no other",
			 program_words(chain[0].prog_id, words));
		return -EEXIST;
	}
	if (res == -EPERM) {
		snprintf(err, err_len, "a program that takes no other is at a cgroup above");
		return -EEXIST;
	}
	return refuse_kernel(res, "this cgroup", err, err_len);
}

int userprog_attach(const struct userprog_hook *hook, int prog_fd,
		    const struct userprog_order *order, struct userprog_link *out, char *err,
		    size_t err_len)
{
	struct userprog_link link = { .fd = -1 };
	int res;

	if (hook->point->attach == BPF_XDP)
		res = xdp_attach(hook, prog_fd, &link, err, err_len);
	else if (hook->point->where == USERPROG_CGROUP)
		res = cgroup_attach(hook, prog_fd, &link, err, err_len);
	else if (hook->clsact)
		res = filter_attach(hook, prog_fd, order, &link, err, err_len);
	else
		res = tcx_attach(hook, prog_fd, order, &link, err, err_len);
	if (!res)
		*out = link;
	return res;
}

int userprog_switch(const struct userprog_hook *hook, const struct userprog_link *link, int prog_fd,
		    char *err, size_t err_len)
{
	int res = 0;

	if (link->fd >= 0)
		res = bpf_link_update(link->fd, prog_fd, NULL) ? -errno : 0;
	else
		res = filter_set(hook, link->priority, prog_fd, true);
	if (res)
		snprintf(err, err_len,
			 "the kernel does not put the program in the other's place: %s",
			 strerror(-res));
	return res;
}

/* ---- taking off ------------------------------------------------------------------------------- */

void userprog_filter_remove(const struct userprog_hook *hook, const struct userprog_link *link)
{
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = FILTER_HANDLE, .priority = link->priority);
	struct bpf_tc_hook tc = filter_hook(hook);

	if (link->priority)
		bpf_tc_detach(&tc, &opts);
}

int userprog_filters_remove(const uint32_t *keep, size_t n_keep)
{
	struct if_nameindex *all = if_nameindex();
	struct userprog_entry chain[USERPROG_CHAIN_MAX];

	if (!all)
		return -errno;
	for (const struct if_nameindex *i = all; i->if_index; i++) {
		for (const struct userprog_point *p = NULL; (p = userprog_point_next(p));) {
			const struct userprog_hook hook = { .point = p, .ifindex = i->if_index };
			size_t n = USERPROG_CHAIN_MAX;

			if (!userprog_point_is_tc(p) || filters_list(&hook, chain, &n))
				continue;
			for (size_t j = 0; j < n; j++) {
				const struct userprog_link link = { .priority = chain[j].priority };

				if (chain[j].handle == FILTER_HANDLE &&
				    !is_among(chain[j].prog_id, keep, n_keep))
					userprog_filter_remove(&hook, &link);
			}
		}
	}
	if_freenameindex(all);
	return 0;
}

uint32_t userprog_filter_find(const struct userprog_hook *hook, uint32_t prog_id)
{
	struct userprog_entry chain[USERPROG_CHAIN_MAX];
	size_t n = USERPROG_CHAIN_MAX;

	if (filters_list(hook, chain, &n))
		return 0;
	for (size_t i = 0; i < n; i++)
		if (chain[i].handle == FILTER_HANDLE && chain[i].prog_id == prog_id)
			return chain[i].priority;
	return 0;
}

bool userprog_link_alive(int link_fd)
{
	struct bpf_link_info info = {};
	uint32_t len = sizeof(info);

	return !bpf_link_get_info_by_fd(link_fd, &info, &len) &&
	       (info.type == BPF_LINK_TYPE_XDP ? info.xdp.ifindex : info.tcx.ifindex);
}

bool userprog_attached(const struct userprog_hook *hook, const struct userprog_link *link)
{
	struct bpf_link_info info = {};
	uint32_t len = sizeof(info);
	struct stat st;

	if (link->fd < 0) {
		LIBBPF_OPTS(bpf_tc_opts, opts, .handle = FILTER_HANDLE, .priority = link->priority);
		struct bpf_tc_hook tc = filter_hook(hook);

		return link->priority && !bpf_tc_query(&tc, &opts);
	}
	if (bpf_link_get_info_by_fd(link->fd, &info, &len))
		return false;
	switch (info.type) {
	case BPF_LINK_TYPE_XDP:
		return info.xdp.ifindex && info.xdp.ifindex == hook->ifindex;
	case BPF_LINK_TYPE_TCX:
		return info.tcx.ifindex && info.tcx.ifindex == hook->ifindex;
	case BPF_LINK_TYPE_CGROUP:
		/* The kernel forgets the cgroup when it goes; a new one has another number. */
		return !fstat(hook->cgroup_fd, &st) && info.cgroup.cgroup_id == st.st_ino;
	default:
		return false;
	}
}
