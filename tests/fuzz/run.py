#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Runs a libFuzzer target from its seeds, for TOWPATH_FUZZ_SECONDS (default: 5).

    run.py build-asan/tests/fuzz/fuzz_api [SECONDS]   # fuzz
    run.py build-asan/tests/fuzz/fuzz_api --merge     # keep in the seeds what adds coverage

A failure prints the input, and how to run it again.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


def command(program, name):
    dictionary = f"{HERE}/{name}.dict"
    return [program, "-max_len=4096", "-timeout=20", "-rss_limit_mb=1024", "-print_final_stats=1",
            "-verbosity=1"] + ([f"-dict={dictionary}"] if os.path.exists(dictionary) else [])


def run(args, **more):
    env = dict(os.environ, ASAN_OPTIONS="detect_leaks=1:allocator_may_return_null=1",
               UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1")
    return subprocess.run(args, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          errors="replace", text=True, **more)


def fuzz(program, name, seconds):
    with tempfile.TemporaryDirectory() as found:
        done = run([*command(program, name), f"-max_total_time={seconds}",
                    f"-artifact_prefix={found}/", found, f"{HERE}/seeds/{name}"])
        stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", done.stdout))
        if done.returncode == 0:
            print(f"{stats.get('number_of_executed_units', '?')} inputs in {seconds} s")
            return 0
        print(done.stdout[-12000:], file=sys.stderr)
        for crash in sorted(os.listdir(found)):
            if crash.startswith(("crash-", "leak-", "timeout-", "oom-", "slow-unit-")):
                with open(f"{found}/{crash}", "rb") as data:
                    print(f"input of {crash}: {data.read()!r}", file=sys.stderr)
        return 1


def merge(program, name):
    """The seeds that are there stay; found ones that reach other code join, under their hash."""
    seeds = f"{HERE}/seeds/{name}"
    with tempfile.TemporaryDirectory() as work:
        for step in ("found", "kept"):
            os.mkdir(f"{work}/{step}")
        run([*command(program, name), "-max_total_time=60", f"{work}/found", seeds], check=True)
        for kept in os.listdir(seeds):
            shutil.copy(f"{seeds}/{kept}", f"{work}/kept/")
        run([*command(program, name), "-merge=1", "-use_counters=0", "-max_len=300",
             f"{work}/kept", f"{work}/found"], check=True)
        new = sorted(set(os.listdir(f"{work}/kept")) - set(os.listdir(seeds)))
        for file in new:
            shutil.copy(f"{work}/kept/{file}", f"{seeds}/{file[:12]}")
        print(f"{len(new)} new seeds")
    return 0


def main():
    program = os.path.abspath(sys.argv[1])
    name = os.path.basename(program).removeprefix("fuzz_")
    if sys.argv[2:] == ["--merge"]:
        return merge(program, name)
    seconds = sys.argv[2] if sys.argv[2:] else os.environ.get("TOWPATH_FUZZ_SECONDS", "5")
    return fuzz(program, name, int(seconds))


if __name__ == "__main__":
    sys.exit(main())
