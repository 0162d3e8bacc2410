/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* features: what this kernel offers, what of it Towpath uses, and what a newer one would bring. */
#include "feature_list.h"

#include <bpf/libbpf.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "kernel_since.h"

enum { OPT_ALL = CLI_LONG, OPT_GAIN };

/* What of --all is a list of features. */
static const struct {
	const char *key, *head, *kind;
	json_t *(*find)(const struct features *f);
} lists[] = {
	{ "programs", "PROGRAM TYPE", "program type", features_programs },
	{ "attach", "PLACE", "place", features_attach },
	{ "maps", "MAP TYPE", "map type", features_maps },
	{ "helpers", "HELPER", "helper", features_helpers },
	{ "kfuncs", "KERNEL FUNCTION", "kernel function", features_kfuncs },
};

#define LISTS (sizeof(lists) / sizeof(*lists))

static const char *here_color(const json_t *item)
{
	const char *here = cli_str(item, "here");

	if (!strcmp(here, "yes"))
		return CLI_GREEN;
	return json_is_true(json_object_get(item, "required")) ? CLI_RED : CLI_YELLOW;
}

static const char *since_text(const json_t *item)
{
	return json_object_get(item, "since") ? cli_str(item, "since") : "-";
}

static void towpath_print(const struct cli *cli, const json_t *items)
{
	static const char *const heads[] = {
		"FEATURE", "HERE", "SINCE", "FOR", "WITHOUT IT", NULL
	};
	struct cli_table *t = cli_table_new(cli, heads);
	json_t *f;
	size_t i;

	json_array_foreach(items, i, f) {
		bool required = json_is_true(json_object_get(f, "required"));

		cli_table_cell(t, NULL, "%s", cli_str(f, "name"));
		cli_table_cell(t, here_color(f), "%s", cli_str(f, "here"));
		cli_table_cell(t, NULL, "%s", since_text(f));
		cli_table_cell(t, NULL, "%s", cli_str(f, "use"));
		cli_table_cell(t, NULL, "%s", required ? "nothing works" : cli_str(f, "without"));
	}
	cli_table_print(t);
}

static void devices_print(const struct cli *cli, const json_t *items)
{
	static const char *const heads[] = { "DEVICE", "DRIVER", "XDP", "PROGRAM", NULL };
	struct cli_table *t = cli_table_new(cli, heads);
	json_t *d;
	size_t i;

	json_array_foreach(items, i, d) {
		cleanup_(cleanup_free) char *xdp = cli_join(json_object_get(d, "xdp"));

		cli_table_cell(t, NULL, "%s", cli_str(d, "name"));
		cli_table_cell(t, NULL, "%s", *cli_str(d, "driver") ? cli_str(d, "driver") : "-");
		cli_table_cell(t, *xdp ? NULL : CLI_DIM, "%s", *xdp ? xdp : "generic only");
		if (cli_int(d, "program"))
			cli_table_cell(t, NULL, "%lld (%s)", (long long)cli_int(d, "program"),
				       cli_str(d, "mode"));
		else
			cli_table_cell(t, NULL, "-");
	}
	cli_table_print(t);
}

/* Where it may be used, or what it is for; and whether Towpath does. */
static void list_print(const struct cli *cli, const char *head, const json_t *items)
{
	const char *const heads[] = { head, "HERE", "SINCE", "USED", "WHERE, WHAT FOR", NULL };
	struct cli_table *t = cli_table_new(cli, heads);
	size_t i, most = 0;
	json_t *f;

	json_array_foreach(items, i, f) {
		size_t n = json_array_size(json_object_get(f, "types"));

		most = n > most ? n : most;
	}
	json_array_foreach(items, i, f) {
		const json_t *list = json_object_get(f, "types");
		cleanup_(cleanup_free) char *types =
			most && json_array_size(list) == most ? cli_printf("all") : cli_join(list);

		cli_table_cell(t, NULL, "%s", cli_str(f, "name"));
		cli_table_cell(t, here_color(f), "%s", cli_str(f, "here"));
		cli_table_cell(t, NULL, "%s", since_text(f));
		cli_table_cell(t, NULL, "%s",
			       json_is_true(json_object_get(f, "used")) ? "towpath" : "");
		cli_table_cell(t, NULL, "%s", *types ? types : cli_str(f, "use"));
	}
	cli_table_print(t);
}

static int features_print(const struct cli *cli, const json_t *all)
{
	bool ok = json_is_true(json_object_get(all, "usable"));

	towpath_print(cli, json_object_get(all, "features"));
	putchar('\n');
	devices_print(cli, json_object_get(all, "devices"));
	for (size_t i = 0; i < LISTS; i++) {
		if (!json_object_get(all, lists[i].key))
			continue;
		putchar('\n');
		list_print(cli, lists[i].head, json_object_get(all, lists[i].key));
	}
	printf("\nLinux %s: %s\n", cli_str(all, "kernel"),
	       ok ? "the data path runs here" : "the data path cannot run here");
	return CLI_OK;
}

/* ---- what a newer kernel would bring ---------------------------------------------------------- */

static bool version_parse(const char *text, unsigned int *out)
{
	unsigned int major, minor;
	int end = 0;

	if (sscanf(text, "%3u.%3u%n", &major, &minor, &end) != 2 || !end || minor > 255)
		return false;
	*out = KERNEL(major, minor);
	return true;
}

/* Of one list: what is not here, and would be in `version`. */
static void gain_collect(json_t *gain, const char *kind, const json_t *items, unsigned int version,
			 unsigned int running)
{
	json_t *f;
	size_t i;

	json_array_foreach(items, i, f) {
		unsigned int since = 0;
		json_t *item;

		if (strcmp(cli_str(f, "here"), "no") ||
		    !version_parse(cli_str(f, "since"), &since) || since > version)
			continue;
		item = json_pack("{s:s, s:s, s:s, s:b}", "name", cli_str(f, "name"), "kind", kind,
				 "since", cli_str(f, "since"), "left_out", since <= running);
		if (json_object_get(f, "use"))
			json_object_set(item, "use", json_object_get(f, "use"));
		json_array_append_new(gain, item);
	}
}

static int gain_print(const struct cli *cli, const json_t *all)
{
	static const char *const heads[] = { "FEATURE", "KIND", "SINCE", "FOR", NULL };
	const json_t *gain = json_object_get(all, "gain");
	const char *version = cli_str(all, "version");
	struct cli_table *t = cli_table_new(cli, heads);
	size_t i, left_out = 0;
	json_t *f;

	json_array_foreach(gain, i, f) {
		if (json_is_true(json_object_get(f, "left_out"))) {
			left_out++;
			continue;
		}
		cli_table_cell(t, NULL, "%s", cli_str(f, "name"));
		cli_table_cell(t, NULL, "%s", cli_str(f, "kind"));
		cli_table_cell(t, NULL, "%s", cli_str(f, "since"));
		cli_table_cell(t, NULL, "%s", cli_str(f, "use"));
	}
	if (!cli_table_rows(t))
		printf("Linux %s has nothing of this that %s lacks for its age.\n", version,
		       cli_str(all, "kernel"));
	cli_table_print(t);
	if (left_out)
		printf("\nLeft out of this kernel, or in a module that is not loaded, though it is "
		       "as "
		       "new as they are:\n");
	json_array_foreach(gain, i, f)
		if (json_is_true(json_object_get(f, "left_out")))
			printf("  %s %s (%s)\n", cli_str(f, "kind"), cli_str(f, "name"),
			       cli_str(f, "since"));
	return CLI_OK;
}

static int gain_run(const struct cli *cli, json_t *all, unsigned int version)
{
	unsigned int running = 0;
	char text[16];
	json_t *gain = json_array();

	version_parse(cli_str(all, "kernel"), &running);
	gain_collect(gain, "towpath", json_object_get(all, "features"), version, running);
	for (size_t i = 0; i < LISTS; i++)
		gain_collect(gain, lists[i].kind, json_object_get(all, lists[i].key), version,
			     running);
	cleanup_(cleanup_json) json_t *reply =
		json_pack("{s:O, s:s, s:o}", "kernel", json_object_get(all, "kernel"), "version",
			  feature_since(text, version), "gain", gain);

	return cli->output == CLI_TABLE ? gain_print(cli, reply) : cli_print(cli, reply);
}

/* ---- the command ------------------------------------------------------------------------------ */

static int no_messages(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	return 0;
}

static json_t *features_find(bool everything)
{
	struct features f = { .btf = btf__load_vmlinux_btf() };
	json_t *items, *item, *all;
	struct utsname uts;
	bool ok = true;
	size_t i;

	uname(&uts);
	used_read(&f.used);
	items = features_towpath(&f);
	json_array_foreach(items, i, item)
		ok &= !strcmp(cli_str(item, "here"), "yes") ||
		      !json_is_true(json_object_get(item, "required"));
	all = json_pack("{s:s, s:b, s:o, s:o}", "kernel", uts.release, "usable", ok, "features",
			items, "devices", features_devices());
	for (i = 0; everything && i < LISTS; i++)
		json_object_set_new(all, lists[i].key, lists[i].find(&f));
	btf__free(f.btf);
	return all;
}

static int features_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_json) json_t *all = NULL;
	unsigned int version = KERNEL(6, 18); /* the newest that the lists are sure of */
	bool everything = false, gain = false;
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		if (opt == OPT_ALL)
			everything = true;
		else if (opt == OPT_GAIN)
			gain = true;
		else
			return CLI_USAGE;
	}
	if (cli_operands(cli, argc, 0, gain, &ret))
		return ret;
	if (optind < argc && !version_parse(argv[optind], &version))
		return cli_usage(cli, "--gain takes a version like 6.12, not \"%s\"", argv[optind]);
	if (geteuid())
		return cli_refuse("features are found by trying, which only root may do: use sudo");
	libbpf_set_print(no_messages);
	all = features_find(everything || gain);
	if (gain)
		return gain_run(cli, all, version);
	return cli->output == CLI_TABLE ? features_print(cli, all) : cli_print(cli, all);
}

static const struct cli_option features_options[] = {
	{ OPT_ALL, "all", NULL,
	  "also all program and map types, places, helpers, kernel functions" },
	{ OPT_GAIN, "gain", NULL, "what a newer kernel, VERSION or 6.18, would bring" },
	{ 0 },
};

const struct cli_command cmd_features = {
	.name = "features",
	.usage = "[--all | --gain [VERSION]]",
	.summary = "show what this kernel offers, and what Towpath uses of it",
	.details =
		"Found by trying, never by the kernel's version; needs root, and no agent. SINCE "
		"is "
		"the\nfirst kernel that had it, of Linus' tree. Of devices, what their drivers can "
		"do with\nXDP: redirect, be the target of one, frames in pieces (frags), AF_XDP "
		"without copies.\n",
	.options = features_options,
	.examples = "  sudo towpath features\n"
		    "  sudo towpath features --all -o json | jq '.helpers[] | select(.used).name'\n"
		    "  sudo towpath features --gain 6.12\n",
	.run = features_run,
};
