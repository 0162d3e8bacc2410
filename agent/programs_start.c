/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* After a start: what is recorded goes on, what is not is taken off. */
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
#include <utlist.h>

#include "edge_front.h"
#include "log.h"
#include "programs_internal.h"

struct restoring {
	struct programs *p;
	char *err;
	size_t err_len;
};

/* Its link runs what is recorded, whatever a replacement had begun. */
static void link_restore(struct program *prog, const char *dir)
{
	char path[PATH_MAX], why[128];
	const struct userprog_hook none = {};

	userprog_pin_path(dir, prog->r.generation, path, sizeof(path));
	prog->prog_fd = bpf_obj_get(path);
	snprintf(path, sizeof(path), "%.3900s/link", dir);
	prog->link.fd = bpf_obj_get(path);
	if (prog->prog_fd >= 0 && prog->link.fd >= 0 &&
	    userprog_link_program(prog->link.fd) != userprog_id(prog->prog_fd) &&
	    userprog_switch(&none, &prog->link, prog->prog_fd, why, sizeof(why)))
		log_warn("program %s: %s", prog->r.name, why);
}

static int record_read(void *arg, const char *name, const char *json)
{
	const struct restoring *r = arg;
	struct program *prog = program_new();
	char dir[PATH_MAX], why[256] = "out of memory";

	if (!prog || program_record_parse(json, &prog->r, why, sizeof(why))) {
		snprintf(r->err, r->err_len, "the record of program %.64s cannot be used: %s", name,
			 why);
		program_free(prog);
		return -EUCLEAN;
	}
	programs_add(r->p, prog);
	program_dir(r->p->root, &prog->r, dir);
	if (program_pins_find(dir, prog->r.generation)) {
		/* Not here any more: another boot, or somebody deleted it. It is loaded anew. */
		userprog_unpin(dir);
		return 0;
	}
	link_restore(prog, dir);
	program_pins_tidy(dir, prog->r.generation);
	return 0;
}

/* What was begun, and is in no record. */
static void strangers_remove(const struct programs *p)
{
	uint32_t ids[PROGRAMS_MAX];
	const struct program *prog;
	size_t n = 0;

	DL_FOREACH(p->list, prog) {
		if (prog->prog_fd >= 0 && n < PROGRAMS_MAX)
			ids[n++] = userprog_id(prog->prog_fd);
	}
	userprog_filters_remove(ids, n);
	userprog_edge_keep(p->pins, ids, n);
	edge_front_keep(p->pins, ids, n);

	DIR *dir = opendir(p->root);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		char path[PATH_MAX];

		if (strchr(entry->d_name, '.') || programs_find(p, entry->d_name))
			continue;
		snprintf(path, sizeof(path), "%.3800s/%.255s", p->root, entry->d_name);
		log_info("program %s was not attached to the end: taken off", entry->d_name);
		userprog_unpin(path);
	}
	if (dir)
		closedir(dir);
}

struct finding {
	struct userprog_hook hook;
	const char *device;
	const char *pins;
	uint32_t id;
	struct userprog_link found;
};

static int unpinned_find(void *arg)
{
	struct finding *f = arg;

	f->hook.ifindex = if_nametoindex(f->device);
	if (!f->hook.ifindex)
		return 0;
	if (userprog_point_is_tc(f->hook.point))
		f->found.priority = userprog_filter_find(&f->hook, f->id);
	else if (userprog_edge_get(f->pins, f->hook.ifindex) == f->id)
		f->found.slot = f->hook.ifindex;
	else if (edge_front_get(f->pins, f->hook.ifindex, NULL) == f->id) {
		f->found.slot = f->hook.ifindex;
		f->found.front = true;
	}
	return 0;
}

/* Filters, and who is beside the edge, have no pins: those that run are found at their devices. */
static void unpinned_restore(const struct programs *p)
{
	struct program *prog;
	char why[512];

	DL_FOREACH(p->list, prog) {
		struct program_place place;

		if (prog->prog_fd < 0 || prog->link.fd >= 0 ||
		    prog->r.point->where != USERPROG_DEVICE ||
		    program_place_find(p, &prog->r, false, &place, why, sizeof(why)))
			continue;
		struct finding f = { .hook = place.hook,
				     .device = place.device,
				     .pins = p->pins,
				     .id = userprog_id(prog->prog_fd) };

		program_place_run(&place, unpinned_find, &f, why, sizeof(why));
		f.found.fd = -1;
		prog->link = f.found;
		prog->port = place.port;
		program_place_close(&place);
	}
}

int programs_new(struct programs **out, struct agent *a, char *err, size_t err_len)
{
	struct programs *p = calloc(1, sizeof(*p));
	struct restoring r = { p, err, err_len };
	int res;

	if (!p) {
		snprintf(err, err_len, "out of memory");
		return -ENOMEM;
	}
	p->a = a;
	p->work.data = p->stats_timer.data = p;
	p->stats_fd = p->root_fd = -1;
	p->timer_closed = true;
	guard_pin_dir(a->opts, p->pins, sizeof(p->pins));
	snprintf(p->root, sizeof(p->root), "%.3800s/programs", p->pins);
	res = mkdir(p->root, 0700) && errno != EEXIST ? -errno : 0;
	if (res)
		snprintf(err, err_len, "cannot make the folder %.200s: %s", p->root,
			 strerror(-res));
	else
		res = store_program_each(a->store, record_read, &r);
	if (res) {
		if (!*err)
			snprintf(err, err_len, "%s", store_error(a->store));
		p->closing = true;
		programs_release(p);
		return res;
	}
	strangers_remove(p);
	unpinned_restore(p);
	p->root_fd = open(p->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uv_timer_init(&a->loop, &p->stats_timer);
	p->timer_closed = false;
	*out = p;
	return 0;
}

void programs_pins_bring(struct programs *p)
{
	char old[64];

	if (p->root_fd < 0)
		return;
	snprintf(old, sizeof(old), "/proc/self/fd/%d", p->root_fd);
	userprog_pins_move(old, p->root);
	close(p->root_fd);
	p->root_fd = open(p->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}
