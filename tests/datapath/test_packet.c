/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* I9 and I12: what IP demands of who forwards, and packets that nobody should send. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lab.h"

#define UDP4_MAX (LAB_MTU - 28) /* payload of the largest IPv4 packet; IPv6 has 20 less */

static uint16_t udp_max(int family)
{
	return family == 4 ? UDP4_MAX : UDP4_MAX - 20;
}

/* ---- I9: IP is obeyed ---------------------------------------------------------------------------- */

static void i9_ttl_is_decremented_at_the_border_only(struct lab *lab, int family)
{
	LAB_STEPS(lab, family,
		  STEP(FROM_A, P(UDP, A, B, 4000, 53, .ttl = 1), OUT(UDP, A, B, 4000, 53, .ttl = 1),
		       .entries = 1),
		  STEP(FROM_A, P(UDP, A, KEPT, 4000, 53, .ttl = 2),
		       OUT(UDP, A, KEPT, 4000, 53, .ttl = 1), .entries = 1),
		  STEP(FROM_A, P(UDP, A, KEPT, 4000, 53, .ttl = 255),
		       OUT(UDP, A, KEPT, 4000, 53, .ttl = 254)),
		  STEP(UP, P(UDP, KEPT, A, 53, 4000, .ttl = 2),
		       OUT(UDP, KEPT, A, 53, 4000, .ttl = 1)));
}

/* The container that sent too far hears of it: traceroute lives on this. */
static void i9_ttl_that_runs_out_is_answered(struct lab *lab, int family)
{
	const struct spec first = P(UDP, A, OUTSIDE, 4000, 53, .ttl = 1);
	struct outcome got;
	struct view v;

	for (int i = 0; i < 3; i++) {
		const struct spec live = P(UDP, A, OUTSIDE, 4000, 53);

		lab_send(lab, family, FROM_A, &first, &got);
		assert_int_equal(got.reason, TW_REASON_TTL);
		assert_int_equal(got.drops, 1);
		assert_int_equal(got.icmp_sent, 1);
		assert_int_equal(got.verdict, REDIRECTED);
		assert_int_equal(frame_view(&got.out, &v), 0);
		assert_int_equal(v.icmp_type, family == 4 ? 11 : 3);
		assert_true(v.checksums_right);
		/* Second and third time by the fast path. */
		lab_send(lab, family, FROM_A, &live, &got);
		assert_int_equal(got.verdict, REDIRECTED);
	}
	/* The network hears it from the node. */
	const struct spec last = P(UDP, OUTSIDE, C, 4000, 53, .ttl = 1);
	union tw_addr node;

	place_addr(NODE, family, &node);
	LAB_STEPS(lab, family, STEP(UP, P(UDP, OUTSIDE, C, 4000, 53), REDIRECT, .entries = 1));
	lab_send(lab, family, UP, &last, &got);
	assert_int_equal(got.reason, TW_REASON_TTL);
	assert_int_equal(got.icmp_sent, 1);
	assert_int_equal(got.verdict, REDIRECTED);
	assert_int_equal(frame_view(&got.out, &v), 0);
	assert_int_equal(v.icmp_type, family == 4 ? 11 : 3);
	assert_memory_equal(&v.tuple.saddr, &node, sizeof(node));
	assert_true(v.checksums_right);
}

static void too_big(struct lab *lab, int family, const struct spec *spec, enum place to)
{
	union tw_addr addr;
	struct outcome got;
	struct view v;

	lab_send(lab, family, FROM_A, spec, &got);
	assert_int_equal(got.reason, TW_REASON_TOO_BIG);
	assert_int_equal(got.drops, 1);
	assert_int_equal(got.icmp_sent, 1);
	assert_int_equal(got.verdict, REDIRECTED);
	assert_int_equal(frame_view(&got.out, &v), 0);
	assert_int_equal(v.icmp_type, family == 4 ? 3 : 2);
	assert_int_equal(v.icmp_code, family == 4 ? 4 : 0);
	assert_int_equal(v.icmp_mtu, LAB_MTU);
	assert_true(v.checksums_right);
	place_addr(to, family, &addr);
	assert_memory_equal(&v.tuple.daddr, &addr, sizeof(addr));
	/* It carries what it is about: the sender's own address and port. */
	assert_int_equal(got.out.data[v.l4 + (family == 4 ? 28 : 48)], spec->sport >> 8);
	assert_int_equal(got.out.data[v.l4 + (family == 4 ? 29 : 49)], spec->sport & 0xff);
}

static void i9_larger_than_the_mtu_is_answered(struct lab *lab, int family)
{
	uint16_t max = udp_max(family);
	const struct spec big = P(UDP, A, OUTSIDE, 4000, 53, .payload = max + 1, .df = true);
	const struct spec big_kept = P(UDP, A, KEPT, 4000, 53, .payload = max + 1, .df = true);

	too_big(lab, family, &big, A);
	too_big(lab, family, &big_kept, A);
	LAB_STEPS(lab, family,
		  STEP(FROM_A, P(UDP, A, OUTSIDE, 4000, 53, .payload = max, .df = true), REDIRECT));
	/* Established now: by the fast path. */
	too_big(lab, family, &big, A);
	too_big(lab, family, &big_kept, A);
}

/* A GSO packet is as large as its segments. */
static void i9_gso_is_measured_by_its_segments(struct lab *lab, int family)
{
	const struct spec spec = P(TCP, A, OUTSIDE, 4000, 80, ACK, .payload = 2900, .df = true);
	const struct spec syn = P(TCP, A, OUTSIDE, 4000, 80, SYN);
	uint32_t mss = LAB_MTU - (family == 4 ? 40 : 60);
	struct run_options opts = { .gso_size = mss };
	struct outcome got;
	struct frame in;

	lab_send(lab, family, FROM_A, &syn, &got);
	frame_build(&in, family, &spec);
	lab_run(lab, FROM_A, &in, &opts, &got);
	assert_int_equal(got.verdict, REDIRECTED);
	assert_int_equal(got.drops, 0);
	opts.gso_size = mss + 1;
	lab_run(lab, FROM_A, &in, &opts, &got);
	assert_int_equal(got.reason, TW_REASON_TOO_BIG);
	assert_int_equal(got.icmp_sent, 1);
}

static void i9_checksums_of_translated_packets(struct lab *lab, int family)
{
	static const enum what whats[] = { TCP, UDP, ECHO };

	for (size_t w = 0; w < sizeof(whats) / sizeof(whats[0]); w++) {
		for (uint16_t i = 0; i < 60; i++) {
			/* Odd lengths too, and sums that wrap differently. */
			const struct spec up = P(whats[w], A, OUTSIDE, (uint16_t)(i * 1009 + 7),
						 whats[w] == ECHO ? 0 : (uint16_t)(65535 - i), SYN,
						 .payload = i, .sequence = i);
			const struct spec other = P(whats[w], B, OUTSIDE2, i, 7, SYN);
			struct run_options complete = { .checksum_complete = true };
			struct outcome got;
			struct frame in;
			struct view v;

			frame_build(&in, family, &up);
			lab_run(lab, FROM_A, &in, NULL, &got);
			assert_int_equal(got.verdict, REDIRECTED);
			assert_int_equal(frame_view(&got.out, &v), 0);
			assert_true(v.checksums_right);
			/* Established, and with a checksum that the card has computed. */
			lab_run(lab, FROM_A, &in, &complete, &got);
			assert_int_equal(frame_view(&got.out, &v), 0);
			assert_true(v.checksums_right);
			lab_send(lab, family, FROM_B, &other, &got);
		}
	}
}

/* A UDP checksum that comes out as 0 must be sent as 0xffff: 0 says "none" (RFC 768). */
static void i9_udp_checksum_zero(struct lab *lab, int family)
{
	struct outcome got;
	struct view v;
	uint32_t zeros = 0;

	if (family == 6)
		return;
	for (uint32_t i = 0; i < 3; i++) {
		const struct spec up = P(UDP, A, OUTSIDE, 4000, 53, .payload = 2);
		struct frame in;

		frame_build(&in, family, &up);
		/* No checksum at all stays none. */
		in.data[40] = in.data[41] = 0;
		lab_run(lab, FROM_A, &in, NULL, &got);
		assert_int_equal(frame_view(&got.out, &v), 0);
		zeros += !got.out.data[40] && !got.out.data[41];
	}
	assert_int_equal(zeros, 3);
}

/* Errors that the host itself makes reach a container whatever its policy says. */
static void i9_errors_made_by_the_host_pass(struct lab *lab, int family)
{
	const struct spec about = P(UDP, A, OUTSIDE, 4000, 53);

	lab_policy(lab, A, ISOLATE_INGRESS, NULL, 0);
	LAB_STEPS(lab, family,
		  STEP(TO_A, P(TOO_BIG, NODE, A, .about = &about, .mtu = 1400), TO_STACK),
		  STEP(TO_A, P(UNREACHABLE, NODE, A, .about = &about), TO_STACK));
}

/* ---- I12: nothing undecided -------------------------------------------------------------------------- */

static void i12_unparsable_is_a_named_drop(struct lab *lab, int family)
{
	LAB_STEPS(
		lab, family, STEP(FROM_A, P(ARP), DROPPED(NOT_IP)),
		STEP(FROM_A, P(UDP, A, B, 1, 2, .cut = family == 4 ? 38 : 58), DROPPED(TRUNCATED)),
		STEP(FROM_A, P(TCP, A, B, 1, 2, SYN, .cut = family == 4 ? 46 : 66),
		     DROPPED(TRUNCATED)),
		STEP(FROM_A, P(ICMP_OTHER, A, B), DROPPED(ICMP_TYPE)),
		STEP(FROM_A, P(UNREACHABLE, A, B), .verdict = DROP, .reason = TW_REASON_TRUNCATED));
}

static void i12_extension_headers_have_an_end(struct lab *lab, int family)
{
	if (family == 4)
		return;
	LAB_STEPS(lab, family,
		  STEP(FROM_A, P(UDP, A, B, 1, 2, .headers = 5), REDIRECT, .entries = 1),
		  STEP(FROM_A, P(UDP, A, B, 1, 2, .headers = 12), DROPPED(EXT_HEADERS)));
	/* Few, but so long that what is behind them lies further off than programs write. */
	for (size_t bytes = 384; bytes <= 1024; bytes += 64) {
		const size_t off = 14 + 40;
		uint16_t payload = htons((uint16_t)(bytes + 8));
		struct outcome got;
		struct frame in;

		frame_build(&in, family, &P(UDP, A, OUTSIDE, 4000, 53));
		memmove(in.data + off + bytes, in.data + off, in.len - off);
		memset(in.data + off, 0, bytes); /* Pad1 */
		in.data[off] = in.data[14 + 6];
		in.data[off + 1] = (uint8_t)(bytes / 8 - 1);
		in.data[14 + 6] = 60;
		memcpy(in.data + 14 + 4, &payload, sizeof(payload));
		in.len += bytes;
		lab_run(lab, FROM_A, &in, NULL, &got);
		if (bytes >= 448) {
			assert_int_equal(got.verdict, DROP);
			assert_int_equal(got.reason, TW_REASON_EXT_HEADERS);
			continue;
		}
		assert_int_equal(got.verdict, REDIRECTED);
		assert_memory_equal(got.out.data + off, in.data + off, bytes);
		assert_memory_not_equal(got.out.data + off + bytes, in.data + off + bytes, 2);
	}
}

/* Puts one 8-byte header between IPv6 and what follows it; kind is its number. */
static void header_insert(struct frame *f, uint8_t kind, const uint8_t rest[7])
{
	uint8_t *at = f->data + 14 + 40;
	uint16_t payload = htons((uint16_t)(f->len + 8 - 14 - 40));

	memmove(at + 8, at, f->len - 14 - 40);
	at[0] = f->data[14 + 6];
	memcpy(at + 1, rest, 7);
	f->data[14 + 6] = kind;
	f->len += 8;
	memcpy(f->data + 14 + 4, &payload, sizeof(payload));
}

/* Headers that a receiver reads in another way than who only looks in passing. */
static void i12_headers_that_lie(struct lab *lab, int family)
{
	const uint8_t first[7] = { 0, 0, 1, 0, 0, 0, 5 }, later[7] = { 0, 0, 8, 0, 0, 0, 6 };
	const uint8_t endless[7] = { 200 };
	const struct spec sent = P(UDP, A, B, 4000, 53);
	struct outcome got;
	struct frame in;

	if (family == 4)
		return;
	/* A fragment of a fragment: its ports would be nobody's. */
	frame_build(&in, family, &P(UDP, A, B, 4000, 53));
	header_insert(&in, 44, later);
	header_insert(&in, 44, first);
	lab_run(lab, FROM_A, &in, NULL, &got);
	assert_int_equal(got.reason, TW_REASON_MALFORMED);
	/* A header that ends behind the packet, before a protocol that has no ports to miss. */
	frame_build(&in, family, &P(ESP, A, B));
	header_insert(&in, 60, endless);
	lab_run(lab, FROM_A, &in, NULL, &got);
	assert_int_equal(got.drops, 1);
	assert_in_range(got.reason, TW_REASON_TRUNCATED, TW_REASON_EXT_HEADERS);
	frame_build(&in, family, &P(ESP, A, B));
	header_insert(&in, 51, (const uint8_t[7]){ 60 });
	lab_run(lab, FROM_A, &in, NULL, &got);
	assert_int_equal(got.reason, TW_REASON_TRUNCATED);
	/* An error about a packet that is not IPv6. */
	LAB_STEPS(lab, family, STEP(FROM_A, sent, REDIRECT, .entries = 1));
	frame_build(&in, family, &P(UNREACHABLE, B, A, .about = &sent));
	in.data[14 + 40 + 8] = 0x40;
	lab_run(lab, FROM_B, &in, NULL, &got);
	assert_int_equal(got.reason, TW_REASON_ICMP_UNRELATED);
}

/* A protocol without ports is an entry of its own, under the same policy. */
static void i12_protocols_without_ports(struct lab *lab, int family)
{
	LAB_STEPS(lab, family, STEP(FROM_A, P(ESP, A, B), REDIRECT, .entries = 1),
		  STEP(FROM_B, P(ESP, B, A), REDIRECT));
	lab_policy(lab, B, ISOLATE_INGRESS, NULL, 0);
	LAB_STEPS(lab, family, STEP(FROM_C, P(ESP, C, B), DROPPED(POLICY_INGRESS)),
		  STEP(FROM_A, P(ESP, A, B), DROPPED(REVOKED)));
}

static void i12_icmp_error_follows_its_flow(struct lab *lab, int family)
{
	const struct spec about = P(UDP, A, B, 4000, 53), unknown = P(UDP, A, B, 4001, 53);
	const struct spec forged = P(UDP, A, C, 4000, 53);

	LAB_STEPS(lab, family, STEP(FROM_A, about, REDIRECT, .entries = 1),
		  STEP(FROM_B, P(UNREACHABLE, B, A, .about = &about),
		       OUT(UNREACHABLE, B, A, .about = &about)),
		  /* No such flow; somebody else's flow; a flow that B is no end of. */
		  STEP(FROM_B, P(UNREACHABLE, B, A, .about = &unknown), DROPPED(ICMP_UNRELATED)),
		  STEP(FROM_C, P(UNREACHABLE, C, A, .about = &about), DROPPED(ICMP_UNRELATED)),
		  STEP(FROM_C, P(UNREACHABLE, B, A, .about = &about), DROPPED(ICMP_UNRELATED)),
		  STEP(FROM_B, P(UNREACHABLE, B, A, .about = &forged), DROPPED(ICMP_UNRELATED)),
		  STEP(FROM_B, P(UNREACHABLE, B, C, .about = &about), DROPPED(ICMP_UNRELATED)));
}

/* From outside, by the server or by a router on the way, about a translated flow. */
static void i12_icmp_error_is_translated(struct lab *lab, int family)
{
	/* The quoted checksum is not mended: nobody can verify it over a part. */
	const struct spec seen = P(UDP, NODE, OUTSIDE, SNAT_PORT, 53, .ttl = 63, .no_sum = true);
	const struct spec sent = P(UDP, A, OUTSIDE, 4000, 53, .ttl = 63, .no_sum = true);
	const struct run_options complete = { .checksum_complete = true };
	struct spec quoted = seen;
	struct outcome got;
	struct frame in;

	LAB_STEPS(lab, family,
		  STEP(FROM_A, P(UDP, A, OUTSIDE, 4000, 53),
		       OUT(UDP, NODE, OUTSIDE, 0, 53, .ttl = 63), .entries = 2));
	LAB_STEPS(lab, family,
		  STEP(UP, P(UNREACHABLE, OUTSIDE, NODE, .about = &seen),
		       OUT(UNREACHABLE, OUTSIDE, A, .ttl = 63, .about = &sent)));
	LAB_STEPS(lab, family,
		  STEP(UP, P(TOO_BIG, ROUTER, NODE, .about = &seen, .mtu = 1400),
		       OUT(TOO_BIG, ROUTER, A, .ttl = 63, .about = &sent, .mtu = 1400)));
	LAB_STEPS(lab, family,
		  STEP(UP, P(TIME_EXCEEDED, ROUTER, NODE, .about = &seen),
		       OUT(TIME_EXCEEDED, ROUTER, A, .ttl = 63, .about = &sent)));
	/* A complete checksum of the receiving device must still be that of the packet. */
	quoted.sport = lab->snat;
	frame_build(&in, family, &P(TOO_BIG, ROUTER, NODE, .about = &quoted, .mtu = 1400));
	lab_run(lab, UP, &in, &complete, &got);
	assert_int_equal(got.verdict, REDIRECTED);
}

/* An error is no way round a revoked flow. */
static void i12_icmp_error_about_a_revoked_flow(struct lab *lab, int family)
{
	const struct spec about = P(UDP, A, B, 4000, 53);

	LAB_STEPS(lab, family, STEP(FROM_A, about, REDIRECT, .entries = 1));
	lab_policy(lab, B, ISOLATE_INGRESS, NULL, 0);
	LAB_STEPS(lab, family, STEP(FROM_A, about, DROPPED(REVOKED)),
		  STEP(FROM_B, P(UNREACHABLE, B, A, .about = &about), DROPPED(ICMP_UNRELATED)));
}

/*
 * Whatever a container sends is carried or dropped and counted once, never passed up
 * undecided. Frames are valid ones with bytes changed, so that every parser is entered.
 */
static void i12_random_frames_are_decided(struct lab *lab, int family)
{
	const struct spec about = P(UDP, B, A, 53, 4000);
	const struct spec seeds[] = {
		P(TCP, A, B, 4000, 80, SYN),
		P(UDP, A, OUTSIDE, 4000, 80, .payload = 40),
		P(UDP, A, B, 4000, 80, .headers = 3),
		P(UDP, A, B, 4000, 80, .payload = 64, .more = true, .frag_id = 3),
		P(ECHO, A, B, 4000),
		P(UNREACHABLE, A, B, .about = &about),
		P(SCTP, A, KEPT, 4000, 80),
		P(ESP, A, B),
	};
	size_t head = family == 4 ? 34 : 54;
	unsigned int state = 1;

	for (int i = 0; i < 4000; i++) {
		struct outcome got;
		struct frame in;

		frame_build(&in, family, &seeds[i % 8]);
		for (int change = rand_r(&state) % 6; change >= 0; change--)
			in.data[12 + (size_t)rand_r(&state) % (in.len - 12)] =
				(uint8_t)rand_r(&state);
		/* Not shorter than an IP header: test-run itself refuses that. */
		if (rand_r(&state) % 4 == 0)
			in.len = head + (size_t)rand_r(&state) % (in.len - head);
		lab_run(lab, FROM_A, &in, NULL, &got);
		assert_in_range(got.drops, 0, 1);
		if (got.verdict == DROP)
			assert_int_equal(got.drops, 1);
		else if (got.verdict == REDIRECTED)
			assert_true(!got.drops || got.icmp_sent == 1);
		else
			/* Up the stack only for what is addressed to the node. */
			fail_msg("frame %d: verdict %d", i, got.verdict);
	}
}

int main(void)
{
	static const struct lab_test tests[] = {
		LAB_TEST(i9_ttl_is_decremented_at_the_border_only),
		LAB_TEST(i9_ttl_that_runs_out_is_answered),
		LAB_TEST(i9_larger_than_the_mtu_is_answered),
		LAB_TEST(i9_gso_is_measured_by_its_segments),
		LAB_TEST(i9_checksums_of_translated_packets),
		LAB_TEST(i9_udp_checksum_zero),
		LAB_TEST(i9_errors_made_by_the_host_pass),
		LAB_TEST(i12_unparsable_is_a_named_drop),
		LAB_TEST(i12_extension_headers_have_an_end),
		LAB_TEST(i12_headers_that_lie),
		LAB_TEST(i12_protocols_without_ports),
		LAB_TEST(i12_icmp_error_follows_its_flow),
		LAB_TEST(i12_icmp_error_is_translated),
		LAB_TEST(i12_icmp_error_about_a_revoked_flow),
		LAB_TEST(i12_random_frames_are_decided),
	};

	lab_netns();
	return lab_main("packet", &(struct lab_options){}, tests, sizeof(tests) / sizeof(tests[0]));
}
