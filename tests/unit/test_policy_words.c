/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Rules as sentences, and what a peer or a port lacks. */
#include <netinet/in.h>
#include <string.h>

#include "unit.h"

#include "policy_rig.h"

static struct rig rig;

static int setup(void **state)
{
	rig_open(&rig);
	return 0;
}

static int teardown(void **state)
{
	rig_close(&rig);
	return 0;
}

struct rules_seen {
	unsigned int n;
	uint32_t gap;
	char text[3][256];
	char lack[3][256];
};

static int see_rule(void *arg, const struct policy_rule_answer *r)
{
	struct rules_seen *seen = arg;

	assert_true(seen->n < 3);
	if (r->rule >= 0)
		policy_rule_text(r->policy, r->dir, (size_t)r->rule, seen->text[seen->n], 256);
	policy_lack_text(r, seen->lack[seen->n++], 256);
	seen->gap = r->gap;
	return 0;
}

static struct rules_seen rules_say(enum tw_direction dir, const char *peer, uint8_t proto,
				   uint16_t port)
{
	const struct policy_end end = { .addr = rig_addr(peer) };
	struct rules_seen seen = {};

	assert_int_equal(policy_rules_each(rig.policy, 1, dir, &end, proto, port, see_rule, &seen),
			 0);
	return seen;
}

static void test_words(void **state)
{
	struct rules_seen seen;

	rig_endpoint(&rig, 1, "shop", "db", "10.0.0.1", NULL);
	rig_apply(&rig, rig_pod("bank", "spy", "{app: spy}", "10.0.0.2"));
	rig_apply(&rig, rig_pod("shop", "web", "{app: web}", "10.0.0.3"));
	rig_apply(&rig,
		  rig_policy("shop", "db",
			     "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: "
			     "{app: web}}}], ports: [{port: 5432}, {port: 80, endPort: 90}]}, "
			     "{from: [{podSelector: {}, namespaceSelector: {matchExpressions: "
			     "[{key: team, operator: In, values: [a, b]}, {key: old, operator: "
			     "DoesNotExist}]}}, {ipBlock: {cidr: 10.0.0.0/8, except: "
			     "[10.0.0.0/24]}}], ports: [{protocol: UDP}]}, {}]}"));
	seen = rules_say(TW_INGRESS, "10.0.0.2", IPPROTO_TCP, 5432);
	assert_int_equal(seen.n, 3);
	assert_string_equal(seen.text[0],
			    "from pods app=web in namespace shop, ports 5432/TCP, 80-90/TCP");
	assert_string_equal(seen.text[1],
			    "from all pods in namespaces team in (a,b),!old or 10.0.0.0/8 except "
			    "10.0.0.0/24, every UDP port");
	assert_string_equal(seen.text[2], "from everywhere, every port");
	assert_int_equal(seen.gap, 0);
	assert_string_equal(seen.lack[0],
			    "rule 0 of shop/db allows this port from pods app=web in namespace "
			    "shop; the peer is in namespace bank and lacks the label "
			    "app=web (it has app=spy)");
	assert_string_equal(seen.lack[1],
			    "rule 1 of shop/db allows every UDP port from all pods in namespaces "
			    "team in (a,b),!old; the peer's namespace lacks the label team in "
			    "(a,b), and the port is 5432/TCP");
	seen = rules_say(TW_INGRESS, "10.0.0.3", IPPROTO_TCP, 443);
	assert_string_equal(seen.lack[0],
			    "rule 0 of shop/db allows this peer on 5432/TCP, 80-90/TCP; the port "
			    "is 443/TCP");
	seen = rules_say(TW_INGRESS, "192.0.2.1", IPPROTO_UDP, 53);
	assert_string_equal(seen.lack[1],
			    "rule 1 of shop/db allows this port from 10.0.0.0/8 except "
			    "10.0.0.0/24; the peer's address 192.0.2.1 is not in 10.0.0.0/8");
	seen = rules_say(TW_EGRESS, "192.0.2.1", IPPROTO_UDP, 53);
	assert_int_equal(seen.n, 0);
	rig_apply(&rig, rig_policy("shop", "db",
				   "{podSelector: {}, policyTypes: [Egress], egress: [{ports: "
				   "[{port: web}]}]}"));
	seen = rules_say(TW_EGRESS, "10.0.0.3", IPPROTO_TCP, 80);
	assert_string_equal(seen.text[0], "to everywhere, port web/TCP");
	assert_string_equal(seen.lack[0], "rule 0 of shop/db allows this peer on web/TCP; the port "
					  "is 80/TCP, and the receiver has no TCP port web");
	rig_apply(&rig, rig_policy("shop", "db", "{podSelector: {}}"));
	seen = rules_say(TW_INGRESS, "10.0.0.3", IPPROTO_TCP, 80);
	assert_int_equal(seen.n, 1);
	assert_string_equal(seen.lack[0], "shop/db has no rule for ingress");
}

/* Text that does not fit says so, and stays in its buffer. */
static void test_words_are_cut(void **state)
{
	struct object_list list = rig_parse(
		rig_policy("shop", "db",
			   "{podSelector: {}, ingress: [{ports: [{port: 5432}, {port: 5433}]}]}"));
	char buf[32];

	for (size_t len = 4; len <= sizeof(buf); len++) {
		memset(buf, 'x', sizeof(buf));
		policy_rule_text(list.v[0], TW_INGRESS, 0, buf, len);
		assert_int_equal(strlen(buf), len - 1);
		assert_string_equal(buf + len - 4, "...");
	}
	object_list_clear(&list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_words, setup, teardown),
		cmocka_unit_test(test_words_are_cut),
	};

	return cmocka_run_group_tests_name("policy_words", tests, NULL, NULL);
}
