/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* map: maps of the running kernel, Towpath's and anybody's. Here: finding them, list and show. */
#include "map.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <string.h>
#include <unistd.h>

#include "bpf_objects.h"

int map_open(struct tw_map **map, const char *which)
{
	char err[512] = "";
	int res;

	if (geteuid())
		return cli_refuse("maps of the kernel are root's: use sudo");
	res = tw_map_open(map, which, err, sizeof(err));
	return res ? cli_refuse("%s", err) : CLI_OK;
}

bool map_unreadable(const struct tw_map *map)
{
	const struct tw_map_info *i = tw_map_info(map);
	const char *why = tw_map_refusal(map);

	if (why)
		cli_refuse("%s is a %s: %s", i->name, i->type_name, why);
	return why;
}

json_t *map_word_json(const char *what, const char *word)
{
	json_error_t error;
	json_t *value;

	if (!*word || !strchr("{[\"", *word))
		return json_string(word);
	value = json_loads(word, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
	if (!value)
		cli_refuse("%s: column %d: not JSON: %s", what, error.column, error.text);
	return value;
}

/* ---- who uses and pins which ------------------------------------------------------------------ */

/* {"12": {"programs": [...], "pins": [...]}} by ids of maps. */
static json_t *usage_of(json_t *usage, uint32_t id, const char *list)
{
	char key[16];
	json_t *of, *found;

	snprintf(key, sizeof(key), "%u", id);
	of = json_object_get(usage, key);
	if (!of) {
		of = json_pack("{s:[], s:[]}", "programs", "pins");
		json_object_set_new(usage, key, of);
	}
	found = json_object_get(of, list);
	return found;
}

static int usage_program(void *arg, int fd, const struct bpf_prog_info *info,
			 const uint32_t *map_ids)
{
	for (uint32_t i = 0; i < info->nr_map_ids; i++)
		json_array_append_new(
			usage_of(arg, map_ids[i], "programs"),
			json_pack("{s:i, s:s}", "id", (int)info->id, "name", info->name));
	return 0;
}

static int usage_pin(void *arg, const char *path, enum bpf_pin kind, int fd)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);

	if (kind == BPF_PIN_MAP && !bpf_map_get_info_by_fd(fd, &info, &len))
		json_array_append_new(usage_of(arg, info.id, "pins"), json_string(path));
	return 0;
}

static json_t *usage_read(void)
{
	json_t *usage = json_object();

	bpf_programs_each(usage_program, usage);
	bpf_pins_each(usage_pin, usage);
	return usage;
}

static json_t *flags_json(uint32_t flags)
{
	static const struct {
		uint32_t flag;
		const char *name;
	} names[] = {
		{ BPF_F_NO_PREALLOC, "no_prealloc" }, { BPF_F_NO_COMMON_LRU, "no_common_lru" },
		{ BPF_F_NUMA_NODE, "numa_node" },     { BPF_F_RDONLY, "rdonly" },
		{ BPF_F_WRONLY, "wronly" },	      { BPF_F_RDONLY_PROG, "rdonly_prog" },
		{ BPF_F_WRONLY_PROG, "wronly_prog" }, { BPF_F_CLONE, "clone" },
		{ BPF_F_MMAPABLE, "mmapable" },	      { BPF_F_PRESERVE_ELEMS, "preserve_elems" },
		{ BPF_F_INNER_MAP, "inner_map" },     { BPF_F_LINK, "link" },
	};
	json_t *list = json_array();

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (flags & names[i].flag)
			json_array_append_new(list, json_string(names[i].name));
	return list;
}

static json_t *map_describe(const struct tw_map *map, json_t *usage)
{
	const struct tw_map_info *i = tw_map_info(map);

	return json_pack("{s:i, s:s, s:s, s:i, s:i, s:I, s:o, s:b, s:b, s:I, s:O, s:O}", "id",
			 (int)i->id, "name", i->name, "type", i->type_name, "key_size",
			 (int)i->key_size, "value_size", (int)i->value_size, "max_entries",
			 (json_int_t)i->max_entries, "flags", flags_json(i->flags), "frozen",
			 i->frozen, "btf", i->typed, "memory", (json_int_t)i->memory, "programs",
			 usage_of(usage, i->id, "programs"), "pins",
			 usage_of(usage, i->id, "pins"));
}

/* "a, b (2)": names of programs, each once, with how often. malloc'ed. */
static char *programs_text(const json_t *programs, bool ids)
{
	char *out = cli_printf("%s", "");
	json_t *program;
	size_t i;

	json_array_foreach(programs, i, program) {
		const char *name = cli_str(program, "name");
		size_t n = 0, before = 0, k;
		json_t *other;
		char *more;

		json_array_foreach(programs, k, other) {
			if (strcmp(cli_str(other, "name"), name))
				continue;
			n++;
			before += k < i;
		}
		if (before && !ids)
			continue;
		if (ids)
			more = cli_printf("%s%s%s %lld", out, *out ? ", " : "", name,
					  (long long)cli_int(program, "id"));
		else if (n > 1)
			more = cli_printf("%s%s%s (%zu)", out, *out ? ", " : "", name, n);
		else
			more = cli_printf("%s%s%s", out, *out ? ", " : "", name);
		free(out);
		out = more;
	}
	return out;
}

/* ---- list ------------------------------------------------------------------------------------- */

struct listing {
	json_t *items, *usage;
	const char *type;
};

static int list_one(void *arg, struct tw_map *map)
{
	struct listing *l = arg;

	if (!l->type || !strcmp(l->type, tw_map_info(map)->type_name))
		json_array_append_new(l->items, map_describe(map, l->usage));
	return 0;
}

static int list_print(const struct cli *cli, const json_t *items)
{
	static const char *const heads[] = { ">ID",  "NAME",	"TYPE",	   ">KEY", ">VALUE",
					     ">MAX", ">MEMORY", "USED BY", NULL };
	static const char *const wide[] = { ">ID",     "NAME",	  "TYPE",  ">KEY", ">VALUE", ">MAX",
					    ">MEMORY", "USED BY", "FLAGS", "PINS", NULL };
	struct cli_table *t = cli_table_new(cli, cli->wide ? wide : heads);
	char buf[32];
	json_t *m;
	size_t i;

	json_array_foreach(items, i, m) {
		cleanup_(cleanup_free) char *users =
			programs_text(json_object_get(m, "programs"), false);

		cli_table_cell(t, NULL, "%lld", (long long)cli_int(m, "id"));
		cli_table_cell(t, NULL, "%s", *cli_str(m, "name") ? cli_str(m, "name") : "-");
		cli_table_cell(t, NULL, "%s", cli_str(m, "type"));
		cli_table_cell(t, NULL, "%s", cli_bytes(buf, (uint64_t)cli_int(m, "key_size")));
		cli_table_cell(t, NULL, "%s", cli_bytes(buf, (uint64_t)cli_int(m, "value_size")));
		cli_table_cell(t, NULL, "%s", cli_number(buf, (uint64_t)cli_int(m, "max_entries")));
		cli_table_cell(t, NULL, "%s", cli_bytes(buf, (uint64_t)cli_int(m, "memory")));
		cli_table_cell(t, *users ? NULL : CLI_DIM, "%s", *users ? users : "-");
		if (!cli->wide)
			continue;
		cleanup_(cleanup_free) char *flags = cli_join(json_object_get(m, "flags"));
		cleanup_(cleanup_free) char *pins = cli_join(json_object_get(m, "pins"));

		cli_table_cell(t, NULL, "%s", *flags ? flags : "-");
		cli_table_cell(t, NULL, "%s", *pins ? pins : "-");
	}
	if (!cli_table_rows(t))
		printf("There are no maps.\n");
	cli_table_print(t);
	return CLI_OK;
}

static int list_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_json) json_t *items = json_array();
	cleanup_(cleanup_json) json_t *usage = NULL;
	struct listing l = { items, NULL, NULL };
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		if (opt != 't')
			return CLI_USAGE;
		l.type = cli->value;
	}
	if (cli_operands(cli, argc, 0, 0, &ret))
		return ret;
	if (geteuid())
		return cli_refuse("maps of the kernel are root's: use sudo");
	usage = usage_read();
	l.usage = usage;
	ret = tw_map_each(list_one, &l);
	if (ret)
		return cli_refuse("cannot look at the kernel's maps: %s", strerror(-ret));
	return cli->output == CLI_TABLE ? list_print(cli, items) : cli_print(cli, items);
}

static const struct cli_option list_options[] = {
	{ 't', "type", "TYPE", "only maps of this type: hash, array, lru_hash, ..." },
	{ 0 },
};

const struct cli_command cmd_map_list = {
	.name = "map list",
	.usage = "[--type TYPE]",
	.summary = "the maps of the kernel, with their sizes and who uses them",
	.details =
		"MAX is the number of entries that a map is made for, MEMORY what the kernel has\n"
		"set aside for it. -o wide adds flags and pins.\n",
	.options = list_options,
	.examples =
		"  sudo towpath map list\n"
		"  sudo towpath map list --type hash -o wide\n"
		"  sudo towpath map list -o json | jq '.[] | select(.memory > 1000000) | .name'\n",
	.wide = true,
	.run = list_run,
};

/* ---- show ------------------------------------------------------------------------------------- */

/* What a key or value looks like, by one that is all zero. malloc'ed; NULL: nobody knows. */
static char *form_text(const struct tw_map *map, bool key)
{
	void *zero = calloc(1, tw_map_value_len(map) + tw_map_info(map)->key_size + 8);
	json_t *json = !zero ? NULL
		       : key ? tw_map_key_json(map, zero)
			     : tw_map_value_json(map, zero, TW_MAP_SUM);
	char *text = json && tw_map_info(map)->typed ? json_dumps(json, JSON_ENCODE_ANY) : NULL;

	json_decref(json);
	free(zero);
	return text;
}

static int show_print(const struct tw_map *map, json_t *m, const char *key, const char *value)
{
	const struct tw_map_info *i = tw_map_info(map);
	cleanup_(cleanup_free) char *users = programs_text(json_object_get(m, "programs"), true);
	cleanup_(cleanup_free) char *pins = cli_join(json_object_get(m, "pins"));
	cleanup_(cleanup_free) char *flags = cli_join(json_object_get(m, "flags"));
	char buf[32];

	printf("id        %u\n", i->id);
	printf("name      %s\n", *i->name ? i->name : "-");
	printf("type      %s%s\n", i->type_name, i->frozen ? ", frozen" : "");
	printf("key       %s%s%.800s\n", cli_bytes(buf, i->key_size), key ? ": " : "", key ?: "");
	printf("value     %s%s%s%.800s\n", cli_bytes(buf, i->value_size),
	       i->per_cpu ? " for each CPU" : "", value ? ": " : "", value ?: "");
	printf("entries   at most %s\n", cli_number(buf, i->max_entries));
	printf("memory    %s\n", cli_bytes(buf, i->memory));
	printf("flags     %s\n", *flags ? flags : "none");
	printf("programs  %s\n", *users ? users : "none");
	printf("pins      %s\n", *pins ? pins : "none");
	return CLI_OK;
}

static int show_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_map) struct tw_map *map = NULL;
	cleanup_(cleanup_json) json_t *usage = NULL, *m = NULL;
	int ret;

	if (cli_getopt(cli, argc, argv) != -1)
		return CLI_USAGE;
	if (cli_operands(cli, argc, 1, 1, &ret))
		return ret;
	ret = map_open(&map, argv[optind]);
	if (ret)
		return ret;
	usage = usage_read();
	m = map_describe(map, usage);

	bool entries = tw_map_info(map)->access <= TW_MAP_SOCKETS;
	cleanup_(cleanup_free) char *key = entries ? form_text(map, true) : NULL;
	cleanup_(cleanup_free) char *value = entries ? form_text(map, false) : NULL;

	if (cli->output == CLI_TABLE)
		return show_print(map, m, key, value);
	if (key)
		json_object_set_new(m, "key", json_loads(key, JSON_DECODE_ANY, NULL));
	if (value)
		json_object_set_new(m, "value", json_loads(value, JSON_DECODE_ANY, NULL));
	return cli_print(cli, m);
}

const struct cli_command cmd_map_show = {
	.name = "map show",
	.usage = "MAP",
	.summary = "one map: what its keys and values look like, programs, pins",
	.details = "MAP is a name, an id, or the path of a pin. Keys and values are shown as one "
		   "that is\n"
		   "all zero, in the form that get, set and dump use.\n",
	.examples = "  sudo towpath map show tw_flow4\n"
		    "  sudo towpath map show /sys/fs/bpf/counts -o json | jq .value\n",
	.run = show_run,
};

/* ---- the group -------------------------------------------------------------------------------- */

static const struct cli_command *const map_commands[] = {
	&cmd_map_list, &cmd_map_show,	&cmd_map_dump,	&cmd_map_get,
	&cmd_map_set,  &cmd_map_delete, &cmd_map_watch, NULL,
};

const struct cli_command cmd_map = {
	.name = "map",
	.usage = "COMMAND [ARGUMENT]...",
	.summary = "read and write the maps of eBPF programs, in the form of their types",
	.details = "MAP is a name, an id, or the path of a pin. Needs root, and no agent.\n",
	.examples = "  sudo towpath map list\n"
		    "  sudo towpath map dump counts\n",
	.commands = map_commands,
};
