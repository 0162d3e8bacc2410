# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""DEL: with and without the agent, of what is there and of what is gone.

The names carry the numbers of the checklist in docs/design/cni.md.
"""

import pytest

from cni import Attachment, container, endpoints, left, pings
from node import Node


@pytest.fixture
def small():
    """A node with room for two containers."""
    pools = ("--pod-cidr", "10.99.0.0/30", "--pod-cidr", "fd00:99::/64")
    with Node(options=pools) as made:
        yield made


def test_C1_all_is_gone(node, attachment):
    before = left(node)
    attachment.add_ok()
    assert left(node) != before
    answer = attachment.delete()
    assert (answer.code, answer.stdout) == (0, "")
    assert left(node) == before
    assert attachment.link() is None


def test_C2_twice_and_never_added(node, attachment, netns):
    assert attachment.delete().code == 0
    attachment.add_ok()
    for _ in range(2):
        answer = attachment.delete()
        assert (answer.code, answer.stdout) == (0, "")


@pytest.mark.parametrize("path", (None, "", "/nonexistent/netns"))
def test_C3_C4_without_namespace(node, attachment, path):
    before = left(node)
    attachment.add_ok()
    assert attachment.delete(CNI_NETNS=path).code == 0
    assert left(node) == before
    assert attachment.link() is None


def test_C4_namespace_gone(node):
    before = left(node)
    with container() as netns:
        one = Attachment(node, netns)
        one.add_ok()
    assert one.delete().code == 0
    assert left(node) == before


@pytest.mark.parametrize("where", ("container", "node"))
def test_C6_interface_removed_by_hand(node, attachment, netns, where):
    before = left(node)
    attachment.add_ok()
    if where == "container":
        netns.ip("link del eth0")
    else:
        node.netns.ip(f"link del {attachment.port()}")
    assert attachment.delete().code == 0
    assert left(node) == before


def test_C10_address_went_to_another(small):
    """The first container's interface vanished and its address was given away."""
    with container() as a, container() as b:
        one = Attachment(small, a)
        one.add_ok()
        stale = dict(one.result)
        assert one.delete().code == 0
        two = Attachment(small, b, runtimeConfig={"ips": [one.address(4)]})
        two.add_ok()
        config = {**one.config, "prevResult": stale}
        assert one.call("DEL", config=config).code == 0
        assert two.check().code == 0
        assert pings(small.netns, two.address(4))


def test_C12_without_agent_then_finished_by_it():
    with Node() as node, container() as a, container() as b:
        one, two = Attachment(node, a), Attachment(node, b)
        one.add_ok()
        two.add_ok()
        assert two.check().code == 0  # opens it to the node
        node.kill()
        assert pings(node.netns, two.address(4))
        assert one.delete().code == 0
        assert one.link() is None
        assert two.add().code == 11
        node.start()
        assert endpoints(node) == {(two.container_id, "eth0")}
        assert not list((node.state_dir / "pending-del").iterdir())
        assert two.check().code == 0
        one.add_ok()
        assert one.address(4) not in (None, two.address(4))


def test_C13_configuration_of_another_revision(node, attachment):
    before = left(node)
    attachment.add_ok()
    config = {**attachment.config, "subnets": ["10.200.0.0/16"], "mtu": 9000, "cniVersion": "0.4.0"}
    assert attachment.call("DEL", config=config).code == 0
    assert left(node) == before


def test_port_is_restored_after_restart():
    with Node() as node, container() as netns:
        one = Attachment(node, netns)
        one.add_ok()
        node.kill()
        port = one.port()
        node.netns.ip(f"link set {port} down", f"neigh flush dev {port}")
        node.netns.sysctl(f"ipv6/conf/{port}/forwarding", 0)
        node.start()
        assert one.check().code == 0
        assert pings(node.netns, one.address(4))
        assert pings(node.netns, one.address(6))
        assert one.delete().code == 0


def test_leaked_port_is_removed_at_start():
    with Node(start=False) as node:
        node.netns.ip(
            "link add tw0123456789 type veth peer name leak0",
            "link add twins type veth peer name other0",
        )
        node.start()
        names = {row["ifname"] for row in node.netns.ip_json("link")}
        assert "tw0123456789" not in names
        assert {"twins", "other0"} <= names
