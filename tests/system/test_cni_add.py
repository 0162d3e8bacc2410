# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""ADD with a running agent: what it makes, what it refuses, what it leaves.

The names carry the numbers of the checklist in docs/design/cni.md.
"""

import ipaddress

import pytest

from cni import VERSIONS, Attachment, container, endpoints, left, pings, ports
from node import Node, Place
from traffic import udp_ask


@pytest.fixture
def small():
    """A node with room for two containers."""
    pools = ("--pod-cidr", "10.99.0.0/30", "--pod-cidr", "fd00:99::/64")
    with Node(options=pools) as made:
        yield made


def test_B1_B7_result_is_what_the_kernel_has(attachment, netns):
    result = attachment.add_ok()
    ours = result["interfaces"][1]
    link = attachment.link()
    assert "UP" in link["flags"]
    assert ours["mac"] == link["address"]
    assert ours["mtu"] == link["mtu"]
    has = {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]}
    assert has == {ip["address"] for ip in result["ips"]}
    kernel = set()
    for family in ("-4", "-6"):
        for route in netns.ip_json(f"{family} route"):
            if route["dst"] == "default":
                kernel.add(("default" + family, route["gateway"]))
            elif family == "-4":
                kernel.add((route["dst"], None))
    names = {"0.0.0.0/0": "default-4", "::/0": "default-6", "169.254.1.1/32": "169.254.1.1"}
    assert {(names[r["dst"]], r.get("gw")) for r in result["routes"]} == kernel


@pytest.mark.parametrize("other_id", (False, True))
def test_B2_existing_interface(node, attachment, netns, other_id):
    attachment.add_ok()
    before = (attachment.link(), left(node))
    second = Attachment(node, netns, None if other_id else attachment.container_id)
    answer = second.add()
    assert answer.code >= 100
    assert "eth0" in answer.msg
    assert (attachment.link(), left(node)) == before


def test_B2_interface_of_somebody_else(node, attachment, netns):
    netns.ip("link add eth0 type veth peer name eth9")
    before = (attachment.link(), left(node))
    assert attachment.add().code >= 100
    attachment.delete()
    assert (attachment.link(), left(node)) == before


def test_B3_no_namespace(node, attachment):
    before = left(node)
    assert attachment.add(CNI_NETNS="/nonexistent").code == 8
    assert left(node) == before


@pytest.mark.parametrize("version", VERSIONS)
def test_B4_D23_every_version(node, netns, version):
    one = Attachment(node, netns, cniVersion=version)
    result = one.add_ok()
    assert result["cniVersion"] == version
    old = version < "1"
    for ip in result["ips"]:
        family = str(ipaddress.ip_interface(ip["address"]).version)
        assert ip.get("version") == (family if old else None)
    for itf in result["interfaces"]:
        assert ("mtu" in itf) == (version == "1.1.0")
    for route in result["routes"]:
        assert set(route) <= {"dst", "gw"} or version == "1.1.0"
    if version != "0.3.1":
        assert one.check().code == 0
    answer = one.delete()
    assert (answer.code, answer.stdout) == (0, "")
    assert one.link() is None


def test_B5_B6_interfaces(node, attachment, netns):
    result = attachment.add_ok()
    host, ours = result["interfaces"]
    assert host["name"] in ports(node)
    assert host["mac"] == node.netns.mac(host["name"])
    assert not host.get("sandbox")
    assert (ours["name"], ours["sandbox"]) == ("eth0", netns.path)
    assert {ip["interface"] for ip in result["ips"]} == {1}


@pytest.mark.parametrize(
    "bad",
    (
        {"mtu": 68}, {"mtu": 70000}, {"subnets": ["10.0.0.0/33"]}, {"subnets": ["10.0.0.0"]},
        {"labels": {"a": 1}}, {"runtimeConfig": {"mac": "xx"}},
        {"runtimeConfig": {"mac": "01:00:00:00:00:01"}}, {"runtimeConfig": {"ips": "1.2.3.4"}},
        {"runtimeConfig": {"ips": ["1.2.3"]}}, {"subnets": ["10.1.0.0/16", "10.1.2.0/24"]},
    ),
)  # fmt: skip
def test_B8_F4_H2_bad_config_changes_nothing(node, netns, bad):
    before = left(node)
    one = Attachment(node, netns, **bad)
    assert one.add().code == 7
    assert left(node) == before
    assert one.link() is None


def test_B8_failure_in_the_kernel_is_undone(node, attachment, netns):
    """The pair and the addresses are there when the kernel refuses a part of it."""
    netns.sysctl("ipv4/conf/default/forwarding", 1)
    # A route to the gateway that is in the way of both tables that the agent may use.
    netns.ip("link set lo up", *(f"route add 169.254.1.1 dev lo table {t}"
                                 for t in ("main", *range(1001, 1040))))  # fmt: skip
    before = left(node)
    answer = attachment.add()
    assert answer.code != 0, answer
    assert left(node) == before
    assert attachment.link() is None


def test_B9_two_interfaces(node, netns):
    one = Attachment(node, netns)
    two = Attachment(node, netns, one.container_id, ifname="net1")
    one.add_ok()
    two.add_ok()
    assert {one.container_id} == {id for id, _ in endpoints(node)}
    for family in (4, 6):
        assert pings(node.netns, one.address(family))
        assert pings(node.netns, two.address(family))
    assert one.check().code == 0
    assert two.check().code == 0
    # C9: DEL of the one leaves the other alone.
    assert two.delete().code == 0
    assert two.link() is None
    assert pings(node.netns, one.address(4))
    assert one.delete().code == 0
    assert endpoints(node) == set()


def test_B10_again_after_del(attachment):
    for _ in range(3):
        attachment.add_ok()
        assert attachment.delete().code == 0


def test_B11_D9_exhausted(small):
    with container() as a, container() as b, container() as c:
        one, two, three = (Attachment(small, netns) for netns in (a, b, c))
        assert one.call("STATUS").code == 0
        one.add_ok()
        two.add_ok()
        before = left(small)
        answer = three.add()
        assert answer.code == 102
        assert left(small) == before
        assert one.call("STATUS").code == 50
        address = one.address(4)
        assert one.delete().code == 0
        assert one.call("STATUS").code == 0
        three.add_ok()
        assert three.address(4) == address  # nothing else is free, so it need not rest


def test_B13_both_families_usable_at_once(node, attachment, netns):
    result = attachment.add_ok()
    assert sorted(ipaddress.ip_interface(i["address"]).version for i in result["ips"]) == [4, 6]
    for info in attachment.link()["addr_info"]:
        assert not info.get("tentative")
    for family in (4, 6):
        assert pings(netns, node.outside.node_ip[family])
        assert pings(node.netns, attachment.address(family))


def test_B13_the_first_packet_is_answered(node, attachment):
    """The kernel makes an IPv6 address local a little after it has taken it."""
    for _ in range(25):
        attachment.add_ok()
        assert pings(node.netns, attachment.address(6))
        attachment.delete()


def test_B13_where_ipv6_is_disabled_by_default(node, attachment, netns):
    for where in ("all", "default"):
        netns.sysctl(f"ipv6/conf/{where}/disable_ipv6", 1)
    attachment.add_ok()
    assert pings(netns, node.outside.node_ip[6])


def test_B14_leftovers_of_a_crash(node, attachment, netns):
    """A port of this very attachment without a record, and a stale route to the address."""
    attachment.add_ok()
    port, address = attachment.port(), attachment.address(4)
    attachment.delete()
    node.netns.ip(
        f"link add {port} type veth peer name peer0", f"link set {port} up",
        "link add stale0 type veth peer name stale1", "link set stale0 up", f"route add {address}/32 dev stale0",
    )  # fmt: skip
    attachment.config["runtimeConfig"] = {"ips": [address]}
    try:
        attachment.add_ok()
        assert pings(node.netns, address)
        assert "peer0" not in {r["ifname"] for r in node.netns.ip_json("link")}
    finally:
        node.netns.ip("link del stale0")


def test_B15_add_while_status_fails(small):
    with container() as a, container() as b:
        one, two = Attachment(small, a), Attachment(small, b)
        one.add_ok()
        two.add_ok()
        assert one.call("STATUS").code == 50
        with container() as c:
            assert Attachment(small, c).add().code == 102


def test_mtu_is_the_uplinks_or_the_configured(node, netns):
    one = Attachment(node, netns)
    assert one.add_ok()["interfaces"][1]["mtu"] == 1500
    one.delete()
    one.config["mtu"] = 1400
    assert one.add_ok()["interfaces"][1]["mtu"] == 1400
    assert one.link()["mtu"] == 1400
    one.delete()


def test_subnets_of_a_network(node, netns):
    one = Attachment(node, netns, name="n1", subnets=["10.77.0.0/24", "fd00:77::/64"])
    one.add_ok()
    assert (one.address(4), one.address(6)) == ("10.77.0.1", "fd00:77::1")
    with container() as other:
        two = Attachment(node, other, name="n2", subnets=["10.77.0.128/25"])
        answer = two.add()
        assert answer.code == 7
        assert "10.77.0.0/24" in answer.msg
    one.delete()


def test_no_traffic_of_its_own(node, attachment, netns):
    """No router solicitations, no duplicate address detection, nothing learned."""
    attachment.add_ok()
    assert netns.sysctl("ipv6/conf/eth0/accept_ra") == "0"
    assert all(a["scope"] != "link" for a in attachment.link()["addr_info"])
    port = attachment.port()
    assert node.netns.sysctl(f"ipv6/conf/{port}/accept_ra") == "0"
    assert node.netns.sysctl(f"ipv4/conf/{port}/rp_filter") == "0"
    rows = [r for r in node.netns.ip_json("addr") if r.get("ifname") == port]
    assert rows[0]["addr_info"] == []


# ---- G9: masquerading ----------------------------------------------------------------------------


def seen_by_outside(node, one):
    """The source address of a datagram from the container, as the outside sees it."""
    here = Place(one.netns, one.address(4), one.address(6), interface="eth0")
    node.outside.netns.ip(f"route replace {one.address(4)}/32 via {node.ip(4)}")
    return udp_ask(here, node.outside, 4)[0]


@pytest.mark.parametrize("wish", (None, True, False))
def test_G9_masquerade_of_a_network(node, netns, wish):
    one = Attachment(node, netns, **({} if wish is None else {"ipMasq": wish}))
    one.add_ok()
    assert one.check().code == 0
    own = one.address(4)
    assert seen_by_outside(node, one) == (own if wish is False else node.ip(4))
    with container() as other:
        two = Attachment(node, other)
        two.add_ok()
        there = Place(other, two.address(4), two.address(6), interface="eth0")
        here = Place(netns, own, one.address(6), interface="eth0")
        assert udp_ask(here, there, 4)[0] == own  # inside: never
        two.delete()
    node.restart()
    assert one.check().code == 0
    one.delete()


def test_G9_where_the_node_does_not(netns):
    with Node(options=("--no-masquerade",)) as node:
        one = Attachment(node, netns, ipMasq=True)
        answer = one.add()
        assert answer.code == 7
        assert "ipMasq" in answer.msg
        assert one.link() is None


def test_A22_two_ids_with_one_port_name(node, netns):
    """Ports are named by a hash of 40 bits. These two have one name: the second is refused, and
    the first goes on."""
    one = Attachment(node, netns, "caaf91")
    with container() as other:
        two = Attachment(node, other, "cf6934")
        assert one.add_ok()["interfaces"][0]["name"] == "twb164defec5"
        before = left(node)
        answer = two.add()
        assert answer.code == 101
        assert "twb164defec5" in answer.msg and "caaf91" in answer.msg
        assert left(node) == before
        assert two.delete().code == 0
        assert one.check().code == 0
        assert pings(node.netns, one.address(4))
        assert one.delete().code == 0
        assert two.add_ok()["interfaces"][0]["name"] == "twb164defec5"
        assert two.delete().code == 0
