/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "base64.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *base64_encode(const void *bytes, size_t len)
{
	const unsigned char *in = bytes;
	char *text = malloc((len + 2) / 3 * 4 + 1), *at = text;

	for (size_t i = 0; text && i < len; i += 3) {
		size_t n = len - i < 3 ? len - i : 3;
		uint32_t word = (uint32_t)in[i] << 16;

		if (n > 1)
			word |= (uint32_t)in[i + 1] << 8;
		if (n > 2)
			word |= in[i + 2];
		for (size_t j = 0; j < 4; j++)
			*at++ = j <= n ? digits[word >> (18 - 6 * j) & 63] : '=';
	}
	if (text)
		*at = '\0';
	return text;
}

static int digit_value(char c)
{
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -EINVAL;
}

int base64_decode(const char *text, size_t text_len, void **out, size_t *len)
{
	size_t n = text_len, size;
	unsigned char *bytes, *at;

	if (n % 4)
		return -EINVAL;
	for (int pad = 0; pad < 2 && n && text[n - 1] == '='; pad++)
		n--;
	if (n % 4 == 1)
		return -EINVAL;
	size = n / 4 * 3 + (n % 4 ? n % 4 - 1 : 0);
	bytes = malloc(size + 1);
	if (!bytes)
		return -ENOMEM;
	at = bytes;
	for (size_t i = 0; i < n; i += 4) {
		uint32_t word = 0;
		size_t here = n - i < 4 ? n - i : 4;

		for (size_t j = 0; j < here; j++) {
			int value = digit_value(text[i + j]);

			if (value < 0) {
				free(bytes);
				return -EINVAL;
			}
			word |= (uint32_t)value << (18 - 6 * j);
		}
		for (size_t j = 0; j + 1 < here; j++)
			*at++ = (unsigned char)(word >> (16 - 8 * j));
	}
	*out = bytes;
	*len = size;
	return 0;
}
