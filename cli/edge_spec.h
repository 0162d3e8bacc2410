/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Frontends and backends as they are typed, and as an EdgeService has them. */
#ifndef CLI_EDGE_SPEC_H
#define CLI_EDGE_SPEC_H

#include <jansson.h>

/* ADDRESS[/LENGTH][:PORT][/PROTOCOL], an IPv6 address with a port in brackets. NULL: it is none. */
json_t *edge_front_parse(const char *text);
/* ADDRESS[:PORT][,weight=N][,id=N]. NULL: it is none. */
json_t *edge_backend_parse(const char *text);
/* "192.0.2.10:80", with brackets where they are needed; port 0: none. malloc'ed. */
char *edge_address_format(const char *address, json_int_t port);
/* Whether a backend of an EdgeService has the address and port of a parsed one. */
int edge_backend_is(const json_t *backend, const json_t *parsed);

#endif
