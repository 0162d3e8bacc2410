/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What is asked for, and what is kept of it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base64.h"
#include "programs_internal.h"

void program_record_clear(struct program_record *r)
{
	free(r->name);
	free(r->program);
	free(r->file);
	free(r->device);
	free(r->ns);
	free(r->pod);
	free(r->cgroup);
	free(r->relative);
	*r = (struct program_record){};
}

static bool text_copy(char **out, const char *text)
{
	*out = text ? strdup(text) : NULL;
	return !text || *out;
}

int program_record_copy(struct program_record *out, const struct program_record *r)
{
	struct program_record copy = *r;
	bool whole = text_copy(&copy.name, r->name);

	whole &= text_copy(&copy.program, r->program);
	whole &= text_copy(&copy.file, r->file);
	whole &= text_copy(&copy.device, r->device);
	whole &= text_copy(&copy.ns, r->ns);
	whole &= text_copy(&copy.pod, r->pod);
	whole &= text_copy(&copy.cgroup, r->cgroup);
	whole &= text_copy(&copy.relative, r->relative);
	if (!whole) {
		program_record_clear(&copy);
		return -ENOMEM;
	}
	*out = copy;
	return 0;
}

/* It names a folder of a bpffs, which takes no dots, and stands in paths of the API. */
bool program_name_valid(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_-";
	size_t len = strlen(name);

	return len && len < USERPROG_NAME_MAX && *name != '-' && strspn(name, allowed) == len;
}

const char *program_place_words(const struct program_record *r, char *buf, size_t len)
{
	const char *hook = r->point->attach == BPF_XDP ? "XDP" : r->point->name;

	if (r->device)
		snprintf(buf, len, "%s %s", r->device, hook);
	else if (r->pod)
		snprintf(buf, len, "%s/%s %s", r->ns, r->pod, hook);
	else
		snprintf(buf, len, "%s %s", r->cgroup, hook);
	return buf;
}

/* ---- reading ------------------------------------------------------------------------------------ */

/* A string that may be absent. -EINVAL: it is no string, or too long. */
static int text_read(const json_t *body, const char *key, size_t max, char **out,
		     struct agent_error *err)
{
	const json_t *value = json_object_get(body, key);

	if (!value || json_is_null(value))
		return 0;
	if (!json_is_string(value) || !json_string_length(value) ||
	    json_string_length(value) > max ||
	    strlen(json_string_value(value)) != json_string_length(value))
		return agent_refuse(err, AGENT_INVALID, "%s: expected 1 to %zu characters", key,
				    max);
	*out = strdup(json_string_value(value));
	return *out ? 0 : agent_refuse(err, AGENT_INTERNAL, "out of memory");
}

static int place_read(const json_t *body, struct program_record *r, struct agent_error *err)
{
	const json_t *endpoint = json_object_get(body, "endpoint");
	int res = text_read(body, "device", IFNAMSIZ - 1, &r->device, err);

	if (!res)
		res = text_read(body, "cgroup", PATH_MAX - 1, &r->cgroup, err);
	if (!res && endpoint)
		res = text_read(endpoint, "namespace", 63, &r->ns, err);
	if (!res && endpoint)
		res = text_read(endpoint, "pod", 253, &r->pod, err);
	if (res)
		return res;
	if (!r->device + !r->cgroup + !(r->ns && r->pod) != 2)
		return agent_refuse(err, AGENT_INVALID,
				    "the request needs one place: device, endpoint (namespace and "
				    "pod) or cgroup");
	return 0;
}

static int point_read(const json_t *body, struct program_record *r, struct agent_error *err)
{
	const enum userprog_where where = r->cgroup ? USERPROG_CGROUP : USERPROG_DEVICE;
	const char *hook = json_string_value(json_object_get(body, "hook"));
	char names[512] = "";

	r->point = hook ? userprog_point_find(where, hook) : NULL;
	if (r->point && r->pod && r->point->attach == BPF_XDP)
		r->point = NULL;
	if (r->point)
		return 0;
	for (const struct userprog_point *p = NULL; (p = userprog_point_next(p));) {
		size_t at = strlen(names);

		if (p->where == where && !(r->pod && p->attach == BPF_XDP))
			snprintf(names + at, sizeof(names) - at, "%s%s", at ? ", " : "", p->name);
	}
	return agent_refuse(err, AGENT_INVALID, "there is no hook %.32s for %s; there is %s",
			    hook ? hook : "\"\"",
			    r->cgroup ? "a cgroup"
			    : r->pod  ? "a container"
				      : "a device",
			    names);
}

static int order_read(const json_t *body, struct program_record *r, struct agent_error *err)
{
	const bool before = json_object_get(body, "before"), after = json_object_get(body, "after");
	int res =
		text_read(body, before ? "before" : "after", USERPROG_NAME_MAX, &r->relative, err);

	if (res)
		return res;
	r->before = before;
	r->bypass = json_is_true(json_object_get(body, "allow_policy_bypass"));
	if (before && after)
		return agent_refuse(err, AGENT_INVALID, "it takes before or after, not both");
	/* Of XDP there is one question, on which side of the edge. */
	if (r->relative && r->point->attach == BPF_XDP && before &&
	    (!strcmp(r->relative, "edge") || !strcmp(r->relative, "towpath")))
		return 0;
	if (r->relative && r->point->attach == BPF_XDP)
		return agent_refuse(err, AGENT_INVALID,
				    "an XDP program comes behind the edge, or with '--before edge' "
				    "before it; a device takes one on either side");
	if (r->relative && !userprog_point_is_tc(r->point))
		return agent_refuse(err, AGENT_INVALID,
				    "only programs at tc hooks have an order that can be chosen: "
				    "those of a cgroup run as they were attached");
	return 0;
}

static int object_read(const json_t *body, struct program_record *r, void **object,
		       struct agent_error *err)
{
	const json_t *text = json_object_get(body, "object");
	int res = text_read(body, "file", 255, &r->file, err);

	if (!res && !r->file)
		r->file = strdup("object");
	if (!res)
		res = text_read(body, "program", 127, &r->program, err);
	if (res)
		return res;
	r->new_maps = json_is_true(json_object_get(body, "new_maps"));
	if (!json_is_string(text) ||
	    base64_decode(json_string_value(text), json_string_length(text), object, &r->size))
		return agent_refuse(err, AGENT_INVALID,
				    "object: expected the bytes of an object file in base64");
	if (r->size > USERPROG_OBJECT_MAX)
		return agent_refuse(err, AGENT_INVALID,
				    "%.200s has %zu bytes; an object file may have %u", r->file,
				    r->size, USERPROG_OBJECT_MAX);
	return 0;
}

int program_request_parse(const json_t *body, struct program_record *out, void **object,
			  struct agent_error *err)
{
	struct program_record r = {};
	void *bytes = NULL;
	int res = object_read(body, &r, &bytes, err);

	if (!res)
		res = text_read(body, "name", USERPROG_NAME_MAX - 1, &r.name, err);
	if (!res && r.name && !program_name_valid(r.name))
		res = agent_refuse(err, AGENT_INVALID,
				   "'%.64s' is no name for a program: letters, digits, '_' and "
				   "'-', the first no '-'",
				   r.name);
	if (!res)
		res = place_read(body, &r, err);
	if (!res)
		res = point_read(body, &r, err);
	if (!res)
		res = order_read(body, &r, err);
	if (res) {
		program_record_clear(&r);
		free(bytes);
		return res;
	}
	*out = r;
	*object = bytes;
	return 0;
}

int program_replacement_parse(const json_t *body, struct program_record *out, void **object,
			      struct agent_error *err)
{
	struct program_record r = {};
	void *bytes = NULL;
	int res = object_read(body, &r, &bytes, err);

	if (res) {
		program_record_clear(&r);
		free(bytes);
		return res;
	}
	*out = r;
	*object = bytes;
	return 0;
}

/* ---- records ------------------------------------------------------------------------------------ */

static void text_set(json_t *json, const char *key, const char *text)
{
	if (text)
		json_object_set_new(json, key, json_string(text));
}

json_t *program_record_json(const struct program_record *r)
{
	char generation[24];
	json_t *json;

	snprintf(generation, sizeof(generation), "%016llx", (unsigned long long)r->generation);
	json = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "name", r->name, "program",
			 r->program, "file", r->file, "hook", r->point->name, "generation",
			 generation, "number", (json_int_t)r->number, "since", (json_int_t)r->since,
			 "size", (json_int_t)r->size);
	if (!json)
		return NULL;
	text_set(json, "device", r->device);
	text_set(json, "cgroup", r->cgroup);
	if (r->pod)
		json_object_set_new(json, "endpoint",
				    json_pack("{s:s, s:s}", "namespace", r->ns, "pod", r->pod));
	text_set(json, r->before ? "before" : "after", r->relative);
	if (r->bypass)
		json_object_set_new(json, "allow_policy_bypass", json_true());
	return json;
}

int program_record_parse(const char *text, struct program_record *out, char *err, size_t err_len)
{
	json_t *json = json_loads(text, 0, NULL);
	const char *generation = json_string_value(json_object_get(json, "generation"));
	struct agent_error refused = {};
	struct program_record r = {};
	int res = text_read(json, "name", USERPROG_NAME_MAX - 1, &r.name, &refused);

	if (!res)
		res = text_read(json, "program", 127, &r.program, &refused);
	if (!res)
		res = text_read(json, "file", 255, &r.file, &refused);
	if (!res &&
	    (!r.name || !program_name_valid(r.name) || !r.program || !r.file || !generation))
		res = agent_refuse(&refused, AGENT_INVALID, "something is missing in it");
	if (!res)
		res = place_read(json, &r, &refused);
	if (!res)
		res = point_read(json, &r, &refused);
	if (!res)
		res = order_read(json, &r, &refused);
	if (!res) {
		r.generation = strtoull(generation, NULL, 16);
		r.number = (uint64_t)json_integer_value(json_object_get(json, "number"));
		r.since = json_integer_value(json_object_get(json, "since"));
		r.size = (size_t)json_integer_value(json_object_get(json, "size"));
		*out = r;
	} else {
		snprintf(err, err_len, "%s", refused.at.text);
		program_record_clear(&r);
	}
	json_decref(json);
	return res;
}
