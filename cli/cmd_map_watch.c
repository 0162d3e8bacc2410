/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * map watch: what changes in a map, and how fast. The bytes of each entry are kept from look to look;
 * only what has changed is put into words.
 */
#include "map.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <towpath/events.h>
#include <unistd.h>
#include <uthash.h>

#include "flow_lines.h"

enum { OPT_INTERVAL = CLI_LONG, OPT_COUNT, OPT_AS };

#define INTERVAL_DEFAULT_NS 1000000000ull
#define INTERVAL_MIN_NS 100000000ull
#define INTERVAL_MAX_NS 3600000000000ull
#define ENTRIES_MAX 262144u /* that are kept: some 40 MB with short values */
#define ROWS_DEFAULT 20u
#define ROWS_MAX 256u
#define LINES_AROUND 4u

/* An entry as it was at the last look. */
struct watched {
	UT_hash_handle hh;
	uint32_t look;	/* when it was last there */
	uint8_t data[]; /* key, then value */
};

struct row {
	struct watched *entry;
	json_t *rates; /* NULL: unchanged */
	double delta;  /* of the number that changed most */
};

struct watch {
	struct cli *cli;
	struct tw_map *map;
	struct watched *table;
	size_t key_size, value_size;
	uint32_t look;
	uint64_t interval, time, count; /* ns; of the last look; of looks, 0: for ever */
	double seconds;			/* since the look before */
	size_t changed, left_out;
	struct row rows[ROWS_MAX]; /* the busiest first, then others in the map's order */
	size_t n_rows, n_busy, room;
	bool lines;
	const char *type;	  /* of events; NULL: bytes */
	struct tw_events *events; /* of a buffer, which has no entries */
	bool failed;		  /* BTF that does not fit */
};

static uint64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- changes ---------------------------------------------------------------------------------- */

static double tenths(double x)
{
	return (double)(long long)(x * 10 + (x < 0 ? -0.5 : 0.5)) / 10;
}

/* Numbers as changes a second, in the form of the value; NULL where there are none. */
static json_t *rates_of(const json_t *before, const json_t *after, double seconds, double *delta)
{
	const char *name;
	json_t *member;

	if (json_is_number(after)) {
		double d = json_number_value(after) - json_number_value(before);
		double size = d < 0 ? -d : d;

		if (size > *delta)
			*delta = size;
		return json_real(seconds > 0 ? tenths(d / seconds) : 0);
	}
	if (!json_is_object(after))
		return NULL;
	json_t *rates = json_object();

	json_object_foreach((json_t *)after, name, member) {
		json_t *rate = rates_of(json_object_get(before, name), member, seconds, delta);

		if (rate)
			json_object_set_new(rates, name, rate);
	}
	if (json_object_size(rates))
		return rates;
	json_decref(rates);
	return NULL;
}

static json_t *value_of(struct watch *w, const uint8_t *value)
{
	json_t *json = tw_map_value_json(w->map, value, TW_MAP_SUM);

	w->failed |= !json;
	return json;
}

/* ---- as lines --------------------------------------------------------------------------------- */

/* "packets 12 (+3, 3.0/s)": the numbers that changed, and whatever else did. */
static void changes_text(const char *name, const json_t *before, const json_t *after,
			 double seconds, const char **separator)
{
	const char *key;
	json_t *member;

	if (json_is_object(after)) {
		json_object_foreach((json_t *)after, key, member) {
			cleanup_(cleanup_free) char *path =
				cli_printf("%s%s%s", name, *name ? "." : "", key);

			changes_text(path, json_object_get(before, key), member, seconds,
				     separator);
		}
		return;
	}
	if (json_equal((json_t *)before, (json_t *)after))
		return;
	cleanup_(cleanup_free) char *text = cli_text(after);

	printf("%s%s%s%s", *separator, name, *name ? " " : "", text);
	if (json_is_number(after) && json_is_number(before) && seconds > 0) {
		double d = json_number_value(after) - json_number_value(before);

		printf(" (%+.0f, %.1f/s)", d, d / seconds);
	}
	*separator = ", ";
}

/* before or after NULL: it came, it went. */
static void line_print(struct watch *w, const uint8_t *key, const json_t *before,
		       const json_t *after)
{
	const char *state = !before ? "new" : !after ? "gone" : "changed", *separator = "";
	cleanup_(cleanup_json) json_t *k = tw_map_key_json(w->map, key);
	cleanup_(cleanup_free) char *text = cli_text(k);
	json_int_t now = (json_int_t)now_ns(CLOCK_REALTIME);
	double delta = 0;

	w->failed |= !k;
	if (w->cli->output == CLI_TABLE) {
		flow_time(now, false, stdout);
		printf("  %-7s  %s  ", state, text);
		changes_text("", before, after ?: before, after && before ? w->seconds : 0,
			     &separator);
		putchar('\n');
		return;
	}
	cleanup_(cleanup_json) json_t *line =
		json_pack("{s:I, s:s, s:O*, s:O*}", "time", now, "state", state, "key", k, "value",
			  after ? (json_t *)after : (json_t *)before);

	if (after && before)
		json_object_set_new(line, "rates", rates_of(before, after, w->seconds, &delta));
	if (w->cli->output == CLI_JSON) {
		json_dumpf(line, stdout, JSON_COMPACT);
		putchar('\n');
	} else {
		puts("---");
		cli_yaml(line, stdout);
	}
}

/* ---- looking ---------------------------------------------------------------------------------- */

/* Among the busiest, if it is one of them. */
static void row_insert(struct watch *w, struct watched *entry, json_t *rates, double delta)
{
	size_t at = w->n_busy;

	while (at && w->rows[at - 1].delta < delta)
		at--;
	if (at >= w->room) {
		json_decref(rates);
		return;
	}
	if (w->n_rows == w->room)
		json_decref(w->rows[--w->n_rows].rates);
	if (w->n_busy > w->n_rows)
		w->n_busy = w->n_rows;
	memmove(&w->rows[at + 1], &w->rows[at], (w->n_rows - at) * sizeof(w->rows[0]));
	w->rows[at] = (struct row){ entry, rates, delta };
	w->n_rows++;
	w->n_busy++;
}

static void rows_clear(struct watch *w)
{
	for (size_t i = 0; i < w->n_rows; i++)
		json_decref(w->rows[i].rates);
	w->n_rows = w->n_busy = 0;
}

static struct watched *entry_add(struct watch *w, const void *key)
{
	struct watched *e;

	if (HASH_COUNT(w->table) >= ENTRIES_MAX) {
		w->left_out++;
		return NULL;
	}
	e = calloc(1, sizeof(*e) + w->key_size + w->value_size);
	if (!e)
		abort();
	memcpy(e->data, key, w->key_size);
	HASH_ADD_KEYPTR(hh, w->table, e->data, w->key_size, e);
	return e;
}

static int entry_see(void *arg, const void *key, const void *value)
{
	struct watch *w = arg;
	struct watched *e;
	bool is_new;

	HASH_FIND(hh, w->table, key, w->key_size, e);
	is_new = !e;
	if (!e)
		e = entry_add(w, key);
	if (!e)
		return 0;
	e->look = w->look;
	uint8_t *old = e->data + w->key_size;

	/* All are new at the first look. */
	if (w->look == 1 || (!is_new && !memcmp(old, value, w->value_size))) {
		memcpy(old, value, w->value_size);
		if (!w->lines && w->n_rows < w->room)
			w->rows[w->n_rows++] = (struct row){ .entry = e };
		return 0;
	}
	cleanup_(cleanup_json) json_t *before = is_new ? NULL : value_of(w, old);
	cleanup_(cleanup_json) json_t *after = value_of(w, value);
	double delta = 0;

	memcpy(old, value, w->value_size);
	w->changed++;
	if (w->lines)
		line_print(w, key, before, after);
	else
		row_insert(w, e, rates_of(before, after, w->seconds, &delta), delta);
	return w->failed;
}

static void entries_forget(struct watch *w, bool all)
{
	struct watched *e, *next;

	HASH_ITER(hh, w->table, e, next) {
		if (!all && e->look == w->look)
			continue;
		if (!all)
			w->changed++;
		if (w->lines && !all) {
			cleanup_(cleanup_json) json_t *value = value_of(w, e->data + w->key_size);

			line_print(w, e->data, value, NULL);
		}
		HASH_DEL(w->table, e);
		free(e);
	}
}

/* 0, or a sentence, malloc'ed. */
static char *look(struct watch *w)
{
	uint64_t now = now_ns(CLOCK_MONOTONIC);
	int res;

	rows_clear(w);
	w->seconds = w->look++ ? (double)(now - w->time) / 1e9 : 0;
	w->time = now;
	w->changed = w->left_out = 0;
	res = tw_map_entries(w->map, entry_see, w);
	if (w->failed)
		return cli_printf("map %s: its BTF does not fit its entries",
				  tw_map_info(w->map)->name);
	if (res < 0)
		return cli_printf("map %s cannot be read: %s", tw_map_info(w->map)->name,
				  strerror(-res));
	entries_forget(w, false);
	return NULL;
}

/* ---- live ------------------------------------------------------------------------------------- */

/* Each number with its rate behind it. */
static json_t *with_rates(const json_t *value, const json_t *rates)
{
	json_t *out = json_object(), *member;
	const char *name;

	if (!json_is_object(value)) {
		json_object_set(out, "value", (json_t *)value);
		if (json_is_number(value))
			json_object_set_new(out, "value/s", json_real(json_number_value(rates)));
		return out;
	}
	json_object_foreach((json_t *)value, name, member) {
		cleanup_(cleanup_free) char *rate = cli_printf("%s/s", name);
		const json_t *r = json_object_get(rates, name);

		if (json_is_object(member)) {
			json_object_set_new(out, name, with_rates(member, r));
			continue;
		}
		json_object_set(out, name, member);
		if (json_is_number(member))
			json_object_set_new(out, rate, json_real(json_number_value(r)));
	}
	return out;
}

static int live_ask(struct cli *cli, void *arg, json_t **reply)
{
	struct watch *w = arg;
	cleanup_(cleanup_free) char *error = look(w);

	*reply = error ? json_pack("{s:s}", "error", error) : json_object();
	return error ? 500 : 200;
}

static uint64_t live_show(struct cli *cli, void *arg, const json_t *before, json_t *reply)
{
	struct watch *w = arg;
	struct map_table *t = map_table_new(cli, w->map);
	char entries[32], changed[32];

	printf("%s: %s entries, %s changed (last %.1f s)\n\n", tw_map_info(w->map)->name,
	       cli_number(entries, HASH_COUNT(w->table)), cli_number(changed, w->changed),
	       w->seconds);
	for (size_t i = 0; i < w->n_rows; i++) {
		const struct row *r = &w->rows[i];
		cleanup_(cleanup_json) json_t *key = tw_map_key_json(w->map, r->entry->data);
		cleanup_(cleanup_json) json_t *value = value_of(w, r->entry->data + w->key_size);
		cleanup_(cleanup_json) json_t *row = with_rates(value, r->rates);

		if (key && value)
			map_table_entry(t, key, row);
	}
	map_table_end(t);
	if (w->left_out)
		printf("%s more entries are not watched\n", cli_number(entries, w->left_out));
	return w->interval;
}

/* How many rows fit on the screen. */
static size_t rows_fit(void)
{
	struct winsize size = {};

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || size.ws_row <= LINES_AROUND + 1)
		return ROWS_DEFAULT;
	return size.ws_row - LINES_AROUND < ROWS_MAX ? size.ws_row - LINES_AROUND : ROWS_MAX;
}

static int lines_show(struct watch *w)
{
	const struct timespec pause = { (time_t)(w->interval / 1000000000u),
					(long)(w->interval % 1000000000u) };

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (uint64_t n = 0; !ferror(stdout); n++) {
		cleanup_(cleanup_free) char *error = look(w);

		if (error)
			return cli_refuse("%s", error);
		if (w->left_out && !n)
			fprintf(stderr, "towpath: %zu entries more than %u are not watched\n",
				w->left_out, ENTRIES_MAX);
		if (w->count && n == w->count)
			break;
		nanosleep(&pause, NULL);
	}
	return CLI_OK;
}

/* ---- events ----------------------------------------------------------------------------------- */

static int event_print(void *arg, const void *data, size_t size)
{
	struct watch *w = arg;
	json_int_t now = (json_int_t)now_ns(CLOCK_REALTIME);
	cleanup_(cleanup_json) json_t *event = tw_events_json(w->events, data, size);
	cleanup_(cleanup_json) json_t *line = json_pack("{s:I, s:O*, s:I}", "time", now, "event",
							event, "size", (json_int_t)size);
	cleanup_(cleanup_free) char *text =
		event ? cli_text(event) : cli_printf("%zu bytes: too short", size);

	if (w->cli->output == CLI_JSON) {
		json_dumpf(line, stdout, JSON_COMPACT);
		putchar('\n');
	} else if (w->cli->output == CLI_YAML) {
		puts("---");
		cli_yaml(line, stdout);
	} else {
		flow_time(now, false, stdout);
		printf("  %s\n", text);
	}
	bool last = w->count == 1;

	w->count -= w->count > 0;
	return ferror(stdout) || last ? -ECANCELED : 0;
}

static int events_show(struct watch *w)
{
	uint64_t lost = 0;
	char err[512] = "";
	int res = 0;

	if (tw_events_open(&w->events, w->map, w->type, err, sizeof(err)))
		return cli_refuse("%s", err);
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (res >= 0 || res == -EINTR) {
		/* Not for ever: of some programs nobody is woken up. */
		res = tw_events_read(w->events, (int)(w->interval / 1000000u), event_print, w);
		if (tw_events_lost(w->events) != lost)
			fprintf(stderr, "towpath: %llu events were lost\n",
				(unsigned long long)(tw_events_lost(w->events) - lost));
		lost = tw_events_lost(w->events);
	}
	tw_events_close(w->events);
	return res == -ECANCELED ? CLI_OK
				 : cli_refuse("map %s cannot be read: %s",
					      tw_map_info(w->map)->name, strerror(-res));
}

static int option_take(struct watch *w, int opt)
{
	const char *value = w->cli->value;
	char *end;

	switch (opt) {
	case OPT_INTERVAL:
		if (!cli_parse_duration(value, &w->interval) || w->interval < INTERVAL_MIN_NS ||
		    w->interval > INTERVAL_MAX_NS)
			return cli_usage(w->cli, "--interval takes 100ms to 1h, not \"%s\"", value);
		return CLI_OK;
	case OPT_COUNT:
		w->count = strtoul(value, &end, 10);
		if (*end || *value < '0' || *value > '9' || !w->count)
			return cli_usage(w->cli, "--count takes a number, not \"%s\"", value);
		return CLI_OK;
	case OPT_AS:
		w->type = value;
		return CLI_OK;
	default:
		return CLI_USAGE;
	}
}

static int watch_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_map) struct tw_map *map = NULL;
	cleanup_(cleanup_free) struct watch *w = calloc(1, sizeof(*w));
	int opt, ret;

	if (!w)
		abort();
	w->cli = cli;
	w->interval = INTERVAL_DEFAULT_NS;
	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		ret = option_take(w, opt);
		if (ret)
			return ret;
	}
	if (cli_operands(cli, argc, 1, 1, &ret))
		return ret;
	ret = map_open(&map, argv[optind]);
	if (ret)
		return ret;
	w->map = map;
	if (tw_map_info(map)->access == TW_MAP_EVENTS)
		return events_show(w);
	if (w->type)
		return cli_usage(cli, "--as is for buffers of events, and %s is a %s",
				 tw_map_info(map)->name, tw_map_info(map)->type_name);
	if (map_unreadable(map))
		return CLI_REFUSED;
	w->key_size = tw_map_info(map)->key_size;
	w->value_size = tw_map_value_len(map);
	w->lines = w->count || cli->output != CLI_TABLE || !isatty(STDOUT_FILENO);
	w->room = rows_fit();
	ret = w->lines ? lines_show(w)
		       : cli_live(cli, &(struct cli_live){ live_ask, live_show, NULL }, w);
	rows_clear(w);
	entries_forget(w, true);
	return ret;
}

static const struct cli_option watch_options[] = {
	{ OPT_INTERVAL, "interval", "TIME", "between looks: 100ms to 1h (default 1s)" },
	{ OPT_COUNT, "count", "N",
	  "look so many times, and end; changes as lines; or so many events" },
	{ OPT_AS, "as", "TYPE", "the struct that events are; without it, bytes" },
	{ 0 },
};

const struct cli_command cmd_map_watch = {
	.name = "map watch",
	.usage = "MAP [--interval TIME] [--count N] [--as TYPE]",
	.summary = "what changes in a map, and how fast, live",
	.details =
		"On a terminal a table, refreshed in place, the entries that changed most first; q "
		"ends.\nElse a line for each entry that came, changed or went; -o json gives an "
		"object a line.\nPer-CPU values are added up. At most 262 144 entries are "
		"watched.\nOf "
		"ring and perf buffers the events, a line each. Reading takes them out, so a "
		"program\n"
		"that reads the buffer misses them.\n",
	.options = watch_options,
	.examples = "  sudo towpath map watch counts\n"
		    "  sudo towpath map watch tw_flow4 --interval 5s --count 3\n"
		    "  sudo towpath map watch events --as event\n"
		    "  sudo towpath map watch counts -o json | jq '{key, rates}'\n",
	.run = watch_run,
};
