# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Large transfers with checksums left to the device, made in the container, or made on the
uplink. veth hides wrong checksums as long as nobody must compute or check one."""

import contextlib

import pytest
from packet import TCP, UDP, Wire
from traffic import Transfer, offload, port_new, tcp_open, udp_ask

WAYS = [("a", "b"), ("a", "node"), ("node", "a"), ("a", "outside"), ("outside", "a")]
SIZE = 24 << 20


@pytest.fixture(scope="module")
def places(node):
    made = {name: node.add_pod("shop", name) for name in ("a", "b")}
    return {**made, "node": node, "outside": node.outside}


def offload_none(_node, _places):
    return contextlib.nullcontext()


def offload_off_in_containers(_node, places):
    stack = contextlib.ExitStack()
    for name in ("a", "b"):
        stack.enter_context(offload(places[name], "eth0", tx="off"))
    return stack


def offload_off_on_uplink(node, _places):
    return offload(node, "up0", tx="off")


def offload_off_beyond_uplink(node, _places):
    """Frames come in with their checksums complete, as from a real network."""
    return offload(node.outside, "net0", tx="off")


def offload_no_segmentation(_node, places):
    stack = contextlib.ExitStack()
    for name in ("a", "b"):
        stack.enter_context(offload(places[name], "eth0", tso="off", gso="off"))
    return stack


MODES = {
    "tx-on": offload_none,
    "tx-off-in-container": offload_off_in_containers,
    "tx-off-on-uplink": offload_off_on_uplink,
    "tx-off-outside": offload_off_beyond_uplink,
    "no-tso": offload_no_segmentation,
}


@pytest.fixture(params=MODES)
def mode(request, node, places):
    with MODES[request.param](node, places):
        yield request.param


@pytest.mark.parametrize("ends", WAYS, ids="-".join)
def test_transfer(mode, places, family, ends):
    src, dst = (places[n] for n in ends)
    with tcp_open(src, dst, family) as link:
        assert Transfer(link, total=SIZE).finish(), f"with {mode}"


@pytest.mark.parametrize("ends", WAYS, ids="-".join)
def test_datagrams(mode, places, family, ends):
    src, dst = (places[n] for n in ends)
    for size in (1, 64, 1400):
        assert udp_ask(src, dst, family, size=size) is not None, f"{size} bytes with {mode}"


def test_checksums_on_the_wire(places, family):
    """With offload off in the pod every translated packet has a right checksum on the wire:
    read there, not judged by a kernel that trusts its veth."""
    with offload(places["a"], "eth0", tx="off"), Wire(places["outside"].netns, "net0") as wire:
        port = port_new()
        assert udp_ask(places["a"], places["outside"], family, port)
        seen = wire.wait(lambda p: p.proto == UDP and p.dport == port)
        assert seen is not None and seen.ip_ok and seen.l4_ok
        with tcp_open(places["a"], places["outside"], family, port) as link:
            assert link.alive()
            packets = [p for p in wire.drain(0.2) if p.proto == TCP and p.dport == port]
        assert len(packets) >= 3
        assert all(p.ip_ok and p.l4_ok for p in packets)


def test_udp_checksum_zero_stays_zero(places):
    """IPv4 only: no checksum is a value of its own (RFC 768), translated or not."""
    import packet

    src, dst = places["a"], places["outside"]
    with Wire(src.netns, "eth0") as near, Wire(dst.netns, "net0") as wire:
        port = port_new()
        body = packet.udp(src.ip(4), dst.ip(4), 5000, port, b"none")
        body = body[:6] + b"\0\0" + body[8:]
        near.send(
            packet.ether("02:54:57:00:00:01", src.netns.mac("eth0"),
                         packet.ip(src.ip(4), dst.ip(4), UDP, body))
        )  # fmt: skip
        seen = wire.wait(lambda p: p.proto == UDP and p.dport == port)
        assert seen is not None
        assert seen.l4[6:8] == b"\0\0"


def test_big_tcp(node, places, family):
    """I9: GSO packets beyond 64 KB (IPv6 BIG TCP, and IPv4's) are carried or not made."""
    for name in ("a", "b"):
        places[name].netns.run(
            "ip", "link", "set", "eth0", "gso_max_size", "200000", "gso_ipv4_max_size", "200000",
            "gro_max_size", "200000", "gro_ipv4_max_size", "200000", check=False,
        )  # fmt: skip
    for dst in ("b", "outside", "node"):
        with tcp_open(places["a"], places[dst], family) as link:
            assert Transfer(link, total=SIZE).finish(), f"to {dst}"
