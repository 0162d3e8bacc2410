# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Who reaches whom with no policy in force, and what they see of each other."""

import itertools
import socket

import packet
import pytest
from packet import Wire
from traffic import SOON, bound, ping, port_new, tcp_open, tcp_works, udp_ask, udp_error

FAR = {4: "203.0.113.9", 6: "fd00:203::9"}  # a host beyond the router
TIME_EXCEEDED = {4: (11, 0), 6: (3, 0)}
PORT_UNREACHABLE = {4: (3, 3), 6: (1, 4)}
# pod to pod; pod to node and back; pod to outside and back; by index into `places`
WAYS = [("a", "b"), ("a", "node"), ("node", "a"), ("a", "outside"), ("outside", "a")]


@pytest.fixture(scope="module")
def places(node):
    for address in FAR.values():
        node.outside.add_address(address)
    made = {name: node.add_pod("shop", name, {"app": name}) for name in ("a", "b")}
    return {**made, "node": node, "outside": node.outside}


@pytest.fixture(params=WAYS, ids=lambda way: "-".join(way))
def way(request, places):
    return places[request.param[0]], places[request.param[1]]


def seen_address(node, src, dst, family):
    """The address that dst must see: the uplink's when a pod talks to the outside."""
    out = dst is node.outside and src is not node
    return node.outside.node_ip[family] if out else src.ip(family)


def test_tcp(node, way, family):
    src, dst = way
    with tcp_open(src, dst, family) as link:
        assert link.alive()
        assert link.peer[0] == seen_address(node, src, dst, family)


def test_udp(node, way, family):
    src, dst = way
    assert udp_ask(src, dst, family)[0] == seen_address(node, src, dst, family)


def test_ping(way, family):
    src, dst = way
    answers, output = ping(src, dst.ip(family))
    assert answers == 1, output


def test_large_ping(way, family):
    """Echo in three fragments, each way."""
    src, dst = way
    answers, output = ping(src, dst.ip(family), "-s", "4000")
    assert answers == 1, output


def test_closed_tcp_port_is_refused_at_once(way, family):
    src, dst = way
    with bound(src, family, socket.SOCK_STREAM) as sock:
        sock.settimeout(SOON)
        with pytest.raises(ConnectionRefusedError):
            sock.connect((dst.ip(family), port_new()))


def test_icmp_port_unreachable_comes_back(way, family):
    src, dst = way
    error = udp_error(src, family, dst.ip(family), port_new())
    assert error is not None
    assert (error.kind, error.code) == PORT_UNREACHABLE[family]
    assert error.sender == dst.ip(family)


def test_beyond_the_router(node, places, family):
    """The far host is reached by the node's route and sees the uplink's address."""
    with tcp_open(places["a"], places["outside"], family, address=FAR[family]) as link:
        assert link.alive()
        assert link.peer[0] == node.outside.node_ip[family]


def test_source_port_is_from_the_reserved_range(node, places, family):
    with tcp_open(places["a"], places["outside"], family) as link:
        assert 61000 <= link.peer[1] <= 65535
    reserved = node.netns.sysctl("ipv4/ip_local_reserved_ports")
    assert "61000-65535" in reserved


def test_two_pods_from_one_source_port(places, family):
    """Both keep their own connection although their tuples to the outside look alike."""
    port, sport = port_new(), port_new()
    with (
        tcp_open(places["a"], places["outside"], family, port, sport=sport) as one,
        tcp_open(places["b"], places["outside"], family, port, sport=sport) as two,
    ):
        assert one.peer != two.peer
        assert one.alive() and two.alive()


def test_two_pods_ping_with_one_identifier(places, family):
    """The identifier is translated as a port is."""
    outside = places["outside"].ip(family)
    raw_proto = socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    socks = {}
    for name in ("a", "b"):
        socks[name] = places[name].netns.socket(kind, socket.SOCK_RAW, raw_proto)
        socks[name].settimeout(2)
    for name, sock in socks.items():
        message = packet.icmp_echo(places[name].ip(family), outside, 4711, data=name.encode() * 8)
        sock.sendto(message[1], (outside, 0))
    for name, sock in socks.items():
        with sock:
            for _ in range(8):  # a raw socket sees other ICMP too
                data = sock.recv(2048)
                data = data[(data[0] & 15) * 4 :] if family == 4 else data
                if data[0] in (0, 129):
                    break
            assert data[4:6] == (4711).to_bytes(2, "big")
            assert data[8:] == name.encode() * 8


@pytest.mark.parametrize("name", ("a", "b", "node"))
def test_pod_reaches_itself_and_its_node_by_every_address(node, places, family, name):
    if name == "node":
        assert tcp_works(places["a"], node, family)
    else:
        assert tcp_works(places[name], places[name], family)


class TestI9TimeToLive:
    """I9: TTL is decremented when a packet leaves or enters the node, and obeyed."""

    def ttl_at(self, src, dst, family, interface):
        with Wire(dst.netns, interface) as wire:
            port = port_new()
            with bound(src, family, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"ttl", (dst.ip(family), port))
            seen = wire.wait(lambda p: p.proto == packet.UDP and p.dport == port)
            assert seen is not None and seen.ip_ok
            return seen.ttl

    def test_I9_leaving_the_node(self, places, family):
        assert self.ttl_at(places["a"], places["outside"], family, "net0") == 63

    def test_I9_entering_the_node(self, places, family):
        assert self.ttl_at(places["outside"], places["a"], family, "eth0") == 63

    def test_I9_between_pods_of_one_node(self, places, family):
        assert self.ttl_at(places["a"], places["b"], family, "eth0") == 64

    @pytest.mark.parametrize("ends", [("a", "outside"), ("outside", "a")], ids="-".join)
    def test_I9_last_hop_is_answered(self, node, places, family, ends):
        src, dst = (places[n] for n in ends)
        error = udp_error(src, family, dst.ip(family), port_new(), ttl=1)
        assert error is not None
        assert (error.kind, error.code) == TIME_EXCEEDED[family]

    def test_I9_traceroute_shows_the_router_behind_the_node(self, places, family):
        """Two hops: one more than the node's is enough to arrive."""
        error = udp_error(places["a"], family, FAR[family], port_new(), ttl=2)
        assert error is not None
        assert (error.kind, error.code) == PORT_UNREACHABLE[family]


def test_addresses_are_the_documented_ones(places):
    """docs/design/agent.md, "What an endpoint looks like in the kernel"."""
    pod = places["a"]
    routes = {r["dst"]: r for r in pod.netns.ip_json("route show")}
    assert routes["default"]["gateway"] == "169.254.1.1"
    routes = {r["dst"]: r for r in pod.netns.ip_json("-6 route show")}
    assert routes["default"]["gateway"] == "fe80::1"
    neighbours = {n["dst"]: n for n in pod.netns.ip_json("neigh show")}
    for gateway in ("169.254.1.1", "fe80::1"):
        assert neighbours[gateway]["lladdr"] == "02:54:57:00:00:01"
        assert neighbours[gateway]["state"] == ["PERMANENT"]
    lengths = {
        entry["local"]: entry["prefixlen"]
        for entry in itertools.chain.from_iterable(
            link["addr_info"] for link in pod.netns.ip_json("addr show dev eth0")
        )
    }
    assert lengths[pod.ip(4)] == 32
    assert lengths[pod.ip(6)] == 128


def test_established_packets_are_not_judged_again(node, way, family):
    """One look-up for an established packet: no re-decision while nothing changes."""
    src, dst = way
    with tcp_open(src, dst, family) as link:
        assert link.alive()
        before = node.counter("flows_judged_again")
        for _ in range(20):
            assert link.alive()
        assert node.counter("flows_judged_again") == before
