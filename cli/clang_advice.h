/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What clang's warnings and errors mean for a program that runs in the kernel. */
#ifndef CLANG_ADVICE_H
#define CLANG_ADVICE_H

#include <stdint.h>

struct clang_advice {
	const char *pending; /* said when the lines of its warning are through */
	uint64_t given;	     /* a bit for each that was said: once each */
};

/* A line that clang printed; what is to be said before it, or NULL. */
const char *clang_advice_next(struct clang_advice *a, const char *line);
/* What is left to say at the end, or NULL. */
const char *clang_advice_last(const struct clang_advice *a);

#endif
