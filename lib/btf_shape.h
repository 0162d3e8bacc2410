/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What a type of BTF is to people: an address, a port, a text, a number. BTF knows only the
 * layout, so the rest is taken from the kernel's own conventions: names of types (__be16, struct
 * in6_addr) and of fields (saddr, ip, mac). The BTF is a user's: nothing in it is believed that
 * was not checked against the sizes at hand.
 */
#ifndef TOWPATH_BTF_SHAPE_H
#define TOWPATH_BTF_SHAPE_H

#include <bpf/btf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Types inside types that are followed; more is a cycle, or nothing that a person would write. */
#define BTF_DEPTH_MAX 32u

enum btf_shape {
	BTF_SHAPE_BAD, /* no type, or one without a size */
	BTF_SHAPE_NUMBER,
	BTF_SHAPE_NETWORK, /* a number in network order */
	BTF_SHAPE_BOOL,
	BTF_SHAPE_ENUM,
	BTF_SHAPE_FLOAT,
	BTF_SHAPE_POINTER,
	BTF_SHAPE_ADDR4,
	BTF_SHAPE_ADDR6,
	BTF_SHAPE_ADDR,	  /* 16 bytes, IPv4 as ::ffff:a.b.c.d */
	BTF_SHAPE_PREFIX, /* u32 length, then an address of 4 or 16 bytes */
	BTF_SHAPE_MAC,
	BTF_SHAPE_TEXT, /* char array */
	BTF_SHAPE_ARRAY,
	BTF_SHAPE_STRUCT,
	BTF_SHAPE_UNION,
	BTF_SHAPE_SECTION, /* .data and its like: variables at their offsets */
};

struct btf_shaped {
	enum btf_shape shape;
	uint32_t id;		  /* without typedefs and qualifiers */
	const struct btf_type *t; /* of id */
	size_t size;		  /* bytes */
};

/* A type in a place called `name` (NULL: none). */
struct btf_shaped btf_shape(const struct btf *btf, uint32_t id, const char *name);

/* A member of a struct, union or section. */
struct btf_part {
	const char *name; /* "": anonymous */
	uint32_t type;
	size_t bit;	   /* from the beginning */
	unsigned int bits; /* 0: no bit-field */
};

size_t btf_parts(const struct btf_type *t);
/* The i-th; false: it does not lie within its parent, or has no type. */
bool btf_part(const struct btf *btf, const struct btf_shaped *of, size_t i, struct btf_part *out);

/* What may be shown of an enum: the name of a value, or NULL. */
const char *btf_enum_name(const struct btf *btf, const struct btf_type *t, int64_t value);
/* false: no such name. */
bool btf_enum_find(const struct btf *btf, const struct btf_type *t, const char *name,
		   int64_t *value);
bool btf_enum_signed(const struct btf_type *t);

/* Name of a type's id, "" for none. */
const char *btf_type_name(const struct btf *btf, const struct btf_type *t);

/*
 * `bits` bits from `bit` on, in the order of the machine; at most 64, and all within the data.
 * The value is not sign-extended.
 */
uint64_t btf_bits_read(const void *data, size_t bit, unsigned int bits);
void btf_bits_write(void *data, size_t bit, unsigned int bits, uint64_t value);

#endif
