/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The flow tables as a whole, for who wants to look at them. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "datapath_internal.h"
#include "flow.h"
#include "towpath.skel.h"

#define BATCH 512u	     /* entries that one system call reads, at first */
#define BATCH_MAX (1u << 16) /* a bucket that has more is not a hash table's */

static void tuple_swap(struct tw_tuple *t)
{
	union tw_addr addr = t->saddr;
	__be16 port = t->sport;

	t->saddr = t->daddr;
	t->daddr = addr;
	t->sport = t->dport;
	t->dport = port;
}

/* In direction 0: from end 0 of the key to end 1. */
static void key_tuple(struct tw_tuple *t, const void *key, bool v6)
{
	const struct tw_flow4_key *k4 = key;
	const struct tw_flow6_key *k6 = key;

	*t = (struct tw_tuple){ .family = v6 ? 6 : 4 };
	if (v6) {
		t->saddr = k6->addr[0];
		t->daddr = k6->addr[1];
		t->sport = k6->port[0];
		t->dport = k6->port[1];
		t->proto = k6->proto;
		return;
	}
	t->saddr.word[2] = t->daddr.word[2] = htonl(0xffff);
	t->saddr.word[3] = k4->addr[0];
	t->daddr.word[3] = k4->addr[1];
	t->sport = k4->port[0];
	t->dport = k4->port[1];
	t->proto = k4->proto;
}

static void half_add(struct datapath_flow *f, unsigned int dir, const struct tw_half *h)
{
	f->counts[dir] = true;
	f->packets[dir] = (uint64_t)h->packets_hi << 32 | h->packets;
	f->bytes[dir] = h->bytes;
	f->tcp[dir] = h->tcp;
	f->denied |= h->kind == TW_KIND_DENY;
	f->slot_from = dir ? h->slot_to : h->slot_from;
	f->slot_to = dir ? h->slot_from : h->slot_to;
}

static void flow_read(struct datapath_flow *out, const void *key, const struct tw_flow *f, bool v6)
{
	unsigned int first = f->half[0].flags & (TW_HALF_OPENER | TW_HALF_REPLY_ENTRY) ? 0 : 1;
	const struct tw_half *h = &f->half[first];

	*out = (struct datapath_flow){};
	key_tuple(&out->tuple, key, v6);
	if (first)
		tuple_swap(&out->tuple);
	if (h->flags & TW_HALF_REPLY_ENTRY) {
		struct tw_tuple twin;

		/* From the far end to the opener. */
		flow_twin_tuple(&out->tuple, h, &twin);
		tuple_swap(&twin);
		out->tuple = twin;
		half_add(out, 1, h);
		return;
	}
	if (!(h->flags & TW_HALF_TWIN))
		half_add(out, 1, &f->half[!first]);
	half_add(out, 0, h);
}

struct batch {
	uint32_t size;
	void *keys;
	struct tw_flow *flows;
	size_t key_size;
};

static int batch_grow(struct batch *b, uint32_t size)
{
	void *keys = reallocarray(b->keys, size, b->key_size);

	b->keys = keys ?: b->keys;
	struct tw_flow *flows = keys ? reallocarray(b->flows, size, sizeof(*flows)) : NULL;
	if (!flows)
		return -ENOMEM;
	b->flows = flows;
	b->size = size;
	return 0;
}

static int table_each(int fd, bool v6, int (*fn)(void *arg, const struct datapath_flow *flow),
		      void *arg)
{
	struct batch b = { .key_size =
				   v6 ? sizeof(struct tw_flow6_key) : sizeof(struct tw_flow4_key) };
	/* Where the next batch begins: a number of a bucket, but a key's room is asked for. */
	char at[sizeof(struct tw_flow6_key)];
	bool begun = false, more = true;
	int res = batch_grow(&b, BATCH);

	while (!res && more) {
		uint32_t n = b.size;

		if (bpf_map_lookup_batch(fd, begun ? at : NULL, at, b.keys, b.flows, &n, NULL)) {
			/* A bucket that does not fit is read again, with more room. */
			if (errno == ENOSPC && b.size < BATCH_MAX) {
				res = batch_grow(&b, 2 * b.size);
				continue;
			}
			if (errno != ENOENT) {
				res = -errno;
				break;
			}
			more = false;
		}
		begun = true;
		for (uint32_t i = 0; i < n && !res; i++) {
			struct datapath_flow flow;

			flow_read(&flow, (char *)b.keys + i * b.key_size, &b.flows[i], v6);
			res = fn(arg, &flow);
		}
	}
	free(b.keys);
	free(b.flows);
	return res;
}

int datapath_flow_each(struct datapath *dp, int (*fn)(void *arg, const struct datapath_flow *flow),
		       void *arg)
{
	int res = table_each(bpf_map__fd(dp->skel->maps.tw_flow4), false, fn, arg);

	return res ? res : table_each(bpf_map__fd(dp->skel->maps.tw_flow6), true, fn, arg);
}
