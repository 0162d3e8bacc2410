/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What libbpf says in a call. It has one receiver for the process; here each thread hears its own calls. */
#ifndef TOWPATH_HEAR_H
#define TOWPATH_HEAR_H

#include <stddef.h>

/* From now on libbpf's warnings of this thread go into text, a line each, as many as there is room for. */
void hear_begin(char *text, size_t len);
void hear_end(void);
/* Keeps the first line only: it names the cause, later ones what followed from it. */
void hear_first(char *text);

#endif
