/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The whole state over whatever an earlier agent left in the maps. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "datapath/internal.h"

/* What the plan holds, in a form to be searched. */
struct reconcile {
	struct datapath *dp;
	const struct plan_endpoint *policy[TW_MAX_ENDPOINTS]; /* by slot */
	bool live[TW_MAX_ENDPOINTS];
	uint32_t *versions;
	size_t n_versions;
	struct tw_peer_key *peers;
	size_t n_peers;
};

static void reconcile_free(struct reconcile **r)
{
	if (*r) {
		free((*r)->versions);
		free((*r)->peers);
	}
	free(*r);
}

static struct reconcile *reconcile_new(struct datapath *dp, const struct policy_plan *full)
{
	struct reconcile *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->dp = dp;
	r->versions = calloc(full->n_versions_add + 1, sizeof(*r->versions));
	r->peers = calloc(full->n_peers_add + 1, sizeof(*r->peers));
	if (!r->versions || !r->peers) {
		reconcile_free(&r);
		return NULL;
	}
	for (size_t i = 0; i < full->n_endpoints; i++)
		r->policy[full->endpoints[i].slot] = &full->endpoints[i];
	for (size_t i = 0; i < full->n_versions_add; i++)
		r->versions[r->n_versions++] = full->versions_add[i].version;
	qsort(r->versions, r->n_versions, sizeof(*r->versions), number_order);
	for (size_t i = 0; i < full->n_peers_add; i++)
		r->peers[r->n_peers++] = full->peers_add[i];
	qsort(r->peers, r->n_peers, sizeof(*r->peers), peer_order);
	return r;
}

static int write_policies(struct datapath *dp, const struct policy_plan *full)
{
	for (size_t i = 0; i < full->n_peers_add; i++) {
		const struct tw_peer_key *key = &full->peers_add[i];
		int err = datapath_peer_set(dp, key->set, key->identity);

		if (err)
			return err;
	}
	for (size_t i = 0; i < full->n_versions_add; i++) {
		const struct plan_version *v = &full->versions_add[i];
		const struct tw_class *const classes[2] = { v->classes[0], v->classes[1] };
		int err = datapath_version_set(dp, v->version, v->isolated, classes, v->n_classes);

		if (err)
			return err;
	}
	datapath_versions_end(dp);
	return 0;
}

static int write_endpoints(struct reconcile *r, const struct maps_endpoint *endpoints, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t slot = endpoints[i].slot;
		int err = maps_endpoint_write(r->dp, &endpoints[i], r->policy[slot]);

		if (err)
			return err;
		r->live[slot] = true;
	}
	return 0;
}

static int write_words(struct datapath *dp, const struct plan_prefix *words, size_t n)
{
	int err = 0;

	for (size_t i = 0; !err && i < n; i++)
		err = datapath_prefix_set(dp, &words[i].prefix.addr, words[i].prefix.len,
					  words[i].word);
	return err;
}

static int write_prefixes(const struct maps *m, const struct policy_plan *full,
			  const struct prefix *nomasq, size_t n_nomasq)
{
	struct datapath *dp = m->dp;
	int err = datapath_prefix_begin(dp);

	if (!err)
		err = write_words(dp, m->words, m->n_words);
	if (!err)
		err = write_words(dp, full->prefixes_set, full->n_prefixes_set);
	for (size_t i = 0; !err && i < n_nomasq; i++)
		err = datapath_nomasq_set(dp, &nomasq[i].addr, nomasq[i].len);
	return err ? err : datapath_prefix_end(dp);
}

static int drop_endpoint(void *arg, uint32_t slot, const struct tw_endpoint *ep)
{
	const struct reconcile *r = arg;

	return r->live[slot] ? 0 : datapath_endpoint_clear(r->dp, slot);
}

static bool version_stale(const struct reconcile *r, uint32_t version)
{
	return version &&
	       !bsearch(&version, r->versions, r->n_versions, sizeof(version), number_order);
}

static bool peer_stale(const struct reconcile *r, uint32_t set, uint32_t identity)
{
	const struct tw_peer_key key = { .set = set, .identity = identity };

	return !bsearch(&key, r->peers, r->n_peers, sizeof(key), peer_order);
}

#define FOUND_STALE 1

static int find_version(void *arg, uint32_t version)
{
	return version_stale(arg, version) ? FOUND_STALE : 0;
}

static int find_peer(void *arg, uint32_t set, uint32_t identity)
{
	return peer_stale(arg, set, identity) ? FOUND_STALE : 0;
}

static int drop_version(void *arg, uint32_t version)
{
	const struct reconcile *r = arg;

	return version_stale(r, version) ? datapath_version_del(r->dp, version) : 0;
}

static int drop_peer(void *arg, uint32_t set, uint32_t identity)
{
	const struct reconcile *r = arg;

	return peer_stale(r, set, identity) ? datapath_peer_del(r->dp, set, identity) : 0;
}

/* Programs that started before the flip may still read what goes here, so it waits for them. */
static int drop_stale(struct reconcile *r)
{
	int res = datapath_version_each(r->dp, find_version, r);

	if (!res)
		res = datapath_peer_each(r->dp, find_peer, r);
	if (res != FOUND_STALE)
		return res;
	datapath_grace(r->dp);
	res = datapath_version_each(r->dp, drop_version, r);
	return res ? res : datapath_peer_each(r->dp, drop_peer, r);
}

int maps_reconcile(struct maps *m, const struct policy_plan *full,
		   const struct maps_endpoint *endpoints, size_t n_endpoints,
		   const struct prefix *nomasq, size_t n_nomasq, char *err, size_t err_len)
{
	__attribute__((cleanup(reconcile_free))) struct reconcile *r = reconcile_new(m->dp, full);
	const char *what = "policies";
	int res = r ? write_policies(m->dp, full) : -ENOMEM;

	if (!res) {
		what = "endpoints";
		res = write_endpoints(r, endpoints, n_endpoints);
	}
	if (!res) {
		what = "address prefixes";
		res = write_prefixes(m, full, nomasq, n_nomasq);
	}
	if (!res)
		res = datapath_endpoint_each(m->dp, drop_endpoint, r);
	datapath_epoch_bump(m->dp, 0);
	m->reconciled = true;
	if (!res)
		res = drop_stale(r);
	if (res)
		snprintf(err, err_len, "the kernel's tables cannot take %s of the state: %s", what,
			 strerror(-res));
	return res;
}
