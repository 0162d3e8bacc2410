/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Private to agent/programs*.c. programs.c: the list and what becomes of it; programs_record.c:
 * requests and records; programs_place.c: where; programs_work.c: what a worker thread does;
 * programs_hooks.c: who is at the hooks; programs_start.c: after a start.
 */
#ifndef PROGRAMS_INTERNAL_H
#define PROGRAMS_INTERNAL_H

#include <limits.h>

#include "programs.h"
#include "userprog.h"

#define PROGRAMS_MAX 64u
#define GUARDS_MAX 16u /* programs of Towpath's own */

/* What is kept of a program. Strings are owned; NULL: not given. */
struct program_record {
	char *name;
	char *program; /* in the object */
	char *file;    /* name of the object, as it was given */
	const struct userprog_point *point;
	/* Where: one of them. */
	char *device;
	char *ns, *pod;
	char *cgroup;
	char *relative; /* --before, --after: a name, "towpath" or a program's id */
	bool before;
	bool bypass;
	bool new_maps; /* of a request only */
	uint64_t generation;
	uint64_t number; /* in the order in which they were attached */
	int64_t since;	 /* seconds since the epoch */
	size_t size;	 /* of the object */
};

struct program {
	struct program_record r;
	int prog_fd; /* -1: not loaded */
	struct userprog_link link;
	uint32_t port; /* of an endpoint: which one it was */
	bool working;  /* a job is at it */
	bool ahead;    /* it runs before Towpath's own program */
	bool failed;
	uint64_t lost;	/* since when it is not there; ms of the loop, 0: it is */
	uint64_t again; /* when a failed one is tried again; ms of the loop */
	char why[512];	/* why it is not attached, "" when it is */
	struct program *prev, *next;
};

/* A hook that has been found, for a worker thread. */
struct program_place {
	struct userprog_hook hook; /* ifindex 0: to be found by `device` in the namespace */
	char device[IFNAMSIZ];
	int netns_fd; /* -1: the node's own */
	uint32_t port;
	const char *pins; /* run-dir/bpf; the list's */
	bool front;	  /* XDP: before the edge, not behind it */
	struct userprog_order order;
	uint32_t guards[GUARDS_MAX];
};

struct program_task;

struct programs {
	struct agent *a;
	struct program *list; /* in the order in which they were attached */
	size_t n;
	uint64_t number;	    /* of the last one attached */
	char pins[PATH_MAX];	    /* run-dir/bpf */
	char root[PATH_MAX];	    /* ... /programs */
	int root_fd;		    /* the folder, held open */
	struct program_task *queue; /* the worker has the first one */
	unsigned int n_queue;
	uv_work_t work;
	bool working, closing;
	int stats_fd; /* held while somebody asks for runs; -1 */
	uv_timer_t stats_timer;
	bool timer_closed;
};

/* ---- programs.c ---- */

struct program *program_new(void); /* NULL: no memory */
void program_free(struct program *prog);
struct program *programs_find(const struct programs *p, const char *name); /* NULL: none */
void programs_add(struct programs *p, struct program *prog);
/* Frees it, once it is closing and no worker is at it. */
void programs_release(struct programs *p);

/* ---- programs_place.c ---- */

/*
 * The hook that a record means. -ENOENT, -EINVAL with a sentence. strict: a program that it is to be
 * before or behind must be there; else it comes last without. out->order.guards is to be set to
 * out->guards when *out has its place in memory.
 */
int program_place_find(const struct programs *p, const struct program_record *r, bool strict,
		       struct program_place *out, char *err, size_t err_len);

bool program_clsact(const struct agent *a);
/* The endpoint's first interface, eth0 if there is one; NULL: no such container here. */
const struct endpoint *program_endpoint_find(const struct agent *a, const char *ns,
					     const char *pod);
/* The path of a cgroup, which may be relative to where cgroup v2 is mounted ("" is that). */
int program_cgroup_path(const char *name, char *buf, size_t len);
int program_cgroup_open(const char *name, int *out, char *err, size_t err_len);

/* ---- programs_record.c ---- */

void program_record_clear(struct program_record *r);
int program_record_copy(struct program_record *out, const struct program_record *r);
/* The body of a request; *object is malloc'ed. */
int program_request_parse(const json_t *body, struct program_record *out, void **object,
			  struct agent_error *err);
/* Of a replacement, which says nothing of the place. */
int program_replacement_parse(const json_t *body, struct program_record *out, void **object,
			      struct agent_error *err);
json_t *program_record_json(const struct program_record *r);
int program_record_parse(const char *text, struct program_record *out, char *err, size_t err_len);
bool program_name_valid(const char *name);
/* "eth1 ingress", "shop/web egress", "/sys/fs/cgroup/x connect4". */
const char *program_place_words(const struct program_record *r, char *buf, size_t len);

/* ---- programs_work.c ---- */

/* One thing to do. While a worker thread is at it, all of it is the worker's. */
struct program_work {
	struct program_record r;
	struct program_place place;
	char root[PATH_MAX]; /* run-dir/bpf/programs */
	void *object;
	int prog_fd; /* of what is loaded; -1 */
	int old_fd;  /* replace: of what is in force; renew: the link that was lost; borrowed */
	struct userprog_link link;
	struct program_query *query; /* of program_work_list(); owned */
	bool only_load;		     /* it has no place to be attached to */
	bool fresh;		     /* a new one, of which nothing may be left after a failure */
	int res;
	char err[1024];
};

/* Loads and pins what is not loaded, and attaches. */
void program_work_attach(struct program_work *w);
/* Takes back what program_work_attach() has done. */
void program_work_undo(struct program_work *w);
void program_work_detach(struct program_work *w);
/* Loads beside what is in force, and puts it in its place ... */
void program_work_replace(struct program_work *w);
/* ... and ends that: res says whether it was stored, else it is undone. */
void program_work_replaced(struct program_work *w);

/* Whether that generation is pinned; one that was recorded gets its place. -ENOENT. */
int program_pins_find(const char *dir, uint64_t generation);
/* Removes whatever else was begun. Nothing may run it any more. */
void program_pins_tidy(const char *dir, uint64_t generation);
void program_dir(const char *root, const struct program_record *r, char buf[PATH_MAX]);
/* Attaches a loaded program and pins its link. */
int program_link(const char *dir, const struct program_place *place, int prog_fd,
		 struct userprog_link *link, char *err, size_t err_len);
/* Takes off what has no pin any more, and closes it. */
void program_off(const struct program_place *place, struct userprog_link *link);
/* Whether the edge is at the device of an XDP hook, so that programs stand behind it. */
bool program_behind_edge(const struct program_place *place, uint32_t ifindex);
/* Runs fn in the place's network namespace. */
int program_place_run(const struct program_place *place, int (*fn)(void *arg), void *arg, char *err,
		      size_t err_len);
void program_place_close(struct program_place *place);

/* ---- programs_hooks.c ---- */

struct program_query;

/* What program_work_list() works on. -ENOENT, -ENODEV and others with a sentence. */
int program_query_new(const struct programs *p, const struct programs_asked *asked,
		      struct program_query **out, char *err, size_t err_len);
void program_query_free(struct program_query *q);
void program_work_list(struct program_work *w);
/* The caller's. */
json_t *program_query_items(struct program_query *q);

/* ---- programs_stats.c ---- */

json_t *program_maps_json(const char *dir);
void programs_stats_end(struct programs *p);

/* ---- programs_queue.c ---- */

/* Something to do, in a queue: the worker has the first one. */
struct program_task {
	struct programs *p;
	char *name;	      /* of the program that it is about; NULL: one that is not there yet */
	struct program *prog; /* that program, while the task is under way */
	struct program_record given; /* of a replacement */
	bool all;		     /* of a list: of the whole node */
	struct program_work work;
	void (*run)(struct program_work *w);  /* on the worker thread */
	void (*end)(struct program_task *t);  /* on the loop */
	int (*begin)(struct program_task *t); /* on the loop, before run */
	programs_fn done;		      /* NULL: nobody waits */
	void *arg;
	struct program_task *prev, *next;
};

/* name: of the program that it is about, or NULL. NULL: no memory. */
struct program_task *program_task_new(struct programs *p, const char *name);
void program_task_free(struct program_task *t);
void program_task_add(struct programs *p, struct program_task *t);
/* The same for a request; when too many wait, it is freed and refused. */
int program_task_queue(struct programs *p, struct program_task *t, struct agent_error *err);
/* Tells who waits: work.res and work.err, or json, which becomes the callee's. */
void program_task_answer(struct program_task *t, json_t *json);

#endif
