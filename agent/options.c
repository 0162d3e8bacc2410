/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "flow/history.h"
#include "log.h"

#define CONFIG_DEFAULT "/etc/towpath/towpath.conf"
#define GIVEN_MAX 256 /* words of a command line */
#define FLOWS_MIN 1024u
#define FLOWS_MAX (1u << 26)

enum option_id {
	OPT_CONFIG = 256,
	OPT_STATE_DIR,
	OPT_RUN_DIR,
	OPT_OBJECTS_DIR,
	OPT_POD_CIDR,
	OPT_UPLINK,
	OPT_NO_MASQUERADE,
	OPT_NO_MASQUERADE_TO,
	OPT_OUTSIDE,
	OPT_ATTACH,
	OPT_MAX_FLOWS,
	OPT_FLOW_LOG,
	OPT_FLOW_HISTORY,
	OPT_FLOW_HISTORY_MB,
	OPT_FLOW_EXPORT,
	OPT_FLOW_EXPORT_MB,
	OPT_FLOW_EXPORT_FILES,
	OPT_METRICS,
	OPT_LOG_LEVEL,
	OPT_UNINSTALL,
	OPT_VERSION,
};

static const struct option long_options[] = {
	{ "config", required_argument, NULL, OPT_CONFIG },
	{ "state-dir", required_argument, NULL, OPT_STATE_DIR },
	{ "run-dir", required_argument, NULL, OPT_RUN_DIR },
	{ "objects-dir", required_argument, NULL, OPT_OBJECTS_DIR },
	{ "pod-cidr", required_argument, NULL, OPT_POD_CIDR },
	{ "uplink", required_argument, NULL, OPT_UPLINK },
	{ "no-masquerade", optional_argument, NULL, OPT_NO_MASQUERADE },
	{ "no-masquerade-to", required_argument, NULL, OPT_NO_MASQUERADE_TO },
	{ "outside", required_argument, NULL, OPT_OUTSIDE },
	{ "attach", required_argument, NULL, OPT_ATTACH },
	{ "max-flows", required_argument, NULL, OPT_MAX_FLOWS },
	{ "flow-log", required_argument, NULL, OPT_FLOW_LOG },
	{ "flow-history", required_argument, NULL, OPT_FLOW_HISTORY },
	{ "flow-history-mb", required_argument, NULL, OPT_FLOW_HISTORY_MB },
	{ "flow-export", required_argument, NULL, OPT_FLOW_EXPORT },
	{ "flow-export-mb", required_argument, NULL, OPT_FLOW_EXPORT_MB },
	{ "flow-export-files", required_argument, NULL, OPT_FLOW_EXPORT_FILES },
	{ "metrics", required_argument, NULL, OPT_METRICS },
	{ "log-level", required_argument, NULL, OPT_LOG_LEVEL },
	{ "uninstall", no_argument, NULL, OPT_UNINSTALL },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, OPT_VERSION },
	{},
};

static const char help[] =
	"towpathd [OPTION]...\n"
	"The agent of this node: the network namespace that it is started in. It gives containers\n"
	"their network, keeps Kubernetes NetworkPolicy in force, and runs until SIGTERM. What is\n"
	"in the kernel goes on without it.\n"
	"\n"
	"  --config FILE           these options as lines 'option = value'; what is given on the\n"
	"                          command line counts instead [/etc/towpath/towpath.conf]\n"
	"  --state-dir DIR         what must survive a restart [/var/lib/towpath]\n"
	"  --run-dir DIR           socket and bpffs [/run/towpath]\n"
	"  --objects-dir DIR       objects in YAML or JSON, applied at start "
	"[/etc/towpath/objects]\n"
	"  --pod-cidr CIDR         pool of container addresses; repeatable\n"
	"                          [10.88.0.0/16 and fd00:10:88::/64]\n"
	"  --uplink IF             interface to the outside; repeatable [those with a default "
	"route]\n"
	"  --no-masquerade[=4|6]   containers keep their address on the way out\n"
	"  --no-masquerade-to CIDR ... to these destinations; repeatable\n"
	"  --outside direct|stack  who routes to the outside: the data path or the host [direct]\n"
	"  --attach auto|clsact    how programs are attached: tcx where there is one [auto]\n"
	"  --max-flows N           connections of each family [from the machine's memory]\n"
	"  --flow-log N            entries of the flow log kept in memory [16384]\n"
	"  --flow-history N        entries kept on disk, 0: none [100000]\n"
	"  --flow-history-mb N     ... in at most so many megabytes [64]\n"
	"  --flow-export FILE      append all flows to FILE as JSON lines [off]\n"
	"  --flow-export-mb N      begin FILE anew at so many megabytes [100]\n"
	"  --flow-export-files N   older ones kept: FILE.1, FILE.2, ... [5]\n"
	"  --metrics [ADDR:]PORT   Prometheus reads http://ADDR:PORT/metrics [off; ADDR "
	"127.0.0.1]\n"
	"  --log-level LEVEL       error, warn, info or debug [info]\n"
	"  --uninstall             take everything out of the kernel, and exit\n"
	"  --help, --version\n"
	"\n"
	"Examples:\n"
	"  towpathd\n"
	"  towpathd --pod-cidr 10.7.0.0/16 --pod-cidr fd07::/64 --uplink eth1\n"
	"  towpathd --run-dir /tmp/a/run --state-dir /tmp/a/state     a node for a test\n";

/* Where an option was read, for what is said about it. */
struct place {
	const char *file; /* NULL: the command line */
	unsigned int line, column;
};

/* Says that an option is wrong; `name` with its dashes, which a file does not have. */
static int refuse(const struct place *at, const char *name, const char *what, const char *value)
{
	if (at->file)
		fprintf(stderr, "towpathd: %s:%u:%u: %s %s, not '%s'\n", at->file, at->line,
			at->column, name + 2, what, value);
	else
		fprintf(stderr, "towpathd: %s %s, not '%s'; see towpathd --help\n", name, what,
			value);
	return 2;
}

static int usage(const char *format, const char *what, const char *value)
{
	fprintf(stderr, "towpathd: ");
	fprintf(stderr, format, what, value);
	fprintf(stderr, "; see towpathd --help\n");
	return 2;
}

static int set_number(const struct place *at, const char *name, const char *text, uint32_t min,
		      uint32_t max, uint32_t *out)
{
	char *end;

	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || value < min || value > max) {
		char range[64];

		snprintf(range, sizeof(range), "must be a number from %u to %u", min, max);
		return refuse(at, name, range, text);
	}
	*out = (uint32_t)value;
	return -1;
}

static int add_prefix(const struct place *at, const char *name, const char *text,
		      struct prefix *list, size_t *n)
{
	if (*n == OPTIONS_MAX)
		return refuse(at, name, "may be given 16 times", text);
	if (prefix_parse(text, &list[*n]))
		return refuse(at, name, "must be a CIDR like 10.7.0.0/16", text);
	(*n)++;
	return -1;
}

static int set_masquerade(struct agent_options *opts, const struct place *at, const char *family)
{
	if (family && strcmp(family, "4") && strcmp(family, "6"))
		return refuse(at, "--no-masquerade", "takes 4 or 6", family);
	if (!family || *family == '4')
		opts->masquerade4 = false;
	if (!family || *family == '6')
		opts->masquerade6 = false;
	return -1;
}

/* One of two words; the second one sets *flag. */
static int set_choice(const struct place *at, const char *name, const char *text,
		      const char *const words[2], bool *flag)
{
	char choice[64];

	for (int i = 0; i < 2; i++) {
		if (!strcmp(text, words[i])) {
			*flag = i;
			return -1;
		}
	}
	snprintf(choice, sizeof(choice), "must be %s or %s", words[0], words[1]);
	return refuse(at, name, choice, text);
}

/* PORT, ADDR:PORT or [ADDR]:PORT. */
static int set_listen(struct agent_options *opts, const struct place *at, const char *text)
{
	struct sockaddr_in *in4 = (struct sockaddr_in *)&opts->metrics;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&opts->metrics;
	const char *colon = strrchr(text, ':'), *port = colon ? colon + 1 : text;
	char addr[64] = "127.0.0.1", *end;
	bool v6 = *text == '[';
	size_t len = colon ? (size_t)(colon - text) : 0;

	errno = 0;
	unsigned long number = strtoul(port, &end, 10);
	bool good = !errno && end != port && !*end && *port >= '0' && *port <= '9' && number &&
		    number <= UINT16_MAX && len < sizeof(addr);
	if (good && colon) {
		good = len > (v6 ? 2u : 0u) && (!v6 || text[len - 1] == ']');
		snprintf(addr, sizeof(addr), "%.*s", (int)(v6 ? len - 2 : len), text + v6);
	}
	opts->metrics = (struct sockaddr_storage){ .ss_family = v6 ? AF_INET6 : AF_INET };
	if (!good || inet_pton(v6 ? AF_INET6 : AF_INET, addr,
			       v6 ? (void *)&in6->sin6_addr : (void *)&in4->sin_addr) != 1)
		return refuse(at, "--metrics", "must be a port, like 9977 or 192.0.2.1:9977", text);
	if (v6)
		in6->sin6_port = htons((uint16_t)number);
	else
		in4->sin_port = htons((uint16_t)number);
	opts->metrics_len = v6 ? sizeof(*in6) : sizeof(*in4);
	opts->metrics_text = text;
	return -1;
}

static int option_set(struct agent_options *opts, const struct place *at, int id, const char *arg)
{
	static const char *const outside[2] = { "direct", "stack" };
	static const char *const attach[2] = { "auto", "clsact" };

	switch (id) {
	case OPT_STATE_DIR:
		opts->state_dir = arg;
		return -1;
	case OPT_RUN_DIR:
		opts->run_dir = arg;
		return -1;
	case OPT_OBJECTS_DIR:
		opts->objects_dir = arg;
		opts->objects_dir_given = true;
		return -1;
	case OPT_POD_CIDR:
		return add_prefix(at, "--pod-cidr", arg, opts->pod_cidrs, &opts->n_pod_cidrs);
	case OPT_UPLINK:
		if (opts->n_uplinks == OPTIONS_MAX)
			return refuse(at, "--uplink", "may be given 16 times", arg);
		opts->uplinks[opts->n_uplinks++] = arg;
		return -1;
	case OPT_NO_MASQUERADE:
		return set_masquerade(opts, at, arg);
	case OPT_NO_MASQUERADE_TO:
		return add_prefix(at, "--no-masquerade-to", arg, opts->nomasq, &opts->n_nomasq);
	case OPT_OUTSIDE:
		return set_choice(at, "--outside", arg, outside, &opts->outside_stack);
	case OPT_ATTACH:
		return set_choice(at, "--attach", arg, attach, &opts->force_clsact);
	case OPT_MAX_FLOWS:
		return set_number(at, "--max-flows", arg, FLOWS_MIN, FLOWS_MAX, &opts->max_flows);
	case OPT_FLOW_LOG:
		return set_number(at, "--flow-log", arg, 1, 1u << 24, &opts->flow_log);
	case OPT_FLOW_HISTORY:
		return set_number(at, "--flow-history", arg, 0, 1u << 27, &opts->flow_history);
	case OPT_FLOW_EXPORT:
		opts->flow_export = arg;
		return -1;
	case OPT_FLOW_EXPORT_MB:
		return set_number(at, "--flow-export-mb", arg, 1, 1u << 20, &opts->flow_export_mb);
	case OPT_FLOW_EXPORT_FILES:
		return set_number(at, "--flow-export-files", arg, 0, 1000,
				  &opts->flow_export_files);
	case OPT_FLOW_HISTORY_MB:
		return set_number(at, "--flow-history-mb", arg, 4, 1u << 20,
				  &opts->flow_history_mb);
	case OPT_METRICS:
		return set_listen(opts, at, arg);
	case OPT_LOG_LEVEL:
		if (log_level_set(arg))
			return refuse(at, "--log-level", "must be error, warn, info or debug", arg);
		return -1;
	case OPT_UNINSTALL:
		opts->uninstall = true;
		return -1;
	case 'h':
		fputs(help, stdout);
		return 0;
	case OPT_VERSION:
		puts("towpathd " TOWPATH_VERSION);
		return 0;
	default:
		return -1;
	}
}

/* ---- the file --------------------------------------------------------------------------------- */

/* What the command line gives, in its order. */
struct given {
	struct word {
		int id;
		const char *arg;
	} v[GIVEN_MAX];
	size_t n;
};

static bool is_given(const struct given *given, int id)
{
	for (size_t i = 0; i < given->n; i++)
		if (given->v[i].id == id)
			return true;
	return false;
}

static int config_option(struct agent_options *opts, const struct given *given, const char *path,
			 const struct config_line *line)
{
	struct place at = { path, line->line, line->key_column };
	const struct option *o = long_options;

	while (o->name && strcmp(o->name, line->key))
		o++;
	if (!o->name || o->val == OPT_CONFIG || o->val == OPT_UNINSTALL || o->val == OPT_VERSION ||
	    o->val == 'h') {
		fprintf(stderr, "towpathd: %s:%u:%u: there is no option '%s' in a configuration\n",
			path, at.line, at.column, line->key);
		return 2;
	}
	if (!line->value && o->has_arg == required_argument) {
		fprintf(stderr, "towpathd: %s:%u:%u: %s needs a value\n", path, at.line, at.column,
			line->key);
		return 2;
	}
	at.column = line->value ? line->value_column : line->key_column;
	return is_given(given, o->val) ? -1 : option_set(opts, &at, o->val, line->value);
}

/* Options of the file, but for those that the command line gives. */
static int config_apply(struct agent_options *opts, const struct given *given, const char *path)
{
	char why[512];
	int status = -1;

	if (config_read(path, &opts->config, why, sizeof(why))) {
		fprintf(stderr, "towpathd: %s\n", why);
		return 2;
	}
	for (size_t i = 0; i < opts->config.n && status < 0; i++)
		status = config_option(opts, given, path, &opts->config.lines[i]);
	return status;
}

/* ---- the command line --------------------------------------------------------------------------- */

static int given_read(struct given *given, int argc, char **argv)
{
	int id;

	opterr = 0;
	while ((id = getopt_long(argc, argv, ":h", long_options, NULL)) != -1) {
		if (id == '?')
			return usage("%s option '%s'", "there is no", argv[optind - 1]);
		if (id == ':')
			return usage("%s needs a value%s", argv[optind - 1], "");
		if (given->n == GIVEN_MAX)
			return usage("%s options, at '%s'", "too many", argv[optind - 1]);
		given->v[given->n++] = (struct word){ id, optarg };
	}
	if (optind < argc)
		return usage("%s takes no arguments, but got '%s'", "towpathd", argv[optind]);
	return -1;
}

int options_parse(struct agent_options *opts, int argc, char **argv)
{
	static struct given given;
	const char *path = NULL;
	int status = given_read(&given, argc, argv);

	*opts = (struct agent_options){
		.state_dir = "/var/lib/towpath",
		.run_dir = "/run/towpath",
		.objects_dir = "/etc/towpath/objects",
		.masquerade4 = true,
		.masquerade6 = true,
		.flow_log = FLOW_LOG_DEFAULT,
		.flow_history = FLOW_HISTORY_DEFAULT,
		.flow_history_mb = FLOW_HISTORY_MB_DEFAULT,
		.flow_export_mb = 100,
		.flow_export_files = 5,
	};
	for (size_t i = 0; i < given.n && status < 0; i++) {
		if (given.v[i].id == OPT_CONFIG)
			path = given.v[i].arg;
		else
			status = option_set(opts, &(struct place){}, given.v[i].id, given.v[i].arg);
	}
	if (status < 0 && (path || !access(CONFIG_DEFAULT, F_OK)))
		status = config_apply(opts, &given, path ?: CONFIG_DEFAULT);
	if (status >= 0)
		return status;
	if (!opts->n_pod_cidrs) {
		prefix_parse("10.88.0.0/16", &opts->pod_cidrs[opts->n_pod_cidrs++]);
		prefix_parse("fd00:10:88::/64", &opts->pod_cidrs[opts->n_pod_cidrs++]);
	}
	return -1;
}
