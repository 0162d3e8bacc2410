#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""`./bench.sh agent`: the agent's memory and times with many policies and endpoints.

A whole node in namespaces of its own (the system tests'), endpoints through the CNI plugin,
policies from a directory. The start is timed from the exec to the first answer of the API,
with everything to be restored from the state directory and the pins.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

REPO = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tests" / "system"))
sys.dont_write_bytecode = True

NAMESPACES = 10
APPS = 20


def parse():
    parser = argparse.ArgumentParser(prog="./bench.sh agent", description=__doc__)
    parser.add_argument("--build", default="build", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--policies", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=100)
    parser.add_argument("--starts", type=int, default=9, help="the median counts")
    return parser.parse_args()


ARGS = parse()
os.environ["TOWPATH_BUILD"] = str((REPO / ARGS.build).resolve())

from netns import cleanup_on_signals  # noqa: E402
from node import Node, namespace_object, policy_object  # noqa: E402


def show(case, value, unit, goal, note):
    met = goal is None or value <= goal
    if ARGS.json:
        row = {"case": case, "value": round(value, 2), "unit": unit, "note": note}
        if goal is not None:
            row.update(goal=goal, met=met)
        print(json.dumps(row), flush=True)
        return
    wanted = "" if goal is None else f"<= {goal:g} {unit}"
    verdict = "" if goal is None else "met" if met else "missed"
    print(f"{case:26} {value:9.2f} {unit:3} {wanted:12} {verdict:7} {note}", flush=True)


def memory(pid):
    """Kilobytes by kind: all that is resident, and what is the process's own."""
    rows = {}
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.startswith(("VmRSS", "VmHWM", "Rss")):
            rows[name] = int(value.split()[0])
    return rows


def settled(pid):
    """Memory when nothing moves any more: workers of the start load programs, and give back what
    that took."""
    rows, since, end = memory(pid), time.monotonic(), time.monotonic() + 20
    while time.monotonic() - since < 1.5 and time.monotonic() < end:
        time.sleep(0.1)
        now = memory(pid)
        if now["VmRSS"] != rows["VmRSS"]:
            rows, since = now, time.monotonic()
    return rows


def policy(number):
    """Different ports and peers each, so that little is shared by content."""
    app, peer = f"app{number % APPS}", f"app{(number * 7 + 1) % APPS}"
    return policy_object(
        f"team{number % NAMESPACES}", f"policy-{number}", {"matchLabels": {"app": app}},
        ingress=[{
            "from": [
                {"podSelector": {"matchLabels": {"app": peer}}},
                {"ipBlock": {"cidr": f"10.{number % 200}.{number // 200}.0/24"}},
            ],
            "ports": [{"protocol": "TCP", "port": 1000 + number % 500}],
        }],
    )  # fmt: skip


def apply_folder(node):
    with tempfile.TemporaryDirectory(prefix="towpath-bench-") as folder:
        for number in range(ARGS.policies):
            text = json.dumps(policy(number))
            pathlib.Path(folder, f"policy-{number}.yaml").write_text(text + "\n")
        started = time.monotonic()
        node.towpath("apply", "-f", folder)
        return time.monotonic() - started


def kernel_time(node):
    """The same policies taken away and applied again, by the agent's own clock."""
    files = [{"name": f"p{n}.json", "text": json.dumps(policy(n))} for n in range(ARGS.policies)]
    node.api("POST", "/v1/delete", {"files": files})
    return node.api("POST", "/v1/apply", {"files": files})


def start_times(node):
    times = []
    for _ in range(ARGS.starts):
        node.stop()
        started = time.monotonic()
        node.start()
        times.append((time.monotonic() - started) * 1000)
    return times


def main():
    cleanup_on_signals()
    with Node("bench") as node:
        show("rss_empty", settled(node.agent.pid)["VmRSS"] / 1024, "MB", None, "nothing in it")
        for n in range(NAMESPACES):
            node.apply(namespace_object(f"team{n}", {"team": f"t{n}"}))
        started = time.monotonic()
        for n in range(ARGS.endpoints):
            node.add_pod(f"team{n % NAMESPACES}", f"pod{n}", {"app": f"app{n % APPS}"})
        each = (time.monotonic() - started) * 1000 / max(ARGS.endpoints, 1)
        show("endpoint_add", each, "ms", None, "Pod object, namespace and CNI ADD, each")
        whole = apply_folder(node)
        show("apply", whole * 1000, "ms", 1000, f"{ARGS.policies} policies from a directory")
        reply = kernel_time(node)
        show("apply_compile", reply["compile_us"] / 1000, "ms", None, "of these: compiled")
        show("apply_store", reply["store_us"] / 1000, "ms", None, "stored")
        show("apply_kernel", reply["kernel_us"] / 1000, "ms", 20, "written to the kernel")
        what = f"{ARGS.policies} policies, {ARGS.endpoints} endpoints"
        busy = settled(node.agent.pid)
        show("rss_after_apply", busy["VmRSS"] / 1024, "MB", None, what)
        times = start_times(node)
        show("start", statistics.median(times), "ms", 200,
             f"{what}; {min(times):.0f} to {max(times):.0f}")
        rows = settled(node.agent.pid)
        show("rss", rows["VmRSS"] / 1024, "MB", 10, f"after a start, {what}")
        show("rss_own", rows["RssAnon"] / 1024, "MB", None, "of it anonymous memory")


if __name__ == "__main__":
    main()
