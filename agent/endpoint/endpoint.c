/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The record of an endpoint, and its two JSON forms: the record's and the request's. */
#include "endpoint/endpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <towpath/attachment.h>

#include "endpoint/internal.h"

#define NAME_MAX_LEN 253u /* what Kubernetes allows for names */

/* ---- memory -------------------------------------------------------------------------------- */

static void labels_free(struct labels *labels)
{
	for (size_t i = 0; i < labels->n; i++) {
		free(labels->v[i].key);
		free(labels->v[i].value);
	}
	free(labels->v);
	*labels = (struct labels){ 0 };
}

void endpoint_clear(struct endpoint *ep)
{
	free(ep->container_id);
	free(ep->sandbox);
	free(ep->network);
	free(ep->ns);
	free(ep->pod);
	free(ep->subnets);
	free(ep->routes);
	labels_free(&ep->labels);
	*ep = (struct endpoint){ 0 };
}

void endpoint_request_clear(struct endpoint_request *req)
{
	endpoint_clear(&req->ep);
	free(req->netns);
	*req = (struct endpoint_request){ 0 };
}

static int labels_copy(struct labels *out, const struct labels *labels)
{
	out->v = calloc(labels->n ? labels->n : 1, sizeof(*out->v));
	if (!out->v)
		return -ENOMEM;
	for (size_t i = 0; i < labels->n; i++, out->n++) {
		struct label *to = &out->v[i];

		to->key = strdup(labels->v[i].key);
		to->value = strdup(labels->v[i].value);
		if (!to->key || !to->value) {
			out->n++; /* labels_free() takes the half that is there */
			return -ENOMEM;
		}
	}
	return 0;
}

/* NULL: no memory; never for an empty list, so that a NULL is always an error. */
static struct prefix *prefixes_copy(const struct prefix *v, size_t n)
{
	struct prefix *copy = calloc(n + 1, sizeof(*copy));

	if (copy && n)
		memcpy(copy, v, n * sizeof(*copy));
	return copy;
}

int endpoint_copy(struct endpoint *out, const struct endpoint *ep)
{
	struct endpoint copy = *ep;
	int rc;

	copy.container_id = strdup(ep->container_id);
	copy.sandbox = strdup(ep->sandbox);
	copy.network = strdup(ep->network);
	copy.ns = strdup(ep->ns);
	copy.pod = strdup(ep->pod);
	copy.labels = (struct labels){ 0 };
	copy.subnets = prefixes_copy(ep->subnets, ep->n_subnets);
	copy.routes = prefixes_copy(ep->routes, ep->n_routes);
	rc = labels_copy(&copy.labels, &ep->labels);
	if (rc || !copy.container_id || !copy.sandbox || !copy.network || !copy.ns || !copy.pod ||
	    !copy.subnets || !copy.routes) {
		endpoint_clear(&copy);
		return -ENOMEM;
	}
	*out = copy;
	return 0;
}

/* ---- reading ----------------------------------------------------------------------------------- */

/* A JSON object being read; the first error stays. */
struct reader {
	const json_t *json;
	char *err;
	size_t err_len;
	int rc;
};

static void reader_fail(struct reader *r, const char *field, const char *want)
{
	if (!r->rc)
		r->rc = endpoint_fail(-EINVAL, r->err, r->err_len, "%s: expected %s", field, want);
}

/* A copy of the text; `or` when the field is absent or null, or an error when that is NULL too. */
static char *read_text(struct reader *r, const char *field, const char * or)
{
	const json_t *value = json_object_get(r->json, field);
	const char *text = json_is_string(value) ? json_string_value(value) : or ;
	char *copy;

	if (!text || (value && !json_is_string(value) && !json_is_null(value))) {
		reader_fail(r, field, "a string");
		return NULL;
	}
	if (strlen(text) > 4095 ||
	    strlen(text) != (value ? json_string_length(value) : strlen(text)))
		reader_fail(r, field, "a string of at most 4095 characters without NUL");
	copy = strdup(text);
	if (!copy && !r->rc)
		r->rc = -ENOMEM;
	return copy;
}

static uint32_t read_number(struct reader *r, const char *field, uint32_t max)
{
	const json_t *value = json_object_get(r->json, field);

	if (!value || json_is_null(value))
		return 0;
	if (!json_is_integer(value) || json_integer_value(value) < 0 ||
	    json_integer_value(value) > max) {
		char want[64];

		snprintf(want, sizeof(want), "a whole number from 0 to %u", max);
		reader_fail(r, field, want);
		return 0;
	}
	return (uint32_t)json_integer_value(value);
}

static void read_ifname(struct reader *r, const char *field, char out[IFNAMSIZ])
{
	const char *text = json_string_value(json_object_get(r->json, field));

	if (!text || !tw_ifname_valid(text))
		reader_fail(r, field, "the name of an interface: 1 to 15 characters");
	else
		snprintf(out, IFNAMSIZ, "%s", text);
}

static void read_mac(struct reader *r, uint8_t mac[6])
{
	const json_t *value = json_object_get(r->json, "mac");
	const char *text = json_string_value(value);
	uint8_t got[6];
	char end;

	if (!value || json_is_null(value) || (text && !*text))
		return;
	if (!text || strlen(text) != 17 ||
	    sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", &got[0], &got[1], &got[2],
		   &got[3], &got[4], &got[5], &end) != 6 ||
	    (got[0] & 1) || !memcmp(got, (uint8_t[6]){ 0 }, 6)) {
		reader_fail(r, "mac", "a unicast MAC address like 02:11:22:33:44:55");
		return;
	}
	memcpy(mac, got, sizeof(got));
}

static int label_compare(const void *a, const void *b)
{
	return strcmp(((const struct label *)a)->key, ((const struct label *)b)->key);
}

static void read_labels(struct reader *r, struct labels *out)
{
	json_t *value = json_object_get(r->json, "labels");
	const char *key;
	json_t *text;

	if (!value || json_is_null(value))
		return;
	if (!json_is_object(value)) {
		reader_fail(r, "labels", "a map of strings");
		return;
	}
	out->v = calloc(json_object_size(value) + 1, sizeof(*out->v));
	if (!out->v) {
		r->rc = -ENOMEM;
		return;
	}
	json_object_foreach(value, key, text) {
		struct label *to = &out->v[out->n];

		if (!*key || !json_is_string(text)) {
			reader_fail(r, "labels", "a map of strings");
			return;
		}
		to->key = strdup(key);
		to->value = strdup(json_string_value(text));
		out->n++;
		if (!to->key || !to->value) {
			r->rc = -ENOMEM;
			return;
		}
	}
	qsort(out->v, out->n, sizeof(*out->v), label_compare);
}

static void read_prefixes(struct reader *r, const char *field, struct prefix **out, size_t *n)
{
	const json_t *list = json_object_get(r->json, field);
	const json_t *value;
	size_t i;

	if (!list || json_is_null(list))
		return;
	if (!json_is_array(list)) {
		reader_fail(r, field, "a list of CIDRs");
		return;
	}
	*out = calloc(json_array_size(list) + 1, sizeof(**out));
	if (!*out) {
		r->rc = -ENOMEM;
		return;
	}
	json_array_foreach(list, i, value) {
		const char *text = json_string_value(value);

		if (!text || !strchr(text, '/') || prefix_parse(text, &(*out)[i])) {
			reader_fail(r, field, "CIDRs like 10.1.0.0/16 or fd00:1::/64");
			return;
		}
		(*n)++;
	}
}

static bool addrs_have(const union tw_addr *addrs, size_t n, const union tw_addr *addr)
{
	for (size_t i = 0; i < n; i++) {
		if (addr_equal(&addrs[i], addr))
			return true;
	}
	return false;
}

/*
 * Addresses, at most max of each family; a prefix length behind them is not looked at.
 * Returns how many of the family that has more.
 */
static size_t read_addrs(struct reader *r, union tw_addr *addrs4, union tw_addr *addrs6, size_t max)
{
	const json_t *list = json_object_get(r->json, "ips");
	const json_t *value;
	size_t n4 = 0, n6 = 0, i;
	char want[64];

	if (!list || json_is_null(list))
		return 0;
	if (!json_is_array(list))
		reader_fail(r, "ips", "a list of addresses");
	json_array_foreach(list, i, value) {
		const char *text = json_string_value(value);
		char buf[ADDR_TEXT_LEN] = "";
		union tw_addr addr = { 0 };
		bool is4;

		if (text)
			snprintf(buf, sizeof(buf), "%.*s", (int)strcspn(text, "/"), text);
		if (addr_parse(buf, &addr) || addr_is_zero(&addr)) {
			reader_fail(r, "ips", "addresses like 10.1.2.3 or fd00::3");
			return 0;
		}
		is4 = addr_is4(&addr);
		if ((is4 ? n4 : n6) >= max ||
		    addrs_have(is4 ? addrs4 : addrs6, is4 ? n4 : n6, &addr)) {
			snprintf(want, sizeof(want),
				 "at most %zu different address%s of each family", max,
				 max == 1 ? "" : "es");
			reader_fail(r, "ips", want);
			return 0;
		}
		if (is4)
			addrs4[n4++] = addr;
		else
			addrs6[n6++] = addr;
	}
	return n4 > n6 ? n4 : n6;
}

/* What the record and the request have in common. */
static void read_common(struct reader *r, struct endpoint *ep)
{
	ep->container_id = read_text(r, "container_id", NULL);
	if (ep->container_id && !tw_cni_name_valid(ep->container_id))
		reader_fail(r, "container_id",
			    "letters, digits, '_', '.' and '-', a letter or digit first");
	read_ifname(r, "ifname", ep->ifname);
	ep->sandbox = read_text(r, "sandbox", "");
	ep->network = read_text(r, "network", "");
	ep->ns = read_text(r, "namespace", "default");
	ep->pod = read_text(r, "pod", ep->container_id);
	read_labels(r, &ep->labels);
	read_prefixes(r, "subnets", &ep->subnets, &ep->n_subnets);
	read_prefixes(r, "routes", &ep->routes, &ep->n_routes);
	read_mac(r, ep->mac);
	ep->mtu = read_number(r, "mtu", ENDPOINT_MTU_MAX);
	ep->no_masq = json_is_false(json_object_get(r->json, "ipMasq"));
}

int endpoint_from_json(const json_t *json, struct endpoint *out, char *err, size_t err_len)
{
	struct reader r = { json, err, err_len, 0 };
	struct endpoint ep = { 0 };
	const char *state = json_string_value(json_object_get(json, "state"));

	read_common(&r, &ep);
	read_ifname(&r, "port", ep.port);
	read_addrs(&r, &ep.addr4, &ep.addr6, 1);
	ep.part = read_number(&r, "part", ENDPOINT_PARTS_MAX - 1);
	ep.slot = read_number(&r, "slot", TW_MAX_ENDPOINTS - 1);
	ep.identity = read_number(&r, "identity", UINT32_MAX);
	ep.version = read_number(&r, "version", UINT32_MAX);
	ep.table = read_number(&r, "table", UINT32_MAX);
	ep.port_ifindex = read_number(&r, "port_ifindex", UINT32_MAX);
	if (state && !strcmp(state, "ready"))
		ep.state = ENDPOINT_READY;
	else if (!state || strcmp(state, "creating") != 0)
		reader_fail(&r, "state", "creating or ready");
	if (r.rc) {
		endpoint_clear(&ep);
		return r.rc;
	}
	*out = ep;
	return 0;
}

int endpoint_request_parse(const json_t *body, struct endpoint_request *out, char *err,
			   size_t err_len)
{
	struct reader r = { body, err, err_len, 0 };
	struct endpoint_request req = { 0 };

	if (!json_is_object(body))
		return endpoint_fail(-EINVAL, err, err_len, "expected a JSON object");
	read_common(&r, &req.ep);
	req.netns = read_text(&r, "netns", NULL);
	req.masq = json_is_true(json_object_get(body, "ipMasq"));
	req.given = json_is_string(json_object_get(body, "ipam"));
	req.n_parts = read_addrs(&r, req.wish4, req.wish6, req.given ? ENDPOINT_PARTS_MAX : 1);
	if (!req.n_parts && req.given)
		reader_fail(&r, "ips", "an address at least, when another plugin gives them");
	else if (!req.n_parts)
		req.n_parts = 1;
	if (req.ep.mtu && req.ep.mtu < ENDPOINT_MTU_MIN)
		reader_fail(&r, "mtu", "0 or a number from 1280 to 65535");
	if (req.ep.ns && (!*req.ep.ns || strlen(req.ep.ns) > NAME_MAX_LEN))
		reader_fail(&r, "namespace", "a name of 1 to 253 characters");
	if (req.ep.pod && (!*req.ep.pod || strlen(req.ep.pod) > NAME_MAX_LEN))
		reader_fail(&r, "pod", "a name of 1 to 253 characters");
	if (r.rc) {
		endpoint_request_clear(&req);
		return r.rc;
	}
	tw_port_name(req.ep.container_id, req.ep.ifname, req.ep.port);
	*out = req;
	return 0;
}

/* ---- writing ----------------------------------------------------------------------------------- */

static json_t *labels_to_json(const struct labels *labels)
{
	json_t *map = json_object();

	for (size_t i = 0; map && i < labels->n; i++)
		json_object_set_new(map, labels->v[i].key, json_string(labels->v[i].value));
	return map;
}

static json_t *prefixes_to_json(const struct prefix *v, size_t n)
{
	json_t *list = json_array();
	char text[ADDR_TEXT_LEN];

	for (size_t i = 0; list && i < n; i++) {
		prefix_format(&v[i], text, sizeof(text));
		json_array_append_new(list, json_string(text));
	}
	return list;
}

static void add_addr(json_t *ips, json_t *gateways, const union tw_addr *addr, const char *gateway)
{
	char text[ADDR_TEXT_LEN];

	if (addr_is_zero(addr))
		return;
	addr_format(addr, text, sizeof(text));
	json_array_append_new(ips, json_sprintf("%s/%d", text, addr_is4(addr) ? 32 : 128));
	json_array_append_new(gateways, json_string(gateway));
}

void endpoint_json_add_part(json_t *json, const struct endpoint *part)
{
	json_t *ips = json_object_get(json, "ips"), *gateways = json_object_get(json, "gateways");

	add_addr(ips, gateways, &part->addr4, TW_GATEWAY4);
	add_addr(ips, gateways, &part->addr6, TW_GATEWAY6);
}

const char *endpoint_key(const struct endpoint *ep, char buf[ENDPOINT_KEY_LEN])
{
	/* No interface's name has a slash. */
	if (!ep->part)
		return ep->ifname;
	snprintf(buf, ENDPOINT_KEY_LEN, "%s/%u", ep->ifname, ep->part);
	return buf;
}

/* What of it takes queues on its port; for people. */
static json_t *queues_to_json(const struct endpoint *ep)
{
	json_t *list = json_array();

	if (list && ep->queues & TW_EP_QUEUE_TO)
		json_array_append_new(list, json_string("to"));
	if (list && ep->queues & TW_EP_QUEUE_FROM)
		json_array_append_new(list, json_string("from"));
	return list;
}

json_t *endpoint_to_json(const struct endpoint *ep)
{
	json_t *ips = json_array(), *gateways = json_array();
	json_t *json;

	if (ips && gateways) {
		add_addr(ips, gateways, &ep->addr4, TW_GATEWAY4);
		add_addr(ips, gateways, &ep->addr6, TW_GATEWAY6);
	}
	/* Takes over what it is given with "o", also when it fails. */
	json = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:o,s:o,s:o,s:I,s:I,s:I,s:I,s:s,s:I,s:o,s:I,s:I,"
			 "s:o,s:o,s:o,s:b,s:s}",
			 "container_id", ep->container_id, "ifname", ep->ifname, "sandbox",
			 ep->sandbox, "network", ep->network, "namespace", ep->ns, "pod", ep->pod,
			 "labels", labels_to_json(&ep->labels), "subnets",
			 prefixes_to_json(ep->subnets, ep->n_subnets), "routes",
			 prefixes_to_json(ep->routes, ep->n_routes), "part", (json_int_t)ep->part,
			 "slot", (json_int_t)ep->slot, "identity", (json_int_t)ep->identity,
			 "version", (json_int_t)ep->version, "port", ep->port, "port_ifindex",
			 (json_int_t)ep->port_ifindex, "mac",
			 json_sprintf("%02x:%02x:%02x:%02x:%02x:%02x", ep->mac[0], ep->mac[1],
				      ep->mac[2], ep->mac[3], ep->mac[4], ep->mac[5]),
			 "mtu", (json_int_t)ep->mtu, "table", (json_int_t)ep->table, "ips", ips,
			 "gateways", gateways, "queues", queues_to_json(ep), "ipMasq", !ep->no_masq,
			 "state", ep->state == ENDPOINT_READY ? "ready" : "creating");
	return json;
}
