/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <towpath/attachment.h>

#include <ctype.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define CNI_NAME_MAX 239u

void tw_port_name(const char *container_id, const char *ifname, char buf[TW_PORT_NAME_LEN + 1])
{
	const char *const part[] = { container_id, ifname };
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a, folded to 40 bits */

	for (int i = 0; i < 2; i++) {
		for (const char *p = part[i]; *p; p++)
			h = (h ^ (uint8_t)*p) * 0x100000001b3u;
		h *= 0x100000001b3u; /* a zero byte ends each part */
	}
	h ^= h >> 40;
	snprintf(buf, TW_PORT_NAME_LEN + 1, TW_PORT_PREFIX "%010llx",
		 (unsigned long long)(h & 0xffffffffffu));
}

bool tw_port_name_valid(const char *name)
{
	size_t prefix = strlen(TW_PORT_PREFIX);

	return strlen(name) == TW_PORT_NAME_LEN && !strncmp(name, TW_PORT_PREFIX, prefix) &&
	       strspn(name + prefix, "0123456789abcdef") == TW_PORT_NAME_LEN - prefix;
}

bool tw_cni_name_valid(const char *name)
{
	if (!isalnum((unsigned char)*name) || strlen(name) > CNI_NAME_MAX)
		return false;
	while (isalnum((unsigned char)*name) || (*name && strchr("_.-", *name)))
		name++;
	return !*name;
}

bool tw_ifname_valid(const char *ifname)
{
	size_t len = strlen(ifname);

	if (!len || len >= IFNAMSIZ || !strcmp(ifname, ".") || !strcmp(ifname, ".."))
		return false;
	for (; *ifname; ifname++) {
		if (strchr("/:", *ifname) || isspace((unsigned char)*ifname))
			return false;
	}
	return true;
}
