/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "drops.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "datapath_internal.h"
#include "drops.skel.h"

struct drops {
	struct drops_bpf *skel;
	uint32_t node;
	char *names[TW_KERNEL_REASONS];
};

/*
 * No losses, so nobody is told: ordinary ends of a packet's life, what a socket had not read
 * when it was closed, and copies of data that TCP has already. NOT_SPECIFIED is what the kernel
 * says where nobody has given a reason yet, of errors and of ordinary ends alike.
 */
static const char *const quiet[] = {
	"NOT_DROPPED_YET",  "CONSUMED",	    "NOT_SPECIFIED", "SOCKET_CLOSE",
	"QUEUE_PURGE",	    "OTHERHOST",    "TCP_OLD_DATA",  "TCP_OLD_ACK",
	"TCP_OLD_SEQUENCE", "TCP_OFOMERGE", "MAX",
};

/* Verdicts of tc programs and classifiers. */
static const char *const by_tc[] = { "TC_INGRESS", "TC_EGRESS" };

static bool listed(const char *name, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(name, list[i]))
			return true;
	return false;
}

static const char *after(const char *name, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(name, prefix, n) ? name : name + n;
}

int drops_names_read(char *names[TW_KERNEL_REASONS])
{
	struct btf *btf = btf__load_vmlinux_btf();
	int id = btf ? btf__find_by_name_kind(btf, "skb_drop_reason", BTF_KIND_ENUM) : -errno;
	int res = id < 0 ? id : 0;

	if (!res) {
		const struct btf_type *t = btf__type_by_id(btf, (uint32_t)id);
		const struct btf_enum *e = btf_enum(t);

		for (uint16_t i = 0; !res && i < btf_vlen(t); i++) {
			const char *name = btf__name_by_offset(btf, e[i].name_off);

			if (e[i].val < 0 || e[i].val >= (int)TW_KERNEL_REASONS || names[e[i].val])
				continue;
			name = after(after(name, "SKB_DROP_REASON_"), "SKB_");
			names[e[i].val] = strdup(name);
			res = names[e[i].val] ? 0 : -ENOMEM;
		}
	}
	btf__free(btf);
	return res;
}

static void told_fill(const struct drops *d, uint8_t told[TW_KERNEL_REASONS])
{
	for (size_t i = 0; i < TW_KERNEL_REASONS; i++) {
		if (!d->names[i] || listed(d->names[i], quiet, sizeof(quiet) / sizeof(*quiet)))
			told[i] = TW_DROP_QUIET;
		else if (listed(d->names[i], by_tc, sizeof(by_tc) / sizeof(*by_tc)))
			told[i] = TW_DROP_TC;
		else
			told[i] = TW_DROP_TOLD;
	}
}

/* The maps that the data path has are the data path's. */
static int maps_share(const struct drops *d, const struct datapath *dp)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, d->skel->obj)
	{
		int fd = bpf_map__is_internal(map) ? -1 : datapath_fd(dp, bpf_map__name(map));
		int res = fd < 0 ? 0 : bpf_map__reuse_fd(map, fd);

		if (res)
			return res;
	}
	return 0;
}

/* With the argument that newer kernels give, or without. */
static int skel_load(struct drops *d, const struct datapath *dp, bool sock)
{
	d->skel = drops_bpf__open();
	if (!d->skel)
		return -errno;
	bpf_program__set_autoload(d->skel->progs.tw_drop, sock);
	bpf_program__set_autoload(d->skel->progs.tw_drop_no_sock, !sock);
	memcpy((void *)&d->skel->rodata->tw_settings, &dp->settings, sizeof(dp->settings));
	told_fill(d, (uint8_t *)d->skel->rodata->tw_drop_told);
	int res = maps_share(d, dp);
	if (!res)
		res = drops_bpf__load(d->skel);
	if (!res)
		return 0;
	drops_bpf__destroy(d->skel);
	d->skel = NULL;
	return res;
}

int drops_open(struct drops **out, struct datapath *dp, uint32_t node, char *err, size_t err_len)
{
	struct drops *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->node = node;
	int res = drops_names_read(d->names);
	if (!res)
		res = skel_load(d, dp, true) ? skel_load(d, dp, false) : 0;
	if (!res)
		res = drops_netns_set(d, NULL, 0);
	if (!res)
		res = drops_bpf__attach(d->skel);
	if (res) {
		datapath_message(err, err_len,
				 "this kernel does not tell why it drops packets (Linux 5.17 with "
				 "BTF does): %s",
				 strerror(-res));
		drops_close(d);
		return res;
	}
	*out = d;
	return 0;
}

int drops_start(struct drops *d, struct datapath *dp)
{
	int res = datapath_ring_add(dp, bpf_map__fd(d->skel->maps.tw_drop_events));

	if (!res)
		tw_kernel_reasons_set(d->names);
	return res;
}

void drops_close(struct drops *d)
{
	if (!d)
		return;
	tw_kernel_reasons_set(NULL);
	drops_bpf__destroy(d->skel);
	for (size_t i = 0; i < TW_KERNEL_REASONS; i++)
		free(d->names[i]);
	free(d);
}

static int inum_order(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

int drops_netns_set(struct drops *d, const uint32_t *inum, size_t n)
{
	int fd = bpf_map__fd(d->skel->maps.tw_drop_netns);
	uint8_t place = TW_DROP_CONTAINER;
	uint32_t key, next;
	int res = 0;
	bool more;

	uint32_t *sorted = calloc(n + 1, sizeof(*sorted));
	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		sorted[i] = inum[i];
		if (bpf_map_update_elem(fd, &inum[i], &place, BPF_ANY))
			res = -errno;
	}
	place = TW_DROP_NODE;
	sorted[n] = d->node;
	if (bpf_map_update_elem(fd, &d->node, &place, BPF_ANY))
		res = -errno;
	qsort(sorted, n + 1, sizeof(*sorted), inum_order);
	/* The next key is asked for while this one is there: else the search begins anew. */
	for (more = !bpf_map_get_next_key(fd, NULL, &key); more; key = next) {
		more = !bpf_map_get_next_key(fd, &key, &next);
		if (!bsearch(&key, sorted, n + 1, sizeof(*sorted), inum_order))
			bpf_map_delete_elem(fd, &key);
	}
	free(sorted);
	return res;
}

int drops_count(struct drops *d, unsigned int reason, struct tw_metric *out)
{
	return datapath_metric_sum(bpf_map__fd(d->skel->maps.tw_drop_count), reason, out);
}
