# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Users' programs on kernels without tcx: clsact filters, in order by their priority."""

import json

import pytest
from node import Node
from program import build, counted, counter, pins, programs, scratch
from traffic import QUIET, tcp_works, udp_ask, wait_for

FOLDER = scratch()


@pytest.fixture(scope="module")
def node():
    with Node(prefix="twy", options=["--attach", "clsact"]) as made:
        made.objects = {
            "tc": build(FOLDER, counter()),
            "stop": build(FOLDER, counter("stop", "tc", "TC_ACT_SHOT"), "stop"),
        }
        yield made


def listed(node, *words):
    items = json.loads(node.towpath("program", "list", *words, "-o", "json").stdout)["items"]
    return [(r["hook"], r.get("name", r["owner"])) for r in items]


def device(node):
    return listed(node, "--device", "up0")


def test_order_replacement_restart_and_end(node, family):
    here = ("clsact/ingress", "towpath")
    node.towpath("program", "attach", node.objects["tc"], "--tc", "up0", "ingress", "--name", "a")
    node.towpath("program", "attach", node.objects["tc"], "--tc", "up0", "ingress", "--name", "b")
    node.towpath("program", "attach", node.objects["tc"], "--tc", "up0", "ingress", "--name", "c",
                 "--before", "b")  # fmt: skip
    done = node.towpath("program", "attach", node.objects["tc"], "--tc", "up0", "ingress", "--name",
                        "d", "--before", "towpath", check=False)  # fmt: skip
    assert done.returncode == 1 and "--allow-policy-bypass" in done.stderr
    chain = [here, *(("clsact/ingress", name) for name in "acb")]
    assert device(node) == chain
    assert udp_ask(node, node.outside, family) and counted(node, "c") >= 1
    node.towpath("program", "replace", "c", node.objects["stop"])
    assert device(node) == chain and counted(node, "c") >= 1
    assert not udp_ask(node, node.outside, family, seconds=QUIET)
    before = programs(node)
    node.restart()
    assert wait_for(lambda: device(node) == chain, 5)
    assert wait_for(lambda: programs(node) == before, 5)
    node.towpath("program", "detach", "c")
    assert udp_ask(node, node.outside, family)
    assert device(node) == [here, ("clsact/ingress", "a"), ("clsact/ingress", "b")]
    node.towpath("program", "detach", "a", "b")
    assert device(node) == [here] and pins(node) == []


def test_in_a_container(node, family):
    web, db = node.add_pod("shop", "web"), node.add_pod("shop", "db")
    node.towpath("program", "attach", node.objects["stop"], "--endpoint", "shop/db", "ingress")
    assert listed(node, "--endpoint", "shop/db") == [("clsact/ingress", "stop")]
    assert not tcp_works(web, db, family, seconds=QUIET)
    node.restart()
    assert wait_for(lambda: programs(node)["stop"]["state"] == "attached", 5)
    assert listed(node, "--endpoint", "shop/db") == [("clsact/ingress", "stop")]
    node.towpath("program", "detach", "stop")
    assert tcp_works(web, db, family)
    node.del_pod(web)
    node.del_pod(db)


def test_uninstall(node):
    node.towpath("program", "attach", node.objects["tc"], "--tc", "up0", "egress")
    assert node.stop() == 0
    assert node.netns.run(*node.argv("--uninstall")).returncode == 0
    for side in ("ingress", "egress"):
        assert node.netns.run("tc", "filter", "show", "dev", "up0", side).stdout == ""
