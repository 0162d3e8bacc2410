/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Rules and lists: more of them, less of them, and those whose time is over. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "edge/internal.h"
#include "log.h"

#define REQUEST_RULES_MAX 4000u

/* ---- who would be locked out --------------------------------------------------------------------- */

static bool ports_cover(const struct edge_ports *ports, const struct guarded *who)
{
	if (ports->any)
		return true;
	/* Without it neither end finds the other one's MAC address. */
	if (ports->proto == IPPROTO_ICMPV6)
		return !addr_is4(&who->addr);
	/* Of a protocol that nobody talks by here, no rule keeps anybody out. */
	return who->port && ports->proto == IPPROTO_TCP && ports->first <= who->port &&
	       who->port <= ports->last;
}

static bool rule_covers(const struct edge_rule *rule, const struct guarded *who)
{
	if (rule->kind == EDGE_RULE_PREFIX)
		return prefix_contains(&rule->prefix, &who->addr) && ports_cover(&rule->ports, who);
	return rule->kind == EDGE_RULE_PORT && ports_cover(&rule->ports, who);
}

/* What is decided about somebody, as rule after rule is looked at. */
struct judgement {
	const struct edge_task *t;
	const struct guarded *who;
	const struct edge_rule *deny;
	bool allowed;
};

static bool is_deleted(const struct edge_task *t, uint32_t number)
{
	for (size_t i = 0; i < t->n_del; i++)
		if (t->del[i] == number)
			return true;
	return false;
}

static void judge(struct judgement *j, const struct edge_rule *rule)
{
	if (rule->action == EDGE_ALLOW)
		j->allowed = true;
	else if (!j->deny)
		j->deny = rule;
}

static void judge_number(void *arg, uint32_t number)
{
	struct judgement *j = arg;
	const struct edge_rule *rule = j->t->e->compile.rule[number];

	if (rule && rule->kind == EDGE_RULE_LIST && !is_deleted(j->t, number))
		judge(j, rule);
}

static void judge_all(struct judgement *j)
{
	const struct edges *e = j->t->e;
	const struct edge_table *table = j->t->table ? j->t->table : e->table;

	for (uint32_t i = TW_EDGE_FIRST_RULE; i < TW_EDGE_COUNTERS; i++) {
		const struct edge_rule *rule = e->compile.rule[i];

		if (rule && rule->kind != EDGE_RULE_LIST && !is_deleted(j->t, i) &&
		    rule_covers(rule, j->who))
			judge(j, rule);
	}
	edge_prefixes_cover(&j->t->prefixes, &j->who->addr, judge_number, j);
	if (table)
		edge_prefixes_cover(edge_table_lists(table), &j->who->addr, judge_number, j);
}

int edges_guard(struct edge_task *t)
{
	struct guarded found[GUARDED_MAX], *who = t->who ? t->who : found;
	size_t n = t->force ? 0 : t->who ? t->n_who : guarded_find(t->e, t->client, found);

	for (size_t i = 0; i < n; i++) {
		struct judgement j = { .t = t, .who = &who[i] };
		char addr[INET6_ADDRSTRLEN];

		judge_all(&j);
		if (!j.deny || j.allowed)
			continue;
		addr_format(&who[i].addr, addr, sizeof(addr));
		return edge_task_refuse(
			t, AGENT_INVALID, -EPERM,
			"%s %.100s would lock out %s, %s; allow it first, or insist "
			"with --force",
			edge_action_name(j.deny->action), j.deny->text, addr, who[i].who);
	}
	return 0;
}

/* ---- numbers ---------------------------------------------------------------------------------------- */

static struct edge_rule *rule_find(const struct edges *e, enum edge_action action, const char *text,
				   bool list)
{
	for (uint32_t i = TW_EDGE_FIRST_RULE; i < TW_EDGE_COUNTERS; i++) {
		struct edge_rule *rule = e->rule[i];

		if (rule && rule->action == action && !strcmp(rule->text, text) &&
		    (rule->kind == EDGE_RULE_LIST) == list)
			return rule;
	}
	return NULL;
}

/* The added rules get numbers, and are seen by the compiler. */
static int numbers_take(struct edge_task *t)
{
	struct edges *e = t->e;
	uint32_t next = TW_EDGE_FIRST_RULE;

	for (size_t i = 0; i < t->n_add; i++) {
		while (next < TW_EDGE_COUNTERS && e->compile.rule[next])
			next++;
		if (next == TW_EDGE_COUNTERS) {
			return edge_task_refuse(t, AGENT_EXHAUSTED, -ENOSPC,
						"there are as many rules as there may be (%u); put "
						"prefixes into a file",
						TW_EDGE_COUNTERS - TW_EDGE_FIRST_RULE);
		}
		t->add[i].number = next;
		e->compile.rule[next] = &t->add[i];
		/* Of whoever had the number before. */
		if (e->edge)
			edge_count_clear(e->edge, next);
	}
	for (size_t i = 0; i < t->n_del; i++)
		e->compile.rule[t->del[i]] = NULL;
	return 0;
}

/* As before the task. */
static void numbers_return(struct edge_task *t)
{
	struct edges *e = t->e;

	for (size_t i = 0; i < t->n_add; i++)
		if (t->add[i].number)
			e->compile.rule[t->add[i].number] = NULL;
	for (size_t i = 0; i < t->n_del; i++)
		e->compile.rule[t->del[i]] = e->rule[t->del[i]];
}

/* ---- storing ---------------------------------------------------------------------------------------- */

static int store_items(struct edge_task *t, bool back)
{
	size_t n = t->n_add + t->n_del, at = 0;
	struct store_edge_item *items = calloc(n + 1, sizeof(*items));
	char(*keys)[32] = calloc(n + 1, sizeof(*keys));
	char **texts = calloc(n + 1, sizeof(*texts));
	int res = items && keys && texts ? 0 : -ENOMEM;

	for (size_t i = 0; i < n && !res; i++, at++) {
		bool add = i >= t->n_del;
		uint32_t number = add ? t->add[i - t->n_del].number : t->del[i];
		json_t *json = add != back ? edge_rule_json(add ? &t->add[i - t->n_del]
								: t->e->rule[number])
					   : NULL;

		/* One rule may take another one's place. */
		snprintf(keys[at], sizeof(keys[at]), "rule/%u", number);
		texts[at] = json ? json_dumps(json, JSON_COMPACT) : NULL;
		items[at] = (struct store_edge_item){ keys[at], texts[at] };
		json_decref(json);
		if (add != back && !texts[at])
			res = -ENOMEM;
	}
	if (!res)
		res = store_edge_write(t->e->a->store, items, n);
	for (size_t i = 0; texts && i < n; i++)
		free(texts[i]);
	free(texts);
	free(keys);
	free(items);
	return res;
}

/* A list that replaces itself goes on counting. */
static void counts_inherit(struct edge_task *t)
{
	for (size_t i = 0; i < t->n_add; i++) {
		for (size_t j = 0; j < t->n_del; j++) {
			const struct edge_rule *old = t->e->rule[t->del[j]];

			if (old->action == t->add[i].action && old->kind == t->add[i].kind &&
			    !strcmp(old->text, t->add[i].text))
				edge_rule_count(t->e, old, &t->add[i].before);
		}
	}
}

static int store_rules(struct edge_task *t)
{
	uint64_t begin = uv_hrtime();

	counts_inherit(t);
	int res = store_items(t, false);

	t->store_us += (uv_hrtime() - begin) / 1000;
	t->stored = !res;
	if (res)
		return edge_task_refuse(t, res == -ENOSPC ? AGENT_EXHAUSTED : AGENT_INTERNAL, res,
					"%s", store_error(t->e->a->store));
	return 0;
}

/* What was stored is in force: the rules are the edge's. */
static void rules_adopt(struct edge_task *t)
{
	struct edges *e = t->e;
	char path[4096];

	for (size_t i = 0; i < t->n_del; i++) {
		struct edge_rule *old = e->rule[t->del[i]];

		if (old->kind == EDGE_RULE_LIST) {
			edges_list_path(e, old->file, path);
			unlink(path);
		}
		edge_rule_clear(old);
		free(old);
		e->rule[t->del[i]] = NULL;
		e->n_rules--;
	}
	for (size_t i = 0; i < t->n_add; i++) {
		struct edge_rule *rule = malloc(sizeof(*rule));

		if (!rule) {
			log_error("edge: out of memory; a rule is in force that is not listed");
			continue;
		}
		*rule = t->add[i];
		t->add[i] = (struct edge_rule){};
		e->rule[rule->number] = rule;
		e->compile.rule[rule->number] = rule;
		e->n_rules++;
	}
}

/* ---- the quick way ------------------------------------------------------------------------------------- */

/* A prefix by itself, or rules on ports; the rest needs the whole table anew. */
static bool is_quick(const struct edge_task *t)
{
	for (size_t i = 0; i < t->n_del; i++)
		if (t->e->rule[t->del[i]]->kind == EDGE_RULE_LIST)
			return false;
	if (t->text || t->n_add + t->n_del > 64)
		return false;
	return edge_settings_equal(t->e->edge, &t->want);
}

static int ports_store(const struct edges *e)
{
	struct tw_edge_ports *ports = malloc(sizeof(*ports));
	int res = -ENOMEM;

	if (ports) {
		edge_compile_ports(&e->compile, ports);
		res = edge_ports_store(e->edge, ports);
	}
	free(ports);
	return res;
}

static int quick_apply(struct edge_task *t)
{
	struct edges *e = t->e;
	bool ports = false;
	int res = 0;

	/* First what comes: a rule that is given another time holds throughout. */
	for (size_t i = 0; i < t->n_add && !res; i++) {
		const struct edge_rule *rule = &t->add[i];

		ports |= rule->kind == EDGE_RULE_PORT;
		if (rule->kind == EDGE_RULE_PREFIX)
			res = edge_table_set(e->table, &rule->prefix.addr, rule->prefix.len,
					     rule->number);
	}
	for (size_t i = 0; i < t->n_del && !res; i++) {
		const struct edge_rule *rule = e->rule[t->del[i]];

		ports |= rule->kind == EDGE_RULE_PORT;
		if (rule->kind == EDGE_RULE_PREFIX)
			res = edge_table_del(e->table, &rule->prefix.addr, rule->prefix.len,
					     rule->number);
	}
	if (!res)
		res = e->compile.failed;
	if (!res && ports)
		res = ports_store(e);
	return res;
}

/* ---- the whole table ------------------------------------------------------------------------------------- */

static int list_read(const struct edges *e, const struct edge_rule *rule, struct edge_prefixes *all,
		     char *err, size_t err_len)
{
	struct edge_prefixes one = {};
	struct edge_list_error at = {};
	char path[4096];
	char *text;
	size_t len;

	edges_list_path(e, rule->file, path);
	int res = edge_file_read(path, &text, &len);

	if (res) {
		snprintf(err, err_len, "the list %.80s is not in force: cannot read %.100s: %s",
			 rule->text, path, strerror(-res));
		return res;
	}
	res = edge_list_parse(text, len, rule->number, &one, &at);
	free(text);
	if (res)
		snprintf(err, err_len, "the list %.80s is not in force: %.80s:%u:%u: %.60s",
			 rule->text, path, at.line, at.column, at.text);
	else
		res = edge_prefixes_append(all, &one);
	edge_prefixes_free(&one);
	return res;
}

int edges_lists_read(struct edges *e, struct edge_prefixes *out, char *err, size_t err_len)
{
	struct edge_prefixes all = {};
	int res = 0;

	for (uint32_t i = TW_EDGE_FIRST_RULE; i < TW_EDGE_COUNTERS && !res; i++) {
		const struct edge_rule *rule = e->rule[i];

		if (!rule || rule->kind != EDGE_RULE_LIST)
			continue;
		res = list_read(e, rule, &all, err, err_len);
		/* One that was damaged does not take the others out of force. */
		if (res && res != -ENOMEM)
			res = 0;
	}
	if (!res)
		res = edge_prefixes_sort(&all);
	if (res)
		edge_prefixes_free(&all);
	else
		*out = all;
	return res;
}

/* Written aside, then renamed: whole or not at all, also over a power failure. */
static int list_write(struct edge_task *t)
{
	char path[4096], aside[4096];
	size_t done = 0;
	int fd, dir;

	edges_list_path(t->e, t->add[0].file, path);
	snprintf(aside, sizeof(aside), "%.4000s+", path);
	fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	while (fd >= 0 && done < t->len) {
		ssize_t n = write(fd, t->text + done, t->len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	if (fd < 0 || done < t->len || fsync(fd) || close(fd) || rename(aside, path)) {
		int res = -errno;

		unlink(aside);
		return edge_task_refuse(t, res == -ENOSPC ? AGENT_EXHAUSTED : AGENT_INTERNAL, res,
					"cannot write %s: %s", path, strerror(-res));
	}
	dir = open(t->e->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir >= 0) {
		fsync(dir);
		close(dir);
	}
	return 0;
}

/* The lists in force, without those that go and with the one that comes. */
static int lists_next(struct edge_task *t, struct edge_prefixes *out)
{
	struct edge_prefixes rest = {};
	int res = edge_prefixes_append(&rest, edge_table_lists(t->e->table));

	for (size_t i = 0; i < t->n_del && !res; i++)
		if (t->e->rule[t->del[i]]->kind == EDGE_RULE_LIST)
			edge_prefixes_drop_rule(&rest, t->del[i]);
	if (!res)
		res = edge_prefixes_merge(&rest, &t->prefixes, out);
	edge_prefixes_free(&rest);
	return res;
}

int edges_prepare(struct edge_task *t)
{
	struct edge_prefixes lists = {}, singles = {};
	uint64_t begin = uv_hrtime();
	struct edges *e = t->e;
	int res = lists_next(t, &lists) ?: edges_singles(e, &singles);

	if (res) {
		edge_prefixes_free(&lists);
		return edge_task_refuse(t, AGENT_INTERNAL, res, "out of memory");
	}
	edge_compile_begin(&e->compile);
	res = edge_table_prepare(e->table, &lists, &singles, &t->want, &t->load, t->err,
				 sizeof(t->err));
	t->build_us = (uv_hrtime() - begin) / 1000;
	if (res)
		return *t->err ? res
			       : edge_task_refuse(t, AGENT_INTERNAL, res,
						  "the table could not be made: %s",
						  strerror(-res));
	if (e->compile.failed)
		return edge_task_refuse(
			t, AGENT_EXHAUSTED, e->compile.failed,
			"prefixes with ports have more combinations than there is room for");
	return 0;
}

static void rules_work(struct edge_task *t)
{
	uint64_t begin = uv_hrtime();

	if (t->text) {
		t->res = edge_list_parse(t->text, t->len, t->add[0].number, &t->prefixes, &t->at);
		if (t->res) {
			t->code = AGENT_INVALID;
			snprintf(t->err, sizeof(t->err), "%s", t->at.text);
			return;
		}
		t->add[0].entries = t->prefixes.n4 + t->prefixes.n6;
		t->parse_us = (uv_hrtime() - begin) / 1000;
		t->res = list_write(t);
		t->store_us = (uv_hrtime() - begin) / 1000 - t->parse_us;
	}
	if (!t->res && t->e->table)
		t->res = edges_prepare(t);
}

static void reply_make(struct edge_task *t)
{
	json_t *rules = json_array();

	for (size_t i = 0; i < t->n_add; i++)
		json_array_append_new(rules, edge_rule_json(&t->add[i]));
	t->reply = json_pack("{s:o, s:I, s:b, s:I, s:I, s:I, s:I}", "rules", rules, "removed",
			     (json_int_t)t->n_del, "in_force", t->e->table != NULL, "parse_us",
			     (json_int_t)t->parse_us, "store_us", (json_int_t)t->store_us,
			     "build_us", (json_int_t)t->build_us, "total_us",
			     (json_int_t)((uv_hrtime() - t->started) / 1000));
}

int edges_commit(struct edge_task *t)
{
	struct edges *e = t->e;
	bool reloads;
	int res;

	if (!t->load)
		return 0;
	reloads = !edge_settings_equal(e->edge, &t->want);
	res = edge_table_commit(e->table, t->load, t->err, sizeof(t->err));
	t->load = NULL;
	if (!res && reloads)
		edges_loaded(e);
	if (!res)
		res = ports_store(e);
	if (res)
		t->code = AGENT_INTERNAL;
	return res;
}

/* Prepared; now the store, then the kernel. */
static void rules_end(struct edge_task *t)
{
	uint64_t begin;

	t->res = edges_guard(t);
	if (!t->res)
		t->res = store_rules(t);
	begin = uv_hrtime();
	if (!t->res)
		t->res = edges_commit(t);
	t->build_us += (uv_hrtime() - begin) / 1000;
	if (t->res)
		return;
	reply_make(t);
	rules_adopt(t);
}

/* Failed tasks leave no number behind; called for those that never reach rules_end(), too. */
static void rules_over(struct edge_task *t)
{
	char path[4096];

	if (!t->res)
		return;
	if (t->stored && store_items(t, true))
		log_error("edge: %s", store_error(t->e->a->store));
	numbers_return(t);
	if (t->text && t->n_add && t->add[0].file) {
		edges_list_path(t->e, t->add[0].file, path);
		unlink(path);
	}
}

/* Rules that are there already are replaced: their time may be another. */
static int duplicates_find(struct edge_task *t)
{
	for (size_t i = 0; i < t->n_add; i++) {
		const struct edge_rule *old = rule_find(t->e, t->add[i].action, t->add[i].text,
							t->add[i].kind == EDGE_RULE_LIST);

		if (old && !is_deleted(t, old->number))
			t->del[t->n_del++] = old->number;
	}
	return 0;
}

static int rules_begin(struct edge_task *t)
{
	struct edges *e = t->e;
	int res = duplicates_find(t);

	if (!res)
		res = numbers_take(t);
	edges_settings(e, &t->want);
	if (res || t->text || (e->table && !is_quick(t)))
		return res;
	/* Without a device it is stored, and that is all. */
	res = edges_guard(t) ?: store_rules(t);
	if (!res && e->table && quick_apply(t)) {
		/* Too short a prefix, or no room: the whole table, and what is stored stays. */
		return 0;
	}
	if (res)
		return res;
	t->build_us = (uv_hrtime() - t->started) / 1000 - t->store_us;
	reply_make(t);
	rules_adopt(t);
	return 1;
}

static struct edge_task *rules_task(struct edges *e, size_t n, edges_fn done, void *arg)
{
	struct edge_task *t = edge_task_new(e, done, arg);

	if (!t)
		return NULL;
	t->add = calloc(n + 1, sizeof(*t->add));
	t->del = calloc(2 * n + 1, sizeof(*t->del));
	t->begin = rules_begin;
	t->work = rules_work;
	t->end = rules_end;
	t->over = rules_over;
	if (t->add && t->del)
		return t;
	edge_task_free(t);
	return NULL;
}

/* ---- requests ------------------------------------------------------------------------------------------- */

static int action_parse(const char *text, enum edge_action *out, struct agent_error *err)
{
	if (!text || (strcmp(text, "deny") && strcmp(text, "allow")))
		return agent_refuse(err, AGENT_INVALID, "action must be deny or allow");
	*out = strcmp(text, "deny") ? EDGE_ALLOW : EDGE_DENY;
	return 0;
}

static int rule_take(struct edge_task *t, enum edge_action action, const char *text, bool remove,
		     int64_t for_s, struct agent_error *err)
{
	struct edge_rule *rule = &t->add[t->n_add];
	const struct edge_rule *old = remove ? rule_find(t->e, action, text, true) : NULL;
	char why[256] = "";
	int res;

	if (old) {
		if (!is_deleted(t, old->number))
			t->del[t->n_del++] = old->number;
		return 0;
	}
	res = edge_rule_parse(text, action, rule, why, sizeof(why));

	if (res && remove)
		return agent_refuse(err, AGENT_NOT_FOUND,
				    "there is no rule and no list '%s %.100s'",
				    edge_action_name(action), text);
	if (res)
		return agent_refuse(err, AGENT_INVALID, "%s", why);
	if (!remove) {
		rule->since = (int64_t)agent_wall_seconds(t->e->a);
		rule->expires = for_s ? rule->since + for_s : 0;
		/* Twice in one request is once. */
		for (size_t i = 0; i < t->n_add; i++)
			if (!strcmp(t->add[i].text, rule->text)) {
				edge_rule_clear(rule);
				return 0;
			}
		t->n_add++;
		return 0;
	}
	old = rule_find(t->e, action, rule->text, false);
	if (!old)
		res = agent_refuse(err, AGENT_NOT_FOUND, "there is no rule '%s %.100s'",
				   edge_action_name(action), rule->text);
	else if (!is_deleted(t, old->number))
		t->del[t->n_del++] = old->number;
	edge_rule_clear(rule);
	return res;
}

int edges_rules(struct edges *e, const json_t *body, edges_fn done, void *arg,
		struct agent_error *err)
{
	const json_t *rules = json_object_get(body, "rules"), *rule;
	const char *client = json_string_value(json_object_get(body, "client"));
	bool remove = json_is_true(json_object_get(body, "remove"));
	int64_t for_s = json_integer_value(json_object_get(body, "for_s"));
	enum edge_action action;
	size_t i;
	int res = action_parse(json_string_value(json_object_get(body, "action")), &action, err);

	if (!res && (!json_array_size(rules) || json_array_size(rules) > REQUEST_RULES_MAX))
		res = agent_refuse(err, AGENT_INVALID,
				   "the request needs rules (a list of 1 to %u strings)",
				   REQUEST_RULES_MAX);
	if (!res && (for_s < 0 || for_s > EDGES_FOR_MAX))
		res = agent_refuse(err, AGENT_INVALID,
				   "for_s must be a number of seconds, at most %lld",
				   (long long)EDGES_FOR_MAX);
	if (res)
		return res;
	struct edge_task *t = rules_task(e, json_array_size(rules), done, arg);
	if (!t)
		return agent_refuse(err, AGENT_INTERNAL, "out of memory");
	t->force = json_is_true(json_object_get(body, "force"));
	t->client = client ? strdup(client) : NULL;
	json_array_foreach(rules, i, rule) {
		const char *text = json_string_value(rule);

		res = rule_take(t, action, text ? text : "", remove, for_s, err);
		if (res) {
			edge_task_free(t);
			return res;
		}
	}
	return edge_task_add(t, err);
}

static int list_begin(struct edge_task *t)
{
	if (!t->text) {
		const struct edge_rule *old = rule_find(t->e, t->add[0].action, t->name, true);

		edge_rule_clear(&t->add[0]);
		t->n_add = 0;
		if (!old)
			return edge_task_refuse(t, AGENT_NOT_FOUND, -ENOENT,
						"there is no list '%.200s'", t->name);
		t->del[t->n_del++] = old->number;
	}
	return rules_begin(t);
}

static bool name_is_good(const char *name)
{
	size_t len = name ? strlen(name) : 0;

	for (size_t i = 0; i < len; i++)
		if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
			return false;
	return len > 0 && len <= 255;
}

int edges_list(struct edges *e, struct edges_list *list, edges_fn done, void *arg,
	       struct agent_error *err)
{
	struct edge_task *t = rules_task(e, 1, done, arg);
	enum edge_action action = EDGE_DENY;
	int res = action_parse(list->action, &action, err);

	if (!res && !name_is_good(list->name))
		res = agent_refuse(err, AGENT_INVALID,
				   "a list needs a name of 1 to 255 bytes, without control "
				   "characters");
	if (!t || res) {
		free(list->text);
		if (t)
			edge_task_free(t);
		return res ? res : agent_refuse(err, AGENT_INTERNAL, "out of memory");
	}
	t->begin = list_begin;
	t->text = list->text;
	t->len = list->len;
	t->force = list->force;
	t->client = list->client ? strdup(list->client) : NULL;
	snprintf(t->name, sizeof(t->name), "%s", list->name);
	t->add[0] = (struct edge_rule){
		.action = action,
		.kind = EDGE_RULE_LIST,
		.ports.any = true,
		.text = strdup(list->name),
		.file = ++e->file,
		.since = (int64_t)agent_wall_seconds(e->a),
	};
	t->add[0].expires = list->for_s ? t->add[0].since + list->for_s : 0;
	t->n_add = 1;
	if (!t->add[0].text) {
		edge_task_free(t);
		return agent_refuse(err, AGENT_INTERNAL, "out of memory");
	}
	return edge_task_add(t, err);
}

void edges_reload(struct edges *e)
{
	struct tw_edge_settings want;
	struct agent_error err;
	struct edge_task *t;

	edges_settings(e, &want);
	if (!e->edge || e->queue || edge_settings_equal(e->edge, &want))
		return;
	t = rules_task(e, 0, NULL, NULL);
	if (!t)
		return;
	t->force = true; /* no rule has changed */
	edge_task_add(t, &err);
}

/* ---- time ------------------------------------------------------------------------------------------------ */

void edges_expire(struct edges *e)
{
	int64_t now = (int64_t)agent_wall_seconds(e->a);
	struct edge_task *t = NULL;
	struct agent_error err;

	for (uint32_t i = TW_EDGE_FIRST_RULE; i < TW_EDGE_COUNTERS; i++) {
		const struct edge_rule *rule = e->rule[i];

		if (!rule || !rule->expires || rule->expires > now)
			continue;
		if (!t)
			t = rules_task(e, e->n_rules, NULL, NULL);
		if (!t)
			return;
		t->del[t->n_del++] = i;
		log_info("edge: %s %s is over", edge_action_name(rule->action), rule->text);
	}
	if (!t)
		return;
	t->force = true; /* it was said beforehand */
	edge_task_add(t, &err);
}
