/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the process needs around it: privileges, being the only one, folders, a bpffs. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "agent.h"

struct capability {
	int number;
	const char *name;
	const char *what_for;
};

/* What the agent does for as long as it runs. */
static const struct capability needed[] = {
	{ CAP_NET_ADMIN, "CAP_NET_ADMIN", "to make interfaces and attach programs" },
	{ CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "to enter containers' network namespaces" },
	{ CAP_BPF, "CAP_BPF", "to load programs" },
	{ CAP_PERFMON, "CAP_PERFMON", "to load programs that read kernel data" },
	{ CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "to open namespaces of other processes" },
	{ CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE", "to open namespaces of other users" },
	{ CAP_CHOWN, "CAP_CHOWN", "to give its socket to the group towpath" },
};
#define N_NEEDED (sizeof(needed) / sizeof(needed[0]))

static bool capability_known(int number)
{
	/* CAP_BPF and CAP_PERFMON came with Linux 5.8; before, CAP_SYS_ADMIN included them. */
	return prctl(PR_CAPBSET_READ, number, 0, 0, 0) >= 0;
}

static int capabilities_get(struct __user_cap_data_struct data[2])
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };

	return syscall(SYS_capget, &head, data) ? -errno : 0;
}

int guard_capabilities(char *err, size_t err_len)
{
	struct __user_cap_data_struct data[2] = {};
	int res = capabilities_get(data);

	if (res) {
		snprintf(err, err_len, "cannot read the process's capabilities: %s",
			 strerror(-res));
		return res;
	}
	for (size_t i = 0; i < N_NEEDED; i++) {
		const struct capability *c = &needed[i];

		if (!capability_known(c->number) ||
		    data[CAP_TO_INDEX(c->number)].effective & CAP_TO_MASK(c->number))
			continue;
		snprintf(err, err_len, "%s is missing, which is needed %s; start it as root",
			 c->name, c->what_for);
		return -EPERM;
	}
	return 0;
}

int guard_drop(char *err, size_t err_len)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct keep[2] = {};

	for (size_t i = 0; i < N_NEEDED; i++)
		if (capability_known(needed[i].number))
			keep[CAP_TO_INDEX(needed[i].number)].effective |=
				CAP_TO_MASK(needed[i].number);
	for (int i = 0; i < 2; i++)
		keep[i].permitted = keep[i].effective;
	if (syscall(SYS_capset, &head, keep) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) {
		int res = -errno;

		snprintf(err, err_len, "cannot give up privileges: %s", strerror(-res));
		return res;
	}
	return 0;
}

int guard_single(int *fd, char *err, size_t err_len)
{
	/* Abstract names live in the network namespace, as the agent does. */
	static const char name[] = "\0towpath/agent";
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(sun.sun_path, name, sizeof(name) - 1);
	if (sock >= 0 &&
	    !bind(sock, (const struct sockaddr *)&sun,
		  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + sizeof(name) - 1))) {
		*fd = sock;
		return 0;
	}
	int res = -errno;
	if (sock >= 0)
		close(sock);
	if (res == -EADDRINUSE)
		snprintf(err, err_len,
			 "a towpathd is running in this network namespace already; stop it first");
	else
		snprintf(err, err_len, "cannot make the socket that keeps a second agent out: %s",
			 strerror(-res));
	return res;
}

static int dir_make(const char *path, mode_t mode, char *err, size_t err_len)
{
	char part[4096];
	size_t len = strlen(path);

	for (size_t i = 1; i <= len && len < sizeof(part); i++) {
		if (path[i] != '/' && path[i])
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, mode) && errno != EEXIST) {
			int res = -errno;

			snprintf(err, err_len, "cannot make the folder %.200s: %s", part,
				 strerror(-res));
			return res;
		}
	}
	return 0;
}

void guard_pin_dir(const struct agent_options *opts, char *buf, size_t len)
{
	snprintf(buf, len, "%s/bpf", opts->run_dir);
}

static int bpffs_mount(const char *dir, char *err, size_t err_len)
{
	struct statfs fs;

	if (!statfs(dir, &fs) && fs.f_type == BPF_FS_MAGIC)
		return 0;
	if (!mount("bpf", dir, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700"))
		return 0;
	int res = -errno;
	snprintf(err, err_len,
		 "cannot mount a bpffs at %.200s: %s; mount it yourself or choose "
		 "another --run-dir",
		 dir, strerror(-res));
	return res;
}

int guard_bpffs(const struct agent_options *opts, char *err, size_t err_len)
{
	char dir[4096];

	guard_pin_dir(opts, dir, sizeof(dir));
	return bpffs_mount(dir, err, err_len);
}

/* The pins and the socket of a run-dir belong to one agent, whatever namespace it is in. */
static int lock_take(const struct agent_options *opts, int *fd, char *err, size_t err_len)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/towpathd.lock", opts->run_dir);
	int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (lock >= 0 && !flock(lock, LOCK_EX | LOCK_NB)) {
		*fd = lock;
		return 0;
	}
	int res = -errno;
	if (lock >= 0)
		close(lock);
	if (res == -EWOULDBLOCK)
		snprintf(err, err_len,
			 "another towpathd uses %s; stop it or choose another --run-dir",
			 opts->run_dir);
	else
		snprintf(err, err_len, "cannot lock %.200s: %s", path, strerror(-res));
	return res;
}

int guard_dirs(const struct agent_options *opts, int *lock, char *err, size_t err_len)
{
	char path[4096];

	if (strlen(opts->run_dir) + sizeof("/towpath.sock") >
	    sizeof(((struct sockaddr_un *)NULL)->sun_path)) {
		snprintf(err, err_len,
			 "the path of the socket below %s is too long; choose a shorter --run-dir",
			 opts->run_dir);
		return -ENAMETOOLONG;
	}
	snprintf(path, sizeof(path), "%s/pending-del", opts->state_dir);
	int res = dir_make(path, 0755, err, err_len);
	if (res)
		return res;
	guard_pin_dir(opts, path, sizeof(path));
	res = dir_make(path, 0755, err, err_len);
	if (!res)
		res = lock_take(opts, lock, err, err_len);
	return res ? res : guard_bpffs(opts, err, err_len);
}
