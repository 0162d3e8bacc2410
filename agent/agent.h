/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The agent's one context and what the API calls on it. agent.c: start and stop; change.c: one
 * change at a time; objects.c: apply and delete; attach.c: endpoints, restore.c: after a
 * restart; remover.c: interfaces that go; uplinks.c: the node's own side; filters.c: traffic
 * control by others; kernel_drops.c: what the kernel itself drops; tick.c: what happens by the
 * clock; rates.c, health.c, status.c, metrics.c, top.c, explain.c, tracer.c, ends.c: answers;
 * programs.c: users' programs; edge/: the edge; guard.c: the process's own
 * privileges, folders and locks; memory.c: what is given back.
 *
 * Functions that the API calls return 0 or -errno; what a person must hear is then in err.
 */
#ifndef AGENT_H
#define AGENT_H

#include <jansson.h>
#include <time.h>
#include <uv.h>

#include "datapath.h"
#include "datapath/maps.h"
#include "endpoint/endpoint.h"
#include "endpoint/ipam.h"
#include "endpoint/node.h"
#include "flow/flow.h"
#include "metrics.h"
#include "object/object.h"
#include "options.h"
#include "policy/policy.h"
#include "slots.h"
#include "store/store.h"

enum agent_code {
	AGENT_INVALID,	 /* the input is wrong */
	AGENT_NOT_FOUND, /* what it names is not there */
	AGENT_EXISTS,	 /* what it wants to make is there already */
	AGENT_EXHAUSTED, /* no room: addresses, slots, maps, disk */
	AGENT_NOT_READY, /* not now */
	AGENT_INTERNAL,
};

struct agent_error {
	enum agent_code code;
	struct object_error at; /* file "": no position in an input */
};

/* Fills err (any position in it is cleared) and returns the -errno that stands for the code. */
__attribute__((format(printf, 3, 4))) int
agent_refuse(struct agent_error *err, enum agent_code code, const char *format, ...);
/* The same, with the code that stands for a -errno. */
int agent_refuse_errno(struct agent_error *err, int res, const char *text);

struct api;
struct balancer; /* edge/balance.h */
struct coverage;
struct edges;	       /* edge/edges.c */
struct exporter;       /* exporter.c */
struct past;	       /* past.c */
struct filters;	       /* filters.c */
struct metrics_server; /* api/metrics.c */
struct recorder;       /* recorder.c */
struct programs;       /* programs.c */
struct rates;	       /* rates.c */
struct remover;
struct opener;
struct kernel_drops;
struct tick;
struct tracer;
struct top;	/* top.c */
struct uplinks; /* uplinks.c */

struct agent {
	const struct agent_options *opts;
	uv_loop_t loop;
	struct store *store;
	struct policy *policy;
	struct datapath *dp;
	struct maps *maps;
	struct ipam *ipam;
	struct flow_log *flows;
	struct flow_history *history; /* NULL: none is kept */
	struct recorder *recorder;    /* NULL: likewise */
	struct coverage *coverage;
	struct exporter *exporter; /* NULL: no --flow-export */
	struct past *pasts;	   /* dry runs that wait */
	struct api *api;
	struct tick *tick;
	struct top *top;
	struct rates *rates;
	struct tracer *tracer;
	struct balancer *balancer;
	struct uplinks *uplinks;
	struct filters *filters;
	struct kernel_drops *kernel_drops;
	struct pins *pins;
	struct programs *programs;
	struct edges *edges;
	struct slots *slots;
	struct remover *remover;
	struct opener *opener;
	struct metrics metrics;
	struct metrics_server *metrics_server; /* NULL: not wanted */
	uint32_t flow_cap;		       /* flows that one endpoint may hold */
	uint64_t started;		       /* uv_hrtime() */
	time_t started_at;		       /* by the clock on the wall */
	bool state_lost; /* the database's file is not what it was, and that was said */
};

/*
 * Seconds since the epoch, for what a later agent will read. It follows the clock of the start:
 * when somebody sets the clock, no address is released too early or too late for that.
 */
uint64_t agent_wall_seconds(const struct agent *a);

/* ---- start and stop (agent.c) --------------------------------------------------------------- */

/* Runs until SIGTERM or SIGINT. 0, or 1 after a sentence on stderr. */
int agent_run(const struct agent_options *opts);
/* Is the file of the state still there? A deleted one is written anew. */
void agent_state_keep(struct agent *a);
/* The whole present state over the maps. */
int agent_reconcile(struct agent *a, char *err, size_t err_len);

/* Gives back memory that a start or a large request needed (memory.c). */
void memory_release(void);

/* ---- guard.c ---------------------------------------------------------------------------------- */

/* All of them: -errno with a sentence in err. */
int guard_capabilities(char *err, size_t err_len);
/* Gives up every capability that the agent will not need any more. */
int guard_drop(char *err, size_t err_len);
/* One agent a network namespace. The fd is held for the life of the process. */
int guard_single(int *fd, char *err, size_t err_len);
/*
 * Makes run-dir, state-dir/pending-del and run-dir/bpf, and mounts a bpffs there. The fd is
 * the lock on run-dir, held for the life of the process.
 */
int guard_dirs(const struct agent_options *opts, int *lock, char *err, size_t err_len);
/* Mounts a bpffs at run-dir/bpf if there is none. */
int guard_bpffs(const struct agent_options *opts, char *err, size_t err_len);
void guard_pin_dir(const struct agent_options *opts, char *buf, size_t len);
/* towpathd --uninstall: 0, or 1 after a sentence on stderr. */
int agent_uninstall(const struct agent_options *opts);

/* ---- changes (change.c) ----------------------------------------------------------------------- */

/* What a dry run is asked about besides the log's own flows. */
struct agent_dry_run {
	const struct flow_past *past; /* from the flow history */
	size_t n_past;
};

struct agent_change {
	struct object **put; /* become the store's, unless the change fails or is a dry run */
	size_t n_put;
	const struct object **del;
	size_t n_del;
	const struct policy_endpoint *ep_put;
	size_t n_ep_put;
	const struct maps_endpoint *added;
	size_t n_added;
	const uint32_t *removed; /* slots */
	size_t n_removed;
	const struct store_endpoint *records;
	size_t n_records;
	const struct store_release *releases;
	size_t n_releases;
	int64_t releases_before; /* as in struct store_change */
	/* Compile and try the room, but change nothing; NULL: it is meant. */
	const struct agent_dry_run *dry_run;
	json_t **effects; /* dry_run: what would change (effects.h); NULL: not asked for */
};

struct agent_cost {
	uint64_t compile_us;
	uint64_t store_us;
	uint64_t wait_us; /* for programs that may still use numbers that are used again */
	uint64_t kernel_us;
	struct maps_cost kernel;
};

/* Validates, stores and puts in force, whole or not at all. */
int agent_change(struct agent *a, const struct agent_change *change, struct agent_cost *cost,
		 struct agent_error *err);

/* ---- objects (objects.c) ---------------------------------------------------------------------- */

struct agent_file {
	const char *name;
	const char *text;
	size_t len;
};

/* *reply: the API's answer. On -ENOENT of agent_delete() *reply is set, too. */
int agent_apply(struct agent *a, const struct agent_file *files, size_t n,
		const struct agent_dry_run *dry_run, json_t **reply, struct agent_error *err);
int agent_delete(struct agent *a, const struct agent_file *files, size_t n,
		 const struct agent_dry_run *dry_run, json_t **reply, struct agent_error *err);
int agent_delete_one(struct agent *a, enum object_kind kind, const char *ns, const char *name,
		     json_t **reply, struct agent_error *err);
/* Whether the files of --objects-dir are good: a start that is refused changes nothing. */
int agent_check_dir(const struct agent *a, struct agent_error *err);
/* Applies them. */
int agent_apply_dir(struct agent *a, struct agent_error *err);

/* ---- endpoints (attach.c, restore.c) ----------------------------------------------------------- */

int agent_endpoint_add(struct agent *a, const json_t *body, json_t **reply,
		       struct agent_error *err);
/* 0 also when there is none. Waits for the kernel to the end. */
int agent_endpoint_del(struct agent *a, const char *container_id, const char *ifname,
		       struct agent_error *err);
/* The part behind the removal of the interface: record, policy, maps, addresses. */
int agent_endpoint_forget(struct agent *a, struct endpoint *ep, struct agent_error *err);
/* check: what the node has of it is verified, too. */
int agent_endpoint_get(struct agent *a, const char *container_id, const char *ifname, bool check,
		       json_t **reply, struct agent_error *err);
int agent_endpoint_gc(struct agent *a, const json_t *body, json_t **reply, struct agent_error *err);
/* [endpoint], for the API. */
json_t *agent_endpoint_list(const struct agent *a);
/*
 * Drops what ended without the agent: DELs that the CNI plugin recorded while nobody answered,
 * and endpoints whose interface went with their container.
 */
void agent_endpoint_sweep(struct agent *a);
/* What the compiler and the maps are told of an endpoint. Strings stay the record's. */
void agent_endpoint_policy(const struct endpoint *ep, struct policy_endpoint *out);
void agent_endpoint_value(const struct agent *a, const struct endpoint *ep,
			  struct tw_endpoint *out);

/* At start: reads the records, and drops those whose interface is gone. */
int agent_restore_records(struct agent *a, char *err, size_t err_len);
/* With the data path open: the records belong to what runs. */
int agent_restore_check(struct agent *a, char *err, size_t err_len);
/* Then, with the maps right: ports have their programs and settings; ports of nobody go. */
int agent_restore_ports(struct agent *a, char *err, size_t err_len);

#endif
