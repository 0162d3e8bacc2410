/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The flow log: events of the kernel in, a bounded ring of named records, readers with
 * filters out. It asks the policy compiler which rule decided, and the agent core how an
 * endpoint is called; it touches no map, no file and no socket. One thread.
 */
#ifndef AGENT_FLOW_H
#define AGENT_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <towpath/abi.h>

#include "object/object.h"
#include "policy/policy.h"

#define FLOW_LOG_DEFAULT 16384u /* records kept */

/* What policies decided, as a record has it. Texts are not terminated. */
struct flow_decided {
	enum tw_direction dir;
	bool allow;
	const char *policy; /* "ns/name" of the rule that allowed; length 0: none was needed */
	size_t policy_len;
	int rule;
	const char *selected_by; /* "ns/name, ns/name", perhaps cut with "..." */
	size_t selected_len;
	uint64_t count; /* flows opened, or packets refused */
	uint64_t time;	/* ns since the epoch */
};

/* What the log asks of the agent core. All strings are borrowed for the length of the call. */
struct flow_source {
	const struct policy *policy; /* NULL: decisions and addresses are not named */
	/* Namespace and pod of an endpoint slot; false when the slot is free. */
	bool (*endpoint)(void *arg, uint32_t slot, const char **ns, const char **pod);
	/* Labels of a pod: its Pod object's, else its endpoint's; NULL: not known. May be NULL. */
	const struct labels *(*labels)(void *arg, const char *ns, const char *pod);
	/*
	 * Slot of the endpoint whose port is ifindex (0: not known), else of the one that has
	 * the address; 0: none. For packets that the data path dropped before it looked their
	 * ends up. May be NULL.
	 */
	uint32_t (*slot)(void *arg, uint32_t ifindex, const union tw_addr *addr);
	/* Told of each decision that a record says; may be NULL. */
	void (*decided)(void *arg, const struct flow_decided *d);
	void *arg;
};

struct flow_log;

/* What records are numbered from: microseconds, above the numbers of every earlier agent. */
uint64_t flow_number_now(void);

/* capacity in records, 0: FLOW_LOG_DEFAULT. Memory is touched only as records come. -ENOMEM. */
int flow_log_new(struct flow_log **out, uint32_t capacity, const struct flow_source *source);
void flow_log_free(struct flow_log *log); /* after its readers */
/* The number of the first record, before any event is taken. */
void flow_log_number_from(struct flow_log *log, uint64_t first);

/*
 * Takes one event of the ring; the names and the deciding rule are those of this moment. So
 * the agent drains the ring before it writes a change to the maps, and once more before it
 * forgets an endpoint. The result is for datapath_events(): 0, or -ENOMEM with the event
 * left out.
 *
 * Identical drops (type, ends without the source port, protocol, reason) are counted: the
 * first is a record at once, those of the second that follows are one record with a count,
 * when that second is over.
 */
int flow_log_event(struct flow_log *log, const struct tw_event *ev);

/*
 * Closes counted records whose second is over. Called after each drain of the ring, and at
 * least once a second.
 */
void flow_log_tick(struct flow_log *log);

/*
 * A batch of consecutive records for the history. It shares the strings of the log, which nobody
 * changes: another thread may read it until it is given back.
 */
struct flow_batch;
/* Up to max records from *from on, which moves behind them; NULL: there are none, or no memory. */
struct flow_batch *flow_log_batch(struct flow_log *log, uint64_t *from, size_t max);
void flow_log_batch_end(struct flow_log *log, struct flow_batch *batch);
/* How many records there are from that number on. */
uint64_t flow_log_waiting(const struct flow_log *log, uint64_t from);

/* After every policy_commit(): names, labels and the compiler's answers are asked for anew. */
void flow_log_policy_changed(struct flow_log *log);

struct flow_log_stats {
	uint64_t events;  /* taken */
	uint64_t records; /* written since the start */
	uint32_t kept;	  /* in the ring now */
	uint32_t capacity;
	uint64_t bytes; /* of memory in use */
};
void flow_log_stats_get(const struct flow_log *log, struct flow_log_stats *out);

/*
 * Conditions on records; all that are set must hold. Zero-initialised it lets all pass.
 *
 *   from, to   ns/pod, ns/, pod, key=value (a label), an address, a CIDR, or one of host,
 *              world, node, unassigned
 *   with       the same, at either end
 *   namespace  of a pod at either end
 *   label      key or key=value, at either end
 *   port       80, 80/tcp, tcp, icmp: destination port (for drops: either port) and protocol
 *   verdict    allow, deny, reject, redirect; several with commas
 *   reason     names of drop reasons; several with commas
 *   type       new, drop, close, revoke; several with commas
 *   policy     ns/name or name, of a policy that decided or selects an end
 *   since      ns since the epoch
 *   until      the same; before it
 *
 * Several settings of one key: the last one counts.
 */
struct flow_filter;
int flow_filter_new(struct flow_filter **out);
/* -EINVAL with a sentence in err; -ENOENT for a key that is none of the above. */
int flow_filter_set(struct flow_filter *f, const char *key, const char *value, char *err,
		    size_t err_len);
void flow_filter_free(struct flow_filter *f);

/*
 * A reader gives the log's and the history's (NULL: there is none) matching records as JSON lines (docs/guide/flow-log.md), first those
 * that are kept, then, with follow, what comes. A reader that was overtaken by the ring gets a
 * line {"lost":N} in the place of the records that it missed. Takes the filter over, also on failure; NULL: no filter.
 */
struct flow_history;
struct flow_reader;
struct flow_reading {
	uint32_t last;	/* at most so many of those that are kept; UINT32_MAX: all */
	uint64_t after; /* those behind the record of this number, and then all; 0: not asked for */
	bool follow;
};
int flow_reader_new(struct flow_reader **out, struct flow_log *log, struct flow_history *history,
		    struct flow_filter *filter, const struct flow_reading *how);
void flow_reader_free(struct flow_reader *r);
/*
 * Copies up to max bytes of the stream to buf (lines may be cut and go on in the next call).
 * Returns the number of bytes, 0 when there is nothing now, -ENODATA when there will be
 * nothing any more (no follow), -ENOMEM.
 */
int flow_reader_fill(struct flow_reader *r, char *buf, size_t max);
/* Whether flow_reader_fill() has something to look at: wakes suspended connections. */
bool flow_reader_ready(const struct flow_reader *r);
/*
 * Whether the next lines must come from the history: when flow_reader_fill() had nothing. Then a
 * worker thread calls flow_reader_load(), and until that is through nobody else uses the reader.
 */
bool flow_reader_wants(struct flow_reader *r);
void flow_reader_load(struct flow_reader *r);

/*
 * What is in the log as questions to policies (past.c): flows that were opened and packets that a
 * policy refused, without those of the node itself, each (from, to, protocol, port) once.
 */
struct flow_past {
	union tw_addr addr[2]; /* from, to */
	uint64_t time;	       /* of the last one; ns since the epoch */
	uint64_t count;	       /* flows opened, packets refused */
	uint16_t port;	       /* of the destination; 0: the protocol has none */
	uint8_t proto;
	bool allowed; /* the caller's */
};
/* Together with older ones. *out is malloc'ed, the caller's. 0 or -ENOMEM. */
int flow_log_past(const struct flow_log *log, const struct flow_past *older, size_t n_older,
		  struct flow_past **out, size_t *n);
/* The number of the oldest record in memory. */
uint64_t flow_log_oldest(const struct flow_log *log);

#endif
