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
	ev->packets[0] = 1;
	ev->packets[1] = 0;
	ev->bytes[0] = s->packet.len;
	ev->bytes[1] = 0;
	event_submit(ev);
	return 0;
}

/* The one way to drop a parsed packet: counted by reason, logged within the limit. */
static __always_inline int packet_drop(struct __sk_buff *skb, struct scratch *s,
				       const struct ends *e, __u32 reason)
{
	metric_count(reason, s->packet.hook, s->packet.len);
	if (event_drop_allowed(s))
		event_packet(s, e, TW_EVENT_DROP, reason, skb->ifindex);
	else
		counter_add(TW_COUNTER_EVENTS_SUPPRESSED, 1);
	return TC_DROP;
}

#endif
