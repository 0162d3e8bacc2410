/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The inside of struct datapath. datapath.c: load and pin; programs.c: programs of an earlier
 * agent; pins.c: pins that were taken away; migrate.c: maps of another layout; attach.c: links;
 * tables.c: endpoints, policy, small maps; peers.c: members of sets; lookup.c: what the programs find in them; prefix.c:
 * the ipcache; window.c: mapped arrays.
 */
#ifndef TOWPATH_DATAPATH_INTERNAL_H
#define TOWPATH_DATAPATH_INTERNAL_H

#include <limits.h>
#include <net/if.h>

#include "datapath.h"

#define DP_NAME_MAX 32

/*
 * An mmapable array, mapped a piece at a time: a mapping counts as resident memory in full, so
 * only the pieces in use are mapped.
 */
#define WINDOW_BYTES 65536u
struct window {
	int fd;
	uint32_t elem_size;
	uint32_t n;
	void **piece; /* WINDOW_BYTES each, mapped at first use */
	uint32_t n_pieces;
};

int window_open(struct window *w, int fd, uint32_t elem_size, uint32_t n);
void window_close(struct window *w);
void window_unmap(struct window *w); /* pieces are mapped again when they are used */
/* The element, or NULL: out of range, or the kernel refused the mapping. */
void *window_at(struct window *w, uint32_t index);

/*
 * Entries of the kernel's IPv6 trie that nothing is kept in. Before Linux 6.13 a full trie takes
 * no new word for a prefix that it has; and a blanket must fit while everything is exchanged.
 */
#define PREFIXES6_SPARE 2u

/* The IPv4 prefixes as set, for longest-prefix arithmetic. */
struct trie;
struct prefix6;

struct prefixes {
	struct window top;
	struct window pages;
	int fd6;
	struct trie *trie;    /* what the table holds */
	struct trie *staged;  /* between begin and end */
	struct prefix6 *set6; /* uthash, by (addr, len) */
	struct prefix6 *staged6;
	bool collecting;
	bool shrinking;	      /* nothing that needs a page is written */
	uint32_t max6;	      /* of the kernel's trie, of which some are spare */
	uint32_t *free_pages; /* stack of indices */
	uint32_t n_free;
	uint32_t *resting; /* unlinked, may still be read */
	uint32_t n_resting;
	uint32_t fresh; /* pages from here on were never used */
	uint32_t max_pages;
};

int prefixes_open(struct prefixes *p, int top_fd, int pages_fd, uint32_t max_pages, int fd6);
void prefixes_close(struct prefixes *p);
uint32_t prefixes_pages_used(const struct prefixes *p);
uint32_t prefixes_count6(const struct prefixes *p);
uint32_t prefixes_max6(const struct prefixes *p); /* how many prefixes there may be */

/* Ranges of tw_classes that versions own. */
struct class_range {
	uint32_t first;
	uint32_t count;
};

struct towpath_bpf;
struct bpf_program;
struct bpf_map;

struct datapath {
	struct towpath_bpf *skel;
	char pin_dir[PATH_MAX]; /* "": nothing is pinned */
	bool clsact;
	struct window endpoints;
	struct window epochs;
	struct window config;
	struct window classes;
	struct prefixes prefixes;
	/* by version; count 0 in both directions: none */
	struct class_range (*ranges)[2];
	bool *version_used;
	uint32_t max_versions;
	uint32_t n_versions;
	uint8_t *class_used; /* bitmap */
	uint32_t max_classes;
	uint32_t n_classes;
	uint32_t n_peers;
	uint16_t generation;	  /* of the versions that are written now */
	uint16_t generation_safe; /* programs under way are of this one or a later one */
	uint32_t n_endpoints;
	uint32_t live[2]; /* flows, IPv4 and IPv6, at the collector's last pass (any thread) */
	struct tw_settings settings;
	struct ring_buffer *ring;
	struct event_sink {
		int (*fn)(void *arg, const struct tw_event *ev);
		void *arg;
		struct tw_clock now; /* of this poll, in jiffies and in ns */
		uint64_t now_ns;
		uint32_t tick_ns;
	} sink;
	uint64_t fingerprint; /* of what is loaded */
	struct adopted_program {
		const struct bpf_program *prog;
		int fd;
	} *adopted; /* programs that an earlier agent loaded; none: this one's own */
	size_t n_adopted;
	int pins_dir;	/* the folder of the pins, held open; 0: not held */
	int pins_watch; /* inotify */
	int jumps_fd;	/* the jump table of programs that were taken over; 0: none were */
	int nomasq_fd;
	struct prefix6 *nomasq_staged;
};

int datapath_tables_open(struct datapath *dp);
void datapath_tables_close(struct datapath *dp);
int peers_open(struct datapath *dp);
/* Does a version of the generation find the identity in the set? */
bool peer_holds(union tw_peer peer, uint16_t generation);
/* Switches the links pinned by an earlier agent to this one's programs. */
int datapath_links_adopt(struct datapath *dp);

/*
 * Takes over the pinned programs if they are what would be loaded, and work on the maps that
 * are open: before the skeleton is loaded, after its maps are.
 */
bool programs_adopt(struct datapath *dp);
void programs_close(struct datapath *dp);
/* Of a program, loaded or taken over. */
int program_fd(const struct datapath *dp, const struct bpf_program *prog);
/* Before links or jumps change; and when they are in place. */
void programs_forget(const struct datapath *dp);
int programs_pin(const struct datapath *dp);
bool programs_pinned(const struct datapath *dp); /* all of them, as programs_pin() left it */
void programs_path(const struct datapath *dp, char path[PATH_MAX]);

/* Pins, each made where it is missing. */
bool map_is_private(const struct bpf_map *map);
/* Whether path is a pin of this map, and not of another one. */
bool map_pinned_at(const struct bpf_map *map, const char *path);
void map_pin_path(const struct datapath *dp, const struct bpf_map *map, char path[PATH_MAX]);
int pin_folders_make(const struct datapath *dp);
int maps_pin(struct datapath *dp);
int jumps_pin(const struct datapath *dp, int fd);
bool jumps_pinned(const struct datapath *dp, int fd);
void pins_close(struct datapath *dp);
/* The interface in the name of a link's pin. -EINVAL: it is no such name. */
int link_name_ifindex(const char *name, uint32_t *ifindex);

/* The steps 1, 2 and 4 of migrate.c. Without another layout they do nothing. */
int migrate_epochs(struct datapath *dp, char *err, size_t err_len);
void migrate_before_links(struct datapath *dp, struct datapath_migration *result);
void migrate_after_links(struct datapath *dp, struct datapath_migration *result);

/* The jump table of programs that this process has loaded. */
int datapath_jumps_fill(const struct towpath_bpf *skel);
/* Until every program that runs now has ended. */
void datapath_rcu_wait(void);
/* Sums the words of a per-CPU element. */
int datapath_percpu_sum(int fd, uint32_t index, uint64_t *sum, size_t words);
/* Of a per-CPU array of struct tw_metric. */
int datapath_metric_sum(int fd, uint32_t index, struct tw_metric *out);
/* One more ring of struct tw_event that datapath_events() drains. */
int datapath_ring_add(struct datapath *dp, int fd);
/* The names behind tw_kernel_reason_name(); NULL: none. Borrowed. */
void tw_kernel_reasons_set(char *const names[TW_KERNEL_REASONS]);

/* Unlinks all pins below path, depth first, and the folders there; path itself stays. */
int pins_remove(const char *path);

/* Raw bpf map access by name, over the skeleton. */
int datapath_fd(const struct datapath *dp, const char *map);

void datapath_message(char *err, size_t err_len, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
