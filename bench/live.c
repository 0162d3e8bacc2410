/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Frames that really travel: XDP live frames enter the stack at a port as if a container had
 * sent them, and are counted where they arrive. Three ways side by side: the shipped programs,
 * one program that only redirects, and the kernel's routing without any.
 *
 *   twa  the shipped programs     twx  a bare bpf_redirect_peer     twr  nothing: routed
 *
 * The first two end at B (its interface cb), the third at C (cc), whose port has no program;
 * those for the outside at net0. All of these are in another namespace.
 *
 * All three pay the same for making the frames, which the figures include.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "wrap.skel.h"

#define FRAMES 20000u
#define ROUNDS 41u
#define BATCH 64u

enum way { SHIPPED, BARE, ROUTED, WAYS };

struct live {
	struct bench *b;
	int home, there; /* namespaces */
	uint32_t ifindex[WAYS];
};

static void ip_batch(const char *commands)
{
	FILE *ip = popen("ip -batch -", "w");

	must(ip);
	must(fwrite(commands, 1, strlen(commands), ip) == strlen(commands));
	must(!pclose(ip));
}

static void netns_enter(int fd)
{
	must(!setns(fd, CLONE_NEWNET));
}

/* A second namespace, held by its file descriptor alone. */
static void netns_make(struct live *l)
{
	l->home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	must(!unshare(CLONE_NEWNET));
	l->there = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	netns_enter(l->home);
}

static uint32_t interface(const char *name)
{
	uint32_t ifindex = if_nametoindex(name);

	must(ifindex);
	return ifindex;
}

/* The link lives as long as this process. */
static void attach(const struct bpf_program *prog, uint32_t ifindex)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts);

	must(bpf_link_create(bpf_program__fd(prog), (int)ifindex, BPF_TCX_INGRESS, &opts) >= 0);
}

/* The receiving ends move away; what arrives at them is counted and thrown away. */
static void there_build(struct live *l)
{
	static const char *const ends[] = { "cb", "cc", "net0" };
	char commands[1024];

	snprintf(commands, sizeof(commands),
		 "link add twx address 02:54:57:00:00:01 type veth peer name cx\n"
		 "link add twr address 02:54:57:00:00:01 type veth peer name cr\n"
		 "link set twx up\nlink set twr up\nlink set cx up\nlink set cr up\n"
		 "link set cb netns /proc/%1$d/fd/%2$d\nlink set cc netns /proc/%1$d/fd/%2$d\n"
		 "link set net0 netns /proc/%1$d/fd/%2$d\n"
		 "neigh add 10.88.0.4 lladdr 02:00:00:00:00:04 dev twc nud permanent\n",
		 getpid(), l->there);
	ip_batch(commands);
	netns_enter(l->there);
	ip_batch("link set cb up\nlink set cc up\nlink set net0 up\n");
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		attach(l->b->wrap->progs.bench_count, interface(ends[i]));
	netns_enter(l->home);
}

static void home_build(struct live *l)
{
	static const char *const names[WAYS] = { "twa", "twx", "twr" };
	struct bench *b = l->b;

	for (enum way w = 0; w < WAYS; w++) {
		LIBBPF_OPTS(bpf_xdp_attach_opts, opts);

		l->ifindex[w] = interface(names[w]);
		/* A veth takes frames for its receive queue only while it has an XDP program. */
		must(!bpf_xdp_attach((int)l->ifindex[w], bpf_program__fd(b->wrap->progs.bench_pass),
				     0, &opts));
	}
	must(!datapath_attach_port(b->lab.dp, l->ifindex[SHIPPED], names[SHIPPED]));
	must(!datapath_attach_port(b->lab.dp, b->lab.port[B], "twb"));
	b->wrap->bss->peer_ifindex = b->lab.port[B];
	attach(b->wrap->progs.bench_redirect, l->ifindex[BARE]);
}

/*
 * Sends FRAMES frames into the stack at an interface; ns a frame, by the kernel's own clock of
 * the run, which stops while something else has the CPU.
 */
static double send_batch(struct live *l, enum way way, const char *name, const struct frame *frame)
{
	struct xdp_md ctx = { .data_end = (uint32_t)frame->len,
			      .ingress_ifindex = l->ifindex[way] };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame->data,
		    .data_size_in = (uint32_t)frame->len, .ctx_in = &ctx,
		    .ctx_size_in = sizeof(ctx), .repeat = (int)FRAMES,
		    .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = BATCH);
	volatile const __u64 *delivered = &l->b->wrap->bss->delivered;
	__u64 before = *delivered;

	must(!bpf_prog_test_run_opts(bpf_program__fd(l->b->wrap->progs.bench_live), &opts));
	/* The last ones may still be on the backlog. */
	for (int i = 0; i < 100 && *delivered - before < FRAMES; i++)
		usleep(100);
	if (*delivered - before != FRAMES)
		bench_wrong(l->b, name, "way %d: %lu of %u frames delivered", way,
			    (unsigned long)(*delivered - before), FRAMES);
	return opts.duration;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
	qsort(v, n, sizeof(*v), compare);
	return v[n / 2];
}

/* One bench: the ways in turn, so that what else the machine does falls on all of them. */
static void ways_run(struct live *l, struct result *r, const struct spec specs[WAYS])
{
	double ns[WAYS][ROUNDS], over_beside[ROUNDS];
	enum way beside = specs[BARE].to ? BARE : ROUTED;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		for (enum way w = 0; w < WAYS; w++) {
			struct frame frame;

			ns[w][i] = 0;
			if (!specs[w].to)
				continue;
			frame_build(&frame, 4, &specs[w]);
			wrap_set(l->b, 4, &specs[w], NULL,
				 bpf_program__fd(l->b->wrap->progs.bench_empty));
			ns[w][i] = send_batch(l, w, r->name, &frame);
		}
		over_beside[i] = ns[SHIPPED][i] / ns[beside][i];
	}
	r->packets = (uint64_t)FRAMES * ROUNDS;
	r->ratio = median(over_beside, ROUNDS);
	r->ns = median(ns[SHIPPED], ROUNDS);
	r->beside_ns = median(ns[beside], ROUNDS);
	r->floor_ns = r->beside_ns;
	r->routing_ns = beside == ROUTED ? 0 : median(ns[ROUTED], ROUNDS);
	result_print(l->b, r);
}

/* Opens the flow and checks afterwards that its entry carried every frame. */
static void shipped_run(struct live *l, struct result *r, const struct spec specs[WAYS])
{
	struct bench *b = l->b;
	struct spec syn = specs[SHIPPED];
	struct tw_flow before, after;
	struct outcome got;
	struct tw_tuple t;
	unsigned int dir;

	if (!bench_wanted(b, r->name))
		return;
	syn.flags = SYN;
	lab_send(&b->lab, 4, FROM_A, &syn, &got);
	spec_tuple(&syn, 4, &t);
	must(!lab_flow_get(&b->lab, &t, &before, &dir));
	ways_run(l, r, specs);
	must(!lab_flow_get(&b->lab, &t, &after, &dir));
	if (after.half[dir].packets - before.half[dir].packets != r->packets)
		bench_wrong(b, r->name, "%u of %lu frames carried by the entry",
			    after.half[dir].packets - before.half[dir].packets,
			    (unsigned long)r->packets);
}

void live_all(struct bench *b)
{
	struct live l = { .b = b };
	const struct spec local[WAYS] = {
		[SHIPPED] = P(TCP, A, B, 9001, 1000, ACK, .payload = 6),
		[BARE] = P(TCP, A, B, 9001, 1000, ACK, .payload = 6),
		[ROUTED] = P(TCP, A, C, 9001, 1000, ACK, .payload = 6),
	};
	const struct spec outside[WAYS] = {
		[SHIPPED] = P(TCP, A, OUTSIDE, 9001, 1000, ACK, .payload = 6),
		[ROUTED] = P(TCP, A, OUTSIDE, 9001, 1000, ACK, .payload = 6),
	};
	struct result to_local = { .name = "live_local",
				   .goal_ratio = 1.12,
				   .beside = "bare redirect_peer",
				   .note = "delivered in the other container" };
	struct result to_outside = { .name = "live_outside",
				     .goal_ratio = 1.0,
				     .beside = "plain routing",
				     .note = "translated, delivered beyond the uplink" };

	if (!bench_wanted(b, to_local.name) && !bench_wanted(b, to_outside.name))
		return;
	netns_make(&l);
	there_build(&l);
	home_build(&l);
	shipped_run(&l, &to_local, local);
	shipped_run(&l, &to_outside, outside);
}
