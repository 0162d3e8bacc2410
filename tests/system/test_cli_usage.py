# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The command's own manners: exit statuses, help, sentences. No agent runs here."""

import json
import os
import pathlib
import re
import subprocess

import pytest
from node import binary

COMMANDS = ("status", "top", "apply", "delete", "get", "run", "exec", "rm", "flows", "explain", "policy", "trace",
            "program", "map", "log", "edge", "features", "cni", "uninstall", "completion")  # fmt: skip
GROUPS = ("program", "map", "edge")


def towpath(*argv, stdin="", **env):
    return subprocess.run(
        [binary("towpath"), *argv], input=stdin, capture_output=True, text=True, timeout=20,
        env={**os.environ, "TOWPATH_SOCKET": "/nonexistent/towpath.sock", **env}, check=False,
    )  # fmt: skip


def offered(*words):
    return towpath("--complete", *words, "").stdout.split()


WALKED = [*COMMANDS, *(f"{group} {word}" for group in GROUPS for word in offered(group))]


@pytest.mark.parametrize("command", WALKED)
def test_help_has_usage_and_examples(command):
    done = towpath(*command.split(), "--help")
    assert done.returncode == 0 and not done.stderr
    assert f"Usage: towpath {command}" in done.stdout
    assert f"towpath {command}" in done.stdout.split("Examples:")[1]
    assert "--socket" in done.stdout
    assert towpath(*command.split(), "-h").stdout == done.stdout


def test_every_command_is_walked():
    """By the tests of this file, which have the list COMMANDS."""
    assert set(offered()) == set(COMMANDS)


@pytest.mark.parametrize("command", [name for name in WALKED if name not in GROUPS])
def test_examples_use_options_that_there_are(command):
    text = towpath(*command.split(), "--help").stdout
    options, examples = text.split("\nOptions:\n")[1].split("\nExamples:\n")
    known = set(re.findall(r"(?<=[ ,])(-\w|--[a-z-]+)\b", options))
    lines = [line.split(" -- ")[0] for line in examples.splitlines()]
    lines = [re.split(r" [|&>] | && ", line[line.index(f"towpath {command}"):])[0]
             for line in lines if f"towpath {command}" in line]  # fmt: skip
    assert lines
    for line in lines:
        for word in line.split()[2:]:
            if re.match(r"--?[a-z]", word):
                assert word.split("=")[0] in known, line


def test_manual_and_guide_have_every_command():
    docs = pathlib.Path(__file__).parents[2] / "docs"
    manual = (docs / "man/towpath.1").read_text()
    assert all(f".Ss towpath {command}" in manual for command in COMMANDS)
    guide = (docs / "guide/commands.md").read_text()
    assert all(f"{command}" in guide for command in COMMANDS)


def test_help_lists_all_commands():
    done = towpath("--help")
    assert done.returncode == 0
    assert all(f"  {command} " in done.stdout for command in COMMANDS)
    assert towpath("--version").stdout.startswith("towpath ")


USAGE = (
    (), ("fly",), ("--nope",), ("--socket",), ("status", "more"), ("status", "--nope"),
    ("status", "-x"), ("status", "-o", "xml"), ("status", "-o"), ("status", "-o", "compact"),
    ("status", "--color", "blue"), ("apply",), ("apply", "-f"), ("apply", "-f", "x", "more"),
    ("delete",), ("delete", "pod"), ("delete", "pod", "A_B"), ("get",), ("get", "cats"),
    ("get", "pods", "a", "b"), ("get", "pods", "-l", "novalue"), ("get", "pods", "../x"),
    ("get", "namespaces", "-n", "x"), ("run",), ("run", "a"), ("run", "a", "--"),
    ("run", "--", "true"), ("run", "A", "--", "true"), ("run", "a/b/c", "--", "true"),
    ("run", "..", "--", "true"), ("run", "-n", "x.y", "a", "--", "true"),
    ("run", "a", "-p", "0", "--", "true"), ("run", "a", "-p", "80/icmp", "--", "true"),
    ("run", "a", "-p", "=80", "--", "true"), ("run", "a", "-l", "x", "--", "true"),
    ("exec",), ("exec", "a"), ("rm",), ("rm", "a", "--grace", "soon"), ("flows", "more"),
    ("flows", "--last", "-1"), ("flows", "--last", "few"), ("flows", "--since", "then"),
    ("trace",), ("trace", "--from", "a", "--to", "b"), ("trace", "--from", "a", "--dport", "1"),
    ("trace", "--from", "a", "--to", "b", "--dport", "x"), ("trace", "--nope"),
    ("top", "cats"), ("top", "flows", "more"), ("top", "--sort", "age"), ("top", "-r", "0"),
    ("top", "--interval", "1ms"), ("top", "--interval", "soon"),
    ("explain",), ("explain", "--from", "a", "--to", "b"),
    ("explain", "--from", "a", "--to", "b", "--port", "99999"),
    ("explain", "--from", "a", "--to", "b", "--port", "80/icmp"),
    ("map",), ("map", "fly"), ("map", "list", "x"), ("map", "show"), ("map", "dump"), ("map", "dump", "a", "b"),
    ("map", "get", "a"), ("map", "set", "a", "1"), ("map", "set", "a", "1", "2", "-f", "x"),
    ("map", "delete", "a"), ("map", "watch"), ("map", "list", "--type"),
    ("program",), ("program", "fly"), ("program", "build"), ("program", "build", "a.c", "b.c"),
    ("program", "build", "a.txt"), ("program", "build", "a.c", "-o", "a.c"), ("program", "build", "-x", "a.c"),
    ("explain", "--from", "a", "--to", "b", "--port", "80x"), ("completion", "fish"), ("status", "-o", "wide"),
)  # fmt: skip


@pytest.mark.parametrize("argv", USAGE, ids=" ".join)
def test_usage_errors(argv):
    done = towpath(*argv)
    assert done.returncode == 2, done
    assert not done.stdout
    if argv:
        assert len(done.stderr.splitlines()) == 1
        assert "--help" in done.stderr


CALLS = (
    ("status",), ("top",), ("get", "pods"), ("get", "endpoints"), ("flows",), ("flows", "-f"),
    ("explain", "--from", "a", "--to", "b", "--port", "80"), ("delete", "pod", "a"),
    ("apply", "-f", "-"), ("run", "a", "--", "true"), ("exec", "a", "--", "true"), ("rm", "a"),
)  # fmt: skip


@pytest.mark.parametrize("argv", CALLS, ids=" ".join)
def test_no_agent_is_one_sentence(argv):
    done = towpath(*argv, stdin="{}")
    assert done.returncode == 1
    assert not done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert "towpathd" in done.stderr


def test_socket_option_before_and_after_the_command():
    for argv in (("--socket", "/elsewhere/s", "status"), ("status", "--socket", "/elsewhere/s")):
        assert "/elsewhere/s" in towpath(*argv).stderr


def test_files_that_cannot_be_sent(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"kind: \xe9\n")
    (tmp_path / "nul.yaml").write_bytes(b"kind: \0\n")
    (tmp_path / "empty").mkdir()
    for path, word in (
        (tmp_path / "latin.yaml", "UTF-8"), (tmp_path / "nul.yaml", "UTF-8"),
        (tmp_path / "empty", "*.yaml"), (tmp_path / "absent", "absent"),
    ):  # fmt: skip
        done = towpath("apply", "-f", str(path))
        assert done.returncode == 1
        assert word in done.stderr and str(path) in done.stderr
        assert len(done.stderr.splitlines()) == 1
    done = towpath("apply", "-f", "-", "-f", "-", stdin="{}")
    assert done.returncode == 1 and "twice" in done.stderr


def test_output_that_cannot_be_written():
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([binary("towpath"), "--help"], stdout=full, stderr=subprocess.PIPE,
                              check=False)  # fmt: skip
        assert done.returncode == 1
        assert b"No space" in done.stderr


def test_features_are_found_by_trying():
    done = towpath("features", "-o", "json")
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    here = {f["name"]: f["here"] for f in answer["features"]}
    assert here["map hash"] == here["program tc"] == "yes"
    assert set(here.values()) <= {"yes", "no", "unknown"}
    table = towpath("features").stdout
    assert all(name in table for name in here)
    assert "\033[" not in table, "no colours but on a terminal"
    assert "\033[" in towpath("features", "--color", "always").stdout
