/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Inside the flow log only: what a record is, and the strings that records share. */
#ifndef AGENT_FLOW_RECORD_H
#define AGENT_FLOW_RECORD_H

#include "flow/flow.h"

/*
 * A string that records share, counted. Two forms are kept in it, as lines:
 *   an end        namespace, pod, then one key=value line for each label
 *   a decision    "1" or "0" isolated and "1" or "0" allow, policy, rule, selected_by
 */
struct intern;
struct intern_table;

struct intern_table *intern_table_new(void);
void intern_table_free(struct intern_table *t); /* with what is still in it */
/* NULL: no memory. The caller owns one reference. */
struct intern *intern_get(struct intern_table *t, const char *text);
struct intern *intern_ref(struct intern *s);		     /* NULL is fine */
void intern_unref(struct intern_table *t, struct intern *s); /* NULL is fine */
const char *intern_text(const struct intern *s);	     /* NULL: "" */
size_t intern_table_bytes(const struct intern_table *t);

/* Line n of a text: its beginning, or NULL; *len without the newline. */
const char *intern_line(const char *text, unsigned int n, size_t *len);

enum flow_what {
	FLOW_WHAT_UNKNOWN,
	FLOW_WHAT_POD,
	FLOW_WHAT_HOST,
	FLOW_WHAT_WORLD,
	FLOW_WHAT_NODE,
	FLOW_WHAT_UNASSIGNED,
	FLOW_WHAT_COUNT,
};

/* Sixteen thousand of these are most of what the log costs, so they are kept small. */
struct flow_record {
	uint64_t time;	     /* ns since the epoch */
	uint64_t packets[2]; /* DROP: [0] is the count */
	uint64_t bytes[2];
	union tw_addr addr[2];	    /* from, to */
	struct intern *end[2];	    /* NULL: not a pod */
	struct intern *decision[2]; /* enum tw_direction; NULL: not asked, or not known */
	struct intern *nat;	    /* translated source address; NULL: none */
	uint16_t port[2];	    /* host order */
	uint16_t nat_port;
	uint32_t duration; /* CLOSE: ms from the first packet to the last */
	uint8_t what[2];   /* enum flow_what */
	uint8_t family;	   /* 0: the packet was no IP */
	uint8_t proto;
	uint8_t type; /* enum tw_event_type */
	uint8_t reason;
	uint8_t verdict;
	uint8_t hook;
	uint8_t tcp, tcp_reply;
	uint8_t icmp_type, icmp_code;
};

#define FLOW_DURATION_UNKNOWN UINT32_MAX

_Static_assert(sizeof(struct flow_record) <= 136, "a record is small");

/* One more of its strings each, for a copy. */
void flow_record_ref(const struct flow_record *r);
void flow_record_clear(struct intern_table *t, struct flow_record *r);
/* Whether two drops are the same but for time, source port and counters. */
bool flow_record_same_drop(const struct flow_record *a, const struct flow_record *b);

/* Text that grows; `failed` stays set once memory ran out. */
struct flow_text {
	char *v;
	size_t n, cap;
	bool failed;
};

void flow_text_printf(struct flow_text *t, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Appends the record as a JSON line. */
void flow_record_json(const struct flow_record *r, uint64_t seq, struct flow_text *out);

/* Towpath's reason, or the kernel's own. */
const char *flow_reason_name(const struct flow_record *r);
const char *flow_type_name(unsigned int type);
const char *flow_what_name(unsigned int what);

/* Records from first on; `lost` were overwritten before they came into a batch. */
struct flow_batch {
	uint64_t first, lost;
	size_t n;
	struct flow_record v[];
};

/* The oldest time that passes. */
uint64_t flow_filter_since(const struct flow_filter *f);
bool flow_filter_match(const struct flow_filter *f, const struct flow_record *r);

/* What readers see of the log: records tail .. head - 1. */
/* The first one of this agent. */
uint64_t flow_log_first(const struct flow_log *log);
uint64_t flow_log_head(const struct flow_log *log);
uint64_t flow_log_tail(const struct flow_log *log);
const struct flow_record *flow_log_at(const struct flow_log *log, uint64_t seq);

#endif
