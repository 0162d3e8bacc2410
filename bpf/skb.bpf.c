// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * What only the kernel's own sk_buff tells. A file of its own: objects that name the same kernel
 * function cannot be linked together.
 */
#include "lib/forward.h"

struct sk_buff___towpath {
	unsigned char *head;
	unsigned char *data;
	__u16 mac_header;
	__u8 ip_summed : 2;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *ctx) __weak __ksym;

/*
 * How far the packet's checksum is done. From 6.2 on it can be asked; before, COMPLETE is the
 * answer that is right for all: the helper then finds out.
 */
__hidden int skb_ip_summed(struct __sk_buff *skb)
{
	struct sk_buff___towpath *kernel;

	if (!bpf_ksym_exists(bpf_cast_to_kern_ctx))
		return CHECKSUM_COMPLETE;
	kernel = bpf_cast_to_kern_ctx(skb);
	return BPF_CORE_READ_BITFIELD(kernel, ip_summed);
}

__hidden bool skb_mac_lost(struct __sk_buff *skb)
{
	struct sk_buff___towpath *kernel;

	if (!bpf_ksym_exists(bpf_cast_to_kern_ctx))
		return false;
	kernel = bpf_cast_to_kern_ctx(skb);
	return (__u16)(kernel->data - kernel->head) != kernel->mac_header;
}

char _license[] SEC("license") __weak = "Dual BSD/GPL";
