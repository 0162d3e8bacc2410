# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The benches of the whole system run, and print the rows that they promise."""

import json
import os
import subprocess
import sys

import pytest

from node import BUILD, REPO

FULL = bool(os.environ.get("TOWPATH_FULL"))
# Of soak: what a minute is long enough for. Addresses rest for one, flows longer.
STEADY = {"rss", "anonymous", "fds", "threads", "map_bytes", "map_entries", "database", "records"}


def rows(bench, *options):
    argv = [sys.executable, REPO / "bench" / f"{bench}.py", "--build", BUILD.resolve(), "--json"]
    done = subprocess.run([*argv, *options], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode in (0, 1), done.stderr
    made = {row["case"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert made, done.stderr
    return made


@pytest.mark.skipif(not os.path.exists("/usr/lib/cni/bridge"), reason="containernetworking-plugins")
@pytest.mark.parametrize("families", ((), ("--dual",)), ids=("ipv4", "dual"))
def test_cni(families):
    made = rows("cni", "--rounds", "1", "--singles", "1", "--parallel", "3", *families)
    cases = [f"{command}_{part}" for command in ("add", "del") for part in ("p50", "p99")]
    assert set(made) == {*cases, *(f"{case}_parallel" for case in cases)}
    for row in made.values():
        assert row["ours"] > 0 and row["theirs"] > 0
        assert abs(row["ratio"] - row["ours"] / row["theirs"]) < 0.1 * row["ratio"]


def test_soak():
    made = rows("soak", "--minutes", "1" if FULL else "0.12")
    assert set(made) == STEADY | {"flow_entries", "quarantined"}
    if FULL:
        assert {case for case in STEADY if not made[case]["met"]} == set()
