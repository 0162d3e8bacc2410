/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the fuzz targets share. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define fuzz_check(holds)                                                                          \
	((holds) ? (void)0                                                                         \
		 : (fprintf(stderr, "%s:%d: %s is not so\n", __FILE__, __LINE__, #holds),          \
		    abort()))

#endif
