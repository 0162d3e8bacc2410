#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""`./bench.sh scan`: what a port scan costs the scanner's neighbours.

A container sends to all 65 536 ports of another one, over and over and as fast as one pinned
core makes it, TCP SYNs or UDP. Meanwhile a third asks a fourth: over one established
connection, and with a new connection each time, both on another core. The same on a node of plain routing. Both
sides take turns in each round; a figure is the median of the rounds, a ratio (ours / theirs)
the median of the ratios within a round.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

REPO = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tests" / "system"))
sys.dont_write_bytecode = True


def parse():
    parser = argparse.ArgumentParser(
        prog="./bench.sh scan", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--build", default="build", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--core", type=int, default=os.cpu_count() - 1, help="of the scanner")
    return parser.parse_args()


ARGS = parse()
os.environ["TOWPATH_BUILD"] = str((REPO / ARGS.build).resolve())

import packet  # noqa: E402
from netns import Netns, cleanup_on_signals  # noqa: E402
from node import Node  # noqa: E402

BENCH = REPO / ARGS.build / "bench"
PORT = 5201
# The neighbours' processes: else the scheduler's choice of core is all that is measured.
OTHER_CORE = 0 if ARGS.core else (os.cpu_count() or 1) - 1
ENDS = ("scanner", "target", "client", "server")
# What is scanned with: the transport, and where its checksum is in the frame.
SCANS = {"none": None, "tcp": (packet.TCP, 50), "udp": (packet.UDP, 40)}
METRICS = {
    "requests": ("1/s", "asked over one connection"),
    "p50": ("us", "of those answers"),
    "p99": ("us", "of those answers"),
    "connections": ("1/s", "opened, asked, closed"),
    "scan_rate": ("1/s", "frames that the scanner sent"),
}


class Side:
    """Four containers; self.netns and self.address by name."""

    def __init__(self):
        self.netns, self.address, self.server = {}, {}, None

    def serve(self):
        netns = self.netns["server"]
        self.server = netns.popen("taskset", "-c", OTHER_CORE, BENCH / "ends", "serve", PORT)
        end = time.monotonic() + 10
        while not netns.run("ss", "-Hltn", f"sport = {PORT}").stdout.strip():
            if time.monotonic() > end:
                raise RuntimeError("the server does not listen")
            time.sleep(0.02)

    def gateway(self):
        """The MAC that the scanner sends to."""
        raise NotImplementedError

    def scan(self, proto, check, seconds):
        src, dst = self.address["scanner"], self.address["target"]
        body = packet.tcp(src, dst, 40000, 0, packet.SYN) if proto == packet.TCP else packet.udp(
            src, dst, 40000, 0, b"scan")  # fmt: skip
        frame = packet.ether(self.gateway(), self.netns["scanner"].mac("eth0"),
                             packet.ip(src, dst, proto, body))  # fmt: skip
        process = self.netns["scanner"].popen(
            "taskset", "-c", ARGS.core, BENCH / "scan_send", "eth0", seconds, check,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        process.stdin.write(frame.hex())
        process.stdin.close()
        return process

    def ask(self, what):
        done = self.netns["client"].run(
            "taskset", "-c", OTHER_CORE, BENCH / "ends", what, self.address["server"], PORT,
            ARGS.seconds, timeout=120,
        )  # fmt: skip
        return json.loads(done.stdout)

    def measure(self, scan):
        """Metrics under one kind of scan."""
        process = None
        if scan:
            process = self.scan(*scan, 2 * ARGS.seconds + 1)
            time.sleep(0.2)
        asked, opened = self.ask("ask"), self.ask("connect")
        values = {
            "requests": asked["count"] / asked["seconds"], "p50": asked["p50_us"],
            "p99": asked["p99_us"], "connections": opened["count"] / opened["seconds"],
        }  # fmt: skip
        if process:
            sent = json.loads(process.stdout.read())
            process.wait()
            values["scan_rate"] = sent["frames"] / sent["seconds"]
        return values

    def close(self):
        if self.server:
            self.server.kill()
            self.server.wait()


class Towpath(Side):
    def __init__(self):
        super().__init__()
        self.node = Node("bsc")
        for name in ENDS:
            pod = self.node.add_pod("default", name)
            self.netns[name], self.address[name] = pod.netns, pod.ip(4)

    def gateway(self):
        return "02:54:57:00:00:01"

    def close(self):
        super().close()
        self.node.close()


class Routed(Side):
    def __init__(self):
        super().__init__()
        self.router = Netns("bscr")
        for number, name in enumerate(ENDS):
            end = self.netns[name] = Netns(f"bsc{name[0]}")
            self.address[name] = f"10.77.{number}.2"
            self.router.ip(
                f"link add c{number} address 02:00:00:00:00:{number:02x} type veth "
                f"peer name eth0 netns {end.name}",
                f"addr add 10.77.{number}.1/24 dev c{number}", f"link set c{number} up",
            )  # fmt: skip
            end.ip(f"addr add 10.77.{number}.2/24 dev eth0", "link set eth0 up",
                   f"route add default via 10.77.{number}.1")  # fmt: skip
        self.router.sysctl("ipv4/ip_forward", 1)

    def gateway(self):
        return "02:00:00:00:00:00"

    def close(self):
        super().close()
        for netns in (*self.netns.values(), self.router):
            netns.delete()


def show(case, metric, ours, theirs):
    pairs = [a / b for a, b in zip(ours, theirs) if b]
    row = {
        "case": f"{metric}_{case}", "unit": METRICS[metric][0],
        "ours": round(statistics.median(ours), 1), "theirs": round(statistics.median(theirs), 1),
        "ratio": round(statistics.median(pairs), 3) if pairs else None, "note": METRICS[metric][1],
    }  # fmt: skip
    if ARGS.json:
        print(json.dumps(row), flush=True)
    else:
        print(f"{row['case']:24} {row['ours']:>12} {row['theirs']:>12} {row['unit']:4} "
              f"{row['ratio'] or '':>7}  {row['note']}", flush=True)  # fmt: skip


def flows_held(node):
    return {m["name"]: m["used"] for m in node.status()["maps"] if m["name"].startswith("tw_flow")}


def main():
    cleanup_on_signals()
    sides = {"towpath": Towpath(), "plain": Routed()}
    got = {}
    try:
        for side in sides.values():
            side.serve()
        for number in range(ARGS.rounds):
            order = list(sides) if number % 2 else list(reversed(sides))
            for scan, how in SCANS.items():
                for name in order:
                    for metric, value in sides[name].measure(how).items():
                        got.setdefault((scan, metric), {}).setdefault(name, []).append(value)
        if not ARGS.json:
            print(f"{'case':24} {'ours':>12} {'plain':>12} {'':4} {'ratio':>7}")
        for (scan, metric), values in got.items():
            show(f"scan_{scan}", metric, values["towpath"], values["plain"])
        held, drops = flows_held(sides["towpath"].node), sides["towpath"].node.drops()
        print(f"bench scan: flows held at the end {held}, dropped {drops}", file=sys.stderr)
    finally:
        for side in sides.values():
            side.close()


if __name__ == "__main__":
    main()
