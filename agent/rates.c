/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "rates.h"

#include <errno.h>
#include <stdlib.h>

#include "agent.h"

#define LOOKS 11u /* ten seconds lie between them */

struct look {
	uint64_t time; /* uv_hrtime() */
	uint64_t total[RATE_COUNT];
};

struct rates {
	struct agent *a;
	struct look looks[LOOKS]; /* a ring */
	unsigned int n;		  /* looks ever taken */
};

static void add_reason(uint64_t total[RATE_COUNT], unsigned int reason, uint64_t packets)
{
	total[RATE_DROPS] += packets;
	switch (reason) {
	case TW_REASON_POLICY_EGRESS:
	case TW_REASON_POLICY_INGRESS:
	case TW_REASON_REVOKED:
		total[RATE_DENIED] += packets;
		break;
	case TW_REASON_MAP_FULL:
		total[RATE_FULL] += packets;
		break;
	case TW_REASON_NO_PROGRAM:
	case TW_REASON_INTERNAL:
		total[RATE_BUGS] += packets;
		break;
	default:
		break;
	}
}

static void look_take(const struct rates *r, struct look *out)
{
	struct datapath *dp = r->a->dp;
	struct tw_metric m;

	*out = (struct look){ .time = uv_hrtime() };
	datapath_counter(dp, TW_COUNTER_INSERTS, &out->total[RATE_FLOWS]);
	datapath_counter(dp, TW_COUNTER_EVENTS_LOST, &out->total[RATE_LOST]);
	for (unsigned int reason = TW_REASON_OK + 1; reason < TW_REASON_COUNT; reason++)
		for (unsigned int hook = 0; hook < TW_HOOK_COUNT; hook++)
			if (!datapath_metric(dp, (enum tw_reason)reason, (enum tw_hook)hook, &m))
				add_reason(out->total, reason, m.packets);
}

int rates_new(struct rates **out, struct agent *a)
{
	struct rates *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->a = a;
	rates_look(r);
	*out = r;
	return 0;
}

void rates_free(struct rates *r)
{
	free(r);
}

void rates_look(struct rates *r)
{
	look_take(r, &r->looks[r->n++ % LOOKS]);
}

void rates_get(struct rates *r, double *seconds, uint64_t count[RATE_COUNT])
{
	const struct look *oldest = &r->looks[r->n > LOOKS ? r->n % LOOKS : 0];
	struct look now;

	look_take(r, &now);
	*seconds = (double)(now.time - oldest->time) / 1e9;
	for (unsigned int i = 0; i < RATE_COUNT; i++)
		count[i] = now.total[i] - oldest->total[i];
}
