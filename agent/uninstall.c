/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* towpathd --uninstall: takes everything of Towpath out of the kernel. Objects stay on disk. */
#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "agent.h"
#include "edge.h"
#include "userprog.h"

struct uninstall {
	struct store *store;
	int failures;
};

static int restore_sysctl(void *arg, const char *path, const char *value)
{
	struct uninstall *u = arg;
	int res = sysctl_restore(path, value);

	if (res) {
		fprintf(stderr, "towpathd: cannot set %s back to %s: %s\n", path, value,
			strerror(-res));
		u->failures++;
	}
	return 0;
}

static bool nobody_owns(void *arg, const char *port)
{
	return false;
}

static void ports_remove(struct uninstall *u)
{
	char(*names)[IFNAMSIZ] = NULL;
	char why[256];
	size_t n = 0;
	int res = endpoint_link_leaks(nobody_owns, NULL, &names, &n);

	if (res) {
		fprintf(stderr, "towpathd: cannot list the ports: %s\n", strerror(-res));
		u->failures++;
	}
	for (size_t i = 0; i < n; i++) {
		if (endpoint_link_delete(names[i], why, sizeof(why))) {
			fprintf(stderr, "towpathd: %s\n", why);
			u->failures++;
		}
	}
	free(names);
}

static void pins_remove(struct uninstall *u, const char *dir)
{
	char programs[4096];
	struct statfs fs;

	if (statfs(dir, &fs) || fs.f_type != BPF_FS_MAGIC)
		return;
	snprintf(programs, sizeof(programs), "%.4000s/programs", dir);
	userprog_uninstall(programs);
	int res = edge_uninstall(dir) ?: datapath_uninstall(dir);
	if (res) {
		fprintf(stderr, "towpathd: cannot take out what is pinned in %s: %s\n", dir,
			strerror(-res));
		u->failures++;
	} else if (umount2(dir, MNT_DETACH) && errno != EINVAL) {
		fprintf(stderr, "towpathd: cannot unmount %s: %s\n", dir, strerror(errno));
		u->failures++;
	}
}

static void state_restore(struct uninstall *u, const char *dir)
{
	char why[512];

	if (store_open(&u->store, dir, why, sizeof(why))) {
		fprintf(stderr, "towpathd: %s\n", why);
		u->failures++;
		return;
	}
	if (store_sysctl_each(u->store, restore_sysctl, u) ||
	    (!u->failures && store_forget_kernel(u->store))) {
		fprintf(stderr, "towpathd: %s\n", store_error(u->store));
		u->failures++;
	}
	store_close(u->store);
}

int agent_uninstall(const struct agent_options *opts)
{
	struct uninstall u = {};
	char path[4096], why[512] = "";
	int fd = -1;

	if (guard_capabilities(why, sizeof(why)) || guard_single(&fd, why, sizeof(why))) {
		fprintf(stderr, "towpathd: %s\n", why);
		return 1;
	}
	guard_pin_dir(opts, path, sizeof(path));
	pins_remove(&u, path);
	ports_remove(&u);
	snprintf(path, sizeof(path), "%s/towpath.db", opts->state_dir);
	if (!access(path, F_OK))
		state_restore(&u, opts->state_dir);
	snprintf(path, sizeof(path), "%s/towpath.sock", opts->run_dir);
	unlink(path);
	close(fd);
	return u.failures ? 1 : 0;
}
