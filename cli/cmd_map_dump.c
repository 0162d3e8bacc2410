/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* map dump: all entries, printed as they are read, so that the largest map needs no more memory. */
#include "map.h"

#include <string.h>
#include <unistd.h>

enum { OPT_PER_CPU = CLI_LONG, OPT_ALL };

struct dump {
	const struct cli *cli;
	const struct tw_map *map;
	enum tw_map_cpu_form form;
	bool all;
	struct map_table *table;
	uint64_t entries, zeros;
	bool bad; /* BTF that does not fit */
};

static bool is_zero(const uint8_t *data, size_t size)
{
	return !size || (!data[0] && !memcmp(data, data + 1, size - 1));
}

static void entry_stream(const struct dump *d, json_t *key, json_t *value)
{
	cleanup_(cleanup_json) json_t *entry = json_pack("{s:O, s:O}", "key", key, "value", value);

	if (d->cli->output == CLI_YAML) {
		cleanup_(cleanup_json) json_t *list = json_pack("[O]", entry);

		cli_yaml(list, stdout);
		return;
	}
	fputs(d->entries ? ",\n  " : "[\n  ", stdout);
	json_dumpf(entry, stdout, 0);
}

static int dump_entry(void *arg, const void *key, const void *value)
{
	struct dump *d = arg;
	bool table = d->cli->output == CLI_TABLE;

	/* Most elements of large arrays were never written. */
	if (table && !d->all && tw_map_info(d->map)->array &&
	    tw_map_info(d->map)->max_entries > 1 && is_zero(value, tw_map_value_len(d->map))) {
		d->zeros++;
		return 0;
	}
	cleanup_(cleanup_json) json_t *k = tw_map_key_json(d->map, key);
	cleanup_(cleanup_json) json_t *v = tw_map_value_json(d->map, value, d->form);

	d->bad = !k || !v;
	if (d->bad)
		return 1;
	if (table && tw_map_info(d->map)->array && tw_map_info(d->map)->max_entries == 1 &&
	    d->form == TW_MAP_SUM)
		map_value_print(d->cli, v);
	else if (table)
		map_table_entry(d->table, k, v);
	else
		entry_stream(d, k, v);
	d->entries++;
	/* Whoever read it has enough. */
	return ferror(stdout);
}

static int dump_end(struct dump *d)
{
	char buf[32];

	if (d->cli->output == CLI_JSON)
		fputs(d->entries ? "\n]\n" : "[]\n", stdout);
	else if (d->cli->output == CLI_YAML && !d->entries)
		fputs("[]\n", stdout);
	else if (d->table && d->zeros)
		printf("%s%s elements that are all 0 are not shown (--all shows them)\n",
		       d->entries ? "\n" : "", cli_number(buf, d->zeros));
	else if (d->table && !d->entries)
		printf("%s is empty.\n", tw_map_info(d->map)->name);
	return CLI_OK;
}

static int dump_all(struct dump *d)
{
	const struct tw_map_info *i = tw_map_info(d->map);
	int res = tw_map_entries(d->map, dump_entry, d);

	if (d->table)
		map_table_end(d->table);
	if (d->bad)
		return cli_refuse("map %s: its BTF does not fit its entries, or has more than a "
				  "million values",
				  i->name);
	if (res < 0)
		return cli_refuse("map %s cannot be read: %s", i->name, strerror(-res));
	return dump_end(d);
}

static int dump_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_map) struct tw_map *map = NULL;
	struct dump d = { .cli = cli, .form = TW_MAP_SUM };
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		if (opt == OPT_PER_CPU)
			d.form = TW_MAP_LIST;
		else if (opt == OPT_ALL)
			d.all = true;
		else
			return CLI_USAGE;
	}
	if (cli_operands(cli, argc, 1, 1, &ret))
		return ret;
	ret = map_open(&map, argv[optind]);
	if (ret)
		return ret;
	if (map_unreadable(map))
		return CLI_REFUSED;
	d.map = map;
	if (cli->output == CLI_TABLE)
		d.table = map_table_new(cli, map);
	return dump_all(&d);
}

static const struct cli_option dump_options[] = {
	{ OPT_PER_CPU, "per-cpu", NULL, "values of each CPU, not their sum" },
	{ OPT_ALL, "all", NULL, "in the table, also elements of arrays that are all 0" },
	{ 0 },
};

const struct cli_command cmd_map_dump = {
	.name = "map dump",
	.usage = "MAP [--per-cpu] [--all]",
	.summary = "all entries of a map",
	.details =
		"Keys and values are shown by their types, as the map's BTF has them; without BTF, "
		"as\nbytes. A map that changes meanwhile is seen in part as it was, in part as it "
		"is.\n",
	.options = dump_options,
	.examples = "  sudo towpath map dump counts\n"
		    "  sudo towpath map dump counts --per-cpu\n"
		    "  sudo towpath map dump /sys/fs/bpf/blocked -o json >blocked.json\n",
	.run = dump_run,
};
