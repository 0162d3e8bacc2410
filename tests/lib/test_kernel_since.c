/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The table of first kernels has all that this libbpf and these kernel headers know. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>

#include "kernel_since.h"

static const char *helper_defs; /* libbpf's list of helpers */

/* "static long (* const bpf_map_update_elem)(void *map, ...) = (void *) 2;" */
static void test_every_helper_of_libbpf(void **state)
{
	FILE *f = fopen(helper_defs, "re");
	char line[1024];
	unsigned int n = 0;
	uint16_t before = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		char name[64];
		const char *at = strstr(line, "(* const bpf_"),
			   *number = strstr(line, "= (void *) ");
		unsigned int id;

		if (!at || !number)
			continue;
		assert_int_equal(sscanf(at, "(* const %63[a-z0-9_])", name), 1);
		assert_int_equal(sscanf(number, "= (void *) %u", &id), 1);
		assert_int_not_equal(kernel_since_helper(id), 0);
		if (id < __BPF_FUNC_MAX_ID)
			assert_string_equal(kernel_helper_name(id), name);
		/* Numbers are given in the order of releases. */
		assert_true(kernel_since_helper(id) >= before);
		before = kernel_since_helper(id);
		n++;
	}
	fclose(f);
	assert_true(n > 200);
}

static void test_every_type_of_libbpf(void **state)
{
	for (uint32_t t = 1; libbpf_bpf_prog_type_str(t); t++)
		assert_true(kernel_since_prog_type(t) >= KERNEL(3, 19));
	for (uint32_t t = 1; libbpf_bpf_map_type_str(t); t++)
		assert_true(kernel_since_map_type(t) >= KERNEL(3, 19));
	for (uint32_t t = 0; libbpf_bpf_attach_type_str(t); t++)
		assert_true(kernel_since_attach_type(t) >= KERNEL(4, 10));
}

/* Each looked up in the kernel's own history. */
static void test_known_releases(void **state)
{
	assert_int_equal(kernel_since_helper(BPF_FUNC_map_lookup_elem), KERNEL(3, 19));
	assert_int_equal(kernel_since_helper(BPF_FUNC_get_prandom_u32), KERNEL(4, 1));
	assert_int_equal(kernel_since_helper(BPF_FUNC_fib_lookup), KERNEL(4, 18));
	assert_int_equal(kernel_since_helper(BPF_FUNC_ringbuf_reserve), KERNEL(5, 8));
	assert_int_equal(kernel_since_helper(BPF_FUNC_redirect_peer), KERNEL(5, 10));
	assert_int_equal(kernel_since_helper(BPF_FUNC_loop), KERNEL(5, 17));
	assert_int_equal(kernel_since_prog_type(BPF_PROG_TYPE_XDP), KERNEL(4, 8));
	assert_int_equal(kernel_since_map_type(BPF_MAP_TYPE_RINGBUF), KERNEL(5, 8));
	assert_int_equal(kernel_since_attach_type(BPF_TCX_INGRESS), KERNEL(6, 6));
	assert_int_equal(kernel_since_kfunc("bpf_skb_ct_lookup"), KERNEL(5, 18));
	assert_int_equal(kernel_since_kfunc("bpf_dynptr_from_skb"), KERNEL(6, 4));
	assert_true(KERNEL(6, 10) > KERNEL(6, 9) && KERNEL(5, 19) < KERNEL(6, 0));
}

static void test_unknown_things(void **state)
{
	assert_int_equal(kernel_since_helper(0), 0);
	assert_int_equal(kernel_since_helper(100000), 0);
	assert_int_equal(kernel_since_prog_type(BPF_PROG_TYPE_UNSPEC), 0);
	assert_int_equal(kernel_since_prog_type(1000), 0);
	assert_int_equal(kernel_since_map_type(1000), 0);
	assert_int_equal(kernel_since_attach_type(1000), 0);
	assert_int_equal(kernel_since_kfunc(""), 0);
	assert_int_equal(kernel_since_kfunc("bpf_skb_ct"), 0);
	assert_int_equal(kernel_since_kfunc("skb_ct_lookup"), 0);
	assert_null(kernel_helper_name(0));
	assert_null(kernel_helper_name(100000));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_helper_of_libbpf),
		cmocka_unit_test(test_every_type_of_libbpf),
		cmocka_unit_test(test_known_releases),
		cmocka_unit_test(test_unknown_things),
	};

	if (argc != 2)
		return 2;
	helper_defs = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
