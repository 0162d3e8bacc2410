# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""ADD answers before the program for what the node's stack sends to the container is linked.
Until it is, such packets wait, and none gets through that was not judged (agent/opener.c)."""

import pytest

import pytest

from cni import Attachment, container, pings
from node import Node
from traffic import wait_for

TRIES = 20


@pytest.fixture(autouse=True, scope="module")
def needs_tcx():
    """Filters are made at once, both."""
    with Node() as node:
        if node.status()["kernel"]["attach"] != "tcx":
            pytest.skip("this kernel has no tcx links")


def linked(node, port):
    """Is the program of the way to the container there, as a pin that holds its link?"""
    pin = node.run_dir / "bpf" / "links" / f"port_out_{node.netns.ifindex(port)}"
    return pin.exists()


def known(node, attachment):
    """Families of which the node knows the container as a neighbour."""
    rows = node.netns.ip_json(f"neigh show dev {attachment.port()} nud permanent")
    rows += node.netns.ip_json(f"-6 neigh show dev {attachment.port()} nud permanent")
    return {6 if ":" in row["dst"] else 4 for row in rows}


def test_what_the_node_sends_waits_and_arrives():
    with Node() as node, container() as netns:
        for family in (4, 6, 4, 6):
            one = Attachment(node, netns)
            one.add_ok()
            assert pings(node.netns, one.address(family))
            assert linked(node, one.port()) and known(node, one) == {4, 6}
            assert one.delete().code == 0


def test_killed_right_after_the_answer():
    """The agent dies while the container is closed: it is as good as ever for others, and stays
    closed to the node until an agent is there again."""
    closed = 0
    with Node() as node, container() as a, container() as b:
        other = Attachment(node, a)
        other.add_ok()
        assert other.check().code == 0
        for _ in range(TRIES):
            one = Attachment(node, b)
            one.add_ok()
            node.kill()
            if known(node, one):
                assert linked(node, one.port())
            elif not closed:
                closed += 1
                assert not pings(node.netns, one.address(4))
                assert not pings(node.netns, one.address(6))
                assert known(node, one) == set()
                assert pings(a, one.address(4)) and pings(b, other.address(6))
            node.start()
            assert linked(node, one.port()) and known(node, one) == {4, 6}
            assert pings(node.netns, one.address(4)) and pings(node.netns, one.address(6))
            assert one.delete().code == 0
            if closed:
                break
    assert closed


def test_stopped_right_after_the_answer():
    with Node() as node, container() as netns:
        one = Attachment(node, netns)
        one.add_ok()
        node.stop()
        assert linked(node, one.port()) and known(node, one) == {4, 6}
        assert pings(node.netns, one.address(4))


def test_deleted_right_after_the_answer():
    with Node() as node, container() as netns:
        links = node.run_dir / "bpf" / "links"
        before = sorted(links.iterdir())
        for _ in range(10):
            one = Attachment(node, netns)
            one.add_ok()
            assert one.delete().code == 0
        wait_for(lambda: sorted(links.iterdir()) == before)
        hooks = node.status()["health"]["hooks"]
        assert hooks["expected"] == hooks["attached"]


def test_many_are_all_opened(node):
    """ADDs that follow one another put off the second programs, but not for good."""
    with container() as a, container() as b, container() as c:
        made = [Attachment(node, netns) for netns in (a, b, c)]
        for one in made:
            one.add_ok()
        wait_for(lambda: all(known(node, one) == {4, 6} for one in made))
        assert all(linked(node, one.port()) for one in made)
        for one in made:
            assert one.delete().code == 0
