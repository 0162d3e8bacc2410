/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Which kernel had what first: release numbers as KERNEL(major, minor), so that they compare; 0 for what
 * is not known. Of Linus' tree: distributions bring some things to older kernels.
 */
#ifndef TOWPATH_KERNEL_SINCE_H
#define TOWPATH_KERNEL_SINCE_H

#include <stdint.h>

#define KERNEL(major, minor) ((major) << 8 | (minor))
#define KERNEL_MAJOR(version) ((version) >> 8)
#define KERNEL_MINOR(version) ((version) & 0xff)

uint16_t kernel_since_helper(uint32_t id);	  /* BPF_FUNC_* */
uint16_t kernel_since_prog_type(uint32_t type);	  /* BPF_PROG_TYPE_* */
uint16_t kernel_since_map_type(uint32_t type);	  /* BPF_MAP_TYPE_* */
uint16_t kernel_since_attach_type(uint32_t type); /* enum bpf_attach_type */
uint16_t kernel_since_kfunc(const char *name);

/* "bpf_map_lookup_elem"; NULL: none of this build's kernel headers. */
const char *kernel_helper_name(uint32_t id);

#endif
