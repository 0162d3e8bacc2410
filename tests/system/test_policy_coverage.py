# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""towpath policy coverage: what each rule decided, by real flows, and which never did."""

import json
import time

import pytest
from node import namespace_object, policy_object
from traffic import QUIET, tcp_works, wait_for

PORTS = (7001, 7002)


@pytest.fixture
def pods(clean):
    clean.apply(namespace_object("shop", {"team": "sales"}))
    return {name: clean.add_pod("shop", name, {"app": name}) for name in ("web", "db", "spy")}


def rules(*ports):
    """One rule for web on each port, and one for what is not there."""
    peers = {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}
    ghost = {"from": [{"podSelector": {"matchLabels": {"app": "ghost"}}}]}
    return [peers | {"ports": [{"port": port}]} for port in ports] + [ghost]


def coverage(node, *argv):
    text = node.towpath("policy", "coverage", "-o", "json", *argv).stdout
    return {f"{i['namespace']}/{i['name']}": i for i in json.loads(text)["items"]}


def matched(node, name="shop/db"):
    return [rule["matched"] for rule in coverage(node)[name]["ingress"]["rules"]]


def test_rules_count_what_they_decide(clean, pods, family):
    clean.apply(policy_object("shop", "db", {"matchLabels": {"app": "db"}}, ingress=rules(*PORTS)))
    clean.apply(policy_object("shop", "web", {"matchLabels": {"app": "web"}}, types=["Egress"],
                              egress=[{}]))  # fmt: skip
    clean.apply(policy_object("shop", "nobody", {"matchLabels": {"app": "nobody"}}, ingress=[{}]))
    assert matched(clean) == [0, 0, 0]
    for _ in range(3):
        assert tcp_works(pods["web"], pods["db"], family, port=PORTS[1])
    wait_for(lambda: matched(clean) == [0, 3, 0])
    assert not tcp_works(pods["spy"], pods["db"], family, port=PORTS[1], seconds=QUIET)
    wait_for(lambda: coverage(clean)["shop/db"]["ingress"]["denied"])

    said = coverage(clean, "-n", "shop")
    db, web, nobody = said["shop/db"], said["shop/web"], said["shop/nobody"]
    now = time.time() * 1e9
    assert db["since"] <= db["ingress"]["rules"][1]["last"] <= now
    assert db["ingress"]["rules"][1]["text"] == "from pods app=web in namespace shop, port 7002/TCP"
    assert db["ingress"]["last_denied"] <= now and "egress" not in db
    assert web["egress"]["rules"][0]["matched"] >= 3 and web["egress"]["denied"] == 0
    assert (db["selects"], web["selects"], nobody["selects"]) == (1, 1, 0)
    assert coverage(clean, "-n", "elsewhere") == {}

    out = clean.towpath("policy", "coverage", "-n", "shop").stdout
    assert "3 of 5 rules never matched" in out and "selects no pod of this node" in out
    unused = clean.towpath("policy", "coverage", "-n", "shop", "--unused").stdout
    assert "7001/TCP" in unused and "7002/TCP" not in unused and "app=ghost" in unused


def test_counts_begin_anew_when_the_policy_changes(clean, pods):
    clean.apply(policy_object("shop", "db", {"matchLabels": {"app": "db"}}, ingress=rules(*PORTS)))
    clean.apply(policy_object("shop", "web", {"matchLabels": {"app": "web"}}, ingress=[{}]))
    assert tcp_works(pods["web"], pods["db"], 4, port=PORTS[0])
    assert tcp_works(pods["db"], pods["web"], 4, port=PORTS[0])
    wait_for(lambda: matched(clean) == [1, 0, 0] and matched(clean, "shop/web") == [1])
    before = coverage(clean)["shop/db"]["since"]
    # What is applied again unchanged goes on counting; a dry run is no change.
    clean.apply(policy_object("shop", "db", {"matchLabels": {"app": "db"}}, ingress=rules(*PORTS)))
    other = policy_object("shop", "db", {"matchLabels": {"app": "db"}}, ingress=rules(PORTS[0]))
    clean.towpath("apply", "--dry-run", "-f", "-", stdin=json.dumps(other))
    assert matched(clean) == [1, 0, 0] and coverage(clean)["shop/db"]["since"] == before
    clean.apply(other)
    assert matched(clean) == [0, 0] and coverage(clean)["shop/db"]["since"] >= before
    assert matched(clean, "shop/web") == [1]
    clean.delete(other)
    assert "shop/db" not in coverage(clean)


def test_counts_are_not_kept_over_a_restart(clean, pods):
    clean.apply(policy_object("shop", "db", {"matchLabels": {"app": "db"}}, ingress=[{}]))
    assert tcp_works(pods["web"], pods["db"], 4)
    wait_for(lambda: matched(clean) == [1])
    clean.restart()
    assert matched(clean) == [0]
    said = json.loads(clean.towpath("policy", "coverage", "-o", "json").stdout)
    assert said["items"][0]["since"] == said["since"] and said["since"] <= time.time() * 1e9
