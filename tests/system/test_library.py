# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""libtowpath as others use it: installed, found by pkg-config, its symbols, an example on traffic."""

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile

import pytest

from netns import Netns, cleanup_pop, cleanup_push
from node import BUILD, REPO, binary

HEADERS = ("check", "client", "events", "map", "program")


def run(*argv, **kw):
    return subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=120, check=True, **kw)


class Installed:
    """The library below a DESTDIR, and what pkg-config says of it."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="towpath-test-"))
        cleanup_push(self.close)
        run("meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", self.dir)
        (self.pc,) = self.dir.rglob("libtowpath.pc")
        (self.lib,) = [path for path in self.dir.rglob("libtowpath.so.0") if path.is_symlink()]
        self.env = {**os.environ, "PKG_CONFIG_PATH": str(self.pc.parent), "PKG_CONFIG_SYSROOT_DIR": str(self.dir),
                    "LD_LIBRARY_PATH": str(self.lib.parent)}  # fmt: skip

    def close(self):
        cleanup_pop(self.close)
        shutil.rmtree(self.dir)

    def flags(self, what):
        # The system's own libraries are not below DESTDIR.
        own = run("pkg-config", what, "libtowpath", env=self.env).stdout.split()
        return [word for word in own if not word.startswith("-L") or self.dir.name in word]

    def compile(self, source, out):
        return run("cc", "-Wall", "-Wextra", "-Werror", "-O2", "-o", out, source, *self.flags("--cflags"),
                   *self.flags("--libs"), *shlex.split(run("pkg-config", "--cflags", "--libs", "jansson").stdout))


@pytest.fixture(scope="module", name="installed")
def library_installed():
    made = Installed()
    yield made
    made.close()


@pytest.fixture(scope="module", name="example")
def example_built(installed):
    run(binary("towpath"), "program", "build", REPO / "examples/library/watch.bpf.c", "-o", installed.dir / "watch.o")
    installed.compile(REPO / "examples/library/watch.c", installed.dir / "watch")
    return installed


def declared():
    """The functions of the public headers."""
    names = set()
    for header in HEADERS:
        text = re.sub(r"/\*.*?\*/", "", (REPO / f"include/towpath/{header}.h").read_text(), flags=re.S)
        names |= set(re.findall(r"\b(tw_\w+)\s*\(", text))
    return names


def test_exported_is_what_the_headers_declare(installed):
    listed = run("nm", "-D", "--defined-only", "--with-symbol-versions", installed.lib).stdout.splitlines()
    symbols = [line.split()[-1] for line in listed if line.split()[1] == "T"]
    assert {name.split("@@")[0] for name in symbols} == declared()
    assert {name.split("@@")[1] for name in symbols} == {"LIBTOWPATH_0.1"}
    assert {line.split()[-1].split("@")[0] for line in listed} - declared() == {"LIBTOWPATH_0.1"}
    script = (REPO / "lib/libtowpath.map").read_text()
    assert set(re.findall(r"^\t(\w+);$", script, re.M)) == declared()


def test_towpaths_own_programs_start_without_it():
    for name in ("towpath", "towpathd", "towpath-cni"):
        needed = run("readelf", "-d", binary(name)).stdout
        assert "libtowpath" not in needed, name


def test_installed_for_developers(installed):
    assert run("pkg-config", "--modversion", "libtowpath", env=installed.env).stdout.strip()
    headers = {path.stem for path in installed.dir.rglob("include/towpath/*.h")}
    assert headers == set(HEADERS)
    assert "libtowpath.so.0" in run("readelf", "-d", installed.lib).stdout


@pytest.mark.parametrize("header", HEADERS)
def test_each_header_stands_alone(installed, header):
    for language, flags in (("c", ("-std=c11", "-Wpedantic")), ("c++", ())):
        compiler = "cc" if language == "c" else "c++"
        if not shutil.which(compiler):
            continue
        subprocess.run([compiler, "-x", language, *flags, "-Wall", "-Wextra", "-Werror", "-fsyntax-only",
                        *installed.flags("--cflags"), "-"], input=f"#include <towpath/{header}.h>\n", text=True,
                       check=True)  # fmt: skip


def test_example_on_traffic(example):
    here, there = Netns("lib"), Netns("lib")
    try:
        here.ip(f"link add up0 type veth peer name net0 netns {there.name}", "link set up0 up",
                "addr add 192.0.2.1/24 dev up0")
        there.ip("link set net0 up", "addr add 192.0.2.7/24 dev net0", "addr add 192.0.2.8/24 dev net0")
        watch = here.popen(example.dir / "watch", example.dir / "watch.o", "up0", 60, env=example.env,
                           stdout=subprocess.PIPE, text=True)  # fmt: skip
        try:
            assert watch.stdout.readline() == "watch is at up0\n"
            with there.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for _ in range(5):
                    sock.sendto(b"x" * 100, ("192.0.2.1", 9))
            with there.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(("192.0.2.8", 0))
                sock.sendto(b"x", ("192.0.2.1", 9))
            said = ""
            while '"saddr":"192.0.2.8"' not in said:
                line = watch.stdout.readline()
                assert line, said
                said += line
            watch.send_signal(signal.SIGINT)
            said += watch.communicate(timeout=60)[0]
        finally:
            watch.kill()
            watch.wait()
        assert watch.returncode == 0
        lines = [line.split(" ", 1) for line in said.splitlines()]
        first = [json.loads(text) for what, text in lines if what == "new"]
        assert [event["saddr"] for event in first] == ["192.0.2.7", "192.0.2.8"]
        assert first[0] == {"saddr": "192.0.2.7", "daddr": "192.0.2.1", "protocol": 17}
        sent = {entry["address"]: entry["sent"] for entry in
                (json.loads(text) for what, text in lines if what == "source")}
        # An ICMP error may not come back: nothing else is sent from there.
        assert sent["192.0.2.7"] == {"packets": 5, "bytes": 5 * 142}
        assert sent["192.0.2.8"] == {"packets": 1, "bytes": 43}
        # Attached for as long as it ran.
        with here:
            listed = run("bpftool", "-j", "net", "show", "dev", "up0").stdout
        assert "watch" not in listed
    finally:
        here.delete()
        there.delete()


def refused(example, *argv):
    done = subprocess.run([example.dir / "watch", *map(str, argv)], env=example.env, capture_output=True, text=True,
                          timeout=60, check=False)  # fmt: skip
    assert done.returncode == 1 and not done.stdout, done
    return done.stderr.splitlines()


def test_refusals(example):
    good = example.dir / "watch.o"
    assert refused(example, good, "none0") == ["watch: there is no device none0"]
    assert refused(example, example.dir / "none.o", "lo") == [
        f"watch: cannot read {example.dir}/none.o: No such file or directory"]  # fmt: skip
    (example.dir / "text.o").write_text("no object")
    assert refused(example, example.dir / "text.o", "lo")[-1].startswith("watch: ")
    (example.dir / "bad.c").write_text("""#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int bad(struct __sk_buff *skb) { return *(int *)(long)skb->data; }
char LICENSE[] SEC("license") = "GPL";
""")
    run(binary("towpath"), "program", "build", "bad.c", cwd=example.dir)
    lines = refused(example, example.dir / "bad.o", "lo")
    assert re.match(r".*bad\.c:3: ", lines[0]), "the line of C"
    assert len(lines) >= 3
