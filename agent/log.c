/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const level_names[] = {
	[LOG_ERROR] = "error",
	[LOG_WARN] = "warn",
	[LOG_INFO] = "info",
	[LOG_DEBUG] = "debug",
};
static enum log_level level_max = LOG_INFO;

int log_level_set(const char *name)
{
	for (unsigned int i = LOG_ERROR; i <= LOG_DEBUG; i++) {
		if (!strcmp(name, level_names[i])) {
			level_max = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

void log_line(enum log_level level, const char *format, ...)
{
	char text[1024];
	va_list args;

	if (level > level_max)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	/* One write a line, so that lines of two processes do not mix. */
	fprintf(stderr, "towpathd: %s: %s\n", level_names[level], text);
}
