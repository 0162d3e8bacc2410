/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * SQLite as the agent's databases use it: opening with every check, prepared statements by
 * number, errors as -errno with a sentence.
 */
#ifndef AGENT_STORE_DB_H
#define AGENT_STORE_DB_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdbool.h>
#include <stddef.h>

/* What is in a database file. */
struct db_kind {
	const char *file; /* in the state directory */
	int version;	  /* of the schema; also in its table meta(key, value), as 'schema' */
	const char *schema;
	const char *tables;	/* made where they are missing, without a new version; NULL: none */
	const char *const *sql; /* statements, prepared when first used */
	size_t n_sql;
	bool check; /* look at the whole file for damage when it is opened */
};

struct db {
	sqlite3 *handle;
	const struct db_kind *kind;
	sqlite3_stmt **statement; /* as kind->sql */
	char path[320];
	char error[1024];
};

/*
 * -EUCLEAN for a damaged file, -EPROTO for one of a newer schema or of somebody else's, -EBUSY when
 * another process has it. The sentence is in db->error; db_close() is needed after failure, too.
 */
int db_open(struct db *db, const struct db_kind *kind, const char *dir);
void db_close(struct db *db);
/*
 * To be called before each change: what is written to a file without a name is lost with the
 * process. A file that was deleted is written anew from the open one (*rewritten); -ESTALE: there
 * is another file in its place.
 */
int db_keep(struct db *db, bool *rewritten);

/* One argument of a statement. */
struct db_value {
	enum { DB_NULL, DB_TEXT, DB_INT, DB_BLOB } type;
	union {
		const char *text;
		sqlite3_int64 number;
		const void *blob;
	};
	int len; /* of a blob */
};
#define DB_TEXT_VALUE(v) ((struct db_value){ .type = DB_TEXT, .text = (v) })
#define DB_INT_VALUE(v) ((struct db_value){ .type = DB_INT, .number = (sqlite3_int64)(v) })
#define DB_BLOB_VALUE(v, n) ((struct db_value){ .type = DB_BLOB, .blob = (v), .len = (n) })

typedef int (*db_row_fn)(void *arg, sqlite3_stmt *row);

/*
 * Runs a statement; row (may be NULL) is called for each row and ends the query with its first
 * result other than 0, which is returned. Arguments must live until the call returns.
 */
int db_query(struct db *db, unsigned int id, const struct db_value *args, size_t n_args,
	     db_row_fn row, void *arg);
#define db_run(db, id, ...)                                                                        \
	db_query(db, id, (const struct db_value[]){ __VA_ARGS__ },                                 \
		 sizeof((const struct db_value[]){ __VA_ARGS__ }) / sizeof(struct db_value), NULL, \
		 NULL)

#endif
