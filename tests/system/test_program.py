# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""towpath program attach and its kin: each hook with real traffic, order, replacement, and what
happens when the agent, a device, a container or a cgroup goes and comes back."""

import socket
import subprocess
import threading
import time

import pytest
from node import policy_object
from program import Cgroup, attach_mode, build, chain, cgroup_root, counted, counter, pins, programs, scratch
from traffic import QUIET, tcp_open, tcp_works, udp_ask, wait_for

FOLDER = scratch()
COMEBACK = 10.0  # a device, container or cgroup that comes back has its program again


@pytest.fixture(scope="module")
def objects():
    """One of each kind, built once."""
    return {
        "tc": build(FOLDER, counter()),
        "stop": build(FOLDER, counter("stop", "tc", "TC_ACT_SHOT"), "stop"),
        "pass": build(FOLDER, counter("pass", "tc", "TC_ACT_OK"), "pass"),
        "xdp": build(FOLDER, counter("first", "xdp", "XDP_PASS"), "first"),
        "skb": build(FOLDER, counter("sockets", "cgroup_skb/egress", "1"), "sockets"),
        "connect": build(FOLDER, counter("connects", "cgroup/connect4", "0"), "connects"),
        "sockops": build(FOLDER, counter("events", "sockops", "1"), "events"),
    }


@pytest.fixture
def program(node):
    """attach(FILE, *WORDS): attached, and off again at the end."""

    def attach(*words, check=True):
        return node.towpath("program", "attach", *words, check=check)

    yield attach
    for name in programs(node):
        node.towpath("program", "detach", name)
    assert pins(node) == []


@pytest.fixture
def links(node):
    """For tests that take links away; filters have test_program_clsact.py."""
    if attach_mode(node) != "tcx":
        pytest.skip("needs tcx, Linux 6.6")


def refused(done, *parts):
    assert done.returncode == 1, done
    assert done.stderr.startswith("towpath: ") and done.stderr.count("\n") == 1, done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr
    return True


# ---- hooks with traffic ---------------------------------------------------------------------------


def test_tc_of_a_device(node, outside, objects, program, family):
    done = program(objects["tc"], "--tc", "up0", "ingress")
    assert done.stdout.startswith("count is attached to up0 ingress, program id ")
    assert chain(node.netns, "up0") == ["tw_from_uplink", "count"]
    assert udp_ask(node, outside, family)
    assert counted(node, "count") >= 1
    row = programs(node)["count"]
    assert (row["state"], row["hook"], row["device"]) == ("attached", "ingress", "up0")
    assert node.towpath("program", "detach", "count").stdout == "count is detached\n"
    assert chain(node.netns, "up0") == ["tw_from_uplink"] and pins(node) == []


def test_tc_egress_and_a_name(node, outside, objects, program):
    program(objects["stop"], "--tc", "up0", "egress", "--name", "gate")
    assert not udp_ask(node, outside, 4, seconds=QUIET)
    assert counted(node, "gate") >= 1
    node.towpath("program", "detach", "gate")
    assert udp_ask(node, outside, 4)


def test_xdp(node, outside, objects, program, family):
    program(objects["xdp"], "--xdp", "up0")
    assert programs(node)["first"]["mode"] == "native"
    assert udp_ask(node, outside, family)
    assert counted(node, "first") >= 1


@pytest.mark.parametrize("side", ("ingress", "egress"))
def test_endpoint_sees_what_is_redirected(node, objects, program, side, family):
    """Packets between pods pass no hook of the stack's; in the container they are seen, and a
    program there cannot let anything pass that policy denies."""
    web, db = node.add_pod("shop", "web"), node.add_pod("shop", "db", {"app": "db"})
    try:
        program(objects["pass"], "--endpoint", "shop/db", side)
        with tcp_open(web, db, family) as link:
            assert link.alive()
        assert counted(node, "pass") >= 3
        node.apply(policy_object("shop", "db", {"matchLabels": {"app": "db"}}, ingress=[]))
        assert not tcp_works(web, db, family, seconds=QUIET)
        node.towpath("program", "detach", "pass")
        node.delete(policy_object("shop", "db", {"matchLabels": {"app": "db"}}, ingress=[]))
        program(objects["stop"], "--endpoint", "shop/db", side)
        assert not tcp_works(web, db, family, seconds=QUIET)
        assert tcp_works(db, web, family, seconds=QUIET) is False, "answers are dropped as well"
    finally:
        node.towpath("program", "detach", "stop", check=False)
        node.del_pod(web)
        node.del_pod(db)


SEND = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(b"x", ("%s", 9))
"""
CONNECT = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
s.settimeout(1)
try:
    s.connect(("%s", %d))
except PermissionError:
    print("denied")
else:
    print("connected")
"""


def test_cgroup(node, outside, objects, program):
    with Cgroup() as group:
        program(objects["skb"], "--cgroup", group.path, "egress")
        group.python(node.netns, SEND % outside.ip(4))
        assert counted(node, "sockets") == 1
        # A path that is relative to the mount means the same cgroup.
        program(objects["connect"], "--cgroup", group.path.relative_to(cgroup_root()), "connect4")
        assert group.python(node.netns, CONNECT % (outside.ip(4), 9)).stdout == "denied\n"
        node.towpath("program", "detach", "connects", "sockets")
        assert group.python(node.netns, CONNECT % ("127.0.0.1", 9)).returncode == 1, "nobody listens"


def test_sockops(node, outside, objects, program):
    with Cgroup() as group, outside.netns.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind((outside.ip(4), 0))
        server.listen()
        program(objects["sockops"], "--sockops", group.path)
        done = group.python(node.netns, CONNECT % (outside.ip(4), server.getsockname()[1]))
        assert done.stdout == "connected\n", done
        assert counted(node, "events") >= 2


# ---- the agent goes --------------------------------------------------------------------------------


def test_runs_on_without_the_agent_and_over_restarts(node, outside, objects, program):
    program(objects["tc"], "--tc", "up0", "ingress")
    program(objects["xdp"], "--xdp", "up0")
    assert udp_ask(node, outside, 4)
    before = programs(node)
    seen = counted(node, "count")
    node.kill()
    assert udp_ask(node, outside, 4)
    assert counted(node, "count") > seen, "it counts without the agent"
    node.start()
    assert programs(node) == before, "the same programs, not new ones"
    seen = counted(node, "count")
    assert node.stop() == 0
    node.start()
    assert programs(node) == before and counted(node, "count") >= seen


def test_after_a_reboot_it_is_loaded_again(node, links, outside, objects, program):
    """What is pinned is lost with the kernel; the object is in the database."""
    program(objects["tc"], "--tc", "up0", "ingress")
    number = programs(node)["count"]["id"]
    node.kill()
    subprocess.run(["rm", "-r", node.run_dir / "bpf/programs/count"], check=True)
    assert wait_for(lambda: chain(node.netns, "up0") == ["tw_from_uplink"])
    node.start()
    assert wait_for(lambda: chain(node.netns, "up0") == ["tw_from_uplink", "count"], COMEBACK)
    assert wait_for(lambda: programs(node)["count"]["state"] == "attached")
    assert programs(node)["count"]["id"] != number
    assert udp_ask(node, outside, 4) and counted(node, "count") >= 1


def test_what_was_not_recorded_is_taken_off(node, links, objects, program):
    """As if the agent had died between pins and store."""
    program(objects["tc"], "--tc", "up0", "ingress")
    top = node.run_dir / "bpf/programs"
    node.kill()
    (top / "count").rename(top / "half")
    node.start()
    assert wait_for(lambda: programs(node)["count"]["state"] == "attached", COMEBACK)
    assert pins(node) == ["count"]
    assert wait_for(lambda: chain(node.netns, "up0") == ["tw_from_uplink", "count"])


def test_towpath_comes_before_who_was_there_earlier(node, links, objects, program):
    """What passes a packet with TC_ACT_OK ends the chain, and policy would not be asked."""
    program(objects["pass"], "--tc", "up0", "ingress")
    node.kill()
    for link in (node.run_dir / "bpf/links").glob("uplink_in_*"):
        link.unlink()
    assert wait_for(lambda: chain(node.netns, "up0") == ["pass"])
    node.start()
    assert chain(node.netns, "up0") == ["tw_from_uplink", "pass"]


def test_pins_that_are_taken_away_come_back(node, links, outside, objects, program):
    program(objects["tc"], "--tc", "up0", "ingress")
    number, top = programs(node)["count"]["id"], node.run_dir / "bpf/programs/count"
    for path in ("link", f"prog_{programs(node)['count']['generation']}"):
        (top / path).unlink()
        assert wait_for((top / path).exists, COMEBACK), path
        assert chain(node.netns, "up0") == ["tw_from_uplink", "count"]
    subprocess.run(["umount", "-l", node.run_dir / "bpf"], check=True)
    assert wait_for((top / "maps/counts").exists, COMEBACK), "in another bpffs"
    assert wait_for((top / "link").exists, COMEBACK)
    node.restart()
    assert chain(node.netns, "up0") == ["tw_from_uplink", "count"]
    assert programs(node)["count"]["id"] == number
    assert udp_ask(node, outside, 4) and counted(node, "count") >= 1


# ---- places go and come back ----------------------------------------------------------------------


def test_device_comes_back(node, objects, program):
    def make():
        node.netns.ip("link add dummy7 type veth peer name dummy8", "link set dummy7 up",
                      "link set dummy8 up")  # fmt: skip

    make()
    try:
        program(objects["tc"], "--tc", "dummy7", "egress")
        program(objects["xdp"], "--xdp", "dummy7")
        number, seen = programs(node)["count"]["id"], counted(node, "count")
        node.netns.ip("link del dummy7")
        assert wait_for(lambda: programs(node)["count"]["state"] == "waiting", COMEBACK)
        assert "no interface dummy7" in programs(node)["count"]["why"]
        make()
        assert wait_for(lambda: chain(node.netns, "dummy7", side="egress") == ["count"], COMEBACK)
        assert wait_for(lambda: programs(node)["count"]["state"] == "attached", COMEBACK)
        assert wait_for(lambda: chain(node.netns, "dummy7", "xdp") == ["first"], COMEBACK)
        assert programs(node)["count"]["id"] == number, "the same program with its maps"
        assert counted(node, "count") >= seen
    finally:
        node.netns.ip("link del dummy7", check=False)


def test_container_comes_back(node, objects, program):
    """It never has a packet without its program."""
    web, db = node.add_pod("shop", "web"), node.add_pod("shop", "db")
    try:
        program(objects["stop"], "--endpoint", "shop/db", "ingress")
        for _ in range(2):
            node.del_pod(db)
            assert programs(node)["stop"]["state"] in ("attached", "waiting")
            assert wait_for(lambda: programs(node)["stop"]["state"] == "waiting", COMEBACK)
            db = node.add_pod("shop", "db")
            assert programs(node)["stop"]["state"] == "attached", "before the ADD was answered"
            assert not tcp_works(web, db, 4, seconds=QUIET)
        node.kill()
        node.start()
        assert not tcp_works(web, db, 4, seconds=QUIET)
    finally:
        node.towpath("program", "detach", "stop", check=False)
        assert tcp_works(web, db, 4)
        node.del_pod(web)
        node.del_pod(db)


def test_container_after_a_reboot(node, links, objects, program):
    """The program is loaded again though its container is not there; an ADD that is faster is refused,
    for a runtime to try again, and never goes on without."""
    web, db = node.add_pod("shop", "web"), node.add_pod("shop", "db")
    program(objects["stop"], "--endpoint", "shop/db", "ingress")
    node.del_pod(db)
    node.kill()
    subprocess.run(["rm", "-r", node.run_dir / "bpf/programs/stop"], check=True)
    node.start()
    db, tries = None, 0
    while db is None:
        try:
            db = node.add_pod("shop", "db")
        except RuntimeError as error:
            tries += 1
            assert tries < 200 and "which belongs to this container, is not loaded" in str(error)
    try:
        assert programs(node)["stop"]["state"] == "attached"
        assert not tcp_works(web, db, 4, seconds=QUIET)
    finally:
        node.towpath("program", "detach", "stop", check=False)
        node.del_pod(web)
        node.del_pod(db)


def test_second_interface_takes_no_program_away(node, objects, program):
    web = node.add_pod("shop", "web")
    try:
        program(objects["tc"], "--endpoint", "shop/web", "ingress")
        before = programs(node)
        result = node.cni("ADD", web, env={"CNI_IFNAME": "net1"})
        assert result.returncode == 0, result
        assert programs(node) == before
        assert chain(web.netns, "eth0") == ["count"] and chain(web.netns, "net1") == []
        node.cni("DEL", web, env={"CNI_IFNAME": "net1"})
        assert programs(node) == before
    finally:
        node.towpath("program", "detach", "count", check=False)
        node.del_pod(web)


def test_cgroup_comes_back(node, outside, objects, program):
    with Cgroup() as group:
        program(objects["skb"], "--cgroup", group.path, "egress")
        group.path.rmdir()
        assert wait_for(lambda: programs(node)["sockets"]["state"] == "waiting", COMEBACK)
        group.path.mkdir()
        assert wait_for(lambda: programs(node)["sockets"]["state"] == "attached", COMEBACK)
        group.python(node.netns, SEND % outside.ip(4))
        assert counted(node, "sockets") == 1


# ---- replacement ---------------------------------------------------------------------------------


def test_replace_keeps_maps(node, outside, objects, program):
    program(objects["tc"], "--tc", "up0", "ingress")
    assert udp_ask(node, outside, 4)
    seen, number = counted(node, "count"), programs(node)["count"]["id"]
    done = node.towpath("program", "replace", "count", objects["pass"])
    assert done.stdout.startswith("count runs pass of ")
    assert programs(node)["count"]["id"] != number
    assert chain(node.netns, "up0") == ["tw_from_uplink", "pass"]
    assert counted(node, "count") >= seen > 0
    node.restart()
    assert chain(node.netns, "up0") == ["tw_from_uplink", "pass"]
    node.towpath("program", "replace", "count", objects["tc"], "--new-maps")
    assert counted(node, "count") < seen + 1


def test_replace_with_another_layout_is_refused(node, outside, objects, program):
    wide = build(FOLDER, counter(body="").replace("__type(value, __u64)", "__type(value, struct wide)")
                 .replace("struct {", "struct wide { __u64 n, m; };\nstruct {", 1))  # fmt: skip
    other = build(FOLDER, counter().replace("__type(value, __u64)", "__type(value, struct other)")
                  .replace("struct {", "struct other { __u32 n, m; };\nstruct {", 1))  # fmt: skip
    program(objects["tc"], "--tc", "up0", "ingress")
    assert udp_ask(node, outside, 4)
    before = programs(node), counted(node, "count")
    refused(node.towpath("program", "replace", "count", wide, check=False),
            "the map counts has another layout", "16, was 8", "--new-maps")  # fmt: skip
    refused(node.towpath("program", "replace", "count", other, check=False),
            "the map counts has other fields", "--new-maps")  # fmt: skip
    assert programs(node) == before[0] and counted(node, "count") >= before[1]
    node.towpath("program", "replace", "count", wide, "--new-maps")
    assert chain(node.netns, "up0") == ["tw_from_uplink", "count"]


def test_replace_under_traffic_lets_nothing_pass(node, outside, objects, program):
    """Old and new drop the datagrams: not one arrives while one takes the other's place."""
    program(objects["stop"], "--tc", "up0", "ingress", "--name", "gate")
    heard, sent, stop = [], 0, threading.Event()
    with node.netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear, \
            outside.netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:  # fmt: skip
        ear.bind((node.ip(4), 0))
        ear.settimeout(0.1)

        def listen():
            while not stop.is_set():
                try:
                    heard.append(ear.recv(100))
                except TimeoutError:
                    pass

        def replace():
            for _ in range(5):
                node.towpath("program", "replace", "gate", objects["stop"])

        threads = [threading.Thread(target=target) for target in (listen, replace)]
        for thread in threads:
            thread.start()
        while threads[1].is_alive():
            mouth.sendto(b"x", ear.getsockname())
            sent += 1
            time.sleep(0.0002)
        stop.set()
        threads[0].join()
        assert not heard and counted(node, "gate") >= sent * 0.9, (len(heard), sent)
        node.towpath("program", "detach", "gate")
        mouth.sendto(b"y", ear.getsockname())
        assert ear.recv(100) == b"y"
