/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "source_lines.h"

#include <ctype.h>
#include <errno.h>
#include <linux/btf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "userprog_internal.h"

/* Documentation/bpf/btf.rst, section .BTF.ext; libbpf keeps its own definition to itself. */
struct ext_header {
	uint16_t magic;
	uint8_t version;
	uint8_t flags;
	uint32_t hdr_len;
	uint32_t func_info_off, func_info_len;
	uint32_t line_info_off, line_info_len;
};

struct ext_section {
	uint32_t name_off;
	uint32_t n;
};

struct ext_line {
	uint32_t insn_off;
	uint32_t file_off;
	uint32_t text_off;
	uint32_t line_col; /* line << 10 | column */
};

#define LINE_OF(line_col) ((line_col) >> 10)
#define COLUMN_OF(line_col) ((line_col) & 0x3ff)

struct strings {
	const char *p;
	size_t len;
};

/* Those of .BTF; false: there are none that end with a NUL. */
static bool strings_find(const struct userprog_file *file, struct strings *out)
{
	struct btf_header head;
	const void *btf;
	size_t len, at;

	if (!userprog_elf_section(file, ".BTF", &btf, &len) || len < sizeof(head))
		return false;
	memcpy(&head, btf, sizeof(head));
	at = (size_t)head.hdr_len + head.str_off;
	if (at > len || head.str_len > len - at || !head.str_len)
		return false;
	*out = (struct strings){ (const char *)btf + at, head.str_len };
	return !out->p[out->len - 1];
}

static const char *string_get(const struct strings *s, uint32_t at)
{
	return at < s->len ? s->p + at : "";
}

/* The lines of .BTF.ext, past their header. */
static bool lines_find(const struct userprog_file *file, const char **out, size_t *out_len)
{
	struct ext_header head;
	const void *ext;
	size_t len, at;

	if (!userprog_elf_section(file, ".BTF.ext", &ext, &len) || len < sizeof(head))
		return false;
	memcpy(&head, ext, sizeof(head));
	at = (size_t)head.hdr_len + head.line_info_off;
	if (head.magic != BTF_MAGIC || at > len || head.line_info_len > len - at)
		return false;
	*out = (const char *)ext + at;
	*out_len = head.line_info_len;
	return true;
}

/* The records of one section; what is left behind them, or NULL when they do not fit. */
static const char *section_read(struct source_lines *s, const struct strings *strings,
				const char *p, size_t *len, uint32_t record)
{
	struct ext_section head;
	const char *name;

	memcpy(&head, p, sizeof(head));
	p += sizeof(head);
	*len -= sizeof(head);
	name = string_get(strings, head.name_off);
	if (head.n > *len / record)
		return NULL;
	for (uint32_t i = 0; i < head.n; i++, p += record) {
		struct ext_line l;

		memcpy(&l, p, sizeof(l));
		s->lines[s->n++] = (struct source_line){
			.section = name,
			.file = string_get(strings, l.file_off),
			.text = string_get(strings, l.text_off),
			.offset = l.insn_off,
			.line = LINE_OF(l.line_col),
			.column = COLUMN_OF(l.line_col),
		};
	}
	*len -= (size_t)head.n * record;
	return p;
}

int source_lines_read(struct source_lines *out, const struct userprog_file *file)
{
	struct source_lines s = { 0 };
	struct strings strings;
	const char *p;
	size_t len;
	uint32_t record;

	*out = s;
	if (!strings_find(file, &strings) || !lines_find(file, &p, &len) || len < sizeof(record))
		return 0;
	memcpy(&record, p, sizeof(record));
	if (record < sizeof(struct ext_line))
		return 0;
	p += sizeof(record);
	len -= sizeof(record);
	s.lines = calloc(len / record + 1, sizeof(*s.lines));
	if (!s.lines)
		return -ENOMEM;
	while (p && len >= sizeof(struct ext_section))
		p = section_read(&s, &strings, p, &len, record);
	*out = s;
	return 0;
}

void source_lines_clear(struct source_lines *s)
{
	free(s->lines);
	*s = (struct source_lines){ 0 };
}

const struct source_line *source_lines_at(const struct source_lines *s, const char *section,
					  uint64_t offset)
{
	const struct source_line *found = NULL;

	for (size_t i = 0; i < s->n; i++) {
		const struct source_line *l = &s->lines[i];

		if (l->offset <= offset && (!found || l->offset >= found->offset) &&
		    !strcmp(l->section, section))
			found = l;
	}
	return found;
}

/* Without the blanks around it. */
static const char *trimmed(const char *text, size_t *len)
{
	text += strspn(text, " \t");
	*len = strlen(text);
	while (*len && isspace((unsigned char)text[*len - 1]))
		--*len;
	return text;
}

const struct source_line *source_lines_text(const struct source_lines *s, const char *text,
					    uint32_t line)
{
	size_t len, n;

	text = trimmed(text, &len);
	for (size_t i = 0; len && i < s->n; i++) {
		const char *other = trimmed(s->lines[i].text, &n);

		if (n == len && !memcmp(text, other, n) && (!line || s->lines[i].line == line))
			return &s->lines[i];
	}
	return NULL;
}

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

const struct source_line *source_lines_word(const struct source_lines *s, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; len && i < s->n; i++) {
		const char *text = s->lines[i].text;

		for (const char *p = text; (p = strstr(p, name)); p += len)
			if ((p == text || !is_word(p[-1])) && !is_word(p[len]))
				return &s->lines[i];
	}
	return NULL;
}
