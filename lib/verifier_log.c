/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "verifier_log.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One line of the log, ended by NUL, and what reading has to remember. */
struct reader {
	struct verifier_log *log;
	uint32_t sources; /* source lines seen */
	bool ended;	  /* a line stood there that ends a run of messages */
};

static void text_copy(char *out, size_t out_len, const char *from, size_t len)
{
	if (len >= out_len)
		len = out_len - 1;
	memcpy(out, from, len);
	out[len] = '\0';
}

static bool starts(const char *line, const char *with)
{
	return !strncmp(line, with, strlen(with));
}

/* A decimal number that a line begins with; NULL: it does not. */
static const char *number_skip(const char *p, uint32_t *out)
{
	uint64_t n = 0;

	if (!isdigit((unsigned char)*p))
		return NULL;
	for (; isdigit((unsigned char)*p); p++)
		n = n > UINT32_MAX ? n : n * 10 + (uint64_t)(*p - '0');
	*out = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
	return p;
}

/* ---- registers ------------------------------------------------------------------------------- */

/* "frame2: ", which states of functions begin with. */
static const char *frame_skip(struct verifier_log *log, const char *p)
{
	uint32_t frame;
	const char *end;

	while (*p == ' ')
		p++;
	end = starts(p, "frame") ? number_skip(p + 5, &frame) : NULL;
	if (!end || *end != ':' || frame >= VERIFIER_FRAMES)
		return p;
	log->frame = frame;
	return end + 1;
}

/* The end of a state: a blank that is in no parentheses. */
static const char *state_end(const char *p)
{
	int depth = 0;

	for (; *p && (depth > 0 || *p != ' '); p++)
		depth += (*p == '(') - (*p == ')');
	return p;
}

/* "R1_w=pkt(off=14,r=0) R2=scalar() R10=fp0 fp-8=mmmm???? refs=2" */
static void registers_read(struct verifier_log *log, const char *p)
{
	p = frame_skip(log, p);
	while (*p) {
		const char *end, *at = p;
		uint32_t reg;

		while (*at == ' ')
			at++;
		end = *at == 'R' ? number_skip(at + 1, &reg) : NULL;
		if (end && *end == '_')
			end += 1 + strspn(end + 1, "rwDd");
		p = state_end(at);
		if (!end || *end != '=' || reg >= VERIFIER_REGISTERS || p <= end)
			continue;
		text_copy(log->registers[log->frame][reg], VERIFIER_TEXT_MAX, end + 1,
			  (size_t)(p - end - 1));
	}
}

/* Whether a text is a list of states: after "frame1:", "R0" or "fp-8". */
static bool is_state(const char *p)
{
	while (*p == ' ')
		p++;
	return (*p == 'R' && isdigit((unsigned char)p[1])) || starts(p, "fp-") ||
	       (starts(p, "frame") && isdigit((unsigned char)p[5]));
}

/* ---- lines of each kind ---------------------------------------------------------------------- */

/* "; int x = *p; @ file.c:12", and before 6.9 without the file. */
static void source_read(struct reader *r, const char *line)
{
	struct verifier_source *source = &r->log->source;
	const char *text = line + 1 + strspn(line + 1, " ");
	const char *at = NULL, *colon;
	size_t len = strlen(text);
	uint32_t number;

	*source = (struct verifier_source){ 0 };
	for (const char *p = text; (p = strstr(p, " @ ")); p++)
		at = p;
	colon = at ? strrchr(at, ':') : NULL;
	if (colon && number_skip(colon + 1, &number)) {
		text_copy(source->file, sizeof(source->file), at + 3, (size_t)(colon - at - 3));
		source->line = number;
		len = (size_t)(at - text);
	}
	text_copy(source->text, sizeof(source->text), text, len);
	r->sources++;
}

static void call_add(struct reader *r, const char *insn)
{
	struct verifier_log *log = r->log;
	const char *name = strstr(insn, "call ");
	struct verifier_call *call;

	if (!name)
		return;
	name += 5;
	if (log->n_calls == VERIFIER_CALLS) {
		memmove(log->calls, log->calls + 1, sizeof(log->calls) - sizeof(*log->calls));
		log->n_calls--;
	}
	call = &log->calls[log->n_calls++];
	*call = (struct verifier_call){ .insn = log->insn, .source = r->sources };
	if (starts(name, "pc"))
		call->back = name[2] == '-';
	else
		text_copy(call->name, sizeof(call->name), name, strcspn(name, "# "));
}

/*
 * "4: (71) r1 = *(u8 *)(r1 +0)    ; R1=scalar()", "18: frame5: R1=ctx() R10=fp0", "9: R1=mem(...)",
 * "16: (25) if r1 > 0x64 goto pc+3 20: R0=2 R1=...". False: it is none of these.
 */
static bool insn_read(struct reader *r, const char *line)
{
	struct verifier_log *log = r->log;
	const char *state, *p;
	uint32_t insn;

	p = number_skip(line, &insn);
	if (!p || *p != ':')
		return false;
	p += 1 + strspn(p + 1, " ");
	if (is_state(p)) {
		registers_read(log, p);
		return true;
	}
	if (*p != '(' && *p != '<')
		return false;
	log->insn = insn;
	log->has_insn = true;
	state = strstr(p, "; ");
	text_copy(log->insn_text, sizeof(log->insn_text), p,
		  state ? (size_t)(state - p) : strlen(p));
	for (size_t n = strlen(log->insn_text); n && log->insn_text[n - 1] == ' ';)
		log->insn_text[--n] = '\0';
	if (starts(p, "(85)"))
		call_add(r, log->insn_text);
	if (state) {
		registers_read(log, state + 2);
		return true;
	}
	/* A branch that was followed at once: the state behind the target's number. */
	state = strstr(p, "goto pc");
	state = state ? strstr(state, ": ") : NULL;
	if (state && is_state(state + 2))
		registers_read(log, state + 2);
	return true;
}

static void stack_read(struct verifier_log *log, const char *p)
{
	log->n_stack = 0;
	while (log->n_stack < VERIFIER_SUBPROGRAMS) {
		p = number_skip(p, &log->stack[log->n_stack]);
		if (!p)
			return;
		log->n_stack++;
		if (*p++ != '+')
			return;
	}
}

/* The last lines, in every log that has level 4. */
static bool statistics_read(struct verifier_log *log, const char *line)
{
	const char *states = strstr(line, "total_states ");
	uint32_t usec;

	if (starts(line, "stack depth ")) {
		stack_read(log, line + 12);
		return true;
	}
	if (starts(line, "verification time ")) {
		if (number_skip(line + 18, &usec))
			log->usec = usec;
		return true;
	}
	if (!starts(line, "processed ") || !strstr(line, " insns (limit "))
		return false;
	log->processed = strtoull(line + 10, NULL, 10);
	log->limit = strtoull(strstr(line, " insns (limit ") + 14, NULL, 10);
	if (states)
		number_skip(states + 13, &log->states);
	return true;
}

/* What the verifier says besides: where it goes, and how it came to know something. */
static bool is_remark(const char *line)
{
	static const char *const begins[] = {
		"mark_precise:",    "regs=",	 "last_idx ", "parent ",    "parent_didn",
		"propagating ",	    "func#",	 "Func#",     "caller:",    "callee:",
		"returning ",	    "to caller", "from ",     "cur state:", "old state:",
		"arg#0 reference",  "Live regs", "safe",      "hits ",	    "Validating ",
		"BPF program load", "processed",
	};

	for (size_t i = 0; i < sizeof(begins) / sizeof(*begins); i++)
		if (starts(line, begins[i]))
			return true;
	/* "func 'tcp_v4_rcv' arg0 has btf_id 873 type STRUCT 'sk_buff'" */
	return starts(line, "func '") && strstr(line, " has btf_id ");
}

static void remark_read(struct verifier_log *log, const char *line)
{
	const char *state = strstr(line, ": ");

	if (starts(line, "Validating ")) {
		/* A function of its own: nothing of what was known before holds in it. */
		memset(log->registers, 0, sizeof(log->registers));
		log->frame = 0;
		text_copy(log->function, sizeof(log->function), line + 11,
			  strcspn(line + 11, "( "));
	} else if (starts(line, "from ") && state && is_state(state + 2)) {
		registers_read(log, state + 2);
	}
}

static void message_add(struct reader *r, const char *line)
{
	struct verifier_log *log = r->log;

	if (r->ended)
		log->n_messages = 0;
	r->ended = false;
	if (log->n_messages == VERIFIER_MESSAGES) {
		/* The first says what it is about, the last what came of it. */
		memmove(log->messages + 1, log->messages + 2,
			(VERIFIER_MESSAGES - 2) * sizeof(*log->messages));
		log->n_messages--;
	}
	text_copy(log->messages[log->n_messages++], VERIFIER_TEXT_MAX, line, strlen(line));
}

static void line_read(struct reader *r, const char *line)
{
	if (!*line)
		return;
	if (statistics_read(r->log, line))
		return;
	if (*line == ';') {
		source_read(r, line);
		r->ended = true;
	} else if (insn_read(r, line)) {
		r->ended = true;
		/* libbpf's own words for what it could not relocate. */
		if (strstr(line, ": <"))
			message_add(r, strchr(line, '<'));
	} else if (*line == ' ' && is_state(line)) {
		registers_read(r->log, line);
	} else if (is_remark(line)) {
		remark_read(r->log, line);
	} else if (isprint((unsigned char)*line)) {
		message_add(r, line);
	}
}

void verifier_log_read(const char *text, size_t len, struct verifier_log *out)
{
	struct reader r = { .log = out };
	char line[2048];

	memset(out, 0, sizeof(*out));
	while (len) {
		const char *end = memchr(text, '\n', len);
		size_t n = end ? (size_t)(end - text) : len;

		text_copy(line, sizeof(line), text, n);
		line_read(&r, line);
		text += n + (end != NULL);
		len -= n + (end != NULL);
	}
	/* A log that ends with instructions was cut off: there is no refusal in it. */
	if (r.ended)
		out->n_messages = 0;
}

const char *verifier_log_register(const struct verifier_log *log, unsigned int reg)
{
	return reg < VERIFIER_REGISTERS ? log->registers[log->frame][reg] : "";
}
