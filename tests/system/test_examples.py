# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""examples/: each is built as its README says and runs against traffic; each object also loads with
bpftool, tc and ip as it is."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time

import pytest
from netns import run
from node import REPO, binary
from program import Cgroup, pins, programs, scratch
from traffic import QUIET, bound, port_new, tcp_open, tcp_works, udp_ask, wait_for

EXAMPLES = REPO / "examples"
FOLDER = scratch()
SOURCES = sorted(EXAMPLES.glob("*/*.bpf.c"))


@pytest.fixture(scope="module")
def objects():
    made = {}
    for source in SOURCES:
        made[source.parent.name] = FOLDER / f"{source.name.removesuffix('.bpf.c')}.o"
        done = run(binary("towpath"), "program", "build", source, "-o", made[source.parent.name])
        assert done.stderr == "", "no warning"
    return made


@pytest.fixture
def attach(node):
    yield lambda *words: node.towpath("program", "attach", *words)
    for name in programs(node):
        node.towpath("program", "detach", name)
    assert pins(node) == []


@pytest.fixture(scope="module")
def pods(node):
    yield node.add_pod("shop", "web"), node.add_pod("shop", "db")


def dumped(node, name, what):
    """A map of an attached program, by its pin: [{key, value}]."""
    path = node.run_dir / "bpf/programs" / name / "maps" / what
    return json.loads(node.towpath("map", "dump", path, "--all", "-o", "json").stdout)


def rows(dump):
    return dump if isinstance(dump, list) else dump.get("entries", dump.get("items"))


def variable(node, name, what):
    (row,) = rows(dumped(node, name, "bss"))
    return row["value"][what]


# ---- each of them ----------------------------------------------------------------------------------


def test_packet_counter(node, outside, objects, attach, family):
    attach(objects["packet-counter"], "--tc", "up0", "ingress")
    for _ in range(3):
        assert udp_ask(node, outside, family)
    counts = {row["key"]: row["value"] for row in rows(dumped(node, "count", "counts"))}
    assert counts[17]["packets"] >= 3 and counts[17]["bytes"] >= 3 * 64


def test_drop_port(node, outside, objects, attach, family):
    assert tcp_works(outside, node, family, port=80)
    attach(objects["drop-port"], "--xdp", "up0")
    assert not tcp_works(outside, node, family, port=80, seconds=QUIET)
    assert tcp_works(outside, node, family, port=81)
    assert variable(node, "drop_port", "dropped") >= 1


def test_top_sources(node, outside, pods, objects, attach, family):
    web, db = pods
    attach(objects["top-sources"], "--endpoint", "shop/db", "ingress", "--name", "db-sources")
    for _ in range(20):
        assert udp_ask(web, db, family)
    with tcp_open(db, outside, family) as link:
        assert link.alive()
    pin = node.run_dir / "bpf/programs/db-sources/maps/sources"
    done = run(sys.executable, EXAMPLES / "top-sources/top.py", pin, "2")
    head, first, second = done.stdout.splitlines()
    assert head.split() == ["SOURCE", "PACKETS", "BYTES"]
    assert first.split()[0] == web.ip(family) and int(first.split()[1]) == 20
    assert second.split()[0] == outside.ip(family)


CONNECT = """
import socket
for port in (%d, %d):
    with socket.socket(socket.AF_INET%s, socket.SOCK_STREAM) as s:
        s.settimeout(2)
        try:
            s.connect(("%s", port))
            print("connected")
        except OSError as error:
            print(error.strerror)
"""


def test_firewall(node, outside, objects, attach, family):
    kind = {4: "connect4", 6: "connect6"}[family]
    port, other = port_new(), port_new()
    address = outside.ip(family)
    bits = {4: 96 + 24, 6: 64}[family]
    prefix = {4: "::ffff:198.51.100.0", 6: "fd00:51:100::"}[family]
    code = CONNECT % (port, other, {4: "", 6: "6"}[family], address)
    with Cgroup() as group, bound(outside, family, socket.SOCK_STREAM, port) as a, \
            bound(outside, family, socket.SOCK_STREAM, other) as b:  # fmt: skip
        a.listen()
        b.listen()
        attach(objects["firewall"], "--cgroup", group.path, kind)
        name = f"firewall_{kind}"
        refused = "Operation not permitted\n"
        assert group.python(node.netns, code).stdout == 2 * refused
        pin = node.run_dir / "bpf/programs" / name / "maps/allowed"
        key = json.dumps({"len": bits, "address": prefix})
        node.towpath("map", "set", pin, key, json.dumps({"port": port}))
        assert group.python(node.netns, code).stdout == "connected\n" + refused
        node.towpath("map", "set", pin, key, json.dumps({"port": 0}))
        assert group.python(node.netns, code).stdout == 2 * "connected\n"
        assert variable(node, name, "denied") == 3


TUNED = """
import socket
with socket.create_connection(("%s", %d), 2) as s:
    print(s.getsockopt(socket.IPPROTO_TCP, 13, 16).rstrip(b"\\0").decode(),
          s.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF))
"""


def test_tcp_tuning(node, outside, objects, attach, family):
    with Cgroup() as group, bound(outside, family, socket.SOCK_STREAM) as server:
        server.listen()
        code = TUNED % (outside.ip(family), server.getsockname()[1])
        attach(objects["tcp-tuning"], "--sockops", group.path)
        before = group.python(node.netns, code).stdout.split()
        pin = node.run_dir / "bpf/programs/tune/maps/profile"
        node.towpath("map", "set", pin, "0",
                     '{"congestion": "reno", "initial_window": 20, "send_buffer": 50000}')  # fmt: skip
        assert group.python(node.netns, code).stdout.split() == ["reno", "100000"] != before
        assert variable(node, "tune", "tuned") == 2 and variable(node, "tune", "failed") == 0
        node.towpath("map", "set", pin, "0", '{"congestion": "unheard"}')
        assert group.python(node.netns, code).stdout.split()[0] != "reno"
        assert variable(node, "tune", "failed") == 1


def test_tail_calls(node, outside, objects, attach, family):
    attach(objects["tail-calls"], "--xdp", "up0", "--program", "classify")

    def seen():
        return [row["value"] for row in rows(dumped(node, "classify", "seen"))]

    assert udp_ask(node, outside, family) and tcp_works(node, outside, family)
    tcp, udp, _ = seen()
    assert tcp >= 2 and udp >= 1
    # The chain outlives the agent and a replacement; the counts go on.
    node.restart()
    node.towpath("program", "replace", "classify", objects["tail-calls"], "--program", "classify")
    assert seen()[1] >= udp
    node.restart()
    before = seen()
    assert udp_ask(node, outside, family)
    assert seen()[1] > before[1]


def recorder_build():
    reader = FOLDER / "recorder"
    if not reader.exists():
        subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-o", reader,
                        EXAMPLES / "recorder/recorder.c", "-lbpf"], check=True)  # fmt: skip
    return reader


def packets_in(path):
    """By tshark where there is one; tcpdump reads pcapng as well."""
    shown = run("tcpdump", "-nn", "-tt", "-r", path).stdout.splitlines()
    if shutil.which("tshark"):
        by_tshark = run("tshark", "-n", "-r", path, "-T", "fields", "-e", "frame.time_epoch",
                        "-e", "frame.len", "-e", "udp.dstport").stdout.splitlines()  # fmt: skip
        assert len(by_tshark) == len(shown)
        return [(float(row.split()[0]), int(row.split()[1]), row.split()[2:]) for row in by_tshark]
    return [(float(row.split()[0]), None, re.findall(r"\.(\d+): UDP", row)) for row in shown]


def test_recorder(node, outside, pods, objects, attach, family, tmp_path):
    web, db = pods
    attach(objects["recorder"], "--endpoint", "shop/db", "ingress")
    pin = node.run_dir / "bpf/programs/record/maps/records"
    out = tmp_path / "out.pcapng"
    port = port_new()
    reader = node.background(node, recorder_build(), pin, out, "50")
    began = time.time()
    with web.netns.socket({4: socket.AF_INET, 6: socket.AF_INET6}[family], socket.SOCK_DGRAM) as mouth:
        for _ in range(60):
            mouth.sendto(b"x" * 300, (db.ip(family), port))
    assert reader.wait(20) == 0
    packets = packets_in(out)
    assert len(packets) == 50
    ours = [p for p in packets if str(port) in p[2]]
    assert len(ours) >= 40 and all(began - 5 < p[0] < time.time() + 5 for p in ours)
    if ours[0][1]:
        assert {p[1] for p in ours} == {300 + 8 + 14 + {4: 20, 6: 40}[family]}, "lengths, not what was kept"


def test_recorder_samples(node, pods, objects, attach):
    web, db = pods
    attach(objects["recorder"], "--endpoint", "shop/db", "ingress")
    node.towpath("map", "set", node.run_dir / "bpf/programs/record/maps/data", "0", '{"one_of": 1000000}')
    out = FOLDER / "few.pcapng"
    reader = node.background(node, recorder_build(), node.run_dir / "bpf/programs/record/maps/records", out)
    assert wait_for(lambda: out.exists() and out.stat().st_size)
    with web.netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
        for _ in range(200):
            mouth.sendto(b"x", (db.ip(4), 9))
    reader.terminate()
    assert reader.wait(20) == 0
    assert len(packets_in(out)) <= 3, "one of a million, by chance"


# ---- with other loaders ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({source.parent.name for source in SOURCES}))
def test_loads_with_bpftool(node, objects, name):
    folder = node.run_dir / "bpf/by-bpftool"
    run("bpftool", "prog", "loadall", objects[name], folder)
    try:
        assert os.listdir(folder)
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("name, section", (
    ("drop-port", "xdp"), ("packet-counter", "tc"), ("top-sources", "tc"), ("recorder", "tc"),
    ("library", "tc"),
))  # fmt: skip
def test_loads_with_ip_and_tc(node, objects, name, section):
    netns = node.netns
    netns.ip("link add dummy1 type veth peer name dummy2")
    try:
        if section == "xdp":
            netns.run("ip", "link", "set", "dev", "dummy1", "xdp", "obj", objects[name], "sec", "xdp")
            assert "prog/xdp" in netns.run("ip", "link", "show", "dummy1").stdout
        else:
            netns.run("tc", "qdisc", "add", "dev", "dummy1", "clsact")
            netns.run("tc", "filter", "add", "dev", "dummy1", "ingress", "bpf", "da", "obj",
                      objects[name], "sec", "tc")  # fmt: skip
            assert "direct-action" in netns.run("tc", "filter", "show", "dev", "dummy1", "ingress").stdout
    finally:
        netns.ip("link del dummy1")


def test_every_example_has_a_page():
    listed = (EXAMPLES / "README.md").read_text()
    for source in SOURCES:
        page = (source.parent / "README.md").read_text()
        assert f"]({source.parent.name})" in listed
        assert f"towpath program build {source.name}" in page
        assert "towpath program attach" in page and "Without Towpath's agent" in page
