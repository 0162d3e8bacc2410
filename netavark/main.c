/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "driver.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <towpath/attachment.h>
#include <towpath/runtime.h>
#include <unistd.h>

#define API_VERSION "1.0.0"
#define STDIN_MAX (16u << 20)

int driver_print(const json_t *json)
{
	if (!json || json_dumpf(json, stdout, JSON_COMPACT) || putchar('\n') == EOF ||
	    fflush(stdout)) {
		fputs("towpath: could not write the answer to stdout\n", stderr);
		return 1;
	}
	return 0;
}

int driver_fail(const char *format, ...)
{
	_cleanup_json_ json_t *error = NULL;
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	error = json_pack("{s:s}", "error", text);
	if (!error) /* names from outside may be no UTF-8, or cut within a character */
		error = json_pack("{s:s}", "error", "the input is not valid UTF-8");
	driver_print(error);
	return 1;
}

const char *text_of(const json_t *json, const char *key, const char * or)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text && *text ? text : or ;
}

/* The object on stdin, a new reference; NULL after driver_fail(). */
static json_t *input_read(void)
{
	json_error_t error;
	json_t *json = NULL;
	char *text = NULL;
	size_t len = 0;
	int rc = isatty(STDIN_FILENO) ? -ENODATA
				      : tw_stream_read(STDIN_FILENO, STDIN_MAX, &text, &len);

	if (rc) {
		driver_fail("could not read the input on stdin: %s", strerror(-rc));
		return NULL;
	}
	json = json_loadb(text, len, 0, &error);
	free(text);
	if (json_is_object(json))
		return json;
	driver_fail("the input on stdin is not a JSON object: %s",
		    json ? "it is another value" : error.text);
	json_decref(json);
	return NULL;
}

/* ---- what setup and teardown are given --------------------------------------------------------- */

struct exec {
	json_t *input;
	const json_t *network;
	const char *container_id;
	const char *ifname;
	const json_t *mappings; /* NULL or empty: no port is published */
	struct tw_client *client;
};

static void exec_cleanup(struct exec *e)
{
	tw_client_free(e->client);
	json_decref(e->input);
}
#define _cleanup_exec_ __attribute__((cleanup(exec_cleanup)))

static int exec_read(struct exec *e)
{
	e->input = input_read();
	if (!e->input)
		return 1;
	e->network = json_object_get(e->input, "network");
	e->container_id = text_of(e->input, "container_id", "");
	e->ifname = text_of(json_object_get(e->input, "network_options"), "interface_name", "");
	e->mappings = json_object_get(e->input, "port_mappings");
	if (!tw_cni_name_valid(e->container_id))
		return driver_fail("container_id \"%s\": expected letters, digits, '_', '.' and "
				   "'-', a letter or digit first",
				   e->container_id);
	if (!tw_ifname_valid(e->ifname))
		return driver_fail("interface_name \"%s\": expected 1 to 15 characters without "
				   "'/', ':' and white space",
				   e->ifname);
	if (tw_client_new(&e->client, network_option(e->network, "socket", TW_SOCKET_DEFAULT)))
		return driver_fail("out of memory");
	return 0;
}

static void set_text(json_t *body, const char *key, const char *text)
{
	if (*text)
		json_object_set_new(body, key, json_string(text));
}

/* The body of POST /v1/endpoints. */
static json_t *exec_to_agent(const struct exec *e, const char *netns, const char *netns_fd_path)
{
	const json_t *wishes = json_object_get(e->input, "network_options");
	json_t *ips = json_object_get(wishes, "static_ips");
	const char *mtu = network_option(e->network, "mtu", NULL);
	json_t *body =
		json_pack("{s:s,s:s,s:s,s:s,s:s,s:o,s:o}", "container_id", e->container_id,
			  "ifname", e->ifname, "netns", netns_fd_path, "sandbox", netns, "network",
			  text_of(e->network, "name", ""), "labels", network_labels(e->network),
			  "subnets", network_subnets(e->network));

	if (!body)
		return NULL;
	set_text(body, "pod", text_of(e->input, "container_name", ""));
	set_text(body, "namespace", network_option(e->network, "namespace", ""));
	set_text(body, "mac", text_of(wishes, "static_mac", ""));
	if (json_is_array(ips))
		json_object_set(body, "ips", ips);
	if (mtu)
		json_object_set_new(body, "mtu", json_integer(strtol(mtu, NULL, 10)));
	return body;
}

/* ---- commands ------------------------------------------------------------------------------------ */

static int command_info(const char *netns)
{
	_cleanup_json_ json_t *info =
		json_pack("{s:s,s:s}", "version", TOWPATH_VERSION, "api_version", API_VERSION);

	return driver_print(info);
}

static int command_create(const char *netns)
{
	_cleanup_json_ json_t *network = input_read();

	if (!network || network_create(network))
		return 1;
	return driver_print(network);
}

/* The status block: what podman shows, and writes to /etc/hosts and /etc/resolv.conf. */
static int status_print(const struct exec *e, const json_t *endpoint)
{
	const json_t *gateways = json_object_get(endpoint, "gateways");
	json_t *dns = json_object_get(e->network, "network_dns_servers");
	_cleanup_json_ json_t *status = NULL;
	json_t *subnets = json_array();
	const json_t *ip;
	size_t i;

	json_array_foreach(json_object_get(endpoint, "ips"), i, ip)
		json_array_append_new(subnets, json_pack("{s:O,s:O}", "ipnet", ip, "gateway",
							 json_array_get(gateways, i)));
	status = json_pack("{s:[],s:o,s:{s:{s:s,s:o}}}", "dns_search_domains", "dns_server_ips",
			   json_is_array(dns) ? json_incref(dns) : json_array(), "interfaces",
			   e->ifname, "mac_address", text_of(endpoint, "mac", ""), "subnets",
			   subnets);
	return driver_print(status);
}

static int command_setup(const char *netns)
{
	_cleanup_exec_ struct exec e = { 0 };
	_cleanup_json_ json_t *body = NULL, *endpoint = NULL;
	char path[64], endpoint_path[TW_ENDPOINT_PATH_MAX], why[512];
	int fd = -1, rc;

	if (exec_read(&e))
		return 1;
	/* Open till the end: the path leads through it. */
	if (tw_netns_open(netns, false, &fd, why, sizeof(why)))
		return driver_fail("network namespace %s: %s", netns, why);
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getpid(), fd);
	body = exec_to_agent(&e, netns, path);
	if (!body)
		return driver_fail("the path of the network namespace is not valid UTF-8");
	rc = tw_client_call(e.client, "POST", "/v1/endpoints", body, &endpoint);
	if (rc < 200 || rc >= 300)
		return driver_fail("%s", tw_client_error(e.client, rc, endpoint));
	if (json_array_size(e.mappings) && publish_ports(e.mappings, endpoint, why, sizeof(why))) {
		tw_endpoint_path(e.container_id, e.ifname, endpoint_path);
		tw_client_call(e.client, "DELETE", endpoint_path, NULL, NULL);
		return driver_fail("%s", why);
	}
	return status_print(&e, endpoint);
}

/* Goes on after an error: what can be removed is. */
static int command_teardown(const char *netns)
{
	_cleanup_exec_ struct exec e = { 0 };
	_cleanup_json_ json_t *reply = NULL;
	char path[TW_ENDPOINT_PATH_MAX], port[TW_PORT_NAME_LEN + 1], why[512], unpublish[512];
	int fd = -1, rc, unpublished = 0;

	if (exec_read(&e))
		return 1;
	rc = tw_netns_open(netns, false, &fd, why, sizeof(why));
	if (rc == -EBUSY)
		return driver_fail("network namespace %s: %s", netns, why);
	tw_port_name(e.container_id, e.ifname, port);
	if (json_array_size(e.mappings))
		unpublished = publish_remove(port, unpublish, sizeof(unpublish));
	tw_endpoint_path(e.container_id, e.ifname, path);
	rc = tw_client_call(e.client, "DELETE", path, NULL, &reply);
	if (rc == -ECONNREFUSED) {
		rc = tw_attachment_end(e.client,
				       network_option(e.network, "state_dir", TW_STATE_DIR_DEFAULT),
				       e.container_id, e.ifname, fd, why, sizeof(why));
		if (rc)
			return driver_fail("%s", why);
	} else if (rc < 200 || rc >= 300) {
		return driver_fail("%s", tw_client_error(e.client, rc, reply));
	}
	return unpublished ? driver_fail("%s", unpublish) : 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(const char *netns);
		int args;
	} commands[] = {
		{ "create", command_create, 0 },
		{ "setup", command_setup, 1 },
		{ "teardown", command_teardown, 1 },
		{ "info", command_info, 0 },
	};

	/* A person who runs it by hand learns what it is. */
	if (argc < 2)
		return command_info(NULL);
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		if (strcmp(argv[1], commands[i].name) != 0)
			continue;
		if (argc != 2 + commands[i].args)
			return driver_fail("%s: expected %s", argv[1],
					   commands[i].args ? "the path of a network namespace"
							    : "no further argument");
		return commands[i].run(argc > 2 ? argv[2] : NULL);
	}
	return driver_fail("unknown command %s: use create, setup, teardown or info", argv[1]);
}
