/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A file of lines that grows and is rotated: FILE, FILE.1 (the one before), up to FILE.N. It is only
 * ever cut between lines, and renamed, so a reader finds whole lines. A file that somebody else
 * moved away is begun anew, as log rotation expects.
 */
#ifndef LIB_LINEFILE_H
#define LIB_LINEFILE_H

#include <stddef.h>
#include <stdint.h>

struct linefile;

struct linefile_options {
	const char *path;
	uint64_t bytes;	    /* that a file may have when more comes; 0: no end */
	unsigned int files; /* older ones that are kept */
};

/*
 * Opens for appending; a last line that has no end (of a crash) is cut off. *last is the one before
 * the end, without its newline, malloc'ed; "" for an empty file.
 */
int linefile_open(struct linefile **out, const struct linefile_options *options, char **last);
void linefile_close(struct linefile *f);
/*
 * Appends text, whose lines may go on in the next call. On failure -errno: the first *written bytes
 * are in a file, and go on from there.
 */
int linefile_write(struct linefile *f, const char *text, size_t len, size_t *written);

#endif
