# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""towpath program build: clang's command, its warnings with advice, and what is said when it fails."""

import os
import shlex
import subprocess

import pytest

from node import binary

HEAD = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
"""


def build(source, *argv, cwd, **env):
    return subprocess.run(
        [binary("towpath"), "program", "build", source, *argv], cwd=cwd, capture_output=True, text=True,
        timeout=60, check=False, env={**os.environ, **env},
    )  # fmt: skip


def write(folder, body, name="a.c", head=HEAD):
    (folder / name).write_text(head + body)
    return name


def test_the_command_that_is_printed_does_the_same(tmp_path):
    name = write(tmp_path, 'SEC("xdp") int f(struct xdp_md *ctx) { return XDP_PASS; }\n')
    done = build(name, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first = (tmp_path / "a.o").read_bytes()
    (tmp_path / "a.o").unlink()
    subprocess.run(shlex.split(done.stdout), cwd=tmp_path, check=True)
    assert (tmp_path / "a.o").read_bytes() == first


def test_output_options_and_odd_names(tmp_path):
    name = write(tmp_path, 'SEC("xdp") int f(struct xdp_md *ctx) { return ANSWER; }\n', "it's a.c")
    done = build(name, "-o", "out file.o", "--", "-DANSWER=2", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first = (tmp_path / "out file.o").read_bytes()
    subprocess.run(["sh", "-c", done.stdout], cwd=tmp_path, check=True)
    assert (tmp_path / "out file.o").read_bytes() == first


def test_headers_of_towpath(tmp_path):
    body = """#include <towpath/bpf/packet.h>
    SEC("tc") int f(struct __sk_buff *skb)
    {
        struct cursor c = cursor_skb(skb);
        struct packet_eth eth;
        struct iphdr *ip = packet_eth(&c, &eth) ? packet_ipv4(&c) : NULL;
        return ip && ip->ttl == 1 ? 2 : 0;
    }"""
    for head in (HEAD, ""):
        done = build(write(tmp_path, body, head=head), cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")


WARNINGS = (
    ("int x; if (ctx->data) x = 1; return x;", 0, "every path"),
    ("char *d = (char *)ctx->data; return d != 0;", 0, "(void *)(long)ctx->data"),
    ("", 0, "R0 !read_ok"),
    ("char b[600]; __builtin_memset(b, ctx->data, 600); bpf_trace_printk(b, 600); return 1;", 1, "512 bytes"),
    ("return printf(\"x\");", 1, "no C library"),
    ("float f = ctx->data; return f * 2.5f;", 1, "floating point"),
    ("return nothing;", 1, None),
)  # fmt: skip


@pytest.mark.parametrize(("body", "status", "advice"), WARNINGS)
def test_warnings_and_errors_have_advice(tmp_path, body, status, advice):
    name = write(tmp_path, f'SEC("xdp") int f(struct xdp_md *ctx) {{ {body} }}\n')
    done = build(name, cwd=tmp_path)
    assert done.returncode == status
    assert f"{name}:4:" in done.stderr, "clang's own words come through"
    said = [line for line in done.stderr.splitlines() if line.startswith("advice: ")]
    assert len(said) == (1 if advice else 0)
    assert not advice or advice in said[0]
    assert (tmp_path / "a.o").exists() == (status == 0)
    if status:
        assert done.stderr.splitlines()[-1] == "towpath: a.o was not built: see what clang says above"


def test_headers_that_are_not_there(tmp_path):
    for head, advice in (
        ("#include <string.h>\n", "no C library"),
        ('#include "vmlinux.h"\n', "bpftool btf dump"),
        ("#include <bpf/bpf_helpers.h>\n", "<linux/bpf.h> must be included"),
    ):
        done = build(write(tmp_path, "", head=head), cwd=tmp_path)
        assert done.returncode == 1
        assert advice in done.stderr


def test_a_variable_named_as_its_section(tmp_path):
    done = build(write(tmp_path, "", head=HEAD.replace("LICENSE", "license")), cwd=tmp_path)
    assert done.returncode == 1 and 'advice: a variable cannot have the name of a section' in done.stderr


def test_refusals_are_one_sentence(tmp_path):
    name = write(tmp_path, "")
    (tmp_path / "bin").mkdir()
    for source, env, word in (
        ("absent.c", {}, "cannot read absent.c: No such file"),
        (name, {"PATH": str(tmp_path / "bin")}, "apt install clang libbpf-dev"),
        (name, {"CLANG": "/nowhere/clang"}, "cannot run /nowhere/clang"),
    ):
        done = build(source, cwd=tmp_path, **env)
        assert done.returncode == 1
        assert word in done.stderr and len(done.stderr.splitlines()) == 1
        assert not (tmp_path / "a.o").exists()
