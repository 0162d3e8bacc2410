/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flow/flow.h"
#include "log.h"

#define FLOWS_MIN 1024u
#define FLOWS_MAX (1u << 26)

enum option_id {
	OPT_STATE_DIR = 256,
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
	OPT_LOG_LEVEL,
	OPT_UNINSTALL,
	OPT_VERSION,
};

static const struct option long_options[] = {
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
	"  --flow-log N            entries kept in the flow log [16384]\n"
	"  --log-level LEVEL       error, warn, info or debug [info]\n"
	"  --uninstall             take everything out of the kernel, and exit\n"
	"  --help, --version\n"
	"\n"
	"Examples:\n"
	"  towpathd\n"
	"  towpathd --pod-cidr 10.7.0.0/16 --pod-cidr fd07::/64 --uplink eth1\n"
	"  towpathd --run-dir /tmp/a/run --state-dir /tmp/a/state     a node for a test\n";

static int usage(const char *format, const char *what, const char *value)
{
	fprintf(stderr, "towpathd: ");
	fprintf(stderr, format, what, value);
	fprintf(stderr, "; see towpathd --help\n");
	return 2;
}

static int set_number(const char *name, const char *text, uint32_t min, uint32_t max, uint32_t *out)
{
	char *end;

	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || value < min || value > max) {
		char range[64];

		snprintf(range, sizeof(range), "a number from %u to %u", min, max);
		fprintf(stderr, "towpathd: %s must be %s, not '%s'; see towpathd --help\n", name,
			range, text);
		return 2;
	}
	*out = (uint32_t)value;
	return -1;
}

static int add_prefix(const char *name, const char *text, struct prefix *list, size_t *n)
{
	if (*n == OPTIONS_MAX)
		return usage("too many %s, at '%s'", name, text);
	if (prefix_parse(text, &list[*n]))
		return usage("%s must be a CIDR like 10.7.0.0/16, not '%s'", name, text);
	(*n)++;
	return -1;
}

static int set_masquerade(struct agent_options *opts, const char *family)
{
	if (family && strcmp(family, "4") && strcmp(family, "6"))
		return usage("%s takes 4 or 6, not '%s'", "--no-masquerade", family);
	if (!family || *family == '4')
		opts->masquerade4 = false;
	if (!family || *family == '6')
		opts->masquerade6 = false;
	return -1;
}

/* One of two words; the second one sets *flag. */
static int set_choice(const char *name, const char *text, const char *const words[2], bool *flag)
{
	for (int i = 0; i < 2; i++) {
		if (!strcmp(text, words[i])) {
			*flag = i;
			return -1;
		}
	}
	fprintf(stderr, "towpathd: %s must be %s or %s, not '%s'; see towpathd --help\n", name,
		words[0], words[1], text);
	return 2;
}

static int option_set(struct agent_options *opts, int id, const char *arg)
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
		return add_prefix("--pod-cidr", arg, opts->pod_cidrs, &opts->n_pod_cidrs);
	case OPT_UPLINK:
		if (opts->n_uplinks == OPTIONS_MAX)
			return usage("too many %s, at '%s'", "--uplink", arg);
		opts->uplinks[opts->n_uplinks++] = arg;
		return -1;
	case OPT_NO_MASQUERADE:
		return set_masquerade(opts, arg);
	case OPT_NO_MASQUERADE_TO:
		return add_prefix("--no-masquerade-to", arg, opts->nomasq, &opts->n_nomasq);
	case OPT_OUTSIDE:
		return set_choice("--outside", arg, outside, &opts->outside_stack);
	case OPT_ATTACH:
		return set_choice("--attach", arg, attach, &opts->force_clsact);
	case OPT_MAX_FLOWS:
		return set_number("--max-flows", arg, FLOWS_MIN, FLOWS_MAX, &opts->max_flows);
	case OPT_FLOW_LOG:
		return set_number("--flow-log", arg, 1, 1u << 24, &opts->flow_log);
	case OPT_LOG_LEVEL:
		if (log_level_set(arg))
			return usage("%s must be error, warn, info or debug, not '%s'",
				     "--log-level", arg);
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

int options_parse(struct agent_options *opts, int argc, char **argv)
{
	int id;

	*opts = (struct agent_options){
		.state_dir = "/var/lib/towpath",
		.run_dir = "/run/towpath",
		.objects_dir = "/etc/towpath/objects",
		.masquerade4 = true,
		.masquerade6 = true,
		.flow_log = FLOW_LOG_DEFAULT,
	};
	opterr = 0;
	while ((id = getopt_long(argc, argv, ":h", long_options, NULL)) != -1) {
		if (id == '?')
			return usage("%s option '%s'", "there is no", argv[optind - 1]);
		if (id == ':')
			return usage("%s needs a value%s", argv[optind - 1], "");
		int status = option_set(opts, id, optarg);

		if (status >= 0)
			return status;
	}
	if (optind < argc)
		return usage("%s takes no arguments, but got '%s'", "towpathd", argv[optind]);
	if (!opts->n_pod_cidrs) {
		prefix_parse("10.88.0.0/16", &opts->pod_cidrs[opts->n_pod_cidrs++]);
		prefix_parse("fd00:10:88::/64", &opts->pod_cidrs[opts->n_pod_cidrs++]);
	}
	return -1;
}
