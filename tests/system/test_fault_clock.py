# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Clocks that are set, or jump, under the agent (docs/design/faults.md). A preloaded library moves
the agent's clocks; the machine's stay as they are."""

import struct
import time

import pytest
from node import BUILD, Node, policy_object
from traffic import QUIET, tcp_open, tcp_works, udp_ask, wait_for

DAY = 86400
REALTIME, MONOTONIC = 0, 1


@pytest.fixture
def node(monkeypatch):
    with Node(start=False, subnets=("10.77.0.0/28",)) as made:
        made.clock = made.dir / "clock"
        made.clock.write_bytes(bytes(16))
        monkeypatch.setenv("TOWPATH_TEST_CLOCK", str(made.clock))
        made.preload = f"LD_PRELOAD={BUILD}/tests/system/test_clock.so"
        argv = made.argv
        made.argv = lambda *more: ["env", made.preload, *argv(*more)]
        made.start()
        made.a, made.b = (made.add_pod("shop", name, {"app": name}) for name in "ab")
        yield made


def shift(node, which, seconds):
    with open(node.clock, "r+b") as file:
        file.seek(8 * which)
        file.write(struct.pack("=q", seconds))


def test_the_clock_of_the_agent_is_shifted(node):
    """Else the other tests would show nothing."""
    shift(node, REALTIME, -3 * DAY)
    time.sleep(1.2)  # the log asks for the time once a second
    assert udp_ask(node.a, node.b, 4)
    assert wait_for(lambda: node.flows(last=1))
    seen = node.flows(last=1)[0]["time"] / 1e9 - time.time()
    assert abs(seen + 3 * DAY) < 60


@pytest.mark.parametrize("days", (-3, 3, -10000))
def test_wall_clock_is_set(node, days):
    """Connections, policies, new connections: none depends on it. A released address rests its
    minute whatever the clock says, while others are free."""
    with tcp_open(node.a, node.b, 4) as link:
        gone = node.add_pod("shop", "gone", known=False)
        address = gone.ip(4)
        node.del_pod(gone, known=False)
        shift(node, REALTIME, days * DAY)
        assert link.alive() and udp_ask(node.a, node.outside, 4)
        pods = [node.add_pod("shop", f"p{n}", known=False) for n in range(4)]
        assert address not in {pod.ip(4) for pod in pods}
        for pod in pods:
            node.del_pod(pod, known=False)
        node.apply(policy_object("shop", "b", {"matchLabels": {"app": "b"}}, ingress=[]))
        assert not tcp_works(node.a, node.b, 4, seconds=QUIET)
        node.delete(policy_object("shop", "b"))
        node.restart()
        assert link.alive() and tcp_works(node.a, node.b, 4)
        # Set back while it was released: it rests from the start on, not for ever or not at all.
        if days < 0:
            pool = node.status()["pools"]
            assert sum(p["quarantined"] for p in pool) >= 1
            assert node.add_pod("shop", "last", known=False).ip(4) != address


def test_machine_was_suspended(node):
    """The clocks of the process leap by a day and the kernel's ticks do not: idle flows do not
    expire for it, nothing is swept, all timers go on."""
    with tcp_open(node.a, node.b, 4) as link:
        shift(node, MONOTONIC, DAY)
        shift(node, REALTIME, DAY)
        time.sleep(2.5)  # some rounds of collection
        assert link.alive() and node.agent.poll() is None
        assert len(node.api("GET", "/v1/endpoints")["items"]) == 2
        before = node.status()["uptime_s"]
        assert before >= DAY
        assert udp_ask(node.a, node.outside, 4) and tcp_works(node.b, node.a, 4)
        flow = wait_for(lambda: node.flows(last=1))
        assert abs(flow[0]["time"] / 1e9 - time.time() - DAY) < 60
