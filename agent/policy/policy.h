/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The policy compiler: objects and endpoints in, a plan of map changes out. It touches no
 * map and no file, so a plan can be computed for a dry run and thrown away.
 *
 * Words: an ATOM is one distinct peer term (pod and namespace selector in a namespace, or
 * one ipBlock with its exceptions, or a named port of an egress rule with its number). The
 * SIGNATURE of an address is the list of atoms that match it. An IDENTITY is a signature:
 * no rule in force can tell two addresses of one identity apart, and whether an identity is
 * in a SET (a union of atoms) never changes while it lives. So sets only gain members that
 * are new, and a packet between two changes of a plan sees either the old or the new rules
 * of an endpoint, never a mixture (I5).
 */
#ifndef AGENT_POLICY_H
#define AGENT_POLICY_H

#include "object/object.h"

/* A local endpoint as the compiler sees it. Its labels and ports come from the Pod object. */
struct policy_endpoint {
	uint32_t slot; /* 1 .. TW_MAX_ENDPOINTS - 1 */
	const char *ns;
	const char *pod;
	union tw_addr addr4; /* mapped; all zero: none */
	union tw_addr addr6;
	const struct labels *labels; /* used while no Pod object of that name exists; may be NULL */
};

/* What the kernel must be told, in the order in which it is to be written. */
struct plan_version {
	uint32_t version;
	bool isolated[2];	     /* enum tw_direction */
	struct tw_class *classes[2]; /* sorted by start, first start is 0 */
	uint32_t n_classes[2];
};
struct plan_prefix {
	struct prefix prefix;
	uint32_t word; /* TW_WORD_*: identity, or endpoint slot (length 128) */
};
struct plan_endpoint {
	uint32_t slot;
	uint32_t identity;
	uint32_t identity6; /* of its IPv6 address: differs where a rule names one of the two */
	uint32_t version;
	bool bump; /* live decisions may change: raise the slot's epoch */
};

#define PLAN_ARRAY(type, name)                                                                     \
	struct type *name;                                                                         \
	size_t n_##name

/*
 * Written array by array and each from its first element on, so that every packet meets the
 * old or the new rules of an endpoint; policy.c has the argument. A slot may be twice in
 * `endpoints`, the last entry is what stays. Prefixes of 3b that do not exist yet are in 5 too.
 * What joins or leaves a set does so for the versions of this plan and of later ones.
 */
struct policy_plan {
	PLAN_ARRAY(tw_peer_key, peers_add);	/* 1. members of new and old sets; */
	PLAN_ARRAY(tw_peer_key, peers_join);	/* who is in an old set to new versions only, */
	PLAN_ARRAY(tw_peer_key, peers_leave);	/* or to old ones only: goes in 8 */
	PLAN_ARRAY(plan_version, versions_add); /* 2. new versions, unused so far */
	PLAN_ARRAY(plan_endpoint, refine_endpoints); /* 3a. identities that new rules tell apart, */
	PLAN_ARRAY(plan_prefix, refine_prefixes);    /* 3b. while the old rules are in force */
	PLAN_ARRAY(plan_endpoint, endpoints);	     /* 4. new versions; identities as they stay */
	PLAN_ARRAY(plan_prefix, prefixes_set);	     /* 5. ipcache as it stays */
	PLAN_ARRAY(plan_prefix, prefixes_del);	     /* 6. word is the old one */
	bool bump_node;				     /* 7. a remote address changed its meaning */
	/* 8. after an RCU grace period */
	uint32_t *versions_del;
	size_t n_versions_del;
	PLAN_ARRAY(tw_peer_key, peers_del);	/* the identity ends, the set goes on; some left */
	PLAN_ARRAY(tw_peer_key, set_peers_del); /* the set ends */
};

void policy_plan_clear(struct policy_plan *plan);

struct policy; /* the compiler's state */

/*
 * Numbers of identities, sets and versions must survive a restart, or the maps that the
 * programs are using would have to be renumbered under them. The store keeps them:
 * `key` is a 128-bit keyed hash of the canonical content. The entry with id 0 is the hash's
 * secret, without which nobody can make two contents with one key.
 */
enum policy_id_kind { POLICY_ID_IDENTITY, POLICY_ID_SET, POLICY_ID_VERSION };
struct policy_id {
	enum policy_id_kind kind;
	uint8_t key[16];
	uint32_t id;
};

struct policy *policy_new(void);
void policy_free(struct policy *p); /* before the objects in force are freed */
/*
 * Before the first policy_prepare(), which should have all objects and endpoints: numbers that
 * it has no use for are given to others from the second policy_commit() on. -EBUSY, -ENOMEM.
 */
int policy_restore_ids(struct policy *p, const struct policy_id *ids, size_t n);
/*
 * All numbers in use, for the store; between policy_prepare() and policy_commit() those of the
 * prepared state (the store is written before the maps). *out is malloc'ed, the caller's.
 */
int policy_export_ids(const struct policy *p, struct policy_id **out, size_t *n);
/*
 * What the prepared change does to them: keys that are not in use any more, then keys with
 * their numbers. In this order: a key may pass from one number to another.
 */
struct policy_id_change {
	struct policy_id *del, *put; /* malloc'ed */
	size_t n_del, n_put;
};
int policy_changed_ids(const struct policy *p, struct policy_id_change *out);
void policy_id_change_clear(struct policy_id_change *change);

/*
 * Prefixes whose ipcache words the agent writes itself: the node's own addresses and its pod
 * subnets. Replaces the list of before. A plan never has a prefix that is one of them or lies
 * inside of one, but for the addresses of endpoints. What follows for prefixes that are in
 * force comes with the next plan. -ENOMEM.
 */
int policy_reserve(struct policy *p, const struct prefix *prefixes, size_t n);

/*
 * A change set. Objects are borrowed: they must outlive the compiler's use (the store owns
 * them and hands a replaced object over for freeing only after policy_commit/abort).
 */
struct policy_change {
	const struct object *const *upsert; /* Pod, Namespace, NetworkPolicy */
	size_t n_upsert;
	const struct object *const *remove;
	size_t n_remove;
	const struct policy_endpoint *ep_upsert;
	size_t n_ep_upsert;
	const uint32_t *ep_remove; /* slots */
	size_t n_ep_remove;
};

/*
 * Compiles the effect of `change` against the present state. On success *plan is filled and
 * the compiler holds both states until policy_commit() or policy_abort(). Incremental: work
 * is in proportion to what the change touches. Errors: -ENOMEM, -ENOSPC (out of version or
 * identity numbers), -E2BIG (more than 2^17 port classes for one endpoint and direction).
 */
int policy_prepare(struct policy *p, const struct policy_change *change, struct policy_plan *plan);
void policy_commit(struct policy *p);
void policy_abort(struct policy *p);

/* The whole present state as one plan: for reconciling maps after a restart. */
int policy_full_plan(const struct policy *p, struct policy_plan *plan);

/* One end of a question or of a logged flow. slot 0: an address. */
struct policy_end {
	uint32_t slot;
	bool is_host; /* the node itself */
	union tw_addr addr;
};

/* Which rule decided. Strings are borrowed from the objects in force. */
struct policy_answer {
	bool allow;
	bool isolated;	       /* some policy selects the endpoint for this direction */
	const char *policy_ns; /* the first policy (by name) whose rule allows, or NULL */
	const char *policy;
	int rule;	       /* index in spec.ingress or spec.egress */
	char selected_by[512]; /* "ns/name, ns/name": policies that select the endpoint */
};

/*
 * Evaluates the objects in force, for one direction at the endpoint `slot`, against `peer`,
 * by the semantics of the API and not by the compiled tables: the flow log and `explain`
 * name rules with it, and tests hold the compiled tables against it.
 */
int policy_explain(const struct policy *p, uint32_t slot, enum tw_direction dir,
		   const struct policy_end *peer, uint8_t proto, uint16_t port,
		   struct policy_answer *out);

/* What one rule says of a question. All pointers are good for the length of the call only. */
struct rule_peer;
struct subject;
struct policy_rule_answer {
	const struct object *policy;
	enum tw_direction dir;
	int rule;	     /* -1: the policy has none for the direction */
	bool peer, port;     /* which half of the rule is fulfilled */
	uint32_t gap;	     /* how far it is from allowing: 0 it does; only good for comparing */
	size_t nearest_peer; /* of the rule's peers, the one that lacks least */
	uint8_t proto;	     /* what was asked */
	uint16_t port_number;
	const struct rule_peer *seen;
	const struct subject *receiver;
};

/*
 * The same question rule by rule: fn for each rule of each policy that selects the endpoint for
 * the direction, policies by name; a policy without rules comes once, with rule -1. What fn
 * returns other than 0 ends it and is returned.
 */
int policy_rules_each(const struct policy *p, uint32_t slot, enum tw_direction dir,
		      const struct policy_end *peer, uint8_t proto, uint16_t port,
		      int (*fn)(void *arg, const struct policy_rule_answer *rule), void *arg);

/* How many endpoints of this node the policy selects. */
uint32_t policy_selected(const struct policy *p, const char *ns, const char *name);
/* The index-th rule for the direction, which must be there. */
const struct policy_rule *policy_rule_at(const struct object *policy, enum tw_direction dir,
					 size_t index);
/*
 * In words (words.c), cut with "..." where the buffer ends. "from pods app=web in namespaces
 * team=sales, ports 80/TCP, 443/TCP"; and for a rule that does not allow, "rule 1 of shop/db
 * allows this port from pods app=web; the peer lacks the label app=web".
 */
void policy_rule_text(const struct object *policy, enum tw_direction dir, size_t index, char *buf,
		      size_t len);
void policy_lack_text(const struct policy_rule_answer *rule, char *buf, size_t len);

/*
 * What a change would do to traffic (effect.c): only between policy_prepare() and
 * policy_commit() or policy_abort(), by the compiled state of both sides.
 */
struct policy_span { /* protocol << 16 | port */
	uint32_t first;
	uint32_t last;
};
struct policy_effect {	  /* borrowed for the length of the call */
	const char *from; /* "ns/pod"; else a prefix that some rule names, or "world" */
	const char *to;
	bool from_pod, to_pod;
	uint8_t family; /* 4 or 6; 0: the same for both, or the pair has only one */
	bool allow;	/* the verdict after the change; before it was the other one */
	const struct policy_span *spans;
	size_t n_spans;
};
struct policy_effects {
	uint64_t pairs; /* that have an effect; fn saw the first `limit` of them */
	bool complete;	/* false: there was no time for all of them */
};
/*
 * Pairs of ends, one of them an endpoint of this node, that are there before and after the
 * change, and whose verdict differs for some port. A pair that gains some ports and loses others
 * comes twice. The time taken ends a little after budget_ns. 0, -ENOMEM, or what fn returned.
 */
int policy_effects_each(const struct policy *p, uint32_t limit, uint64_t budget_ns,
			int (*fn)(void *arg, const struct policy_effect *effect), void *arg,
			struct policy_effects *out);
/* The verdicts on a new flow; port 0 for ICMP. False: an end is the node's, no policy is asked. */
bool policy_effect_flow(const struct policy *p, const union tw_addr *from, const union tw_addr *to,
			uint8_t proto, uint16_t port, bool *before, bool *after);

/* How an address is called: "ns/pod" for pods known by object or endpoint, else "". */
const char *policy_addr_name(const struct policy *p, const union tw_addr *addr);

struct policy_stats {
	uint32_t pods, namespaces, policies, endpoints;
	uint32_t identities, sets, versions, atoms, peers, prefixes;
};
void policy_stats_get(const struct policy *p, struct policy_stats *out);

/* For `towpath get identities`: calls fn for each identity with what it stands for. */
int policy_identity_each(const struct policy *p,
			 int (*fn)(void *arg, uint32_t identity, const char *what, uint32_t addrs),
			 void *arg);

#endif
