/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The public side of userprog.h: one program, attached as long as it is open. */
#include <towpath/program.h>

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "datapath_internal.h"
#include "userprog_internal.h"

#define SENTENCE_MAX 1024

struct tw_program {
	struct userprog *prog;
	struct userprog_hook hook;
	struct userprog_link link;
	bool attached;
};

static int place_find(struct userprog_hook *hook, const struct tw_place *place, char *err,
		      size_t err_len)
{
	bool device = place->kind == TW_DEVICE;

	hook->point = userprog_point_find(device ? USERPROG_DEVICE : USERPROG_CGROUP, place->hook);
	if (!hook->point) {
		snprintf(err, err_len, "a %s has no hook \"%.32s\"", device ? "device" : "cgroup",
			 place->hook);
		return -EINVAL;
	}
	if (device) {
		hook->ifindex = if_nametoindex(place->name);
		if (hook->ifindex)
			return 0;
		snprintf(err, err_len, "there is no device %.64s", place->name);
		return -ENOENT;
	}
	hook->cgroup_fd = open(place->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (hook->cgroup_fd >= 0)
		return 0;
	int res = -errno;

	snprintf(err, err_len, "cannot open the cgroup %.256s: %s", place->name, strerror(-res));
	return res;
}

static int open_and_load(struct tw_program *p, const char *path, const char *program, char *err,
			 size_t err_len)
{
	struct userprog_file file;
	void *bytes;
	int res = userprog_file_read(path, &file, &bytes, err, err_len);

	if (res)
		return res;
	res = userprog_open(&p->prog, &file, program, p->hook.point, err, err_len);
	if (!res)
		res = userprog_load(p->prog, NULL, true, err, err_len);
	free(bytes);
	return res;
}

int tw_program_open(struct tw_program **out, const char *path, const char *program,
		    const struct tw_place *place, char *err, size_t err_len)
{
	struct tw_program *p = calloc(1, sizeof(*p));
	char text[SENTENCE_MAX] = "out of memory";
	int res = p ? 0 : -ENOMEM;

	if (p) {
		p->hook.cgroup_fd = p->link.fd = -1;
		res = place_find(&p->hook, place, text, sizeof(text));
	}
	if (!res)
		res = open_and_load(p, path, program, text, sizeof(text));
	if (res) {
		datapath_message(err, err_len, "%s", text);
		tw_program_close(p);
		return res;
	}
	*out = p;
	return 0;
}

void tw_program_close(struct tw_program *program)
{
	if (!program)
		return;
	tw_program_detach(program);
	userprog_close(program->prog);
	if (program->hook.cgroup_fd >= 0)
		close(program->hook.cgroup_fd);
	free(program);
}

int tw_program_attach(struct tw_program *program, char *err, size_t err_len)
{
	static const struct userprog_order last = {};
	char text[SENTENCE_MAX] = "it is attached already";
	int fd = userprog_fd(program->prog), res = -EALREADY;

	if (!program->attached)
		res = userprog_attach(&program->hook, fd, &last, &program->link, text,
				      sizeof(text));
	/* A kernel without tcx knows nothing of such links. */
	if ((res == -EINVAL || res == -EOPNOTSUPP) && !program->hook.clsact &&
	    userprog_point_is_tc(program->hook.point)) {
		program->hook.clsact = true;
		res = userprog_attach(&program->hook, fd, &last, &program->link, text,
				      sizeof(text));
	}
	if (res)
		datapath_message(err, err_len, "%s", text);
	else
		program->attached = true;
	return res;
}

void tw_program_detach(struct tw_program *program)
{
	if (!program->attached)
		return;
	program->attached = false;
	if (program->link.fd >= 0)
		close(program->link.fd);
	else
		userprog_filter_remove(&program->hook, &program->link);
	program->link.fd = -1;
}

const char *tw_program_name(const struct tw_program *program)
{
	return userprog_program(program->prog);
}

int tw_program_fd(const struct tw_program *program)
{
	return userprog_fd(program->prog);
}

int tw_program_map(const struct tw_program *program, const char *name, struct tw_map **out,
		   char *err, size_t err_len)
{
	int fd = userprog_map_fd(program->prog, name);

	if (fd >= 0)
		return tw_map_open_fd(out, fd, err, err_len);
	datapath_message(err, err_len, "the program has no map \"%.64s\"", name);
	return -ENOENT;
}
