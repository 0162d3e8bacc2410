/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * 128-bit names of contents: SipHash-2-4 under a secret of this node, so two contents with one
 * key are not to be found even by who may write policies. Keys of members are added up to the
 * key of a collection, which therefore follows a change without the members being listed.
 */
#ifndef AGENT_POLICY_HASH_H
#define AGENT_POLICY_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hkey {
	uint64_t a;
	uint64_t b;
};

/* What a key is of: the first word that is hashed. */
enum hash_domain {
	HASH_NAME = 1,
	HASH_ATOM,
	HASH_BUCKET,
	HASH_POD,
	HASH_SET,
	HASH_VERSION,
	HASH_PORT,
	HASH_RULESET,
	HASH_CLASS,
	HASH_PATCH,
};

struct hash {
	uint64_t v[4];
	uint64_t words;
};

struct hash hash_begin(const struct hkey *secret, enum hash_domain domain);
void hash_word(struct hash *h, uint64_t word);
void hash_text(struct hash *h, const char *text); /* its length counts */
void hash_key(struct hash *h, const struct hkey *key);
struct hkey hash_end(struct hash *h);

static inline bool hkey_equal(const struct hkey *x, const struct hkey *y)
{
	return x->a == y->a && x->b == y->b;
}

static inline void hkey_add(struct hkey *sum, const struct hkey *x)
{
	sum->a += x->a;
	sum->b += x->b;
}

static inline void hkey_sub(struct hkey *sum, const struct hkey *x)
{
	sum->a -= x->a;
	sum->b -= x->b;
}

/*
 * A table of structs that begin with their struct hkey: open addressing, a pointer a place.
 * Deleting never fails, nor does putting back what table_reserve() made room for.
 */
struct table {
	void **v;
	uint32_t size; /* power of two or 0 */
	uint32_t n;
};

void *table_get(const struct table *t, const struct hkey *key);
int table_reserve(struct table *t, uint32_t n); /* room for n in all; -ENOMEM */
int table_put(struct table *t, void *item);	/* its key is not there yet; -ENOMEM */
void table_del(struct table *t, const void *item);
void table_clear(struct table *t);

/* for (uint32_t i = 0; (x = table_next(t, &i));) */
void *table_next(const struct table *t, uint32_t *i);

#endif
