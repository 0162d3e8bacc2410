# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The agent is killed before each call by which attach, replace and detach change something. The next
one finds the program whole, the old one or the new one, or nothing of it."""

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile

import pytest
from node import REPO, Node
from program import attach_mode, build, chain, counted, counter, scratch
from traffic import udp_ask, wait_for

FOLDER = scratch()
SEED = int(os.environ.get("TOWPATH_SEED") or random.randrange(1 << 32))
STEPS = 4000  # instructions behind a call, at most


@pytest.fixture(scope="module")
def shop():
    with Node(prefix="twq") as node:
        # The constant is a map of its own, that must never be mixed up with the other version's.
        more = "const volatile int version = {};\n"
        body = "if (version != {}) return TC_ACT_SHOT;"
        node.objects = {
            name: build(FOLDER, counter(name, "tc", "TC_ACT_UNSPEC", body.format(i), more.format(i)))
            for i, name in ((1, "old"), (2, "fresh"))
        }
        yield node


def stored(node):
    with tempfile.TemporaryDirectory() as copy:
        for path in node.state_dir.glob("towpath.db*"):
            shutil.copy(path, copy)
        with contextlib.closing(sqlite3.connect(f"{copy}/towpath.db")) as link:
            return [row[0] for row in link.execute("SELECT json FROM programs")]


def whole(node):
    """None: nothing of it; else the version that is in force, in every respect."""
    top = node.run_dir / "bpf/programs"
    here = sorted(os.listdir(top))
    rows = node.api("GET", "/v1/programs")["items"]
    if not rows:
        assert not stored(node) and not here and chain(node.netns, "up0") == ["tw_from_uplink"]
        return None
    (row,), (record,) = rows, stored(node)
    assert row["state"] == "attached" and here == ["p"]
    link = ["link"] if attach_mode(node) == "tcx" else []
    assert sorted(os.listdir(top / "p")) == [*link, "maps", f"prog_{row['generation']}"]
    assert sorted(os.listdir(top / "p/maps")) == ["counts", "rodata"]
    assert chain(node.netns, "up0") == ["tw_from_uplink", row["program"]]
    assert row["generation"] in record
    return row["program"]


def tracer(node, *words):
    made = subprocess.Popen(
        [sys.executable, "-IS", str(REPO / "tests/system/killat.py"), str(node.agent.pid),
         *map(str, words)], stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert made.stdout.readline() == "ready\n"
    return made


OPERATIONS = {
    "attach": (lambda n: n.towpath("program", "attach", n.objects["old"], "--tc", "up0", "ingress",
                                   "--name", "p", check=False), None, "old"),
    "replace": (lambda n: n.towpath("program", "replace", "p", n.objects["fresh"], check=False),
                "old", "fresh"),
    "detach": (lambda n: n.towpath("program", "detach", "p", check=False), "fresh", None),
}  # fmt: skip


def prepare(node, state):
    """Makes that the state."""
    now = whole(node)
    if now == state:
        return
    if now:
        node.towpath("program", "detach", "p")
    if state:
        node.towpath("program", "attach", node.objects[state], "--tc", "up0", "ingress", "--name", "p")


BEYOND = 100000


def positions(n):
    """All of them, or as many as there is time for: the first, the last and some by chance; and one
    that is never reached, as other calls of the agent count, too: then it dies behind the last."""
    if os.environ.get("TOWPATH_FULL"):
        return [*range(1, n + 1), BEYOND]
    return sorted({1, n, BEYOND, *random.Random(SEED + n).sample(range(1, n + 1), 4)})


@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_at_every_write(shop, name):
    operation, before, after = OPERATIONS[name]
    prepare(shop, before)
    trace = tracer(shop, 0)
    assert operation(shop).returncode == 0
    trace.terminate()
    calls = trace.communicate(timeout=20)[0].split("\n")[:-1]
    assert whole(shop) == after and len(calls) > 5, calls
    seen = set()
    for position in positions(len(calls)):
        prepare(shop, before)
        trace = tracer(shop, position, (position * 977) % STEPS if position % 2 else 0)
        done = operation(shop)
        if shop.agent.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                trace.wait(0.05)
        shop.kill()
        said = trace.communicate(timeout=20)[0].strip()
        shop.start()
        where = f"seed {SEED}, {name}, {position} of {len(calls)}: {said}"
        # What has to be loaded or attached anew is, on a worker, once the agent serves.
        assert wait_for(lambda: all(row["state"] == "attached" for row in
                                    shop.api("GET", "/v1/programs")["items"]), 5), where  # fmt: skip
        try:
            now = whole(shop)
        except AssertionError as error:
            raise AssertionError(f"{where}: {error}") from error
        assert now in (before, after), where
        if done.returncode == 0:
            assert now == after, f"a confirmed {name} got lost; {where}"
        seen.add(now)
        if now:
            count = counted(shop, "p")
            assert udp_ask(shop, shop.outside, 4), where
            assert counted(shop, "p") > count
    assert before in seen, "before the first call nothing has happened"


def test_uninstall_takes_all_out(shop):
    prepare(shop, "old")
    shop.netns.ip("link add dummy3 type veth peer name dummy4")
    shop.towpath("program", "attach", build(FOLDER, counter("x", "xdp", "XDP_PASS")), "--xdp", "dummy3")
    assert shop.stop() == 0
    done = shop.netns.run(*shop.argv("--uninstall"))
    assert (done.returncode, done.stderr) == (0, "")
    assert wait_for(lambda: chain(shop.netns, "up0") == [] and chain(shop.netns, "dummy3", "xdp") == [])
    assert not os.path.ismount(shop.run_dir / "bpf")
