/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The far side of `./bench.sh flood`, in its network namespace.
 *
 *   flood_send sink IFNAME ADDRESS                 what is for forged sources or ADDRESS is dropped
 *   flood_send forged|fixed IFNAME RATE SECONDS    SYNs by XDP live frames; a frame as hex on stdin
 *
 * The sender prints one JSON object.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "flood.skel.h"

#define TICK_NS 500000u
#define BATCH 64u
#define ONCE_MAX 20000u /* frames for one call, so that the end is seen */

static void die(const char *what)
{
	fprintf(stderr, "flood_send: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void frame_read(struct flood_bpf *skel)
{
	char hex[2 * sizeof(skel->bss->head) + 1] = "";

	if (fread(hex, 1, sizeof(hex) - 1, stdin) != sizeof(hex) - 1)
		die("a frame of 54 bytes as hex");
	for (size_t i = 0; i < sizeof(skel->bss->head); i++) {
		const char byte[3] = { hex[2 * i], hex[2 * i + 1], '\0' };

		skel->bss->head[i] = (uint8_t)strtoul(byte, NULL, 16);
	}
}

static void sink(struct flood_bpf *skel, unsigned int ifindex, const char *address)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = XDP_FLAGS_DRV_MODE);

	if (inet_pton(AF_INET, address, &skel->bss->fixed) != 1)
		die(address);
	if (bpf_link_create(bpf_program__fd(skel->progs.flood_sink), (int)ifindex, BPF_XDP, &opts) <
	    0)
		die("cannot attach");
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}

static void flood(struct flood_bpf *skel, unsigned int ifindex, double rate, double seconds)
{
	const uint64_t begin = now_ns(), end = begin + (uint64_t)(seconds * 1e9);
	uint64_t sent = 0, frames = 0, now;
	uint8_t frame[64] = {};
	struct xdp_md ctx = { .data_end = sizeof(frame) };

	skel->bss->device = ifindex;
	while ((now = now_ns()) < end) {
		uint64_t due = (uint64_t)((double)(now - begin) * rate / 1e9);
		const bool behind = due - sent > ONCE_MAX;
		LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame,
			    .data_size_in = sizeof(frame), .ctx_in = &ctx,
			    .ctx_size_in = sizeof(ctx), .flags = BPF_F_TEST_XDP_LIVE_FRAMES,
			    .batch_size = BATCH);
		const struct timespec tick = { .tv_nsec = TICK_NS };

		if (due > sent) {
			/* What could not be sent in time is not made up for. */
			if (behind)
				sent = due - ONCE_MAX;
			opts.repeat = (int)(due - sent);
			frames += due - sent;
			if (bpf_prog_test_run_opts(bpf_program__fd(skel->progs.flood_frame), &opts))
				die("live frames");
			sent = due;
		}
		if (!behind)
			nanosleep(&tick, NULL);
	}
	printf("{\"frames\": %llu, \"seconds\": %.3f}\n", (unsigned long long)frames,
	       (double)(now_ns() - begin) / 1e9);
}

int main(int argc, char **argv)
{
	struct flood_bpf *skel;
	unsigned int ifindex;

	if (argc < 4 || (strcmp(argv[1], "sink") && argc < 5)) {
		fputs("usage: flood_send sink IFNAME ADDRESS | forged|fixed IFNAME RATE SECONDS\n",
		      stderr);
		return 2;
	}
	ifindex = if_nametoindex(argv[2]);
	skel = flood_bpf__open_and_load();
	if (!ifindex || !skel)
		die(ifindex ? "the kernel refused the programs" : argv[2]);
	if (!strcmp(argv[1], "sink"))
		sink(skel, ifindex, argv[3]);
	frame_read(skel);
	skel->bss->forged = !strcmp(argv[1], "forged");
	flood(skel, ifindex, atof(argv[3]), atof(argv[4]));
	flood_bpf__destroy(skel);
	return 0;
}
