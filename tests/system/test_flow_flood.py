# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Floods of denied packets and readers that do not read: neither holds up anything or grows it."""

import json
import socket
import sys
import time

import pytest
from node import Node, namespace_object, policy_object
from traffic import bound, port_new, tcp_works, udp_ask, wait_for

# A flood fills a CPU.
pytestmark = pytest.mark.alone
GROWTH_KB = 3072

FLOOD = """
import socket, sys, time
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out.connect((sys.argv[1], int(sys.argv[2])))
end, sent = time.monotonic() + float(sys.argv[3]), 0
while time.monotonic() < end:
    for _ in range(200):
        out.send(b"x" * 64)
    sent += 200
print(sent)
"""


def rss_kb(node):
    with open(f"/proc/{node.agent.pid}/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


@pytest.fixture(scope="module")
def node():
    with Node(prefix="twfl") as made:
        yield made


def test_flood_of_denied_packets_is_counted(node):
    open_port = port_new()
    node.apply(
        namespace_object("shop", {}),
        policy_object(
            "shop", "only-web", {"matchLabels": {"app": "db"}},
            ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}],
                      "ports": [{"port": open_port}]}],
        ),
    )  # fmt: skip
    db = node.add_pod("shop", "db", {"app": "db"})
    web = node.add_pod("shop", "web", {"app": "web"})
    spy, other = node.add_pod("shop", "spy"), node.add_pod("shop", "other")
    assert tcp_works(web, db, 4, open_port)
    size, denied = rss_kb(node), node.drops("policy_ingress")
    begun = time.monotonic()
    flood = spy.netns.popen(sys.executable, "-c", FLOOD, db.ip(4), "9", "3", stdout=-1, text=True)

    def first():
        return [e for e in node.flows(type="drop", port=9) if e["from"]["pod"] == "spy"]

    # At once, not at the end of a second.
    assert wait_for(first)
    while flood.poll() is None:
        assert tcp_works(web, db, 4, open_port, seconds=10)
    # Somebody else's denied packet is not lost in it.
    sent = int(flood.stdout.read())
    took = time.monotonic() - begun
    with bound(other, 4, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", (db.ip(4), 7))
    assert wait_for(lambda: node.flows(type="drop", port=7))
    dropped = node.drops("policy_ingress") - denied
    assert dropped >= sent
    time_up = time.monotonic() + 1.5
    wait_for(lambda: time.monotonic() > time_up, 5)
    records = first()
    told = sum(e["count"] for e in records)
    assert sent * 0.9 - 2048 <= told <= sent, (told, sent)
    assert len(records) <= 2 * (took + 2), len(records)
    assert all(e["packets"][0] == e["count"] for e in records)
    assert all(e["policy"]["ingress"]["selected_by"] == "shop/only-web" for e in records)
    assert rss_kb(node) < size + GROWTH_KB


def test_denied_packet_is_seen_in_a_flood(node):
    """What others may be told of is not used up by one."""
    db, spy = node.pods[("shop", "db")], node.pods[("shop", "spy")]
    other = node.pods[("shop", "other")]
    flood = spy.netns.popen(sys.executable, "-c", FLOOD, db.ip(4), "9", "2", stdout=-1, text=True)
    ports = range(2000, 2050)
    with bound(other, 4, socket.SOCK_DGRAM) as sock:
        for port in ports:
            sock.sendto(b"x", (db.ip(4), port))
    seen = wait_for(
        lambda: {e["to"]["port"] for e in node.flows(last=1000, type="drop")} >= set(ports)
    )
    flood.wait(20)
    assert seen


def slow(node):
    """A stream of flows that nobody reads yet."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(20)
    sock.connect(node.socket)
    sock.sendall(b"GET /v1/flows?follow=1&type=new HTTP/1.0\r\n\r\n")
    assert sock.recv(12) in (b"HTTP/1.1 200", b"HTTP/1.0 200")
    return sock


def read_until(sock, port):
    """The objects of the stream up to the flow to that port."""
    text = b""
    while b'"port":%d,' % port not in text or not text.endswith(b"}\n"):
        more = sock.recv(65536)
        assert more
        text += more
    return [json.loads(line) for line in text.decode().splitlines() if line.startswith("{")]


def told(node, records, history):
    """The log has so many records, and the history no more to write than half of it."""
    status = node.status()
    now = status["flow_log"]["records"]
    return now >= records and (history == "0" or now - status["flow_history"]["kept"] < 1000)


@pytest.mark.parametrize("history", ("0", "100000"), ids=("memory", "disk"))
def test_slow_reader_is_told_what_it_lost(history):
    options = ["--flow-log", "2000", "--flow-history", history]
    with Node(prefix="twfs", options=options) as node:
        a, b = node.add_pod("default", "a"), node.add_pod("default", "b")
        before = rss_kb(node)
        with slow(node) as reader:
            first = port_new()
            assert udp_ask(a, b, 4, first)
            begun = node.status()["flow_log"]["records"]
            with bound(a, 4, socket.SOCK_DGRAM) as sock:
                for start in range(1000, 7000, 100):  # below those of port_new()
                    for port in range(start, start + 100):
                        sock.sendto(b"x", (b.ip(4), port))
                    # What is still in the kernel's ring would come on top of what waits.
                    sent = start + 100 - 1000
                    assert wait_for(lambda: told(node, begun + sent, history), 20)
            last = port_new()
            assert udp_ask(a, b, 4, last)
            # Others read at their own pace.
            assert wait_for(lambda: any(e.get("to", {}).get("port") == last for e in node.flows()))
            assert rss_kb(node) < before + GROWTH_KB
            events = read_until(reader, last)
        numbers = [e["seq"] for e in events if "seq" in e]
        lost = sum(e.get("lost", 0) for e in events)
        assert numbers == sorted(set(numbers))
        # The kernel's answers to closed ports are records, too; the filter leaves them out.
        seen = len([e for e in events if e.get("type") == "new"])
        if history == "0":
            assert lost > 1000
            assert seen + lost >= 6002
        else:
            assert lost == 0
            assert seen >= 6002
