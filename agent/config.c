/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_BYTES_MAX (1u << 20)

void config_clear(struct config *c)
{
	free(c->text);
	free(c->lines);
	*c = (struct config){};
}

static int text_read(const char *path, char **out, char *err, size_t err_len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *text = NULL;
	ssize_t n = -1;
	int res = 0;

	if (fd < 0 || fstat(fd, &st)) {
		res = -errno;
	} else if (!S_ISREG(st.st_mode) || st.st_size > CONFIG_BYTES_MAX) {
		res = -EFBIG;
	} else {
		text = calloc(1, (size_t)st.st_size + 1);
		n = text ? read(fd, text, (size_t)st.st_size) : -1;
		res = n == st.st_size ? 0 : text ? -EIO : -ENOMEM;
	}
	if (!res && strlen(text) != (size_t)n)
		res = -EILSEQ;
	if (fd >= 0)
		close(fd);
	if (res) {
		free(text);
		snprintf(err, err_len, "cannot read the configuration %s: %s", path,
			 res == -EILSEQ ? "it is not text" : strerror(-res));
		return res;
	}
	*out = text;
	return 0;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Cuts a comment and the blanks at the end off. */
static void line_trim(char *line)
{
	size_t len;

	for (char *c = line; *c; c++) {
		if (*c == '#' && (c == line || is_blank(c[-1]))) {
			*c = '\0';
			break;
		}
	}
	for (len = strlen(line); len && is_blank(line[len - 1]); len--)
		line[len - 1] = '\0';
}

/* false: not `key` or `key = value`; *column says where. */
static bool line_parse(char *line, struct config_line *out, unsigned int *column)
{
	char *key = line + strspn(line, " \t"), *end = key + strcspn(key, " \t=");
	char *value = end + strspn(end, " \t");

	*column = (unsigned int)(end - line) + 1;
	out->key = key;
	out->key_column = (unsigned int)(key - line) + 1;
	if (end == key)
		return false;
	if (!*value)
		return true;
	*column = (unsigned int)(value - line) + 1;
	if (*value != '=')
		return false;
	value += 1 + strspn(value + 1, " \t");
	*column = out->value_column = (unsigned int)(value - line) + 1;
	*end = '\0';
	out->value = value;
	return *value != '\0';
}

static int lines_parse(const char *path, struct config *c, char *err, size_t err_len)
{
	unsigned int number = 0;

	for (char *line = c->text, *next; line; line = next) {
		struct config_line parsed = { .line = ++number };
		unsigned int column;

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		line_trim(line);
		if (!line[strspn(line, " \t")])
			continue;
		if (!line_parse(line, &parsed, &column)) {
			snprintf(err, err_len,
				 "%s:%u:%u: a line must be 'option' or 'option = value'", path,
				 number, column);
			return -EINVAL;
		}
		struct config_line *lines = reallocarray(c->lines, c->n + 1, sizeof(*lines));
		if (!lines) {
			snprintf(err, err_len, "out of memory");
			return -ENOMEM;
		}
		c->lines = lines;
		lines[c->n++] = parsed;
	}
	return 0;
}

int config_read(const char *path, struct config *out, char *err, size_t err_len)
{
	struct config c = {};
	int res = text_read(path, &c.text, err, err_len);

	if (!res)
		res = lines_parse(path, &c, err, err_len);
	if (res)
		config_clear(&c);
	else
		*out = c;
	return res;
}
