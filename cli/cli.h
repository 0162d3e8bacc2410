/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * towpath, the command. main.c finds the command; each cmd_*.c is a group of commands; here
 * is what they share: options and help from one table, output as table, JSON or YAML, and
 * calls to the agent that say what went wrong. Reaches the agent through libtowpath only.
 */
#ifndef CLI_H
#define CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <towpath/client.h>

enum cli_exit { CLI_OK = 0, CLI_REFUSED = 1, CLI_USAGE = 2 };

enum cli_output { CLI_TABLE, CLI_JSON, CLI_YAML, CLI_COMPACT };

#define cleanup_(fn) __attribute__((cleanup(fn)))
static inline void cleanup_json(json_t **p)
{
	json_decref(*p);
}
static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

/* One option of a command. Help and completion are made from it. */
struct cli_option {
	int id; /* the short letter, or a number from CLI_LONG on */
	const char *name;
	const char *arg; /* how the argument is called in the help; NULL: none */
	const char *help;
};

#define CLI_LONG 256 /* ids of options without a letter */

struct cli;

/*
 * A command; or a group of commands (`towpath program build`), which has `commands` and no `run`:
 * each of them is a command of its own, with options and help, and a name of two words.
 */
struct cli_command {
	const char *name;
	const char *usage;		  /* what follows "towpath NAME" */
	const char *summary;		  /* one line */
	const char *details;		  /* may be NULL */
	const struct cli_option *options; /* ends with id 0; NULL: only those that all have */
	const char *examples;
	/* What the first operand may be, ended by NULL; NULL: anything. For completion. */
	const char *const *words;
	bool lines; /* has -o compact */
	bool wide;  /* has -o wide */
	bool rest;  /* a command of the user's follows "--" */
	int (*run)(struct cli *cli, int argc, char **argv);
	const struct cli_command *const *commands; /* of a group, ends with NULL */
};

extern const struct cli_command *const cli_commands[]; /* ends with NULL */

struct cli {
	const struct cli_command *command;
	const char *socket; /* NULL: libtowpath's default */
	enum cli_output output;
	bool wide;  /* more columns */
	bool color; /* of stdout */
	struct tw_client *client;
	char **rest;	   /* after "--"; NULL: there was no "--" */
	const char *value; /* argument of the option just returned */
	struct option *getopt_long_options;
	char *getopt_short_options;
};

/* ---- args.c ---- */

/*
 * Next option: its id with cli->value set, -1 at the end (optind is then at the operands), or
 * '?' after a usage error was printed: return CLI_USAGE. Options that all commands have
 * (--socket, -o, --color, --help) are dealt with inside.
 */
int cli_getopt(struct cli *cli, int argc, char **argv);
/* Prints a usage error for the command; CLI_USAGE. */
int cli_usage(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Refuses operands that the command does not take; true when there are too many or few. */
bool cli_operands(const struct cli *cli, int argc, int min, int max, int *exit_code);
void cli_help(const struct cli_command *command, FILE *to);
/* The word that a command of a group goes by. */
const char *cli_word(const struct cli_command *command);
/* The command of a group that a word names; NULL: none. */
const struct cli_command *cli_group_find(const struct cli_command *group, const char *word);
/* Whether a command has an option of its own that stands for this one of all commands. */
bool cli_option_shadowed(const struct cli_command *command, const struct cli_option *common);
void cli_args_free(struct cli *cli);
extern const struct cli_option cli_common_options[];

/* ---- complete.c ---- */

/* `towpath --complete WORD...`: prints what the last word may become, one a line. */
int cli_complete(struct cli *cli, int argc, char **argv);

/* ---- error.c ---- */

/* "towpath: " sentence on stderr; CLI_REFUSED. */
int cli_refuse(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Last call: the exit status, unless the output could not be written. */
int cli_finish(int status);
/*
 * A call to the agent. On success CLI_OK and *reply (may be NULL) is the caller's; else the
 * error was printed, with the position in the input where it has one.
 */
int cli_call(struct cli *cli, const char *method, const char *path, json_t *body, json_t **reply);
/* The same with a body that is no JSON. */
int cli_send(struct cli *cli, const char *method, const char *path, const void *body, size_t len,
	     json_t **reply);
/* The same, and -1 without a word when the agent says 404. */
int cli_call_quiet404(struct cli *cli, const char *method, const char *path, json_t **reply);
int cli_connect(struct cli *cli);
/* Path with its arguments percent-encoded; each %s is one segment. malloc'ed, never NULL. */
char *cli_path(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* malloc'ed; out of memory ends the process. */
char *cli_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- cmd_misc.c ---- */

/*
 * An executable that belongs to this one, looked for in folders (relative ones from where this
 * executable is), ended by NULL. malloc'ed; NULL: not found.
 */
char *cli_program(const char *name, const char *const *folders);
/* The agent's run folder is where its socket is. malloc'ed. */
char *cli_run_dir(const struct cli *cli);
/*
 * The run function of a command that deletes what its operands name: DELETE path + operand for each,
 * and `done` printed behind its name. The exit status is the last failure's.
 */
int cli_delete_each(struct cli *cli, int argc, char **argv, const char *path, const char *done);

/* ---- plugin.c ---- */

/* The towpath-cni that belongs to this towpath. malloc'ed; NULL: not found. */
char *cli_plugin_find(void);
/*
 * One call of a CNI plugin, as a container runtime makes it: vars are NAME=VALUE, ended by NULL,
 * besides the environment of this process. 0, *reply (NULL when there was none) being the
 * caller's; or -1, *error being a sentence, malloc'ed.
 */
int cli_plugin_call(const char *plugin, char *const *vars, const json_t *conf, json_t **reply,
		    char **error);

/* ---- output.c ---- */

struct cli_table;
/* Column heads, ended by NULL; a head that begins with '>' is aligned to the right. */
struct cli_table *cli_table_new(const struct cli *cli, const char *const *heads);
/* One cell; rows fill from left to right. Color: NULL, or a name from below. */
void cli_table_cell(struct cli_table *t, const char *color, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
size_t cli_table_rows(const struct cli_table *t);
/* Prints the rows so far, in columns as wide as those before need: for more rows than memory. */
void cli_table_flush(struct cli_table *t);
void cli_table_print(struct cli_table *t); /* and frees it */

#define CLI_BOLD "1"
#define CLI_RED "31"
#define CLI_GREEN "32"
#define CLI_YELLOW "33"
#define CLI_DIM "2"
const char *cli_color(const struct cli *cli, const char *color); /* escape, or "" */
const char *cli_plain(const struct cli *cli);

/* JSON (indented) or YAML, as -o says. CLI_OK. */
int cli_print(const struct cli *cli, const json_t *value);
int cli_yaml(const json_t *value, FILE *to);

/* ---- live.c ---- */

struct cli_live {
	/* The status of the call; *reply may be an error's. */
	int (*ask)(struct cli *cli, void *arg, json_t **reply);
	/* Prints it, before being the reply before it (NULL: it is the first); ns to the next look. */
	uint64_t (*show)(struct cli *cli, void *arg, const json_t *before, json_t *reply);
	void (*key)(void *arg, int key); /* one that does not end it; NULL: nothing happens */
};
/* Shows it on a screen of its own until q or a signal. */
int cli_live(struct cli *cli, const struct cli_live *live, void *arg);

/* Rates are between two looks: both replies, ns apart; CLI_REFUSED when one of them is an error. */
int cli_twice(struct cli *cli, int (*ask)(struct cli *cli, void *arg, json_t **reply), void *arg,
	      uint64_t ns, json_t **first, json_t **second);

/* ---- text.c ---- */

/* Strings of JSON that may be absent: "" then. */
const char *cli_str(const json_t *object, const char *key);
json_int_t cli_int(const json_t *object, const char *key);
/* "a=b,c=d" of an object of strings, "" for none. malloc'ed. */
char *cli_labels(const json_t *labels);
/* Elements of an array of strings, with commas. malloc'ed. */
char *cli_join(const json_t *array);
/* Any value in one line, as people read it: "10.0.0.1", "{packets 3, bytes 180}". malloc'ed. */
char *cli_text(const json_t *value);
/* "1.5 MB", "3 h 12 min", "1 234 567". */
const char *cli_bytes(char buf[32], uint64_t bytes);
const char *cli_duration(char buf[32], uint64_t seconds);
const char *cli_number(char buf[32], uint64_t n);
/* "90s", "10m", "1h30m", "2d" in ns. */
bool cli_parse_duration(const char *text, uint64_t *ns);
/* The same before now, or RFC 3339 (2026-01-31T12:00:00Z); ns since the epoch. */
bool cli_parse_since(const char *text, uint64_t *ns);
/* key=value into an object; false when it is none. */
bool cli_parse_label(const char *text, json_t *labels);
/* A name that Kubernetes would take (RFC 1123), so also one path segment. */
bool cli_name_valid(const char *name, bool dots);
/* "ns/name" or "name" with `ns` as the default; false when either is no name. */
bool cli_parse_pod(const char *text, const char *ns, char **out_ns, char **out_name);

/* ---- commands ---- */

extern const struct cli_command cmd_status, cmd_apply, cmd_delete, cmd_get, cmd_run, cmd_exec,
	cmd_rm, cmd_flows, cmd_explain, cmd_policy, cmd_trace, cmd_features, cmd_cni, cmd_uninstall,
	cmd_completion, cmd_top, cmd_program, cmd_map, cmd_log, cmd_edge;

/* Of `towpath map`. */
extern const struct cli_command cmd_map_list, cmd_map_show, cmd_map_dump, cmd_map_get, cmd_map_set,
	cmd_map_delete, cmd_map_watch;

/* Of `towpath program`. */
extern const struct cli_command cmd_program_build, cmd_program_check, cmd_program_attach,
	cmd_program_list, cmd_program_show, cmd_program_replace, cmd_program_detach,
	cmd_program_stats;

/* Of `towpath edge`. */
extern const struct cli_command cmd_edge_attach, cmd_edge_detach, cmd_edge_status, cmd_edge_deny,
	cmd_edge_allow, cmd_edge_lists, cmd_edge_limit, cmd_edge_test, cmd_edge_top,
	cmd_edge_balance, cmd_edge_decap;

#endif
