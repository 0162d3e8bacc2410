/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "policy/hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- SipHash-2-4 with 128 bits of result (Aumasson, Bernstein: siphash.c) -------------------- */

static inline uint64_t rotate(uint64_t x, unsigned int n)
{
	return x << n | x >> (64 - n);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[0] = rotate(v[0], 32);
	v[2] += v[3];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[2] = rotate(v[2], 32);
}

struct hash hash_begin(const struct hkey *secret, enum hash_domain domain)
{
	struct hash h = {
		.v = { 0x736f6d6570736575 ^ secret->a, 0x646f72616e646f6d ^ 0xee ^ secret->b,
		       0x6c7967656e657261 ^ secret->a, 0x7465646279746573 ^ secret->b },
	};

	hash_word(&h, domain);
	return h;
}

void hash_word(struct hash *h, uint64_t word)
{
	h->v[3] ^= word;
	sip_round(h->v);
	sip_round(h->v);
	h->v[0] ^= word;
	h->words++;
}

static void hash_bytes(struct hash *h, const void *data, size_t len)
{
	const unsigned char *p = data;

	hash_word(h, len);
	for (; len; p += 8) {
		size_t part = len < 8 ? len : 8;
		uint64_t word = 0;

		memcpy(&word, p, part);
		hash_word(h, word);
		len -= part;
	}
}

void hash_text(struct hash *h, const char *text)
{
	hash_bytes(h, text, strlen(text));
}

void hash_key(struct hash *h, const struct hkey *key)
{
	hash_word(h, key->a);
	hash_word(h, key->b);
}

struct hkey hash_end(struct hash *h)
{
	struct hkey key;

	hash_word(h, h->words << 56);
	h->v[2] ^= 0xee;
	for (int i = 0; i < 4; i++)
		sip_round(h->v);
	key.a = h->v[0] ^ h->v[1] ^ h->v[2] ^ h->v[3];
	h->v[1] ^= 0xdd;
	for (int i = 0; i < 4; i++)
		sip_round(h->v);
	key.b = h->v[0] ^ h->v[1] ^ h->v[2] ^ h->v[3];
	return key;
}

/* ---- tables --------------------------------------------------------------------------------- */

static const struct hkey *item_key(const void *item)
{
	return item;
}

static uint32_t home(const struct table *t, const struct hkey *key)
{
	return (uint32_t)key->a & (t->size - 1);
}

void *table_get(const struct table *t, const struct hkey *key)
{
	if (!t->size)
		return NULL;
	for (uint32_t i = home(t, key); t->v[i]; i = (i + 1) & (t->size - 1))
		if (hkey_equal(item_key(t->v[i]), key))
			return t->v[i];
	return NULL;
}

static void place(struct table *t, void *item)
{
	uint32_t i = home(t, item_key(item));

	while (t->v[i])
		i = (i + 1) & (t->size - 1);
	t->v[i] = item;
}

int table_reserve(struct table *t, uint32_t n)
{
	struct table bigger = { .size = t->size ? t->size : 16, .n = t->n };

	while (bigger.size / 4 * 3 < n)
		bigger.size *= 2;
	if (bigger.size == t->size)
		return 0;
	bigger.v = calloc(bigger.size, sizeof(*bigger.v));
	if (!bigger.v)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->size; i++)
		if (t->v[i])
			place(&bigger, t->v[i]);
	free(t->v);
	*t = bigger;
	return 0;
}

int table_put(struct table *t, void *item)
{
	int err = table_reserve(t, t->n + 1);

	if (err)
		return err;
	place(t, item);
	t->n++;
	return 0;
}

void table_del(struct table *t, const void *item)
{
	uint32_t hole, i;

	if (!t->size)
		return;
	hole = home(t, item_key(item));
	while (t->v[hole] && t->v[hole] != item)
		hole = (hole + 1) & (t->size - 1);
	if (!t->v[hole])
		return;
	t->v[hole] = NULL;
	t->n--;
	/* What follows moves up, unless the hole is before its home. */
	for (i = (hole + 1) & (t->size - 1); t->v[i]; i = (i + 1) & (t->size - 1)) {
		uint32_t want = home(t, item_key(t->v[i]));

		if (((i - want) & (t->size - 1)) < ((i - hole) & (t->size - 1)))
			continue;
		t->v[hole] = t->v[i];
		t->v[i] = NULL;
		hole = i;
	}
}

void table_clear(struct table *t)
{
	free(t->v);
	*t = (struct table){};
}

void *table_next(const struct table *t, uint32_t *i)
{
	while (*i < t->size) {
		void *item = t->v[(*i)++];

		if (item)
			return item;
	}
	return NULL;
}
