/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The network namespace of a run, and the CNI plugin, called as a container runtime would. */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CNI_VERSION "1.0.0"
#define REPLY_MAX (1u << 20)

int run_netns_create(struct run *r)
{
	cleanup_(cleanup_free) char *copy = cli_printf("%s", r->netns);
	int own, fd, ret = 0;

	if (mkdir(dirname(copy), 0755) && errno != EEXIST)
		return -errno;
	fd = open(r->netns, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	close(fd);
	own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (own < 0)
		return -errno;
	/* A namespace is made by being in it: this thread goes and comes back. */
	if (unshare(CLONE_NEWNET))
		ret = -errno;
	else if (mount("/proc/thread-self/ns/net", r->netns, NULL, MS_BIND, NULL))
		ret = -errno;
	if (setns(own, CLONE_NEWNET) && !ret)
		ret = -errno;
	close(own);
	if (ret)
		run_netns_remove(r);
	return ret;
}

void run_netns_remove(struct run *r)
{
	umount2(r->netns, MNT_DETACH);
	unlink(r->netns);
}

static char *cni_conf(const struct run *r)
{
	cleanup_(cleanup_json) json_t *conf = json_pack(
		"{s:s, s:s, s:s, s:s, s:s*, s:O*, s:{s:{s:O*}}}", "cniVersion", CNI_VERSION, "name",
		"towpath", "type", "towpath-cni", "socket", r->socket, "stateDir", r->state_dir,
		"labels", json_object_size(r->labels) ? r->labels : NULL, "args", "cni", "ips",
		json_array_size(r->ips) ? r->ips : NULL);

	return conf ? json_dumps(conf, JSON_COMPACT) : NULL;
}

/* In the child: the plugin's environment, then the plugin. */
static void cni_exec(const struct run *r, const char *command, int in, int out)
{
	cleanup_(cleanup_free) char *copy = cli_printf("%s", r->plugin);
	cleanup_(cleanup_free) char *args =
		cli_printf("IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s", r->ns, r->name);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setenv("CNI_COMMAND", command, 1);
	setenv("CNI_CONTAINERID", r->id, 1);
	setenv("CNI_NETNS", r->netns, 1);
	setenv("CNI_IFNAME", "eth0", 1);
	setenv("CNI_ARGS", args, 1);
	setenv("CNI_PATH", dirname(copy), 1);
	if (dup2(in, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0)
		execl(r->plugin, r->plugin, (char *)NULL);
	_exit(127);
}

/* The plugin's reply, NUL-terminated and malloc'ed; NULL when it is too long. */
static char *cni_read(int fd)
{
	char *buf = calloc(1, REPLY_MAX + 1);
	size_t n = 0;

	while (buf && n < REPLY_MAX) {
		ssize_t got = read(fd, buf + n, REPLY_MAX - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return buf;
		n += (size_t)got;
	}
	free(buf);
	return NULL;
}

static int cni_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int cni_result(struct run *r, const char *command, int status, const char *text)
{
	cleanup_(cleanup_json) json_t *reply = json_loads(text ? text : "", 0, NULL);
	const char *details = cli_str(reply, "details");
	size_t i;
	json_t *ip;

	if (status == 127 && !reply) {
		cli_refuse("cannot run the CNI plugin %s", r->plugin);
		return -1;
	}
	if (status) {
		cli_refuse("%s%s%s",
			   *cli_str(reply, "msg") ? cli_str(reply, "msg") : "the CNI plugin failed",
			   *details ? ": " : "", details);
		return -1;
	}
	if (strcmp(command, "ADD"))
		return 0;
	r->got = json_array();
	json_array_foreach(json_object_get(reply, "ips"), i, ip) {
		const char *address = cli_str(ip, "address");

		json_array_append_new(r->got, json_stringn(address, strcspn(address, "/")));
	}
	return 0;
}

int run_cni(struct run *r, const char *command)
{
	cleanup_(cleanup_free) char *conf = cni_conf(r);
	cleanup_(cleanup_free) char *text = NULL;
	int in[2], out[2];

	if (!r->plugin) {
		cli_refuse("towpath-cni is not where towpath is: name it with --cni-bin");
		return -1;
	}
	if (!conf || pipe2(in, O_CLOEXEC)) {
		cli_refuse("cannot call the CNI plugin: %m");
		return -1;
	}
	if (pipe2(out, O_CLOEXEC)) {
		close(in[0]);
		close(in[1]);
		cli_refuse("cannot call the CNI plugin: %m");
		return -1;
	}
	fflush(stdout);

	pid_t pid = fork();

	if (!pid)
		cni_exec(r, command, in[0], out[1]);
	close(in[0]);
	close(out[1]);
	/* Far less than a pipe holds, so this cannot wait for a plugin that does not read. */
	size_t len = strlen(conf);
	bool sent = pid > 0 && write(in[1], conf, len) == (ssize_t)len;

	close(in[1]);
	text = sent ? cni_read(out[0]) : NULL;
	close(out[0]);
	return cni_result(r, command, pid > 0 ? cni_wait(pid) : -1, text);
}
