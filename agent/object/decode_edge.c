/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * EdgeService (towpath.dev/v1): what the edge balances; EdgeDecap: whom a backend takes packets
 * from. Kinds of our own, so no field is let by.
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include <towpath/edge_balance_abi.h>

#include "object/decode.h"

#define FRONTS_MAX 64u
#define BACKENDS_MAX 512u
#define TEXT_MAX 256u /* of a path or host name */

bool service_front_same(const struct service_front *a, const struct service_front *b)
{
	return !memcmp(&a->prefix.addr, &b->prefix.addr, sizeof(a->prefix.addr)) &&
	       a->prefix.len == b->prefix.len && a->port == b->port && a->proto == b->proto;
}

/* ---- values ----------------------------------------------------------------------------- */

struct number {
	uint32_t min, max, value;
};

static int decode_number(struct decoder *d, const struct node *node, void *out)
{
	struct number *n = out;

	if (node->type != NODE_INT)
		return decode_fail_type(d, node, "a number");
	if (node->number < n->min || node->number > n->max)
		return decode_fail(d, node, "expected a number from %u to %u, found %.64s", n->min,
				   n->max, node->text);
	n->value = (uint32_t)node->number;
	return 0;
}

/* A field between two bounds; *out stays what it is when the field is absent. */
static int number_field(struct decoder *d, const struct node *map, const char *key, uint32_t min,
			uint32_t max, uint32_t *out)
{
	struct number n = { min, max, *out };
	int err = decode_field(d, map, key, decode_number, &n);

	if (!err)
		*out = n.value;
	return err;
}

static int decode_prefix(struct decoder *d, const struct node *node, void *out)
{
	const char *text;
	int err = decode_string(d, node, &text);

	if (err)
		return err;
	if (prefix_parse(text, out))
		return decode_fail(d, node, "expected an address or prefix, found '%.64s'", text);
	return 0;
}

static int decode_addr(struct decoder *d, const struct node *node, void *out)
{
	const char *text;
	int err = decode_string(d, node, &text);

	if (err)
		return err;
	if (addr_parse(text, out))
		return decode_fail(d, node, "expected an IPv4 or IPv6 address, found '%.64s'",
				   text);
	return 0;
}

/* Goes into a request as it is, so nothing that could end a line of it. */
static int decode_text(struct decoder *d, const struct node *node, void *out)
{
	char **copy = out;
	const char *text;
	int err = decode_string(d, node, &text);

	if (err)
		return err;
	if (!*text || node->len > TEXT_MAX)
		return decode_fail(d, node, "expected 1 to %u characters, found %zu", TEXT_MAX,
				   node->len);
	for (const char *c = text; *c; c++)
		if (*c <= ' ' || *c > '~')
			return decode_fail(d, node, "expected printable ASCII without spaces");
	*copy = arena_copy(d->mem, text, node->len);
	return *copy ? 0 : -ENOMEM;
}

/* One of some words; its number goes to *out. */
static int word_find(struct decoder *d, const struct node *node, const char *const *words,
		     const char *expected, unsigned int *out)
{
	const char *text;
	int err = decode_string(d, node, &text);

	if (err)
		return err;
	for (unsigned int i = 0; words[i]; i++) {
		if (strcmp(words[i], text))
			continue;
		*out = i;
		return 0;
	}
	return decode_fail(d, node, "expected %s, found '%.64s'", expected, text);
}

static int decode_way(struct decoder *d, const struct node *node, void *out)
{
	static const char *const words[] = { "ipip", "gue", "l2", "nat", NULL };
	uint8_t *way = out;
	unsigned int i = 0;
	int err = word_find(d, node, words, "ipip, gue, l2 or nat", &i);

	_Static_assert(TW_EDGE_WAY_IPIP == 1 && TW_EDGE_WAY_NAT == 4, "order of the words");
	if (!err)
		*way = (uint8_t)(i + 1);
	return err;
}

static int decode_affinity(struct decoder *d, const struct node *node, void *out)
{
	static const char *const words[] = { "connection", "address", NULL };
	uint8_t *flags = out;
	unsigned int i = 0;
	int err = word_find(d, node, words, "connection or address", &i);

	if (!err && i)
		*flags |= TW_EDGE_FRONT_ADDRESS;
	return err;
}

/* ---- parts -------------------------------------------------------------------------------- */

static int decode_front(struct decoder *d, const struct node *node, void *out)
{
	static const char *const fields[] = { "address", "port", "protocol", NULL };
	struct service_front *front = out;
	int err = decode_map(d, node);

	front->proto = IPPROTO_TCP;
	if (!err)
		err = decode_known(d, node, fields);
	if (!err)
		err = decode_required(d, node, "address", decode_prefix, &front->prefix);
	if (!err)
		err = decode_field(d, node, "port", decode_port, &front->port);
	if (!err)
		err = decode_field(d, node, "protocol", decode_protocol, &front->proto);
	return err;
}

static int decode_fronts(struct decoder *d, const struct node *node, void *out)
{
	struct edge_service *s = out;
	int err = decode_list(d, node, sizeof(*s->fronts), decode_front, &s->fronts, &s->n_fronts);

	if (!err && (!s->n_fronts || s->n_fronts > FRONTS_MAX))
		return decode_fail(d, node, "expected 1 to %u frontends, found %zu", FRONTS_MAX,
				   s->n_fronts);
	return err;
}

static int decode_backend(struct decoder *d, const struct node *node, void *out)
{
	static const char *const fields[] = {
		"address", "port", "weight", "drain", "serverID", NULL
	};
	struct service_backend *backend = out;
	uint32_t weight = 1, id = 0;
	int err = decode_map(d, node);

	if (!err)
		err = decode_known(d, node, fields);
	if (!err)
		err = decode_required(d, node, "address", decode_addr, &backend->addr);
	if (!err)
		err = decode_field(d, node, "port", decode_port, &backend->port);
	if (!err)
		err = number_field(d, node, "weight", 0, 1000, &weight);
	if (!err)
		err = decode_field(d, node, "drain", decode_bool, &backend->drain);
	if (!err)
		err = number_field(d, node, "serverID", 1, 65535, &id);
	backend->weight = (uint16_t)weight;
	backend->server_id = (uint16_t)id;
	return err;
}

static int decode_backends(struct decoder *d, const struct node *node, void *out)
{
	struct edge_service *s = out;
	int err = decode_list(d, node, sizeof(*s->backends), decode_backend, &s->backends,
			      &s->n_backends);

	if (!err && s->n_backends > BACKENDS_MAX)
		return decode_fail(d, node, "expected at most %u backends, found %zu", BACKENDS_MAX,
				   s->n_backends);
	return err;
}

static int decode_check_type(struct decoder *d, const struct node *node, void *out)
{
	static const char *const words[] = { "none", "tcp", "http", NULL };
	struct edge_service *s = out;
	unsigned int i = 0;
	int err = word_find(d, node, words, "tcp, http or none", &i);

	if (!err)
		s->check.type = (enum service_check)i;
	return err;
}

static int decode_check(struct decoder *d, const struct node *node, void *out)
{
	static const char *const fields[] = { "type",	   "port", "path", "host", "intervalMs",
					      "timeoutMs", "rise", "fall", NULL };
	struct edge_service *s = out;
	int err = decode_map(d, node);

	s->check.type = CHECK_TCP;
	if (!err)
		err = decode_known(d, node, fields);
	if (!err)
		err = decode_field(d, node, "type", decode_check_type, s);
	if (!err)
		err = decode_field(d, node, "port", decode_port, &s->check.port);
	if (!err)
		err = decode_field(d, node, "path", decode_text, &s->check.path);
	if (!err)
		err = decode_field(d, node, "host", decode_text, &s->check.host);
	if (!err)
		err = number_field(d, node, "intervalMs", 100, 3600000, &s->check.interval_ms);
	if (!err)
		err = number_field(d, node, "timeoutMs", 10, 60000, &s->check.timeout_ms);
	if (!err)
		err = number_field(d, node, "rise", 1, 100, &s->check.rise);
	if (!err)
		err = number_field(d, node, "fall", 1, 100, &s->check.fall);
	return err;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static int check_fronts(struct decoder *d, const struct node *at, const struct edge_service *s)
{
	for (size_t i = 0; i < s->n_fronts; i++) {
		const struct service_front *f = &s->fronts[i];

		if (s->flags & TW_EDGE_FRONT_QUIC && f->proto != IPPROTO_UDP)
			return decode_fail(d, at, "expected quic with frontends of UDP only");
		if (s->way == TW_EDGE_WAY_NAT && f->proto == IPPROTO_SCTP)
			return decode_fail(d, at, "SCTP cannot be translated; take another way");
		for (size_t j = 0; j < i; j++)
			if (service_front_same(&s->fronts[j], f))
				return decode_fail(d, at, "frontends %zu and %zu are the same", j,
						   i);
	}
	return 0;
}

static int check_backends(struct decoder *d, const struct node *at, const struct edge_service *s)
{
	for (size_t i = 0; i < s->n_backends; i++) {
		const struct service_backend *b = &s->backends[i];

		for (size_t j = 0; j < i; j++) {
			if (!memcmp(&s->backends[j].addr, &b->addr, sizeof(b->addr)) &&
			    s->backends[j].port == b->port)
				return decode_fail(d, at, "backends %zu and %zu are the same", j,
						   i);
			if (b->server_id && s->backends[j].server_id == b->server_id)
				return decode_fail(d, at, "backends %zu and %zu have one serverID",
						   j, i);
		}
		if (s->way != TW_EDGE_WAY_NAT && b->port)
			return decode_fail(
				d, at, "backend %zu has a port, which only way nat can give it", i);
		for (size_t j = 0; s->way == TW_EDGE_WAY_NAT && j < s->n_fronts; j++)
			if (addr_is4(&b->addr) != addr_is4(&s->fronts[j].prefix.addr))
				return decode_fail(
					d, at,
					"backend %zu and frontend %zu are not of one family, which "
					"way nat needs",
					i, j);
	}
	return 0;
}

static int decode_spec(struct decoder *d, const struct node *node, void *out)
{
	static const char *const fields[] = { "frontends",   "backends",     "way",
					      "affinity",    "quic",	     "seed",
					      "idleSeconds", "drainSeconds", "check",
					      NULL };
	struct edge_service *s = out;
	bool quic = false;
	int err = decode_map(d, node);

	if (!err)
		err = decode_known(d, node, fields);
	if (!err)
		err = decode_required(d, node, "frontends", decode_fronts, s);
	if (!err)
		err = decode_field(d, node, "backends", decode_backends, s);
	if (!err)
		err = decode_field(d, node, "way", decode_way, &s->way);
	if (!err)
		err = decode_field(d, node, "affinity", decode_affinity, &s->flags);
	if (!err)
		err = decode_field(d, node, "quic", decode_bool, &quic);
	if (!err)
		err = number_field(d, node, "seed", 0, UINT32_MAX, &s->seed);
	if (!err)
		err = number_field(d, node, "idleSeconds", 1, 86400, &s->idle);
	if (!err)
		err = number_field(d, node, "drainSeconds", 0, 604800, &s->drain);
	if (!err)
		err = decode_field(d, node, "check", decode_check, s);
	if (quic)
		s->flags |= TW_EDGE_FRONT_QUIC;
	if (s->way == TW_EDGE_WAY_NAT)
		s->flags |= TW_EDGE_FRONT_NAT;
	if (!err && quic && s->way == TW_EDGE_WAY_NAT)
		err = decode_fail(d, node, "quic needs way ipip, gue or l2");
	if (!err)
		err = check_fronts(d, node, s);
	if (!err)
		err = check_backends(d, node, s);
	return err;
}

int decode_edge_service(struct decoder *d, const struct node *doc, struct object *obj)
{
	static const char *const fields[] = { "apiVersion", "kind", "metadata", "spec", NULL };
	struct edge_service *s = &obj->service;
	int err = decode_known(d, doc, fields);

	*s = (struct edge_service){ .way = TW_EDGE_WAY_IPIP, .idle = 900, .drain = 300 };
	s->check.interval_ms = 2000;
	s->check.timeout_ms = 1000;
	s->check.rise = 2;
	s->check.fall = 3;
	return err ? err : decode_required(d, doc, "spec", decode_spec, s);
}

/* ---- EdgeDecap ------------------------------------------------------------------------------ */

static int decode_from(struct decoder *d, const struct node *node, void *out)
{
	struct edge_decap_spec *spec = out;
	int err = decode_list(d, node, sizeof(*spec->from), decode_prefix, &spec->from,
			      &spec->n_from);

	if (!err && (!spec->n_from || spec->n_from > TW_EDGE_DECAP_SOURCES))
		return decode_fail(d, node, "expected 1 to %u addresses or prefixes, found %zu",
				   TW_EDGE_DECAP_SOURCES, spec->n_from);
	return err;
}

static int decode_decap_spec(struct decoder *d, const struct node *node, void *out)
{
	static const char *const fields[] = { "from", NULL };
	int err = decode_map(d, node);

	if (!err)
		err = decode_known(d, node, fields);
	return err ? err : decode_required(d, node, "from", decode_from, out);
}

int decode_edge_decap(struct decoder *d, const struct node *doc, struct object *obj)
{
	static const char *const fields[] = { "apiVersion", "kind", "metadata", "spec", NULL };
	int err = decode_known(d, doc, fields);

	return err ? err : decode_required(d, doc, "spec", decode_decap_spec, &obj->decap);
}
