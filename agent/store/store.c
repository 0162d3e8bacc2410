/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "store/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "store/db.h"

/* X(name, SQL) */
#define STATEMENTS(X)                                                                              \
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
	X(PROGRAM_PUT, "INSERT INTO programs(name, json, object) VALUES(?1, ?2, ?3) "              \
		       "ON CONFLICT(name) DO UPDATE SET json = ?2, object = ?3")                   \
	X(PROGRAM_DEL, "DELETE FROM programs WHERE name = ?1")                                     \
	X(PROGRAM_ALL, "SELECT name, json FROM programs ORDER BY name")                            \
	X(PROGRAM_OBJECT, "SELECT object FROM programs WHERE name = ?1")                           \
	X(EDGE_PUT, "INSERT INTO edge(key, json) VALUES(?1, ?2) "                                  \
		    "ON CONFLICT(key) DO UPDATE SET json = ?2")                                    \
	X(EDGE_DEL, "DELETE FROM edge WHERE key = ?1")                                             \
	X(EDGE_ALL, "SELECT key, json FROM edge ORDER BY key")                                     \
	X(ENDPOINT_CLEAR, "DELETE FROM endpoints")                                                 \
	X(RELEASE_CLEAR, "DELETE FROM releases")                                                   \
	X(ID_CLEAR, "DELETE FROM ids")                                                             \
	X(SYSCTL_CLEAR, "DELETE FROM sysctls")

#define STATEMENT_ENUM(name, sql) DB_##name,
enum { STATEMENTS(STATEMENT_ENUM) DB_STATEMENT_COUNT };
#undef STATEMENT_ENUM

static const char *const sql[] = {
#define STATEMENT_SQL(name, sql) [DB_##name] = sql,
	STATEMENTS(STATEMENT_SQL)
#undef STATEMENT_SQL
};

static const char schema[] = "BEGIN IMMEDIATE;"
			     "CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
			     "CREATE TABLE objects(kind TEXT, ns TEXT, name TEXT, json TEXT,"
			     " PRIMARY KEY(kind, ns, name)) WITHOUT ROWID;"
			     "CREATE TABLE endpoints(container_id TEXT, ifname TEXT, json TEXT,"
			     " PRIMARY KEY(container_id, ifname)) WITHOUT ROWID;"
			     "CREATE TABLE releases(addr BLOB PRIMARY KEY, time INTEGER)"
			     " WITHOUT ROWID;"
			     "CREATE TABLE ids(kind INTEGER, key BLOB, id INTEGER,"
			     " PRIMARY KEY(kind, key)) WITHOUT ROWID;"
			     "CREATE TABLE sysctls(path TEXT PRIMARY KEY, value TEXT)"
			     " WITHOUT ROWID;"
			     "INSERT INTO meta VALUES('schema', 1);"
			     "COMMIT";

/*
 * Tables that came later. An older towpathd does not look at them, so the way back to one stays
 * open, and what it does not know waits in there for the next newer one.
 */
static const char tables[] = "CREATE TABLE IF NOT EXISTS programs(name TEXT PRIMARY KEY,"
			     " json TEXT, object BLOB);"
			     "CREATE TABLE IF NOT EXISTS edge(key TEXT PRIMARY KEY, json TEXT)"
			     " WITHOUT ROWID";

static const struct db_kind towpath_db = {
	.file = "towpath.db",
	.version = 1,
	.schema = schema,
	.tables = tables,
	.sql = sql,
	.n_sql = DB_STATEMENT_COUNT,
	.check = true,
};

/*
 * An object in the table. When uthash lacks memory it ends the process, which is right here:
 * the change is on disk already, and a restart reads it from there.
 */
struct entry {
	struct object *object;
	UT_hash_handle hh;
	size_t key_len;
	char key[]; /* kind, ns, 0, name */
};

struct store {
	struct db db;
	struct entry *objects;
	size_t count[OBJECT_KIND_COUNT];
	struct entry *swept; /* replaced or deleted, readable until store_sweep() */
	struct policy_id *ids;
	size_t n_ids;
	bool ids_differ; /* some were changed since: what is on disk is not in `ids` */
};

const char *store_error(const struct store *s)
{
	return s->db.error;
}

/* ---- the table of objects ------------------------------------------------------------------- */

static size_t entry_key(char *buf, enum object_kind kind, const char *ns, const char *name)
{
	size_t ns_len = strlen(ns) + 1, name_len = strlen(name);

	if (buf) {
		buf[0] = (char)('0' + kind);
		memcpy(buf + 1, ns, ns_len);
		memcpy(buf + 1 + ns_len, name, name_len);
	}
	return 1 + ns_len + name_len;
}

static struct entry *entry_new(struct object *obj)
{
	size_t len = entry_key(NULL, obj->kind, obj->ns, obj->name);
	struct entry *e = calloc(1, sizeof(*e) + len);

	if (e) {
		e->object = obj;
		e->key_len = entry_key(e->key, obj->kind, obj->ns, obj->name);
	}
	return e;
}

static void entry_free(struct entry *e)
{
	if (e)
		object_free(e->object);
	free(e);
}

static struct entry *entry_find(const struct store *s, enum object_kind kind, const char *ns,
				const char *name)
{
	char key[1024]; /* names of the API have 253 bytes at most, namespaces 63 */
	struct entry *e = NULL;

	if (entry_key(NULL, kind, ns, name) > sizeof(key))
		return NULL;
	HASH_FIND(hh, s->objects, key, entry_key(key, kind, ns, name), e);
	return e;
}

static void entry_add(struct store *s, struct entry *e)
{
	HASH_ADD_KEYPTR(hh, s->objects, e->key, e->key_len, e);
	s->count[e->object->kind]++;
}

/* Takes an entry out of the table; it stays readable until store_sweep(). */
static void entry_retire(struct store *s, struct entry *e)
{
	HASH_DEL(s->objects, e);
	s->count[e->object->kind]--;
	e->hh.next = s->swept;
	s->swept = e;
}

void store_sweep(struct store *s)
{
	while (s->swept) {
		struct entry *e = s->swept;

		s->swept = e->hh.next;
		entry_free(e);
	}
}

const struct object *store_object(const struct store *s, enum object_kind kind, const char *ns,
				  const char *name)
{
	const struct entry *e = entry_find(s, kind, ns, name);

	return e ? e->object : NULL;
}

size_t store_object_count(const struct store *s, enum object_kind kind)
{
	return s->count[kind];
}

int store_object_each(const struct store *s, enum object_kind kind, const char *ns,
		      int (*fn)(void *arg, const struct object *obj), void *arg)
{
	const struct entry *e;

	for (e = s->objects; e; e = e->hh.next) {
		if (e->object->kind != kind || (ns && strcmp(e->object->ns, ns)))
			continue;
		int res = fn(arg, e->object);
		if (res)
			return res;
	}
	return 0;
}

/* ---- reading -------------------------------------------------------------------------------- */

static const char *row_text(sqlite3_stmt *row, int column)
{
	const char *text = (const char *)sqlite3_column_text(row, column);

	return text ? text : "";
}

static int read_object(void *arg, sqlite3_stmt *row)
{
	struct store *s = arg;
	struct object_list list = {};
	struct object_error error = {};
	int err = object_parse(s->db.path, row_text(row, 0), (size_t)sqlite3_column_bytes(row, 0),
			       &list, &error);

	if (!err && list.n != 1)
		err = -EUCLEAN;
	if (err) {
		snprintf(s->db.error, sizeof(s->db.error),
			 "the database %s holds %s %.63s/%.253s that this towpathd does not "
			 "accept: %.200s",
			 s->db.path, row_text(row, 1), row_text(row, 2), row_text(row, 3),
			 err == -EINVAL ? error.text : strerror(-err));
		object_list_clear(&list);
		return err;
	}
	struct object *obj = list.v[0];
	list.n = 0;
	object_list_clear(&list);
	free(obj->json);
	obj->json = NULL;
	struct entry *e = entry_new(obj);
	if (!e) {
		object_free(obj);
		return -ENOMEM;
	}
	entry_add(s, e);
	return 0;
}

struct id_array {
	struct policy_id *v;
	size_t n, room;
};

static int read_id(void *arg, sqlite3_stmt *row)
{
	struct id_array *a = arg;

	if (a->n == a->room) {
		size_t room = a->room ? a->room * 2 : 256;
		struct policy_id *v = reallocarray(a->v, room, sizeof(*v));

		if (!v)
			return -ENOMEM;
		a->v = v;
		a->room = room;
	}
	struct policy_id *id = &a->v[a->n];
	if (sqlite3_column_bytes(row, 1) != sizeof(id->key))
		return -EUCLEAN;
	*id = (struct policy_id){ .kind = (enum policy_id_kind)sqlite3_column_int(row, 0),
				  .id = (uint32_t)sqlite3_column_int64(row, 2) };
	memcpy(id->key, sqlite3_column_blob(row, 1), sizeof(id->key));
	a->n++;
	return 0;
}

int store_open(struct store **out, const char *dir, char *err, size_t err_len)
{
	struct store *s = calloc(1, sizeof(*s));
	struct id_array ids = {};

	if (!s) {
		snprintf(err, err_len, "out of memory");
		return -ENOMEM;
	}
	int res = db_open(&s->db, &towpath_db, dir);
	if (!res)
		res = db_query(&s->db, DB_OBJECT_ALL, NULL, 0, read_object, s);
	if (!res)
		res = db_query(&s->db, DB_ID_ALL, NULL, 0, read_id, &ids);
	s->ids = ids.v;
	s->n_ids = ids.n;
	if (res) {
		snprintf(err, err_len, "%s", *s->db.error ? s->db.error : strerror(-res));
		store_close(s);
		return res;
	}
	*out = s;
	return 0;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	for (struct entry *e = s->objects, *next; e; e = next) {
		next = e->hh.next;
		entry_retire(s, e);
	}
	store_sweep(s);
	free(s->ids);
	db_close(&s->db);
	free(s);
}

static int copy_text(void *arg, sqlite3_stmt *row)
{
	char **out = arg;

	*out = strdup(row_text(row, 0));
	return *out ? 0 : -ENOMEM;
}

int store_object_json(struct store *s, enum object_kind kind, const char *ns, const char *name,
		      char **out)
{
	const struct db_value args[] = { DB_TEXT_VALUE(object_kind_name(kind)), DB_TEXT_VALUE(ns),
					 DB_TEXT_VALUE(name) };
	char *json = NULL;
	int err = db_query(&s->db, DB_OBJECT_GET, args, 3, copy_text, &json);

	if (err)
		return err;
	if (!json)
		return -ENOENT;
	*out = json;
	return 0;
}

struct each {
	union {
		int (*json)(void *arg, const char *json);
		int (*endpoint)(void *arg, const struct store_endpoint *ep);
		int (*release)(void *arg, const struct store_release *rel);
		int (*sysctl)(void *arg, const char *path, const char *value);
		int (*program)(void *arg, const char *name, const char *json);
	};
	void *arg;
};

static int each_json(void *arg, sqlite3_stmt *row)
{
	const struct each *each = arg;

	return each->json(each->arg, row_text(row, 0));
}

int store_json_each(struct store *s, enum object_kind kind, const char *ns,
		    int (*fn)(void *arg, const char *json), void *arg)
{
	const struct db_value args[] = { DB_TEXT_VALUE(object_kind_name(kind)),
					 DB_TEXT_VALUE(ns ? ns : "") };
	struct each each = { .json = fn, .arg = arg };

	return db_query(&s->db, ns ? DB_OBJECT_NS : DB_OBJECT_KIND, args, ns ? 2 : 1, each_json,
			&each);
}

static int each_endpoint(void *arg, sqlite3_stmt *row)
{
	const struct each *each = arg;
	struct store_endpoint ep = { .container_id = row_text(row, 0),
				     .ifname = row_text(row, 1),
				     .json = row_text(row, 2) };

	return each->endpoint(each->arg, &ep);
}

int store_endpoint_each(struct store *s, int (*fn)(void *arg, const struct store_endpoint *ep),
			void *arg)
{
	struct each each = { .endpoint = fn, .arg = arg };

	return db_query(&s->db, DB_ENDPOINT_ALL, NULL, 0, each_endpoint, &each);
}

static int each_release(void *arg, sqlite3_stmt *row)
{
	const struct each *each = arg;
	struct store_release rel = { .time = sqlite3_column_int64(row, 1) };

	if (sqlite3_column_bytes(row, 0) != sizeof(rel.addr))
		return -EUCLEAN;
	memcpy(&rel.addr, sqlite3_column_blob(row, 0), sizeof(rel.addr));
	return each->release(each->arg, &rel);
}

int store_release_each(struct store *s, int (*fn)(void *arg, const struct store_release *rel),
		       void *arg)
{
	struct each each = { .release = fn, .arg = arg };

	return db_query(&s->db, DB_RELEASE_ALL, NULL, 0, each_release, &each);
}

void store_ids(const struct store *s, const struct policy_id **out, size_t *n)
{
	*out = s->ids;
	*n = s->n_ids;
}

/* ---- writing -------------------------------------------------------------------------------- */

static int id_order(const void *a, const void *b)
{
	const struct policy_id *x = a, *y = b;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	return memcmp(x->key, y->key, sizeof(x->key));
}

static int id_put(struct store *s, const struct policy_id *id)
{
	return db_run(&s->db, DB_ID_PUT, DB_INT_VALUE(id->kind),
		      DB_BLOB_VALUE(id->key, sizeof(id->key)), DB_INT_VALUE(id->id));
}

static int id_del(struct store *s, const struct policy_id *id)
{
	return db_run(&s->db, DB_ID_DEL, DB_INT_VALUE(id->kind),
		      DB_BLOB_VALUE(id->key, sizeof(id->key)));
}

/* Writes only what differs from the last time: a small change costs a small write. */
static int write_ids(struct store *s, const struct policy_id *ids, size_t n)
{
	int err = s->ids_differ ? db_run(&s->db, DB_ID_CLEAR) : 0;
	size_t i = 0, j = 0;

	while (!err && (i < n || j < s->n_ids)) {
		int order = i == n ? 1 : j == s->n_ids ? -1 : id_order(&ids[i], &s->ids[j]);

		if (order < 0) {
			err = id_put(s, &ids[i++]);
		} else if (order > 0) {
			err = id_del(s, &s->ids[j++]);
		} else {
			if (ids[i].id != s->ids[j].id)
				err = id_put(s, &ids[i]);
			i++;
			j++;
		}
	}
	return err;
}

static int write_some_ids(struct store *s, const struct policy_id_change *c)
{
	int err = 0;

	for (size_t i = 0; !err && i < c->n_del; i++)
		err = id_del(s, &c->del[i]);
	for (size_t i = 0; !err && i < c->n_put; i++)
		err = id_put(s, &c->put[i]);
	return err;
}

static int write_objects(struct store *s, const struct store_change *c)
{
	int err = 0;

	for (size_t i = 0; !err && i < c->n_del; i++)
		err = db_run(&s->db, DB_OBJECT_DEL,
			     DB_TEXT_VALUE(object_kind_name(c->del[i]->kind)),
			     DB_TEXT_VALUE(c->del[i]->ns), DB_TEXT_VALUE(c->del[i]->name));
	for (size_t i = 0; !err && i < c->n_put; i++)
		err = db_run(&s->db, DB_OBJECT_PUT,
			     DB_TEXT_VALUE(object_kind_name(c->put[i]->kind)),
			     DB_TEXT_VALUE(c->put[i]->ns), DB_TEXT_VALUE(c->put[i]->name),
			     DB_TEXT_VALUE(c->put[i]->json));
	return err;
}

static int write_endpoints(struct store *s, const struct store_change *c)
{
	int err = 0;

	for (size_t i = 0; !err && i < c->n_endpoints; i++) {
		const struct store_endpoint *ep = &c->endpoints[i];

		if (ep->json)
			err = db_run(&s->db, DB_ENDPOINT_PUT, DB_TEXT_VALUE(ep->container_id),
				     DB_TEXT_VALUE(ep->ifname), DB_TEXT_VALUE(ep->json));
		else
			err = db_run(&s->db, DB_ENDPOINT_DEL, DB_TEXT_VALUE(ep->container_id),
				     DB_TEXT_VALUE(ep->ifname));
	}
	for (size_t i = 0; !err && i < c->n_releases; i++) {
		const struct store_release *rel = &c->releases[i];

		if (rel->time)
			err = db_run(&s->db, DB_RELEASE_PUT,
				     DB_BLOB_VALUE(&rel->addr, sizeof(rel->addr)),
				     DB_INT_VALUE(rel->time));
		else
			err = db_run(&s->db, DB_RELEASE_DEL,
				     DB_BLOB_VALUE(&rel->addr, sizeof(rel->addr)));
	}
	if (!err && c->releases_before)
		err = db_run(&s->db, DB_RELEASE_END, DB_INT_VALUE(c->releases_before));
	return err;
}

/* Everything that can fail for want of memory happens before the transaction. */
struct prepared {
	struct entry **entries; /* for change->put */
	size_t n;
	struct policy_id *ids;
};

static void prepared_clear(struct prepared *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->entries[i]);
	free(p->entries);
	free(p->ids);
}

static int prepare(const struct store_change *c, struct prepared *p)
{
	p->entries = calloc(c->n_put + 1, sizeof(struct entry *));
	if (!p->entries)
		return -ENOMEM;
	for (; p->n < c->n_put; p->n++) {
		p->entries[p->n] = entry_new(c->put[p->n]);
		if (!p->entries[p->n])
			return -ENOMEM;
	}
	if (!c->ids)
		return 0;
	p->ids = reallocarray(NULL, c->n_ids + 1, sizeof(*p->ids));
	if (!p->ids)
		return -ENOMEM;
	memcpy(p->ids, c->ids, c->n_ids * sizeof(*p->ids));
	qsort(p->ids, c->n_ids, sizeof(*p->ids), id_order);
	return 0;
}

/* Ends a transaction that err says has gone well so far; the result is its own, or err. */
static int transaction_end(struct store *s, int err)
{
	if (!err)
		err = db_run(&s->db, DB_COMMIT);
	if (err && !sqlite3_get_autocommit(s->db.handle)) {
		char why[sizeof(s->db.error)];

		memcpy(why, s->db.error, sizeof(why));
		db_run(&s->db, DB_ROLLBACK);
		memcpy(s->db.error, why, sizeof(why));
	}
	return err;
}

int store_keep(struct store *s, bool *rewritten)
{
	return db_keep(&s->db, rewritten);
}

static int write_all(struct store *s, const struct store_change *c, const struct prepared *p)
{
	bool rewritten = false;
	int err = store_keep(s, &rewritten);

	if (!err)
		err = db_run(&s->db, DB_BEGIN);
	if (err)
		return err;
	err = write_objects(s, c);
	if (!err)
		err = write_endpoints(s, c);
	if (!err && p->ids)
		err = write_ids(s, p->ids, c->n_ids);
	if (!err && c->some_ids)
		err = write_some_ids(s, c->some_ids);
	return transaction_end(s, err);
}

static void ids_set(struct store *s, struct policy_id *ids, size_t n, bool differ)
{
	free(s->ids);
	s->ids = ids;
	s->n_ids = n;
	s->ids_differ = differ;
}

/* The tables follow what is on disk. */
static void publish(struct store *s, const struct store_change *c, struct prepared *p)
{
	for (size_t i = 0; i < c->n_del; i++) {
		const struct object *o = c->del[i];
		struct entry *old = entry_find(s, o->kind, o->ns, o->name);

		if (old)
			entry_retire(s, old);
	}
	for (size_t i = 0; i < c->n_put; i++) {
		struct object *o = c->put[i];
		struct entry *old = entry_find(s, o->kind, o->ns, o->name);

		if (old)
			entry_retire(s, old);
		free(o->json);
		o->json = NULL;
		entry_add(s, p->entries[i]);
	}
	p->n = 0;
	if (p->ids) {
		ids_set(s, p->ids, c->n_ids, false);
		p->ids = NULL;
	}
	if (c->some_ids && c->some_ids->n_del + c->some_ids->n_put)
		ids_set(s, NULL, 0, true);
}

int store_write(struct store *s, const struct store_change *change)
{
	__attribute__((cleanup(prepared_clear))) struct prepared p = {};
	int err = prepare(change, &p);

	if (err) {
		snprintf(s->db.error, sizeof(s->db.error), "out of memory");
		return err;
	}
	err = write_all(s, change, &p);
	if (!err)
		publish(s, change, &p);
	return err;
}

/* ---- programs ------------------------------------------------------------------------------- */

/* One statement, as a transaction that meets a deleted file as any other does. */
static int write_one(struct store *s, unsigned int id, const struct db_value *args, size_t n)
{
	bool rewritten = false;
	int err = store_keep(s, &rewritten);

	if (!err)
		err = db_run(&s->db, DB_BEGIN);
	if (err)
		return err;
	return transaction_end(s, db_query(&s->db, id, args, n, NULL, NULL));
}

int store_program_put(struct store *s, const char *name, const char *json, const void *object,
		      size_t len)
{
	const struct db_value args[] = { DB_TEXT_VALUE(name), DB_TEXT_VALUE(json),
					 DB_BLOB_VALUE(object, (int)len) };

	return write_one(s, DB_PROGRAM_PUT, args, 3);
}

int store_program_del(struct store *s, const char *name)
{
	return write_one(s, DB_PROGRAM_DEL, &DB_TEXT_VALUE(name), 1);
}

static int each_program(void *arg, sqlite3_stmt *row)
{
	const struct each *each = arg;

	return each->program(each->arg, row_text(row, 0), row_text(row, 1));
}

int store_program_each(struct store *s, int (*fn)(void *arg, const char *name, const char *json),
		       void *arg)
{
	struct each each = { .program = fn, .arg = arg };

	return db_query(&s->db, DB_PROGRAM_ALL, NULL, 0, each_program, &each);
}

struct bytes {
	void *v;
	size_t n;
};

static int copy_blob(void *arg, sqlite3_stmt *row)
{
	struct bytes *out = arg;

	out->n = (size_t)sqlite3_column_bytes(row, 0);
	out->v = malloc(out->n + 1);
	if (!out->v)
		return -ENOMEM;
	if (out->n)
		memcpy(out->v, sqlite3_column_blob(row, 0), out->n);
	return 0;
}

int store_program_object(struct store *s, const char *name, void **out, size_t *len)
{
	struct bytes bytes = {};
	int err = db_query(&s->db, DB_PROGRAM_OBJECT, &DB_TEXT_VALUE(name), 1, copy_blob, &bytes);

	if (!err && !bytes.v)
		err = -ENOENT;
	if (err) {
		free(bytes.v);
		return err;
	}
	*out = bytes.v;
	*len = bytes.n;
	return 0;
}

/* ---- edge ----------------------------------------------------------------------------------- */

int store_edge_write(struct store *s, const struct store_edge_item *items, size_t n)
{
	bool rewritten = false;
	int err = store_keep(s, &rewritten);

	if (!err)
		err = db_run(&s->db, DB_BEGIN);
	if (err)
		return err;
	for (size_t i = 0; i < n && !err; i++) {
		const char *json = items[i].json;

		if (json)
			err = db_run(&s->db, DB_EDGE_PUT, DB_TEXT_VALUE(items[i].key),
				     DB_TEXT_VALUE(json));
		else
			err = db_run(&s->db, DB_EDGE_DEL, DB_TEXT_VALUE(items[i].key));
	}
	return transaction_end(s, err);
}

int store_edge_each(struct store *s, int (*fn)(void *arg, const char *key, const char *json),
		    void *arg)
{
	struct each each = { .program = fn, .arg = arg };

	return db_query(&s->db, DB_EDGE_ALL, NULL, 0, each_program, &each);
}

/* ---- sysctls -------------------------------------------------------------------------------- */

int store_sysctl_put(struct store *s, const char *path, const char *value)
{
	return db_run(&s->db, DB_SYSCTL_PUT, DB_TEXT_VALUE(path), DB_TEXT_VALUE(value));
}

static int each_sysctl(void *arg, sqlite3_stmt *row)
{
	const struct each *each = arg;

	return each->sysctl(each->arg, row_text(row, 0), row_text(row, 1));
}

int store_sysctl_each(struct store *s, int (*fn)(void *arg, const char *path, const char *value),
		      void *arg)
{
	struct each each = { .sysctl = fn, .arg = arg };

	return db_query(&s->db, DB_SYSCTL_ALL, NULL, 0, each_sysctl, &each);
}

int store_forget_kernel(struct store *s)
{
	static const unsigned int clear[] = { DB_ENDPOINT_CLEAR, DB_RELEASE_CLEAR, DB_ID_CLEAR,
					      DB_SYSCTL_CLEAR };
	int err = db_run(&s->db, DB_BEGIN);

	if (err)
		return err;
	for (size_t i = 0; !err && i < sizeof(clear) / sizeof(clear[0]); i++)
		err = db_run(&s->db, clear[i]);
	err = transaction_end(s, err);
	if (!err)
		ids_set(s, NULL, 0, false);
	return err;
}
