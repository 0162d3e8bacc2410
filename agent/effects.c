/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The answer to a dry run: whose verdicts a prepared change would turn. Bounded in length and
 * in time, since the event loop waits for it.
 */
#include "effects.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "explain_answer.h"

#define PAIRS_SHOWN 100u
#define FLOWS_SHOWN 100u
#define PORTS_SHOWN 16u
#define PAIRS_NS 200000000u /* to compare pairs for at most */

/* What people call them, each by itself, with "..." for the rest. */
static json_t *spans_json(const struct policy_span *spans, size_t n)
{
	json_t *list = json_array();
	char text[128];

	for (size_t i = 0; i < n; i++) {
		explain_ports(spans[i].first, spans[i].last, text, sizeof(text));
		for (const char *at = text; *at; at += strspn(at, ", ")) {
			size_t len = strcspn(at, ",");

			if (json_array_size(list) == PORTS_SHOWN) {
				json_array_append_new(list, json_string("..."));
				return list;
			}
			json_array_append_new(list, json_stringn(at, len));
			at += len;
		}
	}
	return list;
}

static const char *verdict(bool allow)
{
	return allow ? "allow" : "deny";
}

/* "ns/pod" as the ends of flows have it; prefixes and the world by their name. */
static json_t *name_json(const char *name, bool pod)
{
	const char *slash = pod ? strchr(name, '/') : NULL;

	if (!slash)
		return json_pack("{s:s, s:s}", "what", "world", "cidr", name);
	return json_pack("{s:s, s:s#, s:s}", "what", "pod", "namespace", name, (int)(slash - name),
			 "pod", slash + 1);
}

static int add_pair(void *arg, const struct policy_effect *e)
{
	json_t *pair =
		json_pack("{s:o, s:o, s:s, s:s, s:o}", "from", name_json(e->from, e->from_pod),
			  "to", name_json(e->to, e->to_pod), "before", verdict(!e->allow), "after",
			  verdict(e->allow), "ports", spans_json(e->spans, e->n_spans));

	if (e->family)
		json_object_set_new(pair, "family", json_integer(e->family));
	return json_array_append_new(arg, pair) ? -ENOMEM : 0;
}

/* ---- flows ------------------------------------------------------------------------------------ */

static json_t *addr_json(const struct agent *a, const union tw_addr *addr)
{
	const char *name = policy_addr_name(a->policy, addr);
	json_t *end = *name ? name_json(name, true) : json_pack("{s:s}", "what", "world");
	char text[64];

	if (!addr_format(addr, text, sizeof(text)))
		json_object_set_new(end, "ip", json_string(text));
	return end;
}

/* The busiest first. */
static int count_order(const void *a, const void *b)
{
	const struct flow_past *x = a, *y = b;

	return x->count > y->count ? -1 : x->count < y->count;
}

static int flows_json(const struct agent *a, const struct agent_dry_run *dry_run, json_t *effects)
{
	struct flow_past *v = NULL;
	json_t *list = json_array();
	size_t n = 0, changed = 0;
	int res = list ? flow_log_past(a->flows, dry_run->past, dry_run->n_past, &v, &n) : -ENOMEM;
	bool before, after;

	if (res) {
		json_decref(list);
		return res;
	}
	for (size_t i = 0; i < n; i++) {
		const struct flow_past *f = &v[i];

		if (policy_effect_flow(a->policy, &f->addr[0], &f->addr[1], f->proto, f->port,
				       &before, &after) &&
		    before != after) {
			v[changed] = *f;
			v[changed++].allowed = after;
		}
	}
	if (changed)
		qsort(v, changed, sizeof(*v), count_order);
	for (size_t i = 0; i < changed && i < FLOWS_SHOWN; i++) {
		uint32_t key = (uint32_t)v[i].proto << 16 | v[i].port;
		struct policy_span span = { key, key };

		json_array_append_new(
			list,
			json_pack("{s:o, s:o, s:o, s:s, s:s, s:I, s:I}", "from",
				  addr_json(a, &v[i].addr[0]), "to", addr_json(a, &v[i].addr[1]),
				  "ports", spans_json(&span, 1), "before", verdict(!v[i].allowed),
				  "after", verdict(v[i].allowed), "count", (json_int_t)v[i].count,
				  "last", (json_int_t)v[i].time));
	}
	free(v);
	json_object_update_new(effects,
			       json_pack("{s:o, s:I, s:I}", "flows", list, "flows_total",
					 (json_int_t)changed, "flows_asked", (json_int_t)n));
	return 0;
}

int effects_json(const struct agent *a, const struct agent_dry_run *dry_run, json_t **out)
{
	json_t *pairs = json_array(), *effects = json_object();
	struct policy_effects total;
	int res = pairs && effects ? policy_effects_each(a->policy, PAIRS_SHOWN, PAIRS_NS, add_pair,
							 pairs, &total)
				   : -ENOMEM;

	if (!res)
		res = flows_json(a, dry_run, effects);
	if (res) {
		json_decref(pairs);
		json_decref(effects);
		return res;
	}
	json_object_update_new(effects,
			       json_pack("{s:o, s:I, s:b}", "pairs", pairs, "pairs_total",
					 (json_int_t)total.pairs, "complete", total.complete));
	*out = effects;
	return 0;
}
