# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The reference plugin `bandwidth` in a chain: its queues are on the port, and hold what they
promise, in the direction that they are for, wherever the traffic comes from or goes to.

The names carry the numbers of the checklist in docs/design/cni.md.
"""

import contextlib
import json
import os
import socket
import threading
import time

import pytest

from cni import REFERENCE, Chain, ChainError, container, endpoints, pings
from node import FAMILIES
from traffic import bound, port_new, tcp_open, tcp_works, wait_for

pytestmark = pytest.mark.skipif(
    not os.path.exists(REFERENCE), reason="package containernetworking-plugins"
)

RATE = 10_000_000  # bits a second
BURST = 200_000  # bits
FULL = bool(os.environ.get("TOWPATH_FULL"))
SECONDS, TOLERANCE = (10.0, 0.1) if FULL else (1.0, 0.2)
WARM = 0.3  # the burst is used up by then


def limits(to=None, from_=None):
    """Of the direction to the container, and from it."""
    out = {}
    if to:
        out |= {"ingressRate": to, "ingressBurst": BURST}
    if from_:
        out |= {"egressRate": from_, "egressBurst": BURST}
    return out


@contextlib.contextmanager
def shaped(node, **directions):
    with container() as netns:
        chain = Chain(node, netns, {"type": "bandwidth", **limits(**directions)})
        chain.add()
        try:
            # The agent is told of the queues; until then packets take the short way.
            wanted = {"to": 2, "from_": 4}
            flags = sum(wanted[d] for d in directions)
            assert wait_for(lambda: queues(node, chain) == flags), queues(node, chain)
            chain.check()
            yield chain
        finally:
            chain.delete()


def queues(node, chain):
    """TW_EP_QUEUE_* of the chain's endpoint, as CHECK compares them with the kernel's entry."""
    item = node.api("GET", f"/v1/endpoints/{chain.attachment.container_id}/eth0")
    return sum({"to": 2, "from": 4}[q] for q in item["queues"])


class Counter:
    """Receives in the background and remembers when how much had come."""

    def __init__(self, sock):
        self.sock, self.total, self.marks = sock, 0, []
        self.begun = time.monotonic()
        sock.settimeout(0.2)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            try:
                data = self.sock.recv(1 << 20)
            except TimeoutError:
                continue
            except OSError:
                return
            if not data:
                return
            self.total += len(data)
            self.marks.append((time.monotonic(), self.total))

    def finish(self):
        self._stop.set()
        self._thread.join()

    def rates(self):
        """Bits a second from the end of the burst on: on the average, and in the best half of it."""
        begin = self.marks[0][0] + WARM
        marks = [m for m in self.marks if m[0] >= begin]
        span = (marks[-1][0] - begin) / 2
        best, first = 0.0, 0
        for time_, total in marks:
            if time_ - marks[0][0] < span:
                continue
            while marks[first + 1][0] <= time_ - span:
                first += 1
            t0, b0 = marks[first]
            best = max(best, (total - b0) * 8 / (time_ - t0))
        (t0, b0), (t1, b1) = marks[0], marks[-1]
        return (b1 - b0) * 8 / (t1 - t0), best

    def kept(self, headers=1.0):
        """Near the limit. A limit is of frames, what is measured is what they carry.

        Never more than the burst and the rate since the beginning, however late this process
        reads. And as much as may be: in the long run on the average, in the short one in the best
        half, as TCP may wait for a time-out of its own after its first losses.
        """
        average, best = self.rates()
        most = BURST + RATE * (self.marks[-1][0] - self.begun)
        print(f"{average / 1e6:.2f} Mbit/s, at best {best / 1e6:.2f}, "
              f"{self.total * 8 / most:.3f} of what may come")  # fmt: skip
        lowest = average if FULL else best
        return (1 - TOLERANCE) * RATE * headers <= lowest and self.total * 8 <= 1.1 * most


def tcp_count(src, dst, family):
    with tcp_open(src, dst, family) as link:
        counter = Counter(link.server)
        end = time.monotonic() + WARM + SECONDS
        link.client.settimeout(0.2)
        while time.monotonic() < end:
            try:
                link.client.send(bytes(65536))
            except TimeoutError:
                continue
        counter.finish()
        return counter


def udp_count(src, dst, family, offered=4 * RATE, size=1200):
    """What arrives of more than may."""
    port = port_new()
    with (
        bound(dst, family, socket.SOCK_DGRAM, port) as server,
        bound(src, family, socket.SOCK_DGRAM) as client,
    ):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        client.connect((dst.ip(family), port))
        counter = Counter(server)
        begin = time.monotonic()
        sent = 0
        while (now := time.monotonic() - begin) < WARM + SECONDS:
            if sent * 8 < offered * now:
                client.send(bytes(size))
                sent += size
            else:
                time.sleep(0.0005)
        counter.finish()
        return counter


def rate_of(node, chain):
    """Of the queue on the port."""
    port = chain.attachment.port()
    rows = json.loads(node.netns.run("tc", "-j", "qdisc", "show", "dev", port).stdout)
    return rows[0]["options"]["rate"] * 8


@pytest.fixture(scope="module")
def peer(node):
    """A container without limits."""
    with container() as netns:
        chain = Chain(node, netns)
        chain.add()
        yield chain.place()
        chain.delete()


PEERS = ("container", "outside", "node")
# Each peer, each family; every combination in the long run.
PAIRS = (
    [(where, family) for where in PEERS for family in FAMILIES] if FULL
    else [("container", 4), ("outside", 4), ("outside", 6)]
)  # fmt: skip


def place_of(name, node, peer):
    return {"container": peer, "outside": node.outside, "node": node}[name]


@pytest.mark.parametrize("where, family", PAIRS)
def test_H13_to_the_container(node, peer, family, where):
    with shaped(node, to=RATE) as chain:
        there, here = place_of(where, node, peer), chain.place()
        assert tcp_count(there, here, family).kept(1400 / 1514)


@pytest.mark.parametrize("where, family", PAIRS)
def test_H13_from_the_container(node, peer, family, where):
    with shaped(node, from_=RATE) as chain:
        there, here = place_of(where, node, peer), chain.place()
        assert tcp_count(here, there, family).kept(1400 / 1514)


@pytest.mark.parametrize("where, direction", (("container", "to"), ("outside", "from_")))
def test_H13_udp(node, peer, direction, where):
    with shaped(node, **{direction: RATE}) as chain:
        there, here = place_of(where, node, peer), chain.place()
        ends = (there, here) if direction == "to" else (here, there)
        assert udp_count(*ends, 4).kept(1200 / 1242)


@pytest.mark.parametrize("direction", ("to", "from_"))
def test_H13_the_other_direction_is_free(node, peer, direction):
    with shaped(node, **{direction: RATE}) as chain:
        ends = (chain.place(), peer) if direction == "to" else (peer, chain.place())
        assert tcp_count(*ends, 4).rates()[0] > 5 * RATE


def test_H10_both_ends_have_limits(node):
    """The packet takes the queue of the sender, then that of the receiver."""
    with shaped(node, from_=4 * RATE, to=4 * RATE) as one, shaped(node, to=RATE, from_=RATE) as two:
        assert tcp_count(one.place(), two.place(), 4).kept(1400 / 1514)


@pytest.mark.parametrize("directions", ({"to": RATE}, {"from_": RATE}, {"to": RATE, "from_": RATE}))
def test_H13_everything_still_works(node, peer, family, directions):
    """Both openers, all peers, echo requests, fragments: through queues as without."""
    with shaped(node, **directions) as chain:
        here = chain.place()
        for there in (peer, node.outside, node):
            assert tcp_works(here, there, family)
            assert tcp_works(there, here, family)
            for options in ((), ("-s", "4000")):
                argv = ("ping", "-n", "-c", "1", "-W", "2", *options)
                done = here.netns.run(*argv, there.ip(family), check=False)
                assert done.returncode == 0, done.stdout
                done = there.netns.run(*argv, here.ip(family), check=False)
                assert done.returncode == 0, done.stdout


def test_H13_open_connections_change_over(node, peer, family):
    """Queues that come and go under an open connection, and a restart of the agent."""
    with container() as netns:
        chain = Chain(node, netns)
        chain.add()
        here = chain.place()
        port = chain.attachment.port()
        with tcp_open(here, node.outside, family) as out, tcp_open(peer, here, family) as into:
            for on in (True, False, True):
                if on:
                    node.netns.run(*f"tc qdisc add dev {port} root tbf rate 50mbit burst 64kb latency 50ms".split())
                    node.netns.run(*f"tc qdisc add dev {port} ingress".split())
                else:
                    node.netns.run(*f"tc qdisc del dev {port} root".split())
                    node.netns.run(*f"tc qdisc del dev {port} ingress".split())
                assert wait_for(lambda on=on: queues(node, chain) == (6 if on else 0))
                assert out.alive() and into.alive()
            node.restart()
            assert queues(node, chain) == 6
            assert out.alive() and into.alive()
            chain.check()
        chain.delete()


def test_H12_the_configuration_wins(node):
    with container() as netns:
        conf = {"type": "bandwidth", "capabilities": {"bandwidth": True}, **limits(to=RATE)}
        chain = Chain(node, netns, conf, bandwidth=limits(to=20 * RATE))
        chain.add()
        assert wait_for(lambda: queues(node, chain) == 2)
        assert rate_of(node, chain) == RATE
        chain.delete()


def test_H10_from_the_runtime(node):
    with container() as netns:
        conf = {"type": "bandwidth", "capabilities": {"bandwidth": True}}
        chain = Chain(node, netns, conf, bandwidth=limits(to=RATE))
        chain.add()
        assert wait_for(lambda: queues(node, chain) == 2)
        assert rate_of(node, chain) == RATE
        chain.delete()


@pytest.mark.parametrize(
    "bad", ({"ingressRate": RATE}, {"ingressBurst": BURST}, {"egressRate": RATE},
            {"egressBurst": BURST}, {"ingressRate": RATE, "ingressBurst": 8 << 32}),
)  # fmt: skip
def test_H11_half_a_limit(node, bad):
    """Refused by the plugin after us; the runtime's DEL takes our part back."""
    before = endpoints(node)
    with container() as netns, pytest.raises(ChainError):
        Chain(node, netns, {"type": "bandwidth", **bad}).add()
    assert endpoints(node) == before


@pytest.mark.parametrize("none", ({}, limits() | {"ingressRate": 0, "ingressBurst": 0}))
def test_H11_no_limit(node, peer, none):
    with container() as netns:
        chain = Chain(node, netns, {"type": "bandwidth", **none})
        chain.add()
        assert pings(peer.netns, chain.address(4))
        assert queues(node, chain) == 0
        chain.delete()
