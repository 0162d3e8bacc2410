/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Addresses of another plugin: it is run as a runtime would run it, with our environment, our
 * whole configuration and our stderr; its answer says what the endpoint gets.
 */
#include "cni.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <towpath/runtime.h>
#include <unistd.h>

#define ANSWER_MAX (16u << 20)

struct answer {
	json_t *json; /* NULL: none, or no JSON */
	int status;   /* as of waitpid() */
};

/* ---- running it ------------------------------------------------------------------------------ */

/* The program's path in buf; false when no directory of CNI_PATH has it. */
static bool plugin_find(const char *type, const char *path, char *buf, size_t len)
{
	while (*path) {
		size_t n = strcspn(path, ":");
		struct stat st;

		if (n && (size_t)snprintf(buf, len, "%.*s/%s", (int)n, path, type) < len &&
		    !stat(buf, &st) && S_ISREG(st.st_mode) && !access(buf, X_OK))
			return true;
		path += n + (path[n] == ':');
	}
	return false;
}

/* The environment with another CNI_COMMAND; one allocation, the strings stay whose they are. */
static char **environment_for(char *command)
{
	size_t n = 0, kept = 0;
	char **env;

	while (environ[n])
		n++;
	env = calloc(n + 2, sizeof(*env));
	if (!env)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		if (strncmp(environ[i], "CNI_COMMAND=", 12) != 0)
			env[kept++] = environ[i];
	}
	env[kept] = command;
	return env;
}

/* The configuration in a file of its own: a plugin that does not read all of it blocks nobody. */
static int config_file(const struct cni *c)
{
	int fd = memfd_create("cni-config", MFD_CLOEXEC);
	size_t n = 0;

	while (fd >= 0 && n < c->text_len) {
		ssize_t put = write(fd, c->text + n, c->text_len - n);

		if (put < 0 && errno != EINTR) {
			close(fd);
			return -1;
		}
		n += put > 0 ? (size_t)put : 0;
	}
	if (fd >= 0)
		lseek(fd, 0, SEEK_SET);
	return fd;
}

static json_t *answer_read(int fd)
{
	char *text = NULL;
	size_t n = 0;
	json_t *json = NULL;

	if (!tw_stream_read(fd, ANSWER_MAX, &text, &n) && n)
		json = json_loadb(text, n, 0, NULL);
	free(text);
	return json;
}

static int plugin_spawn(const char *program, char **env, int in, const int out[2], pid_t *pid)
{
	char *const argv[] = { (char *)program, NULL };
	posix_spawn_file_actions_t actions;
	int rc = posix_spawn_file_actions_init(&actions);

	if (rc)
		return -rc;
	posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
	rc = posix_spawn(pid, program, &actions, NULL, argv, env);
	posix_spawn_file_actions_destroy(&actions);
	return -rc;
}

static int plugin_run(const struct cni *c, const char *program, const char *command,
		      struct answer *answer)
{
	char word[32];
	char **env;
	int out[2], in, rc;
	pid_t pid;

	snprintf(word, sizeof(word), "CNI_COMMAND=%s", command);
	env = environment_for(word);
	in = env ? config_file(c) : -1;
	if (in < 0 || pipe2(out, O_CLOEXEC)) {
		rc = -errno;
		if (in >= 0)
			close(in);
		free(env);
		return rc;
	}
	rc = plugin_spawn(program, env, in, out, &pid);
	close(in);
	close(out[1]);
	free(env);
	if (!rc) {
		answer->json = answer_read(out[0]);
		while (waitpid(pid, &answer->status, 0) < 0 && errno == EINTR)
			;
	}
	close(out[0]);
	return rc;
}

/* Its error becomes ours: code, message and details. */
static int plugin_failed(const struct cni *c, const struct answer *answer)
{
	const json_t *code = json_object_get(answer->json, "code");
	const char *msg = json_string_value(json_object_get(answer->json, "msg"));
	const char *details = json_string_value(json_object_get(answer->json, "details"));

	if (json_is_integer(code) && json_integer_value(code) > 0 && msg)
		return cni_fail(c, (enum cni_code)json_integer_value(code), details, "ipam %s: %s",
				c->ipam, msg);
	return cni_fail(c, CNI_DELEGATE, NULL, "ipam %s: it failed (%s %d) without an error object",
			c->ipam, WIFSIGNALED(answer->status) ? "signal" : "exit status",
			WIFSIGNALED(answer->status) ? WTERMSIG(answer->status)
						    : WEXITSTATUS(answer->status));
}

/* Runs it; 0 after success with the answer in *json (may be NULL), else the exit status. */
static int delegate(const struct cni *c, const char *command, json_t **json)
{
	const char *path = getenv("CNI_PATH");
	struct answer answer = { 0 };
	char program[4200];
	int rc;

	if (!path || !*path)
		return cni_fail(c, CNI_BAD_ENVIRONMENT, NULL,
				"CNI_PATH is missing: ipam.type %s is looked for in it", c->ipam);
	if (!plugin_find(c->ipam, path, program, sizeof(program)))
		return cni_fail(c, CNI_BAD_CONFIG, NULL,
				"ipam.type %s: no directory of CNI_PATH (%s) has a program of that "
				"name; install it",
				c->ipam, path);
	rc = plugin_run(c, program, command, &answer);
	if (rc)
		return cni_fail(c, CNI_DELEGATE, NULL, "ipam.type %s: could not run %s: %s",
				c->ipam, program, strerror(-rc));
	rc = answer.status ? plugin_failed(c, &answer) : 0;
	if (!rc && json)
		*json = answer.json;
	else
		json_decref(answer.json);
	return rc;
}

int ipam_run(const struct cni *c, const char *command)
{
	return c->ipam ? delegate(c, command, NULL) : 0;
}

void ipam_undo(const struct cni *c)
{
	const char *path = getenv("CNI_PATH");
	struct answer answer = { 0 };
	char program[4200];

	if (!c->ipam || !path || !plugin_find(c->ipam, path, program, sizeof(program)))
		return;
	if (plugin_run(c, program, "DEL", &answer) || answer.status)
		fprintf(stderr, CNI_TYPE ": ipam %s could not take its addresses back\n", c->ipam);
	json_decref(answer.json);
}

/* ---- its result -------------------------------------------------------------------------------- */

/* "10.1.2.3/24" → the network "10.1.2.0/24", into out, once. */
static int subnet_add(json_t *out, const char *address)
{
	unsigned char bytes[16];
	char text[INET6_ADDRSTRLEN], cidr[INET6_ADDRSTRLEN + 4];
	int family = strchr(address, ':') ? AF_INET6 : AF_INET;
	unsigned int size = family == AF_INET6 ? 16 : 4, len = 0;
	const char *slash = strchr(address, '/');
	const json_t *one;
	char end;
	size_t i;

	snprintf(text, sizeof(text), "%.*s", (int)strcspn(address, "/"), address);
	if (!slash || inet_pton(family, text, bytes) != 1 ||
	    sscanf(slash + 1, "%u%c", &len, &end) != 1 || len > size * 8)
		return -EINVAL;
	for (unsigned int bit = len; bit < size * 8; bit++)
		bytes[bit / 8] &= (unsigned char)~(0x80u >> bit % 8);
	inet_ntop(family, bytes, text, sizeof(text));
	snprintf(cidr, sizeof(cidr), "%s/%u", text, len);
	json_array_foreach(out, i, one) {
		if (!strcmp(json_string_value(one), cidr))
			return 0;
	}
	json_array_append_new(out, json_string(cidr));
	return 0;
}

static int take_addresses(const struct cni *c, const json_t *ips, json_t *body)
{
	json_t *addresses = json_array(), *subnets = json_array();
	const json_t *ip;
	size_t i;

	json_object_set_new(body, "ips", addresses);
	json_object_set_new(body, "subnets", subnets);
	json_array_foreach(ips, i, ip) {
		const char *text = json_string_value(json_object_get(ip, "address"));

		if (!text || subnet_add(subnets, text))
			return cni_fail(c, CNI_DELEGATE, NULL,
					"ipam %s: ips[%zu].address: expected one like 10.1.2.3/24, "
					"not \"%s\"",
					c->ipam, i, text ? text : "");
		json_array_append_new(addresses, json_string(text));
	}
	if (!i)
		return cni_fail(c, CNI_DELEGATE, NULL, "ipam %s: its result has no address",
				c->ipam);
	return 0;
}

/*
 * All ways lead to the node, so the gateway of a route is the endpoint's, whatever the subnet's
 * is called. A router that is another machine cannot be had: frames carry no such choice.
 */
static bool gateway_is_subnets(const json_t *ips, const char *gw)
{
	const json_t *ip;
	size_t i;

	json_array_foreach(ips, i, ip) {
		const char *text = json_string_value(json_object_get(ip, "gateway"));

		if (text && !strcmp(text, gw))
			return true;
	}
	return false;
}

static int take_routes(const struct cni *c, const json_t *result, json_t *body)
{
	const json_t *routes = json_object_get(result, "routes");
	const json_t *ips = json_object_get(result, "ips"), *route;
	json_t *list;
	size_t i;

	if (!json_array_size(routes))
		return 0;
	list = json_deep_copy(json_object_get(body, "subnets"));
	json_object_set_new(body, "routes", list);
	json_array_foreach(routes, i, route) {
		const char *dst = json_string_value(json_object_get(route, "dst"));
		const char *gw = json_string_value(json_object_get(route, "gw"));

		if (!dst)
			return cni_fail(c, CNI_DELEGATE, NULL,
					"ipam %s: routes[%zu].dst: expected a CIDR", c->ipam, i);
		if (gw && *gw && !gateway_is_subnets(ips, gw))
			return cni_fail(c, CNI_BAD_CONFIG, NULL,
					"ipam: the route to %s goes by %s, but containers reach "
					"everything by their node: leave gw away",
					dst, gw);
		if (subnet_add(list, dst))
			return cni_fail(c, CNI_DELEGATE, NULL,
					"ipam %s: routes[%zu].dst: expected a CIDR, not \"%s\"",
					c->ipam, i, dst);
	}
	return 0;
}

int ipam_add(struct cni *c, json_t *body)
{
	json_t *result = NULL;
	int rc;

	if (!c->ipam)
		return 0;
	rc = delegate(c, "ADD", &result);
	if (!rc && !json_is_object(result))
		rc = cni_fail(c, CNI_DELEGATE, NULL, "ipam %s: its answer is no result", c->ipam);
	if (!rc)
		rc = take_addresses(c, json_object_get(result, "ips"), body);
	if (!rc)
		rc = take_routes(c, result, body);
	json_object_set_new(body, "ipam", json_string(c->ipam));
	if (!rc)
		c->ipam_dns = json_incref(json_object_get(result, "dns"));
	json_decref(result);
	return rc;
}
