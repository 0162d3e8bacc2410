# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Containers of podman, of containerd and of `towpath run` on one node, under one policy."""

import itertools
import os

import pytest

from cni import endpoints
from node import FAMILIES, Node, pod_object, policy_object
from podman import podman_make
from runtime import Containerd, needs
from traffic import wait_for

pytestmark = needs("podman", "containerd", "ctr", "crun")

HTTPD = ("httpd", "-f", "-p", "8080", "-h", "/")
POD = {"podman": "p", "containerd": "default-c", "run": "r"}  # what each calls its container
PAIRS = [f"{client} to {server}" for client, server in itertools.permutations(POD, 2)]


class Three:
    """A web server of each, which can also ask the others."""

    def __init__(self, node):
        self.node = node
        self.podman = podman_make("debian12-cni", node)
        self.host = self.podman.host
        self.containerd = Containerd(self.host)
        self.podman.serve("p")
        self.containerd.start("c", *HTTPD)
        self.host("towpath", "run", "-d", "--image-root", self.host.rootfs, "r", "--", *HTTPD)
        self.shell = {
            "podman": lambda text: self.podman.sh("p", text),
            "containerd": lambda text: self.containerd.sh("c", text),
            "run": lambda text: self.host("towpath", "exec", "r", "--", "sh", "-c", text, check=False),
        }
        self.address = {}
        for item in node.api("GET", "/v1/endpoints")["items"]:
            plain = [ip.split("/")[0] for ip in item["ips"]]
            self.address[item["pod"]] = dict(zip(FAMILIES, plain))
        for name, pod in POD.items():
            node.apply(pod_object("default", pod, {"runtime": name}, ()))

    def get(self, client, server, family):
        address = self.address[POD[server]][family]
        ask = f"printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc -w 1 {address} 8080"
        return "served" in self.shell[client](ask).stdout

    def reached(self, family):
        """The pairs of which one gets the other's page."""
        return [pair for pair in PAIRS if self.get(*pair.split(" to "), family)]

    def close(self):
        self.host("towpath", "rm", "r", check=False)
        self.containerd.close()
        self.podman.close()


@pytest.fixture(scope="module")
def three():
    with Node() as node:
        made = Three(node)
        yield made
        made.close()


def test_names(three):
    assert set(three.address) == set(POD.values())


def test_each_reaches_each(three, family):
    assert three.reached(family) == PAIRS


@pytest.mark.parametrize("server", POD if os.environ.get("TOWPATH_FULL") else ["containerd"])
def test_policy_lets_one_of_them_in(three, server):
    """The other keeps out, whoever runs it; the two of them are not touched."""
    friend, stranger = [name for name in POD if name != server]
    allow = [{"from": [{"podSelector": {"matchLabels": {"runtime": friend}}}]}]
    policy = policy_object("default", "one", {"matchLabels": {"runtime": server}}, ingress=allow)
    three.node.apply(policy)
    try:
        for family in FAMILIES:
            assert three.get(friend, server, family) and three.get(server, stranger, family)
            assert not three.get(stranger, server, family)
        dropped = [f for f in three.node.flows() if f["verdict"] == "deny" and f["proto"] == "tcp"]
        last = dropped[-1]
        assert (last["from"]["pod"], last["to"]["pod"]) == (POD[stranger], POD[server])
    finally:
        three.node.delete(policy)
    assert wait_for(lambda: three.get(stranger, server, 4))


def test_networks_are_apart_by_addresses_not_by_policy(three):
    """A container of a second network is another pod of the same node."""
    three.podman.network("blue", ["10.77.0.0/24"])
    three.podman.run("b", network="blue")
    try:
        assert three.podman.address("b")[4].startswith("10.77.0.")
        target = three.address["default-c"][4]
        assert three.podman.get("b", target)
        deny = policy_object("default", "deny", {"matchLabels": {"runtime": "containerd"}}, ingress=[])
        three.node.apply(deny)
        assert not three.podman.get("b", target)
        three.node.delete(deny)
    finally:
        three.podman.rm("b")


def test_each_leaves_alone_what_is_the_others(three):
    before = endpoints(three.node)
    three.containerd.start("c2", "sleep", "60")
    three.podman.run("p2")
    three.host("towpath", "run", "--image-root", three.host.rootfs, "r2", "--", "true")
    three.podman.rm("p2")
    three.containerd.ctr("task", "kill", "-s", "KILL", "c2")
    assert wait_for(lambda: endpoints(three.node) - {("default-c2", "eth0")} == before)
    three.containerd.remove("c2")
    assert three.reached(4) == PAIRS
