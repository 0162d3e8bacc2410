# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Several uplinks, uplinks that are bridges or VLAN devices, and the attachment by clsact."""

import json

import packet
import pytest
from netns import run
from node import FAMILIES, Node, policy_object
from packet import TCP, Wire
from traffic import (
    QUIET, SOON, Transfer, ping, port_new, tcp_open, tcp_works, udp_ask, udp_error, wait_for,
)  # fmt: skip

SECOND = {4: ("203.0.113.0/24", "203.0.113.9"), 6: ("fd00:203::/64", "fd00:203::9")}


@pytest.fixture(scope="module")
def two():
    """Default route by up0, one network by up1."""
    with Node(uplinks=2) as node:
        for net, address in SECOND.values():
            node.outsides[1].add_address(address)
            node.netns.ip(f"route add {net} via {node.outsides[1].ip(6 if ':' in net else 4)}")
        node.pod = node.add_pod("shop", "pod")
        yield node


def test_each_way_out_has_its_own_address(two, family):
    first, second = two.outsides
    assert udp_ask(two.pod, first, family)[0] == first.node_ip[family]
    assert udp_ask(two.pod, second, family, address=SECOND[family][1])[0] == second.node_ip[family]


@pytest.mark.parametrize("number", (0, 1))
def test_both_uplinks_let_in(two, family, number):
    with tcp_open(two.outsides[number], two.pod, family) as link:
        assert link.alive()


def test_transfers_over_both(two, family):
    address = SECOND[family][1]
    with (
        tcp_open(two.pod, two.outsides[0], family) as one,
        tcp_open(two.pod, two.outsides[1], family, address=address) as other,
    ):
        transfers = [Transfer(one, total=4 << 20), Transfer(other, total=4 << 20)]
        assert all(t.finish() for t in transfers)


def test_route_change_moves_new_connections_at_once(two, family):
    net, address = ("198.18.0.0/24", "198.18.0.1") if family == 4 else ("fd00:18::/64", "fd00:18::1")
    for number in (0, 1, 0):
        outside = two.outsides[number]
        outside.add_address(address)
        two.netns.ip(f"route replace {net} via {outside.ip(family)}")
        seen = wait_for(lambda: udp_ask(two.pod, outside, family, address=address, seconds=0.3))
        assert seen and seen[0] == outside.node_ip[family]


def test_I2_answer_by_the_wrong_uplink_is_dropped(two, family):
    """The reply to a translated connection counts only from the uplink it left by."""
    first, second = two.outsides
    with tcp_open(two.pod, first, family) as link:
        src, dst = first.ip(family), first.node_ip[family]
        forged = packet.ip(
            src, dst, TCP,
            packet.tcp(src, dst, link.client.getpeername()[1], link.peer[1], packet.RST, seq=1),
        )  # fmt: skip
        with Wire(second.netns, "net0") as wire, Wire(two.pod.netns, "eth0") as victim:
            wire.send(packet.ether(two.netns.mac("up1"), second.netns.mac("net0"), forged))
            assert victim.wait(lambda p: p.flags & packet.RST, QUIET) is None
        assert link.alive()


# ---- other kinds of uplink ----------------------------------------------------------------


@pytest.fixture(scope="module")
def bridged():
    """The uplink is a bridge with the interface in it, as a host for virtual machines has."""
    with Node(start=False) as node:
        node.netns.ip(
            "link add br0 type bridge",
            "link set br0 up",
            "addr flush dev up0",
            "link set up0 master br0",
            *(f"addr add {a} dev br0" for a in ("198.51.100.2/24", "fd00:51:100::2/64 nodad")),
            "route replace default via 198.51.100.1",
            "route replace default via fd00:51:100::1",
        )
        node.uplinks = ["br0"]
        node.start()
        node.pod = node.add_pod("shop", "pod")
        yield node


def through_uplink(node, family):
    """Everything that crosses an uplink."""
    assert udp_ask(node.pod, node.outside, family)[0] == node.outside.node_ip[family]
    assert udp_ask(node.pod, node.outside, family, size=5000)
    assert tcp_works(node.outside, node.pod, family)
    assert tcp_works(node.pod, node, family) and tcp_works(node, node.pod, family)
    assert ping(node.pod, node.outside.ip(family))[0] == 1
    assert udp_error(node.pod, family, node.outside.ip(family), port_new()) is not None
    with tcp_open(node.pod, node.outside, family) as link:
        assert Transfer(link, total=8 << 20).finish()


def test_bridge(bridged, family):
    through_uplink(bridged, family)


def test_bridge_under_policy(bridged, family):
    bridged.apply(policy_object("shop", "closed", ingress=[]))
    try:
        assert not tcp_works(bridged.outside, bridged.pod, family, seconds=QUIET)
        assert tcp_works(bridged.pod, bridged.outside, family)
    finally:
        bridged.delete(policy_object("shop", "closed"))


@pytest.fixture(scope="module")
def tagged():
    with Node(start=False) as node:
        done = node.netns.ip("link add link up0 name up0.7 type vlan id 7", check=False)
        if done.returncode != 0:
            pytest.skip(f"this kernel makes no VLAN device: {done.stderr.splitlines()[0]}")
        there = node.outside
        for netns, port, ips in (
            (node.netns, "up0", ("198.51.100.2/24", "fd00:51:100::2/64 nodad")),
            (there.netns, "net0", ("198.51.100.1/24", "fd00:51:100::1/64 nodad")),
        ):
            if netns is there.netns:
                netns.ip("link add link net0 name net0.7 type vlan id 7")
            netns.ip(f"link set {port}.7 up", f"addr flush dev {port}",
                     *(f"addr add {a} dev {port}.7" for a in ips))  # fmt: skip
        node.netns.ip(*(f"route replace default via {there.ip(f)}" for f in FAMILIES))
        there.netns.ip(*(f"route replace default via {there.node_ip[f]}" for f in FAMILIES))
        node.uplinks = ["up0.7"]
        node.start()
        node.pod = node.add_pod("shop", "pod")
        yield node


def test_vlan_device(tagged, family):
    through_uplink(tagged, family)


@pytest.fixture(scope="module")
def clsact():
    with Node(options=["--attach", "clsact"]) as node:
        node.pod = node.add_pod("shop", "pod")
        node.other = node.add_pod("shop", "other")
        yield node


def test_clsact_is_what_is_attached(clsact):
    assert clsact.status()["kernel"]["attach"] == "clsact"
    for interface in ("up0", clsact.pod.port):
        filters = clsact.netns.run("tc", "filter", "show", "dev", interface, "ingress").stdout
        assert "bpf" in filters, f"{interface}: {filters}"


def test_clsact(clsact, family):
    through_uplink(clsact, family)
    assert tcp_works(clsact.pod, clsact.other, family)


def test_clsact_under_policy(clsact, family):
    clsact.apply(policy_object("shop", "closed", ingress=[]))
    try:
        assert not tcp_works(clsact.pod, clsact.other, family, seconds=QUIET)
        assert not tcp_works(clsact.outside, clsact.pod, family, seconds=QUIET)
    finally:
        clsact.delete(policy_object("shop", "closed"))


def test_clsact_survives_the_agent(clsact, family):
    with tcp_open(clsact.pod, clsact.other, family) as link:
        clsact.kill()
        assert link.alive()
        assert udp_ask(clsact.pod, clsact.outside, family)
        clsact.start()
        assert link.alive()
    rows = clsact.netns.run("tc", "filter", "show", "dev", "up0", "ingress").stdout
    assert rows.count("bpf_chain") <= 1 and rows.count(" handle 0x") == 1, rows


def test_clsact_filter_that_was_removed_is_put_back(clsact, family):
    """Filters are anybody's to delete; the agent watches its own."""
    clsact.apply(policy_object("shop", "closed", ingress=[]))
    try:
        for interface in (clsact.pod.port, "up0"):
            clsact.netns.run("tc", "qdisc", "del", "dev", interface, "clsact")
            show = clsact.netns.argv("tc", "filter", "show", "dev", interface, "ingress")
            assert wait_for(lambda: "bpf" in run(*show).stdout, 5 * SOON), interface
        assert not tcp_works(clsact.outside, clsact.pod, family, seconds=QUIET)
    finally:
        clsact.delete(policy_object("shop", "closed"))
    assert udp_ask(clsact.pod, clsact.outside, family)[0] == clsact.outside.node_ip[family]


def test_tcx_is_the_default_where_there_is_one():
    with Node() as node:
        features = json.loads(node.towpath("features", "-o", "json").stdout)["features"]
        here = next(f["here"] for f in features if f["name"] == "tcx links") == "yes"
        assert node.status()["kernel"]["attach"] == ("tcx" if here else "clsact")


@pytest.fixture(scope="module")
def behind_generic_xdp():
    """Linux 6.9 and newer hand on frames that were copied for it without their MAC header."""
    with Node() as node:
        node.towpath("edge", "attach", "up0", "--mode", "generic")
        node.pod = node.add_pod("shop", "pod", {"app": "web"})
        yield node


@pytest.mark.parametrize("kind", ("udp", "tcp", "ping"))
def test_behind_xdp_in_generic_mode(behind_generic_xdp, family, kind):
    node = behind_generic_xdp
    if kind == "ping":
        assert ping(node.pod, node.outside.ip(family))[0] == 1
        assert ping(node.outside, node.ip(family))[0] == 1
    elif kind == "tcp":
        assert tcp_works(node.pod, node.outside, family)
        assert tcp_works(node.outside, node.pod, family)
    else:
        assert udp_ask(node.pod, node.outside, family)[0] == node.outside.node_ip[family]
        assert udp_ask(node.outside, node, family)
