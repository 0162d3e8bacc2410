/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "frame_model.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define L3 14u
#define OPEN_SLOTS (1u << 17)
#define FIRSTS 8192u /* more than come in a round */

/* ---- the parser ------------------------------------------------------------------------------- */

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static void addr4_read(union tw_addr *out, const uint8_t *at)
{
	*out = (union tw_addr){};
	out->word[2] = htonl(0xffff);
	memcpy(&out->word[3], at, 4);
}

/* Ends and protocol of an IP header; the offset behind it, 0: it is not all there. */
static size_t ends_read(const uint8_t *at, size_t len, int family, struct tw_tuple *t)
{
	*t = (struct tw_tuple){ .family = (uint8_t)family };
	if (family == 4) {
		if (len < 20 || at[0] >> 4 != 4)
			return 0;
		addr4_read(&t->saddr, at + 12);
		addr4_read(&t->daddr, at + 16);
		t->proto = at[9];
		return (at[0] & 15u) * 4 >= 20 ? (at[0] & 15u) * 4 : 0;
	}
	if (len < 40 || at[0] >> 4 != 6)
		return 0;
	memcpy(&t->saddr, at + 8, 16);
	memcpy(&t->daddr, at + 24, 16);
	t->proto = at[6];
	return 40;
}

static bool with_ports(uint8_t proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP;
}

static bool is_icmp(uint8_t proto)
{
	return proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6;
}

/* The packet that an error is about. */
static void inner_read(const uint8_t *at, size_t len, int family, struct tw_tuple *out)
{
	struct tw_tuple t;
	size_t l4 = ends_read(at, len, family, &t);

	if (!l4)
		return;
	if (is_icmp(t.proto) && l4 + 8 <= len) {
		memcpy(&t.sport, at + l4 + 4, 2);
		t.dport = t.sport;
	} else if (with_ports(t.proto) && l4 + 8 <= len) {
		memcpy(&t.sport, at + l4, 2);
		memcpy(&t.dport, at + l4 + 2, 2);
	} else if (with_ports(t.proto) || is_icmp(t.proto)) {
		return;
	}
	*out = t;
}

static void icmp_read(const uint8_t *at, size_t len, struct facts *f)
{
	bool v4 = f->tuple.family == 4;
	uint8_t type = at[0];

	f->request = type == (v4 ? 8 : 128);
	f->reply = type == (v4 ? 0 : 129);
	f->error = v4 ? type == 3 || type == 11 || type == 12 : type >= 1 && type <= 4;
	f->link = !v4 && ((type >= 130 && type <= 137) || type == 143);
	if (f->request || f->reply) {
		memcpy(&f->tuple.sport, at + 4, 2);
		f->tuple.dport = f->tuple.sport;
	}
	if (f->error && len > 8)
		inner_read(at + 8, len - 8, f->tuple.family, &f->inner);
}

/* The transport at `at`; f->level stays where it is when it cannot be told. */
static void l4_read(const uint8_t *at, size_t len, struct facts *f)
{
	uint8_t proto = f->tuple.proto;

	if (with_ports(proto)) {
		if (len < (proto == IPPROTO_TCP ? 14 : 8))
			return;
		memcpy(&f->tuple.sport, at, 2);
		memcpy(&f->tuple.dport, at + 2, 2);
		f->tcp = proto == IPPROTO_TCP ? at[13] : 0;
	} else if (is_icmp(proto)) {
		/* As far as the identifier. */
		if (len < 6 || (proto == IPPROTO_ICMP) != (f->tuple.family == 4))
			return;
		icmp_read(at, len, f);
		if (!f->request && !f->reply && !f->error)
			return;
	}
	f->level = FACTS_WHOLE;
}

/* Extension headers from *l4 on. False: they do not end within the frame. */
static bool headers_read(const uint8_t *at, size_t len, size_t *l4, struct facts *f, bool *later)
{
	uint8_t *next = &f->tuple.proto;

	while (*next == 0 || *next == 43 || *next == 44 || *next == 51 || *next == 60) {
		const uint8_t *header = at + *l4;
		uint8_t kind = *next;

		if (*l4 + 8 > len)
			return false;
		*next = header[0];
		*l4 += kind == 44 ? 8 : kind == 51 ? (header[1] + 2u) * 4 : (header[1] + 1u) * 8;
		if (kind != 44)
			continue;
		f->frag_id = get32(header + 4);
		f->first |= get16(header + 2) & 1;
		if (get16(header + 2) & 0xfff8) {
			*later = true;
			return true;
		}
	}
	return true;
}

void facts_read(const struct frame *frame, struct facts *out)
{
	const uint8_t *at = frame->data + L3;
	size_t len = frame->len > L3 ? frame->len - L3 : 0, l4;
	uint16_t type = frame->len >= L3 ? get16(frame->data + 12) : 0;
	struct facts f = {};
	bool later = false;

	*out = f;
	if (type != 0x0800 && type != 0x86dd)
		return;
	l4 = ends_read(at, len, type == 0x0800 ? 4 : 6, &f.tuple);
	if (!l4)
		return;
	f.level = FACTS_ENDS;
	if (type == 0x0800) {
		f.frag_id = get16(at + 4);
		later = get16(at + 6) & 0x1fff;
		f.first = !later && get16(at + 6) & 0x2000;
	} else if (!headers_read(at, len, &l4, &f, &later)) {
		*out = f;
		return;
	}
	if (later) {
		f.level = FACTS_LATER;
		f.first = false;
	} else if (l4 <= len) {
		l4_read(at + l4, len - l4, &f);
	}
	*out = f;
}

/* ---- state ------------------------------------------------------------------------------------- */

struct open {
	struct tw_tuple tuple;
	uint32_t vias; /* bits: how its packets may have come */
	bool used;
};

struct first {
	struct tw_tuple tuple;
	uint32_t id;
	enum via via;
};

struct frame_model {
	union tw_addr addrs[PLACES][2];
	struct model_rules rules[C + 1];
	struct open open[OPEN_SLOTS];
	struct first firsts[FIRSTS];
	uint32_t n_firsts;
};

struct frame_model *frame_model_new(void)
{
	struct frame_model *m = calloc(1, sizeof(*m));

	must(m);
	for (enum place p = NOWHERE; p < PLACES; p++)
		for (int v6 = 0; v6 < 2; v6++)
			place_addr(p, v6 ? 6 : 4, &m->addrs[p][v6]);
	return m;
}

void frame_model_free(struct frame_model *m)
{
	free(m);
}

void frame_model_reset(struct frame_model *m, const struct model_rules rules[C + 1])
{
	memcpy(m->rules, rules, sizeof(m->rules));
	memset(m->open, 0, sizeof(m->open));
	m->n_firsts = 0;
}

/* Where the tuple is, or would be. */
static struct open *open_at(const struct frame_model *m, const struct tw_tuple *t)
{
	const uint8_t *bytes = (const uint8_t *)t;
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < sizeof(*t); i++)
		h = (h ^ bytes[i]) * 16777619u;
	for (h %= OPEN_SLOTS; m->open[h].used && memcmp(&m->open[h].tuple, t, sizeof(*t));)
		h = (h + 1) % OPEN_SLOTS;
	return (struct open *)&m->open[h];
}

static bool is_open(const struct frame_model *m, const struct tw_tuple *t)
{
	return open_at(m, t)->used;
}

static struct tw_tuple reversed(const struct tw_tuple *t)
{
	return (struct tw_tuple){
		.saddr = t->daddr,
		.daddr = t->saddr,
		.sport = t->dport,
		.dport = t->sport,
		.proto = t->proto,
		.family = t->family,
	};
}

static bool is_open_either(const struct frame_model *m, const struct tw_tuple *t)
{
	struct tw_tuple back = reversed(t);

	return is_open(m, t) || is_open(m, &back);
}

/* ---- rules --------------------------------------------------------------------------------------- */

static enum place place_of(const struct frame_model *m, const union tw_addr *addr, uint8_t family)
{
	for (enum place p = A; p < PLACES; p++)
		if (!memcmp(&m->addrs[p][family == 6], addr, sizeof(*addr)))
			return p;
	return NOWHERE;
}

static bool is_container(enum place p)
{
	return p >= A && p <= C;
}

static bool is_host(enum place p)
{
	return p == NODE || p == NODE2;
}

static bool side_allows(const struct model_rules *r, enum tw_direction dir, enum place peer,
			uint8_t proto, uint16_t port)
{
	if (!(r->isolate & (dir == TW_INGRESS ? ISOLATE_INGRESS : ISOLATE_EGRESS)))
		return true;
	for (size_t i = 0; i < r->n; i++) {
		const struct allow *a = &r->allow[i];

		if (a->dir == dir && what_proto(a->what, 4) == proto && a->port == port &&
		    (a->peer == NOWHERE || a->peer == peer))
			return true;
	}
	return false;
}

/* By policy alone, as an opener. */
static bool allowed(const struct frame_model *m, const struct tw_tuple *t)
{
	enum place from = place_of(m, &t->saddr, t->family);
	enum place to = place_of(m, &t->daddr, t->family);
	uint16_t port = is_icmp(t->proto) ? 0 : ntohs(t->dport);

	if (is_host(from) || is_host(to))
		return true;
	return (!is_container(from) ||
		side_allows(&m->rules[from], TW_EGRESS, to, t->proto, port)) &&
	       (!is_container(to) || side_allows(&m->rules[to], TW_INGRESS, from, t->proto, port));
}

static bool opens(const struct facts *f, const struct tw_tuple *t)
{
	if (t->proto == IPPROTO_TCP)
		return (f->tcp & (SYN | ACK | RST | FIN)) == SYN;
	return !is_icmp(t->proto) || f->request;
}

/* May this packet pass between its ends, given what is open? */
static bool may_talk(const struct frame_model *m, const struct facts *f, const struct tw_tuple *t)
{
	struct tw_tuple back = reversed(t);

	/* A request is judged by itself, also where the ends share an identifier. */
	if (f->request)
		return allowed(m, t);
	if (is_open(m, &back))
		return true;
	if (!allowed(m, t))
		return false;
	/* I1: in the middle of a connection, both ways must be allowed. */
	return is_open(m, t) || opens(f, t) ||
	       (t->proto == IPPROTO_TCP && !(f->tcp & RST) && allowed(m, &back));
}

/* ---- the sender's right to be who it says it is (I2) ---------------------------------------------- */

#define BY_STACK (1u << TO_A | 1u << TO_B | 1u << UP_TO_A | 1u << B_TO_A)

static bool by_stack(enum via via)
{
	return BY_STACK & 1u << via;
}

static bool from_container(enum via via)
{
	return via <= FROM_C;
}

static const char *check_source(const struct frame_model *m, enum via via, const struct facts *f)
{
	enum place from = place_of(m, &f->tuple.saddr, f->tuple.family);

	switch (via) {
	case FROM_A:
	case FROM_B:
	case FROM_C:
		return from == A + (via - FROM_A) ? NULL
						  : "I2: a container's source is not its own";
	case UP:
	case UP2:
		return is_container(from) || is_host(from) ? "I2: an uplink brings a local source"
							   : NULL;
	case B_TO_A:
		return is_container(from) && from != B ? "I2: not the source of this port" : NULL;
	case UP_TO_A:
		return is_container(from) ? "I2: not the source of an uplink" : NULL;
	default:
		return NULL;
	}
}

/* Unicast, and of some host: what a router may forward (RFC 1812 5.3.7, RFC 4291 2.5, 2.7). */
static bool is_routable(const union tw_addr *a, uint8_t family)
{
	static const uint8_t zeros[12];
	static const uint8_t mapped[12] = { [10] = 0xff, 0xff };

	if (family == 4)
		return a->byte[12] && a->byte[12] != 127 && a->byte[12] < 224;
	return a->byte[0] != 0xff && (a->byte[0] != 0xfe || a->byte[1] >> 6 != 2) &&
	       memcmp(a->byte, zeros, 12) && memcmp(a->byte, mapped, 12);
}

/* ---- what came out --------------------------------------------------------------------------------- */

bool frame_is_answer(const struct frame *in, const struct frame *out)
{
	const uint8_t *ip = out->data + L3;
	bool v4 = get16(out->data + 12) == 0x0800;
	size_t quote = v4 ? 28 : 48;

	if (out->len != L3 + 2 * quote || in->len < L3 + quote ||
	    memcmp(out->data, in->data + 6, 6))
		return false;
	return ip[v4 ? 9 : 6] == (v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6) &&
	       !memcmp(ip + quote, in->data + L3, quote);
}

static const char *check_delivery(const struct frame_model *m, const struct facts *to,
				  const struct frame *out)
{
	static const uint8_t gateway[6] = { 2, 0x54, 0x57, 0, 0, 1 };
	enum place place = place_of(m, &to->tuple.daddr, to->tuple.family);
	const uint8_t mac[6] = { 2, 0, 0, 0, 0, (uint8_t)(place - A + 2) };

	if (!is_container(place))
		return NULL;
	return memcmp(out->data, mac, 6) || memcmp(out->data + 6, gateway, 6)
		       ? "a frame for a container has not its and the gateway's MAC"
		       : NULL;
}

/* The node is who it is by where it sends from, so its packets open whatever they say (I2). */
static void learn(struct frame_model *m, enum via via, const struct facts *f,
		  const struct tw_tuple *t)
{
	struct open *open = open_at(m, t);

	if (f->level != FACTS_WHOLE || f->error || (via != TO_A && via != TO_B && !allowed(m, t)))
		return;
	*open = (struct open){ *t, open->vias | 1u << via, true };
}

/* Every first fragment leaves its ports, whatever becomes of it. */
static void learn_first(struct frame_model *m, enum via via, const struct facts *f)
{
	if (f->first && f->level == FACTS_WHOLE)
		m->firsts[m->n_firsts++ % FIRSTS] = (struct first){ f->tuple, f->frag_id, via };
}

/* By the ports of the first; a later fragment shows no flags, and may open what needs none. */
static bool later_may_talk(struct frame_model *m, enum via via, const struct facts *f,
			   const union tw_addr *daddr)
{
	uint32_t kept = m->n_firsts < FIRSTS ? m->n_firsts : FIRSTS;
	bool may = false;

	for (uint32_t i = 0; i < kept; i++) {
		const struct first *first = &m->firsts[i];
		struct facts as = { .level = FACTS_WHOLE, .tuple = first->tuple };
		struct tw_tuple back;

		if (first->id != f->frag_id || first->via != via ||
		    as.tuple.proto != f->tuple.proto || as.tuple.family != f->tuple.family ||
		    memcmp(&as.tuple.saddr, &f->tuple.saddr, 16) ||
		    memcmp(&as.tuple.daddr, &f->tuple.daddr, 16))
			continue;
		as.tuple.daddr = *daddr;
		back = reversed(&as.tuple);
		if (!allowed(m, &as.tuple) && !is_open(m, &back))
			continue;
		learn(m, via, &as, &as.tuple);
		may = true;
	}
	return may;
}

static const char *check_passed(struct frame_model *m, enum via via, const struct facts *f,
				const struct facts *to)
{
	struct tw_tuple t = f->tuple, back = reversed(&f->tuple);
	/* By the stack a router's error comes in where it likes; its source was checked before. */
	const char *wrong = f->error && by_stack(via) ? NULL : check_source(m, via, f);

	if (wrong)
		return wrong;
	/* But for answers to the node, which may have sent from there. */
	if (!is_routable(&to->tuple.daddr, t.family) && !is_open(m, &back))
		return "carried to an address that no router forwards to";
	/* A router on the link may complain by its link-local address. */
	if (!is_routable(&f->tuple.saddr, t.family) && via != TO_A && via != TO_B && !f->error)
		return "I2: a source that no router forwards";
	if (place_of(m, &to->tuple.daddr, t.family) == EMPTY && !is_open(m, &back))
		return "carried to an address that nobody has";
	if (f->level == FACTS_LATER)
		return later_may_talk(m, via, f, &to->tuple.daddr)
			       ? NULL
			       : "a later fragment passed without an allowed first";
	if (f->level != FACTS_WHOLE)
		return "I12: passed, and nobody can tell what it is";
	if (f->error) {
		/* The inner packet as the container knows it, on which side ever that is. */
		const struct tw_tuple *inner = from_container(via) ? &f->inner : &to->inner;

		return inner->family && is_open_either(m, inner)
			       ? NULL
			       : "an ICMP error passed about a connection that is not open";
	}
	/* Towards a translation, the destination is what came out. */
	t.daddr = to->tuple.daddr;
	t.dport = to->tuple.dport;
	if (is_icmp(t.proto))
		t.sport = t.dport = is_container(place_of(m, &t.daddr, t.family)) ? to->tuple.dport
										  : f->tuple.dport;
	if (!may_talk(m, f, &t))
		return "the model denies what passed";
	learn(m, via, f, &t);
	return NULL;
}

static uint8_t hops_left(const struct frame *in)
{
	return in->data[L3 + (get16(in->data + 12) == 0x0800 ? 8 : 7)];
}

/* For the node itself, or back the way it came (I8). */
static bool goes_to_stack(const struct frame_model *m, const struct facts *f)
{
	struct tw_tuple back = f->error ? f->inner : reversed(&f->tuple);
	const struct open *open = open_at(m, &back);

	return is_host(place_of(m, &f->tuple.daddr, f->tuple.family)) || f->level == FACTS_LATER ||
	       (open->vias & BY_STACK);
}

const char *frame_model_check(struct frame_model *m, enum via via, const struct frame *in,
			      int verdict, const struct frame *out)
{
	struct facts f, to;
	const char *wrong;

	facts_read(in, &f);
	learn_first(m, via, &f);
	if (verdict == DROP || (verdict == REDIRECTED && frame_is_answer(in, out))) {
		/* Too large or its time over: the flow is opened all the same. */
		if (f.level == FACTS_NONE || check_source(m, via, &f) ||
		    (in->len - L3 <= LAB_MTU && hops_left(in) > 1))
			return NULL;
		if (f.level == FACTS_LATER)
			later_may_talk(m, via, &f, &f.tuple.daddr);
		else
			learn(m, via, &f, &f.tuple);
		return NULL;
	}
	/* For another's MAC: the stack drops it. */
	if (verdict == PASS && (via == UP || via == UP2) && !(in->data[0] & 1) &&
	    memcmp(in->data, (const uint8_t[6]){ 2, 0x54, 0x57, 0, 0, 1 }, 6))
		return NULL;
	if (verdict == PASS && (via == UP || via == UP2))
		/* The host's; what it forwards meets a port's hook. */
		return f.level == FACTS_WHOLE && !f.error && check_source(m, via, &f)
			       ? check_source(m, via, &f)
			       : NULL;
	if (verdict == PASS && (via == TO_A || via == TO_B)) {
		/* The node may talk to its containers as it likes. */
		learn(m, via, &f, &f.tuple);
		return NULL;
	}
	if (verdict != PASS && verdict != REDIRECTED)
		return "a verdict that there is not";
	if (f.level == FACTS_NONE)
		return "I12: passed, and it is not IP";
	if (verdict == PASS && from_container(via) && !goes_to_stack(m, &f))
		return "up the stack, and neither for the node nor an answer to what came so";
	to = f;
	if (verdict == REDIRECTED) {
		facts_read(out, &to);
		wrong = check_delivery(m, &to, out);
		if (wrong)
			return wrong;
	}
	return check_passed(m, via, &f, &to);
}

bool frame_model_must_pass(const struct frame_model *m, enum via via, const struct frame *in)
{
	struct tw_tuple back;
	struct facts f;
	const struct open *open;
	enum place to;

	facts_read(in, &f);
	to = place_of(m, &f.tuple.daddr, f.tuple.family);
	if (!from_container(via) || f.level != FACTS_WHOLE || f.first || f.error ||
	    check_source(m, via, &f) || !is_container(to) || !opens(&f, &f.tuple) ||
	    !allowed(m, &f.tuple))
		return false;
	/* The other direction of something else, or of what came another way: it depends. */
	back = reversed(&f.tuple);
	open = open_at(m, &f.tuple);
	return !is_open(m, &back) && !(open->vias & ~(1u << via));
}
