# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""What the kernel's own stack drops for an endpoint is in the flow log, with its reason."""

import socket
import struct
import subprocess

import pytest
from node import AF, Node
from packet import TCP, UDP, Wire, ether, ip, tcp, udp
from traffic import QUIET, bound, port_new, tcp_works, udp_ask, wait_for


@pytest.fixture(scope="module")
def node():
    with Node() as made:
        if not wait_for(lambda: made.status()["kernel"]["drop_reasons"], 10):
            pytest.skip(f"this kernel does not tell why it drops: {made.tail(3)}")
        yield made


@pytest.fixture(scope="module")
def pods(node):
    made = [node.add_pod("default", name) for name in ("web", "db")]
    # The namespaces of new endpoints are known when a drop in one of them is.
    for pod, other in (made, made[::-1]):
        wait_for(lambda pod=pod, other=other: refused(node, other, pod, 4), 10)
    return made


def kernel_drops(node, port, **filters):
    return [f for f in node.flows(reason="kernel", **filters) if f["to"].get("port") == port]


def refused(node, src, dst, family):
    """A datagram to a port without a listener, and what the log says of it."""
    port = port_new()
    with src.netns.socket(AF[family], socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", (dst.ip(family), port))
    return wait_for(lambda: kernel_drops(node, port), QUIET)


def only(events):
    assert len(events) == 1, events
    return events[0]


def frame_from(src, dst, family, l4, proto, source=None):
    """A frame as src's own stack sends it to its gateway."""
    gateway = subprocess.run(
        src.netns.argv("ip", "-br", "link", "show", "eth0"),
        capture_output=True, text=True, check=True,
    ).stdout.split()[2]  # fmt: skip
    packet = ip(source or src.ip(family), dst.ip(family), proto, l4)
    return ether("02:54:57:00:00:01", gateway, packet)


def test_no_listener(node, pods, family):
    web, db = pods
    event = only(refused(node, web, db, family))
    assert (event["type"], event["verdict"], event["hook"]) == ("drop", "deny", "kernel")
    assert event["reason"] == "NO_SOCKET"
    assert (event["from"]["pod"], event["to"]["pod"]) == ("web", "db")
    assert event["from"]["ip"] == web.ip(family) and event["proto"] == "udp"
    assert "policy" not in event


def test_receive_buffer_is_full(node, pods, family):
    web, db = pods
    port = port_new()
    with bound(db, family, socket.SOCK_DGRAM, port) as deaf, bound(
        web, family, socket.SOCK_DGRAM
    ) as sock:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(50):
            sock.sendto(b"x" * 1000, (db.ip(family), port))
        events = wait_for(lambda: kernel_drops(node, port))
        assert {e["reason"] for e in events} == {"SOCKET_RCVBUFF"}
        assert all(e["to"]["pod"] == "db" for e in events)
        # The first at once, the rest counted: nothing is lost from the sum.
        told = wait_for(
            lambda: sum(e["count"] for e in kernel_drops(node, port)) >= 40
        )
        assert told and len(kernel_drops(node, port)) <= 5
    # What was not read when the socket was closed is an ordinary end.
    assert {e["reason"] for e in kernel_drops(node, port)} == {"SOCKET_RCVBUFF"}


def test_wrong_checksum(node, pods, family):
    web, db = pods
    port = port_new()
    # A socket, so that the segment is for somebody.
    with bound(db, family, socket.SOCK_STREAM, port) as server, Wire(web.netns, "eth0") as wire:
        server.listen()
        segment = tcp(web.ip(family), db.ip(family), 4444, port, 2)
        broken = segment[:16] + struct.pack("!H", 0xDEAD) + segment[18:]
        wire.send(frame_from(web, db, family, broken, TCP))
        event = only(wait_for(lambda: kernel_drops(node, port)))
    assert event["reason"] == "TCP_CSUM"
    assert event["tcp_flags"] == "SYN"
    assert (event["from"]["pod"], event["to"]["pod"]) == ("web", "db")


def test_reverse_path_filter(node, pods):
    """In the container: strict, with the way back through another interface."""
    web, db = pods
    port = port_new()
    db.netns.ip(
        "link add else0 type veth peer name else1",
        "link set else0 up",
        "link set else1 up",
        f"route add {web.ip(4)}/32 dev else0",
    )
    db.netns.sysctl("ipv4/conf/eth0/rp_filter", 1)
    try:
        with web.netns.socket(AF[4], socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", (db.ip(4), port))
        event = only(wait_for(lambda: kernel_drops(node, port)))
    finally:
        db.netns.sysctl("ipv4/conf/eth0/rp_filter", 0)
        db.netns.ip("link del else0")
    assert event["reason"] == "IP_RPFILTER"
    assert event["to"]["pod"] == "db"


def test_towpaths_own_drops_are_not_told_twice(node, pods, family):
    """A spoofed source is dropped by the data path, on the node's interface."""
    web, db = pods
    port = port_new()
    source = "192.0.2.77" if family == 4 else "2001:db8::77"
    datagram = udp(source, db.ip(family), 4444, port, b"x")
    with Wire(web.netns, "eth0") as wire:
        wire.send(frame_from(web, db, family, datagram, UDP, source))
    events = wait_for(
        lambda: [f for f in node.flows(type="drop") if f["to"].get("port") == port]
    )
    assert only(events)["reason"] == "spoofed_source"
    refused(node, web, db, family)  # what was dropped before this would be told by now
    assert not kernel_drops(node, port)


def test_ordinary_traffic_is_quiet(node, pods, family):
    web, db = pods
    before = node.flows(reason="kernel")
    port = port_new()
    assert tcp_works(web, db, family, port)
    assert udp_ask(web, db, family, port)
    mark = only(refused(node, web, db, family))
    assert [f for f in node.flows(reason="kernel") if f not in before] == [mark]


def test_other_namespaces_are_nobodys_business(node, pods):
    """The same addresses, in a namespace that is not this node's."""
    web, db = pods
    with Node(prefix="tx") as other:
        assert wait_for(lambda: other.status()["kernel"]["drop_reasons"], 10)
        twins = [other.add_pod("default", name) for name in ("web", "db")]
        assert [t.ip(4) for t in twins] == [web.ip(4), db.ip(4)]
        assert wait_for(lambda: refused(other, *twins, 4), 10)
        port = only(refused(other, *twins, 4))["to"]["port"]
        refused(node, web, db, 4)
        assert not kernel_drops(node, port)


def test_counted_by_reason_and_filtered(node, pods):
    web, db = pods
    refused(node, web, db, 4)
    row = [r for r in node.status()["drops"] if r["hook"] == "kernel" and r["reason"] == "NO_SOCKET"]
    assert only(row)["packets"] >= 1
    assert {f["reason"] for f in node.flows(reason="NO_SOCKET")} == {"NO_SOCKET"}
    assert node.flows(reason="kernel,policy_egress")
    line = node.towpath("flows", "--reason", "kernel", "--last", 1).stdout
    assert "NO_SOCKET" in line and "kernel's own stack" in line and "default/web" in line


def test_a_new_agent_goes_on(node, pods, family):
    web, db = pods
    node.restart()
    assert wait_for(lambda: node.status()["kernel"]["drop_reasons"], 10)
    assert wait_for(lambda: refused(node, web, db, family), 10)
