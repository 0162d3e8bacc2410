# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Uplinks and routes that change under live traffic (docs/design/faults.md)."""

import pytest
from node import FAMILIES, Node
from traffic import (
    QUIET, SOON, Transfer, bound, path_mtu, port_new, tcp_open, tcp_works, udp_ask, udp_error,
    wait_for,
)  # fmt: skip

FAR = {4: "203.0.113.9", 6: "fd00:203::9"}
OTHER_IP = {4: "198.51.100.77", 6: "fd00:51:100::77"}
TOO_BIG = {4: (3, 4), 6: (2, 0)}


@pytest.fixture
def node():
    """Two ways out; FAR is reached by either, first by up0."""
    with Node(uplinks=2) as made:
        made.pod = made.add_pod("shop", "pod")
        for outside in made.outsides:
            for family in FAMILIES:
                outside.add_address(FAR[family])
        yield made


def uplink_make(node, number, addresses):
    """What Node does for an uplink, over again: another device of the same name."""
    outside = node.outsides[number]
    node.netns.ip(f"link add up{number} type veth peer name net0 netns {outside.netns.name}")
    node.netns.ip(f"link set up{number} up", *(f"addr add {a} dev up{number}" for a in addresses))
    outside.netns.ip(
        "link set net0 up", *(f"addr add {outside.ip(f)}/{24 if f == 4 else 64} dev net0"
                              + (" nodad" if f == 6 else "") for f in FAMILIES),
        f"route replace default via {node.address[4]}",
        f"route replace default via {node.address[6]}",
    )  # fmt: skip
    if number == 0:
        node.netns.ip(*(f"route replace default via {outside.ip(f)}" for f in FAMILIES))


def uplinks(node):
    return {u["name"]: u for u in node.status()["node"]["uplinks"]}


def test_uplink_goes_away_and_comes_back(node, family):
    """Another ifindex, the same addresses: connections go on once it is back."""
    ifindex = node.netns.ifindex("up0")
    addresses = [f"{node.address[4]}/24", f"{node.address[6]}/64 nodad"]
    with tcp_open(node.pod, node.outside, family) as out, \
            tcp_open(node.outside, node.pod, family) as into:  # fmt: skip
        node.netns.ip("link delete up0")
        assert wait_for(lambda: "up0" not in uplinks(node))
        node.netns.ip("link add filler type bridge")
        uplink_make(node, 0, addresses)
        assert wait_for(lambda: uplinks(node).get("up0", {}).get("ifindex", ifindex) != ifindex)
        for link in (out, into):
            assert link.alive(5 * SOON)
    assert wait_for(lambda: udp_ask(node.pod, node.outside, family, seconds=QUIET))
    assert tcp_works(node.outside, node.pod, family)


def test_uplink_that_is_gone_does_not_keep_the_other_from_being_seen(node, family):
    """One of the named uplinks is missing; what happens to the other one still counts."""
    address = {4: "203.0.113.200/24", 6: "fd00:51:101::200/64"}[family]
    node.netns.ip("link delete up0")
    assert wait_for(lambda: "up0" not in uplinks(node))
    gone = node.outsides[1].node_ip[family]
    node.netns.ip(f"addr add {address} dev up1" + (" nodad" if family == 6 else ""))
    node.netns.ip(f"addr del {gone}/{24 if family == 4 else 64} dev up1")
    want = address.split("/")[0]
    assert wait_for(lambda: uplinks(node)["up1"][f"ip{family}"] == want), uplinks(node)


def test_uplink_comes_back_with_another_address(node, family):
    """A translated connection ends, for its address is gone; new ones have the new address."""
    with tcp_open(node.pod, node.outside, family) as out:
        node.netns.ip("link delete up0")
        node.address = dict(OTHER_IP)
        uplink_make(node, 0, [f"{OTHER_IP[4]}/24", f"{OTHER_IP[6]}/64 nodad"])
        seen = wait_for(lambda: udp_ask(node.pod, node.outside, family, seconds=QUIET), 5 * SOON)
        assert seen and seen[0] == OTHER_IP[family]
        assert not out.alive(QUIET)
    with tcp_open(node.outside, node.pod, family) as link:
        assert link.alive()


def test_default_route_moves_to_the_other_uplink(node, family):
    """New connections leave by it; what is nearer by the other one still goes there."""
    first, second = node.outsides
    assert udp_ask(node.pod, first, family, address=FAR[family])[0] == first.node_ip[family]
    for there, here in ((second, first), (first, second)):
        node.netns.ip(f"route replace default via {there.ip(family)}")
        seen = wait_for(lambda to=there: udp_ask(
            node.pod, to, family, address=FAR[family], seconds=QUIET))  # fmt: skip
        assert seen and seen[0] == there.node_ip[family]
        assert udp_ask(node.pod, here, family, address=here.ip(family))


def test_carrier_loss(node, family):
    with tcp_open(node.pod, node.outside, family) as link:
        transfer = Transfer(link, pace=0.001)
        node.outside.netns.ip("link set net0 down")
        before = transfer.received
        node.outside.netns.ip(
            "link set net0 up",
            f"addr replace {node.outside.ip(6)}/64 dev net0 nodad",
            f"route replace default via {node.address[4]}",
            f"route replace default via {node.address[6]}",
        )
        assert wait_for(lambda: transfer.received > before + (1 << 20), 5 * SOON)
        assert transfer.finish()


def test_next_hop_changes_under_a_transfer(node, family):
    """The same network by another router: not one byte is lost."""
    second_hop = {4: "198.51.100.3", 6: "fd00:51:100::3"}[family]
    bits = {4: 24, 6: 64}[family]
    node.outside.netns.ip(f"addr add {second_hop}/{bits} dev net0" + (" nodad" if family == 6 else ""))
    with tcp_open(node.pod, node.outside, family, address=FAR[family]) as link:
        transfer = Transfer(link, pace=0.0005)
        for hop in (second_hop, node.outside.ip(family)) * 3:
            node.netns.ip(f"route replace default via {hop}")
            mark = transfer.received
            assert wait_for(lambda m=mark: transfer.received > m + (1 << 20), 5 * SOON)
        assert transfer.finish()


def test_more_specific_route_takes_over(node, family):
    """New connections follow it, and are back when it has gone."""
    first, second = node.outsides
    net = f"{FAR[family]}/{32 if family == 4 else 128}"
    assert udp_ask(node.pod, first, family, address=FAR[family])
    node.netns.ip(f"route add {net} via {second.ip(family)}")
    seen = wait_for(lambda: udp_ask(node.pod, second, family, address=FAR[family], seconds=QUIET))
    assert seen and seen[0] == second.node_ip[family]
    node.netns.ip(f"route del {net}")
    seen = wait_for(lambda: udp_ask(node.pod, first, family, address=FAR[family], seconds=QUIET))
    assert seen and seen[0] == first.node_ip[family]


def test_blackhole_route_stops_what_is_live(node, family):
    """A connection stops while its destination is a black hole, and goes on afterwards."""
    net = f"{FAR[family]}/{32 if family == 4 else 128}"
    with tcp_open(node.pod, node.outside, family, address=FAR[family]) as link:
        node.netns.ip(f"route add blackhole {net}")
        assert wait_for(lambda: not link.passes(link.client, link.server, b"?", QUIET), SOON)
        assert not tcp_works(node.pod, node.outside, family, address=FAR[family], seconds=QUIET)
        node.netns.ip(f"route del blackhole {net}")
        assert wait_for(lambda: tcp_works(
            node.pod, node.outside, family, address=FAR[family], seconds=QUIET))  # fmt: skip


def test_mtu_of_the_uplink_goes_down_and_up(node, family):
    """A transfer in progress learns the smaller MTU by frag-needed or too-big, and no byte is
    lost; a datagram that is too big is answered with the new one."""
    with tcp_open(node.pod, node.outside, family) as link:
        transfer = Transfer(link, pace=0.0005)
        for mtu in (1300, 1500):
            node.outside.netns.ip(f"link set net0 mtu {mtu}")
            node.netns.ip(f"link set up0 mtu {mtu}")
            assert wait_for(lambda m=mtu: uplinks(node)["up0"]["mtu"] == m)
            mark = transfer.received
            assert wait_for(lambda m=mark: transfer.received > m + (1 << 20), 5 * SOON)
            if mtu == 1300:
                port = port_new()
                error = udp_error(node.pod, family, FAR[family], port, size=1400)
                assert (error.kind, error.code) == TOO_BIG[family] and error.info == mtu
                assert path_mtu(node.pod, family, node.outside.ip(family)) == mtu
        assert transfer.finish()


def test_mtu_of_a_port_goes_down(node, family):
    """Somebody makes a container's link smaller: the sender learns of it."""
    small = node.add_pod("shop", "small")
    with tcp_open(node.pod, small, family) as link:
        transfer = Transfer(link, pace=0.0005)
        node.netns.ip(f"link set {small.port} mtu 1300")
        small.netns.ip("link set eth0 mtu 1300")
        mark = transfer.received
        assert wait_for(lambda: transfer.received > mark + (4 << 20), 5 * SOON)
        assert transfer.finish()


def test_node_address_comes_and_goes(node, family):
    """It is the host while it is there (traffic to the own node is allowed whatever the
    policies say), and the container reaches it; then it is nobody's."""
    address = {4: "192.0.2.55", 6: "fd00:55::55"}[family]
    node.netns.ip(f"addr add {address}/{32 if family == 4 else 128} dev lo")
    assert wait_for(lambda: tcp_works(node.pod, node, family, address=address, seconds=QUIET))
    with tcp_open(node.pod, node, family, address=address) as link:
        node.netns.ip(f"addr del {address}/{32 if family == 4 else 128} dev lo")
        assert wait_for(lambda: not link.passes(link.client, link.server, b"?", QUIET), 3 * SOON)
    assert udp_ask(node.pod, node, family)


def test_address_of_the_uplink_is_replaced(node, family):
    """As DHCP does it: the new one first, then the old one goes."""
    bits = {4: 24, 6: 64}[family]
    old, new = node.address[family], OTHER_IP[family]
    node.netns.sysctl("ipv4/conf/up0/promote_secondaries", 1)
    node.netns.ip(f"addr add {new}/{bits} dev up0" + (" nodad" if family == 6 else ""))
    node.netns.ip(f"addr del {old}/{bits} dev up0")
    node.netns.ip(f"route replace default via {node.outside.ip(family)}")
    seen = wait_for(lambda: udp_ask(node.pod, node.outside, family, seconds=QUIET))
    assert seen and seen[0] == new


def test_seventeenth_uplink_is_refused_by_name():
    """The table has room for 16: the node goes on with those, and says which one it left out."""
    with Node() as node:
        node.stop()
        node.uplinks = []  # those with a default route
        node.netns.ip(*(c for i in range(17) for c in (
            f"link add d{i} type veth peer name e{i}", f"link set d{i} up", f"link set e{i} up", f"addr add 192.0.2.{i + 1}/32 dev d{i}",
            f"route add default dev d{i} metric {100 + i}")))  # fmt: skip
        node.start(wait=False)
        assert node.agent.wait(20) == 1
        assert "16" in node.tail(1) and "uplink" in node.tail(1), node.tail()
        node.netns.ip("link delete d15", "link delete d16")
        node.start()
        pod = node.add_pod("shop", "pod")
        node.netns.ip("link add d17 type veth peer name e17", "link set d17 up", "link set e17 up",
                      "route add default dev d17 metric 200")  # fmt: skip
        assert wait_for(lambda: "16" in node.tail(3)), node.tail()
        assert udp_ask(pod, node.outside, 4)
