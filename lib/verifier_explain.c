/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "verifier_explain.h"

#include <regex.h>
#include <stdio.h>
#include <string.h>

#define GROUPS 10

/* A packet pointer whose number may be this or more takes no part in bounds checks (MAX_PACKET_OFF). */
#define PACKET_OFFSET_MAX 0xffff

struct match {
	const char *line;
	regmatch_t at[GROUPS];
};

/* ---- what must hold besides -------------------------------------------------------------------- */

/* The first register that a line names; VERIFIER_REGISTERS: none. */
static unsigned int register_named(const char *line)
{
	for (const char *p = strchr(line, 'R'); p; p = strchr(p + 1, 'R')) {
		unsigned int reg = 0, digits = 0;

		if (p > line && p[-1] != ' ')
			continue;
		for (const char *d = p + 1; *d >= '0' && *d <= '9' && digits < 3; d++, digits++)
			reg = reg * 10 + (unsigned int)(*d - '0');
		if (digits && reg < VERIFIER_REGISTERS)
			return reg;
	}
	return VERIFIER_REGISTERS;
}

static const char *state_of(const struct verifier_log *log, const char *line)
{
	return verifier_log_register(log, register_named(line));
}

static bool packet_is_unlimited(const char *state)
{
	int64_t umax;

	if (strncmp(state, "pkt", 3))
		return false;
	if (!verifier_state_number(state, "umax", &umax) &&
	    !verifier_state_number(state, "umax_value", &umax))
		return strstr(state, "var_off") || strstr(state, "smin");
	return umax < 0 || umax > PACKET_OFFSET_MAX;
}

static bool is_release(const char *name)
{
	return strstr(name, "release") || strstr(name, "_submit") || strstr(name, "_discard");
}

/* Before the instruction that was refused, which may be a release itself. */
static bool has_released(const struct verifier_log *log)
{
	for (unsigned int i = 0; i < log->n_calls; i++)
		if (is_release(log->calls[i].name) && log->calls[i].insn != log->insn)
			return true;
	return false;
}

static bool is_record(const struct verifier_log *log, const char *line)
{
	const char *at = strstr(line, "alloc_insn=");
	unsigned int insn;

	if (!at || sscanf(at, "alloc_insn=%u", &insn) != 1)
		return false;
	for (unsigned int i = 0; i < log->n_calls; i++)
		if (log->calls[i].insn == insn)
			return strstr(log->calls[i].name, "ringbuf") != NULL;
	return false;
}

/* "(85) call bpf_map_update_elem#2" */
static bool takes_value(const struct verifier_log *log)
{
	return strstr(log->insn_text, "call bpf_map_") != NULL;
}

/* "(63) *(u32 *)(r1 +16) = r2" */
static bool is_store(const struct verifier_log *log)
{
	const char *to = strchr(log->insn_text, '*'), *equals = strchr(log->insn_text, '=');

	return to && equals && to < equals;
}

static bool has_recursion(const struct verifier_log *log, const struct verifier_program *about)
{
	return (log->n_calls && log->calls[log->n_calls - 1].back) || (about && about->calls_back);
}

static bool has_other_context(const struct verifier_program *about)
{
	return about && about->context && about->context_wanted &&
	       strcmp(about->context, about->context_wanted);
}

static bool holds(enum verifier_when when, const struct verifier_log *log, const char *line,
		  const struct verifier_program *about)
{
	switch (when) {
	case WHEN_VARIABLE:
		return packet_is_unlimited(state_of(log, line));
	case WHEN_PACKET_MOVED:
		return !strncmp(state_of(log, line), "pkt", 3);
	case WHEN_RELEASED:
		return has_released(log);
	case WHEN_RECORD:
		return is_record(log, line);
	case WHEN_EXIT:
		return strstr(log->insn_text, "exit") != NULL;
	case WHEN_FUNCTION:
		return *log->function;
	case WHEN_RECURSION:
		return has_recursion(log, about);
	case WHEN_VALUE_ARGUMENT:
		return takes_value(log);
	case WHEN_STORE:
		return is_store(log);
	case WHEN_CONTEXT:
		return has_other_context(about);
	case WHEN_LOADER:
		return false;
	case WHEN_TRACES:
		return about && about->traces;
	default:
		return true;
	}
}

/* ---- finding the kind -------------------------------------------------------------------------- */

/* Compiling costs more than all else here, and most patterns begin with words that are not in the line. */
static bool pattern_may_match(const char *pattern, const char *line)
{
	size_t plain;

	if (*pattern != '^' || strchr(pattern, '|'))
		return true;
	pattern++;
	plain = strcspn(pattern, "([.*+?\\|{$");
	return !strncmp(pattern, line, plain);
}

static bool pattern_matches(const char *pattern, const char *line, struct match *m)
{
	regex_t re;
	bool found;

	if (!pattern_may_match(pattern, line) || regcomp(&re, pattern, REG_EXTENDED))
		return false;
	m->line = line;
	found = !regexec(&re, line, GROUPS, m->at, 0);
	regfree(&re);
	return found;
}

static const struct verifier_kind *kind_find(const struct verifier_log *log,
					     const struct verifier_program *about, struct match *m)
{
	for (size_t k = 0; k < verifier_kind_count; k++) {
		const struct verifier_kind *kind = &verifier_kinds[k];

		for (unsigned int i = 0; i < log->n_messages; i++)
			if (holds(kind->when, log, log->messages[i], about) &&
			    pattern_matches(kind->pattern, log->messages[i], m))
				return kind;
	}
	return NULL;
}

/* ---- its texts --------------------------------------------------------------------------------- */

static size_t group_length(const struct match *m, int group)
{
	return m->at[group].rm_so < 0 ? 0 : (size_t)(m->at[group].rm_eo - m->at[group].rm_so);
}

static void text_fill(char *out, const char *text, const struct match *m,
		      const struct verifier_program *about)
{
	size_t n = 0;

	while (*text && n < EXPLAIN_TEXT_MAX - 1) {
		const char *from = text;
		size_t len = 1;

		if (*text == '$' && text[1] >= '1' && text[1] <= '9') {
			len = group_length(m, text[1] - '0');
			from = len ? m->line + m->at[text[1] - '0'].rm_so : text;
			text++;
		} else if (*text == '$' && (text[1] == 'C' || text[1] == 'W')) {
			from = text[1] == 'C' ? about->context : about->context_wanted;
			len = strlen(from);
			text++;
		}
		text++;
		if (len > EXPLAIN_TEXT_MAX - 1 - n)
			len = EXPLAIN_TEXT_MAX - 1 - n;
		memcpy(out + n, from, len);
		n += len;
	}
	out[n] = '\0';
}

static void kind_fill(const struct verifier_kind *kind, const struct match *m,
		      const struct verifier_program *about, struct verifier_explanation *out)
{
	out->kind = kind->name;
	text_fill(out->title, kind->title, m, about);
	text_fill(out->cause, kind->cause, m, about);
	text_fill(out->remedy, kind->remedy, m, about);
}

/* ---- registers --------------------------------------------------------------------------------- */

/* "scalar", by what the refusal says that the register is now; "": it does not say. */
static void type_said(const char *line, char out[32])
{
	const char *from = strstr(line, "invalid mem access '");
	size_t len;

	*out = '\0';
	if (!from)
		return;
	from += strlen("invalid mem access '");
	len = strcspn(from, "'");
	if (len < 32)
		snprintf(out, 32, "%.*s", (int)len, from);
}

static void register_add(const struct verifier_log *log, unsigned int reg, const char *line,
			 struct verifier_explanation *out)
{
	char said[32], words[EXPLAIN_TEXT_MAX / 2];
	char prefix[8];

	if (out->n_registers == EXPLAIN_REGISTERS)
		return;
	snprintf(prefix, sizeof(prefix), "r%u is ", reg);
	for (unsigned int i = 0; i < out->n_registers; i++)
		if (!strncmp(out->registers[i], prefix, strlen(prefix) - 3))
			return;
	if (!verifier_register_words(log, reg, words, sizeof(words)))
		return;
	type_said(line, said);
	/* What a call ended is not written anew: the note is of before. */
	if (!strcmp(said, "scalar") &&
	    strncmp(verifier_log_register(log, reg), "scalar", strlen("scalar")) &&
	    !strchr("-0123456789", *verifier_log_register(log, reg)))
		snprintf(out->registers[out->n_registers++], EXPLAIN_TEXT_MAX,
			 "r%u was %s, and is only a number now", reg, words + strlen(prefix));
	else
		snprintf(out->registers[out->n_registers++], EXPLAIN_TEXT_MAX, "%s", words);
}

/* The registers of an instruction, "(0f) r6 += r0", in their order. */
static void registers_of_insn(const struct verifier_log *log, struct verifier_explanation *out)
{
	const char *text = log->insn_text;

	for (const char *p = strpbrk(text, "rw"); p; p = strpbrk(p + 1, "rw")) {
		unsigned int reg;

		if (p > text && !strchr(" (", p[-1]))
			continue;
		if (p[1] >= '0' && p[1] <= '9' && sscanf(p + 1, "%2u", &reg) == 1 &&
		    reg < VERIFIER_REGISTERS)
			register_add(log, reg, "", out);
	}
}

static void registers_fill(const struct verifier_log *log, struct verifier_explanation *out)
{
	bool named = false;

	for (unsigned int i = 0; i < log->n_messages; i++) {
		unsigned int reg = register_named(log->messages[i]);

		if (reg == VERIFIER_REGISTERS)
			continue;
		named = true;
		register_add(log, reg, log->messages[i], out);
	}
	if (!named)
		registers_of_insn(log, out);
}

/* ---- the whole --------------------------------------------------------------------------------- */

void verifier_explain(const struct verifier_log *log, const struct verifier_program *about,
		      struct verifier_explanation *out)
{
	const struct verifier_kind *kind;
	struct match m;

	memset(out, 0, sizeof(*out));
	registers_fill(log, out);
	kind = kind_find(log, about, &m);
	if (kind) {
		kind_fill(kind, &m, about, out);
		return;
	}
	out->kind = "unknown";
	snprintf(out->title, sizeof(out->title), "is refused: %s",
		 log->n_messages ? log->messages[0] : "the verifier does not say why");
	snprintf(out->cause, sizeof(out->cause),
		 "this refusal is not in the catalogue; the verifier's own last words are below");
}

bool verifier_explain_loader(const char *line, struct verifier_explanation *out)
{
	struct match m;

	for (size_t k = 0; k < verifier_kind_count; k++) {
		const struct verifier_kind *kind = &verifier_kinds[k];

		if (kind->when != WHEN_LOADER || !pattern_matches(kind->pattern, line, &m))
			continue;
		memset(out, 0, sizeof(*out));
		kind_fill(kind, &m, NULL, out);
		return true;
	}
	return false;
}
