/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Keys and values of maps as JSON. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "btf_shape.h"
#include "btf_value.h"
#include "datapath_internal.h"
#include "map_internal.h"

#define cleanup_free_ __attribute__((cleanup(cleanup_free)))
static void cleanup_free(void *p)
{
	free(*(void **)p);
}

static bool map_is_indexed(const struct tw_map *m)
{
	switch (m->info.type) {
	case BPF_MAP_TYPE_PROG_ARRAY:
	case BPF_MAP_TYPE_ARRAY_OF_MAPS:
	case BPF_MAP_TYPE_SOCKMAP:
	case BPF_MAP_TYPE_REUSEPORT_SOCKARRAY:
	case BPF_MAP_TYPE_DEVMAP:
	case BPF_MAP_TYPE_CPUMAP:
		return true;
	default:
		return m->info.array;
	}
}

/* Indices are numbers, without any BTF. */
static bool key_is_index(const struct tw_map *m)
{
	return !m->key_type && m->info.key_size == 4 && map_is_indexed(m);
}

/* ---- out -------------------------------------------------------------------------------------- */

static json_t *typed_json(const struct tw_map *m, uint32_t type, const void *data, size_t size)
{
	json_t *out;

	if (!type)
		return btf_hex_json(data, size);
	return btf_value_json(m->btf, type, data, size, &out) ? NULL : out;
}

json_t *tw_map_key_json(const struct tw_map *map, const void *key)
{
	uint32_t index;

	if (!key_is_index(map))
		return typed_json(map, map->key_type, key, map->info.key_size);
	memcpy(&index, key, sizeof(index));
	return json_integer(index);
}

static json_t *number_json(const struct tw_map *m, const void *value)
{
	uint64_t cookie;
	uint32_t id;

	memcpy(&cookie, value, m->info.access == TW_MAP_SOCKETS ? 8 : 0);
	memcpy(&id, value, m->info.access == TW_MAP_SOCKETS ? 0 : 4);
	return json_integer(m->info.access == TW_MAP_SOCKETS ? (json_int_t)cookie : id);
}

static json_t *sum_json(const struct tw_map *m, const uint8_t *value)
{
	cleanup_free_ uint8_t *sum = malloc(m->info.value_size + 1);

	if (!sum)
		return NULL;
	memcpy(sum, value, m->info.value_size);
	for (unsigned int cpu = 1; cpu < m->cpus; cpu++)
		if (btf_value_sum(m->btf, m->value_type, sum, value + cpu * tw_map_stride(m),
				  m->info.value_size))
			return NULL;
	return typed_json(m, m->value_type, sum, m->info.value_size);
}

static json_t *list_json(const struct tw_map *m, const uint8_t *value)
{
	json_t *list = json_array();

	for (unsigned int cpu = 0; cpu < m->cpus; cpu++) {
		json_t *one = typed_json(m, m->value_type, value + cpu * tw_map_stride(m),
					 m->info.value_size);

		if (!one || json_array_append_new(
				    list, json_pack("{s:i, s:o}", "cpu", (int)cpu, "value", one))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

json_t *tw_map_value_json(const struct tw_map *map, const void *value, enum tw_map_cpu_form form)
{
	if (map->info.access == TW_MAP_OBJECTS || map->info.access == TW_MAP_SOCKETS)
		return number_json(map, value);
	if (!map->info.per_cpu)
		return typed_json(map, map->value_type, value, map->info.value_size);
	/* Nothing can be added up of which nobody knows what it is. */
	return form == TW_MAP_SUM && map->value_type ? sum_json(map, value) : list_json(map, value);
}

/* ---- in --------------------------------------------------------------------------------------- */

static int u32_parse(const json_t *in, const char *name, void *out, char *err, size_t err_len)
{
	const char *text = json_string_value(in);
	char *end = NULL;
	long long v = json_is_integer(in)		     ? json_integer_value(in)
		      : text && *text >= '0' && *text <= '9' ? strtoll(text, &end, 0)
							     : -1;

	if (v < 0 || v > UINT32_MAX || (end && *end)) {
		char *found = json_dumps(in, JSON_ENCODE_ANY);

		datapath_message(err, err_len,
				 "%s: expected a number from 0 to 4294967295, found %.60s", name,
				 found ? found : "");
		free(found);
		return -EINVAL;
	}
	uint32_t value = (uint32_t)v;

	memcpy(out, &value, sizeof(value));
	return 0;
}

static int typed_parse(const struct tw_map *m, uint32_t type, const json_t *in, void *data,
		       size_t size, const char *name, char *err, size_t err_len)
{
	char text[512];
	int res = type ? btf_value_parse(m->btf, type, in, data, size, name, text, sizeof(text))
		       : btf_hex_parse(in, data, size, name, text, sizeof(text));

	if (res == -EINVAL)
		datapath_message(err, err_len, "%s", text);
	else if (res)
		datapath_message(err, err_len, "%s: %s", name, strerror(-res));
	return res;
}

int tw_map_key_parse(const struct tw_map *map, const json_t *in, void *key, char *err,
		     size_t err_len)
{
	if (key_is_index(map))
		return u32_parse(in, "key", key, err, err_len);
	return typed_parse(map, map->key_type, in, key, map->info.key_size, "key", err, err_len);
}

static bool is_cpu_list(const json_t *in)
{
	const json_t *first = json_array_get(in, 0);

	return json_is_integer(json_object_get(first, "cpu")) && json_object_get(first, "value");
}

static int list_parse(const struct tw_map *m, const json_t *in, uint8_t *value, char *err,
		      size_t err_len)
{
	json_t *element;
	char name[64];
	size_t i;

	json_array_foreach(in, i, element) {
		const json_t *cpu = json_object_get(element, "cpu"),
			     *one = json_object_get(element, "value");
		json_int_t n = json_integer_value(cpu);
		int res;

		snprintf(name, sizeof(name), "value[%zu]", i);
		if (!json_is_integer(cpu) || !one || n < 0 || n >= m->cpus) {
			datapath_message(err, err_len,
					 "%s: expected {\"cpu\": 0 to %u, \"value\": ...}", name,
					 m->cpus - 1);
			return -EINVAL;
		}
		snprintf(name, sizeof(name), "value[%zu].value", i);
		res = typed_parse(m, m->value_type, one, value + (size_t)n * tw_map_stride(m),
				  m->info.value_size, name, err, err_len);
		if (res)
			return res;
	}
	return 0;
}

static int per_cpu_parse(const struct tw_map *m, const json_t *in, enum tw_map_cpu_form form,
			 uint8_t *value, char *err, size_t err_len)
{
	memset(value, 0, tw_map_value_len(m));
	if (is_cpu_list(in))
		return list_parse(m, in, value, err, err_len);
	int res =
		typed_parse(m, m->value_type, in, value, m->info.value_size, "value", err, err_len);

	for (unsigned int cpu = 1; !res && form == TW_MAP_LIST && cpu < m->cpus; cpu++)
		memcpy(value + cpu * tw_map_stride(m), value, m->info.value_size);
	return res;
}

int tw_map_value_parse(const struct tw_map *map, const json_t *in, enum tw_map_cpu_form form,
		       void *value, char *err, size_t err_len)
{
	if (map->info.access == TW_MAP_OBJECTS)
		return u32_parse(in, "value", value, err, err_len);
	if (map->info.per_cpu)
		return per_cpu_parse(map, in, form, value, err, err_len);
	return typed_parse(map, map->value_type, in, value, map->info.value_size, "value", err,
			   err_len);
}

/* ---- one entry -------------------------------------------------------------------------------- */

static void error_tell(const struct tw_map *m, int error, char *err, size_t err_len)
{
	const struct tw_map_info *i = &m->info;
	bool full = error == -E2BIG || error == -ENOSPC;

	if (tw_map_refusal(m) && error == -EOPNOTSUPP)
		datapath_message(err, err_len, "%s is a %s: %s", i->name, i->type_name,
				 tw_map_refusal(m));
	else if (i->access == TW_MAP_SOCKETS && (error == -EOPNOTSUPP || error == -ENOSPC))
		datapath_message(err, err_len, "%s is a %s: its values are sockets%s", i->name,
				 i->type_name,
				 error == -ENOSPC ? ", and told only where they have 8 bytes"
						  : ", which only their owner can put in");
	else if (full && map_is_indexed(m))
		datapath_message(err, err_len, "%s has the indices 0 to %u only", i->name,
				 i->max_entries - 1);
	else if (full)
		datapath_message(err, err_len, "%s is full: it holds %u entries", i->name,
				 i->max_entries);
	else if (error == -ENOENT)
		datapath_message(err, err_len, "%s has no such key", i->name);
	else if (error == -EEXIST)
		datapath_message(err, err_len, "%s has that key already", i->name);
	else if (error == -ESRCH)
		datapath_message(err, err_len, "there is no %s with that id",
				 i->type == BPF_MAP_TYPE_PROG_ARRAY ? "program" : "map");
	else if (error == -EPERM && (i->frozen || i->flags & BPF_F_RDONLY))
		datapath_message(err, err_len, "%s is %s: it cannot be changed from outside",
				 i->name, i->frozen ? "frozen" : "read-only");
	else if (error == -EINVAL && i->access == TW_MAP_OBJECTS)
		datapath_message(err, err_len,
				 "%s does not take that one: its type, or its layout, is another",
				 i->name);
	else
		datapath_message(err, err_len, "%s: %s", i->name, strerror(-error));
}

static int told(const struct tw_map *m, int res, char *err, size_t err_len)
{
	if (res)
		error_tell(m, res, err, err_len);
	return res;
}

/* A key and room for a value, or a sentence why not. */
static int entry_prepare(const struct tw_map *m, const json_t *key, uint8_t **k, uint8_t **v,
			 char *err, size_t err_len)
{
	if (tw_map_refusal(m))
		return told(m, -EOPNOTSUPP, err, err_len);
	*k = calloc(1, m->info.key_size + 1);
	*v = calloc(1, tw_map_value_len(m) + 8);
	if (!*k || !*v)
		return told(m, -ENOMEM, err, err_len);
	return tw_map_key_parse(m, key, *k, err, err_len);
}

int tw_map_get(const struct tw_map *map, const json_t *key, enum tw_map_cpu_form form,
	       json_t **value, char *err, size_t err_len)
{
	cleanup_free_ uint8_t *k = NULL, *v = NULL;
	int res = entry_prepare(map, key, &k, &v, err, err_len);

	if (res)
		return res;
	res = tw_map_lookup(map, k, v);
	/* Of arrays every index is there, as far as they go. */
	if (res == -ENOENT && map->info.array)
		res = -E2BIG;
	if (res)
		return told(map, res, err, err_len);
	json_t *out = tw_map_value_json(map, v, form);

	if (!out) {
		datapath_message(err, err_len, "%s: its BTF does not fit its values",
				 map->info.name);
		return -EBADMSG;
	}
	*value = out;
	return 0;
}

/*
 * The bytes of eight that differ, by one store of the smallest aligned word that has them all: a
 * program sees a variable as it was or as it is.
 */
static void word_write(uint8_t *at, const uint8_t *old, const uint8_t *new)
{
	size_t first = 0, last = 7, size = 1, begin;

	while (first < 8 && old[first] == new[first])
		first++;
	if (first == 8)
		return;
	while (old[last] == new[last])
		last--;
	while (first / size != last / size)
		size *= 2;
	begin = first / size * size;
	uint64_t value = btf_bits_read(new + begin, 0, (unsigned int)size * 8);

	switch (size) {
	case 1:
		__atomic_store_n(at + begin, (uint8_t)value, __ATOMIC_RELEASE);
		break;
	case 2:
		__atomic_store_n((uint16_t *)(at + begin), (uint16_t)value, __ATOMIC_RELEASE);
		break;
	case 4:
		__atomic_store_n((uint32_t *)(at + begin), (uint32_t)value, __ATOMIC_RELEASE);
		break;
	default:
		__atomic_store_n((uint64_t *)at, value, __ATOMIC_RELEASE);
	}
}

/*
 * A program goes on writing its variables meanwhile, so only those that were asked for are
 * written, in place, where the map can be mapped. old and new have eight bytes of room more.
 */
static int section_write(const struct tw_map *m, const uint8_t *old, const uint8_t *new)
{
	size_t size = m->info.value_size;
	uint32_t zero = 0;
	uint8_t *at;

	if (!(m->info.flags & BPF_F_MMAPABLE))
		return tw_map_update(m, &zero, new, BPF_ANY);
	at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	for (size_t i = 0; i < size; i += 8)
		word_write(at + i, old + i, new + i);
	munmap(at, size);
	return 0;
}

int tw_map_set(const struct tw_map *map, const json_t *key, const json_t *value,
	       enum tw_map_cpu_form form, uint64_t flags, char *err, size_t err_len)
{
	cleanup_free_ uint8_t *k = NULL, *v = NULL, *old = NULL;
	bool sockets = map->info.access == TW_MAP_SOCKETS, section = map_is_section(map);
	int res = sockets ? told(map, -EOPNOTSUPP, err, err_len)
			  : entry_prepare(map, key, &k, &v, err, err_len);

	if (!res && section) {
		old = calloc(1, map->info.value_size + 8);
		res = old ? tw_map_lookup(map, k, v) : -ENOMEM;
		if (res)
			return told(map, res, err, err_len);
		memcpy(old, v, map->info.value_size);
	}
	if (!res)
		res = tw_map_value_parse(map, value, form, v, err, err_len);
	if (res)
		return res;
	if (map->info.frozen)
		res = -EPERM;
	else if (section && !map->info.per_cpu)
		res = section_write(map, old, v);
	else
		res = tw_map_update(map, k, v, flags);
	return told(map, res, err, err_len);
}

int tw_map_delete(const struct tw_map *map, const json_t *key, char *err, size_t err_len)
{
	cleanup_free_ uint8_t *k = NULL, *v = NULL;
	int res = entry_prepare(map, key, &k, &v, err, err_len);

	if (res)
		return res;
	if (map->info.array) {
		datapath_message(err, err_len,
				 "%s is an array: its elements can be set to 0, but not deleted",
				 map->info.name);
		return -EINVAL;
	}
	return told(map, tw_map_remove(map, k), err, err_len);
}
