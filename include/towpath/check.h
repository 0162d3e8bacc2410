/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Whether this kernel takes the programs of an object file, and if not, why. Each program is loaded
 * alone through the kernel's verifier and let go again: nothing is attached or pinned, and nothing stays
 * in the kernel. Needs CAP_BPF, and CAP_NET_ADMIN and CAP_PERFMON for most programs, or root.
 *
 *	struct tw_check *check;
 *	char err[512];
 *
 *	if (tw_check_file(&check, "count.o", err, sizeof(err)))
 *		errx(1, "%s", err);
 *	for (size_t i = 0; i < tw_check_count(check); i++)
 *		...tw_check_program(check, i)->refusal...
 *	tw_check_free(check);
 *
 * A struct tw_check may be used by one thread at a time. What its functions return belongs to it.
 */
#ifndef TOWPATH_CHECK_H
#define TOWPATH_CHECK_H

#include <stddef.h>
#include <stdint.h>

struct tw_check;

/* Why something was refused. Strings are never NULL; "" where there is nothing to say. */
struct tw_check_refusal {
	const char *kind;	      /* of the catalogue ("null-check"), or "unknown" */
	const char *title;	      /* what the program does that is refused; follows its name */
	const char *cause;	      /* what that usually comes from */
	const char *remedy;	      /* what to do */
	const char *file;	      /* of the C source, as the compiler was given it */
	uint32_t line, column;	      /* from 1; 0: not known */
	const char *source;	      /* the text of that line */
	const char *const *registers; /* what the verifier knew, a sentence each */
	size_t n_registers;
	const char *said; /* the verifier's own words, or libbpf's; a line each */
	const char *log;  /* the end of what the verifier wrote on the way there */
};

/* Something that a program needs, and the first kernel that had it. */
struct tw_check_need {
	uint16_t major, minor; /* 0.0: not known */
	const char *what;      /* "helper bpf_loop", "program type xdp" */
};

struct tw_check_program {
	const char *name, *section;
	const char *type;			/* libbpf's name: "xdp", "sched_cls" */
	int result;				/* 0: the kernel takes it; else -errno */
	const struct tw_check_refusal *refusal; /* NULL when it does */
	size_t instructions;			/* with those of the functions that it calls */
	uint64_t processed,
		limit; /* instructions that the verifier walked, and may walk; 0: not said */
	uint32_t usec; /* the time it took for that */
	const uint32_t
		*stack; /* bytes of the program and of each function, as the verifier counts */
	size_t n_stack;
	const char *const *maps, *const *helpers, *const *kfuncs;
	size_t n_maps, n_helpers, n_kfuncs;
	const struct tw_check_need *needs; /* newest kernel first */
	size_t n_needs;
};

/*
 * Checks all programs of a file. 0, *out being the caller's, whether or not they are taken. Else one
 * sentence in err: -EINVAL what is no BPF object, -EPERM not allowed, -errno of opening the file.
 */
int tw_check_file(struct tw_check **out, const char *path, char *err, size_t err_len);
void tw_check_free(struct tw_check *check);

/* Why nothing of the file can be loaded (a map that the kernel does not take, ...); NULL: it can. */
const struct tw_check_refusal *tw_check_refused(const struct tw_check *check);
size_t tw_check_count(const struct tw_check *check);
/* NULL from tw_check_count() on. */
const struct tw_check_program *tw_check_program(const struct tw_check *check, size_t i);

#endif
