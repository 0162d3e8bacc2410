/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The agent's memory: one SQLite database in the state directory, and the tables of objects
 * in RAM that are built from it. One transaction a change; what is not committed here did not
 * happen. Knows objects and the compiler's numbers as things to keep, not what they mean; the
 * JSON of an object is kept on disk only.
 */
#ifndef AGENT_STORE_H
#define AGENT_STORE_H

#include "object/object.h"
#include "policy/policy.h"

struct store;

/*
 * Opens or creates <dir>/towpath.db, makes it this process's own, and reads the objects. On
 * failure err has one sentence: -EBUSY another process has it, -EUCLEAN damaged, -EPROTO of a
 * newer towpathd, else what the file system says.
 */
int store_open(struct store **out, const char *dir, char *err, size_t err_len);
void store_close(struct store *s);

/* The sentence for the last failed call. Never NULL. */
const char *store_error(const struct store *s);

/* Objects stay the store's. ns is "" for a Namespace. NULL: there is none. */
const struct object *store_object(const struct store *s, enum object_kind kind, const char *ns,
				  const char *name);
size_t store_object_count(const struct store *s, enum object_kind kind);
/* Every object of the kind, of namespace ns unless ns is NULL; ends with fn's first non-zero. */
int store_object_each(const struct store *s, enum object_kind kind, const char *ns,
		      int (*fn)(void *arg, const struct object *obj), void *arg);
/* The object's canonical JSON, malloc'ed for the caller. -ENOENT. */
int store_object_json(struct store *s, enum object_kind kind, const char *ns, const char *name,
		      char **out);
/* Calls fn with each object's JSON, by namespace and name. */
int store_json_each(struct store *s, enum object_kind kind, const char *ns,
		    int (*fn)(void *arg, const char *json), void *arg);

/* An endpoint as it is kept: the JSON is attach.c's business. */
struct store_endpoint {
	const char *container_id;
	const char *ifname;
	const char *json; /* NULL: remove it */
};
int store_endpoint_each(struct store *s, int (*fn)(void *arg, const struct store_endpoint *ep),
			void *arg);

/* When an address was given back, so that it is not handed out again at once. */
struct store_release {
	union tw_addr addr;
	int64_t time; /* seconds since the epoch; 0: forget it */
};
int store_release_each(struct store *s, int (*fn)(void *arg, const struct store_release *rel),
		       void *arg);

/*
 * The numbers as they were at store_open() or last written as a whole, sorted; none after a change
 * of some. Borrowed until the next change.
 */
void store_ids(const struct store *s, const struct policy_id **out, size_t *n);

/* Everything that one change writes, in one transaction. */
struct store_change {
	struct object **put; /* become the store's on success; their json is freed */
	size_t n_put;
	const struct object *const *del; /* objects of the tables */
	size_t n_del;
	const struct store_endpoint *endpoints;
	size_t n_endpoints;
	const struct store_release *releases;
	size_t n_releases;
	int64_t releases_before;     /* those of an earlier time are over and go; 0: none */
	const struct policy_id *ids; /* all numbers in use; NULL: unchanged, but for those below */
	size_t n_ids;
	const struct policy_id_change *some_ids; /* or NULL */
};

/*
 * Writes it. On failure nothing has changed: -ENOSPC disk full, -ESTALE the file was replaced by
 * another one, -EIO and others. Objects that
 * were replaced or deleted stay readable until store_sweep(), because the compiler borrows
 * them until its commit.
 */
int store_write(struct store *s, const struct store_change *change);
/*
 * The file is there, under its name; if it was deleted, it is written anew first, and *rewritten
 * set. store_write() does this by itself; called now and then, it keeps a state that does not
 * change from being lost. -errno: see store_error().
 */
int store_keep(struct store *s, bool *rewritten);
void store_sweep(struct store *s);

/* A user's program: its record (programs.c's business) and the object it is loaded from. */
int store_program_put(struct store *s, const char *name, const char *json, const void *object,
		      size_t len);
int store_program_del(struct store *s, const char *name);
int store_program_each(struct store *s, int (*fn)(void *arg, const char *name, const char *json),
		       void *arg);
/* *out is malloc'ed for the caller. -ENOENT. */
int store_program_object(struct store *s, const char *name, void **out, size_t *len);

/* What the edge keeps, by keys of its own: "rule/64", "device/eth0". */
struct store_edge_item {
	const char *key;
	const char *json; /* NULL: remove it */
};
/* All in one transaction. */
int store_edge_write(struct store *s, const struct store_edge_item *items, size_t n);
/* By key. */
int store_edge_each(struct store *s, int (*fn)(void *arg, const char *key, const char *json),
		    void *arg);

/* Sysctls as they were before towpathd changed them; the first value put for a path stays. */
int store_sysctl_put(struct store *s, const char *path, const char *value);
int store_sysctl_each(struct store *s, int (*fn)(void *arg, const char *path, const char *value),
		      void *arg);

/* Forgets what stands for something in the kernel: endpoints, addresses, numbers, sysctls. */
int store_forget_kernel(struct store *s);

#endif
