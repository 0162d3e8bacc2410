/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Whose bpf_printk() it was. The kernel tells the text only; the formats are constants of the programs
 * that are loaded, so a text is held against these.
 */
#ifndef TOWPATH_PRINTK_H
#define TOWPATH_PRINTK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct printk_formats;

/* Those of all programs that are loaded now. 0 or -errno. */
int printk_formats_read(struct printk_formats **out);
void printk_formats_free(struct printk_formats *f);

/*
 * fn with each program that can have printed the text: those whose format has the most of it; a
 * program may come twice. How many calls.
 */
size_t printk_find(const struct printk_formats *f, const char *text,
		   void (*fn)(void *arg, uint32_t id, const char *name), void *arg);

/*
 * Whether printf() could make the text of the format; *literal is how many characters the format
 * gives. Formats have the kernel's conversions (%pI4, %pB).
 */
bool printk_matches(const char *format, const char *text, size_t *literal);

#endif
