/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The folder of objects that is read at start. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

#define FILE_BYTES_MAX (64 << 20) /* as much as an apply over the API */

struct folder {
	struct agent_file *v;
	size_t n;
};

static void folder_clear(struct folder *f)
{
	for (size_t i = 0; i < f->n; i++) {
		free((char *)f->v[i].name);
		free((char *)f->v[i].text);
	}
	free(f->v);
}

static int is_object_file(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return *entry->d_name != '.' && dot &&
	       (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml") || !strcmp(dot, ".json"));
}

/* *file owns name and text. */
static int file_read(const char *path, struct agent_file *file)
{
	FILE *in = fopen(path, "re");
	struct stat st;
	int err = 0;

	if (!in)
		return -errno;
	if (fstat(fileno(in), &st))
		err = -errno;
	else if (!S_ISREG(st.st_mode))
		err = -EISDIR;
	else if (st.st_size > FILE_BYTES_MAX)
		err = -EFBIG;
	size_t len = err ? 0 : (size_t)st.st_size;
	char *text = malloc(len + 1), *name = strdup(path);
	if (!err && (!text || !name))
		err = -ENOMEM;
	if (!err && fread(text, 1, len, in) != len)
		err = -EIO;
	fclose(in);
	if (err) {
		free(text);
		free(name);
		return err;
	}
	*file = (struct agent_file){ .name = name, .text = text, .len = len };
	return 0;
}

static int folder_read(struct folder *folder, const struct agent_options *opts,
		       struct agent_error *err)
{
	const char *dir = opts->objects_dir;
	struct dirent **entries = NULL;
	int n = scandir(dir, &entries, is_object_file, alphasort);
	int res = 0;

	if (n < 0 && errno == ENOENT && !opts->objects_dir_given)
		return 0;
	if (n < 0)
		return agent_refuse(err, AGENT_INVALID, "cannot read --objects-dir %s: %s", dir,
				    strerror(errno));
	folder->v = calloc((size_t)n + 1, sizeof(*folder->v));
	if (!folder->v)
		res = agent_refuse(err, AGENT_INTERNAL, "out of memory");
	for (int i = 0; i < n; i++) {
		char path[4096];

		snprintf(path, sizeof(path), "%s/%s", dir, entries[i]->d_name);
		free(entries[i]);
		if (res)
			continue;
		res = file_read(path, &folder->v[folder->n]);
		if (res)
			res = agent_refuse(err, AGENT_INVALID, "cannot read %.400s: %s", path,
					   strerror(-res));
		else
			folder->n++;
	}
	free(entries);
	return res;
}

int agent_check_dir(const struct agent *a, struct agent_error *err)
{
	__attribute__((cleanup(folder_clear))) struct folder folder = {};
	int res = folder_read(&folder, a->opts, err);

	for (size_t i = 0; !res && i < folder.n; i++) {
		const struct agent_file *file = &folder.v[i];
		struct agent_error e = { .code = AGENT_INVALID };
		struct object_list list = {};

		res = object_parse(file->name, file->text, file->len, &list, &e.at);
		if (res)
			*err = e;
		else
			object_list_clear(&list);
	}
	return res;
}

int agent_apply_dir(struct agent *a, struct agent_error *err)
{
	__attribute__((cleanup(folder_clear))) struct folder folder = {};
	json_t *reply = NULL;
	int res = folder_read(&folder, a->opts, err);

	if (res || !folder.n)
		return res;
	res = agent_apply(a, folder.v, folder.n, NULL, &reply, err);
	json_decref(reply);
	return res;
}
