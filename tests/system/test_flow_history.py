# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Flows are kept on disk: over restarts, within bounds, and never at the expense of the node."""

import contextlib
import json
import os
import socket
import sqlite3
import subprocess

import pytest
from node import Node
from traffic import bound, port_new, udp_ask, wait_for


@pytest.fixture(scope="module")
def node():
    with Node(prefix="twfh") as made:
        made.pods_made = made.add_pod("default", "a"), made.add_pod("default", "b")
        yield made


@pytest.fixture
def running(node):
    """The node with its agent as it is meant to be, however the last test left it."""
    yield node
    if node.agent.poll() is None:
        node.stop()
    node.options = []
    node.start()


def ask(node):
    port = port_new()
    assert udp_ask(*node.pods_made, 4, port)
    return port


def seen(node, port, **filters):
    found = node.flows(last=4294967295, type="new", **filters)
    return [e for e in found if "lost" not in e and e["to"]["port"] == port]


def history(node):
    return node.status()["flow_history"]


def test_history_survives_restart_and_kill(running):
    first = ask(running)
    (before,) = wait_for(lambda: seen(running, first))
    running.stop()
    running.start()
    (after,) = seen(running, first)
    assert after == before
    second = ask(running)
    (event,) = wait_for(lambda: seen(running, second))
    assert event["seq"] > before["seq"]
    wait_for(lambda: history(running)["kept"] >= 2)
    count = history(running)["kept"]
    running.kill()
    running.start()
    assert seen(running, first) == [before]
    assert history(running)["kept"] >= count
    # By the command: everything since then, the last ones, a stretch of time.
    out = running.towpath("flows", "--since", "1h", "-o", "json", "--type", "new").stdout
    ports = [json.loads(line)["to"]["port"] for line in out.splitlines()]
    assert first in ports
    out = running.towpath("flows", "--since", "2h", "--until", "1h", "-o", "json").stdout
    assert out == ""
    out = running.towpath("flows", "--last", "1", "-o", "json", "--port", first).stdout
    assert json.loads(out.splitlines()[-1])["to"]["port"] == first and len(out.splitlines()) == 1


def burst(node, flows):
    """That many flows, quickly: datagrams that nobody answers."""
    a, b = node.pods_made
    with bound(a, 4, socket.SOCK_DGRAM) as sock:
        for port in range(2000, 2000 + flows):
            sock.sendto(b"x", (b.ip(4), port))


def test_history_is_bounded_and_goes_on_where_memory_ends(running):
    running.stop()
    (running.state_dir / "flows.db").unlink(missing_ok=True)
    running.options = ["--flow-history", "900", "--flow-log", "500"]
    running.start()
    for _ in range(5):
        burst(running, 300)
        newest = ask(running)
        assert wait_for(lambda: seen(running, newest))
    assert wait_for(lambda: history(running)["kept"] == 900)
    events = running.flows(last=4294967295)
    numbers = [e["seq"] for e in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert 900 <= len(numbers) <= 900 + 500
    # The last of many that a filter lets pass are found in both places.
    assert len(running.flows(last=700, type="new")) == 700


def test_without_a_history_there_is_no_file(running):
    running.stop()
    (running.state_dir / "flows.db").unlink()
    running.options = ["--flow-history", "0"]
    running.start()
    port = ask(running)
    wait_for(lambda: seen(running, port))
    assert history(running) == {"kept": 0, "capacity": 0, "bytes": 0, "lost": 0, "failing": False}
    running.stop()
    running.start()
    assert seen(running, port) == []
    assert not (running.state_dir / "flows.db").exists()


def damaged(path):
    path.write_bytes(b"SQLite format 3\0" + os.urandom(8192))


def torn(path):
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)


def newer(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE meta SET value = 99")
        db.commit()


def foreign(path):
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE recipes(name)")
        db.commit()


@pytest.mark.parametrize("harm", (damaged, torn, newer, foreign))
def test_file_of_no_use_is_set_aside(running, harm):
    ask(running)
    running.stop()
    path = running.state_dir / "flows.db"
    for name in ("flows.db.aside", "flows.db-wal"):
        (running.state_dir / name).unlink(missing_ok=True)
    harm(path)
    running.start()
    port = ask(running)
    wait_for(lambda: "set aside as" in running.tail())
    assert (running.state_dir / "flows.db.aside").exists()
    wait_for(lambda: history(running)["kept"] >= 1 and not history(running)["failing"])
    running.stop()
    running.start()
    assert len(seen(running, port)) == 1


def test_full_disk_loses_history_and_no_flows(running):
    running.stop()
    # The state directory stays; only the history is on the small disk, by a link.
    small = running.dir / "small"
    small.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", small], check=True)
    try:
        path = running.state_dir / "flows.db"
        path.unlink(missing_ok=True)
        path.symlink_to(small / "flows.db")
        running.start()
        wait_for(lambda: ask(running) and history(running)["kept"] >= 1)
        (small / "ballast").write_bytes(b"x" * ((os.statvfs(small).f_bavail - 4) * 4096))

        def full():
            burst(running, 200)
            return history(running)["failing"]

        assert wait_for(full, 30, 0.2)
        assert "history" in {p["what"] for p in running.status()["health"]["problems"]}
        port = ask(running)
        assert wait_for(lambda: seen(running, port))
        assert "are not written to the history" in running.tail()
        lost = history(running)["lost"]
        assert lost > 0
        (small / "ballast").unlink()

        def mended():
            ask(running)
            return not history(running)["failing"]

        assert wait_for(mended, 30, 0.2)
        assert "written to the history again" in running.tail()
        running.stop()
        running.start()
        # What the disk did not get is told where it is missing.
        told = [e["lost"] for e in running.flows(last=4294967295) if "lost" in e]
        assert sum(told) >= lost
    finally:
        if running.agent.poll() is None:
            running.stop()
        path.unlink(missing_ok=True)
        subprocess.run(["umount", small], check=True)


def test_damage_under_way_costs_history_only(running):
    ask(running)
    wait_for(lambda: history(running)["kept"] >= 1)
    path = running.state_dir / "flows.db"
    (running.state_dir / "flows.db.aside").unlink(missing_ok=True)
    for name in ("flows.db", "flows.db-wal"):
        file = running.state_dir / name
        if file.exists():
            with open(file, "r+b") as out:
                out.write(os.urandom(max(file.stat().st_size, 4096)))

    def goes_on():
        ask(running)
        state = history(running)
        return not state["failing"] and state["kept"] >= 1

    assert wait_for(goes_on, 20, 0.3)
    port = ask(running)
    assert wait_for(lambda: seen(running, port))
    assert path.exists()
