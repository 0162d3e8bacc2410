/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* A refusal, with the line of C that it is about and what is to be done. */
#include <bpf/btf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_internal.h"
#include "userprog_internal.h"

#define LOG_LINES 30 /* of the log's end that are kept */

static const char *text_or(const char *s)
{
	return s ? s : "";
}

/* ---- the program ----------------------------------------------------------------------------- */

/* The struct that a program's type gets. */
static const char *context_wanted(enum bpf_prog_type type)
{
	switch (type) {
	case BPF_PROG_TYPE_XDP:
		return "xdp_md";
	case BPF_PROG_TYPE_SCHED_CLS:
	case BPF_PROG_TYPE_SCHED_ACT:
	case BPF_PROG_TYPE_SOCKET_FILTER:
	case BPF_PROG_TYPE_CGROUP_SKB:
	case BPF_PROG_TYPE_SK_SKB:
	case BPF_PROG_TYPE_LWT_IN:
	case BPF_PROG_TYPE_LWT_OUT:
	case BPF_PROG_TYPE_LWT_XMIT:
	case BPF_PROG_TYPE_LWT_SEG6LOCAL:
	case BPF_PROG_TYPE_FLOW_DISSECTOR:
		return "__sk_buff";
	case BPF_PROG_TYPE_CGROUP_SOCK:
		return "bpf_sock";
	case BPF_PROG_TYPE_CGROUP_SOCK_ADDR:
		return "bpf_sock_addr";
	case BPF_PROG_TYPE_CGROUP_SOCKOPT:
		return "bpf_sockopt";
	case BPF_PROG_TYPE_SOCK_OPS:
		return "bpf_sock_ops";
	case BPF_PROG_TYPE_SK_MSG:
		return "sk_msg_md";
	case BPF_PROG_TYPE_SK_LOOKUP:
		return "bpf_sk_lookup";
	default:
		return NULL;
	}
}

/* The struct that the program's C function takes a pointer to; NULL: it is no such function. */
static const char *context_given(const struct bpf_object *obj, const char *name)
{
	const struct btf *btf = bpf_object__btf(obj);
	int id = btf ? btf__find_by_name_kind(btf, name, BTF_KIND_FUNC) : -ENOENT;
	const struct btf_type *t = id > 0 ? btf__type_by_id(btf, (uint32_t)id) : NULL;

	t = t ? btf__type_by_id(btf, t->type) : NULL;
	if (!t || !btf_is_func_proto(t) || !btf_vlen(t))
		return NULL;
	t = btf__type_by_id(btf, btf_params(t)[0].type);
	if (!t || !btf_is_ptr(t))
		return NULL;
	t = btf__type_by_id(btf, t->type);
	while (t && (btf_is_const(t) || btf_is_volatile(t)))
		t = btf__type_by_id(btf, t->type);
	return t && (btf_is_struct(t) || btf_is_fwd(t)) ? btf__name_by_offset(btf, t->name_off)
							: NULL;
}

static bool type_traces(enum bpf_prog_type type)
{
	return type == BPF_PROG_TYPE_KPROBE || type == BPF_PROG_TYPE_TRACEPOINT ||
	       type == BPF_PROG_TYPE_RAW_TRACEPOINT ||
	       type == BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE || type == BPF_PROG_TYPE_PERF_EVENT;
}

/* Before 6.8 a function that calls itself is refused as a loop: the edge is from its call. */
static bool calls_back(const struct bpf_program *prog, const struct verifier_log *log)
{
	const struct bpf_insn *insns = bpf_program__insns(prog);
	unsigned int insn;

	for (unsigned int i = 0; i < log->n_messages; i++)
		if (sscanf(log->messages[i], "back-edge from insn %u", &insn) == 1 &&
		    insn < bpf_program__insn_cnt(prog))
			return insns[insn].code == (BPF_JMP | BPF_CALL);
	return false;
}

/* ---- the line ---------------------------------------------------------------------------------- */

/* Of an instruction of the program itself; those of functions come behind it, in libbpf's order. */
static const struct source_line *line_of_program(const struct tw_check *c,
						 const struct bpf_program *prog, uint64_t insn)
{
	uint64_t offset, size;

	if (!userprog_elf_function(&c->file, bpf_program__name(prog), &offset, &size) ||
	    insn >= size / sizeof(struct bpf_insn))
		return NULL;
	return source_lines_at(&c->lines, bpf_program__section_name(prog),
			       offset + insn * sizeof(struct bpf_insn));
}

/* Where the first loop of the program goes round; the program's own line when it has none. */
static const struct source_line *line_of_loop(const struct tw_check *c,
					      const struct bpf_program *prog)
{
	const struct bpf_insn *insns = bpf_program__insns(prog);
	size_t n = bpf_program__insn_cnt(prog);

	for (size_t i = 0; i < n; i++) {
		uint8_t class = BPF_CLASS(insns[i].code);

		if ((class == BPF_JMP || class == BPF_JMP32) && insns[i].off < 0)
			return line_of_program(c, prog, i);
	}
	return line_of_program(c, prog, 0);
}

/* "16: return sum(n - 1);": the lines of an edge, before 6.8. */
static const struct source_line *line_of_message(const struct tw_check *c,
						 const struct verifier_log *log)
{
	for (unsigned int i = 0; i < log->n_messages; i++) {
		const char *text = strstr(log->messages[i], ": ");
		const struct source_line *line =
			text ? source_lines_text(&c->lines, text + 2, 0) : NULL;

		if (line)
			return line;
	}
	return NULL;
}

static const struct source_line *line_find(const struct tw_check *c, const struct bpf_program *prog,
					   const struct verifier_log *log,
					   const struct verifier_explanation *why)
{
	const struct source_line *line = NULL;

	if (!strcmp(why->kind, "too-complex"))
		return line_of_loop(c, prog);
	if (*log->source.text)
		line = source_lines_text(&c->lines, log->source.text, log->source.line);
	else
		line = line_of_message(c, log);
	return line || *log->source.text ? line : line_of_program(c, prog, 0);
}

static void line_fill(struct tw_check *c, struct tw_check_refusal *out,
		      const struct source_line *line)
{
	if (!line)
		return;
	out->file = check_keep(c, line->file);
	out->line = line->line;
	out->column = line->column;
	out->source = check_keep(c, line->text + strspn(line->text, " \t"));
}

/* ---- texts ------------------------------------------------------------------------------------- */

static bool is_statistics(const char *line)
{
	return !strncmp(line, "processed ", 10) || !strncmp(line, "verification time ", 18) ||
	       !strncmp(line, "stack depth ", 12);
}

/* The last lines, without the statistics at the end. */
static char *log_end(struct tw_check *c, const char *log)
{
	size_t len = strlen(log);
	unsigned int lines = 0;
	const char *from;
	char *copy;

	for (;;) {
		while (len && log[len - 1] == '\n')
			len--;
		for (from = log + len; from > log && from[-1] != '\n';)
			from--;
		if (!len || !is_statistics(from))
			break;
		len = (size_t)(from - log);
	}
	from = log + len;
	while (from > log && (from[-1] != '\n' || ++lines < LOG_LINES))
		from--;
	copy = check_alloc(c, (size_t)(log + len - from) + 1, 1);
	return copy ? memcpy(copy, from, (size_t)(log + len - from)) : NULL;
}

static char *messages_join(struct tw_check *c, const struct verifier_log *log)
{
	char text[VERIFIER_MESSAGES * VERIFIER_TEXT_MAX] = "";
	size_t n = 0;

	for (unsigned int i = 0; i < log->n_messages; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", i ? "\n" : "",
				      log->messages[i]);
	return check_keep(c, text);
}

static struct tw_check_refusal *explained(struct tw_check *c,
					  const struct verifier_explanation *why)
{
	struct tw_check_refusal *out = check_alloc(c, 1, sizeof(*out));
	size_t n = 0;

	if (!out)
		return NULL;
	*out = (struct tw_check_refusal){ .kind = text_or(check_keep(c, why->kind)),
					  .title = text_or(check_keep(c, why->title)),
					  .cause = text_or(check_keep(c, why->cause)),
					  .remedy = text_or(check_keep(c, why->remedy)) };
	for (unsigned int i = 0; i < why->n_registers; i++)
		check_list_add(c, &out->registers, &n, why->registers[i]);
	out->n_registers = n;
	return out;
}

static struct tw_check_refusal *finished(struct tw_check_refusal *r)
{
	if (!r)
		return NULL;
	r->file = text_or(r->file);
	r->source = text_or(r->source);
	r->said = text_or(r->said);
	r->log = text_or(r->log);
	return r;
}

/* Where what was not released was taken: the refusal itself is at the end of the program. */
static void taken_fill(const struct tw_check *c, const struct bpf_program *prog,
		       const struct verifier_log *log, struct verifier_explanation *why)
{
	const struct source_line *line;
	const char *at;
	unsigned int insn;

	for (unsigned int i = 0; i < log->n_messages; i++) {
		at = strstr(log->messages[i], "alloc_insn=");
		if (!at || sscanf(at, "alloc_insn=%u", &insn) != 1)
			continue;
		line = line_of_program(c, prog, insn);
		if (line && why->n_registers < EXPLAIN_REGISTERS)
			snprintf(why->registers[why->n_registers++], EXPLAIN_TEXT_MAX,
				 "it was taken in line %u: %s", line->line,
				 line->text + strspn(line->text, " \t"));
	}
}

/* ---- the kernel's ------------------------------------------------------------------------------ */

struct tw_check_refusal *check_refusal(struct tw_check *c, struct bpf_object *obj,
				       struct bpf_program *prog, const char *text)
{
	struct verifier_log *log = malloc(sizeof(*log));
	struct verifier_program about = {
		.context = context_given(obj, bpf_program__name(prog)),
		.context_wanted = context_wanted(bpf_program__type(prog)),
		.traces = type_traces(bpf_program__type(prog)),
	};
	struct verifier_explanation why;
	struct tw_check_refusal *out;
	const struct source_line *line;

	if (!log)
		return NULL;
	verifier_log_read(text, strlen(text), log);
	about.calls_back = calls_back(prog, log);
	verifier_explain(log, &about, &why);
	taken_fill(c, prog, log, &why);
	out = explained(c, &why);
	if (out) {
		line = line_find(c, prog, log, &why);
		line_fill(c, out, line);
		if (!line && *log->source.text) {
			out->file = check_keep(c, log->source.file);
			out->line = log->source.line;
			out->source = check_keep(c, log->source.text);
		}
		out->said = messages_join(c, log);
		out->log = log_end(c, text);
	}
	free(log);
	return finished(out);
}

/* ---- libbpf's ---------------------------------------------------------------------------------- */

/* What the rules of a map's type say of its definition; NULL: nothing is wrong that is known here. */
static const char *map_fault(const struct bpf_map *map)
{
	uint32_t key = bpf_map__key_size(map), value = bpf_map__value_size(map);
	uint32_t n = bpf_map__max_entries(map);

	switch (bpf_map__type(map)) {
	case BPF_MAP_TYPE_ARRAY:
	case BPF_MAP_TYPE_PERCPU_ARRAY:
	case BPF_MAP_TYPE_PROG_ARRAY:
	case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
	case BPF_MAP_TYPE_DEVMAP:
	case BPF_MAP_TYPE_CPUMAP:
	case BPF_MAP_TYPE_XSKMAP:
	case BPF_MAP_TYPE_SOCKMAP:
	case BPF_MAP_TYPE_ARRAY_OF_MAPS:
		if (key != 4)
			return "the key of this type is the index, a __u32";
		break;
	case BPF_MAP_TYPE_RINGBUF:
	case BPF_MAP_TYPE_USER_RINGBUF:
		if (key || value)
			return "a ring buffer has neither key nor value, only max_entries: its "
			       "bytes, a "
			       "power of two";
		return n ? NULL : "max_entries is the ring buffer's size in bytes, a power of two";
	case BPF_MAP_TYPE_QUEUE:
	case BPF_MAP_TYPE_STACK:
	case BPF_MAP_TYPE_BLOOM_FILTER:
		if (key)
			return "this type has values and no keys";
		break;
	case BPF_MAP_TYPE_LPM_TRIE:
		if (!(bpf_map__map_flags(map) & BPF_F_NO_PREALLOC))
			return "this type needs __uint(map_flags, BPF_F_NO_PREALLOC)";
		if (key < 5)
			return "the key begins with a __u32, the prefix length, and the address "
			       "follows";
		break;
	case BPF_MAP_TYPE_SK_STORAGE:
	case BPF_MAP_TYPE_INODE_STORAGE:
	case BPF_MAP_TYPE_TASK_STORAGE:
	case BPF_MAP_TYPE_CGRP_STORAGE:
		return "this type needs __uint(map_flags, BPF_F_NO_PREALLOC), a key of type int "
		       "and no "
		       "max_entries";
	default:
		if (!key)
			return "the key has no size: __type(key, ...) is missing";
	}
	if (!value)
		return "the value has no size: __type(value, ...) is missing";
	return n ? NULL : "max_entries is missing or 0";
}

static void map_explain(struct tw_check *c, const char *said, struct verifier_explanation *why)
{
	const char *from = strstr(said, "map '");
	const struct bpf_map *map;
	const char *fault = NULL, *type;
	char name[64];

	if (!from || sscanf(from, "map '%63[^']'", name) != 1)
		return;
	map = bpf_object__find_map_by_name(c->maps, name);
	if (!map)
		return;
	type = libbpf_bpf_map_type_str(bpf_map__type(map));
	if (libbpf_probe_bpf_map_type(bpf_map__type(map), NULL) == 0)
		fault = "this kernel has no maps of that type";
	else
		fault = map_fault(map);
	snprintf(why->registers[why->n_registers++], EXPLAIN_TEXT_MAX,
		 "map %s: type %s, key %u bytes, value %u bytes, max_entries %u", name,
		 type ? type : "unknown", bpf_map__key_size(map), bpf_map__value_size(map),
		 bpf_map__max_entries(map));
	if (fault)
		snprintf(why->cause, sizeof(why->cause), "%s", fault);
}

/* Names of the message, 'in quotes', that a line of the source has. */
static const struct source_line *line_named(const struct tw_check *c, const char *said)
{
	for (const char *p = strchr(said, '\''); p; p = strchr(p, '\'')) {
		const struct source_line *line;
		char name[128];

		if (sscanf(++p, "%127[^']", name) != 1)
			continue;
		line = source_lines_word(&c->lines, name);
		if (line)
			return line;
		p += strlen(name) + (p[strlen(name)] == '\'');
	}
	return NULL;
}

/* The first of libbpf's lines that the catalogue has; else its first line. */
static void loader_explain(const char *said, const struct bpf_program *prog, int error,
			   struct verifier_explanation *why)
{
	enum bpf_prog_type type = prog ? bpf_program__type(prog) : BPF_PROG_TYPE_UNSPEC;
	const char *type_name = libbpf_bpf_prog_type_str(type);
	char line[1024];

	for (const char *p = said; *p; p += strcspn(p, "\n") + (p[strcspn(p, "\n")] == '\n')) {
		snprintf(line, sizeof(line), "%.*s", (int)strcspn(p, "\n"), p);
		if (verifier_explain_loader(line, why))
			return;
	}
	memset(why, 0, sizeof(*why));
	if (prog && type && libbpf_probe_bpf_prog_type(type, NULL) == 0) {
		why->kind = "program-type";
		snprintf(why->title, sizeof(why->title),
			 "is of the type %s, which this kernel does not have",
			 type_name ? type_name : "?");
		snprintf(why->cause, sizeof(why->cause),
			 "the type came with a newer kernel, or this one was built without it");
		snprintf(why->remedy, sizeof(why->remedy),
			 "use another hook, or another kernel: towpath features shows what there "
			 "is");
		return;
	}
	why->kind = "unknown";
	snprintf(why->title, sizeof(why->title), "cannot be loaded: %.*s", (int)strcspn(said, "\n"),
		 *said ? said : strerror(-error));
	snprintf(why->cause, sizeof(why->cause), "the kernel says: %s", strerror(-error));
}

/* libbpf's lines, without those that say only that therefore something else failed too. */
static char *said_keep(struct tw_check *c, const char *said)
{
	char text[CHECK_SAID_MAX] = "";
	size_t n = 0;

	for (const char *p = said; *p; p += strcspn(p, "\n") + (p[strcspn(p, "\n")] == '\n')) {
		size_t len = strcspn(p, "\n");
		const char *failed = strstr(p, "failed to load");

		if ((failed && failed < p + len) || n + len + 2 > sizeof(text))
			continue;
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%.*s", n ? "\n" : "", (int)len,
				      p);
	}
	return check_keep(c, text);
}

struct tw_check_refusal *check_refusal_loader(struct tw_check *c, struct bpf_program *prog,
					      const char *said, int error)
{
	struct verifier_explanation why;
	struct tw_check_refusal *out;
	const struct source_line *line;

	loader_explain(said, prog, error, &why);
	if (!strcmp(why.kind, "map-definition"))
		map_explain(c, said, &why);
	out = explained(c, &why);
	if (!out)
		return NULL;
	line = prog ? line_of_program(c, prog, 0) : line_named(c, said);
	line_fill(c, out, line);
	out->said = said_keep(c, said);
	return finished(out);
}
