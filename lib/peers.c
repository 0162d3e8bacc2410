/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * tw_peers: who is in which set. A set changes by GENERATIONS: a pair that joins or leaves does so
 * for versions of the new generation, which no packet uses yet, and programs with the versions
 * before go on finding what they found. When those have ended, what has joined is made to be
 * there to all generations, and what has left is deleted. So only generations of some moments are
 * ever told apart, and 16 bits go round: long before they do, versions that live on are moved to
 * the present one, which says the same of all their sets.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>

#include "datapath_internal.h"
#include "towpath.skel.h"

#define BATCH 1024u	/* elements written by one system call */
#define BUCKET_MAX 256u /* far more than a bucket of tw_peers ever holds */
/* Generations: a part of the circle, and a larger one that holds all of those at hand. */
#define MOVE_EVERY 0x2000u
#define FAR 0x4000u

static int peers_fd(const struct datapath *dp)
{
	return bpf_map__fd(dp->skel->maps.tw_peers);
}

static int map_errno(void)
{
	return errno == E2BIG ? -ENOSPC : -errno;
}

static union tw_peer peer_always(const struct tw_peer_key *key)
{
	return (union tw_peer){ .tag = TW_PEER_TAG(key->set, key->identity) };
}

static bool is_always(union tw_peer peer)
{
	return peer.since == peer.until;
}

bool peer_holds(union tw_peer peer, uint16_t generation)
{
	return is_always(peer) ||
	       (uint16_t)(generation - peer.since) < (uint16_t)(peer.until - peer.since);
}

static int peer_count(void *arg, uint32_t set, uint32_t identity)
{
	++*(uint32_t *)arg;
	return 0;
}

/* At most `left` of them: running out of millions of empty buckets takes some 20 ms. */
static int peers_scan(struct datapath *dp, uint32_t left,
		      int (*fn)(void *arg, uint32_t set, uint32_t identity), void *arg)
{
	int fd = peers_fd(dp), res = 0;
	struct tw_peer_key keys[BATCH];
	union tw_peer values[BATCH];
	uint32_t place = 0;
	bool first = true, more = left;

	while (more && !res) {
		/* A bucket is given whole, so there must be room for the fullest. */
		uint32_t n = left < BUCKET_MAX ? BUCKET_MAX : left < BATCH ? left : BATCH;
		int err = bpf_map_lookup_batch(fd, first ? NULL : &place, &place, keys, values, &n,
					       NULL)
				  ? errno
				  : 0;

		if (err && err != ENOENT)
			return -err;
		first = false;
		left -= n < left ? n : left;
		more = !err && left;
		/* The kernel's place is a bucket: fn may delete what it is called with. */
		for (uint32_t i = 0; i < n && !res; i++)
			res = fn(arg, keys[i].set, keys[i].identity);
	}
	return res;
}

int peers_open(struct datapath *dp)
{
	return peers_scan(dp, UINT32_MAX, peer_count, &dp->n_peers);
}

int datapath_peer_each(struct datapath *dp, int (*fn)(void *arg, uint32_t set, uint32_t identity),
		       void *arg)
{
	return peers_scan(dp, dp->n_peers, fn, arg);
}

int datapath_peers_set(struct datapath *dp, const struct tw_peer_key *keys, size_t n, size_t *done)
{
	int fd = peers_fd(dp);
	union tw_peer values[BATCH];

	for (*done = 0; *done < n;) {
		uint32_t count = n - *done < BATCH ? (uint32_t)(n - *done) : BATCH;

		for (uint32_t i = 0; i < count; i++)
			values[i] = peer_always(&keys[*done + i]);
		int err = bpf_map_update_batch(fd, keys + *done, values, &count, NULL) ? map_errno()
										       : 0;

		*done += count;
		dp->n_peers += count;
		if (err)
			return err;
	}
	return 0;
}

int datapath_peers_del(struct datapath *dp, const struct tw_peer_key *keys, size_t n)
{
	int fd = peers_fd(dp);

	for (size_t done = 0; done < n;) {
		uint32_t count = n - done < BATCH ? (uint32_t)(n - done) : BATCH;
		int err = bpf_map_delete_batch(fd, keys + done, &count, NULL) ? errno : 0;

		done += count;
		dp->n_peers -= count;
		if (err == ENOENT)
			done++; /* it is gone already */
		else if (err)
			return -err;
	}
	return 0;
}

/* -ENOENT: there is none. */
static int peer_get(const struct datapath *dp, const struct tw_peer_key *key, union tw_peer *out)
{
	return bpf_map_lookup_elem(peers_fd(dp), key, out) ? -errno : 0;
}

static int peer_put(struct datapath *dp, const struct tw_peer_key *key, union tw_peer peer,
		    bool fresh)
{
	if (bpf_map_update_elem(peers_fd(dp), key, &peer, fresh ? BPF_NOEXIST : BPF_EXIST))
		return map_errno();
	dp->n_peers += fresh;
	return 0;
}

int datapath_peer_set(struct datapath *dp, uint32_t set, uint32_t identity)
{
	const struct tw_peer_key key = { set, identity };
	union tw_peer there;
	int res = peer_put(dp, &key, peer_always(&key), true);

	if (res != -EEXIST)
		return res;
	res = peer_get(dp, &key, &there);
	return res || is_always(there) ? res : peer_put(dp, &key, peer_always(&key), false);
}

int datapath_peer_del(struct datapath *dp, uint32_t set, uint32_t identity)
{
	return datapath_peers_del(dp, &(struct tw_peer_key){ set, identity }, 1);
}

/* ---- generations ---------------------------------------------------------------------------- */

/* One that lives on: all of its sets are as they were, so the present generation will do. */
static int version_move(struct datapath *dp, uint32_t version)
{
	int fd = bpf_map__fd(dp->skel->maps.tw_policy);
	struct tw_policy policy;

	if (bpf_map_lookup_elem(fd, &version, &policy))
		return -errno;
	policy.dir[0].generation = policy.dir[1].generation = dp->generation;
	return bpf_map_update_elem(fd, &version, &policy, BPF_EXIST) ? -errno : 0;
}

int datapath_generation_begin(struct datapath *dp)
{
	int res = 0;

	if ((uint16_t)(dp->generation + 1) % MOVE_EVERY == 0) {
		datapath_grace(dp);
		dp->generation_safe = dp->generation;
		for (uint32_t v = 1; v < dp->max_versions && !res; v++)
			if (dp->version_used[v])
				res = version_move(dp, v);
	}
	if (!res)
		dp->generation++;
	return res;
}

uint16_t datapath_generation(const struct datapath *dp)
{
	return dp->generation;
}

void datapath_generation_over(struct datapath *dp, uint16_t generation)
{
	if ((int16_t)(generation - dp->generation_safe) > 0)
		dp->generation_safe = generation;
}

/* Did it turn in a generation that programs under way may tell from the present one? */
static bool turned(const struct datapath *dp, union tw_peer peer, uint16_t at)
{
	return !is_always(peer) && (uint16_t)(at - dp->generation_safe - 1) <
					   (uint16_t)(dp->generation - dp->generation_safe);
}

/*
 * From the present generation on the pair is the other way, and for those before as it was. Two
 * turns fit; a third one within some moments has to wait until the first is history.
 */
static bool peer_turn(const struct datapath *dp, union tw_peer *peer, bool join)
{
	bool since = turned(dp, *peer, peer->since), until = turned(dp, *peer, peer->until);

	if (since && until)
		return false;
	if (join) {
		peer->since = dp->generation;
		if (!until)
			peer->until = (uint16_t)(dp->generation + FAR);
	} else {
		if (!since)
			peer->since = (uint16_t)(dp->generation - FAR);
		peer->until = dp->generation;
	}
	return true;
}

static int peer_turn_key(struct datapath *dp, const struct tw_peer_key *key, bool join,
			 union tw_peer *old)
{
	union tw_peer peer;
	int res = peer_get(dp, key, &peer);
	bool fresh = res == -ENOENT;

	if (res && !fresh)
		return res;
	*old = fresh ? (union tw_peer){} : peer;
	if (fresh)
		peer = peer_always(key);
	if (!peer_turn(dp, &peer, join)) {
		datapath_grace(dp);
		datapath_generation_over(dp, (uint16_t)(dp->generation - 1));
		peer_turn(dp, &peer, join);
	}
	return peer_put(dp, key, peer, fresh);
}

int datapath_peers_turn(struct datapath *dp, const struct tw_peer_key *keys, size_t n, bool join,
			union tw_peer *old, size_t *done)
{
	for (*done = 0; *done < n; ++*done) {
		int res = peer_turn_key(dp, &keys[*done], join, &old[*done]);

		if (res)
			return res;
	}
	return 0;
}

void datapath_peers_turn_back(struct datapath *dp, const struct tw_peer_key *keys, size_t n,
			      const union tw_peer *old)
{
	for (size_t i = 0; i < n; i++) {
		if (old[i].word)
			peer_put(dp, &keys[i], old[i], false);
		else
			datapath_peers_del(dp, &keys[i], 1);
	}
}

int datapath_peers_settle(struct datapath *dp, const struct tw_peer_key *keys, size_t n)
{
	int first = 0;

	for (size_t i = 0; i < n; i++) {
		union tw_peer peer;
		int res = peer_get(dp, &keys[i], &peer);

		/* Gone, or as it should be, or turned again: then it comes here once more. */
		if (res || is_always(peer) || turned(dp, peer, peer.since) ||
		    turned(dp, peer, peer.until))
			res = res == -ENOENT ? 0 : res;
		else if (peer_holds(peer, dp->generation))
			res = peer_put(dp, &keys[i], peer_always(&keys[i]), false);
		else
			res = datapath_peers_del(dp, &keys[i], 1);
		if (!first)
			first = res;
	}
	return first;
}
