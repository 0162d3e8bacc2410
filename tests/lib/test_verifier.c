/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The verifier's log, read and explained: real logs of several kernels (tests/fuzz/seeds/verifier, named
 * by the kind that each is), states of registers in words, and logs that are cut off anywhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "verifier_explain.h"

static const char *folder;

/* What the log does not say. */
static struct verifier_program about_of(const char *kind)
{
	struct verifier_program about = { "xdp_md", "xdp_md", false, false };

	if (!strcmp(kind, "section-mismatch"))
		about.context = "__sk_buff";
	about.traces = !strcmp(kind, "kernel-pointer");
	about.calls_back = !strcmp(kind, "recursion");
	return about;
}

static size_t log_load(const char *name, char *buf, size_t size)
{
	char path[512];
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "re");
	assert_non_null(f);
	n = fread(buf, 1, size, f);
	fclose(f);
	return n;
}

/* Calls back with each recorded log. */
static unsigned int logs_each(void (*each)(const char *kind, const char *text, size_t len))
{
	DIR *dir = opendir(folder);
	struct dirent *entry;
	unsigned int n = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		static char text[1 << 16];
		char kind[64];

		if (sscanf(entry->d_name, "%63[^@]@", kind) != 1 || !strchr(entry->d_name, '@'))
			continue;
		each(kind, text, log_load(entry->d_name, text, sizeof(text)));
		n++;
	}
	closedir(dir);
	return n;
}

static void log_is_explained(const char *kind, const char *text, size_t len)
{
	struct verifier_program about = about_of(kind);
	struct verifier_log log;
	struct verifier_explanation why;

	verifier_log_read(text, len, &log);
	verifier_explain(&log, &about, &why);
	if (strcmp(why.kind, kind))
		fail_msg("a log of %s is explained as %s: %s", kind, why.kind, why.title);
	assert_true(*why.title && *why.cause && *why.remedy);
	assert_null(strchr(why.title, '$'));
	assert_null(strstr(why.cause, "$1"));
}

static void test_recorded_logs(void **state)
{
	assert_true(logs_each(log_is_explained) >= 50);
}

/* Every beginning and every end of each log, and each with a byte of it changed: nothing but that it ends. */
static void log_is_survived(const char *kind, const char *text, size_t len)
{
	struct verifier_program about = about_of(kind);
	struct verifier_log log;
	struct verifier_explanation why;
	char *copy = malloc(len + 1);

	assert_non_null(copy);
	for (size_t i = 0; i < len; i += 1 + len / 13) {
		memcpy(copy, text, len);
		verifier_log_read(text, i, &log);
		verifier_log_read(text + i, len - i, &log);
		copy[i] = (char)(copy[i] ^ (1 << i % 8));
		verifier_log_read(copy, len, &log);
		verifier_explain(&log, &about, &why);
		assert_true(*why.title);
	}
	free(copy);
}

static void test_damaged_logs(void **state)
{
	logs_each(log_is_survived);
}

static void test_words_of_states(void **state)
{
	static const struct {
		const char *state, *words;
	} cases[] = {
		{ "pkt(off=14,r=0)",
		  "a packet pointer 14 bytes in, of which 0 bytes are proven readable" },
		{ "pkt(r=34)",
		  "a packet pointer at the packet's start, of which 34 bytes are proven readable" },
		{ "pkt(id=0,off=14,r=14,imm=0)",
		  "a packet pointer 14 bytes in, of which 14 bytes are proven readable" },
		{ "pkt(id=1,off=1,r=1,smin=0,smax=umax=255,var_off=(0x0; 0xff))",
		  "a packet pointer 1 byte in plus a number from 0 to 255, of which 1 byte is "
		  "proven "
		  "readable" },
		{ "pkt_end()", "the end of the packet, data_end" },
		{ "ctx()", "the context that the program is called with" },
		{ "ctx(off=0,imm=0)", "the context that the program is called with" },
		{ "map_value_or_null(id=1,map=counts,ks=4,vs=8)",
		  "what the look-up in map counts found: a pointer to a value, or NULL" },
		{ "map_value(off=8,ks=4,vs=16,imm=0)",
		  "a pointer into a value of a map (16 bytes), 8 bytes in" },
		{ "map_ptr(map=events,ks=0,vs=0)", "map events" },
		{ "ringbuf_mem_or_null(id=2,ref_obj_id=2,sz=4)",
		  "a record of a ring buffer (4 bytes), or NULL" },
		{ "scalar()", "a number of any size" },
		{ "scalar(id=3)", "a number of any size" },
		{ "scalar(smin=smin32=0,smax=umax=smax32=umax32=63,var_off=(0x0; 0x3f))",
		  "a number from 0 to 63" },
		{ "scalar(umax=255,var_off=(0x0; 0xff))", "a number from 0 to 255" },
		{ "inv(id=0,umin_value=1,umax_value=255,var_off=(0x0; 0xff))",
		  "a number from 1 to 255" },
		{ "scalar(smin=-8,smax=7)", "a number from -8 to 7" },
		{ "scalar(smax=15)", "a number of any size up to 15, also negative" },
		{ "scalar(umin=101)", "a number of any size from 101 on" },
		{ "inv5", "the number 5" },
		{ "0x400000003", "the number 0x400000003" },
		{ "-1", "the number -1" },
		{ "fp0", "a pointer to the top of the stack" },
		{ "fp-16", "a pointer to the stack, 16 bytes below its top" },
		{ "fp[1]-8", "a pointer to the stack, 8 bytes below its top" },
		{ "fp(off=-32,smin=0,smax=umax=28,var_off=(0x0; 0x1c))",
		  "a pointer to the stack, 32 bytes below its top plus a number from 0 to 28" },
		{ "sock(ref_obj_id=2)", "a pointer to a socket that must be released" },
		{ "sock_common_or_null(id=1)", "a pointer to a socket, or NULL" },
		{ "trusted_ptr_sk_buff()", "a pointer to the kernel's struct sk_buff" },
		{ "untrusted_ptr_task_struct(off=0)",
		  "a pointer to the kernel's struct task_struct, which may be stale" },
		{ "rcu_ptr_or_null_cgroup(id=2)",
		  "a pointer to the kernel's struct or_null_cgroup" },
		{ "something_new(off=3)", "of the type something_new" },
		{ "something_new_or_null()", "of the type something_new, or NULL" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct verifier_log log;
		char line[512], words[512];

		snprintf(line, sizeof(line), "7: R10=fp0 R3_w=%s fp-8=mmmm????\n", cases[i].state);
		verifier_log_read(line, strlen(line), &log);
		assert_true(verifier_register_words(&log, 3, words, sizeof(words)));
		assert_memory_equal(words, "r3 is ", 6);
		assert_string_equal(words + 6, cases[i].words);
		assert_false(verifier_register_words(&log, 4, words, sizeof(words)));
		assert_false(verifier_register_words(&log, 11, words, sizeof(words)));
	}
}

/* Each function of a chain of calls has registers of its own. */
static void test_frames(void **state)
{
	static const char text[] =
		"0: R1=ctx() R10=fp0\n"
		"1: (85) call pc+2\n"
		"caller:\n R6=7 R10=fp0\n"
		"callee:\n frame1: R1=ctx() R10=fp0\n"
		"4: frame1: R1=ctx() R10=fp0\n"
		"4: (b7) r6 = 9                        ; frame1: R6=9\n"
		"5: (79) r1 = *(u64 *)(r6 +0)\n"
		"R6 invalid mem access 'scalar'\n"
		"processed 6 insns (limit 1000000) max_states_per_insn 0 total_states 3 "
		"peak_states 3 mark_read 0\n";
	struct verifier_log log;
	char words[64];

	verifier_log_read(text, strlen(text), &log);
	assert_int_equal(log.frame, 1);
	assert_true(verifier_register_words(&log, 6, words, sizeof(words)));
	assert_string_equal(words, "r6 is the number 9");
	assert_int_equal(log.insn, 5);
	assert_int_equal(log.n_messages, 1);
	assert_int_equal(log.processed, 6);
	assert_int_equal(log.limit, 1000000);
	assert_int_equal(log.states, 3);
}

/* Lines of the source with and without the file's name, which came with 6.9. */
static void test_source_lines(void **state)
{
	static const char with[] = "; if (a @ b) return; @ dir/x y.c:42\n0: (95) exit\nno\n";
	static const char without[] = "; if (a @ b) return;\n0: (95) exit\nno\n";
	struct verifier_log log;

	verifier_log_read(with, strlen(with), &log);
	assert_string_equal(log.source.text, "if (a @ b) return;");
	assert_string_equal(log.source.file, "dir/x y.c");
	assert_int_equal(log.source.line, 42);
	verifier_log_read(without, strlen(without), &log);
	assert_string_equal(log.source.text, "if (a @ b) return;");
	assert_string_equal(log.source.file, "");
	assert_int_equal(log.source.line, 0);
}

static void test_unknown_refusals_say_what_was_said(void **state)
{
	static const char text[] = "0: (95) exit\nR0 is made of green cheese\n";
	struct verifier_log log;
	struct verifier_explanation why;

	verifier_log_read(text, strlen(text), &log);
	verifier_explain(&log, NULL, &why);
	assert_string_equal(why.kind, "unknown");
	assert_non_null(strstr(why.title, "R0 is made of green cheese"));
	verifier_log_read("", 0, &log);
	verifier_explain(&log, NULL, &why);
	assert_string_equal(why.kind, "unknown");
	/* One that was cut off ends in the middle of the way. */
	verifier_log_read("no\n0: (95) exit\n", 16, &log);
	assert_int_equal(log.n_messages, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recorded_logs),
		cmocka_unit_test(test_damaged_logs),
		cmocka_unit_test(test_words_of_states),
		cmocka_unit_test(test_frames),
		cmocka_unit_test(test_source_lines),
		cmocka_unit_test(test_unknown_refusals_say_what_was_said),
	};

	if (argc != 2)
		return 2;
	folder = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
