/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* program attach, replace, detach: what changes the programs that run. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base64.h"
#include "userprog.h"

enum {
	OPT_XDP = CLI_LONG,
	OPT_TC,
	OPT_ENDPOINT,
	OPT_CGROUP,
	OPT_SOCKOPS,
	OPT_PROGRAM,
	OPT_NAME,
	OPT_BEFORE,
	OPT_AFTER,
	OPT_BYPASS,
	OPT_NEW_MAPS,
};

/* ---- the object --------------------------------------------------------------------------------- */

/* Up to one byte more than is taken: the agent says what is too much. */
static int file_read(const char *path, void **out, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *bytes = malloc(USERPROG_OBJECT_MAX + 1);
	size_t n = 0;
	ssize_t got = 1;

	if (!bytes)
		abort();
	while (fd >= 0 && got > 0 && n < USERPROG_OBJECT_MAX + 1) {
		got = read(fd, bytes + n, USERPROG_OBJECT_MAX + 1 - n);
		n += got > 0 ? (size_t)got : 0;
	}
	int saved = errno;
	if (fd >= 0)
		close(fd);
	if (fd < 0 || got < 0) {
		free(bytes);
		errno = saved;
		return cli_refuse("cannot read %s: %m", path);
	}
	if (n > USERPROG_OBJECT_MAX) {
		free(bytes);
		return cli_refuse("%s is too large: an object file may have %u bytes", path,
				  USERPROG_OBJECT_MAX);
	}
	*out = bytes;
	*len = n;
	return CLI_OK;
}

/* "file" and "object" of a request. */
static int object_put(json_t *body, const char *path)
{
	cleanup_(cleanup_free) char *copy = cli_printf("%s", path);
	cleanup_(cleanup_free) void *bytes = NULL;
	cleanup_(cleanup_free) char *text = NULL;
	size_t len = 0;
	int ret = file_read(path, &bytes, &len);

	if (ret)
		return ret;
	text = base64_encode(bytes, len);
	if (!text)
		abort();
	json_object_set_new(body, "file", json_string(basename(copy)));
	json_object_set_new(body, "object", json_string(text));
	return CLI_OK;
}

/* ---- attach ------------------------------------------------------------------------------------- */

struct attach {
	json_t *body;
	int where; /* OPT_XDP ... OPT_SOCKOPS; 0: not said yet */
	const char *place;
};

/* --before and --after may stand alone: before or behind all. */
static const char *order_value(const struct cli *cli)
{
	if (cli->value[0] == '-') {
		optind--;
		return NULL;
	}
	return cli->value;
}

static int option_take(struct cli *cli, struct attach *a, int opt)
{
	const char *value = cli->value;

	switch (opt) {
	case OPT_XDP:
	case OPT_TC:
	case OPT_ENDPOINT:
	case OPT_CGROUP:
	case OPT_SOCKOPS:
		if (a->where)
			return cli_usage(cli, "it takes one place: --xdp, --tc, --endpoint, "
					      "--cgroup or --sockops");
		a->where = opt;
		a->place = value;
		return CLI_OK;
	case OPT_PROGRAM:
		json_object_set_new(a->body, "program", json_string(value));
		return CLI_OK;
	case OPT_NAME:
		json_object_set_new(a->body, "name", json_string(value));
		return CLI_OK;
	case OPT_BEFORE:
	case OPT_AFTER:
		value = order_value(cli);
		json_object_set_new(a->body, opt == OPT_BEFORE ? "before" : "after",
				    json_string(value ? value : "towpath"));
		return CLI_OK;
	case OPT_BYPASS:
		json_object_set_new(a->body, "allow_policy_bypass", json_true());
		return CLI_OK;
	default:
		return CLI_USAGE;
	}
}

static int endpoint_put(const struct cli *cli, struct attach *a)
{
	cleanup_(cleanup_free) char *ns = NULL;
	cleanup_(cleanup_free) char *pod = NULL;

	if (!cli_parse_pod(a->place, "default", &ns, &pod))
		return cli_usage(cli, "--endpoint takes NAMESPACE/POD, not \"%s\"", a->place);
	json_object_set_new(a->body, "endpoint",
			    json_pack("{s:s, s:s}", "namespace", ns, "pod", pod));
	return CLI_OK;
}

/* The place, and the hook of it: an operand where there are several. */
static int place_put(const struct cli *cli, struct attach *a, const char *hook)
{
	const bool tc = a->where == OPT_TC || a->where == OPT_ENDPOINT;
	const bool named = tc || a->where == OPT_CGROUP;

	if (!a->where)
		return cli_usage(cli, "say where: --xdp DEVICE, --tc DEVICE ingress|egress, "
				      "--endpoint NAMESPACE/POD ingress|egress, --cgroup PATH "
				      "HOOK or --sockops PATH");
	if (!named && hook)
		return cli_usage(cli, "\"%s\" is too much", hook);
	if (tc && (!hook || (strcmp(hook, "ingress") && strcmp(hook, "egress"))))
		return cli_usage(cli, "%s %s needs ingress or egress behind it",
				 a->where == OPT_TC ? "--tc" : "--endpoint", a->place);
	if (named && !hook)
		return cli_usage(cli,
				 "--cgroup %s needs a hook behind it: ingress, egress, "
				 "connect4, ...",
				 a->place);
	json_object_set_new(a->body, "hook",
			    json_string(hook		      ? hook
					: a->where == OPT_XDP ? "xdp"
							      : "sockops"));
	if (a->where == OPT_ENDPOINT)
		return endpoint_put(cli, a);
	json_object_set_new(a->body,
			    a->where == OPT_XDP || a->where == OPT_TC ? "device" : "cgroup",
			    json_string(a->place));
	return CLI_OK;
}

static int attached_print(const struct cli *cli, const json_t *reply)
{
	const json_t *endpoint = json_object_get(reply, "endpoint");
	const char *mode = cli_str(reply, "mode");

	if (cli->output != CLI_TABLE)
		return cli_print(cli, reply);
	printf("%s is attached to %s%s%s%s%s %s%s%s, program id %lld\n", cli_str(reply, "name"),
	       cli_str(reply, "device"), cli_str(reply, "cgroup"), cli_str(endpoint, "namespace"),
	       endpoint ? "/" : "", cli_str(endpoint, "pod"), cli_str(reply, "hook"),
	       *mode && strcmp(mode, "native") ? ", " : "",
	       !strcmp(mode, "native")	  ? ""
	       : !strcmp(mode, "generic") ? "by the stack and not by the driver (slower)"
					  : mode,
	       (long long)cli_int(reply, "id"));
	return CLI_OK;
}

static int attach_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_json) json_t *body = json_object();
	cleanup_(cleanup_json) json_t *reply = NULL;
	struct attach a = { .body = body };
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		ret = option_take(cli, &a, opt);
		if (ret)
			return ret;
	}
	if (cli_operands(cli, argc, 1, 2, &ret))
		return ret;
	ret = place_put(cli, &a, argv[optind + 1]);
	if (!ret)
		ret = object_put(body, argv[optind]);
	if (!ret)
		ret = cli_call(cli, "POST", "/v1/programs", body, &reply);
	return ret ? ret : attached_print(cli, reply);
}

static const struct cli_option attach_options[] = {
	{ OPT_XDP, "xdp", "DEVICE", "at the device's driver, before the stack sees a packet" },
	{ OPT_TC, "tc", "DEVICE", "at the device's traffic control; then ingress or egress" },
	{ OPT_ENDPOINT, "endpoint", "NS/POD",
	  "at eth0 inside the container; then ingress or egress" },
	{ OPT_CGROUP, "cgroup", "PATH", "at sockets of processes in there; then the hook" },
	{ OPT_SOCKOPS, "sockops", "PATH", "at TCP events of processes in that cgroup" },
	{ OPT_PROGRAM, "program", "NAME",
	  "which one of the file (default: the only one that fits)" },
	{ OPT_NAME, "name", "NAME", "what to call it here (default: as the program)" },
	{ OPT_BEFORE, "before", "X",
	  "run before X: a name of list, towpath, edge, or a program's id" },
	{ OPT_AFTER, "after", "X", "run right behind X (default: behind all)" },
	{ OPT_BYPASS, "allow-policy-bypass", NULL,
	  "with --before: also before Towpath, whose policies it can then override" },
	{ 0 },
};

const struct cli_command cmd_program_attach = {
	.name = "program attach",
	.usage = "FILE.o --xdp DEVICE | --tc DEVICE ingress|egress | --endpoint NS/POD "
		 "ingress|egress | --cgroup PATH HOOK | --sockops PATH [OPTION]...",
	.summary = "load a program and put it into the path",
	.details =
		"The agent keeps the object and attaches it again when the device, container or\n"
		"cgroup comes back, and after a reboot. Without the agent it goes on running.\n"
		"A tc program sees, on a device that has Towpath's own, what that one leaves to "
		"the\n"
		"stack; --endpoint sees every packet of a container. A cgroup's path may be "
		"relative\n"
		"to where cgroup v2 is mounted. Hooks of a cgroup: ingress, egress, connect4,\n"
		"connect6, bind4, sendmsg4, sock_create and others, as in SEC(\"cgroup/...\").\n",
	.options = attach_options,
	.examples = "  towpath program attach count.o --tc eth1 ingress\n"
		    "  towpath program attach drop80.o --xdp eth1 --name web-off\n"
		    "  towpath program attach first.o --xdp eth1 --before edge\n"
		    "  towpath program attach firewall.o --endpoint shop/web ingress\n"
		    "  towpath program attach guard.o --cgroup system.slice connect4\n"
		    "  towpath program attach tune.o --sockops system.slice/db.service\n",
	.run = attach_run,
};

/* ---- replace ------------------------------------------------------------------------------------ */

static int replace_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_json) json_t *body = json_object();
	cleanup_(cleanup_json) json_t *reply = NULL;
	cleanup_(cleanup_free) char *path = NULL;
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		switch (opt) {
		case OPT_PROGRAM:
			json_object_set_new(body, "program", json_string(cli->value));
			break;
		case OPT_NEW_MAPS:
			json_object_set_new(body, "new_maps", json_true());
			break;
		default:
			return CLI_USAGE;
		}
	}
	if (cli_operands(cli, argc, 2, 2, &ret))
		return ret;
	path = cli_path("/v1/programs/%s", argv[optind]);
	ret = object_put(body, argv[optind + 1]);
	if (!ret)
		ret = cli_call(cli, "PUT", path, body, &reply);
	if (ret || cli->output != CLI_TABLE)
		return ret ? ret : cli_print(cli, reply);
	printf("%s runs %s of %s now, program id %lld\n", cli_str(reply, "name"),
	       cli_str(reply, "program"), cli_str(reply, "file"), (long long)cli_int(reply, "id"));
	return CLI_OK;
}

static const struct cli_option replace_options[] = {
	{ OPT_PROGRAM, "program", "NAME",
	  "which one of the file (default: the only one that fits)" },
	{ OPT_NEW_MAPS, "new-maps", NULL, "begin with empty maps" },
	{ 0 },
};

const struct cli_command cmd_program_replace = {
	.name = "program replace",
	.usage = "NAME FILE.o [--program NAME] [--new-maps]",
	.summary = "put another version of a program in its place, between two packets",
	.details = "Maps of the same name and layout go over with what is in them. Each packet\n"
		   "meets the old program or the new one; when the new one is refused, the old\n"
		   "one goes on.\n",
	.options = replace_options,
	.examples = "  towpath program replace count count2.o\n"
		    "  towpath program replace count count.o --new-maps\n",
	.run = replace_run,
};

/* ---- detach ------------------------------------------------------------------------------------- */

static int detach_run(struct cli *cli, int argc, char **argv)
{
	return cli_delete_each(cli, argc, argv, "/v1/programs/", "is detached");
}

const struct cli_command cmd_program_detach = {
	.name = "program detach",
	.usage = "NAME...",
	.summary = "take programs off, with their maps",
	.examples =
		"  towpath program detach count\n"
		"  towpath program list -o json | jq -r '.items[].name' | xargs towpath program "
		"detach\n",
	.run = detach_run,
};
