/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The lines of C that an object's instructions came from, of its .BTF.ext. Trusts no number in there. */
#ifndef TOWPATH_SOURCE_LINES_H
#define TOWPATH_SOURCE_LINES_H

#include <stddef.h>
#include <stdint.h>

#include "userprog.h"

struct source_line {
	const char *section, *file, *text; /* borrowed from the object's bytes */
	uint64_t offset;		   /* of the instruction in its section, in bytes */
	uint32_t line, column;
};

struct source_lines {
	struct source_line *lines;
	size_t n;
};

/* 0, and none where the object has none; -ENOMEM. */
int source_lines_read(struct source_lines *out, const struct userprog_file *file);
void source_lines_clear(struct source_lines *s);

/* The line of an instruction: the last one at or before it in its section. NULL: none. */
const struct source_line *source_lines_at(const struct source_lines *s, const char *section,
					  uint64_t offset);
/* The line with that text (blanks around it do not count) and, unless 0, that number. NULL: none. */
const struct source_line *source_lines_text(const struct source_lines *s, const char *text,
					    uint32_t line);
/* A line that has the name as a word. NULL: none. */
const struct source_line *source_lines_word(const struct source_lines *s, const char *name);

#endif
