/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * edge balance: services of the edge. What is changed is the EdgeService object of that name, by
 * `apply`, as with a file; the list also says what became of it.
 */
#include "cli.h"

#include <getopt.h>
#include <string.h>

#include "edge_spec.h"

enum {
	OPT_FRONTEND = CLI_LONG,
	OPT_WAY,
	OPT_AFFINITY,
	OPT_QUIC,
	OPT_SEED,
	OPT_IDLE,
	OPT_DRAIN_TIME,
	OPT_CHECK,
	OPT_CHECK_PORT,
	OPT_CHECK_PATH,
	OPT_CHECK_HOST,
	OPT_INTERVAL,
	OPT_TIMEOUT,
	OPT_RISE,
	OPT_FALL,
};

/* What was typed, as far as it is for the object. */
struct wish {
	const char *ns;
	json_t *spec; /* fields that were given */
	json_t *check;
};

static void cleanup_wish(struct wish *w)
{
	json_decref(w->spec);
	json_decref(w->check);
}

/* ---- list ---------------------------------------------------------------------------------- */

static void service_print(const struct cli *cli, const json_t *s)
{
	double changing = json_number_value(json_object_get(s, "changing"));
	json_t *front;
	size_t i;

	printf("%s%s/%s%s  %s", cli_color(cli, CLI_BOLD), cli_str(s, "namespace"),
	       cli_str(s, "name"), cli_plain(cli), cli_str(s, "way"));
	json_array_foreach(json_object_get(s, "frontends"), i, front) {
		cleanup_(cleanup_free) char *text =
			edge_address_format(cli_str(front, "address"), cli_int(front, "port"));

		printf("  %s/%s", text, cli_str(front, "protocol"));
	}
	if (!json_is_true(json_object_get(s, "balanced")))
		printf("  not balanced: no device is attached (towpath edge attach)");
	if (json_is_true(json_object_get(s, "panic")))
		printf("  no backend is up, so all are used");
	if (changing > 0)
		printf("  %.1f %% of the table is changing", changing);
	putchar('\n');
}

static void backend_row(struct cli_table *t, const char *service, const json_t *be)
{
	cleanup_(cleanup_free) char *text =
		edge_address_format(cli_str(be, "address"), cli_int(be, "port"));
	const char *state = cli_str(be, "state"), *hop = cli_str(be, "hop");
	char n[32];

	cli_table_cell(t, NULL, "%s", service);
	cli_table_cell(t, NULL, "%s", text);
	cli_table_cell(t,
		       !strcmp(state, "up")	? CLI_GREEN
		       : !strcmp(state, "down") ? CLI_RED
						: CLI_YELLOW,
		       "%s", state);
	cli_table_cell(t, NULL, "%lld", (long long)cli_int(be, "weight"));
	cli_table_cell(t, NULL, "%s", cli_number(n, (uint64_t)cli_int(be, "opened")));
	cli_table_cell(t, NULL, "%s", cli_number(n, (uint64_t)cli_int(be, "packets")));
	cli_table_cell(t, NULL, "%s", cli_bytes(n, (uint64_t)cli_int(be, "bytes")));
	cli_table_cell(t, NULL, "%s", cli_number(n, (uint64_t)cli_int(be, "remembered")));
	cli_table_cell(t, NULL, "%s", *cli_str(be, "check") ? cli_str(be, "check") : hop);
}

static bool service_named(const json_t *s, const char *ns, const char *name)
{
	return !name || (!strcmp(cli_str(s, "namespace"), ns) && !strcmp(cli_str(s, "name"), name));
}

static int list_print(const struct cli *cli, const json_t *services)
{
	static const char *const heads[] = { "SERVICE",	 "BACKEND", "STATE", ">WEIGHT", ">OPENED",
					     ">PACKETS", ">BYTES",  ">KEPT", "WHY",	NULL };
	struct cli_table *t = cli_table_new(cli, heads);
	json_t *s, *be;
	size_t i, j;

	json_array_foreach(services, i, s) {
		service_print(cli, s);
		json_array_foreach(json_object_get(s, "backends"), j, be)
			backend_row(t, cli_str(s, "name"), be);
	}
	if (cli_table_rows(t))
		putchar('\n');
	cli_table_print(t);
	return CLI_OK;
}

static int list_do(struct cli *cli, const struct wish *w, const char *name)
{
	cleanup_(cleanup_json) json_t *reply = NULL;
	cleanup_(cleanup_json) json_t *found = json_array();
	int ret = cli_call(cli, "GET", "/v1/edge/balance", NULL, &reply);
	json_t *s;
	size_t i;

	if (ret)
		return ret;
	json_array_foreach(json_object_get(reply, "services"), i, s) {
		if (service_named(s, w->ns, name))
			json_array_append(found, s);
	}
	if (name && !json_array_size(found))
		return cli_refuse("there is no edge service %s/%s", w->ns, name);
	json_object_set(reply, "services", found);
	if (cli->output != CLI_TABLE)
		return cli_print(cli, reply);
	if (*cli_str(reply, "failed"))
		fprintf(stderr, "towpath: %s\n", cli_str(reply, "failed"));
	return list_print(cli, found);
}

/* ---- changes ---------------------------------------------------------------------------------- */

/* The object as it is, or a new one; *exists (may be NULL) says which. NULL: it was refused. */
static json_t *object_get(struct cli *cli, const char *ns, const char *name, bool *exists)
{
	cleanup_(cleanup_free) char *path = cli_path("/v1/objects/edgeservices/%s/%s", ns, name);
	json_t *object = NULL;
	int ret = cli_call_quiet404(cli, "GET", path, &object);

	if (exists)
		*exists = !ret;
	if (!ret)
		return object;
	if (ret > 0)
		return NULL;
	if (!exists) {
		cli_refuse(
			"there is no edge service %s/%s: make it with 'towpath edge balance set'",
			ns, name);
		return NULL;
	}
	return json_pack("{s:s, s:s, s:{s:s, s:s}, s:{}}", "apiVersion", "towpath.dev/v1", "kind",
			 "EdgeService", "metadata", "name", name, "namespace", ns, "spec");
}

static int object_apply(struct cli *cli, const json_t *object)
{
	cleanup_(cleanup_free) char *text = json_dumps(object, JSON_COMPACT);
	cleanup_(cleanup_json) json_t *reply = NULL;
	json_t *body =
		json_pack("{s:[{s:s, s:s}]}", "files", "name", "<command line>", "text", text);
	int ret = cli_call(cli, "POST", "/v1/apply", body, &reply);

	if (ret)
		return ret;
	if (cli->output != CLI_TABLE)
		return cli_print(cli, reply);
	const json_t *r = json_array_get(json_object_get(reply, "results"), 0);

	printf("edge service %s/%s %s\n", cli_str(r, "namespace"), cli_str(r, "name"),
	       cli_str(r, "action"));
	return CLI_OK;
}

/* spec.backends, made when it is not there. Borrowed. */
static json_t *backends_of(json_t *object)
{
	json_t *spec = json_object_get(object, "spec");
	json_t *backends = json_object_get(spec, "backends");

	if (!json_is_array(backends)) {
		backends = json_array();
		json_object_set_new(spec, "backends", backends);
	}
	return backends;
}

/* Index of the backend, or -1. */
static int backend_find(const json_t *backends, const json_t *parsed)
{
	for (size_t i = 0; i < json_array_size(backends); i++)
		if (edge_backend_is(json_array_get(backends, i), parsed))
			return (int)i;
	return -1;
}

enum backend_verb { BACKEND_ADD, BACKEND_REMOVE, BACKEND_DRAIN, BACKEND_UNDRAIN };

static int backend_do(json_t *backends, enum backend_verb verb, const char *word)
{
	cleanup_(cleanup_json) json_t *parsed = edge_backend_parse(word);
	int at;

	if (!parsed)
		return cli_refuse("%s is no backend: take ADDRESS[:PORT][,weight=N][,id=N]", word);
	at = backend_find(backends, parsed);
	if (verb == BACKEND_ADD) {
		if (at < 0)
			return json_array_append(backends, parsed) ? CLI_REFUSED : CLI_OK;
		json_object_update(json_array_get(backends, (size_t)at), parsed);
		return CLI_OK;
	}
	if (at < 0)
		return cli_refuse("it has no backend %s", word);
	if (verb == BACKEND_REMOVE)
		json_array_remove(backends, (size_t)at);
	else if (verb == BACKEND_DRAIN)
		json_object_set_new(json_array_get(backends, (size_t)at), "drain", json_true());
	else
		json_object_del(json_array_get(backends, (size_t)at), "drain");
	return CLI_OK;
}

static int backends_do(struct cli *cli, const struct wish *w, enum backend_verb verb, char **argv,
		       int argc)
{
	cleanup_(cleanup_json) json_t *object = object_get(cli, w->ns, argv[0], NULL);
	int ret = CLI_OK;

	if (!object)
		return CLI_REFUSED;
	for (int i = 1; !ret && i < argc; i++)
		ret = backend_do(backends_of(object), verb, argv[i]);
	return ret ? ret : object_apply(cli, object);
}

/* Makes a service, or changes what the options name. */
static int set_do(struct cli *cli, const struct wish *w, char **argv, int argc)
{
	bool exists;
	cleanup_(cleanup_json) json_t *object = object_get(cli, w->ns, argv[0], &exists);
	json_t *spec = json_object_get(object, "spec"), *check;
	int ret = CLI_OK;

	if (!object)
		return CLI_REFUSED;
	if (!exists && !json_object_get(w->spec, "frontends"))
		return cli_refuse("a new service needs --frontend ADDRESS:PORT");
	json_object_update(spec, w->spec);
	if (json_object_size(w->check)) {
		check = json_object_get(spec, "check");
		if (!json_is_object(check)) {
			check = json_object();
			json_object_set_new(spec, "check", check);
		}
		json_object_update(check, w->check);
	}
	for (int i = 1; !ret && i < argc; i++)
		ret = backend_do(backends_of(object), BACKEND_ADD, argv[i]);
	return ret ? ret : object_apply(cli, object);
}

static int remove_do(struct cli *cli, const struct wish *w, char **argv, int argc)
{
	cleanup_(cleanup_free) char *path =
		cli_path("/v1/objects/edgeservices/%s/%s", w->ns, argv[0]);
	int ret;

	if (argc > 1)
		return backends_do(cli, w, BACKEND_REMOVE, argv, argc);
	ret = cli_call(cli, "DELETE", path, NULL, NULL);
	if (!ret)
		printf("edge service %s/%s deleted\n", w->ns, argv[0]);
	return ret;
}

/* ---- options ------------------------------------------------------------------------------------ */

static bool number_set(json_t *object, const char *key, const char *text)
{
	char *end;
	long long value = strtoll(text, &end, 10);

	if (!*text || *end)
		return false;
	json_object_set_new(object, key, json_integer(value));
	return true;
}

/* A duration in seconds or milliseconds. */
static bool time_set(json_t *object, const char *key, const char *text, uint64_t unit)
{
	uint64_t ns;

	if (!cli_parse_duration(text, &ns))
		return false;
	json_object_set_new(object, key, json_integer((json_int_t)(ns / unit)));
	return true;
}

static bool front_add(struct wish *w, const char *text)
{
	json_t *front = edge_front_parse(text);
	json_t *list = json_object_get(w->spec, "frontends");

	if (!front)
		return false;
	if (!list) {
		list = json_array();
		json_object_set_new(w->spec, "frontends", list);
	}
	json_array_append_new(list, front);
	return true;
}

/* false: the value is not what the option takes. */
static bool option_take(struct wish *w, int opt, const char *value)
{
	switch (opt) {
	case OPT_FRONTEND:
		return front_add(w, value);
	case OPT_WAY:
		return !json_object_set_new(w->spec, "way", json_string(value));
	case OPT_AFFINITY:
		return !json_object_set_new(w->spec, "affinity", json_string(value));
	case OPT_QUIC:
		return !json_object_set_new(w->spec, "quic", json_true());
	case OPT_SEED:
		return number_set(w->spec, "seed", value);
	case OPT_IDLE:
		return time_set(w->spec, "idleSeconds", value, 1000000000);
	case OPT_DRAIN_TIME:
		return time_set(w->spec, "drainSeconds", value, 1000000000);
	case OPT_CHECK:
		return !json_object_set_new(w->check, "type", json_string(value));
	case OPT_CHECK_PORT:
		return number_set(w->check, "port", value);
	case OPT_CHECK_PATH:
		return !json_object_set_new(w->check, "path", json_string(value));
	case OPT_CHECK_HOST:
		return !json_object_set_new(w->check, "host", json_string(value));
	case OPT_INTERVAL:
		return time_set(w->check, "intervalMs", value, 1000000);
	case OPT_TIMEOUT:
		return time_set(w->check, "timeoutMs", value, 1000000);
	case OPT_RISE:
		return number_set(w->check, "rise", value);
	case OPT_FALL:
		return number_set(w->check, "fall", value);
	default:
		return false;
	}
}

static const struct {
	const char *word;
	int min; /* operands behind it */
} actions[] = { { "list", 0 },	 { "set", 1 },	 { "add", 2 },
		{ "remove", 1 }, { "drain", 2 }, { "undrain", 2 } };

static int action_do(struct cli *cli, const struct wish *w, size_t action, char **argv, int argc)
{
	switch (action) {
	case 0:
		return argc > 1 ? cli_usage(cli, "list takes one name") : list_do(cli, w, argv[0]);
	case 1:
		return set_do(cli, w, argv, argc);
	case 2:
		return backends_do(cli, w, BACKEND_ADD, argv, argc);
	case 3:
		return remove_do(cli, w, argv, argc);
	case 4:
		return backends_do(cli, w, BACKEND_DRAIN, argv, argc);
	default:
		return backends_do(cli, w, BACKEND_UNDRAIN, argv, argc);
	}
}

static int balance_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_wish) struct wish w = { .ns = "default",
						 .spec = json_object(),
						 .check = json_object() };
	const char *word = "list";
	size_t action = 0;
	int opt, n;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		if (opt == '?')
			return CLI_USAGE;
		if (opt == 'n')
			w.ns = cli->value;
		else if (!option_take(&w, opt, cli->value))
			return cli_usage(cli, "%s is not what this option takes", cli->value);
	}
	n = argc - optind;
	if (n)
		word = argv[optind++];
	while (action < sizeof(actions) / sizeof(actions[0]) && strcmp(actions[action].word, word))
		action++;
	if (action == sizeof(actions) / sizeof(actions[0]))
		return cli_usage(cli, "there is no '%s': list, set, add, remove, drain or undrain",
				 word);
	if (action != 1 && (json_object_size(w.spec) || json_object_size(w.check)))
		return cli_usage(cli, "only set takes options of a service");
	n = argc - optind;
	if (n < actions[action].min)
		return cli_usage(cli, "%s needs %s", word,
				 actions[action].min == 1 ? "a name" : "a name and backends");
	return action_do(cli, &w, action, argv + optind, n);
}

static const struct cli_option balance_options[] = {
	{ 'n', "namespace", "NS", "of the service (default)" },
	{ OPT_FRONTEND, "frontend", "ADDRESS:PORT/PROTO", "what is balanced; repeatable" },
	{ OPT_WAY, "way", "WAY", "to backends: ipip (default), gue, l2 or nat" },
	{ OPT_AFFINITY, "affinity", "WHAT", "connection (default), or a client's address" },
	{ OPT_QUIC, "quic", NULL, "connection ids name their backend" },
	{ OPT_SEED, "seed", "N", "of the flow hash; the same on all balancers" },
	{ OPT_IDLE, "idle", "TIME", "a connection may be silent so long (15m)" },
	{ OPT_DRAIN_TIME, "drain-time", "TIME",
	  "a removed backend keeps connections so long (5m)" },
	{ OPT_CHECK, "check", "TYPE", "tcp, http or none (default)" },
	{ OPT_CHECK_PORT, "check-port", "PORT", "instead of the backend's or the frontend's" },
	{ OPT_CHECK_PATH, "check-path", "PATH", "of an HTTP check (/)" },
	{ OPT_CHECK_HOST, "check-host", "NAME", "of an HTTP check (the backend's address)" },
	{ OPT_INTERVAL, "interval", "TIME", "between checks (2s)" },
	{ OPT_TIMEOUT, "timeout", "TIME", "of a check (1s)" },
	{ OPT_RISE, "rise", "N", "good checks in a row that make a backend up (2)" },
	{ OPT_FALL, "fall", "N", "failed ones that make it down (3)" },
	{ 0 },
};

static const char *const balance_words[] = { "list",  "set",	 "add", "remove",
					     "drain", "undrain", NULL };

const struct cli_command cmd_edge_balance = {
	.name = "edge balance",
	.usage = "[list [NAME] | set NAME [BACKEND...] | add|drain|undrain NAME BACKEND... |\n"
		 "                            remove NAME [BACKEND...]]",
	.summary = "spread connections over backends",
	.details =
		"A BACKEND is ADDRESS[:PORT][,weight=N][,id=N]; an IPv6 address with a port stands "
		"in\n"
		"brackets. add changes the weight of one that is there. A backend that drains or "
		"was\n"
		"removed keeps its connections; removed, for the drain time at most. WEIGHT 0 "
		"gets\n"
		"nothing new. KEPT in the list are connections that are remembered while backends\n"
		"change, or translated.\n",
	.options = balance_options,
	.examples =
		"  towpath edge balance set web --frontend 192.0.2.10:80 --frontend 192.0.2.10:443 "
		"\\\n"
		"      --way ipip --check http --check-path /healthz 10.0.0.2 10.0.0.3,weight=2\n"
		"  towpath edge balance\n"
		"  towpath edge balance add web 10.0.0.4\n"
		"  towpath edge balance drain web 10.0.0.2\n"
		"  towpath edge balance remove web 10.0.0.2\n"
		"  towpath edge balance set dns --frontend 192.0.2.53:53/udp --way nat "
		"10.0.0.9:5353\n",
	.words = balance_words,
	.run = balance_run,
};
