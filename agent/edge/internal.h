/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Private to agent/edge. edges.c: the queue and what is kept; edges_rules.c: rules and lists;
 * edges_device.c: devices; edges_limits.c: limits and SYN cookies; edges_answer.c: answers;
 * guarded.c: who must not be locked out.
 */
#ifndef AGENT_EDGE_INTERNAL_H
#define AGENT_EDGE_INTERNAL_H

#include "edge.h"
#include "edge/compile.h"
#include "edge/edges.h"
#include "edge/limits.h"
#include "edge_table.h"

/* Somebody whom a rule must not keep out, without --force. */
struct guarded {
	union tw_addr addr;
	uint16_t port; /* of this node, in host order, that he talks to by TCP; 0: any */
	char who[96];
};

#define GUARDED_MAX 64u

/* Those that the node itself tells of, as of a moment ago: to look them up takes milliseconds. */
struct guarded_node {
	struct guarded v[GUARDED_MAX];
	size_t n;
	uint64_t at; /* ms of the loop; 0: never looked */
};

/*
 * The client by its SSH_CONNECTION, other SSH sessions of this node, its default gateways. Returns
 * how many.
 */
struct edges;
size_t guarded_find(struct edges *e, const char *client, struct guarded out[GUARDED_MAX]);

struct edge_device {
	char name[IFNAMSIZ];
	enum edge_mode mode; /* as asked for */
	bool replace;
	struct edge_attachment at; /* ifindex 0: not attached */
	char why[256];		   /* why not, or why generic */
	uint64_t again;		   /* when a failed one is tried again; ms of the loop */
	bool gone;
	struct edge_device *prev, *next;
};

struct limits_task;

/* Something to do. While a worker is at it, all of it is the worker's, and the table is only read. */
struct edge_task {
	struct edges *e;
	int (*begin)(struct edge_task *t); /* on the loop: 0 go on, 1 done already, or -errno */
	void (*work)(struct edge_task *t); /* on a worker; sets res */
	void (*end)(struct edge_task *t);  /* on the loop, when res is 0; may set it */
	void (*over)(struct edge_task *t); /* on the loop, in any case, before it is told */
	edges_fn done;			   /* NULL: nobody waits */
	void *arg;
	json_t *reply;
	/* rules */
	struct edge_rule *add; /* parsed; moved to the table of rules at the end */
	size_t n_add;
	uint32_t *del; /* numbers */
	size_t n_del;
	bool force;
	char *client;
	/* a list */
	char *text;
	size_t len;
	struct edge_prefixes prefixes;
	struct edge_load *load;
	struct tw_edge_settings want; /* as of begin */
	bool stored;
	/* a device */
	struct edge_device device;
	struct edge *edge; /* opened by this task */
	char broken[256];  /* a list that could not be read */
	struct edge_table *table;
	/* limits */
	struct limits_task *limits;
	char limits_why[256]; /* why there are no SYN cookies */
	struct guarded *who;  /* not to be locked out, as of begin; NULL: asked for when needed */
	size_t n_who;
	/* a question */
	union tw_addr addr;
	struct edge_ports ports;
	uint32_t class;
	struct {
		unsigned int line;
		uint32_t len;
	} found;
	uint32_t list; /* rule number */

	uint64_t started;
	uint64_t parse_us, store_us, build_us;
	int res;
	enum agent_code code;
	struct edge_list_error at; /* line 0: no position */
	char name[256];		   /* of the list */
	char err[512];
	struct edge_task *prev, *next;
};

struct edges {
	struct agent *a;
	struct edge *edge; /* NULL: no device */
	struct edge_table *table;
	struct edge_compile compile;
	struct edge_rule *rule[TW_EDGE_COUNTERS]; /* by number; NULL: free */
	size_t n_rules;
	uint64_t file; /* the highest number of a list's file */
	struct edge_device *devices;
	struct limits limits;
	char limits_why
		[256]; /* why there are no SYN cookies, though they are wanted; "": there are */
	struct edge_task *queue; /* the first is under way */
	unsigned int n_queue;
	uv_work_t work;
	uv_work_t grace;
	bool working, waiting, closing;
	bool look;	  /* devices are to be looked at when the queue is empty */
	char failed[256]; /* what does not hold as it should; "": nothing */
	struct guarded_node guarded;
	char dir[3072]; /* of the lists */
	char pin_dir[3072];
};

/* ---- edges.c ---- */

struct edge_task *edge_task_new(struct edges *e, edges_fn done, void *arg);
void edge_task_free(struct edge_task *t);
/* Takes it. -errno: too much waits; it is freed, and done() is not called. */
int edge_task_add(struct edge_task *t, struct agent_error *err);
__attribute__((format(printf, 4, 5))) int
edge_task_refuse(struct edge_task *t, enum agent_code code, int res, const char *format, ...);
/* The settings that these rules ask for. */
void edges_settings(const struct edges *e, struct tw_edge_settings *out);
/* The program was loaded anew: whoever has maps of it is told. */
void edges_loaded(struct edges *e);
/* The prefixes of rules that are no lists, sorted. */
int edges_singles(const struct edges *e, struct edge_prefixes *out);
/* After a change: lines rest until no program can be in them. */
void edges_settle(struct edges *e);
/* What a rule has counted, under all numbers that it had. */
void edge_rule_count(const struct edges *e, const struct edge_rule *rule, struct tw_metric *out);
void edges_list_path(const struct edges *e, uint64_t file, char buf[4096]);
/* Takes the edge out of the kernel; no device is attached. */
void edges_close(struct edges *e);

/* ---- edges_rules.c ---- */

/*
 * Whether, with the task's rules added and taken away, somebody guarded would be kept out: then the
 * task is refused.
 */
int edges_guard(struct edge_task *t);
/* The whole of a file, malloc'ed. -errno. */
int edge_file_read(const char *path, char **out, size_t *len);
/* All lists from their files, sorted. For a worker. err: which one could not be read. */
int edges_lists_read(struct edges *e, struct edge_prefixes *out, char *err, size_t err_len);
/* A task that takes away what is over. */
void edges_expire(struct edges *e);
/* For a worker: all anew beside what is in force, by a program with the settings t->want. */
int edges_prepare(struct edge_task *t);
/* On the loop: what was prepared, if anything was, is put in force. */
int edges_commit(struct edge_task *t);
/* A task that loads the program anew, where other settings are wanted. */
void edges_reload(struct edges *e);

/* ---- edges_limits.c ---- */

void edges_limits_free(struct limits_task *l);
/* For a worker that has opened the edge or attached a device: limits hold there, too. */
int edges_limits_attach(struct edge_task *t);
/* The same on the loop, when that went well. */
void edges_limits_attached(struct edge_task *t);

/* ---- edges_device.c ---- */

int edge_device_load(struct edges *e, const char *name, const char *text);
void edges_devices_look(struct edges *e);
struct edge_device *edge_device_find(const struct edges *e, const char *name);
/* The first task of a start: takes over what an earlier agent attached. */
void edges_devices_start(struct edges *e);

#endif
