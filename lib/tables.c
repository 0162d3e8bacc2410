/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Typed access to the maps but the ipcache: endpoints, epochs, policy, uplinks. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "datapath_internal.h"
#include "towpath.skel.h"

static bool class_taken(const struct datapath *dp, uint32_t i)
{
	return dp->class_used[i / 8] >> (i % 8) & 1;
}

static void class_mark(struct datapath *dp, struct class_range r, bool used)
{
	uint32_t end = r.first + r.count < dp->max_classes ? r.first + r.count : dp->max_classes;

	for (uint32_t i = r.first; i < end; i++) {
		if (i % 8 == 0 && end - i >= 8) {
			dp->class_used[i / 8] = used ? 0xff : 0;
			i += 7;
		} else if (used) {
			dp->class_used[i / 8] |= (uint8_t)(1 << (i % 8));
		} else {
			dp->class_used[i / 8] &= (uint8_t)~(1 << (i % 8));
		}
	}
	dp->n_classes += used ? r.count : -r.count;
}

/* First fit. The lists are short and the bitmap small; a plan's cost is elsewhere. */
static int class_alloc(struct datapath *dp, uint32_t count, struct class_range *out)
{
	uint32_t run = 0;

	if (!count) {
		*out = (struct class_range){ 0, 0 };
		return 0;
	}
	if (dp->max_classes - dp->n_classes < count)
		return -ENOSPC;
	for (uint32_t i = 0; i < dp->max_classes; i++) {
		if (i % 8 == 0 && !run && dp->class_used[i / 8] == 0xff) {
			i += 7;
			continue;
		}
		if (i % 8 == 0 && !dp->class_used[i / 8] && count - run > 8 &&
		    dp->max_classes - i >= 8) {
			run += 8;
			i += 7;
			continue;
		}
		run = class_taken(dp, i) ? 0 : run + 1;
		if (run == count) {
			*out = (struct class_range){ i + 1 - count, count };
			class_mark(dp, *out, true);
			return 0;
		}
	}
	return -ENOSPC;
}

#define ARRAY_CHUNK 512u /* elements read by one system call */

/* Every element of an array map. Not mapped: that would make all of it resident. */
static int array_each(int fd, uint32_t n, size_t size,
		      int (*fn)(void *arg, uint32_t index, const void *value), void *arg)
{
	uint32_t *keys = malloc(ARRAY_CHUNK * sizeof(*keys));
	char *values = malloc(ARRAY_CHUNK * size);
	uint32_t batch = 0;
	int res = keys && values ? 0 : -ENOMEM;

	for (uint32_t at = 0; !res && at < n;) {
		uint32_t count = n - at < ARRAY_CHUNK ? n - at : ARRAY_CHUNK;

		if (bpf_map_lookup_batch(fd, at ? &batch : NULL, &batch, keys, values, &count,
					 NULL) &&
		    (errno != ENOENT || !count)) {
			res = -errno;
			break;
		}
		for (uint32_t i = 0; !res && i < count; i++)
			res = fn(arg, keys[i], values + i * size);
		at += count;
	}
	free(keys);
	free(values);
	return res;
}

/* What an earlier agent left in tw_policy tells which classes are taken. */
static int version_adopt(void *arg, uint32_t version, const void *value)
{
	const struct tw_policy *policy = value;
	struct datapath *dp = arg;

	for (int d = 0; version && d < 2; d++) {
		const struct tw_policy_dir *dir = &policy->dir[d];

		if (dir->first > dp->max_classes || dir->count > dp->max_classes - dir->first)
			return -EBADMSG;
		if (!dir->count)
			continue;
		dp->ranges[version][d] = (struct class_range){ dir->first, dir->count };
		class_mark(dp, dp->ranges[version][d], true);
		dp->n_versions += !dp->version_used[version];
		dp->version_used[version] = true;
		/* The latest: all that live are within a part of the circle, see peers.c. */
		if (dp->n_versions == 1 || (int16_t)(dir->generation - dp->generation) > 0)
			dp->generation = dp->generation_safe = dir->generation;
	}
	return 0;
}

static int endpoint_count(void *arg, uint32_t slot, const struct tw_endpoint *ep)
{
	++*(uint32_t *)arg;
	return 0;
}

int datapath_tables_open(struct datapath *dp)
{
	struct towpath_bpf *skel = dp->skel;
	bool pinned = dp->pin_dir[0];
	int res;

	dp->max_versions = bpf_map__max_entries(skel->maps.tw_policy);
	dp->max_classes = bpf_map__max_entries(skel->maps.tw_classes);
	dp->nomasq_fd = bpf_map__fd(skel->maps.tw_nomasq);
	dp->ranges = calloc(dp->max_versions, sizeof(*dp->ranges));
	dp->version_used = calloc(dp->max_versions, sizeof(*dp->version_used));
	dp->class_used = calloc(dp->max_classes / 8 + 1, 1);
	if (!dp->ranges || !dp->version_used || !dp->class_used)
		return -ENOMEM;
	res = window_open(&dp->endpoints, bpf_map__fd(skel->maps.tw_endpoints),
			  sizeof(struct tw_endpoint), TW_MAX_ENDPOINTS);
	if (!res)
		res = window_open(&dp->epochs, bpf_map__fd(skel->maps.tw_epochs), sizeof(uint32_t),
				  TW_MAX_ENDPOINTS);
	if (!res)
		res = window_open(&dp->config, bpf_map__fd(skel->maps.tw_config),
				  sizeof(struct tw_config), 1);
	if (!res)
		res = window_open(&dp->classes, bpf_map__fd(skel->maps.tw_classes),
				  sizeof(struct tw_class), dp->max_classes);
	if (!res)
		res = prefixes_open(&dp->prefixes, bpf_map__fd(skel->maps.tw_ipcache_top),
				    bpf_map__fd(skel->maps.tw_ipcache_pages),
				    bpf_map__max_entries(skel->maps.tw_ipcache_pages),
				    bpf_map__fd(skel->maps.tw_ipcache6));
	if (!res && pinned)
		res = array_each(bpf_map__fd(skel->maps.tw_policy), dp->max_versions,
				 sizeof(struct tw_policy), version_adopt, dp);
	if (!res && pinned)
		res = peers_open(dp);
	if (!res && pinned)
		res = datapath_endpoint_each(dp, endpoint_count, &dp->n_endpoints);
	return res;
}

void datapath_tables_close(struct datapath *dp)
{
	window_close(&dp->endpoints);
	window_close(&dp->epochs);
	window_close(&dp->config);
	window_close(&dp->classes);
	prefixes_close(&dp->prefixes);
	free(dp->ranges);
	free(dp->version_used);
	free(dp->class_used);
}

int datapath_endpoint_get(struct datapath *dp, uint32_t slot, struct tw_endpoint *out)
{
	const struct tw_endpoint *ep = window_at(&dp->endpoints, slot);

	if (!ep)
		return -ERANGE;
	*out = *ep;
	return 0;
}

int datapath_endpoint_set(struct datapath *dp, uint32_t slot, const struct tw_endpoint *ep)
{
	struct tw_endpoint *at = window_at(&dp->endpoints, slot);
	struct tw_endpoint value = *ep;

	if (!at || !slot)
		return -ERANGE;
	if (!at->ifindex)
		dp->n_endpoints++;
	if (at->ifindex != ep->ifindex) {
		struct tw_budget none = { 0 };

		/* Not charged for an earlier container's flows; returning those stops at 0. */
		if (bpf_map_update_elem(bpf_map__fd(dp->skel->maps.tw_budget), &slot, &none,
					BPF_ANY))
			return -errno;
		/* Another container: not live until all of it is there. */
		__atomic_store_n(&at->flags, 0, __ATOMIC_RELEASE);
		__atomic_store_n(&at->ifindex, 0, __ATOMIC_RELEASE);
		value.ifindex = 0;
		value.flags = 0;
		*at = value;
		__atomic_store_n(&at->flags, ep->flags, __ATOMIC_RELEASE);
		__atomic_store_n(&at->ifindex, ep->ifindex, __ATOMIC_RELEASE);
		return 0;
	}
	datapath_endpoint_identity6(dp, slot, ep->identity6);
	datapath_endpoint_policy(dp, slot, ep->identity, ep->version);
	at->addr4 = ep->addr4;
	at->mtu = ep->mtu;
	memcpy(at->mac, ep->mac, sizeof(at->mac));
	at->rate = ep->rate;
	at->cap = ep->cap;
	at->addr6 = ep->addr6;
	__atomic_store_n(&at->flags, ep->flags, __ATOMIC_RELEASE);
	return 0;
}

int datapath_endpoint_policy(struct datapath *dp, uint32_t slot, uint32_t identity,
			     uint32_t version)
{
	struct tw_endpoint *at = window_at(&dp->endpoints, slot);
	union {
		struct {
			uint32_t identity;
			uint32_t version;
		};
		uint64_t both;
	} value = { .identity = identity, .version = version };

	_Static_assert(offsetof(struct tw_endpoint, identity) % 8 == 0, "one aligned store");
	_Static_assert(offsetof(struct tw_endpoint, version) ==
			       offsetof(struct tw_endpoint, identity) + 4,
		       "identity and version are neighbours");
	if (!at || !slot)
		return -ERANGE;
	__atomic_store_n((uint64_t *)&at->identity, value.both, __ATOMIC_RELEASE);
	return 0;
}

int datapath_endpoint_identity6(struct datapath *dp, uint32_t slot, uint32_t identity)
{
	struct tw_endpoint *at = window_at(&dp->endpoints, slot);

	if (!at || !slot)
		return -ERANGE;
	__atomic_store_n(&at->identity6, identity, __ATOMIC_RELEASE);
	return 0;
}

int datapath_endpoint_flags(struct datapath *dp, uint32_t slot, uint32_t flags)
{
	struct tw_endpoint *at = window_at(&dp->endpoints, slot);

	if (!at || !slot)
		return -ERANGE;
	__atomic_store_n(&at->flags, flags, __ATOMIC_RELEASE);
	return 0;
}

int datapath_endpoint_clear(struct datapath *dp, uint32_t slot)
{
	struct tw_endpoint *at = window_at(&dp->endpoints, slot);

	if (!at || !slot)
		return -ERANGE;
	if (at->ifindex)
		dp->n_endpoints--;
	__atomic_store_n(&at->flags, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&at->ifindex, 0, __ATOMIC_RELEASE);
	memset(at, 0, sizeof(*at));
	return 0;
}

int datapath_endpoint_flows(struct datapath *dp, uint32_t slot, uint32_t *out)
{
	struct tw_budget budget;

	if (bpf_map_lookup_elem(bpf_map__fd(dp->skel->maps.tw_budget), &slot, &budget))
		return -errno;
	*out = budget.flows;
	return 0;
}

struct each_endpoint {
	int (*fn)(void *arg, uint32_t slot, const struct tw_endpoint *ep);
	void *arg;
};

static int endpoint_visit(void *arg, uint32_t slot, const void *value)
{
	const struct each_endpoint *each = arg;
	const struct tw_endpoint *ep = value;

	return slot && ep->ifindex ? each->fn(each->arg, slot, ep) : 0;
}

int datapath_endpoint_each(struct datapath *dp,
			   int (*fn)(void *arg, uint32_t slot, const struct tw_endpoint *ep),
			   void *arg)
{
	struct each_endpoint each = { fn, arg };

	return array_each(bpf_map__fd(dp->skel->maps.tw_endpoints), TW_MAX_ENDPOINTS,
			  sizeof(struct tw_endpoint), endpoint_visit, &each);
}

void datapath_epoch_bump(struct datapath *dp, uint32_t slot)
{
	uint32_t *epoch = window_at(&dp->epochs, slot);

	/* What was written before is visible to whoever sees the new epoch (I4). */
	if (epoch)
		__atomic_fetch_add(epoch, 1, __ATOMIC_SEQ_CST);
}

/* Intervals from `first` on, piece by piece of what is mapped. */
static int classes_each(struct datapath *dp, uint32_t first, const struct tw_class *classes,
			uint32_t n, int (*fn)(void *at, const void *from, size_t size))
{
	const uint32_t piece = WINDOW_BYTES / sizeof(*classes);
	int res = 0;

	for (uint32_t done = 0, count; done < n && !res; done += count) {
		void *at = window_at(&dp->classes, first + done);

		count = piece - (first + done) % piece;
		if (count > n - done)
			count = n - done;
		res = at ? fn(at, classes + done, count * sizeof(*classes)) : -ENOMEM;
	}
	return res;
}

static int piece_write(void *at, const void *from, size_t size)
{
	memcpy(at, from, size);
	return 0;
}

static int piece_differs(void *at, const void *from, size_t size)
{
	return memcmp(at, from, size) != 0;
}

/* Is what is in the maps already what is wanted? */
static bool version_same(struct datapath *dp, uint32_t version, const bool isolated[2],
			 const struct tw_class *const classes[2], const uint32_t n_classes[2])
{
	struct tw_policy policy;

	if (bpf_map_lookup_elem(bpf_map__fd(dp->skel->maps.tw_policy), &version, &policy))
		return false;
	for (int d = 0; d < 2; d++)
		if (policy.dir[d].isolated != isolated[d] || policy.dir[d].count != n_classes[d] ||
		    classes_each(dp, policy.dir[d].first, classes[d], n_classes[d], piece_differs))
			return false;
	return true;
}

int datapath_version_set(struct datapath *dp, uint32_t version, const bool isolated[2],
			 const struct tw_class *const classes[2], const uint32_t n_classes[2])
{
	struct tw_policy policy = {};
	struct class_range r[2];
	int res;

	if (!version || version >= dp->max_versions)
		return -E2BIG;
	if (dp->version_used[version]) {
		if (version_same(dp, version, isolated, classes, n_classes))
			return 0;
		datapath_version_del(dp, version);
	}
	for (int d = 0; d < 2; d++) {
		res = class_alloc(dp, n_classes[d], &r[d]);
		if (res) {
			if (d)
				class_mark(dp, r[0], false);
			return res;
		}
		policy.dir[d] = (struct tw_policy_dir){ .first = r[d].first,
							.count = r[d].count,
							.isolated = isolated[d],
							.generation = dp->generation };
	}
	for (int d = 0; d < 2; d++) {
		res = classes_each(dp, r[d].first, classes[d], n_classes[d], piece_write);
		if (res)
			break;
	}
	if (!res &&
	    bpf_map_update_elem(bpf_map__fd(dp->skel->maps.tw_policy), &version, &policy, BPF_ANY))
		res = -errno;
	if (res) {
		class_mark(dp, r[0], false);
		class_mark(dp, r[1], false);
		return res;
	}
	memcpy(dp->ranges[version], r, sizeof(r));
	dp->version_used[version] = true;
	dp->n_versions++;
	return 0;
}

void datapath_versions_end(struct datapath *dp)
{
	window_unmap(&dp->classes); /* what is mapped counts as resident */
}

int datapath_version_del(struct datapath *dp, uint32_t version)
{
	/* Isolated both ways with no classes: should anybody still look, it denies. */
	struct tw_policy empty = { .dir = { { .isolated = 1 }, { .isolated = 1 } } };

	if (!version || version >= dp->max_versions)
		return -E2BIG;
	if (!dp->version_used[version])
		return 0;
	if (bpf_map_update_elem(bpf_map__fd(dp->skel->maps.tw_policy), &version, &empty, BPF_ANY))
		return -errno;
	class_mark(dp, dp->ranges[version][0], false);
	class_mark(dp, dp->ranges[version][1], false);
	memset(dp->ranges[version], 0, sizeof(dp->ranges[version]));
	dp->version_used[version] = false;
	dp->n_versions--;
	return 0;
}

int datapath_version_each(struct datapath *dp, int (*fn)(void *arg, uint32_t version), void *arg)
{
	for (uint32_t v = 1; v < dp->max_versions; v++) {
		int res = dp->version_used[v] ? fn(arg, v) : 0;

		if (res)
			return res;
	}
	return 0;
}

int datapath_uplink_set(struct datapath *dp, uint32_t ifindex, const struct tw_uplink *uplink)
{
	return bpf_map_update_elem(bpf_map__fd(dp->skel->maps.tw_uplinks), &ifindex, uplink,
				   BPF_ANY)
		       ? -errno
		       : 0;
}

int datapath_uplink_del(struct datapath *dp, uint32_t ifindex)
{
	return bpf_map_delete_elem(bpf_map__fd(dp->skel->maps.tw_uplinks), &ifindex) &&
			       errno != ENOENT
		       ? -errno
		       : 0;
}

int datapath_uplink_each(struct datapath *dp, int (*fn)(void *arg, uint32_t ifindex), void *arg)
{
	int fd = bpf_map__fd(dp->skel->maps.tw_uplinks), res = 0;
	uint32_t key, next;
	bool more = !bpf_map_get_next_key(fd, NULL, &next);

	while (more && !res) {
		key = next;
		more = !bpf_map_get_next_key(fd, &key, &next);
		res = fn(arg, key);
	}
	return res;
}

static uint64_t map_bytes(const struct bpf_map *map)
{
	char path[64], line[128];
	uint64_t bytes = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", bpf_map__fd(map));
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "memlock:", 8))
			bytes = strtoull(line + 8, NULL, 10);
	if (f)
		fclose(f);
	return bytes;
}

size_t datapath_fill_get(struct datapath *dp, struct datapath_fill *out, size_t max)
{
	const struct {
		const struct bpf_map *map;
		uint64_t used;
	} rows[] = {
		{ dp->skel->maps.tw_flow4, __atomic_load_n(&dp->live[0], __ATOMIC_RELAXED) },
		{ dp->skel->maps.tw_flow6, __atomic_load_n(&dp->live[1], __ATOMIC_RELAXED) },
		{ dp->skel->maps.tw_endpoints, dp->n_endpoints },
		{ dp->skel->maps.tw_policy, dp->n_versions },
		{ dp->skel->maps.tw_classes, dp->n_classes },
		{ dp->skel->maps.tw_peers, dp->n_peers },
		{ dp->skel->maps.tw_ipcache_pages, prefixes_pages_used(&dp->prefixes) },
		{ dp->skel->maps.tw_ipcache6, prefixes_count6(&dp->prefixes) },
	};
	size_t n = sizeof(rows) / sizeof(rows[0]);

	for (size_t i = 0; i < n && i < max; i++)
		out[i] = (struct datapath_fill){
			.map = bpf_map__name(rows[i].map),
			.used = rows[i].used,
			.max = rows[i].map == dp->skel->maps.tw_ipcache6
				       ? prefixes_max6(&dp->prefixes)
				       : bpf_map__max_entries(rows[i].map),
			.bytes = map_bytes(rows[i].map),
		};
	return n < max ? n : max;
}
