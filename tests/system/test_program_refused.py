# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""towpath program attach and replace with wrong or hostile input: one sentence, and nothing is
attached, pinned or stored."""

import base64
import contextlib
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import tempfile

import pytest
from netns import run
from node import ApiError
from program import COUNTS, HEAD, LICENCE, Cgroup, build, chain, counter, pins, programs, scratch

FOLDER = scratch()
GOOD = counter()


@pytest.fixture(scope="module")
def good():
    return build(FOLDER, GOOD, "good")


def stored(node):
    """Names in the database, from a copy: the agent holds the file's lock."""
    with tempfile.TemporaryDirectory() as copy:
        for path in node.state_dir.glob("towpath.db*"):
            shutil.copy(path, copy)
        with contextlib.closing(sqlite3.connect(f"{copy}/towpath.db")) as link:
            return [row[0] for row in link.execute("SELECT name FROM programs")]


@pytest.fixture
def refused(node):
    """refused(FILE, *PLACE, says=...): exit 1 with that sentence, and nothing is left."""

    def check(path, *words, says, code=1, command=("attach",)):
        before = everything(node)
        done = node.towpath("program", *command, path, *words, check=False)
        assert done.returncode == code, done
        assert done.stderr.count("\n") == 1 and done.stderr.startswith("towpath"), done.stderr
        assert says in done.stderr, done.stderr
        assert everything(node) == before

    return check


def everything(node):
    return (stored(node), pins(node), chain(node.netns, "up0"), chain(node.netns, "up0", side="egress"),
            chain(node.netns, "up0", "xdp"), sorted(programs(node)))  # fmt: skip


def write(name, data):
    path = FOLDER / name
    path.write_bytes(data)
    return path


def changed(path, at, data):
    bytes_ = bytearray(path.read_bytes())
    bytes_[at : at + len(data)] = data
    return write("changed.o", bytes(bytes_))


def without_section(path, name):
    out = FOLDER / f"without{name}.o"
    run("llvm-objcopy-19", f"--remove-section={name}", f"--remove-section=.rel{name}",
        f"--remove-section={name}.ext", f"--remove-section=.rel{name}.ext", path, out)  # fmt: skip
    return out


TC = ("--tc", "up0", "ingress")


# ---- files ------------------------------------------------------------------------------------------


def test_no_object(refused, good):
    refused(FOLDER / "none.o", *TC, says="cannot read ")
    refused("/bin/sh", *TC, says="sh is for ")
    refused(write("text.o", b"int main(void);\n" * 20), *TC, says="text.o is not an ELF file")
    refused(write("empty.o", b""), *TC, says="is not an ELF file")
    refused(changed(good, 4, b"\1"), *TC, says="is not a 64-bit ELF file")
    refused(changed(good, 5, b"\2"), *TC, says="the other byte order")
    refused(changed(good, 18, struct.pack("<H", 183)), *TC, says="is for arm64 and not for BPF")
    refused(changed(good, 16, struct.pack("<H", 2)), *TC, says="is no object file; compile it with -c")
    refused(write("half.o", good.read_bytes()[:700]), *TC, says="is cut off or damaged")
    refused(write("large.o", bytes((4 << 20) + 1)), *TC, says="an object file may have 4194304 bytes")


def test_machine_of_this_host(refused):
    source = write("native.c", b"int f(void) { return 1; }\n")
    subprocess.run(["cc", "-c", source, "-o", FOLDER / "native.o"], check=True)
    refused(FOLDER / "native.o", *TC, says="and not for BPF; compile it with -target bpf")


def test_licence_and_types(refused, good):
    refused(build(FOLDER, GOOD.replace(LICENCE, "")), *TC, says="states no licence; add: char _license[]")
    refused(without_section(good, ".BTF"), *TC, says="has no BTF (types); compile it with -g")


def test_damaged_anywhere(node, good):
    """Whatever byte is wrong: an answer, and an agent that goes on."""
    rng, whole = random.Random(7), good.read_bytes()
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        cut = len(data) if rng.random() < 0.7 else rng.randrange(len(data))
        body = {"file": "odd.o", "object": base64.b64encode(bytes(data[:cut])).decode(),
                "hook": "ingress", "device": "up0", "name": "odd"}  # fmt: skip
        try:
            node.api("POST", "/v1/programs", body)
        except ApiError as error:
            assert error.status in (400, 500) and error.reply["error"].count("\n") == 0
        else:
            node.towpath("program", "detach", "odd")
    assert node.agent.poll() is None and pins(node) == [] and stored(node) == []


# ---- programs in it --------------------------------------------------------------------------------


def test_which_program(refused, node, good):
    two = build(FOLDER, counter("one") + 'SEC("tc") int two(struct __sk_buff *ctx) { return 0; }\n')
    refused(two, *TC, says="has 2 programs for this hook (one, two); name one with --program")
    refused(two, *TC, "--program", "three", says="has no program three; it has one, two")
    node.towpath("program", "attach", two, *TC, "--program", "two")
    node.towpath("program", "detach", "two")
    none = build(FOLDER, HEAD + COUNTS + "int x = 1;\n" + LICENCE)
    refused(none, *TC, says="has no program in it")


def test_section_and_hook(refused, good):
    says = 'must be in SEC("{}")'
    refused(good, "--xdp", "up0", says=f'count is in section "tc", and what is to be attached there {says.format("xdp")}')
    refused(build(FOLDER, counter("x", "xdp", "2")), *TC, says=says.format("tc"))
    refused(build(FOLDER, counter("x", "tcx/egress")), *TC, says='in section "tcx/egress"')
    refused(build(FOLDER, counter("x", "xdp", "2").replace('"xdp"', '"xdp/devmap"')), "--xdp", "up0",
            says='in section "xdp/devmap"')  # fmt: skip
    with Cgroup() as group:
        connect6 = build(FOLDER, counter("x", "cgroup/connect6", "1"))
        refused(connect6, "--cgroup", group.path, "connect4", says=says.format("cgroup/connect4"))
        refused(build(FOLDER, counter("x", "cgroup_skb/ingress", "1")), "--cgroup", group.path, "egress",
                says='in section "cgroup_skb/ingress"')  # fmt: skip
        refused(good, "--sockops", group.path, says=says.format("sockops"))
        refused(connect6, "--cgroup", group.path, "connect7", says="there is no hook connect7 for a cgroup")


def test_verifier(refused):
    """The place and what is wrong there; `towpath program check` says more."""
    loop = build(FOLDER, counter(body="for (volatile int i = 0; ; i++) count_one();"), "loop")
    refused(loop, *TC, says="the kernel's verifier refuses count, at loop")
    blind = build(FOLDER, counter(body="return *(int *)(long)(ctx->data);"), "blind")
    refused(blind, *TC, says="it uses packet bytes from 0 on (4 of them)")
    refused(blind, *TC, says=f"'towpath program check {blind.name}' says why")
    licence = build(FOLDER, counter(body="bpf_get_current_task();").replace('"GPL"', '"Proprietary"'))
    refused(licence, *TC, says="the kernel's verifier refuses count")
    none = build(FOLDER, GOOD.replace("__uint(max_entries, 1)", "__uint(max_entries, 0)"))
    refused(none, *TC, says="cannot be loaded: ")


# ---- places ----------------------------------------------------------------------------------------


def test_places(refused, node, good):
    refused(good, "--tc", "eth77", "ingress", says="there is no interface eth77 on this node")
    refused(good, "--xdp", "eth77", says="there is no interface eth77 on this node")
    refused(good, "--endpoint", "shop/none", "ingress", says="there is no container shop/none on this node")
    skb = build(FOLDER, counter("x", "cgroup_skb/egress", "1"))
    refused(skb, "--cgroup", "none/of/these", "egress", says="there is no cgroup ")
    refused(skb, "--cgroup", "/tmp", "egress", says="/tmp is no cgroup of version 2")
    refused(good, *TC, "--before", "nobody", says="there is no program nobody to be before")
    refused(good, *TC, "--after", "4294967294", says="the program (id 4294967294) is not at this hook")
    refused(good, "--tc", "up0", "egress", "--after", "towpath", says="Towpath is not at this hook")
    refused(skb, "--cgroup", "/tmp", "egress", "--before", "x", says="only programs at tc hooks have an order")
    refused(good, *TC, "--name", "a.b", says="'a.b' is no name for a program")


@pytest.mark.parametrize("words, says", (
    ((), "say where: --xdp DEVICE"),
    (("--tc", "up0"), "--tc up0 needs ingress or egress behind it"),
    (("--tc", "up0", "sideways"), "--tc up0 needs ingress or egress behind it"),
    (("--endpoint", "a/b/c", "ingress"), "--endpoint takes NAMESPACE/POD"),
    (("--cgroup", "/x"), "--cgroup /x needs a hook behind it"),
    (("--xdp", "up0", "ingress"), '"ingress" is too much'),
    (("--xdp", "up0", "--tc", "up0", "ingress"), "it takes one place"),
))  # fmt: skip
def test_usage(refused, good, words, says):
    refused(good, *words, says=says, code=2)


def test_somebody_in_the_way(refused, node, good):
    xdp = build(FOLDER, counter("x", "xdp", "XDP_PASS"))
    node.towpath("program", "attach", xdp, "--xdp", "up0")
    number = programs(node)["x"]["id"]
    says = f"the program x (id {number}) is at the device's XDP hook already, which takes one"
    refused(xdp, "--xdp", "up0", "--name", "second", says=says)
    refused(xdp, "--xdp", "up0", says="there is a program x already")
    node.towpath("program", "detach", "x")
    with Cgroup() as group:
        skb = build(FOLDER, counter("x", "cgroup_skb/egress", "1"))
        pin = node.run_dir / "bpf/alone"
        run("bpftool", "prog", "load", skb, pin, "type", "cgroup/skb")
        run("bpftool", "cgroup", "attach", group.path, "egress", "pinned", pin)  # takes no other
        try:
            refused(skb, "--cgroup", group.path, "egress", says="attached so that it takes no other")
        finally:
            run("bpftool", "cgroup", "detach", group.path, "egress", "pinned", pin)
            pin.unlink()


def test_names_that_are_taken_or_gone(refused, node, good):
    node.towpath("program", "attach", good, *TC)
    refused(good, *TC, says="there is a program count already")
    node.towpath("program", "detach", "count")
    refused("none", good, command=("replace",), says="there is no program none; see towpath program list")
    done = node.towpath("program", "detach", "none", check=False)
    assert (done.returncode, done.stderr) == (
        1, "towpath: there is no program none; see towpath program list\n")  # fmt: skip


def test_replacement_that_is_refused_leaves_the_old_one(refused, node, good):
    node.towpath("program", "attach", good, *TC)
    before = programs(node)
    xdp = build(FOLDER, counter("x", "xdp", "XDP_PASS"))
    blind = build(FOLDER, counter(body="return *(int *)(long)(ctx->data);"))
    refused("count", xdp, command=("replace",), says='must be in SEC("tc")')
    refused("count", blind, command=("replace",), says="the kernel's verifier refuses count")
    refused("count", "/bin/sh", command=("replace",), says="sh is for ")
    assert programs(node) == before
    assert not list(node.run_dir.glob("bpf/programs/count/new"))
    node.towpath("program", "detach", "count")


def test_limit_of_programs(refused, node):
    skb = build(FOLDER, counter("x", "cgroup_skb/egress", "1"))
    body = {"file": "x.o", "object": base64.b64encode(skb.read_bytes()).decode(), "hook": "egress"}
    with Cgroup() as group:
        for i in range(64):
            node.api("POST", "/v1/programs", {**body, "cgroup": str(group.path), "name": f"x{i}"})
        refused(skb, "--cgroup", group.path, "egress", "--name", "x64", says="there are 64 programs already")
        node.towpath("program", "detach", *(f"x{i}" for i in range(64)))


def test_full_disk(node, good, refused):
    """The store cannot take the record: what is in the kernel already is taken back."""
    run("mount", "-t", "tmpfs", "-o", "size=1k", "none", node.state_dir)
    try:
        done = node.towpath("program", "attach", good, *TC, check=False)
    finally:
        run("umount", node.state_dir)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert chain(node.netns, "up0") == ["tw_from_uplink"] and pins(node) == []
    node.towpath("program", "attach", good, *TC)
    node.towpath("program", "detach", "count")


def test_only_root(node):
    """The group towpath may use the socket, and change policies, but run nothing in the kernel."""
    os.chmod(node.socket, 0o666)
    os.chmod(node.run_dir, 0o755)
    os.chmod(node.dir, 0o755)
    try:
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "curl", "-s", "--unix-socket",
             node.socket, "-X", "DELETE", "http://x/v1/programs/count"], capture_output=True, text=True,
            check=False)  # fmt: skip
        assert "only root may change which programs run in the kernel" in done.stdout, done
    finally:
        os.chmod(node.socket, 0o660)
