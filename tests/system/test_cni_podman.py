# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Real containers: podman calls the plugin, and policies hold between what it runs."""

import json
import time

import pytest

from cni import endpoints, ports
from node import FAMILIES, Node, pod_object, policy_object
from runtime import Host, Podman, needs

pytestmark = needs("podman", "crun")


@pytest.fixture(scope="module")
def podman():
    with Node() as node:
        host = Host(node)
        host.install()
        made = Podman(host)
        yield made
        made.close()
        host.close()


@pytest.fixture(scope="module")
def pair(podman):
    """A web server and a client, known by their names as pods of the namespace default."""
    web = podman.start("web", "httpd", "-f", "-p", "8080", "-h", "/")
    client = podman.start("client", "sleep", "600")
    address = {}
    for item in podman.node.api("GET", "/v1/endpoints")["items"]:
        plain = [ip.split("/")[0] for ip in item["ips"]]
        address[item["container_id"]] = dict(zip(FAMILIES, plain))
        assert item["pod"] in ("web", "client")
    return address[web], address[client]


def get(podman, address):
    script = f"printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc -w 1 {address} 8080"
    return "served" in podman.sh("client", script).stdout


def test_containers_reach_each_other(podman, pair, family):
    web, _ = pair
    assert podman.sh("client", f"ping -c 1 -W 1 {web[family]}").returncode == 0
    assert get(podman, web[family])


def test_containers_reach_the_outside(podman, pair, family):
    address = podman.node.outside.ip(family)
    assert podman.sh("client", f"ping -c 1 -W 1 {address}").returncode == 0


def test_policy_between_containers(podman, pair, family):
    web, _ = pair
    node = podman.node
    node.apply(pod_object("default", "web", {"app": "web"}, ()))
    deny = policy_object("default", "deny", {"matchLabels": {"app": "web"}}, ingress=[])
    node.apply(deny)
    try:
        assert not get(podman, web[family])
        dropped = [f for f in node.flows() if f["verdict"] == "deny" and f["proto"] == "tcp"]
        assert dropped and dropped[-1]["to"]["pod"] == "web"
    finally:
        node.delete(deny)
    end = time.monotonic() + 2
    while not get(podman, web[family]):
        assert time.monotonic() < end


def test_hosts_file_has_the_address(podman, pair):
    """podman writes what it found in the plugin's result."""
    _, client = pair
    text = podman.sh("client", "cat /etc/hosts").stdout
    assert client[4] in text


def test_address_and_mac_asked_for(podman):
    podman.start("fixed", "sleep", "60",
                 options=("--ip", "10.88.9.9", "--mac-address", "02:00:00:00:00:99"))  # fmt: skip
    shown = json.loads(podman("inspect", "fixed").stdout)[0]["NetworkSettings"]["Networks"]
    assert shown["towpath"]["IPAddress"] == "10.88.9.9"
    assert shown["towpath"]["MacAddress"] == "02:00:00:00:00:99"
    podman("rm", "-f", "-t", "0", "fixed")


def test_rm_leaves_nothing(podman, pair):
    before = (endpoints(podman.node), ports(podman.node))
    for name in ("one", "two"):
        podman.start(name, "sleep", "60")
    assert len(endpoints(podman.node)) == len(before[0]) + 2
    podman("rm", "-f", "-t", "0", "one", "two")
    assert (endpoints(podman.node), ports(podman.node)) == before
