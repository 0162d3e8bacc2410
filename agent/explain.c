/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* GET /v1/explain: which policies and rules decide between two ends, in words. */
#include "ends.h"
#include "explain_answer.h"
#include "status.h"

int explain_json(struct agent *a, const struct explain_query *query, json_t **reply,
		 struct agent_error *err)
{
	struct end ends[2];
	const struct transport *transport = NULL;
	json_t *answer = NULL;
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
	const struct policy_end asked[2] = { ends[0].policy, ends[1].policy };

	res = explain_answer(a->policy, a->dp, asked, transport->number, port, &answer);
	if (res)
		return agent_refuse_errno(err, res, "");
	*reply = json_pack("{s:o, s:o, s:s, s:i}", "from", end_json(&ends[0]), "to",
			   end_json(&ends[1]), "proto", transport->name, "port", (int)port);
	json_object_update(*reply, answer);
	json_decref(answer);
	return 0;
}
