/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* GET /v1/explain: which policies and rules decide between two ends, in words. */
#include "ends.h"
#include "status.h"

static json_t *answer_json(const struct policy_answer *answer)
{
	json_t *json = json_pack("{s:b, s:b, s:s}", "isolated", answer->isolated, "allow",
				 answer->allow, "selected_by", answer->selected_by);

	if (answer->policy) {
		json_object_set_new(json, "policy",
				    json_sprintf("%s/%s", answer->policy_ns, answer->policy));
		json_object_set_new(json, "rule", json_integer(answer->rule));
	}
	return json;
}

int explain_json(struct agent *a, const struct explain_query *query, json_t **reply,
		 struct agent_error *err)
{
	struct end ends[2];
	const struct transport *transport = NULL;
	struct policy_answer answer;
	bool allow = true;
	uint16_t port = 0;
	int res = end_parse(a, query->from, &ends[0], err);

	if (!res)
		res = end_parse(a, query->to, &ends[1], err);
	if (!res)
		res = transport_parse(query->proto, query->port, &transport, &port, err);
	if (!res)
		res = ends_pair(&ends[0], &ends[1], err);
	if (res)
		return res;
	json_t *json = json_pack("{s:o, s:o, s:s, s:i}", "from", end_json(&ends[0]), "to",
				 end_json(&ends[1]), "proto", transport->name, "port", (int)port);
	for (int i = 0; i < 2; i++) {
		enum tw_direction dir = i ? TW_INGRESS : TW_EGRESS;

		if (!ends[i].ep)
			continue;
		res = policy_explain(a->policy, ends[i].policy.slot, dir, &ends[!i].policy,
				     transport->number, port, &answer);
		if (res) {
			json_decref(json);
			return agent_refuse_errno(err, res, "");
		}
		allow = allow && answer.allow;
		json_object_set_new(json, i ? "ingress" : "egress", answer_json(&answer));
	}
	json_object_set_new(json, "verdict", json_string(allow ? "allow" : "deny"));
	*reply = json;
	return 0;
}
