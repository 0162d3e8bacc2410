/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* edge: the filter on uplinks. Each command of the group is in a cmd_edge_*.c. */
#include "cli.h"

static const struct cli_command *const edge_commands[] = {
	&cmd_edge_attach, &cmd_edge_detach,  &cmd_edge_status, &cmd_edge_deny,
	&cmd_edge_allow,  &cmd_edge_lists,   &cmd_edge_limit,  &cmd_edge_test,
	&cmd_edge_top,	  &cmd_edge_balance, &cmd_edge_decap,  NULL,
};

const struct cli_command cmd_edge = {
	.name = "edge",
	.usage = "COMMAND [ARGUMENT]...",
	.summary = "drop unwanted traffic at the network card",
	.details = "Each command has --help of its own.\n",
	.examples = "  towpath edge attach eth0\n"
		    "  towpath edge deny 203.0.113.0/24 --for 10m\n"
		    "  towpath edge deny drop.txt\n"
		    "  towpath edge top\n",
	.commands = edge_commands,
};
