/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "health.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent.h"
#include "edge/edges.h"
#include "exporter.h"
#include "flow/history.h"
#include "programs.h"
#include "rates.h"
#include "tick.h"
#include "uplinks.h"

/* The programs take the agent for dead after this time without a heartbeat, and so do we. */
#define HEARTBEAT_MS_MAX 10000u
#define FILL_PERCENT_MAX 95u
#define FILLS_MAX 32u
/* Of the same kind: a node whose hooks are all gone has one cause, not a thousand. */
#define PROBLEMS_OF_A_KIND 8u

/* The agent puts back what was taken off; what still is missing, it could not. */
#define PUT_BACK "the log of towpathd says why it cannot put it back; then restart it"
#define RESTART "restart towpathd; traffic goes on meanwhile"

__attribute__((format(printf, 4, 5))) static void problem(json_t *list, const char *what,
							  const char *help, const char *format, ...)
{
	unsigned int alike = 0;
	char text[512];
	va_list args;
	size_t i;
	json_t *p;

	json_array_foreach(list, i, p)
		alike += !strcmp(json_string_value(json_object_get(p, "what")), what);
	if (alike >= PROBLEMS_OF_A_KIND)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	json_array_append_new(
		list, json_pack("{s:s, s:s, s:s}", "what", what, "text", text, "help", help));
}

/* ---- hooks -------------------------------------------------------------------------------------- */

static json_t *hooks_check(struct agent *a, json_t *problems)
{
	json_int_t expected = 0, attached = 0;
	json_t *uplinks = uplinks_to_json(a->uplinks), *u;
	const struct endpoint *ep;
	size_t i;

	for (uint32_t slot = 1; (ep = slots_next(a->slots, slot)); slot = ep->slot + 1) {
		/* One whose interface is on its way out, or gone, is swept soon. */
		if (ep->part || ep->ending || !endpoint_link_listed(ep->port, ep->port_ifindex))
			continue;
		expected++;
		/* What would pass the second program waits until it is there. */
		if (ep->closed ? datapath_attached_begun(a->dp, ep->port_ifindex)
			       : datapath_attached(a->dp, ep->port_ifindex))
			attached++;
		else
			problem(problems, "hook", PUT_BACK,
				"the programs are not attached to %s, the port of %s/%s: its "
				"traffic is not filtered",
				ep->port, ep->ns, ep->pod);
	}
	json_array_foreach(uplinks, i, u) {
		const char *name = json_string_value(json_object_get(u, "name"));

		expected++;
		if (datapath_attached(a->dp,
				      (uint32_t)json_integer_value(json_object_get(u, "ifindex"))))
			attached++;
		else
			problem(problems, "hook", PUT_BACK,
				"the program is not attached to the uplink %s: what comes from "
				"outside is not filtered",
				name);
		if (json_is_false(json_object_get(u, "up")))
			problem(problems, "uplink", "set it up: ip link set UPLINK up",
				"the uplink %s is down: containers do not reach the outside "
				"through it",
				name);
	}
	json_decref(uplinks);
	return json_pack("{s:I, s:I}", "expected", expected, "attached", attached);
}

/* ---- pins, heartbeat ------------------------------------------------------------------------------ */

static json_t *pins_check(struct agent *a, json_t *problems)
{
	const char *missing = NULL;
	size_t expected = 0, here = datapath_pins(a->dp, &expected, &missing);

	if (missing)
		problem(problems, "pin",
			"delete what is in its place in <run-dir>/bpf/maps, for the agent to pin "
			"it "
			"anew; its log says why it could not",
			"the pin of %s is gone, or another map's (%zu of %zu are right): the next "
			"agent would not find it",
			missing, here, expected);
	return json_pack("{s:I, s:I}", "expected", (json_int_t)expected, "here", (json_int_t)here);
}

static void state_check(const struct agent *a, json_t *problems)
{
	if (a->state_lost)
		problem(problems, "state",
			"make room, or make the folder writable; until then changes are refused, "
			"and "
			"traffic goes on",
			"the database in %s cannot be kept: %s", a->opts->state_dir,
			strerror(-a->state_lost));
}

/* Neither holds anything up; but who needs them later should hear of it now. */
static void flows_check(const struct agent *a, json_t *problems)
{
	struct flow_history_stats history = {};
	int export_error = exporter_error(a->exporter);

	if (a->history)
		flow_history_stats_get(a->history, &history);
	if (history.failing)
		problem(problems, "history",
			"make room; the log of towpathd says what happened; it is tried again",
			"flows are not written to the history in %s", a->opts->state_dir);
	if (export_error)
		problem(problems, "export",
			"make room, or make the folder writable; it is tried again",
			"flows cannot be exported to %s: %s", a->opts->flow_export,
			strerror(-export_error));
}

static json_int_t heartbeat_check(struct agent *a, json_t *problems)
{
	int collected = tick_collect_result(a->tick);
	uint64_t ms = 0;
	int res = datapath_heartbeat_age(a->dp, &ms);

	if (res)
		problem(problems, "heartbeat", RESTART,
			"the programs do not take the agent's heartbeat: %s", strerror(-res));
	else if (ms > HEARTBEAT_MS_MAX)
		problem(problems, "heartbeat",
			"look what keeps the agent busy (top -H, its log), or restart towpathd",
			"the agent was silent for %llu ms: the programs took it for dead",
			(unsigned long long)ms);
	if (collected)
		problem(problems, "collector", RESTART, "ended connections cannot be collected: %s",
			strerror(-collected));
	return (json_int_t)ms;
}

/* ---- room ----------------------------------------------------------------------------------------- */

static void fill_check(struct agent *a, json_t *problems)
{
	struct datapath_fill fill[FILLS_MAX];
	size_t n = datapath_fill_get(a->dp, fill, FILLS_MAX);

	for (size_t i = 0; i < n; i++) {
		bool flows = !strncmp(fill[i].map, "tw_flow", 7);

		if (!fill[i].max || fill[i].used * 100 < fill[i].max * FILL_PERCENT_MAX)
			continue;
		problem(problems, "map",
			flows ? "see who opens them: towpath top endpoints; for a larger table, "
				"stop "
				"towpathd, run 'towpath uninstall', and start it with --max-flows"
			      : "use fewer or wider rules: a change that does not fit is refused",
			"%s is %llu %% full (%llu of %llu)", fill[i].map,
			(unsigned long long)(fill[i].used * 100 / fill[i].max),
			(unsigned long long)fill[i].used, (unsigned long long)fill[i].max);
	}
}

static void pools_check(struct agent *a, json_t *problems)
{
	json_t *pools = ipam_to_json(a->ipam), *p;
	size_t i;

	json_array_foreach(pools, i, p) {
		json_int_t size = json_integer_value(json_object_get(p, "size"));
		json_int_t used = json_integer_value(json_object_get(p, "used"));

		if (size > 0 && used >= size)
			problem(problems, "pool",
				"end pods, or start towpathd with a larger --pod-cidr",
				"no address of %s is free: further pods are refused",
				json_string_value(json_object_get(p, "subnet")));
	}
	json_decref(pools);
}

static void rates_check(struct agent *a, json_t *problems)
{
	uint64_t count[RATE_COUNT];
	double seconds;

	rates_get(a->rates, &seconds, count);
	if (count[RATE_FULL])
		problem(problems, "flow_table_full",
			"see who opens them: towpath top endpoints; or a larger --max-flows",
			"%llu packets of new connections were dropped in the last %.0f s: the flow "
			"table is full",
			(unsigned long long)count[RATE_FULL], seconds);
	if (count[RATE_BUGS])
		problem(problems, "bug", RESTART " and report it with 'towpath status -o json'",
			"%llu packets were dropped in the last %.0f s for a reason that must not "
			"be",
			(unsigned long long)count[RATE_BUGS], seconds);
}

static void program_problem(void *arg, const char *what, const char *help, const char *text)
{
	problem(arg, what, help, "%s", text);
}

json_t *health_json(struct agent *a)
{
	json_t *problems = json_array();
	json_t *hooks = hooks_check(a, problems);
	json_t *pins = pins_check(a, problems);
	json_int_t heartbeat = heartbeat_check(a, problems);

	state_check(a, problems);
	flows_check(a, problems);
	rates_check(a, problems);
	fill_check(a, problems);
	pools_check(a, problems);
	programs_problems(a->programs, program_problem, problems);
	edges_problems(a->edges, program_problem, problems);
	return json_pack("{s:b, s:o, s:o, s:o, s:I}", "ok", !json_array_size(problems), "problems",
			 problems, "hooks", hooks, "pins", pins, "heartbeat_ms", heartbeat);
}
