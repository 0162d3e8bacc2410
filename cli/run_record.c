/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The record of a run: a JSON file in <run-dir>/run, locked by the run's keeper. */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int run_init(struct run *r, const struct cli *cli, const char *ns, const char *name)
{
	cleanup_(cleanup_free) char *given = cli_run_dir(cli);
	cleanup_(cleanup_free) char *base = realpath(given, NULL);
	const char *socket = cli->socket ? cli->socket : getenv("TOWPATH_SOCKET");
	const char *file = socket ? strrchr(socket, '/') : NULL;

	r->lock = -1;
	if (!base)
		return cli_refuse("there is no agent's run folder %s: start towpathd, or name its "
				  "socket with --socket",
				  given);
	r->ns = cli_printf("%s", ns);
	r->name = cli_printf("%s", name);
	r->id = cli_printf("run.%s.%s", ns, name);
	r->dir = cli_printf("%s/run", base);
	r->path = cli_printf("%s/%s_%s.json", r->dir, ns, name);
	r->log = cli_printf("%s/%s_%s.log", r->dir, ns, name);
	r->netns = cli_printf("%s/netns/%s_%s", base, ns, name);
	r->socket = cli_printf("%s/%s", base, file ? file + 1 : socket ? socket : "towpath.sock");
	r->plugin = cli_plugin_find();
	return CLI_OK;
}

void run_free(struct run *r)
{
	free(r->ns);
	free(r->name);
	free(r->id);
	free(r->dir);
	free(r->path);
	free(r->netns);
	free(r->log);
	free(r->plugin);
	free(r->socket);
	free(r->state_dir);
	free(r->root);
	json_decref(r->labels);
	json_decref(r->ports);
	json_decref(r->ips);
	json_decref(r->got);
	if (r->lock >= 0)
		close(r->lock);
}

/* Whether the locked file is still the one that has the name. */
static bool still_named(int fd, const char *path)
{
	struct stat a, b;

	return !fstat(fd, &a) && !stat(path, &b) && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

int run_lock(struct run *r, bool create)
{
	if (create && mkdir(r->dir, 0700) && errno != EEXIST)
		return -errno;
	for (;;) {
		int fd = open(r->path, O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600);

		if (fd < 0)
			return errno == ENOENT && !create ? 0 : -errno;
		if (flock(fd, LOCK_EX | LOCK_NB)) {
			int err = errno == EWOULDBLOCK ? EBUSY : errno;

			close(fd);
			return -err;
		}
		if (still_named(fd, r->path)) {
			r->lock = fd;
			return 1;
		}
		close(fd); /* its keeper took it down between open and lock */
	}
}

static void take_string(char **place, const json_t *record, const char *key)
{
	if (!*cli_str(record, key))
		return;
	free(*place);
	*place = cli_printf("%s", cli_str(record, key));
}

int run_load(struct run *r)
{
	cleanup_(cleanup_json) json_t *record = json_load_file(r->path, 0, NULL);

	if (!record)
		return -ENOENT;
	take_string(&r->plugin, record, "plugin");
	take_string(&r->socket, record, "socket");
	take_string(&r->state_dir, record, "state_dir");
	take_string(&r->root, record, "root");
	take_string(&r->netns, record, "netns");
	r->pid = (pid_t)cli_int(record, "pid");
	r->start = (unsigned long long)cli_int(record, "start");
	r->detached = json_is_true(json_object_get(record, "detached"));
	r->pod_object = json_is_true(json_object_get(record, "pod_object"));
	return 0;
}

static json_t *run_json(const struct run *r)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s?, s:s?, s:s?, s:I, s:I, s:b, s:b, s:O?}",
			 "namespace", r->ns, "name", r->name, "container_id", r->id, "netns",
			 r->netns, "socket", r->socket, "plugin", r->plugin, "state_dir",
			 r->state_dir, "root", r->root, "pid", (json_int_t)r->pid, "start",
			 (json_int_t)r->start, "detached", r->detached, "pod_object", r->pod_object,
			 "ips", r->got);
}

int run_save(struct run *r)
{
	cleanup_(cleanup_json) json_t *record = run_json(r);
	cleanup_(cleanup_free) char *text = record ? json_dumps(record, JSON_INDENT(1)) : NULL;
	size_t len = text ? strlen(text) : 0;

	if (!text)
		return -ENOMEM;
	/* In place, as the lock is on this file; a torn record is one that nobody keeps. */
	if (pwrite(r->lock, text, len, 0) != (ssize_t)len || ftruncate(r->lock, (off_t)len))
		return errno ? -errno : -EIO;
	return 0;
}

void run_forget(struct run *r)
{
	unlink(r->path);
	if (r->lock >= 0)
		close(r->lock);
	r->lock = -1;
}

unsigned long long process_start(pid_t pid)
{
	cleanup_(cleanup_free) char *path = cli_printf("/proc/%d/stat", (int)pid);
	FILE *f = fopen(path, "re");
	char line[1024];
	unsigned long long start = 0;
	char state = 0;

	if (!f)
		return 0;

	/* The name, field 2, may hold anything: fields are counted from its last parenthesis. */
	char *p = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;

	fclose(f);
	if (!p ||
	    sscanf(p,
		   ") %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
		   "%*d %*d %llu",
		   &state, &start) != 2 ||
	    state == 'Z')
		return 0;
	return start;
}

bool run_alive(const struct run *r)
{
	return r->pid > 0 && r->start && process_start(r->pid) == r->start;
}
