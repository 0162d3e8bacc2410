/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What this kernel offers, found by trying: programs of two instructions are loaded, links made in
 * a network namespace of a child, maps created. Each function gives an array of objects with "name",
 * "here" (yes, no, unknown), "since" (the first kernel that has it, by the list in kernel_since.h;
 * absent when that does not know), and more.
 */
#ifndef CLI_FEATURE_LIST_H
#define CLI_FEATURE_LIST_H

#include "cli.h"

#include <bpf/btf.h>

#include "used.h"

struct features {
	struct btf *btf; /* of the kernel; NULL: none */
	struct used used;
};

/* result of a libbpf probe: 1, 0 or -errno */
const char *feature_here(int result);
/* {name, here, since} */
json_t *feature_json(const char *name, int result, unsigned int since);
/* "6.6"; "" for 0 */
const char *feature_since(char buf[16], unsigned int since);

/* ---- features_towpath.c ---- */

/* ... required, use, without: what is done where it is not there. */
json_t *features_towpath(const struct features *f);
/* Whether a program can be at the tracepoint that tells of drops; as a libbpf probe. */
int feature_tracing(const struct btf *btf);

/* ---- features_kernel.c ---- */

/* Whether a program of that type may call the helper; as a libbpf probe. */
int feature_helper(unsigned int type, unsigned int helper);
json_t *features_programs(const struct features *f); /* ... used */
json_t *features_maps(const struct features *f);     /* ... used */
/* Of the types of networking programs: ... types: in which programs, used. Takes a second. */
json_t *features_helpers(const struct features *f);
json_t *features_kfuncs(const struct features *f);

/* ---- features_attach.c ---- */

json_t *features_attach(const struct features *f); /* ... use */
/* Whether a link of that kind can be made; as a libbpf probe. */
int feature_link(unsigned int attach_type);

/* ---- features_devices.c ---- */

/* {name, driver, xdp: [features], program: id, mode} of this network namespace. */
json_t *features_devices(void);

#endif
