/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The lines of C in a real object, and in damaged ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "source_lines.h"
#include "userprog_internal.h"

static struct userprog_file file; /* examples/verifier/null-check/good.c, compiled */

static void test_lines_of_an_object(void **state)
{
	struct source_lines lines;
	const struct source_line *line;
	uint64_t offset, size;

	assert_int_equal(source_lines_read(&lines, &file), 0);
	assert_true(lines.n > 5);
	line = source_lines_word(&lines, "bpf_map_lookup_elem");
	assert_non_null(line);
	assert_non_null(strstr(line->text, "bpf_map_lookup_elem(&counts, &queue)"));
	assert_non_null(strstr(line->file, "null-check/good.c"));
	assert_string_equal(line->section, "xdp");
	assert_ptr_equal(source_lines_at(&lines, "xdp", line->offset + 8)->text, line->text);
	assert_ptr_equal(source_lines_text(&lines, line->text, line->line)->text, line->text);
	assert_null(source_lines_text(&lines, line->text, line->line + 1));
	assert_null(source_lines_text(&lines, "", 0));
	assert_null(source_lines_word(&lines, "bpf_map_lookup"));
	assert_null(source_lines_word(&lines, ""));
	assert_null(source_lines_at(&lines, "tc", 0));
	assert_true(userprog_elf_function(&file, "count", &offset, &size));
	assert_int_equal(offset, 0);
	assert_true(size > 8 && size % 8 == 0);
	assert_false(userprog_elf_function(&file, "coun", &offset, &size));
	source_lines_clear(&lines);
}

/* Whatever is found must be readable: the sanitizers see a string that is not. */
static void lines_touch(const struct userprog_file *f)
{
	struct source_lines lines;
	char err[256];
	uint64_t offset, size;
	size_t n = 0;

	if (userprog_elf_check(f, err, sizeof(err))) {
		assert_true(*err);
		return;
	}
	userprog_elf_function(f, "count", &offset, &size);
	assert_int_equal(source_lines_read(&lines, f), 0);
	for (size_t i = 0; i < lines.n; i++)
		n += strlen(lines.lines[i].text) + strlen(lines.lines[i].file) +
		     strlen(lines.lines[i].section);
	assert_true(n < SIZE_MAX);
	source_lines_at(&lines, "xdp", 8);
	source_lines_word(&lines, "count");
	source_lines_clear(&lines);
}

/* Each byte set to what numbers go wrong with, and the file cut off at many places. */
static void test_damaged_objects(void **state)
{
	static const uint8_t values[] = { 0x00, 0x01, 0x7f, 0xff };
	struct userprog_file f = { .name = "damaged.o", .len = file.len };

	for (size_t i = 0; i < file.len; i++) {
		char *copy = malloc(file.len);

		assert_non_null(copy);
		memcpy(copy, file.bytes, file.len);
		f.bytes = copy;
		for (size_t v = 0; v < sizeof(values); v++) {
			copy[i] = (char)values[v];
			lines_touch(&f);
		}
		free(copy);
	}
	for (size_t len = 0; len < file.len; len += 1 + len / 50) {
		char *copy = malloc(len + 1);

		assert_non_null(copy);
		memcpy(copy, file.bytes, len);
		lines_touch(&(struct userprog_file){ "cut.o", copy, len });
		free(copy);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines_of_an_object),
		cmocka_unit_test(test_damaged_objects),
	};
	static char bytes[1 << 16];
	FILE *in = argc == 2 ? fopen(argv[1], "re") : NULL;

	if (!in)
		return 2;
	file = (struct userprog_file){ "good.o", bytes, fread(bytes, 1, sizeof(bytes), in) };
	fclose(in);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
