# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The bpffs and its pins taken away, with the agent running and without (docs/design/faults.md)."""

import os
import socket
import threading

import pytest
from netns import run
from node import FAMILIES, Node, policy_object
from traffic import QUIET, SOON, bound, port_new, tcp_open, tcp_works, udp_ask, wait_for


@pytest.fixture(scope="module")
def node():
    with Node() as made:
        made.a, made.b = (made.add_pod("shop", name, {"app": name}) for name in "ab")
        made.c = made.add_pod("shop", "c", {"app": "c"})
        rule = {"from": [{"podSelector": {"matchLabels": {"app": "a"}}}]}
        made.apply(policy_object("shop", "b", {"matchLabels": {"app": "b"}}, ingress=[rule]))
        made.bpf = made.run_dir / "bpf"
        yield made


class Denied:
    """Datagrams from c to b, which no policy lets through, all the time."""

    def __init__(self, node, family):
        self.port = port_new()
        self.server = bound(node.b, family, socket.SOCK_DGRAM, self.port)
        self.client = bound(node.c, family, socket.SOCK_DGRAM)
        self.client.connect((node.b.ip(family), self.port))
        self.server.setblocking(False)
        self.sent = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(0.0005):
            try:
                self.client.send(b"let me in")
                self.sent += 1
            except OSError:
                pass

    def got(self):
        count = 0
        try:
            while self.server.recv(64):
                count += 1
        except BlockingIOError:
            return count

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self._stop.set()
        self._thread.join()
        self.client.close()
        self.server.close()


def pins(node):
    """Pins come and go meanwhile: a folder that has gone has none. The kernel's own files, which
    show maps, end in .debug."""
    return sorted(
        os.path.relpath(os.path.join(folder, name), node.bpf)
        for folder, _folders, names in os.walk(node.bpf)
        for name in names
        if not name.endswith(".debug")
    )


def works(node):
    for family in FAMILIES:
        assert tcp_works(node.a, node.b, family)
        assert udp_ask(node.a, node.outside, family)
        assert not tcp_works(node.c, node.b, family, seconds=QUIET)


class Links:
    """A connection from a to b over each family."""

    def __init__(self, node):
        self.links = [tcp_open(node.a, node.b, family) for family in FAMILIES]

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        for link in self.links:
            link.__exit__()

    def alive(self):
        return all(link.alive() for link in self.links)


def test_unmounting_is_refused_while_the_agent_runs(node):
    done = run("umount", str(node.bpf), check=False)
    assert done.returncode != 0 and "busy" in done.stderr
    works(node)


@pytest.mark.parametrize("how", ("lazily", "covered"))
def test_bpffs_taken_away_while_the_agent_runs(node, how):
    """Traffic goes on, nothing denied gets through, and everything is pinned anew, so that the
    agent may die right after."""
    before = [p for p in pins(node) if not p.startswith("jumps")]
    with Denied(node, 4) as denied, Denied(node, 6) as denied6, Links(node) as link:
        if how == "lazily":
            run("umount", "-l", str(node.bpf))
        else:
            run("mount", "-t", "bpf", "bpf", str(node.bpf))
        assert link.alive()
        assert wait_for(lambda: set(before) <= set(pins(node)), 5 * SOON), node.tail()
        assert "pinned anew" in node.tail()
        works(node)
        node.restart()
        assert link.alive()
        works(node)
        for one in (denied, denied6):
            assert one.got() == 0 and one.sent > 100


def test_pins_deleted_one_by_one_while_the_agent_runs(node):
    """A link goes with its pin and is put back within milliseconds; other pins are made anew. A
    connection loses at most a packet."""
    names = pins(node)
    assert any("tw_policy" in n for n in names) and any("port_in" in n for n in names)
    with Links(node) as link:
        for name in names:
            (node.bpf / name).unlink()
            if name.startswith("jumps"):
                assert wait_for(lambda: any(p.startswith("jumps") for p in pins(node)))
            else:
                assert wait_for(lambda n=name: n in pins(node)), f"{name}: {node.tail()}"
            assert link.alive(), name
        works(node)
        node.restart()
        assert link.alive()
    works(node)


def test_link_detached_by_force_is_put_back(node):
    """`bpftool link detach` leaves the pin; the ports are looked at in turn."""
    pin = next(p for p in pins(node) if p.startswith(f"links/port_out_{node.netns.ifindex(node.b.port)}"))
    run("bpftool", "link", "detach", "pinned", str(node.bpf / pin))
    assert wait_for(lambda: "taken the programs off" in node.tail(), 5 * SOON)
    works(node)


@pytest.mark.parametrize("what", ("tw_policy", "tw_endpoints", "tw_flow", "jumps", "progs", "links"))
def test_pins_deleted_while_the_agent_is_dead(node, what):
    """The next start makes what is missing, and is right. Connections go on, unless the flow
    tables or the links were what was deleted."""
    link = Links(node)
    node.kill()
    gone = [n for n in pins(node) if what in n]
    for name in gone:
        (node.bpf / name).unlink()
    assert gone
    node.start()
    works(node)
    if what not in ("tw_flow", "links"):
        assert link.alive()
    link.__exit__()


def test_bpffs_unmounted_while_the_agent_is_dead(node):
    """Everything is out of the kernel, as after an uninstall; the next start puts it back."""
    node.kill()
    run("umount", str(node.bpf))
    node.start()
    works(node)
    assert os.path.ismount(node.bpf)
