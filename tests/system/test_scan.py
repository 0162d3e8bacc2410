# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""I10: a container that scans all ports fills no table and ends nothing of its neighbours'.
What it costs them beside plain routing: `./bench.sh scan`."""

import json
import os
import pathlib

import packet
import pytest
from traffic import tcp_open, tcp_works, wait_for

# A scanner fills a CPU.
pytestmark = pytest.mark.alone
GATEWAY = "02:54:57:00:00:01"
BUILD = pathlib.Path(__file__).resolve().parents[2] / os.environ.get("TOWPATH_BUILD", "build")
ROUNDS = 8 if os.environ.get("TOWPATH_FULL") else 2  # times 65 536 ports
RATE = 20000  # new flows a second that the agent gives an endpoint


@pytest.fixture(scope="module")
def pods(node):
    return {name: node.add_pod("shop", name) for name in ("scanner", "target", "client", "server")}


def scan_start(pods, proto):
    src, dst = pods["scanner"].ip(4), pods["target"].ip(4)
    if proto == packet.TCP:
        body, check = packet.tcp(src, dst, 40000, 0, packet.SYN), 50
    else:
        body, check = packet.udp(src, dst, 40000, 0, b"scan"), 40
    netns = pods["scanner"].netns
    frame = packet.ether(GATEWAY, netns.mac("eth0"), packet.ip(src, dst, proto, body))
    return netns.popen(
        BUILD / "bench" / "scan_send", "eth0", 60, check, ROUNDS,
        stdin=-1, stdout=-1, text=True,
    ), frame.hex()  # fmt: skip


def table(node):
    fill = next(m for m in node.status()["maps"] if m["name"] == "tw_flow4")
    return fill["used"], fill["max"]


@pytest.mark.parametrize("proto", (packet.TCP, packet.UDP), ids=("tcp", "udp"))
def test_I10_a_scan_disturbs_no_neighbour(node, pods, proto):
    refused = node.drops("new_flow_rate") + node.drops("flow_cap")
    with tcp_open(pods["client"], pods["server"], 4) as link:
        scan, frame = scan_start(pods, proto)
        scan.stdin.write(frame)
        scan.stdin.close()
        opened = 0
        while scan.poll() is None:
            assert link.alive(10.0)
            assert tcp_works(pods["client"], pods["server"], 4, seconds=10.0)
            opened += 1
        sent = json.loads(scan.stdout.read())
        assert link.alive(10.0)
    assert sent["frames"] == ROUNDS * 65536
    assert opened
    used, most = table(node)
    # The bucket's fill at first, and what came into it since.
    assert used <= RATE * (sent["seconds"] + 2) + 1000
    assert used < most / 2
    assert node.drops("flow_table_full") == 0
    # Faster than the limit lets through: then it was the limit that held.
    if sent["frames"] / sent["seconds"] > 2 * RATE and sent["seconds"] > 1.5:
        assert wait_for(
            lambda: node.drops("new_flow_rate") + node.drops("flow_cap") > refused, 5.0
        )
