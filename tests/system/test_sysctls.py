# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""What the agent changes about the node's own settings, and that uninstall puts it back."""

import ipaddress
import os
import time

import pytest

from node import Node

PORTS = "ipv4/ip_local_reserved_ports"
UPLINK = {
    "ipv4/conf/up0/forwarding": "0",
    "ipv6/conf/up0/forwarding": "0",
    "ipv6/conf/up0/accept_ra": "1",
}
if os.path.exists("/proc/sys/net/ipv6/conf/all/force_forwarding"):  # Linux 6.17
    UPLINK["ipv6/conf/up0/force_forwarding"] = "0"


def parse(text):
    """The ports of such a list."""
    found = set()
    for piece in filter(None, text.split(",")):
        first, _, last = piece.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


OURS = set(range(61000, 65536))


@pytest.fixture
def stopped():
    with Node(start=False) as node:
        for path, value in UPLINK.items():
            node.netns.sysctl(path, value)
        yield node


def uninstall(node):
    node.stop()
    done = node.netns.run(*node.argv("--uninstall"))
    assert done.returncode == 0, done.stderr


def settings(node):
    return {path: node.netns.sysctl(path) for path in UPLINK}


def test_uplink_forwards_and_is_put_back(stopped):
    stopped.start()
    assert settings(stopped) == {**dict.fromkeys(UPLINK, "1"), "ipv6/conf/up0/accept_ra": "2"}
    stopped.restart()  # the second run must not take its own values for the old ones
    uninstall(stopped)
    assert settings(stopped) == UPLINK


@pytest.mark.parametrize("accept_ra", ("0", "2"))
def test_other_accept_ra_is_left_alone(stopped, accept_ra):
    stopped.netns.sysctl("ipv6/conf/up0/accept_ra", accept_ra)
    stopped.start()
    assert stopped.netns.sysctl("ipv6/conf/up0/accept_ra") == accept_ra


def test_only_ports_and_uplinks_forward(stopped):
    stopped.netns.ip("link add other0 type veth peer name other1")
    before = {
        (family, name): stopped.netns.sysctl(f"{family}/conf/{name}/forwarding")
        for family in ("ipv4", "ipv6")
        for name in ("all", "default", "lo", "other0")
    }
    stopped.start()
    pod = stopped.add_pod("default", "a")
    for family in ("ipv4", "ipv6"):
        assert stopped.netns.sysctl(f"{family}/conf/{pod.port}/forwarding") == "1"
    for (family, name), value in before.items():
        assert stopped.netns.sysctl(f"{family}/conf/{name}/forwarding") == value


def test_learned_default_route_survives_forwarding(stopped):
    """A kernel that forwards forgets routes from router advertisements unless accept_ra is 2."""
    netns = stopped.netns
    router = netns.ip_json("-6 route show default")[0]["gateway"]
    netns.run("ip", "-6", "route", "del", "default")
    netns.run("ip", "-6", "route", "add", "default", "via", router, "dev", "up0",
              "proto", "ra", "metric", "1024", "expires", "600")  # fmt: skip
    stopped.start()
    stopped.add_pod("default", "a")
    assert netns.ip_json("-6 route show default")[0]["gateway"] == router


@pytest.mark.parametrize("before", ("", "8080", "1000,2000-3000,62000-62010"))
def test_reserved_ports_are_merged_and_put_back(stopped, before):
    stopped.netns.sysctl(PORTS, before or "\n")
    stopped.start()
    assert parse(stopped.netns.sysctl(PORTS)) == parse(before) | OURS
    uninstall(stopped)
    assert stopped.netns.sysctl(PORTS) == before


def test_reserved_ports_of_others_stay(stopped):
    """Somebody reserves a port while the agent runs, and gives up another."""
    stopped.netns.sysctl(PORTS, "1000,2000,62000")
    stopped.start()
    stopped.netns.sysctl(PORTS, "1000,3000,61000-65535")
    uninstall(stopped)
    assert parse(stopped.netns.sysctl(PORTS)) == {1000, 3000, 62000}


def test_uninstall_takes_the_ports_away(stopped):
    stopped.start()
    stopped.add_pod("default", "a")
    uninstall(stopped)
    assert [r["ifname"] for r in stopped.netns.ip_json("link")] == ["lo", "up0"]


def wait_for(check, seconds=5):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_changes_of_the_uplink_are_followed(stopped):
    stopped.start()

    def uplink():
        return stopped.status()["node"]["uplinks"][0]

    assert uplink()["ip4"] == stopped.outside.node_ip[4]
    stopped.netns.ip(
        f"addr del {stopped.outside.node_ip[4]}/24 dev up0", "addr add 198.51.100.77/24 dev up0",
        "link set up0 mtu 1400",
    )  # fmt: skip
    wait_for(lambda: uplink()["ip4"] == "198.51.100.77" and uplink()["mtu"] == 1400)
    pod = stopped.add_pod("default", "a")
    assert pod.result["interfaces"][1]["mtu"] == 1400


def test_uplinks_are_found_by_their_default_route():
    with Node(start=False) as node:
        node.uplinks = []
        node.start()
        assert [u["name"] for u in node.status()["node"]["uplinks"]] == ["up0"]
        node.netns.ip("route del default")
        node.netns.run("ip", "-6", "route", "del", "default")
        wait_for(lambda: node.status()["node"]["uplinks"] == [])
        node.netns.ip(f"route add default via {node.outside.ip(4)}")
        wait_for(lambda: [u["name"] for u in node.status()["node"]["uplinks"]] == ["up0"])


def test_uplinks_of_a_default_route_of_two_next_hops():
    with Node(start=False, uplinks=2) as node:
        node.uplinks = []
        hops = " ".join(f"nexthop via {o.ip(4)} dev up{i}" for i, o in enumerate(node.outsides))
        node.netns.ip("route del default", f"route add default {hops}")
        node.netns.run("ip", "-6", "route", "del", "default")
        node.start()
        names = {u["name"] for u in node.status()["node"]["uplinks"]}
        assert names == {"up0", "up1"}


def test_uplink_too_small_for_ipv6():
    """Its MTU is below what IPv6 needs, so the kernel gives it none: IPv4 and pods go on."""
    with Node(start=False) as node:
        node.netns.ip("link set up0 mtu 1200")
        node.start()
        a, b = node.add_pod("default", "a"), node.add_pod("default", "b")
        assert a.result["interfaces"][1]["mtu"] == 1280
        for pod, address in ((a, node.outside.ip(4)), (a, b.ip(4)), (a, b.ip(6))):
            assert pod.netns.run("ping", "-c1", "-W1", address, check=False).returncode == 0


def test_temporary_address_is_not_masqueraded_with():
    with Node(start=False) as node:
        node.netns.sysctl("ipv6/conf/up0/use_tempaddr", 2)
        node.netns.ip("addr add fd00:51:100::7/64 dev up0 nodad mngtmpaddr")
        node.start()
        rows = node.netns.ip_json("-6 addr show dev up0 scope global")[0]["addr_info"]
        temporary = {row["local"] for row in rows if row.get("temporary")}
        assert temporary
        wait_for(lambda: node.status()["node"]["uplinks"][0]["ip6"] is not None)
        assert node.status()["node"]["uplinks"][0]["ip6"] not in temporary


def test_node_address_inside_the_pool_is_not_handed_out():
    with Node(start=False, options=("--pod-cidr", "10.66.0.0/24")) as node:
        node.netns.ip("addr add 10.66.0.1/32 dev lo")
        node.start()
        pod = node.add_pod("default", "a")
        assert ipaddress.ip_address(pod.ip(4)) == ipaddress.ip_address("10.66.0.2")


def test_route_to_nowhere_ends_what_used_the_way(stopped):
    """A blackhole has no interface; it counts as a change of the routes all the same."""
    stopped.start()
    pod = stopped.add_pod("default", "a")
    for family, flag in ((4, "-4"), (6, "-6")):
        far = {4: "203.0.113.9", 6: "fd00:9::9"}[family]
        stopped.outside.add_address(far)

        def pings():
            # One identifier: every packet is of the same flow.
            argv = ("ping", "-e", "777", "-c1", "-W1", far)  # noqa: B023
            return pod.netns.run(*argv, check=False).returncode == 0

        assert pings()
        stopped.netns.run("ip", flag, "route", "add", "blackhole", far)
        wait_for(lambda: not pings())
        stopped.netns.run("ip", flag, "route", "del", "blackhole", far)
        wait_for(pings)
