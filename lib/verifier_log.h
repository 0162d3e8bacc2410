/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the kernel's verifier wrote about a program, taken apart: where it was, what it knew of the
 * registers, and the words in which it refused. The text may be anything: it is cut off where the
 * buffer ended, its wording changes from kernel to kernel, and names in it are the program's author's.
 * What is not understood is skipped; nothing is ever outside of the fixed sizes below.
 */
#ifndef TOWPATH_VERIFIER_LOG_H
#define TOWPATH_VERIFIER_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VERIFIER_TEXT_MAX 512 /* of a line; longer ones are cut */
#define VERIFIER_MESSAGES 8   /* lines of a refusal that are kept, the last ones */
#define VERIFIER_REGISTERS 11 /* r0 to r10 */
#define VERIFIER_FRAMES 8     /* functions that call each other */
#define VERIFIER_CALLS 32     /* the last calls of the path that led there */
#define VERIFIER_SUBPROGRAMS 64

/* A line of the source that the verifier was at. */
struct verifier_source {
	char text[VERIFIER_TEXT_MAX]; /* "" when there was none */
	char file[256];		      /* "": kernels before 6.9 do not say it */
	uint32_t line;		      /* 0: likewise */
};

struct verifier_call {
	uint32_t insn;
	char name
		[64]; /* of a helper or kfunc: "bpf_map_lookup_elem"; "": a function of the program */
	bool back;    /* to a function of the program that stands before */
	uint32_t
		source; /* how many source lines had been seen: tells calls of one line from others */
};

struct verifier_log {
	/* Where it ended. */
	struct verifier_source source;
	bool has_insn;
	uint32_t insn;			   /* index in the whole program */
	char insn_text[VERIFIER_TEXT_MAX]; /* "(71) r1 = *(u8 *)(r1 +22)" */
	/* What it knew there, as it writes it: "pkt(off=14,r=0)"; "" where nothing was said. */
	unsigned int frame;
	char registers[VERIFIER_FRAMES][VERIFIER_REGISTERS][VERIFIER_TEXT_MAX];
	/* The refusal, first line first; the last VERIFIER_MESSAGES lines. */
	char messages[VERIFIER_MESSAGES][VERIFIER_TEXT_MAX];
	unsigned int n_messages;
	/* The last calls of the path, oldest first. */
	struct verifier_call calls[VERIFIER_CALLS];
	unsigned int n_calls;
	/* The name of a function that is verified alone; "": the program's own. */
	char function[64];
	/* The statistics; 0 where they were not said. */
	uint64_t processed, limit;
	uint32_t usec, states;
	uint32_t stack[VERIFIER_SUBPROGRAMS]; /* bytes, of the program and each of its functions */
	unsigned int n_stack;
};

/* Reads a log of len bytes; *out is written whole. Never fails. */
void verifier_log_read(const char *text, size_t len, struct verifier_log *out);

/* What the verifier knew of a register (0 to 10) where it ended; "": nothing. */
const char *verifier_log_register(const struct verifier_log *log, unsigned int reg);

/*
 * The same in words: "r1 is a packet pointer 14 bytes in, of which 0 bytes are proven readable". False,
 * and nothing is written, when the log does not say.
 */
bool verifier_register_words(const struct verifier_log *log, unsigned int reg, char *out,
			     size_t out_len);

/* An attribute of a register's state as a number: "off" of "pkt(off=14,r=0)". */
bool verifier_state_number(const char *state, const char *name, int64_t *out);

#endif
