/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What programs send through ring buffers and perf buffers. Reading takes the events out, so each
 * buffer has one reader. Needs what <towpath/map.h> needs.
 *
 *	struct tw_events *events;
 *
 *	if (tw_events_open(&events, map, "event", err, sizeof(err)))
 *		errx(1, "%s", err);
 *	while (tw_events_read(events, -1, print_event, NULL) >= 0)
 *		;
 *	tw_events_close(events);
 *
 * Functions that can fail return -errno and leave out-parameters as they were; `err` (may be NULL) gets
 * one sentence. A struct tw_events may be used by one thread at a time.
 */
#ifndef TOWPATH_EVENTS_H
#define TOWPATH_EVENTS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <towpath/map.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tw_events;

/*
 * Opens a map of the kind TW_MAP_EVENTS for reading; the map stays the caller's, and may be closed.
 * `type` is the name of the struct that the events are, in the BTF of a program that uses the map; NULL:
 * they are bytes. *out is the caller's, for tw_events_close(). -EINVAL: another kind of map; -ENOENT: no
 * such type; -EPERM.
 */
int tw_events_open(struct tw_events **out, const struct tw_map *map, const char *type, char *err,
		   size_t err_len);
void tw_events_close(struct tw_events *events); /* NULL is fine */

/* Becomes readable when there are events; belongs to the events. For event loops. */
int tw_events_fd(const struct tw_events *events);

/*
 * Waits for timeout_ms (-1: for ever, 0: not) until there are events, and calls fn for each; data is valid
 * in the call only. fn returning other than 0 ends it, and is the result if it is below 0; the event
 * counts as read. The number of events, or -errno: -EINTR when a signal came.
 */
int tw_events_read(struct tw_events *events, int timeout_ms,
		   int (*fn)(void *arg, const void *data, size_t size), void *arg);

/*
 * An event by its type, in the form that <towpath/map.h> has for values, or its bytes as "0a 00 ..." when it
 * has none. An event that is longer than the type has the rest left out; of a shorter one, NULL. The caller's.
 */
json_t *tw_events_json(const struct tw_events *events, const void *data, size_t size);

/* Events of a perf buffer that were lost since it was opened, as nobody read in time. */
uint64_t tw_events_lost(const struct tw_events *events);

#ifdef __cplusplus
}
#endif

#endif
