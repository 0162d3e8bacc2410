/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The command line of towpathd, parsed and validated. */
#ifndef AGENT_OPTIONS_H
#define AGENT_OPTIONS_H

#include <sys/socket.h>

#include "config.h"
#include "object/object.h"

#define OPTIONS_MAX 16 /* of each option that may be repeated */

struct agent_options {
	const char *state_dir;
	const char *run_dir;
	const char *objects_dir;
	bool objects_dir_given; /* then it must exist */
	struct prefix pod_cidrs[OPTIONS_MAX];
	size_t n_pod_cidrs;
	const char *uplinks[OPTIONS_MAX];
	size_t n_uplinks; /* 0: interfaces with a default route */
	struct prefix nomasq[OPTIONS_MAX];
	size_t n_nomasq;
	bool masquerade4;
	bool masquerade6;
	bool outside_stack;
	bool force_clsact;
	uint32_t max_flows;    /* 0: from memory */
	uint32_t flow_log;     /* 0: default */
	uint32_t flow_history; /* records; 0: none */
	uint32_t flow_history_mb;
	const char *flow_export; /* file; NULL: none */
	uint32_t flow_export_mb;
	uint32_t flow_export_files;
	struct sockaddr_storage metrics; /* where GET /metrics is answered */
	socklen_t metrics_len;		 /* 0: nowhere */
	const char *metrics_text;	 /* as it was given */
	bool uninstall;
	struct config config; /* what strings of the file point into */
};

/*
 * Fills in the defaults, then argv, then what only the configuration file says. Returns -1 to go on, else the exit status: 0 after
 * --help and --version, 2 after a sentence on stderr.
 */
int options_parse(struct agent_options *opts, int argc, char **argv);

#endif
