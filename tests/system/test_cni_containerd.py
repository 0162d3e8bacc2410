# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Real containers: `ctr run --cni` of containerd, and the page docs/guide/containerd.md."""

import contextlib

import pytest

from cni import endpoints, ports
from node import FAMILIES, Node, pod_object, policy_object
from page import Page, Shell
from runtime import IMAGE, Containerd, Host, needs
from traffic import wait_for

pytestmark = needs("containerd", "ctr", "crun")

SWEEP = 25  # the agent looks every 10 s for containers that went without a DEL


@pytest.fixture(scope="module")
def containerd():
    with Node() as node:
        host = Host(node)
        host.install("-l", "from=network")
        made = Containerd(host)
        made.load_image()
        # Nobody tells the agent about the end of this one; see the last test.
        made.start("brief", "true")
        yield made
        made.close()
        host.close()


@pytest.fixture(scope="module")
def pair(containerd):
    """The addresses of a web server and of a client."""
    containerd.start("web", "httpd", "-f", "-p", "8080", "-h", "/")
    containerd.start("client", "sleep", "600")
    return addresses(containerd, "default-web"), addresses(containerd, "default-client")


def items(containerd):
    return containerd.node.api("GET", "/v1/endpoints")["items"]


def endpoint(containerd, pod):
    return next((item for item in items(containerd) if item["pod"] == pod), None)


def addresses(containerd, pod):
    plain = [ip.split("/")[0] for ip in endpoint(containerd, pod)["ips"]]
    return dict(zip(FAMILIES, plain))


def get(containerd, address, name="client"):
    ask = f"printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc -w 1 {address} 8080"
    return "served" in containerd.sh(name, ask).stdout


def test_containers_reach_each_other_and_the_outside(containerd, pair, family):
    assert get(containerd, pair[0][family])
    outside = containerd.node.outside.ip(family)
    assert containerd.sh("client", f"ping -c 1 -W 2 {outside}").returncode == 0


def test_name_is_containerds_namespace_and_the_containers(containerd, pair):
    containerd.start("web", "sleep", "600", namespace="shop")
    try:
        one, other = endpoint(containerd, "default-web"), endpoint(containerd, "shop-web")
        assert (one["namespace"], other["namespace"]) == ("default", "default")
        assert one["ips"] != other["ips"]
    finally:
        containerd.remove("web", "shop")


def test_labels_of_the_pod_object_else_of_the_network(containerd, pair):
    node, (web, _) = containerd.node, pair
    pod = pod_object("default", "default-web", {"app": "web"}, ())
    deny = policy_object("default", "deny", {"matchLabels": {"from": "network"}}, ingress=[])
    node.apply(deny)
    try:
        assert not get(containerd, web[4])
        node.apply(pod)  # its labels count now, and the policy selects it no more
        assert wait_for(lambda: get(containerd, web[4]))
    finally:
        node.delete(deny)
        node.delete(pod, check=False)


def test_policy_between_containers(containerd, pair, family):
    node, (web, _) = containerd.node, pair
    deny = policy_object("default", "deny", {"matchLabels": {"app": "web"}}, ingress=[])
    pod = pod_object("default", "default-web", {"app": "web"}, ())
    node.apply(pod, deny)
    try:
        assert not get(containerd, web[family])
        dropped = [f for f in node.flows() if f["verdict"] == "deny" and f["proto"] == "tcp"]
        assert dropped and dropped[-1]["to"]["pod"] == "default-web"
    finally:
        node.delete(pod, deny)
    assert wait_for(lambda: get(containerd, web[family]))


def test_mtu_is_the_uplinks_or_the_networks(containerd, pair):
    def mtu(name):
        return containerd.sh(name, "cat /sys/class/net/eth0/mtu").stdout.strip()

    assert mtu("client") == "1500"
    containerd.host.install("--mtu", "1400", "-l", "from=network")
    try:
        containerd.start("small", "sleep", "600")
        assert (mtu("small"), mtu("client")) == ("1400", "1500")
    finally:
        containerd.remove("small")
        containerd.host.install("-l", "from=network")


def test_started_again_at_once(containerd, pair, family):
    """The interface went with the process; what is left of the old one is in nobody's way."""
    for _ in range(2):
        containerd.start("again", "httpd", "-f", "-p", "8080", "-h", "/")
        assert get(containerd, addresses(containerd, "default-again")[family])
        containerd.remove("again")


def test_restart_of_containerd_and_of_the_agent(containerd, pair):
    web, _ = pair
    containerd.stop_daemon()
    containerd.node.kill()
    containerd.start_daemon()
    assert all(get(containerd, web[family]) for family in FAMILIES)
    with pytest.raises(RuntimeError, match="no agent answers"):
        containerd.start("early", "sleep", "600")
    containerd.remove("early")
    containerd.node.start()
    containerd.start("early", "sleep", "600")
    assert all(get(containerd, web[family], "early") for family in FAMILIES)
    containerd.remove("early")


def test_foreground_leaves_nothing(containerd, pair):
    done = containerd.host("ctr", "run", "--rm", "--cni", IMAGE, "fg", "ip", "addr", "show", "eth0")
    assert "10.88.0." in done.stdout
    assert ("default-fg", "eth0") not in endpoints(containerd.node)
    assert ports(containerd.node) <= {item["port"] for item in items(containerd)}


def test_end_without_a_DEL_is_noticed(containerd, pair):
    """`brief` ended when this file's tests began."""
    assert wait_for(lambda: endpoint(containerd, "default-brief") is None, SWEEP)


def test_page_of_the_guide(tmp_path):
    with Node() as node:
        host = Host(node)
        containerd = Containerd(host)
        containerd.load_image()
        try:
            with contextlib.closing(Shell(host.argv(), tmp_path, host.env())) as shell:
                page = Page("docs/guide/containerd.md")
                steps = page.run(shell, page.run_by("test_cni_containerd.py"))
            assert sum("ctr run" in step.command for step in steps) == 3
            assert get(containerd, "10.88.0.1") is False  # the policy of the page
        finally:
            containerd.close()
            host.close()
