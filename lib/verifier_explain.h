/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The catalogue of refusals: for each kind how the verifier (or libbpf, before it) words it, what it
 * means, what most likely caused it, and what to do. verifier_catalogue.c is the table, as data;
 * examples/verifier has a program for each kind that is refused, and the mended one.
 */
#ifndef TOWPATH_VERIFIER_EXPLAIN_H
#define TOWPATH_VERIFIER_EXPLAIN_H

#include <stdbool.h>
#include <stddef.h>

#include "verifier_log.h"

/* What must hold besides the words, as the same words are used for different mistakes. */
enum verifier_when {
	WHEN_ALWAYS,
	WHEN_LOADER,	     /* libbpf refused, before the kernel saw the program */
	WHEN_VARIABLE,	     /* the register is a packet pointer plus a number without limit */
	WHEN_PACKET_MOVED,   /* the register was a packet pointer, and a call has ended it */
	WHEN_RELEASED,	     /* a call on the way released a reference or a record */
	WHEN_RECORD,	     /* the reference is a record of a ring buffer */
	WHEN_EXIT,	     /* at the end of the program */
	WHEN_FUNCTION,	     /* in a function that is verified alone */
	WHEN_RECURSION,	     /* a function calls one that stands before it, or itself */
	WHEN_VALUE_ARGUMENT, /* in a call of a helper that takes a map's key or value */
	WHEN_STORE,	     /* the instruction writes */
	WHEN_CONTEXT,	     /* the program takes another context than its type has */
	WHEN_TRACES,	     /* the program's type is of those that trace the kernel */
};

/* What the log does not say of the program; all may be NULL or false. */
struct verifier_program {
	const char *context;	    /* the struct that its C function takes */
	const char *context_wanted; /* the one that programs of its type get */
	bool traces;		    /* kprobe, tracepoint, raw tracepoint and the like */
	bool calls_back;	    /* the edge that goes back is a call */
};

/*
 * Patterns are POSIX extended regular expressions; $1 to $9 of the texts are their groups,
 * $C and $W the contexts of struct verifier_program.
 */
struct verifier_kind {
	const char *name;    /* also of the folder in examples/verifier */
	const char *pattern; /* of one line of the refusal */
	enum verifier_when when;
	const char *title; /* what the program does that is refused */
	const char *cause;
	const char *remedy;
};

extern const struct verifier_kind verifier_kinds[];
extern const size_t verifier_kind_count;

#define EXPLAIN_TEXT_MAX 768
#define EXPLAIN_REGISTERS 3

struct verifier_explanation {
	const char *kind; /* "unknown" when no pattern fits */
	char title[EXPLAIN_TEXT_MAX];
	char cause[EXPLAIN_TEXT_MAX];
	char remedy[EXPLAIN_TEXT_MAX];
	/* What the verifier knew of the registers that it is about, a sentence each. */
	char registers[EXPLAIN_REGISTERS][EXPLAIN_TEXT_MAX];
	unsigned int n_registers;
};

/* Of a refusal; about may be NULL. Never fails. */
void verifier_explain(const struct verifier_log *log, const struct verifier_program *about,
		      struct verifier_explanation *out);
/* Of a line of libbpf's, which refused before the kernel saw the program. False: it says nothing. */
bool verifier_explain_loader(const char *line, struct verifier_explanation *out);

#endif
