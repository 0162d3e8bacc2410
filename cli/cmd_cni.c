/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* cni: makes container runtimes of this host use Towpath, and undoes it. */
#include "cli.h"
#include "cni_files.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <towpath/attachment.h>
#include <unistd.h>

#define PLUGIN "towpath-cni"
#define BIN_DIR "/opt/cni/bin"
#define CONF_DIR "/etc/cni/net.d"
/* What podman 4 and containerd 1.6 read; newer runtimes choose from cniVersions. */
#define CNI_VERSION_OLD_RUNTIMES "1.0.0"
#define CNI_VERSION_STATUS "1.1.0"

enum {
	OPT_BIN_DIR = CLI_LONG,
	OPT_CONF_DIR,
	OPT_NAME,
	OPT_ORDER,
	OPT_MTU,
	OPT_SUBNET,
	OPT_DNS,
	OPT_CHAIN,
	OPT_STATE_DIR,
	OPT_WAIT,
	OPT_DRY_RUN,
	OPT_FORCE
};

struct cni_install {
	const char *bin_dir, *conf_dir, *name, *ns, *state_dir;
	long order, wait_s, mtu;
	bool dry_run, force;
	json_t *labels, *subnets, *dns, *chain;
};

/* ---- the network configuration --------------------------------------------------------------- */

static bool list_has(const json_t *list, const char *word)
{
	size_t i;
	json_t *item;

	json_array_foreach(list, i, item) {
		if (!strcmp(json_string_value(item), word))
			return true;
	}
	return false;
}

/* Leaves in *versions those that the plugin knows too. CLI_OK or CLI_REFUSED. */
static int versions_of(const char *plugin, json_t **versions)
{
	cleanup_(cleanup_json) json_t *conf =
		json_pack("{s:s}", "cniVersion", CNI_VERSION_OLD_RUNTIMES);
	cleanup_(cleanup_json) json_t *reply = NULL;
	cleanup_(cleanup_free) char *error = NULL;
	char *const vars[] = { "CNI_COMMAND=VERSION", NULL };
	json_t *common;
	size_t i;
	json_t *version;

	if (cli_plugin_call(plugin, vars, conf, &reply, &error))
		return cli_refuse("%s does not say which CNI versions it knows: %s", plugin, error);
	common = json_array();
	json_array_foreach(json_object_get(reply, "supportedVersions"), i, version) {
		if (json_is_string(version) &&
		    (!*versions || list_has(*versions, json_string_value(version))))
			json_array_append(common, version);
	}
	json_decref(*versions);
	*versions = common;
	if (json_array_size(common))
		return CLI_OK;
	return cli_refuse("%s knows no CNI version that " PLUGIN " and the others know", plugin);
}

/* What all plugins of the chain know: the runtime may choose any of these. */
static int versions_find(const struct cni_install *in, const char *plugin, json_t **versions)
{
	int ret = versions_of(plugin, versions);
	size_t i;
	json_t *type;

	json_array_foreach(in->chain, i, type) {
		cleanup_(cleanup_free) char *path =
			cli_printf("%s/%s", in->bin_dir, json_string_value(type));

		if (ret)
			break;
		if (access(path, X_OK))
			return cli_refuse("there is no plugin %s: put it there, or name the folder "
					  "of the CNI plugins with --bin-dir",
					  path);
		ret = versions_of(path, versions);
	}
	return ret;
}

/* An element of the chain, with the capabilities that make the plugin of any use. */
static json_t *chained(const char *type)
{
	const char *capability = !strcmp(type, "portmap")     ? "portMappings"
				 : !strcmp(type, "bandwidth") ? "bandwidth"
							      : NULL;

	return capability ? json_pack("{s:s, s:{s:b}}", "type", type, "capabilities", capability, 1)
			  : json_pack("{s:s}", "type", type);
}

/* The runtime reads it in a folder of its own. */
static json_t *path_absolute(const char *path)
{
	cleanup_(cleanup_free) char *absolute = realpath(path, NULL);

	return json_string(absolute ? absolute : path);
}

static json_t *own_element(const struct cli *cli, const struct cni_install *in)
{
	const char *socket = cli->socket ? cli->socket : getenv("TOWPATH_SOCKET");
	json_t *conf = json_pack("{s:s, s:{s:b, s:b}}", "type", PLUGIN, "capabilities", "ips", 1,
				 "mac", 1);

	if (socket && *socket && strcmp(socket, TW_SOCKET_DEFAULT))
		json_object_set_new(conf, "socket", path_absolute(socket));
	if (in->state_dir)
		json_object_set_new(conf, "stateDir", path_absolute(in->state_dir));
	if (in->mtu)
		json_object_set_new(conf, "mtu", json_integer(in->mtu));
	if (json_array_size(in->subnets))
		json_object_set(conf, "subnets", in->subnets);
	if (in->ns)
		json_object_set_new(conf, "namespace", json_string(in->ns));
	if (json_object_size(in->labels))
		json_object_set(conf, "labels", in->labels);
	if (json_array_size(in->dns))
		json_object_set_new(conf, "dns", json_pack("{s:O}", "nameservers", in->dns));
	return conf;
}

static json_t *network_build(const struct cli *cli, const struct cni_install *in,
			     const json_t *versions)
{
	const char *newest =
		json_string_value(json_array_get(versions, json_array_size(versions) - 1));
	const char *version =
		list_has(versions, CNI_VERSION_OLD_RUNTIMES) ? CNI_VERSION_OLD_RUNTIMES : newest;
	json_t *plugins = json_array();
	size_t i;
	json_t *type;

	json_array_append_new(plugins, own_element(cli, in));
	json_array_foreach(in->chain, i, type)
		json_array_append_new(plugins, chained(json_string_value(type)));
	return json_pack("{s:s, s:O, s:s, s:o}", "cniVersion", version, "cniVersions", versions,
			 "name", in->name, "plugins", plugins);
}

/* ---- install --------------------------------------------------------------------------------- */

/* A runtime that finds the network may use it at once: so only when an ADD can be served. */
static int agent_wait(const struct cli *cli, const struct cni_install *in, const char *plugin)
{
	cleanup_(cleanup_json) json_t *conf = own_element(cli, in);
	char *const vars[] = { "CNI_COMMAND=STATUS", NULL };
	struct timespec pause = { .tv_nsec = 100000000 };
	struct timespec now, end;

	json_object_set_new(conf, "cniVersion", json_string(CNI_VERSION_STATUS));
	json_object_set_new(conf, "name", json_string(in->name));
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += in->wait_s;
	for (;;) {
		cleanup_(cleanup_json) json_t *reply = NULL;
		cleanup_(cleanup_free) char *error = NULL;

		if (!cli_plugin_call(plugin, vars, conf, &reply, &error))
			return CLI_OK;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec >= end.tv_sec)
			return cli_refuse("nothing was installed, because the agent cannot serve "
					  "containers: %s",
					  error);
		nanosleep(&pause, NULL);
	}
}

/* Whether a network of that name, or that file, is somebody else's. */
static int conflicts_check(const struct cni_install *in, const json_t *networks, const char *file)
{
	size_t i;
	json_t *other;

	json_array_foreach(networks, i, other) {
		bool same_file = !strcmp(cli_str(other, "file"), file);

		if (json_is_true(json_object_get(other, "ours")))
			continue;
		if (same_file || !strcmp(cli_str(other, "network"), in->name))
			return cli_refuse("%s/%s is no network of Towpath: remove it, or choose "
					  "another --name",
					  in->conf_dir, cli_str(other, "file"));
	}
	return CLI_OK;
}

/* One file a network: the network under another --order goes. */
static int older_remove(const struct cni_install *in, const json_t *networks, const char *file)
{
	size_t i;
	json_t *other;

	json_array_foreach(networks, i, other) {
		cleanup_(cleanup_free) char *path =
			cli_printf("%s/%s", in->conf_dir, cli_str(other, "file"));

		if (strcmp(cli_str(other, "network"), in->name) ||
		    !strcmp(cli_str(other, "file"), file))
			continue;
		if (unlink(path) && errno != ENOENT)
			return cli_refuse("cannot remove %s: %m", path);
	}
	return CLI_OK;
}

/* containerd, CRI-O and the kubelet's runtimes take the first network that they find. */
static int first_tell(const struct cli *cli, const struct cni_install *in, const char *file)
{
	cleanup_(cleanup_json) json_t *networks = NULL, *done = NULL;
	const char *first;
	int ret = networks_read(in->conf_dir, &networks);

	if (ret)
		return cli_refuse("cannot read %s: %s", in->conf_dir, strerror(-ret));
	first = cli_str(json_array_get(networks, 0), "file");
	if (cli->output != CLI_TABLE) {
		done = json_pack("{s:o, s:o, s:b}", "plugin",
				 json_sprintf("%s/" PLUGIN, in->bin_dir), "network",
				 json_sprintf("%s/%s", in->conf_dir, file), "default",
				 !strcmp(first, file));
		return cli_print(cli, done);
	}
	printf("plugin   %s/" PLUGIN "\nnetwork  %s/%s\n", in->bin_dir, in->conf_dir, file);
	if (strcmp(first, file))
		printf("Not the default: containerd and Kubernetes use %s/%s, which sorts first; "
		       "remove it, or choose a lower --order.\n",
		       in->conf_dir, first);
	return CLI_OK;
}

static int files_put(const struct cni_install *in, const char *plugin, const json_t *conf,
		     const char *file)
{
	cleanup_(cleanup_free) char *json = json_dumps(conf, JSON_INDENT(2));
	cleanup_(cleanup_free) char *text = cli_printf("%s\n", json);
	int ret = file_install(plugin, in->bin_dir, PLUGIN, 0755);

	if (ret)
		return cli_refuse("cannot write %s/" PLUGIN ": %s", in->bin_dir, strerror(-ret));
	/* Last: with it runtimes begin. */
	ret = file_replace(in->conf_dir, file, 0644, text, strlen(text));
	if (ret)
		return cli_refuse("cannot write %s/%s: %s", in->conf_dir, file, strerror(-ret));
	return CLI_OK;
}

static int install(const struct cli *cli, const struct cni_install *in)
{
	cleanup_(cleanup_free) char *plugin = cli_plugin_find();
	cleanup_(cleanup_free) char *file = cli_printf("%02ld-%s.conflist", in->order, in->name);
	cleanup_(cleanup_json) json_t *networks = NULL, *versions = NULL, *conf = NULL;
	int ret;

	if (!plugin)
		return cli_refuse(PLUGIN " is not where towpath is: install Towpath whole");
	ret = versions_find(in, plugin, &versions);
	if (ret)
		return ret;
	conf = network_build(cli, in, versions);
	if (in->dry_run) {
		json_dumpf(conf, stdout, JSON_INDENT(2));
		putchar('\n');
		return CLI_OK;
	}
	ret = networks_read(in->conf_dir, &networks);
	if (ret)
		return cli_refuse("cannot read %s: %s", in->conf_dir, strerror(-ret));
	ret = conflicts_check(in, networks, file);
	if (!ret)
		ret = agent_wait(cli, in, plugin);
	if (!ret)
		ret = files_put(in, plugin, conf, file);
	if (!ret)
		ret = older_remove(in, networks, file);
	return ret ? ret : first_tell(cli, in, file);
}

/* ---- uninstall ------------------------------------------------------------------------------- */

/* Containers that the runtime could not take down properly any more. */
static int attached_check(struct cli *cli, const struct cni_install *in)
{
	cleanup_(cleanup_json) json_t *reply = NULL;
	unsigned int n = 0;
	size_t i;
	json_t *item;

	if (in->force || cli_connect(cli) ||
	    tw_client_call(cli->client, "GET", "/v1/endpoints", NULL, &reply) != 200)
		return CLI_OK; /* without an agent nobody knows, and nothing is served anyway */
	json_array_foreach(json_object_get(reply, "items"), i, item)
		n += !strcmp(cli_str(item, "network"), in->name);
	if (!n)
		return CLI_OK;
	return cli_refuse("%u container%s of the network %s %s there: remove %s first, or use "
			  "--force",
			  n, n == 1 ? "" : "s", in->name, n == 1 ? "is" : "are",
			  n == 1 ? "it" : "them");
}

static int uninstall(struct cli *cli, const struct cni_install *in)
{
	cleanup_(cleanup_free) char *plugin = cli_printf("%s/" PLUGIN, in->bin_dir);
	cleanup_(cleanup_json) json_t *networks = NULL;
	unsigned int found = 0, others = 0;
	size_t i;
	json_t *one;
	int ret = networks_read(in->conf_dir, &networks);

	if (ret)
		return cli_refuse("cannot read %s: %s", in->conf_dir, strerror(-ret));
	ret = attached_check(cli, in);
	if (ret)
		return ret;
	json_array_foreach(networks, i, one) {
		cleanup_(cleanup_free) char *path =
			cli_printf("%s/%s", in->conf_dir, cli_str(one, "file"));

		if (!json_is_true(json_object_get(one, "ours")))
			continue;
		if (strcmp(cli_str(one, "network"), in->name)) {
			others++;
			continue;
		}
		found++;
		if (unlink(path) && errno != ENOENT)
			return cli_refuse("cannot remove %s: %m", path);
		printf("%s removed\n", path);
	}
	/* Other networks need the plugin. */
	if (!others && !unlink(plugin))
		printf("%s removed\n", plugin);
	else if (!others && errno != ENOENT)
		return cli_refuse("cannot remove %s: %m", plugin);
	if (!found)
		return cli_refuse("there is no network %s of Towpath in %s", in->name,
				  in->conf_dir);
	return CLI_OK;
}

/* ---- options --------------------------------------------------------------------------------- */

static int take_number(const struct cli *cli, const char *option, long min, long max, long *out)
{
	char *end;
	long value = strtol(cli->value, &end, 10);

	if (end == cli->value || *end || value < min || value > max)
		return cli_usage(cli, "%s takes a number from %ld to %ld, not \"%s\"", option, min,
				 max, cli->value);
	*out = value;
	return CLI_OK;
}

static int take_option(struct cli *cli, struct cni_install *in, int opt)
{
	switch (opt) {
	case OPT_BIN_DIR:
		in->bin_dir = cli->value;
		return CLI_OK;
	case OPT_CONF_DIR:
		in->conf_dir = cli->value;
		return CLI_OK;
	case OPT_NAME:
		in->name = cli->value;
		if (!tw_cni_name_valid(in->name))
			return cli_usage(cli,
					 "\"%s\" is no name of a network: letters, digits, "
					 "'_', '.' and '-', a letter or digit first",
					 in->name);
		return CLI_OK;
	case OPT_STATE_DIR:
		in->state_dir = cli->value;
		return CLI_OK;
	case OPT_ORDER:
		return take_number(cli, "--order", 0, 99, &in->order);
	case OPT_MTU:
		return take_number(cli, "--mtu", 1280, 65535, &in->mtu);
	case OPT_WAIT:
		return take_number(cli, "--wait", 0, 3600, &in->wait_s);
	case OPT_SUBNET:
		json_array_append_new(in->subnets, json_string(cli->value));
		return CLI_OK;
	case OPT_DNS:
		json_array_append_new(in->dns, json_string(cli->value));
		return CLI_OK;
	case OPT_CHAIN:
		if (!tw_cni_name_valid(cli->value))
			return cli_usage(cli, "--chain takes the name of a plugin, not \"%s\"",
					 cli->value);
		json_array_append_new(in->chain, json_string(cli->value));
		return CLI_OK;
	case 'n':
		in->ns = cli->value;
		return CLI_OK;
	case 'l':
		return cli_parse_label(cli->value, in->labels)
			       ? CLI_OK
			       : cli_usage(cli, "-l takes key=value, not \"%s\"", cli->value);
	case OPT_DRY_RUN:
		in->dry_run = true;
		return CLI_OK;
	case OPT_FORCE:
		in->force = true;
		return CLI_OK;
	default:
		return CLI_USAGE;
	}
}

static int cni_dispatch(struct cli *cli, struct cni_install *in, int argc, char **argv)
{
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		ret = take_option(cli, in, opt);
		if (ret)
			return ret;
	}
	if (cli_operands(cli, argc, 1, 1, &ret))
		return ret;
	if (!strcmp(argv[optind], "install"))
		return install(cli, in);
	if (!strcmp(argv[optind], "uninstall"))
		return uninstall(cli, in);
	return cli_usage(cli, "\"%s\" is neither install nor uninstall", argv[optind]);
}

static int cni_run(struct cli *cli, int argc, char **argv)
{
	struct cni_install in = {
		.bin_dir = BIN_DIR,
		.conf_dir = CONF_DIR,
		.name = "towpath",
		.order = 10,
		.wait_s = 30,
		.labels = json_object(),
		.subnets = json_array(),
		.dns = json_array(),
		.chain = json_array(),
	};
	int ret = cni_dispatch(cli, &in, argc, argv);

	json_decref(in.labels);
	json_decref(in.subnets);
	json_decref(in.dns);
	json_decref(in.chain);
	return ret;
}

static const struct cli_option cni_options[] = {
	{ OPT_BIN_DIR, "bin-dir", "DIR",
	  "where the runtime looks for plugins (default " BIN_DIR ")" },
	{ OPT_CONF_DIR, "conf-dir", "DIR", "... and for networks (default " CONF_DIR ")" },
	{ OPT_NAME, "name", "NAME", "of the network (default towpath)" },
	{ OPT_ORDER, "order", "N", "the file is NN-NAME.conflist; the first is used (default 10)" },
	{ OPT_CHAIN, "chain", "PLUGIN",
	  "a plugin that comes after: portmap, bandwidth, tuning ..." },
	{ OPT_SUBNET, "subnet", "CIDR", "addresses of this network (default: the agent's pools)" },
	{ OPT_MTU, "mtu", "N", "of the containers (default: the smallest of the uplinks')" },
	{ OPT_DNS, "dns", "ADDRESS", "a name server for the containers" },
	{ 'n', "namespace", "NS", "of containers whose runtime names none, as podman" },
	{ 'l', "label", "KEY=VALUE", "a label of containers that have no Pod object" },
	{ OPT_STATE_DIR, "state-dir", "DIR", "of the agent (default /var/lib/towpath)" },
	{ OPT_WAIT, "wait", "SECONDS", "for the agent to be ready (default 30)" },
	{ OPT_DRY_RUN, "dry-run", NULL, "print the network configuration, and write nothing" },
	{ OPT_FORCE, "force", NULL, "uninstall: also while containers are attached" },
	{ 0 },
};

static const char *const actions[] = { "install", "uninstall", NULL };

const struct cli_command cmd_cni = {
	.name = "cni",
	.words = actions,
	.usage = "install|uninstall [OPTION]...",
	.summary = "make container runtimes of this host use Towpath",
	.details =
		"install puts towpath-cni where runtimes look for plugins, and a network\n"
		"configuration where they look for networks. Nothing is written before the agent\n"
		"can serve containers. Each file is written aside and renamed, so it may be done\n"
		"again at any time, also while containers start. --chain, --subnet, --dns and -l\n"
		"can be given several times. uninstall takes the network away, and the plugin\n"
		"with the last of them.\n",
	.options = cni_options,
	.examples = "  sudo towpath cni install\n"
		    "  sudo towpath cni install --bin-dir /usr/lib/cni --chain portmap\n"
		    "  sudo towpath cni install --name blue --order 20 --subnet 10.7.0.0/16\n"
		    "  sudo towpath cni uninstall\n",
	.run = cni_run,
};
