/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What record.bpf.c puts into the ring and recorder.c takes out. */
#ifndef RECORD_H
#define RECORD_H

#include <linux/types.h>

#define RECORD_BYTES 256 /* of a packet at most; the first ones */

struct record {
	__u64 time;   /* ns of CLOCK_MONOTONIC */
	__u32 length; /* of the packet */
	__u32 kept;   /* of it in `data` */
	__u8 data[RECORD_BYTES];
};

#endif
