/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The commands, as far as the agent carries them out. */
#include "cni.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <towpath/runtime.h>
#include <unistd.h>

static int client_open(const struct cni *c, struct tw_client **client)
{
	if (tw_client_new(client, request_text(c, "socket", TW_SOCKET_DEFAULT)))
		return cni_fail(c, CNI_IO, NULL, "out of memory");
	return 0;
}

/* The agent's word for what went wrong, as a code of CNI. */
static enum cni_code reply_code(const json_t *reply)
{
	static const struct {
		const char *word;
		enum cni_code code;
	} codes[] = {
		{ "invalid", CNI_BAD_CONFIG },	{ "not_found", CNI_UNKNOWN_CONTAINER },
		{ "exists", CNI_EXISTS },	{ "exhausted", CNI_EXHAUSTED },
		{ "not_ready", CNI_TRY_AGAIN },
	};
	const char *word = json_string_value(json_object_get(reply, "code"));

	for (size_t i = 0; word && i < sizeof(codes) / sizeof(*codes); i++) {
		if (!strcmp(word, codes[i].word))
			return codes[i].code;
	}
	return CNI_AGENT;
}

static bool answer_ok(int answer)
{
	return answer >= 200 && answer < 300;
}

/* An answer that is no success, or none: code says what "no agent" means for this command. */
static int answer_fail(const struct cni *c, const struct tw_client *client, int answer,
		       const json_t *reply, enum cni_code no_agent)
{
	return cni_fail(c, answer < 0 ? no_agent : reply_code(reply), NULL, "%s",
			tw_client_error(client, answer, reply));
}

/* ---- ADD -------------------------------------------------------------------------------------- */

/* body: what is asked for; the addresses are there. */
static int add_to_agent(const struct cni *c, struct tw_client *client, json_t *body)
{
	_cleanup_json_ json_t *reply = NULL;
	int rc = tw_client_call(client, "POST", "/v1/endpoints", body, &reply);

	if (!answer_ok(rc))
		return answer_fail(c, client, rc, reply, CNI_TRY_AGAIN);
	return result_print(c, reply);
}

int command_add(struct cni *c)
{
	_cleanup_client_ struct tw_client *client = NULL;
	_cleanup_json_ json_t *body = NULL;
	char path[64];
	int fd = -1, rc;

	/* Open till the end: the path leads through it. */
	rc = netns_open(c, false, &fd);
	if (rc)
		return rc;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getpid(), fd);
	body = request_to_agent(c, path);
	if (!body || client_open(c, &client))
		return 1;
	rc = ipam_add(c, body);
	if (!rc)
		rc = add_to_agent(c, client, body);
	if (rc)
		ipam_undo(c);
	return rc;
}

/* ---- DEL -------------------------------------------------------------------------------------- */

static int del_without_agent(const struct cni *c, struct tw_client *client, int netns_fd)
{
	char why[256];

	if (tw_attachment_end(client, request_text(c, "stateDir", TW_STATE_DIR_DEFAULT),
			      c->container_id, c->ifname, netns_fd, why, sizeof(why)))
		return cni_fail(c, CNI_KERNEL, NULL, "%s", why);
	return 0;
}

int command_del(struct cni *c)
{
	_cleanup_client_ struct tw_client *client = NULL;
	_cleanup_json_ json_t *reply = NULL;
	char path[TW_ENDPOINT_PATH_MAX];
	int fd = -1, rc;

	rc = netns_open(c, true, &fd);
	if (rc)
		return rc;
	if (client_open(c, &client))
		return 1;
	tw_endpoint_path(c->container_id, c->ifname, path);
	rc = tw_client_call(client, "DELETE", path, NULL, &reply);
	/* Away, or gone during the call: whatever it did of it, the rest is done without it. */
	if (rc == -ECONNREFUSED || rc == -ECONNRESET)
		rc = del_without_agent(c, client, fd);
	else
		rc = answer_ok(rc) ? 0 : answer_fail(c, client, rc, reply, CNI_TRY_AGAIN);
	/* The addresses last: whoever gets them next must not meet this container any more. */
	return rc ? rc : ipam_run(c, "DEL");
}

/* ---- CHECK, STATUS, GC -------------------------------------------------------------------------- */

int command_check(struct cni *c)
{
	_cleanup_client_ struct tw_client *client = NULL;
	_cleanup_json_ json_t *reply = NULL;
	const json_t *prev = json_object_get(c->config, "prevResult");
	char path[TW_ENDPOINT_PATH_MAX];
	size_t len;
	int fd = -1, rc;

	if (!json_is_object(prev))
		return cni_fail(c, CNI_BAD_CONFIG, NULL,
				"prevResult is missing: CHECK needs the result of ADD");
	rc = netns_open(c, false, &fd);
	if (rc)
		return rc;
	if (client_open(c, &client))
		return 1;
	tw_endpoint_path(c->container_id, c->ifname, path);
	len = strlen(path);
	snprintf(path + len, sizeof(path) - len, "?check=1");
	rc = tw_client_call(client, "GET", path, NULL, &reply);
	if (rc < 0)
		return answer_fail(c, client, rc, reply, CNI_TRY_AGAIN);
	if (!answer_ok(rc))
		return cni_fail(c, CNI_CHECK_FAILED, NULL, "%s",
				tw_client_error(client, rc, reply));
	/* Before container_check(), which goes into the container's namespace for good. */
	rc = ipam_run(c, "CHECK");
	return rc ? rc : container_check(c, fd, prev);
}

/* Whether the pools that this network allocates from have no address of some family left. */
static bool pools_exhausted(const struct cni *c, const json_t *pools)
{
	const json_t *subnets = json_object_get(c->config, "subnets");
	const char *network = json_array_size(subnets) ? request_text(c, "name", "") : "";
	json_int_t size[2] = { 0 }, used[2] = { 0 };
	const json_t *pool;
	size_t i;

	json_array_foreach(pools, i, pool) {
		const char *of = json_string_value(json_object_get(pool, "network"));
		const char *subnet = json_string_value(json_object_get(pool, "subnet"));
		bool v6 = subnet && strchr(subnet, ':');

		if (!of || strcmp(of, network) != 0)
			continue;
		size[v6] += json_integer_value(json_object_get(pool, "size"));
		used[v6] += json_integer_value(json_object_get(pool, "used"));
	}
	return (size[0] && used[0] >= size[0]) || (size[1] && used[1] >= size[1]);
}

int command_status(struct cni *c)
{
	_cleanup_client_ struct tw_client *client = NULL;
	_cleanup_json_ json_t *reply = NULL;
	int rc;

	if (client_open(c, &client))
		return 1;
	rc = tw_client_call(client, "GET", "/v1/status", NULL, &reply);
	if (!answer_ok(rc))
		return cni_fail(c, CNI_UNAVAILABLE, NULL, "%s", tw_client_error(client, rc, reply));
	if (c->ipam)
		return ipam_run(c, "STATUS");
	if (pools_exhausted(c, json_object_get(reply, "pools")))
		return cni_fail(c, CNI_UNAVAILABLE, NULL,
				"no address is left; remove containers or add a subnet");
	return 0;
}

/* The agent's form of the attachments that stay. NULL: malformed. */
static json_t *gc_keep(const json_t *list)
{
	json_t *keep = json_array();
	const json_t *one;
	size_t i;

	json_array_foreach(list, i, one) {
		const char *id = json_string_value(json_object_get(one, "containerID"));
		const char *ifname = json_string_value(json_object_get(one, "ifname"));

		if (!id || !ifname) {
			json_decref(keep);
			return NULL;
		}
		json_array_append_new(keep,
				      json_pack("{s:s,s:s}", "container_id", id, "ifname", ifname));
	}
	return keep;
}

static int gc_answer(const struct cni *c, const json_t *reply)
{
	const json_t *errors = json_object_get(reply, "errors");
	char *details;
	int rc;

	if (!json_array_size(errors))
		return 0;
	details = json_dumps(errors, JSON_COMPACT);
	rc = cni_fail(c, CNI_AGENT, details, "%zu attachments could not be removed",
		      json_array_size(errors));
	free(details);
	return rc;
}

static int gc_by_agent(const struct cni *c, const json_t *list)
{
	_cleanup_client_ struct tw_client *client = NULL;
	_cleanup_json_ json_t *body = NULL, *reply = NULL;
	json_t *keep = json_is_array(list) ? gc_keep(list) : NULL;
	int rc;

	if (!keep)
		return cni_fail(c, CNI_BAD_CONFIG, NULL,
				"cni.dev/valid-attachments: expected a list of objects with "
				"containerID and ifname");
	body = json_pack("{s:s,s:o}", "network", request_text(c, "name", ""), "keep", keep);
	if (client_open(c, &client))
		return 1;
	rc = tw_client_call(client, "POST", "/v1/endpoints/gc", body, &reply);
	if (!answer_ok(rc))
		return answer_fail(c, client, rc, reply, CNI_TRY_AGAIN);
	return gc_answer(c, reply);
}

int command_gc(struct cni *c)
{
	const json_t *list = json_object_get(c->config, "cni.dev/valid-attachments");
	int rc = 0;

	if (!list)
		list = json_object_get(c->config, "cni.dev/attachments");
	/* Without a list nobody has said what is valid: removing all would be a guess. */
	if (list && !json_is_null(list))
		rc = gc_by_agent(c, list);
	/* What could not be removed keeps its addresses. */
	return rc ? rc : ipam_run(c, "GC");
}
