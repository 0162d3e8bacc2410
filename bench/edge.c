/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "edge.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "edge_wrap.skel.h"

#define REPEAT 100000u
#define PAUSE_US 5000u

static void usage(FILE *to)
{
	fputs("usage: ./bench.sh edge [--json] [--case NAME] [--runs N]\n"
	      "\n"
	      "Nanoseconds a frame in the shipped XDP program.\n"
	      "\n"
	      "  --json       one JSON object a line\n"
	      "  --case NAME  only this case (repeatable by commas)\n"
	      "  --runs N     the best of N runs counts (25)\n",
	      to);
}

bool edge_case_wanted(const struct edge_bench *b, const char *name)
{
	size_t len = strlen(name);

	if (!b->only)
		return true;
	for (const char *at = b->only; (at = strstr(at, name)); at += len)
		if ((at == b->only || at[-1] == ',') && (!at[len] || at[len] == ','))
			return true;
	return false;
}

/* One batch: ns a frame as the kernel measured it. */
static double run_once(int prog_fd, const struct frame *frame, uint32_t *action)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame->data,
		    .data_size_in = (uint32_t)frame->len, .repeat = (int)REPEAT);

	if (bpf_prog_test_run_opts(prog_fd, &opts)) {
		perror("bench: test-run");
		exit(1);
	}
	*action = opts.retval;
	return opts.duration;
}

static void best(double *ns, double run)
{
	if (run < *ns)
		*ns = run;
}

static void target_set(struct edge_bench *b, int fd)
{
	uint32_t zero = 0;

	if (bpf_map_update_elem(bpf_map__fd(b->wrap->maps.bench_target), &zero, &fd, BPF_ANY)) {
		perror("bench: the program cannot be called");
		exit(1);
	}
}

static void print(const struct edge_bench *b, const struct edge_case *c, double ns, double floor_ns)
{
	bool met = !(c->goal_ns > 0) || ns <= c->goal_ns;
	char goal[32] = "";

	if (b->json) {
		printf("{\"case\": \"%s\", \"ns\": %.1f, \"floor_ns\": %.1f, \"ratio\": %.2f",
		       c->name, ns, floor_ns, ns / floor_ns);
		if (c->goal_ns > 0)
			printf(", \"goal_ns\": %.0f, \"met\": %s", c->goal_ns,
			       met ? "true" : "false");
		printf(", \"note\": \"%s\"}\n", c->note);
	} else {
		if (c->goal_ns > 0)
			snprintf(goal, sizeof(goal), "%.0f ns", c->goal_ns);
		printf("%-24s %8.1f %8.1f %7.2f  %-10s %-7s %s\n", c->name, ns, floor_ns,
		       ns / floor_ns, goal,
		       !(c->goal_ns > 0) ? ""
		       : met		 ? "met"
					 : "missed",
		       c->note);
	}
	fflush(stdout);
}

/*
 * Empty program, pair, wrapper before an empty program and the case itself, one after the other
 * in each run; the best of each counts. What the wrapper costs is taken off.
 */
void edge_case_run(struct edge_bench *b, const struct edge_case *c)
{
	int empty = bpf_program__fd(b->wrap->progs.bench_empty),
	    pair = bpf_program__fd(b->wrap->progs.bench_pair),
	    wrap = bpf_program__fd(b->wrap->progs.bench_wrap);
	double floor_ns = 1e9, pair_ns = 1e9, wrap_ns = 1e9, ns = 1e9;
	uint32_t action = 0, other;
	struct frame frame;

	frame_build(&frame, c->family, c->frame);
	memset(&b->wrap->bss->bench, 0, sizeof(b->wrap->bss->bench));
	memcpy(b->wrap->bss->bench.head, frame.data, sizeof(b->wrap->bss->bench.head));
	b->wrap->bss->bench.len = (uint32_t)frame.len;
	b->wrap->bss->bench.flows = c->flows;
	b->wrap->bss->bench.family = (uint32_t)c->family;
	for (unsigned int i = 0; i < b->runs; i++) {
		if (i % 8 == 0)
			usleep(PAUSE_US);
		best(&floor_ns, run_once(empty, &frame, &other));
		best(&pair_ns, run_once(pair, &frame, &other));
		target_set(b, empty);
		best(&wrap_ns, run_once(wrap, &frame, &other));
		target_set(b, c->prog_fd);
		best(&ns, run_once(wrap, &frame, &action));
	}
	if (action != c->action) {
		fprintf(stderr, "bench: %s did not take its path: action %u\n", c->name, action);
		b->failed++;
		return;
	}
	ns += floor_ns - wrap_ns;
	if (c->grows)
		ns -= (pair_ns - floor_ns) / 2;
	print(b, c, ns, floor_ns);
}

/* The last CPU: the first one has most of the machine's interrupts. */
static void cpu_pin(void)
{
	cpu_set_t set;
	int last = 0;

	sched_getaffinity(0, sizeof(set), &set);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &set))
			last = cpu;
	CPU_ZERO(&set);
	CPU_SET(last, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void options(struct edge_bench *b, int argc, char **argv)
{
	static const struct option names[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "case", required_argument, NULL, 'c' },
		{ "runs", required_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{},
	};
	unsigned long n;

	for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
		switch (c) {
		case 'j':
			b->json = true;
			break;
		case 'c':
			b->only = optarg;
			break;
		case 'r':
			n = strtoul(optarg, NULL, 10);
			if (!n || n > 100000) {
				usage(stderr);
				exit(2);
			}
			b->runs = (unsigned int)n;
			break;
		default:
			usage(c == 'h' ? stdout : stderr);
			exit(c == 'h' ? 0 : 2);
		}
	}
	if (optind < argc) {
		usage(stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct edge_bench b = { .runs = 25 };
	struct utsname name;

	options(&b, argc, argv);
	b.wrap = edge_wrap_bpf__open_and_load();
	if (!b.wrap) {
		fprintf(stderr, "bench: the kernel refused the bench's own programs\n");
		return 1;
	}
	cpu_pin();
	uname(&name);
	if (!b.json)
		printf("kernel %s, %ld CPUs; ns a frame, best of %u runs\n\n%-24s %8s %8s %7s  "
		       "%s\n",
		       name.release, sysconf(_SC_NPROCESSORS_ONLN), b.runs, "case", "ns", "floor",
		       "ratio", "goal");
	edge_balance_cases(&b);
	edge_wrap_bpf__destroy(b.wrap);
	return b.failed ? 1 : 0;
}
