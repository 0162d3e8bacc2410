# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""I2 and I12: a packet counts only for where it really comes from."""

import socket

import packet
import pytest
from packet import ETH_P_ARP, ICMP, TCP, UDP, Wire
from traffic import QUIET, bound, port_new, tcp_open, tcp_works, wait_for

GATEWAY = "02:54:57:00:00:01"
STRANGER = {4: "203.0.113.77", 6: "fd00:203::77"}


@pytest.fixture(scope="module")
def pods(node):
    return {name: node.add_pod("shop", name) for name in ("a", "b")}


def udp_frame(src_mac, src, dst, port, dst_mac=GATEWAY, vlan=None, data=b"forged"):
    body = packet.udp(src, dst, 5353, port, data)
    return packet.ether(dst_mac, src_mac, packet.ip(src, dst, UDP, body), vlan=vlan)


class Arrivals:
    """Was a datagram for this port seen where it was sent to?"""

    def __init__(self, place, interface, port):
        self.wire = Wire(place.netns, interface)
        self.port = port

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.wire.close()

    def any(self, seconds=QUIET):
        return self.wire.wait(lambda p: p.proto == UDP and p.dport == self.port, seconds)


def drops_more(node, reason, before):
    return wait_for(lambda: node.drops(reason) > before)


@pytest.mark.parametrize("whose", ("another pod", "the node", "a stranger"))
@pytest.mark.parametrize("to", ("b", "outside"))
def test_I2_spoofed_source_from_a_pod(node, pods, family, whose, to):
    source = {"another pod": pods["b"], "the node": node}.get(whose)
    source = source.ip(family) if source else STRANGER[family]
    dst = pods["b"] if to == "b" else node.outside
    if source == dst.ip(family):
        source = node.ip(family)
    port, before = port_new(), node.drops("spoofed_source")
    with Arrivals(dst, dst.interface, port) as arrivals, Wire(pods["a"].netns, "eth0") as wire:
        wire.send(udp_frame(pods["a"].netns.mac("eth0"), source, dst.ip(family), port))
        assert arrivals.any() is None
    assert drops_more(node, "spoofed_source", before)


def test_I2_the_same_frame_with_the_right_source_arrives(pods, family):
    """What the tests above send is dropped for its source and nothing else."""
    port = port_new()
    with Arrivals(pods["b"], "eth0", port) as arrivals, Wire(pods["a"].netns, "eth0") as wire:
        wire.send(
            udp_frame(pods["a"].netns.mac("eth0"), pods["a"].ip(family), pods["b"].ip(family), port)
        )
        assert arrivals.any() is not None


@pytest.mark.parametrize("whose", ("a pod", "the node"))
def test_I2_spoofed_source_on_the_uplink(node, pods, family, whose):
    source = pods["b"].ip(family) if whose == "a pod" else node.ip(family)
    port, before = port_new(), node.drops("spoofed_source")
    outside = node.outside.netns
    with Arrivals(pods["a"], "eth0", port) as arrivals, Wire(outside, "net0") as wire:
        wire.send(
            udp_frame(outside.mac("net0"), source, pods["a"].ip(family), port,
                      dst_mac=node.netns.mac("up0"))
        )  # fmt: skip
        assert arrivals.any() is None
    assert drops_more(node, "spoofed_source", before)


def test_I2_an_entry_answers_only_for_its_own_ingress(node, pods, family):
    """Pod a talks to the outside; pod b sends packets that look like the answers."""
    with tcp_open(pods["a"], node.outside, family) as link:
        server, sport = node.outside.ip(family), link.client.getsockname()[1]
        dport = link.client.getpeername()[1]
        forged = packet.tcp(server, pods["a"].ip(family), dport, sport, packet.RST, seq=1)
        with Wire(pods["b"].netns, "eth0") as wire, Wire(pods["a"].netns, "eth0") as victim:
            wire.send(
                packet.ether(GATEWAY, pods["b"].netns.mac("eth0"),
                             packet.ip(server, pods["a"].ip(family), TCP, forged))
            )  # fmt: skip
            assert victim.wait(lambda p: p.flags & packet.RST, QUIET) is None
        assert link.alive()


def test_I2_host_identity_is_not_an_address(node, pods, family):
    """A policy lets the node in always; a stranger with the node's address is not the node."""
    from node import policy_object

    node.apply(policy_object("shop", "closed", ingress=[]))
    try:
        assert tcp_works(node, pods["a"], family)
        port = port_new()
        outside = node.outside.netns
        with Arrivals(pods["a"], "eth0", port) as arrivals, Wire(outside, "net0") as wire:
            wire.send(
                udp_frame(outside.mac("net0"), node.ip(family), pods["a"].ip(family), port,
                          dst_mac=node.netns.mac("up0"))
            )  # fmt: skip
            assert arrivals.any() is None
    finally:
        node.delete(policy_object("shop", "closed"))


def test_I2_vlan_tagged_frames_from_a_pod(node, pods, family):
    port, before = port_new(), node.drops("vlan")
    with Arrivals(pods["b"], "eth0", port) as arrivals, Wire(pods["a"].netns, "eth0") as wire:
        wire.send(
            udp_frame(pods["a"].netns.mac("eth0"), pods["a"].ip(family), pods["b"].ip(family),
                      port, vlan=5)
        )  # fmt: skip
        assert arrivals.any() is None
    assert drops_more(node, "vlan", before)


def test_I12_unknown_ethertype_is_dropped_with_a_reason(node, pods):
    before = node.drops("not_ip")
    with Wire(pods["a"].netns, "eth0") as wire:
        frame = packet.ether(GATEWAY, pods["a"].netns.mac("eth0"), b"\0" * 60, proto=0x88B5)
        wire.send(frame)
    assert drops_more(node, "not_ip", before)


@pytest.mark.parametrize("what", ("short header", "length beyond the frame", "short tcp"))
def test_I12_what_cannot_be_parsed_is_dropped_with_a_reason(node, pods, family, what):
    src, dst = pods["a"].ip(family), pods["b"].ip(family)
    whole = packet.ip(src, dst, TCP, packet.tcp(src, dst, 1000, 2000, packet.SYN))
    bad = {
        "short header": whole[: 12 if family == 4 else 24],
        "length beyond the frame": whole[:-8],
        "short tcp": packet.ip(src, dst, TCP, b"\0\1\0\2\0\0"),
    }[what]
    before = sum(node.drops(r) for r in ("truncated", "malformed"))
    with Wire(pods["a"].netns, "eth0") as wire, Wire(pods["b"].netns, "eth0") as arrivals:
        wire.send(
            packet.ether(GATEWAY, pods["a"].netns.mac("eth0"), bad,
                         proto=packet.ETH_P_IP if family == 4 else packet.ETH_P_IPV6)
        )  # fmt: skip
        assert arrivals.wait(lambda p: p.src == src, QUIET) is None
    assert wait_for(lambda: sum(node.drops(r) for r in ("truncated", "malformed")) > before)


def test_I12_icmp_error_about_somebody_elses_connection(node, pods, family):
    """An error counts only if the packet it quotes was sent to the error's sender's end."""
    with tcp_open(pods["a"], node.outside, family) as link:
        a, peer = pods["a"].ip(family), node.outside.ip(family)
        quoted = packet.ip(
            a, peer, TCP,
            packet.tcp(a, peer, link.client.getsockname()[1], link.client.getpeername()[1],
                       packet.ACK),
        )  # fmt: skip
        before = node.drops("icmp_unrelated")
        b = pods["b"].ip(family)
        proto, message = icmp_unreachable(b, a, quoted)
        with Wire(pods["b"].netns, "eth0") as wire, Wire(pods["a"].netns, "eth0") as victim:
            frame = packet.ip(b, a, proto, message)
            wire.send(packet.ether(GATEWAY, pods["b"].netns.mac("eth0"), frame))
            assert victim.wait(lambda p: p.src == b and p.icmp, QUIET) is None
        assert drops_more(node, "icmp_unrelated", before)
        assert link.alive()


def icmp_unreachable(src, dst, quoted):
    six = ":" in src
    head = bytes([1, 4] if six else [3, 3]) + b"\0\0\0\0\0\0" + quoted
    proto = packet.ICMPV6 if six else ICMP
    cover = packet.pseudo(src, dst, proto, len(head)) + head if six else head
    return proto, head[:2] + packet.checksum(cover).to_bytes(2, "big") + head[4:]


def test_arp_in_a_pod_is_not_needed_and_not_answered_for_others(node, pods):
    """/32 addresses and a permanent neighbour: an ARP request gets nowhere."""
    request = (
        b"\0\1\x08\0\6\4\0\1"
        + packet.mac_bytes(pods["a"].netns.mac("eth0"))
        + socket.inet_aton(pods["a"].ip(4)) + b"\0" * 6 + socket.inet_aton(pods["b"].ip(4))
    )  # fmt: skip
    with Wire(pods["a"].netns, "eth0") as wire, Wire(pods["b"].netns, "eth0") as other:
        wire.send(packet.ether("ff:ff:ff:ff:ff:ff", pods["a"].netns.mac("eth0"), request, ETH_P_ARP))
        assert other.wait(lambda p: p.ethertype == ETH_P_ARP, QUIET) is None


def test_no_source_leaves_unmasqueraded(node, pods, family):
    """Nothing on the uplink bears a pod's address as its source unless the outside asked."""
    with Wire(node.outside.netns, "net0") as wire:
        with bound(pods["a"], family, socket.SOCK_DGRAM) as sock:
            for _ in range(5):
                sock.sendto(b"x" * 3000, (node.outside.ip(family), port_new()))
        packets = [p for p in wire.packets(QUIET) if p.proto == UDP]
    assert packets
    assert {p.src for p in packets} == {node.outside.node_ip[family]}
