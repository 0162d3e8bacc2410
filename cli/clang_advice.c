/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "clang_advice.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* The first that a warning's line has in it. By flag where clang has one, as texts change. */
static const struct {
	const char *has, *advice;
} advices[] = {
	{ "gnu/stubs-32.h' file not found",
	  "a program in the kernel has no C library: leave <string.h>, <stdio.h> and the like out; "
	  "__builtin_memcpy and __builtin_memset are there without a header" },
	{ "vmlinux.h' file not found",
	  "vmlinux.h is made from the kernel's own types: bpftool btf dump file "
	  "/sys/kernel/btf/vmlinux format c > vmlinux.h" },
	{ "error: 'bpf/", "libbpf's headers are missing: install them (Debian, Ubuntu: apt install "
			  "libbpf-dev; Fedora: dnf install libbpf-devel)" },
	{ "unknown type name '__u", "<linux/bpf.h> must be included before libbpf's headers" },
	{ "asm/types.h' file not found",
	  "the machine's kernel headers are missing: install linux-libc-dev (Fedora: "
	  "kernel-headers)" },
	{ "BPF stack limit is exceeded", "a program has 512 bytes of stack, with all functions "
					 "that it calls: keep large data in a "
					 "map of one entry, BPF_MAP_TYPE_PERCPU_ARRAY" },
	{ "call to built-in function '__", "the kernel has no floating point and no 128-bit "
					   "division: count in whole, smaller units" },
	{ "call to built-in function 'mem",
	  "there is no function to call for a copy of unknown or great length: give memcpy and "
	  "memset a small constant, or copy in a bounded loop" },
	{ "call to built-in function",
	  "there is no C library in the kernel: this needs code of your own, or a helper "
	  "(man 7 bpf-helpers)" },
	{ "dynamic stack allocation",
	  "the stack's size must be known to the verifier: use an array of constant size" },
	{ "aggregate returns are not supported",
	  "a function returns one register: pass a pointer to the struct, or make the function "
	  "static __always_inline" },
	{ "too many arguments",
	  "a function takes at most five arguments: pass a pointer to a struct, or make it static "
	  "__always_inline" },
	{ "stack arguments",
	  "a function takes at most five arguments: pass a pointer to a struct, or make it static "
	  "__always_inline" },
	{ "nsupported signed division",
	  "there is no signed division before -mcpu=v4 (Linux 6.6): divide unsigned numbers" },
	{ "is already defined",
	  "a variable cannot have the name of a section: char LICENSE[] SEC(\"license\")" },
	{ "-Wimplicit-function-declaration]",
	  "only helpers of <bpf/bpf_helpers.h> and functions of this file can be called: there is "
	  "no C library in the kernel" },
	{ "-Wuninitialized]",
	  "the verifier refuses a register that was never written, and what is in an unwritten "
	  "stack is anybody's: give it a value" },
	{ "-Wsometimes-uninitialized]",
	  "the verifier follows every path, also the one on which this has no value, and refuses "
	  "the program there" },
	{ "-Wconditional-uninitialized]",
	  "the verifier follows every path, also the one on which this has no value, and refuses "
	  "the program there" },
	{ "-Wreturn-type]",
	  "the return value is the verdict on the packet: without one the verifier refuses the "
	  "program (R0 !read_ok)" },
	{ "-Warray-bounds]", "the verifier refuses an access that can be outside, or clang takes "
			     "the code away as one that never runs" },
	{ "-Winfinite-recursion]",
	  "functions cannot call themselves: there are 512 bytes of stack and at most eight calls "
	  "deep" },
	{ "-Wint-to-pointer-cast]",
	  "data and data_end of the context are 32-bit numbers that stand for pointers: cast them "
	  "by (void *)(long)ctx->data" },
	{ "-Wint-conversion]",
	  "data and data_end of the context are 32-bit numbers that stand for pointers: cast them "
	  "by (void *)(long)ctx->data" },
	{ "-Waddress-of-packed-member]",
	  "harmless on a packet, whose fields may be unaligned; on the stack or in a map the "
	  "verifier refuses the access when it is" },
	{ "-Wincompatible-pointer-types", "the verifier goes by what the pointer is, not by its C "
					  "type: see that this is the struct "
					  "that the hook or the helper means" },
	{ "-Wvisibility]",
	  "the struct is another one in each prototype: declare it before, struct name;" },
	{ "-Wshift-count-overflow]",
	  "the verifier refuses a constant shift by the width of the number or more" },
	{ "-Wframe-larger-than", "a program has 512 bytes of stack, with all functions that it "
				 "calls: keep large data in a "
				 "map of one entry, BPF_MAP_TYPE_PERCPU_ARRAY" },
	{ "-Wunused-function]",
	  "it is not in the object at all: a program needs SEC(\"...\") and must not be static" },
	{ "-Wsign-compare]",
	  "the verifier keeps signed and unsigned bounds apart: compare an index or length as "
	  "unsigned, or it can be negative for it" },
	{ "-Wtautological", "clang decides this now and leaves the check out, so the verifier "
			    "never sees it" },
};

_Static_assert(sizeof(advices) / sizeof(*advices) <= 64, "a bit each in `given`");

/* "file.c:5:3: warning: ..." begins what is said about one thing; notes go with it. */
static bool is_head(const char *line)
{
	return strstr(line, ": warning: ") || strstr(line, ": error: ") ||
	       strstr(line, ": fatal error: ") || !strncmp(line, "error: ", 7);
}

/* "2 warnings generated." */
static bool is_sum(const char *line)
{
	return strstr(line, " generated.") && *line >= '1' && *line <= '9';
}

static const char *advice_find(struct clang_advice *a, const char *line)
{
	for (size_t i = 0; i < sizeof(advices) / sizeof(*advices); i++) {
		if (!strstr(line, advices[i].has))
			continue;
		if (a->given & 1ull << i)
			return NULL;
		a->given |= 1ull << i;
		return advices[i].advice;
	}
	return NULL;
}

const char *clang_advice_next(struct clang_advice *a, const char *line)
{
	const char *before = NULL;

	if (is_head(line)) {
		before = a->pending;
		a->pending = advice_find(a, line);
	} else if (is_sum(line)) {
		before = a->pending;
		a->pending = NULL;
	}
	return before;
}

const char *clang_advice_last(const struct clang_advice *a)
{
	return a->pending;
}
