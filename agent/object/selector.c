/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Label selectors, to the letter of k8s.io/apimachinery/pkg/labels. */
#include <stdlib.h>
#include <string.h>

#include "object/object.h"

const char *labels_get(const struct labels *labels, const char *key)
{
	size_t low = 0, high = labels->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int cmp = strcmp(key, labels->v[mid].key);

		if (!cmp)
			return labels->v[mid].value;
		if (cmp < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

static bool term_has_value(const struct selector_term *term, const char *value)
{
	for (size_t i = 0; i < term->n_values; i++)
		if (!strcmp(term->values[i], value))
			return true;
	return false;
}

static bool term_match(const struct selector_term *term, const struct labels *labels)
{
	const char *value = labels_get(labels, term->key);

	switch (term->op) {
	case SELECTOR_IN:
		return value && term_has_value(term, value);
	case SELECTOR_NOT_IN: /* an absent key is in no list */
		return !value || !term_has_value(term, value);
	case SELECTOR_EXISTS:
		return value;
	case SELECTOR_NOT_EXISTS:
		return !value;
	}
	return false;
}

bool selector_match(const struct selector *sel, const struct labels *labels)
{
	for (size_t i = 0; i < sel->n; i++)
		if (!term_match(&sel->v[i], labels))
			return false;
	return true;
}
