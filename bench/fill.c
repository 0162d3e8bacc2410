/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Tables as full as on a large node, so that what a hot packet touches is not all there is. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define FIRST_SLOT 16u
#define SETS 100u
#define VERSIONS 1000u
#define CLASSES (BENCH_POLICY_ENTRIES / VERSIONS)
/* Numbers beyond those that the lab hands out. */
#define FIRST_SET 100000u
#define FIRST_VERSION 4000u

/* The i-th endpoint's address: 10.89.0.0/16, fd00:10:89::/64. */
static void endpoint_addr(uint32_t i, int family, union tw_addr *out)
{
	place_addr(A, family, out);
	if (family == 4) {
		out->word[3] = htonl(0x0a590000u + i);
	} else {
		out->byte[5] = 0x89;
		out->word[3] = htonl(i);
	}
}

void fill_endpoints(struct bench *b)
{
	for (uint32_t i = 1; i <= BENCH_ENDPOINTS; i++) {
		uint32_t slot = FIRST_SLOT + i;
		union tw_addr addr4, addr6;
		struct tw_endpoint ep;

		endpoint_addr(i, 4, &addr4);
		endpoint_addr(i, 6, &addr6);
		lab_endpoint(&b->lab, C, &ep);
		ep.identity = LAB_IDENTITY + 100 + i % 2000;
		ep.version = FIRST_VERSION + i % VERSIONS;
		ep.addr4 = addr4.word[3];
		ep.addr6 = addr6;
		must(!datapath_endpoint_set(b->lab.dp, slot, &ep));
		must(!datapath_prefix_set(b->lab.dp, &addr4, 128, TW_WORD_ENDPOINT | slot));
		must(!datapath_prefix_set(b->lab.dp, &addr6, 128, TW_WORD_ENDPOINT | slot));
	}
}

static void version_fill(struct bench *b, uint32_t version)
{
	const bool isolated[2] = { true, true };
	struct tw_class classes[CLASSES];
	const struct tw_class *const both[2] = { classes, classes };
	const uint32_t counts[2] = { CLASSES, CLASSES };

	for (uint32_t i = 0; i < CLASSES; i++)
		classes[i] = (struct tw_class){
			.start = i ? (uint32_t)IPPROTO_TCP << 16 | i * 100 : 0,
			.set = i % 2 ? FIRST_SET + (version + i) % SETS : TW_SET_NONE,
		};
	must(!datapath_version_set(b->lab.dp, version, isolated, both, counts));
}

void fill_policies(struct bench *b)
{
	for (uint32_t i = 0; i < BENCH_POLICY_ENTRIES; i++)
		must(!datapath_peer_set(b->lab.dp, FIRST_SET + i % SETS,
					LAB_IDENTITY + 100 + i / SETS));
	for (uint32_t i = 0; i < VERSIONS; i++)
		version_fill(b, FIRST_VERSION + i);
}

/* The version of an endpoint that may talk on ports 1000 to 1099 with `peers` only. */
static uint32_t own_version(struct bench *b, enum tw_direction dir, const enum place *peers,
			    size_t n_peers)
{
	const bool isolated[2] = { dir == TW_INGRESS, dir == TW_EGRESS };
	uint32_t set = b->lab.next_set = (b->lab.next_set ?: 1) + 1;
	uint32_t version = ++b->lab.next_version, key = (uint32_t)IPPROTO_TCP << 16;
	struct tw_class classes[CLASSES];
	const struct tw_class *const both[2] = { classes, classes };
	uint32_t counts[2] = { 0, 0 };

	counts[dir] = CLASSES;
	for (size_t i = 0; i < n_peers; i++)
		must(!datapath_peer_set(b->lab.dp, set, LAB_IDENTITY + peers[i]));
	for (uint32_t i = 0; i < CLASSES; i++)
		classes[i] =
			(struct tw_class){ i ? key + i * 100 : 0, i == 10 ? set : FIRST_SET + i };
	must(!datapath_version_set(b->lab.dp, version, isolated, both, counts));
	return version;
}

/* All servers that new flows to the outside go to are OUTSIDE to the policy. */
static void outside_identity(struct bench *b)
{
	union tw_addr addr;

	for (int family = 4; family <= 6; family += 2) {
		place_addr(OUTSIDE, family, &addr);
		must(!datapath_prefix_set(b->lab.dp, &addr, 112,
					  TW_WORD_IDENTITY | (LAB_IDENTITY + OUTSIDE)));
	}
}

void fill_own_policies(struct bench *b)
{
	static const enum place to[] = { B, OUTSIDE }, from[] = { A, OUTSIDE };
	uint32_t a = own_version(b, TW_EGRESS, to, 2), c = own_version(b, TW_INGRESS, from, 2);

	outside_identity(b);
	must(!datapath_endpoint_policy(b->lab.dp, A, LAB_IDENTITY + A, a));
	must(!datapath_endpoint_policy(b->lab.dp, B, LAB_IDENTITY + B, c));
	datapath_epoch_bump(b->lab.dp, A);
	datapath_epoch_bump(b->lab.dp, B);
}
