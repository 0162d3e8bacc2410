/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Entries of maps as bytes. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "map_internal.h"

#define BATCH_BYTES (256u * 1024u)
#define ENOTSUPP_KERNEL 524 /* a number of the kernel's own that comes out here */

size_t tw_map_stride(const struct tw_map *map)
{
	return ((size_t)map->info.value_size + 7) / 8 * 8;
}

unsigned int tw_map_cpus(const struct tw_map *map)
{
	return map->cpus;
}

size_t tw_map_value_len(const struct tw_map *map)
{
	/* The kernel gives a cookie of 64 bits, whatever the size of the value. */
	if (map->info.access == TW_MAP_SOCKETS)
		return map->info.value_size < 8 ? 8 : map->info.value_size;
	return map->info.per_cpu ? tw_map_stride(map) * map->cpus : map->info.value_size;
}

int tw_map_lookup(const struct tw_map *map, const void *key, void *value)
{
	if (tw_map_refusal(map))
		return -EOPNOTSUPP;
	return bpf_map_lookup_elem(map->fd, key, value) ? -errno : 0;
}

/* Program arrays and maps of maps take descriptors, and give ids. */
static int object_update(const struct tw_map *map, const void *key, const void *value,
			 uint64_t flags)
{
	uint32_t id;
	int fd, res;

	memcpy(&id, value, sizeof(id));
	fd = map->info.type == BPF_MAP_TYPE_PROG_ARRAY ? bpf_prog_get_fd_by_id(id)
						       : bpf_map_get_fd_by_id(id);
	/* Told apart from a key that is not there. */
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	res = bpf_map_update_elem(map->fd, key, &fd, flags) ? -errno : 0;
	close(fd);
	return res;
}

int tw_map_update(const struct tw_map *map, const void *key, const void *value, uint64_t flags)
{
	if (map->info.access == TW_MAP_OBJECTS)
		return object_update(map, key, value, flags);
	if (map->info.access != TW_MAP_ENTRIES)
		return -EOPNOTSUPP;
	return bpf_map_update_elem(map->fd, key, value, flags) ? -errno : 0;
}

int tw_map_remove(const struct tw_map *map, const void *key)
{
	if (tw_map_refusal(map))
		return -EOPNOTSUPP;
	return bpf_map_delete_elem(map->fd, key) ? -errno : 0;
}

/* ---- all entries ------------------------------------------------------------------------------ */

struct batch {
	uint8_t *keys, *values, *at, *next;
	uint32_t room;
	size_t key_len, value_len;
};

static void batch_free(struct batch *b)
{
	free(b->keys);
	free(b->values);
	free(b->at);
	free(b->next);
}

static int batch_resize(struct batch *b, uint32_t room)
{
	uint8_t *keys = realloc(b->keys, room * b->key_len), *values;

	if (!keys)
		return -ENOMEM;
	b->keys = keys;
	values = realloc(b->values, room * b->value_len);
	if (!values)
		return -ENOMEM;
	b->values = values;
	b->room = room;
	return 0;
}

static int batch_init(struct batch *b, const struct tw_map *map)
{
	b->key_len = map->info.key_size;
	b->value_len = tw_map_value_len(map);
	/* A position is a key, or of hash tables a bucket. */
	b->at = calloc(1, b->key_len + 8);
	b->next = calloc(1, b->key_len + 8);
	if (!b->at || !b->next)
		return -ENOMEM;
	size_t room = BATCH_BYTES / (b->key_len + b->value_len);

	if (room > map->info.max_entries)
		room = map->info.max_entries;
	return batch_resize(b, room ? (uint32_t)room : 1);
}

static int batch_give(const struct batch *b, uint32_t n,
		      int (*fn)(void *arg, const void *key, const void *value), void *arg)
{
	int res = 0;

	for (uint32_t i = 0; !res && i < n; i++)
		res = fn(arg, b->keys + i * b->key_len, b->values + i * b->value_len);
	return res;
}

/* -EOPNOTSUPP: this kernel has no batches for the type, and nothing was given. */
static int entries_batched(const struct tw_map *map, struct batch *b,
			   int (*fn)(void *arg, const void *key, const void *value), void *arg)
{
	bool begun = false;
	int res = 0;

	while (!res) {
		uint32_t n = b->room;
		uint8_t *at;
		bool last;

		if (bpf_map_lookup_batch(map->fd, begun ? b->at : NULL, b->next, b->keys, b->values,
					 &n, NULL)) {
			/* A bucket has more than there is room for. */
			if (errno == ENOSPC && b->room <= map->info.max_entries) {
				res = batch_resize(b, b->room * 2);
				continue;
			}
			if (errno == EINTR || errno == EAGAIN)
				continue;
			if (errno != ENOENT)
				return !begun && (errno == ENOTSUPP_KERNEL || errno == EINVAL ||
						  errno == EOPNOTSUPP)
					       ? -EOPNOTSUPP
					       : -errno;
			last = true;
		} else {
			last = false;
		}
		res = batch_give(b, n, fn, arg);
		if (last)
			break;
		begun = true;
		at = b->at;
		b->at = b->next;
		b->next = at;
	}
	return res;
}

/*
 * Key by key. The next key is asked for while this one is there: else the search begins anew, and
 * the bound ends what would go on for as long as a program deletes.
 */
static int entries_by_key(const struct tw_map *map, struct batch *b,
			  int (*fn)(void *arg, const void *key, const void *value), void *arg)
{
	uint8_t *key = b->at, *next = b->next, *swap;
	uint64_t bound = 2ull * map->info.max_entries + 16;
	bool more = !bpf_map_get_next_key(map->fd, NULL, key);
	int res = more || errno == ENOENT ? 0 : -errno;

	while (!res && more && bound--) {
		more = !bpf_map_get_next_key(map->fd, key, next);
		if (!bpf_map_lookup_elem(map->fd, key, b->values))
			res = fn(arg, key, b->values);
		else if (errno != ENOENT)
			return -errno;
		swap = key;
		key = next;
		next = swap;
	}
	return res;
}

int tw_map_entries(const struct tw_map *map,
		   int (*fn)(void *arg, const void *key, const void *value), void *arg)
{
	struct batch b = {};
	int res = tw_map_refusal(map) ? -EOPNOTSUPP : batch_init(&b, map);

	if (!res) {
		res = map->info.access == TW_MAP_ENTRIES ? entries_batched(map, &b, fn, arg)
							 : -EOPNOTSUPP;
		if (res == -EOPNOTSUPP)
			res = entries_by_key(map, &b, fn, arg);
	}
	batch_free(&b);
	return res;
}
