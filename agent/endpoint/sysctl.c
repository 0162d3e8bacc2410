/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Below /proc/sys/net the kernel shows the network namespace of the thread that opens the
 * file, so these follow endpoint_netns_run() without another mount.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "endpoint/internal.h"
#include "endpoint/node.h"

#define RESERVED_PORTS "net/ipv4/ip_local_reserved_ports"

int endpoint_fail(int rc, char *err, size_t err_len, const char *format, ...)
{
	va_list args;

	if (err) {
		va_start(args, format);
		vsnprintf(err, err_len, format, args);
		va_end(args);
	}
	return rc;
}

static int sysctl_open(const char *path, int flags)
{
	char full[300];
	int fd;

	if (snprintf(full, sizeof(full), "/proc/sys/%s", path) >= (int)sizeof(full))
		return -ENAMETOOLONG;
	fd = open(full, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int sysctl_read(const char *path, char *buf, size_t len)
{
	_cleanup_fd_ int fd = sysctl_open(path, O_RDONLY);
	size_t n = 0;

	if (fd < 0)
		return fd;
	for (;;) {
		ssize_t got = read(fd, buf + n, len - n);

		if (got < 0)
			return -errno;
		if (!got)
			break;
		n += (size_t)got;
		if (n == len)
			return -EMSGSIZE;
	}
	while (n && buf[n - 1] == '\n')
		n--;
	buf[n] = '\0';
	return 0;
}

int sysctl_write(const char *path, const char *value)
{
	_cleanup_fd_ int fd = sysctl_open(path, O_WRONLY);
	ssize_t len = (ssize_t)strlen(value);

	if (fd < 0)
		return fd;
	if (!len) /* write() of nothing changes nothing; a line end clears a list */
		return write(fd, "\n", 1) == 1 ? 0 : -errno;
	return write(fd, value, (size_t)len) == len ? 0 : -errno;
}

static int sysctl_fail(const char *path, int rc, char *err, size_t err_len)
{
	return endpoint_fail(rc, err, err_len, "could not set /proc/sys/%s: %s", path,
			     strerror(-rc));
}

bool ipv6_available(void)
{
	return !access("/proc/sys/net/ipv6/conf/all/forwarding", F_OK);
}

int ipv6_prepare(const char *ifname, char *err, size_t err_len)
{
	char path[100], old[16];
	int rc;

	if (!ipv6_available())
		return 0;
	snprintf(path, sizeof(path), "net/ipv6/conf/%s/disable_ipv6", ifname);
	rc = sysctl_read(path, old, sizeof(old));
	if (!rc && strcmp(old, "0") != 0)
		rc = sysctl_write(path, "0");
	if (!rc) {
		snprintf(path, sizeof(path), "net/ipv6/conf/%s/accept_ra", ifname);
		rc = sysctl_write(path, "0");
	}
	return rc ? sysctl_fail(path, rc, err, err_len) : 0;
}

/* ---- sysctls that are not ours ------------------------------------------------------------ */

struct saver {
	sysctl_save_fn save;
	void *arg;
	char *err;
	size_t err_len;
};

static int sysctl_change(const struct saver *s, const char *path, const char *old,
			 const char *value)
{
	int rc = s->save(s->arg, path, old);

	if (rc)
		return endpoint_fail(rc, s->err, s->err_len,
				     "could not remember /proc/sys/%s before changing it: %s", path,
				     strerror(-rc));
	rc = sysctl_write(path, value);
	return rc ? sysctl_fail(path, rc, s->err, s->err_len) : 0;
}

/* Sets it where its present value is `from`; where it is not the value already, if that is NULL. */
static int sysctl_ensure(const struct saver *s, const char *path, const char *from,
			 const char *value)
{
	char old[64];
	int rc = sysctl_read(path, old, sizeof(old));

	if (rc == -ENOENT) /* an interface without this family: IPv6 needs an MTU of 1280 */
		return 0;
	if (rc)
		return sysctl_fail(path, rc, s->err, s->err_len);
	if (from ? strcmp(old, from) != 0 : !strcmp(old, value))
		return 0;
	return sysctl_change(s, path, old, value);
}

int uplink_prepare(const struct uplink *uplink, sysctl_save_fn save, void *arg, char *err,
		   size_t err_len)
{
	struct saver s = { save, arg, err, err_len };
	char path[100];
	int rc;

	snprintf(path, sizeof(path), "net/ipv6/conf/%s/accept_ra", uplink->name);
	rc = sysctl_ensure(&s, path, "1", "2");
	if (rc)
		return rc;
	snprintf(path, sizeof(path), "net/ipv6/conf/%s/forwarding", uplink->name);
	rc = sysctl_ensure(&s, path, NULL, "1");
	if (rc)
		return rc;
	/*
	 * What another's DNAT sends from here to a container goes through the stack, and its
	 * IPv6 has no heed of `forwarding` of an interface but for this (Linux 6.17). Before,
	 * only `all` switches it, which is the whole host's and not the agent's to change.
	 */
	snprintf(path, sizeof(path), IPV6_FORCE_FORWARDING, uplink->name);
	rc = sysctl_ensure(&s, path, NULL, "1");
	if (rc)
		return rc;
	snprintf(path, sizeof(path), "net/ipv4/conf/%s/forwarding", uplink->name);
	return sysctl_ensure(&s, path, NULL, "1");
}

/* ---- ip_local_reserved_ports -------------------------------------------------------------- */

#define PORTS 65536u

/* Room for the longest list: every other port by itself. */
#define PORTS_TEXT (PORTS / 2 * 6 + 1)

static void ports_parse(const char *text, bool set[PORTS])
{
	while (*text) {
		char *end;
		unsigned long first = strtoul(text, &end, 10), last = first;

		if (end == text)
			return;
		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		for (unsigned long p = first; p <= last && p < PORTS; p++)
			set[p] = true;
		text = *end == ',' ? end + 1 : end;
	}
}

static void ports_format(const bool set[PORTS], char *text, size_t len)
{
	size_t n = 0;

	text[0] = '\0';
	for (unsigned int p = 0; p < PORTS; p++) {
		unsigned int first = p;

		if (!set[p])
			continue;
		while (p + 1 < PORTS && set[p + 1])
			p++;
		n += (size_t)snprintf(text + n, len - n, first == p ? "%s%u" : "%s%u-%u",
				      n ? "," : "", first, p);
	}
}

/* The list as it is, another one to compare or merge with, and both as text. */
struct ports {
	bool now[PORTS];
	bool other[PORTS];
	char old[PORTS_TEXT];
	char text[PORTS_TEXT];
};

static void ports_cleanup(struct ports **p)
{
	free(*p);
}
#define _cleanup_ports_ __attribute__((cleanup(ports_cleanup)))

int node_reserve_ports(sysctl_save_fn save, void *arg, char *err, size_t err_len)
{
	struct saver s = { save, arg, err, err_len };
	_cleanup_ports_ struct ports *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return -ENOMEM;
	rc = sysctl_read(RESERVED_PORTS, p->old, sizeof(p->old));
	if (rc)
		return sysctl_fail(RESERVED_PORTS, rc, err, err_len);
	ports_parse(p->old, p->now);
	memcpy(p->other, p->now, sizeof(p->now));
	for (unsigned int port = NODE_SNAT_FIRST; port <= NODE_SNAT_LAST; port++)
		p->other[port] = true;
	if (!memcmp(p->other, p->now, sizeof(p->now)))
		return 0;
	ports_format(p->other, p->text, sizeof(p->text));
	return sysctl_change(&s, RESERVED_PORTS, p->old, p->text);
}

/* Only what was added is taken away: others may have added to the list since. */
static int reserved_ports_restore(const char *old)
{
	_cleanup_ports_ struct ports *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return -ENOMEM;
	rc = sysctl_read(RESERVED_PORTS, p->text, sizeof(p->text));
	if (rc)
		return rc;
	ports_parse(p->text, p->now);
	ports_parse(old, p->other);
	for (unsigned int port = NODE_SNAT_FIRST; port <= NODE_SNAT_LAST; port++)
		p->now[port] = p->other[port];
	ports_format(p->now, p->text, sizeof(p->text));
	return sysctl_write(RESERVED_PORTS, p->text);
}

int sysctl_restore(const char *path, const char *old)
{
	int rc;

	if (!strcmp(path, RESERVED_PORTS))
		return reserved_ports_restore(old);
	rc = sysctl_write(path, old);
	return rc == -ENOENT ? 0 : rc;
}
