# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The edge's filter on a node: real frames, rules and lists that come and go, an agent that dies."""

import json

import pytest
from program import build, counter, scratch
from traffic import udp_ask, wait_for

STRANGER = {4: "203.0.113.7", 6: "2001:db8:5::7"}
NETWORK = {4: "203.0.113.0/24", 6: "2001:db8:5::/48"}


@pytest.fixture
def edge(node, outside):
    """edge(WORD...): a command; the edge is on up0, without rules, and gone at the end."""

    def command(*words, check=True):
        return node.towpath("edge", *words, check=check)

    for address in STRANGER.values():
        outside.add_address(address)
    command("attach", "up0", "--force")
    yield command
    for rule in state(node)["rules"]:
        command(rule["action"], rule["text"], "--remove", "--force")
    command("detach", "up0")


def state(node):
    return json.loads(node.towpath("edge", "status", "-o", "json").stdout)


def rule(node, text):
    return next(item for item in state(node)["rules"] if item["text"] == text)


def answers(node, outside, family, seconds=1.0):
    """Whether the node's answer to the stranger comes back."""
    return udp_ask(outside, node, family, address=node.ip(family), source=STRANGER[family],
                   seconds=seconds) is not None  # fmt: skip


def refused(done, *parts):
    assert done.returncode == 1, done
    for part in parts:
        assert part in done.stderr, done.stderr


def test_a_prefix_is_denied_and_let_in_again(node, outside, edge, family):
    assert answers(node, outside, family)
    edge("deny", NETWORK[family])
    assert not answers(node, outside, family, 0.3)
    assert rule(node, NETWORK[family])["packets"] >= 1
    edge("allow", STRANGER[family])
    assert answers(node, outside, family)
    assert "allow" in edge("test", STRANGER[family]).stdout
    edge("allow", STRANGER[family], "--remove")
    assert not answers(node, outside, family, 0.3)
    edge("deny", NETWORK[family], "--remove")
    assert answers(node, outside, family)


def test_a_port_is_denied(node, outside, edge, family):
    edge("deny", "1-65535/udp")
    assert not answers(node, outside, family, 0.3)
    edge("allow", STRANGER[family], "--port", "udp")
    assert answers(node, outside, family)
    test = json.loads(edge("test", STRANGER[family], "--port", "9/udp", "-o", "json").stdout)
    assert test["verdict"] == "allow" and test["rule"]["text"] == f"{STRANGER[family]} udp"


def test_a_list_is_in_force_as_a_whole(node, outside, edge, family, tmp_path):
    path = tmp_path / "drop.txt"
    path.write_text(f"# comment\n192.0.2.0/25 ; SBL1\n{NETWORK[family]}\n10.0.0.0-10.0.0.9\n")
    edge("deny", path)
    assert not answers(node, outside, family, 0.3)
    test = json.loads(edge("test", STRANGER[family], "-o", "json").stdout)
    assert (test["rule"]["text"], test["line"], test["prefix"]) == ("drop.txt", 3, NETWORK[family])
    path.write_text("192.0.2.0/24\n\n192.0.2.0/33\n")
    done = edge("deny", path, check=False)
    assert done.returncode == 1 and done.stderr.startswith("drop.txt:3:11: "), done.stderr
    assert not answers(node, outside, family, 0.3)
    path.write_text("192.0.2.0/24\n")
    edge("deny", path)
    assert answers(node, outside, family)
    path.write_text("")
    edge("deny", path)
    assert rule(node, "drop.txt")["entries"] == 0


def test_a_rule_ends(node, outside, edge):
    edge("deny", STRANGER[4], "--for", "1s")
    assert not answers(node, outside, 4, 0.3)
    assert wait_for(lambda: not state(node)["rules"], 10)
    assert answers(node, outside, 4)


def test_without_the_agent_it_filters_on(node, outside, edge, tmp_path, family):
    path = tmp_path / "drop.txt"
    path.write_text(NETWORK[family] + "\n")
    edge("deny", path)
    node.kill()
    assert not answers(node, outside, family, 0.3)
    node.start()
    assert not answers(node, outside, family, 0.3)
    assert wait_for(lambda: state(node)["devices"][0]["state"] == "attached", 10)
    assert wait_for(lambda: state(node)["table"]["prefixes4"] + state(node)["table"]["prefixes6"])
    assert not answers(node, outside, family, 0.3)


def test_nobody_locks_himself_out(node, outside, edge):
    gateway = outside.ip(4)
    refused(edge("deny", f"{gateway}/16", check=False), gateway, "gateway", "--force")
    refused(edge("deny", "0.0.0.0/0", check=False), "--force")
    assert not state(node)["rules"]
    edge("allow", gateway)
    edge("deny", "0.0.0.0/0")
    refused(edge("allow", gateway, "--remove", check=False), gateway)
    edge("allow", gateway, "--remove", "--force")


def test_another_program_is_named_and_replaced(node, edge):
    edge("detach", "up0")
    node.towpath("program", "attach", build(scratch(), counter("first", "xdp", "XDP_PASS"), "first"),
                 "--xdp", "up0")  # fmt: skip
    try:
        refused(edge("attach", "up0", check=False), "first", "--replace")
    finally:
        node.towpath("program", "detach", "first")
        edge("attach", "up0")


@pytest.mark.parametrize(
    "words, part",
    [
        (("deny", "300.1.2.3"), "expected a prefix"),
        (("deny", "192.0.2.1", "--remove"), "there is no rule"),
        (("allow", "fragments"), "can only be denied"),
        (("attach", "nosuch0"), "no interface nosuch0"),
        (("detach", "lo"), "not attached to lo"),
        (("test", "nonsense"), "no address"),
    ],
)
def test_what_is_refused(edge, words, part):
    refused(edge(*words, check=False), part)
