# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""1 000 policies from a folder: at most 1 s in all, at most 20 ms in the kernel."""

import json
import re
import time

import pytest
from node import namespace_object, policy_object
from traffic import QUIET, tcp_works

COUNT = 1000


def policies(port):
    """Unlike each other: own selector, own port, own address block."""
    for number in range(COUNT):
        block = f"172.{16 + number // 256}.{number % 256}.0/24"
        rule = {
            "from": [
                {"podSelector": {"matchLabels": {"app": f"app{number % 50}"}}},
                {"ipBlock": {"cidr": block}},
            ],
            "ports": [{"port": port + number}],
        }
        selector = {"matchLabels": {"tier": f"t{number % 20}"}}
        yield policy_object("shop", f"policy{number}", selector, ingress=[rule])


@pytest.fixture(scope="module")
def pods(node):
    node.apply(namespace_object("shop", {}))
    return [node.add_pod("shop", f"p{i}", {"app": f"app{i}", "tier": f"t{(i + 1) % 4}"})
            for i in range(4)]


def folder(path, port):
    for policy in policies(port):
        (path / f"{policy['metadata']['name']}.yaml").write_text(json.dumps(policy))
    return path


def test_1000_policies_from_a_folder(node, pods, tmp_path):
    for turn, port in enumerate((2000, 3000)):  # new ones, then every one changed
        path = tmp_path / str(turn)
        path.mkdir()
        folder(path, port)
        start = time.monotonic()
        done = node.towpath("apply", "-o", "json", "-f", path)
        took = time.monotonic() - start
        reply = json.loads(done.stdout)
        print(f"{took:.3f} s", {k: reply[k] for k in ("compile_us", "store_us", "kernel_us")})
        assert len(reply["results"]) == COUNT
        assert took <= 1.0, f"{took:.2f} s: {reply['compile_us']} + {reply['store_us']} us"
        assert reply["kernel_us"] <= 20000
    assert len(node.api("GET", "/v1/objects/NetworkPolicy")["items"]) == COUNT


def test_they_are_in_force(node, pods, family):
    # policy number n lets app(n % 50) reach tier(n % 20) on port 3000 + n.
    for number in (101, 201, 102, 203):
        src, dst = number % 50, (number % 20 - 1) % 4
        other = next(i for i in range(4) if i not in (src, dst))
        assert tcp_works(pods[src], pods[dst], family, port=3000 + number)
        assert not tcp_works(pods[other], pods[dst], family, port=3000 + number, seconds=QUIET)
        assert not tcp_works(pods[src], pods[dst], family, port=2999 + number, seconds=QUIET)


def test_one_bad_among_them_changes_nothing(node, pods, tmp_path):
    folder(tmp_path, 4000)
    bad = tmp_path / "policy500.yaml"
    bad.write_text(re.sub(r'"port": \d+', '"port": 70000', bad.read_text()))
    before = node.api("GET", "/v1/objects/NetworkPolicy")
    assert node.towpath("apply", "-f", tmp_path, check=False).returncode == 1
    assert node.api("GET", "/v1/objects/NetworkPolicy") == before


def test_deleting_them_opens_everything(node, pods, family):
    if node.api("GET", "/v1/objects/NetworkPolicy")["items"]:
        start = time.monotonic()
        node.delete(*policies(3000))
        assert time.monotonic() - start < 2
    assert tcp_works(pods[0], pods[1], family)
