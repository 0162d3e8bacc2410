/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What run, exec and rm share: the record of a run, the CNI plugin, and the process. A run's
 * keeper (the towpath that started it, or its copy in the background) holds a lock on the
 * record for as long as it lives, and takes everything down when the process has ended. So
 * whoever gets the lock of a record that is still there knows that nobody keeps it.
 */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include "cli.h"

#include <signal.h>
#include <sys/types.h>

struct run {
	char *ns, *name;
	char *id;	 /* CNI container id */
	char *dir;	 /* <run-dir>/run */
	char *path;	 /* of the record */
	char *netns;	 /* where the network namespace is mounted */
	char *log;	 /* output in the background */
	char *plugin;	 /* towpath-cni */
	char *socket;	 /* absolute */
	char *state_dir; /* of the agent; NULL: its default */
	char *root;	 /* --image-root; NULL: the host's files */
	json_t *labels;
	json_t *ports; /* [{name, containerPort, protocol}] */
	json_t *ips;   /* wished for */
	json_t *got;   /* addresses given */
	bool detached;
	bool pod_object;	  /* made by this run, goes with it */
	pid_t pid;		  /* 0: none yet */
	unsigned long long start; /* of pid, in clock ticks since boot: pids are reused */
	int lock;		  /* the record, -1: not open */
};

/* ---- run_record.c ---- */

/* Names and paths; nothing is made. CLI_OK, or an exit status after a message. */
int run_init(struct run *r, const struct cli *cli, const char *ns, const char *name);
void run_free(struct run *r);
/*
 * Opens the record and takes its lock. 1: locked; 0: no such record (create false); -EBUSY: its
 * keeper lives; -errno.
 */
int run_lock(struct run *r, bool create);
int run_load(struct run *r);	/* 0, -ENOENT: nothing recorded, -errno */
int run_save(struct run *r);	/* 0 or -errno */
void run_forget(struct run *r); /* removes the record and its lock */
/* Whether the recorded process lives, and is that process. */
bool run_alive(const struct run *r);
unsigned long long process_start(pid_t pid); /* 0: no such process */

/* ---- run_net.c ---- */

int run_netns_create(struct run *r); /* 0 or -errno */
void run_netns_remove(struct run *r);
/*
 * The CNI plugin with ADD or DEL. 0, or -1 after its words were printed. The addresses that
 * ADD gave are in r->got.
 */
int run_cni(struct run *r, const char *command);

/* ---- run_process.c ---- */

/* Blocks what a keeper waits for; the mask as it was before in *old. */
void keeper_signals(sigset_t *old);
/*
 * Starts the command in the run's namespace. 0 with r->pid set, or the exit status that tells
 * (126, 127) after a message.
 */
int run_start(struct run *r, char **argv, const sigset_t *mask);
/* Standard input from /dev/null, output to the run's log. 0 or -errno. */
int run_detach_output(const struct run *r);
/* Waits for the process, handing signals on to it; its exit status, shell fashion. */
int run_wait(const struct run *r);
/* Into the namespaces of a running process (pid > 0), or into a network namespace. 0, -errno. */
int run_enter(pid_t pid, const char *netns, bool root);
/* Becomes the command; returns the exit status that tells why it could not, after a message. */
int run_exec(char **argv);

#endif
