/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The user's own programs (docs/design/programs.md). The store says which there are, with the
 * object each is loaded from; what is pinned below run-dir/bpf/programs/NAME is in force, also
 * without the agent. What the kernel has and the store has not is taken back at the start, and
 * what was taken off, or lost its device, container or cgroup, is attached again once it is
 * there. Everything that may take long is done on a worker thread, one thing at a time.
 */
#ifndef PROGRAMS_H
#define PROGRAMS_H

#include "agent.h"

struct programs;

/* Reads the records and takes over what runs. The data path is in force already. */
int programs_new(struct programs **out, struct agent *a, char *err, size_t err_len);
/* Before the loop's last run. */
void programs_free(struct programs *p);

/* Called once, later, on the loop. json becomes the callee's; NULL on failure. */
typedef void (*programs_fn)(void *arg, json_t *json, int res, const struct agent_error *err);

/*
 * Calls of the API. 0: done() follows; else nothing has happened, and err says why.
 */
int programs_attach(struct programs *p, const json_t *body, programs_fn done, void *arg,
		    struct agent_error *err);
int programs_replace(struct programs *p, const char *name, const json_t *body, programs_fn done,
		     void *arg, struct agent_error *err);
int programs_detach(struct programs *p, const char *name, programs_fn done, void *arg,
		    struct agent_error *err);
/* {items: [program]} */
json_t *programs_json(const struct programs *p);
/* The program with its maps, or NULL and err. */
json_t *program_json(const struct programs *p, const char *name, struct agent_error *err);

/* Whose hooks are listed: one of them, or none for all of the node. */
struct programs_asked {
	const char *device;
	const char *ns, *pod;
	const char *cgroup;
};
/*
 * {items: [{where, hook, position, program, id, type, owner, ..}]}: what is at the hooks, by place and
 * hook, in the order in which it runs; behind it, of the whole node, what waits for its place.
 */
int programs_hooks(struct programs *p, const struct programs_asked *asked, programs_fn done,
		   void *arg, struct agent_error *err);

/*
 * {time_ns, items: [{name, program, id, runs, ns}]}: of each since it was loaded, as far as the kernel
 * counted. It goes on counting for hold_ms. NULL and err: it does not count.
 */
json_t *programs_stats_json(struct programs *p, unsigned int hold_ms, struct agent_error *err);
/* {attached, waiting, failed}: how many. */
json_t *programs_counts_json(const struct programs *p);
/*
 * Calls fn for each thing about programs that a person should hear of; `what` as in the status'
 * problems.
 */
void programs_problems(const struct programs *p,
		       void (*fn)(void *arg, const char *what, const char *help, const char *text),
		       void *arg);
/* The bpffs was taken away and another one is in its place: everything is pinned there. */
void programs_pins_bring(struct programs *p);

/* Looks whether everything is where it should be: every second, and when devices changed. */
void programs_look(struct programs *p);
/*
 * The interface of a container that is being made, not up yet: its programs are attached before it
 * has any traffic. -errno: one of them could not be, and the ADD must not go on without.
 */
int programs_endpoint_up(struct programs *p, const struct endpoint *ep, int netns_fd, char *err,
			 size_t err_len);

#endif
