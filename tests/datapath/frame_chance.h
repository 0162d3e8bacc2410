/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Frames by chance: mostly sensible ones, and then what hostile hands would do to them. */
#ifndef TESTS_DATAPATH_FRAME_CHANCE_H
#define TESTS_DATAPATH_FRAME_CHANCE_H

#include "frame_model.h"

/* The same seed gives the same frames (xorshift64*); never 0. */
struct chance {
	uint64_t state;
};

uint32_t chance_below(struct chance *c, uint32_t n);

struct chance_frame {
	enum via via;
	int family;
	uint32_t gso_size;
	bool changed; /* no longer as a sane sender makes it */
	struct frame frame;
};

void chance_frame(struct chance *c, struct chance_frame *out);
void chance_rules(struct chance *c, struct model_rules *out);

#endif
