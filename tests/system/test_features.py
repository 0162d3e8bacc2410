# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""towpath features: what is tried is so, what is used is in the programs, what a newer kernel brings."""

import json
import os
import re
import subprocess

import pytest

from netns import Netns
from node import BUILD, binary
from traffic import wait_for


def towpath(*argv, prefix=()):
    return subprocess.run([*prefix, binary("towpath"), "features", *argv], capture_output=True, text=True,
                          timeout=60, check=False)  # fmt: skip


@pytest.fixture(scope="module", name="everything")
def everything_found():
    done = towpath("--all", "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def by_name(items):
    return {item["name"]: item for item in items}


def test_helpers_by_type_of_program(everything):
    helpers = by_name(everything["helpers"])
    for name, types in {
        "bpf_redirect": {"xdp", "sched_cls"}, "bpf_xdp_adjust_head": {"xdp"}, "bpf_bind": {"cgroup_sock_addr"},
        "bpf_skb_store_bytes": {"sched_cls"}, "bpf_msg_push_data": {"sk_msg"}, "bpf_sk_assign": {"sk_lookup"},
    }.items():  # fmt: skip
        assert types <= set(helpers[name]["types"]), name
    for name, types in {
        "bpf_xdp_adjust_head": {"sched_cls", "sk_msg"}, "bpf_skb_store_bytes": {"xdp", "sock_ops"},
        "bpf_bind": {"xdp"}, "bpf_redirect_peer": {"xdp"},
    }.items():  # fmt: skip
        assert not types & set(helpers[name]["types"]), name
    assert "bpf_sysctl_get_name" not in helpers, "not of networking"


def test_used_is_what_the_programs_call(everything):
    called = set()
    for name in ("towpath", "drops", "edge"):
        text = subprocess.run(["llvm-objdump-19", "-d", BUILD / f"bpf/{name}.bpf.o"], capture_output=True, text=True,
                              check=True).stdout  # fmt: skip
        called |= {int(number, 16) for number in re.findall(r"^.*\t85 00 00 00 .*call (0x[0-9a-f]+)$", text, re.M)}
    used = [helper["name"] for helper in everything["helpers"] if helper["used"]]
    assert len(used) == len(called)
    assert {"bpf_map_lookup_elem", "bpf_redirect_peer", "bpf_fib_lookup"} <= set(used)
    assert {item["name"] for item in everything["programs"] if item["used"]} == {
        "sched_cls", "xdp", "syscall", "tracing"}  # fmt: skip
    assert {"hash", "lru_hash", "ringbuf"} <= {item["name"] for item in everything["maps"] if item["used"]}


def test_places_agree_with_what_is_attached_elsewhere(everything):
    """The other tests attach there."""
    places = by_name(everything["attach"])
    for name in ("tcx link", "xdp link", "cgroup connect4", "sockmap msg verdict", "cgroup sock_ops"):
        assert places[name]["here"] == "yes", name
    assert by_name(everything["programs"])["tracing"]["here"] == "yes"
    assert by_name(everything["kfuncs"])["bpf_cast_to_kern_ctx"]["here"] == "yes"
    for key in ("features", "programs", "attach", "maps", "helpers", "kfuncs"):
        assert {item["here"] for item in everything[key]} <= {"yes", "no"}, "root can tell"
        for item in everything[key]:
            assert re.fullmatch(r"[3-7]\.\d+", item["since"]), item


def test_what_is_here_is_not_newer_than_the_kernel(everything):
    """The list of kernels against this one: no upstream feature is older here than there."""
    running = tuple(map(int, everything["kernel"].split(".")[:2]))
    for key in ("features", "programs", "attach", "maps", "helpers", "kfuncs"):
        for item in everything[key]:
            if item["here"] == "yes":
                assert tuple(map(int, item["since"].split("."))) <= running, item


def test_devices():
    net = Netns("feat")
    try:
        net.ip("link add va type veth peer name vb", "link set va up", "link set vb up")
        done = towpath("-o", "json", prefix=net.argv())
        devices = by_name(json.loads(done.stdout)["devices"])
        assert devices["va"]["driver"] == "veth"
        assert {"basic", "redirect"} <= set(devices["va"]["xdp"])
        assert devices["lo"]["xdp"] == []
        assert "program" not in devices["va"]
        assert re.search(r"^lo +- +generic only +-$", towpath(prefix=net.argv()).stdout, re.M)
    finally:
        net.delete()


def test_nothing_stays():
    """No program, no map and no namespace."""

    def census():
        listed = subprocess.run("bpftool prog show | grep -c tw_probe; bpftool map show | grep -c tw_probe",
                                shell=True, capture_output=True, text=True, check=False).stdout  # fmt: skip
        return listed.split()

    assert towpath("--all").returncode == 0
    assert wait_for(lambda: census() == ["0", "0"]), "another test may be trying just now"


def test_gain(everything):
    release = everything["kernel"]
    done = towpath("--gain", "5.10")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Linux 5.10 has nothing of this that {release} lacks for its age.\n")
    reply = json.loads(towpath("--gain", "-o", "json").stdout)
    assert (reply["kernel"], reply["version"]) == (release, "6.18")
    missing = {item["name"] for key in ("features", "programs", "attach", "maps", "helpers", "kfuncs")
               for item in everything[key] if item["here"] == "no"}  # fmt: skip
    assert {item["name"] for item in reply["gain"]} <= missing
    running = tuple(map(int, release.split(".")[:2]))
    for item in reply["gain"]:
        assert item["left_out"] == (tuple(map(int, item["since"].split("."))) <= running)
    for wrong in ("new", "6", "6.x"):
        done = towpath("--gain", wrong)
        assert done.returncode == 2
        assert done.stderr == (
            f'towpath features: --gain takes a version like 6.12, not "{wrong}"; see towpath features --help\n')
    assert towpath("6.12").returncode == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="root becomes somebody else")
def test_needs_root():
    done = towpath(prefix=("setpriv", "--reuid", "65534", "--clear-groups"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "towpath: features are found by trying, which only root may do: use sudo\n"
