/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cni_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static inline void cleanup_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

/* ---- put in place --------------------------------------------------------------------------- */

/* With the folders above it. 0 or -errno. */
static int folder_make(const char *dir)
{
	cleanup_(cleanup_free) char *path = cli_printf("%s", dir);

	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(path, 0755) && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(path, 0755) && errno != EEXIST ? -errno : 0;
}

static int file_fill(int fd, mode_t mode, const void *data, size_t len)
{
	for (const char *p = data; len;) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		p += n;
		len -= (size_t)n;
	}
	return fchmod(fd, mode) || fsync(fd) ? -errno : 0;
}

int file_replace(const char *dir, const char *name, mode_t mode, const void *data, size_t len)
{
	/* The last part of the name is no ending that runtimes look for. */
	cleanup_(cleanup_free) char *aside = cli_printf(".%s.%d", name, (int)getpid());
	int ret = folder_make(dir);

	if (ret)
		return ret;

	cleanup_(cleanup_fd) int folder = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return -errno;

	cleanup_(cleanup_fd) int fd =
		openat(folder, aside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	ret = file_fill(fd, mode, data, len);
	if (!ret && renameat(folder, aside, folder, name))
		ret = -errno;
	if (ret)
		unlinkat(folder, aside, 0);
	else
		fsync(folder);
	return ret;
}

int file_install(const char *from, const char *dir, const char *name, mode_t mode)
{
	cleanup_(cleanup_free) char *to = cli_printf("%s/%s", dir, name);
	cleanup_(cleanup_fd) int fd = open(from, O_RDONLY | O_CLOEXEC);
	struct stat source, target;

	if (fd < 0 || fstat(fd, &source))
		return -errno;
	if (!stat(to, &target) && target.st_dev == source.st_dev && target.st_ino == source.st_ino)
		return 0;

	size_t len = (size_t)source.st_size;
	void *data = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
	if (data == MAP_FAILED)
		return -errno;

	int ret = file_replace(dir, name, mode, data, len);

	munmap(data, len);
	return ret;
}

/* ---- what is there -------------------------------------------------------------------------- */

/* The endings that runtimes look for. */
static int is_network(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return dot && (!strcmp(dot, ".conflist") || !strcmp(dot, ".conf") || !strcmp(dot, ".json"));
}

/* Not by the locale: runtimes sort bytes. */
static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static bool conf_is_ours(const json_t *conf)
{
	size_t i;
	json_t *plugin;

	json_array_foreach(json_object_get(conf, "plugins"), i, plugin) {
		if (!strcmp(cli_str(plugin, "type"), "towpath-cni"))
			return true;
	}
	return !strcmp(cli_str(conf, "type"), "towpath-cni");
}

int networks_read(const char *dir, json_t **networks)
{
	struct dirent **entries;
	int n = scandir(dir, &entries, is_network, by_bytes);

	if (n < 0 && errno != ENOENT)
		return -errno;
	*networks = json_array();
	for (int i = 0; i < n; i++) {
		cleanup_(cleanup_free) char *path = cli_printf("%s/%s", dir, entries[i]->d_name);
		cleanup_(cleanup_json) json_t *conf = json_load_file(path, 0, NULL);
		json_t *name = json_object_get(conf, "name");

		json_array_append_new(*networks,
				      json_pack("{s:s, s:O*, s:b}", "file", entries[i]->d_name,
						"network", json_is_string(name) ? name : NULL,
						"ours", conf_is_ours(conf)));
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	return 0;
}
