# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The flow log names both ends, the verdict and the policy that decided."""

import json
import time

import pytest
from node import namespace_object, policy_object
from traffic import QUIET, port_new, tcp_open, tcp_works, udp_ask, wait_for


@pytest.fixture
def pods(clean):
    clean.apply(namespace_object("shop", {}), namespace_object("bank", {}))
    return {
        "web": clean.add_pod("shop", "web", {"app": "web"}),
        "db": clean.add_pod("shop", "db", {"app": "db"}),
        "spy": clean.add_pod("bank", "spy", {"app": "spy"}),
    }


def only_web(port):
    rule = {
        "from": [{"podSelector": {"matchLabels": {"app": "web"}}}],
        "ports": [{"port": port}],
    }
    return policy_object("shop", "only-web", {"matchLabels": {"app": "db"}}, ingress=[rule])


def flow(node, kind, port):
    """The event of that type for this destination port."""

    def find():
        for event in node.flows():
            if event["type"] == kind and event["to"].get("port") == port:
                return event
        return None

    return wait_for(find)


def test_denied_attempt_names_the_policy(clean, pods, family):
    port = port_new()
    clean.apply(only_web(port))
    assert not tcp_works(pods["spy"], pods["db"], family, port, seconds=QUIET)
    event = flow(clean, "drop", port)
    assert event["verdict"] == "deny"
    assert event["reason"] == "policy_ingress"
    assert (event["from"]["namespace"], event["from"]["pod"]) == ("bank", "spy")
    assert (event["to"]["namespace"], event["to"]["pod"]) == ("shop", "db")
    assert event["from"]["ip"] == pods["spy"].ip(family)
    assert event["proto"] == "tcp" and event["tcp_flags"] == "SYN"
    assert event["policy"]["ingress"]["isolated"] is True
    assert "shop/only-web" in json.dumps(event["policy"]["ingress"])


def test_allowed_connection_names_the_rule(clean, pods, family):
    port = port_new()
    clean.apply(only_web(port))
    assert tcp_works(pods["web"], pods["db"], family, port)
    event = flow(clean, "new", port)
    assert event["verdict"] == "allow"
    assert event["policy"]["ingress"]["policy"] == "shop/only-web"
    assert event["policy"]["ingress"]["rule"] == 0


def test_world_and_node_have_names(clean, pods, family):
    port = port_new()
    assert udp_ask(pods["web"], clean.outside, family, port)
    event = flow(clean, "new", port)
    assert event["to"]["what"] == "world" and event["proto"] == "udp"
    assert event["nat"].startswith((clean.ip(family), f"[{clean.ip(family)}"))
    port = port_new()
    assert udp_ask(pods["web"], clean, family, port)
    assert flow(clean, "new", port)["to"]["what"] == "host"


def test_closed_connection_has_its_counts_and_duration(clean, pods, family):
    port = port_new()
    with tcp_open(pods["web"], pods["db"], family, port) as link:
        begun = time.monotonic()
        assert link.passes(link.client, link.server, b"x")
        wait_for(lambda: time.monotonic() - begun > 1.2, 5)
        assert link.passes(link.client, link.server, b"y")
    took = (time.monotonic() - begun) * 1000
    event = wait_for(lambda: flow(clean, "close", port), 60, 1)
    assert event["packets"][0] >= 4 and event["packets"][1] >= 3
    assert event["bytes"][0] > event["packets"][0] * 40
    # That the entry stays for a while after the last packet is no part of it.
    assert 1100 < event["duration_ms"] < took + 1000
    assert event["policy"]["ingress"]["isolated"] is False
    text = clean.towpath("flows", "--type", "close", "--port", port).stdout
    assert f"close after {event['duration_ms'] / 1000:.2f} s: " in text


def test_revocation_is_logged(clean, pods, family):
    port = port_new()
    with tcp_open(pods["spy"], pods["db"], family, port) as link:
        clean.apply(only_web(port))
        assert not link.passes(link.client, link.server, b"x", QUIET)
        event = flow(clean, "revoke", port)
    assert event["from"]["pod"] == "spy"


def test_command_filters_and_follows(clean, pods, family):
    port = port_new()
    clean.apply(only_web(port))
    assert not tcp_works(pods["spy"], pods["db"], family, port, seconds=QUIET)
    assert tcp_works(pods["web"], pods["db"], family, port)

    def lines(*argv):
        done = clean.towpath("flows", "--last", "100", "-o", "json", *argv)
        return [json.loads(line) for line in done.stdout.splitlines()]

    denied = wait_for(lambda: lines("--verdict", "deny", "--port", port))
    assert denied and all(e["verdict"] == "deny" and e["to"]["port"] == port for e in denied)
    assert all(e["from"]["pod"] == "web" for e in lines("--from", "shop/web"))
    text = clean.towpath("flows", "--last", "100", "--verdict", "deny", "--port", port).stdout
    assert "bank/spy" in text and "shop/db" in text and "only-web" in text
