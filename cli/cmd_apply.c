/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* apply and delete: files to the agent, all in one request, whole or not at all. */
#include "cli.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <towpath/runtime.h>
#include <unistd.h>

enum { OPT_DRY_RUN = CLI_LONG };

#define INPUT_MAX (64u << 20) /* of one file */

struct input {
	json_t *files; /* [{name, text}] */
	bool recursive;
	bool have_stdin;
};

static int input_add_fd(struct input *in, const char *name, int fd)
{
	cleanup_(cleanup_free) char *text = NULL;
	size_t len = 0;
	int ret = tw_stream_read(fd, INPUT_MAX, &text, &len);

	if (ret || !text) {
		errno = -ret;
		return cli_refuse("cannot read %s: %m", name);
	}
	/* JSON carries only UTF-8, as do YAML files in practice. */
	json_t *string = memchr(text, 0, len) ? NULL : json_stringn(text, len);

	if (!string)
		return cli_refuse("%s is not UTF-8 text: save it as UTF-8", name);
	json_array_append_new(in->files, json_pack("{s:s, s:o}", "name", name, "text", string));
	return CLI_OK;
}

static int input_add(struct input *in, const char *path);

static bool is_object_file(const char *name)
{
	const char *dot = strrchr(name, '.');

	return dot && name[0] != '.' &&
	       (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml") || !strcmp(dot, ".json"));
}

static int input_add_dir(struct input *in, const char *path)
{
	struct dirent **names;
	size_t before = json_array_size(in->files);
	int n = scandir(path, &names, NULL, alphasort);
	int ret = CLI_OK;

	if (n < 0)
		return cli_refuse("cannot read the folder %s: %m", path);
	for (int i = 0; i < n; i++) {
		const char *slash = *path && path[strlen(path) - 1] == '/' ? "" : "/";
		cleanup_(cleanup_free) char *name =
			cli_printf("%s%s%s", path, slash, names[i]->d_name);
		struct stat st;
		bool dir = names[i]->d_name[0] != '.' && !stat(name, &st) && S_ISDIR(st.st_mode);

		if (!ret && (dir ? in->recursive : is_object_file(names[i]->d_name)))
			ret = input_add(in, name);
		free(names[i]);
	}
	free(names);
	if (!ret && !in->recursive && json_array_size(in->files) == before)
		return cli_refuse("the folder %s has no *.yaml, *.yml or *.json: name a folder "
				  "with objects, or add -R to look below it",
				  path);
	return ret;
}

static int input_add(struct input *in, const char *path)
{
	struct stat st;

	if (!strcmp(path, "-")) {
		if (in->have_stdin)
			return cli_refuse("-f - was given twice, but there is one standard input");
		in->have_stdin = true;
		return input_add_fd(in, "<stdin>", STDIN_FILENO);
	}
	if (stat(path, &st))
		return cli_refuse("cannot read %s: %m", path);
	if (S_ISDIR(st.st_mode))
		return input_add_dir(in, path);

	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return cli_refuse("cannot read %s: %m", path);
	int ret = input_add_fd(in, path, fd);

	close(fd);
	return ret;
}

static void print_results(const struct cli *cli, const json_t *reply, bool quiet, bool dry_run)
{
	const json_t *results = json_object_get(reply, "results");
	const json_t *kernel = json_object_get(reply, "kernel");
	const char *key, *comma = "";
	double ms[3] = { (double)cli_int(reply, "compile_us") / 1000,
			 (double)cli_int(reply, "store_us") / 1000,
			 (double)cli_int(reply, "kernel_us") / 1000 };
	json_t *r, *n;
	size_t i;

	if (!quiet) {
		json_array_foreach(results, i, r) {
			const char *ns = cli_str(r, "namespace");
			const char *action = cli_str(r, "action");
			bool same = !strcmp(action, "unchanged");

			printf("%s %s%s%s %s%s%s%s\n", cli_str(r, "kind"), ns, *ns ? "/" : "",
			       cli_str(r, "name"), cli_color(cli, same ? CLI_DIM : CLI_GREEN),
			       action, cli_plain(cli), dry_run ? " (dry run)" : "");
		}
	}
	printf("%zu object%s%s in %.1f ms", json_array_size(results),
	       json_array_size(results) == 1 ? "" : "s",
	       dry_run ? " checked, nothing changed," : "", ms[0] + ms[1] + ms[2]);
	printf(" (compile %.1f, store %.1f, kernel %.1f); kernel:", ms[0], ms[1], ms[2]);
	json_object_foreach((json_t *)kernel, key, n) {
		json_int_t count = json_integer_value(n);
		size_t len = strlen(key);

		if (!count)
			continue;
		/* The keys are plurals: peers, versions, endpoints, prefixes. */
		if (count == 1)
			len -= len > 3 && !strcmp(key + len - 3, "xes") ? 2 : 1;
		printf("%s %lld %.*s", comma, (long long)count, (int)len, key);
		comma = ",";
	}
	printf("%s\n", *comma ? "" : " nothing to change");
}

static const char *effect_end(const json_t *end, char buf[384])
{
	const char *ip = cli_str(end, "ip"), *cidr = cli_str(end, "cidr");

	if (*cli_str(end, "pod"))
		snprintf(buf, 384, "%s/%s", cli_str(end, "namespace"), cli_str(end, "pod"));
	else
		snprintf(buf, 384, "%s", *cidr ? cidr : ip);
	return buf;
}

static void effect_row(struct cli_table *t, const json_t *e)
{
	cleanup_(cleanup_free) char *ports = cli_join(json_object_get(e, "ports"));
	const char *after = cli_str(e, "after");
	json_int_t family = cli_int(e, "family");
	char end[384];

	cli_table_cell(t, NULL, "%s", effect_end(json_object_get(e, "from"), end));
	cli_table_cell(t, NULL, "%s", effect_end(json_object_get(e, "to"), end));
	cli_table_cell(t, NULL, "%s", cli_str(e, "before"));
	cli_table_cell(t, !strcmp(after, "allow") ? CLI_GREEN : CLI_RED, "%s", after);
	if (family)
		cli_table_cell(t, NULL, "%s (IPv%lld)", ports, (long long)family);
	else
		cli_table_cell(t, NULL, "%s", ports);
}

static void print_more(json_int_t total, size_t shown, const char *what)
{
	char n[32];

	if (total > (json_int_t)shown)
		printf("and %s more %s\n", cli_number(n, (uint64_t)total - shown), what);
	putchar('\n');
}

static void print_pairs(const struct cli *cli, const json_t *effects)
{
	static const char *const heads[] = { "FROM", "TO", "NOW", "THEN", "PORTS", NULL };
	const json_t *pairs = json_object_get(effects, "pairs");
	json_int_t n = cli_int(effects, "pairs_total");
	struct cli_table *t;
	json_t *e;
	size_t i;

	if (n) {
		puts("pairs that would get another verdict:");
		t = cli_table_new(cli, heads);
		json_array_foreach(pairs, i, e)
			effect_row(t, e);
		cli_table_print(t);
		print_more(n, json_array_size(pairs), "pairs");
	} else {
		puts("no pair of pods, or of a pod and the world, would get another verdict");
	}
	if (!json_is_true(json_object_get(effects, "complete")))
		puts("there was no time to compare all pairs: there may be more");
}

static void print_past(const struct cli *cli, const json_t *effects)
{
	static const char *const heads[] = { "FROM", "TO", "NOW", "THEN", "PORT", ">FLOWS", NULL };
	const json_t *flows = json_object_get(effects, "flows");
	json_int_t n = cli_int(effects, "flows_total");
	struct cli_table *t;
	char number[32];
	json_t *e;
	size_t i;

	if (!n) {
		printf("no flow of the log would get another verdict (%s different ones)\n",
		       cli_number(number, (uint64_t)cli_int(effects, "flows_asked")));
		return;
	}
	puts("flows of the log that would get another verdict:");
	t = cli_table_new(cli, heads);
	json_array_foreach(flows, i, e) {
		effect_row(t, e);
		cli_table_cell(t, NULL, "%s", cli_number(number, (uint64_t)cli_int(e, "count")));
	}
	cli_table_print(t);
	print_more(n, json_array_size(flows), "different flows");
}

static int send_files(struct cli *cli, const char *path, const struct input *in, bool quiet,
		      bool dry_run)
{
	cleanup_(cleanup_json) json_t *reply = NULL;
	cleanup_(cleanup_json) json_t *body =
		json_pack("{s:O, s:b}", "files", in->files, "dry_run", dry_run);
	int ret = cli_call(cli, "POST", path, body, &reply);

	if (ret)
		return ret;
	if (cli->output != CLI_TABLE)
		return cli_print(cli, reply);
	const json_t *effects = json_object_get(reply, "effects");

	if (effects && !quiet) {
		print_pairs(cli, effects);
		print_past(cli, effects);
	}
	print_results(cli, reply, quiet, dry_run);
	return CLI_OK;
}

/* delete KIND NAME */
static int delete_one(struct cli *cli, const char *kind, const char *name, const char *ns)
{
	cleanup_(cleanup_json) json_t *reply = NULL;
	cleanup_(cleanup_free) char *in_ns = NULL, *in_name = NULL, *path = NULL;
	bool is_ns = !strcasecmp(kind, "namespace") || !strcasecmp(kind, "namespaces") ||
		     !strcasecmp(kind, "ns");

	if (is_ns) {
		path = cli_path("/v1/objects/%s/-/%s", kind, name);
	} else {
		if (!cli_parse_pod(name, ns, &in_ns, &in_name))
			return cli_usage(cli, "\"%s\" is no name: use name or namespace/name",
					 name);
		path = cli_path("/v1/objects/%s/%s/%s", kind, in_ns, in_name);
	}
	int ret = cli_call(cli, "DELETE", path, NULL, &reply);

	if (ret)
		return ret;
	if (cli->output != CLI_TABLE)
		return cli_print(cli, reply);
	print_results(cli, reply, false, false);
	return CLI_OK;
}

static int apply_or_delete(struct cli *cli, int argc, char **argv, bool deleting)
{
	cleanup_(cleanup_json) json_t *paths = json_array();
	cleanup_(cleanup_json) json_t *files = json_array();
	struct input in = { .files = files };
	const char *ns = "default";
	bool dry_run = false, quiet = false;
	size_t i;
	json_t *p;
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		switch (opt) {
		case 'f':
			json_array_append_new(paths, json_string(cli->value));
			break;
		case 'R':
			in.recursive = true;
			break;
		case 'q':
			quiet = true;
			break;
		case 'n':
			ns = cli->value;
			break;
		case OPT_DRY_RUN:
			dry_run = true;
			break;
		default:
			return CLI_USAGE;
		}
	}
	if (deleting && !json_array_size(paths)) {
		if (cli_operands(cli, argc, 2, 2, &ret))
			return ret;
		if (dry_run)
			return cli_usage(cli, "--dry-run goes with -f");
		return delete_one(cli, argv[optind], argv[optind + 1], ns);
	}
	if (!json_array_size(paths))
		return cli_usage(cli, "say which files with -f FILE, -f DIR or -f -");
	if (cli_operands(cli, argc, 0, 0, &ret))
		return ret;
	json_array_foreach(paths, i, p) {
		ret = input_add(&in, json_string_value(p));
		if (ret)
			return ret;
	}
	if (!json_array_size(files))
		return cli_refuse("there is no *.yaml, *.yml or *.json in what -f names");
	return send_files(cli, deleting ? "/v1/delete" : "/v1/apply", &in, quiet, dry_run);
}

static int apply_run(struct cli *cli, int argc, char **argv)
{
	return apply_or_delete(cli, argc, argv, false);
}

static int delete_run(struct cli *cli, int argc, char **argv)
{
	return apply_or_delete(cli, argc, argv, true);
}

static const struct cli_option apply_options[] = {
	{ 'f', "filename", "FILE|DIR|-",
	  "a file, a folder's *.yaml *.yml *.json, or standard input" },
	{ 'R', "recursive", NULL, "look into the folders below too" },
	{ OPT_DRY_RUN, "dry-run", NULL, "check and show the effect, change nothing" },
	{ 'q', "quiet", NULL, "only the last line" },
	{ 0 },
};

static const struct cli_option delete_options[] = {
	{ 'f', "filename", "FILE|DIR|-",
	  "a file, a folder's *.yaml *.yml *.json, or standard input" },
	{ 'R', "recursive", NULL, "look into the folders below too" },
	{ 'n', "namespace", "NS", "namespace of NAME (default: default)" },
	{ OPT_DRY_RUN, "dry-run", NULL, "check and show the effect, change nothing" },
	{ 'q', "quiet", NULL, "only the last line" },
	{ 0 },
};

const struct cli_command cmd_apply = {
	.name = "apply",
	.usage = "-f FILE|DIR|- [-f ...] [-R] [--dry-run]",
	.summary = "create or change objects from YAML or JSON",
	.details = "All files go in one request and are applied whole or not at all. The reply\n"
		   "says what changed, in the kernel too, and how long it took.\n"
		   "With --dry-run nothing changes; it says which pairs of pods, and of pods and\n"
		   "the world, and which flows of the flow log would get another verdict. Exit\n"
		   "status 0 then means that the files are good, whatever their effect.\n",
	.options = apply_options,
	.examples = "  towpath apply -f policy.yaml\n"
		    "  towpath apply -f namespaces.yaml -f policies/\n"
		    "  towpath apply -f policies/ --dry-run\n"
		    "  kubectl get networkpolicies -A -o json | towpath apply -f -\n",
	.run = apply_run,
};

static const char *const kinds[] = { "pods",	     "networkpolicies", "namespaces",
				     "edgeservices", "edgedecaps",	NULL };

const struct cli_command cmd_delete = {
	.name = "delete",
	.words = kinds,
	.usage = "-f FILE|DIR|- [-f ...] | KIND NAME [-n NS]",
	.summary = "delete objects, by file or by name",
	.details = "Of files only kind, namespace and name are read. When one of the objects does\n"
		   "not exist, nothing is deleted.\n",
	.options = delete_options,
	.examples = "  towpath delete -f policy.yaml\n"
		    "  towpath delete networkpolicy deny-all -n shop\n"
		    "  towpath delete networkpolicy shop/deny-all\n",
	.run = delete_run,
};
