/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Packets in words that hold for both families: who sends what to whom. A spec becomes a whole
 * frame with right checksums, so what a program is expected to make of a packet is a spec too,
 * and the comparison is one of bytes. Knows nothing of programs or maps.
 */
#ifndef TESTS_DATAPATH_FRAME_H
#define TESTS_DATAPATH_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <towpath/abi.h>

/* Who has an address. A, B and C are containers of the lab's node (lab.h). */
enum place {
	NOWHERE, /* the unspecified address */
	A,
	B,
	C,
	EMPTY,	  /* in the node's pod subnet, but no container has it */
	NODE,	  /* the node on its first uplink, which is also what it masquerades with */
	NODE2,	  /* ... on its second uplink */
	OUTSIDE,  /* a host that is reached by the first uplink's router */
	OUTSIDE2, /* another one */
	ROUTER,	  /* the first uplink's default router */
	KEPT,	  /* a host outside that containers reach with their own addresses */
	UNROUTED, /* a host that the node has no route to */
	GROUP,	  /* a multicast group */
	LOOPBACK, /* 127.0.0.1, ::1 */
	PLACES
};

/* What a frame carries. ICMP by meaning: the numbers differ between the families. */
enum what {
	TCP,
	UDP,
	SCTP,
	ECHO,
	ECHO_REPLY,
	UNREACHABLE,   /* an error about .about: port unreachable */
	TOO_BIG,       /* ... frag-needed or packet-too-big, with .mtu */
	TIME_EXCEEDED, /* ... */
	ICMP_OTHER,    /* an ICMP type that is not carried (IPv6: router advertisement) */
	ESP,	       /* a protocol without ports */
	ARP,	       /* not IP; NDP stays IP, so this is one frame for both families */
};

enum tcp_flags { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

struct spec {
	enum what what;
	enum place from;
	enum place to;
	uint16_t sport; /* ECHO: the identifier */
	uint16_t dport;
	uint8_t flags;	   /* enum tcp_flags */
	uint8_t ttl;	   /* 0: 64 */
	uint16_t payload;  /* bytes behind the transport header */
	bool df;	   /* IPv4: don't fragment */
	bool more;	   /* a first or middle fragment */
	uint16_t frag_off; /* in bytes, a multiple of 8 */
	uint32_t frag_id;  /* IPv6 without frag_off, more: 1 makes an atomic fragment */
	uint8_t headers;   /* IPv4: 4 × that of options; IPv6: that many destination options */
	bool vlan;	   /* tagged with VLAN 5 */
	const struct spec *about; /* UNREACHABLE, TOO_BIG, TIME_EXCEEDED */
	uint16_t mtu;		  /* TOO_BIG */
	uint16_t cut;		  /* if not 0: only so many bytes of the frame are there */
	uint16_t sequence;	  /* ECHO; payload bytes begin with its low byte */
	bool no_sum;		  /* UDP without checksum */
};

#define FRAME_MAX 3500

struct frame {
	size_t len;
	uint8_t data[FRAME_MAX];
};

void place_addr(enum place place, int family, union tw_addr *out);
/* The transport protocol's number on the wire. */
uint8_t what_proto(enum what what, int family);

void frame_build(struct frame *out, int family, const struct spec *spec);

/* What a received frame says; ports and so on are 0 where it has none. */
struct view {
	struct tw_tuple tuple; /* ECHO: both ports are the identifier */
	uint8_t ttl;
	uint8_t icmp_type;
	uint8_t icmp_code;
	uint8_t flags;
	uint16_t icmp_mtu;
	bool checksums_right; /* of the IP header and of the transport */
	uint8_t dmac[6];
	uint8_t smac[6];
	size_t l4; /* offset of the transport header */
};

/* 0, or -EINVAL for what is not a whole IP packet. Options and extension headers: not known. */
int frame_view(const struct frame *frame, struct view *out);

/* The tuple of a spec as the programs see it. */
void spec_tuple(const struct spec *spec, int family, struct tw_tuple *out);

#endif
