/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "btf_value.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "btf_shape.h"

struct walk {
	const struct btf *btf;
	unsigned int depth;
	unsigned int values;
};

static int walk_enter(struct walk *w)
{
	if (w->depth >= BTF_DEPTH_MAX)
		return -EINVAL;
	if (w->values >= BTF_VALUES_MAX)
		return -E2BIG;
	w->depth++;
	w->values++;
	return 0;
}

/* ---- to JSON ---------------------------------------------------------------------------------- */

static int value_print(struct walk *w, uint32_t type, const char *name, const uint8_t *data,
		       size_t size, json_t **out);

static int print_done(json_t *value, json_t **out)
{
	if (!value)
		return -ENOMEM;
	*out = value;
	return 0;
}

static json_t *number_json(uint64_t value, bool is_signed)
{
	char text[24];

	if (is_signed || value <= INT64_MAX)
		return json_integer((json_int_t)value);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return json_string(text);
}

/* Bits of a number that has a sign, as 64. */
static uint64_t sign_extend(uint64_t value, unsigned int bits)
{
	return bits < 64 && value >> (bits - 1) & 1 ? value | ~0ull << bits : value;
}

static json_t *wide_json(const uint8_t data[16])
{
	uint64_t half[2];
	char text[40];

	memcpy(half, data, sizeof(half));
	bool little = __BYTE_ORDER == __LITTLE_ENDIAN;
	snprintf(text, sizeof(text), "0x%016llx%016llx", (unsigned long long)half[little],
		 (unsigned long long)half[!little]);
	return json_string(text);
}

static json_t *bits_json(const struct btf *btf, const struct btf_shaped *s, uint64_t value,
			 unsigned int bits)
{
	bool is_signed = s->shape == BTF_SHAPE_ENUM ? btf_enum_signed(s->t)
						    : btf_int_encoding(s->t) & BTF_INT_SIGNED;
	const char *name = NULL;

	if (is_signed)
		value = sign_extend(value, bits);
	if (s->shape == BTF_SHAPE_ENUM)
		name = btf_enum_name(btf, s->t, (int64_t)value);
	if (name && *name)
		return json_string(name);
	if (s->shape == BTF_SHAPE_BOOL && value <= 1)
		return json_boolean(value);
	return number_json(value, is_signed);
}

static uint64_t network_read(const uint8_t *data, size_t size)
{
	uint64_t value = 0;

	for (size_t i = 0; i < size; i++)
		value = value << 8 | data[i];
	return value;
}

static json_t *address_json(int family, const uint8_t *data, int prefixlen)
{
	char text[INET6_ADDRSTRLEN + 8];

	if (!inet_ntop(family, data, text, sizeof(text)))
		return NULL;
	if (prefixlen >= 0) {
		size_t n = strlen(text);

		snprintf(text + n, sizeof(text) - n, "/%d", prefixlen);
	}
	return json_string(text);
}

static json_t *mapped_json(const uint8_t *data)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	return memcmp(data, mapped, 12) ? address_json(AF_INET6, data, -1)
					: address_json(AF_INET, data + 12, -1);
}

static json_t *mac_json(const uint8_t *d)
{
	char text[18];

	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", d[0], d[1], d[2], d[3], d[4],
		 d[5]);
	return json_string(text);
}

static json_t *float_json(const uint8_t *data, size_t size)
{
	double d;
	float f;

	memcpy(&d, data, size == 8 ? 8 : 0);
	memcpy(&f, data, size == 4 ? 4 : 0);
	/* JSON has no infinity. */
	json_t *value = json_real(size == 8 ? d : (double)f);
	return value ? value : json_null();
}

/* The text of an array of char; NULL: it is none, so that its bytes are told. */
static json_t *text_json(const uint8_t *data, size_t size)
{
	size_t len = strnlen((const char *)data, size);

	for (size_t i = len; i < size; i++)
		if (data[i])
			return NULL;
	return json_stringn((const char *)data, len); /* NULL, too, when it is no UTF-8 */
}

static int array_print(struct walk *w, const struct btf_shaped *s, const char *name,
		       const uint8_t *data, json_t **out)
{
	const struct btf_array *a = btf_array(s->t);
	size_t each = a->nelems ? s->size / a->nelems : 0;
	json_t *list = json_array();
	int res = list ? 0 : -ENOMEM;

	/* Elements without a size say nothing, however many there are. */
	for (uint32_t i = 0; !res && each && i < a->nelems; i++) {
		json_t *element;

		res = value_print(w, a->type, name, data + i * each, each, &element);
		if (!res && json_array_append_new(list, element))
			res = -ENOMEM;
	}
	if (res)
		json_decref(list);
	else
		*out = list;
	return res;
}

/* Whether bits of such a type mean anything. */
static bool has_bits(const struct btf_shaped *s)
{
	return s->shape == BTF_SHAPE_ENUM || (s->t && btf_is_int(s->t));
}

static int part_print(struct walk *w, const struct btf_part *part, const uint8_t *data,
		      json_t **out)
{
	struct btf_shaped s = btf_shape(w->btf, part->type, part->name);

	if (!part->bits)
		return value_print(w, part->type, part->name, data + part->bit / 8, s.size, out);
	if (!has_bits(&s))
		return -EINVAL;
	return print_done(
		bits_json(w->btf, &s, btf_bits_read(data, part->bit, part->bits), part->bits), out);
}

static bool is_anonymous(const struct btf *btf, const struct btf_part *part)
{
	struct btf_shaped s = btf_shape(btf, part->type, NULL);

	return !*part->name && s.t && btf_is_composite(s.t) && !part->bits;
}

static int parts_print(struct walk *w, const struct btf_shaped *s, const uint8_t *data,
		       json_t *object)
{
	for (size_t i = 0; i < btf_parts(s->t); i++) {
		struct btf_part part;
		json_t *value;
		int res;

		if (!btf_part(w->btf, s, i, &part))
			return -EINVAL;
		if (++w->values > BTF_VALUES_MAX)
			return -E2BIG;
		if (is_anonymous(w->btf, &part)) {
			struct btf_shaped in = btf_shape(w->btf, part.type, NULL);

			res = walk_enter(w);
			if (!res)
				res = parts_print(w, &in, data + part.bit / 8, object);
			if (res)
				return res;
			w->depth--;
			continue;
		}
		if (!*part.name)
			continue; /* bits that are nobody's */
		res = part_print(w, &part, data, &value);
		if (res)
			return res;
		if (json_object_set_new(object, part.name, value))
			return json_object_get(object, part.name) ? -ENOMEM
								  : -EINVAL; /* no UTF-8 */
	}
	return 0;
}

static int object_print(struct walk *w, const struct btf_shaped *s, const uint8_t *data,
			json_t **out)
{
	json_t *object = json_object();
	int res = object ? parts_print(w, s, data, object) : -ENOMEM;

	if (res)
		json_decref(object);
	else
		*out = object;
	return res;
}

static int prefix_print(struct walk *w, const struct btf_shaped *s, const uint8_t *data,
			json_t **out)
{
	uint32_t len;

	memcpy(&len, data, sizeof(len));
	if (len > (s->size - 4) * 8)
		return object_print(w, s, data, out);
	return print_done(address_json(s->size == 8 ? AF_INET : AF_INET6, data + 4, (int)len), out);
}

static int pointer_print(const uint8_t *data, size_t size, json_t **out)
{
	char text[24];

	snprintf(text, sizeof(text), "0x%llx",
		 (unsigned long long)btf_bits_read(data, 0, (unsigned int)size * 8));
	return print_done(json_string(text), out);
}

static int shaped_print(struct walk *w, const struct btf_shaped *s, const char *name,
			const uint8_t *data, json_t **out)
{
	json_t *text;

	switch (s->shape) {
	case BTF_SHAPE_NUMBER:
		if (s->size == 16)
			return print_done(wide_json(data), out);
		__attribute__((fallthrough));
	case BTF_SHAPE_BOOL:
	case BTF_SHAPE_ENUM: {
		unsigned int bits = (unsigned int)s->size * 8;

		return print_done(bits_json(w->btf, s, btf_bits_read(data, 0, bits), bits), out);
	}
	case BTF_SHAPE_NETWORK:
		return print_done(number_json(network_read(data, s->size), false), out);
	case BTF_SHAPE_FLOAT:
		return print_done(float_json(data, s->size), out);
	case BTF_SHAPE_POINTER:
		return pointer_print(data, s->size, out);
	case BTF_SHAPE_ADDR4:
		return print_done(address_json(AF_INET, data, -1), out);
	case BTF_SHAPE_ADDR6:
		return print_done(address_json(AF_INET6, data, -1), out);
	case BTF_SHAPE_ADDR:
		return print_done(mapped_json(data), out);
	case BTF_SHAPE_PREFIX:
		return prefix_print(w, s, data, out);
	case BTF_SHAPE_MAC:
		return print_done(mac_json(data), out);
	case BTF_SHAPE_TEXT:
		text = text_json(data, s->size);
		if (text)
			return print_done(text, out);
		__attribute__((fallthrough));
	case BTF_SHAPE_ARRAY:
		return array_print(w, s, name, data, out);
	case BTF_SHAPE_STRUCT:
	case BTF_SHAPE_UNION:
	case BTF_SHAPE_SECTION:
		return object_print(w, s, data, out);
	case BTF_SHAPE_BAD:
		break;
	}
	return -EINVAL;
}

static int value_print(struct walk *w, uint32_t type, const char *name, const uint8_t *data,
		       size_t size, json_t **out)
{
	struct btf_shaped s = btf_shape(w->btf, type, name);
	int res = walk_enter(w);

	if (res)
		return res;
	if (s.shape == BTF_SHAPE_BAD || s.size > size)
		return -EINVAL;
	res = shaped_print(w, &s, name, data, out);
	w->depth--;
	return res;
}

int btf_value_json(const struct btf *btf, uint32_t type, const void *data, size_t size,
		   json_t **out)
{
	struct walk w = { .btf = btf };

	return value_print(&w, type, NULL, data, size, out);
}

/* ---- sums ------------------------------------------------------------------------------------- */

static int value_sum(struct walk *w, uint32_t type, const char *name, uint8_t *sum,
		     const uint8_t *more, size_t size);

static bool is_zero(const uint8_t *data, size_t size)
{
	return !size || (!data[0] && !memcmp(data, data + 1, size - 1));
}

static void bits_sum(uint8_t *sum, const uint8_t *more, size_t bit, unsigned int bits)
{
	btf_bits_write(sum, bit, bits,
		       btf_bits_read(sum, bit, bits) + btf_bits_read(more, bit, bits));
}

static void wide_sum(uint8_t *sum, const uint8_t *more)
{
	unsigned __int128 a, b;

	memcpy(&a, sum, sizeof(a));
	memcpy(&b, more, sizeof(b));
	a += b;
	memcpy(sum, &a, sizeof(a));
}

static void float_sum(uint8_t *sum, const uint8_t *more, size_t size)
{
	double d[2];
	float f[2];

	if (size == 8) {
		memcpy(&d[0], sum, 8);
		memcpy(&d[1], more, 8);
		d[0] += d[1];
		memcpy(sum, &d[0], 8);
	} else {
		memcpy(&f[0], sum, 4);
		memcpy(&f[1], more, 4);
		f[0] += f[1];
		memcpy(sum, &f[0], 4);
	}
}

static int array_sum(struct walk *w, const struct btf_shaped *s, const char *name, uint8_t *sum,
		     const uint8_t *more)
{
	const struct btf_array *a = btf_array(s->t);
	size_t each = a->nelems ? s->size / a->nelems : 0;
	int res = 0;

	for (uint32_t i = 0; !res && each && i < a->nelems; i++)
		res = value_sum(w, a->type, name, sum + i * each, more + i * each, each);
	return res;
}

static int parts_sum(struct walk *w, const struct btf_shaped *s, uint8_t *sum, const uint8_t *more)
{
	for (size_t i = 0; i < btf_parts(s->t); i++) {
		struct btf_part part;
		struct btf_shaped in;
		int res = 0;

		if (!btf_part(w->btf, s, i, &part))
			return -EINVAL;
		if (++w->values > BTF_VALUES_MAX)
			return -E2BIG;
		in = btf_shape(w->btf, part.type, part.name);
		if (!part.bits)
			res = value_sum(w, part.type, part.name, sum + part.bit / 8,
					more + part.bit / 8, in.size);
		else if (!has_bits(&in))
			res = -EINVAL;
		else if (in.shape == BTF_SHAPE_NUMBER)
			bits_sum(sum, more, part.bit, part.bits);
		if (res)
			return res;
	}
	return 0;
}

static int value_sum(struct walk *w, uint32_t type, const char *name, uint8_t *sum,
		     const uint8_t *more, size_t size)
{
	struct btf_shaped s = btf_shape(w->btf, type, name);
	int res = walk_enter(w);

	if (res)
		return res;
	if (s.shape == BTF_SHAPE_BAD || s.size > size)
		return -EINVAL;
	switch (s.shape) {
	case BTF_SHAPE_NUMBER:
		if (s.size == 16)
			wide_sum(sum, more);
		else
			bits_sum(sum, more, 0, (unsigned int)s.size * 8);
		break;
	case BTF_SHAPE_FLOAT:
		float_sum(sum, more, s.size);
		break;
	case BTF_SHAPE_ARRAY:
		res = array_sum(w, &s, name, sum, more);
		break;
	case BTF_SHAPE_STRUCT:
	case BTF_SHAPE_SECTION:
		res = parts_sum(w, &s, sum, more);
		break;
	default:
		if (is_zero(sum, s.size))
			memcpy(sum, more, s.size);
	}
	w->depth--;
	return res;
}

int btf_value_sum(const struct btf *btf, uint32_t type, void *sum, const void *more, size_t size)
{
	struct walk w = { .btf = btf };

	return value_sum(&w, type, NULL, sum, more, size);
}

/* ---- without a type ----------------------------------------------------------------------------- */

json_t *btf_hex_json(const void *data, size_t size)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *p = data;
	char *text = malloc(size * 3 + 1), *at = text;

	if (!text)
		return NULL;
	for (size_t i = 0; i < size; i++) {
		if (i)
			*at++ = ' ';
		*at++ = digits[p[i] >> 4];
		*at++ = digits[p[i] & 15];
	}
	json_t *value = json_stringn(text, (size_t)(at - text));

	free(text);
	return value;
}
