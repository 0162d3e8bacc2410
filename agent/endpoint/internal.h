/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Shared by the files of this folder only. */
#ifndef AGENT_ENDPOINT_INTERNAL_H
#define AGENT_ENDPOINT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "object/object.h"

static inline void endpoint_cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
/* The descriptor, which is then the caller's to close. */
static inline int endpoint_take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}
#define _cleanup_fd_ __attribute__((cleanup(endpoint_cleanup_close)))

static inline bool addr_is_zero(const union tw_addr *addr)
{
	return !addr->quad[0] && !addr->quad[1];
}

static inline bool addr_equal(const union tw_addr *a, const union tw_addr *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* Leaves the sentence in err (may be NULL) and returns rc, so that `return` can hold it. */
__attribute__((format(printf, 4, 5))) int endpoint_fail(int rc, char *err, size_t err_len,
							const char *format, ...);

/* Below /proc/sys; of an interface. -ENOENT before Linux 6.17. */
#define IPV6_FORCE_FORWARDING "net/ipv6/conf/%s/force_forwarding"

/* Whether this kernel speaks IPv6 at all (ipv6.disable=1, or built without). */
bool ipv6_available(void);
/*
 * What both ends of a pair want of IPv6, before they are up: it is switched on, and router
 * advertisements are not listened to. In the calling thread's network namespace.
 */
int ipv6_prepare(const char *ifname, char *err, size_t err_len);

/* Room for any address or prefix as text. */
#define ADDR_TEXT_LEN 64

#endif
