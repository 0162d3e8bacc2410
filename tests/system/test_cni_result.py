# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The form of what ADD answers, and what a runtime may ask for.

The names carry the numbers of the checklist in docs/design/cni.md.
"""

import ipaddress

import pytest

from cni import VERSIONS, Attachment, container, pings, run_raw


def test_E1_E2_E3_E4_E6_form(attachment):
    result = attachment.add_ok()
    assert set(result) == {"cniVersion", "interfaces", "ips", "routes", "dns"}
    for itf in result["interfaces"]:
        assert set(itf) <= {"name", "mac", "sandbox", "mtu"}
        assert isinstance(itf["mtu"], int)
    for ip in result["ips"]:
        assert ipaddress.ip_interface(ip["address"]).network.num_addresses == 1
        assert ipaddress.ip_address(ip["gateway"]).is_link_local
        assert isinstance(ip["interface"], int)
    for route in result["routes"]:
        ipaddress.ip_network(route["dst"])
        if "gw" in route:
            ipaddress.ip_address(route["gw"])
        else:
            assert route["scope"] == 253
    assert result["dns"] == {}


def test_E9_dns_is_passed_on(node, netns):
    dns = {"nameservers": ["192.0.2.53"], "search": ["a.b"], "domain": "b", "options": ["ndots:2"]}
    one = Attachment(node, netns, dns=dns)
    assert one.add_ok()["dns"] == dns
    one.delete()


@pytest.mark.parametrize("version", VERSIONS)
def test_G1_after_another_plugin(node, netns, version):
    ip = {"address": "192.0.2.7/24", "interface": 0, **({"version": "4"} if version < "1" else {})}
    prev = {
        "cniVersion": version,
        "interfaces": [{"name": "dummy9", "sandbox": netns.path}],
        "ips": [ip],
        "routes": [{"dst": "198.18.0.0/15"}],
        "dns": {"nameservers": ["192.0.2.53"]},
    }
    one = Attachment(node, netns, cniVersion=version, prevResult=prev)
    result = one.add_ok()
    assert result["interfaces"][0] == prev["interfaces"][0]
    assert result["ips"][0] == prev["ips"][0]
    assert result["routes"][0] == prev["routes"][0]
    assert result["dns"] == prev["dns"]
    assert {ip["interface"] for ip in result["ips"][1:]} == {2}
    assert result["interfaces"][2]["name"] == "eth0"
    assert one.delete().code == 0


def test_H16_addresses_asked_for(node, netns):
    one = Attachment(node, netns, runtimeConfig={"ips": ["10.88.77.7/16", "fd00:10:88::77"]})
    one.add_ok()
    assert (one.address(4), one.address(6)) == ("10.88.77.7", "fd00:10:88::77")
    with container() as other:
        two = Attachment(node, other, runtimeConfig={"ips": ["10.88.77.7"]})
        answer = two.add()
        assert answer.code >= 100 or answer.code == 7
        assert "10.88.77.7" in answer.msg
        three = Attachment(node, other, runtimeConfig={"ips": ["192.0.2.1"]})
        assert three.add().code == 7
    one.delete()


def test_H16_order_of_wishes(node, netns):
    args = "IgnoreUnknown=1;IP=10.88.70.1"
    one = Attachment(node, netns)
    one.add_ok(CNI_ARGS=args)
    assert one.address(4) == "10.88.70.1"
    one.delete()
    one.config["args"] = {"cni": {"ips": ["10.88.70.2"]}}
    one.add_ok(CNI_ARGS=args)
    assert one.address(4) == "10.88.70.2"
    one.delete()
    one.config["runtimeConfig"] = {"ips": ["10.88.70.3"]}
    one.add_ok(CNI_ARGS=args)
    assert one.address(4) == "10.88.70.3"
    one.delete()


def test_H17_mac(node, netns):
    mac = "02:aa:bb:cc:dd:ee"
    one = Attachment(node, netns, runtimeConfig={"mac": mac.upper()})
    result = one.add_ok()
    assert result["interfaces"][1]["mac"] == mac
    assert one.link()["address"] == mac
    assert pings(node.netns, one.address(4))
    one.delete()
    one.config["runtimeConfig"] = {}
    one.add_ok(CNI_ARGS=f"IgnoreUnknown=1;MAC={mac}")
    assert one.link()["address"] == mac
    one.delete()


def test_H18_other_capabilities_are_ignored(node, netns):
    other = {"dns": {"servers": ["1.1.1.1"]}, "aliases": {"net": ["x"]}, "cgroupPath": "/x"}
    one = Attachment(node, netns, runtimeConfig=other)
    one.add_ok()
    one.delete()


def test_version_with_an_agent(node):
    assert run_raw("VERSION", "{}", netns=node.netns).json["supportedVersions"] == list(VERSIONS)
