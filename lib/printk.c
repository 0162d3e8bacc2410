/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "printk.h"

#include <bpf/bpf.h>
#include <ctype.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpf_objects.h"
#include "userprog.h"

#define FORMAT_MAX 512u		 /* longer ones are no formats */
#define CONSTANTS_MAX (4u << 20) /* bytes of a program's constants that are looked at */

struct format {
	uint32_t program;
	char name[USERPROG_NAME_MAX];
	char *text;
};

struct printk_formats {
	struct format *list;
	size_t n, room;
};

/* ---- matching --------------------------------------------------------------------------------- */

/* Behind a conversion that begins at '%'. */
static const char *conversion_end(const char *p)
{
	p++;
	p += strspn(p, "-+ #0123456789.*");
	p += strspn(p, "hlLqjzt");
	if (*p == 'p')
		while (isalnum((unsigned char)p[1]))
			p++;
	return *p ? p + 1 : p;
}

/*
 * Any text stands for a conversion, the shortest first: after a mismatch one more character is given
 * to the last one, as in shell patterns.
 */
bool printk_matches(const char *format, const char *text, size_t *literal)
{
	const char *again = NULL, *given = NULL;
	size_t count = 0, at_again = 0;

	for (;;) {
		bool percent = format[0] == '%' && format[1] == '%';

		if (!*text && !*format)
			break;
		if (*format == '%' && !percent) {
			format = conversion_end(format);
			again = format;
			given = text;
			at_again = count;
			continue;
		}
		if (*text && *text == *format) {
			count++;
			text++;
			format += percent ? 2 : 1;
			continue;
		}
		if (!again || !*given)
			return false;
		text = ++given;
		format = again;
		count = at_again;
	}
	*literal = count;
	return true;
}

size_t printk_find(const struct printk_formats *f, const char *text,
		   void (*fn)(void *arg, uint32_t id, const char *name), void *arg)
{
	size_t best = 0, n = 0, literal;
	bool any = false;

	for (size_t i = 0; i < f->n; i++)
		if (printk_matches(f->list[i].text, text, &literal) && (!any || literal > best)) {
			best = literal;
			any = true;
		}
	for (size_t i = 0; any && i < f->n; i++)
		if (printk_matches(f->list[i].text, text, &literal) && literal == best) {
			fn(arg, f->list[i].program, f->list[i].name);
			n++;
		}
	return n;
}

/* ---- reading ---------------------------------------------------------------------------------- */

/* The contents of a map of constants; the caller's. NULL: it is something else. */
static char *constants_read(uint32_t id, uint32_t *size)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info), zero = 0;
	int fd = bpf_map_get_fd_by_id(id);
	char *value = NULL;

	if (fd >= 0 && !bpf_map_get_info_by_fd(fd, &info, &len) &&
	    info.type == BPF_MAP_TYPE_ARRAY && info.max_entries == 1 &&
	    info.map_flags & BPF_F_RDONLY_PROG && info.value_size <= CONSTANTS_MAX)
		value = calloc(1, info.value_size + 1);
	if (value && bpf_map_lookup_elem(fd, &zero, value)) {
		free(value);
		value = NULL;
	}
	*size = info.value_size;
	if (fd >= 0)
		close(fd);
	return value;
}

static int format_add(struct printk_formats *f, uint32_t program, const char *text)
{
	if (f->n == f->room) {
		size_t room = f->room ? 2 * f->room : 64;
		struct format *list = reallocarray(f->list, room, sizeof(*list));

		if (!list)
			return -ENOMEM;
		f->list = list;
		f->room = room;
	}
	struct format *one = &f->list[f->n];

	one->text = strdup(text);
	if (!one->text)
		return -ENOMEM;
	one->program = program;
	userprog_name(program, one->name, sizeof(one->name));
	f->n++;
	return 0;
}

/* The kernel gives lines, so a format of two lines is two formats. */
static int lines_add(struct printk_formats *f, uint32_t program, const char *text)
{
	int res = 0;

	while (!res && *text) {
		size_t len = strcspn(text, "\n");
		char *line = strndup(text, len);

		res = !line ? -ENOMEM : *line ? format_add(f, program, line) : 0;
		free(line);
		text += len + (text[len] == '\n');
	}
	return res;
}

static bool is_text(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		if (++n > FORMAT_MAX ||
		    (!isprint((unsigned char)*s) && !isspace((unsigned char)*s)))
			return false;
	return n;
}

/* One map's constants at a time: programs have one or two such maps. */
struct constants {
	uint32_t id, size;
	char *bytes;
};

/* Each load of the address of a constant; the kernel tells it as (id of the map, offset). */
static int code_read(struct printk_formats *f, uint32_t program, const struct bpf_insn *insns,
		     size_t n)
{
	struct constants c = {};
	int res = 0;

	for (size_t i = 0; !res && i + 1 < n; i++) {
		uint32_t id = (uint32_t)insns[i].imm, at = (uint32_t)insns[i + 1].imm;

		if (insns[i].code != (BPF_LD | BPF_IMM | BPF_DW) ||
		    insns[i].src_reg != BPF_PSEUDO_MAP_VALUE)
			continue;
		if (id != c.id) {
			free(c.bytes);
			c.bytes = constants_read(id, &c.size);
			c.id = id;
		}
		if (c.bytes && at < c.size && is_text(c.bytes + at))
			res = lines_add(f, program, c.bytes + at);
	}
	free(c.bytes);
	return res;
}

static int program_read(void *arg, int fd, const struct bpf_prog_info *known,
			const uint32_t *map_ids)
{
	struct bpf_prog_info info = {};
	uint32_t len = sizeof(info), size = known->xlated_prog_len;
	struct bpf_insn *insns = known->nr_map_ids ? calloc(1, size + sizeof(*insns)) : NULL;
	int res = 0;

	if (!insns)
		return known->nr_map_ids ? -ENOMEM : 0;
	info.xlated_prog_insns = (uint64_t)(uintptr_t)insns;
	info.xlated_prog_len = size;
	if (!bpf_prog_get_info_by_fd(fd, &info, &len) && info.xlated_prog_insns)
		res = code_read(arg, known->id, insns, size / sizeof(*insns));
	free(insns);
	return res;
}

int printk_formats_read(struct printk_formats **out)
{
	struct printk_formats *f = calloc(1, sizeof(*f));
	int res = f ? bpf_programs_each(program_read, f) : -ENOMEM;

	if (res)
		printk_formats_free(f);
	else
		*out = f;
	return res;
}

void printk_formats_free(struct printk_formats *f)
{
	for (size_t i = 0; f && i < f->n; i++)
		free(f->list[i].text);
	if (f)
		free(f->list);
	free(f);
}
