/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "flow/history.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "datapath.h"
#include "flow/record.h"
#include "store/db.h"

#define CHUNK 256u	    /* records that are read under the lock at a time */
#define NAMES 512u	    /* of a batch whose numbers are at hand; a power of two */
#define NAMES_SWEEP 64u	    /* batches between looks for names that nobody has */
#define SLACK 5000000000ull /* ns that a counted drop may stand behind its time */
#define PLACE(name) ((uintptr_t)(name) / 16 % NAMES)

/* X(column, member of the record): numbers. */
#define NUMBERS(X)                                                                                 \
	X(time, time)                                                                              \
	X(packets, packets[0])                                                                     \
	X(packets_back, packets[1])                                                                \
	X(bytes, bytes[0])                                                                         \
	X(bytes_back, bytes[1])                                                                    \
	X(duration_ms, duration)                                                                   \
	X(from_port, port[0])                                                                      \
	X(to_port, port[1])                                                                        \
	X(nat_port, nat_port)                                                                      \
	X(from_what, what[0])                                                                      \
	X(to_what, what[1])                                                                        \
	X(family, family)                                                                          \
	X(proto, proto)                                                                            \
	X(type, type)                                                                              \
	X(verdict, verdict)                                                                        \
	X(hook, hook)                                                                              \
	X(tcp, tcp)                                                                                \
	X(tcp_reply, tcp_reply)                                                                    \
	X(icmp_type, icmp_type)                                                                    \
	X(icmp_code, icmp_code)

/* X(column, member): strings, by their number in `names`. */
#define STRINGS(X)                                                                                 \
	X(from_name, end[0])                                                                       \
	X(to_name, end[1])                                                                         \
	X(ingress, decision[TW_INGRESS])                                                           \
	X(egress, decision[TW_EGRESS])                                                             \
	X(nat, nat)

#define COLUMN(name, member) ", " #name
#define COLUMN_TYPED(name, member) ", " #name " INTEGER"
#define COLUMN_MARK(name, member) ", ?"
#define COLUMN_NAMED(name, member) ", (SELECT text FROM names WHERE id = " #name ")"
#define COLUMN_ONE(name, member) +1

enum { N_FIXED = 5, N_COLUMNS = N_FIXED STRINGS(COLUMN_ONE) NUMBERS(COLUMN_ONE) };

static const char schema[] =
	"PRAGMA auto_vacuum = INCREMENTAL; VACUUM; BEGIN IMMEDIATE;"
	"CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
	"CREATE TABLE names(id INTEGER PRIMARY KEY, text TEXT UNIQUE, used INTEGER);"
	"CREATE TABLE flows(seq INTEGER PRIMARY KEY, lost INTEGER, reason TEXT, from_ip BLOB,"
	" to_ip BLOB" STRINGS(COLUMN_TYPED)
		NUMBERS(COLUMN_TYPED) ");"
				      "INSERT INTO meta VALUES('schema', 1);"
				      "COMMIT";

#define SELECT_FLOWS                                                                               \
	"SELECT seq, lost, reason, from_ip, to_ip" STRINGS(COLUMN_NAMED)                           \
		NUMBERS(COLUMN) " FROM flows "

enum {
	SQL_BEGIN,
	SQL_COMMIT,
	SQL_ROLLBACK,
	SQL_NAME,
	SQL_PUT,
	SQL_FORWARD,
	SQL_BACK,
	SQL_COUNT_ROWS,
	SQL_LAST,
	SQL_TRIM,
	SQL_NAMES_TRIM,
	SQL_PAGES,
	SQL_PAGES_FREE,
	SQL_PAGE_SIZE,
	SQL_SHRINK,
	SQL_N,
};

static const char *const sql[] = {
	[SQL_BEGIN] = "BEGIN IMMEDIATE",
	[SQL_COMMIT] = "COMMIT",
	[SQL_ROLLBACK] = "ROLLBACK",
	[SQL_NAME] = "INSERT INTO names(text, used) VALUES(?1, ?2) "
		     "ON CONFLICT(text) DO UPDATE SET used = ?2 RETURNING id",
	[SQL_PUT] = "INSERT OR REPLACE INTO flows VALUES(?, ?, ?, ?, ?" STRINGS(COLUMN_MARK)
		NUMBERS(COLUMN_MARK) ")",
	[SQL_FORWARD] = SELECT_FLOWS "WHERE seq >= ?1 AND seq < ?2 ORDER BY seq LIMIT ?3",
	[SQL_BACK] = SELECT_FLOWS "WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2",
	[SQL_COUNT_ROWS] = "SELECT count(*) FROM flows",
	[SQL_LAST] = "SELECT max(seq) FROM flows",
	[SQL_TRIM] = "DELETE FROM flows WHERE seq < (SELECT seq FROM flows ORDER BY seq "
		     "LIMIT 1 OFFSET ?1)",
	[SQL_NAMES_TRIM] = "DELETE FROM names WHERE used < (SELECT min(seq) FROM flows)",
	[SQL_PAGES] = "PRAGMA page_count",
	[SQL_PAGES_FREE] = "PRAGMA freelist_count",
	[SQL_PAGE_SIZE] = "PRAGMA page_size",
	[SQL_SHRINK] = "PRAGMA incremental_vacuum(512)",
};
_Static_assert(sizeof(sql) / sizeof(*sql) == SQL_N, "each statement has its SQL");

static const struct db_kind flows_db = {
	.file = "flows.db",
	.version = 1,
	.schema = schema,
	.sql = sql,
	.n_sql = SQL_N,
};

struct flow_history {
	pthread_mutex_t lock; /* of all up to view_lock; held while the disk works */
	struct flow_history_options opts;
	char dir[256];
	struct db db;
	bool open;
	uint64_t rows;
	uint64_t pages, page_size;
	uint64_t first;
	uint64_t lost_unsaid; /* since the last record that was written */
	unsigned int batches;
	bool failing;
	struct {
		const struct intern *name;
		sqlite3_int64 id;
	} names[NAMES]; /* of the batch in hand */
	/* What the event loop looks at: it never waits for the disk. */
	pthread_mutex_t view_lock;
	struct flow_history_stats view;
	char notice[512];
	_Atomic uint64_t end;
};

static void __attribute__((format(printf, 2, 3))) history_say(struct flow_history *h,
							      const char *format, ...)
{
	va_list args;

	va_start(args, format);
	pthread_mutex_lock(&h->view_lock);
	vsnprintf(h->notice, sizeof(h->notice), format, args);
	pthread_mutex_unlock(&h->view_lock);
	va_end(args);
}

static void history_view(struct flow_history *h, uint64_t lost)
{
	pthread_mutex_lock(&h->view_lock);
	h->view.records = h->rows;
	h->view.bytes = h->pages * h->page_size;
	h->view.lost += lost;
	h->view.failing = h->failing;
	pthread_mutex_unlock(&h->view_lock);
}

/* ---- the file --------------------------------------------------------------------------------- */

static int row_number(void *arg, sqlite3_stmt *row)
{
	*(sqlite3_int64 *)arg = sqlite3_column_int64(row, 0);
	return 0;
}

static int history_number(struct flow_history *h, unsigned int id, uint64_t *out)
{
	sqlite3_int64 n = 0;
	int err = db_query(&h->db, id, NULL, 0, row_number, &n);

	if (!err)
		*out = (uint64_t)n;
	return err;
}

static void history_shut(struct flow_history *h)
{
	if (h->open)
		db_close(&h->db);
	h->open = false;
	h->rows = h->pages = 0;
}

static int history_try(struct flow_history *h, uint64_t *last)
{
	int err = db_open(&h->db, &flows_db, h->dir);

	h->open = true;
	if (!err)
		err = history_number(h, SQL_COUNT_ROWS, &h->rows);
	if (!err)
		err = history_number(h, SQL_LAST, last);
	if (!err)
		err = history_number(h, SQL_PAGE_SIZE, &h->page_size);
	if (!err)
		err = history_number(h, SQL_PAGES, &h->pages);
	return err;
}

/* Puts a file that is of no use out of the way, and says so. */
static int history_set_aside(struct flow_history *h, int err)
{
	char from[320], to[352];

	history_shut(h);
	snprintf(from, sizeof(from), "%s/%s", h->dir, flows_db.file);
	snprintf(to, sizeof(to), "%s.aside", from);
	if (rename(from, to))
		return -errno;
	history_say(h, "the flow history %s %s: set aside as %s, a new one begins", from,
		    err == -EPROTO ? "is a newer towpathd's, or no flow history" : "is damaged",
		    to);
	for (size_t i = 0; i < 2; i++) {
		snprintf(to, sizeof(to), "%s%s", from, i ? "-shm" : "-wal");
		unlink(to);
	}
	return 0;
}

static bool is_useless(int err)
{
	return err == -EUCLEAN || err == -EPROTO || err == -ESTALE;
}

/* Opens what is not open. last: the highest number in it. */
static int history_ready(struct flow_history *h, uint64_t *last)
{
	int err = h->open ? 0 : history_try(h, last);

	if (is_useless(err)) {
		err = history_set_aside(h, err);
		if (!err)
			err = history_try(h, last);
	}
	if (err)
		history_shut(h);
	return err;
}

/* Says that it fails, once until it works again. */
static void history_failed(struct flow_history *h, int err)
{
	if (!h->failing)
		history_say(
			h,
			"flows are not written to the history in %s (%s): its newest records are "
			"lost until that is mended; flows themselves go on",
			h->dir, strerror(-err));
	h->failing = true;
}

int flow_history_open(struct flow_history **out, const struct flow_history_options *options)
{
	struct flow_history *h = calloc(1, sizeof(*h));
	uint64_t last = 0;

	if (!h)
		return -ENOMEM;
	pthread_mutex_init(&h->lock, NULL);
	pthread_mutex_init(&h->view_lock, NULL);
	h->opts = *options;
	snprintf(h->dir, sizeof(h->dir), "%s", options->dir);
	int err = history_ready(h, &last);
	if (err)
		history_failed(h, err);
	/*
	 * Not the next one: an agent that crashed has shown its readers records that are not in
	 * the file, and they go on behind those.
	 */
	h->first = flow_number_now();
	if (h->first <= last)
		h->first = last + 1;
	h->end = h->first;
	history_view(h, 0);
	*out = h;
	return 0;
}

void flow_history_close(struct flow_history *h)
{
	if (!h)
		return;
	history_shut(h);
	pthread_mutex_destroy(&h->lock);
	pthread_mutex_destroy(&h->view_lock);
	free(h);
}

uint64_t flow_history_first(const struct flow_history *h)
{
	return h->first;
}

uint64_t flow_history_end(const struct flow_history *h)
{
	return atomic_load(&h->end);
}

/* ---- writing ---------------------------------------------------------------------------------- */

static struct db_value addr_value(const struct flow_record *r, int end)
{
	if (!r->family)
		return (struct db_value){ .type = DB_NULL };
	return r->family == 4 ? DB_BLOB_VALUE(&r->addr[end].byte[12], 4)
			      : DB_BLOB_VALUE(&r->addr[end], 16);
}

static int name_value(struct flow_history *h, const struct intern *name, uint64_t seq,
		      struct db_value *out)
{
	size_t at = PLACE(name);
	const struct db_value args[] = { DB_TEXT_VALUE(intern_text(name)), DB_INT_VALUE(seq) };

	if (!name)
		return 0; /* NULL */
	if (h->names[at].name != name) {
		int err = db_query(&h->db, SQL_NAME, args, 2, row_number, &h->names[at].id);

		h->names[at].name = err ? NULL : name;
		if (err)
			return err;
	}
	*out = DB_INT_VALUE(h->names[at].id);
	return 0;
}

static int row_put(struct flow_history *h, const struct flow_record *r, uint64_t seq, uint64_t lost)
{
	struct db_value v[N_COLUMNS] = { DB_INT_VALUE(seq), DB_INT_VALUE(lost) };
	size_t n = N_FIXED;
	int err = 0;

	if (r->reason)
		v[2] = DB_TEXT_VALUE(flow_reason_name(r));
	v[3] = addr_value(r, 0);
	v[4] = addr_value(r, 1);
#define PUT_STRING(name, member)                                                                   \
	if (!err)                                                                                  \
		err = name_value(h, r->member, seq, &v[n++]);
	STRINGS(PUT_STRING)
#define PUT_NUMBER(name, member) v[n++] = DB_INT_VALUE(r->member);
	NUMBERS(PUT_NUMBER)
	return err ? err : db_query(&h->db, SQL_PUT, v, N_COLUMNS, NULL, NULL);
}

/* Deletes the n oldest records; of those that are left, one stays. */
static int rows_trim(struct flow_history *h, uint64_t n)
{
	const struct db_value arg = DB_INT_VALUE(n < h->rows ? n : h->rows - 1);
	int err = h->rows ? db_query(&h->db, SQL_TRIM, &arg, 1, NULL, NULL) : 0;

	if (!err && h->rows)
		h->rows -= (uint64_t)sqlite3_changes(h->db.handle);
	return err;
}

/* Keeps both bounds. The file itself stays below its bound as pages that are free are used again. */
static int history_trim(struct flow_history *h)
{
	uint64_t most = h->opts.bytes / h->page_size, pages = 0, unused = 0;
	int err = h->rows > h->opts.records ? rows_trim(h, h->rows - h->opts.records) : 0;

	if (!err && ++h->batches % NAMES_SWEEP == 0)
		err = db_query(&h->db, SQL_NAMES_TRIM, NULL, 0, NULL, NULL);
	for (int round = 0; !err && round < 16; round++) {
		err = history_number(h, SQL_PAGES, &pages);
		if (!err)
			err = history_number(h, SQL_PAGES_FREE, &unused);
		/* What the next batch may need stays free. */
		if (err || pages - unused <= most - most / 8 || h->rows < 2)
			break;
		err = rows_trim(h, h->rows / 8 + 1);
		if (!err)
			err = db_query(&h->db, SQL_NAMES_TRIM, NULL, 0, NULL, NULL);
	}
	if (!err && pages > most && unused)
		err = db_query(&h->db, SQL_SHRINK, NULL, 0, NULL, NULL);
	if (!err)
		h->pages = pages;
	return err;
}

static int batch_put(struct flow_history *h, const struct flow_batch *b)
{
	uint64_t rows = h->rows;
	bool rewritten = false;
	int err = db_keep(&h->db, &rewritten);

	if (!err)
		err = db_query(&h->db, SQL_BEGIN, NULL, 0, NULL, NULL);
	if (err)
		return err;
	memset(h->names, 0, sizeof(h->names));
	for (size_t i = 0; !err && i < b->n; i++, h->rows++)
		err = row_put(h, &b->v[i], b->first + i, i ? 0 : h->lost_unsaid + b->lost);
	if (!err)
		err = history_trim(h);
	if (!err)
		err = db_query(&h->db, SQL_COMMIT, NULL, 0, NULL, NULL);
	if (!err)
		return 0;
	h->rows = rows;
	if (!sqlite3_get_autocommit(h->db.handle))
		db_query(&h->db, SQL_ROLLBACK, NULL, 0, NULL, NULL);
	return err;
}

void flow_history_write(struct flow_history *h, const struct flow_batch *b)
{
	uint64_t last = 0;

	pthread_mutex_lock(&h->lock);
	int err = history_ready(h, &last);
	if (!err)
		err = batch_put(h, b);
	if (is_useless(err) && !history_set_aside(h, err)) {
		err = history_ready(h, &last);
		if (!err)
			err = batch_put(h, b);
	}
	if (err) {
		history_failed(h, err);
		h->lost_unsaid += b->lost + b->n;
	} else {
		if (h->failing)
			history_say(
				h,
				"flows are written to the history again; %llu records are missing",
				(unsigned long long)h->lost_unsaid);
		h->failing = false;
		h->lost_unsaid = 0;
	}
	history_view(h, b->lost + (err ? b->n : 0));
	pthread_mutex_unlock(&h->lock);
	atomic_store(&h->end, b->first + b->n);
}

/* ---- reading ---------------------------------------------------------------------------------- */

/* A query that is under way. */
struct reading {
	struct intern_table *strings;
	int (*fn)(void *arg, uint64_t seq, uint64_t lost, const struct flow_record *rec);
	void *arg;
	size_t n; /* records looked at */
	bool stopped;
};

static void addr_read(sqlite3_stmt *row, int at, union tw_addr *out)
{
	const void *blob = sqlite3_column_blob(row, at);
	int len = sqlite3_column_bytes(row, at);

	if (len == 4) {
		out->byte[10] = out->byte[11] = 0xff;
		memcpy(&out->byte[12], blob, 4);
	} else if (len == 16) {
		memcpy(out, blob, 16);
	}
}

/* The kernel may have been another one then: a name that this one does not have is no reason. */
static uint8_t reason_read(const char *name, bool kernel)
{
	unsigned int count = kernel ? TW_KERNEL_REASONS : TW_REASON_COUNT;

	for (unsigned int i = 0; name && i < count; i++)
		if (!strcmp(kernel ? tw_kernel_reason_name(i) : tw_reason_name(i), name))
			return (uint8_t)i;
	return 0;
}

static int row_read(void *arg, sqlite3_stmt *row)
{
	struct reading *reading = arg;
	struct flow_record rec = { 0 }, *r = &rec;
	int at = N_FIXED;

#define READ_STRING(name, member)                                                                  \
	if (sqlite3_column_type(row, at++) == SQLITE_TEXT)                                         \
		r->member = intern_get(reading->strings,                                           \
				       (const char *)sqlite3_column_text(row, at - 1));
	STRINGS(READ_STRING)
#define READ_NUMBER(name, member)                                                                  \
	r->member = (__typeof__(r->member))sqlite3_column_int64(row, at++);
	NUMBERS(READ_NUMBER)
	rec.reason =
		reason_read((const char *)sqlite3_column_text(row, 2), rec.hook == TW_HOOK_KERNEL);
	addr_read(row, 3, &rec.addr[0]);
	addr_read(row, 4, &rec.addr[1]);
	reading->n++;
	reading->stopped = reading->fn(reading->arg, (uint64_t)sqlite3_column_int64(row, 0),
				       (uint64_t)sqlite3_column_int64(row, 1), &rec) != 0;
	flow_record_clear(reading->strings, &rec);
	return reading->stopped ? -ECANCELED : 0;
}

/* Under the lock for no longer than these few records take. */
static void history_query(struct flow_history *h, unsigned int id, const struct db_value *args,
			  size_t n, struct reading *reading)
{
	reading->n = 0;
	reading->stopped = true;
	pthread_mutex_lock(&h->lock);
	reading->strings = h->open ? intern_table_new() : NULL;
	if (reading->strings) {
		reading->stopped = false;
		if (db_query(&h->db, id, args, n, row_read, reading))
			reading->stopped = true;
		intern_table_free(reading->strings);
	}
	pthread_mutex_unlock(&h->lock);
}

size_t flow_history_read(struct flow_history *h, uint64_t from, uint64_t below, size_t max,
			 int (*fn)(void *arg, uint64_t seq, uint64_t lost,
				   const struct flow_record *rec),
			 void *arg)
{
	const struct db_value args[] = { DB_INT_VALUE(from), DB_INT_VALUE(below),
					 DB_INT_VALUE(max < CHUNK ? max : CHUNK) };
	struct reading reading = { .fn = fn, .arg = arg };

	history_query(h, SQL_FORWARD, args, 3, &reading);
	return reading.n;
}

struct seek {
	const struct flow_filter *filter;
	uint64_t since;
	uint32_t want;
	uint64_t looked, found;
};

static int seek_row(void *arg, uint64_t seq, uint64_t lost, const struct flow_record *rec)
{
	struct seek *s = arg;

	if (rec->time + SLACK < s->since)
		return 1;
	s->looked = seq;
	if (!flow_filter_match(s->filter, rec))
		return 0;
	s->found = seq;
	if (s->want != UINT32_MAX)
		s->want--;
	return !s->want;
}

uint64_t flow_history_seek(struct flow_history *h, uint64_t before,
			   const struct flow_filter *filter, uint32_t want)
{
	struct seek s = { filter, flow_filter_since(filter), want, before, before };
	struct reading reading = { .fn = seek_row, .arg = &s };

	if (want == UINT32_MAX && !s.since)
		return 0; /* whatever is the first */
	do {
		const struct db_value args[] = { DB_INT_VALUE(s.looked), DB_INT_VALUE(CHUNK) };

		history_query(h, SQL_BACK, args, 2, &reading);
	} while (reading.n == CHUNK && !reading.stopped);
	return s.found;
}

void flow_history_stats_get(struct flow_history *h, struct flow_history_stats *out)
{
	pthread_mutex_lock(&h->view_lock);
	*out = h->view;
	pthread_mutex_unlock(&h->view_lock);
}

bool flow_history_notice(struct flow_history *h, char *buf, size_t len)
{
	pthread_mutex_lock(&h->view_lock);
	bool some = *h->notice;

	if (some)
		snprintf(buf, len, "%s", h->notice);
	*h->notice = '\0';
	pthread_mutex_unlock(&h->view_lock);
	return some;
}
