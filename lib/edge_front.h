/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A user's program before the edge. It takes the edge's place in the device's link, and goes on to the
 * edge's program by a program array of its own, which is pinned at PIN_DIR/edge/front/<ifindex>: where
 * that is, an edge that is loaded anew goes into the array and leaves the link alone. pin_dir is the
 * agent's. Any thread.
 */
#ifndef TOWPATH_EDGE_FRONT_H
#define TOWPATH_EDGE_FRONT_H

#include <stddef.h>
#include <stdint.h>

/*
 * Puts the program there, over array_fd, of one slot. -EEXIST: another one is, and err names it;
 * -ENOENT: the edge is not at the device. Of the program `old` (its id; 0: none) it takes the place.
 */
int edge_front_set(const char *pin_dir, uint32_t ifindex, int prog_fd, int array_fd, uint32_t old,
		   char *err, size_t err_len);
/* The program before the edge, 0: none. *next (may be NULL): the edge's own behind it, 0: none. */
uint32_t edge_front_get(const char *pin_dir, uint32_t ifindex, uint32_t *next);
/* The edge's own program stands first again. */
void edge_front_clear(const char *pin_dir, uint32_t ifindex);
/* Clears all but those of these programs. */
void edge_front_keep(const char *pin_dir, const uint32_t *keep, size_t n);

/*
 * For the edge: another program of its own behind whoever is first at that link. -ENOENT: nobody is. With
 * the lock held, as long as the link is looked at and changed.
 */
int edge_front_update(const char *edge_dir, uint32_t ifindex, int link_fd, int prog_fd);
void edge_front_lock(void);
void edge_front_unlock(void);

#endif
