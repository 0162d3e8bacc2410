/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Who keeps a program or a link: pins in any bpffs that this process sees, and processes that have it
 * open, as the kernel tells in /proc/PID/fdinfo.
 */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bpf_objects.h"
#include "userprog_internal.h"

struct pins {
	void (*fn)(void *arg, bool link, uint32_t id, const char *path);
	void *arg;
};

/* Maps are of no interest here. */
static int pin_tell(void *arg, const char *path, enum bpf_pin kind, int fd)
{
	const struct pins *p = arg;
	struct bpf_link_info info = {};
	uint32_t len = sizeof(info), id = 0;

	if (kind == BPF_PIN_LINK && !bpf_link_get_info_by_fd(fd, &info, &len))
		id = info.id;
	else if (kind == BPF_PIN_PROGRAM)
		id = userprog_id(fd);
	if (id)
		p->fn(p->arg, kind == BPF_PIN_LINK, id, path);
	return 0;
}

void userprog_pins_each(void (*fn)(void *arg, bool link, uint32_t id, const char *path), void *arg)
{
	struct pins p = { fn, arg };

	bpf_pins_each(pin_tell, &p);
}

/* ---- processes ----------------------------------------------------------------------------------- */

struct holders {
	void (*fn)(void *arg, bool link, uint32_t id, int pid, const char *name);
	void *arg;
};

static void fdinfo_read(const struct holders *h, int pid, const char *fd)
{
	uint32_t prog = 0, link = 0;
	char path[64], line[128], name[32] = "?";
	FILE *in;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%.10s", pid, fd);
	in = fopen(path, "re");
	while (in && fgets(line, sizeof(line), in)) {
		if (sscanf(line, "prog_id: %u", &prog) != 1)
			sscanf(line, "link_id: %u", &link);
	}
	if (in)
		fclose(in);
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	in = fopen(path, "re");
	if (in && fgets(name, sizeof(name), in))
		name[strcspn(name, "\n")] = '\0';
	if (in)
		fclose(in);
	if (link)
		h->fn(h->arg, true, link, pid, name);
	else if (prog)
		h->fn(h->arg, false, prog, pid, name);
}

static void process_read(const struct holders *h, int pid)
{
	char path[64], what[64];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		ssize_t len = readlinkat(dirfd(dir), entry->d_name, what, sizeof(what) - 1);

		what[len > 0 ? len : 0] = '\0';
		if (!strcmp(what, "anon_inode:bpf-prog") || !strcmp(what, "anon_inode:bpf_link") ||
		    !strcmp(what, "anon_inode:bpf-link"))
			fdinfo_read(h, pid, entry->d_name);
	}
	if (dir)
		closedir(dir);
}

void userprog_holders_each(void (*fn)(void *arg, bool link, uint32_t id, int pid, const char *name),
			   void *arg)
{
	const struct holders h = { fn, arg };
	DIR *dir = opendir("/proc");
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		int pid = atoi(entry->d_name);

		if (pid > 0 && pid != getpid())
			process_read(&h, pid);
	}
	if (dir)
		closedir(dir);
}

/* ---- names --------------------------------------------------------------------------------------- */

static void full_name(int fd, char *buf, size_t len)
{
	struct bpf_func_info first = {};
	struct bpf_prog_info info = {
		.nr_func_info = 1,
		.func_info_rec_size = sizeof(first),
		.func_info = (uint64_t)(uintptr_t)&first,
	};
	uint32_t info_len = sizeof(info);
	const struct btf_type *type;
	struct btf *btf = NULL;

	if (!bpf_prog_get_info_by_fd(fd, &info, &info_len) && info.btf_id && info.nr_func_info)
		btf = btf__load_from_kernel_by_id(info.btf_id);
	type = btf ? btf__type_by_id(btf, first.type_id) : NULL;
	if (type)
		snprintf(buf, len, "%s", btf__name_by_offset(btf, type->name_off));
	btf__free(btf);
}

void userprog_name(uint32_t prog_id, char *buf, size_t len)
{
	int fd = bpf_prog_get_fd_by_id(prog_id);
	struct bpf_prog_info info = {};
	uint32_t info_len = sizeof(info);

	*buf = '\0';
	if (fd < 0)
		return;
	if (!bpf_prog_get_info_by_fd(fd, &info, &info_len))
		snprintf(buf, len, "%s", info.name);
	/* One that fills the room may go on. */
	if (strlen(info.name) == sizeof(info.name) - 1)
		full_name(fd, buf, len);
	close(fd);
}

/* ---- links ------------------------------------------------------------------------------------- */

/* Queries of XDP and of cgroups tell programs only. */
uint32_t userprog_link_find(const struct userprog_hook *hook, uint32_t prog_id)
{
	uint32_t id = 0, found = 0;

	while (!found && !bpf_link_get_next_id(id, &id)) {
		struct bpf_link_info info = {};
		uint32_t len = sizeof(info);
		int fd = bpf_link_get_fd_by_id(id);
		struct stat st;

		if (fd < 0)
			continue;
		if (!bpf_link_get_info_by_fd(fd, &info, &len) && info.prog_id == prog_id) {
			if (info.type == BPF_LINK_TYPE_XDP && info.xdp.ifindex == hook->ifindex)
				found = id;
			if (info.type == BPF_LINK_TYPE_CGROUP && hook->cgroup_fd >= 0 &&
			    info.cgroup.attach_type == hook->point->attach &&
			    !fstat(hook->cgroup_fd, &st) && info.cgroup.cgroup_id == st.st_ino)
				found = id;
		}
		close(fd);
	}
	return found;
}
