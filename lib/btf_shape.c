/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "btf_shape.h"

#include <ctype.h>
#include <endian.h>
#include <string.h>

/* ---- names ------------------------------------------------------------------------------------ */

static bool word_in(const char *word, size_t len, const char *const *list)
{
	for (; *list; list++)
		if (strlen(*list) == len && !strncasecmp(*list, word, len))
			return true;
	return false;
}

/*
 * Whether a name consists of the words of two lists only, with one of `must` at least:
 * "nat_src_ip", but neither "ip_count" nor "src". Words end at '_', and their numbers do not
 * count.
 */
static bool name_is(const char *name, const char *const *must, const char *const *may)
{
	bool found = false;

	if (!name)
		return false;
	while (*name) {
		size_t len = strcspn(name, "_"), stem = len;

		while (stem && isdigit((unsigned char)name[stem - 1]))
			stem--;
		if (stem && (word_in(name, stem, must) || word_in(name, len, must)))
			found = true;
		else if (stem && !word_in(name, stem, may))
			return false;
		name += len + (name[len] == '_');
	}
	return found;
}

static bool name_is_address(const char *name)
{
	static const char *const must[] = { "ip",    "ipv4",  "ipv6",	"addr", "addrs", "address",
					    "saddr", "daddr", "ips",	"sip",	"dip",	 "srcip",
					    "dstip", "vip",   "ipaddr", "v4",	"v6",	 NULL };
	static const char *const may[] = {
		"src",	  "dst",    "source", "dest", "destination", "s",    "d",	"v",
		"local",  "remote", "peer",   "from", "to",	     "host", "client",	"server",
		"router", "gw",	    "nat",    "orig", "reply",	     "next", "hop",	"nexthop",
		"tunnel", "inner",  "outer",  "real", "backend",     "pod",  "node",	"user",
		"start",  "end",    "first",  "last", "container",   "be",   "gateway", NULL
	};

	return name_is(name, must, may);
}

static bool name_is_mac(const char *name)
{
	static const char *const must[] = { "mac",    "smac",	 "dmac",   "lladdr", "ether",
					    "hwaddr", "macaddr", "srcmac", "dstmac", NULL };
	static const char *const may[] = { "src",  "dst",     "source", "dest", "h",
					   "addr", "address", "peer",	"gw",	"next",
					   "hop",  "s",	      "d",	"eth",	NULL };

	return name_is(name, must, may) ||
	       (name && (!strcmp(name, "h_dest") || !strcmp(name, "h_source")));
}

/* Numbers in network order that are no addresses. */
static bool name_is_number(const char *name)
{
	static const char *const must[] = { "seq", "ack",  "flowinfo", "flowlabel", "label", "id",
					    "spi", "teid", "vni",      "mark",	    "word",  "len",
					    "num", "key",  "cookie",   "xid",	    NULL };
	static const char *const may[] = { "ack", "tcp",    "th",  "flow", "vx",
					   "tun", "tunnel", "ip6", "ip",   NULL };

	return name_is(name, must, may);
}

const char *btf_type_name(const struct btf *btf, const struct btf_type *t)
{
	const char *name = t ? btf__name_by_offset(btf, t->name_off) : NULL;

	return name ? name : "";
}

/* ---- types ------------------------------------------------------------------------------------ */

/* What typedefs say on the way. */
enum order { ORDER_HOST, ORDER_NETWORK };

static const struct btf_type *type_strip(const struct btf *btf, uint32_t *id, enum order *order)
{
	const struct btf_type *t = NULL;

	for (unsigned int depth = 0; depth < BTF_DEPTH_MAX; depth++) {
		t = *id ? btf__type_by_id(btf, *id) : NULL;
		if (!t)
			return NULL;
		if (btf_is_typedef(t)) {
			const char *name = btf_type_name(btf, t);

			name += strspn(name, "_");
			if (!strcmp(name, "be16") || !strcmp(name, "be32") || !strcmp(name, "be64"))
				*order = ORDER_NETWORK;
		} else if (!btf_is_mod(t) && !btf_is_var(t)) {
			return t;
		}
		*id = t->type;
	}
	return NULL;
}

static bool is_char(const struct btf *btf, const struct btf_type *t)
{
	return btf_is_int(t) && t->size == 1 &&
	       (!strcmp(btf_type_name(btf, t), "char") || btf_int_encoding(t) & BTF_INT_CHAR);
}

static enum btf_shape shape_of_bytes(size_t size, const char *name)
{
	if (size == 4 && name_is_address(name))
		return BTF_SHAPE_ADDR4;
	return size == 16 && name_is_address(name) ? BTF_SHAPE_ADDR6 : BTF_SHAPE_NUMBER;
}

static enum btf_shape shape_of_int(const struct btf_type *t, enum order order, const char *name)
{
	if (btf_int_offset(t) || btf_int_bits(t) != t->size * 8 || !t->size || t->size > 16 ||
	    t->size & (t->size - 1))
		return BTF_SHAPE_BAD;
	if (btf_int_encoding(t) & BTF_INT_BOOL && t->size == 1)
		return BTF_SHAPE_BOOL;
	if (order == ORDER_NETWORK && t->size == 4)
		return name_is_number(name) ? BTF_SHAPE_NETWORK : BTF_SHAPE_ADDR4;
	if (order == ORDER_NETWORK)
		return BTF_SHAPE_NETWORK;
	return shape_of_bytes(t->size, name);
}

static enum btf_shape shape_of_array(const struct btf *btf, const struct btf_type *t, size_t size,
				     const char *name)
{
	enum order order = ORDER_HOST;
	uint32_t id = btf_array(t)->type;
	const struct btf_type *of = type_strip(btf, &id, &order);

	if (!of)
		return BTF_SHAPE_BAD;
	if (is_char(btf, of))
		return BTF_SHAPE_TEXT;
	if (!btf_is_int(of) || of->size > 4)
		return BTF_SHAPE_ARRAY;
	if (size == 6 && of->size == 1 && name_is_mac(name))
		return BTF_SHAPE_MAC;
	/* Addresses one by one are elements, not words of one address. */
	if (of->size == 4 && size == 4)
		return BTF_SHAPE_ARRAY;
	enum btf_shape shape = shape_of_bytes(size, name);

	return shape == BTF_SHAPE_NUMBER ? BTF_SHAPE_ARRAY : shape;
}

/* The key of an LPM trie, when the rest of it is one address. */
static bool is_prefix(const struct btf *btf, const struct btf_type *t)
{
	const struct btf_member *m = btf_members(t);
	enum order order = ORDER_HOST;
	uint32_t id;
	const struct btf_type *first, *second;
	const char *name;

	if (btf_vlen(t) != 2 || btf_kflag(t) || m[0].offset || m[1].offset != 32 ||
	    (t->size != 8 && t->size != 20))
		return false;
	name = btf__name_by_offset(btf, m[0].name_off);
	if (!name || (strcmp(name, "prefixlen") && strcmp(name, "prefix_len")))
		return false;
	id = m[0].type;
	first = type_strip(btf, &id, &order);
	id = m[1].type;
	second = type_strip(btf, &id, &order);
	return first && btf_is_int(first) && first->size == 4 && second &&
	       btf__resolve_size(btf, id) == (int64_t)t->size - 4;
}

static enum btf_shape shape_of_struct(const struct btf *btf, const struct btf_type *t)
{
	const char *name = btf_type_name(btf, t);

	if (t->size == 16 && !strcmp(name, "in6_addr"))
		return BTF_SHAPE_ADDR6;
	if (t->size == 4 && !strcmp(name, "in_addr"))
		return BTF_SHAPE_ADDR4;
	if (t->size == 16 && !strcmp(name, "tw_addr"))
		return BTF_SHAPE_ADDR;
	if (btf_is_union(t))
		return BTF_SHAPE_UNION;
	return is_prefix(btf, t) ? BTF_SHAPE_PREFIX : BTF_SHAPE_STRUCT;
}

static enum btf_shape shape_find(const struct btf *btf, const struct btf_type *t, size_t size,
				 enum order order, const char *name)
{
	switch (btf_kind(t)) {
	case BTF_KIND_INT:
		return shape_of_int(t, order, name);
	case BTF_KIND_ENUM:
	case BTF_KIND_ENUM64:
		return size == 1 || size == 2 || size == 4 || size == 8 ? BTF_SHAPE_ENUM
									: BTF_SHAPE_BAD;
	case BTF_KIND_FLOAT:
		return size == 4 || size == 8 ? BTF_SHAPE_FLOAT : BTF_SHAPE_BAD;
	case BTF_KIND_PTR:
		return size <= 8 ? BTF_SHAPE_POINTER : BTF_SHAPE_BAD;
	case BTF_KIND_ARRAY:
		return shape_of_array(btf, t, size, name);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return shape_of_struct(btf, t);
	case BTF_KIND_DATASEC:
		return BTF_SHAPE_SECTION;
	default:
		return BTF_SHAPE_BAD;
	}
}

struct btf_shaped btf_shape(const struct btf *btf, uint32_t id, const char *name)
{
	enum order order = ORDER_HOST;
	struct btf_shaped s = { .id = id };

	s.t = type_strip(btf, &s.id, &order);
	if (!s.t)
		return s;
	int64_t size = btf__resolve_size(btf, s.id);

	if (size < 0)
		return s;
	s.size = (size_t)size;
	s.shape = shape_find(btf, s.t, s.size, order, name);
	return s;
}

size_t btf_parts(const struct btf_type *t)
{
	return btf_is_composite(t) || btf_is_datasec(t) ? btf_vlen(t) : 0;
}

bool btf_part(const struct btf *btf, const struct btf_shaped *of, size_t i, struct btf_part *out)
{
	const struct btf_type *t = of->t;
	int64_t size;

	if (btf_is_datasec(t)) {
		const struct btf_var_secinfo *v = btf_var_secinfos(t) + i;
		const struct btf_type *var = btf__type_by_id(btf, v->type);

		if (!var || !btf_is_var(var))
			return false;
		*out = (struct btf_part){ btf_type_name(btf, var), var->type, (size_t)v->offset * 8,
					  0 };
	} else {
		const struct btf_member *m = btf_members(t) + i;
		const char *name = btf__name_by_offset(btf, m->name_off);

		*out = (struct btf_part){ name ? name : "", m->type,
					  btf_member_bit_offset(t, (uint32_t)i),
					  btf_member_bitfield_size(t, (uint32_t)i) };
	}
	if (out->bits)
		return out->bits <= 64 && out->bit + out->bits <= of->size * 8;
	size = btf__resolve_size(btf, out->type);
	return size >= 0 && out->bit % 8 == 0 && out->bit / 8 + (size_t)size <= of->size;
}

/* ---- enums ------------------------------------------------------------------------------------ */

bool btf_enum_signed(const struct btf_type *t)
{
	return btf_kflag(t);
}

static int64_t enum_value(const struct btf_type *t, uint16_t i, uint32_t *name)
{
	if (btf_is_enum64(t)) {
		*name = btf_enum64(t)[i].name_off;
		return (int64_t)btf_enum64_value(btf_enum64(t) + i);
	}
	*name = btf_enum(t)[i].name_off;
	return btf_kflag(t) ? btf_enum(t)[i].val : (int64_t)(uint32_t)btf_enum(t)[i].val;
}

const char *btf_enum_name(const struct btf *btf, const struct btf_type *t, int64_t value)
{
	for (uint16_t i = 0; i < btf_vlen(t); i++) {
		uint32_t name;

		if (enum_value(t, i, &name) == value)
			return btf__name_by_offset(btf, name);
	}
	return NULL;
}

bool btf_enum_find(const struct btf *btf, const struct btf_type *t, const char *name,
		   int64_t *value)
{
	for (uint16_t i = 0; i < btf_vlen(t); i++) {
		uint32_t at;
		int64_t v = enum_value(t, i, &at);
		const char *found = btf__name_by_offset(btf, at);

		if (!found || strcmp(found, name))
			continue;
		*value = v;
		return true;
	}
	return false;
}

/* ---- bits ------------------------------------------------------------------------------------- */

/* The bit of the value that `i` counts from its least significant one: (byte, mask). */
static size_t bit_at(size_t bit, unsigned int bits, unsigned int i)
{
#if __BYTE_ORDER == __LITTLE_ENDIAN
	(void)bits;
	return bit + i;
#else
	return bit + bits - 1 - i;
#endif
}

static unsigned char bit_mask(size_t at)
{
#if __BYTE_ORDER == __LITTLE_ENDIAN
	return (unsigned char)(1u << at % 8);
#else
	return (unsigned char)(0x80u >> at % 8);
#endif
}

uint64_t btf_bits_read(const void *data, size_t bit, unsigned int bits)
{
	const unsigned char *p = data;
	uint64_t value = 0;

	if (bit % 8 == 0 && bits % 8 == 0 && bits <= 64) {
		/* Whole bytes: nearly all there is. */
		size_t n = bits / 8;

		memcpy((char *)&value + (__BYTE_ORDER == __BIG_ENDIAN ? 8 - n : 0), p + bit / 8, n);
		return value;
	}
	for (unsigned int i = 0; i < bits; i++) {
		size_t at = bit_at(bit, bits, i);

		if (p[at / 8] & bit_mask(at))
			value |= 1ull << i;
	}
	return value;
}

void btf_bits_write(void *data, size_t bit, unsigned int bits, uint64_t value)
{
	unsigned char *p = data;

	for (unsigned int i = 0; i < bits; i++) {
		size_t at = bit_at(bit, bits, i);

		if (value >> i & 1)
			p[at / 8] |= bit_mask(at);
		else
			p[at / 8] &= (unsigned char)~bit_mask(at);
	}
}
