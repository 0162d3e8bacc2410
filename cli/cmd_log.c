/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * log: what programs print, and what the kernel's own stack drops. Text comes straight from the
 * kernel, as no agent is needed for it; drops come from the agent's flow log, which knows whose they
 * are, has the past, and already takes each of them from the kernel once.
 */
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "flow_lines.h"
#include "printk.h"
#include "trace_pipe.h"

enum { OPT_PROGRAM = CLI_LONG, OPT_POD, OPT_REASON, OPT_LAST };

#define LAST_DEFAULT 100u
#define LAST_FOLLOW 10u
#define REREAD_NS 200000000ull /* a program may be newer than the formats that are known */
#define KERNEL_HOOK "kernel"

struct logs {
	struct cli *cli;
	bool trace, drops, follow;
	uint64_t
		begun; /* ns since the epoch: what is newer comes out of the own buffer; 0: there is none */
	const char *program, *pod, *reason;
	unsigned long last;
	char *query;
	json_t *past; /* of records, until they are printed; NULL: printed as they come */
	json_int_t seq;
	struct printk_formats *formats;
	uint64_t formats_read;
	pthread_mutex_t lock; /* of standard output and lines */
	size_t width, lines;
	int drops_status; /* of the thread */
};

static const char *const sources[] = { "trace", "drops", NULL };

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
	stopped = 1;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- records ---------------------------------------------------------------------------------- */

static void drop_text(const json_t *r, FILE *out)
{
	fprintf(out, "%s: ", cli_str(r, "reason"));
	flow_end(json_object_get(r, "from"), false, out);
	fputs(" -> ", out);
	flow_end(json_object_get(r, "to"), false, out);
	fputc(' ', out);
	flow_proto(r, out);
	if (cli_int(r, "count") > 1)
		fprintf(out, ", %lld times", (long long)cli_int(r, "count"));
}

static void trace_text(const json_t *r, FILE *out)
{
	cleanup_(cleanup_free) char *text = cli_text(json_object_get(r, "text"));

	fprintf(out, "%s (CPU %lld, %s %lld)", text, (long long)cli_int(r, "cpu"),
		cli_str(r, "comm"), (long long)cli_int(r, "pid"));
}

/* The program, or the container in whose stack it happened: where it went, or where it came from. */
static char *who_text(const json_t *r)
{
	const json_t *to = json_object_get(r, "to"), *from = json_object_get(r, "from");
	const json_t *end = *cli_str(to, "pod") ? to : from;
	cleanup_(cleanup_json) json_t *names = json_array();
	json_t *program;
	size_t i;

	if (end)
		return cli_printf("%s/%s", cli_str(end, "namespace"), cli_str(end, "pod"));
	json_array_foreach(json_object_get(r, "programs"), i, program)
		json_array_append(names, json_object_get(program, "name"));
	return json_array_size(names) ? cli_join(names) : cli_printf("-");
}

static void record_line(struct logs *l, const json_t *r)
{
	bool drop = json_object_get(r, "reason"), lost = json_object_get(r, "lost");
	cleanup_(cleanup_free) char *who = who_text(r);

	if (!l->lines++)
		printf("%sTIME          SOURCE  %-*s  WHAT%s\n", cli_color(l->cli, CLI_BOLD),
		       (int)l->width, "WHO", cli_plain(l->cli));
	if (strlen(who) > l->width)
		l->width = strlen(who);
	flow_time(cli_int(r, "time"), false, stdout);
	printf("  %s%-6s%s  %-*s  ", cli_color(l->cli, drop ? CLI_RED : NULL), cli_str(r, "source"),
	       drop ? cli_plain(l->cli) : "", (int)l->width, who);
	if (lost)
		printf("%lld lines were lost: they came faster than they were read",
		       (long long)cli_int(r, "lost"));
	else if (drop)
		drop_text(r, stdout);
	else
		trace_text(r, stdout);
	putchar('\n');
}

static void record_print(struct logs *l, const json_t *r)
{
	if (l->cli->output == CLI_JSON) {
		json_dumpf(r, stdout, JSON_COMPACT);
		putchar('\n');
	} else if (l->cli->output == CLI_YAML) {
		puts("---");
		cli_yaml(r, stdout);
	} else {
		record_line(l, r);
	}
}

/* Takes the record. */
static int record_give(struct logs *l, json_t *r)
{
	int failed;

	if (l->past) {
		json_array_append_new(l->past, r);
		return 0;
	}
	pthread_mutex_lock(&l->lock);
	record_print(l, r);
	fflush(stdout);
	failed = ferror(stdout);
	pthread_mutex_unlock(&l->lock);
	json_decref(r);
	return failed;
}

/* ---- text ------------------------------------------------------------------------------------- */

static void program_add(void *arg, uint32_t id, const char *name)
{
	json_t *list = arg, *known;
	size_t i;

	json_array_foreach(list, i, known)
		if (cli_int(known, "id") == id)
			return;
	json_array_append_new(list, json_pack("{s:i, s:s}", "id", (int)id, "name", name));
}

/* Who may have printed it; programs that came since the last look are looked for once more. */
static json_t *programs_find(struct logs *l, const char *text)
{
	json_t *list = json_array();
	uint64_t now = clock_ns(CLOCK_MONOTONIC);

	for (int look = 0; look < 2; look++) {
		if (l->formats && printk_find(l->formats, text, program_add, list))
			break;
		if (l->formats && now - l->formats_read < REREAD_NS)
			break;
		printk_formats_free(l->formats);
		l->formats = NULL;
		if (printk_formats_read(&l->formats))
			l->formats = NULL;
		l->formats_read = clock_ns(CLOCK_MONOTONIC);
	}
	return list;
}

static bool programs_have(const json_t *programs, const char *name)
{
	json_t *program;
	size_t i;

	json_array_foreach(programs, i, program)
		if (!strcmp(cli_str(program, "name"), name))
			return true;
	return false;
}

static int trace_record(void *arg, const struct trace_line *line)
{
	struct logs *l = arg;
	json_t *programs, *text;

	if (l->past && l->begun && line->time >= l->begun)
		return 0;
	if (line->lost)
		return record_give(l, json_pack("{s:I, s:s, s:I}", "time", (json_int_t)line->time,
						"source", "trace", "lost", (json_int_t)line->lost));
	programs = programs_find(l, line->text);
	if (l->program && !programs_have(programs, l->program)) {
		json_decref(programs);
		return 0;
	}
	/* Bytes that are no UTF-8 cannot be in JSON. */
	text = json_string(line->text) ?: json_string("(no text)");
	return record_give(l, json_pack("{s:I, s:s, s:o, s:i, s:i, s:s, s:o}", "time",
					(json_int_t)line->time, "source", "trace", "programs",
					programs, "cpu", (int)line->cpu, "pid", line->pid, "comm",
					line->comm, "text", text));
}

/* ---- drops ------------------------------------------------------------------------------------ */

static int drop_record(void *arg, const json_t *flow, const char *line, size_t len)
{
	struct logs *l = arg;
	json_t *r;

	if (!json_object_get(flow, "lost") && strcmp(cli_str(flow, "hook"), KERNEL_HOOK))
		return 0; /* a reason of Towpath's own: it is in towpath flows */
	r = json_copy((json_t *)flow);
	json_object_set_new(r, "source", json_string("drop"));
	return record_give(l, r);
}

static int drops_refuse(struct logs *l, int status)
{
	const char *text = tw_client_error(l->cli->client, status, NULL);

	return status == 400 ? cli_usage(l->cli, "%s", text) : cli_refuse("%s", text);
}

/* Of the past, and with `follow` what comes behind. The status of the call. */
static int drops_read(struct logs *l, bool follow, int *status)
{
	cleanup_(cleanup_free) char *last = cli_printf("%lu", follow ? 0 : l->last);
	struct flow_reader reader = { l->cli, l->query, last, follow, l->seq, drop_record, l };
	int ret = flow_read(&reader, status);

	l->seq = reader.seq;
	return ret;
}

static void *drops_thread(void *arg)
{
	struct logs *l = arg;
	int status;

	if (!drops_read(l, true, &status) && status != 200)
		drops_refuse(l, status);
	/* The output is gone, or the agent says no: text goes on, if there is any. */
	if (!l->trace || ferror(stdout))
		kill(getpid(), SIGTERM);
	return NULL;
}

/* ---- reading ---------------------------------------------------------------------------------- */

static int by_time(const void *a, const void *b)
{
	json_int_t x = cli_int(*(json_t *const *)a, "time"),
		   y = cli_int(*(json_t *const *)b, "time");

	return (x > y) - (x < y);
}

/* The last ones of all sources, in the order of time. */
static void past_print(struct logs *l)
{
	size_t n = json_array_size(l->past), i;
	json_t **sorted = calloc(n + 1, sizeof(*sorted));

	for (i = 0; sorted && i < n; i++)
		sorted[i] = json_array_get(l->past, i);
	if (sorted)
		qsort(sorted, n, sizeof(*sorted), by_time);
	for (i = n > l->last ? n - l->last : 0; sorted && i < n; i++)
		record_print(l, sorted[i]);
	fflush(stdout);
	free(sorted);
	json_decref(l->past);
	l->past = NULL;
}

/* One source that cannot be had is told, and the other one goes on, unless it was asked for. */
static int past_read(struct logs *l, bool only)
{
	int res, status, ret;

	l->past = json_array();
	if (l->trace) {
		res = trace_past_read(trace_record, l);
		if (res)
			ret = cli_refuse(res == -EPERM || res == -EACCES
						 ? "what programs print is root's to read: use sudo"
						 : "cannot read what programs print: %s",
					 strerror(-res));
		if (res && only)
			return ret;
		l->trace = !res;
	}
	if (!l->drops)
		return CLI_OK;
	ret = cli_connect(l->cli);
	if (!ret)
		ret = drops_read(l, false, &status);
	if (!ret && status != 200)
		ret = drops_refuse(l, status);
	if (ret && (only || ret == CLI_USAGE || !l->trace))
		return ret;
	l->drops = !ret;
	return CLI_OK;
}

/* Signals are for the thread that has the buffer to take away. */
static void signals_prepare(sigset_t *mask)
{
	struct sigaction action = { .sa_handler = on_signal };
	sigset_t ends;

	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &ends, mask);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int follow(struct logs *l, struct trace_pipe *pipe, const sigset_t *mask)
{
	struct pollfd in = { .fd = pipe ? trace_pipe_fd(pipe) : -1, .events = POLLIN };
	pthread_t thread;
	int res = 0;

	if (l->drops && pthread_create(&thread, NULL, drops_thread, l))
		return cli_refuse("out of memory");
	while (!stopped && !res) {
		ppoll(&in, 1, NULL, mask);
		if (pipe)
			res = trace_pipe_read(pipe, trace_record, l);
	}
	/* The thread is in the middle of a call, and ends with the process. */
	return res < 0 ? cli_refuse("cannot read what programs print: %s", strerror(-res)) : CLI_OK;
}

static int log_show(struct logs *l, bool only)
{
	struct trace_pipe *pipe = NULL;
	int ret, res = 0;
	sigset_t mask;

	if (l->follow)
		signals_prepare(&mask);
	/* Before the past is read: what comes between would be in neither. */
	if (l->follow && l->trace) {
		res = trace_pipe_open(&pipe);
		l->begun = pipe ? clock_ns(CLOCK_REALTIME) : 0;
	}
	ret = past_read(l, only);
	if (!ret) {
		past_print(l);
		if (l->follow && res && l->trace)
			ret = cli_refuse("cannot read what programs print: %s", strerror(-res));
		else if (l->follow)
			ret = follow(l, pipe, &mask);
		else if (!l->lines && l->cli->output == CLI_TABLE)
			fprintf(stderr, "nothing\n");
	}
	json_decref(l->past);
	trace_pipe_close(pipe);
	printk_formats_free(l->formats);
	return ret;
}

static int log_option(struct logs *l, int opt)
{
	const char *value = l->cli->value;
	char *end;

	switch (opt) {
	case 'f':
		l->follow = true;
		return CLI_OK;
	case OPT_PROGRAM:
		l->program = value;
		return CLI_OK;
	case OPT_POD:
		flow_query(&l->query, "with", value);
		l->pod = value;
		return CLI_OK;
	case OPT_REASON:
		l->reason = value;
		return CLI_OK;
	case OPT_LAST:
		l->last = strtoul(value, &end, 10);
		if (!*value || *end || *value == '-' || l->last > UINT32_MAX)
			return cli_usage(l->cli, "--last takes a number, not \"%s\"", value);
		return CLI_OK;
	default:
		return CLI_USAGE;
	}
}

static void cleanup_query(struct logs *l)
{
	free(l->query);
}

static int log_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_query) struct logs l = {
		.cli = cli,
		.query = cli_printf("%s", ""),
		.last = ULONG_MAX,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.width = 20,
	};
	const char *source = NULL;
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		ret = log_option(&l, opt);
		if (ret)
			return ret;
	}
	if (cli_operands(cli, argc, 0, 1, &ret))
		return ret;
	if (optind < argc) {
		source = argv[optind];
		if (strcmp(source, sources[0]) && strcmp(source, sources[1]))
			return cli_usage(cli, "there is trace and drops, not \"%s\"", source);
	}
	/* A filter of the one source only leaves the other out. */
	bool of_drops = l.pod || l.reason;

	l.trace = source ? !strcmp(source, sources[0]) : l.program || !of_drops;
	l.drops = source ? !strcmp(source, sources[1]) : of_drops || !l.program;
	if ((l.program && !l.trace) || (of_drops && !l.drops))
		return cli_usage(cli, "--program is for trace, --pod and --reason are for drops");
	if (l.last == ULONG_MAX)
		l.last = l.follow ? LAST_FOLLOW : LAST_DEFAULT;
	flow_query(&l.query, "reason", l.reason ?: KERNEL_HOOK);
	return log_show(&l, !(l.trace && l.drops));
}

static const struct cli_option log_options[] = {
	{ 'f', "follow", NULL, "go on with what comes" },
	{ OPT_PROGRAM, "program", "NAME", "only text that this program may have printed" },
	{ OPT_POD, "pod", "[NS/]POD", "only drops of packets from or to this pod" },
	{ OPT_REASON, "reason", "R", "only drops for this reason of the kernel's, as NO_SOCKET" },
	{ OPT_LAST, "last", "N", "how many of the past (default 100, 10 with -f)" },
	{ 0 },
};

const struct cli_command cmd_log = {
	.name = "log",
	.usage = "[trace|drops] [-f] [--program NAME] [--pod POD] [--reason R]",
	.summary = "show what eBPF programs print, and what the kernel's own stack drops",
	.details =
		"trace is what programs print with bpf_printk(): read from the kernel, as root, "
		"without\ntaking it away from others, and with the programs whose format fits the "
		"text. drops are\npackets of containers that the kernel itself has dropped, with "
		"its "
		"own reason, from the\nagent's flow log. -o json and -o yaml give a record a line "
		"or "
		"document.\n",
	.options = log_options,
	.words = sources,
	.examples = "  sudo towpath log -f\n"
		    "  sudo towpath log trace -f --program count\n"
		    "  towpath log drops --pod shop/db --last 20\n"
		    "  towpath log -f --reason NO_SOCKET -o json\n",
	.run = log_run,
};
