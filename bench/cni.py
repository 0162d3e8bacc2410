#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""`./bench.sh cni`: how long ADD and DEL take, beside the reference `bridge` plugin.

Both plugins are executed the same way (environment, configuration on stdin), each in a node's
namespace of its own, for the same containers' namespaces, which were made before. A time runs
from the exec to the plugin's end. The two take turns, many times, and neither works while the
other is measured.

Both give one IPv4 address, which is what the bridge plugin does most quickly; `--dual` gives
both an IPv6 address as well. The bridge is a gateway without ipMasq, its cheapest useful form: no
iptables.
"""

import argparse
import json
import os
import pathlib
import sys
import time

REPO = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tests" / "system"))
sys.dont_write_bytecode = True

REFERENCE = pathlib.Path("/usr/lib/cni")
GOAL = 1.0
ATTEMPT_SECONDS = 60.0


def parse():
    parser = argparse.ArgumentParser(prog="./bench.sh cni", description=__doc__)
    parser.add_argument("--build", default="build", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--rounds", type=int, default=10, help="turns of both (default 10)")
    parser.add_argument("--singles", type=int, default=20, help="one by one, each turn")
    parser.add_argument("--parallel", type=int, default=50, help="at once, each turn")
    parser.add_argument("--dual", action="store_true", help="IPv6 addresses too, on both sides")
    return parser.parse_args()


ARGS = parse()
os.environ["TOWPATH_BUILD"] = str((REPO / ARGS.build).resolve())

from netns import Netns, cleanup_on_signals  # noqa: E402
from node import Node, binary  # noqa: E402


class Plugin:
    """One side: a program, its configuration, the namespace that it is called in."""

    def __init__(self, path, config, netns, folder):
        self.path, self.netns = str(path), netns
        self.stdin = folder / "config.json"
        self.stdin.write_text(json.dumps(config))
        self.stdout = folder / "answer"
        self.times = {}

    def spawn(self, command, container, index):
        """The plugin, started. Output goes to a file for each, to be shown when it fails."""
        words = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": f"bench-{index}",
            "CNI_NETNS": container.path,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(REFERENCE),
        }
        out = f"{self.stdout}-{index}"
        make = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        return os.posix_spawn(
            self.path, [self.path], words,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, str(self.stdin), os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, out, make, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
        )  # fmt: skip

    def run(self, command, containers):
        """All of them at once; milliseconds of each."""
        started, times = {}, []
        with self.netns:
            for index, container in enumerate(containers):
                begin = time.monotonic()
                started[self.spawn(command, container, index)] = (index, begin)
            while started:
                pid, status = os.wait()
                if pid not in started:
                    continue
                index, begin = started.pop(pid)
                times.append((time.monotonic() - begin) * 1000)
                if status:
                    text = pathlib.Path(f"{self.stdout}-{index}").read_text()
                    raise RuntimeError(f"{self.path} {command} failed: {text.strip()}")
        return times

    def turn(self, containers, suffix):
        for command in ("ADD", "DEL"):
            settle(self.netns)
            rows = self.run(command, containers)
            self.times.setdefault(command.lower() + suffix, []).extend(rows)


def settle(netns):
    """Waits until the kernel has nothing left to do for what went before: the lock of all
    interfaces is free and deletions that were put off are done."""
    quick = 0
    end = time.monotonic() + ATTEMPT_SECONDS
    while quick < 3 and time.monotonic() < end:
        begin = time.monotonic()
        netns.ip("link set lo up")
        quick = quick + 1 if time.monotonic() - begin < 0.1 else 0


def bridge_config(folder):
    ranges = [[{"subnet": "10.77.0.0/16"}]]
    if ARGS.dual:
        ranges.append([{"subnet": "fd00:77::/64"}])
    return {
        "cniVersion": "1.0.0",
        "name": "reference",
        "type": "bridge",
        "bridge": "bench0",
        "isGateway": True,
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "dataDir": str(folder / "host-local"),
            "ranges": ranges,
            "routes": [{"dst": "0.0.0.0/0"}] + ([{"dst": "::/0"}] if ARGS.dual else []),
        },
    }


def percentile(values, part):
    rows = sorted(values)
    return rows[min(len(rows) - 1, int(len(rows) * part))]


def show(case, ours, theirs):
    ratio = ours / theirs
    if ARGS.json:
        row = {"case": case, "ours": round(ours, 2), "theirs": round(theirs, 2),
               "unit": "ms", "ratio": round(ratio, 3), "goal": GOAL, "met": ratio <= GOAL}  # fmt: skip
        print(json.dumps(row), flush=True)
        return
    verdict = "met" if ratio <= GOAL else "missed"
    print(f"{case:20} {ours:9.1f} {theirs:9.1f} {ratio:7.2f}   {verdict}", flush=True)


def report(ours, theirs):
    if not ARGS.json:
        families = "IPv4 and IPv6" if ARGS.dual else "IPv4"
        print(f"{families}; ms, {len(ours.times['add'])} runs one by one, "
              f"{len(ours.times['add_parallel'])} in groups of {ARGS.parallel}\n")  # fmt: skip
        print(f"{'case':20} {'ours':>9} {'bridge':>9} {'ratio':>7}   goal: at most {GOAL}")
    for suffix in ("", "_parallel"):
        for command in ("add", "del"):
            rows = [side.times[command + suffix] for side in (ours, theirs)]
            for name, part in (("p50", 0.5), ("p99", 0.99)):
                show(f"{command}_{name}{suffix}", *(percentile(r, part) for r in rows))


def main():
    cleanup_on_signals()
    if not (REFERENCE / "bridge").exists():
        sys.exit("bench cni: there is no /usr/lib/cni/bridge: install containernetworking-plugins")
    with Node("bench") as node:
        sides = []
        for name in ("ours", "theirs"):
            folder = node.dir / name
            folder.mkdir()
            sides.append(folder)
        subnets = {} if ARGS.dual else {"subnets": ["10.76.0.0/16"]}
        ours = Plugin(binary("towpath-cni"), node.cni_config(**subnets), node.netns, sides[0])
        bridge_node = Netns("benchb")
        theirs = Plugin(REFERENCE / "bridge", bridge_config(sides[1]), bridge_node, sides[1])
        containers = [Netns("benchc") for _ in range(max(ARGS.parallel, 1))]
        for side in (ours, theirs):  # what only the first run does: the bridge, page cache
            side.turn(containers[:1], "_warm")
        for _ in range(ARGS.rounds):
            for single in range(ARGS.singles):
                for side in (ours, theirs):
                    side.turn([containers[single % len(containers)]], "")
            for side in (ours, theirs):
                side.turn(containers, "_parallel")
        report(ours, theirs)
        for netns in (*containers, bridge_node):
            netns.delete()


if __name__ == "__main__":
    main()
