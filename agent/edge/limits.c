/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "edge/limits.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static const char *const kinds[] = {
	[TW_EDGE_LIMIT_CONNECTIONS] = "syn",
	[TW_EDGE_LIMIT_PACKETS] = "packets",
	[TW_EDGE_LIMIT_BYTES] = "bytes",
};
static const char *const modes[] = {
	[TW_EDGE_COOKIE_OFF] = "auto",
	[TW_EDGE_COOKIE_ASSIGN] = "assign",
	[TW_EDGE_COOKIE_KERNEL] = "kernel",
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int word_find(const char *const *words, size_t n, const json_t *value)
{
	const char *text = json_string_value(value);

	for (size_t i = 0; text && i < n; i++)
		if (!strcmp(words[i], text))
			return (int)i;
	return -EINVAL;
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static const char *proto_name(uint8_t proto)
{
	return proto == IPPROTO_TCP ? "tcp" : proto == IPPROTO_UDP ? "udp" : "any";
}

static int proto_parse(const json_t *value, uint8_t *out)
{
	const char *name = json_string_value(value);
	static const uint8_t protos[] = { 0, IPPROTO_TCP, IPPROTO_UDP };

	for (size_t i = 0; i < COUNT(protos); i++) {
		if (strcmp(name ? name : "any", proto_name(protos[i])))
			continue;
		*out = protos[i];
		return 0;
	}
	return -EINVAL;
}

/* A whole number from low to high; absent: fallback. */
static int number_get(const json_t *json, const char *key, json_int_t low, json_int_t high,
		      json_int_t fallback, json_int_t *out)
{
	const json_t *value = json_object_get(json, key);
	json_int_t n = value ? json_integer_value(value) : fallback;

	if ((value && !json_is_integer(value)) || n < low || n > high)
		return -EINVAL;
	*out = n;
	return 0;
}

static int limit_parse(const json_t *json, struct edge_limit *out)
{
	int kind = word_find(kinds, COUNT(kinds), json_object_get(json, "kind"));
	json_int_t rate, seconds, burst, first, last, four, six, id;
	struct edge_limit l = { .source = json_object_get(json, "prefix4") };

	if (kind < 0 || number_get(json, "rate", 1, INT64_MAX, 0, &rate) ||
	    number_get(json, "seconds", 1, 3600, 1, &seconds) ||
	    number_get(json, "burst", 1, INT64_MAX, 0, &burst) ||
	    number_get(json, "first", 0, 65535, 0, &first) ||
	    number_get(json, "last", 0, 65535, 65535, &last) ||
	    number_get(json, "prefix4", 0, 32, 32, &four) ||
	    number_get(json, "prefix6", 0, 128, 64, &six) ||
	    number_get(json, "id", 1, UINT32_MAX, 1, &id) ||
	    proto_parse(json_object_get(json, "proto"), &l.proto))
		return -EINVAL;
	l.kind = (enum tw_edge_limit_kind)kind;
	l.id = (uint32_t)id;
	l.rate = (uint64_t)rate;
	l.seconds = (uint32_t)seconds;
	l.burst = (uint64_t)burst;
	l.first = (uint16_t)first;
	l.last = (uint16_t)last;
	l.prefix4 = (uint8_t)four;
	l.prefix6 = (uint8_t)six;
	*out = l;
	return 0;
}

static json_t *limit_json(const struct edge_limit *l)
{
	json_t *json = json_pack("{s:s, s:I, s:i, s:I, s:s, s:i, s:i}", "kind", kinds[l->kind],
				 "rate", (json_int_t)l->rate, "seconds", (int)l->seconds, "burst",
				 (json_int_t)l->burst, "proto", proto_name(l->proto), "first",
				 l->first, "last", l->last);

	if (json && l->source) {
		json_object_set_new(json, "prefix4", json_integer(l->prefix4));
		json_object_set_new(json, "prefix6", json_integer(l->prefix6));
	}
	return json;
}

static int cookies_parse(const json_t *json, struct edge_cookies *out)
{
	json_int_t first, last, above;

	if (number_get(json, "first", 1, 65535, 0, &first) ||
	    number_get(json, "last", first, 65535, first, &last) ||
	    number_get(json, "above", 0, 1000000000, 0, &above))
		return -EINVAL;
	*out = (struct edge_cookies){ (uint16_t)first, (uint16_t)last, (uint32_t)above };
	return 0;
}

static json_t *cookies_json(const struct edge_cookies *c)
{
	return json_pack("{s:i, s:i, s:I}", "first", c->first, "last", c->last, "above",
			 (json_int_t)c->above);
}

/* ---- the store ------------------------------------------------------------------------------ */

int limits_load(struct limits *l, const char *key, const char *text)
{
	json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
	const char *slash = strchr(key, '/');
	unsigned long place = slash ? strtoul(slash + 1, NULL, 10) : 0;
	int res = -EINVAL, mode;

	if (!strncmp(key, "limit/", 6) && place < TW_EDGE_LIMITS) {
		res = limit_parse(json, &l->limit[place]);
		l->limit[place].slot = (uint32_t)place;
	} else if (!strncmp(key, "cookies/", 8) && place < TW_EDGE_COOKIE_PORTS) {
		res = cookies_parse(json, &l->cookies[place]);
	} else if (!strcmp(key, "cookies_by")) {
		mode = word_find(modes, COUNT(modes), json);
		res = mode < 0 ? mode : 0;
		if (!res)
			l->mode = (enum tw_edge_cookie_mode)mode;
	}
	json_decref(json);
	return res;
}

#define ITEMS_MAX (TW_EDGE_LIMITS + TW_EDGE_COOKIE_PORTS + 1)

struct items {
	struct store_edge_item item[ITEMS_MAX];
	char key[ITEMS_MAX][24];
	size_t n;
	int res;
};

/* json is taken; NULL: remove the key. */
static void item_add(struct items *items, const char *what, size_t place, bool there, json_t *json)
{
	char *text = json ? json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	json_decref(json);
	if (there && !text)
		items->res = -ENOMEM;
	snprintf(items->key[items->n], sizeof(items->key[0]), place == SIZE_MAX ? "%s" : "%s/%zu",
		 what, place);
	items->item[items->n] = (struct store_edge_item){ items->key[items->n], text };
	items->n++;
}

static json_t *limit_stored(const struct edge_limit *l)
{
	json_t *json = l->id ? limit_json(l) : NULL;

	if (json)
		json_object_set_new(json, "id", json_integer(l->id));
	return json;
}

int limits_store(struct store *s, const struct limits *before, const struct limits *after)
{
	struct items *items = calloc(1, sizeof(*items));
	int res;

	if (!items)
		return -ENOMEM;
	for (size_t i = 0; i < TW_EDGE_LIMITS; i++)
		/* A limit does not change: another one has another id. */
		if (before->limit[i].id != after->limit[i].id)
			item_add(items, "limit", i, after->limit[i].id,
				 limit_stored(&after->limit[i]));
	for (size_t i = 0; i < TW_EDGE_COOKIE_PORTS; i++) {
		const struct edge_cookies *c = &after->cookies[i];

		if (memcmp(&before->cookies[i], c, sizeof(*c)))
			item_add(items, "cookies", i, c->last, c->last ? cookies_json(c) : NULL);
	}
	if (before->mode != after->mode)
		item_add(items, "cookies_by", SIZE_MAX, true, json_string(modes[after->mode]));
	res = items->res;
	if (!res && items->n)
		res = store_edge_write(s, items->item, items->n);
	for (size_t i = 0; i < items->n; i++)
		free((void *)items->item[i].json);
	free(items);
	return res;
}

/* ---- changes ----------------------------------------------------------------------------------- */

static bool id_used(const struct limits *l, uint32_t id)
{
	for (size_t i = 0; i < TW_EDGE_LIMITS; i++)
		if (l->limit[i].id == id)
			return true;
	return !id;
}

static bool limit_same(const struct edge_limit *a, const struct edge_limit *b)
{
	return a->kind == b->kind && a->source == b->source && a->proto == b->proto &&
	       a->first == b->first && a->last == b->last &&
	       (!a->source || (a->prefix4 == b->prefix4 && a->prefix6 == b->prefix6));
}

static int limit_add(struct limits *l, const json_t *json, struct agent_error *err)
{
	struct edge_limit limit;
	struct tw_edge_settings settings;
	size_t free_place = TW_EDGE_LIMITS;
	char why[256] = "";

	if (limit_parse(json, &limit))
		return agent_refuse(
			err, AGENT_INVALID,
			"a limit needs kind (syn, packets, bytes), rate, seconds, burst, "
			"and may have prefix4, prefix6, proto (tcp, udp), first, last");
	for (size_t i = TW_EDGE_LIMITS; i--;) {
		if (!l->limit[i].id)
			free_place = i;
		else if (limit_same(&l->limit[i], &limit))
			return agent_refuse(err, AGENT_EXISTS,
					    "limit %zu is of the same packets; delete it first",
					    i + 1);
	}
	if (free_place == TW_EDGE_LIMITS)
		return agent_refuse(err, AGENT_EXHAUSTED,
				    "there are %u limits, and no more at a time", TW_EDGE_LIMITS);
	limit.slot = (uint32_t)free_place;
	/* Of chance, so that buckets that a limit of earlier left behind are nobody's. */
	do {
		if (getrandom(&limit.id, sizeof(limit.id), 0) != sizeof(limit.id))
			return agent_refuse(err, AGENT_INTERNAL, "no random number could be had");
	} while (id_used(l, limit.id));
	edge_settings_default(&settings);
	if (edge_limit_check(&limit, settings.hz, why, sizeof(why)))
		return agent_refuse(err, AGENT_INVALID, "%s", why);
	l->limit[free_place] = limit;
	return 0;
}

static int limits_remove(struct limits *l, const json_t *numbers, struct agent_error *err)
{
	const json_t *number;
	size_t i;

	if (json_is_string(numbers)) {
		memset(l->limit, 0, sizeof(l->limit));
		return 0;
	}
	json_array_foreach(numbers, i, number) {
		json_int_t n = json_integer_value(number);

		if (n < 1 || n > TW_EDGE_LIMITS || !l->limit[n - 1].id)
			return agent_refuse(err, AGENT_NOT_FOUND, "there is no limit %lld",
					    (long long)n);
		l->limit[n - 1] = (struct edge_limit){};
	}
	return 0;
}

static bool ranges_meet(const struct edge_cookies *a, const struct edge_cookies *b)
{
	return a->last && b->last && a->first <= b->last && b->first <= a->last;
}

static int cookies_put(struct limits *l, const json_t *json, bool remove, struct agent_error *err)
{
	size_t place = TW_EDGE_COOKIE_PORTS;
	bool found = false;
	struct edge_cookies c;

	if (cookies_parse(json, &c))
		return agent_refuse(err, AGENT_INVALID,
				    "cookies need first, and may have last (TCP ports) and above "
				    "(SYNs a second)");
	for (size_t i = TW_EDGE_COOKIE_PORTS; i-- && !found;) {
		struct edge_cookies *at = &l->cookies[i];

		if (!at->last || (at->first == c.first && at->last == c.last))
			place = i;
		else if (ranges_meet(at, &c))
			return agent_refuse(err, AGENT_EXISTS,
					    "ports %u to %u have cookies already; they overlap",
					    at->first, at->last);
		found = at->last && place == i;
	}
	if (remove && !found)
		return agent_refuse(err, AGENT_NOT_FOUND, "there are no cookies for port %u",
				    c.first);
	if (place == TW_EDGE_COOKIE_PORTS)
		return agent_refuse(err, AGENT_EXHAUSTED,
				    "%u ranges of ports have cookies, and no more",
				    TW_EDGE_COOKIE_PORTS);
	l->cookies[place] = remove ? (struct edge_cookies){} : c;
	return 0;
}

static int cookies_mode(struct limits *l, const json_t *body, struct agent_error *err)
{
	const json_t *by = json_object_get(body, "cookies_by");
	int mode = by ? word_find(modes, COUNT(modes), by) : (int)l->mode;
	struct tw_edge_cookie_settings settings = {};
	char why[256] = "";
	bool any = false;

	if (mode < 0)
		return agent_refuse(err, AGENT_INVALID, "cookies_by is auto, assign or kernel");
	l->mode = (enum tw_edge_cookie_mode)mode;
	for (size_t i = 0; i < TW_EDGE_COOKIE_PORTS; i++)
		any |= l->cookies[i].last != 0;
	/* Whoever switches cookies on is told now what they need. */
	if (any && (by || json_array_size(json_object_get(body, "cookies"))) &&
	    edge_cookie_probe(l->mode, &settings, why, sizeof(why)))
		return agent_refuse(err, AGENT_NOT_READY, "%s", why);
	return 0;
}

int limits_change(struct limits *l, const json_t *body, struct agent_error *err)
{
	struct limits next = *l;
	const json_t *item;
	int res = limits_remove(&next, json_object_get(body, "remove"), err);
	size_t i;

	json_array_foreach(json_object_get(body, "add"), i, item)
		if (!res)
			res = limit_add(&next, item, err);
	json_array_foreach(json_object_get(body, "cookies_remove"), i, item)
		if (!res)
			res = cookies_put(&next, item, true, err);
	json_array_foreach(json_object_get(body, "cookies"), i, item)
		if (!res)
			res = cookies_put(&next, item, false, err);
	if (!res)
		res = cookies_mode(&next, body, err);
	if (!res)
		*l = next;
	return res;
}

/* ---- the kernel ---------------------------------------------------------------------------------- */

static bool has_cookies(const struct limits *l)
{
	for (size_t i = 0; i < TW_EDGE_COOKIE_PORTS; i++)
		if (l->cookies[i].last)
			return true;
	return false;
}

void limits_settings(const struct limits *l, struct tw_edge_settings *out)
{
	bool any = has_cookies(l);

	for (size_t i = 0; i < TW_EDGE_LIMITS; i++)
		any |= l->limit[i].id != 0;
	if (any)
		out->limits = out->parse = 1;
}

static int places_reset(struct edge *edge, const struct limits *before, const struct limits *l)
{
	int res = 0;

	for (uint32_t i = 0; before && !res && i < TW_EDGE_LIMITS; i++)
		if (l->limit[i].id && l->limit[i].id != before->limit[i].id)
			res = edge_limit_reset(edge, i);
	for (uint32_t i = 0; before && !res && i < TW_EDGE_COOKIE_PORTS; i++)
		if (l->cookies[i].last && (l->cookies[i].first != before->cookies[i].first ||
					   l->cookies[i].last != before->cookies[i].last))
			res = edge_cookie_reset(edge, i);
	return res;
}

int limits_apply(struct edge *edge, const struct limits *before, const struct limits *l,
		 char why[256], char *err, size_t err_len)
{
	struct edge_limit limit[TW_EDGE_LIMITS];
	struct edge_limits all = { .limit = limit,
				   .cookies = l->cookies,
				   .n_cookies = TW_EDGE_COOKIE_PORTS };
	int res = places_reset(edge, before, l);

	*why = '\0';
	for (size_t i = 0; i < TW_EDGE_LIMITS; i++)
		if (l->limit[i].id)
			limit[all.n++] = l->limit[i];
	if (!res && has_cookies(l) && edge_cookie_probe(l->mode, &all.settings, why, 256))
		all.settings = (struct tw_edge_cookie_settings){};
	edge_cookie_mss(edge, all.settings.mss);
	/* Who takes cookies is there before anybody gives them, and as long as. */
	if (!res && all.settings.mode == TW_EDGE_COOKIE_ASSIGN)
		res = edge_accept_sync(edge, true, err, err_len);
	if (!res)
		res = edge_limits_apply(edge, &all, err, err_len);
	if (!res && all.settings.mode != TW_EDGE_COOKIE_ASSIGN)
		res = edge_accept_sync(edge, false, err, err_len);
	return res;
}

/* ---- answers ---------------------------------------------------------------------------------------- */

static json_t *limit_answer(const struct edge_limit *l, const struct edge *edge)
{
	struct edge_limit_count count = {};
	json_t *json = limit_json(l);

	if (edge)
		edge_limit_count_read(edge, l->slot, &count);
	if (json) {
		json_object_set_new(json, "number", json_integer(l->slot + 1));
		json_object_set_new(json, "dropped",
				    json_pack("{s:I, s:I}", "packets",
					      (json_int_t)count.dropped.packets, "bytes",
					      (json_int_t)count.dropped.bytes));
		json_object_set_new(json, "forgotten", json_integer((json_int_t)count.forgotten));
	}
	return json;
}

static json_t *cookies_answer(const struct edge_cookies *c, uint32_t place, const struct edge *edge)
{
	struct edge_cookie_count count = {};
	json_t *json = cookies_json(c);

	if (edge)
		edge_cookie_count_read(edge, place, c->above, &count);
	if (json) {
		const struct {
			const char *key;
			uint64_t n;
		} counts[] = {
			{ "answered", count.sum.answered },
			{ "accepted", count.sum.accepted },
			{ "invalid", count.sum.invalid },
			{ "unusable", count.sum.unusable },
		};

		json_object_set_new(json, "active", json_boolean(count.active));
		json_object_set_new(json, "refused", json_boolean(count.refused));
		for (size_t i = 0; i < COUNT(counts); i++)
			json_object_set_new(json, counts[i].key,
					    json_integer((json_int_t)counts[i].n));
	}
	return json;
}

json_t *limits_json(const struct limits *l, const struct edge *edge, const char *why)
{
	json_t *limits = json_array(), *cookies = json_array();

	for (size_t i = 0; i < TW_EDGE_LIMITS; i++)
		if (l->limit[i].id)
			json_array_append_new(limits, limit_answer(&l->limit[i], edge));
	for (uint32_t i = 0; i < TW_EDGE_COOKIE_PORTS; i++)
		if (l->cookies[i].last)
			json_array_append_new(cookies, cookies_answer(&l->cookies[i], i, edge));
	return json_pack("{s:o, s:o, s:s, s:s, s:b}", "limits", limits, "cookies", cookies,
			 "cookies_by", modes[l->mode], "why", why, "loaded", edge != NULL);
}
