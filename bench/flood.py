#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""`./bench.sh flood`: what is left of a web server under a SYN flood.

nginx in a namespace answers small requests, each over a connection of its own (new) or over 64 that
are open (kept), at half of the rate that the same server reaches without a flood. A generator that
has a core of its own sends 20 SYNs for each legitimate connection, with forged sources (forged) or
all from one address (fixed), or as many forged ones as that core can make (most); what is answered
to those is dropped at the far end, as the network would. Three servers take turns: plain Linux (its own SYN cookies, as it comes), nftables' synproxy, and Towpath's edge with
SYN cookies and a limit per source. The figure is what was answered within a second, as a ratio to the
same server's without the flood; the median of the rounds.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

REPO = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tests" / "system"))
sys.dont_write_bytecode = True


def parse():
    parser = argparse.ArgumentParser(
        prog="./bench.sh flood", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--build", default="build", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    parser.add_argument("--flood", type=float, default=20.0, help="SYNs for each connection")
    parser.add_argument("--core", type=int, default=0, help="of the generator")
    return parser.parse_args()


ARGS = parse()
os.environ["TOWPATH_BUILD"] = str((REPO / ARGS.build).resolve())

import packet  # noqa: E402
import webserver  # noqa: E402
from netns import Netns, cleanup_on_signals  # noqa: E402
from node import Node  # noqa: E402

BENCH = REPO / ARGS.build / "bench"
OTHER_CORE = (os.cpu_count() or 1) - 1 if ARGS.core == 0 else 0
PORT = 80
LOADS = ("new", "kept")
# Kinds of sources, and the SYNs a second for each connection; 0: all that can be had.
FLOODS = {"forged": ("forged", ARGS.flood), "fixed": ("fixed", ARGS.flood), "most": ("forged", 0)}
MOST = 1e8
GOAL = 0.8
ATTACKER = "198.51.100.66"

SYNPROXY = f"""
table ip flood {{
	chain early {{
		type filter hook prerouting priority raw;
		tcp dport {PORT} tcp flags syn notrack
	}}
	chain in {{
		type filter hook input priority filter;
		tcp dport {PORT} ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm
		tcp dport {PORT} ct state invalid drop
	}}
}}
"""


class Server:
    """A node with nginx, and a host outside: self.node; prepare() says what protects it."""

    name = "linux"
    title = "plain Linux"

    def __init__(self, node, folder):
        self.node, self.outside = node, node.outside
        self.address = node.ip(4)
        # Frames that XDP programs send to a veth wait until its device has NAPI.
        node.netns.run("ethtool", "-K", node.interface, "gro", "on")
        self.web = webserver.start(node.netns, folder, PORT, core=OTHER_CORE)
        self.sink = self.outside.netns.popen(
            BENCH / "flood_send", "sink", self.outside.interface, ATTACKER,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.sink.stdout.readline() == "ready\n"

    def prepare(self, rate):
        """The legitimate rate is known now."""

    def load(self, kind, rate, flood=None, flood_rate=0.0):
        """Answers a second of a load under a flood, and SYNs a second of that."""
        load = self.outside.netns.popen(
            "taskset", "-c", OTHER_CORE, BENCH / "flood_load", kind, self.address, PORT, rate,
            ARGS.seconds, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert load.stdout.readline() == "ready\n"
        sender = self.flood(flood, flood_rate) if flood else None
        if sender:
            time.sleep(0.5)
        out, _ = load.communicate("\n", timeout=60)
        done = json.loads(out)
        syns = 0
        if sender:
            sent = json.loads(sender.stdout.read())
            sender.wait()
            syns = sent["frames"] / sent["seconds"]
        return done["answered"] / done["seconds"], syns

    def flood(self, kind, rate):
        source = ATTACKER
        tcp = packet.tcp(source, self.address, 40000, PORT, packet.SYN)
        frame = packet.ether(self.node.netns.mac(self.node.interface),
                             self.outside.netns.mac(self.outside.interface),
                             packet.ip(source, self.address, packet.TCP, tcp))  # fmt: skip
        process = self.outside.netns.popen(
            "taskset", "-c", ARGS.core, BENCH / "flood_send", kind, self.outside.interface, rate,
            ARGS.seconds + 2, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        process.stdin.write(frame[:54].hex())
        process.stdin.close()
        return process

    def close(self):
        for process in (self.web, self.sink):
            process.kill()
            process.wait()


class Synproxy(Server):
    name = "synproxy"
    title = "nftables' synproxy"

    def prepare(self, rate):
        self.node.netns.sysctl("netfilter/nf_conntrack_tcp_loose", 0)
        self.node.netns.run("nft", "-f", "-", stdin=SYNPROXY)


class Towpath(Server):
    name = "towpath"
    title = "Towpath's edge"

    def prepare(self, rate):
        edge = self.node.towpath
        edge("edge", "attach", self.node.interface)
        # What a second brings without a flood is the listener's own.
        edge("edge", "limit", "cookies", f"{PORT}/tcp", "--above", f"{2 * int(rate)}/s")
        # A connection of this load is six packets.
        edge("edge", "limit", "add", "--per-source", "/32", "--packets", f"{12 * int(rate)}/s")


def measure(servers, rates):
    """One round, by (server, load, flood): ratio, answers under the flood and without, SYNs."""
    ratios = {}
    for load in LOADS:
        for server in servers:
            base, _ = server.load(load, rates[load])
            for flood, (kind, times) in FLOODS.items():
                syn_rate = times * rates["new"] or MOST
                got, syns = server.load(load, rates[load], kind, syn_rate)
                ratios[server.name, load, flood] = (got / base, got, base, syns)
    return ratios


def row(server, load, flood, rounds):
    values = [r[server.name, load, flood] for r in rounds]
    ratio = statistics.median(v[0] for v in values)
    goal = GOAL if server.name == "towpath" and flood != "most" else None
    return {
        "bench": "flood", "case": f"{server.name}_{load}_{flood}", "server": server.name,
        "load": load, "flood": flood, "ratio": round(ratio, 3),
        "answered": round(statistics.median(v[1] for v in values)),
        "without": round(statistics.median(v[2] for v in values)),
        "syns": round(statistics.median(v[3] for v in values)),
        "goal": goal, "met": goal is None or ratio >= goal,
    }  # fmt: skip


def show(rows, servers, rates):
    print(f"legitimate: {rates['new']:.0f} connections/s (new), or {rates['kept']:.0f} requests/s over "
          f"64 connections (kept)")  # fmt: skip
    print(f"{'SERVER':<20}{'LOAD':<6}{'FLOOD':<8}{'SYN/s':>10}{'ANSWERED/s':>12}{'WITHOUT':>9}"
          f"{'RATIO':>8}  GOAL")  # fmt: skip
    titles = {s.name: s.title for s in servers}
    for r in rows:
        goal = "" if r["goal"] is None else f">= {r['goal']}  {'met' if r['met'] else 'NOT MET'}"
        print(f"{titles[r['server']]:<20}{r['load']:<6}{r['flood']:<8}{r['syns']:>10}"
              f"{r['answered']:>12}{r['without']:>9}{r['ratio']:>8.3f}  {goal}".rstrip())  # fmt: skip


def main():
    cleanup_on_signals()
    if (os.cpu_count() or 1) < 2:
        sys.exit("bench flood: needs two CPUs: the generator has one of its own")
    with contextlib.ExitStack() as stack:
        servers = []
        for kind in (Server, Synproxy, Towpath):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            node = stack.enter_context(Node("fl", start=kind is Towpath))
            servers.append(kind(node, folder))
            stack.callback(servers[-1].close)
        # Half of what plain Linux reaches, for all three.
        rates = {load: servers[0].load(load, 0)[0] / 2 for load in LOADS}
        for server in servers:
            server.prepare(rates["new"])
        rounds = [measure(servers, rates) for _ in range(ARGS.rounds)]
    rows = [row(s, load, flood, rounds) for s in servers for load in LOADS for flood in FLOODS]
    if ARGS.json:
        for r in rows:
            print(json.dumps(r))
    else:
        show(rows, servers, rates)
    return 0 if all(r["met"] for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
