/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* towpath.conf: the options of towpathd as lines of a file, `max-flows = 100000`. */
#ifndef AGENT_CONFIG_H
#define AGENT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

/* One line that says something. */
struct config_line {
	const char *key;			     /* an option's long name */
	const char *value;			     /* NULL: there is none */
	unsigned int line, key_column, value_column; /* from 1 */
};

struct config {
	char *text; /* what the lines point into */
	struct config_line *lines;
	size_t n;
};

/*
 * Reads the file at `path`: a setting a line, `key` or `key = value`; empty lines and what
 * follows a # at the start of a line or after a blank are skipped. On failure -errno, nothing
 * to clear, and one sentence in err ("PATH:3:1: ..." where a line is at fault).
 */
int config_read(const char *path, struct config *out, char *err, size_t err_len);
void config_clear(struct config *c);

#endif
