/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The network namespace of a run, and what it asks of the CNI plugin. */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define CNI_VERSION "1.0.0"

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

/* A network of its own: what a runtime's GC finds stale in its networks is none of these. */
static json_t *cni_conf(const struct run *r)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s*, s:O*, s:{s:{s:O*}}}", "cniVersion",
			 CNI_VERSION, "name", "towpath-run", "type", "towpath-cni", "socket",
			 r->socket, "stateDir", r->state_dir, "labels",
			 json_object_size(r->labels) ? r->labels : NULL, "args", "cni", "ips",
			 json_array_size(r->ips) ? r->ips : NULL);
}

int run_cni(struct run *r, const char *command)
{
	cleanup_(cleanup_json) json_t *conf = cni_conf(r), *reply = NULL;
	cleanup_(cleanup_free) char *name = cli_printf("CNI_COMMAND=%s", command);
	cleanup_(cleanup_free) char *id = cli_printf("CNI_CONTAINERID=%s", r->id);
	cleanup_(cleanup_free) char *netns = cli_printf("CNI_NETNS=%s", r->netns);
	cleanup_(cleanup_free) char *args = cli_printf(
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s", r->ns, r->name);
	char *const vars[] = { name, id, netns, "CNI_IFNAME=eth0", args, NULL };
	cleanup_(cleanup_free) char *error = NULL;
	size_t i;
	json_t *ip;

	if (!r->plugin) {
		cli_refuse("towpath-cni is not where towpath is: name it with --cni-bin");
		return -1;
	}
	if (cli_plugin_call(r->plugin, vars, conf, &reply, &error)) {
		cli_refuse("%s", error);
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
