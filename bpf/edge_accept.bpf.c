// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* An object apart from edge.bpf.c, whose maps it takes: loaded only where the kernel has the kfunc. */
#include "lib/edge_accept.h"

char _license[] SEC("license") = "Dual BSD/GPL";
