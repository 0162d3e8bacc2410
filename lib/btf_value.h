/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Bytes in the layout of a BTF type as JSON, and back. What comes out can go in. A type is a user's:
 * one that contradicts itself or the size of the data is refused, and so is one with more than
 * BTF_VALUES_MAX values. Nothing is read or written outside the `size` bytes.
 *
 *   integers           numbers; above 2^63-1 a string of digits; strings ("0x1f") are taken, too
 *   __be16 and others  the number that is meant, so ports are ports
 *   addresses          "10.0.0.1", "2001:db8::1", "02:54:57:00:00:01"; keys of LPM tries "10.0.0.0/8"
 *   char arrays        the text; an array of numbers where the bytes are none
 *   enums              the value's name; a number where it has none
 *   struct, union      an object by the names of the members, anonymous ones' members among them
 *   bool, arrays, floating point: as in JSON; pointers and 128 bits: "0x..."
 */
#ifndef TOWPATH_BTF_VALUE_H
#define TOWPATH_BTF_VALUE_H

#include <bpf/btf.h>
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define BTF_VALUES_MAX 1000000u

/*
 * *out is the caller's. -EINVAL: the type does not fit the data; -E2BIG: BTF_VALUES_MAX; -ENOMEM.
 */
int btf_value_json(const struct btf *btf, uint32_t type, const void *data, size_t size,
		   json_t **out);

/*
 * The value into `size` bytes. Members that are not named are 0; variables of a section (.data)
 * that are not named stay as they are in `data`. `name` is what the value is called in errors
 * ("value"). -EINVAL with a sentence in err that begins with the field's path ("value.ports[2]: ...");
 * data may be changed in part then.
 */
int btf_value_parse(const struct btf *btf, uint32_t type, const json_t *in, void *data, size_t size,
		    const char *name, char *err, size_t err_len);

/*
 * Adds the numbers of `more` to those of `sum`, of the same type. What is no number, or cannot be
 * added (enums, addresses, texts, pointers, unions), stays as it is in `sum` unless it is all zero
 * there. Results as btf_value_json().
 */
int btf_value_sum(const struct btf *btf, uint32_t type, void *sum, const void *more, size_t size);

/* Bytes as "0a 00 00 01", for what has no type. malloc'ed, NULL: no memory. */
json_t *btf_hex_json(const void *data, size_t size);
/* From digits with or without spaces, exactly `size` bytes. Errors as btf_value_parse(). */
int btf_hex_parse(const json_t *in, void *data, size_t size, const char *name, char *err,
		  size_t err_len);

#endif
