# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""What a container may try on its link (docs/design/hostile.md, the table): nothing of it is seen
by a neighbour, the node or the outside, and it is counted under the reason that the table names."""

import socket
import struct
import time

import packet
import pytest
from node import policy_object
from packet import ICMPV6, UDP, Wire, ether, ip, udp
from traffic import QUIET, tcp_works, wait_for

GATEWAY, BROADCAST = "02:54:57:00:00:01", "ff:ff:ff:ff:ff:ff"
STP_MAC, LLDP_MAC = "01:80:c2:00:00:00", "01:80:c2:00:00:0e"
# Protocols that are carried like any other between those whom policy lets.
GRE, IPIP, ESP, IGMP, VRRP, OSPF, UDP_LITE, DCCP, EXPERIMENT = 47, 4, 50, 2, 112, 89, 136, 33, 253
MARK = b"towpath-hostile-mark"


@pytest.fixture(scope="module")
def pods(node):
    return {name: node.add_pod("shop", name) for name in ("a", "b")}


def arp(mac, sender, target, reply=False):
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2 if reply else 1)
    body += packet.mac_bytes(mac) + socket.inet_aton(sender) + b"\0" * 6 + socket.inet_aton(target)
    return ether(BROADCAST, mac, body + MARK, packet.ETH_P_ARP)


def icmp6(src, dst, kind, body, mac, dst_mac="33:33:00:00:00:01", ttl=255):
    head = bytes([kind, 0, 0, 0]) + body + MARK
    check = packet.checksum(packet.pseudo(src, dst, ICMPV6, len(head)) + head)
    head = head[:2] + check.to_bytes(2, "big") + head[4:]
    return ether(dst_mac, mac, ip(src, dst, ICMPV6, head, ttl=ttl))


def datagram(mac, src, dst, sport, dport, dst_mac=GATEWAY):
    return ether(dst_mac, mac, ip(src, dst, UDP, udp(src, dst, sport, dport, MARK)))


def option_mac(kind, mac):
    return bytes([kind, 1]) + packet.mac_bytes(mac)


def attempts(node, pods):
    """(what, frames, reasons of which each frame must be counted under one; None: not counted)"""
    a, b = pods["a"], pods["b"]
    mac = a.netns.mac("eth0")
    a4, a6, b4, b6 = a.ip(4), a.ip(6), b.ip(4), b.ip(6)
    local = "fe80::a"
    router = bytes([64, 0]) + struct.pack("!HII", 1800, 0, 0) + option_mac(1, mac)
    neighbour = b"\xe0\0\0\0" + socket.inet_pton(socket.AF_INET6, b6) + option_mac(2, mac)
    solicit = b"\0\0\0\0" + socket.inet_pton(socket.AF_INET6, b6) + option_mac(1, mac)
    redirect = b"\0\0\0\0" + socket.inet_pton(socket.AF_INET6, b6) * 2
    return [
        ("ARP request", [arp(mac, a4, b4), arp(mac, b4, node.ip(4))], "not_ip"),
        ("ARP that claims another's address", [arp(mac, b4, b4, True)], "not_ip"),
        ("router advertisement", [icmp6(local, "ff02::1", 134, router, mac),
                                  icmp6(a6, b6, 134, router, mac)], "icmp_type"),
        ("neighbour advertisement for another", [icmp6(a6, b6, 136, neighbour, mac),
                                                 icmp6(local, "ff02::1", 136, neighbour, mac)],
         "icmp_type"),
        ("neighbour solicitation", [icmp6(local, "ff02::1:ff00:3", 135, solicit, mac)],
         "icmp_type"),
        ("IPv6 redirect", [icmp6(local, a6, 137, redirect, mac)], "icmp_type"),
        ("multicast listener report", [icmp6(local, "ff02::16", 143, b"\0" * 4, mac)], "icmp_type"),
        ("DHCP", [datagram(mac, "0.0.0.0", "255.255.255.255", 68, 67, BROADCAST),
                  datagram(mac, a4, "255.255.255.255", 67, 68, BROADCAST)],
         ("spoofed_source", "multicast")),
        ("DHCPv6", [datagram(mac, local, "ff02::1:2", 546, 547, "33:33:00:01:00:02")],
         "spoofed_source"),
        ("broadcast", [datagram(mac, a4, "255.255.255.255", 5, 6, BROADCAST)], "multicast"),
        ("multicast", [datagram(mac, a4, "224.0.0.251", 5353, 5353, "01:00:5e:00:00:fb"),
                       datagram(mac, a6, "ff02::fb", 5353, 5353, "33:33:00:00:00:fb")],
         "multicast"),
        ("IGMP", [ether("01:00:5e:00:00:16", mac,
                        ip(a4, "224.0.0.22", IGMP, b"\x22\0\0\0\0\0\0\0" + MARK))], "multicast"),
        ("VRRP and OSPF", [ether("01:00:5e:00:00:12", mac, ip(a4, "224.0.0.18", VRRP, MARK)),
                           ether("01:00:5e:00:00:05", mac, ip(a4, "224.0.0.5", OSPF, MARK))],
         "multicast"),
        ("addresses of nobody", [datagram(mac, a4, "127.0.0.1", 5, 6), datagram(mac, a4, "0.0.0.1", 5, 6),
                                 datagram(mac, a6, "::1", 5, 6), datagram(mac, a6, f"::ffff:{b4}", 5, 6)],
         "no_route"),
        ("link-local addresses", [datagram(mac, local, b6, 5, 6)], "spoofed_source"),
        ("another's source", [datagram(mac, b4, node.outside.ip(4), 5, 6),
                              datagram(mac, b6, node.outside.ip(6), 5, 6),
                              datagram(mac, node.ip(4), b4, 5, 6),
                              datagram(mac, node.ip(6), b6, 5, 6)], "spoofed_source"),
        ("source routes", [ether(GATEWAY, mac, ip(b4, node.ip(4), UDP, udp(b4, node.ip(4), 5, 6, MARK),
                                                  options=b"\x83\x07\x04" + socket.inet_aton(b4) + b"\0"))],
         "spoofed_source"),
        ("MPLS", [ether(GATEWAY, mac, b"\0\x01\x01\xff" + ip(a4, b4, UDP, MARK), 0x8847)], "not_ip"),
        ("LLDP", [ether(LLDP_MAC, mac, b"\x02\x07\x04" + MARK + b"\0" * 40, 0x88CC)], "not_ip"),
        ("spanning tree", [ether(STP_MAC, mac, b"\x42\x42\x03" + MARK + b"\0" * 40, 0x0026)], "not_ip"),
        ("802.1X, PPPoE, IPX", [ether("01:80:c2:00:00:03", mac, MARK * 3, 0x888E),
                                ether(BROADCAST, mac, MARK * 3, 0x8863),
                                ether(BROADCAST, mac, MARK * 3, 0x8137)], "not_ip"),
        ("VLAN, also stacked", [ether(GATEWAY, mac, ip(a4, b4, UDP, udp(a4, b4, 5, 6, MARK)), vlan=7),
                                ether(GATEWAY, mac, b"\0\x07\x81\0\0\x08\x08\0"
                                      + ip(a4, b4, UDP, udp(a4, b4, 5, 6, MARK)), 0x88A8)], "vlan"),
    ]  # fmt: skip


def seen_by(wires):
    """Where a frame with the mark arrived."""
    return [name for name, wire in wires.items() if any(MARK in p.frame for p in wire.drain(0.02))]


def test_nothing_of_it_arrives_and_each_is_counted(node, pods):
    """One line a failure, so that all are seen at once."""
    wrong = []
    wires = {
        "the neighbour": Wire(pods["b"].netns, "eth0"),
        "the outside": Wire(node.outside.netns, "net0"),
        "the uplink": Wire(node.netns, "up0"),
    }
    with Wire(pods["a"].netns, "eth0") as sender:
        for what, frames, reasons in attempts(node, pods):
            reasons = (reasons,) if isinstance(reasons, str) else reasons
            before = sum(node.drops(r) for r in reasons)
            for frame in frames:
                sender.send(frame)
            if not wait_for(lambda: sum(node.drops(r) for r in reasons) >= before + len(frames), 1.0):
                wrong.append(f"{what}: not counted under {reasons}: {node.drops()}")
            for name in seen_by(wires):
                wrong.append(f"{what}: {name} saw it")
    for wire in wires.values():
        wire.close()
    assert not wrong, "\n".join(wrong)


def test_the_host_learns_no_neighbour_from_it(node, pods):
    def known():
        return {(n["dst"], n.get("lladdr")) for n in node.netns.ip_json(f"neigh show dev {port}")}

    port = pods["a"].port
    before = known()
    with Wire(pods["a"].netns, "eth0") as sender:
        for _what, frames, _reason in attempts(node, pods):
            for frame in frames:
                sender.send(frame)
    time.sleep(QUIET)
    assert known() == before
    assert not [r for r in node.netns.ip_json(f"-6 route show dev {port}") if r["dst"] == "default"]
    for fam in (4, 6):
        assert tcp_works(pods["a"], pods["b"], fam)


def test_the_flow_log_names_the_reason(node, pods):
    """Of what somebody would ask after; what every kernel's neighbour discovery does is counted."""
    wanted = {"not_ip", "multicast", "spoofed_source", "no_route", "vlan"}
    with Wire(pods["a"].netns, "eth0") as sender:
        for _what, frames, _reason in attempts(node, pods):
            for frame in frames:
                sender.send(frame)
    # A frame in an 802.1Q header is dropped before there is a packet to log.
    wanted.discard("vlan")

    def logged():
        return {r.get("reason") for r in node.flows(last=2000, type="drop")}

    assert wait_for(lambda: wanted <= logged(), 5.0), wanted - logged()


def test_protocols_without_ports_obey_policy(node, pods, family):
    """Carried between those who may talk at all, and by no rule that names a port."""
    src, dst = pods["a"].ip(family), pods["b"].ip(family)
    frames = [
        ether(GATEWAY, pods["a"].netns.mac("eth0"), ip(src, dst, proto, b"\0" * 8 + MARK))
        for proto in (GRE, IPIP, ESP, UDP_LITE, DCCP, EXPERIMENT)
    ]

    def arriving(other, seconds):
        for frame in frames:
            sender.send(frame)
        return {p.proto for p in other.packets(seconds) if MARK in p.frame}

    with Wire(pods["a"].netns, "eth0") as sender, Wire(pods["b"].netns, "eth0") as other:
        assert len(arriving(other, QUIET)) == len(frames)
        rule = {"ports": [{"port": 80, "protocol": "TCP"}]}
        node.apply(policy_object("shop", "narrow", ingress=[rule]))
        try:
            other.drain()
            assert not arriving(other, QUIET)
        finally:
            node.delete(policy_object("shop", "narrow"))


def test_another_source_mac_is_of_no_use(pods, node, family):
    """Who a container is, its port says; the MACs of a frame are written anew."""
    src, dst = pods["a"].ip(family), pods["b"].ip(family)
    with Wire(pods["a"].netns, "eth0") as sender, Wire(pods["b"].netns, "eth0") as other:
        sender.send(datagram("02:aa:aa:aa:aa:aa", src, dst, 5, 6))
        sender.send(datagram(pods["b"].netns.mac("eth0"), src, dst, 5, 6, BROADCAST))
        got = [p for p in other.packets(QUIET) if MARK in p.frame]
    assert got
    assert {p.frame[6:12] for p in got} == {packet.mac_bytes(GATEWAY)}
    assert {p.frame[:6] for p in got} == {packet.mac_bytes(pods["b"].netns.mac("eth0"))}


def uplink_attempts(node, pods):
    mac, up = node.outside.netns.mac("net0"), node.netns.mac("up0")
    out4, out6, a4, a6 = node.outside.ip(4), node.outside.ip(6), pods["a"].ip(4), pods["a"].ip(6)
    router = bytes([64, 0]) + struct.pack("!HII", 0, 0, 0)
    return [
        ("a container's source", datagram(mac, pods["b"].ip(4), a4, 5, 6, up)),
        ("the node's source", datagram(mac, node.ip(6), a6, 5, 6, up)),
        ("loopback", datagram(mac, "127.0.0.1", a4, 5, 6, up)),
        ("loopback", datagram(mac, "::1", a6, 5, 6, up)),
        ("nobody", datagram(mac, "0.0.0.0", a4, 5, 6, up)),
        ("link-local", datagram(mac, "fe80::b", a6, 5, 6, up)),
        ("IPv4 in IPv6", datagram(mac, f"::ffff:{out4}", a6, 5, 6, up)),
        ("a group", datagram(mac, "224.0.0.1", a4, 5, 6, up)),
        ("router advertisement", icmp6("fe80::b", a6, 134, router, mac, up)),
        ("neighbour advertisement", icmp6(out6, a6, 136, router, mac, up)),
        ("another's MAC", datagram(mac, out4, a4, 5, 6, "02:bb:bb:bb:bb:bb")),
        ("ARP for a container", arp(mac, out4, a4)),
        ("source route to a container",
         ether(up, mac, ip(out4, node.ip(4), UDP, udp(out4, node.ip(4), 5, 6, MARK),
                           options=b"\x83\x07\x04" + socket.inet_aton(a4) + b"\0"))),
    ]  # fmt: skip


def test_hosts_on_the_uplink_reach_no_container_with_it(node, pods):
    wrong = []
    with Wire(node.outside.netns, "net0") as sender, Wire(pods["a"].netns, "eth0") as victim:
        # So that a flooded frame gets as far as the programs.
        node.netns.ip("link set up0 promisc on")
        for what, frame in uplink_attempts(node, pods):
            sender.send(frame)
            if any(MARK in p.frame for p in victim.drain(0.1)):
                wrong.append(what)
        node.netns.ip("link set up0 promisc off")
        # The same packet as it should be does arrive.
        sender.send(datagram(node.outside.netns.mac("net0"), node.outside.ip(4), pods["a"].ip(4), 5, 6,
                             node.netns.mac("up0")))  # fmt: skip
        assert victim.wait(lambda p: MARK in p.frame) is not None
    assert not wrong, wrong
