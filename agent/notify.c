/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"

void notify_ready(void)
{
	static const char ready[] = "READY=1";
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };

	if (!path || !*path)
		return;

	size_t len = strlen(path);
	int fd = len < sizeof(to.sun_path) ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;

	memcpy(to.sun_path, path, len < sizeof(to.sun_path) ? len : 0);
	if (*path == '@') /* an abstract name */
		to.sun_path[0] = '\0';
	if (fd < 0 ||
	    sendto(fd, ready, sizeof(ready) - 1, MSG_NOSIGNAL, (const struct sockaddr *)&to,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		log_warn("cannot tell the service manager at %s that the agent is ready", path);
	if (fd >= 0)
		close(fd);
}
