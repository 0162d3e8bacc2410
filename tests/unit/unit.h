/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* cmocka with the headers that it wants before itself. */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#endif
