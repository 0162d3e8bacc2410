/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cni.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const cni_versions[CNI_VERSION_COUNT] = {
	[CNI_0_3_1] = "0.3.1",
	[CNI_0_4_0] = "0.4.0",
	[CNI_1_0_0] = "1.0.0",
	[CNI_1_1_0] = CNI_VERSION_NEWEST,
};

/* What a command needs of the environment, and since which version it exists. */
struct command {
	const char *name;
	int (*run)(struct cni *c);
	bool container; /* CNI_CONTAINERID and CNI_IFNAME */
	bool netns;	/* CNI_NETNS */
	enum cni_version since;
};

static const struct command commands[] = {
	{ "ADD", command_add, true, true, CNI_0_3_1 },
	{ "DEL", command_del, true, false, CNI_0_3_1 },
	{ "CHECK", command_check, true, true, CNI_0_4_0 },
	{ "STATUS", command_status, false, false, CNI_1_1_0 },
	{ "GC", command_gc, false, false, CNI_1_1_0 },
};

int cni_fail(const struct cni *c, enum cni_code code, const char *details, const char *format, ...)
{
	char text[1024];
	va_list args;
	json_t *error;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	error = json_pack("{s:s,s:i,s:s#}", "cniVersion",
			  c->version_text ? c->version_text : CNI_VERSION_NEWEST, "code", (int)code,
			  "msg", text, strnlen(text, sizeof(text)));
	if (!error) /* names from outside may be no UTF-8 */
		error = json_pack("{s:s,s:i,s:s}", "cniVersion", CNI_VERSION_NEWEST, "code",
				  (int)code, "msg", "the input is not valid UTF-8");
	if (details)
		json_object_set_new(error, "details", json_string(details));
	json_print(error);
	json_decref(error);
	return 1;
}

static int about(void)
{
	fputs(CNI_TYPE " " TOWPATH_VERSION
		       ": the CNI plugin of Towpath; container runtimes run it. "
		       "CNI protocol versions supported:",
	      stderr);
	for (int i = 0; i < CNI_VERSION_COUNT; i++)
		fprintf(stderr, "%s %s", i ? "," : "", cni_versions[i]);
	fputs("\n", stderr);
	return 0;
}

static int command_version(const struct cni *c)
{
	json_t *list = json_array();
	json_t *reply;
	int rc;

	for (int i = 0; i < CNI_VERSION_COUNT; i++)
		json_array_append_new(list, json_string(cni_versions[i]));
	reply = json_pack("{s:s,s:o}", "cniVersion",
			  c->version_text ? c->version_text : CNI_VERSION_NEWEST,
			  "supportedVersions", list);
	rc = json_print(reply);
	json_decref(reply);
	return rc;
}

/* All that are missing, in one message. */
static int environment_check(const struct cni *c, const struct command *command)
{
	const struct {
		const char *name;
		const char *value;
		bool needed;
	} vars[] = {
		{ "CNI_CONTAINERID", c->container_id, command->container },
		{ "CNI_NETNS", c->netns, command->netns },
		{ "CNI_IFNAME", c->ifname, command->container },
	};
	char missing[64] = "";
	size_t n = 0;

	for (size_t i = 0; i < sizeof(vars) / sizeof(*vars); i++) {
		if (vars[i].needed && (!vars[i].value || !*vars[i].value))
			n += (size_t)snprintf(missing + n, sizeof(missing) - n, "%s%s",
					      n ? ", " : "", vars[i].name);
	}
	if (n)
		return cni_fail(c, CNI_BAD_ENVIRONMENT, NULL,
				"required environment variables are missing: %s", missing);
	return 0;
}

static int run(struct cni *c, const struct command *command, enum cni_code input_code,
	       const char *problem)
{
	int rc = environment_check(c, command);

	if (rc)
		return rc;
	if (problem)
		return cni_fail(c, input_code, NULL, "%s", problem);
	rc = request_check(c);
	if (rc)
		return rc;
	if (c->version < command->since)
		return cni_fail(c, CNI_VERSION_UNSUPPORTED, NULL,
				"%s exists since CNI version %s, and the configuration is of %s",
				command->name, cni_versions[command->since], c->version_text);
	return command->run(c);
}

static int dispatch(struct cni *c)
{
	const struct command *command = NULL;
	char problem[256] = "";
	enum cni_code code = CNI_IO;
	bool bad;

	if (!c->command || !*c->command)
		return about();
	bad = request_read_stdin(c, &code, problem, sizeof(problem)) != 0;
	if (!strcmp(c->command, "VERSION"))
		return command_version(c);
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		if (!strcmp(c->command, commands[i].name))
			command = &commands[i];
	}
	if (!command)
		return cni_fail(c, CNI_BAD_ENVIRONMENT, NULL, "unknown CNI_COMMAND: %s",
				c->command);
	return run(c, command, code, bad ? problem : NULL);
}

int main(void)
{
	struct cni c = {
		.command = getenv("CNI_COMMAND"),
		.container_id = getenv("CNI_CONTAINERID"),
		.netns = getenv("CNI_NETNS"),
		.ifname = getenv("CNI_IFNAME"),
	};
	int rc;

	rc = dispatch(&c);
	request_clear(&c);
	return rc;
}
