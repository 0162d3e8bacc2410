/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The name of an endpoint's port, on the node. The agent makes it; the CNI plugin must find
 * it when the agent is away. Part of the on-disk and on-wire contract: never change it.
 */
#ifndef TOWPATH_PORT_H
#define TOWPATH_PORT_H

#include <stdint.h>
#include <stdio.h>

#define TW_PORT_PREFIX "tw"
#define TW_PORT_NAME_LEN 12 /* tw and 10 hex digits */

/* FNV-1a over "container_id\0ifname", folded to 40 bits. buf holds at least 13 bytes. */
static inline void tw_port_name(const char *container_id, const char *ifname,
				char buf[TW_PORT_NAME_LEN + 1])
{
	const char *const part[] = {container_id, ifname};
	uint64_t h = 0xcbf29ce484222325u;

	for (int i = 0; i < 2; i++) {
		for (const char *p = part[i]; *p; p++)
			h = (h ^ (uint8_t)*p) * 0x100000001b3u;
		h *= 0x100000001b3u; /* the separator: XOR with 0 */
	}
	h ^= h >> 40;
	snprintf(buf, TW_PORT_NAME_LEN + 1, TW_PORT_PREFIX "%010llx",
		 (unsigned long long)(h & 0xffffffffffu));
}

#endif
