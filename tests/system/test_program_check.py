# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""towpath program check: the kernel's verifier on every example of examples/verifier, and what is said.

Each folder has bad.c, which is refused at the line marked so, explanation.txt, which is what check says
of it (but for the verifier's own words, which are each kernel's), and good.c, which is taken.
TOWPATH_EXAMPLES=update writes the explanations anew."""

import concurrent.futures
import json
import os
import re
import shutil
import struct
import subprocess
import time

import pytest

from node import REPO, binary

EXAMPLES = REPO / "examples/verifier"
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
UPDATE = os.environ.get("TOWPATH_EXAMPLES") == "update"
HEAD = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
"""


def run(*argv, cwd=None):
    return subprocess.run([str(word) for word in argv], cwd=cwd, capture_output=True, text=True, timeout=60,
                          check=False)  # fmt: skip


def towpath(*argv, cwd=None, before=()):
    return run(*before, binary("towpath"), "program", *argv, cwd=cwd)


def fewer(capabilities):
    """Root with no others."""
    words = "-all," + ",".join(f"+{name}" for name in capabilities.strip().split(","))
    return ("setpriv", f"--bounding-set={words}", f"--inh-caps={words}")


def example(name, folder):
    """What check said of bad.c and of good.c."""
    for path in (EXAMPLES / name).glob("*.c"):
        shutil.copy(path, folder)
    flags, capabilities = (EXAMPLES / name / file for file in ("flags", "capabilities"))
    options = ("--", *flags.read_text().split()) if flags.exists() else ()
    built = towpath("build", "bad.c", *options, cwd=folder), towpath("build", "good.c", cwd=folder)
    assert [done.returncode for done in built] == [0, 0], built
    assert not built[1].stderr, "the mended one has no warning"
    before = fewer(capabilities.read_text()) if capabilities.exists() else ()
    return towpath("check", "bad.o", cwd=folder, before=before), towpath("check", "good.o", cwd=folder)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = {name: pool.submit(example, name, tmp_path_factory.mktemp(name)) for name in NAMES}
    return {name: job.result() for name, job in jobs.items()}


def explanation(done):
    """Without the table, and without the verifier's own words."""
    text = done.stderr + re.sub(r"\APROGRAM .*\n(?:\S+ +(?:refused|taken) .*\n)+", "", done.stdout)
    return re.sub(r"^  said .*\n(?: {10}.*\n)*\Z", "", text.lstrip("\n"), flags=re.M)


@pytest.mark.parametrize("name", NAMES)
def test_example(answers, name):
    bad, good = answers[name]
    assert bad.returncode == 1, bad
    text, stored = explanation(bad), EXAMPLES / name / "explanation.txt"
    if UPDATE:
        stored.write_text(text)
    assert text == stored.read_text()
    lines = (EXAMPLES / name / "bad.c").read_text().splitlines()
    marked = [number for number, line in enumerate(lines, 1) if "/* refused */" in line]
    assert not marked or f"  line    bad.c:{marked[0]}: " in text
    assert good.returncode == 0 and not good.stderr, good
    assert " taken " in good.stdout and "refused" not in good.stdout


def test_every_kind_has_an_example():
    table = (REPO / "lib/verifier_catalogue.c").read_text()
    kinds = set(re.findall(r'^\t\{ "([a-z-]+)",', table, re.M))
    assert len(kinds) >= 25
    # Refused before libbpf has the file, so it needs no entry.
    assert kinds | {"no-btf"} == set(NAMES)
    readme = (EXAMPLES / "README.md").read_text()
    assert sorted(re.findall(r"^\| \[([a-z-]+)\]", readme, re.M)) == NAMES


def built(folder, body, name="a", head=HEAD):
    (folder / f"{name}.c").write_text(head + body)
    done = towpath("build", f"{name}.c", cwd=folder)
    assert done.returncode == 0, done
    return folder / f"{name}.o"


TWO = """
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); }
    numbers SEC(".maps");
static __noinline int twice(int x) { return x * 2; }
SEC("xdp") int good(struct xdp_md *ctx)
{
    __u32 zero = 0;
    __u64 *n = bpf_map_lookup_elem(&numbers, &zero);
    bpf_ktime_get_tai_ns();
    return n ? twice(ctx->rx_queue_index) : XDP_PASS;
}
SEC("tc") int bad(struct __sk_buff *skb) { return *(int *)(long)skb->mark; }
SEC("xdp") int other(struct xdp_md *ctx) { return XDP_DROP; }
"""


def test_each_program_is_judged_alone(tmp_path):
    done = towpath("check", built(tmp_path, TWO), "-o", "json")
    assert done.returncode == 1 and not done.stderr
    answer = json.loads(done.stdout)
    programs = {program["name"]: program for program in answer["programs"]}
    assert {name: program["taken"] for name, program in programs.items()} == {
        "good": True, "bad": False, "other": True,
    }  # fmt: skip
    good = programs["good"]
    assert (good["type"], good["section"], good["maps"]) == ("xdp", "xdp", ["numbers"])
    assert good["helpers"] == ["bpf_map_lookup_elem", "bpf_ktime_get_tai_ns"]
    assert good["limit"] == 1000000 and 10 < good["processed"] < 100
    assert len(good["stack"]) == 2 and good["stack"][0] == 8
    assert good["needs"][0] == {"since": "6.1", "what": "helper bpf_ktime_get_tai_ns"}
    assert {"since": "4.16", "what": "functions that are not inlined"} in good["needs"]
    assert good["refusal"] is None
    refusal = programs["bad"]["refusal"]
    assert refusal["kind"] == "not-a-pointer" and refusal["line"] == 15 and refusal["file"].endswith("a.c")
    assert refusal["said"] == "R1 invalid mem access 'scalar'" and "r1" in refusal["log"]
    assert "kind: not-a-pointer" in towpath("check", tmp_path / "a.o", "-o", "yaml").stdout


NEEDS = """
extern int bpf_dynptr_from_xdp(struct xdp_md *xdp, __u64 flags, struct bpf_dynptr *ptr) __ksym __weak;
__u32 limit = 3;
static long step(__u64 i, void *ctx) { return 0; }
SEC("xdp.frags") int frags(struct xdp_md *ctx)
{
    struct bpf_dynptr d;
    if (bpf_ksym_exists(bpf_dynptr_from_xdp))
        bpf_dynptr_from_xdp(ctx, 0, &d);
    return limit > 2 ? XDP_PASS : XDP_DROP;
}
SEC("tcx/ingress") int side(struct __sk_buff *skb) { bpf_loop(3, step, &skb, 0); return 0; }
"""


def test_the_oldest_kernel_and_what_asks_for_it(tmp_path):
    answer = json.loads(towpath("check", built(tmp_path, NEEDS, "two.words"), "-o", "json").stdout)
    frags, side = (next(p for p in answer["programs"] if p["name"] == name) for name in ("frags", "side"))
    assert frags["taken"] and side["taken"]
    assert frags["needs"][0] == {"since": "5.18", "what": "XDP with fragments"}
    assert frags["kfuncs"] == ["bpf_dynptr_from_xdp"], "which it can do without"
    assert frags["maps"] == ["two.data"]
    assert side["needs"][:3] == [
        {"since": "6.6", "what": "attach type tcx_ingress"}, {"since": "5.17", "what": "helper bpf_loop"},
        {"since": "5.13", "what": "callbacks"},
    ]  # fmt: skip


CHAIN = """
int first(struct xdp_md *ctx), second(struct xdp_md *ctx);
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 2); __uint(key_size, 4);
    __array(values, int(void *)); } jumps SEC(".maps") = { .values = { [0] = (void *)&second } };
SEC("xdp") int first(struct xdp_md *ctx) { bpf_tail_call(ctx, &jumps, 0); return XDP_PASS; }
SEC("xdp") int second(struct xdp_md *ctx) { return *(int *)(long)ctx->rx_queue_index; }
"""


def test_a_tail_call_chain_with_a_bad_link(tmp_path):
    done = towpath("check", built(tmp_path, CHAIN), "-o", "json")
    answer = json.loads(done.stdout)
    programs = {program["name"]: program for program in answer["programs"]}
    assert programs["first"]["taken"] and not programs["second"]["taken"]
    assert programs["first"]["maps"] == ["jumps"]


def test_a_type_that_this_kernel_does_not_have(tmp_path):
    """Not every kernel lacks it."""
    path = built(tmp_path, 'SEC("lirc_mode2") int key(unsigned int *code) { return 0; }\n')
    done = towpath("check", path, "-o", "json")
    program = json.loads(done.stdout)["programs"][0]
    if program["taken"]:
        pytest.skip("this kernel has lirc_mode2")
    assert program["refusal"]["kind"] == "program-type"


def test_what_is_not_in_the_catalogue_is_shown(tmp_path):
    """The end of the log, and the line."""
    body = 'SEC("xdp") int odd(struct xdp_md *ctx) { asm volatile("goto +0; r0 = 0; exit; r0 = 1"); return 1; }\n'
    done = towpath("check", built(tmp_path, body))
    assert done.returncode == 1
    assert "odd is refused: unreachable insn" in done.stdout
    assert re.search(r"^  line    \S*a.c:4: ", done.stdout, re.M)
    assert "said    unreachable insn" in done.stdout and "not in the catalogue" in done.stdout


# ---- bad input -----------------------------------------------------------------------------------


MINE = f"mine{os.getpid()}"  # no other program or map of the machine has that name


def is_loaded():
    """Whether the kernel has a program or map of these tests; what was let go may take a moment."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if MINE not in run("bpftool", "prog", "show").stdout + run("bpftool", "map", "show").stdout:
            return False
        time.sleep(0.1)
    return True


def changed(path, offset, data, name):
    out = path.with_name(name)
    whole = bytearray(path.read_bytes())
    whole[offset : offset + len(data)] = data
    out.write_bytes(whole)
    return out


def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path):
    body = f"""struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32);
        __type(value, __u64); }} {MINE} SEC(".maps");
    SEC("xdp") int {MINE}_p(struct xdp_md *ctx) {{ __u32 k = 0; return bpf_map_lookup_elem(&{MINE}, &k) != 0; }}
    """
    good = built(tmp_path, body)
    files = {
        "is empty": tmp_path / "empty.o",
        "not an ELF file": tmp_path / "a.c",
        "cannot read": tmp_path / "absent.o",
        "it is not a file": tmp_path,
        "for x86-64 and not for BPF": changed(good, 18, struct.pack("=H", 62), "x86.o"),
        "other byte order": changed(good, 5, b"\x02" if good.read_bytes()[5] == 1 else b"\x01", "endian.o"),
        "cut off or damaged": tmp_path / "cut.o",
        "no licence": built(tmp_path, 'SEC("xdp") int f(struct xdp_md *c) { return 1; }\n', "l",
                            HEAD.replace("LICENSE[]", "other[]").replace('SEC("license")', "")),
        "has no program in it": built(tmp_path, "int f(void) { return 1; }\n", "none"),
    }  # fmt: skip
    (tmp_path / "empty.o").touch()
    (tmp_path / "cut.o").write_bytes(good.read_bytes()[:600])
    for words, path in files.items():
        done = towpath("check", path)
        assert (done.returncode, done.stdout) == (1, ""), (path, done)
        assert words in done.stderr and str(path) in done.stderr, done
        assert len(done.stderr.splitlines()) == 1
    assert not is_loaded()
    assert towpath("check", good).returncode == 0
    assert not is_loaded(), "what is good leaves nothing either"


def test_pins_of_the_source_are_not_made(tmp_path):
    body = """struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32);
        __type(value, __u64); __uint(pinning, LIBBPF_PIN_BY_NAME); } pinned SEC(".maps");
    SEC("xdp") int f(struct xdp_md *ctx) { __u32 k = 0; return bpf_map_lookup_elem(&pinned, &k) != 0; }
    """
    path = built(tmp_path, body)
    script = f"mount -t bpf bpf /sys/fs/bpf && {binary('towpath')} program check {path} && ls /sys/fs/bpf"
    done = run("unshare", "--mount", "--propagation", "private", "sh", "-c", script)
    assert done.returncode == 0, done
    assert "taken" in done.stdout and not re.search(r"^pinned$", done.stdout, re.M)


def test_without_root(tmp_path):
    path = built(tmp_path, 'SEC("xdp") int f(struct xdp_md *ctx) { return XDP_PASS; }\n')
    done = towpath("check", path, before=("setpriv", "--bounding-set=-all", "--inh-caps=-all"))
    assert done.returncode == 1 and "needs root" in done.stderr and len(done.stderr.splitlines()) == 1
