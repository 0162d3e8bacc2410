// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * TCP of the processes of a cgroup, tuned connection by connection, without a change to the program:
 * congestion control, initial window, limits of the retransmission timer, buffers.
 */
#include <linux/bpf.h>
#include <linux/tcp.h>
#include <bpf/bpf_helpers.h>

#define SOL_SOCKET 1
#define SO_SNDBUF 7
#define SO_RCVBUF 8
#define SOL_TCP 6

struct profile {
	char congestion[16];  /* "" leaves it */
	__u32 initial_window; /* segments; 0 leaves it */
	__u32 rto_min_us;     /* likewise */
	__u32 send_buffer;    /* bytes, likewise */
	__u32 receive_buffer;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct profile);
} profile SEC(".maps");

__u64 tuned;
__u64 failed; /* an option that the kernel did not take, as an unknown congestion control */

static __always_inline void set(struct bpf_sock_ops *ctx, int level, int option, __u32 value)
{
	if (value && bpf_setsockopt(ctx, level, option, &value, sizeof(value)))
		__sync_fetch_and_add(&failed, 1);
}

SEC("sockops")
int tune(struct bpf_sock_ops *ctx)
{
	__u32 zero = 0;
	struct profile *p = bpf_map_lookup_elem(&profile, &zero);
	char congestion[16];

	if (!p)
		return 1;
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB: /* before the SYN, so that it can ask for a window */
		set(ctx, SOL_SOCKET, SO_SNDBUF, p->send_buffer);
		set(ctx, SOL_SOCKET, SO_RCVBUF, p->receive_buffer);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		__builtin_memcpy(congestion, p->congestion, sizeof(congestion));
		if (congestion[0] &&
		    bpf_setsockopt(ctx, SOL_TCP, TCP_CONGESTION, congestion, sizeof(congestion)))
			__sync_fetch_and_add(&failed, 1);
		set(ctx, SOL_TCP, TCP_BPF_IW, p->initial_window);
		set(ctx, SOL_TCP, TCP_BPF_RTO_MIN, p->rto_min_us);
		__sync_fetch_and_add(&tuned, 1);
		break;
	}
	return 1;
}

char _license[] SEC("license") = "GPL";
