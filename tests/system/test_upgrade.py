# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""An agent is replaced by one whose programs and maps have another layout, under traffic.

What was open before goes on without losing a packet; what is opened meanwhile may be sent
again once; what is denied stays denied at every moment. The same for the way back, and for
agents that die on the way.
"""

import os
import random
import re
import socket
import struct
import threading
import time

import other_layout
import packet
import pytest
from node import Node, binary, namespace_object, policy_object
from traffic import SOON, Transfer, bound, port_new, tcp_open, wait_for

SO_RCVBUFFORCE = 33
INWARD = 6999  # the port that is open from the outside
RETRANSMISSION = 1.0  # seconds: the kernel's first time-out of a SYN
SLACK = 0.8  # of a busy machine


@pytest.fixture(scope="module")
def other():
    return other_layout.towpathd_build()


@pytest.fixture
def node():
    with Node() as made:
        made.apply(namespace_object("shop", {}))
        made.web = made.add_pod("shop", "web", {"app": "web"})
        made.db = made.add_pod("shop", "db", {"app": "db"})
        made.spy = made.add_pod("shop", "spy", {"app": "spy"})
        rule = {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}
        made.apply(policy_object("shop", "db", {"matchLabels": {"app": "db"}}, ingress=[rule]))
        # Answers to web pass only because of its flows.
        made.apply(policy_object("shop", "web", {"matchLabels": {"app": "web"}}, ingress=[
            {"from": [{"ipBlock": {"cidr": made.outside.ip(4) + "/32"}},
                      {"ipBlock": {"cidr": made.outside.ip(6) + "/128"}}],
             "ports": [{"port": INWARD}]}]))  # fmt: skip
        yield made


class Worker:
    """Something that runs in the background until the block ends."""

    def __init__(self):
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop)
        self.error = None

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exc):
        self._stop.set()
        self._thread.join()

    def _loop(self):
        try:
            self.run()
        except Exception as err:  # pylint: disable=broad-except
            self.error = err

    def going(self):
        return not self._stop.is_set()


class Datagrams(Worker):
    """One datagram after the other, each with its number; which of them arrived."""

    def __init__(self, src, dst, family):
        super().__init__()
        port = port_new()
        self.server = bound(dst, family, socket.SOCK_DGRAM, port)
        self.server.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        self.server.setblocking(False)
        self.client = bound(src, family, socket.SOCK_DGRAM)
        self.client.connect((dst.ip(family), port))
        self.sent, self.arrived = 0, set()

    def run(self):
        while self.going():
            for _ in range(5):
                self.sent += 1
                self.client.send(struct.pack("!I", self.sent))
            self.collect()
            time.sleep(0.002)

    def collect(self):
        try:
            while True:
                self.arrived.add(struct.unpack("!I", self.server.recv(64))[0])
        except BlockingIOError:
            return

    def missing(self):
        """The numbers that did not arrive."""
        wait_for(lambda: self.collect() or len(self.arrived) == self.sent)
        return sorted(set(range(1, self.sent + 1)) - self.arrived)


class Openers(Worker):
    """Opens connections one after the other; how long each took."""

    def __init__(self, src, dst, family):
        super().__init__()
        self.ends = (src, dst, family)
        self.seconds = []

    def run(self):
        while self.going():
            begun = time.monotonic()
            with tcp_open(*self.ends, seconds=5) as link:
                assert link.alive(5)
            self.seconds.append(time.monotonic() - begun)


class Intruder(Worker):
    """Knocks where it may not, with SYNs, datagrams and packets from the middle of no
    connection; and what of it was seen on the other side."""

    def __init__(self, src, dst, family):
        super().__init__()
        self.src, self.dst = src.ip(family), dst.ip(family)
        self.out = packet.Wire(src.netns, "eth0")
        self.seen = packet.Wire(dst.netns, "eth0")
        self.macs = (src.node.netns.mac(src.port), src.netns.mac("eth0"))
        self.knocks, self.trespasses, self.welcome = 0, [], 0

    def frames(self, number):
        sport = 20000 + number % 20000
        for flags in (0x02, 0x10):  # SYN; ACK
            yield 6, packet.tcp(self.src, self.dst, sport, 80, flags)
        yield 17, packet.udp(self.src, self.dst, sport, 53, b"knock")

    def run(self):
        while self.going():
            for proto, payload in self.frames(self.knocks):
                whole = packet.ip(self.src, self.dst, proto, payload)
                self.out.send(packet.ether(*self.macs, whole))
                self.knocks += 1
            self.look(0.002)
        self.look(0.1)

    def look(self, seconds):
        for seen in self.seen.packets(seconds):
            if seen.src == self.src:
                self.trespasses.append(seen)
            else:
                self.welcome += 1


def replace(node, towpathd):
    """The agent stops, and one of another build starts; how many flows it took over."""
    node.stop()
    node.towpathd = towpathd
    node.log.write_text("")
    node.start()
    said = node.log.read_text()
    assert "error" not in said and "warn" not in said
    return int(re.search(r"took over (\d+) connections", said)[1])


def layouts(node):
    return sorted(os.listdir(node.run_dir / "bpf/maps"))


def jump_tables(node):
    """One a set of programs."""
    return [name for name in os.listdir(node.run_dir / "bpf") if name.startswith("jumps_")]


def assert_kept_out(intruder):
    assert intruder.error is None and intruder.knocks > 100
    assert intruder.welcome > 100, "what is allowed must be seen where the intruder is not"
    assert intruder.trespasses == []


@pytest.mark.parametrize("family", (4, 6), ids=("ipv4", "ipv6"))
def test_another_layout_and_back(node, other, family):
    ours = binary("towpathd")
    with (
        tcp_open(node.web, node.db, family) as local,
        tcp_open(node.web, node.outside, family) as out,
        tcp_open(node.outside, node.web, family, INWARD) as inward,
        Datagrams(node.web, node.db, family) as datagrams,
        Datagrams(node.web, node.outside, family) as datagrams_out,
        Intruder(node.spy, node.db, family) as intruder,
        Openers(node.web, node.db, family) as openers,
    ):
        time.sleep(0.3)
        transfers = [Transfer(link, pace=0.003) for link in (local, out)]
        for towpathd, version in ((other, other_layout.VERSION), (ours, None)):
            assert replace(node, towpathd) >= 5
            assert layouts(node) == [f"v{version}"] if version else len(layouts(node)) == 1
            assert len(jump_tables(node)) == 1
            time.sleep(0.3)
        assert inward.alive()
        assert all(transfer.finish() for transfer in transfers)
    assert datagrams.missing() == []
    assert datagrams_out.missing() == []
    assert openers.error is None
    assert max(openers.seconds) < RETRANSMISSION + SLACK
    assert intruder.knocks > 100 and intruder.error is None
    assert intruder.trespasses == []


def test_a_revoked_connection_stays_revoked(node, other, family):
    """A tombstone is carried over like any flow."""
    with tcp_open(node.web, node.db, family) as link:
        node.apply(policy_object("shop", "db", {"matchLabels": {"app": "db"}}, ingress=[]))
        assert not link.passes(link.server, link.client, seconds=0.3)
        assert replace(node, other) >= 1
        assert not link.passes(link.server, link.client, seconds=0.5)
        assert not link.passes(link.client, link.server, seconds=0.5)


def test_counts_and_budgets_go_along(node, other):
    with tcp_open(node.web, node.db, 4) as link:
        assert link.alive()
        assert not tcp_denied(node)
        before = node.drops("policy_ingress")
        assert before
        replace(node, other)
        assert node.drops("policy_ingress") >= before
        assert link.alive()


def tcp_denied(node):
    try:
        tcp_open(node.spy, node.db, 4, seconds=0.3).close()
    except TimeoutError:
        return False
    return True


def test_killed_on_the_way(node, other):
    """Wherever the new agent dies, the next one finishes, of either layout."""
    chance = random.Random(7)
    builds = [binary("towpathd"), other]
    with (
        tcp_open(node.web, node.outside, 4) as link,
        Datagrams(node.web, node.db, 4) as datagrams,
        Intruder(node.spy, node.db, 4) as intruder,
    ):
        node.stop()
        for attempt in range(12 if not os.environ.get("TOWPATH_FULL") else 100):
            node.towpathd = builds[attempt % 3 != 0]
            node.start(wait=False)
            time.sleep(chance.uniform(0.02, 0.6))
            node.kill()
        node.towpathd = other
        node.start()
        assert layouts(node) == [f"v{other_layout.VERSION}"]
        assert len(jump_tables(node)) == 1
        assert link.alive(SOON + RETRANSMISSION)
    assert datagrams.missing() == []
    assert_kept_out(intruder)
