/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What is done to the kernel for one program, on a worker thread. Below the folder of a program
 * are prog_<generation>, maps/ and link; while it is replaced, new/ has the next generation. The
 * record in the store says which generation counts, so whoever dies on the way leaves either the
 * old one whole or the new one whole, and program_pins_tidy() clears up the rest.
 */
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "edge_front.h"
#include "programs_internal.h"

/* ---- places ------------------------------------------------------------------------------------- */

int program_place_run(const struct program_place *place, int (*fn)(void *arg), void *arg, char *err,
		      size_t err_len)
{
	return place->netns_fd < 0 ? fn(arg)
				   : endpoint_netns_run(place->netns_fd, fn, arg, err, err_len);
}

void program_place_close(struct program_place *place)
{
	if (place->netns_fd >= 0)
		close(place->netns_fd);
	if (place->hook.cgroup_fd >= 0)
		close(place->hook.cgroup_fd);
	place->netns_fd = place->hook.cgroup_fd = -1;
}

bool program_behind_edge(const struct program_place *place, uint32_t ifindex)
{
	return place->hook.point->attach == BPF_XDP && place->netns_fd < 0 &&
	       userprog_edge_has(place->pins, ifindex);
}

/* One program a device, there as well. */
static int attach_behind(const struct program_place *place, uint32_t ifindex, int prog_fd,
			 struct userprog_link *link, char *err, size_t err_len)
{
	uint32_t there = userprog_edge_get(place->pins, ifindex);
	char name[128];
	int res;

	if (there && there != userprog_id(prog_fd)) {
		userprog_name(there, name, sizeof(name));
		snprintf(err, err_len,
			 "the program %s (id %u) is behind the edge at this device already, which "
			 "takes one",
			 name, there);
		return -EEXIST;
	}
	res = userprog_edge_set(place->pins, ifindex, prog_fd, err, err_len);
	if (!res)
		link->slot = ifindex;
	return res;
}

/* The array by which a program goes on to the edge: <towpath/bpf/next.h>. */
static int next_array(const char *dir)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%.3800s/maps/tw_next", dir);
	int fd = bpf_obj_get(path);
	return fd < 0 ? -errno : fd;
}

static int front_put(const struct program_place *place, uint32_t ifindex, const char *dir,
		     int prog_fd, uint32_t old, char *err, size_t err_len)
{
	int array = next_array(dir), res;

	if (array < 0) {
		snprintf(err, err_len,
			 "the program does not go on to the edge, so it cannot be before it: "
			 "include <towpath/bpf/next.h>, and end with: return next_stage(ctx);");
		return -EINVAL;
	}
	res = edge_front_set(place->pins, ifindex, prog_fd, array, old, err, err_len);
	close(array);
	return res;
}

static int attach_front(const struct program_place *place, uint32_t ifindex, const char *dir,
			int prog_fd, struct userprog_link *link, char *err, size_t err_len)
{
	int res = front_put(place, ifindex, dir, prog_fd, userprog_id(prog_fd), err, err_len);

	if (!res) {
		link->slot = ifindex;
		link->front = true;
	}
	return res;
}

struct attaching {
	const struct program_place *place;
	const char *dir;
	int prog_fd;
	struct userprog_link *link;
	char *err;
	size_t err_len;
};

static int attach_there(void *arg)
{
	const struct attaching *a = arg;
	struct userprog_hook hook = a->place->hook;

	if (hook.point->where == USERPROG_DEVICE)
		hook.ifindex = if_nametoindex(a->place->device);
	if (hook.point->where == USERPROG_DEVICE && !hook.ifindex) {
		snprintf(a->err, a->err_len, "there is no interface %s %s", a->place->device,
			 a->place->netns_fd < 0 ? "on this node" : "in the container");
		return -ENODEV;
	}
	if (a->place->front && program_behind_edge(a->place, hook.ifindex))
		return attach_front(a->place, hook.ifindex, a->dir, a->prog_fd, a->link, a->err,
				    a->err_len);
	if (program_behind_edge(a->place, hook.ifindex))
		return attach_behind(a->place, hook.ifindex, a->prog_fd, a->link, a->err,
				     a->err_len);
	/* Filters have no pins: one that an earlier agent made is found at its device. */
	if (hook.clsact)
		a->link->priority = userprog_filter_find(&hook, userprog_id(a->prog_fd));
	if (a->link->priority)
		return 0;
	return userprog_attach(&hook, a->prog_fd, &a->place->order, a->link, a->err, a->err_len);
}

int program_link(const char *dir, const struct program_place *place, int prog_fd,
		 struct userprog_link *link, char *err, size_t err_len)
{
	struct userprog_link made = { .fd = -1 };
	struct attaching a = { place, dir, prog_fd, &made, err, err_len };
	char path[PATH_MAX];
	int res = program_place_run(place, attach_there, &a, err, err_len);

	if (res || made.fd < 0) {
		if (!res)
			*link = made;
		return res;
	}
	snprintf(path, sizeof(path), "%.3900s/link", dir);
	unlink(path); /* of a device, container or cgroup that has gone */
	if (bpf_obj_pin(made.fd, path)) {
		res = -errno;
		snprintf(err, err_len, "cannot pin %.200s: %s", path, strerror(errno));
		close(made.fd);
		return res;
	}
	*link = made;
	return 0;
}

struct taking {
	struct userprog_hook hook;
	const char *device;
	const struct userprog_link *link;
};

static int filter_off(void *arg)
{
	struct taking *t = arg;

	t->hook.ifindex = if_nametoindex(t->device);
	if (t->hook.ifindex)
		userprog_filter_remove(&t->hook, t->link);
	return 0;
}

/* Its pin has gone already. */
void program_off(const struct program_place *place, struct userprog_link *link)
{
	struct taking t = { place->hook, place->device, link };
	char why[128];

	if (link->fd >= 0) {
		/* At once: with its last reference it would go after a grace period. */
		bpf_link_detach(link->fd);
		close(link->fd);
	} else if (link->slot && link->front)
		edge_front_clear(place->pins, link->slot);
	else if (link->slot)
		userprog_edge_clear(place->pins, link->slot);
	else if (link->priority)
		program_place_run(place, filter_off, &t, why, sizeof(why));
	*link = (struct userprog_link){ .fd = -1 };
}

/* ---- pins --------------------------------------------------------------------------------------- */

/* Every generation but that one. */
static void generations_drop(const char *dir, const char *keep)
{
	DIR *folder = opendir(dir);
	struct dirent *entry;
	char path[PATH_MAX];

	while (folder && (entry = readdir(folder))) {
		snprintf(path, sizeof(path), "%.3800s/%.255s", dir, entry->d_name);
		if (!strncmp(entry->d_name, "prog_", 5) && strcmp(path, keep))
			unlink(path);
	}
	if (folder)
		closedir(folder);
}

/* new/ becomes what counts. It may have been begun already. */
static void next_promote(const char *dir, uint64_t generation)
{
	char next[PATH_MAX], from[PATH_MAX], to[PATH_MAX];

	snprintf(next, sizeof(next), "%.3900s/new", dir);
	snprintf(from, sizeof(from), "%.3900s/maps", next);
	snprintf(to, sizeof(to), "%.3900s/maps", dir);
	if (!access(from, F_OK)) {
		userprog_unpin(to);
		rename(from, to);
	}
	userprog_pin_path(dir, generation, to, sizeof(to));
	userprog_pin_path(next, generation, from, sizeof(from));
	rename(from, to);
	generations_drop(dir, to);
	rmdir(next);
}

int program_pins_find(const char *dir, uint64_t generation)
{
	char next[PATH_MAX], path[PATH_MAX];

	userprog_pin_path(dir, generation, path, sizeof(path));
	if (!access(path, F_OK))
		return 0;
	snprintf(next, sizeof(next), "%.3900s/new", dir);
	userprog_pin_path(next, generation, path, sizeof(path));
	if (access(path, F_OK))
		return -ENOENT;
	next_promote(dir, generation);
	return 0;
}

void program_pins_tidy(const char *dir, uint64_t generation)
{
	char path[PATH_MAX];

	userprog_pin_path(dir, generation, path, sizeof(path));
	generations_drop(dir, path);
	snprintf(path, sizeof(path), "%.3900s/new", dir);
	userprog_unpin(path);
}

/* ---- the work ----------------------------------------------------------------------------------- */

/* What has no name yet is called like the program. */
static int names_complete(struct program_work *w, const struct userprog *p)
{
	if (!w->r.program)
		w->r.program = strdup(userprog_program(p));
	if (!w->r.name && w->r.program)
		w->r.name = strndup(w->r.program, USERPROG_NAME_MAX - 1);
	if (w->r.name && w->r.program)
		return 0;
	snprintf(w->err, sizeof(w->err), "out of memory");
	return -ENOMEM;
}

/* Opens, loads and pins below the program's folder, or in `sub` of it. */
static int load(struct program_work *w, const char *sub, const char *maps)
{
	const struct userprog_file file = { w->r.file, w->object, w->r.size };
	struct userprog *p = NULL;
	char dir[PATH_MAX];
	int res = userprog_open(&p, &file, w->r.program, w->r.point, w->err, sizeof(w->err));

	if (!res)
		res = names_complete(w, p);
	if (!res)
		res = userprog_load(p, maps, w->r.new_maps, w->err, sizeof(w->err));
	if (!res) {
		snprintf(dir, sizeof(dir), "%.3800s/%.64s%s", w->root, w->r.name, sub);
		res = userprog_pin(p, dir, w->r.generation, w->err, sizeof(w->err));
	}
	if (res == -EEXIST && !*w->err)
		snprintf(w->err, sizeof(w->err),
			 "there is a program %.64s already; give this one another name with --name",
			 w->r.name);
	if (!res) {
		w->prog_fd = fcntl(userprog_fd(p), F_DUPFD_CLOEXEC, 0);
		res = w->prog_fd < 0 ? -errno : 0;
	}
	userprog_close(p);
	return res;
}

void program_dir(const char *root, const struct program_record *r, char buf[PATH_MAX])
{
	snprintf(buf, PATH_MAX, "%.3800s/%.64s", root, r->name);
}

void program_work_attach(struct program_work *w)
{
	char dir[PATH_MAX];

	if (!w->fresh && w->prog_fd < 0) {
		program_dir(w->root, &w->r, dir);
		userprog_unpin(dir); /* incomplete, or of another boot */
	}
	w->res = w->prog_fd >= 0 ? 0 : load(w, "", NULL);
	if (w->res || w->only_load)
		return;
	program_dir(w->root, &w->r, dir);
	/* A link that is in the wrong place: a program cannot be at a hook twice. */
	if (w->old_fd >= 0)
		bpf_link_detach(w->old_fd);
	w->res = program_link(dir, &w->place, w->prog_fd, &w->link, w->err, sizeof(w->err));
	if (w->res == -ENOENT && !w->fresh && w->place.order.place != USERPROG_LAST) {
		/* Who it stood beside is at this hook no more. */
		w->place.order.place = USERPROG_LAST;
		w->res = program_link(dir, &w->place, w->prog_fd, &w->link, w->err, sizeof(w->err));
	}
	if (w->res && w->fresh)
		program_work_undo(w);
}

void program_work_undo(struct program_work *w)
{
	char dir[PATH_MAX];

	program_dir(w->root, &w->r, dir);
	userprog_unpin(dir);
	program_off(&w->place, &w->link);
	close(w->prog_fd);
	w->prog_fd = -1;
}

struct switching {
	const struct program_work *w;
	int prog_fd;
	char *err;
	size_t err_len;
};

static int switch_there(void *arg)
{
	const struct switching *s = arg;
	struct userprog_hook hook = s->w->place.hook;

	if (hook.point->where == USERPROG_DEVICE)
		hook.ifindex = if_nametoindex(s->w->place.device);
	if (s->w->link.front) {
		char dir[PATH_MAX];

		snprintf(dir, sizeof(dir), "%.3800s/%.64s%s", s->w->root, s->w->r.name,
			 s->prog_fd == s->w->old_fd ? "" : "/new");
		return front_put(&s->w->place, s->w->link.slot, dir, s->prog_fd,
				 edge_front_get(s->w->place.pins, s->w->link.slot, NULL), s->err,
				 s->err_len);
	}
	if (s->w->link.slot)
		return userprog_edge_set(s->w->place.pins, s->w->link.slot, s->prog_fd, s->err,
					 s->err_len);
	return userprog_switch(&hook, &s->w->link, s->prog_fd, s->err, s->err_len);
}

/* One that is attached nowhere at the moment has nothing to switch. */
static int work_switch(struct program_work *w, int prog_fd, char *err, size_t err_len)
{
	struct switching s = { w, prog_fd, err, err_len };

	return w->link.fd < 0 && !w->link.priority && !w->link.slot
		       ? 0
		       : program_place_run(&w->place, switch_there, &s, err, err_len);
}

void program_work_replace(struct program_work *w)
{
	char maps[PATH_MAX], next[PATH_MAX];

	snprintf(next, sizeof(next), "%.3800s/%.64s/new", w->root, w->r.name);
	userprog_unpin(next);
	snprintf(maps, sizeof(maps), "%.3800s/%.64s/maps", w->root, w->r.name);
	w->res = load(w, "/new", maps);
	if (!w->res)
		w->res = work_switch(w, w->prog_fd, w->err, sizeof(w->err));
	if (w->res && w->prog_fd >= 0) {
		userprog_unpin(next);
		close(w->prog_fd);
		w->prog_fd = -1;
	}
}

void program_work_replaced(struct program_work *w)
{
	char dir[PATH_MAX], why[256];

	program_dir(w->root, &w->r, dir);
	if (w->res) {
		/* Not stored, so it has not happened. */
		work_switch(w, w->old_fd, why, sizeof(why));
		snprintf(dir + strlen(dir), sizeof(dir) - strlen(dir), "/new");
		userprog_unpin(dir);
		close(w->prog_fd);
		w->prog_fd = -1;
		return;
	}
	if (!program_pins_find(dir, w->r.generation))
		program_pins_tidy(dir, w->r.generation);
}

void program_work_detach(struct program_work *w)
{
	program_work_undo(w);
}
