/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The lab's node: namespace, interfaces, maps, and one packet through one program. */
#include "lab.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/*
 * The containers' ends stay in this namespace: BPF_PROG_TEST_RUN returns a redirect and does
 * not perform it. Every frame is built for the ports' MAC, so the uplinks have it too. Routers are permanent neighbours, because nobody answers.
 */
static const char topology[] =
	"link set lo up\n"
	"link add twa address 02:54:57:00:00:01 type veth peer name ca address 02:00:00:00:00:02\n"
	"link add twb address 02:54:57:00:00:01 type veth peer name cb address 02:00:00:00:00:03\n"
	"link add twc address 02:54:57:00:00:01 type veth peer name cc address 02:00:00:00:00:04\n"
	"link add up0 address 02:54:57:00:00:01 type veth peer name net0\n"
	"link add up1 address 02:54:57:00:00:01 type veth peer name net1\n"
	"link set twa up\nlink set twb up\nlink set twc up\n"
	"link set ca up\nlink set cb up\nlink set cc up\n"
	"link set up0 up\nlink set up1 up\nlink set net0 up\nlink set net1 up\n"
	"addr add 192.0.2.1/24 dev up0\naddr add 2001:db8:1::1/64 dev up0\n"
	"addr add 192.0.3.1/24 dev up1\naddr add 2001:db8:2::1/64 dev up1\n"
	"route add unreachable 100.64.0.0/10\nroute add unreachable 2001:db8:dead::/48\n"
	"route add default via 192.0.2.254 dev up0\nroute add default via 2001:db8:1::fe dev up0\n"
	"neigh add 192.0.2.254 lladdr 02:00:00:00:01:fe dev up0 nud permanent\n"
	"neigh add 2001:db8:1::fe lladdr 02:00:00:00:01:fe dev up0 nud permanent\n"
	"route add 10.88.0.2/32 dev twa\nroute add fd00:10:88::2/128 dev twa\n"
	"route add 10.88.0.3/32 dev twb\nroute add fd00:10:88::3/128 dev twb\n"
	"route add 10.88.0.4/32 dev twc\nroute add fd00:10:88::4/128 dev twc\n";

void lab_die(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: %s is not so (errno: %s)\n", file, line, what, strerror(errno));
	exit(1);
}

static void sysctl_set(const char *path, const char *value)
{
	char name[128];
	int fd;

	snprintf(name, sizeof(name), "/proc/sys/net/%s", path);
	fd = open(name, O_WRONLY | O_CLOEXEC);
	must(fd >= 0);
	must(write(fd, value, strlen(value)) == (ssize_t)strlen(value));
	close(fd);
}

void lab_netns(void)
{
	FILE *ip;

	if (unshare(CLONE_NEWNET)) {
		perror("lab: a network namespace (root is needed)");
		exit(1);
	}
	/* Duplicate detection would keep addresses from being used for a second. */
	sysctl_set("ipv6/conf/default/accept_dad", "0");
	sysctl_set("ipv6/conf/all/accept_dad", "0");
	sysctl_set("ipv6/conf/all/forwarding", "1");
	sysctl_set("ipv4/ip_forward", "1");
	ip = popen("ip -batch -", "w");
	must(ip);
	must(fwrite(topology, 1, sizeof(topology) - 1, ip) == sizeof(topology) - 1);
	must(!pclose(ip));
}

void lab_endpoint(const struct lab *lab, enum place place, struct tw_endpoint *out)
{
	union tw_addr addr4;

	*out = (struct tw_endpoint){
		.ifindex = lab->port[place],
		.flags = TW_EP_LIVE,
		.identity = LAB_IDENTITY + place,
		.mtu = LAB_MTU,
		.mac = { 2, 0, 0, 0, 0, (uint8_t)(place - A + 2) },
	};
	place_addr(place, 4, &addr4);
	place_addr(place, 6, &out->addr6);
	out->addr4 = addr4.word[3];
}

static void prefix_set(struct lab *lab, enum place place, int family, uint8_t len, uint32_t word)
{
	union tw_addr addr;

	place_addr(place, family, &addr);
	must(!datapath_prefix_set(lab->dp, &addr, family == 4 ? (uint8_t)(96 + len) : len, word));
}

static void prefixes_fill(struct lab *lab)
{
	static const enum place outside[] = { OUTSIDE, OUTSIDE2, KEPT };

	for (int family = 4; family <= 6; family += 2) {
		uint8_t whole = family == 4 ? 32 : 128, subnet = family == 4 ? 24 : 64;

		prefix_set(lab, EMPTY, family, subnet, TW_WORD_IDENTITY | TW_ID_UNASSIGNED);
		prefix_set(lab, NODE, family, whole, TW_WORD_IDENTITY | TW_ID_HOST);
		prefix_set(lab, NODE2, family, whole, TW_WORD_IDENTITY | TW_ID_HOST);
		for (enum place p = A; p <= C; p++)
			prefix_set(lab, p, family, whole, TW_WORD_ENDPOINT | p);
		for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++)
			prefix_set(lab, outside[i], family, whole,
				   TW_WORD_IDENTITY | (LAB_IDENTITY + outside[i]));
	}
}

static void uplink_set(struct lab *lab, unsigned int i, enum place place)
{
	struct tw_uplink uplink = { .mtu = LAB_MTU };
	union tw_addr addr;

	place_addr(place, 4, &addr);
	uplink.masq4 = addr.word[3];
	place_addr(place, 6, &uplink.masq6);
	must(!datapath_uplink_set(lab->dp, lab->uplink[i], &uplink));
}

static uint32_t interface(const char *name)
{
	uint32_t ifindex = if_nametoindex(name);

	must(ifindex);
	return ifindex;
}

void lab_open(struct lab *lab, const struct lab_options *opts)
{
	static const char *const ports[] = { "twa", "twb", "twc" };
	static const char *const peers[] = { "ca", "cb", "cc" };
	struct datapath_options dp = {
		.max_flows = opts->max_flows ?: 1024,
		.max_peers = opts->max_peers ?: 8192,
		.max_classes = opts->max_classes ?: 8192,
		.max_versions = opts->max_versions ?: 8192,
		.max_pages = opts->max_pages ?: 256,
		.max_prefixes6 = opts->max_prefixes6 ?: 1024,
	};
	union tw_addr kept;
	char err[512] = "";
	int ret;

	*lab = (struct lab){ .max_flows = dp.max_flows };
	datapath_settings_default(&dp.settings);
	dp.settings.masquerade4 = dp.settings.masquerade6 = 1;
	dp.settings.have_nomasq = 1;
	dp.settings.outside_stack = opts->outside_stack;
	if (opts->snat_first) {
		dp.settings.snat_first = opts->snat_first;
		dp.settings.snat_last = opts->snat_last;
	}
	ret = datapath_open(&lab->dp, &dp, err, sizeof(err));
	if (ret)
		fail_msg("datapath_open: %s: %s", strerror(-ret), err);
	for (enum place p = A; p <= C; p++) {
		lab->port[p] = interface(ports[p - A]);
		lab->peer[p] = interface(peers[p - A]);
	}
	lab->uplink[0] = interface("up0");
	lab->uplink[1] = interface("up1");
	prefixes_fill(lab);
	for (int family = 4; family <= 6; family += 2) {
		place_addr(KEPT, family, &kept);
		must(!datapath_nomasq_set(lab->dp, &kept, 128));
	}
	lab_reset(lab);
}

void lab_close(struct lab *lab)
{
	datapath_close(lab->dp);
	lab->dp = NULL;
}

static void map_empty(struct lab *lab, const char *name)
{
	int fd = datapath_map_fd(lab->dp, name);
	uint8_t key[64], next[64];
	bool more;

	must(fd >= 0);
	/* The next key is asked for while this one is there: else the search begins anew. */
	for (more = !bpf_map_get_next_key(fd, NULL, key); more; memcpy(key, next, sizeof(key))) {
		more = !bpf_map_get_next_key(fd, key, next);
		must(!bpf_map_delete_elem(fd, key));
	}
}

void lab_flows_clear(struct lab *lab, int family)
{
	map_empty(lab, family == 4 ? "tw_flow4" : "tw_flow6");
}

void lab_reset(struct lab *lab)
{
	static const struct tw_budget fresh;
	int budget = datapath_map_fd(lab->dp, "tw_budget");

	lab_flows_clear(lab, 4);
	lab_flows_clear(lab, 6);
	map_empty(lab, "tw_frags");
	for (uint32_t slot = 0; slot <= C; slot++) {
		struct tw_endpoint ep;

		must(!bpf_map_update_elem(budget, &slot, &fresh, BPF_ANY));
		if (!slot)
			continue;
		lab_endpoint(lab, slot, &ep);
		must(!datapath_endpoint_set(lab->dp, slot, &ep));
		datapath_epoch_bump(lab->dp, slot);
	}
	uplink_set(lab, 0, NODE);
	uplink_set(lab, 1, NODE2);
	datapath_heartbeat(lab->dp);
	lab_events_drain(lab);
	lab->snat = 0;
}

/* ---- one packet --------------------------------------------------------------------------- */

const char *const lab_programs[TW_HOOK_COUNT] = {
	[TW_HOOK_FROM_CONTAINER] = "tw_from_container",
	[TW_HOOK_TO_CONTAINER] = "tw_to_container",
	[TW_HOOK_FROM_UPLINK] = "tw_from_uplink",
};

enum tw_hook lab_context(const struct lab *lab, enum via via, struct __sk_buff *ctx)
{
	switch (via) {
	case FROM_A:
	case FROM_B:
	case FROM_C:
		ctx->ifindex = ctx->ingress_ifindex = lab->port[A + (via - FROM_A)];
		return TW_HOOK_FROM_CONTAINER;
	case TO_A:
	case TO_B:
		ctx->ifindex = lab->port[via == TO_A ? A : B];
		return TW_HOOK_TO_CONTAINER;
	case UP_TO_A:
		ctx->ifindex = lab->port[A];
		ctx->ingress_ifindex = lab->uplink[0];
		return TW_HOOK_TO_CONTAINER;
	case B_TO_A:
		ctx->ifindex = lab->port[A];
		ctx->ingress_ifindex = lab->port[B];
		return TW_HOOK_TO_CONTAINER;
	default:
		ctx->ifindex = ctx->ingress_ifindex = lab->uplink[via == UP2];
		return TW_HOOK_FROM_UPLINK;
	}
}

uint64_t lab_counter(struct lab *lab, enum tw_counter counter)
{
	uint64_t value = 0;

	must(!datapath_counter(lab->dp, counter, &value));
	return value;
}

uint64_t lab_drops(struct lab *lab, enum tw_reason reason)
{
	uint64_t sum = 0;

	for (enum tw_hook hook = 0; hook < TW_HOOK_COUNT; hook++) {
		struct tw_metric m = {};

		must(!datapath_metric(lab->dp, reason, hook, &m));
		sum += m.packets;
	}
	return sum;
}

void lab_counts_read(struct lab *lab, struct lab_counts *out)
{
	for (enum tw_reason r = 0; r < TW_REASON_COUNT; r++)
		out->drops[r] = lab_drops(lab, r);
	for (enum tw_counter c = 0; c < TW_COUNTER_COUNT; c++)
		out->counter[c] = lab_counter(lab, c);
}

void lab_run(struct lab *lab, enum via via, const struct frame *in, const struct run_options *opts,
	     struct outcome *out)
{
	static const struct run_options plain;
	const struct run_options *o = opts ?: &plain;
	struct __sk_buff ctx = { .gso_size = o->gso_size, .gso_segs = o->gso_size ? 2 : 0 };
	const char *program = lab_programs[lab_context(lab, via, &ctx)];
	int fd = datapath_prog_fd(lab->dp, program), ret;
	struct lab_counts before, after;
	/*
	 * A program that is reached by a tail call alone cannot be run, and one that answers with
	 * a larger packet needs room for it.
	 */
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = in->data, .data_size_in = (uint32_t)in->len,
		    .data_out = out->out.data, .data_size_out = FRAME_MAX, .ctx_in = &ctx,
		    .ctx_size_in = sizeof(ctx), .repeat = (int)(o->repeat ?: 1),
		    .flags = o->checksum_complete ? BPF_F_TEST_SKB_CHECKSUM_COMPLETE : 0);

	if (fd < 0)
		fail_msg("there is no program %s", program);
	lab_counts_read(lab, &before);
	ret = bpf_prog_test_run_opts(fd, &run);
	if (ret)
		fail_msg("%s on %zu bytes: %s", program, in->len, strerror(-ret));
	lab_counts_read(lab, &after);
	out->verdict = (int)run.retval;
	out->out.len = run.data_size_out;
	out->drops = 0;
	out->reason = TW_REASON_OK;
	for (enum tw_reason r = TW_REASON_OK + 1; r < TW_REASON_COUNT; r++) {
		uint64_t n = after.drops[r] - before.drops[r];

		out->drops += (uint32_t)n;
		if (n)
			out->reason = r;
	}
#define DELTA(c) (int64_t)(after.counter[c] - before.counter[c])
	out->inserts = DELTA(TW_COUNTER_INSERTS);
	out->redecisions = DELTA(TW_COUNTER_REDECISIONS);
	out->icmp_sent = DELTA(TW_COUNTER_ICMP_SENT);
#undef DELTA
}

void lab_send(struct lab *lab, int family, enum via via, const struct spec *spec,
	      struct outcome *out)
{
	struct frame in;

	frame_build(&in, family, spec);
	lab_run(lab, via, &in, NULL, out);
}

/* ---- tables --------------------------------------------------------------------------------- */

/*
 * Puts the port that an earlier step was translated to where the table says SNAT_PORT, also
 * inside an ICMP error. about receives the copy of what the error is about.
 */
static void spec_fill(struct spec *spec, struct spec *about, uint16_t snat)
{
	spec->sport = spec->sport == SNAT_PORT ? snat : spec->sport;
	spec->dport = spec->dport == SNAT_PORT ? snat : spec->dport;
	if (spec->about) {
		*about = *spec->about;
		spec_fill(about, NULL, snat);
		spec->about = about;
	}
}

static bool has_ports(enum what what)
{
	return what == TCP || what == UDP || what == ECHO || what == ECHO_REPLY;
}

static void step_compare(const struct frame *got, int family, const struct step *step, size_t at,
			 uint16_t *snat)
{
	struct spec want = *step->out, about;
	struct frame expected;
	struct view v;

	if (frame_view(got, &v))
		fail_msg("step %zu: what came out is not a whole packet", at);
	if (has_ports(want.what) && !want.sport && !want.frag_off) {
		uint16_t port = ntohs(v.tuple.sport);

		if (port < 61000)
			fail_msg("step %zu: port %u is not of the SNAT range", at, port);
		*snat = want.sport = port;
		if (want.what == ECHO)
			want.dport = port;
	}
	spec_fill(&want, &about, *snat);
	frame_build(&expected, family, &want);
	if (got->len != expected.len)
		fail_msg("step %zu: %zu bytes came out, not %zu", at, got->len, expected.len);
	/* The MACs depend on the redirect and are checked where they matter. */
	for (size_t i = 12; i < got->len; i++)
		if (got->data[i] != expected.data[i])
			fail_msg("step %zu: byte %zu is %02x, not %02x (transport starts at %zu)",
				 at, i, got->data[i], expected.data[i], v.l4);
}

void lab_steps(struct lab *lab, int family, const struct step *steps, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct step *step = &steps[i];
		struct spec in = step->in, about;
		uint32_t entries = lab_flow_count(lab, family);
		struct outcome got;

		spec_fill(&in, &about, lab->snat);
		lab_send(lab, family, step->via, &in, &got);
		if (got.reason != step->reason || got.drops != (step->reason != TW_REASON_OK))
			fail_msg("step %zu: %u drops, reason %s, not %s (verdict %d)", i + 1,
				 got.drops, tw_reason_name(got.reason),
				 tw_reason_name(step->reason), got.verdict);
		if (got.verdict != step->verdict)
			fail_msg("step %zu: verdict %d, not %d", i + 1, got.verdict, step->verdict);
		entries = lab_flow_count(lab, family) - entries;
		if (entries != step->entries)
			fail_msg("step %zu: %d entries made, not %u", i + 1, (int)entries,
				 step->entries);
		if (step->out)
			step_compare(&got.out, family, step, i + 1, &lab->snat);
	}
}

/* ---- registration ------------------------------------------------------------------------------ */

struct lab_case {
	const struct lab_test *test;
	struct lab *lab;
	int family;
	char name[96];
};

static void case_run(void **state)
{
	struct lab_case *c = *state;

	c->test->run(c->lab, c->family);
}

static int case_setup(void **state)
{
	struct lab_case *c = *state;

	lab_reset(c->lab);
	return 0;
}

int lab_main(const char *group, const struct lab_options *opts, const struct lab_test *tests,
	     size_t n)
{
	struct lab_case *cases = calloc(2 * n, sizeof(*cases));
	struct CMUnitTest *units = calloc(2 * n, sizeof(*units));
	struct lab lab;
	int failed;

	must(cases);
	must(units);
	/* One test alone: a pattern, as for cmocka_set_test_filter(). */
	cmocka_set_test_filter(getenv("LAB_ONLY"));
	lab_open(&lab, opts);
	for (size_t i = 0; i < 2 * n; i++) {
		struct lab_case *c = &cases[i];

		*c = (struct lab_case){ &tests[i / 2], &lab, i % 2 ? 6 : 4, "" };
		snprintf(c->name, sizeof(c->name), "%s/ipv%d", c->test->name, c->family);
		units[i] = (struct CMUnitTest){ c->name, case_run, case_setup, NULL, c };
	}
	failed = _cmocka_run_group_tests(group, units, 2 * n, NULL, NULL);
	lab_close(&lab);
	free(units);
	free(cases);
	return failed;
}
