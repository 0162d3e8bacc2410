# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""`towpath flows --follow` goes on over a restart of the agent."""

import json
import os
import subprocess

import pytest
from node import binary
from traffic import port_new, udp_ask, wait_for


class Follower:
    """A running `towpath flows -f -o json`."""

    def __init__(self, node, *argv):
        self.out, self.err = (open(node.dir / f"follow.{name}", "w+b") for name in ("out", "err"))
        self.process = subprocess.Popen(
            [binary("towpath"), "flows", "-f", "-o", "json", *argv],
            env=node.env(), stdout=self.out, stderr=self.err,
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.process.kill()
        self.process.wait()
        self.out.close()
        self.err.close()

    def lines(self):
        text = os.pread(self.out.fileno(), 1 << 24, 0).decode()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]

    def said(self):
        return os.pread(self.err.fileno(), 1 << 16, 0).decode()

    def saw(self, port):
        return [e for e in self.lines() if e.get("to", {}).get("port") == port]


@pytest.fixture
def pods(clean):
    return clean.add_pod("default", "a"), clean.add_pod("default", "b")


def ask(pods):
    port = port_new()
    assert udp_ask(*pods, 4, port)
    return port


@pytest.mark.parametrize("stop", ("kill", "stop"))
def test_follower_outlives_the_agent(clean, pods, stop):
    with Follower(clean, "--type", "new") as follower:
        before = ask(pods)
        wait_for(lambda: follower.saw(before))
        getattr(clean, stop)()
        assert wait_for(lambda: "the agent has gone; waiting until it is back" in follower.said())
        clean.start()
        assert wait_for(lambda: "the agent is back" in follower.said())
        after = ask(pods)
        assert wait_for(lambda: follower.saw(after))
        assert len(follower.saw(before)) == len(follower.saw(after)) == 1
        assert follower.process.poll() is None


def test_without_an_agent_there_is_nothing_to_follow(clean):
    clean.stop()
    try:
        done = clean.towpath("flows", "-f", check=False, timeout=30)
    finally:
        clean.start()
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1
