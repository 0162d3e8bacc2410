/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Metrics, counters and events. An event is never in the way of a packet (I13): no wake-up,
 * drops limited a second and CPU, a full ring loses the event and counts it.
 */
#ifndef TW_EVENT_H
#define TW_EVENT_H

#include "maps.h"

#define TC_NEXT (-1) /* TCX_NEXT, and TC_ACT_UNSPEC for clsact: later programs run */
#define TC_DROP 2

static __always_inline void metric_count(__u32 reason, __u32 hook, __u32 len)
{
	__u32 index = reason * TW_HOOK_COUNT + hook;
	struct tw_metric *m = bpf_map_lookup_elem(&tw_metrics, &index);

	if (m) {
		m->packets++;
		m->bytes += len;
	}
}

/* May this CPU send one more drop event in this second? */
static __always_inline bool event_drop_allowed(struct scratch *s)
{
	__u32 now = jiffies_now();

	if (now - s->drop_since >= tw_settings.hz) {
		__u32 zero = 0;
		struct tw_config *config = bpf_map_lookup_elem(&tw_config, &zero);

		s->drop_since = now;
		s->drop_tokens = config ? config->drop_events : 0;
	}
	if (!s->drop_tokens)
		return false;
	s->drop_tokens--;
	return true;
}

static __always_inline struct tw_event *event_reserve(void)
{
	struct tw_event *ev = bpf_ringbuf_reserve(&tw_events, sizeof(*ev), 0);

	if (!ev)
		counter_add(TW_COUNTER_EVENTS_LOST, 1);
	return ev;
}

static __always_inline void event_submit(struct tw_event *ev)
{
	ev->time = bpf_jiffies64(); /* a clock would cost 12 to 28 ns; the library converts */
	bpf_ringbuf_submit(ev, BPF_RB_NO_WAKEUP);
	counter_add(TW_COUNTER_EVENTS_SENT, 1);
}

__weak __noinline int event_packet(struct scratch *s, const struct ends *e, __u32 type,
				   __u32 reason, __u32 ifindex)
{
	struct tw_event *ev;

	if (!s || !e)
		return 0;
	ev = event_reserve();
	if (!ev)
		return 0;
	ev->type = type;
	ev->reason = reason;
	ev->verdict = type == TW_EVENT_NEW ? TW_VERDICT_ALLOW : TW_VERDICT_DENY;
	ev->hook = s->packet.hook;
	ev->tcp = s->packet.tcp;
	ev->tcp_reply = 0;
	ev->icmp_type = s->packet.icmp_type;
	ev->icmp_code = s->packet.icmp_code;
	ev->tuple = type == TW_EVENT_DROP ? s->packet.tuple : s->opener;
	ev->ifindex = ifindex;
	ev->identity_from = e->identity_from;
	ev->identity_to = e->identity_to;
	ev->version_from = e->version_from;
	ev->version_to = e->version_to;
	ev->slot_from = e->slot_from;
	ev->slot_to = e->slot_to;
	ev->nat_port = s->nat_port;
	ev->length = s->packet.len > 65535 ? 65535 : s->packet.len;
	ev->idle = 0;
	ev->nat_addr = s->nat_addr;
	ev->packets[0] = 1 + s->drop_packets;
	ev->packets[1] = 0;
	ev->bytes[0] = s->packet.len + s->drop_bytes;
	ev->bytes[1] = 0;
	event_submit(ev);
	return 0;
}

static __always_inline __u32 drop_tag(const struct packet *p, __u32 reason)
{
	const struct tw_tuple *t = &p->tuple;
	__u64 h = t->saddr.quad[0] ^ t->saddr.quad[1];

	h = h * 0x9e3779b97f4a7c15ull + t->daddr.quad[0];
	h = h * 0x9e3779b97f4a7c15ull + t->daddr.quad[1];
	h = h * 0x9e3779b97f4a7c15ull + ((__u32)t->dport << 16 | t->proto << 8 | reason);
	h *= 0x9e3779b97f4a7c15ull;
	return h >> 32;
}

/*
 * An event for a drop, if it is to have one: so that a flood is told of with its number, and
 * leaves room for the drops of others (I10). Fewer than DROP_MANY of its last second may stay untold;
 * metrics have them all.
 */
__weak __noinline int drop_tell(struct scratch *s, const struct ends *e, __u32 reason,
				__u32 ifindex)
{
	__u32 now = jiffies_now(), tag, age;
	struct drop_kind *k;

	if (!s || !e)
		return 0;
	tag = drop_tag(&s->packet, reason);
	k = &s->kinds[tag & (DROP_KINDS - 1)];
	age = now - k->since;
	if (k->tag != tag || age >= 2 * tw_settings.hz) {
		/* What is left of another flood, or of a former one. */
		counter_add(TW_COUNTER_EVENTS_SUPPRESSED, k->packets);
		k->packets = k->bytes = 0;
	}
	if (k->tag != tag || age >= tw_settings.hz) {
		k->tag = tag;
		k->since = now;
		k->singles = 0;
	}
	if ((k->singles >= DROP_SINGLE && k->packets < DROP_MANY - 1) || !event_drop_allowed(s)) {
		k->packets++;
		k->bytes += s->packet.len;
		return 0;
	}
	k->singles++;
	s->drop_packets = k->packets;
	s->drop_bytes = k->bytes;
	k->packets = k->bytes = 0;
	event_packet(s, e, TW_EVENT_DROP, reason, ifindex);
	s->drop_packets = s->drop_bytes = 0;
	return 0;
}

/* The one way to drop a parsed packet: counted by reason, logged within the limit. */
static __always_inline int packet_drop(struct __sk_buff *skb, struct scratch *s,
				       const struct ends *e, __u32 reason)
{
	metric_count(reason, s->packet.hook, s->packet.len);
	drop_tell(s, e, reason, skb->ifindex);
	return TC_DROP;
}

#endif
