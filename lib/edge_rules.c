/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Small maps: rules on ports, of prefixes (classes) and of any source; the sample of sources. */
#include <bpf/bpf.h>
#include <errno.h>
#include <sys/mman.h>

#include "edge_internal.h"

int edge_class_set(const struct edge *edge, uint32_t number, const struct tw_edge_class *class,
		   const struct tw_edge_interval *intervals)
{
	int fd = edge_map_fd(edge, "tw_edge_intervals");

	for (uint32_t i = 0; i < class->count; i++) {
		uint32_t at = class->first + i;

		if (bpf_map_update_elem(fd, &at, &intervals[i], BPF_ANY))
			return -errno;
	}
	return bpf_map_update_elem(edge_map_fd(edge, "tw_edge_classes"), &number, class, BPF_ANY)
		       ? -errno
		       : 0;
}

static void classes_store(uint16_t *at, const uint16_t *want, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (at[i] != want[i])
			__atomic_store_n(&at[i], want[i], __ATOMIC_RELAXED);
}

int edge_ports_store(const struct edge *edge, const struct tw_edge_ports *want)
{
	struct tw_edge_ports *at = mmap(NULL, sizeof(*at), PROT_READ | PROT_WRITE, MAP_SHARED,
					edge_map_fd(edge, "tw_edge_ports"), 0);

	if (at == MAP_FAILED)
		return -errno;
	for (size_t i = 0; i < TW_EDGE_PORT_PROTOS; i++)
		classes_store(at->port[i], want->port[i], 65536);
	classes_store(at->proto, want->proto, 256);
	munmap(at, sizeof(*at));
	return 0;
}

int edge_sources_each(const struct edge *edge,
		      int (*fn)(void *arg, const struct edge_source *source), void *arg)
{
	int fd = edge_map_fd(edge, "tw_edge_sources"), res = 0;
	union tw_addr key, next;
	bool more;

	/* The next key is asked for while this one is there: else the search begins anew. */
	for (more = !bpf_map_get_next_key(fd, NULL, &key); more && !res; key = next) {
		struct tw_edge_source value;

		more = !bpf_map_get_next_key(fd, &key, &next);
		if (bpf_map_lookup_elem(fd, &key, &value))
			continue;
		res = fn(arg, &(struct edge_source){
				      .addr = key,
				      .passed = value.samples[0] * TW_EDGE_SAMPLE,
				      .dropped = value.samples[1] * TW_EDGE_SAMPLE,
				      .counter = value.counter,
			      });
	}
	return res;
}
