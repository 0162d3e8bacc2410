#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""`./bench.sh edge --traffic`: what is dropped of real frames, and what is left of the core.

One core makes XDP live frames from 100 000 sources and sends them over a veth as fast as it can;
another one receives them in a kernel thread of its own. What drops them there takes turns in each
round: an empty XDP program, one that looks at the source address, Towpath's edge, nftables at the
device's ingress, iptables in the raw table with an ipset, iptables with 1 000 rules. A figure is
the median of the rounds, a ratio the median of the ratios within a round.
"""

import argparse
import json
import os
import pathlib
import random
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
        prog="./bench.sh edge --traffic", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--build", default="build", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    return parser.parse_args()


ARGS = parse()
os.environ["TOWPATH_BUILD"] = str((REPO / ARGS.build).resolve())

from netns import Netns, cleanup_on_signals, cleanup_pop, cleanup_push, run  # noqa: E402
from node import binary  # noqa: E402

SENDER_CORE, RECEIVER_CORE = 0, (os.cpu_count() or 1) - 1
LISTED, RULES = 100_000, 1_000


class Ends:
    """Two namespaces and a veth; the receiving end has a thread of its own on its own core."""

    def __init__(self):
        self.sender, self.receiver = Netns("twbs"), Netns("twbr")
        self.sender.ip(f"link add s0 type veth peer name r0 netns {self.receiver.name}")
        self.sender.ip("link set s0 up", "addr add 192.0.2.1/24 dev s0")
        self.receiver.ip("link set r0 up", "addr add 192.0.2.2/24 dev r0")
        # Without either of these veth does not poll, and takes no frame that is redirected to it.
        self.receiver.run("ethtool", "-K", "r0", "gro", "on")
        # A sysfs of that namespace shows its devices.
        self.receiver.run("unshare", "-m", "sh", "-c",
                          "mount -t sysfs none /sys && echo 1 >/sys/class/net/r0/threaded")  # fmt: skip
        self.receiver.sysctl("ipv4/conf/all/rp_filter", 0)
        self.receiver.sysctl("ipv4/conf/r0/rp_filter", 0)
        self.receiver.sysctl("ipv4/icmp_ratelimit", 1000)
        self.frame = self.frame_make()

    def frame_make(self):
        mac = bytes.fromhex(self.receiver.mac("r0").replace(":", ""))
        mac += bytes.fromhex(self.sender.mac("s0").replace(":", ""))
        ip = bytes.fromhex("4500002e00004000401100000000000000000000")[:16] + bytes([192, 0, 2, 2])
        udp = (4000).to_bytes(2, "big") + (9).to_bytes(2, "big") + (26).to_bytes(2, "big") + b"\0\0"
        return (mac + b"\x08\x00" + ip + udp + bytes(32))[:74].hex()

    def thread_pin(self):
        for path in pathlib.Path("/proc").glob("[0-9]*/comm"):
            try:
                if path.read_text().startswith("napi/r0-"):
                    os.sched_setaffinity(int(path.parent.name), {RECEIVER_CORE})
            except (OSError, ProcessLookupError):
                pass

    def received(self):
        link = self.receiver.ip_json("-s link show dev r0")[0]
        return link["stats64"]["rx"]["packets"]

    def delivered(self):
        """What came past the filter: datagrams that the stack has seen."""
        text = self.receiver.run("cat", "/proc/net/snmp").stdout.splitlines()
        names, values = (line.split()[1:] for line in text if line.startswith("Udp:"))
        udp = dict(zip(names, map(int, values)))
        return udp["InDatagrams"] + udp["NoPorts"] + udp["InErrors"]


def idle():
    """Seconds that the receiver's core had nothing to do."""
    for line in open("/proc/stat"):
        words = line.split()
        if words[0] == f"cpu{RECEIVER_CORE}":
            return (int(words[4]) + int(words[5])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def measure(ends, addresses):
    ends.thread_pin()
    stdin = ends.frame + "\n" + "\n".join(addresses) + "\n"
    seen, before, idle_before, begin = ends.delivered(), ends.received(), idle(), time.monotonic()
    done = ends.sender.run(binary("edge_send"), "flood", "s0", SENDER_CORE, ARGS.seconds, stdin=stdin)
    elapsed, got = time.monotonic() - begin, ends.received() - before
    sent = json.loads(done.stdout)
    passed = ends.delivered() - seen
    if passed > got / 100:
        raise RuntimeError(f"{passed} of {got} frames were not dropped")
    # While addresses are read nothing is sent: that time is idle, and not counted.
    rest = elapsed - sent["seconds"]
    free = max(0.0, idle() - idle_before - rest) / sent["seconds"]
    return {"rate": got / sent["seconds"], "idle": min(1.0, free),
            "sent": sent["frames"] / sent["seconds"]}  # fmt: skip


class Empty:
    name, program = "empty XDP drop", "drop"

    def __init__(self, ends, addresses, folder):
        self.ends = ends

    def on(self):
        self.process = self.ends.receiver.popen(binary("edge_send"), self.program, "r0",
                                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
        self.process.stdout.readline()

    def off(self):
        self.process.stdin.close()
        self.process.wait()


class Look(Empty):
    """What an empty program never does: it takes the frame from the other core's cache."""

    name, program = "XDP, address read", "look"


class Towpath:
    name = "towpath"

    def __init__(self, ends, addresses, folder):
        self.socket = folder / "run/towpath.sock"
        (folder / "objects").mkdir()
        self.argv = [binary("towpathd"), "--state-dir", folder / "state",
                     "--run-dir", folder / "run", "--objects-dir", folder / "objects"]  # fmt: skip
        self.ends, self.folder = ends, folder
        self.log = open(folder / "log", "w")
        self.agent = ends.receiver.popen(*self.argv, stdout=self.log, stderr=self.log)
        cleanup_push(self.close)
        while not self.socket.exists() and self.agent.poll() is None:
            time.sleep(0.02)

    def command(self, *words):
        run(binary("towpath"), "--socket", self.socket, "edge", *words)

    def on(self):
        self.command("deny", self.folder / "drop.txt")
        self.command("attach", "r0", "--mode", "native")

    def off(self):
        self.command("detach", "r0")

    def close(self):
        cleanup_pop(self.close)
        self.agent.terminate()
        self.agent.wait()
        # Takes the bpffs with it, too.
        self.ends.receiver.run(*self.argv, "--uninstall", check=False)


class Nft:
    name = "nftables ingress, set"

    def __init__(self, ends, addresses, folder):
        self.ends = ends
        text = "table netdev bench {\n set listed { type ipv4_addr; elements = { "
        (folder / "drop.nft").write_text(text + ", ".join(addresses) + " } }\n}\n")
        ends.receiver.run("nft", "-f", folder / "drop.nft")

    def on(self):
        self.ends.receiver.run("nft", "add chain netdev bench in { type filter hook ingress device r0 "
                               "priority 0; }; add rule netdev bench in ip saddr @listed drop")  # fmt: skip

    def off(self):
        self.ends.receiver.run("nft", "delete chain netdev bench in")


class Ipset:
    name = "iptables raw, ipset"

    def __init__(self, ends, addresses, folder):
        self.ends = ends
        lines = [f"create bench hash:ip maxelem {2 * LISTED}", *(f"add bench {a}" for a in addresses)]
        ends.receiver.run("ipset", "-exist", "restore", stdin="\n".join(lines) + "\n")

    def rule(self, verb):
        self.ends.receiver.run("iptables-legacy", "-t", "raw", verb, "PREROUTING", "-m", "set",
                               "--match-set", "bench", "src", "-j", "DROP")  # fmt: skip

    def on(self):
        self.rule("-A")

    def off(self):
        self.rule("-D")


class Rules:
    name = "iptables, 1 000 rules"
    first = RULES  # its frames come from the addresses of the rules alone

    def __init__(self, ends, addresses, folder):
        self.ends = ends
        lines = ["*filter", ":many -", *(f"-A many -s {a} -j DROP" for a in addresses[:RULES]), "COMMIT"]
        ends.receiver.run("iptables-legacy-restore", stdin="\n".join(lines) + "\n")

    def on(self):
        self.ends.receiver.run("iptables-legacy", "-A", "INPUT", "-j", "many")

    def off(self):
        self.ends.receiver.run("iptables-legacy", "-D", "INPUT", "-j", "many")


WAYS = (Empty, Look, Towpath, Nft, Ipset, Rules)


def addresses_make():
    chance = random.Random(5)
    chosen = set()
    while len(chosen) < LISTED:
        # No loopback, no multicast, not our own: the stack would drop them by itself.
        first = chance.choice([n for n in range(11, 190) if n not in (127, 169, 172)])
        chosen.add(f"{first}.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(1, 255)}")
    return sorted(chosen, key=lambda _: chance.random())


def rounds(ends, addresses, folder):
    ways = []
    figures = {way.name: [] for way in WAYS}
    try:
        for way in WAYS:
            ways.append(way(ends, addresses, folder))
        for _ in range(ARGS.rounds):
            for way in ways:
                way.on()
                try:
                    figures[way.name].append(measure(ends, addresses[: getattr(way, "first", LISTED)]))
                finally:
                    way.off()
    finally:
        for way in ways:
            if hasattr(way, "close"):
                way.close()
    return figures


def result(figures, name):
    mine = figures[name]
    base = figures[Empty.name]
    return {
        "way": name,
        "dropped_mpps": round(statistics.median(f["rate"] for f in mine) / 1e6, 3),
        "idle_percent": round(100 * statistics.median(f["idle"] for f in mine)),
        "to_empty": round(statistics.median(a["rate"] / b["rate"] for a, b in zip(mine, base)), 3),
        "towpath_to_it": round(statistics.median(
            a["rate"] / b["rate"] for a, b in zip(figures["towpath"], mine)), 2),
        "sent_mpps": round(statistics.median(f["sent"] for f in mine) / 1e6, 3),
    }  # fmt: skip


def main():
    cleanup_on_signals()
    if (os.cpu_count() or 1) < 2:
        sys.exit("bench edge --traffic: needs two cores, one to send and one to receive")
    goals = {Empty.name: 0.9, Ipset.name: 3.0, Rules.name: 5.0}
    addresses = addresses_make()
    with tempfile.TemporaryDirectory(prefix="towpath-bench-") as name:
        folder = pathlib.Path(name)
        (folder / "drop.txt").write_text("\n".join(addresses) + "\n")
        figures = rounds(Ends(), addresses, folder)
    missed = 0
    if not ARGS.json:
        print(f"{'what drops':24} {'Mpps':>7} {'idle':>6} {'of empty':>9} {'towpath is':>11}  goal")
    for way in WAYS:
        row = result(figures, way.name)
        goal = goals.get(way.name)
        if goal:
            row["goal"], row["met"] = goal, row["towpath_to_it"] >= goal
            missed += not row["met"]
        if ARGS.json:
            print(json.dumps(row))
            continue
        said = f"≥ {goal:g} x, {'met' if row['met'] else 'missed'}" if goal else ""
        print(f"{way.name:24} {row['dropped_mpps']:7.2f} {row['idle_percent']:5d}% {row['to_empty']:8.2f}x"
              f" {row['towpath_to_it']:10.2f}x  {said}")  # fmt: skip


if __name__ == "__main__":
    main()
