/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Numbers of the protocols on the wire, for every program. Knows no map. */
#ifndef TW_WIRE_H
#define TW_WIRE_H

#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include <towpath/abi.h>

#define PROTO_HOPOPTS 0
#define PROTO_ICMP 1
#define PROTO_IPIP 4
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_IPV6 41
#define PROTO_ROUTING 43
#define PROTO_FRAGMENT 44
#define PROTO_AH 51
#define PROTO_ICMP6 58
#define PROTO_DSTOPTS 60
#define PROTO_SCTP 132

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define IP_MF 0x2000
#define IP_OFFSET 0x1fff

#define IPV6_EXT_MAX 6

/* An IPv6 extension header that is followed. */
static __always_inline bool proto_is_extension(__u8 proto)
{
	return proto == PROTO_HOPOPTS || proto == PROTO_ROUTING || proto == PROTO_FRAGMENT ||
	       proto == PROTO_AH || proto == PROTO_DSTOPTS;
}

/*
 * A port in host order that an array of 65536 is indexed by. Verifiers before Linux 6.6 forget that
 * what was swapped has 16 bits, and the compiler knows it too well to leave a mask.
 */
static __always_inline __u32 port_index(__be16 port)
{
	__u32 index = bpf_ntohs(port);

	asm volatile("%0 &= 0xffff" : "+r"(index));
	return index;
}

/* How odd the ICMP type is: carried by identifier, an error about a flow, or neither. */
enum icmp_class { ICMP_CLASS_ECHO, ICMP_CLASS_ERROR, ICMP_CLASS_OTHER };

static __always_inline enum icmp_class icmp_classify(__u8 proto, __u8 type)
{
	if (proto == PROTO_ICMP) {
		if (type == 8 || type == 0)
			return ICMP_CLASS_ECHO;
		if (type == 3 || type == 11 || type == 12)
			return ICMP_CLASS_ERROR;
		return ICMP_CLASS_OTHER;
	}
	if (type == 128 || type == 129)
		return ICMP_CLASS_ECHO;
	return type >= 1 && type <= 4 ? ICMP_CLASS_ERROR : ICMP_CLASS_OTHER;
}

static __always_inline void addr_map4(union tw_addr *out, __be32 addr)
{
	out->quad[0] = 0;
	out->word[2] = bpf_htonl(0xffff);
	out->word[3] = addr;
}

#endif
