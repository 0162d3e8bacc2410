/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "driver.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <towpath/attachment.h>

#define MTU_MIN 1280ul /* what IPv6 asks of every link (RFC 8200 5) */
#define MTU_MAX 65535ul
#define LABEL "label."
#define LABEL_KEY_MAX 317u  /* of Kubernetes: a prefix of 253, '/', a name of 63 */
#define LABEL_VALUE_MAX 63u /* likewise */
#define NAMESPACE_MAX 63u   /* a DNS label */

const char *network_option(const json_t *network, const char *key, const char * or)
{
	return text_of(json_object_get(network, "options"), key, or);
}

static bool is_label(const char *option)
{
	return !strncmp(option, LABEL, strlen(LABEL));
}

json_t *network_labels(const json_t *network)
{
	json_t *labels = json_object(), *value;
	const char *key;

	json_object_foreach(json_object_get(network, "options"), key, value) {
		if (is_label(key))
			json_object_set(labels, key + strlen(LABEL), value);
	}
	return labels;
}

json_t *network_subnets(const json_t *network)
{
	json_t *list = json_array();
	const json_t *subnet;
	size_t i;

	json_array_foreach(json_object_get(network, "subnets"), i, subnet)
		json_array_append(list, json_object_get(subnet, "subnet"));
	return list;
}

/* ---- create -------------------------------------------------------------------------------- */

static bool mtu_valid(const char *text)
{
	char *end;
	unsigned long mtu = strtoul(text, &end, 10);

	return *text >= '0' && *text <= '9' && !*end && mtu >= MTU_MIN && mtu <= MTU_MAX;
}

static bool namespace_valid(const char *name)
{
	return *name && strlen(name) <= NAMESPACE_MAX &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(name);
}

static int option_check(const char *key, const char *value)
{
	if (!strcmp(key, "mtu"))
		return mtu_valid(value)
			       ? 0
			       : driver_fail("option mtu=%s: expected a number from 1280 to 65535",
					     value);
	if (!strcmp(key, "namespace"))
		return namespace_valid(value)
			       ? 0
			       : driver_fail("option namespace=%s: expected lower-case letters, "
					     "digits and '-'",
					     value);
	if (!strcmp(key, "socket") || !strcmp(key, "state_dir"))
		return *value == '/'
			       ? 0
			       : driver_fail("option %s=%s: expected an absolute path", key, value);
	if (is_label(key)) {
		size_t len = strlen(key + strlen(LABEL));

		if (!len || len > LABEL_KEY_MAX || strlen(value) > LABEL_VALUE_MAX)
			return driver_fail("option %s=%s: expected label.KEY=VALUE, a value of at "
					   "most 63 characters",
					   key, value);
		return 0;
	}
	return driver_fail("option %s is not known: use mtu, namespace, label.KEY, socket or "
			   "state_dir",
			   key);
}

static int options_check(const json_t *network)
{
	const char *key;
	json_t *value;

	json_object_foreach(json_object_get(network, "options"), key, value) {
		const char *text = json_string_value(value);
		int rc = text ? option_check(key, text)
			      : driver_fail("option %s: expected a string", key);

		if (rc)
			return rc;
	}
	return 0;
}

static int subnets_check(const json_t *network, bool *has6)
{
	const json_t *subnet;
	bool has = false;
	size_t i;

	json_array_foreach(json_object_get(network, "subnets"), i, subnet) {
		const char *cidr = text_of(subnet, "subnet", "");

		if (*text_of(subnet, "gateway", ""))
			return driver_fail("--gateway %s: containers of every Towpath network have "
					   "the gateways 169.254.1.1 and fe80::1; leave it out",
					   text_of(subnet, "gateway", ""));
		if (json_object_size(json_object_get(subnet, "lease_range")))
			return driver_fail("--ip-range: the agent gives addresses from the whole "
					   "of %s; make the subnet smaller instead",
					   cidr);
		has |= strchr(cidr, ':') != NULL;
	}
	*has6 = has;
	return 0;
}

/* What podman can ask for and Towpath does otherwise: refused, because it would not be so. */
static int wishes_check(const json_t *network)
{
	if (json_is_true(json_object_get(network, "internal")))
		return driver_fail("--internal: apply a NetworkPolicy that allows egress to pods "
				   "only, and leave it out");
	if (json_array_size(json_object_get(network, "routes")))
		return driver_fail("--route: containers have a default route only; leave it out");
	if (*text_of(network, "network_interface", ""))
		return driver_fail("--interface-name %s: Towpath names its ports itself; leave it "
				   "out",
				   text_of(network, "network_interface", ""));
	if (json_object_size(json_object_get(network, "ipam_options")))
		return driver_fail("--ipam-driver: addresses are given by the agent; leave it out");
	return 0;
}

int network_create(json_t *network)
{
	const char *name = text_of(network, "name", "");
	bool has6 = false, has_dns;
	int rc;

	if (!tw_cni_name_valid(name))
		return driver_fail("name \"%s\": expected letters, digits, '_', '.' and '-', a "
				   "letter or digit first",
				   name);
	rc = options_check(network);
	if (!rc)
		rc = subnets_check(network, &has6);
	if (!rc)
		rc = wishes_check(network);
	if (rc)
		return rc;
	if (json_is_true(json_object_get(network, "ipv6_enabled")) && !has6 &&
	    json_array_size(json_object_get(network, "subnets")))
		return driver_fail("--ipv6: add an IPv6 subnet too, as in --subnet fd00:1::/64");
	/* Keeps podman's own allocator off: the agent's knows of all runtimes. */
	json_object_set_new(network, "ipam_options", json_pack("{s:s}", "driver", "towpath"));
	/*
	 * netavark starts no aardvark-dns for drivers of others. podman stores --dns only with
	 * DNS enabled; without it containers get the host's servers.
	 */
	has_dns = json_array_size(json_object_get(network, "network_dns_servers")) > 0;
	json_object_set_new(network, "dns_enabled", json_boolean(has_dns));
	return 0;
}
