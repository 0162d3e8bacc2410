/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * libFuzzer: any bytes into object_parse(). What is refused has a position and a sentence; what
 * is taken comes out of its own canonical JSON as it went in.
 */
#include <errno.h>
#include <string.h>

#include "fuzz.h"
#include "object/object.h"

static void check_object(const struct object *obj)
{
	struct object_list again;
	struct object_error err;

	fuzz_check(!object_parse("json", obj->json, strlen(obj->json), &again, &err));
	fuzz_check(again.n == 1);
	fuzz_check(!strcmp(again.v[0]->json, obj->json));
	fuzz_check(again.v[0]->kind == obj->kind && !strcmp(again.v[0]->name, obj->name) &&
		   !strcmp(again.v[0]->ns, obj->ns) && again.v[0]->labels.n == obj->labels.n);
	for (size_t i = 0; i < obj->labels.n; i++)
		fuzz_check(labels_get(&again.v[0]->labels, obj->labels.v[i].key));
	object_list_clear(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct object_list list;
	struct object_error err;
	int res = object_parse("fuzz", (const char *)data, size, &list, &err);

	if (res) {
		fuzz_check(res == -EINVAL && err.line && err.column && *err.text);
		return 0;
	}
	for (size_t i = 0; i < list.n; i++)
		check_object(list.v[i]);
	object_list_clear(&list);
	return 0;
}
