#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""`./bench.sh policy`: what policies cost, by how many are in force.

Two containers, a client and a server, and rules that say who may reach the server: a third
differ by port, a third by CIDR, a third by pod (its label for Towpath, its address for the
others), and the one that matches comes last. Each side is a node of its own with the same
pair of containers:

  towpath           NetworkPolicy objects
  iptables-legacy   one rule each in a chain of FORWARD, evaluated for every packet
  iptables-nft      the same rules by the same command on nf_tables
  iptables-ct       iptables-legacy with the usual short cut: established connections pass first
  nftables          one rule and three sets
  plain             routing without any rule
  self              Towpath without policies

The server has CPU 0. The client asks from CPU 0, too: a wake-up of the other CPU takes a virtual
machine 50 us, which would hide the network; its bulk data comes from CPU 1.

Sides take turns in each round; a figure is the median of the rounds, a ratio (ours / theirs) the
median of the ratios within a round.
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
        prog="./bench.sh policy", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--build", default="build", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--html", type=pathlib.Path, default=None,
                        help="where the page goes (default: policy.html in the build folder)")
    parser.add_argument("--sizes", default="0,1000,10000,100000", help="numbers of policies")
    parser.add_argument("--peers", default="iptables-legacy,iptables-nft,iptables-ct,nftables,plain")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    return parser.parse_args()


ARGS = parse()
os.environ["TOWPATH_BUILD"] = str((REPO / ARGS.build).resolve())

import policy_page  # noqa: E402
from netns import Netns, cleanup_on_signals  # noqa: E402
from node import Node, namespace_object, pod_object, policy_object  # noqa: E402

ENDS = REPO / ARGS.build / "bench" / "ends"
PORT = 5201  # open to the client
CLOSED = 9  # open to nobody
CHUNK = 20000  # policies a request
CHANGES = 7

# What is measured: unit, and whether more is better.
METRICS = {
    "throughput": ("Gbit/s", True),
    "requests": ("1/s", True),
    "p50": ("us", False),
    "p99": ("us", False),
    "connections": ("1/s", True),
    "first_answer": ("us", False),
    "cpu_per_gb": ("s", False),
    "cpu_per_request": ("us", False),
    "load": ("s", False),
    "change": ("ms", False),
    "lost": ("packets", False),
    "misjudged": ("packets", False),
}


class Rule:
    """Who else may reach the server, by kind: no packet of the bench is one of these."""

    def __init__(self, number):
        kind, index = number % 3, number // 3
        octets = f"{index >> 16 & 255}.{index >> 8 & 255}.{index & 255}"
        self.number, self.port, self.pod = number, PORT, None
        if kind == 0:
            self.source, self.port = "203.0.113.0/24", 10000 + index % 50000
        elif kind == 1:
            self.source = f"20.{octets}/32"
        else:
            self.source, self.pod = f"30.{octets}/32", f"x{index}"

    def object(self):
        peer = {"ipBlock": {"cidr": self.source}}
        if self.pod:
            peer = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": self.pod}}}
        return policy_object(
            "b", f"p{self.number}", {"matchLabels": {"app": "server"}},
            ingress=[{"from": [peer], "ports": [{"protocol": "TCP", "port": self.port}]}],
        )  # fmt: skip

    def pod_object(self):
        pod = pod_object("a", self.pod, {"app": self.pod}, ())
        pod["status"] = {"podIP": self.source.split("/")[0]}
        return pod


# ---- sides ---------------------------------------------------------------------------------------


class Side:
    """A node with a client and a server, and `size` rules between them."""

    def __init__(self, name, size):
        self.name, self.size, self.server_process = name, size, None

    def serve(self):
        self.server_process = subprocess.Popen(self.server.argv(*on_cpu(0), ENDS, "serve", PORT))
        end = time.monotonic() + 10
        while not self.server.run("ss", "-Hltn", f"sport = {PORT}").stdout.strip():
            if time.monotonic() > end:
                raise RuntimeError(f"{self.name}: the server does not listen")
            time.sleep(0.02)

    def ends(self, what, value, port=PORT):
        """One client's run: its answer, and the CPU seconds that the machine spent on it."""
        before = cpu_seconds()
        cpu = on_cpu(1 if what == "bulk" else 0)
        done = self.client.run(*cpu, ENDS, what, self.address, port, value, timeout=120)
        return json.loads(done.stdout), cpu_seconds() - before

    def close(self):
        if self.server_process:
            self.server_process.kill()
            self.server_process.wait()


class Towpath(Side):
    def __init__(self, name, size):
        super().__init__(name, size)
        self.node = Node("bpol")
        self.node.apply(namespace_object("a", {}), namespace_object("b", {}))
        server = self.node.add_pod("b", "server", {"app": "server"})
        client = self.node.add_pod("a", "client", {"app": "client"})
        self.client, self.server, self.address = client.netns, server.netns, server.ip(4)
        self.client_address = client.ip(4)

    def apply(self, objects):
        for at in range(0, len(objects), CHUNK):
            text = "\n---\n".join(json.dumps(o) for o in objects[at : at + CHUNK])
            body = {"files": [{"name": "bench.json", "text": text}]}
            self.node.api("POST", "/v1/apply", body, timeout=600)

    def load(self):
        rules = [Rule(number) for number in range(self.size - 1)]
        self.apply([rule.pod_object() for rule in rules if rule.pod])
        ports = [{"protocol": p, "port": PORT} for p in ("TCP", "UDP")]
        peer = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "client"}}}
        last = policy_object("b", "zz-last", {"matchLabels": {"app": "server"}},
                             ingress=[{"from": [peer], "ports": ports}])  # fmt: skip
        objects = [rule.object() for rule in rules] + [last]
        begin = time.monotonic()
        if self.size:
            self.apply(objects)
        return time.monotonic() - begin

    def change(self, turn):
        """One policy of each kind in turn says something else."""
        rule = Rule(turn % 3)
        rule.port, rule.source = 61000 + turn, rule.source.replace("20.0.", f"21.{turn}.")
        text = json.dumps(rule.object())
        begin = time.monotonic()
        body = {"files": [{"name": "bench.json", "text": text}]}
        self.node.api("POST", "/v1/apply", body, timeout=600)
        return time.monotonic() - begin

    def close(self):
        super().close()
        self.node.close()


class Routed(Side):
    """Plain routing between two veth pairs; and what the filters have in common."""

    def __init__(self, name, size):
        super().__init__(name, size)
        self.router, self.client, self.server = (Netns(f"bpol{c}") for c in "rcs")
        self.address, self.client_address = "10.77.2.2", "10.77.1.2"
        for net, end in ((1, self.client), (2, self.server)):
            self.router.ip(
                f"link add c{net} type veth peer name eth0 netns {end.name}",
                f"addr add 10.77.{net}.1/24 dev c{net}", f"link set c{net} up",
            )  # fmt: skip
            end.ip(f"addr add 10.77.{net}.2/24 dev eth0", "link set eth0 up",
                   f"route add default via 10.77.{net}.1")  # fmt: skip
        self.router.sysctl("ipv4/ip_forward", 1)

    def load(self):
        return 0.0

    def change(self, turn):
        return None

    def timed(self, *argv, stdin=None):
        begin = time.monotonic()
        self.router.run(*argv, stdin=stdin, timeout=900)
        return time.monotonic() - begin

    def close(self):
        super().close()
        for netns in (self.router, self.client, self.server):
            netns.delete()


class Iptables(Routed):
    commands = {"iptables-legacy": "iptables-legacy", "iptables-nft": "iptables-nft",
                "iptables-ct": "iptables-legacy"}  # fmt: skip

    def rules(self):
        if not self.size:
            return
        for number in range(self.size - 1):
            rule = Rule(number)
            yield f"-A POLICY -s {rule.source} -p tcp --dport {rule.port} -j ACCEPT"
        for proto in ("tcp", "udp"):
            yield f"-A POLICY -s {self.client_address} -p {proto} --dport {PORT} -j ACCEPT"
        yield "-A POLICY -j DROP"

    def load(self):
        lines = ["*filter", ":POLICY - [0:0]"]
        if self.name == "iptables-ct":
            lines.append("-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT")
        lines.append(f"-A FORWARD -d {self.address} -j POLICY")
        lines += [*self.rules(), "COMMIT", ""]
        command = self.commands[self.name] + "-restore"
        return self.timed(command, stdin="\n".join(lines))

    def change(self, turn):
        number = turn % 3 + 1
        return self.timed(self.commands[self.name], "-R", "POLICY", number, "-s", "198.18.0.0/15",
                          "-p", "tcp", "--dport", 61000 + turn, "-j", "ACCEPT")  # fmt: skip


class Nftables(Routed):
    TABLE = """
    table ip bench {{
        set ports {{ type inet_service; {ports} }}
        set blocks {{ type ipv4_addr; {blocks} }}
        set pods {{ type ipv4_addr; {pods} }}
        chain forward {{
            type filter hook forward priority 0; policy accept;
            ip daddr != {server} accept
            ip saddr 203.0.113.0/24 tcp dport @ports accept
            tcp dport {port} ip saddr @blocks accept
            meta l4proto {{ tcp, udp }} th dport {port} ip saddr @pods accept
            {end}
        }}
    }}
    """

    def load(self):
        rules = [Rule(number) for number in range(max(self.size - 1, 0))]
        pods = [rule.source[:-3] for rule in rules if rule.pod]
        sets = {
            "ports": sorted({rule.port for rule in rules if rule.port != PORT}),
            "blocks": [rule.source[:-3] for rule in rules if rule.source.startswith("20.")],
            "pods": pods + ([self.client_address] if self.size else []),
        }
        words = {name: f"elements = {{ {', '.join(map(str, v))} }}" if v else ""
                 for name, v in sets.items()}  # fmt: skip
        text = self.TABLE.format(server=self.address, port=PORT,
                                 end="drop" if self.size else "", **words)  # fmt: skip
        return self.timed("nft", "-f", "-", stdin=text)

    def change(self, turn):
        old, new = Rule(1).source[:-3], f"21.{turn}.0.0"
        if turn:
            old = f"21.{turn - 1}.0.0"
        text = f"delete element ip bench blocks {{ {old} }}\nadd element ip bench blocks {{ {new} }}\n"
        return self.timed("nft", "-f", "-", stdin=text)


def side_make(name, size):
    kinds = {"towpath": Towpath, "self": Towpath, "plain": Routed, "nftables": Nftables}
    return kinds.get(name, Iptables)(name, 0 if name in ("self", "plain") else size)


def on_cpu(number):
    return ("taskset", "-c", number % os.cpu_count())


# ---- measuring -----------------------------------------------------------------------------------


def cpu_seconds():
    """What both CPUs have spent on anything but idling."""
    words = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    ticks = [int(word) for word in words]
    return (sum(ticks[:8]) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def measure(side, turn):
    """One round of one side: metric → value."""
    bulk, bulk_cpu = side.ends("bulk", ARGS.seconds)
    ask, ask_cpu = side.ends("ask", ARGS.seconds)
    connect, _ = side.ends("connect", ARGS.seconds / 2)
    fresh, _ = side.ends("fresh", 1024 + turn % 30 * 2000)
    return {
        "throughput": bulk["bytes"] * 8 / bulk["seconds"] / 1e9,
        "cpu_per_gb": bulk_cpu / (bulk["bytes"] / 1e9),
        "requests": ask["count"] / ask["seconds"],
        "p50": ask["p50_us"],
        "p99": ask["p99_us"],
        "cpu_per_request": ask_cpu * 1e6 / ask["count"],
        "connections": connect["count"] / connect["seconds"],
        "first_answer": fresh["p50_us"],
    }


def changes(side):
    """Policies change while datagrams pass, allowed and not: seconds of each change, allowed
    datagrams that were lost, denied ones that were answered."""
    seconds = 2.0
    watchers = [
        subprocess.Popen(
            side.client.argv(ENDS, "watch", side.address, port, seconds),
            stdout=subprocess.PIPE, text=True,
        )
        for port in (PORT, CLOSED)
    ]  # fmt: skip
    closed = subprocess.Popen(side.server.argv(ENDS, "serve", CLOSED))
    time.sleep(0.2)
    times, end = [], time.monotonic() + seconds - 0.5
    while len(times) < CHANGES and time.monotonic() < end:
        times.append(side.change(len(times)))
        time.sleep(0.05)
    allowed, denied = (json.loads(w.communicate(timeout=60)[0]) for w in watchers)
    closed.kill()
    closed.wait()
    return {
        "change": statistics.median(times) * 1000,
        "lost": allowed["sent"] - allowed["answered"],
        "misjudged": denied["answered"],
    }


def size_run(size, names):
    """All sides at one size: name → metric → one value a round (or one in all)."""
    sides, table = [], {}
    try:
        for name in names:
            side = side_make(name, size)
            sides.append(side)
            side.serve()
            table[name] = {"load": [side.load()]}
            side.ends("bulk", 0.2)  # neighbours, caches
            note(f"{size} policies: {name} is loaded after {table[name]['load'][0]:.2f} s")
        for turn in range(ARGS.rounds):
            for side in sides:
                for metric, value in measure(side, turn).items():
                    table[side.name].setdefault(metric, []).append(value)
            note(f"{size} policies: round {turn + 1} of {ARGS.rounds}")
        for side in sides:
            if size and side.name not in ("plain", "self"):
                table[side.name].update({k: [v] for k, v in changes(side).items()})
    finally:
        for side in sides:
            side.close()
    return table


def note(text):
    print(f"bench policy: {text}", file=sys.stderr, flush=True)


def ratio_of(ours, theirs):
    pairs = [a / b for a, b in zip(ours, theirs) if b]
    return round(statistics.median(pairs), 4) if pairs else None


def rows_of(size, table):
    for metric, ours in table["towpath"].items():
        for peer, theirs in table.items():
            if peer == "towpath" or metric not in theirs:
                continue
            if metric == "load" and (peer in ("plain", "self") or not size):
                continue
            yield {
                "metric": metric, "unit": METRICS[metric][0], "policies": size, "peer": peer,
                "ours": round(statistics.median(ours), 3),
                "theirs": round(statistics.median(theirs[metric]), 3),
                "ratio": ratio_of(ours, theirs[metric]),
            }  # fmt: skip


def show(row):
    if ARGS.json:
        print(json.dumps(row), flush=True)
        return
    ratio = "" if row["ratio"] is None else f"{row['ratio']:9.3f}"
    print(f"{row['metric']:16} {row['policies']:7} {row['peer']:16} {row['ours']:12.3f} "
          f"{row['theirs']:12.3f} {row['unit']:8} {ratio}", flush=True)  # fmt: skip


def main():
    cleanup_on_signals()
    names = ["towpath", "self", *ARGS.peers.split(",")]
    if not ARGS.json:
        print(f"{'metric':16} {'rules':>7} {'peer':16} {'ours':>12} {'theirs':>12} "
              f"{'unit':8} ours/theirs")  # fmt: skip
    rows = []
    for size in map(int, ARGS.sizes.split(",")):
        for row in rows_of(size, size_run(size, names)):
            rows.append(row)
            show(row)
    page = ARGS.html or REPO / ARGS.build / "policy.html"
    page.write_text(policy_page.html(rows, METRICS))
    note(f"plots and all figures: {page}")


if __name__ == "__main__":
    main()
