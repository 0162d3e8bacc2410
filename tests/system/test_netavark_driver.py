# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The netavark driver by itself: its commands, what it refuses, and its errors."""

import json
import subprocess

import pytest

from cni import container, endpoints, ports
from node import BUILD

DRIVER = str(BUILD / "netavark/towpath")
BLANK = {
    "name": "net", "id": "0" * 64, "driver": "towpath", "created": "0001-01-01T00:00:00Z",
    "ipv6_enabled": False, "internal": False, "dns_enabled": True,
}  # fmt: skip


def call(*argv, stdin="", netns=None):
    """(exit status, the object on stdout or None)."""
    argv = [DRIVER, *argv]
    if netns is not None:
        argv = netns.argv(*argv)
    if isinstance(stdin, dict):
        stdin = json.dumps(stdin)
    done = subprocess.run(
        argv, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else None


def refused(*argv, **kw):
    """The sentence."""
    status, answer = call(*argv, **kw)
    assert status == 1 and list(answer) == ["error"], answer
    return answer["error"]


class Exec:
    """One container for setup and teardown."""

    def __init__(self, node, netns, **more):
        self.node, self.netns = node, netns
        self.input = {
            "container_id": f"c{netns.name}",
            "container_name": "box",
            "port_mappings": None,
            "network": {
                **BLANK,
                "subnets": None,
                "options": {"socket": node.socket, "state_dir": str(node.state_dir)},
            },
            "network_options": {"interface_name": "eth0", "static_ips": None, "static_mac": None},
            **more,
        }

    def setup(self):
        return call("setup", self.netns.path, stdin=self.input, netns=self.node.netns)

    def teardown(self):
        return call("teardown", self.netns.path, stdin=self.input, netns=self.node.netns)


def publish(**more):
    return [{"container_port": 80, "host_ip": "", "host_port": 8080, "protocol": "tcp",
             "range": 1, **more}]  # fmt: skip


@pytest.fixture
def box(node):
    with container() as netns:
        made = Exec(node, netns)
        yield made
        made.teardown()


def tables(node):
    return node.netns.run("nft", "list", "tables").stdout


# ---- info and create ------------------------------------------------------------------------


def test_info():
    for argv in ((), ("info",)):
        status, answer = call(*argv)
        assert status == 0
        assert answer["api_version"] == "1.0.0" and answer["version"]


def test_create_keeps_what_it_may_not_change():
    status, answer = call("create", stdin={**BLANK, "subnets": [{"subnet": "10.1.0.0/24"}]})
    assert status == 0
    for key in ("name", "id", "driver", "subnets", "created"):
        assert answer[key] == {**BLANK, "subnets": [{"subnet": "10.1.0.0/24"}]}[key]
    assert answer["ipam_options"] == {"driver": "towpath"}
    assert answer["dns_enabled"] is False


def test_create_with_name_servers():
    """podman takes them only with DNS on."""
    status, answer = call("create", stdin={**BLANK, "network_dns_servers": ["192.0.2.53"]})
    assert status == 0
    assert answer["dns_enabled"] is True


@pytest.mark.parametrize(
    ("more", "said"),
    (
        ({"name": "../x"}, "name"),
        ({"internal": True}, "--internal"),
        ({"subnets": [{"subnet": "10.1.0.0/24", "gateway": "10.1.0.1"}]}, "--gateway"),
        (
            {"subnets": [{"subnet": "10.1.0.0/24", "lease_range": {"start_ip": "10.1.0.9"}}]},
            "--ip-range",
        ),
        ({"routes": [{"destination": "10.9.0.0/16", "gateway": "10.1.0.1"}]}, "--route"),
        ({"network_interface": "br0"}, "--interface-name"),
        ({"ipam_options": {"driver": "none"}}, "--ipam-driver"),
        ({"ipv6_enabled": True, "subnets": [{"subnet": "10.1.0.0/24"}]}, "--ipv6"),
        ({"options": {"mtu": "1279"}}, "mtu=1279"),
        ({"options": {"mtu": "-1"}}, "mtu=-1"),
        ({"options": {"mtu": "1400x"}}, "mtu=1400x"),
        ({"options": {"mtu": 1400}}, "mtu"),
        ({"options": {"namespace": "No"}}, "namespace=No"),
        ({"options": {"socket": "run/x"}}, "socket"),
        ({"options": {"label.": "x"}}, "label."),
        ({"options": {"label.app": "x" * 64}}, "label.app"),
        ({"options": {"isolate": "true"}}, "isolate"),
    ),
)
def test_create_refuses(more, said):
    assert said in refused("create", stdin={**BLANK, **more})


def test_bad_calls():
    assert "JSON" in refused("create", stdin="{")
    assert "JSON" in refused("create", stdin="[]")
    assert "chmod" in refused("chmod")
    assert "namespace" in refused("setup", stdin="{}")
    assert "no further" in refused("info", "x")


# ---- setup and teardown ----------------------------------------------------------------------


def test_setup_and_teardown(node, box):
    status, answer = box.setup()
    assert status == 0, answer
    (ifname, interface), *more = answer["interfaces"].items()
    assert ifname == "eth0" and not more
    (link,) = [row for row in box.netns.ip_json("addr") if row["ifname"] == "eth0"]
    assert interface["mac_address"] == link["address"]
    has = {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]}
    assert {subnet["ipnet"] for subnet in interface["subnets"]} == has
    assert {subnet["gateway"] for subnet in interface["subnets"]} == {"169.254.1.1", "fe80::1"}
    assert box.teardown() == (0, None)
    assert box.teardown() == (0, None)
    assert (box.input["container_id"], "eth0") not in endpoints(node)


def test_setup_twice_leaves_the_first(box):
    status, answer = box.setup()
    assert status == 0, answer
    assert "eth0" in refused("setup", box.netns.path, stdin=box.input, netns=box.node.netns)
    assert box.netns.ip_json("link show dev eth0")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    (
        ("container_id", "../x", "container_id"),
        ("network_options", {"interface_name": "a/b"}, "interface_name"),
        ("network_options", {}, "interface_name"),
        ("network_options", {"interface_name": "eth0", "static_ips": ["10.250.0.1"]}, "10.250.0.1"),
        ("network_options", {"interface_name": "eth0", "static_mac": "x"}, "mac"),
        ("port_mappings", publish(host_port=0), "1 to 65535"),
        ("port_mappings", publish(host_port=65535, range=2), "1 to 65535"),
        ("port_mappings", publish(protocol="icmp"), "tcp, udp or sctp"),
        ("port_mappings", publish(host_ip="1.2.3.4; flush ruleset"), "not an address"),
    ),
)
def test_refused_setup_leaves_nothing(node, box, key, value, said):
    before = endpoints(node), ports(node), tables(node)
    box.input[key] = value
    assert said in refused("setup", box.netns.path, stdin=box.input, netns=node.netns)
    assert (endpoints(node), ports(node), tables(node)) == before


def test_address_of_a_family_that_the_container_has_not(node, box):
    box.input["network"]["subnets"] = [{"subnet": "10.61.0.0/24", "gateway": "10.61.0.1"}]
    box.input["port_mappings"] = publish(host_ip="::1")
    said = refused("setup", box.netns.path, stdin=box.input, netns=node.netns)
    assert "add a subnet of that family" in said


def test_own_namespace_is_refused(node, box):
    said = refused("setup", node.netns.path, stdin=box.input, netns=node.netns)
    assert "own network namespace" in said


def test_teardown_of_a_namespace_that_is_gone(node, box):
    box.input["port_mappings"] = publish()
    status, answer = box.setup()
    assert status == 0, answer
    assert "towpath_tw" in tables(node)
    assert call("teardown", "/nonexistent", stdin=box.input, netns=node.netns) == (0, None)
    assert (box.input["container_id"], "eth0") not in endpoints(node)
    assert "towpath_tw" not in tables(node)


def test_published_ports_need_nft(node, box):
    """Without it the container does not start, rather than start with a port that is dead."""
    box.input["port_mappings"] = publish()
    argv = node.netns.argv("env", "PATH=/nonexistent", DRIVER, "setup", box.netns.path)
    done = subprocess.run(
        argv, input=json.dumps(box.input), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "install nftables" in json.loads(done.stdout)["error"]
    assert (box.input["container_id"], "eth0") not in endpoints(node)
