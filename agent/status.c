/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Answers about the present state. Changes nothing. */
#include "status.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "coverage.h"
#include "edge/edges.h"
#include "flow/history.h"
#include "health.h"
#include "kernel_drops.h"
#include "programs.h"
#include "rates.h"
#include "tick.h"
#include "uplinks.h"

#define FILLS_MAX 64

static json_t *drops_json(struct agent *a)
{
	json_t *list = json_array();

	for (unsigned int reason = TW_REASON_OK + 1; reason < TW_REASON_COUNT; reason++) {
		for (unsigned int hook = 0; hook < TW_HOOK_COUNT; hook++) {
			struct tw_metric m;

			if (datapath_metric(a->dp, (enum tw_reason)reason, (enum tw_hook)hook,
					    &m) ||
			    !m.packets)
				continue;
			json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:I, s:I}", "reason",
							      tw_reason_name(reason), "text",
							      tw_reason_text(reason), "hook",
							      tw_hook_name(hook), "packets",
							      (json_int_t)m.packets, "bytes",
							      (json_int_t)m.bytes));
		}
	}
	kernel_drops_json(a->kernel_drops, list);
	return list;
}

/* What policy said of packets: what the fast path carries on is not judged again. */
static json_t *verdicts_json(struct agent *a)
{
	static const enum tw_reason denied[] = { TW_REASON_POLICY_EGRESS, TW_REASON_POLICY_INGRESS,
						 TW_REASON_REVOKED };
	json_int_t allow = 0, deny = 0;
	struct tw_metric m;

	for (unsigned int hook = 0; hook < TW_HOOK_COUNT; hook++) {
		if (!datapath_metric(a->dp, TW_REASON_OK, (enum tw_hook)hook, &m))
			allow += (json_int_t)m.packets;
		for (size_t i = 0; i < sizeof(denied) / sizeof(denied[0]); i++)
			if (!datapath_metric(a->dp, denied[i], (enum tw_hook)hook, &m))
				deny += (json_int_t)m.packets;
	}
	return json_pack("{s:I, s:I}", "allow", allow, "deny", deny);
}

static json_t *counters_json(struct agent *a)
{
	static const char *const names[TW_COUNTER_COUNT] = {
		[TW_COUNTER_EVENTS_LOST] = "events_lost",
		[TW_COUNTER_EVENTS_SUPPRESSED] = "events_suppressed",
		[TW_COUNTER_INSERTS] = "flows_opened",
		[TW_COUNTER_REDECISIONS] = "flows_judged_again",
		[TW_COUNTER_COLLECTED] = "flows_collected",
		[TW_COUNTER_GUARD_SWEEPS] = "guard_sweeps",
		[TW_COUNTER_EVENTS_SENT] = "events_sent",
		[TW_COUNTER_ICMP_SENT] = "icmp_errors_sent",
	};
	json_t *counters = json_object();
	struct tw_collect_args collected;
	uint64_t value;

	for (unsigned int i = 0; i < TW_COUNTER_COUNT; i++)
		if (!datapath_counter(a->dp, (enum tw_counter)i, &value))
			json_object_set_new(counters, names[i], json_integer((json_int_t)value));
	tick_collected(a->tick, &collected);
	json_object_set_new(counters, "flows_live", json_integer(collected.live));
	return counters;
}

static json_t *maps_json(struct agent *a)
{
	struct datapath_fill fill[FILLS_MAX];
	size_t n = datapath_fill_get(a->dp, fill, FILLS_MAX);
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:I}", "name", fill[i].map,
						      "used", (json_int_t)fill[i].used, "max",
						      (json_int_t)fill[i].max, "bytes",
						      (json_int_t)fill[i].bytes));
	return list;
}

static json_int_t memory_kb(void)
{
	FILE *in = fopen("/proc/self/status", "re");
	char line[256];
	long kb = 0;

	while (in && fgets(line, sizeof(line), in))
		if (sscanf(line, "VmRSS: %ld", &kb) == 1)
			break;
	if (in)
		fclose(in);
	return kb;
}

static json_t *flow_history_json(const struct agent *a)
{
	struct flow_history_stats s = {};

	if (a->history)
		flow_history_stats_get(a->history, &s);
	return json_pack("{s:I, s:I, s:I, s:I, s:b}", "kept", (json_int_t)s.records, "capacity",
			 (json_int_t)a->opts->flow_history, "bytes", (json_int_t)s.bytes, "lost",
			 (json_int_t)s.lost, "failing", (int)s.failing);
}

static json_t *flow_log_json(const struct agent *a)
{
	struct flow_log_stats s;

	flow_log_stats_get(a->flows, &s);
	return json_pack("{s:I, s:I, s:i, s:i}", "events", (json_int_t)s.events, "records",
			 (json_int_t)s.records, "kept", (int)s.kept, "capacity", (int)s.capacity);
}

/* Per second, over the last seconds. */
static json_t *rates_json(struct agent *a)
{
	uint64_t n[RATE_COUNT];
	double s;

	rates_get(a->rates, &s, n);
	s = s > 0 ? s : 1;
	return json_pack("{s:f, s:f, s:f, s:f, s:f}", "seconds", s, "flows_opened",
			 (double)n[RATE_FLOWS] / s, "packets_dropped", (double)n[RATE_DROPS] / s,
			 "packets_denied", (double)n[RATE_DENIED] / s, "events_lost",
			 (double)n[RATE_LOST] / s);
}

json_t *status_json(struct agent *a)
{
	struct policy_stats p;
	struct utsname uts = {};
	struct stat netns = {};

	policy_stats_get(a->policy, &p);
	uname(&uts);
	stat("/proc/self/ns/net", &netns);
	json_t *counts =
		json_pack("{s:I, s:I, s:I, s:i, s:i, s:i, s:i}", "pods",
			  (json_int_t)store_object_count(a->store, OBJECT_POD), "namespaces",
			  (json_int_t)store_object_count(a->store, OBJECT_NAMESPACE), "policies",
			  (json_int_t)store_object_count(a->store, OBJECT_NETWORKPOLICY),
			  "endpoints", (int)slots_count(a->slots), "identities", (int)p.identities,
			  "sets", (int)p.sets, "versions", (int)p.versions);
	return json_pack(
		"{s:s, s:i, s:I, s:{s:I, s:s, s:o}, s:{s:s, s:s, s:b}, s:o, s:o, s:o, s:o, "
		"s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:o, s:o}",
		"version", TOWPATH_VERSION, "pid", (int)getpid(), "uptime_s",
		(json_int_t)((uv_hrtime() - a->started) / 1000000000u), "node", "netns",
		(json_int_t)netns.st_ino, "state_dir", a->opts->state_dir, "uplinks",
		uplinks_to_json(a->uplinks), "kernel", "release", uts.release, "attach",
		datapath_attach_mode(a->dp), "drop_reasons", kernel_drops_told(a->kernel_drops),
		"counts", counts, "maps", maps_json(a), "drops", drops_json(a), "counters",
		counters_json(a), "flow_log", flow_log_json(a), "flow_history",
		flow_history_json(a), "pools", ipam_to_json(a->ipam), "memory_kb", memory_kb(),
		"verdicts", verdicts_json(a), "health", health_json(a), "rates", rates_json(a),
		"edge", edges_summary(a->edges), "programs", programs_counts_json(a->programs));
}

static int add_identity(void *arg, uint32_t identity, const char *what, uint32_t addrs)
{
	return json_array_append_new(arg, json_pack("{s:I, s:s, s:i}", "id", (json_int_t)identity,
						    "what", what, "addresses", (int)addrs));
}

json_t *status_identities(struct agent *a)
{
	json_t *list = json_array();

	policy_identity_each(a->policy, add_identity, list);
	return json_pack("{s:o}", "items", list);
}

/* More than this is asked for by namespace: the answer is made in one piece. */
#define COVERAGE_MAX 5000u

json_t *status_coverage(struct agent *a, const char *ns)
{
	uint64_t more = 0, lost = 0;
	json_t *items = coverage_json(a->coverage, a->store, a->policy, ns, (uint64_t)a->started_at,
				      COVERAGE_MAX, &more);

	datapath_counter(a->dp, TW_COUNTER_EVENTS_LOST, &lost);
	tick_release(a->tick);
	return items ? json_pack("{s:I, s:I, s:I, s:o}", "since",
				 (json_int_t)a->started_at * 1000000000, "events_lost",
				 (json_int_t)lost, "more", (json_int_t)more, "items", items)
		     : NULL;
}

json_t *status_endpoints(struct agent *a)
{
	return json_pack("{s:o}", "items", agent_endpoint_list(a));
}
