/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "datapath_internal.h"

int window_open(struct window *w, int fd, uint32_t elem_size, uint32_t n)
{
	uint64_t bytes = (uint64_t)elem_size * n;

	w->fd = fd;
	w->elem_size = elem_size;
	w->n = n;
	w->n_pieces = (uint32_t)((bytes + WINDOW_BYTES - 1) / WINDOW_BYTES);
	w->piece = calloc(w->n_pieces ?: 1, sizeof(*w->piece));
	return w->piece ? 0 : -ENOMEM;
}

/* The kernel maps whole pages of the array's memory; the last piece may be shorter. */
static size_t piece_bytes(const struct window *w, uint32_t piece)
{
	uint64_t total = ((uint64_t)w->elem_size * w->n + 4095) & ~4095ull;
	uint64_t left = total - (uint64_t)piece * WINDOW_BYTES;

	return left < WINDOW_BYTES ? left : WINDOW_BYTES;
}

void window_unmap(struct window *w)
{
	for (uint32_t i = 0; w->piece && i < w->n_pieces; i++) {
		if (w->piece[i])
			munmap(w->piece[i], piece_bytes(w, i));
		w->piece[i] = NULL;
	}
}

void window_close(struct window *w)
{
	window_unmap(w);
	free(w->piece);
	w->piece = NULL;
}

void *window_at(struct window *w, uint32_t index)
{
	uint64_t offset = (uint64_t)w->elem_size * index;
	uint32_t piece = (uint32_t)(offset / WINDOW_BYTES);

	if (index >= w->n)
		return NULL;
	if (!w->piece[piece]) {
		void *at = mmap(NULL, piece_bytes(w, piece), PROT_READ | PROT_WRITE, MAP_SHARED,
				w->fd, (off_t)piece * WINDOW_BYTES);

		if (at == MAP_FAILED)
			return NULL;
		w->piece[piece] = at;
	}
	return (char *)w->piece[piece] + offset % WINDOW_BYTES;
}
