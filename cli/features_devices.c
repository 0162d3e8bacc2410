/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What XDP can do on each device: the driver's own answer, by the netlink family "netdev". */
#include "feature_list.h"

#include <bpf/libbpf.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/netdev.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct {
	uint64_t flag;
	const char *name;
} xdp_features[] = {
	{ NETDEV_XDP_ACT_BASIC, "basic" },
	{ NETDEV_XDP_ACT_REDIRECT, "redirect" },
	{ NETDEV_XDP_ACT_NDO_XMIT, "target" },
	{ NETDEV_XDP_ACT_XSK_ZEROCOPY, "zerocopy" },
	{ NETDEV_XDP_ACT_HW_OFFLOAD, "offload" },
	{ NETDEV_XDP_ACT_RX_SG, "frags" },
	{ NETDEV_XDP_ACT_NDO_XMIT_SG, "target_frags" },
};

static const char *const modes[] = {
	[XDP_ATTACHED_DRV] = "driver",
	[XDP_ATTACHED_SKB] = "generic",
	[XDP_ATTACHED_HW] = "hardware",
	[XDP_ATTACHED_MULTI] = "several",
};

static void driver_read(const char *device, char driver[32])
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq req = { .ifr_data = (void *)&info };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", device);
	if (fd >= 0 && !ioctl(fd, SIOCETHTOOL, &req))
		snprintf(driver, 32, "%.31s", info.driver);
	if (fd >= 0)
		close(fd);
}

static json_t *device_json(const struct if_nameindex *device)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, query);
	int res = bpf_xdp_query((int)device->if_index, 0, &query);
	json_t *xdp = json_array(), *item;
	char driver[32] = "";

	driver_read(device->if_name, driver);
	for (size_t i = 0; !res && i < sizeof(xdp_features) / sizeof(*xdp_features); i++)
		if (query.feature_flags & xdp_features[i].flag)
			json_array_append_new(xdp, json_string(xdp_features[i].name));
	item = json_pack("{s:s, s:s, s:o}", "name", device->if_name, "driver", driver, "xdp", xdp);
	if (!res && query.attach_mode < sizeof(modes) / sizeof(*modes) &&
	    modes[query.attach_mode]) {
		json_object_set_new(item, "mode", json_string(modes[query.attach_mode]));
		json_object_set_new(item, "program", json_integer(query.prog_id));
	}
	return item;
}

json_t *features_devices(void)
{
	struct if_nameindex *devices = if_nameindex();
	json_t *list = json_array();

	for (const struct if_nameindex *d = devices; d && d->if_index; d++)
		json_array_append_new(list, device_json(d));
	if (devices)
		if_freenameindex(devices);
	return list;
}
