/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A program of an object file, from the file to the path of packets. It is attached for as long as the
 * struct tw_program is open: `towpath program attach` is for what stays. Needs CAP_BPF and CAP_NET_ADMIN, or
 * root; no agent is asked, and the programs of Towpath's data path are not passed by: at tc a program runs
 * behind those that are there.
 *
 *	static const struct tw_place place = { TW_DEVICE, "eth0", "ingress" };
 *	struct tw_program *program;
 *	struct tw_map *map;
 *
 *	if (tw_program_open(&program, "count.o", NULL, &place, err, sizeof(err)) ||
 *	    tw_program_attach(program, err, sizeof(err)) ||
 *	    tw_program_map(program, "counts", &map, err, sizeof(err)))
 *		errx(1, "%s", err);
 *
 * Functions that can fail return 0 or -errno, leave out-parameters as they were, and put one sentence into
 * `err` (may be NULL). A struct tw_program may be used by one thread at a time.
 */
#ifndef TOWPATH_PROGRAM_H
#define TOWPATH_PROGRAM_H

#include <stddef.h>
#include <towpath/map.h>

#ifdef __cplusplus
extern "C" {
#endif

enum tw_place_kind { TW_DEVICE, TW_CGROUP };

struct tw_place {
	enum tw_place_kind kind;
	const char *
		name; /* of a device in the caller's network namespace; path of a cgroup (version 2) */
	const char
		*hook; /* devices: xdp, ingress, egress; cgroups: connect4, egress, sockops, ... */
};

struct tw_program;

/*
 * Reads an object file, chooses the program (NULL: the only one that fits the place), and has the
 * kernel's verifier pass it. *out is the caller's, for tw_program_close(). -ENOENT: no such file,
 * program, device or cgroup; -EINVAL: no BPF object, no such hook, or several programs fit; -EACCES: the
 * verifier refuses it (<towpath/check.h> explains why).
 */
int tw_program_open(struct tw_program **out, const char *path, const char *program,
		    const struct tw_place *place, char *err, size_t err_len);
/* Detaches. The maps go with it, unless they are pinned or open elsewhere. NULL is fine. */
void tw_program_close(struct tw_program *program);

/* -EEXIST: another program is in the way (XDP has one place a device), which err names. */
int tw_program_attach(struct tw_program *program, char *err, size_t err_len);
void tw_program_detach(struct tw_program *program); /* not attached is fine */

const char *tw_program_name(const struct tw_program *program);
int tw_program_fd(const struct tw_program *program); /* the program's own; not to be closed */

/*
 * A map of the object, by its name in the source; ".data", ".bss", ".rodata" are the variables. *out is
 * the caller's, for tw_map_close(), and may outlive the program. -ENOENT.
 */
int tw_program_map(const struct tw_program *program, const char *name, struct tw_map **out,
		   char *err, size_t err_len);

#ifdef __cplusplus
}
#endif

#endif
