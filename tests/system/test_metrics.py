# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Metrics for Prometheus: their form, what they say, who may ask, and the board made of them."""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from node import REPO, Node, policy_object
from traffic import tcp_works, wait_for

PORT = 9977
PROMTOOL = shutil.which("promtool", path=f"{os.environ['PATH']}:/usr/local/lib/towpath-test")
BOARD = REPO / "docs/guide/grafana.json"
ROW = re.compile(r'^([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)$')


@pytest.fixture(scope="module")
def node():
    with Node(options=("--metrics", str(PORT))) as made:
        made.web = made.add_pod("shop", "web", {"app": "web"})
        made.towpath("edge", "attach", "up0")
        made.towpath("edge", "deny", "203.0.113.0/24")
        yield made


def scrape(node, url=f"http://127.0.0.1:{PORT}/metrics", place=None):
    with place or node.netns, urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return answer.read().decode()


def rows(text):
    """{name: {labels: value}}"""
    out = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels, value = ROW.match(line).groups()
            pairs = re.findall(r'([a-z]+)="((?:[^"\\]|\\.)*)"', labels or "")
            out.setdefault(name, {})[tuple(sorted(pairs))] = float(value)
    return out


def one(node, name, **labels):
    return rows(scrape(node)).get(name, {}).get(tuple(sorted(labels.items())), 0)


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool: scripts/setup.sh gets it")
def test_promtool_finds_nothing_wrong(node):
    node.apply(policy_object("shop", "closed", {}, ingress=[]))
    node.outside.netns.run("ping", "-c", "1", "-W", "0.2", node.web.ip(4), check=False)
    node.delete(policy_object("shop", "closed"))
    text = wait_for(lambda: "policy_ingress" in (text := scrape(node)) and text, 20, 0.2)
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True,
                          text=True, timeout=30, check=False)  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_says_what_status_says(node):
    node.apply(policy_object("shop", "closed", {}, ingress=[]))
    node.outside.netns.run("ping", "-c", "2", "-i", "0.2", "-W", "0.3", node.web.ip(4), check=False)
    assert tcp_works(node.web, node.outside, 4)
    node.delete(policy_object("shop", "closed"))
    status = node.status()

    def current():
        got = rows(scrape(node))
        return got if got["towpath_objects"][("kind", "policies"),] == 0 else None

    time.sleep(0.6)  # the text is kept for half a second
    got = current()
    denied = {tuple(sorted({"reason": d["reason"], "hook": d["hook"]}.items())): d["packets"]
              for d in status["drops"] if d["hook"] != "kernel"}  # fmt: skip
    # The host's own neighbour discovery goes on meanwhile.
    dropped = got["towpath_dropped_packets_total"]
    assert denied and all(dropped[key] >= packets for key, packets in denied.items())
    assert node.drops("policy_ingress") == sum(
        packets for key, packets in dropped.items() if ("reason", "policy_ingress") in key
    )
    assert got["towpath_verdicts_total"][("verdict", "deny"),] >= 2
    assert got["towpath_verdicts_total"][("verdict", "allow"),] > 0
    assert got["towpath_flows_opened_total"][()] == status["counters"]["flows_opened"]
    for table in status["maps"]:
        assert got["towpath_map_max_entries"][("map", table["name"]),] == table["max"]
    assert got["towpath_endpoints"][()] == 1 and got["towpath_healthy"][()] == 1
    assert got["towpath_hooks"] == got["towpath_hooks_expected"] == {(): 2}
    memory = got["towpath_agent_resident_memory_bytes"][()]
    assert memory == pytest.approx(status["memory_kb"] * 1024, rel=0.3)
    assert got["towpath_start_time_seconds"][()] == pytest.approx(
        time.time() - status["uptime_s"], abs=3
    )


def test_changes_are_in_the_histogram(node):
    name = "towpath_policy_apply_duration_seconds"
    before = rows(scrape(node))
    node.apply(policy_object("shop", "one", {}, ingress=[]))
    node.delete(policy_object("shop", "one"))
    assert wait_for(lambda: one(node, f"{name}_count") == before[f"{name}_count"][()] + 2, 20, 0.2)
    got = rows(scrape(node))
    buckets = sorted((float(dict(k)["le"]), v) for k, v in got[f"{name}_bucket"].items())
    assert [v for _, v in buckets] == sorted(v for _, v in buckets)
    assert buckets[-1] == (float("inf"), got[f"{name}_count"][()])
    assert got[f"{name}_sum"][()] > before[f"{name}_sum"][()]


def test_health_is_told(node):
    node.netns.ip("link set up0 down")
    assert wait_for(lambda: one(node, "towpath_healthy") == 0, 20, 0.2)
    assert one(node, "towpath_uplink_up", uplink="up0") == 0
    node.netns.ip("link set up0 up")
    assert wait_for(lambda: one(node, "towpath_healthy") == 1, 20, 0.2)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    (("GET", "/", 404), ("GET", "/v1/status", 404), ("GET", "/metrics/", 404),
     ("POST", "/metrics", 405), ("DELETE", "/metrics", 405), ("PUT", "/v1/apply", 405),
     ("HEAD", "/metrics", 200), ("GET", "/metrics?x=1", 200)),
)  # fmt: skip
def test_nothing_else_is_there(node, method, path, status):
    with node.netns:
        link = http.client.HTTPConnection("127.0.0.1", PORT, timeout=20)
        link.request(method, path, body=b"x" if method in ("POST", "PUT") else None)
        assert link.getresponse().status == status
        link.close()


def test_only_the_node_itself_reaches_it(node):
    with pytest.raises(urllib.error.URLError):
        scrape(node, f"http://{node.ip(4)}:{PORT}/metrics", node.outside.netns)
    with pytest.raises(urllib.error.URLError):
        scrape(node, f"http://{node.ip(4)}:{PORT}/metrics", node.web.netns)


def test_who_connects_and_says_nothing_harms_nobody(node):
    with contextlib.ExitStack() as stack, node.netns:
        idle = [stack.enter_context(socket.socket()) for _ in range(20)]
        for sock in idle:
            sock.settimeout(5)
            sock.connect(("127.0.0.1", PORT))
        idle[0].setblocking(False)
        idle[0].send(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 10000)
        idle[1].sendall(b"\x16\x03\x01\x00\xff" * 1000)
        assert node.status()["health"]["ok"]
        # Their places are free again after two seconds each.
        assert wait_for(lambda: _answers(node), 40, 0.2)


def _answers(node):
    try:
        return "towpath_healthy" in scrape(node)
    except OSError:
        return False


def test_off_without_the_option_and_where_it_is_told(tmp_path):
    with Node() as node:
        listening = node.netns.run("ss", "-Hltn").stdout
        assert listening.strip() == ""
        node.stop()
        conf = tmp_path / "towpath.conf"
        conf.write_text("metrics = [::1]:9978\n")
        node.options = ["--config", str(conf)]
        node.start()
        assert "towpath_healthy 1" in scrape(node, "http://[::1]:9978/metrics")
        node.stop()
        node.options = ["--metrics", f"{node.ip(4)}:9979"]
        node.start()
        assert "towpath_healthy 1" in scrape(
            node, f"http://{node.ip(4)}:9979/metrics", node.outside.netns
        )


def test_a_port_that_is_taken_refuses_the_start():
    with Node(start=False) as node, node.netns.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", PORT))
        taken.listen()
        done = node.netns.run(*node.argv("--metrics", str(PORT)), check=False)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert f"{PORT}" in done.stderr and "--metrics" in done.stderr
        assert not any(node.run_dir.glob("bpf/maps")), "something was made"


def test_the_board_has_only_what_is_exported(node):
    board = json.loads(BOARD.read_text())
    got = rows(scrape(node))
    labels = {name: {key for row in found for key, _ in row} for name, found in got.items()}
    panels = board["panels"]
    assert len({p["id"] for p in panels}) == len(panels) > 8
    expressions = [t["expr"] for p in panels for t in p["targets"]]
    expressions += [v["query"]["query"] for v in board["templating"]["list"] if v["type"] == "query"]
    used = set()
    for text in expressions:
        names = re.findall(r"towpath_[a-z_]+", text)
        assert names, text
        used |= set(names)
        for name in names:
            assert name in got, f"{name} is not exported"
        by = {label for group in re.findall(r"by \(([a-z, ]+)\)", text) for label in group.split(", ")}
        assert by <= labels[names[0]], text
    # What the names stand for is on the board, too.
    for name in ("towpath_verdicts_total", "towpath_dropped_packets_total", "towpath_flows",
                 "towpath_map_entries", "towpath_agent_resident_memory_bytes",
                 "towpath_events_lost_total"):  # fmt: skip
        assert name in used


def test_the_guide_has_every_metric(node):
    guide = (REPO / "docs/guide/monitoring.md").read_text()
    told = set(re.findall(r"towpath_[a-z_]+", guide)) - {"towpath_policy_apply_duration_seconds"}
    got = {n for n in rows(scrape(node)) if not n.startswith("towpath_policy_apply_duration")}
    assert told == got
