/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Loads each program of an object alone, and lets it go. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check_internal.h"
#include "hear.h"
#include "userprog_internal.h"

/* The kernel's flags of log_level, which its headers keep to itself. */
#define LOG_PATH 1u	  /* instructions and states on the way to the refusal */
#define LOG_STATISTICS 4u /* what it took */

#define LOG_SHORT (64u << 10)
#define LOG_LONG (16u << 20) /* of the path; kernels from 6.4 on keep the end of a longer one */

/* ---- memory ---------------------------------------------------------------------------------- */

void *check_alloc(struct tw_check *c, size_t n, size_t size)
{
	void *p;

	if (c->n_kept == c->cap_kept) {
		size_t cap = c->cap_kept ? 2 * c->cap_kept : 64;
		void **kept = reallocarray(c->kept, cap, sizeof(*kept));

		if (!kept)
			return NULL;
		c->kept = kept;
		c->cap_kept = cap;
	}
	p = calloc(n ? n : 1, size);
	if (p)
		c->kept[c->n_kept++] = p;
	return p;
}

char *check_keep(struct tw_check *c, const char *s)
{
	size_t len = s ? strlen(s) + 1 : 0;
	char *copy = len ? check_alloc(c, len, 1) : NULL;

	return copy ? memcpy(copy, s, len) : NULL;
}

void check_list_add(struct tw_check *c, const char *const **list, size_t *n, const char *name)
{
	const char **longer;

	for (size_t i = 0; i < *n; i++)
		if (!strcmp((*list)[i], name))
			return;
	longer = check_alloc(c, *n + 1, sizeof(*longer));
	name = check_keep(c, name);
	if (!longer || !name)
		return;
	if (*n)
		memcpy(longer, *list, *n * sizeof(*longer));
	longer[(*n)++] = name;
	*list = longer;
}

/* ---- the file -------------------------------------------------------------------------------- */

/* The file's name up to its first dot, as libbpf does for what it opens itself. */
static void name_set(struct tw_check *c, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *base = slash ? slash + 1 : path;

	snprintf(c->name, sizeof(c->name), "%.*s", (int)strcspn(base, "."), base);
	if (!*c->name)
		snprintf(c->name, sizeof(c->name), "object");
}

static int file_read(struct tw_check *c, const char *path, char *err, size_t err_len)
{
	const char *name = check_keep(c, path);
	int res = name ? userprog_file_read(name, &c->file, &c->bytes, err, err_len) : -ENOMEM;

	if (!name)
		snprintf(err, err_len, "cannot read %s: %s", path, strerror(-res));
	name_set(c, path);
	return res ? res : userprog_elf_check(&c->file, err, err_len);
}

/* ---- loading --------------------------------------------------------------------------------- */

/* The object anew, without pins, and with no program chosen. NULL and errno; said is libbpf's. */
static struct bpf_object *object_open(const struct tw_check *c, char said[CHECK_SAID_MAX])
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = c->name);
	struct bpf_object *obj;
	struct bpf_program *prog;
	struct bpf_map *map;

	hear_begin(said, CHECK_SAID_MAX);
	obj = bpf_object__open_mem(c->file.bytes, c->file.len, &opts);
	hear_end();
	if (!obj)
		return NULL;
	bpf_object__for_each_program(prog, obj) bpf_program__set_autoload(prog, false);
	bpf_object__for_each_map(map, obj) bpf_map__set_pin_path(map, NULL);
	return obj;
}

/*
 * The entries that the source gives a program array are set when all programs are loaded, which here
 * they never are: libbpf would give up the maps. So where no program is loaded, a plain array stands in.
 * It has the name, as libbpf takes the name of what is used again.
 */
static int jumps_make(struct bpf_map *map, enum bpf_map_type type)
{
	int fd = bpf_map_create(type, bpf_map__name(map), 4, 4, bpf_map__max_entries(map), NULL);
	int res = fd < 0 ? -errno : bpf_map__reuse_fd(map, fd);

	if (fd >= 0)
		close(fd);
	return res;
}

static bool is_jumps(const struct bpf_map *map)
{
	return bpf_map__type(map) == BPF_MAP_TYPE_PROG_ARRAY;
}

/* Maps are made once, and used by each program's load. */
static int maps_reuse(const struct tw_check *c, struct bpf_object *obj)
{
	struct bpf_map *map, *from = NULL;
	int res = 0;

	bpf_object__for_each_map(map, obj)
	{
		from = bpf_object__next_map(c->maps, from);
		if (is_jumps(map))
			res = jumps_make(map, BPF_MAP_TYPE_PROG_ARRAY);
		/* Not all are made, as .kconfig without anything in it. */
		else if (from && bpf_map__fd(from) >= 0 &&
			 bpf_map__type(map) != BPF_MAP_TYPE_STRUCT_OPS)
			res = bpf_map__reuse_fd(map, bpf_map__fd(from));
		if (res)
			return res;
	}
	return 0;
}

/* What the instructions of a relocated program hold in the place of each map. */
static int *map_fds(struct bpf_object *obj)
{
	struct bpf_map *map;
	size_t n = 0;
	int *fds;

	bpf_object__for_each_map(map, obj) n++;
	fds = calloc(n + 1, sizeof(*fds));
	n = 0;
	bpf_object__for_each_map(map, obj)
	{
		if (fds)
			fds[n++] = bpf_map__fd(map);
	}
	return fds;
}

/* libbpf takes functions outside of sections that nobody calls for programs. */
static bool is_program(const struct bpf_program *prog)
{
	return strcmp(bpf_program__section_name(prog), ".text") != 0;
}

static struct bpf_program *program_at(struct bpf_object *obj, size_t i)
{
	struct bpf_program *prog;

	bpf_object__for_each_program(prog, obj)
	{
		if (is_program(prog) && !i--)
			return prog;
	}
	return NULL;
}

/* One program's way through the verifier. */
struct attempt {
	struct bpf_object *obj;
	struct bpf_program *prog;
	int *fds;
	char *log;
	char said[CHECK_SAID_MAX];
	int result; /* 0: taken */
};

static void attempt_end(struct attempt *a)
{
	bpf_object__close(a->obj);
	free(a->fds);
	free(a->log);
}

/*
 * Entries of program arrays are set when all is loaded, and lead to programs that are not: libbpf then
 * takes back what the kernel had taken.
 */
static bool is_taken(const struct attempt *a, int res)
{
	return !res || strstr(a->said, "failed to initialize slot");
}

/* 0 when it came to an attempt, else -errno and what libbpf said. */
static int attempt_make(const struct tw_check *c, size_t i, unsigned int level, size_t log_len,
			struct attempt *out)
{
	int res;

	*out = (struct attempt){ .log = malloc(log_len) };
	if (!out->log)
		return -ENOMEM;
	*out->log = '\0';
	out->obj = object_open(c, out->said);
	res = out->obj ? maps_reuse(c, out->obj) : -errno;
	if (res)
		return res;
	out->fds = map_fds(out->obj);
	out->prog = program_at(out->obj, i);
	if (!out->fds || !out->prog)
		return -ENOMEM;
	bpf_program__set_autoload(out->prog, true);
	bpf_program__set_log_level(out->prog, level);
	bpf_program__set_log_buf(out->prog, out->log, log_len);
	hear_begin(out->said, sizeof(out->said));
	res = bpf_object__load(out->obj);
	hear_end();
	out->result = is_taken(out, res) ? 0 : res;
	return 0;
}

/* ---- a program ------------------------------------------------------------------------------- */

static void statistics_take(struct tw_check *c, struct tw_check_program *p, const char *text,
			    struct verifier_log *log)
{
	uint32_t *stack;

	verifier_log_read(text, strlen(text), log);
	p->processed = log->processed;
	p->limit = log->limit;
	p->usec = log->usec;
	stack = check_alloc(c, log->n_stack, sizeof(*stack));
	if (!stack)
		return;
	memcpy(stack, log->stack, log->n_stack * sizeof(*stack));
	p->stack = stack;
	p->n_stack = log->n_stack;
}

/* Whether the verifier was asked and answered; else the short text is libbpf's alone. */
static bool has_answer(const struct verifier_log *log)
{
	return log->n_messages || log->processed;
}

/* A program of a million steps takes seconds to write about, and the path says nothing. */
static bool is_path_wanted(const struct verifier_log *log)
{
	for (unsigned int i = 0; i < log->n_messages; i++)
		if (strstr(log->messages[i], "program is too large"))
			return false;
	return true;
}

static void program_refused(struct tw_check *c, size_t i, struct attempt *a,
			    const struct verifier_log *log)
{
	struct tw_check_program *p = &c->programs[i];
	struct attempt again = { 0 };
	const char *text = a->log;

	p->result = a->result;
	if (!has_answer(log)) {
		p->refusal = check_refusal_loader(c, a->prog, a->said, a->result);
		return;
	}
	/* Once more, for the way that led there. A short buffer may have been too small on old kernels. */
	if (is_path_wanted(log) &&
	    !attempt_make(c, i, LOG_PATH | LOG_STATISTICS, LOG_LONG, &again) && again.result &&
	    again.result != -ENOSPC && *again.log)
		text = again.log;
	p->refusal = check_refusal(c, a->obj, a->prog, text);
	attempt_end(&again);
}

static int program_check(struct tw_check *c, size_t i)
{
	struct tw_check_program *p = &c->programs[i];
	struct verifier_log *log = calloc(1, sizeof(*log));
	struct attempt a;
	int res = log ? attempt_make(c, i, LOG_STATISTICS, LOG_SHORT, &a) : -ENOMEM;

	if (!log)
		return res;
	if (!res) {
		statistics_take(c, p, a.log, log);
		check_needs(c, p, a.obj, a.prog, a.fds);
		if (a.result)
			program_refused(c, i, &a, log);
	}
	if (res && res != -ENOMEM) {
		p->result = res;
		p->refusal = check_refusal_loader(c, NULL, a.said, res);
		res = 0;
	}
	if (p->result && !p->refusal)
		res = -ENOMEM;
	attempt_end(&a);
	free(log);
	return res;
}

/* ---- the object ------------------------------------------------------------------------------ */

static int programs_list(struct tw_check *c)
{
	struct bpf_program *prog;

	while (program_at(c->maps, c->n))
		c->n++;
	c->programs = check_alloc(c, c->n, sizeof(*c->programs));
	if (!c->programs)
		return -ENOMEM;
	c->n = 0;
	bpf_object__for_each_program(prog, c->maps)
	{
		const char *type = libbpf_bpf_prog_type_str(bpf_program__type(prog));
		struct tw_check_program *p;

		if (!is_program(prog))
			continue;
		p = &c->programs[c->n++];
		p->name = check_keep(c, bpf_program__name(prog));
		p->section = check_keep(c, bpf_program__section_name(prog));
		p->type = type ? type : "";
		if (!p->name || !p->section)
			return -ENOMEM;
	}
	return 0;
}

/* Makes the maps. An error is the object's own, and said in c->refused. */
static int object_check(struct tw_check *c, char *err, size_t err_len)
{
	char said[CHECK_SAID_MAX];
	struct bpf_map *map;
	int res;

	c->maps = object_open(c, said);
	if (!c->maps) {
		res = -errno;
		c->refused = check_refusal_loader(c, NULL, said, res);
		return c->refused ? 0 : -ENOMEM;
	}
	res = programs_list(c);
	if (res)
		return res;
	if (!c->n) {
		snprintf(err, err_len, "%s has no program in it: each needs SEC(\"...\")",
			 c->file.name);
		return -EINVAL;
	}
	bpf_object__for_each_map(map, c->maps)
	{
		if (is_jumps(map) && !res)
			res = jumps_make(map, BPF_MAP_TYPE_ARRAY);
	}
	hear_begin(said, sizeof(said));
	res = res ? res : bpf_object__load(c->maps);
	hear_end();
	if (res == -EPERM) {
		snprintf(err, err_len,
			 "programs are loaded to see whether the kernel takes them, which "
			 "needs root");
		return res;
	}
	if (res)
		c->refused = check_refusal_loader(c, NULL, said, res);
	return res && !c->refused ? -ENOMEM : 0;
}

static int check_all(struct tw_check *c, const char *path, char *err, size_t err_len)
{
	int res = file_read(c, path, err, err_len);

	if (!res)
		res = source_lines_read(&c->lines, &c->file);
	if (!res)
		res = object_check(c, err, err_len);
	for (size_t i = 0; !res && !c->refused && i < c->n; i++)
		res = program_check(c, i);
	bpf_object__close(c->maps);
	c->maps = NULL;
	if (res == -ENOMEM)
		snprintf(err, err_len, "out of memory");
	return res;
}

int tw_check_file(struct tw_check **out, const char *path, char *err, size_t err_len)
{
	struct tw_check *c = calloc(1, sizeof(*c));
	int res = c ? check_all(c, path, err, err_len) : -ENOMEM;

	if (!c)
		snprintf(err, err_len, "out of memory");
	if (res) {
		tw_check_free(c);
		return res;
	}
	*out = c;
	return 0;
}

void tw_check_free(struct tw_check *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->n_kept; i++)
		free(c->kept[i]);
	free(c->kept);
	source_lines_clear(&c->lines);
	free(c->bytes);
	free(c);
}

const struct tw_check_refusal *tw_check_refused(const struct tw_check *c)
{
	return c->refused;
}

size_t tw_check_count(const struct tw_check *c)
{
	return c->n;
}

const struct tw_check_program *tw_check_program(const struct tw_check *c, size_t i)
{
	return i < c->n ? &c->programs[i] : NULL;
}
