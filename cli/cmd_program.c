/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* program: the user's own programs. Each command of the group is a cmd_program_*.c. */
#include "cli.h"

static const struct cli_command *const program_commands[] = {
	&cmd_program_build,
	NULL,
};

const struct cli_command cmd_program = {
	.name = "program",
	.usage = "COMMAND [ARGUMENT]...",
	.summary = "your own eBPF programs: build them, see whether the kernel takes them",
	.details = "Each command has --help of its own.\n",
	.examples = "  towpath program build count.c\n",
	.commands = program_commands,
};
