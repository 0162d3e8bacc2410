/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * User side of the edge (bpf/edge.bpf.c): load and pin it, attach it to devices, read its counts.
 * An object of its own: a node without an edge loads nothing of it. Pins stand below
 * PIN_DIR/edge: maps/v<layout>/NAME, links/<ifindex>. They outlive the process; programs and maps
 * go on without it. Not thread-safe, but where a function says so.
 */
#ifndef TOWPATH_EDGE_H
#define TOWPATH_EDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <towpath/edge_abi.h>

struct edge;

struct edge_options {
	struct tw_edge_settings settings;
	const char *pin_dir; /* the agent's, on a bpffs; NULL: nothing outlives the process */
};

/* Everything off; hz of this kernel. */
void edge_settings_default(struct tw_edge_settings *out);

/*
 * Takes over pinned maps or makes them, and loads the program. Devices that an earlier process
 * attached keep that one's program until edge_switch(). -errno with a sentence in err.
 */
int edge_open(struct edge **out, const struct edge_options *opts, char *err, size_t err_len);
/* Devices stay attached where there is a pin_dir. NULL is fine. */
void edge_close(struct edge *edge);

/* Puts this process's program on every device attached so far; each switch is atomic. */
int edge_switch(struct edge *edge, char *err, size_t err_len);
/*
 * The same maps under a program with other settings: loaded first, then switched as above. On
 * failure the program of before stays everywhere.
 */
int edge_reload(struct edge *edge, const struct tw_edge_settings *settings, char *err,
		size_t err_len);

/* Whether the program in force was loaded with these. */
bool edge_settings_equal(const struct edge *edge, const struct tw_edge_settings *settings);

enum edge_mode {
	EDGE_MODE_AUTO = 0, /* the driver's, or else generic */
	EDGE_MODE_NATIVE,
	EDGE_MODE_GENERIC,
};

struct edge_attachment {
	uint32_t ifindex;
	enum edge_mode mode; /* NATIVE or GENERIC */
	uint32_t prog_id;    /* what runs there now */
};

/*
 * Attaches to a device; one that is attached already stays as it is. `replace` takes off another
 * program first (for the moment in between the device has none; ours is loaded by then, and if it
 * does not attach, the other one is put back where it was no link). -EBUSY: another program is
 * there, err names it. AUTO that ends as GENERIC leaves in err why.
 */
int edge_attach(struct edge *edge, uint32_t ifindex, enum edge_mode mode, bool replace,
		struct edge_attachment *out, char *err, size_t err_len);
/* -ENOENT: was not attached. */
int edge_detach(struct edge *edge, uint32_t ifindex);
/* -ENOENT: not attached, or the device is gone (its pin is removed then). */
int edge_attachment_get(struct edge *edge, uint32_t ifindex, struct edge_attachment *out);
/* Calls fn for each attached device, until it returns not 0, which is returned. */
int edge_attachment_each(struct edge *edge,
			 int (*fn)(void *arg, const struct edge_attachment *attachment), void *arg);

/* Sum over CPUs of a reason or rule since the maps were made. Any thread. */
int edge_count_read(const struct edge *edge, uint32_t counter, struct tw_metric *out);
/* For a number that gets another meaning; what counts there at the same moment may survive. */
int edge_count_clear(const struct edge *edge, uint32_t counter);

/* Writes an interval list and the class that is for it; no word of the table names it yet. */
int edge_class_set(const struct edge *edge, uint32_t number, const struct tw_edge_class *class,
		   const struct tw_edge_interval *intervals);
/* Rules on ports become these, each port's by one store. */
int edge_ports_store(const struct edge *edge, const struct tw_edge_ports *want);

/*
 * Who sends, by a sample: one frame in TW_EDGE_SAMPLE of each counter and CPU. Packets are estimates,
 * since the source was first seen; frames without IP come as ::. fn's first result other than 0
 * ends it and is returned.
 */
struct edge_source {
	union tw_addr addr;
	uint64_t passed, dropped;
	uint32_t counter; /* of its last sample: enum tw_edge_reason, a limit or a rule */
};
int edge_sources_each(const struct edge *edge,
		      int (*fn)(void *arg, const struct edge_source *source), void *arg);

/* Names of TW_EDGE_REASONS; NULL for a number that is none. */
const char *tw_edge_reason_name(uint32_t reason);
const char *tw_edge_reason_text(uint32_t reason);
bool tw_edge_reason_drops(uint32_t reason);

/* For tests and benches. -errno or a descriptor, borrowed. */
int edge_prog_fd(const struct edge *edge);
int edge_map_fd(const struct edge *edge, const char *name);

/* Takes devices off and removes what is pinned below pin_dir/edge; no process uses it. */
int edge_uninstall(const char *pin_dir);

#endif
