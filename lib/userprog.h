/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Programs of the user's own, from an object file to a pinned link: an object is checked, one of
 * its programs loaded, pinned with its maps, and attached to a hook. Knows neither records nor
 * the agent. Each function may run on any thread, two on the same struct userprog at a time may
 * not. What a person must hear of is left in err, one sentence; results are 0 or -errno.
 */
#ifndef TOWPATH_USERPROG_H
#define TOWPATH_USERPROG_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define USERPROG_OBJECT_MAX (4u << 20) /* bytes of an object file */
#define USERPROG_NAME_MAX 64	       /* of an attachment, with its end */
#define USERPROG_CHAIN_MAX 64u	       /* programs at one hook; the kernel's own limit */

/* ---- hooks (userprog_hook.c) -------------------------------------------------------------------- */

enum userprog_where { USERPROG_DEVICE, USERPROG_CGROUP };

/* A kind of hook, as people name it. */
struct userprog_point {
	const char *name;    /* "xdp", "ingress", "connect4" */
	const char *section; /* what SEC() says of a program for it */
	enum userprog_where where;
	enum bpf_attach_type attach; /* of tc: BPF_TCX_*, also where clsact has to do */
	enum bpf_prog_type prog;
};

/* NULL: there is no such hook. "sock_ops" and "sockops" are the same. */
const struct userprog_point *userprog_point_find(enum userprog_where where, const char *name);
/* All of them in turn: the one behind `after`, NULL for the first; NULL at the end. */
const struct userprog_point *userprog_point_next(const struct userprog_point *after);
bool userprog_point_is_tc(const struct userprog_point *point);
/* Whether this kernel has tcx (6.6); where it has not, clsact does. */
bool userprog_has_tcx(void);

/* A hook: the point, and of what. */
struct userprog_hook {
	const struct userprog_point *point;
	uint32_t ifindex; /* of a device, in the network namespace of the caller */
	int cgroup_fd;	  /* of a cgroup; else -1 */
	bool effective;	  /* userprog_chain() of a cgroup: with those of the cgroups above */
	bool clsact; /* tc: filters, because this kernel has no tcx, or is told not to use it */
};

/* One program at a hook. */
struct userprog_entry {
	uint32_t prog_id;
	uint32_t link_id;  /* 0: attached without a link, or the kernel does not say */
	uint32_t priority; /* of a clsact filter; else 0 */
	uint32_t handle;   /* likewise */
	bool skb_mode;	   /* XDP in the generic mode */
};

/*
 * What is at the hook, in the order in which it runs; *n is the room, then the number. -E2BIG: there
 * are more. 0 and none where the device has no hook of this kind.
 */
int userprog_chain(const struct userprog_hook *hook, struct userprog_entry *out, size_t *n);

#define USERPROG_GUARDS UINT32_MAX /* in the place of a program's id */

/* Where in a chain. All zero: at the end. */
struct userprog_order {
	enum { USERPROG_LAST, USERPROG_BEFORE, USERPROG_AFTER } place;
	uint32_t prog_id;	/* BEFORE, AFTER: that program, or a guard; 0: all of them */
	const uint32_t *guards; /* programs that must not be passed by, unless */
	size_t n_guards;
	bool bypass; /* ... it is meant */
};

/* A program in force: at a link, or as a filter. */
struct userprog_link {
	int fd;		   /* of the link; -1: a clsact filter, or none */
	uint32_t priority; /* of a filter; 0: none */
	uint32_t slot;	   /* behind or before the edge: the device's number; 0: elsewhere */
	bool front;	   /* before it */
	bool skb_mode;
};

/*
 * Attaches. -EEXIST: another program is in the way, which err names; -EPERM: it would run before a
 * guard. out->fd is the caller's.
 */
int userprog_attach(const struct userprog_hook *hook, int prog_fd,
		    const struct userprog_order *order, struct userprog_link *out, char *err,
		    size_t err_len);
/* Another program in the same place, atomically: each packet meets the old one or the new one. */
int userprog_switch(const struct userprog_hook *hook, const struct userprog_link *link, int prog_fd,
		    char *err, size_t err_len);
/* Takes a filter off. A link goes with its last descriptor and pin. */
void userprog_filter_remove(const struct userprog_hook *hook, const struct userprog_link *link);
/* Filters of users' programs on the devices of this network namespace, but of those programs. */
int userprog_filters_remove(const uint32_t *keep, size_t n);
/* The priority of a user's filter of that program, 0: there is none. */
uint32_t userprog_filter_find(const struct userprog_hook *hook, uint32_t prog_id);
/* Whether the link is at the hook: its device or cgroup may have gone, and come back. */
bool userprog_attached(const struct userprog_hook *hook, const struct userprog_link *link);

/* Of a device, that may be in another network namespace: whether it is still there. */
bool userprog_link_alive(int link_fd);

/* The program's id; 0: no such descriptor. */
uint32_t userprog_id(int prog_fd);
/* The program that a link runs; 0: none. */
uint32_t userprog_link_program(int link_fd);

/* ---- behind the edge (userprog_edge.c) ---------------------------------------------------------- */

/* Whether the edge, pinned below pin_dir, is at the device of this network namespace. */
bool userprog_edge_has(const char *pin_dir, uint32_t ifindex);
/* The program behind it there; 0: none. */
uint32_t userprog_edge_get(const char *pin_dir, uint32_t ifindex);
/* Puts one there, in the place of one that is there: each frame meets the old one or the new one. */
int userprog_edge_set(const char *pin_dir, uint32_t ifindex, int prog_fd, char *err,
		      size_t err_len);
void userprog_edge_clear(const char *pin_dir, uint32_t ifindex);
/* Takes away all that are none of these. */
void userprog_edge_keep(const char *pin_dir, const uint32_t *keep, size_t n);

/* ---- who keeps them (userprog_owner.c) ----------------------------------------------------------- */

/* The link by which the program is at an XDP or cgroup hook; 0: none. */
uint32_t userprog_link_find(const struct userprog_hook *hook, uint32_t prog_id);
/* The program's name, in full where it has types: the kernel keeps 15 letters. Never fails. */
void userprog_name(uint32_t prog_id, char *buf, size_t len);
/* Calls fn for each pin of a program or a link, in every bpffs that is mounted here. */
void userprog_pins_each(void (*fn)(void *arg, bool link, uint32_t id, const char *path), void *arg);
/* Calls fn for each program or link that a process, but for this one, has open. */
void userprog_holders_each(void (*fn)(void *arg, bool link, uint32_t id, int pid, const char *name),
			   void *arg);

/* ---- objects (userprog_object.c) ----------------------------------------------------------------- */

struct userprog_file {
	const char *name; /* as people know it */
	const void *bytes;
	size_t len;
};

struct userprog;

/*
 * Reads an object and finds the program: `program`, or with NULL the only one for that hook. On
 * failure nothing is there. The bytes may go after the call.
 */
int userprog_open(struct userprog **out, const struct userprog_file *file, const char *program,
		  const struct userprog_point *point, char *err, size_t err_len);
void userprog_close(struct userprog *p);
const char *userprog_program(const struct userprog *p);
int userprog_fd(const struct userprog *p);
/* A map of the object by its name, or by that of its section; -1: there is none. Borrowed. */
int userprog_map_fd(const struct userprog *p, const char *name);

/*
 * Has the kernel verify it. Maps that are pinned in `maps` (NULL: none) under the same name are used
 * again if they have the same layout; -EEXIST: one has another, which err tells. With new_maps
 * nothing is used again. Program arrays and constants belong to the program, and are always new.
 */
int userprog_load(struct userprog *p, const char *maps, bool new_maps, char *err, size_t err_len);
/*
 * Pins the program as DIR/prog_<generation> and the maps below DIR/maps, making the folders. On
 * failure nothing is left; -EEXIST, without a sentence: there is such a folder.
 */
int userprog_pin(const struct userprog *p, const char *dir, uint64_t generation, char *err,
		 size_t err_len);
/* Puts pins of what is open back that somebody has deleted; maps under the kernel's names. */
void userprog_repin(const char *dir, uint64_t generation, int prog_fd, int link_fd);
/* Pins what is pinned below one folder below the other; the old pins go. */
void userprog_pins_move(const char *from, const char *to);
/* Takes all programs off that are pinned below a folder of such folders, and all filters. */
void userprog_uninstall(const char *root);
/* Takes all pins below a folder away, a link first, and the folder. */
void userprog_unpin(const char *dir);
void userprog_pin_path(const char *dir, uint64_t generation, char *buf, size_t len);

#endif
