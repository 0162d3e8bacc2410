/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "trace_pipe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define EVENT " bpf_trace_printk: "
#define PREFIX "towpath."
#define BUFFER_KB "512" /* of each CPU */
#define SECOND 1000000000ll

struct trace_pipe {
	int fs; /* tracefs */
	int fd;
	char name[64]; /* instances/towpath.PID */
	char buf[16384];
	size_t len;
	struct trace_line last;
};

static int fs_open(void)
{
	int config = fsopen("tracefs", FSOPEN_CLOEXEC);
	int fs = -1;

	if (config < 0)
		return -errno;
	if (!fsconfig(config, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		fs = fsmount(config, FSMOUNT_CLOEXEC, 0);
	if (fs < 0)
		fs = -errno;
	close(config);
	return fs;
}

static int file_write(const struct trace_pipe *t, const char *name, const char *text)
{
	char path[128];
	size_t len = strlen(text);

	snprintf(path, sizeof(path), "%s/%s", t->name, name);
	int fd = openat(t->fs, path, O_WRONLY | O_CLOEXEC);
	int res = fd < 0 ? -errno : write(fd, text, len) == (ssize_t)len ? 0 : -errno;

	if (fd >= 0)
		close(fd);
	return res;
}

/* Buffers of processes that were killed. */
static void leftovers_remove(int fs)
{
	int dir_fd = openat(fs, "instances", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = dir_fd < 0 ? NULL : fdopendir(dir_fd);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		char *end;
		long pid;

		if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)))
			continue;
		pid = strtol(entry->d_name + strlen(PREFIX), &end, 10);
		if (pid > 0 && !*end && kill((pid_t)pid, 0) && errno == ESRCH)
			unlinkat(dir_fd, entry->d_name, AT_REMOVEDIR);
	}
	if (dir)
		closedir(dir);
}

int trace_pipe_open(struct trace_pipe **out)
{
	struct trace_pipe *t = calloc(1, sizeof(*t));
	char path[128];
	int res;

	if (!t)
		return -ENOMEM;
	t->fd = -1;
	t->fs = fs_open();
	if (t->fs < 0) {
		res = t->fs;
		free(t);
		return res;
	}
	leftovers_remove(t->fs);
	snprintf(path, sizeof(path), "instances/" PREFIX "%d", (int)getpid());
	res = mkdirat(t->fs, path, 0700) && errno != EEXIST ? -errno : 0;
	if (!res) {
		snprintf(t->name, sizeof(t->name), "%.60s", path);
		/* Small: it is read at once. Without a clock of its own, times are about right. */
		file_write(t, "buffer_size_kb", BUFFER_KB);
		file_write(t, "trace_clock", "mono");
		res = file_write(t, "events/bpf_trace/bpf_trace_printk/enable", "1");
	}
	if (!res) {
		snprintf(path, sizeof(path), "%.64s/trace_pipe", t->name);
		t->fd = openat(t->fs, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		res = t->fd < 0 ? -errno : 0;
	}
	if (res)
		trace_pipe_close(t);
	else
		*out = t;
	return res;
}

void trace_pipe_close(struct trace_pipe *t)
{
	if (!t)
		return;
	if (t->fd >= 0)
		close(t->fd);
	if (*t->name)
		unlinkat(t->fs, t->name, AT_REMOVEDIR);
	close(t->fs);
	free(t);
}

int trace_pipe_fd(const struct trace_pipe *t)
{
	return t->fd;
}

/* ---- lines ------------------------------------------------------------------------------------ */

/* From the monotonic clock to the epoch. */
static int64_t clock_offset(void)
{
	struct timespec real, mono;

	clock_gettime(CLOCK_MONOTONIC, &mono);
	clock_gettime(CLOCK_REALTIME, &real);
	return (real.tv_sec - mono.tv_sec) * SECOND + real.tv_nsec - mono.tv_nsec;
}

/* "123.456789:" */
static bool time_parse(const char *text, int64_t offset, uint64_t *out)
{
	unsigned long long seconds, micro;
	int end = 0;

	if (sscanf(text, "%llu.%6llu:%n", &seconds, &micro, &end) != 2 || !end || text[end])
		return false;
	*out = (uint64_t)((int64_t)(seconds * SECOND + micro * 1000) + offset);
	return true;
}

/*
 * "     comm-123     [001] b..1.  12.345678: bpf_trace_printk: text": the name of a task may have
 * blanks, '-' and '[', so it is read from behind.
 */
bool trace_line_parse(char *line, int64_t offset, struct trace_line *out)
{
	char *text = strstr(line, EVENT), *cpu = NULL, *when, *dash;
	struct trace_line found = {};
	unsigned long long lost;

	if (sscanf(line, "CPU:%u [LOST %llu EVENTS]", &found.cpu, &lost) == 2) {
		*out = (struct trace_line){ .time = out->time, .cpu = found.cpu, .lost = lost };
		return true;
	}
	if (!text)
		return false;
	*text = '\0';
	found.text = text + strlen(EVENT);
	when = strrchr(line, ' ');
	if (!when || !time_parse(when + 1, offset, &found.time))
		goto none;
	*when = '\0';
	for (char *at = line; (at = strstr(at, " [")); at++)
		if (sscanf(at, " [%u]", &found.cpu) == 1)
			cpu = at;
	if (!cpu)
		goto none;
	while (cpu > line && cpu[-1] == ' ')
		cpu--;
	*cpu = '\0';
	dash = strrchr(line, '-');
	if (!dash)
		goto none;
	*dash = '\0';
	found.pid = (int)strtol(dash + 1, NULL, 10);
	snprintf(found.comm, sizeof(found.comm), "%.19s", line + strspn(line, " "));
	*out = found;
	return true;
none:
	*text = ' ';
	return false;
}

static int line_give(struct trace_line *last, char *line, int64_t offset,
		     int (*fn)(void *arg, const struct trace_line *line), void *arg)
{
	if (*line == '#' || !*line)
		return 0;
	if (!trace_line_parse(line, offset, last)) {
		/* The text had a newline. Behind nothing that was printed it is something else. */
		if (!last->time || last->lost)
			return 0;
		last->text = line;
	}
	return fn(arg, last);
}

int trace_pipe_read(struct trace_pipe *t, int (*fn)(void *arg, const struct trace_line *line),
		    void *arg)
{
	int64_t offset = clock_offset();
	int res = 0;

	while (!res) {
		ssize_t n = read(t->fd, t->buf + t->len, sizeof(t->buf) - 1 - t->len);
		char *line = t->buf, *end;

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		if (!n)
			return 0;
		t->len += (size_t)n;
		t->buf[t->len] = '\0';
		for (; !res && (end = memchr(line, '\n', t->len - (size_t)(line - t->buf)));
		     line = end + 1) {
			*end = '\0';
			res = line_give(&t->last, line, offset, fn, arg);
		}
		t->len -= (size_t)(line - t->buf);
		/* A line as long as this is none. */
		if (t->len == sizeof(t->buf) - 1)
			t->len = 0;
		memmove(t->buf, line, t->len);
	}
	return res;
}

int trace_past_read(int (*fn)(void *arg, const struct trace_line *line), void *arg)
{
	struct trace_line last = {};
	int fs = fs_open(), fd, res = 0;
	char *line = NULL;
	size_t room = 0;
	ssize_t n;

	if (fs < 0)
		return fs;
	fd = openat(fs, "trace", O_RDONLY | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");

	if (!f)
		res = -errno;
	/* Its clock counts from the start of the machine, and drifts a little. */
	while (!res && f && (n = getline(&line, &room, f)) > 0) {
		if (line[n - 1] == '\n')
			line[n - 1] = '\0';
		res = line_give(&last, line, clock_offset(), fn, arg);
	}
	free(line);
	if (f)
		fclose(f);
	close(fs);
	return res;
}
