#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Runs the layers of tests and adds them up; called by test.sh, which has built everything.

Counts single cases: cmocka's by its TAP output, pytest's by its JUnit file, the conformance
runner's by its last line. A program that dies without naming a failed case is one failure.
"""

import argparse
import concurrent.futures
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET

BUILD = "build"
SANITIZED = "build-asan"


class Tally:
    def __init__(self):
        self.passed = 0
        self.failures = []
        self.skips = []

    def add(self, name, result, why=""):
        if result == "passed":
            self.passed += 1
        elif result == "skipped":
            self.skips.append((name, why))
        else:
            self.failures.append((name, why))
            print(f"  FAILED {name}" + (f": {why}" if why else ""), flush=True)

    @property
    def ran(self):
        return self.passed + len(self.failures)

    def line(self):
        text = f"{self.passed} passed, {len(self.failures)} failed"
        return text + (f", {len(self.skips)} skipped" if self.skips else "")


TAP = re.compile(r"^(ok|not ok) \d+(?: -)? (.*)$")
DIAGNOSTIC = re.compile(r"^\s*(.*error: (Failure!|Test failed).*|#.*|.*Sanitizer.*|.*: error: .*)$")


def tally_tap(tally, suite, test):
    """One line of meson's testlog.json: a cmocka program, or any program by its exit status."""
    out, said, before, failed = test.get("stdout", ""), [], len(tally.failures), False
    cases = 0
    for line in out.splitlines():
        match = TAP.match(line)
        if not match:
            said.append(line.strip())
            continue
        name, _, directive = (part.strip() for part in match.group(2).partition("# SKIP"))
        if not name:  # some versions of cmocka name the test behind the directive
            name, directive = directive, ""
        cases += 1
        why = "; ".join(s.lstrip("# ") for s in said if s and not re.match(r"(TAP|\d+\.\.\d+)", s))
        if "# SKIP" in line:
            tally.add(f"{suite}/{name}", "skipped", directive or why)
        else:
            tally.add(f"{suite}/{name}", "passed" if match.group(1) == "ok" else "failed", why)
        said = []
    failed = test["result"] not in ("OK", "SKIP", "EXPECTEDFAIL")
    if test["result"] == "SKIP" and not cases:
        tally.add(suite, "skipped", out.strip().splitlines()[-1] if out.strip() else "")
    elif not cases:
        tally.add(suite, "failed" if failed else "passed", tail(test) if failed else "")
    elif failed and len(tally.failures) == before:
        tally.add(suite, "failed", f"{test['result']} after {cases} cases: {tail(test)}")
    if failed:
        print(indent(test.get("stderr", "")), flush=True)


def tail(test):
    text = (test.get("stderr") or test.get("stdout") or "").strip().splitlines()
    return text[-1] if text else f"exit status {test.get('returncode')}"


def indent(text):
    return "\n".join("    " + line for line in text.splitlines()[-60:])


def meson_suite(tally, build, suite, label=None, multiplier=1):
    """Runs one suite of a build directory; returns whether it has any test."""
    known = json.loads(subprocess.check_output(["meson", "introspect", build, "--tests"]))
    if not any(s.split(":")[-1] == suite for t in known for s in t["suite"]):
        return False
    log = f"{build}/meson-logs/{label or suite}.json"
    if os.path.exists(log):
        os.unlink(log)
    # Programs in the kernel share two CPUs and timing: those tests run one by one.
    jobs = os.cpu_count() if suite == "unit" else 1
    env = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP",
               ASAN_OPTIONS="abort_on_error=0:detect_leaks=1",
               UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1")
    done = subprocess.run(
        ["meson", "test", "-C", build, "--suite", suite, "--logbase", label or suite, "--no-rebuild",
         "--num-processes", str(jobs), "--timeout-multiplier", str(multiplier)],
        env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if not os.path.exists(log):
        tally.add(f"{label or suite}", "failed", done.stdout.strip().splitlines()[-1])
        return True
    with open(log, encoding="utf-8") as lines:
        for line in lines:
            test = json.loads(line)
            name = test["name"].split(" / ")[-1].split(":")[-1]
            tally_tap(tally, f"{label or suite}/{name}", test)
    return True


def build_dir(path, *options, **env):
    subprocess.run(["scripts/build.sh", path, *options], check=True, env=dict(os.environ, **env))


def build_sanitized():
    """By clang, which has libFuzzer; unit tests and fuzz targets are of one build, which is also
    the one that shows clang's warnings."""
    build_dir(SANITIZED, "--werror", "-Db_sanitize=address,undefined", "-Db_lundef=false",
              "-Dc_args=-fsanitize=fuzzer-no-link", CC="clang-19")


def layer_unit(tally, full):
    meson_suite(tally, BUILD, "unit")
    print("  again under ASan and UBSan ...", flush=True)
    build_sanitized()
    meson_suite(tally, SANITIZED, "unit", label="unit-sanitized", multiplier=4)


def layer_fuzz(tally, full):
    build_sanitized()
    os.environ.setdefault("TOWPATH_FUZZ_SECONDS", "120" if full else "5")
    meson_suite(tally, SANITIZED, "fuzz")


def layer_datapath(tally, full):
    meson_suite(tally, BUILD, "datapath")
    if not full:
        return
    print("  again with each rule taken out ...", flush=True)
    with subprocess.Popen([sys.executable, "-B", "tests/datapath/mutate.py"], text=True,
                          stdout=subprocess.PIPE) as run:
        for line in run.stdout:
            result, _, rest = line.strip().partition(" ")
            if result in ("caught", "survived", "stale", "broken"):
                tally.add(f"mutation/{' '.join(rest.split())}",
                          "passed" if result == "caught" else "failed", result)
    if run.returncode not in (0, 1):
        tally.add("mutation", "failed", f"exit status {run.returncode}")


def pytest_file(path, full):
    """One file of system tests: its name, exit status, output, and cases."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
                   f"--junitxml={report.name}", path]
        env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", TOWPATH_FULL="1" if full else "")
        done = subprocess.run(command, env=env, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        try:
            cases = list(ET.parse(report.name).iter("testcase"))
        except ET.ParseError:
            cases = []
    name = os.path.basename(path).removeprefix("test_").removesuffix(".py")
    return name, done.returncode, done.stdout, cases


def tally_pytest(tally, name, status, output, cases):
    before = len(tally.failures)
    for case in cases:
        full_name = f"system/{name}/{case.get('name', '')}"
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        skip = case.find("skipped")
        if bad is not None:
            tally.add(full_name, "failed", ((bad.get("message") or "").splitlines() or [""])[0][:200])
        elif skip is not None:
            tally.add(full_name, "skipped", skip.get("message", ""))
        else:
            tally.add(full_name, "passed")
    if status not in (0, 5) and len(tally.failures) == before:
        tally.add(f"system/{name}", "failed", f"pytest ended with status {status}")
    if len(tally.failures) > before:
        print(indent(output), flush=True)
    print(f"  {name}: {(output.strip().splitlines() or ['no output'])[-1].strip('= ')}", flush=True)


def layer_system(tally, full):
    """Each file has nodes of its own and mostly waits, so four run at a time; but for those
    marked `alone`, which measure time or fill a CPU."""
    alone, together = [], []
    for path in sorted(glob.glob("tests/system/test_*.py"), key=os.path.getsize, reverse=True):
        with open(path, encoding="utf-8") as text:
            (alone if "pytest.mark.alone" in text.read() else together).append(path)
    for paths, workers in ((together, 4), (alone, 1)):
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            for done in concurrent.futures.as_completed(
                    [pool.submit(pytest_file, path, full) for path in paths]):
                tally_pytest(tally, *done.result())


# Debian 12's own and that of its backports. In the emulated machine all of one is a quarter of an hour.
KERNELS = ("6.1", "6.12")


def layer_kernels(tally, full):
    """The data path's tests, program by program, under other kernels; see tests/kernels/vm.sh."""
    programs = sorted(p for p in glob.glob(f"{BUILD}/tests/datapath/test_*") if os.access(p, os.X_OK)
                      and os.path.isfile(p) and not p.endswith("_frames"))
    script = 'for t in "$@"; do echo "## $t"; timeout 600 "$t" 2>&1; echo "## ended $?"; done'
    for kernel in KERNELS:
        done = subprocess.run(["tests/kernels/vm.sh", kernel, "env", "CMOCKA_MESSAGE_OUTPUT=TAP", "sh", "-c",
                               script, "sh", *programs], text=True, stdout=subprocess.PIPE,
                              env=dict(os.environ, TOWPATH_VM_SECONDS="2400"))
        parts = re.findall(r"^## (\S*test_\w+)\n(.*?)^## ended (\d+)$", done.stdout, re.M | re.S)
        for path, out, status in parts:
            name = os.path.basename(path).removeprefix("test_")
            tally_tap(tally, f"kernel-{kernel}/{name}",
                      {"stdout": out, "result": "OK" if status == "0" else "FAIL", "returncode": int(status)})
        if len(parts) != len(programs):
            tally.add(f"kernel-{kernel}", "failed", f"{len(parts)} of {len(programs)} programs ran, "
                      f"vm.sh ended with {done.returncode}")


SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$")


def layer_conformance(tally, full):
    """The runner prints a line a feature, the failed probes, the skipped ones with reasons."""
    meson_suite(tally, BUILD, "conformance")
    runner = "tests/conformance/netpol"
    files = sorted(glob.glob("tests/conformance/cases/**/*.json", recursive=True))
    if not os.path.exists(runner) or not files:
        return
    for family in ([], ["--ipv6"]):
        name = "conformance" + "".join(family).replace("--", "-")
        print(f"  {' '.join([runner, *family, *files])}", flush=True)
        summary = None
        with subprocess.Popen([runner, *family, *files], text=True, stdout=subprocess.PIPE) as run:
            for line in run.stdout:
                print("  " + line, end="", flush=True)
                summary = SUMMARY.match(line.strip()) or summary
        if summary is None:
            tally.add(name, "failed", f"no summary; exit status {run.returncode}")
            continue
        tally.passed += int(summary[1])
        for _ in range(int(summary[2])):
            tally.failures.append((name, "a probe; see above"))
        for _ in range(int(summary[3] or 0)):
            tally.skips.append((name, "see above"))
        if run.returncode and not int(summary[2]):
            tally.add(name, "failed", f"exit status {run.returncode}")


def sources(*suffixes):
    listed = subprocess.check_output(["git", "ls-files", "--cached", "--others",
                                      "--exclude-standard"], text=True)
    return [f for f in listed.split("\n") if f.endswith(suffixes) and os.path.exists(f)]


def layer_style(tally, _full):
    done = subprocess.run(["clang-format-19", "--dry-run", "-Werror", *sources(".c", ".h")])
    tally.add("style/clang-format", "failed" if done.returncode else "passed")

    print("  clang-tidy ...", flush=True)
    compiled = json.load(open(f"{BUILD}/compile_commands.json", encoding="utf-8"))
    files = sorted({os.path.normpath(os.path.join(c["directory"], c["file"])) for c in compiled})
    wanted = [f for f in files if f"/{BUILD}/" not in f]
    done = subprocess.run(
        ["xargs", "-0", "-n", "4", "-P", str(os.cpu_count()),
         "clang-tidy-19", "--quiet", "-p", BUILD, "--warnings-as-errors=*"],
        input="\0".join(wanted), text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    found = sorted({line for line in done.stdout.splitlines() if " error: " in line})
    print("".join(f"    {line}\n" for line in found), end="", flush=True)
    tally.add("style/clang-tidy", "failed" if done.returncode else "passed")

    print("  build by clang ...", flush=True)
    try:
        build_sanitized()
        tally.add("style/clang-build", "passed")
    except subprocess.CalledProcessError as error:
        tally.add("style/clang-build", "failed", str(error))


LAYERS = {
    "style": layer_style,
    "unit": layer_unit,
    "fuzz": layer_fuzz,
    "datapath": layer_datapath,
    "system": layer_system,
    "conformance": layer_conformance,
    "kernels": layer_kernels,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    parser.add_argument("layers", nargs="+", choices=LAYERS)
    args = parser.parse_args()

    tally = Tally()
    for layer in args.layers:
        print(f"== {layer}", flush=True)
        started, ran, failed = time.monotonic(), tally.ran, len(tally.failures)
        try:
            LAYERS[layer](tally, args.full)
        except subprocess.CalledProcessError as error:
            tally.add(layer, "failed", str(error))
        if tally.ran == ran:
            tally.add(layer, "failed", "no test ran")
        bad = len(tally.failures) - failed
        print(f"   {tally.ran - ran - bad} passed, {bad} failed of {layer} "
              f"in {time.monotonic() - started:.0f} s", flush=True)
    if tally.skips:
        print("== skipped, which is not passed")
        for name, why in sorted(set(tally.skips)):
            print(f"  {name}: {why or 'no reason given'}")
    if tally.failures:
        print("== failed")
        for name, why in tally.failures[:100]:
            print(f"  {name}" + (f": {why}" if why else ""))
    print(tally.line())
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
