# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Packets that are larger than some link on their way: errors that come back, fragments."""

import socket
import time

import pytest
from netns import Netns
from node import FAMILIES, Node, Place
from traffic import (
    IP_MTU_DISCOVER, PMTUDISC_DONT, SOON, Transfer, bound, path_mtu, port_new, tcp_open, udp_ask,
    udp_error,
)  # fmt: skip

NARROW = 1300  # behind the router
FAR = {4: "203.0.113.50", 6: "fd00:203::50"}
TOO_BIG = {4: (3, 4), 6: (2, 0)}
WAYS = [("a", "b"), ("a", "node"), ("node", "a"), ("a", "outside"), ("outside", "a")]


@pytest.fixture(scope="module")
def node():
    """As the shared fixture, with a narrow link behind the router and a pod whose MTU is
    larger than the uplink's."""
    with Node() as made:
        router = made.outside.netns
        made.far = Place(Netns("twfar"), FAR[4], FAR[6], "far0")
        made.far.netns.sysctl("ipv6/conf/default/accept_dad", 0)
        router.sysctl("ipv6/conf/all/forwarding", 1)
        router.sysctl("ipv4/ip_forward", 1)
        router.ip(
            f"link add narrow0 mtu {NARROW} type veth peer name far0 mtu {NARROW}"
            f" netns {made.far.netns.name}",
            "link set narrow0 up",
            "addr add 203.0.113.1/24 dev narrow0",
            "addr add fd00:203::1/64 dev narrow0 nodad",
        )
        made.far.netns.ip(
            "link set far0 up",
            f"addr add {FAR[4]}/24 dev far0",
            f"addr add {FAR[6]}/64 dev far0 nodad",
            "route add default via 203.0.113.1",
            "route add default via fd00:203::1",
        )
        yield made
        made.far.netns.delete()


@pytest.fixture(scope="module")
def places(node):
    made = {name: node.add_pod("shop", name) for name in ("a", "b")}
    made["jumbo"] = node.add_pod("shop", "jumbo", config={"mtu": 9000})
    return {**made, "node": node, "outside": node.outside, "far": node.far}


def test_pod_mtu_is_the_uplinks(places):
    assert places["a"].netns.ip_json("link show dev eth0")[0]["mtu"] == 1500
    assert places["jumbo"].netns.ip_json("link show dev eth0")[0]["mtu"] == 9000


@pytest.mark.parametrize("size", (1473, 4000, 9000, 60000))
@pytest.mark.parametrize("ends", WAYS, ids="-".join)
def test_fragmented_datagrams(places, family, ends, size):
    """Later fragments carry no ports and follow their first, translated alike."""
    src, dst = (places[n] for n in ends)
    assert udp_ask(src, dst, family, size=size) is not None


def test_fragments_of_two_pods_do_not_mix(places, family):
    port, sport = port_new(), port_new()
    for _ in range(5):
        for name in ("a", "b"):
            assert udp_ask(places[name], places["outside"], family, port, 5000, sport=sport)


def test_error_from_a_narrow_path_reaches_the_pod(places, family):
    """The router quotes the translated packet; the pod must be able to know it as its own."""
    error = udp_error(places["a"], family, FAR[family], port_new(), size=1400)
    assert error is not None
    assert (error.kind, error.code) == TOO_BIG[family]
    assert error.info == NARROW
    assert path_mtu(places["a"], family, FAR[family]) == NARROW


def test_transfer_over_a_narrow_path(places, family):
    with tcp_open(places["b"], places["far"], family) as link:
        assert Transfer(link, total=2 << 20).finish()


def test_transfer_from_a_narrow_path(places, family):
    with tcp_open(places["far"], places["b"], family) as link:
        assert Transfer(link, total=2 << 20).finish()


def test_I9_larger_than_the_uplink_is_answered(places, family):
    """I9: a redirect checks no MTU, so the data path must; it names the uplink's."""
    error = udp_error(places["jumbo"], family, places["outside"].ip(family), port_new(), size=4000)
    assert error is not None
    assert (error.kind, error.code) == TOO_BIG[family]
    assert error.info == 1500


def test_I9_larger_than_the_uplink_over_tcp(places, family):
    """GSO packets are held against the MTU by their segments."""
    with tcp_open(places["jumbo"], places["outside"], family) as link:
        assert Transfer(link, total=8 << 20).finish()


def test_I9_larger_than_the_receivers_mtu(places, family):
    """Between pods of one node it is the receiver's that counts."""
    error = udp_error(places["jumbo"], family, places["a"].ip(family), port_new(), size=4000)
    assert error is not None
    assert (error.kind, error.code) == TOO_BIG[family]
    assert error.info == 1500


def test_jumbo_pods_use_their_mtu_towards_each_other(node, places, family):
    other = node.add_pod("shop", f"jumbo{family}", config={"mtu": 9000})
    assert udp_ask(places["jumbo"], other, family, size=8900) is not None
    node.del_pod(other)


@pytest.mark.parametrize("mtu", (1280, 1400, 9000))
def test_uplink_of_another_mtu(mtu):
    """The pods take the uplink's MTU, and both ways carry what fills it."""
    with Node(mtu=mtu) as node:
        pod = node.add_pod("shop", "pod")
        assert pod.netns.ip_json("link show dev eth0")[0]["mtu"] == mtu
        for family in FAMILIES:
            head = 28 if family == 4 else 48
            assert udp_ask(pod, node.outside, family, size=mtu - head) is not None
            assert udp_ask(node.outside, pod, family, size=mtu - head) is not None


def test_I9_without_dont_fragment_the_sender_is_told_all_the_same(places):
    """IPv4 only. Nothing on the way out fragments for others; Linux believes the error and cuts
    the next datagram itself."""
    port = port_new()
    dst = places["outside"]
    with bound(dst, 4, socket.SOCK_DGRAM, port) as server, bound(
        places["jumbo"], 4, socket.SOCK_DGRAM
    ) as client:
        server.settimeout(SOON)
        client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DONT)
        for _ in range(2):
            client.sendto(b"x" * 4000, (dst.ip(4), port))
            time.sleep(0.05)
        assert len(server.recv(9000)) == 4000
