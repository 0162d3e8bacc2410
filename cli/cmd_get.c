/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* get: objects, endpoints and identities, as the agent has them. */
#include "cli.h"

#include <string.h>
#include <unistd.h>

#include "edge_spec.h"

struct get;

struct kind {
	const char *const names[6]; /* the first is what the agent is asked for */
	bool namespaced;
	bool objects; /* below /v1/objects; else a list of its own */
	const char *const *heads;
	const char *const *wide; /* the same, and more behind it */
	void (*row)(struct cli_table *t, const json_t *item, const struct get *get);
};

struct get {
	const struct kind *kind;
	const char *ns;	  /* NULL: all */
	const char *name; /* NULL: all */
	json_t *labels;	  /* those asked for with -l */
	bool wide;
	/* What is looked at for more columns, and for pods: [endpoint], [Pod], [NetworkPolicy]. */
	json_t *endpoints, *pods, *policies;
	json_t *node; /* of the status */
};

static const json_t *metadata(const json_t *object)
{
	return json_object_get(object, "metadata");
}

static const char *namespace_of(const json_t *object)
{
	const char *ns = cli_str(metadata(object), "namespace");

	return *ns ? ns : "default";
}

static const char *dash(const char *s)
{
	return *s ? s : "-";
}

static const json_t *pod_endpoint(const struct get *get, const char *ns, const char *name)
{
	size_t i;
	json_t *ep;

	json_array_foreach(get->endpoints, i, ep)
		if (!strcmp(cli_str(ep, "namespace"), ns) && !strcmp(cli_str(ep, "pod"), name))
			return ep;
	return NULL;
}

/* How many of them are in a namespace. */
static size_t count_in(const json_t *list, const char *ns)
{
	size_t i, n = 0;
	json_t *item;

	json_array_foreach(list, i, item) {
		const char *of = json_object_get(item, "container_id") ? cli_str(item, "namespace")
								       : namespace_of(item);

		n += !strcmp(of, ns);
	}
	return n;
}

/* "192.0.2.1,2001:db8::1": what the node is reached at. malloc'ed. */
static char *node_addresses(const json_t *node)
{
	const json_t *uplink = json_array_get(json_object_get(node, "uplinks"), 0);
	const char *ip4 = cli_str(uplink, "ip4"), *ip6 = cli_str(uplink, "ip6");

	return cli_printf("%s%s%s", ip4, *ip4 && *ip6 ? "," : "", ip6);
}

static void cells_compiled(struct cli_table *t, const json_t *ep)
{
	cli_table_cell(t, NULL, "%s", dash(cli_str(ep, "port")));
	cli_table_cell(t, NULL, "%lld", (long long)cli_int(ep, "identity"));
	if (cli_int(ep, "version"))
		cli_table_cell(t, NULL, "v%lld", (long long)cli_int(ep, "version"));
	else
		cli_table_cell(t, CLI_DIM, "open");
}

/* What the data path has of an endpoint; dashes for a pod that has none. */
static void cells_endpoint(struct cli_table *t, const json_t *ep)
{
	if (!ep) {
		for (int i = 0; i < 4; i++)
			cli_table_cell(t, CLI_DIM, "-");
		return;
	}
	cells_compiled(t, ep);
	cli_table_cell(t, NULL, "%lld", (long long)cli_int(ep, "flows"));
}

/* "http=80/tcp,9090/tcp" of all containers. malloc'ed. */
static char *pod_ports(const json_t *pod)
{
	char *out = cli_printf("%s", "");
	size_t i, j;
	json_t *container, *port;

	json_array_foreach(json_object_get(json_object_get(pod, "spec"), "containers"), i,
			   container) {
		json_array_foreach(json_object_get(container, "ports"), j, port) {
			const char *name = cli_str(port, "name");
			const char *proto = cli_str(port, "protocol");
			char *more = cli_printf(
				"%s%s%s%s%lld/%s", out, *out ? "," : "", name, *name ? "=" : "",
				(long long)cli_int(port, "containerPort"), *proto ? proto : "TCP");

			free(out);
			out = more;
		}
	}
	return out;
}

/* Addresses without their prefix length. malloc'ed. */
static char *plain_ips(const json_t *ips)
{
	char *out = cli_printf("%s", "");
	size_t i;
	json_t *ip;

	json_array_foreach(ips, i, ip) {
		const char *s = json_is_string(ip) ? json_string_value(ip) : cli_str(ip, "ip");
		char *more = cli_printf("%s%s%.*s", out, *out ? "," : "", (int)strcspn(s, "/"), s);

		free(out);
		out = more;
	}
	return out;
}

#define POD_HEADS "NAMESPACE", "NAME", "ATTACHED", "ADDRESSES", "PORTS", "LABELS"
static const char *const pod_heads[] = { POD_HEADS, NULL };
static const char *const pod_wide[] = { POD_HEADS, "NODE", "PORT", ">IDENTITY", ">POLICY",
					">FLOWS",  "MAC",  "MTU",  "NETWORK",	NULL };

static void pod_row(struct cli_table *t, const json_t *pod, const struct get *get)
{
	const char *ns = namespace_of(pod);
	const char *name = cli_str(metadata(pod), "name");
	const json_t *ep = pod_endpoint(get, ns, name);
	cleanup_(cleanup_free) char *labels = cli_labels(json_object_get(metadata(pod), "labels"));
	cleanup_(cleanup_free) char *ports = pod_ports(pod);
	cleanup_(cleanup_free) char *ips =
		plain_ips(ep ? json_object_get(ep, "ips")
			     : json_object_get(json_object_get(pod, "status"), "podIPs"));

	cli_table_cell(t, NULL, "%s", ns);
	cli_table_cell(t, NULL, "%s", name);
	cli_table_cell(t, ep ? CLI_GREEN : CLI_DIM, "%s", ep ? "yes" : "no");
	cli_table_cell(t, NULL, "%s", dash(ips));
	cli_table_cell(t, NULL, "%s", dash(ports));
	cli_table_cell(t, NULL, "%s", dash(labels));
	if (!get->wide)
		return;
	cleanup_(cleanup_free) char *node = ep ? node_addresses(get->node) : cli_printf("%s", "");

	cli_table_cell(t, NULL, "%s", dash(node));
	cells_endpoint(t, ep);
	cli_table_cell(t, NULL, "%s", dash(cli_str(ep, "mac")));
	cli_table_cell(t, NULL, "%lld", (long long)cli_int(ep, "mtu"));
	cli_table_cell(t, NULL, "%s", dash(cli_str(ep, "network")));
}

static const char *const namespace_heads[] = { "NAME", "LABELS", NULL };
static const char *const namespace_wide[] = { "NAME",	    "LABELS",	 ">PODS",
					      ">ENDPOINTS", ">POLICIES", NULL };

static void namespace_row(struct cli_table *t, const json_t *ns, const struct get *get)
{
	cleanup_(cleanup_free) char *labels = cli_labels(json_object_get(metadata(ns), "labels"));

	cli_table_cell(t, NULL, "%s", cli_str(metadata(ns), "name"));
	cli_table_cell(t, NULL, "%s", dash(labels));
	for (int i = 0; get->wide && i < 3; i++) {
		const json_t *lists[] = { get->pods, get->endpoints, get->policies };

		cli_table_cell(t, NULL, "%zu", count_in(lists[i], cli_str(metadata(ns), "name")));
	}
}

/* A label selector as kubectl writes it; "(all)" when it selects everything. malloc'ed. */
static char *selector_text(const json_t *selector)
{
	char *out = cli_labels(json_object_get(selector, "matchLabels"));
	size_t i;
	json_t *e;

	json_array_foreach(json_object_get(selector, "matchExpressions"), i, e) {
		const char *op = cli_str(e, "operator"), *key = cli_str(e, "key");
		cleanup_(cleanup_free) char *values = cli_join(json_object_get(e, "values"));
		char *more = NULL;

		if (!strcmp(op, "Exists"))
			more = cli_printf("%s%s%s", out, *out ? "," : "", key);
		else if (!strcmp(op, "DoesNotExist"))
			more = cli_printf("%s%s!%s", out, *out ? "," : "", key);
		else
			more = cli_printf("%s%s%s %s (%s)", out, *out ? "," : "", key,
					  !strcmp(op, "In") ? "in" : "notin", values);
		free(out);
		out = more;
	}
	if (!*out) {
		free(out);
		out = cli_printf("(all)");
	}
	return out;
}

#define POLICY_HEADS "NAMESPACE", "NAME", "SELECTS", "INGRESS", "EGRESS"
static const char *const policy_heads[] = { POLICY_HEADS, NULL };
static const char *const policy_wide[] = { POLICY_HEADS, "FROM", "TO", "PORTS", NULL };

/* A word more of a list, once. Frees and returns the list. */
static char *list_add(char *list, char *word)
{
	size_t len = strlen(word);
	char *out;

	for (const char *at = list; *word && (at = strstr(at, word)); at += len) {
		bool whole = (at == list || (at[-1] == ' ' && at[-2] == ';')) &&
			     (!at[len] || at[len] == ';');

		if (!whole)
			continue;
		free(word);
		return list;
	}
	out = cli_printf("%s%s%s", list, *list ? "; " : "", word);
	free(list);
	free(word);
	return out;
}

/* "app=web", "ns team=a", "ns team=a app=web", "10.0.0.0/8 but 10.1.0.0/16". malloc'ed. */
static char *peer_text(const json_t *peer)
{
	const json_t *block = json_object_get(peer, "ipBlock");
	const json_t *pods = json_object_get(peer, "podSelector");
	const json_t *spaces = json_object_get(peer, "namespaceSelector");
	cleanup_(cleanup_free) char *ns = spaces ? selector_text(spaces) : NULL;
	cleanup_(cleanup_free) char *pod = pods ? selector_text(pods) : NULL;
	cleanup_(cleanup_free) char *except = cli_join(json_object_get(block, "except"));

	if (block)
		return cli_printf("%s%s%s", cli_str(block, "cidr"), *except ? " but " : "", except);
	return cli_printf("%s%s%s%s", ns ? "ns " : "", ns ? ns : "", ns && pod ? " " : "",
			  pod ? pod : "");
}

/* Everybody whom some rule of a direction names; "anybody" for a rule that names none. */
static char *peers_text(const json_t *rules, const char *key)
{
	char *out = cli_printf("%s", "");
	size_t i, j;
	json_t *rule, *peer;

	json_array_foreach(rules, i, rule) {
		const json_t *peers = json_object_get(rule, key);

		if (!json_array_size(peers))
			out = list_add(out, cli_printf("anybody"));
		json_array_foreach(peers, j, peer)
			out = list_add(out, peer_text(peer));
	}
	return out;
}

/* "80/TCP", "http/TCP", "8000-8999/UDP", or "all" for a rule that names none. */
static char *rule_ports(char *out, const json_t *rules)
{
	size_t i, j;
	json_t *rule, *port;

	json_array_foreach(rules, i, rule) {
		const json_t *ports = json_object_get(rule, "ports");

		if (!json_array_size(ports))
			out = list_add(out, cli_printf("all"));
		json_array_foreach(ports, j, port) {
			const json_t *number = json_object_get(port, "port");
			const char *proto = cli_str(port, "protocol");
			char from[24], to[24] = "";

			snprintf(from, sizeof(from), "%lld", (long long)json_integer_value(number));
			if (json_object_get(port, "endPort"))
				snprintf(to, sizeof(to), "-%lld",
					 (long long)cli_int(port, "endPort"));
			out = list_add(out,
				       cli_printf("%s%s/%s",
						  json_is_string(number) ? json_string_value(number)
						  : number		 ? from
									 : "all",
						  to, *proto ? proto : "TCP"));
		}
	}
	return out;
}

static void cells_rules(struct cli_table *t, const json_t *spec)
{
	const json_t *in = json_object_get(spec, "ingress"), *out = json_object_get(spec, "egress");
	cleanup_(cleanup_free) char *from = peers_text(in, "from");
	cleanup_(cleanup_free) char *to = peers_text(out, "to");
	cleanup_(cleanup_free) char *ports = rule_ports(rule_ports(cli_printf("%s", ""), in), out);

	cli_table_cell(t, NULL, "%s", dash(from));
	cli_table_cell(t, NULL, "%s", dash(to));
	cli_table_cell(t, NULL, "%s", dash(ports));
}

/* One direction of a policy: not restricted, or how many rules allow something. */
static void policy_direction(struct cli_table *t, const json_t *spec, const char *type,
			     const char *key)
{
	const json_t *types = json_object_get(spec, "policyTypes");
	const json_t *rules = json_object_get(spec, key);
	/* API: Ingress always, Egress when there are rules for it, unless policyTypes says. */
	bool isolates = !strcmp(type, "Ingress") || json_array_size(rules);
	size_t n = json_array_size(rules), i;
	json_t *v;

	if (json_array_size(types)) {
		isolates = false;
		json_array_foreach(types, i, v)
			isolates |= !strcmp(json_string_value(v) ? json_string_value(v) : "", type);
	}
	if (!isolates)
		cli_table_cell(t, CLI_DIM, "not restricted");
	else if (!n)
		cli_table_cell(t, CLI_RED, "deny all");
	else
		cli_table_cell(t, NULL, "%zu rule%s", n, n == 1 ? "" : "s");
}

static void policy_row(struct cli_table *t, const json_t *policy, const struct get *get)
{
	const json_t *spec = json_object_get(policy, "spec");
	cleanup_(cleanup_free) char *selects = selector_text(json_object_get(spec, "podSelector"));

	cli_table_cell(t, NULL, "%s", namespace_of(policy));
	cli_table_cell(t, NULL, "%s", cli_str(metadata(policy), "name"));
	cli_table_cell(t, NULL, "%s", selects);
	policy_direction(t, spec, "Ingress", "ingress");
	policy_direction(t, spec, "Egress", "egress");
	if (get->wide)
		cells_rules(t, spec);
}

#define ENDPOINT_HEADS                                                                             \
	"NAMESPACE", "POD", ">SLOT", "ADDRESSES", "PORT", ">IDENTITY", ">POLICY", "STATE", "LABELS"
static const char *const endpoint_heads[] = { ENDPOINT_HEADS, NULL };
static const char *const endpoint_wide[] = { ENDPOINT_HEADS, ">FLOWS",	"INTERFACE", "MAC",
					     "MTU",	     "NETWORK", "CONTAINER", NULL };

static void endpoint_row(struct cli_table *t, const json_t *ep, const struct get *get)
{
	cleanup_(cleanup_free) char *ips = plain_ips(json_object_get(ep, "ips"));
	cleanup_(cleanup_free) char *labels = cli_labels(json_object_get(ep, "labels"));
	const char *state = cli_str(ep, "state");

	cli_table_cell(t, NULL, "%s", cli_str(ep, "namespace"));
	cli_table_cell(t, NULL, "%s", cli_str(ep, "pod"));
	cli_table_cell(t, NULL, "%lld", (long long)cli_int(ep, "slot"));
	cli_table_cell(t, NULL, "%s", dash(ips));
	cells_compiled(t, ep);
	cli_table_cell(t, strcmp(state, "ready") ? CLI_YELLOW : CLI_GREEN, "%s", dash(state));
	cli_table_cell(t, NULL, "%s", dash(labels));
	if (!get->wide)
		return;
	cli_table_cell(t, NULL, "%lld", (long long)cli_int(ep, "flows"));
	cli_table_cell(t, NULL, "%s", cli_str(ep, "ifname"));
	cli_table_cell(t, NULL, "%s", dash(cli_str(ep, "mac")));
	cli_table_cell(t, NULL, "%lld", (long long)cli_int(ep, "mtu"));
	cli_table_cell(t, NULL, "%s", dash(cli_str(ep, "network")));
	cli_table_cell(t, NULL, "%s", cli_str(ep, "container_id"));
}

static const char *const identity_heads[] = { ">ID", ">ADDRESSES", "WHAT", NULL };
static const char *const identity_wide[] = { ">ID", ">ADDRESSES", "WHAT", "ENDPOINTS", NULL };

static void identity_row(struct cli_table *t, const json_t *id, const struct get *get)
{
	cli_table_cell(t, NULL, "%lld", (long long)cli_int(id, "id"));
	cli_table_cell(t, NULL, "%lld", (long long)cli_int(id, "addresses"));
	cli_table_cell(t, NULL, "%s", dash(cli_str(id, "what")));
	if (!get->wide)
		return;
	cleanup_(cleanup_json) json_t *names = json_array();
	size_t i;
	json_t *ep;

	json_array_foreach(get->endpoints, i, ep) {
		if (cli_int(ep, "identity") != cli_int(id, "id"))
			continue;
		cleanup_(cleanup_free) char *name =
			cli_printf("%s/%s", cli_str(ep, "namespace"), cli_str(ep, "pod"));

		json_array_append_new(names, json_string(name));
	}
	cleanup_(cleanup_free) char *text = cli_join(names);

	cli_table_cell(t, NULL, "%s", dash(text));
}

/* ---- of the edge --------------------------------------------------------------------------- */

static void cells_named(struct cli_table *t, const json_t *object)
{
	cli_table_cell(t, NULL, "%s", cli_str(metadata(object), "namespace"));
	cli_table_cell(t, NULL, "%s", cli_str(metadata(object), "name"));
}

static const char *const service_heads[] = { "NAMESPACE", "NAME",      "WAY",
					     "FRONTENDS", ">BACKENDS", NULL };
static const char *const service_wide[] = { "NAMESPACE", "NAME",  "WAY",      "FRONTENDS",
					    ">BACKENDS", "CHECK", "AFFINITY", NULL };

static void service_row(struct cli_table *t, const json_t *service, const struct get *get)
{
	const json_t *spec = json_object_get(service, "spec");
	cleanup_(cleanup_json) json_t *fronts = json_array();
	const char *way = cli_str(spec, "way");
	json_t *front;
	size_t i;

	json_array_foreach(json_object_get(spec, "frontends"), i, front) {
		cleanup_(cleanup_free) char *text =
			edge_address_format(cli_str(front, "address"), cli_int(front, "port"));

		json_array_append_new(fronts, json_string(text));
	}
	cleanup_(cleanup_free) char *list = cli_join(fronts);

	cells_named(t, service);
	cli_table_cell(t, NULL, "%s", *way ? way : "ipip");
	cli_table_cell(t, NULL, "%s", list);
	cli_table_cell(t, NULL, "%zu", json_array_size(json_object_get(spec, "backends")));
	if (!get->wide)
		return;
	cli_table_cell(t, NULL, "%s", dash(cli_str(json_object_get(spec, "check"), "type")));
	cli_table_cell(t, NULL, "%s", dash(cli_str(spec, "affinity")));
}

static const char *const decap_heads[] = { "NAMESPACE", "NAME", "FROM", NULL };

static void decap_row(struct cli_table *t, const json_t *decap, const struct get *get)
{
	cleanup_(cleanup_free) char *list =
		cli_join(json_object_get(json_object_get(decap, "spec"), "from"));

	cells_named(t, decap);
	cli_table_cell(t, NULL, "%s", list);
}

static const struct kind kinds[] = {
	{ { "pods", "pod", "po" }, true, true, pod_heads, pod_wide, pod_row },
	{ { "networkpolicies", "networkpolicy", "netpol", "netpols", "policies" },
	  true,
	  true,
	  policy_heads,
	  policy_wide,
	  policy_row },
	{ { "namespaces", "namespace", "ns" },
	  false,
	  true,
	  namespace_heads,
	  namespace_wide,
	  namespace_row },
	{ { "endpoints", "endpoint", "ep" },
	  true,
	  false,
	  endpoint_heads,
	  endpoint_wide,
	  endpoint_row },
	{ { "identities", "identity", "id" },
	  false,
	  false,
	  identity_heads,
	  identity_wide,
	  identity_row },
	{ { "edgeservices", "edgeservice" }, true, true, service_heads, service_wide, service_row },
	{ { "edgedecaps", "edgedecap" }, true, true, decap_heads, decap_heads, decap_row },
};

static const struct kind *kind_find(const char *text)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		for (size_t n = 0; kinds[i].names[n]; n++)
			if (!strcasecmp(text, kinds[i].names[n]))
				return &kinds[i];
	return NULL;
}

static bool has_labels(const json_t *item, const struct get *get)
{
	const json_t *labels = get->kind->objects ? json_object_get(metadata(item), "labels")
						  : json_object_get(item, "labels");
	const char *key;
	json_t *value;

	json_object_foreach(get->labels, key, value) {
		const json_t *has = json_object_get(labels, key);

		if (!has || !json_equal(has, value))
			return false;
	}
	return true;
}

/* Endpoints and identities come as whole lists: NAME and -n choose here. */
static bool chosen(const json_t *item, const struct get *get)
{
	if (!has_labels(item, get))
		return false;
	if (get->kind->objects)
		return true;
	if (get->ns && strcmp(cli_str(item, "namespace"), get->ns))
		return false;
	if (!get->name)
		return true;
	char *end;
	long long id = strtoll(get->name, &end, 10);

	if (get->kind->row == identity_row)
		return !*end && cli_int(item, "id") == id;
	return !strcmp(cli_str(item, "pod"), get->name) ||
	       !strcmp(cli_str(item, "container_id"), get->name);
}

/* The agent's list, cut to what was asked for. */
static int get_items(struct cli *cli, const struct get *get, json_t *items)
{
	cleanup_(cleanup_json) json_t *reply = NULL;
	cleanup_(cleanup_free) char *path = NULL;
	const char *kind = get->kind->names[0];
	size_t i;
	json_t *item;

	if (get->kind->objects && get->name)
		path = cli_path("/v1/objects/%s/%s/%s", kind, get->kind->namespaced ? get->ns : "-",
				get->name);
	else if (get->kind->objects && get->ns && get->kind->namespaced)
		path = cli_path("/v1/objects/%s?namespace=%s", kind, get->ns);
	else
		path = get->kind->objects ? cli_path("/v1/objects/%s", kind)
					  : cli_path("/v1/%s", kind);
	int ret = cli_call(cli, "GET", path, NULL, &reply);

	if (ret)
		return ret;
	if (get->kind->objects && get->name) {
		json_array_append(items, reply);
		return CLI_OK;
	}
	json_array_foreach(json_object_get(reply, "items"), i, item)
		if (chosen(item, get))
			json_array_append(items, item);
	return CLI_OK;
}

/* A list of the agent's: [endpoint] or [object]. */
static int list_get(struct cli *cli, const char *path, json_t **out)
{
	cleanup_(cleanup_json) json_t *reply = NULL;
	int ret = cli_call(cli, "GET", path, NULL, &reply);

	if (!ret)
		*out = json_incref(json_object_get(reply, "items"));
	return ret;
}

/* What the rows are made of beside the items. */
static int get_more(struct cli *cli, struct get *get)
{
	int ret = CLI_OK;

	get->wide = cli->wide;
	if (get->kind->row == pod_row || get->wide)
		ret = list_get(cli, "/v1/endpoints", &get->endpoints);
	if (!ret && get->wide && get->kind->row == pod_row) {
		cleanup_(cleanup_json) json_t *status = NULL;

		ret = cli_call(cli, "GET", "/v1/status", NULL, &status);
		get->node = json_incref(json_object_get(status, "node"));
	}
	if (!ret && get->wide && get->kind->row == namespace_row)
		ret = list_get(cli, "/v1/objects/pods", &get->pods);
	if (!ret && get->wide && get->kind->row == namespace_row)
		ret = list_get(cli, "/v1/objects/networkpolicies", &get->policies);
	return ret;
}

static int get_show(struct cli *cli, struct get *get, json_t *items)
{
	size_t i;
	json_t *item;

	if (get->name && !json_array_size(items))
		return cli_refuse("there is no %s %s%s%s: see towpath get %s", get->kind->names[1],
				  get->ns ? get->ns : "", get->ns ? "/" : "", get->name,
				  get->kind->names[0]);
	if (cli->output != CLI_TABLE) {
		cleanup_(cleanup_json) json_t *list =
			get->kind->objects ? json_pack("{s:s, s:s, s:O}", "apiVersion", "v1",
						       "kind", "List", "items", items)
					   : json_pack("{s:O}", "items", items);

		return cli_print(cli, get->name ? json_array_get(items, 0) : list);
	}
	if (!json_array_size(items)) {
		fprintf(stderr, "no %s\n", get->kind->names[0]);
		return CLI_OK;
	}
	int ret = get_more(cli, get);

	if (ret)
		return ret;
	struct cli_table *t = cli_table_new(cli, get->wide ? get->kind->wide : get->kind->heads);

	json_array_foreach(items, i, item)
		get->kind->row(t, item, get);
	cli_table_print(t);
	return CLI_OK;
}

static int get_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_json) json_t *labels = json_object();
	cleanup_(cleanup_json) json_t *items = json_array();
	cleanup_(cleanup_free) char *ns = NULL, *name = NULL;
	struct get get = { .labels = labels };
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		switch (opt) {
		case 'n':
			get.ns = cli->value;
			break;
		case 'l':
			if (!cli_parse_label(cli->value, labels))
				return cli_usage(cli, "-l takes key=value, not \"%s\"", cli->value);
			break;
		default:
			return CLI_USAGE;
		}
	}
	if (cli_operands(cli, argc, 1, 2, &ret))
		return ret;
	get.kind = kind_find(argv[optind]);
	if (!get.kind)
		return cli_usage(cli,
				 "there is no kind \"%s\": pods, networkpolicies, namespaces, "
				 "endpoints, identities, edgeservices or edgedecaps",
				 argv[optind]);
	if (get.ns && !get.kind->namespaced)
		return cli_usage(cli, "%s are in no namespace: leave -n out", get.kind->names[0]);
	get.name = argv[optind + 1];
	if (get.name && get.kind->namespaced && (get.kind->objects || strchr(get.name, '/'))) {
		if (!cli_parse_pod(get.name, get.ns ? get.ns : "default", &ns, &name))
			return cli_usage(cli, "\"%s\" is no name: use name or namespace/name",
					 get.name);
		get.ns = ns;
		get.name = name;
	}
	ret = get_items(cli, &get, items);
	if (!ret)
		ret = get_show(cli, &get, items);
	json_decref(get.endpoints);
	json_decref(get.pods);
	json_decref(get.policies);
	json_decref(get.node);
	return ret;
}

static const struct cli_option get_options[] = {
	{ 'n', "namespace", "NS", "only this namespace (with NAME the default is default)" },
	{ 'l', "selector", "KEY=VALUE", "only those with this label (repeatable)" },
	{ 0 },
};

static const char *const kind_words[] = { "pods",	"networkpolicies",
					  "namespaces", "endpoints",
					  "identities", "edgeservices",
					  "edgedecaps", NULL };

const struct cli_command cmd_get = {
	.name = "get",
	.wide = true,
	.words = kind_words,
	.usage = "KIND [NAME] [-n NS] [-l KEY=VALUE]...",
	.summary = "show pods, networkpolicies, namespaces, endpoints, identities",
	.details =
		"KIND is one of pods, networkpolicies (netpol), namespaces (ns), endpoints (ep:\n"
		"what is attached to the data path) and identities (id: the classes of addresses\n"
		"that the policies in force tell apart), edgeservices and edgedecaps (what the "
		"edge\n"
		"balances; towpath edge balance says how it is). -o wide has more columns: of pods "
		"and\n"
		"endpoints what the data path has of them, and how many connections they opened; "
		"of\n"
		"policies whom and which ports their rules name.\n",
	.options = get_options,
	.examples = "  towpath get pods\n"
		    "  towpath get pods -o wide\n"
		    "  towpath get networkpolicies -n shop\n"
		    "  towpath get networkpolicy shop/deny-all -o yaml\n"
		    "  towpath get endpoints -l app=web\n",
	.run = get_run,
};
