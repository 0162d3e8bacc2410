/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* JSON into the layout of a BTF type. */
#include <arpa/inet.h>
#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "btf_shape.h"
#include "btf_value.h"

#define PATH_MAX_LEN 256u
#define LIST_MAX 200u

struct reader {
	const struct btf *btf;
	unsigned int depth;
	unsigned int values;
	char path[PATH_MAX_LEN]; /* of the value that is read; cut off when it is too long */
	size_t path_len;
	char *err;
	size_t err_len;
};

static int value_read(struct reader *r, uint32_t type, const char *name, const json_t *in,
		      uint8_t *data, size_t size);

/* ---- errors ----------------------------------------------------------------------------------- */

static int fail(struct reader *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int fail(struct reader *r, const char *fmt, ...)
{
	char text[PATH_MAX_LEN + LIST_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(r->err, r->err_len, "%s: %s", r->path, text);
	return -EINVAL;
}

/* What was found, for the end of a sentence; cut off. */
static const char *found(const json_t *in, char buf[64])
{
	char *text = json_dumps(in, JSON_ENCODE_ANY | JSON_COMPACT);

	snprintf(buf, 64, "%.58s%s", text ? text : "", text && strlen(text) > 58 ? "..." : "");
	free(text);
	return buf;
}

static int fail_found(struct reader *r, const char *expected, const json_t *in)
{
	char buf[64];

	return fail(r, "expected %s, found %s", expected, found(in, buf));
}

static size_t path_push(struct reader *r, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* The length to go back to. */
static size_t path_push(struct reader *r, const char *fmt, ...)
{
	size_t before = r->path_len;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(r->path + before, sizeof(r->path) - before, fmt, ap);
	va_end(ap);
	r->path_len = n < 0 || (size_t)n >= sizeof(r->path) - before ? sizeof(r->path) - 1
								     : before + (size_t)n;
	return before;
}

static void path_pop(struct reader *r, size_t before)
{
	r->path_len = before;
	r->path[before] = '\0';
}

/* ---- numbers ---------------------------------------------------------------------------------- */

/* A whole number of JSON, or a string of one; false: it is none, or beyond 64 bits. */
static bool integer_of(const json_t *in, bool *negative, uint64_t *value)
{
	const char *text = json_string_value(in);
	char *end;

	if (json_is_integer(in)) {
		json_int_t v = json_integer_value(in);

		*negative = v < 0;
		*value = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
		return true;
	}
	if (json_is_boolean(in)) {
		*negative = false;
		*value = json_is_true(in);
		return true;
	}
	if (!text || !isdigit((unsigned char)text[*text == '-']))
		return false;
	*negative = *text == '-';
	text += *negative;
	/* No octal: nobody means it. */
	bool hex = text[0] == '0' && (text[1] | 0x20) == 'x';

	errno = 0;
	*value = strtoull(text, &end, hex ? 16 : 10);
	return !*end && !errno;
}

/* Largest number of so many bits, which may be none in a user's BTF. */
static uint64_t bits_max(unsigned int bits)
{
	return bits ? ~0ull >> (64 - bits) : 0;
}

static int bits_fit(struct reader *r, const json_t *in, unsigned int bits, bool is_signed,
		    uint64_t *out)
{
	uint64_t max = bits_max(is_signed && bits ? bits - 1 : bits), value;
	char expected[96];
	bool negative;

	if (integer_of(in, &negative, &value) &&
	    (negative ? (is_signed && value <= max + 1) || !value : value <= max)) {
		*out = negative ? 0 - value : value;
		return 0;
	}
	if (is_signed)
		snprintf(expected, sizeof(expected), "a number from -%" PRIu64 " to %" PRIu64,
			 max + 1, max);
	else
		snprintf(expected, sizeof(expected), "a number from 0 to %" PRIu64, max);
	return fail_found(r, expected, in);
}

static int enum_read(struct reader *r, const struct btf_shaped *s, const json_t *in,
		     unsigned int bits, uint64_t *out)
{
	const char *text = json_string_value(in);
	char names[LIST_MAX] = "";
	size_t len = 0;
	uint16_t n = btf_vlen(s->t), i;
	bool negative;
	int64_t value;

	if (text && btf_enum_find(r->btf, s->t, text, &value)) {
		*out = (uint64_t)value;
		return 0;
	}
	if (integer_of(in, &negative, out))
		return bits_fit(r, in, bits, btf_enum_signed(s->t), out);
	for (i = 0; i < n && len < LIST_MAX - 64; i++) {
		uint32_t off = btf_is_enum64(s->t) ? btf_enum64(s->t)[i].name_off
						   : btf_enum(s->t)[i].name_off;
		const char *name = btf__name_by_offset(r->btf, off);

		len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%.60s",
					len ? ", " : "", name ? name : "");
	}
	char buf[64];

	return fail(r, "expected one of %s%s, or a number, found %s", names, i < n ? ", ..." : "",
		    found(in, buf));
}

static int bits_read(struct reader *r, const struct btf_shaped *s, const json_t *in,
		     unsigned int bits, uint64_t *out)
{
	const char *text = json_string_value(in);

	if (s->shape == BTF_SHAPE_ENUM)
		return enum_read(r, s, in, bits, out);
	if (s->shape == BTF_SHAPE_BOOL && text &&
	    (!strcmp(text, "true") || !strcmp(text, "false"))) {
		*out = *text == 't';
		return 0;
	}
	if (s->shape == BTF_SHAPE_BOOL) {
		bool negative;

		return integer_of(in, &negative, out) && *out <= 1 && !negative
			       ? 0
			       : fail_found(r, "true or false", in);
	}
	return bits_fit(r, in, bits, btf_int_encoding(s->t) & BTF_INT_SIGNED, out);
}

static int wide_read(struct reader *r, const json_t *in, uint8_t *data)
{
	const char *text = json_string_value(in);
	unsigned __int128 value = 0;
	bool negative;
	uint64_t small;

	if (integer_of(in, &negative, &small) && !negative) {
		value = small;
	} else {
		if (!text || strncmp(text, "0x", 2) || !text[2] || strlen(text) > 34 ||
		    text[2 + strspn(text + 2, "0123456789abcdefABCDEF")])
			return fail_found(r, "a number as \"0x...\" of at most 32 digits", in);
		for (text += 2; *text; text++)
			value = value << 4 | (unsigned int)(isdigit((unsigned char)*text)
								    ? *text - '0'
								    : (*text | 0x20) - 'a' + 10);
	}
	memcpy(data, &value, sizeof(value));
	return 0;
}

static int network_read(struct reader *r, const json_t *in, uint8_t *data, size_t size)
{
	uint64_t value;
	int res = bits_fit(r, in, (unsigned int)size * 8, false, &value);

	for (size_t i = size; !res && i-- > 0; value >>= 8)
		data[i] = (uint8_t)value;
	return res;
}

static int float_read(struct reader *r, const json_t *in, uint8_t *data, size_t size)
{
	const char *text = json_string_value(in);
	char *end = NULL;
	double d = text ? strtod(text, &end) : json_is_null(in) ? NAN : json_number_value(in);
	float f = (float)d;

	if (text ? !*text || *end : !json_is_number(in) && !json_is_null(in))
		return fail_found(r, "a number", in);
	memcpy(data, size == 8 ? (void *)&d : (void *)&f, size);
	return 0;
}

/* ---- addresses and texts ---------------------------------------------------------------------- */

static int address_read(struct reader *r, enum btf_shape shape, const json_t *in, uint8_t *data)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	const char *text = json_string_value(in);
	uint8_t v4[4], v6[16];

	if (shape != BTF_SHAPE_ADDR6 && text && inet_pton(AF_INET, text, v4) == 1) {
		if (shape == BTF_SHAPE_ADDR) {
			memcpy(data, mapped, 12);
			data += 12;
		}
		memcpy(data, v4, 4);
		return 0;
	}
	if (shape != BTF_SHAPE_ADDR4 && text && inet_pton(AF_INET6, text, v6) == 1) {
		memcpy(data, v6, 16);
		return 0;
	}
	return fail_found(r,
			  shape == BTF_SHAPE_ADDR4   ? "an IPv4 address like 10.0.0.1"
			  : shape == BTF_SHAPE_ADDR6 ? "an IPv6 address like 2001:db8::1"
						     : "an IPv4 or IPv6 address",
			  in);
}

static int mac_read(struct reader *r, const json_t *in, uint8_t *data)
{
	const char *text = json_string_value(in);
	unsigned int b[6];
	int end = 0;

	if (!text || strlen(text) != 17 ||
	    sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
		   &end) != 6 ||
	    end != 17)
		return fail_found(r, "a MAC address like 02:54:57:00:00:01", in);
	for (size_t i = 0; i < 6; i++)
		data[i] = (uint8_t)b[i];
	return 0;
}

static int text_read(struct reader *r, const json_t *in, uint8_t *data, size_t size)
{
	size_t len = json_string_length(in);

	if (len > size)
		return fail(r, "a text of %zu bytes does not fit into the %zu that there are", len,
			    size);
	memset(data, 0, size);
	memcpy(data, json_string_value(in), len);
	return 0;
}

static int object_read(struct reader *r, const struct btf_shaped *s, const json_t *in,
		       uint8_t *data);

/* "10.0.0.0/8", or both members. A bare address is a whole one. */
static int prefix_read(struct reader *r, const struct btf_shaped *s, const json_t *in,
		       uint8_t *data)
{
	const char *text = json_string_value(in), *slash = text ? strchr(text, '/') : NULL;
	uint32_t max = (uint32_t)(s->size - 4) * 8;
	char address[INET6_ADDRSTRLEN];
	unsigned long len = max;
	char *end;

	if (json_is_object(in))
		return object_read(r, s, in, data);
	if (slash) {
		len = isdigit((unsigned char)slash[1]) ? strtoul(slash + 1, &end, 10) : max + 1ul;
		if (len > max || *end)
			len = max + 1ul;
	}
	snprintf(address, sizeof(address), "%.*s", slash ? (int)(slash - text) : 45,
		 text ? text : "");
	if (len > max || inet_pton(max == 32 ? AF_INET : AF_INET6, address, data + 4) != 1)
		return fail_found(r,
				  max == 32 ? "an IPv4 prefix like 10.0.0.0/8"
					    : "an IPv6 prefix like 2001:db8::/32",
				  in);
	uint32_t n = (uint32_t)len;

	memcpy(data, &n, sizeof(n));
	return 0;
}

static int pointer_read(struct reader *r, const json_t *in, uint8_t *data, size_t size)
{
	uint64_t value;
	int res = bits_fit(r, in, (unsigned int)size * 8, false, &value);

	if (!res)
		btf_bits_write(data, 0, (unsigned int)size * 8, value);
	return res;
}

/* ---- arrays, structs, unions ------------------------------------------------------------------ */

static int array_read(struct reader *r, const struct btf_shaped *s, const char *name,
		      const json_t *in, uint8_t *data)
{
	const struct btf_array *a = btf_array(s->t);
	size_t each = a->nelems ? s->size / a->nelems : 0;
	uint32_t n = each ? a->nelems : 0;
	int res = 0;

	if (json_is_string(in) && s->shape == BTF_SHAPE_TEXT)
		return text_read(r, in, data, s->size);
	if (!json_is_array(in))
		return fail_found(
			r, s->shape == BTF_SHAPE_TEXT ? "a text" : "an array, like [1, 2]", in);
	if (json_array_size(in) != n)
		return fail(r, "expected %u elements, found %zu", n, json_array_size(in));
	for (uint32_t i = 0; !res && i < n; i++) {
		size_t before = path_push(r, "[%u]", i);

		res = value_read(r, a->type, name, json_array_get(in, i), data + i * each, each);
		if (!res)
			path_pop(r, before);
	}
	return res;
}

/* Whether a struct has a member of that name, in anonymous members, too. */
static bool has_part(struct reader *r, const struct btf_shaped *s, const char *name,
		     unsigned int depth)
{
	for (size_t i = 0; depth < BTF_DEPTH_MAX && i < btf_parts(s->t); i++) {
		struct btf_part part;
		struct btf_shaped in;

		if (r->values++ >= BTF_VALUES_MAX || !btf_part(r->btf, s, i, &part))
			return false;
		if (*part.name && !strcmp(part.name, name))
			return true;
		if (*part.name || part.bits)
			continue;
		in = btf_shape(r->btf, part.type, NULL);
		if (in.t && btf_is_composite(in.t) && has_part(r, &in, name, depth + 1))
			return true;
	}
	return false;
}

static size_t names_list(struct reader *r, const struct btf_shaped *s, char *buf, size_t len,
			 size_t size, unsigned int depth)
{
	for (size_t i = 0; depth < BTF_DEPTH_MAX && len + 40 < size && i < btf_parts(s->t); i++) {
		struct btf_part part;
		struct btf_shaped in;

		if (r->values++ >= BTF_VALUES_MAX || !btf_part(r->btf, s, i, &part))
			break;
		in = btf_shape(r->btf, part.type, NULL);
		if (*part.name)
			len += (size_t)snprintf(buf + len, size - len, "%s%.32s", len ? ", " : "",
						part.name);
		else if (!part.bits && in.t && btf_is_composite(in.t))
			len = names_list(r, &in, buf, len, size, depth + 1);
	}
	return len;
}

static int names_check(struct reader *r, const struct btf_shaped *s, const json_t *in)
{
	char names[LIST_MAX] = "";
	json_t *member;
	const char *key;

	json_object_foreach((json_t *)in, key, member) {
		if (has_part(r, s, key, 0))
			continue;
		names_list(r, s, names, 0, sizeof(names), 0);
		return fail(r, "there is no field \"%.40s\" among %s", key, names);
	}
	return 0;
}

static int part_read(struct reader *r, const struct btf_part *part, const json_t *in, uint8_t *data)
{
	struct btf_shaped s = btf_shape(r->btf, part->type, part->name);
	uint64_t value;
	int res;

	if (!part->bits)
		return value_read(r, part->type, part->name, in, data + part->bit / 8, s.size);
	if (s.shape != BTF_SHAPE_ENUM && !(s.t && btf_is_int(s.t)))
		return fail(r, "a bit-field of a type that has no bits");
	res = bits_read(r, &s, in, part->bits, &value);
	if (!res)
		btf_bits_write(data, part->bit, part->bits, value);
	return res;
}

/*
 * Members of a union share bytes: what comes out has them all, so what goes in may; but they must
 * say the same. `from` is what the members before have written.
 */
static int union_merge(struct reader *r, uint8_t *data, size_t *written, const uint8_t *from,
		       size_t size)
{
	size_t both = size < *written ? size : *written;

	if (memcmp(data, from, both))
		return fail(r, "contradicts another member of the same union: give one of them");
	if (size > *written) {
		memcpy(data + *written, from + *written, size - *written);
		*written = size;
	}
	return 0;
}

static int parts_read(struct reader *r, const struct btf_shaped *s, const json_t *in, uint8_t *data,
		      bool *any);

/* One member, named in `in` or with members that are. *any: something was. */
static int member_read(struct reader *r, const struct btf_shaped *s, size_t i, const json_t *in,
		       uint8_t *data, size_t *size, bool *any)
{
	struct btf_part part;
	struct btf_shaped of;
	const json_t *value;

	if (r->values++ >= BTF_VALUES_MAX || !btf_part(r->btf, s, i, &part))
		return fail(r, "its type contradicts itself, or has too many members");
	of = btf_shape(r->btf, part.type, part.name);
	*size = part.bits ? (part.bit + part.bits + 7) / 8 : of.size;
	if (!*part.name) {
		if (part.bits || !of.t || !btf_is_composite(of.t))
			return 0;
		return parts_read(r, &of, in, data + part.bit / 8, any);
	}
	value = json_object_get(in, part.name);
	if (!value)
		return 0;
	*any = true;
	size_t before = path_push(r, ".%s", part.name);
	int res = part_read(r, &part, value, data);

	if (!res)
		path_pop(r, before);
	return res;
}

static int union_read(struct reader *r, const struct btf_shaped *s, const json_t *in, uint8_t *data,
		      bool *any)
{
	uint8_t *one = calloc(1, s->size + 1);
	size_t written = 0;
	int res = one ? 0 : -ENOMEM;

	for (size_t i = 0; !res && i < btf_parts(s->t); i++) {
		bool this = false;
		size_t size = 0;

		memset(one, 0, s->size);
		res = member_read(r, s, i, in, one, &size, &this);
		if (!res && this)
			res = union_merge(r, data, &written, one, size);
		*any |= this;
	}
	free(one);
	return res;
}

/* The members of a struct; of an anonymous one `in` is its parent's. */
static int parts_read(struct reader *r, const struct btf_shaped *s, const json_t *in, uint8_t *data,
		      bool *any)
{
	int res = 0;

	if (r->depth >= BTF_DEPTH_MAX || r->values++ >= BTF_VALUES_MAX)
		return fail(r, "its type is nested too deeply");
	r->depth++;
	if (btf_is_union(s->t))
		res = union_read(r, s, in, data, any);
	for (size_t i = 0; !res && !btf_is_union(s->t) && i < btf_parts(s->t); i++) {
		size_t size;

		res = member_read(r, s, i, in, data, &size, any);
	}
	r->depth--;
	return res;
}

static int object_read(struct reader *r, const struct btf_shaped *s, const json_t *in,
		       uint8_t *data)
{
	bool any = false;
	int res;

	if (!json_is_object(in)) {
		char names[LIST_MAX] = "", buf[64];

		names_list(r, s, names, 0, sizeof(names), 0);
		return fail(r, "expected an object of %s, found %s", names, found(in, buf));
	}
	if (s->shape != BTF_SHAPE_SECTION)
		memset(data, 0, s->size);
	res = names_check(r, s, in);
	return res ? res : parts_read(r, s, in, data, &any);
}

static int shaped_read(struct reader *r, const struct btf_shaped *s, const char *name,
		       const json_t *in, uint8_t *data)
{
	uint64_t value;
	int res;

	switch (s->shape) {
	case BTF_SHAPE_NUMBER:
		if (s->size == 16)
			return wide_read(r, in, data);
		__attribute__((fallthrough));
	case BTF_SHAPE_BOOL:
	case BTF_SHAPE_ENUM:
		res = bits_read(r, s, in, (unsigned int)s->size * 8, &value);
		if (!res)
			btf_bits_write(data, 0, (unsigned int)s->size * 8, value);
		return res;
	case BTF_SHAPE_NETWORK:
		return network_read(r, in, data, s->size);
	case BTF_SHAPE_FLOAT:
		return float_read(r, in, data, s->size);
	case BTF_SHAPE_POINTER:
		return pointer_read(r, in, data, s->size);
	case BTF_SHAPE_ADDR4:
	case BTF_SHAPE_ADDR6:
	case BTF_SHAPE_ADDR:
		return address_read(r, s->shape, in, data);
	case BTF_SHAPE_PREFIX:
		return prefix_read(r, s, in, data);
	case BTF_SHAPE_MAC:
		return mac_read(r, in, data);
	case BTF_SHAPE_TEXT:
	case BTF_SHAPE_ARRAY:
		return array_read(r, s, name, in, data);
	case BTF_SHAPE_STRUCT:
	case BTF_SHAPE_UNION:
	case BTF_SHAPE_SECTION:
		return object_read(r, s, in, data);
	case BTF_SHAPE_BAD:
		break;
	}
	return fail(r, "its type has no form that could be read");
}

static int value_read(struct reader *r, uint32_t type, const char *name, const json_t *in,
		      uint8_t *data, size_t size)
{
	struct btf_shaped s = btf_shape(r->btf, type, name);
	int res;

	if (s.shape == BTF_SHAPE_BAD || s.size > size)
		return fail(r, "its type does not fit the %zu bytes that there are", size);
	if (r->depth >= BTF_DEPTH_MAX || r->values++ >= BTF_VALUES_MAX)
		return fail(r, "its type is nested too deeply");
	r->depth++;
	res = shaped_read(r, &s, name, in, data);
	r->depth--;
	return res;
}

int btf_value_parse(const struct btf *btf, uint32_t type, const json_t *in, void *data, size_t size,
		    const char *name, char *err, size_t err_len)
{
	struct reader r = { .btf = btf, .err = err, .err_len = err_len };

	path_push(&r, "%s", name);
	return value_read(&r, type, NULL, in, data, size);
}

/* ---- without a type ----------------------------------------------------------------------------- */

int btf_hex_parse(const json_t *in, void *data, size_t size, const char *name, char *err,
		  size_t err_len)
{
	struct reader r = { .err = err, .err_len = err_len };
	const char *text = json_string_value(in);
	uint8_t *p = data;
	size_t n = 0;

	path_push(&r, "%s", name);
	for (; text && *text; text++) {
		unsigned int byte;

		if (*text == ' ')
			continue;
		if (!isxdigit((unsigned char)text[0]) || !isxdigit((unsigned char)text[1]))
			break;
		sscanf(text, "%2x", &byte);
		if (n < size)
			p[n] = (uint8_t)byte;
		n++;
		text++;
	}
	if (!text || *text || !n)
		return fail_found(&r, "bytes like \"0a 00 00 01\", as the map has no BTF", in);
	if (n != size)
		return fail(&r, "expected %zu bytes, found %zu", size, n);
	return 0;
}
