/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cni.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <towpath/attachment.h>
#include <towpath/runtime.h>
#include <unistd.h>

#define STDIN_MAX (16u << 20)

/* ---- stdin ---------------------------------------------------------------------------------- */

int request_read_stdin(struct cni *c, enum cni_code *code, char *problem, size_t len)
{
	json_error_t error;
	int rc;

	/* A person who tries VERSION by hand has no configuration to give. */
	rc = isatty(STDIN_FILENO) ? -ENODATA
				  : tw_stream_read(STDIN_FILENO, STDIN_MAX, &c->text, &c->text_len);
	if (rc) {
		*code = CNI_IO;
		snprintf(problem, len, "could not read the configuration on stdin: %s",
			 strerror(-rc));
		return rc;
	}
	c->config = json_loadb(c->text, c->text_len, 0, &error);
	if (!json_is_object(c->config)) {
		*code = CNI_DECODE;
		snprintf(problem, len, "the configuration on stdin is not a JSON object: %s",
			 c->config ? "it is another value" : error.text);
		return -EINVAL;
	}
	c->version_text = json_string_value(json_object_get(c->config, "cniVersion"));
	return 0;
}

/* ---- CNI_ARGS ------------------------------------------------------------------------------------- */

static bool is_true(const char *value)
{
	return !strcmp(value, "1") || !strcasecmp(value, "true");
}

/* One K=V of CNI_ARGS; NULL for a key that is not known. */
static char **args_slot(struct cni_pod *pod, const char *key)
{
	if (!strcmp(key, "K8S_POD_NAMESPACE"))
		return &pod->ns;
	if (!strcmp(key, "K8S_POD_NAME"))
		return &pod->name;
	if (!strcmp(key, "IP"))
		return &pod->ip;
	if (!strcmp(key, "MAC"))
		return &pod->mac;
	return NULL;
}

/* What runtimes of Kubernetes send and this plugin has no use for. */
static bool args_known(const char *key)
{
	return !strcmp(key, "K8S_POD_INFRA_CONTAINER_ID") || !strcmp(key, "K8S_POD_UID") ||
	       !strcmp(key, "IgnoreUnknown");
}

static int args_parse(struct cni *c, char *args)
{
	char unknown[64] = "";
	bool ignore = false;
	char *piece, *rest = args;

	while ((piece = strsep(&rest, ";"))) {
		char *value = strchr(piece, '='), **slot;

		if (!value || value == piece)
			return cni_fail(c, CNI_BAD_ENVIRONMENT, NULL,
					"CNI_ARGS: \"%s\" is not of the form KEY=VALUE", piece);
		*value++ = '\0';
		slot = args_slot(&c->pod, piece);
		if (slot) {
			free(*slot);
			*slot = strdup(value);
		} else if (!args_known(piece)) {
			snprintf(unknown, sizeof(unknown), "%s", piece);
		} else if (!strcmp(piece, "IgnoreUnknown")) {
			ignore = is_true(value);
		}
	}
	if (*unknown && !ignore)
		return cni_fail(c, CNI_BAD_ENVIRONMENT, NULL,
				"CNI_ARGS: unknown key %s; add IgnoreUnknown=1 to have it ignored",
				unknown);
	return 0;
}

static int args_check(struct cni *c)
{
	const char *args = getenv("CNI_ARGS");
	char *copy;
	int rc;

	if (!args || !*args)
		return 0;
	copy = strdup(args);
	if (!copy)
		return cni_fail(c, CNI_IO, NULL, "out of memory");
	rc = args_parse(c, copy);
	free(copy);
	return rc;
}

/* ---- the configuration ------------------------------------------------------------------------------- */

static int version_check(struct cni *c)
{
	const json_t *value = json_object_get(c->config, "cniVersion");

	if (value && !json_is_string(value))
		return cni_fail(c, CNI_DECODE, NULL, "cniVersion: expected a string");
	if (!c->version_text)
		c->version_text = "0.1.0"; /* what its absence means */
	for (int i = 0; i < CNI_VERSION_COUNT; i++) {
		if (!strcmp(c->version_text, cni_versions[i])) {
			c->version = (enum cni_version)i;
			return 0;
		}
	}
	return cni_fail(c, CNI_VERSION_UNSUPPORTED, NULL,
			"CNI version %s is not supported; use one of 0.3.1, 0.4.0, 1.0.0, 1.1.0",
			c->version_text);
}

/* Whose addresses: an empty section, or one of our own type, leaves them to the agent. */
static int ipam_check(struct cni *c)
{
	const json_t *ipam = json_object_get(c->config, "ipam");
	const json_t *type = json_object_get(ipam, "type");
	const char *name = json_string_value(type);

	if (!ipam || json_is_null(ipam))
		return 0;
	if (!json_is_object(ipam))
		return cni_fail(c, CNI_BAD_CONFIG, NULL, "ipam: expected an object");
	if (!json_object_size(ipam) || (name && !strcmp(name, CNI_IPAM_TYPE)))
		return 0;
	if (!name || !*name || strchr(name, '/') || *name == '.')
		return cni_fail(c, CNI_BAD_CONFIG, NULL,
				"ipam.type: expected the name of a plugin, like host-local, "
				"or " CNI_IPAM_TYPE " for addresses by the agent");
	if (json_array_size(json_object_get(c->config, "subnets")))
		return cni_fail(c, CNI_BAD_CONFIG, NULL,
				"subnets and ipam.type %s: only one of both can give addresses",
				name);
	c->ipam = name;
	return 0;
}

/* What depends on where the runtime happens to start the plugin would be found by nobody. */
static int path_check(const struct cni *c, const char *key)
{
	const char *path = json_string_value(json_object_get(c->config, key));

	if (!path || !*path || *path == '/')
		return 0;
	return cni_fail(c, CNI_BAD_CONFIG, NULL, "%s \"%s\": expected an absolute path", key, path);
}

/* Types only; values are judged by the agent, which has to do it anyway. */
static int config_check(struct cni *c)
{
	const json_t *masq = json_object_get(c->config, "ipMasq");

	static const struct {
		const char *key;
		json_type type;
		const char *want;
	} keys[] = {
		{ "socket", JSON_STRING, "a path" },
		{ "stateDir", JSON_STRING, "a path" },
		{ "mtu", JSON_INTEGER, "a number" },
		{ "subnets", JSON_ARRAY, "a list of CIDRs" },
		{ "namespace", JSON_STRING, "a name" },
		{ "labels", JSON_OBJECT, "a map of strings" },
		{ "args", JSON_OBJECT, "an object" },
		{ "runtimeConfig", JSON_OBJECT, "an object" },
		{ "dns", JSON_OBJECT, "an object" },
		{ "prevResult", JSON_OBJECT, "an object" },
	};
	const char *name = json_string_value(json_object_get(c->config, "name"));
	int rc;

	if (!name || !tw_cni_name_valid(name))
		return cni_fail(c, CNI_BAD_CONFIG, NULL,
				"name \"%s\": expected letters, digits, '_', '.' and '-', a letter "
				"or digit first",
				name ? name : "");
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		const json_t *value = json_object_get(c->config, keys[i].key);

		if (value && !json_is_null(value) && json_typeof(value) != keys[i].type)
			return cni_fail(c, CNI_BAD_CONFIG, NULL, "%s: expected %s", keys[i].key,
					keys[i].want);
	}
	if (masq && !json_is_boolean(masq) && !json_is_null(masq))
		return cni_fail(c, CNI_BAD_CONFIG, NULL, "ipMasq: expected true or false");
	rc = path_check(c, "socket");
	if (!rc)
		rc = path_check(c, "stateDir");
	return rc ? rc : ipam_check(c);
}

int request_check(struct cni *c)
{
	int rc;

	if (c->container_id && *c->container_id && !tw_cni_name_valid(c->container_id))
		return cni_fail(c, CNI_BAD_ENVIRONMENT, NULL,
				"CNI_CONTAINERID \"%s\": expected letters, digits, '_', '.' and "
				"'-', a letter or digit first",
				c->container_id);
	if (c->ifname && *c->ifname && !tw_ifname_valid(c->ifname))
		return cni_fail(c, CNI_BAD_ENVIRONMENT, NULL,
				"CNI_IFNAME \"%s\": expected 1 to 15 characters without '/', ':' "
				"and white space",
				c->ifname);
	rc = args_check(c);
	if (!rc)
		rc = version_check(c);
	return rc ? rc : config_check(c);
}

void request_clear(struct cni *c)
{
	free(c->pod.ns);
	free(c->pod.name);
	free(c->pod.ip);
	free(c->pod.mac);
	json_decref(c->ipam_dns);
	json_decref(c->config);
	free(c->text);
}

const char *request_text(const struct cni *c, const char *key, const char * or)
{
	const char *text = json_string_value(json_object_get(c->config, key));

	return text && *text ? text : or ;
}

/* ---- what the agent is asked ---------------------------------------------------------------------------- */

static json_t *json_path(const json_t *json, const char *a, const char *b, const char *d)
{
	json_t *at = json_object_get(json_object_get(json, a), b);

	return d ? json_object_get(at, d) : at;
}

/* What is asked for: the runtime's capability, then the args of the configuration, CNI_ARGS last. */
static json_t *wished_ips(const struct cni *c)
{
	json_t *ips = json_path(c->config, "runtimeConfig", "ips", NULL);
	char *rest, *one;

	if (!ips || (json_is_array(ips) && !json_array_size(ips)))
		ips = json_path(c->config, "args", "cni", "ips");
	if (ips)
		return json_incref(ips);
	if (!c->pod.ip)
		return NULL;
	ips = json_array();
	for (rest = c->pod.ip; (one = strsep(&rest, ",")) != NULL;)
		json_array_append_new(ips, json_string(one));
	return ips;
}

static json_t *wished_mac(const struct cni *c)
{
	json_t *mac = json_path(c->config, "runtimeConfig", "mac", NULL);

	if (!mac)
		mac = json_path(c->config, "args", "cni", "mac");
	return mac || !c->pod.mac ? json_incref(mac) : json_string(c->pod.mac);
}

static void set_text(json_t *body, const char *key, const char *text)
{
	if (text && *text)
		json_object_set_new(body, key, json_string(text));
}

json_t *request_to_agent(const struct cni *c, const char *netns_path)
{
	static const char *const passed[] = { "subnets", "labels", "mtu", "ipMasq" };
	json_t *body = json_pack("{s:s,s:s,s:s,s:s,s:s}", "container_id", c->container_id, "ifname",
				 c->ifname, "netns", netns_path, "sandbox", c->netns, "network",
				 request_text(c, "name", ""));

	if (!body) {
		cni_fail(c, CNI_BAD_ENVIRONMENT, NULL,
			 "CNI_NETNS and CNI_IFNAME: expected valid UTF-8");
		return NULL;
	}
	set_text(body, "namespace", c->pod.ns ? c->pod.ns : request_text(c, "namespace", NULL));
	set_text(body, "pod", c->pod.name);
	for (size_t i = 0; i < sizeof(passed) / sizeof(*passed); i++) {
		json_t *value = json_object_get(c->config, passed[i]);

		if (value)
			json_object_set(body, passed[i], value);
	}
	/* Absent ones are NULL, which json_object_set_new() refuses and ignores. */
	if (!c->ipam) /* who gives addresses also reads which are asked for */
		json_object_set_new(body, "ips", wished_ips(c));
	json_object_set_new(body, "mac", wished_mac(c));
	return body;
}
