/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * From one layout of the maps to another, under traffic. The maps of a layout are pinned in
 * PIN_DIR/maps/v<TW_ABI_VERSION>/, so an agent with another layout makes its own beside those
 * that the programs in force still use. What the agent can work out anew (policy, endpoints,
 * prefixes, uplinks) it writes; what only the kernel knows is carried over here: flows,
 * budgets, fragments, counts. In this order:
 *
 *   1. epochs, before anything is decided in the new maps, and raised past both: so every flow
 *      that is carried over is judged again, by its stored opener, when its next packet comes;
 *   2. flows and the rest, once the new maps hold the whole policy;
 *   3. the links, one by one, go over to the new programs;
 *   4. after a grace period nobody writes the old maps any more: flows that were opened since
 *      2 follow, and the old maps go.
 *
 * A flow that is there at 2 loses no packet. One that is opened between 2 and 4 may meet the
 * new programs before its entry does: one packet is dropped as no_flow, and is sent again.
 * Counts, and the FIN or RST of a flow that ends in those milliseconds, may be missed: it is
 * collected when it has been idle for long. An agent that dies on the way leaves both layouts;
 * the next one, of either, does all of it again: nothing that the new maps hold is overwritten.
 *
 * Layouts are matched by the names of their fields, from the BTF that the kernel keeps with each
 * map. So there is no code for any pair of layouts, and going back works as going forward does.
 */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "datapath_internal.h"
#include "towpath.skel.h"

#define BATCH_BYTES 262144u
#define NAME_MAX_FIELD 96

/* ---- what a layout looks like -------------------------------------------------------------- */

/* A number, or an array of numbers, inside a key or value. */
struct field {
	char name[NAME_MAX_FIELD]; /* "half[0].seen" */
	uint32_t offset;
	uint32_t size; /* of one element */
	uint32_t count;
	bool network; /* network byte order: cannot be widened */
};

struct layout {
	struct field *v;
	size_t n;
};

/* Bytes that go from one place to another; those of a number that has become narrower stay. */
struct run {
	uint32_t from, to, len;
	uint32_t stay, n_stay; /* must be 0, or the value does not fit */
};

struct recipe {
	struct run *v;
	size_t n;
	uint32_t size; /* of the result */
};

static void layout_clear(struct layout *l)
{
	free(l->v);
}

static int field_add(struct layout *l, const struct field *f)
{
	struct field *v = reallocarray(l->v, l->n + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	l->v = v;
	v[l->n++] = *f;
	return 0;
}

static bool is_network_order(const struct btf *btf, uint32_t id)
{
	const struct btf_type *t = btf__type_by_id(btf, id);

	for (; t && btf_is_typedef(t); t = btf__type_by_id(btf, t->type))
		if (!strncmp(btf__name_by_offset(btf, t->name_off), "__be", 4))
			return true;
	return false;
}

static int layout_read(const struct btf *btf, uint32_t id, const char *name, uint32_t offset,
		       struct layout *out);

static int layout_read_members(const struct btf *btf, const struct btf_type *t, const char *name,
			       uint32_t offset, struct layout *out)
{
	const struct btf_member *m = btf_members(t);

	for (uint16_t i = 0; i < btf_vlen(t); i++) {
		const char *own = btf__name_by_offset(btf, m[i].name_off);
		char path[NAME_MAX_FIELD];

		if (btf_member_bitfield_size(t, i))
			return -EOPNOTSUPP;
		/* What is in an anonymous struct or union belongs to the one around it. */
		snprintf(path, sizeof(path), "%.60s%s%.30s", name, *name && *own ? "." : "", own);
		int res = layout_read(btf, m[i].type, path,
				      offset + btf_member_bit_offset(t, i) / 8, out);
		if (res)
			return res;
	}
	return 0;
}

static int layout_read_array(const struct btf *btf, const struct btf_type *t, const char *name,
			     uint32_t offset, struct layout *out)
{
	const struct btf_array *array = btf_array(t);
	int id = btf__resolve_type(btf, array->type);
	const struct btf_type *elem = id < 0 ? NULL : btf__type_by_id(btf, (uint32_t)id);
	int64_t size = btf__resolve_size(btf, array->type);
	int res = 0;

	if (!elem || size < 0)
		return -EINVAL;
	if (!btf_is_composite(elem) && !btf_is_array(elem)) {
		struct field f = { .offset = offset,
				   .size = (uint32_t)size,
				   .count = array->nelems,
				   .network = is_network_order(btf, array->type) };

		snprintf(f.name, sizeof(f.name), "%s", name);
		return field_add(out, &f);
	}
	for (uint32_t i = 0; !res && i < array->nelems; i++) {
		char path[NAME_MAX_FIELD];

		snprintf(path, sizeof(path), "%.80s[%u]", name, i);
		res = layout_read(btf, array->type, path, offset + i * (uint32_t)size, out);
	}
	return res;
}

static int layout_read(const struct btf *btf, uint32_t id, const char *name, uint32_t offset,
		       struct layout *out)
{
	int real = btf__resolve_type(btf, id);
	const struct btf_type *t = real < 0 ? NULL : btf__type_by_id(btf, (uint32_t)real);

	if (!t)
		return -EINVAL;
	if (btf_is_composite(t))
		return layout_read_members(btf, t, name, offset, out);
	if (btf_is_array(t))
		return layout_read_array(btf, t, name, offset, out);
	if (!btf_is_int(t) && !btf_is_any_enum(t))
		return -EOPNOTSUPP;
	struct field f = {
		.offset = offset, .size = t->size, .count = 1, .network = is_network_order(btf, id)
	};
	snprintf(f.name, sizeof(f.name), "%s", name);
	return field_add(out, &f);
}

/* ---- how one becomes the other ----------------------------------------------------------------- */

static void recipe_clear(struct recipe *r)
{
	free(r->v);
}

/* Unions name the same bytes several times, and neighbours move together: one run for all. */
static bool run_join(struct recipe *r, const struct run *add)
{
	for (size_t i = 0; i < r->n; i++) {
		struct run *run = &r->v[i];

		if (add->n_stay || run->n_stay || run->to - run->from != add->to - add->from ||
		    add->from < run->from || add->from > run->from + run->len)
			continue;
		if (add->from + add->len > run->from + run->len)
			run->len = add->from + add->len - run->from;
		return true;
	}
	return false;
}

/*
 * A field that only the new layout has stays 0, one that only the old one has is left behind. A
 * number may be wider or narrower, not an array of them, nor what is in network byte order.
 */
static int recipe_field(struct recipe *r, const struct field *from, const struct field *to)
{
	const bool big = __BYTE_ORDER == __BIG_ENDIAN; /* the high bytes come first */
	struct run run = { from->offset, to->offset, from->size, 0, 0 };

	if (from->network != to->network)
		return -EOPNOTSUPP;
	if (from->size == to->size) {
		run.len *= from->count < to->count ? from->count : to->count;
	} else if (from->network || from->count != 1 || to->count != 1) {
		return -EOPNOTSUPP;
	} else if (from->size < to->size) {
		run.to += big ? to->size - from->size : 0;
	} else {
		run.n_stay = from->size - to->size;
		run.len = to->size;
		run.stay = from->offset + (big ? 0 : to->size);
		run.from += big ? run.n_stay : 0;
	}
	if (run_join(r, &run))
		return 0;
	struct run *v = reallocarray(r->v, r->n + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	r->v = v;
	v[r->n++] = run;
	return 0;
}

static int recipe_make(struct recipe *r, const struct btf *from_btf, uint32_t from_id,
		       const struct btf *to_btf, uint32_t to_id, uint32_t size)
{
	__attribute__((cleanup(layout_clear))) struct layout from = {};
	__attribute__((cleanup(layout_clear))) struct layout to = {};
	int res = layout_read(from_btf, from_id, "", 0, &from);

	if (!res)
		res = layout_read(to_btf, to_id, "", 0, &to);
	r->size = size;
	for (size_t i = 0; !res && i < to.n; i++)
		for (size_t k = 0; !res && k < from.n; k++)
			if (!strcmp(to.v[i].name, from.v[k].name))
				res = recipe_field(r, &from.v[k], &to.v[i]);
	return res;
}

/* false: a number does not fit. */
static bool recipe_apply(const struct recipe *r, const uint8_t *from, uint8_t *to)
{
	memset(to, 0, r->size);
	for (size_t i = 0; i < r->n; i++) {
		const struct run *run = &r->v[i];

		for (uint32_t k = 0; k < run->n_stay; k++)
			if (from[run->stay + k])
				return false;
		memcpy(to + run->to, from + run->from, run->len);
	}
	return true;
}

/* ---- one map ------------------------------------------------------------------------------------- */

struct carry {
	int from, to; /* from is owned */
	struct bpf_map_info old, new;
	struct btf *old_btf, *new_btf;
	struct recipe key, value;
	uint32_t old_value, new_value; /* bytes of a value as system calls pass it */
	uint64_t unfit;		       /* elements that could not be converted */
	uint32_t copies;	       /* values in one: 1, or one a CPU */
	uint32_t batch;		       /* elements read at once */
	uint8_t *keys, *values, *next; /* as read */
	uint8_t *key_out, *value_out;  /* one as written */
};

static void carry_close(struct carry *c)
{
	if (c->from >= 0)
		close(c->from);
	btf__free(c->old_btf);
	btf__free(c->new_btf);
	recipe_clear(&c->key);
	recipe_clear(&c->value);
	free(c->keys);
	free(c->values);
	free(c->next);
	free(c->key_out);
	free(c->value_out);
}

static bool is_percpu(const struct bpf_map_info *info)
{
	return info->type == BPF_MAP_TYPE_PERCPU_ARRAY;
}

static int carry_info(int fd, struct bpf_map_info *info, struct btf **btf)
{
	uint32_t len = sizeof(*info);

	if (bpf_map_get_info_by_fd(fd, info, &len))
		return -errno;
	if (!info->btf_id)
		return -EOPNOTSUPP;
	*btf = btf__load_from_kernel_by_id(info->btf_id);
	return *btf ? 0 : -errno;
}

static int carry_buffers(struct carry *c)
{
	int cpus = is_percpu(&c->old) ? libbpf_num_possible_cpus() : 1;

	if (cpus < 0)
		return cpus;
	c->copies = (uint32_t)cpus;
	/* Of a per-CPU map each CPU's value fills whole words. */
	c->old_value = is_percpu(&c->old) ? (c->old.value_size + 7) / 8 * 8 : c->old.value_size;
	c->new_value = is_percpu(&c->new) ? (c->new.value_size + 7) / 8 * 8 : c->new.value_size;
	c->batch = BATCH_BYTES / (c->old_value * c->copies) ?: 1;
	c->keys = malloc((size_t)c->batch * c->old.key_size);
	c->values = malloc((size_t)c->batch * c->old_value * c->copies);
	/* The kernel's place in a hash is a 32-bit number, in an array a key. */
	c->next = calloc(1, c->old.key_size < 8 ? 8 : c->old.key_size);
	c->key_out = calloc(1, c->new.key_size);
	c->value_out = calloc(c->copies, c->new_value);
	return c->keys && c->values && c->next && c->key_out && c->value_out ? 0 : -ENOMEM;
}

static int carry_open(struct carry *c, const char *path, int to)
{
	int res;

	*c = (struct carry){ .from = bpf_obj_get(path), .to = to };
	if (c->from < 0)
		return -errno;
	res = carry_info(c->from, &c->old, &c->old_btf);
	if (!res)
		res = carry_info(c->to, &c->new, &c->new_btf);
	if (!res && c->old.type != c->new.type)
		res = -EOPNOTSUPP;
	if (!res)
		res = recipe_make(&c->key, c->old_btf, c->old.btf_key_type_id, c->new_btf,
				  c->new.btf_key_type_id, c->new.key_size);
	if (!res)
		res = recipe_make(&c->value, c->old_btf, c->old.btf_value_type_id, c->new_btf,
				  c->new.btf_value_type_id, c->new.value_size);
	return res ? res : carry_buffers(c);
}

/* Is the converted flow one that somebody is writing, or has deleted already? */
static bool flow_in_hand(const struct tw_flow *f)
{
	return f->half[0].idle == TW_IDLE_WRITING || f->half[0].idle == TW_IDLE_DELETING;
}

/* Element i of the batch, into key_out and value_out. */
static bool carry_convert(struct carry *c, uint32_t i)
{
	const uint8_t *value = c->values + (size_t)i * c->copies * c->old_value;
	bool fits = recipe_apply(&c->key, c->keys + (size_t)i * c->old.key_size, c->key_out);

	for (uint32_t k = 0; k < c->copies; k++)
		fits &= recipe_apply(&c->value, value + (size_t)k * c->old_value,
				     c->value_out + (size_t)k * c->new_value);
	return fits;
}

/*
 * Calls fn for each element, converted, in c->key_out and c->value_out. An element that comes
 * or goes meanwhile may be missed or not; one that stays is not missed.
 */
static int carry_each(struct carry *c, int (*fn)(struct carry *c, void *arg), void *arg)
{
	bool first = true, more = true;

	while (more) {
		uint32_t n = c->batch;
		int res = bpf_map_lookup_batch(c->from, first ? NULL : c->next, c->next, c->keys,
					       c->values, &n, NULL);

		if (res && errno != ENOENT)
			return -errno;
		more = !res;
		first = false;
		for (uint32_t i = 0; i < n; i++) {
			if (!carry_convert(c, i)) {
				c->unfit++;
				continue;
			}
			res = fn(c, arg);
			if (res)
				return res;
		}
	}
	return 0;
}

static int flow_put(struct carry *c, void *arg)
{
	struct datapath_migration *result = arg;

	if (flow_in_hand((const struct tw_flow *)c->value_out))
		return 0;
	if (!bpf_map_update_elem(c->to, c->key_out, c->value_out, BPF_NOEXIST))
		result->flows++;
	else if (errno == E2BIG || errno == ENOMEM)
		result->lost++;
	else if (errno != EEXIST)
		return -errno;
	return 0;
}

/* An element that the new programs have begun to use is theirs. */
static int value_put(struct carry *c, void *arg)
{
	uint8_t *there = arg;
	size_t len = (size_t)c->new_value * c->copies;

	if (bpf_map_lookup_elem(c->to, c->key_out, there))
		return errno == ENOENT ? 0 : -errno; /* the array has become shorter */
	for (size_t i = 0; i < len; i++)
		if (there[i])
			return 0;
	return bpf_map_update_elem(c->to, c->key_out, c->value_out, BPF_ANY) ? -errno : 0;
}

static int values_put(struct carry *c, void *arg)
{
	uint8_t *there = malloc((size_t)c->new_value * c->copies);
	int res = there ? carry_each(c, value_put, there) : -ENOMEM;

	free(there);
	return res;
}

static int flows_put(struct carry *c, void *arg)
{
	struct datapath_migration *result = arg;
	int res = carry_each(c, flow_put, result);

	result->lost += c->unfit;
	return res;
}

/* The agent is the only writer of epochs; the plan that follows raises the node's once more. */
static int epochs_put(struct carry *c, void *arg)
{
	struct datapath *dp = arg;
	const uint32_t *theirs = (const uint32_t *)c->value_out;

	for (uint32_t slot = 0; slot < TW_MAX_ENDPOINTS; slot++) {
		uint32_t *ours = window_at(&dp->epochs, slot);

		if (!ours)
			return -ENOMEM;
		if (theirs[slot] > *ours)
			__atomic_store_n(ours, theirs[slot], __ATOMIC_RELAXED);
	}
	return 0;
}

static int epochs_take(struct carry *c, void *arg)
{
	return carry_each(c, epochs_put, arg);
}

/* ---- all of them -------------------------------------------------------------------------------- */

/* The layout that a folder's name stands for; 0: it is no such folder, or this agent's own. */
static uint32_t folder_layout(const char *name)
{
	char *end;
	unsigned long version = name[0] == 'v' ? strtoul(name + 1, &end, 10) : 0;

	if (!version || *end || version > UINT32_MAX || version == TW_ABI_VERSION)
		return 0;
	return (uint32_t)version;
}

struct layouts {
	uint32_t v[8];
	size_t n;
};

static struct layouts layouts_other(const struct datapath *dp)
{
	struct layouts found = {};
	char path[PATH_MAX];
	struct dirent *entry;

	snprintf(path, sizeof(path), "%.3900s/maps", dp->pin_dir);
	DIR *dir = dp->pin_dir[0] ? opendir(path) : NULL;
	while (dir && found.n < sizeof(found.v) / sizeof(found.v[0]) && (entry = readdir(dir))) {
		uint32_t version = folder_layout(entry->d_name);

		if (version)
			found.v[found.n++] = version;
	}
	if (dir)
		closedir(dir);
	return found;
}

/* 0 as well when the other layout has no such map. */
static int map_carry(const struct datapath *dp, uint32_t layout, const char *map,
		     int (*fn)(struct carry *c, void *arg), void *arg)
{
	__attribute__((cleanup(carry_close))) struct carry c = { .from = -1 };
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%.3800s/maps/v%u/%s", dp->pin_dir, layout, map);
	int res = carry_open(&c, path, datapath_fd(dp, map));
	if (!res)
		res = fn(&c, arg);
	return res == -ENOENT ? 0 : res;
}

int migrate_epochs(struct datapath *dp, char *err, size_t err_len)
{
	struct layouts from = layouts_other(dp);
	int res = 0;

	for (size_t i = 0; !res && i < from.n; i++)
		res = map_carry(dp, from.v[i], "tw_epochs", epochs_take, dp);
	if (res)
		datapath_message(err, err_len,
				 "cannot take over the epochs of an earlier layout: %s",
				 strerror(-res));
	return res;
}

static void migrate_layout_flows(const struct datapath *dp, uint32_t layout,
				 struct datapath_migration *result)
{
	static const char *const tables[] = { "tw_flow4", "tw_flow6" };

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		int res = map_carry(dp, layout, tables[i], flows_put, result);

		if (res)
			result->error = res;
	}
}

void migrate_before_links(struct datapath *dp, struct datapath_migration *result)
{
	static const char *const values[] = { "tw_budget", "tw_metrics", "tw_counters" };
	struct layouts from = layouts_other(dp);

	for (size_t i = 0; i < from.n; i++) {
		result->from = from.v[i];
		/*
		 * Budgets first: a flow opened after this is carried over uncharged, so a slot may
		 * have a few more than it may, never fewer. Counts are a comfort: a kernel that
		 * cannot list them (before 5.13) starts them at 0.
		 */
		for (size_t k = 0; k < sizeof(values) / sizeof(values[0]); k++)
			map_carry(dp, from.v[i], values[k], values_put, NULL);
		migrate_layout_flows(dp, from.v[i], result);
	}
}

void migrate_after_links(struct datapath *dp, struct datapath_migration *result)
{
	struct layouts from = layouts_other(dp);
	char path[PATH_MAX];

	if (!from.n)
		return;
	datapath_grace(dp);
	result->lost = 0; /* those come again */
	for (size_t i = 0; i < from.n; i++) {
		migrate_layout_flows(dp, from.v[i], result);
		snprintf(path, sizeof(path), "%.3800s/maps/v%u", dp->pin_dir, from.v[i]);
		pins_remove(path);
		rmdir(path);
	}
}
