/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Bytes as text (RFC 4648 4), for what has to go through JSON. */
#ifndef TOWPATH_BASE64_H
#define TOWPATH_BASE64_H

#include <stddef.h>

/* malloc'ed and terminated; NULL: no memory. */
char *base64_encode(const void *bytes, size_t len);
/* *out is malloc'ed. -EINVAL: it is not base64, with its padding and nothing else; -ENOMEM. */
int base64_decode(const char *text, size_t text_len, void **out, size_t *len);

#endif
