# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Who is at a hook, in which order, and how often it runs: list, show, stats, --before and --after."""

import json
import os
import pty
import re
import signal
import socket
import threading
import time

import pytest
from netns import run
from node import binary
from program import Cgroup, attach_mode, build, chain, counter, pins, programs, scratch
from traffic import udp_ask, wait_for

FOLDER = scratch()


@pytest.fixture(scope="module")
def objects():
    return {
        "tc": build(FOLDER, counter()),
        "pass": build(FOLDER, counter("pass", "tc", "TC_ACT_OK"), "pass"),
        "xdp": build(FOLDER, counter("first", "xdp", "XDP_PASS"), "first"),
        "skb": build(FOLDER, counter("sockets", "cgroup_skb/egress", "1"), "sockets"),
    }


@pytest.fixture
def attach(node):
    yield lambda *words, check=True: node.towpath("program", "attach", *words, check=check)
    for name in programs(node):
        node.towpath("program", "detach", name)
    assert pins(node) == []


@pytest.fixture
def links(node):
    """For tests of the order of links; filters have test_program_clsact.py."""
    if attach_mode(node) != "tcx":
        pytest.skip("needs tcx, Linux 6.6")


def listed(node, *words):
    return json.loads(node.towpath("program", "list", *words, "-o", "json").stdout)["items"]


def brief(items):
    return [(r["where"], r["hook"], r["position"], r["program"], r["owner"]) for r in items]


# ---- list ------------------------------------------------------------------------------------------


def test_device_in_the_order_in_which_it_runs(node, links, objects, attach):
    attach(objects["tc"], "--tc", "up0", "ingress")
    attach(objects["xdp"], "--xdp", "up0")
    # Somebody else, by clsact and pinned, and one more by a process.
    run("bpftool", "prog", "load", objects["pass"], node.run_dir / "bpf/stranger")
    try:
        node.netns.run("tc", "qdisc", "add", "dev", "up0", "clsact")
        node.netns.run("tc", "filter", "add", "dev", "up0", "ingress", "prio", "7", "bpf", "da",
                       "object-pinned", node.run_dir / "bpf/stranger")  # fmt: skip
        items = listed(node, "--device", "up0")
        assert brief(items) == [
            ("up0", "xdp", 1, "first", "user"),
            ("up0", "tcx/ingress", 1, "tw_from_uplink", "towpath"),
            ("up0", "tcx/ingress", 2, "count", "user"),
            ("up0", "clsact/ingress", 1, "pass", "other"),
        ]
        assert items[3]["priority"] == 7 and items[3]["pins"] == [str(node.run_dir / "bpf/stranger")]
        assert items[0]["link_id"] and items[2]["name"] == "count"
        table = node.towpath("program", "list", "--device", "up0").stdout.splitlines()
        assert table[0].split() == ["WHERE", "HOOK", "#", "PROGRAM", "ID", "OWNER", "STATE"]
        assert table[3].split()[5:] == ["user:", "count", "attached"]
        assert table[4].split()[5] == str(node.run_dir / "bpf/stranger")
    finally:
        node.netns.run("tc", "qdisc", "del", "dev", "up0", "clsact", check=False)
        (node.run_dir / "bpf/stranger").unlink()


def test_container_cgroup_and_node(node, objects, attach):
    web = node.add_pod("shop", "web")
    with Cgroup() as above, Cgroup(f"{above.path.name}/below") as below:
        try:
            attach(objects["tc"], "--endpoint", "shop/web", "egress")
            attach(objects["skb"], "--cgroup", above.path, "egress")
            attach(objects["skb"], "--cgroup", below.path, "egress", "--name", "lower")
            inside = [("shop/web", f"{attach_mode(node)}/egress", 1, "count", "user")]
            assert brief(listed(node, "--endpoint", "shop/web")) == inside
            there = [r for r in listed(node, "--cgroup", below.path) if r["owner"] == "user"]
            assert [(r["name"], r["position"]) for r in there] in (
                [("lower", 1), ("sockets", 2)], [("sockets", 1), ("lower", 2)])  # fmt: skip
            everything = listed(node)
            assert set(inside) <= set(brief(everything))
            assert {"tw_from_container", "tw_to_container", "tw_from_uplink"} <= {
                r["program"] for r in everything if r["owner"] == "towpath"}  # fmt: skip
            own = {r["where"] for r in everything if r.get("name") in ("lower", "sockets")}
            assert own == {str(above.path), str(below.path)}
        finally:
            node.towpath("program", "detach", "lower", "sockets", "count", check=False)
            node.del_pod(web)


def test_what_waits_is_listed_behind(node, objects, attach):
    node.netns.ip("link add dummy5 type veth peer name dummy6")
    attach(objects["tc"], "--tc", "dummy5", "egress")
    node.netns.ip("link del dummy5")
    assert wait_for(lambda: listed(node)[-1].get("state") == "waiting", 5)
    assert "programs   0 of the user's attached, 1 waiting, 0 failed\n" in node.towpath("status").stdout
    last = listed(node)[-1]
    assert (last["where"], last["name"], last["position"]) == ("dummy5", "count", 0)
    text = node.towpath("program", "list").stdout.splitlines()[-1]
    assert text.endswith("waiting: there is no interface dummy5 on this node")


def test_show(node, objects, attach):
    attach(objects["tc"], "--tc", "up0", "ingress", "--name", "seen")
    shown = json.loads(node.towpath("program", "show", "seen", "-o", "json").stdout)
    top = node.run_dir / "bpf/programs/seen"
    assert shown["maps"] == [{"name": "counts", "pin": f"{top}/maps/counts",
                              "id": shown["maps"][0]["id"]}]  # fmt: skip
    assert (shown["program"], shown["hook"], shown["device"]) == ("count", "ingress", "up0")
    text = node.towpath("program", "show").stdout
    assert "where       up0 ingress\n" in text and f"pinned at {top}/maps/counts\n" in text
    done = node.towpath("program", "show", "none", check=False)
    assert (done.returncode, done.stderr) == (
        1, "towpath: there is no program none; see towpath program list\n")  # fmt: skip


# ---- order -----------------------------------------------------------------------------------------


def test_before_and_after_each_other(node, links, objects, attach):
    attach(objects["tc"], "--tc", "up0", "ingress", "--name", "a")
    attach(objects["pass"], "--tc", "up0", "ingress", "--name", "b")
    attach(objects["tc"], "--tc", "up0", "ingress", "--name", "c", "--before", "b")
    attach(objects["tc"], "--tc", "up0", "ingress", "--name", "d", "--after", "towpath")
    number = programs(node)["c"]["id"]
    attach(objects["tc"], "--tc", "up0", "ingress", "--name", "e", "--after", number)
    own = [r.get("name", r["program"]) for r in listed(node, "--device", "up0")]
    assert own == ["tw_from_uplink", "d", "a", "c", "e", "b"]
    # The order outlives a device that comes back; links are made anew, one after the other.
    node.kill()
    for name in "abcde":
        (node.run_dir / "bpf/programs" / name / "link").unlink()
    assert wait_for(lambda: chain(node.netns, "up0") == ["tw_from_uplink"])
    node.start()
    assert wait_for(lambda: len(listed(node, "--device", "up0")) == 6, 5)
    again = [r.get("name", r["program"]) for r in listed(node, "--device", "up0")]
    assert again == own


def test_before_towpath_only_when_it_is_meant(node, links, outside, objects, attach):
    for words in (("--before", "towpath"), ("--before", "--name=x"), ("--before", "nobody")):
        done = attach(objects["pass"], "--tc", "up0", "ingress", *words, check=False)
        assert done.returncode == 1 and done.stderr.count("\n") == 1
        assert chain(node.netns, "up0") == ["tw_from_uplink"] and pins(node) == []
    done = attach(objects["pass"], "--tc", "up0", "ingress", "--before", "towpath", check=False)
    assert "would run before Towpath's own program" in done.stderr
    assert "--allow-policy-bypass" in done.stderr
    attach(objects["pass"], "--tc", "up0", "ingress", "--before", "--allow-policy-bypass")
    assert chain(node.netns, "up0") == ["pass", "tw_from_uplink"]
    status = node.towpath("status", check=False).stdout
    assert "the program pass on up0 ingress runs before Towpath's own" in status
    assert [p["what"] for p in node.status()["health"]["problems"]] == ["policy_bypass"]
    # Towpath is attached anew, in front; who may bypass it gets there again.
    node.kill()
    for link in (node.run_dir / "bpf/links").glob("uplink_in_*"):
        link.unlink()
    node.start()
    assert wait_for(lambda: chain(node.netns, "up0") == ["pass", "tw_from_uplink"], 5)
    assert wait_for(lambda: node.status()["health"]["problems"], 5)
    node.towpath("program", "detach", "pass")
    assert not node.status()["health"]["problems"]


# ---- stats -----------------------------------------------------------------------------------------


class Datagrams:
    """Some hundred a second to the node, for as long as the block lasts."""

    def __init__(self, outside, node):
        self.mouth = outside.netns.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.to = (node.ip(4), 9)
        self.end = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.end.is_set():
            self.mouth.sendto(b"x", self.to)
            time.sleep(0.002)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_exc):
        self.end.set()
        self.thread.join()
        self.mouth.close()


def counting():
    with open("/proc/sys/kernel/bpf_stats_enabled", encoding="ascii") as file:
        return file.read().strip() == "1"


def test_stats(node, outside, objects, attach):
    attach(objects["tc"], "--tc", "up0", "ingress")
    with Datagrams(outside, node):
        done = node.towpath("program", "stats", "count", "--interval", "500ms", "-o", "json")
    row = json.loads(done.stdout)["items"][0]
    assert row["name"] == "count" and row["runs_s"] > 10 and row["ns_a_run"] > 1
    number = programs(node)["count"]["id"]

    def runs():
        shown = json.loads(run("bpftool", "-j", "prog", "show", "id", str(number)).stdout)
        return shown.get("run_cnt", 0)

    # The kernel counts no more when nobody asks.
    node.api("GET", "/v1/program-stats?hold=50")
    def rests():
        before = runs()
        assert udp_ask(node, outside, 4)
        return runs() == before

    if not counting():
        assert wait_for(rests, 10, step=0.2)
    done = node.towpath("program", "stats", "none", check=False)
    assert done.returncode == 1 and "there is no program none" in done.stderr


def test_stats_live(node, outside, objects, attach):
    attach(objects["tc"], "--tc", "up0", "ingress")
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(binary("towpath"), ["towpath", "program", "stats", "--interval", "100ms"],
                  {**node.env(), "TERM": "xterm"})  # fmt: skip
    seen = b""
    try:
        with Datagrams(outside, node):
            end = time.monotonic() + 10
            while seen.count(b"\x1b[H\x1b[2J") < 4 and time.monotonic() < end:
                seen += os.read(fd, 4096)
        os.write(fd, b"q")
        while True:
            try:
                more = os.read(fd, 4096)
            except OSError:
                break
            if not more:
                break
            seen += more
    finally:
        if os.waitpid(pid, os.WNOHANG)[0] == 0:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
        os.close(fd)
    assert seen.count(b"\x1b[H\x1b[2J") >= 4 and re.search(rb"count .* count ", seen)
    assert b"\x1b[?1049h" in seen and b"\x1b[?1049l" in seen
