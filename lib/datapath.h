/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * libtowpath: the kernel side's handle. Opens or creates the pinned maps, loads the programs,
 * attaches them, and gives typed access to the maps. Knows nothing of objects, policies or the
 * agent's state. Not thread-safe but for datapath_collect() and datapath_flow_each(), which may run on a
 * worker thread.
 */
#ifndef TOWPATH_DATAPATH_H
#define TOWPATH_DATAPATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <towpath/abi.h>

struct datapath;

struct datapath_options {
	const char *pin_dir;   /* a bpffs; NULL: nothing is pinned (benches, unit tests) */
	uint32_t max_flows;    /* of each family; 0: from memory */
	uint32_t max_versions; /* 0: default */
	uint32_t max_classes;
	uint32_t max_peers;
	uint32_t max_pages; /* of the IPv4 ipcache */
	uint32_t max_prefixes6;
	bool force_clsact;	     /* do not use tcx */
	struct tw_settings settings; /* hz 0: filled in by the library, as are lifetimes of 0 */
};

/* Settings with every default in place (ports, lifetimes in jiffies of this kernel). */
void datapath_settings_default(struct tw_settings *out);

/*
 * Loads programs and maps; maps already pinned in pin_dir with the same layout are used as
 * they are. Programs of an earlier agent stay in force until datapath_switch(). Error text for
 * people in err (may be NULL). -errno on failure, with nothing attached or changed.
 */
int datapath_open(struct datapath **out, const struct datapath_options *opts, char *err,
		  size_t err_len);
/* What became of the connections when the maps of an earlier agent had another layout. */
struct datapath_migration {
	uint32_t from;	/* that layout's TW_ABI_VERSION; 0: there was none */
	uint64_t flows; /* entries carried over */
	uint64_t lost;	/* ... that found no room in a smaller table, or do not fit the layout */
	int error;	/* -errno: what is missing could not be read, or does not fit the layout */
};

/*
 * Puts the programs in force: pinned links of an earlier agent go over to them, each atomically,
 * and its maps, when they have another layout, are emptied into these and removed. To be called
 * once after datapath_open(), when the maps hold the node's whole state. -errno: some links may
 * have been switched; calling again does the rest.
 */
int datapath_switch(struct datapath *dp, struct datapath_migration *out, char *err, size_t err_len);
/* Closes handles; what is pinned goes on working. */
void datapath_close(struct datapath *dp);
/* How many maps are pinned, of how many that should be; *missing is set to one that is not. */
size_t datapath_pins(struct datapath *dp, size_t *expected, const char **missing);
/* Takes everything below pin_dir out of the kernel: links, programs, maps. */
int datapath_uninstall(const char *pin_dir);

/*
 * Holds on to the pins, once everything is in force: the bpffs cannot be unmounted any more, and
 * what is deleted in it makes the descriptor readable that is returned (the data path's), or
 * -errno.
 */
int datapath_pins_hold(struct datapath *dp);
/*
 * Reads what was deleted. Pins of maps and programs are made anew; a link is gone with its pin, so
 * gone() is called with its interface, 0 for any of them, and may attach again. The data path's
 * own deletions come here as well. -errno: a pin could not be made.
 */
int datapath_pins_read(struct datapath *dp, void (*gone)(void *arg, uint32_t ifindex), void *arg);
/* Another file system is where the pins were (or none): they live, but nobody will find them. */
bool datapath_pins_hidden(const struct datapath *dp);
/* Pins everything in the bpffs that is in its place now. */
int datapath_pins_bring(struct datapath *dp);

/* Ports (veth host sides) and uplinks. Idempotent: an attached interface is left alone. */
int datapath_attach_port(struct datapath *dp, uint32_t ifindex, const char *ifname);
/*
 * A port in two halves: from the container, then to it. 1: the second half is to follow, from any
 * thread, and until then nothing of others may be sent to the container through the port.
 */
int datapath_attach_port_begin(struct datapath *dp, uint32_t ifindex);
int datapath_attach_port_end(struct datapath *dp, uint32_t ifindex);
bool datapath_attached_begun(struct datapath *dp, uint32_t ifindex);
int datapath_attach_uplink(struct datapath *dp, uint32_t ifindex, const char *ifname);
int datapath_detach(struct datapath *dp, uint32_t ifindex);
bool datapath_attached(struct datapath *dp, uint32_t ifindex);

/* Ids of the programs in force that sit at hooks of interfaces; how many, at most max. */
size_t datapath_program_ids(struct datapath *dp, uint32_t *ids, size_t max);

int datapath_endpoint_get(struct datapath *dp, uint32_t slot, struct tw_endpoint *out);
/* Writes all of it; ifindex last, so that a half-written endpoint is not live. */
int datapath_endpoint_set(struct datapath *dp, uint32_t slot, const struct tw_endpoint *ep);
/* Identity and version in one 64-bit store. */
int datapath_endpoint_policy(struct datapath *dp, uint32_t slot, uint32_t identity,
			     uint32_t version);
/* The identity of the IPv6 address, where it differs; 0: the same as of the IPv4 address. */
int datapath_endpoint_identity6(struct datapath *dp, uint32_t slot, uint32_t identity);
/* enum tw_endpoint_flags of a live endpoint. The caller raises its epoch. */
int datapath_endpoint_flags(struct datapath *dp, uint32_t slot, uint32_t flags);
int datapath_endpoint_clear(struct datapath *dp, uint32_t slot);
/* Flows that this slot opened and that are there. */
int datapath_endpoint_flows(struct datapath *dp, uint32_t slot, uint32_t *out);
void datapath_epoch_bump(struct datapath *dp, uint32_t slot); /* slot 0: the node */

/* IPv4 prefixes go to the 16-8-8 table, IPv6 to the trie. addr is mapped, len 0..128. */
int datapath_prefix_set(struct datapath *dp, const union tw_addr *addr, uint8_t len, uint32_t word);
int datapath_prefix_del(struct datapath *dp, const union tw_addr *addr, uint8_t len);
int datapath_nomasq_set(struct datapath *dp, const union tw_addr *addr, uint8_t len);

/*
 * The word that a prefix resolves to now (its own or the covering one's), and whether exactly
 * this prefix has an entry. The agent stages a plan with it: an entry set to the word that it
 * resolves to anyway changes no look-up, but holds the room that the real change needs.
 */
int datapath_prefix_get(struct datapath *dp, const union tw_addr *addr, uint8_t len, uint32_t *word,
			bool *exact);
/*
 * Reconciling after a restart: between begin and end, datapath_prefix_set() and
 * datapath_nomasq_set() only collect. End makes the maps hold exactly what was collected: a
 * word that is right already is not written, and no look-up sees anything but the old or the
 * new answer. begin again forgets what was collected.
 */
int datapath_prefix_begin(struct datapath *dp);
int datapath_prefix_end(struct datapath *dp);

/*
 * What is in the kernel, for reconciling: fn may delete (or detach) what it is called with. A
 * result of fn other than 0 ends the iteration and is returned; else 0 or -errno.
 */
int datapath_endpoint_each(struct datapath *dp,
			   int (*fn)(void *arg, uint32_t slot, const struct tw_endpoint *ep),
			   void *arg); /* slots whose ifindex is not 0 */
int datapath_peer_each(struct datapath *dp, int (*fn)(void *arg, uint32_t set, uint32_t identity),
		       void *arg);
int datapath_version_each(struct datapath *dp, int (*fn)(void *arg, uint32_t version), void *arg);
/* By hook, not by interface: whoever died between the two of a port has left one. */
int datapath_attached_each(struct datapath *dp, int (*fn)(void *arg, uint32_t ifindex), void *arg);
int datapath_uplink_each(struct datapath *dp, int (*fn)(void *arg, uint32_t ifindex), void *arg);

int datapath_peer_set(struct datapath *dp, uint32_t set, uint32_t identity);
int datapath_peer_del(struct datapath *dp, uint32_t set, uint32_t identity);
/*
 * Many in few system calls. Set: pairs that are not in the map yet (others would be counted
 * twice). *done: how many of them are in it, also after a failure.
 */
int datapath_peers_set(struct datapath *dp, const struct tw_peer_key *keys, size_t n, size_t *done);
int datapath_peers_del(struct datapath *dp, const struct tw_peer_key *keys, size_t n);
/*
 * A set that changes: the versions written after datapath_generation_begin() see the pairs that
 * are turned after it as they are then, in (join) or out, earlier versions as they were. `old`
 * has room for n, `done` of them are turned, also after a failure; turn_back() with them undoes it,
 * and is for versions that no endpoint got. When no program is under way any more that began
 * before a generation's endpoints were written, that generation is over, and its pairs are settled:
 * they are in for good or deleted. -ENOSPC: tw_peers is full.
 */
int datapath_generation_begin(struct datapath *dp);
uint16_t datapath_generation(const struct datapath *dp);
void datapath_generation_over(struct datapath *dp, uint16_t generation);
int datapath_peers_turn(struct datapath *dp, const struct tw_peer_key *keys, size_t n, bool join,
			union tw_peer *old, size_t *done);
void datapath_peers_turn_back(struct datapath *dp, const struct tw_peer_key *keys, size_t n,
			      const union tw_peer *old);
int datapath_peers_settle(struct datapath *dp, const struct tw_peer_key *keys, size_t n);
/*
 * A version that is in the map with the same content is left alone; with other content it is
 * replaced (only right for a version that no endpoint uses). -ENOSPC: tw_classes has no room,
 * -E2BIG: the number is beyond tw_policy. peer_set: -ENOSPC when tw_peers is full.
 */
int datapath_version_set(struct datapath *dp, uint32_t version, const bool isolated[2],
			 const struct tw_class *const classes[2], const uint32_t n_classes[2]);
int datapath_version_del(struct datapath *dp, uint32_t version);
void datapath_versions_end(struct datapath *dp); /* those of a plan are set: gives memory back */

/*
 * What the programs would find, read back from the maps.
 */
struct datapath_decision {
	bool isolated; /* false: the version says nothing of this direction, and all passes */
	bool allow;
	bool has_class;	      /* there was a class to look into; else the set is the default */
	uint32_t class;	      /* index in tw_classes */
	uint32_t first, last; /* the class's interval of protocol << 16 | port */
	uint32_t set;	      /* TW_SET_*, or the set in which the identity was looked up */
};
/* Does the version pass `identity` on `key` (protocol << 16 | port)? 0 or -errno. */
int datapath_decision_find(struct datapath *dp, uint32_t version, enum tw_direction dir,
			   uint32_t identity, uint32_t key, struct datapath_decision *out);
/* The ipcache's word for an address (mapped); 0: none. */
int datapath_word_find(struct datapath *dp, const union tw_addr *addr, uint32_t *word);
/* Waits until no program can still use what was unlinked before the call (RCU). */
void datapath_grace(struct datapath *dp);

int datapath_uplink_set(struct datapath *dp, uint32_t ifindex, const struct tw_uplink *uplink);
int datapath_uplink_del(struct datapath *dp, uint32_t ifindex);

void datapath_heartbeat(struct datapath *dp);
/* How long ago the last heartbeat was; and gives one. -errno: the kernel does not take it. */
int datapath_heartbeat_age(struct datapath *dp, uint64_t *ms);
/* One pass over the flow tables; thread-safe. */
int datapath_collect(struct datapath *dp, struct tw_collect_args *args);

/* An entry of the flow tables. A translated flow has two, which tell of one direction each. */
struct datapath_flow {
	struct tw_tuple tuple; /* the opener's, as he sends it: before any translation */
	uint16_t slot_from, slot_to;
	bool counts[2]; /* which directions this entry tells of: the opener's, the other */
	bool denied;	/* a tombstone */
	uint8_t tcp[2];
	uint64_t packets[2], bytes[2];
};
/*
 * Calls fn for each entry, from copies read in batches: what comes or goes meanwhile may be left
 * out. Thread-safe. A result of fn other than 0 ends it and is returned; else 0 or -errno.
 */
int datapath_flow_each(struct datapath *dp, int (*fn)(void *arg, const struct datapath_flow *flow),
		       void *arg);

/* Calls fn for each event in the ring; returns how many, or -errno. Never blocks. */
int datapath_events(struct datapath *dp, int (*fn)(void *arg, const struct tw_event *ev),
		    void *arg);

/* Sums over CPUs. */
int datapath_metric(struct datapath *dp, enum tw_reason reason, enum tw_hook hook,
		    struct tw_metric *out);
int datapath_counter(struct datapath *dp, enum tw_counter counter, uint64_t *out);

struct datapath_fill { /* for status */
	const char *map;
	uint64_t used, max, bytes;
};
size_t datapath_fill_get(struct datapath *dp, struct datapath_fill *out, size_t max);
const char *datapath_attach_mode(const struct datapath *dp); /* "tcx" or "clsact" */
int datapath_prog_fd(struct datapath *dp, const char *name); /* tests, benches, trace */
int datapath_map_fd(struct datapath *dp, const char *name);

/* Names of the enums, as people see them. Never NULL. */
const char *tw_reason_name(unsigned int reason);
const char *tw_reason_text(unsigned int reason);
const char *tw_verdict_name(unsigned int verdict);
const char *tw_hook_name(unsigned int hook);
/*
 * A reason of hook TW_HOOK_KERNEL, by the running kernel's enum skb_drop_reason and as its
 * tracepoint prints it: "NO_SOCKET". Known while a struct drops is open (drops.h).
 */
const char *tw_kernel_reason_name(unsigned int reason);

#endif
