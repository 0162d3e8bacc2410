/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The CNI plugin: one run is one command, read from the environment and stdin, answered on
 * stdout. main.c: which command; request.c: what it was given; result.c: the answer in the
 * form of the version that was asked for; agent.c: commands that the agent carries out;
 * ipam.c: addresses of another plugin; kernel.c: what is done or looked at without the agent.
 * Nothing here keeps state.
 */
#ifndef CNI_CNI_H
#define CNI_CNI_H

#include <jansson.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>

#define CNI_VERSION_NEWEST "1.1.0"
#define CNI_TYPE "towpath-cni"
#define CNI_IPAM_TYPE "towpath" /* addresses by the agent, as without a section ipam */

/* Error codes: of the specification, of the reference library, and from 100 our own. */
enum cni_code {
	CNI_VERSION_UNSUPPORTED = 1,
	CNI_UNKNOWN_CONTAINER = 3,
	CNI_BAD_ENVIRONMENT = 4,
	CNI_IO = 5,
	CNI_DECODE = 6,
	CNI_BAD_CONFIG = 7,
	CNI_BAD_NETNS = 8,
	CNI_TRY_AGAIN = 11,
	CNI_UNAVAILABLE = 50,
	CNI_AGENT = 100, /* the agent failed */
	CNI_EXISTS = 101,
	CNI_EXHAUSTED = 102,
	CNI_CHECK_FAILED = 103,
	CNI_KERNEL = 104,
	CNI_DELEGATE = 105, /* the plugin for addresses */
};

enum cni_version { CNI_0_3_1, CNI_0_4_0, CNI_1_0_0, CNI_1_1_0, CNI_VERSION_COUNT };
extern const char *const cni_versions[CNI_VERSION_COUNT];

struct cni_pod { /* from CNI_ARGS; NULL where it says nothing */
	char *ns;
	char *name;
	char *ip;
	char *mac;
};

struct cni {
	const char *command;
	const char *container_id; /* NULL or "" where the command goes without */
	const char *netns;
	const char *ifname;
	struct cni_pod pod;
	char *text; /* of the configuration, as it came */
	size_t text_len;
	json_t *config;
	const char *ipam; /* plugin that gives the addresses; NULL: the agent does */
	json_t *ipam_dns; /* what it said of name servers, or NULL */
	enum cni_version version;
	const char *version_text; /* for the answer: what the input says, if it says something */
};

/* Prints the error object; returns the exit status. details may be NULL. */
__attribute__((format(printf, 4, 5))) int cni_fail(const struct cni *c, enum cni_code code,
						   const char *details, const char *format, ...);

/* ---- request.c: 0, or the exit status after cni_fail() --------------------------------------- */

/* The input as far as it can be read; what is wrong with it is kept in *problem. */
int request_read_stdin(struct cni *c, enum cni_code *code, char *problem, size_t len);
int request_check(struct cni *c);
void request_clear(struct cni *c);
/* A string of the configuration; `or` when it has none. */
const char *request_text(const struct cni *c, const char *key, const char * or);
/* The body of POST /v1/endpoints. NULL after cni_fail(). */
json_t *request_to_agent(const struct cni *c, const char *netns_path);

/* ---- result.c ---------------------------------------------------------------------------------- */

/* Prints what ADD made of the agent's endpoint. */
int result_print(const struct cni *c, const json_t *endpoint);
int json_print(const json_t *json); /* to stdout; 0 or 1 */

/* ---- ipam.c: all do nothing when the agent gives the addresses ------------------------------------ */

/* ADD of the plugin; puts its addresses and routes into body. 0, or the status of cni_fail(). */
int ipam_add(struct cni *c, json_t *body);
/* Its DEL, CHECK, STATUS or GC. Likewise. */
int ipam_run(const struct cni *c, const char *command);
/* DEL after an ADD that failed: says nothing on stdout, where the error is. */
void ipam_undo(const struct cni *c);

/* ---- agent.c ------------------------------------------------------------------------------------ */

int command_add(struct cni *c);
int command_del(struct cni *c);
int command_check(struct cni *c);
int command_status(struct cni *c);
int command_gc(struct cni *c);

/* ---- kernel.c ----------------------------------------------------------------------------------- */

/*
 * Opens c->netns: 0, or the exit status after cni_fail() when it is none or the plugin's own.
 * missing_ok: a path that is gone gives *fd -1.
 */
int netns_open(const struct cni *c, bool missing_ok, int *fd);
/* CHECK: the container's interface against prevResult. */
int container_check(const struct cni *c, int netns_fd, const json_t *prev);

#endif
