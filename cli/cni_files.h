/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The files that container runtimes read: the plugin in their folder of programs, and network
 * configurations in /etc/cni/net.d. Here is no policy: cmd_cni.c knows what goes where.
 */
#ifndef CLI_CNI_FILES_H
#define CLI_CNI_FILES_H

#include "cli.h"

#include <sys/types.h>

/*
 * Puts a file in place whole: written aside under a name that no runtime reads, synced, renamed.
 * Readers find the old one or the new one; a program that runs goes on with the old one. The
 * folder is made when it is missing. 0 or -errno.
 */
int file_replace(const char *dir, const char *name, mode_t mode, const void *data, size_t len);
/* The same with what the file `from` holds. One that is that file already stays. */
int file_install(const char *from, const char *dir, const char *name, mode_t mode);

/*
 * The network configurations of a folder in the order in which runtimes take them:
 * [{file, network, ours}], `ours` when a plugin of it is towpath-cni. What cannot be read as one
 * has no `network`. A folder that does not exist is empty. 0 or -errno.
 */
int networks_read(const char *dir, json_t **networks);

#endif
