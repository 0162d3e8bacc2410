#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Takes each rule out of the data path and sees whether its test fails.

usage: sudo tests/datapath/mutate.py [--rule I7] [--markdown FILE]

Works on a copy of the tree. Each mutation is a list of (file, text, replacement): one that no
longer applies is a failure, so this list follows the code. --markdown rewrites the table in
docs/design/rules.md between its two marks. Ends with "N caught, N survived".
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from mutations import MUTATIONS

REPO = pathlib.Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- mutations: begin -->", "<!-- mutations: end -->"


def copy_tree(to):
    names = subprocess.check_output(
        ["git", "-C", REPO, "ls-files", "--cached", "--others", "--exclude-standard"], text=True)
    for name in names.splitlines():
        if (REPO / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPO / name, to / name)


def run_test(build, program, pattern):
    """(names of failed cases, what the first one said), or None when the build failed."""
    target = f"tests/datapath/test_{program}"
    built = subprocess.run(["ninja", "-C", build, target], text=True, capture_output=True)
    if built.returncode:
        return None, built.stdout[-2000:]
    try:
        done = subprocess.run(
            [build / target], text=True, timeout=120,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={"CMOCKA_MESSAGE_OUTPUT": "TAP", "LAB_ONLY": pattern,
                 "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    except subprocess.TimeoutExpired:
        return [pattern], "did not end"
    failed, said, last = [], "", ""
    for line in done.stdout.splitlines():
        match = re.match(r"not ok \d+ - (\S+)", line)
        if match:
            failed.append(match[1])
            said = said or last
        elif line.strip() and "error: Failure" not in line and not re.match(r"ok |1\.\.", line):
            last = line.strip().lstrip("# ").removeprefix("ERROR: ")
            # cmocka's own messages come behind the name, the lab's before it.
            said = said or (last if failed else "")
    if not failed and done.returncode:
        failed, said = [pattern], done.stdout.strip().splitlines()[-1]
    return failed, said


def apply(tree, edits):
    """Returns the texts to put back, or the edit that does not apply."""
    before = {}
    for name, old, new in edits:
        path = tree / name
        text = path.read_text()
        before.setdefault(path, text)
        if text.count(old) != 1:
            for changed, original in before.items():
                changed.write_text(original)
            return None, f"{name}: found {text.count(old)} times: {old.strip().splitlines()[0]}"
        path.write_text(text.replace(old, new))
    return before, ""


def mutate(tree, build, m):
    before, problem = apply(tree, m["edits"])
    if before is None:
        return "stale", problem
    try:
        failed, said = run_test(build, m["program"], m["test"] + "*")
    finally:
        for path, text in before.items():
            path.write_text(text)
    if failed is None:
        return "broken", said
    if not failed:
        return "survived", ""
    families = sorted({name.rpartition("/")[2] for name in failed})
    return "caught", f"{', '.join(families)}: {said}"


def markdown(rows):
    lines = ["| rule | test | how the rule was taken out | what the test then said |",
             "|---|---|---|---|"]
    for m, result, said in rows:
        text = said if result == "caught" else f"**{result}** {said}"
        lines.append(f"| {m['rule']} | `{m['test']}` | {m['what']} | {text.replace('|', '/')} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rule")
    parser.add_argument("--markdown", type=pathlib.Path)
    args = parser.parse_args()

    wanted = [m for m in MUTATIONS if not args.rule or m["rule"] == args.rule]
    rows = []
    with tempfile.TemporaryDirectory(prefix="towpath-mutate-") as folder:
        tree, build = pathlib.Path(folder, "tree"), pathlib.Path(folder, "build")
        tree.mkdir()
        copy_tree(tree)
        subprocess.run(["meson", "setup", build, tree], check=True, stdout=subprocess.DEVNULL)
        for program in sorted({m["program"] for m in wanted}):
            failed, said = run_test(build, program, "*")
            if failed is None or failed:
                print(f"unchanged, {program} fails already: {failed} {said}")
                return 1
        for m in wanted:
            result, said = mutate(tree, build, m)
            rows.append((m, result, said))
            print(f"{result:9} {m['rule']:4} {m['test']}: {said}", flush=True)
    if args.markdown:
        text = args.markdown.read_text()
        head, tail = text.partition(BEGIN)[0], text.partition(END)[2]
        args.markdown.write_text(f"{head}{BEGIN}\n\n{markdown(rows)}\n\n{END}{tail}")
    caught = sum(result == "caught" for _, result, _ in rows)
    print(f"{caught} caught, {len(rows) - caught} survived")
    return 0 if rows and caught == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
