// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Drops that the kernel makes itself (wrong checksum, no socket, full buffer, ...) of packets
 * from or to Towpath's endpoints. An object of its own, loaded while the agent runs and pinned
 * nowhere: a kernel that does not have the tracepoint with reasons (5.17) does without it, and
 * when nothing is dropped it does not run. Nobody waits for it: it reads, counts, and leaves
 * an event within the limit (I13). It may interrupt a tc program at any point, so nothing here
 * touches tw_scratch.
 */
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include "lib/flow.h"
#include "lib/identity.h"

#define IFF_LOOPBACK 8
#define IP_OFFSET 0x1fff
#define EVENTS_A_SECOND 200 /* per CPU; the flow log counts what is alike */

/* What of the kernel's own types is read; found by name when the program is loaded. */
struct ns_common___towpath {
	__u32 inum;
} __attribute__((preserve_access_index));

struct net___towpath {
	struct ns_common___towpath ns;
} __attribute__((preserve_access_index));

struct possible_net___towpath {
	struct net___towpath *net;
} __attribute__((preserve_access_index));

struct net_device___towpath {
	__u32 flags;
	int ifindex;
	struct possible_net___towpath nd_net;
} __attribute__((preserve_access_index));

struct sock_common___towpath {
	struct possible_net___towpath skc_net;
} __attribute__((preserve_access_index));

struct sock___towpath {
	struct sock_common___towpath __sk_common;
} __attribute__((preserve_access_index));

struct sk_buff___towpath {
	struct net_device___towpath *dev;
	struct sock___towpath *sk;
	unsigned char *head;
	__be16 protocol;
	__u16 network_header;
} __attribute__((preserve_access_index));

/* Which reasons are told, by number: the user side knows their names. */
const volatile __u8 tw_drop_told[TW_KERNEL_REASONS] = {};

/* Network namespaces of the node and of its endpoints, by inode number. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TW_MAX_ENDPOINTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u8); /* enum tw_drop_place */
} tw_drop_netns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TW_KERNEL_REASONS);
	__type(key, __u32);
	__type(value, struct tw_metric);
} tw_drop_count SEC(".maps");

struct limit {
	__u32 since; /* jiffies */
	__u32 tokens;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct limit);
} tw_drop_limit SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 128 * 1024);
} tw_drop_events SEC(".maps");

/* One packet of which the headers were read. */
struct dropped {
	struct tw_tuple tuple;
	__u32 len;
	__u32 word[2]; /* of the source, of the destination */
	__u8 tcp;
	__u8 icmp_type;
	__u8 icmp_code;
};

static __always_inline __u32 word_of(const union tw_addr *addr, __u8 family)
{
	struct tw_ipcache6_key key;

	if (family == 4)
		return ipcache_word4(bpf_ntohl(addr->word[3]));
	return ipcache_word6(&key, addr);
}

static __always_inline void read_l4(struct dropped *p, const void *l4)
{
	__u8 head[14] = {};

	if (p->tuple.proto == PROTO_TCP)
		bpf_probe_read_kernel(head, 14, l4);
	else if (p->tuple.proto == PROTO_UDP || p->tuple.proto == PROTO_SCTP ||
		 p->tuple.proto == PROTO_ICMP || p->tuple.proto == PROTO_ICMP6)
		bpf_probe_read_kernel(head, 8, l4);
	else
		return;
	if (p->tuple.proto == PROTO_ICMP || p->tuple.proto == PROTO_ICMP6) {
		p->icmp_type = head[0];
		p->icmp_code = head[1];
		return;
	}
	__builtin_memcpy(&p->tuple.sport, head, 2);
	__builtin_memcpy(&p->tuple.dport, head + 2, 2);
	p->tcp = head[13];
}

/* False: no IP packet, or its headers are not in place (yet, or any more). */
static __always_inline bool read_headers(struct dropped *p, const struct sk_buff___towpath *skb)
{
	const void *at = skb->head + skb->network_header;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr ip;

		if (bpf_probe_read_kernel(&ip, sizeof(ip), at) || ip.version != 4 || ip.ihl < 5)
			return false;
		p->tuple.family = 4;
		p->tuple.proto = ip.protocol;
		p->tuple.saddr.word[2] = p->tuple.daddr.word[2] = bpf_htonl(0xffff);
		p->tuple.saddr.word[3] = ip.saddr;
		p->tuple.daddr.word[3] = ip.daddr;
		p->len = bpf_ntohs(ip.tot_len);
		if (!(ip.frag_off & bpf_htons(IP_OFFSET)))
			read_l4(p, at + ip.ihl * 4);
		return true;
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr ip;

		if (bpf_probe_read_kernel(&ip, sizeof(ip), at) || ip.version != 6)
			return false;
		p->tuple.family = 6;
		p->tuple.proto = ip.nexthdr;
		__builtin_memcpy(&p->tuple.saddr, &ip.saddr, 16);
		__builtin_memcpy(&p->tuple.daddr, &ip.daddr, 16);
		p->len = bpf_ntohs(ip.payload_len) + sizeof(ip);
		read_l4(p, at + sizeof(ip));
		return true;
	}
	return false;
}

static __always_inline void count(__u32 reason, __u32 len)
{
	struct tw_metric *m = bpf_map_lookup_elem(&tw_drop_count, &reason);

	if (m) {
		m->packets++;
		m->bytes += len;
	}
}

static __always_inline bool event_allowed(void)
{
	__u32 zero = 0, now = jiffies_now();
	struct limit *l = bpf_map_lookup_elem(&tw_drop_limit, &zero);

	if (!l)
		return false;
	if (now - l->since >= tw_settings.hz) {
		l->since = now;
		l->tokens = EVENTS_A_SECOND;
	}
	if (!l->tokens)
		return false;
	l->tokens--;
	return true;
}

/* The identity of an end, and its slot. */
static __always_inline __u32 end_of(__u32 word, __u8 family, __u16 *slot)
{
	__u32 index = word & TW_WORD_PAYLOAD;
	struct tw_endpoint *ep;

	if (!word_is_endpoint(word))
		return word_identity(word);
	ep = bpf_map_lookup_elem(&tw_endpoints, &index);
	*slot = index;
	if (!ep)
		return TW_ID_UNKNOWN;
	return family == 6 && ep->identity6 ? ep->identity6 : ep->identity;
}

static __always_inline void tell(const struct dropped *p, __u32 reason, __u32 ifindex)
{
	struct tw_event *ev = bpf_ringbuf_reserve(&tw_drop_events, sizeof(*ev), 0);

	if (!ev) {
		counter_add(TW_COUNTER_EVENTS_LOST, 1);
		return;
	}
	__builtin_memset(ev, 0, sizeof(*ev));
	ev->time = bpf_jiffies64();
	ev->type = TW_EVENT_DROP;
	ev->reason = reason;
	ev->verdict = TW_VERDICT_DENY;
	ev->hook = TW_HOOK_KERNEL;
	ev->tcp = p->tcp;
	ev->icmp_type = p->icmp_type;
	ev->icmp_code = p->icmp_code;
	ev->tuple = p->tuple;
	ev->ifindex = ifindex;
	ev->identity_from = end_of(p->word[0], p->tuple.family, &ev->slot_from);
	ev->identity_to = end_of(p->word[1], p->tuple.family, &ev->slot_to);
	ev->length = p->len > 65535 ? 65535 : p->len;
	ev->packets[0] = 1;
	ev->bytes[0] = p->len;
	bpf_ringbuf_submit(ev, BPF_RB_NO_WAKEUP);
	counter_add(TW_COUNTER_EVENTS_SENT, 1);
}

/*
 * Whose packet is it? The device says so, on the way in and out; what TCP has taken off its
 * device tells by the socket. (Elsewhere the device's word holds something else while a packet
 * is queued; whatever is read through it then is no namespace that is looked for.)
 */
static __always_inline int dropped(struct sk_buff___towpath *skb, __u32 reason,
				   struct sock___towpath *sk)
{
	struct net_device___towpath *dev;
	struct dropped p = {};
	struct net___towpath *net;
	__u32 inum, ifindex = 0;
	__u8 told, *place;

	if (reason >= TW_KERNEL_REASONS)
		return 0;
	told = tw_drop_told[reason];
	if (!told)
		return 0;
	dev = skb->dev;
	if (!sk)
		sk = skb->sk;
	if (dev) {
		if (dev->flags & IFF_LOOPBACK)
			return 0;
		net = dev->nd_net.net;
		ifindex = dev->ifindex;
	} else if (sk) {
		net = sk->__sk_common.skc_net.net;
	} else {
		return 0;
	}
	inum = net->ns.inum;
	place = bpf_map_lookup_elem(&tw_drop_netns, &inum);
	/* Towpath's own programs run on the node's interfaces, and have told it themselves. */
	if (!place || (told == TW_DROP_TC && *place == TW_DROP_NODE))
		return 0;
	if (!read_headers(&p, skb))
		return 0;
	/* A container that talks to itself does not pass its interface. */
	if (p.tuple.saddr.quad[0] == p.tuple.daddr.quad[0] &&
	    p.tuple.saddr.quad[1] == p.tuple.daddr.quad[1])
		return 0;
	p.word[0] = word_of(&p.tuple.saddr, p.tuple.family);
	p.word[1] = word_of(&p.tuple.daddr, p.tuple.family);
	if (!word_is_endpoint(p.word[0]) && !word_is_endpoint(p.word[1]))
		return 0;
	count(reason, p.len);
	if (event_allowed())
		tell(&p, reason, *place == TW_DROP_NODE ? ifindex : 0);
	else
		counter_add(TW_COUNTER_EVENTS_SUPPRESSED, 1);
	return 0;
}

/* Arguments of the tracepoint: skb, where, reason, and since 6.11 the receiving socket. */
SEC("tp_btf/kfree_skb")
int tw_drop(__u64 *ctx)
{
	return dropped((struct sk_buff___towpath *)ctx[0], (__u32)ctx[2],
		       (struct sock___towpath *)ctx[3]);
}

SEC("tp_btf/kfree_skb")
int tw_drop_no_sock(__u64 *ctx)
{
	return dropped((struct sk_buff___towpath *)ctx[0], (__u32)ctx[2], NULL);
}

char _license[] SEC("license") __weak = "Dual BSD/GPL";
