/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "policy_rig.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

void rig_open(struct rig *rig)
{
	*rig = (struct rig){ .policy = policy_new() };
	assert_non_null(rig->policy);
}

void rig_close(struct rig *rig)
{
	policy_free(rig->policy);
	lab_clear(&rig->lab);
	policy_plan_clear(&rig->plan);
	for (size_t i = 0; i < rig->n_objects; i++)
		object_free(rig->objects[i]);
}

struct object_list rig_parse(const char *yaml)
{
	struct object_list list = {};
	struct object_error err;

	if (object_parse("rig", yaml, strlen(yaml), &list, &err))
		fail_msg("%u:%u: %s: %s\n%s", err.line, err.column, err.field, err.text, yaml);
	return list;
}

static struct object **rig_find(struct rig *rig, const struct object *obj)
{
	for (size_t i = 0; i < rig->n_objects; i++) {
		struct object *o = rig->objects[i];

		if (o->kind == obj->kind && !strcmp(o->ns, obj->ns) && !strcmp(o->name, obj->name))
			return &rig->objects[i];
	}
	return NULL;
}

static void rig_change(struct rig *rig, const struct policy_change *change)
{
	struct policy_plan full;

	policy_plan_clear(&rig->plan);
	assert_int_equal(policy_prepare(rig->policy, change, &rig->plan), 0);
	for (size_t i = 0; i < change->n_ep_remove; i++)
		lab_remove_endpoint(&rig->lab, change->ep_remove[i]);
	lab_apply(&rig->lab, &rig->plan, NULL, NULL);
	policy_commit(rig->policy);
	assert_int_equal(policy_full_plan(rig->policy, &full), 0);
	lab_compare(&rig->lab, &full);
	policy_plan_clear(&full);
}

void rig_apply(struct rig *rig, const char *yaml)
{
	struct object_list list = rig_parse(yaml), old = { .v = calloc(list.n, sizeof(*old.v)) };

	rig_change(rig, &(struct policy_change){
				.upsert = (const struct object *const *)list.v,
				.n_upsert = list.n,
			});
	for (size_t i = 0; i < list.n; i++) {
		struct object **at = rig_find(rig, list.v[i]);

		if (at)
			old.v[old.n++] = *at;
		else
			at = &rig->objects[rig->n_objects++];
		assert_true(rig->n_objects <= RIG_OBJECTS);
		*at = list.v[i];
	}
	object_list_clear(&old);
	free(list.v);
}

void rig_delete(struct rig *rig, const char *yaml)
{
	struct object_list list = rig_parse(yaml);

	rig_change(rig, &(struct policy_change){
				.remove = (const struct object *const *)list.v,
				.n_remove = list.n,
			});
	for (size_t i = 0; i < list.n; i++) {
		struct object **at = rig_find(rig, list.v[i]);

		if (!at)
			continue;
		object_free(*at);
		*at = rig->objects[--rig->n_objects];
	}
	object_list_clear(&list);
}

union tw_addr rig_addr(const char *text)
{
	union tw_addr addr;

	assert_int_equal(addr_parse(text, &addr), 0);
	return addr;
}

void rig_endpoint(struct rig *rig, uint32_t slot, const char *ns, const char *pod,
		  const char *addr4, const char *addr6)
{
	struct policy_endpoint ep = { .slot = slot, .ns = ns, .pod = pod };

	if (addr4)
		ep.addr4 = rig_addr(addr4);
	if (addr6)
		ep.addr6 = rig_addr(addr6);
	rig_change(rig, &(struct policy_change){ .ep_upsert = &ep, .n_ep_upsert = 1 });
}

void rig_endpoint_remove(struct rig *rig, uint32_t slot)
{
	rig_change(rig, &(struct policy_change){ .ep_remove = &slot, .n_ep_remove = 1 });
}

bool rig_allows(const struct rig *rig, uint32_t slot, enum tw_direction dir, const char *peer,
		const char *proto, uint16_t port)
{
	const union tw_addr addr = rig_addr(peer);
	const uint8_t number = !strcmp(proto, "tcp")	? IPPROTO_TCP
			       : !strcmp(proto, "udp")	? IPPROTO_UDP
			       : !strcmp(proto, "sctp") ? IPPROTO_SCTP
							: IPPROTO_ICMP;

	return lab_allows(&rig->lab, slot, dir, &addr, number, port);
}

bool rig_bumped(const struct rig *rig, uint32_t slot)
{
	if (!slot)
		return rig->plan.bump_node;
	for (size_t i = 0; i < rig->plan.n_endpoints; i++)
		if (rig->plan.endpoints[i].slot == slot && rig->plan.endpoints[i].bump)
			return true;
	return false;
}

size_t rig_writes(const struct rig *rig)
{
	const struct policy_plan *p = &rig->plan;

	return p->n_peers_add + p->n_peers_join + p->n_peers_leave + p->n_versions_add +
	       p->n_refine_endpoints + p->n_refine_prefixes + p->n_endpoints + p->n_prefixes_set +
	       p->n_prefixes_del + p->n_versions_del + p->n_peers_del + p->n_set_peers_del;
}

struct policy_stats rig_stats(const struct rig *rig)
{
	struct policy_stats stats;

	policy_stats_get(rig->policy, &stats);
	return stats;
}

/* Texts live until the same function was called eight times more. */
static char *rig_text(void)
{
	static char texts[8][2048];
	static unsigned int next;

	return texts[next++ % 8];
}

const char *rig_policy(const char *ns, const char *name, const char *spec)
{
	char *text = rig_text();
	int n = snprintf(text, 2048,
			 "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, "
			 "metadata: {name: %s, namespace: %s}, spec: %s}\n",
			 name, ns, spec);

	assert_in_range(n, 1, 2047);
	return text;
}

const char *rig_pod(const char *ns, const char *name, const char *labels, const char *addr)
{
	char *text = rig_text();
	int n = snprintf(text, 2048,
			 "---\n{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: %s, "
			 "labels: %s}, status: {podIP: \"%s\"}}\n",
			 name, ns, labels, addr);

	assert_in_range(n, 1, 2047);
	return text;
}
