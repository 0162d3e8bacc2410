# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Published ports by the reference plugin `portmap` in a chain, with `tuning` and `firewall`:
its rules are the host stack's, so what enters by them goes back the same way (I8).

The names carry the numbers of the checklist in docs/design/cni.md.
"""

import contextlib
import os
import shutil
import socket

import pytest

from cni import REFERENCE, Chain, ChainError, container, endpoints, left, pings
from node import FAMILIES, policy_object
from traffic import UdpServer, bound, port_new, wait_for

pytestmark = pytest.mark.skipif(
    not (os.path.exists(REFERENCE) and shutil.which("iptables")),
    reason="packages containernetworking-plugins and iptables",
)

PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
SECONDS = 2.0


@pytest.fixture(autouse=True)
def forwarding(node):
    """What a node with published ports has: DNAT to IPv6 containers is forwarded by the stack."""
    node.netns.sysctl("ipv6/conf/all/forwarding", 1)


def mapping(host, port, protocol="tcp", **more):
    return {"hostPort": host, "containerPort": port, "protocol": protocol, **more}


@contextlib.contextmanager
def published(node, *mappings, plugins=(PORTMAP,), **ours):
    with container() as netns:
        chain = Chain(node, netns, *plugins, ours=ours, portMappings=list(mappings))
        chain.add()
        try:
            yield chain
        finally:
            if chain.result:
                chain.delete()


def ask_tcp(src, address, port, server, seconds=SECONDS):
    """Connects, and passes a word both ways: (the peer as the server sees it), None: refused or
    not answered."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server.settimeout(seconds)
    with src.netns.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(seconds)
        try:
            client.connect((address, port))
            link, peer = server.accept()
        except OSError:
            return None
        with link:
            link.settimeout(seconds)
            client.sendall(b"there")
            assert link.recv(100) == b"there"
            link.sendall(b"and back" * 1000)
            got = b""
            while len(got) < 8000:
                got += client.recv(65536)
            return peer[0]


def ask_udp(client, address, port):
    client.settimeout(SECONDS)
    try:
        client.sendto(b"question", (address, port))
        return client.recv(100) == b"question"
    except OSError:
        return False


def listener(chain, family, port):
    sock = bound(chain.place(), family, socket.SOCK_STREAM, port)
    sock.listen(8)
    return sock


def rules(node):
    """Lines of the plugin's that name something of a container."""
    out = []
    for tool in ("iptables-save", "ip6tables-save"):
        text = node.netns.run(tool, check=False).stdout
        out += [line for line in text.splitlines() if "CNI-DN-" in line or "CNI-SN-" in line]
    return out


def everywhere(node):
    """One container with a mapping, and a listener of each family in turn."""
    port, host = port_new(), port_new()
    with published(node, mapping(host, port)) as chain:
        for family in FAMILIES:
            with listener(chain, family, port) as server:
                yield chain, family, port, host, server, chain.place()


# ---- reaching it ------------------------------------------------------------------------------------


def test_H4_H7_from_everywhere(node):
    """From outside by the node's address, and the client's own is seen; from the node by its
    address and, as the kernel lets it, by 127.0.0.1; from the container itself."""
    for _chain, family, _port, host, server, here in everywhere(node):
        address = node.ip(family)
        assert ask_tcp(node.outside, address, host, server) == node.outside.ip(family)
        assert ask_tcp(node, address, host, server)
        if family == 4:  # the kernel has no route_localnet for IPv6
            assert ask_tcp(node, "127.0.0.1", host, server)
        assert ask_tcp(here, address, host, server)


def test_H4_from_another_container(node):
    with container() as netns:
        other = Chain(node, netns)
        other.add()
        for chain, family, port, host, server, _here in everywhere(node):
            assert ask_tcp(other.place(), node.ip(family), host, server)
            # ... and by the container's own address, past the mapping, as before.
            assert ask_tcp(other.place(), chain.address(family), port, server)
        other.delete()


def test_I8_flows_of_the_mapping_go_through_the_stack(node):
    """The flow that was opened is answered through the stack: its entry says so, and no packet
    of it is translated by us."""
    for chain, family, port, host, server, _here in everywhere(node):
        assert ask_tcp(node.outside, node.ip(family), host, server)
        lines = [f for f in node.flows() if f["to"].get("port") == port and f["type"] == "new"
                 and f["to"]["ip"] == chain.address(family)]  # fmt: skip
        assert lines
        assert {f["hook"] for f in lines} == {"to_container"}
        assert not any(f.get("nat") for f in lines)


def test_H4_policy_holds_for_published_ports(node):
    """Who asks is who is judged: the address behind the mapping does not change it."""
    deny = policy_object("cni", "none", ingress=[], types=["Ingress"])
    node.apply(deny)
    try:
        for _chain, family, _port, host, server, _here in everywhere(node):
            assert ask_tcp(node.outside, node.ip(family), host, server, seconds=0.4) is None
            cidr = node.outside.ip(family) + ("/32" if family == 4 else "/128")
            allow = policy_object("cni", "outside", ingress=[{"from": [{"ipBlock": {"cidr": cidr}}]}],
                                  types=["Ingress"])  # fmt: skip
            node.apply(allow)
            assert ask_tcp(node.outside, node.ip(family), host, server)
            node.delete(allow)
    finally:
        node.delete(deny)


def test_H5_udp_and_the_next_container(node):
    """A client that goes on asking is answered by the container that has the port next."""
    port, host = port_new(), port_new()
    with (
        bound(node.outside, 4, socket.SOCK_DGRAM) as client4,
        bound(node.outside, 6, socket.SOCK_DGRAM) as client6,
    ):
        for _ in range(2):
            with published(node, mapping(host, port, "UDP")) as chain:
                for family, client in ((4, client4), (6, client6)):
                    with UdpServer(chain.place(), family, port):
                        assert ask_udp(client, node.ip(family), host)
                        assert ask_udp(client, node.ip(family), host)


def test_H6_on_one_address(node):
    port, host = port_new(), port_new()
    node.netns.ip("addr add 198.51.100.77/24 dev up0")
    try:
        only = mapping(host, port, hostIP="198.51.100.77")
        with published(node, only) as chain, listener(chain, 4, port) as server:
            assert ask_tcp(node.outside, "198.51.100.77", host, server)
            assert ask_tcp(node.outside, node.ip(4), host, server, seconds=0.5) is None
    finally:
        node.netns.ip("addr del 198.51.100.77/24 dev up0")


@pytest.mark.parametrize("any_address", ("0.0.0.0", "::"))
def test_H6_any_address_of_a_family(node, any_address):
    port, host = port_new(), port_new()
    with published(node, mapping(host, port, hostIP=any_address)) as chain:
        for family in FAMILIES:
            with listener(chain, family, port) as server:
                mapped = (family == 6) == (any_address == "::")
                got = ask_tcp(node.outside, node.ip(family), host, server, 2.0 if mapped else 0.5)
                assert (got is not None) == mapped


# ---- coming and going -------------------------------------------------------------------------------


def test_H8_nothing_is_left(node):
    port, host = port_new(), port_new()
    before = rules(node), left(node)
    with published(node, mapping(host, port), mapping(host, port, "udp")) as chain:
        assert rules(node) != before[0]
        with listener(chain, 4, port) as server:
            assert ask_tcp(node.outside, node.ip(4), host, server)
            chain.delete()
            assert ask_tcp(node.outside, node.ip(4), host, server, seconds=0.5) is None
    assert (rules(node), left(node)) == before


def test_H9_two_want_one_port(node):
    """The plugin takes both; the one that was first stays in front, and DEL of it hands over."""
    port, host = port_new(), port_new()
    with published(node, mapping(host, port)) as one, published(node, mapping(host, port)) as two:
        with listener(one, 4, port) as first, listener(two, 4, port) as second:
            answered = [ask_tcp(node.outside, node.ip(4), host, s, seconds=0.7) for s in (first, second)]
            assert [a is not None for a in answered].count(True) == 1
            gone, other = (one, second) if answered[0] else (two, first)
            gone.delete()
            assert ask_tcp(node.outside, node.ip(4), host, other)


def test_H9_protocols_do_not_conflict(node):
    tcp, udp, host = port_new(), port_new(), port_new()
    with published(node, mapping(host, tcp)) as one, published(node, mapping(host, udp, "udp")) as two:
        with listener(one, 4, tcp) as server, UdpServer(two.place(), 4, udp):
            assert ask_tcp(node.outside, node.ip(4), host, server)
            with bound(node.outside, 4, socket.SOCK_DGRAM) as client:
                assert ask_udp(client, node.ip(4), host)


@pytest.mark.parametrize("bad", ({"hostPort": 0}, {"containerPort": 0}, {"hostPort": -1}))
def test_H3_invalid_ports(node, bad):
    before = endpoints(node)
    with container() as netns, pytest.raises(ChainError) as refused:
        Chain(node, netns, PORTMAP, portMappings=[mapping(80, 80) | bad]).add()
    assert "port number" in refused.value.answer.msg
    assert endpoints(node) == before


@pytest.mark.parametrize("none", ([], None))
def test_H3_nothing_to_map(node, none):
    before = rules(node)
    with container() as netns:
        chain = Chain(node, netns, PORTMAP, portMappings=none)
        chain.add()
        assert pings(node.netns, chain.address(4))
        assert rules(node) == before
        chain.delete()


# ---- the other plugins ----------------------------------------------------------------------------


def test_G4_all_reference_plugins_in_one_chain(node):
    """tuning, firewall, portmap and bandwidth behind us; CHECK, traffic, DEL."""
    mac = "02:00:00:00:00:0a"
    port, host = port_new(), port_new()
    before = rules(node), left(node)
    plugins = (
        {"type": "tuning", "mtu": 1400, "sysctl": {"net.core.somaxconn": "500"}},
        {"type": "firewall", "backend": "iptables"},
        PORTMAP,
        {"type": "bandwidth", "ingressRate": 50_000_000, "ingressBurst": 800_000,
         "egressRate": 50_000_000, "egressBurst": 800_000},
    )  # fmt: skip
    ours = {"runtimeConfig": {"mac": mac}}
    with published(node, mapping(host, port), plugins=plugins, **ours) as chain:
        names = {i["name"]: i for i in chain.result["interfaces"]}
        assert names["eth0"]["mac"] == mac == chain.netns.mac("eth0")
        assert chain.netns.sysctl("core/somaxconn") == "500"
        assert chain.attachment.link()["mtu"] == 1400
        # portmap 1.1.1 looks for the rules of IPv4 in the table of IPv6.
        chain.check(without=("portmap",))
        item = lambda: node.api("GET", f"/v1/endpoints/{chain.attachment.container_id}/eth0")  # noqa: E731
        assert wait_for(lambda: item()["queues"] == ["to", "from"])
        for family in FAMILIES:
            address = node.ip(family)
            with listener(chain, family, port) as server:
                assert ask_tcp(node.outside, address, host, server) == node.outside.ip(family)
                assert ask_tcp(node, address, host, server)
                assert ask_tcp(node.outside, chain.address(family), port, server)
            assert pings(chain.netns, node.outside.ip(family))
            assert pings(chain.netns, address)
        chain.delete()
        assert endpoints(node) == before[1][1]
    assert rules(node) == before[0]


def test_G1_G2_results_along_the_chain(node):
    """Each plugin gets what the one before made, and DEL and CHECK what the last one did."""
    mac = "02:00:00:00:00:0b"
    with container() as netns:
        chain = Chain(node, netns, {"type": "tuning", "mac": mac})
        final = chain.add()
        assert final["interfaces"][1]["mac"] == mac != chain.attachment.result["interfaces"][1]["mac"]
        assert final["ips"] == chain.attachment.result["ips"]
        chain.check()
        chain.delete()
        assert chain.attachment.link() is None
