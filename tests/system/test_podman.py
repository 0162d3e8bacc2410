# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Real containers, with podman of Debian 12 (CNI) and of Debian 13 (netavark).

Every test runs with both; what they are configured with is docs/guide/podman.md.
"""

import pytest

from cni import endpoints, ports
from node import FAMILIES, pod_object, policy_object
from traffic import wait_for


@pytest.fixture(scope="module")
def web(podman):
    """The addresses of a web server; beside it runs a client."""
    podman.serve("web")
    podman.run("client")
    return podman.address("web")


@pytest.fixture
def shop(podman):
    """The guide's network with every key."""
    podman.network_of_guide()
    yield "shop"
    podman.network_rm("shop")


@pytest.fixture
def network(podman):
    """Makes networks and removes them, and the container `box`."""
    made = []

    def make(name, **keys):
        podman.network(name, **keys)
        made.append(name)

    yield make
    podman("rm", "-f", "-t", "0", "box", check=False)
    for name in made:
        podman.network_rm(name)


def left(podman):
    return endpoints(podman.node), ports(podman.node)


# ---- connectivity and policy -----------------------------------------------------------------


def test_containers_reach_each_other(podman, web, family):
    assert podman.sh("client", f"ping -c 1 -W 1 {web[family]}").returncode == 0
    assert podman.get("client", web[family])


def test_containers_reach_the_outside(podman, web, family):
    address = podman.node.outside.ip(family)
    assert podman.sh("client", f"ping -c 1 -W 1 {address}").returncode == 0


def test_policy_by_labels_of_a_pod_object(podman, web, family):
    node = podman.node
    node.apply(pod_object("default", "web", {"app": "web"}, ()))
    deny = policy_object("default", "deny", {"matchLabels": {"app": "web"}}, ingress=[])
    node.apply(deny)
    try:
        assert not podman.get("client", web[family])
        dropped = [f for f in node.flows() if f["verdict"] == "deny" and f["proto"] == "tcp"]
        assert dropped and dropped[-1]["to"]["pod"] == "web"
        assert dropped[-1]["from"]["pod"] == "client"
    finally:
        node.delete(deny)
    assert wait_for(lambda: podman.get("client", web[family]), 10)


def test_names(podman, web):
    record = podman.endpoint("web")
    assert (record["namespace"], record["pod"]) == ("default", "web")
    assert record["network"] == "towpath"


def test_podman_shows_what_the_agent_gave(podman, web):
    shown = podman.inspect("web")["NetworkSettings"]["Networks"]["towpath"]
    assert (shown["IPAddress"], shown["GlobalIPv6Address"]) == (web[4], web[6])
    assert shown["MacAddress"] == podman.endpoint("web")["mac"]
    hosts = podman.sh("client", "cat /etc/hosts").stdout
    assert podman.address("client")[4] in hosts


# ---- what a network and an option say ----------------------------------------------------------


def test_guide_network(podman, shop):
    """Subnets, namespace, labels, MTU and name server of the guide's second network."""
    podman.run("box", network=shop)
    try:
        record = podman.endpoint("box")
        assert (record["namespace"], record["pod"]) == ("shop", "box")
        assert record["labels"] == {"app": "web"}
        assert record["mtu"] == 1400
        assert "mtu 1400" in podman.sh("box", "ip link show eth0").stdout
        address = podman.address("box")
        assert address[4].startswith("10.99.0.") and address[6].startswith("fd00:99::")
        servers = podman.sh("box", "cat /etc/resolv.conf").stdout.split()
        assert servers[servers.index("nameserver") + 1 :][:1] == ["192.0.2.53"]
    finally:
        podman.rm("box")


def test_policy_by_labels_of_the_network(podman, web, shop):
    """No Pod object: the labels of the network configuration are matched."""
    deny = policy_object("shop", "deny", {"matchLabels": {"app": "web"}}, ingress=[])
    podman.serve("box", network=shop)
    try:
        addresses = podman.address("box").values()
        assert all(podman.get("client", address) for address in addresses)
        podman.node.apply(deny)
        assert not any(podman.get("client", address) for address in addresses)
    finally:
        podman.node.delete(deny, check=False)
        podman.rm("box")


def test_resolv_conf_is_the_hosts(podman, web):
    """Nothing is said about DNS: containers ask the servers that the host asks."""
    ours = podman.sh("client", "grep nameserver /etc/resolv.conf").stdout
    host = podman.host.path("/etc/resolv.conf").read_text().splitlines()
    theirs = [line.split()[1] for line in host if line.startswith("nameserver")]
    assert [line.split()[1] for line in ours.splitlines()] == theirs


def test_address_and_mac_asked_for(podman):
    podman.run("box", options=("--ip", "10.88.9.9", "--mac-address", "02:00:00:00:00:99"))
    try:
        shown = podman.inspect("box")["NetworkSettings"]["Networks"]["towpath"]
        assert shown["IPAddress"] == "10.88.9.9"
        assert shown["MacAddress"] == "02:00:00:00:00:99"
        again = podman("run", "--network", "towpath", "--ip", "10.88.9.9", "--rootfs",
                       podman.host.rootfs, "sleep", "1", check=False)  # fmt: skip
        assert again.returncode != 0 and "10.88.9.9" in again.stderr
    finally:
        podman.rm("box")


@pytest.mark.parametrize(("subnet", "has"), (("10.66.0.0/24", 4), ("fd00:66::/64", 6)))
def test_network_of_one_family(podman, web, network, subnet, has):
    network("single", subnets=[subnet])
    podman.serve("box", network="single")
    address = podman.address("box")
    assert list(address) == [has]
    assert podman.get("client", address[has])


# ---- several networks -----------------------------------------------------------------------------


def test_two_networks_at_once(podman, web, network):
    network("back", subnets=["10.67.0.0/24", "fd00:67::/64"])
    podman.serve("box", network=("towpath", "back"))
    for family in FAMILIES:
        first, second = (podman.address("box", ifname)[family] for ifname in ("eth0", "eth1"))
        assert podman.get("client", first) and podman.get("client", second)
        assert podman.sh("box", f"ping -c 1 -W 1 {web[family]}").returncode == 0
    # podman 4 numbers the interfaces in any order.
    networks = {podman.endpoint("box", ifname)["network"] for ifname in ("eth0", "eth1")}
    assert networks == {"towpath", "back"}


def test_connect_and_disconnect(podman, web, network):
    network("late", subnets=["10.68.0.0/24", "fd00:68::/64"])
    before = left(podman)
    podman.serve("box")
    podman("network", "connect", "late", "box")
    late = podman.address("box", "eth1")
    assert all(podman.get("client", late[family]) for family in FAMILIES)
    podman("network", "disconnect", "late", "box")
    assert podman.endpoint("box", "eth1") is None
    assert "eth1" not in podman.sh("box", "ip link").stdout
    assert all(podman.get("client", podman.address("box")[family]) for family in FAMILIES)
    podman.rm("box")
    assert left(podman) == before


# ---- lives and deaths -----------------------------------------------------------------------------


def test_restart(podman, web):
    before = left(podman)
    podman.serve("box")
    first = podman.address("box")
    podman("restart", "-t", "0", "box")
    again = podman.address("box")
    assert len(left(podman)[0]) == len(before[0]) + 1
    # A released address is left alone for a while: nobody's connections find somebody else.
    assert set(first.values()).isdisjoint(again.values())
    assert wait_for(lambda: podman.get("client", again[4]), 10)
    podman.rm("box")
    assert left(podman) == before


def test_rm_leaves_nothing(podman, web):
    before = left(podman)
    for name in ("one", "two"):
        podman.run(name)
    assert len(endpoints(podman.node)) == len(before[0]) + 2
    podman.rm("one", "two")
    assert left(podman) == before


def test_killed_container(podman, web):
    """conmon sees the end and has podman clean up."""
    before = left(podman)
    podman.run("box")
    podman("kill", "--signal", "KILL", "box")
    assert wait_for(lambda: left(podman) == before, 10)
    podman.rm("box")


def test_agent_restarts(podman, web):
    before = left(podman)
    podman.serve("box")
    addresses = podman.address("box").values()
    podman.node.kill()
    assert all(podman.get("client", address) for address in addresses)
    podman.node.start()
    assert all(podman.get("client", address) for address in addresses)
    podman.rm("box")
    assert left(podman) == before


def test_rm_without_an_agent(podman, web):
    before = left(podman)
    podman.run("box")
    podman.node.kill()
    podman.rm("box")
    assert ports(podman.node) == before[1]
    podman.node.start()
    assert wait_for(lambda: left(podman) == before, 10)


def test_run_without_an_agent(podman, web):
    before = left(podman)
    podman.node.kill()
    try:
        done = podman("run", "--rm", "--network", "towpath", "--rootfs", podman.host.rootfs, "sleep",
                      "1", check=False)  # fmt: skip
        assert done.returncode != 0 and "no agent answers" in done.stderr, done.stderr
    finally:
        podman.node.start()
    assert left(podman) == before
