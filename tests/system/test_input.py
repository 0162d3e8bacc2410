# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Bad input: one sentence with its place, exit 1, and nothing changed."""

import re

import pytest
from node import namespace_object, policy_object

POLICY = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: p
  namespace: shop
spec:
  podSelector: {}
  ingress:
  - from:
    - ipBlock:
        cidr: 10.0.0.0/8
    ports:
    - protocol: TCP
      port: 80
"""

# name: (line to replace, its replacement, line number of the error or None, field or None)
BAD = {
    "port out of range": ("      port: 80", "      port: 65536", 14, "spec.ingress[0].ports[0].port"),
    "port zero": ("      port: 80", "      port: 0", 14, "spec.ingress[0].ports[0].port"),
    "port name with a blank": ("      port: 80", "      port: 'a b'", 14,
                               "spec.ingress[0].ports[0].port"),
    "endPort below port": ("      port: 80", "      port: 80\n      endPort: 79", 15,
                           "spec.ingress[0].ports[0].endPort"),
    "endPort of a name": ("      port: 80", "      port: http\n      endPort: 90", 15,
                          "spec.ingress[0].ports[0].endPort"),
    "unknown protocol": ("    - protocol: TCP", "    - protocol: ICMP", 13,
                         "spec.ingress[0].ports[0].protocol"),
    "bad CIDR": ("        cidr: 10.0.0.0/8", "        cidr: 10.0.0/8", 11,
                 "spec.ingress[0].from[0].ipBlock.cidr"),
    "CIDR too long": ("        cidr: 10.0.0.0/8", "        cidr: 10.0.0.0/33", 11,
                      "spec.ingress[0].from[0].ipBlock.cidr"),
    "except outside": ("        cidr: 10.0.0.0/8",
                       "        cidr: 10.0.0.0/8\n        except: [11.0.0.0/16]", 12,
                       "spec.ingress[0].from[0].ipBlock.except[0]"),
    "ipBlock beside a selector": ("    - ipBlock:", "    - podSelector: {}\n      ipBlock:", None,
                                  "spec.ingress[0].from[0]"),
    "unknown operator": ("  podSelector: {}",
                         "  podSelector:\n    matchExpressions:\n"
                         "    - {key: a, operator: Like, values: [b]}", 9,
                         "spec.podSelector.matchExpressions[0].operator"),
    "In without values": ("  podSelector: {}",
                          "  podSelector:\n    matchExpressions:\n    - {key: a, operator: In}", 9,
                          "spec.podSelector.matchExpressions[0]"),
    "bad label value": ("  podSelector: {}", "  podSelector:\n    matchLabels: {a: 'b c'}", 8,
                        "spec.podSelector.matchLabels"),
    "unknown policy type": ("  podSelector: {}", "  podSelector: {}\n  policyTypes: [Both]", 8,
                            "spec.policyTypes[0]"),
    "unknown kind": ("kind: NetworkPolicy", "kind: NetworkPolice", 2, "kind"),
    "no name": ("  name: p", "  labels: {}", None, "metadata"),
    "bad name": ("  name: p", "  name: P_1", 4, "metadata.name"),
    "ingress no list": ("  - from:", "    from:", 9, "spec.ingress"),
    "tab": ("  podSelector: {}", "\tpodSelector: {}", 7, None),
    "unclosed": ("  podSelector: {}", "  podSelector: {", None, None),
    "key twice": ("      port: 80", "      port: 80\n      port: 81", 15, None),
}  # fmt: skip


@pytest.fixture(scope="module")
def filled(node):
    node.apply(namespace_object("shop", {"a": "b"}), policy_object("shop", "kept", ingress=[]))
    return node


def state(node):
    return {k: node.api("GET", f"/v1/objects/{k}")["items"]
            for k in ("Pod", "Namespace", "NetworkPolicy")}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_manifest(filled, tmp_path, name):
    old, new, line, field = BAD[name]
    assert old in POLICY
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.replace(old, new, 1))
    good = tmp_path / "a-good-one.yaml"
    good.write_text(POLICY.replace("name: p", "name: good"))
    before = state(filled)
    done = filled.towpath("apply", "-f", tmp_path, check=False)
    assert done.returncode == 1
    message = done.stderr.strip()
    assert len(message.splitlines()) == 1, message
    place = re.search(r"policy\.yaml:(\d+):(\d+)", message)
    assert place, message
    if line is not None:
        assert int(place[1]) == line, message
    if field is not None:
        assert field in message
    assert state(filled) == before, "whole or not at all"


def test_the_good_one_of_these_tests_is_good(filled, tmp_path):
    (tmp_path / "good.yaml").write_text(POLICY)
    assert filled.towpath("apply", "-f", tmp_path).returncode == 0
    filled.towpath("delete", "-f", tmp_path)


def test_dry_run_changes_nothing(filled):
    before = state(filled)
    done = filled.towpath("apply", "--dry-run", "-f", "-", stdin=POLICY)
    assert "p" in done.stdout
    assert state(filled) == before


def test_delete_of_what_is_not_there(filled):
    before = state(filled)
    both = policy_object("shop", "absent"), policy_object("shop", "kept")
    done = filled.delete(*both, check=False)
    assert done.returncode == 1
    assert "absent" in done.stderr
    assert state(filled) == before


def test_no_such_file(filled):
    done = filled.towpath("apply", "-f", "/nonexistent.yaml", check=False)
    assert done.returncode == 1
    assert "/nonexistent.yaml" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("argv", (("apply",), ("fly",), ("get",), ("apply", "-f"), ("--nope",)))
def test_usage(filled, argv):
    done = filled.towpath(*argv, check=False)
    assert done.returncode == 2
    assert done.stderr.strip()


@pytest.mark.parametrize("text", ("{}", "", "[]", "nonsense", '{"files": 1}', '{"files": [{}]}',
                                  "\0" * 64, '{"files": [' * 5000))  # fmt: skip
def test_api_takes_no_nonsense(filled, text):
    import http.client

    from node import _UnixConnection

    before = state(filled)
    link = _UnixConnection(filled.socket, 10)
    link.request("POST", "/v1/apply", body=text.encode())
    answer = link.getresponse()
    assert 400 <= answer.status < 500, answer.read()
    assert b"error" in answer.read()
    link.close()
    assert isinstance(answer, http.client.HTTPResponse)
    assert state(filled) == before


def test_agent_absent_is_said_at_once(filled):
    filled.kill()
    try:
        done = filled.towpath("status", check=False, timeout=5)
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1
    finally:
        filled.start()
