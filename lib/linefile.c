/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "linefile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODE 0640	      /* it says who talks to whom */
#define LAST_MAX (256u << 10) /* bytes that are looked at for the last line */

struct linefile {
	char *path;
	uint64_t bytes;
	unsigned int files;
	int fd; /* -1: to be opened */
	uint64_t size;
	bool within; /* the last line has no end yet */
};

void linefile_close(struct linefile *f)
{
	if (!f)
		return;
	if (f->fd >= 0)
		close(f->fd);
	free(f->path);
	free(f);
}

static int file_open(struct linefile *f)
{
	struct stat st;

	f->fd = open(f->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, MODE);
	if (f->fd < 0)
		return -errno;
	if (fstat(f->fd, &st) || !S_ISREG(st.st_mode)) {
		close(f->fd);
		f->fd = -1;
		return -EINVAL;
	}
	f->size = (uint64_t)st.st_size;
	f->within = false;
	return 0;
}

/* The end of the file: cuts off what is no line, and gives the last one. */
static int file_end(struct linefile *f, char **last)
{
	uint64_t from = f->size > LAST_MAX ? f->size - LAST_MAX : 0;
	char *text = calloc(1, (size_t)(f->size - from) + 1), *nl;
	ssize_t n = text ? pread(f->fd, text, (size_t)(f->size - from), (off_t)from) : -1;

	if (n < 0) {
		int err = text ? -errno : -ENOMEM;

		free(text);
		return err;
	}
	nl = memrchr(text, '\n', (size_t)n);
	/* Without any newline: what is there is no file of lines, or begins with half a line. */
	uint64_t size = nl ? from + (uint64_t)(nl + 1 - text) : from ? f->size : 0;
	if (size != f->size && ftruncate(f->fd, (off_t)size)) {
		free(text);
		return -errno;
	}
	f->size = size;
	if (nl)
		*nl = '\0';
	const char *line = nl ? memrchr(text, '\n', (size_t)(nl - text)) : NULL;
	*last = strdup(line ? line + 1 : nl ? text : "");
	free(text);
	return *last ? 0 : -ENOMEM;
}

int linefile_open(struct linefile **out, const struct linefile_options *options, char **last)
{
	struct linefile *f = calloc(1, sizeof(*f));
	int err;

	if (!f)
		return -ENOMEM;
	f->fd = -1;
	f->bytes = options->bytes;
	f->files = options->files;
	f->path = strdup(options->path);
	err = f->path ? file_open(f) : -ENOMEM;
	if (!err)
		err = file_end(f, last);
	if (err) {
		linefile_close(f);
		return err;
	}
	*out = f;
	return 0;
}

/* FILE.2 becomes FILE.3 and so on; each step is one rename, the last one's file goes. */
static int rotate(struct linefile *f)
{
	size_t room = strlen(f->path) + 16;
	char *from = malloc(room), *to = malloc(room);
	int err = from && to ? 0 : -ENOMEM;

	for (unsigned int i = f->files; !err && i > 0; i--) {
		snprintf(to, room, "%s.%u", f->path, i);
		snprintf(from, room, i > 1 ? "%s.%u" : "%s", f->path, i - 1);
		if (rename(from, to) && errno != ENOENT)
			err = -errno;
	}
	if (!err && !f->files && unlink(f->path) && errno != ENOENT)
		err = -errno;
	free(from);
	free(to);
	if (err)
		return err;
	close(f->fd);
	f->fd = -1;
	return 0;
}

static bool is_moved(const struct linefile *f)
{
	struct stat open_one, named;

	return fstat(f->fd, &open_one) || stat(f->path, &named) ||
	       open_one.st_ino != named.st_ino || open_one.st_dev != named.st_dev;
}

/* Between lines: another file, when it is time for one. */
static int file_change(struct linefile *f)
{
	if (f->fd >= 0 && is_moved(f)) {
		close(f->fd);
		f->fd = -1;
	} else if (f->fd >= 0 && f->bytes && f->size >= f->bytes) {
		int err = rotate(f);

		if (err)
			return err;
	}
	return f->fd < 0 ? file_open(f) : 0;
}

static int file_append(struct linefile *f, const char *text, size_t len)
{
	size_t done = 0;
	int err = 0;

	while (!err && done < len) {
		ssize_t n = write(f->fd, text + done, len - done);

		if (n > 0)
			done += (size_t)n;
		else if (errno != EINTR)
			err = n ? -errno : -EIO;
	}
	if (err && done && ftruncate(f->fd, (off_t)f->size))
		f->within = true; /* half a line stays: no other one begins behind it */
	if (err)
		return err;
	f->size += len;
	f->within = len ? text[len - 1] != '\n' : f->within;
	return 0;
}

int linefile_write(struct linefile *f, const char *text, size_t len, size_t *written)
{
	const char *nl = f->within ? memchr(text, '\n', len) : NULL;
	size_t rest = nl ? (size_t)(nl + 1 - text) : f->within ? len : 0;
	int err = rest ? file_append(f, text, rest) : 0;

	*written = err ? 0 : rest;
	if (err || rest == len)
		return err;
	err = file_change(f);
	if (!err)
		err = file_append(f, text + rest, len - rest);
	if (!err)
		*written = len;
	return err;
}
