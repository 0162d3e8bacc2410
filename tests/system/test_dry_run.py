# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""apply and delete --dry-run: what would change is said before it is so, and nothing changes."""

import json

import pytest
from node import namespace_object, policy_object
from traffic import QUIET, port_new, tcp_works, wait_for

PORTS_BUT_ONE = ["1-5431/tcp", "icmp", "5433-65535/tcp", "udp", "sctp", "icmpv6"]


@pytest.fixture
def pods(clean):
    clean.apply(namespace_object("shop", {"team": "sales"}))
    return {name: clean.add_pod("shop", name, {"app": name}) for name in ("web", "db", "spy")}


def only(app, *ports):
    rule = {"from": [{"podSelector": {"matchLabels": {"app": app}}}]}
    if ports:
        rule["ports"] = [{"port": port} for port in ports]
    return policy_object("shop", "db", {"matchLabels": {"app": "db"}}, ingress=[rule])


def effects(node, command, *objects):
    text = json.dumps({"kind": "List", "apiVersion": "v1", "items": list(objects)})
    done = node.towpath(command, "-f", "-", "--dry-run", "-o", "json", stdin=text)
    return json.loads(done.stdout)["effects"]


def ends(pair):
    return tuple(pair[end].get("pod", pair[end].get("cidr")) for end in ("from", "to"))


def table(said):
    assert said["complete"] and said["pairs_total"] == len(said["pairs"])
    return {ends(p): (p["before"], p["after"], p["ports"]) for p in said["pairs"]}


def state(node):
    """Everything that a dry run must leave alone."""
    kinds = ("networkpolicies", "identities", "endpoints")
    return [node.towpath("get", kind, "-o", "json").stdout for kind in kinds]


def test_pairs_that_change_and_nothing_else_does(clean, pods, family):
    before = state(clean)
    said = table(effects(clean, "apply", only("web", 5432)))
    assert said.keys() == {("web", "db"), ("spy", "db"), ("world", "db")}
    assert said["spy", "db"] == ("allow", "deny", ["every port"])
    assert said["web", "db"][2] == PORTS_BUT_ONE
    assert state(clean) == before
    assert tcp_works(pods["spy"], pods["db"], family)

    clean.apply(only("web", 5432))
    said = table(effects(clean, "apply", only("spy", 5432)))
    assert said == {
        ("spy", "db"): ("deny", "allow", ["5432/tcp"]),
        ("web", "db"): ("allow", "deny", ["5432/tcp"]),
    }
    assert table(effects(clean, "apply", only("web", 5432))) == {}
    said = table(effects(clean, "delete", only("web", 5432)))
    assert said["world", "db"] == ("deny", "allow", ["every port"])
    assert not tcp_works(pods["spy"], pods["db"], family, seconds=QUIET)


def test_flows_of_the_log_that_would_change(clean, pods, family):
    port, refused = port_new(), port_new()
    for name in ("web", "web", "spy"):
        assert tcp_works(pods[name], pods["db"], family, port=port)
    wait_for(lambda: len(clean.flows(port=port, type="new")) == 3)
    said = effects(clean, "apply", only("web"))
    flows = [(ends(f), f["before"], f["after"], f["ports"], f["count"]) for f in said["flows"]]
    assert flows == [(("spy", "db"), "allow", "deny", [f"{port}/tcp"], 1)]
    assert said["flows_total"] == 1 and said["flows_asked"] >= 2
    out = clean.towpath("apply", "-f", "-", "--dry-run", stdin=json.dumps(only("web"))).stdout
    assert "would get another verdict" in out and f"{port}/tcp" in out and "(dry run)" in out

    # What was refused would pass.
    clean.apply(only("web"))
    assert not tcp_works(pods["spy"], pods["db"], family, port=refused, seconds=QUIET)
    wait_for(lambda: clean.flows(port=refused, type="drop"))
    flows = [(ends(f), f["after"], f["ports"]) for f in effects(clean, "delete", only("web"))["flows"]]
    assert (("spy", "db"), "allow", [f"{refused}/tcp"]) in flows


def test_output_is_bounded(clean):
    clean.apply(namespace_object("many", {}))
    names = [f"p{i:02}" for i in range(12)]
    for name in names:
        clean.add_pod("many", name, {})
    deny = policy_object("many", "deny", {}, ingress=[])
    said = effects(clean, "apply", deny)
    assert said["pairs_total"] == 12 * 11 + 12 and len(said["pairs"]) == 100
    out = clean.towpath("apply", "-f", "-", "--dry-run", stdin=json.dumps(deny)).stdout
    assert "and 44 more pairs" in out


def test_what_is_refused_has_no_effect(clean, pods):
    wrong = only("web", 70000)
    done = clean.towpath("apply", "-f", "-", "--dry-run", stdin=json.dumps(wrong), check=False)
    assert done.returncode == 1 and not done.stdout and "70000" in done.stderr
    done = clean.towpath("delete", "-f", "-", "--dry-run", stdin=json.dumps(only("web")), check=False)
    assert done.returncode == 1 and "db" in done.stderr


def test_flows_that_only_the_history_has(clean, pods):
    """After a restart the log in memory is empty."""
    port = port_new()
    for _ in range(3):
        assert tcp_works(pods["spy"], pods["db"], 4, port=port)

    def recorded():
        if len(clean.flows(port=port, type="new")) < 3:
            return False
        status = clean.status()
        return status["flow_history"]["kept"] >= status["flow_log"]["records"]

    assert wait_for(recorded)
    clean.restart()
    for _ in range(2):
        said = effects(clean, "apply", only("web"))
        found = [(ends(f), f["before"], f["after"], f["ports"], f["count"]) for f in said["flows"]]
        assert found == [(("spy", "db"), "allow", "deny", [f"{port}/tcp"], 3)]
        # Seen once more, in memory; both count.
        assert tcp_works(pods["web"], pods["db"], 4, port=port)
    missing = policy_object("shop", "missing", {}, ingress=[])
    done = clean.towpath("delete", "-f", "-", "--dry-run", stdin=json.dumps(missing), check=False)
    assert done.returncode == 1 and "missing" in done.stderr
