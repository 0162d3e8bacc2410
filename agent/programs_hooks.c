/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What is at the hooks of a device, a container, a cgroup or all of the node, in the order in which it
 * runs: Towpath's, the user's and everybody else's. Asked of the kernel, on a worker thread.
 */
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

#include "edge_front.h"
#include "programs_internal.h"

#define CGROUPS_MAX 4096u
#define CGROUP_DEPTH_MAX 16

/* ---- the question: filled in on the loop ------------------------------------------------------- */

struct listed_place {
	char words[330]; /* "eth1", "shop/web" */
	char device[IFNAMSIZ];
	int netns_fd; /* -1: the node's own */
};

struct program_query {
	struct listed_place *places;
	size_t n;
	char cgroup[PATH_MAX]; /* "": none */
	int cgroup_fd;
	bool below; /* and all cgroups below it; else with what comes from above */
	struct {
		uint32_t id;
		char name[USERPROG_NAME_MAX];
	} users[PROGRAMS_MAX];
	size_t n_users;
	uint32_t own[GUARDS_MAX];
	const char *pins; /* run-dir/bpf; the list's */
	size_t n_own;
	unsigned int n_cgroups; /* looked at */
	json_t *items;
};

void program_query_free(struct program_query *q)
{
	if (!q)
		return;
	for (size_t i = 0; i < q->n; i++)
		if (q->places[i].netns_fd >= 0)
			close(q->places[i].netns_fd);
	if (q->cgroup_fd >= 0)
		close(q->cgroup_fd);
	free(q->places);
	json_decref(q->items);
	free(q);
}

static struct listed_place *place_add(struct program_query *q)
{
	struct listed_place *places = reallocarray(q->places, q->n + 1, sizeof(*places));

	if (!places)
		return NULL;
	q->places = places;
	places[q->n] = (struct listed_place){ .netns_fd = -1 };
	return &places[q->n++];
}

static int place_add_device(struct program_query *q, const char *device)
{
	struct listed_place *place = place_add(q);

	if (!place)
		return -ENOMEM;
	snprintf(place->words, sizeof(place->words), "%.15s", device);
	snprintf(place->device, sizeof(place->device), "%.15s", device);
	return 0;
}

static int place_add_endpoint(struct program_query *q, const struct endpoint *ep, char *err,
			      size_t err_len)
{
	struct listed_place *place;
	int fd = -1, res = endpoint_netns_open(ep->sandbox, &fd, err, err_len);

	if (res)
		return res;
	place = place_add(q);
	if (!place) {
		close(fd);
		return -ENOMEM;
	}
	snprintf(place->words, sizeof(place->words), "%.63s/%.253s", ep->ns, ep->pod);
	snprintf(place->device, sizeof(place->device), "%s", ep->ifname);
	place->netns_fd = fd;
	return 0;
}

/* All of the node: its devices, the containers' own, every cgroup. */
static int query_node(const struct programs *p, struct program_query *q)
{
	struct if_nameindex *all = if_nameindex();
	const struct endpoint *ep;
	char why[256];
	int res = 0;

	for (const struct if_nameindex *i = all; i && i->if_index && !res; i++)
		res = place_add_device(q, i->if_name);
	if_freenameindex(all);
	for (uint32_t slot = 1; !res && (ep = slots_next(p->a->slots, slot)); slot = ep->slot + 1)
		/* One whose namespace has lost its path is on its way out. */
		if (!ep->part && place_add_endpoint(q, ep, why, sizeof(why)) == -ENOMEM)
			res = -ENOMEM;
	q->below = true;
	if (!res && !program_cgroup_path("", q->cgroup, sizeof(q->cgroup)))
		q->cgroup_fd = open(q->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return res;
}

static int query_fill(const struct programs *p, const struct programs_asked *asked,
		      struct program_query *q, char *err, size_t err_len)
{
	const struct endpoint *ep;
	int res;

	if (asked->device && !if_nametoindex(asked->device)) {
		snprintf(err, err_len, "there is no interface %.64s on this node", asked->device);
		return -ENODEV;
	}
	if (asked->device)
		return place_add_device(q, asked->device);
	if (asked->pod) {
		ep = program_endpoint_find(p->a, asked->ns ? asked->ns : "default", asked->pod);
		if (ep)
			return place_add_endpoint(q, ep, err, err_len);
		snprintf(err, err_len, "there is no container %.63s/%.253s on this node",
			 asked->ns ? asked->ns : "default", asked->pod);
		return -ENOENT;
	}
	if (!asked->cgroup)
		return query_node(p, q);
	res = program_cgroup_open(asked->cgroup, &q->cgroup_fd, err, err_len);
	if (!res && program_cgroup_path(asked->cgroup, q->cgroup, sizeof(q->cgroup)))
		snprintf(q->cgroup, sizeof(q->cgroup), "%s", asked->cgroup);
	return res;
}

int program_query_new(const struct programs *p, const struct programs_asked *asked,
		      struct program_query **out, char *err, size_t err_len)
{
	struct program_query *q = calloc(1, sizeof(*q));
	const struct program *prog;
	int res = -ENOMEM;

	snprintf(err, err_len, "out of memory");
	if (!q)
		return res;
	q->cgroup_fd = -1;
	q->items = json_array();
	if (q->items)
		res = query_fill(p, asked, q, err, err_len);
	if (res) {
		program_query_free(q);
		return res;
	}
	DL_FOREACH(p->list, prog) {
		if (prog->prog_fd < 0 || q->n_users == PROGRAMS_MAX)
			continue;
		q->users[q->n_users].id = userprog_id(prog->prog_fd);
		snprintf(q->users[q->n_users++].name, USERPROG_NAME_MAX, "%s", prog->r.name);
	}
	q->pins = p->pins;
	q->n_own = datapath_program_ids(p->a->dp, q->own, GUARDS_MAX);
	*out = q;
	return 0;
}

/* ---- the answer: on the worker ------------------------------------------------------------------ */

static const char *owner_of(const struct program_query *q, uint32_t id, const char **name)
{
	for (size_t i = 0; i < q->n_own; i++)
		if (q->own[i] == id)
			return "towpath";
	for (size_t i = 0; i < q->n_users; i++) {
		if (q->users[i].id == id) {
			*name = q->users[i].name;
			return "user";
		}
	}
	return "other";
}

static const char *type_words(uint32_t type)
{
	switch (type) {
	case BPF_PROG_TYPE_XDP:
		return "xdp";
	case BPF_PROG_TYPE_SCHED_CLS:
		return "sched_cls";
	case BPF_PROG_TYPE_CGROUP_SKB:
		return "cgroup_skb";
	case BPF_PROG_TYPE_CGROUP_SOCK:
		return "cgroup_sock";
	case BPF_PROG_TYPE_CGROUP_SOCK_ADDR:
		return "cgroup_sock_addr";
	case BPF_PROG_TYPE_CGROUP_SOCKOPT:
		return "cgroup_sockopt";
	case BPF_PROG_TYPE_CGROUP_DEVICE:
		return "cgroup_device";
	case BPF_PROG_TYPE_CGROUP_SYSCTL:
		return "cgroup_sysctl";
	case BPF_PROG_TYPE_SOCK_OPS:
		return "sock_ops";
	default:
		return "other";
	}
}

/* Seconds since the epoch; the kernel says it in ns since the boot. */
static json_int_t loaded_at(uint64_t ns)
{
	struct timespec boot, now;

	clock_gettime(CLOCK_BOOTTIME, &boot);
	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec - boot.tv_sec + (json_int_t)(ns / 1000000000u);
}

static void item_add(struct program_query *q, const char *where, const char *hook, size_t position,
		     const struct userprog_entry *entry)
{
	struct bpf_prog_info info = {};
	uint32_t len = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(entry->prog_id);
	const char *name = NULL, *owner = owner_of(q, entry->prog_id, &name);
	char program[128];

	if (fd >= 0) {
		bpf_prog_get_info_by_fd(fd, &info, &len);
		close(fd);
	}
	userprog_name(entry->prog_id, program, sizeof(program));
	json_t *item =
		json_pack("{s:s, s:s, s:I, s:s, s:I, s:s, s:s, s:I, s:I, s:[], s:[]}", "where",
			  where, "hook", hook, "position", (json_int_t)position, "program", program,
			  "id", (json_int_t)entry->prog_id, "type", type_words(info.type), "owner",
			  owner, "link_id", (json_int_t)entry->link_id, "loaded",
			  fd < 0 ? 0 : loaded_at(info.load_time), "pins", "processes");
	if (name)
		json_object_set_new(item, "name", json_string(name));
	if (entry->priority)
		json_object_set_new(item, "priority", json_integer(entry->priority));
	if (entry->skb_mode)
		json_object_set_new(item, "mode", json_string("generic"));
	json_array_append_new(q->items, item);
}

static void hook_list(struct program_query *q, const char *where, struct userprog_hook *hook)
{
	const struct userprog_point *point = hook->point;
	const bool tc = userprog_point_is_tc(point);
	struct userprog_entry chain[USERPROG_CHAIN_MAX];
	char words[40];

	/* The kernel runs what is there by tcx before clsact. */
	for (int clsact = 0; clsact <= tc; clsact++) {
		size_t n = USERPROG_CHAIN_MAX;

		hook->clsact = clsact;
		snprintf(words, sizeof(words), "%s%s", tc ? clsact ? "clsact/" : "tcx/" : "",
			 point->name);
		if (userprog_chain(hook, chain, &n))
			continue;
		for (size_t i = 0; i < n; i++) {
			if (!chain[i].link_id && !chain[i].priority && !hook->effective)
				chain[i].link_id = userprog_link_find(hook, chain[i].prog_id);
			item_add(q, where, words, i + 1, &chain[i]);
		}
	}
}

/* Programs that jump from one to the next, of which the kernel names the first. */
static void stages_list(struct program_query *q, const struct listed_place *place, uint32_t ifindex)
{
	struct userprog_entry edge = {}, behind = {};
	size_t position = 2;

	if (place->netns_fd >= 0 || !userprog_edge_has(q->pins, ifindex))
		return;
	if (edge_front_get(q->pins, ifindex, &edge.prog_id) && edge.prog_id) {
		if (q->n_own < GUARDS_MAX)
			q->own[q->n_own++] = edge.prog_id;
		item_add(q, place->words, "xdp", position++, &edge);
	}
	behind.prog_id = userprog_edge_get(q->pins, ifindex);
	if (behind.prog_id)
		item_add(q, place->words, "xdp", position, &behind);
}

struct listing {
	struct program_query *q;
	const struct listed_place *place;
};

static int device_list(void *arg)
{
	const struct listing *l = arg;
	struct userprog_hook hook = { .ifindex = if_nametoindex(l->place->device),
				      .cgroup_fd = -1 };

	for (hook.point = NULL; hook.ifindex && (hook.point = userprog_point_next(hook.point));) {
		if (hook.point->where != USERPROG_DEVICE)
			continue;
		hook_list(l->q, l->place->words, &hook);
		if (hook.point->attach == BPF_XDP)
			stages_list(l->q, l->place, hook.ifindex);
	}
	return 0;
}

static void cgroup_list(struct program_query *q, int fd, const char *path, int depth)
{
	struct userprog_hook hook = { .cgroup_fd = fd, .effective = !q->below };
	DIR *dir = q->below && depth ? fdopendir(fcntl(fd, F_DUPFD_CLOEXEC, 0)) : NULL;
	struct dirent *entry;

	q->n_cgroups++;
	while ((hook.point = userprog_point_next(hook.point)))
		if (hook.point->where == USERPROG_CGROUP)
			hook_list(q, path, &hook);
	while (dir && q->n_cgroups < CGROUPS_MAX && (entry = readdir(dir))) {
		char below[PATH_MAX];
		int child;

		if (entry->d_type != DT_DIR || *entry->d_name == '.')
			continue;
		snprintf(below, sizeof(below), "%.3800s/%.255s", path, entry->d_name);
		child = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (child < 0)
			continue;
		cgroup_list(q, child, below, depth - 1);
		close(child);
	}
	if (dir)
		closedir(dir);
}

static void keeper_add(struct program_query *q, bool link, uint32_t id, const char *list,
		       const char *text)
{
	json_t *item;
	size_t i;

	json_array_foreach(q->items, i, item) {
		if (json_integer_value(json_object_get(item, link ? "link_id" : "id")) == id)
			json_array_append_new(json_object_get(item, list), json_string(text));
	}
}

static void pin_found(void *arg, bool link, uint32_t id, const char *path)
{
	keeper_add(arg, link, id, "pins", path);
}

/* What this agent has pinned beside users' programs is Towpath's: the edge. */
static void owners_mend(const struct program_query *q)
{
	const size_t len = strlen(q->pins);
	const char *path;
	json_t *item;
	size_t i;

	json_array_foreach(q->items, i, item) {
		path = json_string_value(json_array_get(json_object_get(item, "pins"), 0));
		if (path && !strcmp(json_string_value(json_object_get(item, "owner")), "other") &&
		    !strncmp(path, q->pins, len) && !strncmp(path + len, "/edge/", 6))
			json_object_set_new(item, "owner", json_string("towpath"));
	}
}

static void holder_found(void *arg, bool link, uint32_t id, int pid, const char *name)
{
	char text[64];

	snprintf(text, sizeof(text), "%.32s (%d)", name, pid);
	keeper_add(arg, link, id, "processes", text);
}

void program_work_list(struct program_work *w)
{
	struct program_query *q = w->query;
	char why[256];

	for (size_t i = 0; i < q->n; i++) {
		const struct program_place place = { .netns_fd = q->places[i].netns_fd };
		struct listing l = { q, &q->places[i] };

		program_place_run(&place, device_list, &l, why, sizeof(why));
	}
	if (q->cgroup_fd >= 0)
		cgroup_list(q, q->cgroup_fd, q->cgroup, CGROUP_DEPTH_MAX);
	if (json_array_size(q->items)) {
		userprog_pins_each(pin_found, q);
		owners_mend(q);
		userprog_holders_each(holder_found, q);
	}
}

json_t *program_query_items(struct program_query *q)
{
	return json_incref(q->items);
}
