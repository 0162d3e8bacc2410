/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "object/names.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static bool is_lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
	return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

static bool is_dns_label(const char *s, size_t len)
{
	if (!len || !is_lower_alnum(s[0]) || !is_lower_alnum(s[len - 1]))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!is_lower_alnum(s[i]) && s[i] != '-')
			return false;
	return true;
}

static bool is_dns_subdomain(const char *s, size_t len)
{
	const char *end = s + len;

	if (len > 253)
		return false;
	for (;;) {
		const char *dot = memchr(s, '.', (size_t)(end - s));
		const char *stop = dot ? dot : end;

		if (!is_dns_label(s, (size_t)(stop - s)))
			return false;
		if (!dot)
			return true;
		s = dot + 1;
	}
}

/* What label keys (behind the prefix) and label values are made of. */
static bool is_label_text(const char *s, size_t len)
{
	if (!len || len > 63 || !is_alnum(s[0]) || !is_alnum(s[len - 1]))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!is_alnum(s[i]) && !strchr("-_.", s[i]))
			return false;
	return true;
}

const char *name_check_dns_label(const char *text)
{
	size_t len = strlen(text);

	return len <= 63 && is_dns_label(text, len)
		       ? NULL
		       : "at most 63 lower-case letters, digits and '-', with a letter or digit at "
			 "both ends";
}

const char *name_check_dns_subdomain(const char *text)
{
	return is_dns_subdomain(text, strlen(text))
		       ? NULL
		       : "at most 253 lower-case letters, digits, '-' and '.', with a letter or "
			 "digit at both ends of each part";
}

const char *name_check_label_key(const char *text)
{
	const char *slash = strchr(text, '/');
	const char *name = slash ? slash + 1 : text;

	if (slash && !is_dns_subdomain(text, (size_t)(slash - text)))
		return "a label key whose prefix before '/' is a DNS name in lower case";
	return is_label_text(name, strlen(name))
		       ? NULL
		       : "a label key of at most 63 letters, digits, '-', '_' and '.', with a "
			 "letter "
			 "or digit at both ends, and perhaps a DNS name and '/' before it";
}

const char *name_check_label_value(const char *text)
{
	return !*text || is_label_text(text, strlen(text))
		       ? NULL
		       : "a label value of at most 63 letters, digits, '-', '_' and '.', with a "
			 "letter or digit at both ends";
}

const char *name_check_port(const char *text)
{
	size_t len = strlen(text);

	if (len <= 15 && is_dns_label(text, len) && !strstr(text, "--") &&
	    strpbrk(text, "abcdefghijklmnopqrstuvwxyz"))
		return NULL;
	return "a port name of at most 15 lower-case letters, digits and single '-', with at least "
	       "one letter and a letter or digit at both ends";
}
