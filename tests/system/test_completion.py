# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Completion in bash and zsh: commands, options and words of the program, names of the agent."""

import os
import pathlib
import pty
import re
import select
import shutil
import signal
import subprocess
import time

import pytest
from node import Node, binary, pod_object, policy_object
from program import build, counter, scratch

TOWPATH = pathlib.Path(binary("towpath"))


@pytest.fixture(scope="module")
def node():
    with Node() as made:
        made.apply(
            pod_object("default", "front", {}, []), pod_object("shop", "web", {}, []),
            policy_object("shop", "closed", {"matchLabels": {"app": "no"}}, ingress=[]),
        )  # fmt: skip
        made.add_namespace("shop")
        made.add_pod("shop", "db", {})
        made.add_pod("default", "front", {})
        yield made


def bash(*words, socket="/nonexistent/towpath.sock"):
    """What bash offers for the last word."""
    script = """
        eval "$("$1" completion bash)"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }
        _towpath; printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", script, "bash", TOWPATH, TOWPATH, *words], capture_output=True, text=True,
        timeout=20, check=True, env={**os.environ, "TOWPATH_SOCKET": str(socket)},
    )  # fmt: skip
    return set(done.stdout.split())


class Zsh:
    """An interactive zsh on a terminal of its own, as a person has it."""

    def __init__(self, socket, install):
        home = install / "home"
        home.mkdir()
        (home / ".zshrc").write_text(
            "PS1='ready> '; unsetopt beep zle_bracketed_paste\n"
            "autoload -Uz compinit && compinit -u\n"
        )
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            env = {"PATH": f"{TOWPATH.parent}:{os.environ['PATH']}", "TERM": "dumb",
                   "ZDOTDIR": str(home), "HOME": str(home), "TOWPATH_SOCKET": str(socket),
                   "FPATH": f"{install}:{self.fpath()}"}  # fmt: skip
            os.chdir(install)
            os.execvpe("zsh", ["zsh", "-i"], env)
        self.until("ready> ")

    @staticmethod
    def fpath():
        done = subprocess.run(["zsh", "-fc", "print -r -- $FPATH"], capture_output=True, text=True,
                              check=True)  # fmt: skip
        return done.stdout.strip()

    def until(self, pattern, seconds=30):
        text, end = "", time.monotonic() + seconds
        while time.monotonic() < end and not re.search(pattern, text):
            if select.select([self.fd], [], [], 0.2)[0]:
                text += os.read(self.fd, 65536).decode(errors="replace")
        assert re.search(pattern, text), text
        return text

    def line(self, typed):
        """What the line is after Tab: printed by having it made an argument of print."""
        os.write(self.fd, f"{typed}\t\x01print -r -- 'LINE<' \x05 '>LINE'\n".encode())
        text = self.until("LINE< [^\n]* >LINE\r?\n")
        return re.findall("LINE< ([^\n]*) >LINE\r?\n", text)[-1].strip()

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


def test_words_of_the_program(tmp_path):
    assert bash("") >= {"status", "top", "completion"}
    assert bash("fe") == {"features"}
    assert bash("flows", "--ver") == {"--verdict"}
    assert bash("flows", "--verdict", "d") == {"deny"}
    assert bash("flows", "--type", "new,d") == {"new,drop"}
    assert bash("flows", "--reason", "policy_") == {"policy_egress", "policy_ingress"}
    assert bash("flows", "-o", "") == {"table", "json", "yaml", "compact"}
    assert bash("get", "-o", "w") == {"wide"}
    assert bash("get", "na") == {"namespaces"}
    assert bash("get", "-o", "wide", "end") == {"endpoints"}
    assert bash("top", "") == {"flows", "endpoints", "policies"}
    assert bash("top", "--sort", "d") == {"drops"}
    assert bash("completion", "") == {"bash", "zsh"}
    assert bash("cni", "") >= {"install", "uninstall"}
    assert bash("program", "bu") == {"build"}
    assert bash("program", "build", "--out") == {"--output"}
    assert bash("program", "attach", "a.o", "--cgroup", "/x", "conn") == {"connect4", "connect6"}
    assert bash("program", "attach", "a.o", "--tc", "eth0", "e") == {"egress"}
    assert "lo" in bash("program", "list", "--device", "")
    (tmp_path / "count.c").touch()
    assert bash("program", "build", f"{tmp_path}/co") == {f"{tmp_path}/count.c"}
    assert bash("program", "build", "-o", f"{tmp_path}/co") == {f"{tmp_path}/count.c"}
    (tmp_path / "policy.yaml").touch()
    assert bash("apply", "-f", f"{tmp_path}/po") == {f"{tmp_path}/policy.yaml"}


def test_names_of_the_agent(node):
    def offered(*words):
        return bash(*words, socket=node.socket)

    assert offered("get", "pods", "-n", "") == {"shop"}
    assert offered("get", "pods", "") == {"front", "default/front", "shop/db", "shop/web"}
    assert offered("get", "pods", "-n", "shop", "") == {"db", "web"}
    assert offered("get", "endpoints", "shop/") == {"shop/db"}
    assert offered("delete", "networkpolicies", "-n", "shop", "") == {"closed"}
    assert offered("exec", "-n", "shop", "") == {"db"}
    assert offered("explain", "--from", "sh") == {"shop/db"}
    assert offered("flows", "--to", "w") == {"world"}
    assert offered("flows", "--policy", "shop/c") == {"shop/closed"}
    assert offered("program", "list", "--endpoint", "sh") == {"shop/db"}
    node.towpath("program", "attach", build(scratch(), counter()), "--tc", "up0", "ingress")
    for command in ("show", "stats", "replace", "detach"):
        assert offered("program", command, "") >= {"count"}, command
    assert offered("program", "attach", "a.o", "--before", "") == {"count", "towpath"}
    node.towpath("program", "detach", "count")
    # The agent that an option names is asked.
    assert bash("get", "--socket", node.socket, "endpoints", "shop/") == {"shop/db"}
    assert bash("--socket", node.socket, "get", "endpoints", "shop/") == {"shop/db"}


def test_an_agent_that_hangs_does_not_hold_the_shell_up(node):
    node.agent.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        done = subprocess.run([TOWPATH, "--complete", "get", "pods", ""], env=node.env(),
                              capture_output=True, text=True, timeout=20, check=True)  # fmt: skip
        assert not done.stdout and not done.stderr
        assert time.monotonic() - started < 5
    finally:
        node.agent.send_signal(signal.SIGCONT)


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh: scripts/setup.sh gets it")
@pytest.mark.parametrize("how", ("fpath", "sourced"))
def test_zsh(node, tmp_path, how):
    script = subprocess.run([TOWPATH, "completion", "zsh"], capture_output=True, text=True,
                            check=True).stdout  # fmt: skip
    if how == "fpath":
        (tmp_path / "_towpath").write_text(script)
    zsh = Zsh(node.socket, tmp_path)
    try:
        if how == "sourced":
            os.write(zsh.fd, b"source <(towpath completion zsh); print so''urced\n")
            zsh.until("sourced")
        assert zsh.line("towpath fea") == "towpath features"
        assert zsh.line("towpath flows --verd") == "towpath flows --verdict"
        assert zsh.line("towpath get pods shop/w") == "towpath get pods shop/web"
        assert zsh.line("towpath exec -n shop d") == "towpath exec -n shop db"
        (tmp_path / "policy.yaml").touch()
        assert zsh.line("towpath apply -f pol") == "towpath apply -f policy.yaml"
    finally:
        zsh.close()
