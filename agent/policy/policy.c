/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The compiler's border: one change at a time, prepared and then committed or aborted.
 *
 * Why a packet meets the old or the new rules of an endpoint, whatever moment of the plan it
 * comes in (I5). Say R is an endpoint, V its old and V' its new version, and P an address that
 * R's rules judge. The packet is judged with one version of R, read in one load, and with one
 * identity of P. So it has to hold: as long as V is R's version, the identity of P is in a set
 * of V exactly if the old rules say so of P; and when V' is, in a set of V' exactly if the new
 * rules do.
 *
 * - A set never loses a member that lives, nor gets one that lived before (member.c): pairs of
 *   new identities or of new sets only are added, before anything uses them (1), and taken
 *   away when nothing does, after a grace period (8).
 * - A set that is edited is two sets to this argument: what it was, for the versions of before,
 *   and what it becomes, for those of this plan, which no endpoint has before 4 (the kernel
 *   keeps them apart by the version's generation: lib/peers.c). Pairs join and leave in 1, for
 *   the new versions only; what has left is deleted in 8. All versions that use it end with this
 *   plan or are new in it, or it would not be edited.
 * - Before 3, P has its old identity, which is right in all old sets; new sets are in no
 *   version that an endpoint has.
 * - In 3, while all versions are old, P moves to its identity of the meantime (MID), which
 *   stands for the atoms of both sides that hold for P. So it is in the old sets that P's old
 *   identity was in, and in each new set that P belongs in. An identity may stay in use as MID
 *   of other addresses than those that leave it: it then is in new sets that would be wrong for
 *   those that have not left yet, but new sets are not in use before 4.
 * - In 4 versions flip, one store each. Every address has its MID, right for both.
 * - When the flips of 4 are done, old sets are not in use. The rest of 4, 5 and 6 move P from
 *   MID to the identity it keeps, which differs in atoms of the old side only: the same members
 *   of new sets. In 6 a prefix goes whose addresses are no different any more from those
 *   around it.
 * - A new prefix takes addresses out of a shorter one, which is the same as moving them.
 *   Where prefixes are nested, an outer one that is set first gives the inner addresses for a
 *   moment an identity with the wrong atoms of the new side, in 3; in 5 the atoms are right.
 * - A new endpoint has no old rules. Its record is written with the flips of 4 and its address
 *   is known in 5.
 * - When P's own labels change, MID is right for the new labels under both rules.
 * - A version knows the numbers that a named port of an egress rule had when it was compiled: a
 *   pod that comes in the same change and gives the name another number is not reached by it
 *   under the old version.
 * - An address of a pod that goes away is denied or judged as before until 6 takes its prefix.
 *
 * Without a flip (no version changes) there is nothing to be between, and 3 is empty.
 * Flows that live are judged anew when the epochs go up, at last.
 *
 * A crash in the middle leaves the maps between; the reconcile at start writes the whole state
 * over them. For that moment only, an endpoint may see peers that its old rules do not know.
 */
#include "policy/policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "policy/internal.h"

#define VERSIONS_MAX 0x7fffffffu
#define SETS_MAX 0x7fffffffu

/* Before anything is hashed. */
static void policy_set_secret(struct policy *p, const struct hkey *secret)
{
	struct hash h = hash_begin(secret, HASH_POD);

	p->secret = *secret;
	p->pod_key = hash_end(&h);
}

struct policy *policy_new(void)
{
	struct policy *p = calloc(1, sizeof(*p));
	struct hkey secret;

	if (!p)
		return NULL;
	if (getrandom(&secret, sizeof(secret), 0) != sizeof(secret)) {
		free(p);
		return NULL;
	}
	policy_set_secret(p, &secret);
	p->world.id = TW_ID_WORLD;
	p->numbers[POLICY_ID_IDENTITY].first = TW_ID_FIRST;
	p->numbers[POLICY_ID_IDENTITY].max = TW_ID_MAX;
	p->numbers[POLICY_ID_SET].first = 1;
	p->numbers[POLICY_ID_SET].max = SETS_MAX;
	p->numbers[POLICY_ID_VERSION].first = 1;
	p->numbers[POLICY_ID_VERSION].max = VERSIONS_MAX;
	return p;
}

/* Takes everything out of the state by a change that removes all there is. */
static int policy_empty(struct policy *p)
{
	struct space *space;
	struct pod_entry *pod;
	struct pol *pol;
	size_t n = 0, n_slots = 0;
	const struct object **objects =
		calloc(p->spaces.n + p->pods.n + p->pols.n + 1, sizeof(*objects));
	uint32_t *slots = calloc(p->n_eps + 1, sizeof(*slots));
	struct policy_plan plan = {};
	int err = objects && slots ? 0 : -ENOMEM;

	for (uint32_t i = 0; !err && (space = table_next(&p->spaces, &i));)
		if (space->obj[CUR])
			objects[n++] = space->obj[CUR];
	for (uint32_t i = 0; !err && (pod = table_next(&p->pods, &i));)
		if (pod->obj[CUR])
			objects[n++] = pod->obj[CUR];
	for (uint32_t i = 0; !err && (pol = table_next(&p->pols, &i));)
		objects[n++] = pol->obj[CUR];
	for (uint32_t i = 0; !err && i < p->n_eps; i++)
		if (p->eps[i])
			slots[n_slots++] = i;
	if (!err)
		err = policy_prepare(p,
				     &(struct policy_change){
					     .remove = objects,
					     .n_remove = n,
					     .ep_remove = slots,
					     .n_ep_remove = n_slots,
				     },
				     &plan);
	if (!err)
		policy_commit(p);
	policy_plan_clear(&plan);
	free(objects);
	free(slots);
	return err;
}

void policy_free(struct policy *p)
{
	if (!p)
		return;
	policy_abort(p);
	policy_empty(p); /* what it leaves when memory is out, the process has to bear */
	table_clear(&p->spaces);
	table_clear(&p->pods);
	table_clear(&p->pols);
	table_clear(&p->atoms);
	table_clear(&p->buckets);
	table_clear(&p->pnames);
	table_clear(&p->identities);
	table_clear(&p->sets);
	table_clear(&p->versions);
	vec_clear(&p->subjects);
	free(p->anybody[0].v);
	free(p->anybody[1].v);
	for (size_t i = 0; i < 3; i++)
		numbers_clear(&p->numbers[i]);
	free(p->reserved);
	free(p->eps);
	free(p);
}

/* ---- changes -------------------------------------------------------------------------------- */

static int prepare(struct policy *p, const struct policy_change *change, struct policy_plan *plan)
{
	static int (*const steps[])(struct policy *) = {
		subjects_view, match_select,	  rules_compile,    atoms_spread,   match_peers,
		tree_judge,    identities_assign, versions_compile, members_update,
	};
	int err = subjects_stage(p, change);

	if (!err)
		err = rules_stage(p, change);
	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps) && !err; i++)
		err = steps[i](p);
	return err ? err : plan_build(p, plan);
}

int policy_prepare(struct policy *p, const struct policy_change *change, struct policy_plan *plan)
{
	struct policy_plan res = {};
	int err;

	if (p->txn.active)
		return -EBUSY;
	p->txn.active = true;
	err = prepare(p, change, &res);
	if (err) {
		policy_plan_clear(&res);
		txn_settle(p, false);
		return err;
	}
	*plan = res;
	return 0;
}

void policy_commit(struct policy *p)
{
	if (p->txn.active)
		txn_settle(p, true);
}

void policy_abort(struct policy *p)
{
	if (p->txn.active)
		txn_settle(p, false);
}

int policy_reserve(struct policy *p, const struct prefix *prefixes, size_t n)
{
	struct prefix *copy = malloc((n + 1) * sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	if (n)
		memcpy(copy, prefixes, n * sizeof(*copy));
	free(p->reserved);
	p->reserved = copy;
	p->n_reserved = n;
	p->reserved_changed = true;
	return 0;
}

/* ---- numbers -------------------------------------------------------------------------------- */

static bool is_secret(const struct policy_id *id)
{
	return id->kind == POLICY_ID_IDENTITY && !id->id;
}

int policy_restore_ids(struct policy *p, const struct policy_id *ids, size_t n)
{
	struct hkey key;
	int err = 0;

	if (p->commits || p->txn.active)
		return -EBUSY;
	for (size_t i = 0; i < n; i++) {
		memcpy(&key, ids[i].key, sizeof(key));
		if (is_secret(&ids[i]))
			policy_set_secret(p, &key);
	}
	for (size_t i = 0; i < n && !err; i++) {
		if (is_secret(&ids[i]) || ids[i].kind > POLICY_ID_VERSION)
			continue;
		memcpy(&key, ids[i].key, sizeof(key));
		err = number_restore(&p->numbers[ids[i].kind], &key, ids[i].id);
	}
	return err;
}

struct export
{
	struct policy_id *v;
	size_t n;
};

static void export_add(struct export *e, enum policy_id_kind kind, const struct hkey *key,
		       uint32_t id)
{
	e->v[e->n].kind = kind;
	e->v[e->n].id = id;
	memcpy(e->v[e->n++].key, key, sizeof(*key));
}

static const struct hkey *set_next_key(const struct set *set)
{
	return set->edit ? &set->edit->key : &set->key;
}

int policy_export_ids(const struct policy *p, struct policy_id **out, size_t *n)
{
	const struct txn *t = &p->txn;
	size_t max = 1u + p->identities.n + t->identities.n + p->sets.n + p->versions.n;
	struct export e = { .v = calloc(max, sizeof(*e.v)) };
	const struct identity *id;
	const struct set *set;
	const struct version *v;

	if (!e.v)
		return -ENOMEM;
	export_add(&e, POLICY_ID_IDENTITY, &p->secret, 0);
	for (uint32_t i = 0; (id = table_next(&p->identities, &i));)
		if (!id->touched)
			export_add(&e, POLICY_ID_IDENTITY, &id->key, id->id);
	for (uint32_t i = 0; i < t->identities.n; i++) {
		id = t->identities.v[i];
		if (id->refs.next)
			export_add(&e, POLICY_ID_IDENTITY, &id->next_key, id->id);
	}
	for (uint32_t i = 0; (set = table_next(&p->sets, &i));)
		if (set->refs.next)
			export_add(&e, POLICY_ID_SET, set_next_key(set), set->id);
	for (uint32_t i = 0; (v = table_next(&p->versions, &i));)
		if (v->refs.next)
			export_add(&e, POLICY_ID_VERSION, &v->key, v->id);
	*out = e.v;
	*n = e.n;
	return 0;
}

void policy_id_change_clear(struct policy_id_change *change)
{
	free(change->del);
	free(change->put);
	*change = (struct policy_id_change){};
}

/* One number, by what it stands for on either side; NULL: nothing. */
static void export_change(struct export *del, struct export *put, enum policy_id_kind kind,
			  const struct hkey *was, const struct hkey *is, uint32_t id)
{
	if (was && is && hkey_equal(was, is))
		return;
	if (was)
		export_add(del, kind, was, id);
	if (is)
		export_add(put, kind, is, id);
}

int policy_changed_ids(const struct policy *p, struct policy_id_change *out)
{
	const struct txn *t = &p->txn;
	size_t max = 1u + t->identities.n + t->sets.n + t->versions.n;
	struct export del = { .v = calloc(max, sizeof(*del.v)) };
	struct export put = { .v = calloc(max, sizeof(*put.v)) };

	if (!del.v || !put.v) {
		free(del.v);
		free(put.v);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < t->identities.n; i++) {
		const struct identity *id = t->identities.v[i];

		export_change(&del, &put, POLICY_ID_IDENTITY, id->refs.cur ? &id->key : NULL,
			      id->refs.next ? &id->next_key : NULL, id->id);
	}
	for (uint32_t i = 0; i < t->sets.n; i++) {
		const struct set *set = t->sets.v[i];

		export_change(&del, &put, POLICY_ID_SET, set->refs.cur ? &set->key : NULL,
			      set->refs.next ? set_next_key(set) : NULL, set->id);
	}
	for (uint32_t i = 0; i < t->versions.n; i++) {
		const struct version *v = t->versions.v[i];

		export_change(&del, &put, POLICY_ID_VERSION, v->refs.cur ? &v->key : NULL,
			      v->refs.next ? &v->key : NULL, v->id);
	}
	*out = (struct policy_id_change){ del.v, put.v, del.n, put.n };
	return 0;
}
