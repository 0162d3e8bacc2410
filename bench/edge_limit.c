/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Limits and SYN cookies: one source or a million of them at the buckets, and SYNs answered. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <edge_limit.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <lab.h>

#include "edge.h"
#include "edge_wrap.skel.h"

#define PORT 80
#define MILLION 1048576u

static void apply(struct edge *edge, const struct edge_limits *limits)
{
	char err[256] = "";

	if (edge_limits_apply(edge, limits, err, sizeof(err))) {
		fprintf(stderr, "bench: limits: %s\n", err);
		exit(1);
	}
}

/* Never reached: what is measured is the charge. */
static void limit_apply(struct edge *edge, bool source)
{
	const struct edge_limit limit = { .id = 1,
					  .kind = TW_EDGE_LIMIT_PACKETS,
					  .source = source,
					  .prefix4 = 32,
					  .prefix6 = 64,
					  .rate = 1000000000,
					  .seconds = 1,
					  .burst = 1000000000,
					  .last = 65535 };

	apply(edge, &(struct edge_limits){ .limit = &limit, .n = 1 });
}

static void sources_fill(struct edge_bench *b)
{
	const size_t len = MILLION * 2 * sizeof(__u64);
	__u64(*addr)[2] = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED,
			       bpf_map__fd(b->wrap->maps.bench_addrs), 0);

	if (addr == MAP_FAILED) {
		perror("bench: addresses");
		exit(1);
	}
	/* An odd multiplier permutes: a million different ones, far from each other. */
	for (__u32 i = 0; i < MILLION; i++)
		addr[i][0] = htonl(0x0b000000 | (i * 0x9e3779b1u & (MILLION - 1)));
	munmap(addr, len);
}

static void listen_here(void)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(PORT) };
	int fd = socket(AF_INET6, SOCK_STREAM, 0);

	must(fd >= 0 && !bind(fd, (struct sockaddr *)&any, sizeof(any)) && !listen(fd, 64));
}

/* A SYN with the options of Linux, as long as its answer, so that test-run's frame keeps its length. */
static void syn_build(struct frame *out)
{
	static const struct spec spec = { TCP, OUTSIDE, NODE, 4000, PORT, SYN, .payload = 20 };
	static const uint8_t options[20] = { 2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2,
					     3, 4, 0, 0,    0, 0, 1, 3,	 3, 7 };

	frame_build(out, 4, &spec);
	out->data[46] = 0xa0;
	memcpy(out->data + 54, options, sizeof(options));
}

void edge_limit_cases(struct edge_bench *b)
{
	static const struct spec udp = { UDP, OUTSIDE, NODE, 4000, PORT, .payload = 32 };
	const struct edge_cookies cookies = { PORT, PORT, 0 };
	const struct edge_limits with_cookies = {
		.cookies = &cookies,
		.n_cookies = 1,
		.settings = { .mode = TW_EDGE_COOKIE_ASSIGN,
			      .timestamps = 1,
			      .sack = 1,
			      .window_scale = 7,
			      .mss = { 1460, 1440 } },
	};
	struct edge_options opts = {};
	struct edge *edge = NULL;
	struct frame syn;
	char err[512] = "";

	lab_netns();
	listen_here();
	syn_build(&syn);
	edge_settings_default(&opts.settings);
	opts.settings.parse = opts.settings.limits = 1;
	if (edge_open(&edge, &opts, err, sizeof(err))) {
		fprintf(stderr, "bench: %s\n", err);
		exit(1);
	}
	struct edge_case c = {
		.prog_fd = edge_prog_fd(edge), .family = 4, .frame = &udp, .action = XDP_PASS
	};
	const struct {
		const char *name;
		bool source, random;
		const char *note;
	} limits[] = {
		{ "limit_source", true, false, "a bucket for each source, one of them hot" },
		{ "limit_source_1m", true, true, "a million sources in random order" },
		{ "limit_all", false, false, "one bucket for all" },
	};

	sources_fill(b);
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		limit_apply(edge, limits[i].source);
		c.name = limits[i].name;
		c.note = limits[i].note;
		c.sources = limits[i].random;
		c.flows = limits[i].random ? MILLION : 0;
		if (edge_case_wanted(b, c.name))
			edge_case_run(b, &c);
	}
	apply(edge, &with_cookies);
	c = (struct edge_case){ .name = "syn_cookie",
				.prog_fd = edge_prog_fd(edge),
				.family = 4,
				.built = &syn,
				.flows = MILLION,
				.action = XDP_TX,
				.note = "a SYN answered: socket looked up, cookie, options" };
	if (edge_case_wanted(b, c.name))
		edge_case_run(b, &c);
	edge_close(edge);
}
