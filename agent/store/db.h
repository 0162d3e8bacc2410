/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * SQLite as the store uses it: opening with every check, prepared statements by name, errors
 * as -errno with a sentence. Private to agent/store.
 */
#ifndef AGENT_STORE_DB_H
#define AGENT_STORE_DB_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>

#define DB_SCHEMA 1

/* X(name, SQL): prepared when first used. */
#define DB_STATEMENTS(X)                                                                           \
	X(BEGIN, "BEGIN IMMEDIATE")                                                                \
	X(COMMIT, "COMMIT")                                                                        \
	X(ROLLBACK, "ROLLBACK")                                                                    \
	X(OBJECT_PUT, "INSERT INTO objects(kind, ns, name, json) VALUES(?1, ?2, ?3, ?4) "          \
		      "ON CONFLICT(kind, ns, name) DO UPDATE SET json = ?4")                       \
	X(OBJECT_DEL, "DELETE FROM objects WHERE kind = ?1 AND ns = ?2 AND name = ?3")             \
	X(OBJECT_GET, "SELECT json FROM objects WHERE kind = ?1 AND ns = ?2 AND name = ?3")        \
	X(OBJECT_KIND, "SELECT json FROM objects WHERE kind = ?1 ORDER BY ns, name")               \
	X(OBJECT_NS, "SELECT json FROM objects WHERE kind = ?1 AND ns = ?2 ORDER BY name")         \
	X(OBJECT_ALL, "SELECT json, kind, ns, name FROM objects")                                  \
	X(ENDPOINT_PUT, "INSERT INTO endpoints(container_id, ifname, json) VALUES(?1, ?2, ?3) "    \
			"ON CONFLICT(container_id, ifname) DO UPDATE SET json = ?3")               \
	X(ENDPOINT_DEL, "DELETE FROM endpoints WHERE container_id = ?1 AND ifname = ?2")           \
	X(ENDPOINT_ALL, "SELECT container_id, ifname, json FROM endpoints")                        \
	X(RELEASE_PUT, "INSERT INTO releases(addr, time) VALUES(?1, ?2) "                          \
		       "ON CONFLICT(addr) DO UPDATE SET time = ?2")                                \
	X(RELEASE_DEL, "DELETE FROM releases WHERE addr = ?1")                                     \
	X(RELEASE_END, "DELETE FROM releases WHERE time < ?1")                                     \
	X(RELEASE_ALL, "SELECT addr, time FROM releases")                                          \
	X(ID_PUT, "INSERT INTO ids(kind, key, id) VALUES(?1, ?2, ?3) "                             \
		  "ON CONFLICT(kind, key) DO UPDATE SET id = ?3")                                  \
	X(ID_DEL, "DELETE FROM ids WHERE kind = ?1 AND key = ?2")                                  \
	X(ID_ALL, "SELECT kind, key, id FROM ids ORDER BY kind, key")                              \
	X(SYSCTL_PUT, "INSERT OR IGNORE INTO sysctls(path, value) VALUES(?1, ?2)")                 \
	X(SYSCTL_ALL, "SELECT path, value FROM sysctls ORDER BY path")                             \
	X(ENDPOINT_CLEAR, "DELETE FROM endpoints")                                                 \
	X(RELEASE_CLEAR, "DELETE FROM releases")                                                   \
	X(ID_CLEAR, "DELETE FROM ids")                                                             \
	X(SYSCTL_CLEAR, "DELETE FROM sysctls")

#define DB_STATEMENT_ENUM(name, sql) DB_##name,
enum db_statement { DB_STATEMENTS(DB_STATEMENT_ENUM) DB_STATEMENT_COUNT };
#undef DB_STATEMENT_ENUM

struct db {
	sqlite3 *handle;
	sqlite3_stmt *statement[DB_STATEMENT_COUNT];
	char path[320];
	char error[1024];
};

/* See store_open(). The sentence is in db->error; db_close() is needed after failure, too. */
int db_open(struct db *db, const char *dir);
void db_close(struct db *db);
/*
 * To be called before each change: what is written to a file without a name is lost with the
 * process. A file that was deleted is written anew from the open one (*rewritten); -ESTALE: there
 * is another file in its place.
 */
int db_keep(struct db *db, bool *rewritten);

/* One argument of a statement. */
struct db_value {
	enum { DB_TEXT, DB_INT, DB_BLOB } type;
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
int db_query(struct db *db, enum db_statement id, const struct db_value *args, size_t n_args,
	     db_row_fn row, void *arg);
#define db_run(db, id, ...)                                                                        \
	db_query(db, id, (const struct db_value[]){ __VA_ARGS__ },                                 \
		 sizeof((const struct db_value[]){ __VA_ARGS__ }) / sizeof(struct db_value), NULL, \
		 NULL)

#endif
