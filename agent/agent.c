/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Start, in the order of docs/design/agent.md, and stop. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "coverage.h"
#include "api/api.h"
#include "api/metrics.h"
#include "edge/balance.h"
#include "edge/edges.h"
#include "exporter.h"
#include "filters.h"
#include "kernel_drops.h"
#include "log.h"
#include "rates.h"
#include "recorder.h"
#include "opener.h"
#include "remover.h"
#include "notify.h"
#include "past.h"
#include "pins.h"
#include "programs.h"
#include "tick.h"
#include "tracer.h"
#include "top.h"
#include "uplinks.h"

/* ---- what the flow log asks ------------------------------------------------------------------- */

static bool source_endpoint(void *arg, uint32_t slot, const char **ns, const char **pod)
{
	const struct agent *a = arg;
	const struct endpoint *ep = slots_get(a->slots, slot);

	if (!ep)
		return false;
	*ns = ep->ns;
	*pod = ep->pod;
	return true;
}

static const struct labels *source_labels(void *arg, const char *ns, const char *pod)
{
	const struct agent *a = arg;
	const struct object *obj = store_object(a->store, OBJECT_POD, ns, pod);
	const struct endpoint *ep;

	if (obj)
		return &obj->labels;
	for (uint32_t slot = 1; (ep = slots_next(a->slots, slot)); slot = ep->slot + 1)
		if (!strcmp(ep->ns, ns) && !strcmp(ep->pod, pod))
			return &ep->labels;
	return NULL;
}

static uint32_t source_slot(void *arg, uint32_t ifindex, const union tw_addr *addr)
{
	static const union tw_addr none;
	const struct agent *a = arg;
	const struct endpoint *ep;

	for (uint32_t slot = 1; (ep = slots_next(a->slots, slot)); slot = ep->slot + 1) {
		if (ifindex ? ep->port_ifindex == ifindex
			    : memcmp(addr, &none, sizeof(none)) &&
				      (!memcmp(addr, &ep->addr4, sizeof(*addr)) ||
				       !memcmp(addr, &ep->addr6, sizeof(*addr))))
			return ep->slot;
	}
	return 0;
}

static void source_decided(void *arg, const struct flow_decided *d)
{
	const struct agent *a = arg;

	coverage_decided(a->coverage, d);
}

/* ---- state ------------------------------------------------------------------------------------ */

void agent_state_keep(struct agent *a)
{
	bool rewritten = false;
	int res = store_keep(a->store, &rewritten);

	if (res && !a->state_lost)
		log_error("%s", store_error(a->store));
	else if (rewritten)
		log_warn("somebody deleted the database in %s; it is written anew",
			 a->opts->state_dir);
	a->state_lost = res;
}

static int state_open(struct agent *a, char *err, size_t err_len)
{
	const struct agent_options *opts = a->opts;
	int res = store_open(&a->store, opts->state_dir, err, err_len);

	if (res)
		return res;
	res = ipam_new(&a->ipam, opts->pod_cidrs, opts->n_pod_cidrs, err, err_len);
	if (res)
		return res;
	a->policy = policy_new();
	a->slots = slots_new();
	a->coverage = coverage_new();
	if (!a->policy || !a->slots || !a->coverage) {
		snprintf(err, err_len, "out of memory");
		return -ENOMEM;
	}
	const struct flow_source source = {
		.policy = a->policy,
		.endpoint = source_endpoint,
		.labels = source_labels,
		.slot = source_slot,
		.decided = source_decided,
		.arg = a,
	};
	res = flow_log_new(&a->flows, opts->flow_log, &source);
	if (res) {
		snprintf(err, err_len, "cannot make the flow log: %s", strerror(-res));
		return res;
	}
	if (opts->flow_history)
		res = recorder_new(&a->recorder, a);
	if (res) {
		snprintf(err, err_len, "cannot make the flow history: %s", strerror(-res));
		return res;
	}
	/* That containers have no network would be worse than that their flows are in no file. */
	res = opts->flow_export ? exporter_new(&a->exporter, a) : 0;
	if (res)
		log_warn("flows are not exported to %s: %s; mend it and restart towpathd",
			 opts->flow_export, strerror(-res));
	return agent_restore_records(a, err, err_len);
}

struct collect {
	const struct object **v;
	size_t n;
};

static int collect_object(void *arg, const struct object *obj)
{
	struct collect *c = arg;

	c->v[c->n++] = obj;
	return 0;
}

/* The compiler's state from the stored objects, numbers and endpoints. */
static int state_compile(struct agent *a, char *err, size_t err_len)
{
	__attribute__((cleanup(policy_plan_clear))) struct policy_plan plan = {};
	struct collect objects = {};
	size_t room = 1, n_eps = 0;
	const struct policy_id *ids;
	size_t n_ids;
	const struct endpoint *ep;

	for (unsigned int kind = 0; kind < OBJECT_KIND_COUNT; kind++)
		room += store_object_count(a->store, (enum object_kind)kind);
	objects.v = calloc(room, sizeof(struct object *));
	struct policy_endpoint *eps = calloc(slots_count(a->slots) + 1, sizeof(*eps));
	if (!objects.v || !eps) {
		free(objects.v);
		free(eps);
		snprintf(err, err_len, "out of memory");
		return -ENOMEM;
	}
	for (unsigned int kind = 0; kind < OBJECT_KIND_COUNT; kind++)
		store_object_each(a->store, (enum object_kind)kind, NULL, collect_object, &objects);
	for (uint32_t slot = 1; (ep = slots_next(a->slots, slot)); slot = ep->slot + 1)
		agent_endpoint_policy(ep, &eps[n_eps++]);
	const struct policy_change change = {
		.upsert = objects.v,
		.n_upsert = objects.n,
		.ep_upsert = eps,
		.n_ep_upsert = n_eps,
	};
	store_ids(a->store, &ids, &n_ids);
	int res = policy_restore_ids(a->policy, ids, n_ids);
	if (!res)
		res = policy_prepare(a->policy, &change, &plan);
	free(objects.v);
	free(eps);
	if (res)
		snprintf(err, err_len, "cannot compile the stored policies: %s", strerror(-res));
	return res;
}

/* Numbers before maps: what a crash leaves in the maps must be found under the same numbers. */
static int state_number(struct agent *a, char *err, size_t err_len)
{
	struct policy_id *ids = NULL;
	size_t n = 0;
	int res = policy_export_ids(a->policy, &ids, &n);
	const struct store_change change = { .ids = ids, .n_ids = n };

	if (!res)
		res = store_write(a->store, &change);
	free(ids);
	if (res)
		snprintf(err, err_len, "%s",
			 *store_error(a->store) ? store_error(a->store) : strerror(-res));
	else
		policy_commit(a->policy);
	return res;
}

/* ---- data path ---------------------------------------------------------------------------------- */

static uint32_t flow_capacity(struct agent *a)
{
	struct datapath_fill fill[32];
	size_t n = datapath_fill_get(a->dp, fill, sizeof(fill) / sizeof(fill[0]));

	for (size_t i = 0; i < n; i++)
		if (!strcmp(fill[i].map, "tw_flow4"))
			return (uint32_t)fill[i].max;
	return 0;
}

static int kernel_open(struct agent *a, char *err, size_t err_len)
{
	const struct agent_options *opts = a->opts;
	char pin_dir[4096];
	struct datapath_options dpo = {
		.pin_dir = pin_dir,
		.max_flows = opts->max_flows,
		.force_clsact = opts->force_clsact,
	};

	guard_pin_dir(opts, pin_dir, sizeof(pin_dir));
	datapath_settings_default(&dpo.settings);
	dpo.settings.masquerade4 = opts->masquerade4;
	dpo.settings.masquerade6 = opts->masquerade6;
	dpo.settings.have_nomasq = opts->n_nomasq > 0;
	dpo.settings.outside_stack = opts->outside_stack;
	dpo.settings.snat_first = NODE_SNAT_FIRST;
	dpo.settings.snat_last = NODE_SNAT_LAST;
	int res = datapath_open(&a->dp, &dpo, err, err_len);
	if (res)
		return res;
	/* No endpoint can fill the table alone; four that try together can. */
	a->flow_cap = flow_capacity(a) / 4;
	res = maps_new(&a->maps, a->dp, &a->loop);
	if (res)
		snprintf(err, err_len, "out of memory");
	return res;
}

int agent_reconcile(struct agent *a, char *err, size_t err_len)
{
	__attribute__((cleanup(policy_plan_clear))) struct policy_plan plan = {};
	struct maps_endpoint *eps = calloc(slots_count(a->slots) + 1, sizeof(*eps));
	const struct endpoint *ep;
	size_t n = 0;
	int res = eps ? policy_full_plan(a->policy, &plan) : -ENOMEM;

	if (res) {
		free(eps);
		snprintf(err, err_len, "cannot compile the whole state: %s", strerror(-res));
		return res;
	}
	for (uint32_t slot = 1; (ep = slots_next(a->slots, slot)); slot = ep->slot + 1) {
		eps[n].slot = ep->slot;
		agent_endpoint_value(a, ep, &eps[n++].value);
	}
	for (size_t i = 0; i < plan.n_endpoints; i++) {
		struct endpoint *live = slots_get(a->slots, plan.endpoints[i].slot);

		if (live) {
			live->identity = plan.endpoints[i].identity;
			live->version = plan.endpoints[i].version;
		}
	}
	res = maps_reconcile(a->maps, &plan, eps, n, a->opts->nomasq, a->opts->n_nomasq, err,
			     err_len);
	free(eps);
	return res;
}

/* ---- run --------------------------------------------------------------------------------------- */

/* An agent's error as the one sentence of a start that is refused. */
static int refuse_start(int res, const struct agent_error *refused, char *err, size_t err_len)
{
	const struct object_error *at = &refused->at;

	if (res && *at->file)
		snprintf(err, err_len, "%s:%u:%u: %s%s%s", at->file, at->line, at->column,
			 at->field, *at->field ? ": " : "", at->text);
	else if (res)
		snprintf(err, err_len, "%s", at->text);
	return res;
}

static int watches_open(struct agent *a, char *err, size_t err_len)
{
	int res = uplinks_start(a->uplinks, err, err_len);

	if (res)
		return res;
	res = filters_new(&a->filters, a);
	if (!res)
		res = rates_new(&a->rates, a);
	if (!res)
		res = tick_new(&a->tick, a);
	if (!res)
		res = tracer_new(&a->tracer, a);
	if (!res)
		res = top_new(&a->top, a);
	if (res)
		snprintf(err, err_len, "cannot watch this node: %s", strerror(-res));
	return res;
}

/* The maps hold everything: the programs of this agent take over from those of an earlier one. */
static int kernel_switch(struct agent *a, char *err, size_t err_len)
{
	struct datapath_migration moved = {};
	int res = datapath_switch(a->dp, &moved, err, err_len);

	if (!res && moved.from)
		log_info("took over %llu connections from maps of layout %u (this agent's is %u)",
			 (unsigned long long)moved.flows, moved.from, TW_ABI_VERSION);
	if (moved.lost)
		log_warn("%llu connections did not fit the flow table, and end (see --max-flows)",
			 (unsigned long long)moved.lost);
	if (moved.error)
		log_error("the connections in maps of layout %u could not be taken over: %s",
			  moved.from, strerror(-moved.error));
	if (res)
		return res;
	res = pins_new(&a->pins, a);
	if (res)
		snprintf(err, err_len, "cannot watch what is pinned: %s", strerror(-res));
	return res;
}

static int agent_open(struct agent *a, char *err, size_t err_len)
{
	struct agent_error refused = {};
	int res = state_open(a, err, err_len);

	if (!res)
		res = refuse_start(agent_check_dir(a, &refused), &refused, err, err_len);
	/* A port that is taken refuses the start before anything has changed. */
	if (!res)
		res = metrics_server_new(&a->metrics_server, a, err, err_len);
	if (!res)
		res = kernel_open(a, err, err_len);
	if (!res)
		res = agent_restore_check(a, err, err_len);
	if (!res)
		res = uplinks_new(&a->uplinks, a, err, err_len);
	if (!res)
		res = state_compile(a, err, err_len);
	/* As best known: the watch that begins later looks again. */
	if (!res)
		filters_read_queues(a);
	if (!res)
		res = state_number(a, err, err_len);
	if (!res)
		res = agent_reconcile(a, err, err_len);
	if (!res)
		res = agent_restore_ports(a, err, err_len);
	if (!res)
		res = watches_open(a, err, err_len);
	if (!res)
		res = kernel_switch(a, err, err_len);
	if (!res)
		res = remover_new(&a->remover, a);
	if (!res)
		res = opener_new(&a->opener, a);
	if (!res)
		res = programs_new(&a->programs, a, err, err_len);
	if (!res)
		res = edges_new(&a->edges, a, err, err_len);
	if (!res)
		res = balancer_new(&a->balancer, a, err, err_len);
	if (res)
		return res;
	edges_start(a->edges);
	agent_endpoint_sweep(a);
	res = refuse_start(agent_apply_dir(a, &refused), &refused, err, err_len);
	if (!res)
		res = api_new(&a->api, a, err, err_len);
	if (!res)
		res = guard_drop(err, err_len);
	return res;
}

static void agent_close(struct agent *a)
{
	remover_free(a->remover);
	opener_free(a->opener);
	tracer_free(a->tracer);
	past_stop(a);
	top_free(a->top);
	api_free(a->api);
	metrics_server_free(a->metrics_server);
	tick_free(a->tick);
	rates_free(a->rates);
	kernel_drops_free(a->kernel_drops);
	filters_free(a->filters);
	programs_free(a->programs);
	balancer_free(a->balancer);
	edges_free(a->edges);
	pins_free(a->pins);
	uplinks_free(a->uplinks);
	maps_free(a->maps);
	/* Handles close, and a worker that is under way ends. */
	uv_run(&a->loop, UV_RUN_DEFAULT);
	uv_loop_close(&a->loop);
	exporter_free(a->exporter);
	recorder_free(a->recorder);
	flow_log_free(a->flows);
	coverage_free(a->coverage);
	policy_free(a->policy);
	store_close(a->store);
	slots_free(a->slots);
	ipam_free(a->ipam);
	datapath_close(a->dp);
}

static void stop(uv_signal_t *signal, int number)
{
	struct agent *a = signal->data;

	log_info("stopped by signal %d; what is in the kernel goes on", number);
	uv_stop(&a->loop);
}

static void run(struct agent *a)
{
	uv_signal_t terminate, interrupt;

	uv_signal_init(&a->loop, &terminate);
	uv_signal_init(&a->loop, &interrupt);
	terminate.data = interrupt.data = a;
	uv_signal_start(&terminate, stop, SIGTERM);
	uv_signal_start(&interrupt, stop, SIGINT);
	/* Without it everything else works. */
	if (kernel_drops_new(&a->kernel_drops, a))
		log_warn("out of memory: drops of the kernel itself are not in the flow log");
	tick_start(a->tick);
	uv_run(&a->loop, UV_RUN_DEFAULT);
	uv_close((uv_handle_t *)&terminate, NULL);
	uv_close((uv_handle_t *)&interrupt, NULL);
	uv_run(&a->loop, UV_RUN_NOWAIT);
}

static int claim(const struct agent_options *opts, int *single, int *lock, char *err,
		 size_t err_len)
{
	int res = guard_capabilities(err, err_len);

	if (!res)
		res = guard_single(single, err, err_len);
	return res ? res : guard_dirs(opts, lock, err, err_len);
}

int agent_run(const struct agent_options *opts)
{
	struct agent a = { .opts = opts, .started = uv_hrtime(), .started_at = time(NULL) };
	char why[2048] = "";
	int single = -1, lock = -1;

	if (claim(opts, &single, &lock, why, sizeof(why))) {
		fprintf(stderr, "towpathd: %s\n", why);
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	uv_loop_init(&a.loop);
	int res = agent_open(&a, why, sizeof(why));
	if (res) {
		fprintf(stderr, "towpathd: %s\n", why);
	} else {
		memory_release();
		log_info(
			"ready after %.0f ms: %u endpoints, %zu pods, %zu namespaces, %zu policies",
			(double)(uv_hrtime() - a.started) / 1e6, slots_count(a.slots),
			store_object_count(a.store, OBJECT_POD),
			store_object_count(a.store, OBJECT_NAMESPACE),
			store_object_count(a.store, OBJECT_NETWORKPOLICY));
		notify_ready();
		run(&a);
	}
	agent_close(&a);
	close(lock);
	close(single);
	return res ? 1 : 0;
}
