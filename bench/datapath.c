/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Options, the order of things, and the table (or JSON lines) of `./bench.sh datapath`. */
#include <bpf/libbpf.h>
#include <getopt.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench.h"
#include "wrap.skel.h"

static void usage(FILE *to)
{
	fputs("usage: ./bench.sh datapath [--json] [--case NAME] [--flows N] [--runs N]\n"
	      "\n"
	      "Nanoseconds a packet in the shipped programs, with 100 000 flows, 10 000 endpoints\n"
	      "and 100 000 policy entries in the tables.\n"
	      "\n"
	      "  --json       one JSON object a line\n"
	      "  --case NAME  only this case (repeatable by commas)\n"
	      "  --flows N    also established_flows: N flows in random order (rounded up to a\n"
	      "               power of two, at most 131072)\n"
	      "  --runs N     the best of N runs counts (45)\n",
	      to);
}

bool bench_wanted(const struct bench *b, const char *name)
{
	size_t len = strlen(name);

	if (!b->only)
		return true;
	for (const char *at = b->only; (at = strstr(at, name)); at += len)
		if ((at == b->only || at[-1] == ',') && (!at[len] || at[len] == ','))
			return true;
	return false;
}

void bench_wrong(struct bench *b, const char *name, const char *format, ...)
{
	va_list args;

	/* Once a case: the rest says the same. */
	if (b->wrong && !strcmp(b->wrong, name))
		return;
	b->wrong = name;
	b->failed++;
	va_start(args, format);
	fprintf(stderr, "bench: %s did not take its path: ", name);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

/* To what stands beside it, a user's other choice, or else to the empty program. */
static double result_ratio(const struct result *r)
{
	return r->ratio > 0 ? r->ratio : r->ns / r->floor_ns;
}

static bool result_met(const struct result *r)
{
	if (r->goal_ratio > 0 && result_ratio(r) <= r->goal_ratio)
		return true;
	if (r->goal_ns > 0 && r->ns <= r->goal_ns)
		return true;
	return !(r->goal_ratio > 0) && !(r->goal_ns > 0);
}

static bool has_goal(const struct result *r)
{
	return r->goal_ratio > 0 || r->goal_ns > 0;
}

static void result_json(const struct bench *b, const struct result *r)
{
	printf("{\"case\": \"%s\", \"ns\": %.1f, \"floor_ns\": %.1f, \"ratio\": %.2f, "
	       "\"packets\": %lu",
	       r->name, r->ns, r->floor_ns, result_ratio(r), (unsigned long)r->packets);
	if (r->beside)
		printf(", \"beside\": \"%s\", \"beside_ns\": %.1f", r->beside, r->beside_ns);
	if (r->routing_ns > 0)
		printf(", \"routing_ns\": %.1f", r->routing_ns);
	if (r->goal_ns > 0)
		printf(", \"goal_ns\": %.0f", r->goal_ns);
	if (r->goal_ratio > 0)
		printf(", \"goal_ratio\": %.2f", r->goal_ratio);
	if (has_goal(r))
		printf(", \"met\": %s", result_met(r) ? "true" : "false");
	if (b->flows && !strcmp(r->name, "established_flows"))
		printf(", \"flows\": %u", b->flows);
	printf(", \"note\": \"%s\"}\n", r->note);
}

static void result_line(const struct result *r)
{
	char goal[48] = "";

	if (r->goal_ns > 0)
		snprintf(goal, sizeof(goal), "%.0f ns", r->goal_ns);
	if (r->goal_ratio > 0)
		snprintf(goal + strlen(goal), sizeof(goal) - strlen(goal), "%s%.2f x",
			 *goal ? " or " : "", r->goal_ratio);
	printf("%-24s %8.1f %8.1f %7.2f  %-18s %-7s %s", r->name, r->ns, r->floor_ns,
	       result_ratio(r), goal,
	       !has_goal(r)    ? ""
	       : result_met(r) ? "met"
			       : "missed",
	       r->note);
	if (r->beside)
		printf("; %s %.0f", r->beside, r->beside_ns);
	if (r->routing_ns > 0)
		printf("; plain routing %.0f", r->routing_ns);
	putchar('\n');
}

void result_print(struct bench *b, const struct result *r)
{
	if (b->json)
		result_json(b, r);
	else
		result_line(r);
	fflush(stdout);
}

/* The last CPU: the first one has most of the machine's interrupts. */
static void cpu_pin(void)
{
	cpu_set_t set;
	int last = 0;

	must(!sched_getaffinity(0, sizeof(set), &set));
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &set))
			last = cpu;
	CPU_ZERO(&set);
	CPU_SET(last, &set);
	must(!sched_setaffinity(0, sizeof(set), &set));
}

void cpu_unpin(void)
{
	cpu_set_t set;
	int here = sched_getcpu();
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	CPU_ZERO(&set);
	for (int cpu = 0; cpu < cpus; cpu++)
		if (cpu != here || cpus == 1)
			CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static uint32_t power_of_two(unsigned long n)
{
	uint32_t flows = 1;

	while (flows < n && flows < 131072)
		flows *= 2;
	return flows;
}

static void options(struct bench *b, int argc, char **argv)
{
	static const struct option names[] = {
		{ "json", no_argument, NULL, 'j' },	   { "case", required_argument, NULL, 'c' },
		{ "flows", required_argument, NULL, 'f' }, { "runs", required_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },	   {},
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
		case 'f':
		case 'r':
			n = strtoul(optarg, NULL, 10);
			if (!n || n > 1000000) {
				usage(stderr);
				exit(2);
			}
			if (c == 'f')
				b->flows = power_of_two(n);
			else
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

static void head_print(const struct bench *b)
{
	struct utsname name;

	if (b->json)
		return;
	uname(&name);
	printf("kernel %s, %ld CPUs; ns a packet, best of %u runs\n\n", name.release,
	       sysconf(_SC_NPROCESSORS_ONLN), b->runs);
	printf("%-24s %8s %8s %7s  %-18s\n", "case", "ns", "floor", "ratio", "goal");
}

int main(int argc, char **argv)
{
	struct bench b = { .runs = 45 };
	const struct lab_options lab = {
		.max_flows = 262144,
		.max_peers = 262144,
		.max_classes = 262144,
		.max_versions = 16384,
		.max_pages = 1024,
		.max_prefixes6 = 32768,
	};

	options(&b, argc, argv);
	lab_netns();
	lab_open(&b.lab, &lab);
	b.wrap = wrap_bpf__open_and_load();
	if (!b.wrap) {
		fprintf(stderr, "bench: the kernel refused the bench's own programs\n");
		return 1;
	}
	cpu_pin();
	head_print(&b);
	runs_all(&b);
	live_all(&b);
	wrap_bpf__destroy(b.wrap);
	lab_close(&b.lab);
	return b.failed ? 1 : 0;
}
