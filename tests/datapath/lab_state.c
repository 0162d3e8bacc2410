/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the lab puts into the maps and reads out of them: policies, flows, events. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "flow.h"
#include "lab.h"

/* ---- policy ------------------------------------------------------------------------------ */

#define CLASSES_MAX 64

static uint32_t class_key(const struct allow *a)
{
	/* ICMP belongs to both families: here only rules with ports are made. */
	return (uint32_t)what_proto(a->what, 4) << 16 | a->port;
}

/* The sorted intervals of one direction; a set for each (protocol, port) that is allowed. */
static uint32_t classes_make(struct lab *lab, enum tw_direction dir, const struct allow *allow,
			     size_t n, struct tw_class *out)
{
	uint32_t count = 1, last = 0;

	out[0] = (struct tw_class){ 0, TW_SET_NONE };
	for (;;) {
		uint32_t key = UINT32_MAX, set;
		bool any = false;

		for (size_t i = 0; i < n; i++)
			if (allow[i].dir == dir && class_key(&allow[i]) > last &&
			    class_key(&allow[i]) < key)
				key = class_key(&allow[i]);
		if (key == UINT32_MAX)
			return count;
		set = lab->next_set++;
		for (size_t i = 0; i < n; i++) {
			if (allow[i].dir != dir || class_key(&allow[i]) != key)
				continue;
			any |= allow[i].peer == NOWHERE;
			must(!datapath_peer_set(lab->dp, set, LAB_IDENTITY + allow[i].peer));
		}
		must(count + 2 <= CLASSES_MAX);
		if (out[count - 1].start == key)
			count--;
		out[count++] = (struct tw_class){ key, any ? TW_SET_ANY : set };
		out[count++] = (struct tw_class){ key + 1, TW_SET_NONE };
		last = key;
	}
}

uint32_t lab_version(struct lab *lab, unsigned int isolate, const struct allow *allow, size_t n)
{
	const bool isolated[2] = {
		[TW_INGRESS] = isolate & ISOLATE_INGRESS,
		[TW_EGRESS] = isolate & ISOLATE_EGRESS,
	};
	struct tw_class in[CLASSES_MAX], out[CLASSES_MAX];
	const struct tw_class *const classes[2] = { [TW_INGRESS] = in, [TW_EGRESS] = out };
	uint32_t counts[2], version = ++lab->next_version;

	if (!lab->next_set)
		lab->next_set = 1;
	counts[TW_INGRESS] = classes_make(lab, TW_INGRESS, allow, n, in);
	counts[TW_EGRESS] = classes_make(lab, TW_EGRESS, allow, n, out);
	must(!datapath_version_set(lab->dp, version, isolated, classes, counts));
	return version;
}

void lab_policy(struct lab *lab, enum place place, unsigned int isolate, const struct allow *allow,
		size_t n)
{
	uint32_t version = lab_version(lab, isolate, allow, n);

	must(!datapath_endpoint_policy(lab->dp, place, LAB_IDENTITY + place, version));
	datapath_epoch_bump(lab->dp, place);
}

void lab_policy_none(struct lab *lab, enum place place)
{
	must(!datapath_endpoint_policy(lab->dp, place, LAB_IDENTITY + place, 0));
	datapath_epoch_bump(lab->dp, place);
}

/* ---- the flow table ------------------------------------------------------------------------ */

/* The entry's map and key; *dir is the tuple's direction. */
static int flow_key(struct lab *lab, const struct tw_tuple *t, union flow_key *key,
		    unsigned int *dir)
{
	*dir = flow_key_pack(t, key);
	return datapath_map_fd(lab->dp, t->family == 4 ? "tw_flow4" : "tw_flow6");
}

int lab_flow_get(struct lab *lab, const struct tw_tuple *t, struct tw_flow *out, unsigned int *dir)
{
	union flow_key key;
	unsigned int d;
	int fd = flow_key(lab, t, &key, &d);

	if (bpf_map_lookup_elem(fd, &key, out))
		return -ENOENT;
	if (dir)
		*dir = d;
	return 0;
}

void lab_flow_set(struct lab *lab, const struct tw_tuple *t, const struct tw_flow *flow)
{
	union flow_key key;
	unsigned int dir;
	int fd = flow_key(lab, t, &key, &dir);

	must(!bpf_map_update_elem(fd, &key, flow, BPF_ANY));
}

int lab_flow_del(struct lab *lab, const struct tw_tuple *t)
{
	union flow_key key;
	unsigned int dir;
	int fd = flow_key(lab, t, &key, &dir);

	return bpf_map_delete_elem(fd, &key) ? -ENOENT : 0;
}

uint32_t lab_flow_count(struct lab *lab, int family)
{
	int fd = datapath_map_fd(lab->dp, family == 4 ? "tw_flow4" : "tw_flow6");
	union flow_key key, next;
	uint32_t n = 0;

	for (void *at = NULL; !bpf_map_get_next_key(fd, at, &next); n++) {
		key = next;
		at = &key;
	}
	return n;
}

/* ---- events -------------------------------------------------------------------------------- */

struct wanted {
	enum tw_event_type type;
	struct tw_event *out;
	bool found;
};

static int event_take(void *arg, const struct tw_event *ev)
{
	struct wanted *wanted = arg;

	if (wanted && !wanted->found && ev->type == wanted->type) {
		*wanted->out = *ev;
		wanted->found = true;
	}
	return 0;
}

void lab_events_drain(struct lab *lab)
{
	must(datapath_events(lab->dp, event_take, NULL) >= 0);
}

int lab_event(struct lab *lab, enum tw_event_type type, struct tw_event *out)
{
	struct wanted wanted = { type, out, false };

	must(datapath_events(lab->dp, event_take, &wanted) >= 0);
	return wanted.found ? 0 : -ENOENT;
}
