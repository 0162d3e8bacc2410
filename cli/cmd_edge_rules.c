/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* edge deny, allow: rules and lists, more and less of them. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPT_FOR = CLI_LONG, OPT_PORT, OPT_NAME, OPT_REMOVE, OPT_FORCE };

struct change {
	const char *action;
	const char *port, *name;
	uint64_t for_s;
	bool remove, force;
	json_t *rules;
};

/* What a file is called among the lists. */
static char *list_name(const struct change *c, const char *path)
{
	cleanup_(cleanup_free) char *copy = cli_printf("%s", path);

	return cli_printf("%s", c->name ? c->name : basename(copy));
}

static bool is_file(const char *path)
{
	struct stat st;

	return !stat(path, &st) && (S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode));
}

static int file_read(const char *path, char **out, size_t *len)
{
	int fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	size_t n = 0, room = 1 << 20;
	char *text = malloc(room);
	ssize_t got = 1;

	if (fd < 0) {
		free(text);
		return cli_refuse("cannot read %s: %m", path);
	}
	if (!text)
		abort();
	while (got > 0) {
		char *more = n == room ? realloc(text, room *= 2) : text;

		if (!more)
			abort();
		text = more;
		got = read(fd, text + n, room - n);
		n += got > 0 ? (size_t)got : 0;
	}
	int saved = errno;
	close(fd);
	errno = saved;
	if (got < 0) {
		free(text);
		return cli_refuse("cannot read %s: %m", path);
	}
	*out = text;
	*len = n;
	return CLI_OK;
}

static const char *milliseconds(char buf[32], const json_t *reply, const char *key)
{
	snprintf(buf, 32, "%.1f ms", (double)cli_int(reply, key) / 1000);
	return buf;
}

static int list_print(const struct cli *cli, const struct change *c, const json_t *reply)
{
	const json_t *rule = json_array_get(json_object_get(reply, "rules"), 0);
	char n[32], total[32], parse[32], store[32], build[32];

	if (cli->output != CLI_TABLE)
		return cli_print(cli, reply);
	printf("%s %s: %s prefixes%s, in %s (read %s, store %s, kernel %s)\n", c->action,
	       cli_str(rule, "text"), cli_number(n, (uint64_t)cli_int(rule, "entries")),
	       json_is_true(json_object_get(reply, "in_force")) ? "" : ", kept for later",
	       milliseconds(total, reply, "total_us"), milliseconds(parse, reply, "parse_us"),
	       milliseconds(store, reply, "store_us"), milliseconds(build, reply, "build_us"));
	return CLI_OK;
}

static void not_in_force(const struct cli *cli, const json_t *reply)
{
	if (cli->output == CLI_TABLE && !json_is_true(json_object_get(reply, "in_force")))
		fputs("towpath: warning: the edge is attached to no device; see 'towpath edge "
		      "attach'\n",
		      stderr);
}

static int list_send(struct cli *cli, const struct change *c, const char *path)
{
	cleanup_(cleanup_free) char *name = list_name(c, path);
	const char *client = getenv("SSH_CONNECTION");
	cleanup_(cleanup_free) char *seconds = cli_printf("%llu", (unsigned long long)c->for_s);
	cleanup_(cleanup_free) char *call =
		cli_path("/v1/edge/lists/%s/%s?for_s=%s&force=%s&client=%s", c->action, name,
			 seconds, c->force ? "1" : "0", client ? client : "");
	cleanup_(cleanup_free) char *text = NULL;
	cleanup_(cleanup_json) json_t *reply = NULL;
	size_t len = 0;
	int ret = file_read(path, &text, &len);

	if (!ret)
		ret = cli_send(cli, "PUT", call, text, len, &reply);
	if (ret)
		return ret;
	not_in_force(cli, reply);
	return list_print(cli, c, reply);
}

static int rules_send(struct cli *cli, const struct change *c)
{
	const char *client = getenv("SSH_CONNECTION");
	cleanup_(cleanup_json) json_t *body =
		json_pack("{s:s, s:O, s:b, s:b, s:I}", "action", c->action, "rules", c->rules,
			  "remove", c->remove, "force", c->force, "for_s", (json_int_t)c->for_s);
	cleanup_(cleanup_json) json_t *reply = NULL;
	const json_t *rule;
	char total[32];
	size_t i;

	if (client)
		json_object_set_new(body, "client", json_string(client));
	int ret = cli_call(cli, "POST", "/v1/edge/rules", body, &reply);
	if (ret)
		return ret;
	if (cli->output != CLI_TABLE)
		return cli_print(cli, reply);
	json_array_foreach(json_object_get(reply, "rules"), i, rule)
		printf("%s %s\n", c->action, cli_str(rule, "text"));
	json_array_foreach(c->rules, i, rule)
		if (c->remove)
			printf("%s %s removed\n", c->action, json_string_value(rule));
	printf("%zu %s in %s\n", json_array_size(c->rules),
	       json_array_size(c->rules) == 1 ? "rule" : "rules",
	       milliseconds(total, reply, "total_us"));
	not_in_force(cli, reply);
	return CLI_OK;
}

static int operand_take(struct cli *cli, struct change *c, const char *operand)
{
	cleanup_(cleanup_free) char *text = NULL;

	if (!strcmp(operand, "-") && !c->name)
		return cli_usage(cli, "a list from standard input needs --name");
	if (!strcmp(operand, "-") || is_file(operand)) {
		if (c->port)
			return cli_usage(cli, "--port goes with prefixes, not with a file");
		if (!c->remove)
			return list_send(cli, c, operand);
		text = list_name(c, operand);
	} else {
		text = cli_printf("%s%s%s", operand, c->port ? " " : "", c->port ? c->port : "");
	}
	json_array_append_new(c->rules, json_string(text));
	return CLI_OK;
}

static int change_run(struct cli *cli, int argc, char **argv, const char *action)
{
	cleanup_(cleanup_json) json_t *rules = json_array();
	struct change c = { .action = action, .rules = rules };
	uint64_t ns;
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		switch (opt) {
		case OPT_FOR:
			if (!cli_parse_duration(cli->value, &ns) || ns < 1000000000u)
				return cli_usage(cli,
						 "--for takes a time of 1s or more, not \"%s\"",
						 cli->value);
			c.for_s = ns / 1000000000u;
			break;
		case OPT_PORT:
			c.port = cli->value;
			break;
		case OPT_NAME:
			c.name = cli->value;
			break;
		case OPT_REMOVE:
			c.remove = true;
			break;
		case OPT_FORCE:
			c.force = true;
			break;
		default:
			return CLI_USAGE;
		}
	}
	if (cli_operands(cli, argc, 1, INT_MAX, &ret))
		return ret;
	for (int i = optind; i < argc; i++) {
		ret = operand_take(cli, &c, argv[i]);
		if (ret)
			return ret;
	}
	return json_array_size(rules) ? rules_send(cli, &c) : CLI_OK;
}

static const struct cli_option options[] = {
	{ OPT_FOR, "for", "TIME", "only so long: 90s, 10m, 2h, 7d" },
	{ OPT_PORT, "port", "PORT", "with a prefix: only there (22/tcp, 1000-2000/udp, icmp)" },
	{ OPT_NAME, "name", "NAME", "what to call the list (default: the file's name)" },
	{ OPT_REMOVE, "remove", NULL, "take the rule or list away again" },
	{ OPT_FORCE, "force", NULL, "also when it locks out who manages this node" },
	{ 0 },
};

static int deny_run(struct cli *cli, int argc, char **argv)
{
	return change_run(cli, argc, argv, "deny");
}

const struct cli_command cmd_edge_deny = {
	.name = "edge deny",
	.usage = "PREFIX|PORT|FORM|FILE... [--for TIME] [--port PORT] [--remove] [--force]",
	.summary = "drop what comes from a prefix or a list, or goes to a port",
	.details =
		"A PORT is 22/tcp, 1000-2000/udp or a protocol (icmp, gre, proto/99). A FORM is "
		"one of\n"
		"malformed, bad-flags (TCP flags that nobody sends), fragments, ip-options and\n"
		"bad-length. A FILE has one prefix, address or range a line; it is put in force as "
		"a\n"
		"whole, and replaces the list of the same name. What is allowed is never denied.\n",
	.options = options,
	.examples = "  towpath edge deny 203.0.113.0/24 2001:db8::/32\n"
		    "  towpath edge deny 203.0.113.7 --for 10m\n"
		    "  towpath edge deny 198.51.100.0/24 --port 22/tcp\n"
		    "  towpath edge deny 11211/udp bad-flags\n"
		    "  towpath edge deny drop.txt\n"
		    "  towpath edge deny drop.txt 203.0.113.0/24 --remove\n",
	.run = deny_run,
};

static int allow_run(struct cli *cli, int argc, char **argv)
{
	return change_run(cli, argc, argv, "allow");
}

const struct cli_command cmd_edge_allow = {
	.name = "edge allow",
	.usage = "PREFIX|PORT|FILE... [--for TIME] [--port PORT] [--remove] [--force]",
	.summary = "let pass what a rule or a list would deny",
	.details = "Allow wins over deny, whatever is the longer prefix.\n",
	.options = options,
	.examples = "  towpath edge allow 192.0.2.0/24\n"
		    "  towpath edge allow 192.0.2.0/24 --port 22/tcp\n"
		    "  towpath edge allow partners.txt\n",
	.run = allow_run,
};
