# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Interfaces go in the background: what a DEL that has returned may leave visible (nothing),
and what happens to those under way when the agent stops or dies.
"""

import concurrent.futures
import contextlib
import json
import os
import subprocess
import time

import pytest

from cni import Attachment, container, endpoints, ports
from node import Node, binary

MANY = 24


@pytest.fixture
def own():
    with Node("twr") as made:
        yield made


@contextlib.contextmanager
def attached(node, n):
    """n containers with an interface each."""
    with contextlib.ExitStack() as stack:
        made = [Attachment(node, stack.enter_context(container())) for _ in range(n)]
        for one in made:
            one.add_ok()
        yield made


def devices(netns):
    """Names as the kernel lists them to readers that take no lock."""
    with netns, open("/proc/thread-self/net/dev", encoding="ascii") as file:
        return {line.split(":")[0].strip() for line in file.read().splitlines()[2:]}


def delete_and_look(one):
    answer = one.delete()
    return answer.code, one.port() in devices(one.node.netns), "eth0" in devices(one.netns)


def delete_start(one):
    """The plugin, started."""
    plugin = subprocess.Popen(
        one.node.netns.argv(binary("towpath-cni")),
        env={**one.env(), "CNI_COMMAND": "DEL", "PATH": os.environ["PATH"]},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    plugin.stdin.write(json.dumps(one.config))
    plugin.stdin.close()
    return plugin


def used(node):
    return sum(pool["used"] for pool in node.status()["pools"])


def test_nothing_is_visible_after_any_of_many(node):
    with attached(node, MANY) as many, concurrent.futures.ThreadPoolExecutor(MANY) as pool:
        seen = list(pool.map(delete_and_look, many))
        assert seen == [(0, False, False)] * MANY
        assert ports(node) == set()
        assert endpoints(node) == set()
        assert used(node) == 0


def test_the_same_twice_at_once(node):
    with attached(node, 1) as (one,), concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: one.delete(), range(4)))
        assert [a.code for a in answers] == [0] * 4
        assert one.port() not in devices(node.netns)


def test_others_are_left_alone(node):
    """A group's deletion is of the group: those that stay have the one they had."""
    with attached(node, 6) as many, concurrent.futures.ThreadPoolExecutor(6) as pool:
        stay, go = many[::3], [one for i, one in enumerate(many) if i % 3]
        answers = list(pool.map(Attachment.delete, go))
        assert [a.code for a in answers] == [0] * len(go)
        assert ports(node) == {one.port() for one in stay}
        assert [one.check().code for one in stay] == [0] * len(stay)
        groups = {row["group"] for row in node.netns.ip_json("-d link") if row["ifname"][:2] == "tw"}
        assert groups == {"default"}
        for one in stay:
            assert one.delete().code == 0


@pytest.mark.parametrize("how", ("stop", "kill"))
def test_agent_that_ends_meanwhile(own, how):
    """DELs under way end with an answer; trying again after the start leaves nothing."""
    with attached(own, 8) as many:
        plugins = [delete_start(one) for one in many]
        end = time.monotonic() + 20
        while len(devices(own.netns) & {one.port() for one in many}) == len(many):
            assert time.monotonic() < end
        getattr(own, how)()
        for plugin in plugins:
            assert plugin.wait(30) in (0, 1)
            plugin.stdout.close()
            plugin.stderr.close()
        own.start()
        for one in many:
            answer = one.delete()
            assert answer.code == 0, answer
            assert "eth0" not in devices(one.netns)
        assert ports(own) == set()
        assert endpoints(own) == set()
        assert used(own) == 0
