/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "edge_balance_lab.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/if_ether.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t hop_mac[6] = { 2, 0xbb, 0, 0, 0, 1 }, own_mac[6] = { 2, 0xaa, 0, 0, 0, 1 };

int balance_group_setup(void **state)
{
	struct balance_lab *lab = calloc(1, sizeof(*lab));
	struct tw_edge_settings settings;

	edge_settings_default(&settings);
	settings.parse = settings.balance = settings.nat = settings.decap = 1;
	lab->edge = edge_lab_open(&settings);
	assert_int_equal(edge_balance_open(&lab->eb, lab->edge), 0);
	*state = lab;
	return 0;
}

static int service_clear(void *arg, uint16_t service, uint64_t name)
{
	return edge_service_clear(arg, service);
}

int balance_setup(void **state)
{
	const struct edge_balance_limits limits = {
		.insert_rate = 1000000, .icmp_rate = 1000, .nat_first = 50000, .nat_last = 50999
	};
	struct balance_lab *lab = *state;

	assert_int_equal(edge_fronts_set(lab->eb, NULL, 0), 0);
	assert_int_equal(edge_service_each(lab->eb, service_clear, lab->eb), 0);
	assert_int_equal(edge_decap_set(lab->eb, NULL, 0), 0);
	balance_walk(lab);
	lab->n_fronts = lab->n_backends = 0;
	assert_int_equal(edge_balance_limits_set(lab->eb, &limits), 0);
	assert_int_equal(edge_service_get(lab->eb, 1, &lab->service), 0);
	assert_int_equal(edge_service_idle(lab->eb, lab->service, 3600), 0);
	for (uint32_t i = 0; i < TW_EDGE_COUNT_BALANCE_COUNTERS; i++)
		assert_int_equal(edge_balance_counter(lab->eb, i, &lab->counted[i]), 0);
	return 0;
}

int balance_group_teardown(void **state)
{
	struct balance_lab *lab = *state;

	edge_balance_close(lab->eb);
	edge_close(lab->edge);
	free(lab);
	return 0;
}

void balance_front_at(struct balance_lab *lab, const union tw_addr *addr, uint8_t len,
		      enum what what, uint16_t port, uint8_t flags)
{
	lab->fronts[lab->n_fronts++] = (struct edge_front){ .addr = *addr,
							    .len = len,
							    .proto = what_proto(what, 4),
							    .port = htons(port),
							    .service = lab->service,
							    .flags = flags,
							    .seed = 1 };
	assert_int_equal(edge_fronts_set(lab->eb, lab->fronts, lab->n_fronts), 0);
}

void balance_front(struct balance_lab *lab, enum what what, uint16_t port, uint8_t flags)
{
	union tw_addr addr;

	for (int family = 4; family <= 6; family += 2) {
		place_addr(NODE, family, &addr);
		balance_front_at(lab, &addr, 128, what, port, flags);
	}
}

size_t balance_backend(struct balance_lab *lab, const struct backend_spec *spec)
{
	struct tw_edge_backend b = { .mtu = spec->mtu ?: BALANCE_MTU,
				     .way = (uint8_t)spec->way,
				     .flags = TW_EDGE_BACKEND_TAKES,
				     .ifindex = spec->ifindex ?: BALANCE_IFINDEX,
				     .port = htons(spec->port),
				     .server_id = spec->server_id,
				     .service = lab->service };
	uint16_t id;

	assert_int_equal(edge_backend_new(lab->eb, &id), 0);
	if (!spec->no_hop)
		b.flags |= TW_EDGE_BACKEND_HOP;
	memcpy(b.dmac, hop_mac, 6);
	memcpy(b.smac, own_mac, 6);
	place_addr(ROUTER, spec->family, &b.source);
	place_addr(spec->place == NOWHERE ? A : spec->place, spec->family, &b.addr);
	if (spec->place == NOWHERE) {
		b.addr.word[3] = htonl((spec->family == 4 ? 0x0a090000u : 0u) + id);
		b.source.byte[15] = 1;
	}
	if (spec->way == TW_EDGE_WAY_GUE && !spec->port)
		b.port = htons(TW_EDGE_GUE_PORT);
	assert_int_equal(edge_backend_set(lab->eb, id, &b), 0);
	lab->backends[lab->n_backends] = (struct maglev_backend){
		.key = maglev_key(&b.addr, b.port), .weight = 1, .id = id
	};
	return lab->n_backends++;
}

void balance_turn(struct balance_lab *lab, uint32_t learn)
{
	for (size_t i = 0; i < lab->n_backends; i++) {
		struct tw_edge_backend b;

		assert_int_equal(edge_backend_get(lab->eb, lab->backends[i].id, &b), 0);
		b.flags &= (uint8_t)~TW_EDGE_BACKEND_TAKES;
		if (lab->backends[i].weight)
			b.flags |= TW_EDGE_BACKEND_TAKES;
		assert_int_equal(edge_backend_set(lab->eb, lab->backends[i].id, &b), 0);
	}
	assert_int_equal(edge_service_turn(lab->eb, lab->service, lab->backends, lab->n_backends,
					   learn, NULL),
			 0);
}

uint32_t balance_walk(struct balance_lab *lab)
{
	struct edge_walk *walk;
	uint32_t open;

	assert_int_equal(edge_walk_new(lab->eb, &walk), 0);
	assert_int_equal(edge_walk_run(walk), 0);
	assert_int_equal(edge_walk_settle(walk, &open), 0);
	edge_walk_free(walk);
	return open;
}

void balance_send(struct balance_lab *lab, int family, const struct spec *spec,
		  struct edge_outcome *out)
{
	struct frame frame;

	frame_build(&frame, family, spec);
	edge_lab_run(lab->edge, &frame, out);
}

uint16_t balance_backend_of(const struct frame *frame)
{
	const uint8_t *ip = frame->data + ETH_HLEN;

	if (ip[0] >> 4 == 4 && ip[16] == 10 && ip[17] == 9)
		return (uint16_t)(ip[18] << 8 | ip[19]);
	return 0;
}

uint16_t balance_to(struct balance_lab *lab, int family, const struct spec *spec)
{
	struct frame frame, out;
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame.data, .data_out = out.data,
		    .data_size_out = sizeof(out.data), .repeat = 1);

	frame_build(&frame, family, spec);
	opts.data_size_in = (uint32_t)frame.len;
	assert_int_equal(bpf_prog_test_run_opts(edge_prog_fd(lab->edge), &opts), 0);
	if (opts.retval != XDP_TX)
		fail_msg("not balanced: action %u", opts.retval);
	return balance_backend_of(&out);
}

uint64_t balance_counter(struct balance_lab *lab, enum tw_edge_balance_counter counter)
{
	uint64_t n;

	assert_int_equal(edge_balance_counter(lab->eb, counter, &n), 0);
	return n - lab->counted[counter];
}

/* ---- what must come out -------------------------------------------------------------------- */

static void put16(uint8_t *at, size_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static uint16_t header_sum(const uint8_t *at)
{
	uint32_t sum = 0;

	for (int i = 0; i < 20; i += 2)
		sum += (uint32_t)at[i] << 8 | at[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static size_t put_outer(uint8_t *at, const struct tw_edge_backend *b, uint8_t proto, size_t len)
{
	bool v4 = b->addr.word[2] == htonl(0xffff) && !b->addr.quad[0];

	memset(at, 0, 40);
	if (v4) {
		at[0] = 0x45;
		put16(at + 2, len + 20);
		put16(at + 6, 0x4000);
		at[8] = 64;
		at[9] = proto;
		memcpy(at + 12, b->source.byte + 12, 4);
		memcpy(at + 16, b->addr.byte + 12, 4);
		put16(at + 10, header_sum(at));
		return 20;
	}
	at[0] = 0x60;
	put16(at + 4, len);
	at[6] = proto;
	at[7] = 64;
	memcpy(at + 8, &b->source, 16);
	memcpy(at + 24, &b->addr, 16);
	return 40;
}

void balance_expect(const struct balance_lab *lab, size_t backend, int family,
		    const struct spec *inner, const struct frame *got, struct frame *out)
{
	struct spec hopped = *inner;
	struct tw_edge_backend b;
	struct frame frame;
	size_t link, len;
	uint8_t *at, proto;

	hopped.ttl = (uint8_t)((inner->ttl ?: 64) - 1);
	frame_build(&frame, family, &hopped);
	assert_int_equal(edge_backend_get(lab->eb, lab->backends[backend].id, &b), 0);
	link = ETH_HLEN + (inner->vlan ? 4 : 0);
	len = frame.len - link;
	memcpy(out->data, frame.data, link);
	memcpy(out->data, hop_mac, 6);
	memcpy(out->data + 6, own_mac, 6);
	at = out->data + link;
	if (b.way != TW_EDGE_WAY_L2) {
		size_t gue = b.way == TW_EDGE_WAY_GUE ? 8 : 0, head;

		proto = gue ? IPPROTO_UDP : family == 4 ? IPPROTO_IPIP : IPPROTO_IPV6;
		head = put_outer(at, &b, proto, len + gue);
		put16(at - 2, head == 20 ? ETH_P_IP : ETH_P_IPV6);
		if (head == 40) /* flow label */
			memcpy(at,
			       (uint8_t[]){ 0x60, got->data[link + 1] & 0x0f, got->data[link + 2],
					    got->data[link + 3] },
			       4);
		at += head;
		if (gue) {
			memcpy(at, got->data + link + head, 2);
			put16(at + 2, TW_EDGE_GUE_PORT);
			put16(at + 4, len + gue);
			put16(at + 6, 0);
			at += gue;
		}
	}
	memcpy(at, frame.data + link, len);
	out->len = (size_t)(at - out->data) + len;
}
