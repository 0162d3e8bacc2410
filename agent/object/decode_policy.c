/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * NetworkPolicies, held to what the API server demands of them (ValidateNetworkPolicySpec).
 * Fields that do not exist are refused: a rule with a misspelt field would be a wider rule.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "object/decode.h"
#include "object/names.h"

/* ---- selectors ------------------------------------------------------------------------------ */

static int decode_label_key(struct decoder *d, const struct node *node, void *out)
{
	return decode_name(d, node, name_check_label_key, out);
}

static int decode_label_value(struct decoder *d, const struct node *node, void *out)
{
	return decode_name(d, node, name_check_label_value, out);
}

static int decode_operator(struct decoder *d, const struct node *node, void *out)
{
	static const char *const names[] = {
		[SELECTOR_IN] = "In",
		[SELECTOR_NOT_IN] = "NotIn",
		[SELECTOR_EXISTS] = "Exists",
		[SELECTOR_NOT_EXISTS] = "DoesNotExist",
	};
	enum selector_op *op = out;
	const char *text;
	int err = decode_string(d, node, &text);

	if (err)
		return err;
	for (unsigned int i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (!strcmp(text, names[i])) {
			*op = (enum selector_op)i;
			return 0;
		}
	}
	return decode_fail(d, node,
			   "expected the operator In, NotIn, Exists or DoesNotExist, found '%.64s'",
			   text);
}

static int string_order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int decode_values(struct decoder *d, const struct node *node, void *out)
{
	struct selector_term *term = out;
	size_t kept = 0;
	int err = decode_list(d, node, sizeof(char *), decode_label_value, &term->values,
			      &term->n_values);

	if (err)
		return err;
	qsort(term->values, term->n_values, sizeof(char *), string_order);
	for (size_t i = 0; i < term->n_values; i++)
		if (!i || strcmp(term->values[i], term->values[kept - 1]))
			term->values[kept++] = term->values[i];
	term->n_values = kept;
	return 0;
}

static int decode_expression(struct decoder *d, const struct node *node, void *out)
{
	static const char *const fields[] = { "key", "operator", "values", NULL };
	struct selector_term *term = out;
	bool wants_values;
	int err = decode_map(d, node);

	if (!err)
		err = decode_known(d, node, fields);
	if (!err)
		err = decode_required(d, node, "key", decode_label_key, &term->key);
	if (!err)
		err = decode_required(d, node, "operator", decode_operator, &term->op);
	if (!err)
		err = decode_field(d, node, "values", decode_values, term);
	if (err)
		return err;
	wants_values = term->op == SELECTOR_IN || term->op == SELECTOR_NOT_IN;
	if (wants_values == !!term->n_values)
		return 0;
	path_push(d, "values");
	return decode_fail(d, node,
			   wants_values ? "expected at least one value for In and NotIn"
					: "expected no values for Exists and DoesNotExist");
}

struct expressions {
	struct selector_term *v;
	size_t n;
};

static int decode_expressions(struct decoder *d, const struct node *node, void *out)
{
	struct expressions *list = out;

	return decode_list(d, node, sizeof(struct selector_term), decode_expression, &list->v,
			   &list->n);
}

static int decode_selector(struct decoder *d, const struct node *node, void *out)
{
	static const char *const fields[] = { "matchLabels", "matchExpressions", NULL };
	struct selector *sel = out;
	struct labels labels = {};
	struct expressions list = {};
	int err = decode_map(d, node);

	if (!err)
		err = decode_known(d, node, fields);
	if (!err)
		err = decode_field(d, node, "matchLabels", decode_labels, &labels);
	if (!err)
		err = decode_field(d, node, "matchExpressions", decode_expressions, &list);
	if (err)
		return err;
	sel->v = arena_array(d->mem, labels.n + list.n, sizeof(*sel->v));
	if (!sel->v)
		return -ENOMEM;
	for (size_t i = 0; i < labels.n; i++)
		sel->v[sel->n++] = (struct selector_term){
			.key = labels.v[i].key,
			.op = SELECTOR_IN,
			.values = &labels.v[i].value,
			.n_values = 1,
		};
	if (list.n)
		memcpy(sel->v + sel->n, list.v, list.n * sizeof(*sel->v));
	sel->n += list.n;
	return 0;
}

/* ---- peers ---------------------------------------------------------------------------------- */

static int decode_cidr(struct decoder *d, const struct node *node, void *out)
{
	const char *text;
	int err = decode_string(d, node, &text);

	if (err)
		return err;
	if (!strchr(text, '/') || prefix_parse(text, out))
		return decode_fail(d, node,
				   "expected a CIDR like 10.0.0.0/8 or fd00::/64, found '%.64s'",
				   text);
	return 0;
}

static int decode_except(struct decoder *d, const struct node *node, void *out)
{
	struct policy_peer *peer = out;
	const struct node_child *c = node->child;
	int err = decode_list(d, node, sizeof(struct prefix), decode_cidr, &peer->except,
			      &peer->n_except);

	for (size_t i = 0; !err && i < peer->n_except; i++, c = c->next) {
		const struct prefix *e = &peer->except[i];

		if (e->len > peer->cidr.len && prefix_contains(&peer->cidr, &e->addr))
			continue;
		path_push_index(d, i);
		err = decode_fail(d, c->value,
				  "expected a CIDR inside the block's cidr and smaller than it, "
				  "found '%.64s'",
				  c->value->text);
	}
	return err;
}

static int decode_block(struct decoder *d, const struct node *node, void *out)
{
	static const char *const fields[] = { "cidr", "except", NULL };
	struct policy_peer *peer = out;
	int err = decode_map(d, node);

	if (!err)
		err = decode_known(d, node, fields);
	if (!err)
		err = decode_required(d, node, "cidr", decode_cidr, &peer->cidr);
	if (!err)
		err = decode_field(d, node, "except", decode_except, peer);
	return err;
}

static int decode_peer(struct decoder *d, const struct node *node, void *out)
{
	static const char *const fields[] = { "podSelector", "namespaceSelector", "ipBlock", NULL };
	struct policy_peer *peer = out;
	int err = decode_map(d, node);

	if (!err)
		err = decode_known(d, node, fields);
	if (!err)
		err = decode_field(d, node, "podSelector", decode_selector, &peer->pod);
	if (!err)
		err = decode_field(d, node, "namespaceSelector", decode_selector, &peer->ns);
	if (!err)
		err = decode_field(d, node, "ipBlock", decode_block, peer);
	if (err)
		return err;
	peer->has_pod = map_get(node, "podSelector");
	peer->has_namespace = map_get(node, "namespaceSelector");
	peer->has_block = map_get(node, "ipBlock");
	if (peer->has_block && (peer->has_pod || peer->has_namespace))
		return decode_fail(d, node,
				   "expected either ipBlock or selectors in one peer, not both");
	if (!peer->has_block && !peer->has_pod && !peer->has_namespace)
		return decode_fail(
			d, node,
			"expected podSelector, namespaceSelector or ipBlock in the peer; "
			"for every peer leave the whole list out");
	return 0;
}

/* ---- ports and rules ------------------------------------------------------------------------ */

struct port_value {
	bool given;
	uint16_t number;
	char *name;
};

static int decode_port_or_name(struct decoder *d, const struct node *node, void *out)
{
	struct port_value *port = out;

	port->given = true;
	if (node->type == NODE_STRING)
		return decode_name(d, node, name_check_port, &port->name);
	if (node->type != NODE_INT)
		return decode_fail_type(d, node, "a port number or name");
	return decode_port(d, node, &port->number);
}

static int decode_policy_port(struct decoder *d, const struct node *node, void *out)
{
	static const char *const fields[] = { "protocol", "port", "endPort", NULL };
	struct policy_port *port = out;
	struct port_value value = {};
	const struct node *end;
	int err = decode_map(d, node);

	port->proto = IPPROTO_TCP;
	if (!err)
		err = decode_known(d, node, fields);
	if (!err)
		err = decode_field(d, node, "protocol", decode_protocol, &port->proto);
	if (!err)
		err = decode_field(d, node, "port", decode_port_or_name, &value);
	if (!err)
		err = decode_field(d, node, "endPort", decode_port, &port->last);
	if (err)
		return err;
	end = map_get(node, "endPort");
	if (end && (!value.number || port->last < value.number)) {
		path_push(d, "endPort");
		return decode_fail(d, end,
				   value.number	 ? "expected an endPort that is not below port"
				   : value.given ? "expected no endPort beside a port name"
						 : "expected no endPort without a port");
	}
	port->name = value.name;
	port->any = !value.given;
	port->first = value.number;
	if (!end)
		port->last = value.number;
	return 0;
}

static int decode_peers(struct decoder *d, const struct node *node, void *out)
{
	struct policy_rule *rule = out;

	return decode_list(d, node, sizeof(struct policy_peer), decode_peer, &rule->peers,
			   &rule->n_peers);
}

static int decode_policy_ports(struct decoder *d, const struct node *node, void *out)
{
	struct policy_rule *rule = out;

	return decode_list(d, node, sizeof(struct policy_port), decode_policy_port, &rule->ports,
			   &rule->n_ports);
}

static int decode_rule(struct decoder *d, const struct node *node, const char *peers, void *out)
{
	const char *const fields[] = { peers, "ports", NULL };
	int err = decode_map(d, node);

	if (!err)
		err = decode_known(d, node, fields);
	if (!err)
		err = decode_field(d, node, peers, decode_peers, out);
	if (!err)
		err = decode_field(d, node, "ports", decode_policy_ports, out);
	return err;
}

static int decode_ingress_rule(struct decoder *d, const struct node *node, void *out)
{
	return decode_rule(d, node, "from", out);
}

static int decode_egress_rule(struct decoder *d, const struct node *node, void *out)
{
	return decode_rule(d, node, "to", out);
}

/* ---- the policy ----------------------------------------------------------------------------- */

static int decode_ingress(struct decoder *d, const struct node *node, void *out)
{
	struct network_policy *policy = out;

	return decode_list(d, node, sizeof(struct policy_rule), decode_ingress_rule, &policy->in,
			   &policy->n_in);
}

static int decode_egress(struct decoder *d, const struct node *node, void *out)
{
	struct network_policy *policy = out;

	return decode_list(d, node, sizeof(struct policy_rule), decode_egress_rule, &policy->out,
			   &policy->n_out);
}

static int decode_type(struct decoder *d, const struct node *node, void *out)
{
	enum tw_direction *dir = out;
	const char *text;
	int err = decode_string(d, node, &text);

	if (err)
		return err;
	if (strcmp(text, "Ingress") && strcmp(text, "Egress"))
		return decode_fail(d, node, "expected Ingress or Egress, found '%.64s'", text);
	*dir = *text == 'I' ? TW_INGRESS : TW_EGRESS;
	return 0;
}

static int decode_types(struct decoder *d, const struct node *node, void *out)
{
	struct network_policy *policy = out;
	enum tw_direction *dirs;
	size_t n;
	int err = decode_list(d, node, sizeof(*dirs), decode_type, &dirs, &n);

	if (err)
		return err;
	if (n > 2)
		return decode_fail(d, node, "expected at most two policy types");
	for (size_t i = 0; i < n; i++) {
		policy->ingress |= dirs[i] == TW_INGRESS;
		policy->egress |= dirs[i] == TW_EGRESS;
	}
	return 0;
}

static int decode_policy_spec(struct decoder *d, const struct node *node, void *out)
{
	static const char *const fields[] = { "podSelector", "policyTypes", "ingress", "egress",
					      NULL };
	struct network_policy *policy = out;
	int err = decode_map(d, node);

	if (!err)
		err = decode_known(d, node, fields);
	if (!err)
		err = decode_field(d, node, "podSelector", decode_selector, &policy->pods);
	if (!err)
		err = decode_field(d, node, "ingress", decode_ingress, policy);
	if (!err)
		err = decode_field(d, node, "egress", decode_egress, policy);
	if (!err)
		err = decode_field(d, node, "policyTypes", decode_types, policy);
	return err;
}

int decode_policy(struct decoder *d, const struct node *doc, struct object *obj)
{
	struct network_policy *policy = &obj->policy;
	int err = decode_field(d, doc, "spec", decode_policy_spec, policy);

	if (!err && !policy->ingress && !policy->egress) {
		policy->ingress = true;
		policy->egress = policy->n_out;
	}
	return err;
}
