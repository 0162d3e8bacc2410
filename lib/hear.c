/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "hear.h"

#include <bpf/libbpf.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local struct {
	char *text;
	size_t len;
} heard;

__attribute__((format(printf, 2, 0))) static int hear(enum libbpf_print_level level,
						      const char *format, va_list args)
{
	static const char prefix[] = "libbpf: ";
	size_t at;

	if (level != LIBBPF_WARN || !heard.text)
		return 0;
	at = strlen(heard.text);
	if (!strncmp(format, prefix, sizeof(prefix) - 1))
		format += sizeof(prefix) - 1;
	vsnprintf(heard.text + at, heard.len - at, format, args);
	return 0;
}

void hear_begin(char *text, size_t len)
{
	*text = '\0';
	heard.text = text;
	heard.len = len;
	libbpf_set_print(hear);
}

void hear_end(void)
{
	heard.text = NULL;
}

void hear_first(char *text)
{
	text[strcspn(text, "\n")] = '\0';
}
