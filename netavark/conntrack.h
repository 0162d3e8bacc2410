/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#ifndef NETAVARK_CONNTRACK_H
#define NETAVARK_CONNTRACK_H

#include <stdint.h>

/*
 * Makes the stack forget UDP exchanges that were opened to a port from first to last: their
 * next packet meets the rules in force, and not the container that had the port before, or
 * the time when nobody had it. Best effort: entries end by themselves, after minutes.
 */
void conntrack_forget_udp(uint16_t first, uint16_t last);

#endif
