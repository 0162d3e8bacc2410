/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Addresses and prefixes of both families in one form. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "object/object.h"

static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

bool addr_is4(const union tw_addr *addr)
{
	return !memcmp(addr->byte, mapped, sizeof(mapped));
}

int addr_parse(const char *text, union tw_addr *out)
{
	union tw_addr addr;

	if (inet_pton(AF_INET, text, addr.byte + 12) == 1) {
		memcpy(addr.byte, mapped, sizeof(mapped));
		*out = addr;
		return 0;
	}
	/* An IPv4 address in IPv6 clothes: which of the two is meant depends on the reader. */
	if (inet_pton(AF_INET6, text, addr.byte) != 1 || addr_is4(&addr))
		return -EINVAL;
	*out = addr;
	return 0;
}

int addr_format(const union tw_addr *addr, char *buf, size_t len)
{
	const char *res = addr_is4(addr) ? inet_ntop(AF_INET, addr->byte + 12, buf, (socklen_t)len)
					 : inet_ntop(AF_INET6, addr->byte, buf, (socklen_t)len);

	return res ? 0 : -ENOSPC;
}

static void addr_mask(union tw_addr *addr, uint8_t len)
{
	for (unsigned int i = 0; i < 16; i++) {
		unsigned int keep = len > i * 8 ? len - i * 8 : 0;

		if (keep < 8)
			addr->byte[i] &= (uint8_t)(0xff00u >> keep);
	}
}

void prefix_mask(struct prefix *p)
{
	addr_mask(&p->addr, p->len);
}

int prefix_parse(const char *text, struct prefix *out)
{
	const char *slash = strchr(text, '/');
	size_t n = slash ? (size_t)(slash - text) : strlen(text);
	char buf[INET6_ADDRSTRLEN];
	struct prefix p;
	uint8_t base;

	if (n >= sizeof(buf))
		return -EINVAL;
	memcpy(buf, text, n);
	buf[n] = 0;
	if (addr_parse(buf, &p.addr))
		return -EINVAL;
	base = addr_is4(&p.addr) ? 96 : 0;
	p.len = 128;
	if (slash) {
		size_t digits = strspn(slash + 1, "0123456789");
		unsigned long len = digits && digits <= 3 ? strtoul(slash + 1, NULL, 10) : 999;

		if (slash[1 + digits] || (digits > 1 && slash[1] == '0') || len > 128u - base)
			return -EINVAL;
		p.len = (uint8_t)(len + base);
	}
	addr_mask(&p.addr, p.len);
	*out = p;
	return 0;
}

int prefix_format(const struct prefix *p, char *buf, size_t len)
{
	char addr[INET6_ADDRSTRLEN];
	bool is4 = p->len >= 96 && addr_is4(&p->addr);
	int n;

	addr_format(&p->addr, addr, sizeof(addr));
	n = snprintf(buf, len, "%s/%u", addr, is4 ? p->len - 96u : p->len);
	return n < 0 || (size_t)n >= len ? -ENOSPC : 0;
}

bool prefix_contains(const struct prefix *p, const union tw_addr *addr)
{
	union tw_addr masked = *addr;

	/* ::/0 and the like are IPv6 prefixes: the mapped addresses in them are not theirs. */
	if (p->len < 96 && addr_is4(addr))
		return false;
	addr_mask(&masked, p->len);
	return masked.quad[0] == p->addr.quad[0] && masked.quad[1] == p->addr.quad[1];
}

bool addr_is_loopback(const union tw_addr *addr)
{
	static const union tw_addr one6 = { .byte[15] = 1 };

	return addr_is4(addr) ? addr->byte[12] == 127 : !memcmp(addr, &one6, sizeof(one6));
}
