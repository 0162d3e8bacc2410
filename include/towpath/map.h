/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Maps of the running kernel, whoever made them: found by name, id or pin, read and written as bytes
 * or as JSON in the form that the map's BTF gives (docs/guide/maps.md describes it). Needs CAP_BPF
 * and, for maps that others made, CAP_SYS_ADMIN. No agent is asked.
 *
 * Bytes are as the programs have them: numbers in the machine's order, addresses and ports in
 * network order where the program keeps them so. A function that can fail returns 0 or -errno and
 * leaves out-parameters as they were; `err` (may be NULL) gets one sentence. A struct tw_map may be
 * used by one thread at a time.
 */
#ifndef TOWPATH_MAP_H
#define TOWPATH_MAP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tw_map;

/* What can be done with a type of map from outside the kernel. */
enum tw_map_access {
	TW_MAP_ENTRIES, /* keys and values */
	TW_MAP_OBJECTS, /* keys, and as values the ids of programs or maps (program arrays, maps of maps) */
	TW_MAP_SOCKETS, /* keys, and as values the cookies of sockets; not written from here */
	TW_MAP_EVENTS,	/* ring and perf buffers: see <towpath/events.h> */
	TW_MAP_QUEUE,	/* queues, stacks, bloom filters: no keys */
	TW_MAP_OPAQUE,	/* nothing: local storage, arenas, struct_ops and others */
};

/* Facts about a map. Borrowed from the map; fields are only ever added at the end. */
struct tw_map_info {
	uint32_t id;
	uint32_t type;	       /* enum bpf_map_type */
	const char *type_name; /* "lru_hash"; "type 99" when this version does not know it */
	const char *name;      /* whole, where BTF has it; the kernel keeps 15 bytes */
	uint32_t key_size;     /* bytes */
	uint32_t value_size;   /* bytes; of one CPU */
	uint32_t max_entries;
	uint32_t flags; /* BPF_F_* */
	enum tw_map_access access;
	bool per_cpu;	 /* a value for each possible CPU */
	bool array;	 /* keys are indices; nothing can be deleted */
	bool frozen;	 /* cannot be written from outside the kernel any more */
	bool typed;	 /* BTF says what keys and values are */
	uint64_t memory; /* bytes of the kernel's; 0: it does not say */
};

/* ---- opening ------------------------------------------------------------------------------ */

/*
 * By a decimal id, a path (with '/') of a pin, or a name. *out is the caller's, for tw_map_close().
 * -ENOENT: no such map; -EEXIST: several have the name, err lists them; -EPERM.
 */
int tw_map_open(struct tw_map **out, const char *which, char *err, size_t err_len);
/* A map that is open; the descriptor stays the caller's and may be closed. */
int tw_map_open_fd(struct tw_map **out, int fd, char *err, size_t err_len);
void tw_map_close(struct tw_map *map); /* NULL is fine */

/*
 * All maps, in the order of their ids. fn returning other than 0 ends it, and is the result. A map is
 * closed when fn returns.
 */
int tw_map_each(int (*fn)(void *arg, struct tw_map *map), void *arg);

const struct tw_map_info *tw_map_info(const struct tw_map *map);
int tw_map_fd(const struct tw_map *map); /* the map's own; not to be closed */

/* Why the map has no entries that could be read; NULL: it has. */
const char *tw_map_refusal(const struct tw_map *map);

/* ---- bytes -------------------------------------------------------------------------------- */

/* Bytes of a value as the functions below take it: of all possible CPUs for per-CPU maps. */
size_t tw_map_value_len(const struct tw_map *map);
/* From one CPU's value to the next in it: the size, rounded up to 8. */
size_t tw_map_stride(const struct tw_map *map);
unsigned int tw_map_cpus(const struct tw_map *map); /* 1 for others */

/* -ENOENT: no such key. Values of TW_MAP_OBJECTS are ids, in both directions. */
int tw_map_lookup(const struct tw_map *map, const void *key, void *value);
/* flags: BPF_ANY, BPF_NOEXIST (-EEXIST), BPF_EXIST (-ENOENT). -E2BIG: full, or no such index. */
int tw_map_update(const struct tw_map *map, const void *key, const void *value, uint64_t flags);
int tw_map_remove(const struct tw_map *map, const void *key);

/*
 * Every entry, read in batches of at most a quarter of a megabyte where the kernel can. A map that
 * changes meanwhile is seen in part as it was before and in part as it was after. fn returning other
 * than 0 ends it, and is the result.
 */
int tw_map_entries(const struct tw_map *map,
		   int (*fn)(void *arg, const void *key, const void *value), void *arg);

/* ---- JSON --------------------------------------------------------------------------------- */

/* How values of per-CPU maps are written; others have but one form. */
enum tw_map_cpu_form {
	TW_MAP_SUM,  /* numbers added up; writing: the first CPU's is this, the others' 0 */
	TW_MAP_LIST, /* [{"cpu": 0, "value": ...}, ...]; writing: as well one value for all CPUs */
};

/* The caller's; NULL: no memory, or BTF that contradicts itself. */
json_t *tw_map_key_json(const struct tw_map *map, const void *key);
json_t *tw_map_value_json(const struct tw_map *map, const void *value, enum tw_map_cpu_form form);

/*
 * Into key_size bytes, tw_map_value_len() bytes. Simple values may come as strings ("80", "tcp",
 * "10.0.0.1"). -EINVAL: err begins with the path of the field. Members that are not named are 0.
 */
int tw_map_key_parse(const struct tw_map *map, const json_t *in, void *key, char *err,
		     size_t err_len);
int tw_map_value_parse(const struct tw_map *map, const json_t *in, enum tw_map_cpu_form form,
		       void *value, char *err, size_t err_len);

/*
 * The same with look-up, update and removal, and a sentence for whatever fails. *value is the
 * caller's. Maps that are sections of a program (.data, .bss) have one entry, key 0; there
 * tw_map_set() changes only the variables that are named.
 */
int tw_map_get(const struct tw_map *map, const json_t *key, enum tw_map_cpu_form form,
	       json_t **value, char *err, size_t err_len);
int tw_map_set(const struct tw_map *map, const json_t *key, const json_t *value,
	       enum tw_map_cpu_form form, uint64_t flags, char *err, size_t err_len);
int tw_map_delete(const struct tw_map *map, const json_t *key, char *err, size_t err_len);

#ifdef __cplusplus
}
#endif

#endif
