/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "edge.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <getopt.h>
#include <libgen.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "edge_wrap.skel.h"

#define REPEAT 100000u
/* Each of many addresses comes several times, as in a flood: caches hold what they can hold. */
#define REPEAT_SOURCES 500000u
#define PAUSE_US 5000u

static void usage(FILE *to)
{
	fputs("usage: ./bench.sh edge [--json] [--case NAME] [--runs N] [--traffic]\n"
	      "\n"
	      "Nanoseconds a frame in the shipped XDP program.\n"
	      "\n"
	      "  --traffic    real frames instead: what is dropped a second, and what is left of "
	      "the\n"
	      "               core, beside an empty XDP drop, nftables and iptables\n"
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
static double run_once(int prog_fd, const struct frame *frame, uint32_t repeat, uint32_t *action)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame->data,
		    .data_size_in = (uint32_t)frame->len, .repeat = (int)repeat);

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

/* What one case came to. */
struct measured {
	double ns, floor_ns, beside_ns;
};

static bool goal_met(const struct edge_case *c, const struct measured *m)
{
	return (c->goal_ns > 0 && m->ns <= c->goal_ns) ||
	       (c->goal_ratio > 0 && m->ns <= c->goal_ratio * m->floor_ns);
}

static void print_json(const struct edge_case *c, const struct measured *m)
{
	bool goal = c->goal_ns > 0 || c->goal_ratio > 0;

	printf("{\"case\": \"%s\", \"ns\": %.1f, \"floor_ns\": %.1f, \"ratio\": %.2f", c->name,
	       m->ns, m->floor_ns, m->ns / m->floor_ns);
	if (c->goal_ns > 0)
		printf(", \"goal_ns\": %.0f", c->goal_ns);
	if (c->goal_ratio > 0)
		printf(", \"goal_ratio\": %.2f", c->goal_ratio);
	if (goal)
		printf(", \"met\": %s", goal_met(c, m) ? "true" : "false");
	if (c->beside)
		printf(", \"beside\": \"%s\", \"beside_ns\": %.1f", c->beside, m->beside_ns);
	printf(", \"note\": \"%s\"}\n", c->note);
}

static void print(const struct edge_bench *b, const struct edge_case *c, const struct measured *m)
{
	char goal[48] = "";

	if (b->json) {
		print_json(c, m);
		fflush(stdout);
		return;
	}
	if (c->goal_ns > 0)
		snprintf(goal, sizeof(goal), "%.0f ns", c->goal_ns);
	if (c->goal_ratio > 0)
		snprintf(goal + strlen(goal), sizeof(goal) - strlen(goal), " or %.1f x",
			 c->goal_ratio);
	printf("%-24s %8.1f %8.1f %7.2f  %-15s %-7s %s", c->name, m->ns, m->floor_ns,
	       m->ns / m->floor_ns, goal,
	       !*goal		? ""
	       : goal_met(c, m) ? "met"
				: "missed",
	       c->note);
	if (c->beside)
		printf("; %s %.0f", c->beside, m->beside_ns);
	putchar('\n');
	fflush(stdout);
}

/* The wrapper that the case asks for, and what it reads. */
static int wrapper(struct edge_bench *b, const struct edge_case *c, const struct frame *frame)
{
	memset(&b->wrap->bss->bench, 0, sizeof(b->wrap->bss->bench));
	memcpy(b->wrap->bss->bench.head, frame->data, sizeof(b->wrap->bss->bench.head));
	b->wrap->bss->bench.len = (uint32_t)frame->len;
	b->wrap->bss->bench.flows = c->flows;
	b->wrap->bss->bench.family = (uint32_t)c->family;
	return bpf_program__fd(c->sources ? b->wrap->progs.bench_source
					  : b->wrap->progs.bench_wrap);
}

/*
 * Empty program, pair, wrapper before an empty program, the case itself, and what stands beside it,
 * one after the other in each run; the best of each counts. What the wrapper costs is taken off.
 */
void edge_case_run(struct edge_bench *b, const struct edge_case *c)
{
	int empty = bpf_program__fd(b->wrap->progs.bench_empty),
	    pair = bpf_program__fd(b->wrap->progs.bench_pair), wrap;
	double floor_ns = 1e9, pair_ns = 1e9, wrap_ns = 1e9, ns = 1e9, beside_ns = 1e9;
	uint32_t action = 0, beside = c->action, other;
	uint32_t repeat = c->sources && c->flows > 1 ? REPEAT_SOURCES : REPEAT;
	struct frame frame;

	if (c->built)
		frame = *c->built;
	else
		frame_build(&frame, c->family, c->frame);
	wrap = wrapper(b, c, &frame);
	for (unsigned int i = 0; i < b->runs; i++) {
		if (i % 8 == 0)
			usleep(PAUSE_US);
		best(&floor_ns, run_once(empty, &frame, repeat, &other));
		best(&pair_ns, run_once(pair, &frame, repeat, &other));
		target_set(b, empty);
		best(&wrap_ns, run_once(wrap, &frame, repeat, &other));
		target_set(b, c->prog_fd);
		best(&ns, run_once(wrap, &frame, repeat, &action));
		if (!c->beside)
			continue;
		target_set(b, c->beside_fd);
		best(&beside_ns, run_once(wrap, &frame, repeat, &beside));
	}
	if (action != c->action || beside != c->action) {
		fprintf(stderr, "bench: %s did not take its path: action %u, %u\n", c->name, action,
			beside);
		b->failed++;
		return;
	}
	struct measured m = { ns + floor_ns - wrap_ns, floor_ns, beside_ns + floor_ns - wrap_ns };

	if (c->grows)
		m.ns -= (pair_ns - floor_ns) / 2;
	print(b, c, &m);
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

/* With frames that really travel: a program of its own. Options that stand before it count. */
static void traffic_run(const struct edge_bench *b, const char *self)
{
	char *build = strdup(self);

	execlp("python3", "python3", "bench/edge_traffic.py", "--build", dirname(dirname(build)),
	       b->json ? "--json" : NULL, NULL);
	perror("bench: bench/edge_traffic.py");
	exit(1);
}

static void options(struct edge_bench *b, int argc, char **argv)
{
	static const struct option names[] = {
		{ "json", no_argument, NULL, 'j' },	  { "case", required_argument, NULL, 'c' },
		{ "runs", required_argument, NULL, 'r' }, { "traffic", no_argument, NULL, 't' },
		{ "help", no_argument, NULL, 'h' },	  {},
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
		case 't':
			traffic_run(b, argv[0]);
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
	edge_filter_cases(&b);
	edge_balance_cases(&b);
	edge_limit_cases(&b);
	edge_wrap_bpf__destroy(b.wrap);
	return b.failed ? 1 : 0;
}
