/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Users' programs as far as no kernel is needed: base64, objects that are none, hooks by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base64.h"
#include "userprog_internal.h"

/* ---- base64 ------------------------------------------------------------------------------------ */

static void test_base64_rfc4648(void **state)
{
	static const struct {
		const char *bytes, *text;
	} pairs[] = { { "", "" },
		      { "f", "Zg==" },
		      { "fo", "Zm8=" },
		      { "foo", "Zm9v" },
		      { "foob", "Zm9vYg==" },
		      { "fooba", "Zm9vYmE=" },
		      { "foobar", "Zm9vYmFy" } };

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		char *text = base64_encode(pairs[i].bytes, strlen(pairs[i].bytes));
		void *bytes = NULL;
		size_t len = 0;

		assert_string_equal(text, pairs[i].text);
		assert_int_equal(base64_decode(text, strlen(text), &bytes, &len), 0);
		assert_int_equal(len, strlen(pairs[i].bytes));
		assert_memory_equal(bytes, pairs[i].bytes, len);
		free(bytes);
		free(text);
	}
}

static void test_base64_that_is_none(void **state)
{
	static const char *const wrong[] = { "Z",      "Zg",   "Zg=",  "Zg===",	  "====",
					     "Zm9v\n", "Zm9-", "Z=9v", "Zg==Zg==" };
	void *bytes = NULL;
	size_t len = 7;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(base64_decode(wrong[i], strlen(wrong[i]), &bytes, &len), -EINVAL);
	assert_null(bytes);
	assert_int_equal(len, 7);
}

static void test_base64_all_bytes(void **state)
{
	unsigned char in[256 + 1];
	void *out = NULL;
	size_t len = 0;

	for (size_t n = 0; n < sizeof(in); n++) {
		char *text;

		in[n] = (unsigned char)(n * 167 + 13);
		text = base64_encode(in, n);
		assert_int_equal(base64_decode(text, strlen(text), &out, &len), 0);
		assert_int_equal(len, n);
		assert_memory_equal(in, out, n);
		free(out);
		free(text);
	}
}

/* ---- objects ----------------------------------------------------------------------------------- */

static int check(const void *bytes, size_t len, char *err, size_t err_len)
{
	/* Of exactly that size, for the sanitizer to see a read behind it. */
	void *copy = malloc(len ? len : 1);
	int res;

	memcpy(copy, bytes, len);
	const struct userprog_file file = { "x.o", copy, len };
	*err = '\0';
	res = userprog_elf_check(&file, err, err_len);
	free(copy);
	return res;
}

/* A header whose section table is at the end of the file, or wherever. */
static void test_headers_that_point_anywhere(void **state)
{
	static const uint64_t offsets[] = { 0,	       1, 63, 64, 4096, UINT32_MAX, UINT64_MAX - 63,
					    UINT64_MAX };
	static const uint16_t counts[] = { 0, 1, 2, UINT16_MAX };
	char err[256];

	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		for (size_t j = 0; j < sizeof(counts) / sizeof(counts[0]); j++) {
			Elf64_Ehdr head = {
				.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
					     ELFDATA2LSB, EV_CURRENT },
				.e_type = ET_REL,
				.e_machine = EM_BPF,
				.e_shoff = offsets[i],
				.e_shentsize = sizeof(Elf64_Shdr),
				.e_shnum = counts[j],
				.e_shstrndx = counts[j] ? counts[j] - 1 : 0,
			};
			unsigned char file[sizeof(head) + 2 * sizeof(Elf64_Shdr)] = {};

			memcpy(file, &head, sizeof(head));
			assert_int_equal(check(file, sizeof(file), err, sizeof(err)), -EINVAL);
			assert_true(*err);
			for (size_t len = 0; len < sizeof(head); len++)
				assert_int_equal(check(file, len, err, sizeof(err)), -EINVAL);
		}
	}
}

static void test_sections_that_point_anywhere(void **state)
{
	static const uint64_t numbers[] = { 0,	       1, 64, 200, 400, UINT32_MAX, UINT64_MAX - 1,
					    UINT64_MAX };
	const size_t n = sizeof(numbers) / sizeof(numbers[0]);
	char err[256];

	for (size_t i = 0; i < n * n * n; i++) {
		struct {
			Elf64_Ehdr head;
			Elf64_Shdr section[3];
			char names[32];
		} file = {
			.head = {
				.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
					     ELFDATA2LSB, EV_CURRENT },
				.e_type = ET_REL,
				.e_machine = EM_BPF,
				.e_shoff = sizeof(Elf64_Ehdr),
				.e_shentsize = sizeof(Elf64_Shdr),
				.e_shnum = 3,
				.e_shstrndx = 1,
			},
			.section = {
				[1] = { .sh_type = SHT_STRTAB, .sh_offset = numbers[i % n],
					.sh_size = numbers[i / n % n] },
				[2] = { .sh_name = 1, .sh_type = SHT_PROGBITS,
					.sh_offset = numbers[i / n / n], .sh_size = 5 },
			},
			.names = "\0license\0GPL",
		};

		assert_int_equal(check(&file, sizeof(file), err, sizeof(err)), -EINVAL);
		assert_true(*err);
	}
}

/* ---- hooks --------------------------------------------------------------------------------------- */

static void test_hooks_are_found_by_their_names(void **state)
{
	size_t n = 0;

	for (const struct userprog_point *p = NULL; (p = userprog_point_next(p)); n++)
		assert_ptr_equal(userprog_point_find(p->where, p->name), p);
	assert_true(n > 20);
	assert_null(userprog_point_find(USERPROG_DEVICE, "connect4"));
	assert_null(userprog_point_find(USERPROG_CGROUP, "xdp"));
	assert_ptr_equal(userprog_point_find(USERPROG_CGROUP, "sock_ops"),
			 userprog_point_find(USERPROG_CGROUP, "sockops"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_base64_rfc4648),
		cmocka_unit_test(test_base64_that_is_none),
		cmocka_unit_test(test_base64_all_bytes),
		cmocka_unit_test(test_headers_that_point_anywhere),
		cmocka_unit_test(test_sections_that_point_anywhere),
		cmocka_unit_test(test_hooks_are_found_by_their_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
