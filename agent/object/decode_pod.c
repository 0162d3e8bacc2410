/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Pods: addresses, container ports, and whether the pod is the node's. Everything else a pod
 * may have is kept in its JSON and not looked at.
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "object/decode.h"
#include "object/names.h"

static int decode_port_name(struct decoder *d, const struct node *node, void *out)
{
	return decode_name(d, node, name_check_port, out);
}

static int decode_container_port(struct decoder *d, const struct node *node, void *out)
{
	struct pod_port *port = out;
	int err = decode_map(d, node);

	port->proto = IPPROTO_TCP;
	if (!err)
		err = decode_required(d, node, "containerPort", decode_port, &port->port);
	if (!err)
		err = decode_field(d, node, "name", decode_port_name, &port->name);
	if (!err)
		err = decode_field(d, node, "protocol", decode_protocol, &port->proto);
	return err;
}

struct ports {
	struct pod_port *v;
	size_t n;
};

static int decode_ports(struct decoder *d, const struct node *node, void *out)
{
	struct ports *ports = out;

	return decode_list(d, node, sizeof(struct pod_port), decode_container_port, &ports->v,
			   &ports->n);
}

struct container {
	struct ports ports;
	const char *restart;
};

static int decode_container(struct decoder *d, const struct node *node, void *out)
{
	struct container *c = out;
	int err = decode_map(d, node);

	if (!err)
		err = decode_field(d, node, "ports", decode_ports, &c->ports);
	if (!err)
		err = decode_field(d, node, "restartPolicy", decode_string, &c->restart);
	return err;
}

struct containers {
	struct container *v;
	size_t n;
};

static int decode_containers(struct decoder *d, const struct node *node, void *out)
{
	struct containers *list = out;

	return decode_list(d, node, sizeof(struct container), decode_container, &list->v, &list->n);
}

/* Init containers end before the pod runs, but for sidecars, which are always restarted. */
static int pod_collect_ports(struct decoder *d, struct pod *pod, const struct containers *main,
			     const struct containers *init)
{
	const struct containers *lists[] = { main, init };
	size_t n = 0;

	for (size_t i = 0; i < 2; i++)
		for (size_t j = 0; j < lists[i]->n; j++)
			n += lists[i]->v[j].ports.n;
	pod->ports = arena_array(d->mem, n, sizeof(*pod->ports));
	if (!pod->ports)
		return -ENOMEM;
	for (size_t i = 0; i < 2; i++) {
		for (size_t j = 0; j < lists[i]->n; j++) {
			const struct container *c = &lists[i]->v[j];

			if (i && !(c->restart && !strcmp(c->restart, "Always")))
				continue;
			for (size_t k = 0; k < c->ports.n; k++)
				pod->ports[pod->n_ports++] = c->ports.v[k];
		}
	}
	return 0;
}

static int decode_spec(struct decoder *d, const struct node *node, void *out)
{
	struct pod *pod = out;
	struct containers main = {}, init = {};
	int err = decode_map(d, node);

	if (!err)
		err = decode_field(d, node, "hostNetwork", decode_bool, &pod->host_network);
	if (!err)
		err = decode_field(d, node, "containers", decode_containers, &main);
	if (!err)
		err = decode_field(d, node, "initContainers", decode_containers, &init);
	if (!err)
		err = pod_collect_ports(d, pod, &main, &init);
	return err;
}

static int decode_address(struct decoder *d, const struct node *node, void *out)
{
	union tw_addr *addr = out;
	const char *text;
	int err = decode_string(d, node, &text);

	if (err)
		return err;
	if (!*text) { /* a pod that has none yet */
		memset(addr, 0, sizeof(*addr));
		return 0;
	}
	if (addr_parse(text, addr))
		return decode_fail(d, node, "expected an IPv4 or IPv6 address, found '%.64s'",
				   text);
	return 0;
}

static int decode_pod_ip(struct decoder *d, const struct node *node, void *out)
{
	int err = decode_map(d, node);

	return err ? err : decode_field(d, node, "ip", decode_address, out);
}

struct addresses {
	union tw_addr *v;
	size_t n;
};

static int decode_pod_ips(struct decoder *d, const struct node *node, void *out)
{
	struct addresses *list = out;

	return decode_list(d, node, sizeof(union tw_addr), decode_pod_ip, &list->v, &list->n);
}

static void pod_add_address(struct pod *pod, const union tw_addr *addr)
{
	static const union tw_addr none;

	if (!memcmp(addr, &none, sizeof(none)))
		return;
	for (size_t i = 0; i < pod->n_addrs; i++)
		if (!memcmp(&pod->addrs[i], addr, sizeof(*addr)))
			return;
	pod->addrs[pod->n_addrs++] = *addr;
}

static int decode_status(struct decoder *d, const struct node *node, void *out)
{
	struct pod *pod = out;
	union tw_addr first = {};
	struct addresses list = {};
	const char *phase = "";
	int err = decode_map(d, node);

	if (!err)
		err = decode_field(d, node, "phase", decode_string, &phase);
	if (!err)
		err = decode_field(d, node, "podIP", decode_address, &first);
	if (!err)
		err = decode_field(d, node, "podIPs", decode_pod_ips, &list);
	/* The addresses of a pod that has ended may belong to another one already. */
	if (err || !strcmp(phase, "Succeeded") || !strcmp(phase, "Failed"))
		return err;
	pod->addrs = arena_array(d->mem, list.n + 1, sizeof(*pod->addrs));
	if (!pod->addrs)
		return -ENOMEM;
	pod_add_address(pod, &first);
	for (size_t i = 0; i < list.n; i++)
		pod_add_address(pod, &list.v[i]);
	return 0;
}

int decode_pod(struct decoder *d, const struct node *doc, struct object *obj)
{
	int err = decode_field(d, doc, "spec", decode_spec, &obj->pod);

	return err ? err : decode_field(d, doc, "status", decode_status, &obj->pod);
}
