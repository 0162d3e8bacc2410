/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The body of GET /v1/explain. */
#include "explain_answer.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "datapath/maps.h"

/* Rules that are shown; what decides or comes nearest is named apart from them. */
#define RULES_SHOWN 100u
#define TEXT_MAX 512u

void explain_ports(uint32_t first, uint32_t last, char *buf, size_t len)
{
	static const struct {
		uint32_t number;
		const char *name;
		bool ports;
	} protos[] = {
		{ IPPROTO_TCP, "tcp", true },	     { IPPROTO_UDP, "udp", true },
		{ IPPROTO_SCTP, "sctp", true },	     { IPPROTO_ICMP, "icmp", false },
		{ IPPROTO_ICMPV6, "icmpv6", false },
	};
	size_t n = 0;

	if (!first && last >= 0xffffff) {
		snprintf(buf, len, "every port");
		return;
	}
	snprintf(buf, len, "other protocols");
	for (size_t i = 0; i < sizeof(protos) / sizeof(*protos); i++) {
		uint32_t base = protos[i].number << 16;
		uint32_t from = first > base ? first : base;
		uint32_t to = last < (base | 0xffff) ? last : base | 0xffff;

		/* ICMP is asked for as port 0, which is none of the others'. */
		if (protos[i].ports && from == base)
			from++;
		if (from > to || (!protos[i].ports && from != base) || n >= len)
			continue;
		n += (size_t)snprintf(buf + n, len - n, "%s", n ? ", " : "");
		if (n >= len)
			return;
		if (!protos[i].ports || (from == base + 1 && to == (base | 0xffff)))
			n += (size_t)snprintf(buf + n, len - n, "%s", protos[i].name);
		else if (from == to)
			n += (size_t)snprintf(buf + n, len - n, "%u/%s", from & 0xffff,
					      protos[i].name);
		else
			n += (size_t)snprintf(buf + n, len - n, "%u-%u/%s", from & 0xffff,
					      to & 0xffff, protos[i].name);
	}
}

/* ---- the rules --------------------------------------------------------------------------------- */

struct listing {
	json_t *policies;
	json_t *rules;		     /* of the policy at hand */
	const struct object *policy; /* the policy at hand */
	uint32_t shown, more;
	uint32_t gap; /* of the nearest so far */
	char nearest[TEXT_MAX];
	char nearest_policy[320];
	int nearest_rule;
};

static const char *rule_says(const struct policy_rule_answer *r)
{
	if (r->peer)
		return r->port ? "the peer and the port match"
			       : "the peer matches, the port does not";
	return r->port ? "the port matches, the peer does not" : "neither peer nor port match";
}

static int list_nearest(struct listing *l, const struct policy_rule_answer *r)
{
	if (*l->nearest && r->gap >= l->gap)
		return 0;
	l->gap = r->gap;
	l->nearest_rule = r->rule;
	snprintf(l->nearest_policy, sizeof(l->nearest_policy), "%s/%s", r->policy->ns,
		 r->policy->name);
	policy_lack_text(r, l->nearest, sizeof(l->nearest));
	return 0;
}

static int list_rule(void *arg, const struct policy_rule_answer *r)
{
	struct listing *l = arg;
	char text[TEXT_MAX];

	list_nearest(l, r);
	if (l->shown >= RULES_SHOWN) {
		l->more++;
		return 0;
	}
	l->shown++;
	if (l->policy != r->policy) {
		l->policy = r->policy;
		l->rules = json_array();
		if (json_array_append_new(
			    l->policies,
			    json_pack("{s:o, s:o}", "policy",
				      json_sprintf("%s/%s", r->policy->ns, r->policy->name),
				      "rules", l->rules)))
			return -ENOMEM;
	}
	if (r->rule < 0)
		return 0;
	policy_rule_text(r->policy, r->dir, (size_t)r->rule, text, sizeof(text));
	return json_array_append_new(l->rules, json_pack("{s:i, s:s, s:b, s:b, s:s}", "rule",
							 r->rule, "text", text, "peer", r->peer,
							 "port", r->port, "says", rule_says(r)))
		       ? -ENOMEM
		       : 0;
}

/* What the policies say of one direction, as an object of the answer. */
static int direction_json(const struct policy *p, const struct policy_end ends[2],
			  enum tw_direction dir, uint8_t proto, uint16_t port, json_t **out,
			  bool *allow)
{
	const struct policy_end *self = &ends[dir == TW_INGRESS], *peer = &ends[dir == TW_EGRESS];
	struct listing l = { .policies = json_array() };
	struct policy_answer a;
	int res = policy_explain(p, self->slot, dir, peer, proto, port, &a);

	if (!res)
		res = policy_rules_each(p, self->slot, dir, peer, proto, port, list_rule, &l);
	if (res) {
		json_decref(l.policies);
		return res;
	}
	json_t *json = json_pack("{s:b, s:b, s:s, s:o}", "isolated", a.isolated, "allow", a.allow,
				 "selected_by", a.selected_by, "policies", l.policies);

	if (l.more)
		json_object_set_new(json, "more_rules", json_integer(l.more));
	if (a.policy) {
		json_object_set_new(json, "policy", json_sprintf("%s/%s", a.policy_ns, a.policy));
		json_object_set_new(json, "rule", json_integer(a.rule));
	}
	if (!a.allow && *l.nearest)
		json_object_set_new(json, "nearest",
				    json_pack("{s:s, s:i, s:s}", "policy", l.nearest_policy, "rule",
					      l.nearest_rule, "text", l.nearest));
	*allow = a.allow;
	*out = json;
	return json ? 0 : -ENOMEM;
}

/* ---- the maps ------------------------------------------------------------------------------------ */

static json_t *set_json(uint32_t set)
{
	return set == TW_SET_ANY    ? json_string("any")
	       : set == TW_SET_NONE ? json_string("none")
				    : json_integer(set);
}

/* The entries that carry the decision; asked false: it falls without them. */
static json_t *kernel_json(const struct maps_answer *a, enum tw_direction dir)
{
	const struct maps_end *self = &a->end[dir == TW_INGRESS], *peer = &a->end[dir == TW_EGRESS];
	const struct datapath_decision *d = &a->said[dir];
	json_t *json =
		json_pack("{s:b, s:i, s:i, s:I}", "asked", a->asked[dir], "slot", (int)self->slot,
			  "version", (int)self->version, "identity", (json_int_t)peer->identity);
	char ports[128];

	if (!a->asked[dir])
		return json;
	json_object_set_new(json, "allow", json_boolean(d->allow));
	json_object_set_new(json, "isolated", json_boolean(d->isolated));
	if (d->has_class) {
		explain_ports(d->first, d->last, ports, sizeof(ports));
		json_object_set_new(json, "class", json_integer(d->class));
		json_object_set_new(json, "ports", json_string(ports));
	}
	json_object_set_new(json, "set", set_json(d->set));
	return json;
}

static const char *reason_text(const struct maps_answer *a)
{
	if (a->reason != TW_REASON_OK)
		return tw_reason_text(a->reason);
	return a->host ? "between a pod and its own node everything passes"
		       : "no policy is against it";
}

static int warn(json_t *json, const char *direction, bool rules, bool maps)
{
	return json_object_set_new(
		json, "warning",
		json_sprintf("the policies say %s for %s, but the kernel's maps say %s: restart "
			     "towpathd, which writes them anew, and report this",
			     rules ? "allow" : "deny", direction, maps ? "allow" : "deny"));
}

static int answer_direction(const struct policy *p, const struct policy_end ends[2],
			    enum tw_direction dir, const struct maps_answer *a, json_t *json)
{
	static const char *const names[] = { [TW_INGRESS] = "ingress", [TW_EGRESS] = "egress" };
	bool rules = true;
	json_t *d = NULL;
	int res =
		direction_json(p, ends, dir, (uint8_t)(a->key >> 16), (uint16_t)a->key, &d, &rules);

	if (res)
		return res;
	json_object_set_new(d, "kernel", kernel_json(a, dir));
	json_object_set_new(json, names[dir], d);
	if (a->end[dir == TW_INGRESS].slot != ends[dir == TW_INGRESS].slot)
		return json_object_set_new(
			json, "warning",
			json_sprintf("the kernel's maps have another endpoint at the %s end: "
				     "restart towpathd, which writes them anew, and report this",
				     names[dir]));
	return !a->asked[dir] || rules == a->said[dir].allow
		       ? 0
		       : warn(json, names[dir], rules, a->said[dir].allow);
}

int explain_answer(const struct policy *p, struct datapath *dp, const struct policy_end ends[2],
		   uint8_t proto, uint16_t port, json_t **out)
{
	struct policy_end seen[2] = { ends[0], ends[1] };
	struct maps_answer a;
	int res = maps_ask(dp, ends, proto, port, &a);
	json_t *json = res ? NULL : json_object();

	if (res || !json)
		return res ? res : -ENOMEM;
	for (int i = 0; i < 2; i++)
		seen[i].is_host |= a.end[i].identity == TW_ID_HOST;
	for (int i = 0; i < 2 && !res; i++)
		if (seen[i].slot)
			res = answer_direction(p, seen, i ? TW_INGRESS : TW_EGRESS, &a, json);
	if (res) {
		json_decref(json);
		return res;
	}
	bool decides = seen[0].slot || seen[1].slot || a.reason != TW_REASON_OK;

	if (seen[0].slot && seen[0].slot == seen[1].slot)
		json_object_update_new(json,
				       json_pack("{s:s, s:s, s:s}", "verdict", "none", "reason",
						 "ok", "text",
						 "a pod reaches itself inside of its own network "
						 "namespace, where no policy is asked"));
	else if (!decides)
		json_object_update_new(json,
				       json_pack("{s:s, s:s, s:s}", "verdict", "none", "reason",
						 "ok", "text",
						 "neither end is a pod of this node, so its data "
						 "path does not decide"));
	else
		json_object_update_new(json, json_pack("{s:s, s:s, s:s}", "verdict",
						       a.reason ? "deny" : "allow", "reason",
						       tw_reason_name(a.reason), "text",
						       reason_text(&a)));
	*out = json;
	return 0;
}
