/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Memory that is given back all at once: the tree of a document, the fields of an object. */
#ifndef AGENT_OBJECT_ARENA_H
#define AGENT_OBJECT_ARENA_H

#include <stddef.h>

struct arena_chunk;

struct arena { /* all zero: empty */
	struct arena_chunk *head;
	size_t next; /* size of the next chunk; 0: the default */
};

/* Zeroed and aligned for any type; NULL when there is no memory. A size of 0 is not NULL. */
void *arena_alloc(struct arena *a, size_t size);
void *arena_array(struct arena *a, size_t n, size_t size);
/* A copy with a NUL behind it. */
char *arena_copy(struct arena *a, const char *text, size_t len);
void arena_clear(struct arena *a);

#endif
