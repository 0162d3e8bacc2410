// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * watch OBJECT DEVICE [SECONDS]: puts the program of watch.bpf.c at the device's ingress for so long, or until
 * Ctrl-C, prints each new source when it comes, and at the end what each has sent.
 */
#include <err.h>
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <towpath/check.h>
#include <towpath/events.h>
#include <towpath/map.h>
#include <towpath/program.h>

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
	stopped = number;
}

/* JSON of the library's as a line. */
static void print(const char *what, json_t *value)
{
	char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	printf("%s %s\n", what, text ? text : "?");
	fflush(stdout);
	free(text);
	json_decref(value);
}

static int on_event(void *arg, const void *data, size_t size)
{
	print("new", tw_events_json(arg, data, size));
	return 0;
}

static int on_entry(void *arg, const void *key, const void *value)
{
	const struct tw_map *sources = arg;

	print("source", json_pack("{s:o, s:o}", "address", tw_map_key_json(sources, key), "sent",
				  tw_map_value_json(sources, value, TW_MAP_SUM)));
	return 0;
}

/* The verifier's refusal, in words. */
static void explain(const char *object)
{
	struct tw_check *check;
	char error[512];

	if (tw_check_file(&check, object, error, sizeof(error)))
		return;
	for (size_t i = 0; i < tw_check_count(check); i++) {
		const struct tw_check_refusal *why = tw_check_program(check, i)->refusal;

		if (why)
			fprintf(stderr, "%s:%u: %s\n%s\n", why->file, why->line, why->title,
				why->remedy);
	}
	tw_check_free(check);
}

int main(int argc, char **argv)
{
	struct tw_place place = { TW_DEVICE, argc > 2 ? argv[2] : "", "ingress" };
	time_t end = time(NULL) + (argc > 3 ? atoi(argv[3]) : 10);
	struct tw_map *sources, *firsts;
	struct tw_program *program;
	struct tw_events *events;
	char error[512] = "";
	int n = 0;

	if (argc < 3)
		errx(2, "usage: watch OBJECT DEVICE [SECONDS]");
	if (tw_program_open(&program, argv[1], NULL, &place, error, sizeof(error))) {
		explain(argv[1]);
		errx(1, "%s", error);
	}
	if (tw_program_map(program, "sources", &sources, error, sizeof(error)) ||
	    tw_program_map(program, "firsts", &firsts, error, sizeof(error)) ||
	    tw_events_open(&events, firsts, "first", error, sizeof(error)) ||
	    tw_program_attach(program, error, sizeof(error)))
		errx(1, "%s", error);
	printf("%s is at %s\n", tw_program_name(program), place.name);
	fflush(stdout);
	signal(SIGINT, on_signal);

	while ((n >= 0 || n == -EINTR) && !stopped && time(NULL) < end)
		n = tw_events_read(events, 100, on_event, events);
	if (n < 0 && n != -EINTR)
		errx(1, "events: %s", strerror(-n));
	tw_map_entries(sources, on_entry, sources);

	tw_events_close(events);
	tw_map_close(sources);
	tw_map_close(firsts);
	tw_program_close(program);
	return 0;
}
