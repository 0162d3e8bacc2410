/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What may become of a frame, in plain C: its own parser, the policy as it was written (not as
 * it was compiled), and who has opened what. Slow, and written from the RFCs and
 * docs/design/rules.md; knows nothing of the programs.
 */
#ifndef TESTS_DATAPATH_FRAME_MODEL_H
#define TESTS_DATAPATH_FRAME_MODEL_H

#include "lab.h"

enum facts_level {
	FACTS_NONE,  /* neither IPv4 nor IPv6, or not even a whole header of it */
	FACTS_ENDS,  /* who to whom; what, cannot be told */
	FACTS_LATER, /* a later fragment: ports are those of the first */
	FACTS_WHOLE,
};

/* What a frame says. */
struct facts {
	enum facts_level level;
	struct tw_tuple tuple;
	bool first; /* a first fragment */
	uint32_t frag_id;
	uint8_t tcp;
	bool request, reply, error; /* ICMP */
	bool link;		    /* neighbour discovery and multicast listeners */
	struct tw_tuple inner;	    /* of an ICMP error; family 0: cannot be told */
};

void facts_read(const struct frame *frame, struct facts *out);

#define MODEL_RULES 6

struct model_rules {
	unsigned int isolate;
	struct allow allow[MODEL_RULES];
	size_t n;
};

struct frame_model;

struct frame_model *frame_model_new(void);
void frame_model_free(struct frame_model *m);
/* New rules for A, B and C (rules[A] ...), and nothing open. */
void frame_model_reset(struct frame_model *m, const struct model_rules rules[C + 1]);

/*
 * What a program made of `in`: the model learns from it what is open now. NULL, or a sentence
 * that says which rule is broken.
 */
const char *frame_model_check(struct frame_model *m, enum via via, const struct frame *in,
			      int verdict, const struct frame *out);
/* Whether this well-formed packet must get through (it may also be one that need not). */
bool frame_model_must_pass(const struct frame_model *m, enum via via, const struct frame *in);
/* Whether the frame that came out is one of our own ICMP errors about the one that went in. */
bool frame_is_answer(const struct frame *in, const struct frame *out);

#endif
