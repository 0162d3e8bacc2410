# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Containers that end or change without a word to us (docs/design/faults.md)."""

import socket

import pytest
from node import FAMILIES, Node, policy_object
from traffic import QUIET, SOON, bound, port_new, tcp_open, tcp_works, udp_ask, wait_for

SWEEP = 15  # seconds in which the agent notices a container that is gone


@pytest.fixture(scope="module")
def node():
    with Node() as made:
        made.a, made.b = (made.add_pod("shop", name, {"app": name}) for name in "ab")
        yield made


@pytest.fixture
def pod(node):
    made = node.add_pod("shop", "victim", {"app": "victim"})
    yield made
    node.cni("DEL", made)
    node.pods.pop(("shop", "victim"), None)
    made.netns.delete()


def known(node, pod):
    return pod.container_id in {e["container_id"] for e in node.api("GET", "/v1/endpoints")["items"]}


def links(node):
    return {link["ifname"] for link in node.netns.ip_json("link show")}


def silent(node, address, family):
    """Nobody answers at that address any more."""
    with bound(node.a, family, socket.SOCK_DGRAM) as sock:
        sock.connect((address, port_new()))
        sock.settimeout(QUIET)
        sock.send(b"?")
        with pytest.raises(OSError):
            sock.recv(16)


def test_containers_vanish_without_DEL(node):
    """Namespace, port, or interface is gone: the address is nobody's at once, others go on, the
    record goes within the sweep, nobody inherits what policies let the dead one do, and the
    runtime's late DEL succeeds."""
    gone = {how: node.add_pod("shop", how, {"app": how}) for how in ("namespace", "port", "eth0")}
    rule = {"from": [{"podSelector": {"matchLabels": {"app": "namespace"}}}]}
    node.apply(policy_object("shop", "b", {"matchLabels": {"app": "b"}}, ingress=[rule]))
    assert tcp_works(gone["namespace"], node.b, 4)
    with tcp_open(node.b, node.a, 4) as other, tcp_open(node.b, node.a, 6) as other6:
        ports = {pod.port for pod in gone.values()}
        gone["namespace"].netns.delete()
        node.netns.ip(f"link delete {gone['port'].port}")
        gone["eth0"].netns.ip("link delete eth0")
        assert wait_for(lambda: not ports & links(node))
        for pod in gone.values():
            for family in FAMILIES:
                silent(node, pod.ip(family), family)
        assert other.alive() and other6.alive()
        for pod in gone.values():
            assert wait_for(lambda p=pod: not known(node, p), SWEEP, 0.1), node.tail()
        assert other.alive() and other6.alive()
    fresh = node.add_pod("shop", "fresh", {"app": "fresh"}, known=False)
    assert fresh.ip(4) not in {pod.ip(4) for pod in gone.values()}
    assert not tcp_works(fresh, node.b, 4, seconds=QUIET)
    node.del_pod(fresh, known=False)
    node.delete(policy_object("shop", "b"))
    for how, pod in gone.items():
        assert node.cni("DEL", pod).returncode == 0
        del node.pods[("shop", how)]
        pod.netns.delete()


def test_interface_renamed_inside(node, pod):
    """The container's own business: traffic goes on, CHECK tells, DEL takes all of it."""
    pod.netns.ip("link set eth0 down", "link set eth0 name wan0", "link set wan0 up",
                 "route replace 169.254.1.1 dev wan0 scope link",
                 "route replace default via 169.254.1.1 dev wan0",
                 "neigh replace 169.254.1.1 lladdr 02:54:57:00:00:01 dev wan0 nud permanent")  # fmt: skip
    assert udp_ask(pod, node.outside, 4)
    done = node.cni("CHECK", pod, {**pod.config, "prevResult": pod.result})
    assert done.returncode != 0
    port = pod.port
    assert node.cni("DEL", pod).returncode == 0
    assert port not in links(node) and not known(node, pod)


def test_address_changed_inside(node, pod, family):
    """A container has the addresses that it was given: with another one it reaches nobody, and
    with its own again it does."""
    other = {4: "10.88.0.250/32", 6: "fd00:10:88::250/128"}[family]
    bits = {4: 32, 6: 128}[family]
    before = node.drops("spoofed_source")
    pod.netns.ip(f"addr add {other} dev eth0" + (" nodad" if family == 6 else ""))
    with bound(pod, family, socket.SOCK_DGRAM, address=other.split("/")[0]) as sock:
        for to in (node.b, node.outside):
            sock.sendto(b"?", (to.ip(family), port_new()))
    assert wait_for(lambda: node.drops("spoofed_source") >= before + 2)
    assert udp_ask(pod, node.b, family) and udp_ask(pod, node.outside, family)
    pod.netns.ip(f"addr del {pod.ip(family)}/{bits} dev eth0")
    done = node.cni("CHECK", pod, {**pod.config, "prevResult": pod.result})
    assert done.returncode != 0 and pod.ip(family) in done.stdout
    pod.netns.ip(f"addr add {pod.ip(family)}/{bits} dev eth0" + (" nodad" if family == 6 else ""))
    if family == 4:
        pod.netns.ip("route replace 169.254.1.1 dev eth0 scope link",
                     "route replace default via 169.254.1.1 dev eth0")  # fmt: skip
    assert udp_ask(pod, node.outside, family)
