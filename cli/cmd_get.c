/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* get: objects, endpoints and identities, as the agent has them. */
#include "cli.h"

#include <string.h>
#include <unistd.h>

struct get;

struct kind {
	const char *const names[6]; /* the first is what the agent is asked for */
	bool namespaced;
	bool objects; /* below /v1/objects; else a list of its own */
	const char *const *heads;
	void (*row)(struct cli_table *t, const json_t *item, const struct get *get);
};

struct get {
	const struct kind *kind;
	const char *ns;	   /* NULL: all */
	const char *name;  /* NULL: all */
	json_t *labels;	   /* those asked for with -l */
	json_t *endpoints; /* for pods: what is attached */
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

static const char *const pod_heads[] = { "NAMESPACE", "NAME",	"ATTACHED", "ADDRESSES",
					 "PORTS",     "LABELS", NULL };

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
}

static const char *const namespace_heads[] = { "NAME", "LABELS", NULL };

static void namespace_row(struct cli_table *t, const json_t *ns, const struct get *get)
{
	cleanup_(cleanup_free) char *labels = cli_labels(json_object_get(metadata(ns), "labels"));

	cli_table_cell(t, NULL, "%s", cli_str(metadata(ns), "name"));
	cli_table_cell(t, NULL, "%s", dash(labels));
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

static const char *const policy_heads[] = { "NAMESPACE", "NAME",   "SELECTS",
					    "INGRESS",	 "EGRESS", NULL };

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
}

static const char *const endpoint_heads[] = { "NAMESPACE", "POD",     ">SLOT", "ADDRESSES", "PORT",
					      ">IDENTITY", ">POLICY", "STATE", "LABELS",    NULL };

static void endpoint_row(struct cli_table *t, const json_t *ep, const struct get *get)
{
	cleanup_(cleanup_free) char *ips = plain_ips(json_object_get(ep, "ips"));
	cleanup_(cleanup_free) char *labels = cli_labels(json_object_get(ep, "labels"));
	const char *state = cli_str(ep, "state");

	cli_table_cell(t, NULL, "%s", cli_str(ep, "namespace"));
	cli_table_cell(t, NULL, "%s", cli_str(ep, "pod"));
	cli_table_cell(t, NULL, "%lld", (long long)cli_int(ep, "slot"));
	cli_table_cell(t, NULL, "%s", dash(ips));
	cli_table_cell(t, NULL, "%s", dash(cli_str(ep, "port")));
	cli_table_cell(t, NULL, "%lld", (long long)cli_int(ep, "identity"));
	if (cli_int(ep, "version"))
		cli_table_cell(t, NULL, "v%lld", (long long)cli_int(ep, "version"));
	else
		cli_table_cell(t, CLI_DIM, "open");
	cli_table_cell(t, strcmp(state, "ready") ? CLI_YELLOW : CLI_GREEN, "%s", dash(state));
	cli_table_cell(t, NULL, "%s", dash(labels));
}

static const char *const identity_heads[] = { ">ID", ">ADDRESSES", "WHAT", NULL };

static void identity_row(struct cli_table *t, const json_t *id, const struct get *get)
{
	cli_table_cell(t, NULL, "%lld", (long long)cli_int(id, "id"));
	cli_table_cell(t, NULL, "%lld", (long long)cli_int(id, "addresses"));
	cli_table_cell(t, NULL, "%s", dash(cli_str(id, "what")));
}

static const struct kind kinds[] = {
	{ { "pods", "pod", "po" }, true, true, pod_heads, pod_row },
	{ { "networkpolicies", "networkpolicy", "netpol", "netpols", "policies" },
	  true,
	  true,
	  policy_heads,
	  policy_row },
	{ { "namespaces", "namespace", "ns" }, false, true, namespace_heads, namespace_row },
	{ { "endpoints", "endpoint", "ep" }, true, false, endpoint_heads, endpoint_row },
	{ { "identities", "identity", "id" }, false, false, identity_heads, identity_row },
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

static int get_show(struct cli *cli, struct get *get, json_t *items)
{
	cleanup_(cleanup_json) json_t *endpoints = NULL;
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
	if (get->kind->row == pod_row) {
		int ret = cli_call(cli, "GET", "/v1/endpoints", NULL, &endpoints);

		if (ret)
			return ret;
		get->endpoints = json_object_get(endpoints, "items");
	}
	struct cli_table *t = cli_table_new(cli, get->kind->heads);

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
				 "endpoints or identities",
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
	return ret ? ret : get_show(cli, &get, items);
}

static const struct cli_option get_options[] = {
	{ 'n', "namespace", "NS", "only this namespace (with NAME the default is default)" },
	{ 'l', "selector", "KEY=VALUE", "only those with this label (repeatable)" },
	{ 0 },
};

const struct cli_command cmd_get = {
	.name = "get",
	.usage = "KIND [NAME] [-n NS] [-l KEY=VALUE]...",
	.summary = "show pods, networkpolicies, namespaces, endpoints, identities",
	.details =
		"KIND is one of pods, networkpolicies (netpol), namespaces (ns), endpoints (ep:\n"
		"what is attached to the data path) and identities (id: the classes of addresses\n"
		"that the policies in force tell apart).\n",
	.options = get_options,
	.examples = "  towpath get pods\n"
		    "  towpath get networkpolicies -n shop\n"
		    "  towpath get networkpolicy shop/deny-all -o yaml\n"
		    "  towpath get endpoints -l app=web\n",
	.run = get_run,
};
