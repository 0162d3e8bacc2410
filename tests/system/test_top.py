# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""`towpath top`: counters of live flows, by flow, endpoint and policy; rates between two looks."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time

import pytest
from node import Node, binary, policy_object
from traffic import bound, port_new, wait_for

SIZE = 1000


@pytest.fixture(scope="module")
def node():
    with Node() as made:
        made.web = made.add_pod("shop", "web", {"app": "web"})
        made.db = made.add_pod("shop", "db", {"app": "db"})
        made.spy = made.add_pod("other", "spy", {"app": "spy"})
        made.apply(
            policy_object("shop", "web-to-db", {"matchLabels": {"app": "db"}},
                          ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}])
        )  # fmt: skip
        yield made


def top(node, what="flows", **query):
    words = "".join(f"&{key}={value}" for key, value in query.items())
    return node.api("GET", f"/v1/top?what={what}{words}")


def look(node):
    """What is new from now on is new: a period that has just begun is not cut short."""
    assert wait_for(lambda: not 0 < top(node)["seconds"] < 0.5, 5, 0.1)


class Stream:
    """UDP between two places: so many packets there, and for each some of them back."""

    def __init__(self, there, here, family, port=None):
        self.family, self.there, self.here = family, there, here
        self.port = port or port_new()
        self.server = bound(here, family, socket.SOCK_DGRAM, self.port)
        self.client = bound(there, family, socket.SOCK_DGRAM, port_new())
        self.server.settimeout(5)
        self.client.settimeout(5)

    def send(self, packets, answers=0):
        for number in range(packets):
            self.client.sendto(b"x" * SIZE, (self.here.ip(self.family), self.port))
            _, peer = self.server.recvfrom(2000)
            if number < answers:
                self.server.sendto(b"y", peer)
                self.client.recvfrom(2000)

    def close(self):
        self.server.close()
        self.client.close()


def flow_of(answer, port):
    return next((f for f in answer["items"] if f["to"].get("port") == port), None)


@pytest.mark.parametrize("where", ("local", "translated"))
def test_a_flow_has_both_directions(node, family, where):
    there = node.db if where == "local" else node.outside
    stream = Stream(node.web, there, family)
    stream.send(7, answers=3)
    flow = flow_of(top(node, n=200), stream.port)
    overhead = 28 if family == 4 else 48
    assert flow["sent"] == {"packets": 7, "bytes": 7 * (SIZE + overhead)}
    assert flow["received"] == {"packets": 3, "bytes": 3 * (1 + overhead)}
    assert flow["packets"] == 10 and flow["state"] == "open" and flow["proto"] == "udp"
    assert (flow["from"]["namespace"], flow["from"]["pod"]) == ("shop", "web")
    # Before any translation.
    assert flow["from"]["ip"] == node.web.ip(family) and flow["to"]["ip"] == there.ip(family)
    assert flow["to"]["what"] == ("pod" if where == "local" else "world")
    stream.close()


def test_rates_are_between_two_looks(node, family):
    quiet, busy = (Stream(node.web, node.outside, family) for _ in range(2))
    quiet.send(200)
    look(node)
    begun = time.monotonic()
    busy.send(50, answers=50)
    wait_for(lambda: time.monotonic() - begun > 0.6, 5, 0.05)  # what a period is at least
    answer = top(node, n=200)
    assert answer["seconds"] >= 0.5
    first = answer["items"][0]
    assert first["to"]["port"] == busy.port, "the busiest now, not the one that was before"
    assert first["packets_s"] * answer["seconds"] == pytest.approx(100)
    assert flow_of(answer, quiet.port)["packets_s"] == 0
    assert answer["packets_s"] * answer["seconds"] >= 100 - 1e-6
    assert len(top(node, n=1)["items"]) == 1
    quiet.close()
    busy.close()


def test_endpoints_have_what_their_flows_carry(node, family):
    before = {e["pod"]: e for e in top(node, "endpoints")["items"]}
    streams = [Stream(node.web, node.db, family), Stream(node.spy, node.outside, family)]
    streams[0].send(20, answers=5)
    streams[1].send(4)
    after = {e["pod"]: e for e in top(node, "endpoints")["items"]}
    assert set(after) == {"web", "db", "spy"}

    def grown(pod, direction):
        return after[pod][direction]["packets"] - before[pod][direction]["packets"]

    assert (grown("web", "sent"), grown("web", "received")) == (20, 5)
    assert (grown("db", "sent"), grown("db", "received")) == (5, 20)
    assert (grown("spy", "sent"), grown("spy", "received")) == (4, 0)
    assert after["web"]["flows"] == before["web"]["flows"] + 1
    assert {e["pod"] for e in top(node, "endpoints", namespace="other")["items"]} == {"spy"}
    flows = top(node, "flows", namespace="other", n=200)["items"]
    assert flows and all("other" in (f["from"].get("namespace"), f["to"].get("namespace"))
                         for f in flows)  # fmt: skip
    for stream in streams:
        stream.close()


def test_policies_and_drops(node, family):
    allowed = Stream(node.web, node.db, family)
    look(node)
    allowed.send(30)
    denied = bound(node.spy, family, socket.SOCK_DGRAM, port_new())
    for _ in range(5):
        denied.sendto(b"?", (node.db.ip(family), allowed.port))
    denied.close()
    # A drop's count beyond the first is told when its second is over.
    seen = {}

    def told():
        for what in ("policies", "endpoints", "flows"):
            for item in top(node, what, sort="drops")["items"]:
                name = (what, item.get("name") or item.get("pod") or item["from"].get("pod"))
                # What is new in each answer, until all of it came.
                seen[name] = max(seen.get(name, 0), item["drops"])
        return all(seen.get(key, 0) >= 1 for key in
                   (("policies", "web-to-db"), ("endpoints", "spy"), ("endpoints", "db"),
                    ("flows", "spy")))  # fmt: skip

    assert wait_for(told, 15, 0.05), seen
    answer = top(node, "policies", sort="packets")
    (item,) = [i for i in answer["items"] if i["name"] == "web-to-db"]
    assert item["namespace"] == "shop" and item["flows"] >= 1 and item["packets"] >= 30
    assert 0 < answer["share"] <= 1
    allowed.close()


@pytest.mark.parametrize("query", ("what=cats", "sort=age", "n=0", "n=257", "n=x",
                                   "namespace=" + "x" * 64))  # fmt: skip
def test_questions_that_are_none(node, query):
    with pytest.raises(Exception, match="400"):
        node.api("GET", f"/v1/top?{query}")


def test_many_ask_at_once_and_some_leave(node):
    links = []
    for number in range(40):
        link = socket.socket(socket.AF_UNIX)
        link.connect(node.socket)
        link.sendall(b"GET /v1/top HTTP/1.1\r\nHost: x\r\n\r\n")
        if number % 2:
            link.close()
        else:
            links.append(link)
    answers = [link.recv(12) for link in links]
    assert set(answers) <= {b"HTTP/1.1 200", b"HTTP/1.1 503"} and b"HTTP/1.1 200" in answers
    for link in links:
        link.close()
    assert top(node)["items"] is not None


def test_the_agent_stops_while_somebody_asks(node):
    link = socket.socket(socket.AF_UNIX)
    link.connect(node.socket)
    link.sendall(b"GET /v1/top HTTP/1.1\r\nHost: x\r\n\r\n")
    assert node.stop() == 0
    link.close()
    node.start()


# ---- the command ------------------------------------------------------------------------------


def test_one_table_when_it_is_no_terminal(node):
    stream = Stream(node.web, node.db, 4)
    stream.send(3)
    for what in ("flows", "endpoints", "policies"):
        out = node.towpath("top", what, "--interval", "500ms").stdout
        head, empty, heads, *rest = out.splitlines()
        assert head.startswith(f"{what} by packets: ") and not empty and "PACKETS/S" in heads
        assert "\033" not in out
    assert f"shop/db:{stream.port}" in node.towpath("top", "-r", "200", "--interval", "500ms").stdout
    answer = json.loads(node.towpath("top", "--interval", "500ms", "-o", "json").stdout)
    assert answer["seconds"] >= 0.5 and isinstance(answer["items"], list)
    stream.close()


def test_live_it_is_refreshed_in_place_and_leaves_the_terminal_as_it_was(node):
    main, child = pty.openpty()
    subprocess.run(["stty", "rows", "24", "cols", "120"], stdin=child, check=True)
    before = subprocess.run(["stty", "-g"], stdin=child, capture_output=True, check=True).stdout
    process = subprocess.Popen([binary("towpath"), "top", "--interval", "500ms"], stdin=child,
                               stdout=child, stderr=child, env=node.env(TERM="xterm"))  # fmt: skip
    text = ""

    def shown(pattern, seconds=20):
        nonlocal text
        end = time.monotonic() + seconds
        while not re.search(pattern, text) and time.monotonic() < end:
            if select.select([main], [], [], 0.2)[0]:
                text += os.read(main, 65536).decode()
        return re.search(pattern, text)

    try:
        assert shown(r"flows by packets(.|\n)*\033\[H\033\[2J(.|\n)*flows by packets")
        text = ""
        os.write(main, b"e")
        assert shown("endpoints by packets"), text
        os.write(main, b"b")
        assert shown("endpoints by bytes")
        frame = text.split("\033[2J")[-1]
        assert len(frame.splitlines()) <= 24
        os.write(main, b"q")
        assert shown(re.escape("\033[?1049l"))
        assert process.wait(20) == 0
        after = subprocess.run(["stty", "-g"], stdin=child, capture_output=True, check=True).stdout
        assert after == before
        # The same when it is told to stop.
        process = subprocess.Popen([binary("towpath"), "top"], stdin=child, stdout=child,
                                   stderr=child, env=node.env(TERM="xterm"))  # fmt: skip
        text = ""
        assert shown("flows by packets")
        process.send_signal(signal.SIGTERM)
        assert shown(re.escape("\033[?1049l")) and process.wait(20) == 0
        after = subprocess.run(["stty", "-g"], stdin=child, capture_output=True, check=True).stdout
        assert after == before
        # An agent that goes away is told of on the screen that stays.
        process = subprocess.Popen([binary("towpath"), "top"], stdin=child, stdout=child,
                                   stderr=child, env=node.env(TERM="xterm"))  # fmt: skip
        text = ""
        assert shown("flows by packets")
        node.stop()
        assert shown(re.escape("\033[?1049l") + "(.|\n)*towpathd") and process.wait(20) == 1
        node.start()
    finally:
        process.kill()
        process.wait()
        os.close(main)
        os.close(child)
