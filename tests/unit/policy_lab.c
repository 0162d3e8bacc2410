/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "policy_lab.h"

#include <stdlib.h>
#include <string.h>

#include "unit.h"

static void *grow(void *v, size_t size)
{
	void *grown = realloc(v, size);

	assert_non_null(grown);
	return grown;
}

/* ---- peers ---------------------------------------------------------------------------------- */

static int peer_order(const void *a, const void *b)
{
	const struct tw_peer_key *x = a, *y = b;

	if (x->set != y->set)
		return x->set < y->set ? -1 : 1;
	return x->identity < y->identity ? -1 : x->identity > y->identity;
}

static struct lab_peer *peer_find(const struct lab *lab, uint32_t set, uint32_t identity)
{
	const struct tw_peer_key key = { set, identity };

	return lab->n_peers
		       ? bsearch(&key, lab->peers, lab->n_peers, sizeof(*lab->peers), peer_order)
		       : NULL;
}

static void peers_add(struct lab *lab, const struct tw_peer_key *v, size_t n, uint32_t since,
		      uint32_t until)
{
	lab->peers = grow(lab->peers, (lab->n_peers + n + 1) * sizeof(*lab->peers));
	for (size_t i = 0; i < n; i++) {
		assert_true(v[i].set != TW_SET_NONE && v[i].set != TW_SET_ANY);
		assert_true(v[i].identity >= TW_ID_FIRST);
		lab->peers[lab->n_peers + i] = (struct lab_peer){ v[i], since, until };
	}
	lab->n_peers += n;
	qsort(lab->peers, lab->n_peers, sizeof(*lab->peers), peer_order);
	for (size_t i = 1; i < lab->n_peers; i++)
		assert_true(peer_order(&lab->peers[i - 1], &lab->peers[i]) < 0);
}

/* Old versions go on finding them, and only those do. */
static void peers_leave(struct lab *lab, const struct tw_peer_key *v, size_t n)
{
	size_t fresh = 0;
	struct tw_peer_key *brief = malloc((n + 1) * sizeof(*brief));

	assert_non_null(brief);
	for (size_t i = 0; i < n; i++) {
		struct lab_peer *peer = peer_find(lab, v[i].set, v[i].identity);

		if (!peer) {
			brief[fresh++] = v[i];
			continue;
		}
		assert_int_equal(peer->until, UINT32_MAX);
		peer->until = lab->generation;
	}
	peers_add(lab, brief, fresh, 0, lab->generation);
	free(brief);
}

/* What has left goes, and what is to go. */
static void peers_sweep(struct lab *lab, const struct policy_plan *plan)
{
	const struct {
		const struct tw_peer_key *v;
		size_t n;
	} lists[] = { { plan->peers_del, plan->n_peers_del },
		      { plan->set_peers_del, plan->n_set_peers_del } };
	size_t kept = 0;

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		for (size_t j = 0; j < lists[i].n; j++) {
			struct lab_peer *peer =
				peer_find(lab, lists[i].v[j].set, lists[i].v[j].identity);

			assert_true(peer && peer->since != UINT32_MAX);
			peer->since = UINT32_MAX;
		}
	}
	for (size_t i = 0; i < lab->n_peers; i++) {
		const struct lab_peer *peer = &lab->peers[i];

		if (peer->since != UINT32_MAX && peer->until == UINT32_MAX)
			lab->peers[kept++] = *peer;
	}
	lab->n_peers = kept;
}

/* ---- versions ------------------------------------------------------------------------------- */

static void version_check(const struct lab *lab, const struct plan_version *v)
{
	for (unsigned int dir = 0; dir < 2; dir++) {
		assert_int_equal(v->isolated[dir], v->n_classes[dir] > 0);
		for (uint32_t i = 0; i < v->n_classes[dir]; i++) {
			const struct tw_class *c = &v->classes[dir][i];

			if (!i)
				assert_int_equal(c->start, 0);
			else
				assert_true(c[-1].start < c->start && c[-1].set != c->set);
			assert_true(c->start < 1u << 24);
		}
	}
	assert_true(v->version > 0 && v->version < lab->n_versions);
	assert_false(lab->versions[v->version].present);
}

static void version_add(struct lab *lab, const struct plan_version *v)
{
	struct lab_version *to;

	if (v->version >= lab->n_versions) {
		uint32_t n = v->version * 2 + 16;

		lab->versions = grow(lab->versions, n * sizeof(*lab->versions));
		memset(lab->versions + lab->n_versions, 0,
		       (n - lab->n_versions) * sizeof(*lab->versions));
		lab->n_versions = n;
	}
	version_check(lab, v);
	to = &lab->versions[v->version];
	to->present = true;
	to->generation = lab->generation;
	for (unsigned int dir = 0; dir < 2; dir++) {
		size_t size = v->n_classes[dir] * sizeof(struct tw_class);

		to->isolated[dir] = v->isolated[dir];
		to->n_classes[dir] = v->n_classes[dir];
		to->classes[dir] = malloc(size + 1);
		memcpy(to->classes[dir], v->classes[dir], size);
	}
}

static void version_del(struct lab *lab, uint32_t version)
{
	struct lab_version *v = &lab->versions[version];

	assert_true(version < lab->n_versions && v->present);
	for (uint32_t i = 0; i < LAB_EPS; i++)
		assert_false(lab->eps[i].slot && lab->eps[i].version == version);
	free(v->classes[0]);
	free(v->classes[1]);
	*v = (struct lab_version){};
}

/* ---- prefixes ------------------------------------------------------------------------------- */

static struct lab_prefix *prefix_find(const struct lab *lab, const struct prefix *prefix)
{
	for (size_t i = 0; i < lab->n_prefixes; i++)
		if (!memcmp(&lab->prefixes[i].prefix.addr, &prefix->addr, sizeof(prefix->addr)) &&
		    lab->prefixes[i].prefix.len == prefix->len)
			return &lab->prefixes[i];
	return NULL;
}

static void prefix_set(struct lab *lab, const struct plan_prefix *p)
{
	struct lab_prefix *at = prefix_find(lab, &p->prefix);
	uint32_t kind = p->word & TW_WORD_KIND;

	assert_true(p->word);
	if (kind == TW_WORD_ENDPOINT) {
		assert_int_equal(p->prefix.len, 128);
		assert_true(lab->eps[p->word & TW_WORD_PAYLOAD].slot);
	} else {
		assert_int_equal(kind, TW_WORD_IDENTITY);
	}
	if (!at) {
		lab->prefixes = grow(lab->prefixes, (lab->n_prefixes + 1) * sizeof(*lab->prefixes));
		at = &lab->prefixes[lab->n_prefixes++];
		at->prefix = p->prefix;
	}
	at->word = p->word;
}

static void prefix_del(struct lab *lab, const struct plan_prefix *p)
{
	struct lab_prefix *at = prefix_find(lab, &p->prefix);

	assert_non_null(at);
	*at = lab->prefixes[--lab->n_prefixes];
}

/* ---- plans ---------------------------------------------------------------------------------- */

struct writer {
	struct lab *lab;
	void (*fn)(void *arg);
	void *arg;
};

static void written(const struct writer *w)
{
	if (w->fn)
		w->fn(w->arg);
}

static void write_endpoints(const struct writer *w, const struct plan_endpoint *v, size_t n)
{
	struct lab *lab = w->lab;

	for (size_t i = 0; i < n; i++) {
		assert_true(v[i].slot && v[i].slot < LAB_EPS);
		assert_true(!v[i].version || (v[i].version < lab->n_versions &&
					      lab->versions[v[i].version].present));
		lab->eps[v[i].slot] = v[i];
		written(w);
	}
}

static void write_prefixes(const struct writer *w, const struct plan_prefix *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		prefix_set(w->lab, &v[i]);
		written(w);
	}
}

void lab_apply(struct lab *lab, const struct policy_plan *plan, void (*fn)(void *arg), void *arg)
{
	const struct writer w = { lab, fn, arg };

	lab->generation++;
	lab->edits += plan->n_peers_join + plan->n_peers_leave;
	peers_add(lab, plan->peers_add, plan->n_peers_add, 0, UINT32_MAX);
	written(&w);
	peers_add(lab, plan->peers_join, plan->n_peers_join, lab->generation, UINT32_MAX);
	written(&w);
	peers_leave(lab, plan->peers_leave, plan->n_peers_leave);
	written(&w);
	for (size_t i = 0; i < plan->n_versions_add; i++)
		version_add(lab, &plan->versions_add[i]);
	written(&w);
	write_endpoints(&w, plan->refine_endpoints, plan->n_refine_endpoints);
	write_prefixes(&w, plan->refine_prefixes, plan->n_refine_prefixes);
	write_endpoints(&w, plan->endpoints, plan->n_endpoints);
	write_prefixes(&w, plan->prefixes_set, plan->n_prefixes_set);
	for (size_t i = 0; i < plan->n_prefixes_del; i++) {
		prefix_del(lab, &plan->prefixes_del[i]);
		written(&w);
	}
	for (size_t i = 0; i < plan->n_endpoints; i++)
		lab->bumps[plan->endpoints[i].slot] += plan->endpoints[i].bump;
	lab->bumps[0] += plan->bump_node;
	for (size_t i = 0; i < plan->n_versions_del; i++)
		version_del(lab, plan->versions_del[i]);
	peers_sweep(lab, plan);
	written(&w);
}

void lab_remove_endpoint(struct lab *lab, uint32_t slot)
{
	lab->eps[slot] = (struct plan_endpoint){};
	lab->bumps[slot]++;
}

void lab_clear(struct lab *lab)
{
	for (uint32_t i = 0; i < lab->n_versions; i++) {
		free(lab->versions[i].classes[0]);
		free(lab->versions[i].classes[1]);
	}
	free(lab->versions);
	free(lab->peers);
	free(lab->prefixes);
	*lab = (struct lab){};
}

/* ---- look-ups ------------------------------------------------------------------------------- */

uint32_t lab_word(const struct lab *lab, const union tw_addr *addr)
{
	const struct lab_prefix *best = NULL;

	for (size_t i = 0; i < lab->n_prefixes; i++) {
		const struct lab_prefix *p = &lab->prefixes[i];

		if (prefix_contains(&p->prefix, addr) &&
		    (!best || p->prefix.len > best->prefix.len))
			best = p;
	}
	return best ? best->word : 0;
}

uint32_t lab_identity(const struct lab *lab, const union tw_addr *addr)
{
	uint32_t word = lab_word(lab, addr);
	const struct plan_endpoint *ep;

	if (!word)
		return TW_ID_WORLD;
	if ((word & TW_WORD_KIND) != TW_WORD_ENDPOINT)
		return word & TW_WORD_PAYLOAD;
	ep = &lab->eps[word & TW_WORD_PAYLOAD];
	return addr_is4(addr) ? ep->identity : ep->identity6;
}

static bool peer_holds(const struct lab_peer *peer, uint32_t generation)
{
	return peer && peer->since <= generation && generation < peer->until;
}

bool lab_allows(const struct lab *lab, uint32_t slot, enum tw_direction dir,
		const union tw_addr *peer, uint8_t proto, uint16_t port)
{
	uint32_t version = lab->eps[slot].version, key = (uint32_t)proto << 16 | port, i = 0;
	const struct lab_version *v;

	if (!version)
		return true;
	v = &lab->versions[version];
	assert_true(v->present);
	if (!v->isolated[dir])
		return true;
	while (i + 1 < v->n_classes[dir] && v->classes[dir][i + 1].start <= key)
		i++;
	if (v->classes[dir][i].set == TW_SET_NONE)
		return false;
	if (v->classes[dir][i].set == TW_SET_ANY)
		return true;
	return peer_holds(peer_find(lab, v->classes[dir][i].set, lab_identity(lab, peer)),
			  v->generation);
}

/* ---- comparison ----------------------------------------------------------------------------- */

static void compare_version(const struct lab *lab, const struct plan_version *v)
{
	const struct lab_version *have = &lab->versions[v->version];

	assert_true(v->version < lab->n_versions && have->present);
	for (unsigned int dir = 0; dir < 2; dir++) {
		assert_int_equal(have->isolated[dir], v->isolated[dir]);
		assert_int_equal(have->n_classes[dir], v->n_classes[dir]);
		if (v->n_classes[dir])
			assert_memory_equal(have->classes[dir], v->classes[dir],
					    v->n_classes[dir] * sizeof(struct tw_class));
	}
}

void lab_compare(const struct lab *lab, const struct policy_plan *full)
{
	size_t versions = 0, eps = 0;

	assert_int_equal(lab->n_peers, full->n_peers_add);
	for (size_t i = 0; i < full->n_peers_add; i++)
		assert_non_null(
			peer_find(lab, full->peers_add[i].set, full->peers_add[i].identity));
	for (uint32_t i = 0; i < lab->n_versions; i++)
		versions += lab->versions[i].present;
	assert_int_equal(versions, full->n_versions_add);
	for (size_t i = 0; i < full->n_versions_add; i++)
		compare_version(lab, &full->versions_add[i]);
	for (uint32_t i = 0; i < LAB_EPS; i++)
		eps += lab->eps[i].slot > 0;
	assert_int_equal(eps, full->n_endpoints);
	for (size_t i = 0; i < full->n_endpoints; i++) {
		const struct plan_endpoint *want = &full->endpoints[i];
		const struct plan_endpoint *have = &lab->eps[want->slot];

		assert_int_equal(have->identity, want->identity);
		assert_int_equal(have->identity6, want->identity6);
		assert_int_equal(have->version, want->version);
	}
	for (size_t i = 0; i < full->n_prefixes_set; i++) {
		const struct lab_prefix *p = prefix_find(lab, &full->prefixes_set[i].prefix);

		assert_non_null(p);
		assert_int_equal(p->word, full->prefixes_set[i].word);
	}
	for (size_t i = 0; i < lab->n_prefixes; i++) {
		const struct lab_prefix *p = &lab->prefixes[i];
		size_t j = 0;
		char text[64];

		while (j < full->n_prefixes_set &&
		       (memcmp(&full->prefixes_set[j].prefix.addr, &p->prefix.addr, 16) ||
			full->prefixes_set[j].prefix.len != p->prefix.len))
			j++;
		prefix_format(&p->prefix, text, sizeof(text));
		if (j == full->n_prefixes_set)
			fail_msg("%s is left, with word 0x%x", text, p->word);
	}
}
