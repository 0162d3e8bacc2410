/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The far side of `./bench.sh edge --traffic`.
 *
 *   edge_send flood IFNAME CPU SECONDS   frames as fast as one core makes them; on standard input a
 *                                        frame as hex, then source addresses, a line each
 *   edge_send drop|look IFNAME           an empty XDP drop, or one that looks at the source address,
 *                                        until standard input ends
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "edge_wrap.skel.h"

#define ADDRS_MAX (1u << 20)
/*
 * The kernel takes some 20 ms for the beginning and the end of a call, in which nothing is sent: so
 * the rate is looked for with these, and all others are one call.
 */
#define PROBE 100000

static void die(const char *what)
{
	fprintf(stderr, "edge_send: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void frame_read(struct edge_wrap_bpf *skel)
{
	char line[512];
	uint8_t *at = (uint8_t *)skel->bss->bench.head;

	if (!fgets(line, sizeof(line), stdin))
		die("a frame as hex");
	for (size_t i = 0; i < sizeof(skel->bss->bench.head) && line[2 * i] > ' '; i++) {
		const char byte[3] = { line[2 * i], line[2 * i + 1], '\0' };

		at[i] = (uint8_t)strtoul(byte, NULL, 16);
	}
}

/* A power of two of them. */
static void addrs_read(struct edge_wrap_bpf *skel)
{
	uint64_t(*at)[2] = mmap(NULL, ADDRS_MAX * sizeof(*at), PROT_READ | PROT_WRITE, MAP_SHARED,
				bpf_map__fd(skel->maps.bench_addrs), 0);
	uint32_t n = 0, power = 1;
	char line[64];

	if (at == MAP_FAILED)
		die("the addresses");
	while (n < ADDRS_MAX && fgets(line, sizeof(line), stdin)) {
		struct in_addr addr;

		line[strcspn(line, "\n")] = '\0';
		if (inet_pton(AF_INET, line, &addr) != 1)
			die(line);
		at[n++][0] = addr.s_addr;
	}
	while (power * 2 <= n)
		power *= 2;
	skel->bss->bench.flows = power;
	munmap(at, ADDRS_MAX * sizeof(*at));
}

static void flood(struct edge_wrap_bpf *skel, unsigned int ifindex, int cpu, double seconds)
{
	uint8_t frame[128] = {};
	struct xdp_md ctx = { .data_end = sizeof(frame) };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = sizeof(frame),
		    .ctx_in = &ctx, .ctx_size_in = sizeof(ctx), .repeat = PROBE,
		    .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = 64);
	unsigned long long frames = 0;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("the core");
	frame_read(skel);
	addrs_read(skel);
	skel->bss->bench.device = ifindex;
	double begin = now();
	for (int i = 0; i < 2; i++) {
		if (bpf_prog_test_run_opts(bpf_program__fd(skel->progs.bench_flood), &opts))
			die("live frames");
		frames += (unsigned long long)opts.repeat;
		/* A call's own time is what `duration` says of each frame, and those 20 ms. */
		opts.repeat = (int)(seconds / ((now() - begin) / PROBE));
	}
	printf("{\"frames\": %llu, \"seconds\": %.4f}\n", frames, now() - begin);
}

static void drop(const struct bpf_program *prog, unsigned int ifindex)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = XDP_FLAGS_DRV_MODE);

	if (bpf_link_create(bpf_program__fd(prog), (int)ifindex, BPF_XDP, &opts) < 0)
		die("cannot attach");
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF)
		;
}

int main(int argc, char **argv)
{
	struct edge_wrap_bpf *skel;
	unsigned int ifindex;

	if (argc < 3 || (!strcmp(argv[1], "flood") && argc < 5)) {
		fputs("usage: edge_send flood IFNAME CPU SECONDS | drop|look IFNAME\n", stderr);
		return 2;
	}
	ifindex = if_nametoindex(argv[2]);
	skel = edge_wrap_bpf__open_and_load();
	if (!ifindex || !skel)
		die(ifindex ? "the kernel refused the programs" : argv[2]);
	if (!strcmp(argv[1], "flood"))
		flood(skel, ifindex, atoi(argv[3]), atof(argv[4]));
	else
		drop(strcmp(argv[1], "look") ? skel->progs.bench_drop : skel->progs.bench_look,
		     ifindex);
	edge_wrap_bpf__destroy(skel);
	return 0;
}
