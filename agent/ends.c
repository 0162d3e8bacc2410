/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "ends.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

bool addr_is_none(const union tw_addr *addr)
{
	return !(addr->quad[0] | addr->quad[1]);
}

static const struct endpoint *endpoint_by_pod(const struct agent *a, const char *ns,
					      const char *pod)
{
	const struct endpoint *ep;

	for (uint32_t slot = 1; (ep = slots_next(a->slots, slot)); slot = ep->slot + 1)
		if (!strcmp(ep->ns, ns) && !strcmp(ep->pod, pod))
			return ep;
	return NULL;
}

static const struct endpoint *endpoint_by_addr(const struct agent *a, const union tw_addr *addr)
{
	const struct endpoint *ep;

	for (uint32_t slot = 1; (ep = slots_next(a->slots, slot)); slot = ep->slot + 1)
		if (!memcmp(&ep->addr4, addr, sizeof(*addr)) ||
		    !memcmp(&ep->addr6, addr, sizeof(*addr)))
			return ep;
	return NULL;
}

static void end_endpoint(struct end *end, const struct endpoint *ep)
{
	end->ep = ep;
	end->what = "pod";
	end->policy.slot = ep->slot;
	end->addr4 = ep->addr4;
	end->addr6 = ep->addr6;
	snprintf(end->ns, sizeof(end->ns), "%s", ep->ns);
	snprintf(end->pod, sizeof(end->pod), "%s", ep->pod);
}

/* A pod by name: an endpoint of this node, else what the Pod object says of its addresses. */
static int end_pod(struct agent *a, const char *text, struct end *end, struct agent_error *err)
{
	const char *slash = strchr(text, '/');
	const char *pod = slash ? slash + 1 : text;

	if (slash)
		snprintf(end->ns, sizeof(end->ns), "%.*s", (int)(slash - text), text);
	else
		snprintf(end->ns, sizeof(end->ns), "default");
	const struct endpoint *ep = endpoint_by_pod(a, end->ns, pod);
	if (ep) {
		end_endpoint(end, ep);
		return 0;
	}
	const struct object *obj = store_object(a->store, OBJECT_POD, end->ns, pod);
	if (!obj)
		return agent_refuse(err, AGENT_NOT_FOUND, "there is no pod %.63s/%.253s", end->ns,
				    pod);
	end->what = "pod";
	snprintf(end->pod, sizeof(end->pod), "%s", pod);
	for (size_t i = 0; i < obj->pod.n_addrs; i++)
		*(addr_is4(&obj->pod.addrs[i]) ? &end->addr4 : &end->addr6) = obj->pod.addrs[i];
	if (!obj->pod.n_addrs)
		return agent_refuse(err, AGENT_INVALID,
				    "the pod %.63s/%.253s has no address yet; start it first",
				    end->ns, pod);
	return 0;
}

int end_parse(struct agent *a, const char *text, struct end *end, struct agent_error *err)
{
	union tw_addr addr;

	*end = (struct end){};
	if (!text || !*text)
		return agent_refuse(err, AGENT_INVALID,
				    "from and to are needed: ns/pod, pod, an address or host");
	if (!strcmp(text, "host")) {
		end->policy.is_host = true;
		end->what = "host";
		return 0;
	}
	if (addr_parse(text, &addr))
		return end_pod(a, text, end, err);
	const struct endpoint *ep = endpoint_by_addr(a, &addr);
	uint32_t word = 0;

	if (ep) {
		end_endpoint(end, ep);
	} else if (!datapath_word_find(a->dp, &addr, &word) && word == TW_ID_HOST) {
		end->what = "host";
		end->policy.is_host = true;
	} else {
		end->what = "world";
	}
	end->policy.addr = addr;
	return 0;
}

int ends_pair(struct end *from, struct end *to, struct agent_error *err)
{
	struct end *ends[2] = { from, to };

	for (int want6 = 0; want6 < 2; want6++) {
		bool fits = true;

		for (int i = 0; i < 2; i++) {
			const struct end *e = ends[i];
			const union tw_addr *addr = want6 ? &e->addr6 : &e->addr4;

			if (e->policy.is_host && addr_is_none(&e->policy.addr))
				continue;
			if (!addr_is_none(&e->policy.addr))
				fits = fits && addr_is4(&e->policy.addr) == !want6;
			else
				fits = fits && !addr_is_none(addr);
		}
		if (!fits)
			continue;
		for (int i = 0; i < 2; i++)
			if (!ends[i]->policy.is_host && addr_is_none(&ends[i]->policy.addr))
				ends[i]->policy.addr = want6 ? ends[i]->addr6 : ends[i]->addr4;
		return 0;
	}
	return agent_refuse(err, AGENT_INVALID, "the two ends have no address family in common");
}

json_t *end_json(const struct end *end)
{
	json_t *json = json_pack("{s:s}", "what", end->what);
	char text[64];

	if (*end->pod) {
		json_object_set_new(json, "namespace", json_string(end->ns));
		json_object_set_new(json, "pod", json_string(end->pod));
	}
	if (!addr_is_none(&end->policy.addr) &&
	    addr_format(&end->policy.addr, text, sizeof(text)) >= 0)
		json_object_set_new(json, "ip", json_string(text));
	return json;
}

int transport_parse(const char *proto, const char *port_text, const struct transport **out,
		    uint16_t *port, struct agent_error *err)
{
	static const struct transport known[] = {
		{ "tcp", IPPROTO_TCP, true },	     { "udp", IPPROTO_UDP, true },
		{ "sctp", IPPROTO_SCTP, true },	     { "icmp", IPPROTO_ICMP, false },
		{ "icmpv6", IPPROTO_ICMPV6, false },
	};
	const char *name = proto && *proto ? proto : "tcp";
	const struct transport *found = NULL;
	unsigned long number = 0;
	char *end = NULL;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcasecmp(name, known[i].name))
			found = &known[i];
	if (!found)
		return agent_refuse(err, AGENT_INVALID,
				    "proto must be tcp, udp, sctp, icmp or icmpv6, not '%.32s'",
				    name);
	if (port_text && *port_text)
		number = strtoul(port_text, &end, 10);
	if (found->ports && (!end || *end || !number || number > 65535))
		return agent_refuse(err, AGENT_INVALID, "%s needs a port from 1 to 65535",
				    found->name);
	*out = found;
	*port = found->ports ? (uint16_t)number : 0;
	return 0;
}
