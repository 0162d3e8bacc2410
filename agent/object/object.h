/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Kubernetes objects as the agent holds them: typed, validated, immutable once built.
 * Parsing (parse.c), validation with positions (decode_*.c), selectors (selector.c).
 * Nothing here knows of maps, endpoints or the store.
 */
#ifndef AGENT_OBJECT_H
#define AGENT_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <towpath/abi.h>

enum object_kind {
	OBJECT_POD,
	OBJECT_NAMESPACE,
	OBJECT_NETWORKPOLICY,
	OBJECT_EDGESERVICE,
	OBJECT_EDGEDECAP,
	OBJECT_KIND_COUNT
};

/* Where and why an input was refused. `text` is one sentence. line and column count from 1. */
struct object_error {
	char file[256];
	unsigned int line;
	unsigned int column;
	char field[256]; /* spec.ingress[0].ports[1].port */
	char text[512];
};

struct label {
	char *key;
	char *value;
};

struct labels {
	struct label *v; /* sorted by key */
	size_t n;
};

/* A prefix of either family; addr is IPv4-mapped for IPv4, len is then 96 + the IPv4 length. */
struct prefix {
	union tw_addr addr;
	uint8_t len;
};

enum selector_op { SELECTOR_IN, SELECTOR_NOT_IN, SELECTOR_EXISTS, SELECTOR_NOT_EXISTS };

struct selector_term { /* matchLabels become SELECTOR_IN with one value */
	char *key;
	enum selector_op op;
	char **values; /* sorted */
	size_t n_values;
};

struct selector { /* all terms must hold; none: matches everything */
	struct selector_term *v;
	size_t n;
};

struct policy_port {
	uint8_t proto; /* IPPROTO_TCP, _UDP, _SCTP */
	char *name;    /* named port, else NULL */
	bool any;      /* no port given: every port of the protocol */
	uint16_t first;
	uint16_t last; /* endPort, else first */
};

struct policy_peer {
	bool has_pod;	    /* podSelector present (may be empty) */
	bool has_namespace; /* namespaceSelector present (may be empty) */
	bool has_block;	    /* ipBlock */
	struct selector pod;
	struct selector ns;
	struct prefix cidr; /* host bits masked */
	struct prefix *except;
	size_t n_except;
};

struct policy_rule {
	struct policy_peer *peers; /* n_peers 0: every peer */
	size_t n_peers;
	struct policy_port *ports; /* n_ports 0: every port and protocol */
	size_t n_ports;
};

struct pod_port {
	char *name; /* NULL: unnamed */
	uint16_t port;
	uint8_t proto;
};

struct pod {
	struct pod_port *ports;
	size_t n_ports;
	union tw_addr *addrs; /* status.podIPs; empty for a pod that has none yet */
	size_t n_addrs;
	bool host_network;
};

struct network_policy {
	struct selector pods;
	bool ingress, egress; /* policyTypes, defaulted as the API documents */
	struct policy_rule *in;
	size_t n_in;
	struct policy_rule *out;
	size_t n_out;
};

/* What the edge balances: docs/guide/balance.md. Times in seconds. */
struct service_front {
	struct prefix prefix;
	uint16_t port; /* 0: every port */
	uint8_t proto;
};

struct service_backend {
	union tw_addr addr;
	uint16_t port; /* way NAT; 0: the frontend's */
	uint16_t weight;
	uint16_t server_id; /* QUIC; 0: chosen from the address */
	bool drain;
};

enum service_check { CHECK_NONE, CHECK_TCP, CHECK_HTTP };

struct edge_service {
	uint8_t way;   /* enum tw_edge_way */
	uint8_t flags; /* enum tw_edge_front_flags */
	uint32_t seed;
	uint32_t idle;	/* a connection that is silent for longer may be forgotten */
	uint32_t drain; /* a backend that was taken out keeps its connections so long at most */
	struct service_front *fronts;
	size_t n_fronts;
	struct service_backend *backends;
	size_t n_backends;
	struct {
		enum service_check type;
		uint16_t port; /* 0: the backend's, or the first frontend's */
		char *path;    /* HTTP; NULL: / */
		char *host;    /* HTTP; NULL: the backend's address */
		uint32_t interval_ms;
		uint32_t timeout_ms;
		uint32_t rise; /* successes in a row that make it up */
		uint32_t fall; /* failures in a row that make it down */
	} check;
};

/* Which balancers this node takes encapsulated packets from. */
struct edge_decap_spec {
	struct prefix *from;
	size_t n_from;
};

struct object {
	enum object_kind kind;
	uint32_t
		since; /* seconds since the epoch: put in force then; 0: before the agent started */
	char *ns;      /* "" for Namespace */
	char *name;
	struct labels labels; /* Namespace: kubernetes.io/metadata.name is always there */
	char *json;	      /* canonical text, as stored and shown; compact JSON */
	union {
		struct pod pod;
		struct network_policy policy;
		struct edge_service service;
		struct edge_decap_spec decap;
	};
};

struct object_list {
	struct object **v;
	size_t n;
};

/*
 * Parses YAML (several documents) or JSON, also a List kind, and validates everything.
 * On success *out owns the objects in input order. On failure returns -EINVAL with *err
 * filled and *out untouched; -ENOMEM otherwise. `file` is used in errors only. A missing
 * metadata.namespace means "default".
 */
int object_parse(const char *file, const char *text, size_t len, struct object_list *out,
		 struct object_error *err);
/*
 * The same for a request that only names objects: kind, namespace and name are read, and the
 * rest of each object may be anything. json is NULL, labels and what follows are empty.
 */
int object_parse_names(const char *file, const char *text, size_t len, struct object_list *out,
		       struct object_error *err);
void object_free(struct object *obj);
void object_list_clear(struct object_list *list);

bool service_front_same(const struct service_front *a, const struct service_front *b);
bool selector_match(const struct selector *sel, const struct labels *labels);
const char *labels_get(const struct labels *labels, const char *key); /* NULL: absent */
bool prefix_contains(const struct prefix *p, const union tw_addr *addr);
/* "10.0.0.0/8", "fd00::/64", or without a length; 0 or -EINVAL. Host bits are masked. */
int prefix_parse(const char *text, struct prefix *out);
int prefix_format(const struct prefix *p, char *buf, size_t len);
int addr_parse(const char *text, union tw_addr *out); /* IPv4 comes out mapped */
int addr_format(const union tw_addr *addr, char *buf, size_t len);
bool addr_is4(const union tw_addr *addr);
bool addr_is_loopback(const union tw_addr *addr);
void prefix_mask(struct prefix *p); /* clears the host bits */

const char *object_kind_name(enum object_kind kind); /* "Pod" */
/* Accepts pod, pods, po, networkpolicy, networkpolicies, netpol, namespace, ns, ... */
int object_kind_parse(const char *text, enum object_kind *out);

#endif
