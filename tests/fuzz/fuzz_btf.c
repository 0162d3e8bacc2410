// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * libFuzzer: types that a user's object may bring along, and values of them. An input is the BTF's
 * section of types, behind 32 bytes that are the value; names are those of NAMES, by their offsets.
 * Whatever comes, nothing is touched outside the value, and what is refused has a sentence.
 */
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <string.h>

#include "btf_value.h"
#include "fuzz.h"

#define VALUE_LEN 32u
#define TYPES_MAX 64u

static const char NAMES[] =
	"\0a\0saddr\0prefixlen\0__be32\0__be16\0char\0in6_addr\0tw_addr\0mac\0b\0";

static int quiet(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	return 0;
}

static struct btf *types_make(const uint8_t *data, size_t size)
{
	struct btf_header head = {
		.magic = BTF_MAGIC,
		.version = BTF_VERSION,
		.hdr_len = sizeof(head),
		.type_len = (uint32_t)(size & ~(size_t)3),
		.str_off = (uint32_t)(size & ~(size_t)3),
		.str_len = sizeof(NAMES),
	};
	size_t len = sizeof(head) + head.type_len + sizeof(NAMES);
	uint8_t *raw = malloc(len);

	fuzz_check(raw);
	memcpy(raw, &head, sizeof(head));
	memcpy(raw + sizeof(head), data, head.type_len);
	memcpy(raw + sizeof(head) + head.type_len, NAMES, sizeof(NAMES));
	struct btf *btf = btf__new(raw, (uint32_t)len);

	free(raw);
	return btf;
}

static void type_try(const struct btf *btf, uint32_t id, const uint8_t *value)
{
	/* Exactly as long as it is, so that the sanitizer sees a byte beyond. */
	uint8_t *data = malloc(VALUE_LEN), *again = calloc(1, VALUE_LEN);
	char err[512] = "";
	json_t *json = NULL;

	fuzz_check(data && again);
	memcpy(data, value, VALUE_LEN);
	int res = btf_value_json(btf, id, data, VALUE_LEN, &json);

	fuzz_check(!res == !!json);
	fuzz_check(!memcmp(data, value, VALUE_LEN));
	if (!res && btf_value_parse(btf, id, json, again, VALUE_LEN, "value", err, sizeof(err)))
		fuzz_check(!strncmp(err, "value", 5));
	btf_value_sum(btf, id, data, value, VALUE_LEN);
	json_decref(json);
	free(data);
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < VALUE_LEN)
		return 0;
	libbpf_set_print(quiet);
	struct btf *btf = types_make(data + VALUE_LEN, size - VALUE_LEN);

	for (uint32_t id = 0; btf && id < btf__type_cnt(btf) && id < TYPES_MAX; id++)
		type_try(btf, id, data);
	btf__free(btf);
	return 0;
}
