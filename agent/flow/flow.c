/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The log itself: an event becomes a named record in the ring, or one more in the count of
 * drops that are like it.
 */
#include "flow/opened.h"
#include "flow/record.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECOND 1000000000ull
#define COUNTED 256u /* different drops that are counted at a time */
#define ANSWERS 256u /* answers of the compiler that are kept */
#define ENDS 256u    /* endpoints whose names are at hand */

/*
 * A drop of this second. The ring has its first record; rec counts those that came after it
 * and is written when the second is over, or when another drop needs the place.
 */
struct counted {
	bool used;
	uint64_t since; /* ns, CLOCK_MONOTONIC */
	struct flow_record rec;
};

/*
 * What the compiler answered. It holds for every peer of one identity: that is what an
 * identity is. So a flood of new flows does not become a flood of questions.
 */
struct answer {
	uint16_t slot; /* 0: free */
	uint16_t port;
	uint32_t peer;
	uint8_t proto;
	uint8_t dir;
	bool allow;
	struct intern *text;
};

/* How an endpoint is called: made of several look-ups, and asked for with every flow. */
struct named {
	uint16_t slot; /* 0: free */
	struct intern *text;
};

struct flow_log {
	struct flow_source source;
	struct intern_table *strings;
	struct flow_record *ring;
	uint32_t capacity;
	uint64_t first; /* number of this agent's first record */
	uint64_t head;	/* number of the next one */
	struct opened *opened;
	uint64_t events;
	uint64_t wall_offset;  /* CLOCK_REALTIME - CLOCK_MONOTONIC, ns */
	uint64_t wall_checked; /* ns, CLOCK_MONOTONIC: when that was measured */
	struct flow_text scratch;
	struct counted counted[COUNTED];
	struct answer answers[ANSWERS];
	struct named ends[ENDS];
};

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

/* The wall clock may be stepped, so the offset is measured again every second. */
static uint64_t wall_time(struct flow_log *log, uint64_t mono)
{
	if (!log->wall_checked || mono > log->wall_checked + SECOND) {
		log->wall_checked = clock_ns(CLOCK_MONOTONIC);
		log->wall_offset = clock_ns(CLOCK_REALTIME) - log->wall_checked;
	}
	return mono + log->wall_offset;
}

uint64_t flow_number_now(void)
{
	return clock_ns(CLOCK_REALTIME) / 1000;
}

int flow_log_new(struct flow_log **out, uint32_t capacity, const struct flow_source *source)
{
	struct flow_log *log = calloc(1, sizeof(*log));

	if (!log)
		return -ENOMEM;
	log->capacity = capacity ? capacity : FLOW_LOG_DEFAULT;
	log->source = *source;
	log->first = log->head = flow_number_now();
	log->strings = intern_table_new();
	log->ring = calloc(log->capacity, sizeof(*log->ring));
	log->opened = opened_new();
	if (!log->strings || !log->ring || !log->opened) {
		flow_log_free(log);
		return -ENOMEM;
	}
	*out = log;
	return 0;
}

void flow_log_free(struct flow_log *log)
{
	if (!log)
		return;
	/* The strings go with their table, whoever has references. */
	intern_table_free(log->strings);
	free(log->ring);
	opened_free(log->opened);
	free(log->scratch.v);
	free(log);
}

void flow_log_number_from(struct flow_log *log, uint64_t first)
{
	log->first = log->head = first;
}

uint64_t flow_log_first(const struct flow_log *log)
{
	return log->first;
}

uint64_t flow_log_head(const struct flow_log *log)
{
	return log->head;
}

uint64_t flow_log_tail(const struct flow_log *log)
{
	return log->head - log->first > log->capacity ? log->head - log->capacity : log->first;
}

const struct flow_record *flow_log_at(const struct flow_log *log, uint64_t seq)
{
	return &log->ring[seq % log->capacity];
}

static void record_tell(const struct flow_log *log, const struct flow_record *rec)
{
	for (enum tw_direction dir = TW_INGRESS; dir <= TW_EGRESS; dir++) {
		const char *text = intern_text(rec->decision[dir]), *rule;
		struct flow_decided d = { .dir = dir, .count = 1, .time = rec->time };
		size_t len;

		if (!rec->decision[dir])
			continue;
		d.allow = text[1] == '1';
		d.policy = intern_line(text, 1, &d.policy_len);
		rule = intern_line(text, 2, &len);
		d.rule = (int)strtol(rule, NULL, 10);
		d.selected_by = intern_line(text, 3, &d.selected_len);
		if (rec->type == TW_EVENT_DROP)
			d.count = rec->packets[0];
		log->source.decided(log->source.arg, &d);
	}
}

/* Takes the record's references over. */
static void log_append(struct flow_log *log, const struct flow_record *rec)
{
	struct flow_record *place = &log->ring[log->head % log->capacity];

	flow_record_clear(log->strings, place);
	*place = *rec;
	log->head++;
	if (log->source.decided)
		record_tell(log, rec);
}

uint64_t flow_log_waiting(const struct flow_log *log, uint64_t from)
{
	return log->head > from ? log->head - from : 0;
}

struct flow_batch *flow_log_batch(struct flow_log *log, uint64_t *from, size_t max)
{
	uint64_t tail = flow_log_tail(log), first = *from > tail ? *from : tail;
	size_t n = flow_log_waiting(log, first) < max ? (size_t)(log->head - first) : max;
	struct flow_batch *b = n ? malloc(sizeof(*b) + n * sizeof(b->v[0])) : NULL;

	if (!b)
		return NULL;
	b->first = first;
	b->lost = first - *from;
	b->n = n;
	for (size_t i = 0; i < n; i++) {
		struct flow_record *rec = &b->v[i];

		*rec = *flow_log_at(log, first + i);
		flow_record_ref(rec);
	}
	*from = first + n;
	return b;
}

void flow_log_batch_end(struct flow_log *log, struct flow_batch *b)
{
	for (size_t i = 0; b && i < b->n; i++)
		flow_record_clear(log->strings, &b->v[i]);
	free(b);
}

/* A newline is what separates the parts of a shared string, so none may be in a part. */
static void scratch_part(struct flow_text *t, const char *s, const char *separator)
{
	size_t from = t->n;

	flow_text_printf(t, "%s", s);
	for (size_t i = from; !t->failed && i < t->n; i++)
		if ((unsigned char)t->v[i] < 0x20)
			t->v[i] = '?';
	flow_text_printf(t, "%s", separator);
}

static struct intern *scratch_intern(struct flow_log *log)
{
	struct intern *s = log->scratch.failed ? NULL : intern_get(log->strings, log->scratch.v);

	log->scratch.n = 0;
	log->scratch.failed = false;
	return s;
}

enum found { FOUND_NOT, FOUND_BY_SLOT, FOUND_BY_ADDRESS };

/* Namespace and name of a pod. */
static enum found pod_find(struct flow_log *log, uint16_t slot, const union tw_addr *addr,
			   char ns[256], char pod[256])
{
	const struct flow_source *src = &log->source;
	const char *found_ns, *found_pod;

	if (slot && src->endpoint && src->endpoint(src->arg, slot, &found_ns, &found_pod)) {
		snprintf(ns, 256, "%s", found_ns);
		snprintf(pod, 256, "%s", found_pod);
		return FOUND_BY_SLOT;
	}
	const char *name = src->policy ? policy_addr_name(src->policy, addr) : "";
	const char *slash = strchr(name, '/');

	if (!slash)
		return FOUND_NOT;
	snprintf(ns, 256, "%.*s", (int)(slash - name), name);
	snprintf(pod, 256, "%s", slash + 1);
	return FOUND_BY_ADDRESS;
}

static enum flow_what identity_what(uint32_t identity)
{
	switch (identity) {
	case TW_ID_UNKNOWN:
		return FLOW_WHAT_UNKNOWN;
	case TW_ID_HOST:
		return FLOW_WHAT_HOST;
	case TW_ID_REMOTE_NODE:
		return FLOW_WHAT_NODE;
	case TW_ID_UNASSIGNED:
		return FLOW_WHAT_UNASSIGNED;
	default: /* one of the compiler's: a class of addresses that some policy names */
		return FLOW_WHAT_WORLD;
	}
}

static struct intern *end_text(struct flow_log *log, const char *ns, const char *pod)
{
	const struct flow_source *src = &log->source;
	const struct labels *labels = src->labels ? src->labels(src->arg, ns, pod) : NULL;

	scratch_part(&log->scratch, ns, "\n");
	scratch_part(&log->scratch, pod, "");
	for (size_t n = 0; labels && n < labels->n; n++) {
		scratch_part(&log->scratch, "", "\n");
		scratch_part(&log->scratch, labels->v[n].key, "=");
		scratch_part(&log->scratch, labels->v[n].value, "");
	}
	return scratch_intern(log);
}

/* Fills one end of the record: what it is and, for a pod, its shared name and labels. */
static int record_name(struct flow_log *log, struct flow_record *rec, int i, uint16_t slot,
		       uint32_t identity)
{
	struct named *known = &log->ends[slot % ENDS];
	char ns[256], pod[256];

	rec->what[i] = (uint8_t)identity_what(identity);
	if (slot && known->slot == slot) {
		rec->what[i] = FLOW_WHAT_POD;
		rec->end[i] = intern_ref(known->text);
		return 0;
	}

	enum found found =
		identity == TW_ID_HOST ? FOUND_NOT : pod_find(log, slot, &rec->addr[i], ns, pod);

	if (found == FOUND_NOT)
		return 0;
	rec->what[i] = FLOW_WHAT_POD;
	rec->end[i] = end_text(log, ns, pod);
	if (!rec->end[i])
		return -ENOMEM;
	if (found == FOUND_BY_SLOT) {
		intern_unref(log->strings, known->text);
		*known = (struct named){ .slot = slot, .text = intern_ref(rec->end[i]) };
	}
	return 0;
}

static struct intern *answer_text(struct flow_log *log, const struct policy_answer *a)
{
	char number[16];

	flow_text_printf(&log->scratch, "%d%d\n", a->isolated, a->allow);
	if (a->policy) {
		scratch_part(&log->scratch, a->policy_ns, "/");
		scratch_part(&log->scratch, a->policy, "");
	}
	snprintf(number, sizeof(number), "\n%d\n", a->rule);
	flow_text_printf(&log->scratch, "%s", number);
	scratch_part(&log->scratch, a->selected_by, "");
	return scratch_intern(log);
}

/* One direction's question to the compiler; NULL when it has no answer. Borrowed. */
static const struct answer *answer_get(struct flow_log *log, const struct tw_event *ev,
				       enum tw_direction dir)
{
	bool ports = ev->tuple.proto == IPPROTO_TCP || ev->tuple.proto == IPPROTO_UDP ||
		     ev->tuple.proto == IPPROTO_SCTP;
	bool out = dir == TW_EGRESS;
	struct answer key = {
		.slot = out ? ev->slot_from : ev->slot_to,
		.port = ports ? ntohs(ev->tuple.dport) : 0,
		.peer = out ? ev->identity_to : ev->identity_from,
		.proto = ev->tuple.proto,
		.dir = (uint8_t)dir,
	};
	struct policy_end peer = {
		.slot = out ? ev->slot_to : ev->slot_from,
		.is_host = key.peer == TW_ID_HOST,
		.addr = out ? ev->tuple.daddr : ev->tuple.saddr,
	};
	uint32_t hash =
		(key.slot * 31u + key.port) * 31u + key.peer * 7u + key.proto * 2u + key.dir;
	struct answer *a = &log->answers[hash * 2654435761u >> 24];
	struct policy_answer said = { 0 };

	_Static_assert(ANSWERS == 1 << 8, "the hash gives eight bits");
	/* A peer of which the kernel does not know the identity may be any. */
	if (key.peer != TW_ID_UNKNOWN && a->slot == key.slot && a->port == key.port &&
	    a->peer == key.peer && a->proto == key.proto && a->dir == key.dir)
		return a;
	if (policy_explain(log->source.policy, key.slot, dir, &peer, key.proto, key.port, &said))
		return NULL;
	key.allow = said.allow;
	key.text = answer_text(log, &said);
	if (!key.text)
		return NULL;
	intern_unref(log->strings, a->text);
	*a = key;
	return a;
}

/*
 * Which rules decided, for records that a policy decided. An answer that contradicts the
 * kernel's verdict is from after a change of policy, and is left out rather than shown.
 */
static void record_explain(struct flow_log *log, struct flow_record *rec, const struct tw_event *ev)
{
	bool asked[2] = { ev->slot_to != 0, ev->slot_from != 0 }; /* enum tw_direction */
	int expect[2] = { -1, -1 };				  /* allow; -1: either */

	if (!log->source.policy || ev->type == TW_EVENT_CLOSE || ev->hook == TW_HOOK_KERNEL)
		return;
	switch (ev->reason) {
	case TW_REASON_OK:
		expect[TW_EGRESS] = expect[TW_INGRESS] = 1;
		break;
	case TW_REASON_POLICY_EGRESS:
		expect[TW_EGRESS] = 0;
		asked[TW_INGRESS] = false; /* the kernel did not get that far */
		break;
	case TW_REASON_POLICY_INGRESS:
		expect[TW_EGRESS] = 1;
		expect[TW_INGRESS] = 0;
		break;
	case TW_REASON_REVOKED: /* who allowed it is of no interest any more */
		expect[TW_EGRESS] = expect[TW_INGRESS] = 0;
		break;
	default:
		return;
	}
	for (enum tw_direction dir = TW_INGRESS; dir <= TW_EGRESS; dir++) {
		const struct answer *a = asked[dir] ? answer_get(log, ev, dir) : NULL;

		if (a && (expect[dir] < 0 || expect[dir] == a->allow))
			rec->decision[dir] = intern_ref(a->text);
	}
}

/* Everything of the record but names and decisions. */
static void record_fill(struct flow_log *log, struct flow_record *rec, const struct tw_event *ev)
{
	const struct tw_tuple *t = &ev->tuple;

	rec->time = wall_time(log, ev->time);
	rec->family = t->family;
	rec->proto = t->proto;
	rec->addr[0] = t->saddr;
	rec->addr[1] = t->daddr;
	rec->port[0] = ntohs(t->sport);
	rec->port[1] = ntohs(t->dport);
	rec->type = ev->type;
	rec->reason = ev->reason;
	rec->verdict = ev->verdict;
	rec->hook = ev->hook;
	rec->tcp = ev->tcp;
	rec->tcp_reply = ev->tcp_reply;
	rec->icmp_type = ev->icmp_type;
	rec->icmp_code = ev->icmp_code;
	if (ev->type == TW_EVENT_DROP) {
		/* Of a flood the data path tells of many at once. */
		rec->packets[0] = ev->packets[0] ? ev->packets[0] : 1;
		rec->bytes[0] = ev->bytes[0] ? ev->bytes[0] : ev->length;
	} else {
		memcpy(rec->packets, ev->packets, sizeof(rec->packets));
		memcpy(rec->bytes, ev->bytes, sizeof(rec->bytes));
	}
}

static bool same_flow(const struct flow_record *a, const struct flow_record *b)
{
	return a->family == b->family && a->proto == b->proto &&
	       !memcmp(a->port, b->port, sizeof(a->port)) &&
	       !memcmp(a->addr, b->addr, sizeof(a->addr));
}

/*
 * The end of a flow is told with what was said of its beginning, where the ring still has that: the
 * kernel does not keep who the ends were, and pods that are gone by now had names then. Returns
 * whether the ends have their names.
 */
static bool record_begun(struct flow_log *log, struct flow_record *rec, const struct tw_event *ev)
{
	uint64_t ms, seq;

	rec->duration = FLOW_DURATION_UNKNOWN;
	if (!opened_take(log->opened, &ev->tuple, ev->time, log->head, &ms, &seq))
		return false;
	ms = ms > ev->idle ? ms - ev->idle : 0;
	rec->duration = ms < FLOW_DURATION_UNKNOWN ? (uint32_t)ms : FLOW_DURATION_UNKNOWN;
	if (seq < flow_log_tail(log))
		return false;

	const struct flow_record *begun = flow_log_at(log, seq);

	if (begun->type != TW_EVENT_NEW || !same_flow(begun, rec))
		return false;
	for (int i = 0; i < 2; i++) {
		rec->what[i] = begun->what[i];
		rec->end[i] = intern_ref(begun->end[i]);
		rec->decision[i] = intern_ref(begun->decision[i]);
	}
	return true;
}

static int record_complete(struct flow_log *log, struct flow_record *rec, const struct tw_event *ev)
{
	bool begun = ev->type == TW_EVENT_CLOSE && record_begun(log, rec, ev);
	char nat[64];
	int ret = begun ? 0 : record_name(log, rec, 0, ev->slot_from, ev->identity_from);

	if (!ret && !begun)
		ret = record_name(log, rec, 1, ev->slot_to, ev->identity_to);
	if (!ret && ev->nat_port && !addr_format(&ev->nat_addr, nat, sizeof(nat))) {
		rec->nat = intern_get(log->strings, nat);
		rec->nat_port = ntohs(ev->nat_port);
		ret = rec->nat ? 0 : -ENOMEM;
	}
	if (!ret)
		record_explain(log, rec, ev);
	return ret;
}

static void counted_close(struct flow_log *log, struct counted *c)
{
	if (!c->used)
		return;
	if (c->rec.packets[0])
		log_append(log, &c->rec);
	else
		flow_record_clear(log->strings, &c->rec);
	memset(c, 0, sizeof(*c));
}

static struct counted *counted_place(struct flow_log *log, const struct flow_record *rec)
{
	uint64_t h = rec->reason * 31u + rec->proto;
	const union tw_addr *a = rec->addr;

	h = h * 0x9e3779b97f4a7c15ull + (a[0].quad[0] ^ a[0].quad[1]);
	h = h * 0x9e3779b97f4a7c15ull + (a[1].quad[0] ^ a[1].quad[1]);
	h = (h + rec->port[1]) * 0x9e3779b97f4a7c15ull;
	return &log->counted[(h >> 32) % COUNTED];
}

/* The first of a kind of drops was written: those that follow are counted. */
static void counted_begin(struct flow_log *log, struct counted *c, const struct flow_record *rec,
			  uint64_t now)
{
	counted_close(log, c);
	c->used = true;
	c->since = now;
	c->rec = *rec;
	c->rec.packets[0] = 0;
	c->rec.bytes[0] = 0;
	flow_record_ref(rec);
}

/* The ends of a packet that was dropped before the data path looked them up. */
static void event_ends(const struct flow_log *log, struct tw_event *ev)
{
	const struct flow_source *src = &log->source;
	bool from = ev->identity_from == TW_ID_UNKNOWN && !ev->slot_from;
	bool to = ev->identity_to == TW_ID_UNKNOWN && !ev->slot_to;

	if (src->slot && from)
		ev->slot_from = (uint16_t)src->slot(
			src->arg, ev->hook == TW_HOOK_FROM_CONTAINER ? ev->ifindex : 0,
			&ev->tuple.saddr);
	if (src->slot && to)
		ev->slot_to = (uint16_t)src->slot(
			src->arg, ev->hook == TW_HOOK_TO_CONTAINER ? ev->ifindex : 0,
			&ev->tuple.daddr);
}

int flow_log_event(struct flow_log *log, const struct tw_event *event)
{
	struct tw_event completed = *event;
	const struct tw_event *ev = &completed;
	struct flow_record rec = { 0 };
	struct counted *c = NULL;

	log->events++;
	record_fill(log, &rec, ev);
	if (rec.type == TW_EVENT_DROP) {
		c = counted_place(log, &rec);
		if (c->used && ev->time < c->since + SECOND &&
		    flow_record_same_drop(&c->rec, &rec)) {
			c->rec.packets[0] += rec.packets[0];
			c->rec.bytes[0] += rec.bytes[0];
			c->rec.time = rec.time;
			return 0;
		}
	}
	event_ends(log, &completed);

	int ret = record_complete(log, &rec, ev);

	if (ret) {
		flow_record_clear(log->strings, &rec);
		return ret;
	}
	if (c)
		counted_begin(log, c, &rec, ev->time);
	if (rec.type == TW_EVENT_NEW)
		opened_put(log->opened, &ev->tuple, ev->time, log->head);
	log_append(log, &rec);
	return 0;
}

void flow_log_tick(struct flow_log *log)
{
	uint64_t now = clock_ns(CLOCK_MONOTONIC);

	for (size_t i = 0; i < COUNTED; i++)
		if (log->counted[i].used && now >= log->counted[i].since + SECOND)
			counted_close(log, &log->counted[i]);
}

void flow_log_policy_changed(struct flow_log *log)
{
	/* A drop after the change may have another policy to thank for it. */
	for (size_t i = 0; i < COUNTED; i++)
		counted_close(log, &log->counted[i]);
	for (size_t i = 0; i < ANSWERS; i++)
		intern_unref(log->strings, log->answers[i].text);
	memset(log->answers, 0, sizeof(log->answers));
	for (size_t i = 0; i < ENDS; i++)
		intern_unref(log->strings, log->ends[i].text);
	memset(log->ends, 0, sizeof(log->ends));
}

void flow_log_stats_get(const struct flow_log *log, struct flow_log_stats *out)
{
	out->events = log->events;
	out->records = log->head - log->first;
	out->kept = (uint32_t)(log->head - flow_log_tail(log));
	out->capacity = log->capacity;
	out->bytes = sizeof(*log) + out->kept * sizeof(*log->ring) +
		     intern_table_bytes(log->strings) + opened_bytes(log->opened);
}
