/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/store.h"

static char why[1024];

struct place {
	char dir[64];
	char file[96];
	struct store *store;
};

static int place_setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	snprintf(p->dir, sizeof(p->dir), "/tmp/towpath-store-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->file, sizeof(p->file), "%s/towpath.db", p->dir);
	*state = p;
	return 0;
}

static int place_teardown(void **state)
{
	static const char *const names[] = { "towpath.db", "towpath.db-wal", "towpath.db-shm",
					     "fill" };
	struct place *p = *state;
	char path[128];

	store_close(p->store);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", p->dir, names[i]);
		unlink(path);
	}
	umount(p->dir);
	rmdir(p->dir);
	free(p);
	return 0;
}

static void place_open(struct place *p)
{
	assert_int_equal(store_open(&p->store, p->dir, why, sizeof(why)), 0);
}

static void place_reopen(struct place *p)
{
	store_close(p->store);
	p->store = NULL;
	place_open(p);
}

/* An object of a text with one. */
static struct object *parse(const char *format, ...)
{
	struct object_list list = {};
	struct object_error error = {};
	char text[65536];
	va_list args;

	va_start(args, format);
	int len = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (object_parse("test", text, (size_t)len, &list, &error))
		fail_msg("%s: %s", error.field, error.text);
	assert_int_equal(list.n, 1);
	struct object *obj = list.v[0];
	list.n = 0;
	object_list_clear(&list);
	return obj;
}

static struct object *pod(const char *ns, const char *name, const char *value)
{
	return parse("apiVersion: v1\nkind: Pod\nmetadata: {namespace: %s, name: %s, "
		     "labels: {app: '%s'}}\n",
		     ns, name, value);
}

static int put(struct place *p, struct object *obj)
{
	const struct store_change change = { .put = &obj, .n_put = 1 };
	int res = store_write(p->store, &change);

	if (res)
		object_free(obj);
	else
		store_sweep(p->store);
	return res;
}

static const char *label(const struct place *p, const char *ns, const char *name)
{
	const struct object *obj = store_object(p->store, OBJECT_POD, ns, name);

	return obj ? labels_get(&obj->labels, "app") : NULL;
}

/* ---- what is kept ----------------------------------------------------------------------------- */

static void test_objects_survive(void **state)
{
	struct place *p = *state;
	char *json = NULL;

	place_open(p);
	assert_int_equal(put(p, pod("a", "one", "x")), 0);
	assert_int_equal(put(p, pod("b", "one", "y")), 0);
	for (int i = 0; i < 2; i++) {
		assert_string_equal(label(p, "a", "one"), "x");
		assert_string_equal(label(p, "b", "one"), "y");
		assert_null(store_object(p->store, OBJECT_POD, "a", "two"));
		assert_null(store_object(p->store, OBJECT_NETWORKPOLICY, "a", "one"));
		assert_int_equal(store_object_count(p->store, OBJECT_POD), 2);
		assert_int_equal(store_object_json(p->store, OBJECT_POD, "a", "one", &json), 0);
		assert_non_null(strstr(json, "\"app\":\"x\""));
		free(json);
		place_reopen(p);
	}
	assert_int_equal(store_object_json(p->store, OBJECT_POD, "a", "two", &json), -ENOENT);
}

static void test_replaced_object_stays_readable(void **state)
{
	struct place *p = *state;

	place_open(p);
	assert_int_equal(put(p, pod("a", "one", "old")), 0);
	const struct object *old = store_object(p->store, OBJECT_POD, "a", "one");
	struct object *obj = pod("a", "one", "new");
	const struct store_change change = { .put = &obj, .n_put = 1 };
	assert_int_equal(store_write(p->store, &change), 0);
	assert_string_equal(label(p, "a", "one"), "new");
	/* The compiler borrows it until its commit (ASan sees it if it is gone). */
	assert_string_equal(labels_get(&old->labels, "app"), "old");
	store_sweep(p->store);
	assert_int_equal(store_object_count(p->store, OBJECT_POD), 1);
}

static void test_delete(void **state)
{
	struct place *p = *state;

	place_open(p);
	assert_int_equal(put(p, pod("a", "one", "x")), 0);
	assert_int_equal(put(p, pod("a", "two", "x")), 0);
	const struct object *gone = store_object(p->store, OBJECT_POD, "a", "one");
	const struct store_change change = { .del = &gone, .n_del = 1 };
	assert_int_equal(store_write(p->store, &change), 0);
	store_sweep(p->store);
	for (int i = 0; i < 2; i++) {
		assert_null(store_object(p->store, OBJECT_POD, "a", "one"));
		assert_non_null(store_object(p->store, OBJECT_POD, "a", "two"));
		assert_int_equal(store_object_count(p->store, OBJECT_POD), 1);
		place_reopen(p);
	}
}

static int count_json(void *arg, const char *json)
{
	int *n = arg;

	assert_non_null(strstr(json, "\"kind\":\"Pod\""));
	return ++*n == 3 ? -EINTR : 0;
}

static void test_lists(void **state)
{
	struct place *p = *state;
	int n = 0;

	place_open(p);
	for (int i = 0; i < 4; i++) {
		char name[16];

		snprintf(name, sizeof(name), "p%d", i);
		assert_int_equal(put(p, pod(i % 2 ? "a" : "b", name, "x")), 0);
	}
	assert_int_equal(store_json_each(p->store, OBJECT_POD, "a", count_json, &n), 0);
	assert_int_equal(n, 2);
	n = 0;
	assert_int_equal(store_json_each(p->store, OBJECT_POD, NULL, count_json, &n), -EINTR);
	assert_int_equal(n, 3);
}

static void test_numbers_follow(void **state)
{
	struct place *p = *state;
	struct policy_id ids[300];
	const struct policy_id *kept;
	size_t n;

	place_open(p);
	for (uint32_t i = 0; i < 300; i++) {
		ids[i] = (struct policy_id){ .kind = (enum policy_id_kind)(i % 3), .id = i };
		memset(ids[i].key, (int)(i * 7 % 251), sizeof(ids[i].key));
		ids[i].key[0] = (uint8_t)(i / 251);
	}
	struct store_change change = { .ids = ids, .n_ids = 300 };
	assert_int_equal(store_write(p->store, &change), 0);
	/* Some go, one changes, the rest stays. */
	ids[7].id = 7000;
	change.n_ids = 100;
	assert_int_equal(store_write(p->store, &change), 0);
	place_reopen(p);
	store_ids(p->store, &kept, &n);
	assert_int_equal(n, 100);
	for (size_t i = 0; i < n; i++) {
		size_t j = 0;

		while (kept[i].kind != ids[j].kind ||
		       memcmp(kept[i].key, ids[j].key, sizeof(ids[j].key)))
			assert_true(++j < 100);
		assert_int_equal(kept[i].id, ids[j].id);
	}
	/* No numbers given is not the same as an empty list. */
	assert_int_equal(put(p, pod("a", "one", "x")), 0);
	store_ids(p->store, &kept, &n);
	assert_int_equal(n, 100);
}

/* Only some are told: a key passes to another number, one goes, one comes. */
static void test_some_numbers_follow(void **state)
{
	struct place *p = *state;
	struct policy_id ids[4] = {}, del[2], put[2];
	const struct policy_id *kept;
	size_t n;

	place_open(p);
	for (uint32_t i = 0; i < 4; i++) {
		ids[i].id = i + 1;
		ids[i].key[0] = (uint8_t)(i + 1);
	}
	assert_int_equal(store_write(p->store, &(struct store_change){ .ids = ids, .n_ids = 3 }),
			 0);
	del[0] = ids[0];
	del[1] = ids[1];
	put[0] = (struct policy_id){ .id = 2, .key = { 1 } };
	put[1] = ids[3];
	const struct policy_id_change some = { del, put, 2, 2 };
	assert_int_equal(store_write(p->store, &(struct store_change){ .some_ids = &some }), 0);
	place_reopen(p);
	store_ids(p->store, &kept, &n);
	assert_int_equal(n, 3);
	assert_memory_equal(&kept[0], &put[0], sizeof(*kept));
	assert_memory_equal(&kept[1], &ids[2], sizeof(*kept));
	assert_memory_equal(&kept[2], &ids[3], sizeof(*kept));
	/* The whole list after a change of some replaces what is there. */
	assert_int_equal(store_write(p->store, &(struct store_change){ .some_ids = &some }), 0);
	assert_int_equal(
		store_write(p->store, &(struct store_change){ .ids = &ids[2], .n_ids = 1 }), 0);
	place_reopen(p);
	store_ids(p->store, &kept, &n);
	assert_int_equal(n, 1);
	assert_memory_equal(&kept[0], &ids[2], sizeof(*kept));
}

static int check_endpoint(void *arg, const struct store_endpoint *ep)
{
	int *n = arg;

	assert_string_equal(ep->container_id, "c2");
	assert_string_equal(ep->ifname, "eth0");
	assert_string_equal(ep->json, "{\"slot\":9}");
	(*n)++;
	return 0;
}

static int check_release(void *arg, const struct store_release *rel)
{
	int *n = arg;

	assert_int_equal(rel->addr.byte[15], 2);
	assert_int_equal(rel->time, 1234567);
	(*n)++;
	return 0;
}

static int count_sysctl(void *arg, const char *path, const char *value)
{
	int *n = arg;

	assert_string_equal(path, "net/ipv4/conf/eth0/forwarding");
	assert_string_equal(value, "0");
	(*n)++;
	return 0;
}

static void test_endpoints_releases_sysctls(void **state)
{
	struct place *p = *state;
	const struct store_endpoint eps[] = { { "c1", "eth0", "{}" }, { "c2", "eth0", "{}" } };
	const struct store_endpoint then[] = { { "c1", "eth0", NULL },
					       { "c2", "eth0", "{\"slot\":9}" } };
	const struct store_release rels[] = { { { .byte[15] = 1 }, 1 }, { { .byte[15] = 2 }, 5 } };
	const struct store_release later[] = { { { .byte[15] = 1 }, 0 },
					       { { .byte[15] = 2 }, 1234567 } };
	struct store_change change = {
		.endpoints = eps, .n_endpoints = 2, .releases = rels, .n_releases = 2
	};
	const char *sysctl = "net/ipv4/conf/eth0/forwarding";
	int n = 0;

	place_open(p);
	assert_int_equal(store_write(p->store, &change), 0);
	change.endpoints = then;
	change.releases = later;
	assert_int_equal(store_write(p->store, &change), 0);
	assert_int_equal(store_sysctl_put(p->store, sysctl, "0"), 0);
	assert_int_equal(store_sysctl_put(p->store, sysctl, "1"), 0);
	place_reopen(p);
	assert_int_equal(store_endpoint_each(p->store, check_endpoint, &n), 0);
	assert_int_equal(store_release_each(p->store, check_release, &n), 0);
	assert_int_equal(store_sysctl_each(p->store, count_sysctl, &n), 0);
	assert_int_equal(n, 3);
	assert_int_equal(put(p, pod("a", "one", "x")), 0);
	assert_int_equal(store_forget_kernel(p->store), 0);
	place_reopen(p);
	assert_int_equal(store_endpoint_each(p->store, check_endpoint, &n), 0);
	assert_int_equal(store_release_each(p->store, check_release, &n), 0);
	assert_int_equal(store_sysctl_each(p->store, count_sysctl, &n), 0);
	assert_int_equal(n, 3);
	assert_non_null(store_object(p->store, OBJECT_POD, "a", "one"));
}

static int sum_release(void *arg, const struct store_release *rel)
{
	*(int64_t *)arg += rel->time;
	return 0;
}

/* Most addresses never come again, so their rows go by their time alone. */
static void test_releases_that_are_over(void **state)
{
	struct place *p = *state;
	const struct store_release rels[] = { { { .byte[15] = 1 }, 100 },
					      { { .byte[15] = 2 }, 200 },
					      { { .byte[15] = 3 }, 400 } };
	struct store_change change = { .releases = rels, .n_releases = 3 };
	int64_t sum = 0;

	place_open(p);
	assert_int_equal(store_write(p->store, &change), 0);
	change = (struct store_change){ .releases_before = 200 };
	assert_int_equal(store_write(p->store, &change), 0);
	assert_int_equal(store_release_each(p->store, sum_release, &sum), 0);
	assert_int_equal(sum, 600);
}

/* ---- whole or not at all ------------------------------------------------------------------------ */

/* Writes pairs until it is killed; every transaction has both of a pair and one number more. */
static void write_pairs(const char *dir)
{
	struct store *s = NULL;
	struct policy_id ids[2000] = {};

	if (store_open(&s, dir, why, sizeof(why)))
		_exit(1);
	for (uint32_t i = 0; i < 2000; i++) {
		char name[16];
		struct object *objs[2];

		snprintf(name, sizeof(name), "p%u", i);
		objs[0] = pod("left", name, "x");
		objs[1] = pod("right", name, "x");
		ids[i].id = i + 1;
		memcpy(ids[i].key, &i, sizeof(i));
		const struct store_change change = {
			.put = objs, .n_put = 2, .ids = ids, .n_ids = i + 1
		};
		if (store_write(s, &change))
			_exit(1);
	}
	_exit(0);
}

static int count_object(void *arg, const struct object *obj)
{
	size_t *n = arg;

	(*n)++;
	return 0;
}

static void test_killed_writer_leaves_whole_changes(void **state)
{
	struct place *p = *state;
	size_t left = 0;

	/* On a busy machine the writer may need longer for its first change: see one at least. */
	for (unsigned int round = 1; round <= 5 || (!left && round <= 250); round++) {
		const struct policy_id *ids;
		size_t right = 0, n;
		pid_t child = fork();

		assert_true(child >= 0);
		if (!child)
			write_pairs(p->dir);
		usleep(4000 * round);
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		place_open(p);
		left = 0;
		store_object_each(p->store, OBJECT_POD, "left", count_object, &left);
		store_object_each(p->store, OBJECT_POD, "right", count_object, &right);
		store_ids(p->store, &ids, &n);
		assert_int_equal(left, right);
		/* An earlier round may have written more of them. */
		assert_true(n <= left);
		store_close(p->store);
		p->store = NULL;
	}
	assert_true(left > 0);
}

static void fill_disk(const struct place *p)
{
	static const char zero[4096];
	char path[128];

	snprintf(path, sizeof(path), "%s/fill", p->dir);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	while (write(fd, zero, sizeof(zero)) > 0)
		;
	assert_int_equal(errno, ENOSPC);
	close(fd);
}

static int count_program(void *arg, const char *name, const char *json)
{
	(*(int *)arg)++;
	assert_string_equal(name, "count");
	return 0;
}

static void test_programs_are_kept(void **state)
{
	static const char object[] = "\x7f"
				     "ELF\0\1\2\0";
	struct place *p = *state;
	void *bytes = NULL;
	size_t len = 0;
	int n = 0;

	place_open(p);
	assert_int_equal(store_program_object(p->store, "count", &bytes, &len), -ENOENT);
	assert_int_equal(store_program_put(p->store, "count", "{}", "old", 3), 0);
	assert_int_equal(store_program_put(p->store, "count", "{\"a\":1}", object, sizeof(object)),
			 0);
	place_reopen(p);
	assert_int_equal(store_program_each(p->store, count_program, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(store_program_object(p->store, "count", &bytes, &len), 0);
	assert_int_equal(len, sizeof(object));
	assert_memory_equal(bytes, object, len);
	free(bytes);
	/* Uninstalling takes programs out of the kernel, and keeps them on disk as objects are. */
	assert_int_equal(store_forget_kernel(p->store), 0);
	assert_int_equal(store_program_del(p->store, "count"), 0);
	assert_int_equal(store_program_del(p->store, "count"), 0);
	n = 0;
	assert_int_equal(store_program_each(p->store, count_program, &n), 0);
	assert_int_equal(n, 0);
}

static void test_full_disk_changes_nothing(void **state)
{
	struct place *p = *state;
	char path[128], *big = malloc(60001);

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", p->dir, "tmpfs", 0, "size=256k")) {
		free(big);
		print_message("needs root for a small file system of its own\n");
		skip();
	}
	memset(big, 'x', 60000);
	big[60000] = '\0';
	place_open(p);
	assert_int_equal(put(p, pod("a", "one", "before")), 0);
	fill_disk(p);
	struct object *objs[2] = {
		parse("kind: Pod\napiVersion: v1\nmetadata: {name: big, namespace: a, "
		      "annotations: {x: %s}}\n",
		      big),
		pod("a", "one", "after"),
	};
	const struct store_change change = { .put = objs, .n_put = 2 };
	assert_int_equal(store_write(p->store, &change), -ENOSPC);
	assert_non_null(strstr(store_error(p->store), "no space left"));
	assert_string_equal(label(p, "a", "one"), "before");
	assert_null(store_object(p->store, OBJECT_POD, "a", "big"));
	snprintf(path, sizeof(path), "%s/fill", p->dir);
	unlink(path);
	/* With room again the same change goes, and a restart sees it. */
	assert_int_equal(store_write(p->store, &change), 0);
	place_reopen(p);
	assert_string_equal(label(p, "a", "one"), "after");
	assert_non_null(store_object(p->store, OBJECT_POD, "a", "big"));
	store_close(p->store);
	p->store = NULL;
	free(big);
}

/* ---- what is refused ------------------------------------------------------------------------------ */

static void refused(const struct place *p, int res, const char *part)
{
	struct store *s = NULL;

	why[0] = '\0';
	assert_int_equal(store_open(&s, p->dir, why, sizeof(why)), res);
	assert_null(s);
	if (!strstr(why, part))
		fail_msg("'%s' has no '%s'", why, part);
	/* One sentence, that names the file. */
	assert_null(strchr(why, '\n'));
	assert_non_null(strstr(why, p->file));
}

static void raw(const struct place *p, const char *sql)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(p->file, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void test_second_user_is_refused(void **state)
{
	struct place *p = *state;

	place_open(p);
	refused(p, -EBUSY, "used by another process");
}

/* A database that was written before there were programs. */
static void test_older_database_gets_the_table(void **state)
{
	struct place *p = *state;

	place_open(p);
	store_close(p->store);
	p->store = NULL;
	raw(p, "DROP TABLE programs");
	place_open(p);
	assert_int_equal(store_program_put(p->store, "count", "{}", "x", 1), 0);
}

static void test_newer_schema_is_refused(void **state)
{
	struct place *p = *state;

	place_open(p);
	store_close(p->store);
	p->store = NULL;
	raw(p, "UPDATE meta SET value = 2 WHERE key = 'schema'");
	refused(p, -EPROTO, "newer towpathd (schema 2");
	raw(p, "UPDATE meta SET value = 1 WHERE key = 'schema'");
	place_open(p);
}

static void test_foreign_database_is_refused(void **state)
{
	struct place *p = *state;

	raw(p, "CREATE TABLE recipes(name)");
	refused(p, -EPROTO, "not a database of towpathd");
}

static void overwrite(const struct place *p, off_t at, size_t len)
{
	char junk[4096];
	int fd = open(p->file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	memset(junk, 0x5a, sizeof(junk));
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, junk, len, at), (ssize_t)len);
	close(fd);
}

static void test_damaged_file_is_refused(void **state)
{
	struct place *p = *state;

	/* No database at all. */
	overwrite(p, 0, 4096);
	refused(p, -EUCLEAN, "damaged");
	unlink(p->file);
	/* A database with a page that is none. */
	place_open(p);
	for (int i = 0; i < 50; i++) {
		char name[16];

		snprintf(name, sizeof(name), "p%d", i);
		assert_int_equal(put(p, pod("a", name, "x")), 0);
	}
	store_close(p->store);
	p->store = NULL;
	overwrite(p, 4096 * 2, 4096);
	refused(p, -EUCLEAN, "damaged");
}

static void test_unusable_object_is_refused(void **state)
{
	struct place *p = *state;

	place_open(p);
	assert_int_equal(put(p, pod("a", "one", "x")), 0);
	store_close(p->store);
	p->store = NULL;
	raw(p, "UPDATE objects SET json = '{\"kind\":\"Pod\"}'");
	refused(p, -EINVAL, "Pod a/one");
}

static void test_missing_folder_is_refused(void **state)
{
	struct place *p = *state;

	rmdir(p->dir);
	refused(p, -ENOENT, "cannot be used");
	assert_int_equal(mkdir(p->dir, 0700), 0);
}

#define STORE_TEST(fn) cmocka_unit_test_setup_teardown(fn, place_setup, place_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_objects_survive),
		STORE_TEST(test_replaced_object_stays_readable),
		STORE_TEST(test_delete),
		STORE_TEST(test_lists),
		STORE_TEST(test_numbers_follow),
		STORE_TEST(test_some_numbers_follow),
		STORE_TEST(test_endpoints_releases_sysctls),
		STORE_TEST(test_releases_that_are_over),
		STORE_TEST(test_killed_writer_leaves_whole_changes),
		STORE_TEST(test_second_user_is_refused),
		STORE_TEST(test_newer_schema_is_refused),
		STORE_TEST(test_programs_are_kept),
		STORE_TEST(test_older_database_gets_the_table),
		STORE_TEST(test_foreign_database_is_refused),
		STORE_TEST(test_damaged_file_is_refused),
		STORE_TEST(test_unusable_object_is_refused),
		STORE_TEST(test_missing_folder_is_refused),
		/* Last: it leaves the mount namespace that the others run in. */
		STORE_TEST(test_full_disk_changes_nothing),
	};

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
