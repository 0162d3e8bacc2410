/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Private to lib/check*.c. */
#ifndef TOWPATH_CHECK_INTERNAL_H
#define TOWPATH_CHECK_INTERNAL_H

#include <bpf/libbpf.h>
#include <stdbool.h>
#include <towpath/check.h>

#include "source_lines.h"
#include "userprog.h"
#include "verifier_explain.h"

#define CHECK_SAID_MAX 4096u /* of libbpf's warnings in one call */

struct tw_check {
	struct userprog_file file;
	char name[32]; /* of the object: what stands before .rodata and the like */
	void *bytes;
	struct source_lines lines;
	struct bpf_object *maps; /* the object with its maps made and no program loaded */
	struct tw_check_refusal *refused;
	struct tw_check_program *programs;
	size_t n;
	void **kept; /* allocations that go with it */
	size_t n_kept, cap_kept;
};

/* A copy that goes with the check; NULL: out of memory, or s is NULL. */
char *check_keep(struct tw_check *c, const char *s);
/* n elements of that size, zeroed, likewise. */
void *check_alloc(struct tw_check *c, size_t n, size_t size);
/* A name joins a list unless it is there; silently not when memory is out. */
void check_list_add(struct tw_check *c, const char *const **list, size_t *n, const char *name);

/* ---- check_needs.c ---- */

/*
 * Instructions, helpers, kfuncs, maps and needs of a program whose object was relocated. fds: of the
 * object's maps, in its order.
 */
void check_needs(struct tw_check *c, struct tw_check_program *out, struct bpf_object *obj,
		 struct bpf_program *prog, const int *fds);

/* ---- check_refusal.c ---- */

/* What the verifier refused; text is all that it wrote. NULL: out of memory. */
struct tw_check_refusal *check_refusal(struct tw_check *c, struct bpf_object *obj,
				       struct bpf_program *prog, const char *text);
/* What libbpf refused, or the kernel without a word: of the program, or of the object with NULL. */
struct tw_check_refusal *check_refusal_loader(struct tw_check *c, struct bpf_program *prog,
					      const char *said, int error);

#endif
