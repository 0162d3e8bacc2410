/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* From an object file to a loaded program with its pins. */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "datapath_internal.h"
#include "hear.h"
#include "userprog_internal.h"
#include "verifier_explain.h"

#define LOG_BYTES (256u << 10) /* of the verifier's words; their end is what counts */
#define NAMES_SHOWN 5u

struct userprog {
	struct bpf_object *obj;
	struct bpf_program *prog;
	char file[256];
	char *log;
};

/* ---- choosing a program ---------------------------------------------------------------------- */

/* What follows the last slash of a section: "ingress" of "tcx/ingress"; NULL: none. */
static const char *section_side(const char *section)
{
	const char *slash = strrchr(section, '/');

	return slash ? slash + 1 : NULL;
}

/* Whether the program is for that hook, by its type and by what its section says besides. */
static bool program_fits(const struct bpf_program *prog, const struct userprog_point *point)
{
	const char *section = bpf_program__section_name(prog), *side = section_side(section);

	if (*section == '?')
		section++;
	if (bpf_program__type(prog) != point->prog)
		return false;
	switch (point->prog) {
	case BPF_PROG_TYPE_XDP: /* of a map of devices or CPUs: not for a hook */
		return !side || (strcmp(side, "devmap") && strcmp(side, "cpumap"));
	case BPF_PROG_TYPE_SCHED_CLS: /* says nothing, or which side */
	case BPF_PROG_TYPE_CGROUP_SKB:
		return !side || (strcmp(side, "ingress") && strcmp(side, "egress")) ||
		       !strcmp(side, point->name);
	default:
		return bpf_program__expected_attach_type(prog) == point->attach;
	}
}

static void names_append(char *buf, size_t len, const char *name, size_t n)
{
	size_t at = strlen(buf);

	if (n < NAMES_SHOWN)
		snprintf(buf + at, len - at, "%s%.40s", n ? ", " : "", name);
	else if (n == NAMES_SHOWN)
		snprintf(buf + at, len - at, ", ...");
}

static int choose_fail(const struct userprog *p, const struct userprog_point *point,
		       const struct bpf_program *wrong, const char *names, size_t n, char *err,
		       size_t err_len)
{
	if (!wrong)
		snprintf(err, err_len, "%s has no program in it", p->file);
	else
		snprintf(err, err_len,
			 "%s is in section \"%s\", and what is to be attached there must be in "
			 "SEC(\"%s\")%s%s",
			 bpf_program__name(wrong), bpf_program__section_name(wrong), point->section,
			 n > 1 ? "; the file has " : "", n > 1 ? names : "");
	return -EINVAL;
}

static int program_choose(struct userprog *p, const char *program,
			  const struct userprog_point *point, char *err, size_t err_len)
{
	struct bpf_program *prog, *fits = NULL, *wrong = NULL;
	size_t n = 0, n_fits = 0;
	char names[300] = "", fitting[300] = "";

	bpf_object__for_each_program(prog, p->obj)
	{
		const char *name = bpf_program__name(prog);
		bool right = program_fits(prog, point);

		names_append(names, sizeof(names), name, n++);
		if (program && strcmp(name, program))
			continue;
		if (!right) {
			wrong = prog;
			continue;
		}
		names_append(fitting, sizeof(fitting), name, n_fits++);
		fits = prog;
	}
	if (program && !fits && !wrong) {
		snprintf(err, err_len, "%s has no program %.64s; it has %s", p->file, program,
			 n ? names : "none");
		return -ENOENT;
	}
	if (n_fits > 1) {
		snprintf(err, err_len,
			 "%s has %zu programs for this hook (%s); name one with --program", p->file,
			 n_fits, fitting);
		return -EINVAL;
	}
	if (!fits)
		return choose_fail(p, point, wrong, names, n, err, err_len);
	p->prog = fits;
	return 0;
}

/* Linux 5.18: frames of more than one piece. */
static bool has_frags(void)
{
	const struct bpf_insn pass[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .prog_flags = BPF_F_XDP_HAS_FRAGS);
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "frags", "GPL", pass, 2, &opts);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* Only what the program can come to: with a program array, its tail calls. */
static void programs_select(struct userprog *p, const struct userprog_point *point)
{
	/* Behind the edge, which takes such frames, only programs may stand that take them too. */
	const bool frags = point->attach == BPF_XDP && has_frags();
	struct bpf_program *prog;
	const struct bpf_map *map;
	bool jumps = false;

	/* tw_next leads to programs that are not in the object. */
	bpf_object__for_each_map(map, p->obj) jumps |=
		bpf_map__type(map) == BPF_MAP_TYPE_PROG_ARRAY &&
		strcmp(bpf_map__name(map), "tw_next");
	bpf_object__for_each_program(prog, p->obj)
	{
		const bool type = bpf_program__type(prog) == point->prog;

		bpf_program__set_autoload(prog, prog == p->prog || (jumps && type));
		if (frags && type)
			bpf_program__set_flags(prog,
					       bpf_program__flags(prog) | BPF_F_XDP_HAS_FRAGS);
	}
	/* A section that leaves the side open leaves it to the hook. */
	if (point->prog == BPF_PROG_TYPE_CGROUP_SKB)
		bpf_program__set_expected_attach_type(p->prog, point->attach);
}

int userprog_open(struct userprog **out, const struct userprog_file *file, const char *program,
		  const struct userprog_point *point, char *err, size_t err_len)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .kernel_log_size = LOG_BYTES);
	struct userprog *p;
	struct bpf_map *map;
	char said[256], name[BPF_OBJ_NAME_LEN];
	int res = userprog_elf_check(file, err, err_len);

	if (res)
		return res;
	p = calloc(1, sizeof(*p));
	if (p)
		p->log = calloc(1, LOG_BYTES);
	if (!p || !p->log) {
		free(p);
		snprintf(err, err_len, "out of memory");
		return -ENOMEM;
	}
	snprintf(p->file, sizeof(p->file), "%s", file->name);
	opts.kernel_log_buf = p->log;
	/* What global variables' maps are called after: "count.bss" of count.o. */
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(p->file, "."), p->file);
	opts.object_name = name;
	hear_begin(said, sizeof(said));
	p->obj = bpf_object__open_mem(file->bytes, file->len, &opts);
	res = p->obj ? 0 : -errno;
	hear_end();
	hear_first(said);
	if (res)
		snprintf(err, err_len, "%s cannot be used: %s", p->file,
			 *said ? said : strerror(-res));
	else
		res = program_choose(p, program, point, err, err_len);
	if (res) {
		userprog_close(p);
		return res == -ENOMEM || res == -ENOENT ? res : -EINVAL;
	}
	programs_select(p, point);
	/* What the source says of pins is for loaders that have no other place for them. */
	bpf_object__for_each_map(map, p->obj) bpf_map__set_pin_path(map, NULL);
	*out = p;
	return 0;
}

void userprog_close(struct userprog *p)
{
	if (!p)
		return;
	bpf_object__close(p->obj);
	free(p->log);
	free(p);
}

const char *userprog_program(const struct userprog *p)
{
	return bpf_program__name(p->prog);
}

int userprog_map_fd(const struct userprog *p, const char *name)
{
	const struct bpf_map *map = bpf_object__find_map_by_name(p->obj, name);

	return map ? bpf_map__fd(map) : -1;
}

int userprog_fd(const struct userprog *p)
{
	return bpf_program__fd(p->prog);
}

/* ---- loading ----------------------------------------------------------------------------------- */

/* The program that libbpf was at: "prog 'count': BPF program load failed: ..." */
static void refused_name(const struct userprog *p, const char *said, char name[64])
{
	if (sscanf(said, "prog '%63[^']'", name) != 1)
		snprintf(name, 64, "%s", userprog_program(p));
}

/* What the verifier said, in the words of `towpath program check`; false: it said nothing. */
static bool refusal_words(const struct userprog *p, const char *said, char *err, size_t err_len)
{
	struct verifier_log *log = calloc(1, sizeof(*log));
	struct verifier_explanation *why = calloc(1, sizeof(*why));
	char name[64], place[128] = "";
	bool told;

	if (log)
		verifier_log_read(p->log, strnlen(p->log, LOG_BYTES), log);
	told = log && why && log->n_messages;
	if (told) {
		const char *file = strrchr(log->source.file, '/');

		verifier_explain(log, NULL, why);
		refused_name(p, said, name);
		if (log->source.line)
			snprintf(place, sizeof(place), ", at %.64s:%u",
				 file ? file + 1 : log->source.file, log->source.line);
		snprintf(err, err_len,
			 "the kernel's verifier refuses %s%s: it %.250s; 'towpath program check "
			 "%.64s' says why, and what to do",
			 name, place,
			 strcmp(why->kind, "unknown") ? why->title
						      : log->messages[log->n_messages - 1],
			 p->file);
	}
	free(log);
	free(why);
	return told;
}

static int load_fail(const struct userprog *p, int res, const char *said, char *err, size_t err_len)
{
	if (refusal_words(p, said, err, err_len))
		return -EACCES;
	snprintf(err, err_len, "%s cannot be loaded: %s", p->file, *said ? said : strerror(-res));
	return -EINVAL;
}

int userprog_load(struct userprog *p, const char *maps, bool new_maps, char *err, size_t err_len)
{
	struct bpf_map *map;
	char said[256];
	int res = 0;

	bpf_object__for_each_map(map, p->obj)
	{
		if (!maps || new_maps || map_is_code(map))
			continue;
		res = map_take(map, bpf_object__btf(p->obj), maps, err, err_len);
		if (res == -EEXIST)
			return res;
		if (res && res != -ENOENT) {
			snprintf(err, err_len, "the map %s in use cannot be taken over: %s",
				 bpf_map__name(map), strerror(-res));
			return res;
		}
	}
	hear_begin(said, sizeof(said));
	res = bpf_object__load(p->obj);
	hear_end();
	hear_first(said);
	return res ? load_fail(p, res, said, err, err_len) : 0;
}

/* ---- pins -------------------------------------------------------------------------------------- */

static int pin_all(const struct userprog *p, const char *dir, uint64_t generation)
{
	char path[PATH_MAX], name[NAME_MAX + 1];
	const struct bpf_map *map;

	snprintf(path, sizeof(path), "%.3900s/maps", dir);
	if (mkdir(dir, 0700) || mkdir(path, 0700))
		return -errno;
	bpf_object__for_each_map(map, p->obj)
	{
		if (bpf_map__fd(map) < 0)
			continue; /* not made, as .kconfig without anything in it */
		map_pin_name(map, name);
		snprintf(path, sizeof(path), "%.3800s/maps/%.255s", dir, name);
		if (bpf_obj_pin(bpf_map__fd(map), path))
			return -errno;
	}
	userprog_pin_path(dir, generation, path, sizeof(path));
	return bpf_obj_pin(userprog_fd(p), path) ? -errno : 0;
}

int userprog_pin(const struct userprog *p, const char *dir, uint64_t generation, char *err,
		 size_t err_len)
{
	int res = pin_all(p, dir, generation);

	if (!res || res == -EEXIST)
		return res;
	snprintf(err, err_len, "cannot pin %s below %.200s: %s", userprog_program(p), dir,
		 strerror(-res));
	userprog_unpin(dir);
	return res;
}
