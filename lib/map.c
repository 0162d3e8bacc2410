/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Maps of the running kernel: finding them, and what is known of them. */
#include "map_internal.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpf_objects.h"
#include "datapath_internal.h"

#define NAMED_MAX 8u /* that an error lists */

/* ---- types ------------------------------------------------------------------------------------ */

struct map_kind map_kind(uint32_t type)
{
	static const struct map_kind kinds[] = {
		[BPF_MAP_TYPE_HASH] = { .name = "hash", .access = TW_MAP_ENTRIES },
		[BPF_MAP_TYPE_ARRAY] = { .name = "array", .access = TW_MAP_ENTRIES, .array = true },
		[BPF_MAP_TYPE_PROG_ARRAY] = { .name = "prog_array", .access = TW_MAP_OBJECTS },
		[BPF_MAP_TYPE_PERF_EVENT_ARRAY] = { .name = "perf_event_array",
						    .access = TW_MAP_EVENTS },
		[BPF_MAP_TYPE_PERCPU_HASH] = { .name = "percpu_hash",
					       .access = TW_MAP_ENTRIES,
					       .per_cpu = true },
		[BPF_MAP_TYPE_PERCPU_ARRAY] = { .name = "percpu_array",
						.access = TW_MAP_ENTRIES,
						.per_cpu = true,
						.array = true },
		[BPF_MAP_TYPE_STACK_TRACE] = { .name = "stack_trace", .access = TW_MAP_ENTRIES },
		[BPF_MAP_TYPE_CGROUP_ARRAY] = { .name = "cgroup_array", .access = TW_MAP_OPAQUE },
		[BPF_MAP_TYPE_LRU_HASH] = { .name = "lru_hash", .access = TW_MAP_ENTRIES },
		[BPF_MAP_TYPE_LRU_PERCPU_HASH] = { .name = "lru_percpu_hash",
						   .access = TW_MAP_ENTRIES,
						   .per_cpu = true },
		[BPF_MAP_TYPE_LPM_TRIE] = { .name = "lpm_trie", .access = TW_MAP_ENTRIES },
		[BPF_MAP_TYPE_ARRAY_OF_MAPS] = { .name = "array_of_maps",
						 .access = TW_MAP_OBJECTS },
		[BPF_MAP_TYPE_HASH_OF_MAPS] = { .name = "hash_of_maps", .access = TW_MAP_OBJECTS },
		[BPF_MAP_TYPE_DEVMAP] = { .name = "devmap", .access = TW_MAP_ENTRIES },
		[BPF_MAP_TYPE_SOCKMAP] = { .name = "sockmap", .access = TW_MAP_SOCKETS },
		[BPF_MAP_TYPE_CPUMAP] = { .name = "cpumap", .access = TW_MAP_ENTRIES },
		[BPF_MAP_TYPE_XSKMAP] = { .name = "xskmap", .access = TW_MAP_OPAQUE },
		[BPF_MAP_TYPE_SOCKHASH] = { .name = "sockhash", .access = TW_MAP_SOCKETS },
		[BPF_MAP_TYPE_CGROUP_STORAGE] = { .name = "cgroup_storage",
						  .access = TW_MAP_ENTRIES },
		[BPF_MAP_TYPE_REUSEPORT_SOCKARRAY] = { .name = "reuseport_sockarray",
						       .access = TW_MAP_SOCKETS },
		[BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE] = { .name = "percpu_cgroup_storage",
							 .access = TW_MAP_ENTRIES,
							 .per_cpu = true },
		[BPF_MAP_TYPE_QUEUE] = { .name = "queue", .access = TW_MAP_QUEUE },
		[BPF_MAP_TYPE_STACK] = { .name = "stack", .access = TW_MAP_QUEUE },
		[BPF_MAP_TYPE_SK_STORAGE] = { .name = "sk_storage", .access = TW_MAP_OPAQUE },
		[BPF_MAP_TYPE_DEVMAP_HASH] = { .name = "devmap_hash", .access = TW_MAP_ENTRIES },
		[BPF_MAP_TYPE_STRUCT_OPS] = { .name = "struct_ops", .access = TW_MAP_OPAQUE },
		[BPF_MAP_TYPE_RINGBUF] = { .name = "ringbuf", .access = TW_MAP_EVENTS },
		[BPF_MAP_TYPE_INODE_STORAGE] = { .name = "inode_storage", .access = TW_MAP_OPAQUE },
		[BPF_MAP_TYPE_TASK_STORAGE] = { .name = "task_storage", .access = TW_MAP_OPAQUE },
		[BPF_MAP_TYPE_BLOOM_FILTER] = { .name = "bloom_filter", .access = TW_MAP_QUEUE },
		[BPF_MAP_TYPE_USER_RINGBUF] = { .name = "user_ringbuf", .access = TW_MAP_OPAQUE },
		[BPF_MAP_TYPE_CGRP_STORAGE] = { .name = "cgrp_storage", .access = TW_MAP_OPAQUE },
		/* Newer than the headers of the oldest system that this is built on. */
		[33] = { .name = "arena", .access = TW_MAP_OPAQUE },
		[34] = { .name = "insn_array", .access = TW_MAP_OPAQUE },
	};
	static const struct map_kind unknown = { .access = TW_MAP_OPAQUE };

	return type < sizeof(kinds) / sizeof(*kinds) && kinds[type].name ? kinds[type] : unknown;
}

const char *tw_map_refusal(const struct tw_map *map)
{
	switch (map->info.access) {
	case TW_MAP_EVENTS:
		return "it holds events, not entries, and its reader takes them out";
	case TW_MAP_QUEUE:
		return "its elements have no keys, and reading takes them out";
	case TW_MAP_OPAQUE:
		return "the kernel does not let its contents be read from outside";
	default:
		return NULL;
	}
}

bool map_is_section(const struct tw_map *map)
{
	const struct btf_type *t = map->btf ? btf__type_by_id(map->btf, map->value_type) : NULL;

	return t && btf_is_datasec(t);
}

/* ---- what BTF says ---------------------------------------------------------------------------- */

static const char *name_of(const struct btf *btf, const struct btf_type *t)
{
	const char *name = t ? btf__name_by_offset(btf, t->name_off) : NULL;

	return name ? name : "";
}

/* The struct that a map is defined by. */
static const struct btf_type *definition_struct(const struct btf *btf, const struct btf_type *var)
{
	const struct btf_type *def = btf__type_by_id(btf, var->type);

	while (def && (btf_is_mod(def) || btf_is_typedef(def)) && def->type)
		def = btf__type_by_id(btf, def->type);
	return def && btf_is_struct(def) ? def : NULL;
}

/* What the pointer called `member` points to: __uint and __type are written so. NULL: none. */
static const struct btf_type *definition_part(const struct btf *btf, const struct btf_type *def,
					      const char *member, uint32_t *id)
{
	for (uint16_t i = 0; def && i < btf_vlen(def); i++) {
		const struct btf_member *m = btf_members(def) + i;
		const struct btf_type *ptr = btf__type_by_id(btf, m->type);
		const char *name = btf__name_by_offset(btf, m->name_off);

		if (!name || strcmp(name, member) || !ptr || !btf_is_ptr(ptr))
			continue;
		*id = ptr->type;
		return btf__type_by_id(btf, ptr->type);
	}
	return NULL;
}

/* `__type(key, ...)`, if it has the size that the kernel says; 0: there is none. */
static uint32_t definition_type(const struct btf *btf, const struct btf_type *def,
				const char *member, uint32_t size)
{
	uint32_t id;

	return definition_part(btf, def, member, &id) && btf__resolve_size(btf, id) == size ? id
											    : 0;
}

/*
 * Whether a variable of .maps defines this map. The kernel has only 15 bytes of its name, so the
 * type and the sizes count, too.
 */
static bool definition_fits(const struct tw_map *m, const struct btf_type *var)
{
	const struct btf_type *def = definition_struct(m->btf, var), *part;
	const char *name = name_of(m->btf, var);
	size_t len = strlen(m->name);
	uint32_t id;

	if (!strcmp(name, m->name))
		return true;
	if (len != BPF_OBJ_NAME_LEN - 1 || strncmp(name, m->name, len))
		return false;
	part = definition_part(m->btf, def, "type", &id);
	if (!part || !btf_is_array(part) || btf_array(part)->nelems != m->info.type)
		return false;
	part = definition_part(m->btf, def, "value", &id);
	return !part || btf__resolve_size(m->btf, id) == m->info.value_size;
}

/* The variable that defines the map; NULL: none, or more than one could be. */
static const struct btf_type *definition_find(const struct tw_map *m)
{
	int id = btf__find_by_name_kind(m->btf, ".maps", BTF_KIND_DATASEC);
	const struct btf_type *sec = id > 0 ? btf__type_by_id(m->btf, (uint32_t)id) : NULL;
	const struct btf_type *found = NULL;

	for (uint16_t i = 0; sec && i < btf_vlen(sec); i++) {
		const struct btf_type *var = btf__type_by_id(m->btf, btf_var_secinfos(sec)[i].type);

		if (!var || !btf_is_var(var))
			return NULL;
		if (!definition_fits(m, var))
			continue;
		if (found)
			return NULL;
		found = var;
	}
	return found;
}

static void definition_take(struct tw_map *m)
{
	const struct btf_type *var = definition_find(m), *def;

	if (!var)
		return;
	def = definition_struct(m->btf, var);
	snprintf(m->name, sizeof(m->name), "%.127s", name_of(m->btf, var));
	if (!m->key_type)
		m->key_type = definition_type(m->btf, def, "key", m->info.key_size);
	if (!m->value_type && m->info.access == TW_MAP_ENTRIES)
		m->value_type = definition_type(m->btf, def, "value", m->info.value_size);
}

static int btf_of_program(void *arg, int fd, const struct bpf_prog_info *info,
			  const uint32_t *map_ids)
{
	struct tw_map *m = arg;

	for (uint32_t i = 0; info->btf_id && i < info->nr_map_ids; i++) {
		if (map_ids[i] != m->info.id)
			continue;
		m->btf = btf__load_from_kernel_by_id(info->btf_id);
		if (m->btf && definition_find(m))
			return 1;
		btf__free(m->btf);
		m->btf = NULL;
	}
	return 0;
}

/*
 * libbpf gives the kernel no BTF for maps of maps, of sockets and of devices, for queues and buffers.
 * Their definition is in the BTF of the programs that use them.
 */
static void btf_take(struct tw_map *m, const struct bpf_map_info *info)
{
	if (info->btf_id)
		m->btf = btf__load_from_kernel_by_id(info->btf_id);
	if (m->btf) {
		m->key_type = info->btf_key_type_id;
		m->value_type = info->btf_value_type_id;
	} else if (*m->name && m->info.access != TW_MAP_OPAQUE) {
		bpf_programs_each(btf_of_program, m);
	}
	if (m->btf)
		definition_take(m);
	if (m->info.access == TW_MAP_OBJECTS || m->info.access == TW_MAP_SOCKETS)
		m->value_type = 0;
	m->info.typed = m->key_type || m->value_type;
}

/* ---- opening ---------------------------------------------------------------------------------- */

static void fdinfo_read(struct tw_map *m)
{
	char path[64], line[128];
	unsigned long long n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", m->fd);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "memlock: %llu", &n) == 1)
			m->info.memory = n;
		else if (sscanf(line, "frozen: %llu", &n) == 1)
			m->info.frozen = n;
	}
	if (f)
		fclose(f);
}

/* Takes the descriptor, also on failure. `btf` false: for a list, which needs none. */
static int map_make(struct tw_map **out, int fd, bool btf)
{
	struct tw_map *m = calloc(1, sizeof(*m));
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);
	int res = !m ? -ENOMEM : bpf_map_get_info_by_fd(fd, &info, &len) ? -errno : 0;
	struct map_kind kind = map_kind(info.type);

	if (res) {
		free(m);
		close(fd);
		return res;
	}
	int cpus = kind.per_cpu ? libbpf_num_possible_cpus() : 1;
	m->fd = fd;
	m->cpus = cpus > 0 ? (unsigned int)cpus : 1;
	snprintf(m->name, sizeof(m->name), "%.*s", (int)sizeof(info.name), info.name);
	if (kind.name)
		snprintf(m->type_name, sizeof(m->type_name), "%s", kind.name);
	else
		snprintf(m->type_name, sizeof(m->type_name), "type %u", info.type);
	m->info = (struct tw_map_info){
		.id = info.id,
		.type = info.type,
		.type_name = m->type_name,
		.name = m->name,
		.key_size = info.key_size,
		.value_size = info.value_size,
		.max_entries = info.max_entries,
		.flags = info.map_flags,
		.access = kind.access,
		.per_cpu = kind.per_cpu,
		.array = kind.array,
	};
	fdinfo_read(m);
	if (btf)
		btf_take(m, &info);
	*out = m;
	return 0;
}

void tw_map_close(struct tw_map *map)
{
	if (!map)
		return;
	btf__free(map->btf);
	close(map->fd);
	free(map);
}

int tw_map_each(int (*fn)(void *arg, struct tw_map *map), void *arg)
{
	uint32_t id = 0;
	int res = 0;

	while (!res) {
		struct tw_map *m;
		int fd;

		if (bpf_map_get_next_id(id, &id))
			return errno == ENOENT ? 0 : -errno;
		fd = bpf_map_get_fd_by_id(id);
		if (fd < 0 && errno == ENOENT)
			continue; /* gone meanwhile */
		if (fd < 0)
			return -errno;
		res = map_make(&m, fd, true);
		if (res)
			return res;
		res = fn(arg, m);
		tw_map_close(m);
	}
	return res;
}

struct search {
	const char *name;
	uint32_t id[NAMED_MAX];
	const char *type[NAMED_MAX];
	size_t n;
};

/* The kernel keeps 15 bytes of a name; the rest is in BTF only. */
static int search_one(struct search *s, uint32_t id)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);
	int fd = bpf_map_get_fd_by_id(id);
	struct tw_map *m = NULL;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (bpf_map_get_info_by_fd(fd, &info, &len) ||
	    strncmp(info.name, s->name, BPF_OBJ_NAME_LEN - 1)) {
		close(fd);
		return 0;
	}
	int res = map_make(&m, fd, strlen(s->name) >= BPF_OBJ_NAME_LEN);
	bool same = !res && (!strcmp(m->name, s->name) || strlen(m->name) == BPF_OBJ_NAME_LEN - 1);

	/* Exactly as given, or, where BTF does not tell more, as far as the kernel knows. */
	if (same && s->n < NAMED_MAX) {
		s->type[s->n] = map_kind(info.type).name ?: "map";
		s->id[s->n] = id;
	}
	s->n += same;
	tw_map_close(m);
	return res;
}

static int search_fail(const struct search *s, char *err, size_t err_len)
{
	char list[256] = "";
	size_t len = 0;

	if (!s->n) {
		datapath_message(err, err_len, "there is no map called \"%.64s\"", s->name);
		return -ENOENT;
	}
	for (size_t i = 0; i < s->n && i < NAMED_MAX; i++)
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%u (%s)", i ? ", " : "",
					s->id[i], s->type[i]);
	datapath_message(err, err_len, "%zu maps are called \"%.64s\": name one by its id: %s%s",
			 s->n, s->name, list, s->n > NAMED_MAX ? ", ..." : "");
	return -EEXIST;
}

static int fd_by_name(const char *name, char *err, size_t err_len)
{
	struct search s = { .name = name };
	uint32_t id = 0;
	int res = 0;

	while (!res && !bpf_map_get_next_id(id, &id))
		res = search_one(&s, id);
	if (!res && errno != ENOENT)
		res = -errno;
	if (res) {
		datapath_message(err, err_len, "cannot look at the kernel's maps: %s",
				 strerror(-res));
		return res;
	}
	if (s.n != 1)
		return search_fail(&s, err, err_len);
	int fd = bpf_map_get_fd_by_id(s.id[0]);

	if (fd < 0)
		datapath_message(err, err_len, "map %s has gone meanwhile", name);
	return fd < 0 ? -errno : fd;
}

static int fd_by_id(const char *text, char *err, size_t err_len)
{
	unsigned long id = strtoul(text, NULL, 10);
	int fd = id && id <= UINT32_MAX ? bpf_map_get_fd_by_id((uint32_t)id) : -1;
	int res = fd >= 0 ? fd : id && id <= UINT32_MAX ? -errno : -ENOENT;

	if (res == -ENOENT)
		datapath_message(err, err_len, "there is no map with the id %s", text);
	else if (res < 0)
		datapath_message(err, err_len, "cannot open map %s: %s", text, strerror(-res));
	return res;
}

static int fd_by_path(const char *path, char *err, size_t err_len)
{
	int fd = bpf_obj_get(path), res = fd < 0 ? -errno : fd;
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);

	/* The kernel says EPERM of files that are not of a bpffs, whoever asks. */
	if (res == -EPERM || res == -EACCES || res == -EINVAL)
		datapath_message(err, err_len, "%s is no pin of a map%s", path,
				 geteuid() ? ", or may not be opened" : "");
	else if (res < 0)
		datapath_message(err, err_len, "%s: %s", path, strerror(-res));
	if (res < 0)
		return res;
	char link[64] = "", proc[64];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	if (readlink(proc, link, sizeof(link) - 1) > 0 && strstr(link, "bpf-map") &&
	    !bpf_map_get_info_by_fd(fd, &info, &len))
		return fd;
	datapath_message(err, err_len, "%s is a pin, but not of a map", path);
	close(fd);
	return -EINVAL;
}

int tw_map_open(struct tw_map **out, const char *which, char *err, size_t err_len)
{
	int fd;

	if (strchr(which, '/'))
		fd = fd_by_path(which, err, err_len);
	else if (*which && !which[strspn(which, "0123456789")])
		fd = fd_by_id(which, err, err_len);
	else
		fd = fd_by_name(which, err, err_len);
	if (fd < 0)
		return fd;
	int res = map_make(out, fd, true);

	if (res)
		datapath_message(err, err_len, "cannot look at map %s: %s", which, strerror(-res));
	return res;
}

int tw_map_open_fd(struct tw_map **out, int fd, char *err, size_t err_len)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	int res = own < 0 ? -errno : map_make(out, own, true);

	if (res)
		datapath_message(err, err_len, "descriptor %d is no map: %s", fd, strerror(-res));
	return res;
}

const struct tw_map_info *tw_map_info(const struct tw_map *map)
{
	return &map->info;
}

int tw_map_fd(const struct tw_map *map)
{
	return map->fd;
}
