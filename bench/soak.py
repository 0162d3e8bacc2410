#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""`./bench.sh soak`: what grows while endpoints, policies and connections come and go.

A whole node in namespaces of its own. Round after round a container is attached, a policy
selects it, connections are made that it allows and some that it denies, then the policy and the
container go. All along, the agent's memory and files, the maps, the database and the addresses
that rest are noted. After a warm-up (tables of bounded size fill up, addresses rest for a minute,
UDP flows are kept for five) a straight line is fitted to each; what it rises by, till the end,
must stay below the limit. (`rss` is held to 10 MB as a whole: see CASES.)
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

SAMPLES = 120
SAMPLES_MIN = 3  # after the warm-up; a line through fewer tells nothing
WARM_UP_SECONDS = 330.0  # or half of the time, when that is less
ROUND_SECONDS = 0.6  # constant, or what rests and expires would follow the machine's load


def parse():
    parser = argparse.ArgumentParser(prog="./bench.sh soak", description=__doc__)
    parser.add_argument("--build", default="build", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default 10)")
    return parser.parse_args()


ARGS = parse()
os.environ["TOWPATH_BUILD"] = str((REPO / ARGS.build).resolve())

from netns import cleanup_on_signals  # noqa: E402
from node import FAMILIES, Node, policy_object  # noqa: E402
from traffic import tcp_works, udp_ask  # noqa: E402

# What is noted: unit, and the rise that is allowed, as a part of the mean and as a number.
# Memory moves by pages and the allocator's whims. What is resident beside the anonymous memory is
# files' pages, which come back by and by after the agent has given them back at its start; so
# `rss` has only the limit that the agent has by itself. A sample's own connection may be counted.
CASES = {
    "rss": ("kB", None, 10240),
    "anonymous": ("kB", 0.05, 256),
    "fds": ("", 0.0, 1.5),
    "threads": ("", 0.0, 0.5),
    "map_bytes": ("kB", 0.01, 0),
    "map_entries": ("", 0.05, 20),
    "flow_entries": ("", 0.25, 100),
    "database": ("kB", 0.02, 64),
    "quarantined": ("", 0.25, 20),
    "records": ("", 0.0, 0.5),
}


def resident(pid):
    rows = {}
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "RssAnon", "Threads"):
            rows[name] = int(value.split()[0])
    return rows


def sample(node):
    """All figures between two rounds, when nothing of a round is left."""
    pid = node.agent.pid
    memory, status = resident(pid), node.status()
    flows = sum(m["used"] for m in status["maps"] if "flow" in m["name"])
    return {
        "rss": memory["VmRSS"],
        "anonymous": memory["RssAnon"],
        "threads": memory["Threads"],
        "fds": len(os.listdir(f"/proc/{pid}/fd")),
        "map_bytes": sum(m["bytes"] for m in status["maps"]) / 1024,
        "map_entries": sum(m["used"] for m in status["maps"]) - flows,
        "flow_entries": flows,
        "database": sum(f.stat().st_size for f in node.state_dir.glob("towpath.db*")) / 1024,
        "quarantined": sum(pool["quarantined"] for pool in status["pools"]),
        "records": status["counts"]["endpoints"] + status["counts"]["policies"],
    }


def churn(node, server, number):
    """One round; everything that it makes it takes back."""
    labels = {"app": f"a{number % 7}"}
    family = FAMILIES[number % 2]
    policy = policy_object(
        "soak", f"p{number % 50}", {"matchLabels": labels},
        ingress=[{"from": [{"ipBlock": {"cidr": f"10.{number % 250}.0.0/16"}},
                           {"podSelector": {"matchLabels": {"app": "server"}}}],
                  "ports": [{"protocol": "TCP", "port": 1000 + number % 3000}]}],
        types=["Ingress"],
    )  # fmt: skip
    pod = node.add_pod("soak", f"pod{number % 50}", labels)
    node.apply(policy)
    if not tcp_works(pod, server, family):
        sys.exit(f"bench soak: round {number}: a connection that is allowed failed")
    if not udp_ask(pod, node.outside, family):
        sys.exit(f"bench soak: round {number}: no answer from outside")
    if udp_ask(server, pod, family, seconds=0.05):
        sys.exit(f"bench soak: round {number}: a connection that is denied went through")
    node.delete(policy)
    node.del_pod(pod)


def rise(times, values):
    """By how much the fitted line rises from its first time to its last."""
    n = len(times)
    mean_t, mean_v = sum(times) / n, sum(values) / n
    spread = sum((t - mean_t) ** 2 for t in times)
    slope = sum((t - mean_t) * (v - mean_v) for t, v in zip(times, values)) / spread
    return slope * (times[-1] - times[0])


def show(case, times, rows):
    unit, part, number = CASES[case]
    values = [row[case] for row in rows]
    mean, rose = sum(values) / len(values), rise(times, values)
    limit = number if part is None else max(part * mean, number)
    met = (max(values) if part is None else rose) <= limit
    if ARGS.json:
        row = {"case": case, "first": round(values[0], 1), "last": round(values[-1], 1),
               "mean": round(mean, 1), "rise": round(rose, 2), "limit": round(limit, 2),
               "unit": unit, "met": met}  # fmt: skip
        print(json.dumps(row), flush=True)
    else:
        print(f"{case:14} {values[0]:10.1f} {values[-1]:10.1f} {mean:10.1f} {rose:10.2f} "
              f"{limit:10.2f} {unit:3}  {'met' if met else 'missed'}", flush=True)  # fmt: skip
    return met


def warm_up():
    return min(WARM_UP_SECONDS, ARGS.minutes * 30)


def run(node):
    """Times and samples, and how many rounds there were."""
    node.add_namespace("soak")
    server = node.add_pod("soak", "server", {"app": "server"})
    times, rows, rounds = [], [], 0
    begin = time.monotonic()
    end = begin + ARGS.minutes * 60
    while time.monotonic() < end or sum(t >= warm_up() for t in times) < SAMPLES_MIN:
        started = time.monotonic()
        churn(node, server, rounds)
        rounds += 1
        if started >= begin + len(rows) * (end - begin) / SAMPLES:
            times.append(time.monotonic() - begin)
            rows.append(sample(node))
        time.sleep(max(0.0, ROUND_SECONDS - (time.monotonic() - started)))
    return times, rows, rounds


def main():
    cleanup_on_signals()
    # A log of flows that is full before the warm-up is over.
    with Node("soak", options=["--flow-log", "256"]) as node:
        times, rows, rounds = run(node)
    after = [i for i, t in enumerate(times) if t >= warm_up()]
    times, rows = [times[i] for i in after], [rows[i] for i in after]
    if not ARGS.json:
        print(f"{rounds} rounds in {ARGS.minutes:g} minutes; {len(rows)} samples after the warm-up\n")
        print(f"{'case':14} {'first':>10} {'last':>10} {'mean':>10} {'rise':>10} {'limit':>10}")
    met = [show(case, times, rows) for case in CASES]
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
