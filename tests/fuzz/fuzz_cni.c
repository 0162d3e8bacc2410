// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * libFuzzer: what a container runtime gives the CNI plugin. An input is four lines (the command,
 * the interface, the container's id, CNI_ARGS) and the network configuration, prevResult and all.
 * The agent is its parser of requests, by a call. Whatever comes in, an answer is one JSON
 * object, or nothing where the specification says so, and a failure has a code and a sentence.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <towpath/client.h>
#include <unistd.h>

#include "endpoint/endpoint.h"
#include "fuzz.h"

int towpath_cni_main(void);

/* ---- the agent -------------------------------------------------------------------------------- */

struct tw_client {
	int unused;
};

int tw_client_new(struct tw_client **out, const char *socket_path)
{
	static struct tw_client client;

	*out = &client;
	return 0;
}

void tw_client_free(struct tw_client *c)
{
}

void tw_client_timeout(struct tw_client *c, unsigned int ms)
{
}

static int endpoint_add(json_t *body, json_t **reply)
{
	struct endpoint_request req;
	char why[256] = "";

	if (endpoint_request_parse(body, &req, why, sizeof(why))) {
		fuzz_check(*why);
		*reply = json_pack("{s:s,s:s}", "error", why, "code", "invalid");
		return 400;
	}
	fuzz_check(!addr_parse("10.88.0.2", &req.ep.addr4));
	fuzz_check(!addr_parse("fd00:10:88::2", &req.ep.addr6));
	req.ep.mac[0] |= 2; /* the kernel has given it one */
	req.ep.state = ENDPOINT_READY;
	*reply = endpoint_to_json(&req.ep);
	fuzz_check(*reply);
	/* What is stored must be readable by the next start. */
	struct endpoint again;
	fuzz_check(!endpoint_from_json(*reply, &again, why, sizeof(why)));
	endpoint_clear(&again);
	endpoint_request_clear(&req);
	return 200;
}

int tw_client_call(struct tw_client *c, const char *method, const char *path, json_t *body,
		   json_t **reply)
{
	json_t *got = NULL;
	int status = 200;

	if (!strcmp(method, "POST") && !strcmp(path, "/v1/endpoints"))
		status = endpoint_add(body, &got);
	else if (!strcmp(method, "POST"))
		got = json_pack("{s:i,s:[s]}", "removed", 0, "errors", "cannot");
	else
		got = json_object();
	if (reply)
		*reply = got;
	else
		json_decref(got);
	return status;
}

const char *tw_client_error(const struct tw_client *c, int result, const json_t *reply)
{
	const char *text = json_string_value(json_object_get(reply, "error"));

	return text ? text : "no answer";
}

/* ---- the plugin's surroundings ------------------------------------------------------------------- */

/* Where CHECK finds the container: a namespace that has a loopback interface. */
static void namespace_enter(void)
{
	if (unshare(CLONE_NEWNET))
		fuzz_check(!unshare(CLONE_NEWUSER | CLONE_NEWNET));
	setenv("CNI_NETNS_OVERRIDE", "1", 1);
	setenv("CNI_NETNS", "/proc/self/ns/net", 1);
	setenv("CNI_PATH", "/nonexistent", 1);
}

static void stdin_set(const uint8_t *data, size_t size)
{
	int fd = memfd_create("stdin", MFD_CLOEXEC);

	fuzz_check(fd >= 0);
	fuzz_check(write(fd, data, size) == (ssize_t)size);
	fuzz_check(!lseek(fd, 0, SEEK_SET));
	fuzz_check(dup2(fd, STDIN_FILENO) == STDIN_FILENO);
	close(fd);
}

static const char *const vars[] = { "CNI_COMMAND", "CNI_IFNAME", "CNI_CONTAINERID", "CNI_ARGS" };

/* The lines before the configuration; an empty one leaves its variable unset. */
static void environment_set(const uint8_t **data, size_t *size)
{
	for (size_t i = 0; i < sizeof(vars) / sizeof(vars[0]); i++) {
		const uint8_t *end = memchr(*data, '\n', *size);
		size_t n = end ? (size_t)(end - *data) : *size;
		char *value = strndup((const char *)*data, n);

		fuzz_check(value);
		if (*value)
			fuzz_check(!setenv(vars[i], value, 1));
		else
			unsetenv(vars[i]);
		free(value);
		*data += end ? n + 1 : n;
		*size -= end ? n + 1 : n;
	}
}

static void answer_check(int status, const char *text, size_t n)
{
	const char *command = getenv("CNI_COMMAND");
	json_t *json = NULL;

	if (n) {
		json = json_loadb(text, n, 0, NULL);
		fuzz_check(json_is_object(json));
		fuzz_check(json_is_string(json_object_get(json, "cniVersion")));
	}
	if (status) {
		const char *msg = json_string_value(json_object_get(json, "msg"));

		fuzz_check(json_integer_value(json_object_get(json, "code")) > 0);
		fuzz_check(msg && *msg);
	} else if (command && !strcmp(command, "ADD")) {
		fuzz_check(json_array_size(json_object_get(json, "ips")) >= 2);
		fuzz_check(json_array_size(json_object_get(json, "interfaces")) >= 2);
	}
	json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int entered;
	FILE *out = stdout;
	char *text = NULL;
	size_t n = 0;
	int status, first;

	if (!entered)
		namespace_enter();
	entered = 1;
	environment_set(&data, &size);
	/* A person's call without a command prints its help on stderr. */
	if (!getenv("CNI_COMMAND"))
		return 0;
	stdin_set(data, size);
	first = dup(STDIN_FILENO);
	fuzz_check(first >= 0);
	stdout = open_memstream(&text, &n);
	fuzz_check(stdout);
	status = towpath_cni_main();
	fclose(stdout);
	stdout = out;
	/* The plugin leaves to its end what it has opened. */
	fuzz_check(!close_range((unsigned int)first, ~0u, 0));
	fuzz_check(status == 0 || status == 1);
	answer_check(status, text, n);
	free(text);
	return 0;
}
