/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Numbers of identities, sets and versions: the next free one, unless a content has its own. A
 * number that was given back rests until all others have had their turn, so a change need not
 * wait until the kernel has forgotten what the number meant.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/internal.h"

int vec_reserve(struct vec *vec, uint32_t n)
{
	uint32_t cap = vec->cap ? vec->cap : 2;
	void **v;

	if (vec->cap - vec->n >= n)
		return 0;
	while (cap - vec->n < n)
		cap *= 2;
	v = realloc(vec->v, cap * sizeof(*v));
	if (!v)
		return -ENOMEM;
	vec->v = v;
	vec->cap = cap;
	return 0;
}

int vec_push(struct vec *vec, void *item)
{
	int err = vec_reserve(vec, 1);

	if (!err)
		vec->v[vec->n++] = item;
	return err;
}

void vec_remove(struct vec *vec, const void *item)
{
	for (uint32_t i = 0; i < vec->n; i++) {
		if (vec->v[i] == item) {
			vec->v[i] = vec->v[--vec->n];
			return;
		}
	}
}

void vec_clear(struct vec *vec)
{
	free(vec->v);
	*vec = (struct vec){};
}

int ties_reserve(struct ties *ties, uint32_t n)
{
	int err = 0;

	while (!err && ties->cap - ties->n < n)
		err = array_room(&ties->v, ties->cap, &ties->cap, sizeof(*ties->v));
	return err;
}

void tie_push(struct ties *ties, void *of, void *item)
{
	ties->v[ties->n++] = (struct tie){ of, item };
}

int array_room(void *array, uint32_t n, uint32_t *cap, size_t size)
{
	uint32_t more = *cap ? *cap * 2 : 1;
	void **at = array, *v;

	if (n < *cap)
		return 0;
	v = reallocarray(*at, more, size);
	if (!v)
		return -ENOMEM;
	*at = v;
	*cap = more;
	return 0;
}

static int numbers_grow(struct numbers *n, uint32_t id)
{
	uint32_t words = n->words ? n->words : 4;
	uint64_t *used;

	if (id / 64 < n->words)
		return 0;
	while (words <= id / 64)
		words *= 2;
	used = realloc(n->used, words * sizeof(*used));
	if (!used)
		return -ENOMEM;
	memset(used + n->words, 0, (words - n->words) * sizeof(*used));
	n->used = used;
	n->words = words;
	return 0;
}

static bool number_used(const struct numbers *n, uint32_t id)
{
	return id / 64 < n->words && n->used[id / 64] >> (id % 64) & 1;
}

static void number_set(struct numbers *n, uint32_t id)
{
	n->used[id / 64] |= 1ull << id % 64;
	n->n_used++;
}

static void number_unset(struct numbers *n, uint32_t id)
{
	n->used[id / 64] &= ~(1ull << id % 64);
	n->n_used--;
}

/* The first free number from `id` on; one beyond all when none is. */
static uint32_t number_free(const struct numbers *n, uint32_t id)
{
	for (; id < n->words * 64; id = (id | 63) + 1) {
		uint64_t taken = n->used[id / 64] | ((1ull << id % 64) - 1);

		if (~taken)
			return (id & ~63u) + (uint32_t)__builtin_ctzll(~taken);
	}
	return id;
}

int number_take(struct numbers *n, const struct hkey *key, uint32_t *out)
{
	struct restored *r = table_get(&n->restored, key);
	uint32_t id;
	int err;

	if (r && !r->claimed) {
		r->claimed = true;
		*out = r->id;
		return 0;
	}
	id = number_free(n, n->next < n->first ? n->first : n->next);
	/* All but a few are in use: rather more numbers than one that was given back just now. */
	if (id > n->max || (id == n->words * 64 && n->n_used < id / 2))
		id = number_free(n, n->first);
	if (id > n->max)
		return -ENOSPC;
	err = numbers_grow(n, id);
	if (err)
		return err;
	number_set(n, id);
	n->next = id + 1;
	*out = id;
	return 0;
}

void number_give(struct numbers *n, const struct hkey *key, uint32_t id)
{
	struct restored *r = table_get(&n->restored, key);

	if (r && r->id == id) {
		r->claimed = false;
		return;
	}
	number_unset(n, id);
}

int number_restore(struct numbers *n, const struct hkey *key, uint32_t id)
{
	struct restored *r;
	int err;

	if (id < n->first || id > n->max || number_used(n, id) || table_get(&n->restored, key))
		return 0; /* of a damaged store; nothing depends on it but smoothness */
	err = numbers_grow(n, id);
	if (err)
		return err;
	r = malloc(sizeof(*r));
	if (!r)
		return -ENOMEM;
	*r = (struct restored){ .key = *key, .id = id };
	err = table_put(&n->restored, r);
	if (err) {
		free(r);
		return err;
	}
	number_set(n, id);
	return 0;
}

void number_forget_claimed(struct numbers *n)
{
	for (uint32_t i = 0; i < n->restored.size; i++) {
		struct restored *r = n->restored.v[i];

		if (!r || !r->claimed)
			continue;
		table_del(&n->restored, r);
		free(r);
		i--; /* another one may have moved here */
	}
}

void number_forget_unclaimed(struct numbers *n)
{
	struct restored *r;

	for (uint32_t i = 0; (r = table_next(&n->restored, &i));) {
		number_unset(n, r->id);
		free(r);
	}
	table_clear(&n->restored);
}

void numbers_clear(struct numbers *n)
{
	struct restored *r;

	for (uint32_t i = 0; (r = table_next(&n->restored, &i));)
		free(r);
	table_clear(&n->restored);
	free(n->used);
}
