/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * One HTTP/1.1 call over a Unix socket: what the API client needs of HTTP, and no more.
 *
 * A library would be the better home for it, but loading libcurl and the 28 libraries below it
 * takes towpath-cni longer than all that it does (docs/design/cni.md).
 */
#ifndef TOWPATH_HTTP_H
#define TOWPATH_HTTP_H

#include <stddef.h>

struct http_call {
	const char *socket_path; /* fits sockaddr_un */
	const char *method;
	const char *path;
	const char *body; /* JSON; NULL: none */
	size_t body_len;
	unsigned int connect_ms; /* limit for being accepted; 0: none */
	unsigned int total_ms;	 /* limit for all of it; 0: none */
	/* A piece of the answer's body, as it comes. Non-zero ends the call and is returned. */
	int (*take)(void *arg, int status, const char *data, size_t len);
	void *arg;
};

/*
 * The answer's status; or -errno: -ECONNREFUSED nobody listens, -EACCES, -ETIMEDOUT,
 * -ECONNRESET the other end went away before the answer was whole, -EBADMSG it is not HTTP; or
 * what take() returned.
 */
int http_run(const struct http_call *call);

#endif
