/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* A compiler with its tables, changed by texts: what tests of single properties stand on. */
#ifndef TESTS_UNIT_POLICY_RIG_H
#define TESTS_UNIT_POLICY_RIG_H

#include "policy_lab.h"

#define RIG_OBJECTS 4096

struct rig {
	struct policy *policy;
	struct lab lab;
	struct object *objects[RIG_OBJECTS]; /* in force */
	size_t n_objects;
	struct policy_plan plan; /* the last one */
};

void rig_open(struct rig *rig);
void rig_close(struct rig *rig);

/* Applies documents, or removes what they name. The plan is written to the tables. */
void rig_apply(struct rig *rig, const char *yaml);
void rig_delete(struct rig *rig, const char *yaml);
/* Endpoints; addresses may be NULL. Labels come from the Pod object, if there is one. */
void rig_endpoint(struct rig *rig, uint32_t slot, const char *ns, const char *pod,
		  const char *addr4, const char *addr6);
void rig_endpoint_remove(struct rig *rig, uint32_t slot);

/* The objects of documents, not in force. */
struct object_list rig_parse(const char *yaml);
union tw_addr rig_addr(const char *text);
/* May the endpoint exchange packets with the address? proto "tcp", "udp", "sctp", "icmp". */
bool rig_allows(const struct rig *rig, uint32_t slot, enum tw_direction dir, const char *peer,
		const char *proto, uint16_t port);
/* Did the last plan raise this slot's epoch (0: the node's)? */
bool rig_bumped(const struct rig *rig, uint32_t slot);
/* Writes of the last plan. */
size_t rig_writes(const struct rig *rig);
struct policy_stats rig_stats(const struct rig *rig);

/* Frequent documents. ns and name are put in; the rest is YAML in flow style. */
const char *rig_policy(const char *ns, const char *name, const char *spec);
const char *rig_pod(const char *ns, const char *name, const char *labels, const char *addr);

#endif
