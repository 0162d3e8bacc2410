// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Puts one packet of so many into a ring buffer, its first bytes and its length. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "record.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} records SEC(".maps");

__u32 one_of = 1; /* every packet; 100: one of a hundred, by chance */
__u64 lost;	  /* the ring was full: the packet is not recorded, and goes on */

SEC("tc")
int record(struct __sk_buff *skb)
{
	struct record *r;

	if (one_of > 1 && bpf_get_prandom_u32() % one_of)
		return TC_ACT_UNSPEC;
	r = bpf_ringbuf_reserve(&records, sizeof(*r), 0);
	if (!r) {
		__sync_fetch_and_add(&lost, 1);
		return TC_ACT_UNSPEC;
	}
	r->time = bpf_ktime_get_ns();
	r->length = skb->len;
	r->kept = skb->len < RECORD_BYTES ? skb->len : RECORD_BYTES;
	if (r->kept && !bpf_skb_load_bytes(skb, 0, r->data, r->kept)) {
		bpf_ringbuf_submit(r, 0);
		return TC_ACT_UNSPEC;
	}
	bpf_ringbuf_discard(r, 0);
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "GPL";
