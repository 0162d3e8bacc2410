/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What every program that container runtimes call has to do (towpath-cni, the netavark
 * driver): read its input, open the container's network namespace, and end an attachment
 * when no agent answers.
 */
#ifndef TOWPATH_RUNTIME_H
#define TOWPATH_RUNTIME_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <towpath/client.h>

#define TW_STATE_DIR_DEFAULT "/var/lib/towpath"

void tw_cleanup_client(struct tw_client **client);
void tw_cleanup_json(json_t **json);
#define _cleanup_client_ __attribute__((cleanup(tw_cleanup_client)))
#define _cleanup_json_ __attribute__((cleanup(tw_cleanup_json)))

/* Reads to the end; *text is malloc'ed, len bytes. -EFBIG: more than max. */
int tw_stream_read(int fd, size_t max, char **text, size_t *len);

/*
 * Opens a container's network namespace, close-on-exec. -ENOENT and the like from open,
 * -EINVAL: something else, -EBUSY: the caller's own, unless own_ok. err gets the sentence's
 * end, without the path.
 */
int tw_netns_open(const char *path, bool own_ok, int *fd, char *err, size_t err_len);

/* "/v1/endpoints/ID/IFNAME": an interface's name may have any byte, an id may not. */
#define TW_ENDPOINT_PATH_MAX 4200
void tw_endpoint_path(const char *container_id, const char *ifname,
		      char path[TW_ENDPOINT_PATH_MAX]);

/*
 * Ends an attachment after a call has shown that no agent answers: removes the link, wherever
 * its ends can be reached (netns_fd -1: the container is gone), and leaves a record that the
 * agent completes. May put the caller into the container's namespace: for programs that end
 * next. -errno with a sentence when the link stays.
 */
int tw_attachment_end(struct tw_client *client, const char *state_dir, const char *container_id,
		      const char *ifname, int netns_fd, char *err, size_t err_len);

#endif
