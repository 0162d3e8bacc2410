/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Formats of bpf_printk() against texts, and lines of the kernel's trace. */
#include <stdio.h>
#include <string.h>

#include "unit.h"

#include "printk.h"
#include "trace_pipe.h"

static void assert_match(const char *format, const char *text, size_t literal)
{
	size_t found = 0;

	assert_true(printk_matches(format, text, &found));
	assert_int_equal(found, literal);
}

static void assert_no_match(const char *format, const char *text)
{
	size_t found;

	assert_false(printk_matches(format, text, &found));
}

static void test_matching(void **state)
{
	assert_match("hello", "hello", 5);
	assert_match("%d bytes", "60 bytes", 6);
	assert_match("%s", "", 0);
	assert_match("%s", "anything at all", 0);
	assert_match("a %d b %d c", "a 1 b 2 b 3 c", 7);
	assert_match("100%% of %u", "100% of 5", 8);
	assert_match("%08lx:%-5s|", "0000beef:eth0 |", 2);
	assert_match("from %pI4 to %pI6c", "from 10.0.0.1 to ::1", 9);
	assert_match("%s%s%s", "x", 0);
	assert_match("%", "anything", 0);
	assert_no_match("hello", "hell");
	assert_no_match("hello", "hello!");
	assert_no_match("%d bytes", "60 byte");
	assert_no_match("%d bytes", "60 bytes more");
	assert_no_match("100%%", "100%%");
	assert_no_match("", "x");
	/* As many ways as a person would try, and no more. */
	char format[257] = "", text[257] = "";

	for (size_t i = 0; i + 4 < sizeof(format); i += 4)
		memcpy(format + i, "%sa", 4);
	memset(text, 'a', sizeof(text) - 2);
	text[sizeof(text) - 2] = 'b';
	assert_no_match(format, text);
}

static struct trace_line parsed(const char *line, bool ok)
{
	struct trace_line found = {};
	static char copy[512];

	snprintf(copy, sizeof(copy), "%s", line);
	assert_int_equal(trace_line_parse(copy, 1000000000, &found), ok);
	return found;
}

static void test_lines(void **state)
{
	struct trace_line l = parsed("         bpftool-10337   [001] b..11  3803.050757: "
				     "bpf_trace_printk: hello 60 bytes",
				     true);

	assert_string_equal(l.comm, "bpftool");
	assert_string_equal(l.text, "hello 60 bytes");
	assert_int_equal(l.pid, 10337);
	assert_int_equal(l.cpu, 1);
	assert_int_equal(l.time, 3804050757000);
	/* Names of tasks are anybody's. */
	l = parsed(" a-b [007] x-1-42      [003] d.s.1     1.000001: bpf_trace_printk:  : "
		   "bpf_trace_printk: x",
		   true);
	assert_string_equal(l.comm, "a-b [007] x-1");
	assert_int_equal(l.pid, 42);
	assert_int_equal(l.cpu, 3);
	assert_string_equal(l.text, " : bpf_trace_printk: x");
	l = parsed("          <idle>-0       [000] d.h..    12.000001: bpf_trace_printk: ", true);
	assert_string_equal(l.text, "");
	l = parsed("CPU:1 [LOST 77 EVENTS]", true);
	assert_int_equal(l.lost, 77);
	parsed("and another", false);
	parsed("x bpf_trace_printk: y", false);
	parsed("  1.000001: bpf_trace_printk: y", false);
	parsed("comm [001] d.h. 1.000001: bpf_trace_printk: y", false);
	parsed("", false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matching),
		cmocka_unit_test(test_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
