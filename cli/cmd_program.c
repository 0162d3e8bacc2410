/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* program: the user's own programs. Each command of the group is a cmd_program_*.c. */
#include "cli.h"

static const struct cli_command *const program_commands[] = {
	&cmd_program_build,  &cmd_program_check, &cmd_program_attach,
	&cmd_program_list,   &cmd_program_show,	 &cmd_program_replace,
	&cmd_program_detach, &cmd_program_stats, NULL,
};

const struct cli_command cmd_program = {
	.name = "program",
	.usage = "COMMAND [ARGUMENT]...",
	.summary = "your own eBPF programs: build them, put them into the path",
	.details = "Each command has --help of its own.\n",
	.examples = "  towpath program build count.c\n"
		    "  towpath program check count.o\n"
		    "  towpath program attach count.o --tc eth1 ingress\n"
		    "  towpath program list\n",
	.commands = program_commands,
};
