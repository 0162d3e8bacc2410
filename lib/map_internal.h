/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the parts of libtowpath's maps share; the public side is <towpath/map.h>. */
#ifndef TOWPATH_MAP_INTERNAL_H
#define TOWPATH_MAP_INTERNAL_H

#include <bpf/btf.h>
#include <linux/bpf.h>
#include <towpath/map.h>

#define TW_MAP_NAME_MAX 128u

struct tw_map {
	struct tw_map_info info;
	int fd;
	unsigned int cpus;
	struct btf *btf;	       /* NULL: the map has none */
	uint32_t key_type, value_type; /* 0: not known */
	char name[TW_MAP_NAME_MAX];
	char type_name[24];
};

/* What is known of a type of map. */
struct map_kind {
	const char *name; /* as in libbpf and bpftool; NULL: not known */
	enum tw_map_access access;
	bool per_cpu, array;
};
struct map_kind map_kind(uint32_t type);

/* Whether values are a program's variables. */
bool map_is_section(const struct tw_map *map);

#endif
