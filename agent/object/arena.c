/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "object/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_FIRST 512u
#define CHUNK_MAX 65536u

struct arena_chunk {
	struct arena_chunk *below;
	size_t used;
	size_t size;
	_Alignas(max_align_t) unsigned char data[];
};

static struct arena_chunk *chunk_new(struct arena *a, size_t size)
{
	size_t want = a->next ? a->next : CHUNK_FIRST;
	struct arena_chunk *c;

	if (want < size)
		want = size;
	if (want > SIZE_MAX / 2)
		return NULL;
	c = calloc(1, sizeof(*c) + want);
	if (!c)
		return NULL;
	c->size = want;
	c->below = a->head;
	a->head = c;
	if (want < CHUNK_MAX)
		a->next = want * 2;
	return c;
}

void *arena_alloc(struct arena *a, size_t size)
{
	struct arena_chunk *c = a->head;
	void *res;

	if (size > SIZE_MAX / 2)
		return NULL;
	size = size ? (size + 15) & ~(size_t)15 : 16;
	if (!c || c->size - c->used < size)
		c = chunk_new(a, size);
	if (!c)
		return NULL;
	res = c->data + c->used;
	c->used += size;
	return res;
}

void *arena_array(struct arena *a, size_t n, size_t size)
{
	return n && size > SIZE_MAX / 2 / n ? NULL : arena_alloc(a, n * size);
}

char *arena_copy(struct arena *a, const char *text, size_t len)
{
	char *res = arena_alloc(a, len + 1);

	if (res)
		memcpy(res, text, len);
	return res;
}

void arena_clear(struct arena *a)
{
	while (a->head) {
		struct arena_chunk *c = a->head;

		a->head = c->below;
		free(c);
	}
	a->next = 0;
}
