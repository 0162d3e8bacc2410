/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Calls about users' programs. A program runs in the kernel, so only root may bring one. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "api/internal.h"
#include "programs.h"

/* The socket is open to the group towpath, which may change policies, but not run code. */
static int root_only(const struct call *call, struct agent_error *err)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(call->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (info && !getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) &&
	    !peer.uid)
		return 0;
	return agent_refuse(err, AGENT_INVALID,
			    "only root may change which programs run in the kernel; try with sudo");
}

int programs_list(struct call *call, json_t **reply, struct agent_error *err)
{
	return call_answer(programs_json(call->agent->programs), reply, err);
}

int programs_get(struct call *call, json_t **reply, struct agent_error *err)
{
	*reply = program_json(call->agent->programs, call->parts[0], err);
	return *reply ? 0 : err->code == AGENT_NOT_FOUND ? -ENOENT : -EIO;
}

/* ?device=, ?namespace=&pod=, ?cgroup=, or nothing. */
int programs_list_hooks(struct call *call, json_t **reply, struct agent_error *err)
{
	const struct programs_asked asked = {
		.device = call_argument(call, "device"),
		.ns = call_argument(call, "namespace"),
		.pod = call_argument(call, "pod"),
		.cgroup = call_argument(call, "cgroup"),
	};
	int res = programs_hooks(call->agent->programs, &asked, call_answered, call, err);

	return res ? res : -EINPROGRESS;
}

/* ?hold=MS: for how long the kernel goes on counting. */
int programs_get_stats(struct call *call, json_t **reply, struct agent_error *err)
{
	const char *hold = call_argument(call, "hold");

	*reply = programs_stats_json(call->agent->programs,
				     hold ? (unsigned int)strtoul(hold, NULL, 10) : 3000u, err);
	return *reply ? 0 : -EIO;
}

/* A request with an object: for the name in the path, or a new one. */
static int with_object(struct call *call, const char *name, struct agent_error *err)
{
	struct programs *p = call->agent->programs;
	json_t *body = NULL;
	int res = root_only(call, err);

	if (!res)
		res = call_json(call, &body, err);
	if (!res)
		res = name ? programs_replace(p, name, body, call_answered, call, err)
			   : programs_attach(p, body, call_answered, call, err);
	json_decref(body);
	return res ? res : -EINPROGRESS;
}

int programs_post(struct call *call, json_t **reply, struct agent_error *err)
{
	return with_object(call, NULL, err);
}

int programs_put(struct call *call, json_t **reply, struct agent_error *err)
{
	return with_object(call, call->parts[0], err);
}

int programs_delete(struct call *call, json_t **reply, struct agent_error *err)
{
	int res = root_only(call, err);

	if (!res)
		res = programs_detach(call->agent->programs, call->parts[0], call_answered, call,
				      err);
	return res ? res : -EINPROGRESS;
}
