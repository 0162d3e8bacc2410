# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""A full flow table refuses new flows by name and leaves the live ones alone."""

import socket

import pytest
from node import Node
from traffic import bound, port_new, tcp_open, tcp_works, wait_for

SMALL = 1024


@pytest.fixture
def node():
    with Node(options=["--max-flows", str(SMALL)]) as made:
        made.a, made.b = (made.add_pod("shop", name) for name in ("a", "b"))
        yield made


def fill(node, family, count):
    """count UDP flows from many sockets, each answered so that it counts as established."""
    port = port_new()
    with bound(node.b, family, socket.SOCK_DGRAM, port) as server:
        server.setblocking(False)
        for number in range(count):
            with bound(node.a, family, socket.SOCK_DGRAM, 20000 + number) as sock:
                sock.sendto(b"?", (node.b.ip(family), port))
                try:
                    server.sendto(b"!", server.recvfrom(16)[1])
                except BlockingIOError:
                    continue


@pytest.mark.parametrize("agent", ("alive", "dead"))
def test_full_table(node, family, agent):
    with (
        tcp_open(node.a, node.b, family) as local,
        tcp_open(node.a, node.outside, family) as out,
        tcp_open(node.outside, node.b, family) as into,
    ):
        before = {r: node.drops(r) for r in ("flow_table_full", "flow_cap", "new_flow_rate")}
        if agent == "dead":
            node.kill()
        fill(node, family, 2 * SMALL)
        for link in (local, out, into):
            assert link.alive(), "a live connection suffered from new ones"
        if agent == "dead":
            node.start()
        for link in (local, out, into):
            assert link.alive()
        refused = {r: node.drops(r) - n for r, n in before.items()}
        assert sum(refused.values()) > 0, "more flows than fit, and none was refused"
    # Idle flows end, and there is room again.
    assert wait_for(lambda: tcp_works(node.b, node.outside, family, seconds=0.5), 90, 1)
