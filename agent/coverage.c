/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Counts of what rules decided, and GET /v1/coverage. */
#include "coverage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define TEXT_MAX 512u
#define SECOND 1000000000u

struct count {
	uint64_t n;
	uint64_t last; /* ns since the epoch */
};

struct covered { /* a policy that decided something */
	UT_hash_handle hh;
	struct covered_side {
		struct count
			denied; /* for want of a rule of any policy that selects the endpoint */
		struct count *rules; /* up to the highest that decided */
		size_t n;
	} side[2];   /* enum tw_direction */
	char name[]; /* ns/name */
};

struct coverage {
	struct covered *head;
};

struct coverage *coverage_new(void)
{
	return calloc(1, sizeof(struct coverage));
}

static void covered_free(struct coverage *c, struct covered *p)
{
	HASH_DEL(c->head, p);
	free(p->side[0].rules);
	free(p->side[1].rules);
	free(p);
}

void coverage_free(struct coverage *c)
{
	struct covered *p, *next;

	if (!c)
		return;
	HASH_ITER(hh, c->head, p, next)
		covered_free(c, p);
	free(c);
}

static struct covered *covered_find(const struct coverage *c, const char *name, size_t len)
{
	struct covered *p;

	HASH_FIND(hh, c->head, name, len, p);
	return p;
}

static struct covered *covered_get(struct coverage *c, const char *name, size_t len)
{
	struct covered *p = covered_find(c, name, len);

	if (p)
		return p;
	p = calloc(1, sizeof(*p) + len + 1);
	if (!p)
		return NULL;
	memcpy(p->name, name, len);
	HASH_ADD_KEYPTR(hh, c->head, p->name, len, p);
	return p;
}

static void count_add(struct count *count, const struct flow_decided *d)
{
	count->n += d->count;
	if (d->time > count->last)
		count->last = d->time;
}

static void decided_rule(struct coverage *c, const struct flow_decided *d)
{
	struct covered *p = covered_get(c, d->policy, d->policy_len);
	struct covered_side *side = p ? &p->side[d->dir] : NULL;
	size_t rule = (size_t)d->rule;

	if (!side)
		return;
	if (rule >= side->n) {
		struct count *v = reallocarray(side->rules, rule + 1, sizeof(*v));

		if (!v)
			return;
		memset(v + side->n, 0, (rule + 1 - side->n) * sizeof(*v));
		side->rules = v;
		side->n = rule + 1;
	}
	count_add(&side->rules[rule], d);
}

/* Every policy that selects the endpoint has its part in a denial. */
static void decided_deny(struct coverage *c, const struct flow_decided *d)
{
	const char *at = d->selected_by, *end = at + d->selected_len;

	while (at < end) {
		const char *comma = memchr(at, ',', (size_t)(end - at));
		size_t len = (size_t)((comma ? comma : end) - at);
		/* A list that was too long ends in the middle of a name. */
		bool cut = !comma && len >= 3 && !memcmp(end - 3, "...", 3);
		struct covered *p = cut ? NULL : covered_get(c, at, len);

		if (p)
			count_add(&p->side[d->dir].denied, d);
		at = comma ? comma + 1 + (comma + 1 < end && comma[1] == ' ') : end;
	}
}

void coverage_decided(struct coverage *c, const struct flow_decided *d)
{
	if (!d->allow)
		decided_deny(c, d);
	else if (d->policy_len && d->rule >= 0)
		decided_rule(c, d);
}

static struct covered *covered_of(const struct coverage *c, const struct object *obj)
{
	char *name = NULL;
	struct covered *p = NULL;

	if (asprintf(&name, "%s/%s", obj->ns, obj->name) < 0)
		return NULL;
	p = covered_find(c, name, strlen(name));
	free(name);
	return p;
}

void coverage_forget(struct coverage *c, const struct object *obj)
{
	struct covered *p = obj->kind == OBJECT_NETWORKPOLICY ? covered_of(c, obj) : NULL;

	if (p)
		covered_free(c, p);
}

/* ---- the answer ------------------------------------------------------------------------------- */

struct report {
	const struct coverage *c;
	const struct policy *policy;
	json_t *items;
	uint64_t since;
	uint32_t limit;
	uint64_t more;
};

static json_t *side_json(const struct object *obj, enum tw_direction dir,
			 const struct covered_side *side)
{
	size_t n = dir == TW_INGRESS ? obj->policy.n_in : obj->policy.n_out;
	json_t *rules = json_array(), *json;
	char text[TEXT_MAX];

	for (size_t i = 0; i < n; i++) {
		static const struct count never;
		const struct count *count = side && i < side->n ? &side->rules[i] : &never;
		json_t *rule;

		policy_rule_text(obj, dir, i, text, sizeof(text));
		rule = json_pack("{s:i, s:s, s:I}", "rule", (int)i, "text", text, "matched",
				 (json_int_t)count->n);
		if (count->n)
			json_object_set_new(rule, "last", json_integer((json_int_t)count->last));
		json_array_append_new(rules, rule);
	}
	json = json_pack("{s:o, s:I}", "rules", rules, "denied",
			 (json_int_t)(side ? side->denied.n : 0));
	if (side && side->denied.n)
		json_object_set_new(json, "last_denied",
				    json_integer((json_int_t)side->denied.last));
	return json;
}

static int report_policy(void *arg, const struct object *obj)
{
	static const char *const names[] = { [TW_INGRESS] = "ingress", [TW_EGRESS] = "egress" };
	const bool enabled[] = {
		[TW_INGRESS] = obj->policy.ingress, [TW_EGRESS] = obj->policy.egress
	};
	struct report *r = arg;
	const struct covered *p;
	json_t *item;

	if (json_array_size(r->items) >= r->limit) {
		r->more++;
		return 0;
	}
	p = covered_of(r->c, obj);
	item = json_pack("{s:s, s:s, s:I, s:i}", "namespace", obj->ns, "name", obj->name, "since",
			 (json_int_t)(obj->since ? obj->since : r->since) * SECOND, "selects",
			 (int)policy_selected(r->policy, obj->ns, obj->name));
	for (unsigned int dir = 0; dir < 2; dir++)
		if (enabled[dir])
			json_object_set_new(
				item, names[dir],
				side_json(obj, (enum tw_direction)dir, p ? &p->side[dir] : NULL));
	return json_array_append_new(r->items, item) ? -ENOMEM : 0;
}

json_t *coverage_json(const struct coverage *c, const struct store *store,
		      const struct policy *policy, const char *ns, uint64_t since, uint32_t limit,
		      uint64_t *more)
{
	struct report r = {
		.c = c, .policy = policy, .items = json_array(), .since = since, .limit = limit
	};

	if (store_object_each(store, OBJECT_NETWORKPOLICY, ns, report_policy, &r)) {
		json_decref(r.items);
		return NULL;
	}
	*more = r.more;
	return r.items;
}
