/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A published port is a DNAT rule in the host's stack, as netavark makes one for its own
 * drivers: the data path hands what is sent to the node's address to the stack, and answers a
 * connection that came through the stack back through it. The client's address stays, so that
 * policies see it; only connections that could not come back otherwise are masqueraded
 * (the container to itself, and from 127.0.0.1).
 */
#include "driver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conntrack.h"

struct mapping {
	const char *host_ip; /* "": all */
	const char *protocol;
	unsigned int host_port;
	unsigned int container_port;
	unsigned int range;
};

/* The container's addresses without their prefix length; "" where it has none. */
struct ends {
	char ip4[INET6_ADDRSTRLEN];
	char ip6[INET6_ADDRSTRLEN];
};

static const struct {
	const char *key;   /* of nft, for addresses */
	const char *proto; /* of nft, for the family */
	int family;
	const char *any; /* host_ip that means all of the family */
} families[] = {
	{ "ip", "ipv4", AF_INET, "0.0.0.0" },
	{ "ip6", "ipv6", AF_INET6, "::" },
};
#define FAMILY_COUNT (sizeof(families) / sizeof(*families))

/* ---- input --------------------------------------------------------------------------------- */

static unsigned int number_of(const json_t *json, const char *key, unsigned int or)
{
	const json_t *value = json_object_get(json, key);
	json_int_t n = json_integer_value(value);

	if (!value || json_is_null(value))
		return or ;
	return n > 0 && n <= UINT16_MAX ? (unsigned int)n : 0;
}

static int mapping_read(const json_t *json, struct mapping *out, char *err, size_t err_len)
{
	struct mapping m = {
		.host_ip = text_of(json, "host_ip", ""),
		.protocol = text_of(json, "protocol", "tcp"),
		.host_port = number_of(json, "host_port", 0),
		.container_port = number_of(json, "container_port", 0),
		.range = number_of(json, "range", 1),
	};
	uint8_t addr[16];

	if (!m.range)
		m.range = 1; /* podman's word for one port, too */
	if (!m.host_port || !m.container_port || m.host_port + m.range > UINT16_MAX + 1u ||
	    m.container_port + m.range > UINT16_MAX + 1u)
		snprintf(err, err_len, "published ports: expected ports from 1 to 65535");
	else if (strcmp(m.protocol, "tcp") != 0 && strcmp(m.protocol, "udp") != 0 &&
		 strcmp(m.protocol, "sctp") != 0)
		snprintf(err, err_len, "published port %u: expected the protocol tcp, udp or sctp",
			 m.host_port);
	else if (*m.host_ip && inet_pton(AF_INET, m.host_ip, addr) != 1 &&
		 inet_pton(AF_INET6, m.host_ip, addr) != 1)
		snprintf(err, err_len, "published port %u: %.64s is not an address", m.host_port,
			 m.host_ip);
	else {
		*out = m;
		return 0;
	}
	return -EINVAL;
}

static void ends_read(const json_t *endpoint, struct ends *out)
{
	const json_t *ip;
	size_t i;

	memset(out, 0, sizeof(*out));
	json_array_foreach(json_object_get(endpoint, "ips"), i, ip) {
		const char *text = json_string_value(ip);

		snprintf(strchr(text, ':') ? out->ip6 : out->ip4, INET6_ADDRSTRLEN, "%.*s",
			 (int)strcspn(text, "/"), text);
	}
}

/* ---- the rules ------------------------------------------------------------------------------- */

static void rule_write(FILE *script, size_t family, const struct mapping *m, const char *to)
{
	const char *key = families[family].key;

	fprintf(script, "\t\tmeta nfproto %s ", families[family].proto);
	if (*m->host_ip && strcmp(m->host_ip, families[family].any) != 0)
		fprintf(script, "%s daddr %s ", key, m->host_ip);
	if (m->range == 1) {
		fprintf(script, "%s dport %u dnat %s to %s%s%s:%u\n", m->protocol, m->host_port,
			key, family ? "[" : "", to, family ? "]" : "", m->container_port);
		return;
	}
	/* "a-b to c-d" would pick any port of c-d; a map keeps the distance. */
	fprintf(script, "dnat %s to %s : %s dport map {", key, to, m->protocol);
	for (unsigned int i = 0; i < m->range; i++)
		fprintf(script, "%s %u : %u", i ? "," : "", m->host_port + i,
			m->container_port + i);
	fputs(" }\n", script);
}

static int mapping_write(FILE *script, const struct mapping *m, const struct ends *ends, char *err,
			 size_t err_len)
{
	const char *to[FAMILY_COUNT] = { ends->ip4, ends->ip6 };
	bool written = false;

	for (size_t f = 0; f < FAMILY_COUNT; f++) {
		uint8_t addr[16];

		if (!*to[f] ||
		    (*m->host_ip && inet_pton(families[f].family, m->host_ip, addr) != 1))
			continue;
		rule_write(script, f, m, to[f]);
		written = true;
	}
	if (written)
		return 0;
	snprintf(err, err_len,
		 "published port %u: the container has no address of the family of %s; add a "
		 "subnet of that family to the network",
		 m->host_port, m->host_ip);
	return -EADDRNOTAVAIL;
}

/* A new table in the place of one that a crash may have left; nft takes all or nothing. */
static int script_write(FILE *script, const char *port, const json_t *mappings,
			const struct ends *ends, char *err, size_t err_len)
{
	const json_t *one;
	size_t i;

	fprintf(script,
		"add table inet towpath_%s\ndelete table inet towpath_%s\n"
		"table inet towpath_%s {\n\tchain publish {\n",
		port, port, port);
	json_array_foreach(mappings, i, one) {
		struct mapping m;
		int rc = mapping_read(one, &m, err, err_len);

		if (!rc)
			rc = mapping_write(script, &m, ends, err, err_len);
		if (rc)
			return rc;
	}
	fputs("\t}\n"
	      "\tchain prerouting {\n\t\ttype nat hook prerouting priority -100;\n"
	      "\t\tfib daddr type local jump publish\n\t}\n"
	      "\tchain output {\n\t\ttype nat hook output priority -100;\n"
	      "\t\tfib daddr type local jump publish\n\t}\n"
	      "\tchain postrouting {\n\t\ttype nat hook postrouting priority 100;\n",
	      script);
	if (*ends->ip4)
		fprintf(script,
			"\t\tct status dnat ip daddr %s ip saddr { %s, 127.0.0.0/8 } masquerade\n",
			ends->ip4, ends->ip4);
	if (*ends->ip6)
		fprintf(script, "\t\tct status dnat ip6 daddr %s ip6 saddr %s masquerade\n",
			ends->ip6, ends->ip6);
	fputs("\t}\n}\n", script);
	return 0;
}

/* ---- nft ---------------------------------------------------------------------------------------- */

static int file_of(const char *text)
{
	size_t len = strlen(text);
	int fd = memfd_create("nft", MFD_CLOEXEC);

	if (fd >= 0 && (write(fd, text, len) != (ssize_t)len || lseek(fd, 0, SEEK_SET) != 0)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* What nft complained of: its first line. */
static void complaint_read(int fd, char *buf, size_t len)
{
	ssize_t n = pread(fd, buf, len - 1, 0);

	buf[n > 0 ? n : 0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
}

static int nft_spawn(int in, int out, int *status)
{
	char *const argv[] = { "nft", "-f", "-", NULL };
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int rc;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out, STDERR_FILENO);
	rc = posix_spawnp(&pid, "nft", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (rc)
		return -rc;
	while (waitpid(pid, status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int nft_run(const char *script, char *err, size_t err_len)
{
	int in = file_of(script), out = file_of("");
	int status = 0, rc = -ENOMEM;
	char complaint[300] = "";

	if (in >= 0 && out >= 0)
		rc = nft_spawn(in, out, &status);
	if (rc == -ENOENT)
		snprintf(err, err_len,
			 "publishing ports needs the command nft: install nftables, or leave out "
			 "-p");
	else if (rc)
		snprintf(err, err_len, "could not run nft: %s", strerror(-rc));
	else if (status) {
		complaint_read(out, complaint, sizeof(complaint));
		snprintf(err, err_len, "nft refuses the rules of published ports: %s", complaint);
		rc = -EIO;
	}
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	return rc;
}

static int sysctl_set(const char *path, char *err, size_t err_len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), rc = 0;

	if (fd < 0 || write(fd, "1", 1) != 1) {
		rc = -errno;
		snprintf(err, err_len, "could not write 1 to %s: %s", path, strerror(-rc));
	}
	if (fd >= 0)
		close(fd);
	return rc;
}

/* What the stack needs to carry what the rules send to the container, and its answers. */
static int stack_prepare(const char *port, const struct ends *ends, char *err, size_t err_len)
{
	char path[96];
	int rc = 0;

	if (*ends->ip4) {
		/*
		 * Lets the host's 127.0.0.1 be a client: answers to it arrive on the port. What
		 * the container itself sends to 127.0.0.0/8 never comes here: the data path has
		 * no route for it.
		 */
		snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/route_localnet", port);
		rc = sysctl_set(path, err, err_len);
	}
	/*
	 * The agent lets single interfaces forward IPv6, which Linux can since 6.17. Before, it
	 * is all or none, and podman's own drivers set all, too.
	 */
	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/force_forwarding", port);
	if (!rc && *ends->ip6 && access(path, F_OK))
		rc = sysctl_set("/proc/sys/net/ipv6/conf/all/forwarding", err, err_len);
	return rc;
}

static void conntrack_forget(const json_t *mappings)
{
	const json_t *one;
	size_t i;

	json_array_foreach(mappings, i, one) {
		unsigned int first = number_of(one, "host_port", 0);
		unsigned int range = number_of(one, "range", 1);

		/* Opener and close of the others' connections say by themselves what they are. */
		if (!strcmp(text_of(one, "protocol", ""), "udp"))
			conntrack_forget_udp((uint16_t)first,
					     (uint16_t)(first + (range ? range : 1) - 1));
	}
}

int publish_ports(const json_t *mappings, const json_t *endpoint, char *err, size_t err_len)
{
	const char *port = text_of(endpoint, "port", "");
	char *text = NULL;
	size_t len = 0;
	FILE *script = open_memstream(&text, &len);
	struct ends ends;
	int rc;

	if (!script) {
		snprintf(err, err_len, "out of memory");
		return -ENOMEM;
	}
	ends_read(endpoint, &ends);
	rc = script_write(script, port, mappings, &ends, err, err_len);
	if (fclose(script) && !rc) {
		snprintf(err, err_len, "out of memory");
		rc = -ENOMEM;
	}
	if (!rc)
		rc = stack_prepare(port, &ends, err, err_len);
	if (!rc)
		rc = nft_run(text, err, err_len);
	free(text);
	if (!rc)
		conntrack_forget(mappings);
	return rc;
}

int publish_remove(const char *port, char *err, size_t err_len)
{
	char script[128];

	/* `delete` alone is an error when there is none. */
	snprintf(script, sizeof(script),
		 "add table inet towpath_%s\ndelete table inet towpath_%s\n", port, port);
	return nft_run(script, err, err_len);
}
