/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <towpath/runtime.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <towpath/attachment.h>
#include <unistd.h>

#include "netlink.h"

#define PENDING_PATH_MAX 4400

void tw_cleanup_client(struct tw_client **client)
{
	tw_client_free(*client);
}

void tw_cleanup_json(json_t **json)
{
	json_decref(*json);
}

int tw_stream_read(int fd, size_t max, char **text, size_t *len)
{
	size_t n = 0, cap = 16384;
	char *buf = malloc(cap);

	while (buf) {
		ssize_t got = read(fd, buf + n, cap - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 || n + (size_t)got > max) {
			int rc = got < 0 ? -errno : -EFBIG;

			free(buf);
			return rc;
		}
		if (!got) {
			*text = buf;
			*len = n;
			return 0;
		}
		n += (size_t)got;
		if (n == cap) {
			char *more = realloc(buf, cap *= 2);

			if (!more)
				free(buf);
			buf = more;
		}
	}
	return -ENOMEM;
}

int tw_netns_open(const char *path, bool own_ok, int *fd, char *err, size_t err_len)
{
	struct stat theirs, ours;
	int made = open(path, O_RDONLY | O_CLOEXEC);
	int rc = 0;

	if (made < 0) {
		rc = -errno;
		snprintf(err, err_len, "%s", strerror(-rc));
		return rc;
	}
	/* A path that is left without its mount is an empty file. */
	if (ioctl(made, NS_GET_NSTYPE) != CLONE_NEWNET) {
		rc = -EINVAL;
		snprintf(err, err_len, "it is not a network namespace");
	} else if (fstat(made, &theirs) || stat("/proc/self/ns/net", &ours)) {
		rc = -errno;
		snprintf(err, err_len, "%s", strerror(-rc));
	} else if (theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino && !own_ok) {
		rc = -EBUSY;
		snprintf(err, err_len,
			 "it is the plugin's own network namespace, not a container's");
	}
	if (rc)
		close(made);
	else
		*fd = made;
	return rc;
}

void tw_endpoint_path(const char *container_id, const char *ifname, char path[TW_ENDPOINT_PATH_MAX])
{
	int n = snprintf(path, TW_ENDPOINT_PATH_MAX, "/v1/endpoints/%s/", container_id);

	for (const char *p = ifname; *p && n > 0 && n < TW_ENDPOINT_PATH_MAX; p++)
		n += snprintf(path + n, (size_t)(TW_ENDPOINT_PATH_MAX - n), "%%%02X",
			      (unsigned char)*p);
}

/* ---- without an agent ------------------------------------------------------------------------ */

static int link_remove(const char *container_id, const char *ifname, int netns_fd)
{
	_cleanup_nl_ struct nl here = { 0 }, there = { 0 };
	char port[TW_PORT_NAME_LEN + 1];
	struct nl_link link;
	int rc;

	tw_port_name(container_id, ifname, port);
	rc = nl_open(&here);
	if (!rc)
		rc = nl_link_delete(&here, 0, port);
	if (rc != -ENODEV)
		return rc;
	/* Not here: the agent's node may be another namespace. */
	if (netns_fd < 0)
		return 0;
	if (setns(netns_fd, CLONE_NEWNET))
		return -errno;
	rc = nl_open(&there);
	if (rc)
		return rc;
	/* Somebody else's interface of that name has not our mark. */
	if (nl_link_get(&there, 0, ifname, &link) || strcmp(link.alias, port) != 0)
		return 0;
	return nl_link_delete(&there, link.ifindex, NULL);
}

/* Tells an agent that is away. 0 or -errno; path of the record in buf. */
static int pending_write(const char *state_dir, const char *container_id, const char *ifname,
			 char buf[PENDING_PATH_MAX])
{
	int fd;

	snprintf(buf, PENDING_PATH_MAX, "%s", state_dir);
	mkdir(buf, 0700);
	snprintf(buf, PENDING_PATH_MAX, "%s/pending-del", state_dir);
	mkdir(buf, 0700);
	if (snprintf(buf, PENDING_PATH_MAX, "%s/pending-del/%s@%s", state_dir, container_id,
		     ifname) >= PENDING_PATH_MAX)
		return -ENAMETOOLONG;
	fd = open(buf, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

int tw_attachment_end(struct tw_client *client, const char *state_dir, const char *container_id,
		      const char *ifname, int netns_fd, char *err, size_t err_len)
{
	char record[PENDING_PATH_MAX], path[TW_ENDPOINT_PATH_MAX];
	int removed = link_remove(container_id, ifname, netns_fd);
	int written = pending_write(state_dir, container_id, ifname, record);
	int answer;

	/*
	 * An agent that started meanwhile may have looked for records before this one was
	 * there. Left behind, it would end the next attachment of this name.
	 */
	tw_endpoint_path(container_id, ifname, path);
	answer = written ? -ECONNREFUSED : tw_client_call(client, "DELETE", path, NULL, NULL);
	if (answer >= 200 && answer < 300) {
		unlink(record);
		return 0;
	}
	if (written)
		fprintf(stderr,
			"towpath: could not write %s: %s; the agent will find the interface gone\n",
			record, strerror(-written));
	if (removed)
		snprintf(err, err_len,
			 "no agent answers and the interface could not be removed: %s",
			 strerror(-removed));
	return removed;
}
