# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Users' XDP programs on a device of the edge: behind it unmodified, before it by <towpath/bpf/next.h>."""

import json

import pytest
from program import UDP_ONLY, build, chain, counted, counter, pins, programs, scratch
from traffic import QUIET, SOON, udp_ask, wait_for

FOLDER = scratch()
COMEBACK = 10.0
NEXT = "#include <towpath/bpf/next.h>\n"


@pytest.fixture(scope="module")
def objects():
    return {
        "xdp": build(FOLDER, counter("last", "xdp", "XDP_PASS", more=UDP_ONLY, when="is_udp(ctx)"), "last"),
        "front": build(FOLDER, counter("front", "xdp", "next_stage(ctx)", more=NEXT), "front"),
        "other": build(FOLDER, counter("other", "xdp", "next_stage(ctx)", more=NEXT), "other"),
        "drop": build(FOLDER, counter("stop", "xdp", "XDP_DROP"), "stop"),
    }


@pytest.fixture(autouse=True)
def edge(node):
    node.towpath("edge", "attach", "up0")
    yield
    for name in programs(node):
        node.towpath("program", "detach", name)
    node.towpath("edge", "detach", "up0", check=False)
    assert pins(node) == []


def listed(node):
    items = json.loads(node.towpath("program", "list", "--device", "up0", "-o", "json").stdout)["items"]
    return [(r["program"], r["owner"], r["position"]) for r in items if r["hook"] == "xdp"]


def state(node, name):
    return programs(node)[name]["state"], programs(node)[name].get("mode")


BEHIND = ("attached", "behind the edge")
BEFORE = ("attached", "before the edge")
EDGE = ("tw_edge", "towpath", 1)


def test_behind_it_unmodified(node, outside, objects, family):
    node.towpath("program", "attach", objects["xdp"], "--xdp", "up0")
    assert state(node, "last") == BEHIND and listed(node) == [EDGE, ("last", "user", 2)]
    assert chain(node.netns, "up0", "xdp") == ["tw_edge"]
    assert udp_ask(node, outside, family) and counted(node, "last") >= 1
    # What the edge drops it does not see; what it drops the node does not.
    node.towpath("edge", "deny", outside.ip(family), "--force")
    before = counted(node, "last")
    assert not udp_ask(node, outside, family, seconds=QUIET)
    assert counted(node, "last") == before
    node.towpath("edge", "deny", outside.ip(family), "--remove")
    assert udp_ask(node, outside, family)
    done = node.towpath("program", "attach", objects["drop"], "--xdp", "up0", check=False)
    assert done.returncode == 1
    assert f"the program last (id {programs(node)['last']['id']}) is behind the edge" in done.stderr
    node.towpath("program", "replace", "last", objects["drop"])
    assert not udp_ask(node, outside, family, seconds=QUIET)
    node.towpath("program", "detach", "last")
    assert udp_ask(node, outside, family) and listed(node) == [EDGE]


def test_without_the_agent_and_after_it(node, outside, objects):
    node.towpath("program", "attach", objects["xdp"], "--xdp", "up0")
    before = programs(node)
    node.kill()
    seen = counted(node, "last")
    assert udp_ask(node, outside, 4) and counted(node, "last") > seen
    node.start()
    assert wait_for(lambda: programs(node) == before, COMEBACK), programs(node)
    # One that was not recorded is taken away.
    node.kill()
    (node.run_dir / "bpf/programs/last").rename(node.run_dir / "bpf/programs/half")
    node.start()
    assert wait_for(lambda: state(node, "last") == BEHIND, COMEBACK)
    assert wait_for(lambda: listed(node) == [EDGE, ("last", "user", 2)], COMEBACK)


def test_only_its_own_device(node, outside, objects):
    node.netns.ip("link add dummy7 type veth peer name dummy8", "link set dummy7 up",
                  "link set dummy8 up")  # fmt: skip
    try:
        node.towpath("edge", "attach", "dummy7")
        node.towpath("program", "attach", objects["drop"], "--xdp", "dummy7")
        assert state(node, "stop") == BEHIND
        assert udp_ask(node, outside, 4), "up0 has no program of the user's"
        node.towpath("program", "attach", objects["xdp"], "--xdp", "up0")
        assert udp_ask(node, outside, 4) and counted(node, "last") >= 1
        node.netns.ip("link del dummy7")
        assert wait_for(lambda: state(node, "stop")[0] == "waiting", COMEBACK)
    finally:
        node.netns.ip("link del dummy7", check=False)
        node.towpath("edge", "detach", "dummy7", check=False)


def test_edge_goes_and_comes(node, outside, objects):
    """Without the edge it is the device's own program; with it again it stands behind."""
    node.towpath("program", "attach", objects["xdp"], "--xdp", "up0")
    number = programs(node)["last"]["id"]
    node.towpath("edge", "detach", "up0")
    assert wait_for(lambda: chain(node.netns, "up0", "xdp") == ["last"], COMEBACK)
    assert wait_for(lambda: state(node, "last") == ("attached", "native"), COMEBACK)
    done = node.towpath("edge", "attach", "up0", check=False)
    assert done.returncode == 1 and "last" in done.stderr
    node.towpath("edge", "attach", "up0", "--replace")
    assert wait_for(lambda: state(node, "last") == BEHIND, COMEBACK)
    assert programs(node)["last"]["id"] == number, "the same program with its maps"
    assert udp_ask(node, outside, 4)


# ---- before it -------------------------------------------------------------------------------------


def front(node, objects, *words, check=True):
    return node.towpath("program", "attach", objects["front"], "--xdp", "up0", "--before", "edge", *words,
                        check=check)  # fmt: skip


def test_before_it_by_the_header(node, outside, objects, family):
    front(node, objects)
    assert state(node, "front") == BEFORE
    assert listed(node) == [("front", "user", 1), ("tw_edge", "towpath", 2)]
    node.towpath("program", "attach", objects["xdp"], "--xdp", "up0")
    assert listed(node) == [("front", "user", 1), ("tw_edge", "towpath", 2), ("last", "user", 3)]
    assert udp_ask(node, outside, family)
    assert counted(node, "front") >= 1 and counted(node, "last") >= 1
    # It sees what the edge drops, and the edge still drops it, also when it is loaded anew.
    for _ in range(2):
        node.towpath("edge", "deny", outside.ip(family), "--force")
        seen, last = counted(node, "front"), counted(node, "last")
        assert not udp_ask(node, outside, family, seconds=QUIET)
        assert counted(node, "front") > seen and counted(node, "last") == last
        node.towpath("edge", "deny", outside.ip(family), "--remove")
        assert udp_ask(node, outside, family)
        node.restart()
        assert wait_for(lambda: state(node, "front") == BEFORE, COMEBACK)
        assert udp_ask(node, outside, family, seconds=SOON)
    node.towpath("program", "replace", "front", objects["other"])
    assert listed(node)[:2] == [("other", "user", 1), ("tw_edge", "towpath", 2)]
    assert udp_ask(node, outside, family) and state(node, "front") == BEFORE
    node.towpath("program", "detach", "front")
    assert listed(node) == [EDGE, ("last", "user", 2)] and udp_ask(node, outside, family)


def test_before_it_only_with_the_header(node, objects):
    done = node.towpath("program", "attach", objects["xdp"], "--xdp", "up0", "--before", "edge", check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "include <towpath/bpf/next.h>, and end with: return next_stage(ctx);" in done.stderr
    assert listed(node) == [EDGE] and pins(node) == []
    front(node, objects)
    done = front(node, objects, "--name", "second", check=False)
    assert done.returncode == 1 and "is before the edge at this device already" in done.stderr
    done = node.towpath("program", "attach", objects["xdp"], "--xdp", "up0", "--after", "front", check=False)
    assert done.returncode == 1 and "behind the edge, or with '--before edge' before it" in done.stderr


def test_before_it_when_the_agent_dies(node, outside, objects):
    front(node, objects)
    node.kill()
    seen = counted(node, "front")
    assert udp_ask(node, outside, 4) and counted(node, "front") > seen
    # As if it had died before the record was written: the edge stands first again.
    (node.run_dir / "bpf/programs/front").rename(node.run_dir / "bpf/programs/half")
    node.start()
    assert wait_for(lambda: state(node, "front") == BEFORE, COMEBACK)
    assert wait_for(lambda: listed(node) == [("front", "user", 1), ("tw_edge", "towpath", 2)], COMEBACK)
    assert udp_ask(node, outside, 4)


def test_edge_goes_from_behind_it(node, outside, objects):
    front(node, objects)
    node.towpath("edge", "detach", "up0")
    assert wait_for(lambda: state(node, "front") == ("attached", "native"), COMEBACK)
    assert chain(node.netns, "up0", "xdp") == ["front"] and udp_ask(node, outside, 4)
    node.towpath("edge", "attach", "up0", "--replace")
    assert wait_for(lambda: state(node, "front") == BEFORE, COMEBACK)
    assert udp_ask(node, outside, 4)
