/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* edge limit: token buckets for sources and ports, and SYN cookies. */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <string.h>

enum {
	OPT_PER_SOURCE = CLI_LONG,
	OPT_PORT,
	OPT_SYN,
	OPT_PACKETS,
	OPT_BYTES,
	OPT_BURST,
	OPT_ABOVE,
	OPT_BY,
	OPT_OFF,
};

/* ---- what people write ----------------------------------------------------------------------- */

/* 10, 10k, 1.5M: a number with a factor of thousands. `end` is what follows. */
static bool parse_number(const char *text, double *out, const char **end)
{
	static const char factors[] = "kMG";
	char *after;
	double n = strtod(text, &after);
	const char *factor;

	if (after == text || !isdigit((unsigned char)*text))
		return false;
	factor = *after ? strchr(factors, *after) : NULL;
	if (factor) {
		for (const char *f = factors; f <= factor; f++)
			n *= 1000;
		after++;
	}
	*out = n;
	*end = after;
	return n >= 1 && n <= 1e12;
}

/* 100/s, 10k/m, 5/h; of bytes also 10MB/s and 100Mbit/s. Without "/", a second. */
static bool parse_rate(const char *text, bool bytes, json_int_t *rate, int *seconds)
{
	const char *end;
	double n;

	if (!parse_number(text, &n, &end))
		return false;
	if (bytes && !strncmp(end, "bit", 3)) {
		n /= 8;
		end += 3;
	} else if (bytes && *end == 'B') {
		end++;
	}
	if (!*end || !strcmp(end, "/s"))
		*seconds = 1;
	else if (!strcmp(end, "/m"))
		*seconds = 60;
	else if (!strcmp(end, "/h"))
		*seconds = 3600;
	else
		return false;
	*rate = (json_int_t)n;
	return *rate > 0;
}

/* 443/tcp, 1000-1999/udp; with `tcp` only those of TCP. Into first, last and proto. */
static bool parse_ports(const char *text, bool tcp, json_t *into)
{
	unsigned int first, last;
	char proto[4] = "";
	int used = 0;

	if (sscanf(text, "%5u-%5u/%3s%n", &first, &last, proto, &used) != 3 || text[used]) {
		used = 0;
		if (sscanf(text, "%5u/%3s%n", &first, proto, &used) != 2 || text[used])
			return false;
		last = first;
	}
	if (!first || first > last || last > 65535 || !isdigit((unsigned char)*text) ||
	    (strcmp(proto, "tcp") && (tcp || strcmp(proto, "udp"))))
		return false;
	json_object_set_new(into, "first", json_integer(first));
	json_object_set_new(into, "last", json_integer(last));
	if (!tcp)
		json_object_set_new(into, "proto", json_string(proto));
	return true;
}

/* "/24", "/24,/56", "/56": of IPv4 (32 unless said), of IPv6 (64 unless said). */
static bool parse_prefixes(const char *text, json_t *into)
{
	unsigned int one = 0, two = 0;
	int n = 0, used = 0;

	if (sscanf(text, "/%3u,/%3u%n", &one, &two, &used) == 2 && used && !text[used])
		n = 2;
	else if (sscanf(text, "/%3u%n", &one, &used) == 1 && used && !text[used])
		n = 1;
	if (!n || one > 128 || two > 128 || (n == 2 && one > 32))
		return false;
	json_object_set_new(into, "prefix4", json_integer(one > 32 ? 32 : one));
	json_object_set_new(into, "prefix6", json_integer(n == 2 ? two : one > 32 ? one : 64));
	return true;
}

/* ---- what they read ---------------------------------------------------------------------------- */

/* "443/tcp", "1000-1999/udp", "tcp", "all". */
static void ports_cell(struct cli_table *t, const json_t *item, const char *proto)
{
	json_int_t first = cli_int(item, "first"), last = cli_int(item, "last");

	if (first != last && (first || last != 65535))
		cli_table_cell(t, NULL, "%lld-%lld/%s", (long long)first, (long long)last, proto);
	else if (first == last)
		cli_table_cell(t, NULL, "%lld/%s", (long long)first, proto);
	else
		cli_table_cell(t, NULL, "%s", strcmp(proto, "any") ? proto : "all");
}

static const char *per_name(json_int_t seconds)
{
	return seconds == 60 ? "m" : seconds == 3600 ? "h" : "s";
}

static void limits_print(const struct cli *cli, const json_t *reply)
{
	static const char *const heads[] = { ">NUMBER", "LIMIT",    ">RATE",  ">BURST",
					     "PORT",	">DROPPED", ">BYTES", NULL };
	const json_t *items = json_object_get(reply, "limits"), *item;
	struct cli_table *t = cli_table_new(cli, heads);
	char buf[32];
	size_t i;

	json_array_foreach(items, i, item) {
		const json_t *dropped = json_object_get(item, "dropped");

		cli_table_cell(t, NULL, "%lld", (long long)cli_int(item, "number"));
		if (json_object_get(item, "prefix4"))
			cli_table_cell(t, NULL, "%s per source /%lld,/%lld", cli_str(item, "kind"),
				       (long long)cli_int(item, "prefix4"),
				       (long long)cli_int(item, "prefix6"));
		else
			cli_table_cell(t, NULL, "%s in all", cli_str(item, "kind"));
		cli_table_cell(t, NULL, "%s/%s", cli_number(buf, (uint64_t)cli_int(item, "rate")),
			       per_name(cli_int(item, "seconds")));
		cli_table_cell(t, NULL, "%s", cli_number(buf, (uint64_t)cli_int(item, "burst")));
		ports_cell(t, item, cli_str(item, "proto"));
		cli_table_cell(t, NULL, "%s",
			       cli_number(buf, (uint64_t)cli_int(dropped, "packets")));
		cli_table_cell(t, NULL, "%s", cli_bytes(buf, (uint64_t)cli_int(dropped, "bytes")));
	}
	if (!json_array_size(items))
		puts("there is no limit: towpath edge limit add ...");
	cli_table_print(t);
}

static void cookies_print(const struct cli *cli, const json_t *reply)
{
	static const char *const heads[] = { "COOKIES",	  ">ABOVE",   "STATE", ">ANSWERED",
					     ">ACCEPTED", ">INVALID", NULL };
	const json_t *items = json_object_get(reply, "cookies"), *item;
	const char *why = cli_str(reply, "why");
	struct cli_table *t;
	char buf[32];
	size_t i;

	if (!json_array_size(items))
		return;
	putchar('\n');
	t = cli_table_new(cli, heads);
	json_array_foreach(items, i, item) {
		bool active = json_is_true(json_object_get(item, "active"));

		ports_cell(t, item, "tcp");
		cli_table_cell(t, NULL, "%s/s", cli_number(buf, (uint64_t)cli_int(item, "above")));
		if (*why)
			cli_table_cell(t, CLI_YELLOW, "off: %s", why);
		else if (json_is_true(json_object_get(item, "refused")))
			cli_table_cell(t, CLI_YELLOW, "off: the listener took none (MPTCP?)");
		else
			cli_table_cell(t, active ? CLI_GREEN : NULL, "%s",
				       !json_is_true(json_object_get(reply, "loaded")) ? "no device"
				       : active					       ? "answering"
										       : "waiting");
		cli_table_cell(t, NULL, "%s", cli_number(buf, (uint64_t)cli_int(item, "answered")));
		cli_table_cell(t, NULL, "%s", cli_number(buf, (uint64_t)cli_int(item, "accepted")));
		cli_table_cell(t, NULL, "%s", cli_number(buf, (uint64_t)cli_int(item, "invalid")));
	}
	cli_table_print(t);
}

static int reply_print(struct cli *cli, const json_t *reply)
{
	if (cli->output != CLI_TABLE)
		return cli_print(cli, reply);
	limits_print(cli, reply);
	cookies_print(cli, reply);
	return CLI_OK;
}

/* ---- the actions ---------------------------------------------------------------------------------- */

struct request {
	json_t *limit; /* what all limits of this command have */
	json_t *rates; /* [{kind, rate, seconds}] */
	json_int_t burst;
	json_int_t above;
	const char *by;
	bool off, scoped; /* an option of add; */
	bool cookies;	  /* ... of cookies was there */
};

static void cleanup_request(struct request *r)
{
	json_decref(r->limit);
	json_decref(r->rates);
}

static int rate_option(struct cli *cli, struct request *r, const char *kind)
{
	json_int_t rate;
	int seconds;

	if (!parse_rate(cli->value, !strcmp(kind, "bytes"), &rate, &seconds))
		return cli_usage(cli, "--%s takes a rate such as %s, not \"%s\"", kind,
				 strcmp(kind, "bytes") ? "100/s, 10k/s or 30/m"
						       : "10MB/s or 100Mbit/s",
				 cli->value);
	json_array_append_new(r->rates, json_pack("{s:s, s:I, s:i}", "kind", kind, "rate", rate,
						  "seconds", seconds));
	return 0;
}

static int number_option(struct cli *cli, const char *what, json_int_t *out)
{
	const char *end;
	double n;

	if (!strcmp(cli->value, "0") && !strcmp(what, "above")) {
		*out = 0;
		return 0;
	}
	if (!parse_number(cli->value, &n, &end) ||
	    (*end && strcmp(end, strcmp(what, "above") ? "B" : "/s")))
		return cli_usage(cli, "--%s takes a number such as 200 or 10k, not \"%s\"", what,
				 cli->value);
	*out = (json_int_t)n;
	return 0;
}

static int option(struct cli *cli, int opt, struct request *r)
{
	static const char *const kinds[] = { "syn", "packets", "bytes" };

	switch (opt) {
	case OPT_PER_SOURCE:
		r->scoped = true;
		if (!parse_prefixes(cli->value, r->limit))
			return cli_usage(cli,
					 "--per-source takes lengths of prefixes such as /24 or "
					 "/24,/56, not \"%s\"",
					 cli->value);
		return 0;
	case OPT_PORT:
		r->scoped = true;
		if (!parse_ports(cli->value, false, r->limit))
			return cli_usage(cli,
					 "--port takes ports such as 443/tcp or 1000-1999/udp, not "
					 "\"%s\"",
					 cli->value);
		return 0;
	case OPT_SYN:
	case OPT_PACKETS:
	case OPT_BYTES:
		r->scoped = true;
		return rate_option(cli, r, kinds[opt - OPT_SYN]);
	case OPT_BURST:
		r->scoped = true;
		return number_option(cli, "burst", &r->burst);
	case OPT_ABOVE:
		r->cookies = true;
		return number_option(cli, "above", &r->above);
	case OPT_BY:
		r->cookies = true;
		r->by = cli->value;
		return 0;
	case OPT_OFF:
		r->cookies = r->off = true;
		return 0;
	default:
		return CLI_USAGE;
	}
}

/* A second's worth; never less than what a jiffy, or the largest frame, asks for. */
static json_int_t burst_default(const json_t *rate)
{
	json_int_t n = cli_int(rate, "rate") / cli_int(rate, "seconds");
	bool bytes = !strcmp(cli_str(rate, "kind"), "bytes");

	if (bytes)
		return n < 100000 ? 100000 : n;
	return n < 10 ? 10 : n;
}

static int add_body(struct cli *cli, struct request *r, json_t *body)
{
	json_t *add = json_array(), *rate;
	size_t i;

	json_object_set_new(body, "add", add);
	if (!json_array_size(r->rates))
		return cli_usage(cli, "add takes at least one of --syn, --packets and --bytes");
	if (r->burst && json_array_size(r->rates) > 1)
		return cli_usage(cli, "--burst is for one rate: add the others by themselves");
	json_array_foreach(r->rates, i, rate) {
		json_object_set_new(rate, "burst",
				    json_integer(r->burst ? r->burst : burst_default(rate)));
		json_object_update_missing(rate, r->limit);
		/* Only TCP has SYNs, so that need not be said. */
		if (!strcmp(cli_str(rate, "kind"), "syn") && !json_object_get(rate, "proto"))
			json_object_set_new(rate, "proto", json_string("tcp"));
		json_array_append(add, rate);
	}
	return 0;
}

static int delete_body(struct cli *cli, char **numbers, int n, json_t *body)
{
	json_t *remove = json_array();

	json_object_set_new(body, "remove", remove);
	if (!n)
		return cli_usage(cli, "delete takes numbers of limits, or \"all\"");
	if (n == 1 && !strcmp(numbers[0], "all")) {
		json_object_set_new(body, "remove", json_string("all"));
		return 0;
	}
	for (int i = 0; i < n; i++) {
		char *end;
		long number = strtol(numbers[i], &end, 10);

		if (end == numbers[i] || *end)
			return cli_usage(cli, "\"%s\" is no number of a limit", numbers[i]);
		json_array_append_new(remove, json_integer(number));
	}
	return 0;
}

static int cookies_body(struct cli *cli, const struct request *r, char **ports, int n, json_t *body)
{
	json_t *list = json_array();

	json_object_set_new(body, r->off ? "cookies_remove" : "cookies", list);
	if (r->by)
		json_object_set_new(body, "cookies_by", json_string(r->by));
	if (!n)
		return cli_usage(cli, "cookies takes ports such as 443/tcp");
	for (int i = 0; i < n; i++) {
		json_t *item = json_object();

		json_array_append_new(list, item);
		if (!parse_ports(ports[i], true, item))
			return cli_usage(cli,
					 "cookies takes TCP ports such as 443/tcp or "
					 "8000-8080/tcp, not \"%s\"",
					 ports[i]);
		json_object_set_new(item, "above", json_integer(r->above));
	}
	return 0;
}

/* The body of the request that the words ask for; empty: only a look. */
static int body_make(struct cli *cli, struct request *r, char **words, int n, json_t *body)
{
	const char *action = n ? words[0] : "list";
	bool add = !strcmp(action, "add"), cookies = !strcmp(action, "cookies");

	if ((r->scoped && !add) || (r->cookies && !cookies))
		return cli_usage(cli, "\"%s\" does not take that option", action);
	if (add)
		return n > 1 ? cli_usage(cli, "add takes only options, not \"%s\"", words[1])
			     : add_body(cli, r, body);
	if (cookies)
		return cookies_body(cli, r, words + 1, n - 1, body);
	if (!strcmp(action, "delete"))
		return delete_body(cli, words + 1, n - 1, body);
	if (strcmp(action, "list"))
		return cli_usage(cli, "it takes list, add, delete or cookies, not \"%s\"", action);
	return n > 1 ? cli_usage(cli, "list takes nothing more, not \"%s\"", words[1]) : 0;
}

static int limit_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_request) struct request r = { .limit = json_object(),
						       .rates = json_array() };
	cleanup_(cleanup_json) json_t *body = json_object();
	cleanup_(cleanup_json) json_t *reply = NULL;
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1)
		if (option(cli, opt, &r))
			return CLI_USAGE;
	if (body_make(cli, &r, argv + optind, argc - optind, body))
		return CLI_USAGE;
	if (json_object_size(body))
		ret = cli_call(cli, "POST", "/v1/edge/limits", body, &reply);
	else
		ret = cli_call(cli, "GET", "/v1/edge/limits", NULL, &reply);
	return ret ? ret : reply_print(cli, reply);
}

static const struct cli_option options[] = {
	{ OPT_PER_SOURCE, "per-source", "/N4[,/N6]",
	  "add: each source prefix for itself (IPv6 /64 unless said); without: in all" },
	{ OPT_PORT, "port", "PORTS",
	  "add: to these ports (443/tcp, 1000-1999/udp); without: everything" },
	{ OPT_SYN, "syn", "RATE", "add: new TCP connections (100/s, 10k/s, 30/m)" },
	{ OPT_PACKETS, "packets", "RATE", "add: packets" },
	{ OPT_BYTES, "bytes", "RATE", "add: bytes of frames (10MB/s, 100Mbit/s)" },
	{ OPT_BURST, "burst", "N", "add: so much at once (what a second brings)" },
	{ OPT_ABOVE, "above", "RATE", "cookies: only while more SYNs than that come (0: always)" },
	{ OPT_BY, "by", "MODE",
	  "cookies: how listeners take them: auto, assign (Linux 6.9) or kernel (sysctl)" },
	{ OPT_OFF, "off", NULL, "cookies: no more for these ports" },
	{ 0 },
};

static const char *const actions[] = { "list", "add", "delete", "cookies", NULL };

const struct cli_command cmd_edge_limit = {
	.name = "edge limit",
	.usage = "[list] | add RATES... | delete NUMBER...|all | cookies PORTS...",
	.summary = "limit new connections, packets, bytes; answer floods of SYNs with cookies",
	.details =
		"Limits are token buckets: a burst at once, then the rate. They hold on all "
		"devices\n"
		"of the edge, and not for what an allow rule lets in. Buckets of sources are 524 "
		"288,\n"
		"in 4 MB: when forged sources fill them, the smallest debts are forgotten, so that "
		"a\n"
		"source may get a little more than its limit, and none gets less (measured: 0 of\n"
		"1 000 packets of sources within their limit lost under a million forged ones).\n"
		"\n"
		"A SYN cookie answers a SYN without keeping anything. While they are given for a\n"
		"port, limits on its new connections count clients that came back with a valid\n"
		"cookie, not SYNs. Listeners are this node's own sockets, unchanged; what the "
		"kernel\n"
		"and its sysctls lack for it is said when cookies are switched on.\n",
	.options = options,
	.examples =
		"  towpath edge limit add --per-source /24 --syn 100/s --burst 200 --port 443/tcp\n"
		"  towpath edge limit add --port 53/udp --packets 50k/s\n"
		"  towpath edge limit add --per-source /32,/64 --bytes 100Mbit/s\n"
		"  towpath edge limit cookies 443/tcp --above 1000/s\n"
		"  towpath edge limit list\n"
		"  towpath edge limit delete 1\n"
		"  towpath edge limit cookies 443/tcp --off\n",
	.words = actions,
	.run = limit_run,
};
