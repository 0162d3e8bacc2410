/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The result of ADD, in the form of the version that was asked for. */
#include "cni.h"

#include <stdio.h>
#include <string.h>
#include <towpath/attachment.h>

#define ROUTE_SCOPE_LINK 253

int json_print(const json_t *json)
{
	if (!json || json_dumpf(json, stdout, JSON_COMPACT) || putchar('\n') == EOF ||
	    fflush(stdout)) {
		fputs(CNI_TYPE ": could not write the answer to stdout\n", stderr);
		return 1;
	}
	return 0;
}

static json_t *list_of(json_t *result, const char *key)
{
	json_t *list = json_object_get(result, key);

	if (!json_is_array(list)) {
		list = json_array();
		json_object_set_new(result, key, list);
	}
	return list;
}

static const char *text_of(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text ? text : "";
}

static json_t *interface_make(const struct cni *c, const char *name, const char *mac,
			      const json_t *endpoint, const char *sandbox)
{
	json_t *itf = json_pack("{s:s,s:s}", "name", name, "mac", mac);

	if (sandbox)
		json_object_set_new(itf, "sandbox", json_string(sandbox));
	if (c->version >= CNI_1_1_0)
		json_object_set(itf, "mtu", json_object_get(endpoint, "mtu"));
	return itf;
}

static void route_add(const struct cni *c, json_t *routes, const json_t *endpoint, const char *dst,
		      const char *gw)
{
	json_t *route = json_pack("{s:s}", "dst", dst);
	json_int_t table = json_integer_value(json_object_get(endpoint, "table"));

	if (gw)
		json_object_set_new(route, "gw", json_string(gw));
	if (c->version >= CNI_1_1_0 && table)
		json_object_set_new(route, "table", json_integer(table));
	if (c->version >= CNI_1_1_0 && !gw)
		json_object_set_new(route, "scope", json_integer(ROUTE_SCOPE_LINK));
	json_array_append_new(routes, route);
}

/* First the way to the gateway, then those by it; the same in both families but for the link. */
static void routes_add(const struct cni *c, json_t *result, const json_t *endpoint)
{
	static const char *const gateways[2] = { TW_GATEWAY4, TW_GATEWAY6 };
	const json_t *list = json_object_get(endpoint, "routes"), *dst;
	json_t *routes = list_of(result, "routes");
	bool to_gateway = false;
	size_t i;

	json_array_foreach(list, i, dst) {
		const char *text = json_string_value(dst);
		bool v6 = text && strchr(text, ':');

		if (text && !v6 && !to_gateway)
			route_add(c, routes, endpoint, TW_GATEWAY4 "/32", NULL);
		to_gateway |= !v6;
		if (text)
			route_add(c, routes, endpoint, text, gateways[v6]);
	}
}

static void address_add(const struct cni *c, json_t *result, const char *address,
			const char *gateway, size_t interface)
{
	bool v6 = strchr(address, ':') != NULL;
	json_t *ip = json_pack("{s:s,s:s,s:I}", "address", address, "gateway", gateway, "interface",
			       (json_int_t)interface);

	if (c->version <= CNI_0_4_0) /* the key was dropped in 1.0 */
		json_object_set_new(ip, "version", json_string(v6 ? "6" : "4"));
	json_array_append_new(list_of(result, "ips"), ip);
}

/* The configuration's word first, then the address plugin's, then what was there. */
static void dns_add(const struct cni *c, json_t *result)
{
	json_t *dns = json_object_get(c->config, "dns");

	if (!json_object_size(dns) && json_object_size(c->ipam_dns))
		dns = c->ipam_dns;
	if (dns)
		json_object_set(result, "dns", dns);
	else if (!json_object_get(result, "dns"))
		json_object_set_new(result, "dns", json_object());
}

int result_print(const struct cni *c, const json_t *endpoint)
{
	json_t *prev = json_object_get(c->config, "prevResult");
	json_t *result = json_is_object(prev) ? json_deep_copy(prev) : json_object();
	const json_t *ips = json_object_get(endpoint, "ips");
	const json_t *gateways = json_object_get(endpoint, "gateways");
	json_t *interfaces = list_of(result, "interfaces");
	size_t first = json_array_size(interfaces), i;
	const json_t *ip;
	int rc;

	json_object_set_new(result, "cniVersion", json_string(c->version_text));
	json_array_append_new(interfaces, interface_make(c, text_of(endpoint, "port"), TW_PORT_MAC,
							 endpoint, NULL));
	json_array_append_new(interfaces, interface_make(c, c->ifname, text_of(endpoint, "mac"),
							 endpoint, c->netns));
	json_array_foreach(ips, i, ip) {
		const char *gateway = json_string_value(json_array_get(gateways, i));

		address_add(c, result, json_string_value(ip), gateway ? gateway : "", first + 1);
	}
	list_of(result, "ips");
	routes_add(c, result, endpoint);
	dns_add(c, result);
	rc = json_print(result);
	json_decref(result);
	return rc;
}
