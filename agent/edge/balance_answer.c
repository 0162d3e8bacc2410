/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What people ask of the balancer. */
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "edge/balance_internal.h"

static const char *way_name(uint8_t way)
{
	static const char *const names[] = { "none", "ipip", "gue", "l2", "nat" };

	return way < sizeof(names) / sizeof(names[0]) ? names[way] : "none";
}

static const char *proto_name(uint8_t proto)
{
	return proto == 6 ? "tcp" : proto == 17 ? "udp" : "sctp";
}

static json_t *front_json(const struct service_front *f)
{
	char prefix[64] = "";

	/* A single address is one without a length. */
	if (f->prefix.len == 128)
		addr_format(&f->prefix.addr, prefix, sizeof(prefix));
	else
		prefix_format(&f->prefix, prefix, sizeof(prefix));
	return json_pack("{s:s, s:i, s:s}", "address", prefix, "port", f->port, "protocol",
			 proto_name(f->proto));
}

static const char *backend_state(const struct backend *be)
{
	if (!be->listed)
		return "removed";
	if (be->spec.drain)
		return "draining";
	if (!be->spec.weight)
		return "no weight";
	if (be->check && !be->checked)
		return "unchecked";
	return be->up ? "up" : "down";
}

static json_t *backend_json(const struct backend *be)
{
	struct balancer *b = be->service->b;
	struct tw_edge_backend_count n = {};
	struct tw_edge_backend value = {};
	char addr[64] = "";
	json_t *json;

	addr_format(&be->spec.addr, addr, sizeof(addr));
	if (b->eb && be->id) {
		edge_backend_count(b->eb, be->id, &n);
		edge_backend_get(b->eb, be->id, &value);
	}
	json = json_pack("{s:s, s:i, s:s, s:i, s:s, s:b, s:I, s:I, s:I, s:I}", "address", addr,
			 "port", be->spec.port, "way", way_name(be->way), "weight", be->spec.weight,
			 "state", backend_state(be), "new", backend_takes(be), "packets",
			 (json_int_t)n.packets, "bytes", (json_int_t)n.bytes, "opened",
			 (json_int_t)n.opened, "remembered", (json_int_t)be->flows);
	if (json && be->failed[0])
		json_object_set_new(json, "check", json_string(be->failed));
	if (json && be->no_hop[0] && b->eb)
		json_object_set_new(json, "hop", json_string(be->no_hop));
	if (json && value.server_id)
		json_object_set_new(json, "serverID", json_integer(value.server_id));
	return json;
}

static json_t *service_json(struct service *s)
{
	json_t *fronts = json_array(), *backends = json_array();
	struct backend *be;

	for (size_t i = 0; i < s->n_fronts; i++)
		json_array_append_new(fronts, front_json(&s->fronts[i]));
	DL_FOREACH(s->backends, be) {
		json_array_append_new(backends, backend_json(be));
	}
	if (!s->b->eb || edge_service_open(s->b->eb, s->number, &s->open))
		s->open = 0;
	return json_pack("{s:s, s:s, s:s, s:b, s:b, s:f, s:o, s:o}", "namespace", s->ns, "name",
			 s->name, "way", way_name(s->spec.way), "balanced", s->b->eb && s->number,
			 "panic", s->panic, "changing", 100.0 * s->open / TW_MAGLEV_SIZE,
			 "frontends", fronts, "backends", backends);
}

json_t *balancer_json(struct balancer *b)
{
	static const char *const names[TW_EDGE_COUNT_BALANCE_COUNTERS] = {
		[TW_EDGE_COUNT_REMEMBERED] = "remembered",
		[TW_EDGE_COUNT_REMEMBER_RATE] = "not_remembered_rate",
		[TW_EDGE_COUNT_REMEMBER_FULL] = "not_remembered_full",
		[TW_EDGE_COUNT_ICMP_SENT] = "icmp_sent",
		[TW_EDGE_COUNT_ICMP_RATE] = "icmp_rate",
	};
	json_t *services = json_array(), *counters = json_object(), *json;
	struct service *s;

	DL_FOREACH(b->services, s) {
		json_array_append_new(services, service_json(s));
	}
	for (unsigned int i = 0; i < TW_EDGE_COUNT_BALANCE_COUNTERS; i++) {
		uint64_t n = 0;

		if (!names[i])
			continue;
		if (b->eb)
			edge_balance_counter(b->eb, (enum tw_edge_balance_counter)i, &n);
		json_object_set_new(counters, names[i], json_integer((json_int_t)n));
	}
	json = json_pack("{s:o, s:o, s:b}", "services", services, "counters", counters, "loaded",
			 b->eb != NULL);
	if (json && b->failed[0])
		json_object_set_new(json, "failed", json_string(b->failed));
	return json;
}
