/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Maps that outlive the program which made them: a new version of it gets those of the same name
 * and layout, with what is in them. The layout is the kernel's numbers and, where both sides have
 * types, the names and places of the fields: two structs of one size are not the same.
 */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "userprog_internal.h"

#define DEPTH_MAX 16 /* of structs in structs; C programs have three */

void map_pin_name(const struct bpf_map *map, char buf[NAME_MAX + 1])
{
	const char *name = bpf_map__name(map), *dot = strchr(name, '.');

	/* "count.bss": what is before the dot is the object's name. */
	snprintf(buf, NAME_MAX + 1, "%s", dot ? dot + 1 : name);
	for (char *at = buf; *at; at++)
		if (*at == '.')
			*at = '_';
}

bool map_is_code(const struct bpf_map *map)
{
	const char *dot = strchr(bpf_map__name(map), '.');

	if (bpf_map__type(map) == BPF_MAP_TYPE_PROG_ARRAY)
		return true;
	return dot && (!strncmp(dot, ".rodata", 7) || !strncmp(dot, ".kconfig", 8));
}

/* ---- types ------------------------------------------------------------------------------------ */

struct typed {
	const struct btf *btf;
	uint32_t id;
};

static bool type_same(struct typed a, struct typed b, int depth);

static const struct btf_type *type_get(struct typed *t)
{
	const struct btf_type *type = btf__type_by_id(t->btf, t->id);

	while (type && (btf_is_mod(type) || btf_is_typedef(type))) {
		t->id = type->type;
		type = btf__type_by_id(t->btf, t->id);
	}
	return type;
}

static bool name_same(struct typed a, uint32_t name_a, struct typed b, uint32_t name_b)
{
	const char *x = btf__name_by_offset(a.btf, name_a);
	const char *y = btf__name_by_offset(b.btf, name_b);

	return !strcmp(x ? x : "", y ? y : "");
}

static bool members_same(struct typed a, const struct btf_type *x, struct typed b,
			 const struct btf_type *y, int depth)
{
	const struct btf_member *m = btf_members(x), *n = btf_members(y);

	for (uint32_t i = 0; i < btf_vlen(x); i++) {
		if (m[i].offset != n[i].offset || !name_same(a, m[i].name_off, b, n[i].name_off) ||
		    !type_same((struct typed){ a.btf, m[i].type },
			       (struct typed){ b.btf, n[i].type }, depth))
			return false;
	}
	return true;
}

/* Global variables: ".bss" and ".data". */
static bool variables_same(struct typed a, const struct btf_type *x, struct typed b,
			   const struct btf_type *y, int depth)
{
	const struct btf_var_secinfo *m = btf_var_secinfos(x), *n = btf_var_secinfos(y);

	for (uint32_t i = 0; i < btf_vlen(x); i++) {
		if (m[i].offset != n[i].offset || m[i].size != n[i].size ||
		    !type_same((struct typed){ a.btf, m[i].type },
			       (struct typed){ b.btf, n[i].type }, depth))
			return false;
	}
	return true;
}

static bool type_same(struct typed a, struct typed b, int depth)
{
	const struct btf_type *x = type_get(&a), *y = type_get(&b);

	if (!a.id && !b.id)
		return true; /* void */
	if (!x || !y || btf_kind(x) != btf_kind(y) || btf_vlen(x) != btf_vlen(y) || depth <= 0)
		return false;
	switch (btf_kind(x)) {
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return x->size == y->size && members_same(a, x, b, y, depth - 1);
	case BTF_KIND_DATASEC:
		return x->size == y->size && variables_same(a, x, b, y, depth - 1);
	case BTF_KIND_VAR:
		return name_same(a, x->name_off, b, y->name_off) &&
		       type_same((struct typed){ a.btf, x->type }, (struct typed){ b.btf, y->type },
				 depth - 1);
	case BTF_KIND_ARRAY:
		return btf_array(x)->nelems == btf_array(y)->nelems &&
		       type_same((struct typed){ a.btf, btf_array(x)->type },
				 (struct typed){ b.btf, btf_array(y)->type }, depth - 1);
	case BTF_KIND_INT:
	case BTF_KIND_FLOAT:
	case BTF_KIND_ENUM:
	case BTF_KIND_ENUM64:
		return x->size == y->size &&
		       (btf_kind(x) != BTF_KIND_INT || btf_int_encoding(x) == btf_int_encoding(y));
	default:
		return true; /* pointers, of which only the size matters here */
	}
}

/* ---- layouts ---------------------------------------------------------------------------------- */

static bool types_kept(const struct bpf_map *map, const struct btf *btf,
		       const struct bpf_map_info *old)
{
	const uint32_t ours[] = { bpf_map__btf_key_type_id(map), bpf_map__btf_value_type_id(map) };
	const uint32_t theirs[] = { old->btf_key_type_id, old->btf_value_type_id };
	bool same = true;

	if (!btf || !old->btf_id || (!theirs[0] && !theirs[1]))
		return true; /* who says nothing of types promises nothing */
	struct btf *kernel = btf__load_from_kernel_by_id(old->btf_id);
	for (int i = 0; i < 2 && kernel && same; i++)
		same = !ours[i] || !theirs[i] ||
		       type_same((struct typed){ btf, ours[i] },
				 (struct typed){ kernel, theirs[i] }, DEPTH_MAX);
	btf__free(kernel);
	return same;
}

static int layout_check(const struct bpf_map *map, const struct btf *btf,
			const struct bpf_map_info *old, char *err, size_t err_len)
{
	const struct {
		const char *what;
		uint32_t now, was;
	} numbers[] = {
		{ "its type is", bpf_map__type(map), old->type },
		{ "its key has bytes:", bpf_map__key_size(map), old->key_size },
		{ "its value has bytes:", bpf_map__value_size(map), old->value_size },
		{ "its entries are", bpf_map__max_entries(map), old->max_entries },
		{ "its flags are", bpf_map__map_flags(map), old->map_flags },
	};
	char name[NAME_MAX + 1];

	map_pin_name(map, name);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		/* 0: as many as there are CPUs, chosen at the load. */
		if (numbers[i].now == numbers[i].was || (i == 3 && !numbers[i].now))
			continue;
		snprintf(err, err_len,
			 "the map %.64s has another layout than the one in use (%s %u, was %u), so "
			 "its content cannot be kept; add --new-maps to begin with empty maps",
			 name, numbers[i].what, numbers[i].now, numbers[i].was);
		return -EEXIST;
	}
	if (types_kept(map, btf, old))
		return 0;
	snprintf(err, err_len,
		 "the map %.64s has other fields than the one in use, so its content cannot be "
		 "kept; add --new-maps to begin with empty maps",
		 name);
	return -EEXIST;
}

int map_take(struct bpf_map *map, const struct btf *btf, const char *folder, char *err,
	     size_t err_len)
{
	char path[PATH_MAX], name[NAME_MAX + 1];
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);
	int res, fd;

	map_pin_name(map, name);
	snprintf(path, sizeof(path), "%.3800s/%.255s", folder, name);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return -errno;
	res = bpf_map_get_info_by_fd(fd, &info, &len) ? -errno : 0;
	if (!res)
		res = layout_check(map, btf, &info, err, err_len);
	if (!res)
		res = bpf_map__reuse_fd(map, fd);
	close(fd);
	return res;
}
