/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The netavark driver: what podman 4.4 and newer run in the place of a CNI plugin. One run is
 * one command with JSON on stdin and stdout (netavark's plugin API 1.0.0). main.c: the
 * commands; network.c: what a podman network may say; publish.c: published ports, in the
 * host's nftables. Addresses, interfaces, programs and maps are the agent's, as with
 * towpath-cni. Nothing here keeps state.
 */
#ifndef NETAVARK_DRIVER_H
#define NETAVARK_DRIVER_H

#include <jansson.h>
#include <stddef.h>

/* Prints {"error": ...}, which podman shows; returns the exit status. */
__attribute__((format(printf, 1, 2))) int driver_fail(const char *format, ...);
/* One object on stdout; 0 or 1. */
int driver_print(const json_t *json);
/* A string in an object; `or` when there is none or it is empty. */
const char *text_of(const json_t *json, const char *key, const char * or);

/* ---- network.c ---------------------------------------------------------------------------- */

/*
 * Checks what `podman network create` was given and completes it in place: podman stores it
 * and hands it out with every setup. 0, or 1 after driver_fail().
 */
int network_create(json_t *network);
/* An option (-o KEY=VALUE) of a network; `or` when it has none. */
const char *network_option(const json_t *network, const char *key, const char * or);
/* Labels of the options label.KEY=VALUE; a new object. */
json_t *network_labels(const json_t *network);
/* The network's subnets as a list of CIDRs; empty: the agent's pools. A new array. */
json_t *network_subnets(const json_t *network);

/* ---- publish.c ----------------------------------------------------------------------------- */

/*
 * Published ports (podman run -p) of one attachment: a table of its own in nftables, named
 * after its port, so that one goes without a look at the others. -errno with a sentence.
 */
int publish_ports(const json_t *mappings, const json_t *endpoint, char *err, size_t err_len);
/* Nothing to remove is no error. */
int publish_remove(const char *port, char *err, size_t err_len);

#endif
