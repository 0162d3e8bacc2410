# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""towpath log: what programs print, by program, without robbing other readers; drops of the kernel's stack."""

import contextlib
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import tempfile
import time

import pytest

from netns import cleanup_pop, cleanup_push
from node import AF, Node, binary
from traffic import port_new, wait_for

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int %(p)s_first(struct __sk_buff *skb)
{
	bpf_printk("%(p)s: %%d bytes", skb->len);
	bpf_printk("a%%s %(p)s 100%%%%\\n", "\\x1b[2Jb");
	return 0;
}
SEC("tc") int %(p)s_a_name_longer_than_the_kernel_keeps(struct __sk_buff *skb)
{
	bpf_printk("%(p)s two %%d %%d %%d %%d", 1, 2, 3, 4);
	bpf_printk("%(p)s: both");
	return 0;
}
SEC("tc") int %(p)s_third(struct __sk_buff *skb)
{
	bpf_printk("%(p)s: both");
	bpf_printk("%(p)s line\\nand another");
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


class Programs:
    """Programs that print, with names that no other test has."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="towpath-test-"))
        self.prefix = f"p{os.getpid() % 10000}"
        self.long = f"{self.prefix}_a_name_longer_than_the_kernel_keeps"
        self.bpf = self.dir / "bpf"
        self.bpf.mkdir()
        cleanup_push(self.close)
        subprocess.run(["mount", "-t", "bpf", "bpf", self.bpf], check=True)
        (self.dir / "p.c").write_text(SOURCE % {"p": self.prefix})
        (self.dir / "packet").write_bytes(bytes(60))
        subprocess.run([binary("towpath"), "program", "build", "p.c"], cwd=self.dir, check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip

    def load(self):
        subprocess.run(["bpftool", "prog", "loadall", self.dir / "p.o", self.bpf / "p"], check=True)

    def close(self):
        cleanup_pop(self.close)
        subprocess.run(["umount", self.bpf], check=False)
        subprocess.run(["rm", "-rf", self.dir], check=False)

    def run(self, name, times=1):
        subprocess.run(["bpftool", "prog", "run", "pinned", self.bpf / "p" / f"{self.prefix}_{name}", "data_in",
                        self.dir / "packet", "repeat", str(times)], check=True, stdout=subprocess.DEVNULL)  # fmt: skip


class Log:
    """A running `towpath log`, and what it has said so far."""

    def __init__(self, *argv, env=None, prefix=()):
        self.process = subprocess.Popen([*prefix, binary("towpath"), "log", *argv], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env={**os.environ, **(env or NO_AGENT)})  # fmt: skip
        self.text = self.errors = ""
        os.set_blocking(self.process.stdout.fileno(), False)
        os.set_blocking(self.process.stderr.fileno(), False)

    def read(self):
        """What came within a moment is added; all of it."""
        out, err = self.process.stdout, self.process.stderr
        ready = select.select([out, err], [], [], 0.05)[0]
        if out in ready:
            self.text += (out.read() or b"").decode()
        if err in ready:
            self.errors += (err.read() or b"").decode()
        return self.text

    def has(self, pattern, run=None, seconds=20):
        """Waits for a line; run() is done again and again, as nobody sees when the reader is ready."""

        def found():
            if run:
                run()
            return re.search(pattern, self.read(), re.M)

        assert wait_for(found, seconds, 0.1), self.text + self.errors
        return True

    def records(self):
        return [json.loads(line) for line in self.text[: self.text.rindex("\n") + 1].splitlines()]

    def end(self, number=signal.SIGINT):
        self.process.send_signal(number)
        assert self.process.wait(20) is not None
        self.read()
        return self.process.returncode

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


NO_AGENT = {"TOWPATH_SOCKET": "/nonexistent/towpath.sock"}


def run_log(*argv, env=None, prefix=()):
    return subprocess.run([*prefix, binary("towpath"), "log", *argv], capture_output=True, text=True, timeout=30,
                          env={**os.environ, **(env or NO_AGENT)}, check=False)  # fmt: skip


@pytest.fixture(scope="module", name="programs")
def programs_loaded():
    with contextlib.closing(Programs()) as made:
        made.load()
        yield made


@contextlib.contextmanager
def tracefs():
    """In a place of the test's own."""
    folder = tempfile.mkdtemp(prefix="towpath-test-")
    subprocess.run(["mount", "-t", "tracefs", "tracefs", folder], check=True)
    try:
        yield pathlib.Path(folder)
    finally:
        subprocess.run(["umount", folder], check=True)
        os.rmdir(folder)


def test_text_by_program(programs):
    p = programs.prefix
    with contextlib.closing(Log("trace", "-f", "--last", "0")) as log:
        log.has(f"{p}_first .*{p}: 60 bytes", lambda: programs.run("first"))
        log.has(f"^[0-9:.]+  trace   {p}_first  +{p}: 60 bytes \\(CPU \\d+, bpftool \\d+\\)$")
        # Nothing that a program prints reaches the terminal but characters.
        log.has(f"{p}_first  +a\\\\x1b\\[2Jb {p} 100% \\(")
        programs.run("a_name_longer_than_the_kernel_keeps")
        log.has(f"{programs.long}  +{p} two 1 2 3 4 \\(")
        log.has(f" ({programs.long},{p}_third|{p}_third,{programs.long})  +{p}: both \\(")
        assert log.end() == 0 and not log.errors


def test_filter_by_program_and_json(programs):
    p = programs.prefix
    with contextlib.closing(Log("-f", "--program", f"{p}_third", "-o", "json", "--last", "0")) as log:

        def run():
            programs.run("first")
            programs.run("third")

        log.has(f"{p}: both", run)
        log.has("and another", run)
        records = log.records()
        assert {record["source"] for record in records} == {"trace"}
        assert not [record for record in records if "bytes" in record["text"]]
        both = next(record for record in records if record["text"] == f"{p}: both")
        assert {program["name"] for program in both["programs"]} == {f"{p}_third", programs.long}
        assert both["comm"] == "bpftool" and both["pid"] > 0 and both["cpu"] >= 0
        assert abs(both["time"] / 1e9 - time.time()) < 60
        assert log.end(signal.SIGTERM) == 0


def test_a_program_that_comes_later():
    with contextlib.closing(Programs()) as made, contextlib.closing(Log("trace", "-f", "--last", "0")) as log:
        made.load()
        log.has(f"{made.prefix}_first  +{made.prefix}: 60 bytes", lambda: made.run("first"))


def test_other_readers_are_not_robbed(programs):
    """What is in the common buffer stays, and the own one goes with its reader, also after a kill."""
    p = programs.prefix
    with tracefs() as fs, contextlib.closing(Log("trace", "-f", "--last", "0")) as log:
        log.has(f"{p}: 60 bytes", lambda: programs.run("first"))
        assert f"{p}: 60 bytes" in (fs / "trace").read_text()
        mine = fs / f"instances/towpath.{log.process.pid}"
        assert mine.is_dir()
        log.process.kill()
        log.process.wait()
        assert mine.is_dir()
        with contextlib.closing(Log("trace", "-f", "--last", "0")) as other:
            assert wait_for((fs / f"instances/towpath.{other.process.pid}").is_dir, 20)
            assert not mine.exists(), "what is left by one that was killed goes"
            other.end()
        assert not (fs / f"instances/towpath.{other.process.pid}").exists()


def test_past_of_the_common_buffer(programs):
    p = programs.prefix
    programs.run("first", 3)
    done = run_log("trace", "--program", f"{p}_first", "--last", "2", "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(records) == 2
    assert all(record["programs"][0]["name"] == f"{p}_first" for record in records)
    again = run_log("trace", "--program", f"{p}_first", "--last", "2", "-o", "json")
    assert [r["text"] for r in map(json.loads, again.stdout.splitlines())] == [r["text"] for r in records]


def test_output_that_ends(programs):
    """As with `head`: the process ends, and its buffer goes."""
    with tracefs() as fs:
        argv = f'{binary("towpath")} log trace -f --last 0 & echo $!; wait'
        shell = subprocess.Popen(["sh", "-c", argv], stdout=subprocess.PIPE, env={**os.environ, **NO_AGENT})
        pid = int(shell.stdout.readline())
        assert wait_for((fs / f"instances/towpath.{pid}").is_dir, 20)
        shell.stdout.close()

        def ended():
            programs.run("first")
            return shell.poll() is not None

        assert wait_for(ended, 20, 0.1)
        assert not (fs / f"instances/towpath.{pid}").exists()


def test_without_an_agent_or_root(programs):
    done = run_log("drops")
    assert done.returncode == 1 and "towpathd" in done.stderr and len(done.stderr.splitlines()) == 1
    done = run_log("--last", "0")
    assert done.returncode == 0 and "no agent answers" in done.stderr, "text goes on"
    nobody = ("setpriv", "--reuid", "65534", "--clear-groups")
    done = run_log("trace", prefix=nobody)
    assert (done.returncode, done.stderr) == (1, "towpath: what programs print is root's to read: use sudo\n")


def test_wrong_words():
    for argv, sentence in (
        (("traces",), 'there is trace and drops, not "traces"'),
        (("trace", "--pod", "a"), "--program is for trace, --pod and --reason are for drops"),
        (("drops", "--program", "a"), "--program is for trace, --pod and --reason are for drops"),
        (("--last", "few"), '--last takes a number, not "few"'),
    ):
        done = run_log(*argv)
        assert (done.returncode, done.stderr) == (2, f"towpath log: {sentence}; see towpath log --help\n")


# ---- drops ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", name="node")
def node_made():
    with Node() as made:
        if not wait_for(lambda: made.status()["kernel"]["drop_reasons"], 10):
            pytest.skip("this kernel does not tell why it drops")
        made.add_pod("shop", "web")
        made.add_pod("shop", "db")
        yield made


def test_drops_of_containers(node):
    web, db = node.pods.values()
    env = {"TOWPATH_SOCKET": node.socket}
    port = port_new()

    def send():
        with web.netns.socket(AF[4], socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", (db.ip(4), port))

    with contextlib.closing(Log("drops", "-f", "--last", "0", env=env)) as log:
        log.has(rf"^[0-9:.]+  drop    shop/db  +NO_SOCKET: shop/web:\d+ -> shop/db:{port} udp", send)
        assert log.end() == 0
    done = run_log("--pod", "shop/db", "--reason", "NO_SOCKET", "-o", "json", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert records and {(r["source"], r["reason"], r["hook"]) for r in records} == {("drop", "NO_SOCKET", "kernel")}
    assert not run_log("--pod", "shop/nobody", "-o", "json", env=env).stdout
    assert not run_log("drops", "--reason", "TCP_CSUM", "-o", "json", env=env).stdout
    done = run_log("drops", "--reason", "no_such_reason", env=env)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1


def test_drops_over_a_restart_of_the_agent(node):
    web, db = node.pods.values()
    port = port_new()

    def send():
        with web.netns.socket(AF[4], socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", (db.ip(4), port))

    with contextlib.closing(Log("drops", "-f", "--last", "0", env={"TOWPATH_SOCKET": node.socket})) as log:
        log.has(f"NO_SOCKET: .*:{port} udp", send)
        node.kill()
        assert wait_for(lambda: log.read() is not None and "waiting until it is back" in log.errors, 20)
        node.start()
        port = port_new()
        log.has(f"NO_SOCKET: .*:{port} udp", send)
