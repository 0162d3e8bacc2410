/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Values by types of BTF: out, in, added up; and types that no compiler makes. */
#include <bpf/btf.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

#include "btf_value.h"

/* ---- a small world of types ------------------------------------------------------------------- */

struct types {
	struct btf *btf;
	int u8, u16, u32, u64, s32, chr, yes, f64, f32, u128;
	int be16, be32, state, flags;
};

static int added(int id)
{
	assert_true(id > 0);
	return id;
}

static int setup(void **state)
{
	struct types *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->btf = btf__new_empty();
	assert_non_null(t->btf);
	t->u8 = added(btf__add_int(t->btf, "unsigned char", 1, 0));
	t->u16 = added(btf__add_int(t->btf, "unsigned short", 2, 0));
	t->u32 = added(btf__add_int(t->btf, "unsigned int", 4, 0));
	t->u64 = added(btf__add_int(t->btf, "unsigned long", 8, 0));
	t->s32 = added(btf__add_int(t->btf, "int", 4, BTF_INT_SIGNED));
	t->chr = added(btf__add_int(t->btf, "char", 1, BTF_INT_SIGNED));
	t->yes = added(btf__add_int(t->btf, "_Bool", 1, BTF_INT_BOOL));
	t->u128 = added(btf__add_int(t->btf, "unsigned __int128", 16, 0));
	t->f64 = added(btf__add_float(t->btf, "double", 8));
	t->f32 = added(btf__add_float(t->btf, "float", 4));
	t->be16 = added(btf__add_typedef(t->btf, "__be16", t->u16));
	t->be32 = added(btf__add_typedef(t->btf, "__be32", t->u32));
	t->state = added(btf__add_enum(t->btf, "state", 4));
	assert_int_equal(btf__add_enum_value(t->btf, "NEW", 0), 0);
	assert_int_equal(btf__add_enum_value(t->btf, "OPEN", 3), 0);
	t->flags = added(btf__add_enum64(t->btf, "wide", 8, false));
	assert_int_equal(btf__add_enum64_value(t->btf, "TOP", 1ull << 63), 0);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct types *t = *state;

	btf__free(t->btf);
	free(t);
	return 0;
}

static int array_of(struct types *t, int type, uint32_t n)
{
	return added(btf__add_array(t->btf, t->u32, type, n));
}

struct field {
	const char *name;
	int type;
	unsigned int bit, bits;
};

static int composite(struct types *t, bool is_union, const char *name, uint32_t size,
		     const struct field *fields, size_t n)
{
	int id = added(is_union ? btf__add_union(t->btf, name, size)
				: btf__add_struct(t->btf, name, size));

	for (size_t i = 0; i < n; i++)
		assert_int_equal(btf__add_field(t->btf, fields[i].name, fields[i].type,
						fields[i].bit, fields[i].bits),
				 0);
	return id;
}

#define STRUCT(t, name, size, ...)                                                                 \
	composite(t, false, name, size, (const struct field[]){ __VA_ARGS__ },                     \
		  sizeof((const struct field[]){ __VA_ARGS__ }) / sizeof(struct field))
#define UNION(t, name, size, ...)                                                                  \
	composite(t, true, name, size, (const struct field[]){ __VA_ARGS__ },                      \
		  sizeof((const struct field[]){ __VA_ARGS__ }) / sizeof(struct field))

/* ---- checks ----------------------------------------------------------------------------------- */

static char *shown(struct types *t, int type, const void *data, size_t size)
{
	json_t *json;

	assert_int_equal(btf_value_json(t->btf, (uint32_t)type, data, size, &json), 0);
	char *text = json_dumps(json, JSON_ENCODE_ANY | JSON_COMPACT);

	assert_non_null(text);
	json_decref(json);
	return text;
}

static void assert_shown(struct types *t, int type, const void *data, size_t size,
			 const char *expected)
{
	char *text = shown(t, type, data, size);

	assert_string_equal(text, expected);
	free(text);
}

static int parse(struct types *t, int type, const char *text, void *data, size_t size,
		 char err[512])
{
	json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);

	assert_non_null(json);
	*err = '\0';
	int res = btf_value_parse(t->btf, (uint32_t)type, json, data, size, "value", err, 512);

	json_decref(json);
	return res;
}

/* The bytes are shown as the text, and the text makes the bytes. */
static void assert_both(struct types *t, int type, const void *data, size_t size, const char *text)
{
	uint8_t again[256] = {};
	char err[512];

	assert_true(size <= sizeof(again));
	assert_shown(t, type, data, size, text);
	assert_int_equal(parse(t, type, text, again, size, err), 0);
	assert_memory_equal(again, data, size);
}

static void assert_refused(struct types *t, int type, size_t size, const char *text,
			   const char *sentence)
{
	uint8_t data[256] = {};
	char err[512];

	assert_true(size <= sizeof(data));
	assert_int_equal(parse(t, type, text, data, size, err), -EINVAL);
	assert_string_equal(err, sentence);
}

/* ---- forms ------------------------------------------------------------------------------------ */

static void test_numbers(void **state)
{
	struct types *t = *state;
	uint64_t top = UINT64_MAX;
	uint32_t all = UINT32_MAX;
	int32_t below = INT32_MIN;
	double half = 0.5;
	float quarter = 0.25f;

	assert_both(t, t->u64, &top, 8, "\"18446744073709551615\"");
	assert_both(t, t->u32, &all, 4, "4294967295");
	assert_both(t, t->s32, &below, 4, "-2147483648");
	assert_both(t, t->f64, &half, 8, "0.5");
	assert_both(t, t->f32, &quarter, 4, "0.25");
	assert_both(t, t->u128, "\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0", 16,
		    "\"0x00000000000000020000000000000001\"");
	assert_both(t, t->yes, "\1", 1, "true");
	assert_shown(t, t->yes, "\2", 1, "2");
	assert_both(t, t->be16, "\0\120", 2, "80");
	assert_both(t, t->be32, "\12\0\0\1", 4, "\"10.0.0.1\"");
	assert_both(t, t->state, "\3\0\0", 4, "\"OPEN\"");
	assert_both(t, t->state, "\4\0\0", 4, "4");
	assert_both(t, t->flags, "\0\0\0\0\0\0\0\200", 8, "\"TOP\"");
	assert_refused(
		t, t->s32, 4, "-2147483649",
		"value: expected a number from -2147483648 to 2147483647, found -2147483649");
	assert_refused(t, t->u8, 1, "\"0x100\"",
		       "value: expected a number from 0 to 255, found \"0x100\"");
	assert_refused(t, t->u8, 1, "\"5x\"",
		       "value: expected a number from 0 to 255, found \"5x\"");
	assert_refused(t, t->u8, 1, "[]", "value: expected a number from 0 to 255, found []");
	assert_refused(t, t->f64, 8, "\"x\"", "value: expected a number, found \"x\"");
	assert_refused(t, t->state, 4, "\"CLOSED\"",
		       "value: expected one of NEW, OPEN, or a number, found \"CLOSED\"");
}

static void test_addresses_by_name(void **state)
{
	struct types *t = *state;
	int bytes4 = array_of(t, t->u8, 4), bytes16 = array_of(t, t->u8, 16),
	    bytes6 = array_of(t, t->u8, 6), words4 = array_of(t, t->be32, 4);
	int s = STRUCT(t, "ends", 64, { "src_ip", t->u32, 0, 0 }, { "ip_count", t->u32, 32, 0 },
		       { "daddr", bytes4, 64, 0 }, { "word", bytes4, 96, 0 },
		       { "ip6_dst", bytes16, 128, 0 }, { "src_mac", bytes6, 256, 0 },
		       { "bits", bytes6, 304, 0 }, { "addr6", words4, 352, 0 },
		       { "th_seq", t->be32, 480, 0 });
	uint8_t data[80] = { 10,   0,	 0,    1, 5, 0, 0, 0, 10, 0, 0, 2, 1,	 2, 3, 4,
			     0xfd, 0,	 0,    0, 0, 0, 0, 0, 0,  0, 0, 0, 0,	 0, 0, 1,
			     2,	   0x54, 0x57, 0, 0, 1, 1, 2, 3,  4, 5, 6, 0xfd, 0, 0, 0,
			     0,	   0,	 0,    0, 0, 0, 0, 0, 0,  0, 0, 2, 0,	 0, 1, 0 };

	assert_both(
		t, s, data, 64,
		"{\"src_ip\":\"10.0.0.1\",\"ip_count\":5,\"daddr\":\"10.0.0.2\",\"word\":[1,2,3,"
		"4],\"ip6_dst\":\"fd00::1\",\"src_mac\":\"02:54:57:00:00:01\",\"bits\":[1,2,3,4,"
		"5,6],\"addr6\":\"fd00::2\",\"th_seq\":256}");
}

static void test_addresses_by_type(void **state)
{
	struct types *t = *state;
	int words = array_of(t, t->u32, 4), list = array_of(t, t->be32, 2);
	int in6 = STRUCT(t, "in6_addr", 16, { "u6_addr32", words, 0, 0 });
	int tw = UNION(t, "tw_addr", 16, { "word", words, 0, 0 });
	int prefix = STRUCT(t, "p4", 8, { "prefixlen", t->u32, 0, 0 }, { "data", t->u32, 32, 0 });
	int prefix6 = STRUCT(t, "p6", 20, { "prefixlen", t->u32, 0, 0 }, { "x", in6, 32, 0 });
	static const uint8_t mapped[16] = { [10] = 0xff, 0xff, 10, 0, 0, 1 };

	assert_both(t, in6, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16, "\"fd00::1\"");
	assert_both(t, tw, mapped, 16, "\"10.0.0.1\"");
	assert_both(t, tw, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16, "\"fd00::1\"");
	assert_both(t, list, "\12\0\0\1\12\0\0\2", 8, "[\"10.0.0.1\",\"10.0.0.2\"]");
	assert_both(t, prefix, "\10\0\0\0\12\0\0\0", 8, "\"10.0.0.0/8\"");
	assert_both(t, prefix6, "\40\0\0\0\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0", 20,
		    "\"2001:db8::/32\"");
	/* A length that is none: both members are told. */
	assert_both(t, prefix, "\41\0\0\0\12\0\0\0", 8, "{\"prefixlen\":33,\"data\":10}");
	assert_refused(t, tw, 16, "\"10.0.0\"",
		       "value: expected an IPv4 or IPv6 address, found \"10.0.0\"");
	assert_refused(t, prefix, 8, "{\"length\":1}",
		       "value: there is no field \"length\" among prefixlen, data");
}

static void test_texts(void **state)
{
	struct types *t = *state;
	int text = array_of(t, t->chr, 4);

	assert_both(t, text, "ab\0", 4, "\"ab\"");
	assert_both(t, text, "abcd", 4, "\"abcd\"");
	assert_both(t, text, "\0\0\0", 4, "\"\"");
	assert_both(t, text, "a\0b", 4, "[97,0,98,0]");
	assert_both(t, text, "\xff\0\0", 4, "[-1,0,0,0]");
	assert_refused(t, text, 4, "\"abcde\"",
		       "value: a text of 5 bytes does not fit into the 4 that there are");
	assert_refused(t, text, 4, "[1,2]", "value: expected 4 elements, found 2");
}

static void test_bit_fields(void **state)
{
	struct types *t = *state;
	int s = STRUCT(t, "bits", 8, { "a", t->u32, 0, 3 }, { "b", t->s32, 3, 5 },
		       { "c", t->u32, 8, 20 }, { "d", t->state, 28, 4 }, { "", t->u32, 32, 8 },
		       { "e", t->u64, 40, 24 });

	assert_both(t, s, "\xfd\xff\xff\x3f\0\1\0\0", 8,
		    "{\"a\":5,\"b\":-1,\"c\":1048575,\"d\":\"OPEN\",\"e\":1}");
	assert_refused(t, s, 8, "{\"b\":-17}",
		       "value.b: expected a number from -16 to 15, found -17");
}

static void test_anonymous_members(void **state)
{
	struct types *t = *state;
	int pair = STRUCT(t, NULL, 8, { "first", t->u32, 0, 0 }, { "second", t->u32, 32, 0 });
	int both = UNION(t, NULL, 8, { "all", t->u64, 0, 0 }, { NULL, pair, 0, 0 });
	int s = STRUCT(t, "outer", 16, { "before", t->u64, 0, 0 }, { NULL, both, 64, 0 });
	uint8_t data[16] = {};
	char err[512];

	assert_both(t, s, "\1\0\0\0\0\0\0\0\2\0\0\0\3\0\0", 16,
		    "{\"before\":1,\"all\":12884901890,\"first\":2,\"second\":3}");
	assert_int_equal(parse(t, s, "{\"second\":3}", data, 16, err), 0);
	assert_memory_equal(data, "\0\0\0\0\0\0\0\0\0\0\0\0\3\0\0", 16);
	assert_refused(t, s, 16, "{\"all\":1,\"second\":3}",
		       "value: contradicts another member of the same union: give one of them");
	assert_refused(t, s, 16, "{\"third\":3}",
		       "value: there is no field \"third\" among before, all, first, second");
}

static void test_sections(void **state)
{
	struct types *t = *state;
	int one = added(btf__add_var(t->btf, "one", BTF_VAR_STATIC, t->u32));
	int two = added(btf__add_var(t->btf, "two", BTF_VAR_STATIC, t->u16));
	int sec = added(btf__add_datasec(t->btf, ".data", 8));
	uint8_t data[8] = { 1, 0, 0, 0, 2, 0, 7, 7 };
	char err[512];

	assert_int_equal(btf__add_datasec_var_info(t->btf, one, 0, 4), 0);
	assert_int_equal(btf__add_datasec_var_info(t->btf, two, 4, 2), 0);
	assert_shown(t, sec, data, 8, "{\"one\":1,\"two\":2}");
	assert_int_equal(parse(t, sec, "{\"two\":9}", data, 8, err), 0);
	assert_memory_equal(data, "\1\0\0\0\11\0\7\7", 8);
}

static void test_sums(void **state)
{
	struct types *t = *state;
	int list = array_of(t, t->u16, 2);
	int s = STRUCT(t, "sum", 40, { "packets", t->u64, 0, 0 }, { "list", list, 64, 0 },
		       { "daddr", t->be32, 96, 0 }, { "a", t->u32, 128, 12 },
		       { "state", t->state, 160, 0 }, { "f", t->f64, 192, 0 },
		       { "below", t->s32, 256, 0 });
	uint8_t sum[40] = { 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 255, 255, 0, 0, 0, 0, 255, 15, 0, 0, 3 };
	uint8_t more[40] = { 255, 1, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 10, 0, 0, 1, 2, 0, 0, 0, 1 };
	double half = 0.5;
	int32_t minus = -4;

	memcpy(sum + 24, &half, 8);
	memcpy(more + 24, &half, 8);
	memcpy(more + 32, &minus, 4);
	assert_int_equal(btf_value_sum(t->btf, (uint32_t)s, sum, more, 40), 0);
	assert_shown(
		t, s, sum, 40,
		"{\"packets\":512,\"list\":[3,0],\"daddr\":\"10.0.0.1\",\"a\":1,\"state\":\"OPEN\","
		"\"f\":1.0,\"below\":-4}");
	assert_int_equal(btf_value_sum(t->btf, (uint32_t)t->u128, memset(sum, 0xff, 16),
				       memset(more, 0xff, 16), 16),
			 0);
	assert_memory_equal(sum, "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
			    16);
}

/* ---- what no compiler makes ------------------------------------------------------------------- */

static void assert_bad(struct types *t, int type, size_t size, int error)
{
	uint8_t data[64] = {}, more[64] = {};
	json_t *json = NULL;

	assert_int_equal(btf_value_json(t->btf, (uint32_t)type, data, size, &json), error);
	assert_null(json);
	assert_int_equal(btf_value_sum(t->btf, (uint32_t)type, data, more, size), error);
}

static void test_types_that_are_none(void **state)
{
	struct types *t = *state;
	int fwd = added(btf__add_fwd(t->btf, "fwd", BTF_FWD_STRUCT));
	int s = STRUCT(t, "short", 4, { "in", t->u32, 0, 0 });

	assert_bad(t, 0, 8, -EINVAL);
	assert_bad(t, 100000, 8, -EINVAL);
	assert_bad(t, fwd, 8, -EINVAL);
	assert_bad(t, t->u64, 4, -EINVAL);
	assert_bad(t, s, 3, -EINVAL);
	assert_refused(t, 100000, 8, "1",
		       "value: its type does not fit the 8 bytes that there are");
	assert_refused(t, t->u64, 4, "1",
		       "value: its type does not fit the 4 bytes that there are");
}

static void test_members_outside(void **state)
{
	struct types *t = *state;

	assert_bad(t, STRUCT(t, "s", 4, { "m", t->u32, 8, 0 }), 4, -EINVAL);
	assert_bad(t, STRUCT(t, "s", 4, { "m", t->u32, 31, 2 }), 4, -EINVAL);
	assert_bad(t, STRUCT(t, "s", 4, { "m", t->u32, 0xfffff8, 0 }), 4, -EINVAL);
	assert_bad(t, STRUCT(t, "s", 4, { "m", t->f32, 0, 4 }), 4,
		   -EINVAL); /* bits of what has none */
}

static void test_cycles(void **state)
{
	struct types *t = *state;
	int id = (int)btf__type_cnt(t->btf);
	int self = STRUCT(t, "self", 8, { "self", id, 0, 0 }, { "n", t->u32, 32, 0 });
	int loop = added(btf__add_typedef(t->btf, "loop", id + 1));

	assert_int_equal(self, id);
	assert_int_equal(loop, id + 1);
	/* By value and without a name, twice: 2^32 paths. */
	int anon = id + 2;
	int wide = STRUCT(t, NULL, 8, { NULL, anon, 0, 0 }, { NULL, anon, 0, 0 });

	assert_int_equal(wide, anon);
	assert_bad(t, self, 8, -EINVAL);
	assert_bad(t, loop, 8, -EINVAL);
	assert_bad(t, wide, 8, -EINVAL);
	char err[512];
	uint8_t data[8] = {};

	assert_int_equal(parse(t, self, "{\"self\":{\"self\":{}}}", data, 8, err), 0);
	assert_int_equal(parse(t, wide, "{\"x\":1}", data, 8, err), -EINVAL);
	assert_int_equal(parse(t, wide, "{}", data, 8, err), -EINVAL);
}

static void test_many(void **state)
{
	struct types *t = *state;
	int empty = STRUCT(t, "empty", 0, { NULL, t->u32, 0, 0 });
	int none = added(btf__add_struct(t->btf, "none", 0));
	int nothing = array_of(t, none, UINT32_MAX);
	int huge = array_of(t, array_of(t, t->u64, 1u << 31), 1u << 31);
	int many = array_of(t, t->u8, BTF_VALUES_MAX + 1);
	uint8_t *data = calloc(2, BTF_VALUES_MAX + 1);
	json_t *json;

	assert_non_null(data);
	assert_bad(t, empty, 8, -EINVAL);
	assert_bad(t, huge, 8, -EINVAL);
	assert_shown(t, nothing, data, 0, "[]");
	assert_int_equal(btf_value_json(t->btf, (uint32_t)many, data, BTF_VALUES_MAX + 1, &json),
			 -E2BIG);
	free(data);
}

static void test_hex(void **state)
{
	json_t *out = btf_hex_json("\0\12\377", 3), *in;
	uint8_t data[3];
	char err[512];

	assert_string_equal(json_string_value(out), "00 0a ff");
	assert_int_equal(btf_hex_parse(out, data, 3, "key", err, sizeof(err)), 0);
	assert_memory_equal(data, "\0\12\377", 3);
	assert_int_equal(btf_hex_parse(out, data, 2, "key", err, sizeof(err)), -EINVAL);
	assert_string_equal(err, "key: expected 2 bytes, found 3");
	in = json_string("0af");
	assert_int_equal(btf_hex_parse(in, data, 2, "key", err, sizeof(err)), -EINVAL);
	json_decref(in);
	json_decref(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_numbers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_addresses_by_name, setup, teardown),
		cmocka_unit_test_setup_teardown(test_addresses_by_type, setup, teardown),
		cmocka_unit_test_setup_teardown(test_texts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bit_fields, setup, teardown),
		cmocka_unit_test_setup_teardown(test_anonymous_members, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sections, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sums, setup, teardown),
		cmocka_unit_test_setup_teardown(test_types_that_are_none, setup, teardown),
		cmocka_unit_test_setup_teardown(test_members_outside, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cycles, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
		cmocka_unit_test(test_hex),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
