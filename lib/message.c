/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Apart from the data path, so that programs without one need not have it in them. */
#include <stdarg.h>
#include <stdio.h>

#include "datapath_internal.h"

void datapath_message(char *err, size_t err_len, const char *format, ...)
{
	va_list args;

	if (!err || !err_len)
		return;
	va_start(args, format);
	vsnprintf(err, err_len, format, args);
	va_end(args);
}
