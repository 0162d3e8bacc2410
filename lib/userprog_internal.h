/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Private to lib/userprog_*.c. */
#ifndef TOWPATH_USERPROG_INTERNAL_H
#define TOWPATH_USERPROG_INTERNAL_H

#include <limits.h>

#include "userprog.h"

struct bpf_map;
struct btf;

/*
 * Reads an object file: *bytes is the caller's, and f->bytes the same; f->name is path itself. -EINVAL: it
 * is empty, or no file.
 */
int userprog_file_read(const char *path, struct userprog_file *f, void **bytes, char *err,
		       size_t err_len);
/* Whether libbpf may be given the file (userprog_elf.c). -EINVAL, -E2BIG with a sentence. */
int userprog_elf_check(const struct userprog_file *f, char *err, size_t err_len);
/* Of a file that was checked: a section's bytes, borrowed. False: there is none, or it is empty. */
bool userprog_elf_section(const struct userprog_file *f, const char *name, const void **data,
			  size_t *len);
/* Where a function begins in its section, and its size, in bytes. False: there is no such function. */
bool userprog_elf_function(const struct userprog_file *f, const char *name, uint64_t *offset,
			   uint64_t *size);
/* Whether the object has a weak symbol of that name: declared __weak, defined elsewhere or nowhere. */
bool userprog_elf_is_weak(const struct userprog_file *f, const char *name);

/* The name of a map's pin: without dots, which a bpffs refuses, and without the file's name. */
void map_pin_name(const struct bpf_map *map, char buf[NAME_MAX + 1]);
/* Belongs to the program, as its code does, and is not kept for the next one. */
bool map_is_code(const struct bpf_map *map);
/*
 * Has the map that is pinned in the folder used again. -ENOENT: there is none; -EEXIST: it has
 * another layout, which err tells (userprog_maps.c).
 */
int map_take(struct bpf_map *map, const struct btf *btf, const char *folder, char *err,
	     size_t err_len);

#endif
