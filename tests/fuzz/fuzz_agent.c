// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "fuzz_agent.h"

#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "coverage.h"
#include "fuzz.h"
#include "health.h"
#include "kernel_drops.h"
#include "log.h"
#include "edge/edges.h"
#include "edge/rule.h"
#include "programs_internal.h"
#include "rates.h"
#include "opener.h"
#include "remover.h"
#include "tick.h"
#include "top.h"
#include "tracer.h"
#include "edge/balance.h"
#include "uplinks.h"

/* ---- where the kernel would be --------------------------------------------------------------- */

const char *datapath_attach_mode(const struct datapath *dp)
{
	return "tcx";
}

int datapath_attach_port(struct datapath *dp, uint32_t ifindex, const char *ifname)
{
	return 0;
}

int datapath_attach_port_begin(struct datapath *dp, uint32_t ifindex)
{
	return 0;
}

int datapath_detach(struct datapath *dp, uint32_t ifindex)
{
	return 0;
}

bool datapath_attached(struct datapath *dp, uint32_t ifindex)
{
	return true;
}

int datapath_counter(struct datapath *dp, enum tw_counter counter, uint64_t *out)
{
	*out = 0;
	return 0;
}

int datapath_metric(struct datapath *dp, enum tw_reason reason, enum tw_hook hook,
		    struct tw_metric *out)
{
	*out = (struct tw_metric){};
	return 0;
}

int datapath_endpoint_flows(struct datapath *dp, uint32_t slot, uint32_t *out)
{
	return -ENOENT;
}

int datapath_endpoint_get(struct datapath *dp, uint32_t slot, struct tw_endpoint *out)
{
	return -ENOENT;
}

/* As the address is odd or even: both kinds of answers are put into words. */
int datapath_word_find(struct datapath *dp, const union tw_addr *addr, uint32_t *word)
{
	*word = addr->byte[15] & 1 ? TW_ID_UNASSIGNED : TW_ID_WORLD;
	return 0;
}

int datapath_decision_find(struct datapath *dp, uint32_t version, enum tw_direction dir,
			   uint32_t identity, uint32_t key, struct datapath_decision *out)
{
	*out = (struct datapath_decision){ .isolated = key & 1, .last = key, .set = identity };
	return 0;
}

size_t datapath_fill_get(struct datapath *dp, struct datapath_fill *out, size_t max)
{
	return 0;
}

void maps_make_way(struct maps *m, const struct policy_plan *plan)
{
}

int maps_stage(struct maps *m, const struct policy_plan *plan, char *err, size_t err_len)
{
	return 0;
}

void maps_unstage(struct maps *m, const struct policy_plan *plan)
{
}

int maps_flip(struct maps *m, const struct maps_change *change, struct maps_cost *cost)
{
	return 0;
}

int agent_reconcile(struct agent *a, char *err, size_t err_len)
{
	return 0;
}

int endpoint_netns_open(const char *path, int *fd, char *err, size_t err_len)
{
	return 0;
}

int endpoint_link_create(struct endpoint *ep, int netns_fd, char *err, size_t err_len)
{
	ep->port_ifindex = 1000 + ep->slot;
	memcpy(ep->mac, (uint8_t[6]){ 2, 0, 0, 0, 0, 1 }, 6);
	return 0;
}

int endpoint_link_up(struct endpoint *ep, int netns_fd, char *err, size_t err_len)
{
	return 0;
}

int endpoint_link_up_part(const struct endpoint *part, int netns_fd, char *err, size_t err_len)
{
	return 0;
}

int endpoint_link_delete(const char *port, char *err, size_t err_len)
{
	return 0;
}

void opener_add(struct opener *o, struct endpoint *ep)
{
}

void opener_finish(struct opener *o, const struct endpoint *ep)
{
}

int remover_add(struct remover *r, struct endpoint *ep, remover_fn done, void *arg)
{
	struct agent_error err = {};
	int res = agent_endpoint_forget(fuzz_agent(), ep, &err);

	done(arg, res, &err);
	return 0;
}

int programs_endpoint_up(struct programs *p, const struct endpoint *ep, int netns_fd, char *err,
			 size_t err_len)
{
	return 0;
}

json_t *programs_json(const struct programs *p)
{
	return json_pack("{s:[]}", "items");
}

json_t *program_json(const struct programs *p, const char *name, struct agent_error *err)
{
	agent_refuse(err, AGENT_NOT_FOUND, "there is no program %.64s", name);
	return NULL;
}

int programs_hooks(struct programs *p, const struct programs_asked *asked, programs_fn done,
		   void *arg, struct agent_error *err)
{
	done(arg, programs_json(p), 0, err);
	return 0;
}

json_t *programs_counts_json(const struct programs *p)
{
	return json_pack("{s:i}", "attached", 0);
}

json_t *programs_stats_json(struct programs *p, unsigned int hold_ms, struct agent_error *err)
{
	return programs_json(p);
}

/* Requests are read, and kept as a record is. */
int programs_attach(struct programs *p, const json_t *body, programs_fn done, void *arg,
		    struct agent_error *err)
{
	struct program_record r = {};
	void *object = NULL;
	int res = program_request_parse(body, &r, &object, err);

	if (res)
		return res;
	if (!r.name)
		r.name = strdup("name");
	if (!r.program)
		r.program = strdup("program");
	free(object);
	json_t *json = program_record_json(&r);
	program_record_clear(&r);
	done(arg, json, 0, err);
	return 0;
}

int programs_replace(struct programs *p, const char *name, const json_t *body, programs_fn done,
		     void *arg, struct agent_error *err)
{
	struct program_record r = {};
	void *object = NULL;
	int res = program_replacement_parse(body, &r, &object, err);

	if (res)
		return res;
	free(object);
	program_record_clear(&r);
	return agent_refuse(err, AGENT_NOT_FOUND, "there is no program %.64s", name);
}

int programs_detach(struct programs *p, const char *name, programs_fn done, void *arg,
		    struct agent_error *err)
{
	return agent_refuse(err, AGENT_NOT_FOUND, "there is no program %.64s", name);
}

/* ---- the edge: requests are read as far as the rules themselves ------------------------------ */

void edges_look(struct edges *e)
{
}

json_t *edges_summary(const struct edges *e)
{
	return json_pack("{s:[]}", "devices");
}

void edges_problems(const struct edges *e,
		    void (*fn)(void *arg, const char *what, const char *help, const char *text),
		    void *arg)
{
}

json_t *edges_sources(const struct edges *e)
{
	return json_pack("{s:[]}", "items");
}

json_t *edges_json(struct edges *e)
{
	return json_pack("{s:[]}", "rules");
}

int edges_attach(struct edges *e, const json_t *body, edges_fn done, void *arg,
		 struct agent_error *err)
{
	return agent_refuse(err, AGENT_NOT_FOUND, "there is no such interface");
}

int edges_detach(struct edges *e, const char *device, edges_fn done, void *arg,
		 struct agent_error *err)
{
	return agent_refuse(err, AGENT_NOT_FOUND, "the edge is not attached to %.15s", device);
}

int edges_rules(struct edges *e, const json_t *body, edges_fn done, void *arg,
		struct agent_error *err)
{
	const json_t *text;
	size_t i;

	json_array_foreach(json_object_get(body, "rules"), i, text) {
		const char *rule = json_string_value(text);
		struct edge_rule parsed = {};
		char why[256];

		if (edge_rule_parse(rule ? rule : "", EDGE_DENY, &parsed, why, sizeof(why)))
			return agent_refuse(err, AGENT_INVALID, "%s", why);
		edge_rule_clear(&parsed);
	}
	return agent_refuse(err, AGENT_NOT_READY, "the edge is attached to no device");
}

int edges_list(struct edges *e, struct edges_list *list, edges_fn done, void *arg,
	       struct agent_error *err)
{
	struct edge_prefixes prefixes = {};
	struct edge_list_error at = {};
	int res = edge_list_parse(list->text ? list->text : "", list->len, 1, &prefixes, &at);

	free(list->text);
	edge_prefixes_free(&prefixes);
	return res ? agent_refuse(err, AGENT_INVALID, "%s", at.text)
		   : agent_refuse(err, AGENT_NOT_READY, "the edge is attached to no device");
}

json_t *edges_limits_json(const struct edges *e)
{
	return json_pack("{s:[]}", "limits");
}

int edges_limits(struct edges *e, const json_t *body, edges_fn done, void *arg,
		 struct agent_error *err)
{
	return agent_refuse(err, AGENT_NOT_READY, "the edge is attached to no device");
}

int edges_test(struct edges *e, const char *address, const char *port, edges_fn done, void *arg,
	       struct agent_error *err)
{
	return agent_refuse(err, AGENT_NOT_READY, "the edge is attached to no device");
}

bool endpoint_link_exists(const struct endpoint *ep)
{
	return true;
}

int endpoint_link_check(const struct endpoint *ep, char *err, size_t err_len)
{
	return 0;
}

void balancer_changed(struct balancer *b)
{
}

json_t *balancer_json(struct balancer *b)
{
	return json_object();
}

void uplinks_pools_changed(struct uplinks *u)
{
}

uint32_t uplinks_mtu(const struct uplinks *u)
{
	return 1500;
}

json_t *uplinks_to_json(const struct uplinks *u)
{
	return json_array();
}

int tracer_ask(struct tracer *t, const json_t *body, tracer_fn done, void *arg,
	       struct agent_error *err)
{
	return agent_refuse(err, AGENT_NOT_READY, "there is no kernel here");
}

void kernel_drops_json(struct kernel_drops *k, json_t *list)
{
}

bool kernel_drops_told(const struct kernel_drops *k)
{
	return false;
}

json_t *health_json(struct agent *a)
{
	return json_object();
}

void rates_get(struct rates *r, double *seconds, uint64_t count[RATE_COUNT])
{
	memset(count, 0, RATE_COUNT * sizeof(*count));
	*seconds = 1;
}

int top_ask(struct top *t, const struct top_query *query, top_fn done, void *arg)
{
	done(arg, json_object(), 0, &(struct agent_error){});
	return 0;
}

void tick_events(struct tick *t)
{
}

void tick_release(struct tick *t)
{
}

void tick_collected(const struct tick *t, struct tw_collect_args *out)
{
	*out = (struct tw_collect_args){};
}

/* ---- the agent --------------------------------------------------------------------------------- */

static char dir[] = "/dev/shm/towpath-fuzz-XXXXXX";

static void dir_remove(void)
{
	static const char *const names[] = { "towpath.sock", "towpath.db", "towpath.db-wal",
					     "towpath.db-shm", "lock" };
	char path[128];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	rmdir(dir);
}

static bool source_endpoint(void *arg, uint32_t slot, const char **ns, const char **pod)
{
	*ns = "default";
	*pod = "web";
	return slot == 1;
}

/* Records for the filters of /v1/flows to look at. */
static void flows_fill(struct agent *a)
{
	for (unsigned int i = 0; i < 40; i++) {
		struct tw_event ev = {
			.type = TW_EVENT_NEW + i % 4,
			.reason = (__u8)(i % TW_REASON_COUNT),
			.verdict = i % 2 ? TW_VERDICT_ALLOW : TW_VERDICT_DENY,
			.tuple = { .proto = i % 3 ? 6 : 17, .family = i % 5 ? 4 : 6 },
			.slot_from = i % 2,
			.slot_to = i % 3 == 0,
			.packets = { 1 },
		};

		ev.tuple.saddr.word[2] = ev.tuple.daddr.word[2] = htonl(0xffff);
		ev.tuple.saddr.word[3] = htonl(0x0a580002 + i);
		ev.tuple.daddr.word[3] = htonl(0x0a580003);
		ev.tuple.sport = htons((uint16_t)(4000 + i));
		ev.tuple.dport = htons(80);
		fuzz_check(!flow_log_event(a->flows, &ev));
	}
}

static void agent_make(struct agent *a, struct agent_options *opts)
{
	char err[512] = "";
	int res;

	if (!mkdtemp(dir)) {
		snprintf(dir, sizeof(dir), "/tmp/towpath-fuzz-XXXXXX");
		fuzz_check(mkdtemp(dir));
	}
	atexit(dir_remove);
	opts->state_dir = opts->run_dir = dir;
	a->opts = opts;
	fuzz_check(!prefix_parse("10.88.0.0/16", &opts->pod_cidrs[0]));
	fuzz_check(!prefix_parse("fd00:10:88::/64", &opts->pod_cidrs[1]));
	opts->n_pod_cidrs = 2;
	fuzz_check(!log_level_set("error"));
	uv_loop_init(&a->loop);
	res = store_open(&a->store, dir, err, sizeof(err));
	if (!res)
		res = ipam_new(&a->ipam, opts->pod_cidrs, opts->n_pod_cidrs, err, sizeof(err));
	if (res)
		fprintf(stderr, "%s\n", err);
	fuzz_check(!res);
	a->policy = policy_new();
	a->slots = slots_new();
	a->coverage = coverage_new();
	fuzz_check(a->policy && a->slots && a->coverage);
	const struct flow_source source = { .policy = a->policy, .endpoint = source_endpoint };
	fuzz_check(!flow_log_new(&a->flows, 64, &source));
	flows_fill(a);
	fuzz_check(!api_new(&a->api, a, err, sizeof(err)));
}

struct agent *fuzz_agent(void)
{
	static struct agent_options opts;
	static struct agent a;

	if (!a.api)
		agent_make(&a, &opts);
	return &a;
}

static int object_add(void *arg, const struct object *obj)
{
	const struct object ***next = arg;

	*(*next)++ = obj;
	return 0;
}

void fuzz_agent_reset(struct agent *a)
{
	const struct object **objects, **end;
	struct agent_error err;
	struct agent_cost cost;
	struct endpoint *ep;
	size_t room = 1;

	for (unsigned int kind = 0; kind < OBJECT_KIND_COUNT; kind++)
		room += store_object_count(a->store, (enum object_kind)kind);
	objects = end = calloc(room, sizeof(*objects));
	fuzz_check(objects);
	for (unsigned int kind = 0; kind < OBJECT_KIND_COUNT; kind++)
		store_object_each(a->store, (enum object_kind)kind, NULL, object_add, &end);
	const struct agent_change change = { .del = objects, .n_del = (size_t)(end - objects) };
	if (change.n_del)
		fuzz_check(!agent_change(a, &change, &cost, &err));
	free(objects);
	while ((ep = slots_next(a->slots, 1))) {
		fuzz_check(!agent_endpoint_del(a, ep->container_id, ep->ifname, &err));
		/* A slot rests for some seconds. */
		a->loop.time += 60000;
	}
}
