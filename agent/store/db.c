/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "store/db.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int db_errno(sqlite3 *handle, int rc)
{
	switch (rc & 0xff) {
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EUCLEAN;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_CANTOPEN:
	case SQLITE_IOERR:
		return sqlite3_system_errno(handle) ? -sqlite3_system_errno(handle) : -EIO;
	default:
		return -EIO;
	}
}

/* Turns SQLite's result into -errno and a sentence that says what to do. */
static int db_fail(struct db *db, int rc)
{
	const char *why = db->handle ? sqlite3_errmsg(db->handle) : sqlite3_errstr(rc);
	int err = db_errno(db->handle, rc);

	switch (err) {
	case -ENOSPC:
		snprintf(db->error, sizeof(db->error),
			 "no space left for the database %s; make room and try again", db->path);
		break;
	case -EBUSY:
		snprintf(db->error, sizeof(db->error),
			 "the database %s is used by another process; stop it or choose another "
			 "--state-dir",
			 db->path);
		break;
	case -EUCLEAN:
		snprintf(db->error, sizeof(db->error),
			 "the database %s is damaged (%.200s); put a backup in its place, or move "
			 "it "
			 "away and apply the objects again",
			 db->path, why);
		break;
	default:
		snprintf(db->error, sizeof(db->error),
			 "the database %s cannot be used: %.200s (%.100s)", db->path, why,
			 strerror(-err));
	}
	return err;
}

static int db_exec(struct db *db, const char *sql)
{
	int rc = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : db_fail(db, rc);
}

/* *out: the first column of the first row as a number; 0 rows leave it untouched. */
static int db_number(struct db *db, const char *sql, sqlite3_int64 *out)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db->handle, sql, -1, &st, NULL);

	if (rc == SQLITE_OK) {
		rc = sqlite3_step(st);
		if (rc == SQLITE_ROW) {
			*out = sqlite3_column_int64(st, 0);
			rc = SQLITE_DONE;
		}
	}
	int err = rc == SQLITE_DONE ? 0 : db_fail(db, rc);
	sqlite3_finalize(st);
	return err;
}

static int db_check_damage(struct db *db)
{
	sqlite3_stmt *st = NULL;
	int err = 0;
	int rc = sqlite3_prepare_v2(db->handle, "PRAGMA quick_check(1)", -1, &st, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	if (rc != SQLITE_ROW)
		err = db_fail(db, rc);
	else if (strcmp((const char *)sqlite3_column_text(st, 0), "ok"))
		err = db_fail(db, SQLITE_CORRUPT);
	sqlite3_finalize(st);
	return err;
}

static int db_check_schema(struct db *db)
{
	sqlite3_int64 tables = 0, version = 0;
	int err = db_number(db, "SELECT count(*) FROM sqlite_schema", &tables);

	if (err)
		return err;
	if (!tables)
		return db_exec(db, db->kind->schema);
	err = db_number(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'meta'", &tables);
	if (!err && tables)
		err = db_number(db, "SELECT value FROM meta WHERE key = 'schema'", &version);
	if (err)
		return err;
	if (version == db->kind->version)
		return 0;
	if (version > db->kind->version) {
		snprintf(db->error, sizeof(db->error),
			 "the database %s was written by a newer towpathd (schema %lld, this one "
			 "knows %d); start that version, or choose another --state-dir",
			 db->path, (long long)version, db->kind->version);
		return -EPROTO;
	}
	snprintf(db->error, sizeof(db->error),
		 "%s is not a database of towpathd; move it away or choose another --state-dir",
		 db->path);
	return -EPROTO;
}

int db_open(struct db *db, const struct db_kind *kind, const char *dir)
{
	/* The first access in exclusive mode keeps WAL's index out of shared memory; a second
	 * process is refused by the lock, also one that shares nothing but the directory. */
	static const char *const pragmas[] = {
		"PRAGMA locking_mode = EXCLUSIVE", "PRAGMA journal_mode = WAL",
		"PRAGMA synchronous = NORMAL",	   "PRAGMA cache_size = -256",
		"PRAGMA wal_autocheckpoint = 256", "PRAGMA journal_size_limit = 1048576",
		"BEGIN IMMEDIATE; COMMIT",
	};

	*db = (struct db){ .kind = kind };
	if (snprintf(db->path, sizeof(db->path), "%s/%s", dir, kind->file) >=
	    (int)sizeof(db->path)) {
		snprintf(db->error, sizeof(db->error),
			 "the path of the state directory is too long; choose a shorter one");
		return -ENAMETOOLONG;
	}
	db->statement = calloc(kind->n_sql, sizeof(sqlite3_stmt *));
	if (!db->statement)
		return db_fail(db, SQLITE_NOMEM);

	int rc = sqlite3_open_v2(db->path, &db->handle,
				 SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
				 NULL);
	if (rc != SQLITE_OK)
		return db_fail(db, rc);
	/* SQLite opens what it cannot write for reading, and fails later without a reason. */
	if (sqlite3_db_readonly(db->handle, "main") == 1) {
		snprintf(
			db->error, sizeof(db->error),
			"the database %s is on a read-only file system; make it writable or choose "
			"another --state-dir",
			db->path);
		return -EROFS;
	}
	sqlite3_extended_result_codes(db->handle, 1);
	sqlite3_db_config(db->handle, SQLITE_DBCONFIG_LOOKASIDE, NULL, 256, 64);
	for (size_t i = 0; i < sizeof(pragmas) / sizeof(pragmas[0]); i++) {
		int err = db_exec(db, pragmas[i]);

		if (err)
			return err;
	}
	int err = kind->check ? db_check_damage(db) : 0;
	if (!err)
		err = db_check_schema(db);
	return err || !kind->tables ? err : db_exec(db, kind->tables);
}

void db_close(struct db *db)
{
	for (size_t i = 0; db->statement && i < db->kind->n_sql; i++)
		sqlite3_finalize(db->statement[i]);
	free(db->statement);
	sqlite3_close(db->handle);
	*db = (struct db){};
}

/* The deleted file is still open, and whole: a copy of it takes its place. */
static int db_rewrite(struct db *db)
{
	char dir[sizeof(db->path)], wal[sizeof(db->path) + 8];
	struct db fresh;
	sqlite3_stmt *st = NULL;

	/* Of the deleted one: to be applied to no other. */
	snprintf(wal, sizeof(wal), "%s-wal", db->path);
	unlink(wal);
	int rc = sqlite3_prepare_v2(db->handle, "VACUUM INTO ?1", -1, &st, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(st, 1, db->path, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	int err = rc == SQLITE_DONE ? 0 : db_errno(db->handle, rc);
	sqlite3_finalize(st);
	snprintf(dir, sizeof(dir), "%s", db->path);
	*strrchr(dir, '/') = '\0';
	if (!err) {
		err = db_open(&fresh, db->kind, dir);
		if (err)
			db_close(&fresh);
	}
	if (err) {
		unlink(db->path);
		snprintf(db->error, sizeof(db->error),
			 "the database %s was deleted and cannot be written anew (%s); make its "
			 "folder writable, with room",
			 db->path, strerror(-err));
		return err;
	}
	/* Closing must not clear up the write-ahead log: that name is the new one's. */
	sqlite3_db_config(db->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	db_close(db);
	*db = fresh;
	return 0;
}

int db_keep(struct db *db, bool *rewritten)
{
	int moved = 0;

	sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
	if (!moved)
		return 0;
	if (access(db->path, F_OK)) {
		int err = db_rewrite(db);

		*rewritten |= !err;
		return err;
	}
	snprintf(
		db->error, sizeof(db->error),
		"the database %s was replaced while towpathd runs; restart towpathd to use what is "
		"there, or move it away to keep what is running",
		db->path);
	return -ESTALE;
}

static int db_bind(sqlite3_stmt *st, int at, const struct db_value *value)
{
	switch (value->type) {
	case DB_NULL:
		return sqlite3_bind_null(st, at);
	case DB_TEXT:
		return sqlite3_bind_text(st, at, value->text, -1, SQLITE_STATIC);
	case DB_INT:
		return sqlite3_bind_int64(st, at, value->number);
	case DB_BLOB:
		return sqlite3_bind_blob(st, at, value->blob, value->len, SQLITE_STATIC);
	}
	return SQLITE_MISUSE;
}

int db_query(struct db *db, unsigned int id, const struct db_value *args, size_t n_args,
	     db_row_fn row, void *arg)
{
	sqlite3_stmt **st = &db->statement[id];
	int rc = SQLITE_OK, err = 0;

	if (!*st)
		rc = sqlite3_prepare_v3(db->handle, db->kind->sql[id], -1,
					SQLITE_PREPARE_PERSISTENT, st, NULL);
	for (size_t i = 0; rc == SQLITE_OK && i < n_args; i++)
		rc = db_bind(*st, (int)i + 1, &args[i]);
	if (rc == SQLITE_OK) {
		while (!err && (rc = sqlite3_step(*st)) == SQLITE_ROW)
			err = row ? row(arg, *st) : 0;
	}
	if (!err && rc != SQLITE_DONE)
		err = db_fail(db, rc);
	sqlite3_reset(*st);
	sqlite3_clear_bindings(*st);
	return err;
}
