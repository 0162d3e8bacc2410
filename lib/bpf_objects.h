/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Walks over what the kernel has: programs, and the pins of every bpffs. */
#ifndef TOWPATH_BPF_OBJECTS_H
#define TOWPATH_BPF_OBJECTS_H

#include <linux/bpf.h>
#include <stdint.h>

/* Every program, fn with a descriptor that is closed afterwards; other than 0 from fn ends it, and is
 * the result. */
int bpf_programs_each(int (*fn)(void *arg, int fd, const struct bpf_prog_info *info,
				const uint32_t *map_ids),
		      void *arg);

enum bpf_pin { BPF_PIN_MAP, BPF_PIN_PROGRAM, BPF_PIN_LINK };

/* Every pin of every bpffs that this process sees, fn with its descriptor. */
int bpf_pins_each(int (*fn)(void *arg, const char *path, enum bpf_pin kind, int fd), void *arg);

#endif
