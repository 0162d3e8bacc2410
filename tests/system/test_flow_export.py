# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Flows go into a file: by the agent and by the command, rotated, and on from where it ended."""

import contextlib
import json
import socket
import subprocess

import pytest
from node import Node, binary
from traffic import bound, port_new, udp_ask, wait_for

LABEL = "x" * 63


@pytest.fixture(scope="module")
def node():
    with Node(prefix="twfe", options=["--max-flows", "65536"]) as made:
        # Long records, so that a file is soon full.
        labels = {f"{LABEL[:60]}{i}": LABEL for i in range(8)}
        made.pods_made = made.add_pod("default", "a", labels), made.add_pod("default", "b", labels)
        yield made


def ask(node):
    port = port_new()
    assert udp_ask(*node.pods_made, 4, port)
    return port


def burst(node, first, flows):
    a, b = node.pods_made
    with bound(a, 4, socket.SOCK_DGRAM) as sock:
        for port in range(first, first + flows):
            sock.sendto(b"x", (b.ip(4), port))


def lines(*paths):
    """All are lines of JSON, or this fails; but for what is being written at this moment."""
    text = [line for path in paths for line in path.read_text().splitlines(keepends=True)]
    return [json.loads(line) for line in text if line.endswith("\n") or line != text[-1]]


def ports(path):
    """Of the file and the one before it: it may be renamed at any moment, so it is read first."""
    found = []
    for name in (path, path.with_name(path.name + ".1")):
        with contextlib.suppress(FileNotFoundError):
            found += [e["to"]["port"] for e in lines(name) if e.get("type") == "new"]
    return found


def test_agent_exports_over_restarts_and_moves(node):
    path = node.dir / "agent.json"
    argv = ["--flow-export", str(path)]
    node.stop()
    node.start(*argv)
    first = ask(node)
    assert wait_for(lambda: first in ports(path))
    # With the agent of another option in between: the history has what the file has not.
    node.stop()
    node.start()
    between = ask(node)
    node.stop()
    with open(path, "a", encoding="ascii") as out:
        out.write('{"seq":12')  # as a crash leaves it
    node.start(*argv)
    last = ask(node)
    assert wait_for(lambda: last in ports(path))
    got = ports(path)
    assert [got.count(port) for port in (first, between, last)] == [1, 1, 1]
    numbers = [e["seq"] for e in lines(path)]
    assert numbers == sorted(set(numbers))
    # Moved away by log rotation.
    path.rename(node.dir / "agent.json.old")
    moved = ask(node)
    assert wait_for(lambda: path.exists() and moved in ports(path))
    assert path.stat().st_mode & 0o777 == 0o640


def test_agent_rotates_between_lines(node):
    path = node.dir / "rotated.json"
    node.stop()
    node.start("--flow-export", str(path), "--flow-export-mb", "1", "--flow-export-files", "2")
    older = path.with_name("rotated.json.1")

    def exported(port):
        return any(port in ports(file) for file in (path, older) if file.exists())

    for first in range(2000, 6000, 500):
        burst(node, first, 500)
        newest = ask(node)
        assert wait_for(lambda: exported(newest))  # noqa: B023
    files = sorted(node.dir.glob("rotated.json*"))
    assert [f.name for f in files] == ["rotated.json", "rotated.json.1", "rotated.json.2"]
    assert all(1 << 20 <= f.stat().st_size < (1 << 20) + (64 << 10) for f in files[1:])
    numbers = [e["seq"] for e in lines(files[2], files[1], files[0])]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_file_that_cannot_be_written_costs_no_network(node):
    node.stop()
    node.start("--flow-export", "/proc/nowhere/flows.json")
    assert "flows are not exported to /proc/nowhere/flows.json" in node.tail()
    ask(node)


def test_command_exports_what_is_new(node):
    path = node.dir / "command.json"

    def export(*argv):
        return node.towpath("flows", "--export", path, *argv)

    first = ask(node)
    wait_for(lambda: export("--type", "new") and first in ports(path))
    count = len(lines(path))
    second = ask(node)
    wait_for(lambda: export("--type", "new") and second in ports(path))
    got = ports(path)
    assert got.count(first) == got.count(second) == 1 and len(got) > count
    refused = node.towpath("flows", "--export", "/proc/nowhere/x", check=False)
    assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1
    wrong = node.towpath("flows", "--export", path, "--export-mb", "0", check=False)
    assert wrong.returncode == 2


def test_command_follows_into_rotated_files(node):
    path = node.dir / "follow.json"
    argv = ("flows", "-f", "--export", path, "--export-mb", "1", "--export-files", "1")
    following = subprocess.Popen(
        [binary("towpath"), *map(str, argv)], env=node.env(), stderr=subprocess.DEVNULL
    )
    try:
        assert wait_for(path.exists)
        # It follows from when the agent has heard of it, a moment after it made the file.
        asked = set()
        assert wait_for(lambda: asked.add(ask(node)) or asked & set(ports(path)))
        node.restart()
        newest = ask(node)
        assert wait_for(lambda: newest in ports(path))
    finally:
        following.kill()
        following.wait()
    assert ports(path).count(newest) == 1
