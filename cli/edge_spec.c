/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "edge_spec.h"

#include <ctype.h>
#include <string.h>

#include "cli.h"

/* The address at *text, which then points behind it; "": there is none. malloc'ed. */
static char *address_take(const char **text)
{
	const char *begin = *text, *end;

	if (*begin == '[') {
		end = strchr(++begin, ']');
		*text = end ? end + 1 : begin + strlen(begin);
		return strndup(begin, end ? (size_t)(end - begin) : 0);
	}
	end = begin + strcspn(begin, ":/,");
	/* Several colons are IPv6, which then has no port. */
	if (*end == ':' && strchr(end + 1, ':'))
		end = begin + strcspn(begin, "/,");
	*text = end;
	return strndup(begin, (size_t)(end - begin));
}

/* ":80" at *text, which then points behind it. -1: what is there is no port; 0: nothing is. */
static int port_take(const char **text)
{
	unsigned long port;
	char *end;

	if (**text != ':')
		return 0;
	if (!isdigit((unsigned char)(*text)[1]))
		return -1;
	port = strtoul(*text + 1, &end, 10);
	*text = end;
	return port >= 1 && port <= 65535 ? (int)port : -1;
}

static bool proto_take(const char *text, json_t *front)
{
	static const char *const names[][2] = { { "tcp", "TCP" },
						{ "udp", "UDP" },
						{ "sctp", "SCTP" } };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(text, names[i][0]) && strcmp(text, names[i][1]))
			continue;
		json_object_set_new(front, "protocol", json_string(names[i][1]));
		return true;
	}
	return false;
}

json_t *edge_front_parse(const char *text)
{
	cleanup_(cleanup_free) char *address = address_take(&text);
	json_t *front = json_object();
	int port;

	if (*text == '/' && isdigit((unsigned char)text[1])) {
		size_t len = strspn(text + 1, "0123456789");
		char *whole = cli_printf("%s/%.*s", address, (int)len, text + 1);

		free(address);
		address = whole;
		text += 1 + len;
	}
	port = port_take(&text);
	json_object_set_new(front, "address", json_string(address));
	if (port > 0)
		json_object_set_new(front, "port", json_integer(port));
	if (*address && port >= 0 && (!*text || (*text == '/' && proto_take(text + 1, front))))
		return front;
	json_decref(front);
	return NULL;
}

/* ",weight=2": one of the two numbers that a backend may have. */
static bool number_take(const char **text, json_t *backend)
{
	static const struct {
		const char *word, *key;
	} known[] = { { ",weight=", "weight" }, { ",id=", "serverID" } };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		size_t len = strlen(known[i].word);
		char *end;

		if (strncmp(*text, known[i].word, len) || !isdigit((unsigned char)(*text)[len]))
			continue;
		json_object_set_new(backend, known[i].key,
				    json_integer(strtoll(*text + len, &end, 0)));
		*text = end;
		return true;
	}
	return false;
}

json_t *edge_backend_parse(const char *text)
{
	cleanup_(cleanup_free) char *address = address_take(&text);
	json_t *backend = json_pack("{s:s}", "address", address);
	int port = port_take(&text);

	if (port > 0)
		json_object_set_new(backend, "port", json_integer(port));
	while (*text && number_take(&text, backend))
		;
	if (*address && port >= 0 && !*text)
		return backend;
	json_decref(backend);
	return NULL;
}

char *edge_address_format(const char *address, json_int_t port)
{
	bool bracket = port && strchr(address, ':');
	char number[32] = "";

	if (port)
		snprintf(number, sizeof(number), ":%lld", (long long)port);
	return cli_printf("%s%s%s%s", bracket ? "[" : "", address, bracket ? "]" : "", number);
}

int edge_backend_is(const json_t *backend, const json_t *parsed)
{
	return !strcmp(cli_str(backend, "address"), cli_str(parsed, "address")) &&
	       cli_int(backend, "port") == cli_int(parsed, "port");
}
