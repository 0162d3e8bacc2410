/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The verifier's notes on a register, in words. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "verifier_log.h"

#define OR_NULL "_or_null"
#define BYTES(n) ((n) == 1 ? "byte" : "bytes")

struct text {
	char *p;
	size_t len, cap;
};

static void text_add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void text_add(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->p + t->len, t->cap - t->len, fmt, ap);
	va_end(ap);
	if (n > 0)
		t->len += (size_t)n < t->cap - t->len ? (size_t)n : t->cap - t->len - 1;
}

/*
 * The value of an attribute in the parentheses of a state; NULL: it is not there. Attributes of one value
 * are written together: "smin=smin32=0,smax=umax=255".
 */
static const char *attribute(const char *state, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = state; (p = strstr(p, name)); p += len) {
		if (p == state || !strchr("(,=", p[-1]) || p[len] != '=')
			continue;
		p += len + 1;
		while (strcspn(p, "=") < strcspn(p, ",()"))
			p += strcspn(p, "=") + 1;
		return p;
	}
	return NULL;
}

bool verifier_state_number(const char *state, const char *name, int64_t *out)
{
	const char *p = attribute(state, name);
	char *end;
	int64_t n;

	if (!p)
		return false;
	n = *p == '-' ? strtoll(p, &end, 0) : (int64_t)strtoull(p, &end, 0);
	if (end == p)
		return false;
	*out = n;
	return true;
}

/* The bounds, by the names of 6.x and, with _value, of 5.x. */
static bool bound(const char *state, const char *name, int64_t *out)
{
	char old[32];

	snprintf(old, sizeof(old), "%s_value", name);
	return verifier_state_number(state, name, out) || verifier_state_number(state, old, out);
}

/* "from 0 to 255"; nothing is known: "of any size". */
static void range_add(struct text *t, const char *state)
{
	int64_t umin, umax, smin, smax;
	bool low = bound(state, "umin", &umin), high = bound(state, "umax", &umax);
	bool slow = bound(state, "smin", &smin), shigh = bound(state, "smax", &smax);

	/* A lower signed bound from zero on makes the signed bounds those of the number. */
	if (!low && slow && smin >= 0) {
		umin = smin;
		low = true;
	}
	if (high && (!slow || smin >= 0))
		text_add(t, "from %" PRIu64 " to %" PRIu64, low ? (uint64_t)umin : 0,
			 (uint64_t)umax);
	else if (slow && shigh)
		text_add(t, "from %" PRId64 " to %" PRId64, smin, smax);
	else if (shigh)
		text_add(t, "of any size up to %" PRId64 ", also negative", smax);
	else if (slow && smin < 0)
		text_add(t, "of any size from %" PRId64 " on", smin);
	else if (low && umin)
		text_add(t, "of any size from %" PRIu64 " on", (uint64_t)umin);
	else
		text_add(t, "of any size");
}

static bool is_variable(const char *state)
{
	return attribute(state, "umax") || attribute(state, "smax") || attribute(state, "umin") ||
	       attribute(state, "smin") || attribute(state, "umax_value") ||
	       attribute(state, "var_off");
}

/* ", 14 bytes in", " plus a number from 0 to 255"; a state without `off` is at its start. */
static void offset_add(struct text *t, const char *state, const char *start)
{
	int64_t off = 0;
	bool has = verifier_state_number(state, "off", &off);

	if (!has)
		verifier_state_number(state, "imm", &off);
	if (off < 0)
		text_add(t, " %" PRIu64 " %s before its start", (uint64_t)-off, BYTES(-off));
	else if (off)
		text_add(t, " %" PRId64 " %s in", off, BYTES(off));
	else
		text_add(t, "%s", start);
	if (is_variable(state)) {
		text_add(t, " plus a number ");
		range_add(t, state);
	}
}

/* "map counts"; kernels before 6.3 do not say the name: "a map". */
static void map_add(struct text *t, const char *state)
{
	const char *name = attribute(state, "map");

	if (name)
		text_add(t, "map %.*s", (int)strcspn(name, ",)"), name);
	else
		text_add(t, "a map");
}

/* ---- one function for each kind of state ------------------------------------------------------ */

static void words_packet(struct text *t, const char *state)
{
	int64_t range = 0;

	text_add(t, "a packet pointer");
	offset_add(t, state, " at the packet's start");
	verifier_state_number(state, "r", &range);
	text_add(t, ", of which %" PRId64 " %s proven readable", range,
		 range == 1 ? "byte is" : "bytes are");
}

static void words_value(struct text *t, const char *state)
{
	int64_t size;

	text_add(t, "a pointer into a value of ");
	map_add(t, state);
	if (verifier_state_number(state, "vs", &size))
		text_add(t, " (%" PRId64 " %s),", size, BYTES(size));
	offset_add(t, state, " at its start");
}

static void words_value_or_null(struct text *t, const char *state)
{
	text_add(t, "what the look-up in ");
	map_add(t, state);
	text_add(t, " found: a pointer to a value, or NULL");
}

static void words_map(struct text *t, const char *state)
{
	map_add(t, state);
}

static void words_memory(struct text *t, const char *state)
{
	int64_t size;

	text_add(t, "a pointer into memory");
	if (verifier_state_number(state, "sz", &size) ||
	    verifier_state_number(state, "mem_size", &size))
		text_add(t, " of %" PRId64 " %s,", size, BYTES(size));
	offset_add(t, state, " at its start");
}

static void words_record(struct text *t, const char *state)
{
	int64_t size;

	text_add(t, "a record of a ring buffer");
	if (verifier_state_number(state, "sz", &size) ||
	    verifier_state_number(state, "mem_size", &size))
		text_add(t, " (%" PRId64 " %s)", size, BYTES(size));
}

static void words_number(struct text *t, const char *state)
{
	const char *inner = strchr(state, '(');
	int64_t value;

	/* 5.x writes known numbers as inv5, 6.x as 5 or 0x5. */
	if (strncmp(state, "inv", 3) == 0 && state[3] != '(' && state[3] != 'P') {
		text_add(t, "the number %s", state + 3);
		return;
	}
	if (inner && verifier_state_number(state, "imm", &value) && !is_variable(state)) {
		text_add(t, "the number %" PRId64, value);
		return;
	}
	text_add(t, "a number ");
	range_add(t, state);
}

/* fp0, fp-16, fp[1]-8, fp(off=-32,umax=...) */
static void words_stack(struct text *t, const char *state)
{
	const char *p = state + 2;
	int64_t off = 0;

	if (*p == '[')
		p += strcspn(p, "]") + (strchr(p, ']') != NULL);
	if (*p == '(')
		verifier_state_number(state, "off", &off);
	else
		off = strtoll(p, NULL, 10);
	if (off)
		text_add(t, "a pointer to the stack, %" PRIu64 " %s %s its top",
			 (uint64_t)(off < 0 ? -off : off), BYTES(off < 0 ? -off : off),
			 off < 0 ? "below" : "above");
	else
		text_add(t, "a pointer to the top of the stack");
	if (*p == '(' && is_variable(state)) {
		text_add(t, " plus a number ");
		range_add(t, state);
	}
}

static void words_socket(struct text *t, const char *state)
{
	text_add(t, "a pointer to a socket%s",
		 attribute(state, "ref_obj_id") ? " that must be released" : "");
}

static void words_context(struct text *t, const char *state)
{
	int64_t off = 0;

	text_add(t, "the context that the program is called with");
	verifier_state_number(state, "off", &off);
	if (is_variable(state) || off)
		text_add(t, ",");
	offset_add(t, state, "");
}

static void words_packet_end(struct text *t, const char *state)
{
	text_add(t, "the end of the packet, data_end");
}

static void words_metadata(struct text *t, const char *state)
{
	text_add(t, "a pointer to the packet's metadata");
	offset_add(t, state, " at its start");
}

/* The longest first, where one begins with the other. */
static const struct {
	const char *type;
	void (*words)(struct text *t, const char *state);
} types[] = {
	{ "map_value_or_null", words_value_or_null },
	{ "map_value", words_value },
	{ "map_ptr", words_map },
	{ "pkt_end", words_packet_end },
	{ "pkt_meta", words_metadata },
	{ "pkt", words_packet },
	{ "ctx", words_context },
	{ "scalar", words_number },
	{ "inv", words_number },
	{ "ringbuf_mem", words_record },
	{ "alloc_mem", words_record },
	{ "rdonly_mem", words_memory },
	{ "rdwr_mem", words_memory },
	{ "mem", words_memory },
	{ "buf", words_memory },
	{ "sock", words_socket },
	{ "tcp_sock", words_socket },
	{ "xdp_sock", words_socket },
};

/* ptr_sk_buff, trusted_ptr_sk_buff, rcu_ptr_...: of the kernel's own memory. */
static bool words_kernel(struct text *t, const char *state, size_t len)
{
	const char *ptr = strstr(state, "ptr_");
	size_t name;

	if (!ptr || (size_t)(ptr - state) >= len)
		return false;
	name = len - (size_t)(ptr + 4 - state);
	text_add(t, "a pointer to the kernel's struct %.*s%s", (int)name, ptr + 4,
		 !strncmp(state, "trusted_", 8)	     ? ""
		 : !strncmp(state, "untrusted_", 10) ? ", which may be stale"
						     : "");
	return true;
}

static void state_words(struct text *t, const char *state)
{
	size_t len = strcspn(state, "(");
	bool null = len > strlen(OR_NULL) &&
		    !strncmp(state + len - strlen(OR_NULL), OR_NULL, strlen(OR_NULL));
	size_t bare = null ? len - strlen(OR_NULL) : len;

	if (!strncmp(state, "fp", 2)) {
		words_stack(t, state);
		return;
	}
	if (strchr("-0123456789P", *state)) {
		text_add(t, "the number %s", state + (*state == 'P'));
		return;
	}
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		if (strncmp(state, types[i].type, strlen(types[i].type)))
			continue;
		types[i].words(t, state);
		if (null && strcmp(types[i].type, "map_value_or_null"))
			text_add(t, ", or NULL");
		return;
	}
	if (!words_kernel(t, state, bare))
		text_add(t, "of the type %.*s", (int)bare, state);
	if (null)
		text_add(t, ", or NULL");
}

bool verifier_register_words(const struct verifier_log *log, unsigned int reg, char *out,
			     size_t out_len)
{
	const char *state = verifier_log_register(log, reg);
	struct text t = { .p = out, .cap = out_len };

	if (!*state || !out_len)
		return false;
	*out = '\0';
	text_add(&t, "r%u is ", reg);
	state_words(&t, state);
	return true;
}
